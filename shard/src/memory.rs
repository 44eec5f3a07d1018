//! How much memory the process may take, and how it is shared between rows, threads and mini-batches. The result does not depend
//! on it.

use std::fs;

use crate::shuffle::{BUCKET_ROWS, Buckets};

/// The part of the machine's memory that is taken unless something else is asked for.
pub const DEFAULT_SHARE: u64 = 4;
/// What is taken where the system does not say how much memory there is.
const UNKNOWN: u64 = 1 << 30;
/// The program itself, its threads' stacks, and what the allocator keeps.
const PROCESS: u64 = 24 << 20;
/// Rows of the window for each thread where memory allows it: so all threads have work to share.
const THREAD_ROWS: u64 = 1 << 17;
/// Rows of a partition that are worth dealing with at once where there is a choice: more are not near the processor when they are put
/// in order.
const PARTITION_BYTES: u64 = 32 << 20;
/// Bytes that a part has for a partition, at least on average, where there is a choice: disks like long writes.
const WRITE_BYTES: u64 = 64 << 10;

/// What has to be put into memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Bytes of a row as words.
    pub(crate) row_bytes: u64,
    /// Rows of the set.
    pub(crate) rows: u64,
    /// Rows of the largest part.
    pub(crate) part_rows: u64,
    /// Bytes of the largest part.
    pub(crate) part_bytes: u64,
    /// Rows of a mini-batch.
    pub(crate) batch_rows: u64,
    /// Threads that would like to work.
    pub(crate) threads: u64,
}

/// Where the rows are kept between reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In memory.
    Memory,
    /// In a temporary file, in partitions that are dealt with one by one.
    File {
        /// Binary logarithm of their number.
        log2_partitions: u32,
    },
}

/// How memory is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Where the rows are kept when they are shuffled.
    pub(crate) shuffled: Option<Where>,
    /// Threads that read parts.
    pub(crate) reading_threads: usize,
    /// Threads that write mini-batches.
    pub(crate) writing_threads: usize,
    /// Rows between reading and encoding, at most, unless one chunk has more.
    pub(crate) window_rows: usize,
}

impl Share {
    /// The share of `memory` bytes for rows that are shuffled into `buckets`.
    ///
    /// # Errors
    /// The least memory that would do.
    pub(crate) fn of_shuffle(needs: &Needs, buckets: &Buckets, memory: u64) -> Result<Self, u64> {
        let free = memory.saturating_sub(PROCESS);
        if let Some(share) = needs.in_memory(free) {
            return Ok(share);
        }
        let reading = threads(needs.threads, |threads| threads * needs.reading(true) <= free);
        let writing = (1..=needs.threads).rev().find_map(|threads| needs.in_file(threads, buckets.log2_count(), free));
        match (reading, writing) {
            (Some(reading), Some((writing, log2_partitions, window_rows))) => Ok(Self {
                shuffled: Some(Where::File { log2_partitions }),
                reading_threads: reading as usize,
                writing_threads: writing as usize,
                window_rows: window_rows as usize,
            }),
            _ => {
                Err(PROCESS
                    + needs.reading(true).max(needs.writing_file(1, largest(BUCKET_ROWS), buckets.log2_count())))
            }
        }
    }

    /// The share of `memory` bytes for rows that keep their order.
    ///
    /// # Errors
    /// The least memory that would do.
    pub(crate) fn of_copy(needs: &Needs, memory: u64) -> Result<Self, u64> {
        let free = memory.saturating_sub(PROCESS);
        let window = |threads: u64| needs.batch_rows + threads * needs.part_rows.max(needs.batch_rows);
        let bytes =
            |threads: u64| window(threads) * needs.row_bytes + threads * (needs.reading(false) + needs.encoding());
        match threads(needs.threads, |threads| bytes(threads) <= free) {
            Some(threads) => Ok(Self {
                shuffled: None,
                reading_threads: threads as usize,
                writing_threads: threads as usize,
                window_rows: window(threads) as usize,
            }),
            None => Err(PROCESS + bytes(1)),
        }
    }
}

/// The most threads, up to `wanted`, for which there is room.
fn threads(wanted: u64, fits: impl Fn(u64) -> bool) -> Option<u64> {
    (1..=wanted).rev().find(|&threads| fits(threads))
}

/// Rows of the largest partition when they are `mean` on average: six standard deviations of a binomial more.
fn largest(mean: u64) -> u64 {
    mean + 6 * mean.isqrt() + 64
}

impl Needs {
    /// Bytes that a thread needs to read a part: as it is stored, decoded, and, if it goes to a file, sorted.
    const fn reading(&self, to_file: bool) -> u64 {
        let sorted = if to_file { self.row_bytes + 4 } else { 0 };
        self.part_bytes + self.part_rows * (self.row_bytes + 8 + sorted)
    }

    /// Bytes that a thread needs to make a mini-batch: its columns, and those encoded, for which vectors grow.
    const fn encoding(&self) -> u64 {
        3 * self.batch_rows * self.row_bytes
    }

    fn in_memory(&self, free: u64) -> Option<Share> {
        let threads = self.threads;
        let window = self.batch_rows + threads * self.batch_rows.max(THREAD_ROWS);
        let rows = self.rows.checked_mul(self.row_bytes)?;
        let writing = window * self.row_bytes + threads * (self.encoding() + 4 * largest(BUCKET_ROWS));
        let cursors = 8 * (threads + 2) * self.rows.div_ceil(BUCKET_ROWS).next_power_of_two();
        let most = rows.checked_add(writing.max(threads * self.reading(false) + cursors))?;
        (most <= free).then_some(Share {
            shuffled: Some(Where::Memory),
            reading_threads: threads as usize,
            writing_threads: threads as usize,
            window_rows: window as usize,
        })
    }

    /// Threads, partitions and rows of the window with which `threads` threads write what lies in a file.
    fn in_file(&self, threads: u64, log2_buckets: u32, free: u64) -> Option<(u64, u32, u64)> {
        let fits = |log2: &u32| self.writing_file(threads, largest(self.rows >> log2), *log2) <= free;
        // More partitions than memory asks for, as long as they do not make reading or writing slow.
        let least = (0..=log2_buckets).find(fits)?;
        let cached = (self.rows * self.row_bytes / PARTITION_BYTES).next_power_of_two().ilog2();
        let long = (self.part_rows * self.row_bytes / WRITE_BYTES).max(1).ilog2();
        let log2_partitions = least.max(cached.min(long).min(log2_buckets));
        let partition = largest(self.rows >> log2_partitions);
        Some((threads, log2_partitions, self.batch_rows + threads * partition))
    }

    /// Bytes that `threads` threads need to write partitions of `partition` rows: in the window, as stored, with their order.
    const fn writing_file(&self, threads: u64, partition: u64, log2_partitions: u32) -> u64 {
        let chunk = partition * (2 * self.row_bytes + 8);
        let cursors = (8 * (threads + 2)) << log2_partitions;
        self.batch_rows * self.row_bytes + threads * (chunk + self.encoding()) + cursors
    }
}

/// What may be taken unless something else is asked for: a share of the machine's memory, or of what the process' control group
/// may take if that is less.
#[must_use]
pub fn default_limit() -> u64 {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = groups.into_iter().filter_map(number).chain(total()).min();
    limit.map_or(UNKNOWN, |limit| limit / DEFAULT_SHARE)
}

/// The machine's memory.
fn total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(1024 * kilobytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPARSE: Needs = Needs {
        row_bytes: 160,
        rows: 50_000_000,
        part_rows: 1 << 17,
        part_bytes: 12 << 20,
        batch_rows: 6250,
        threads: 2,
    };

    fn share(needs: &Needs, memory: u64) -> Result<Share, u64> {
        Share::of_shuffle(needs, &Buckets::new(8, needs.rows, BUCKET_ROWS), memory)
    }

    #[test]
    fn what_fits_stays_in_memory_and_what_does_not_goes_to_a_file() {
        // 8 GB of rows.
        assert_eq!(share(&SPARSE, 9 << 30).unwrap().shuffled, Some(Where::Memory));
        // 8 GB in partitions of 32 MB.
        let spilled = share(&SPARSE, 600 << 20).unwrap();
        assert_eq!(spilled.shuffled, Some(Where::File { log2_partitions: 8 }));
        assert_eq!((spilled.reading_threads, spilled.writing_threads), (2, 2));
        // Two threads' parts do not fit, one's does.
        let small = share(&SPARSE, 100 << 20).unwrap();
        assert_eq!(small.reading_threads, 1);
    }

    #[test]
    fn the_least_memory_that_is_told_is_enough_and_no_less_is() {
        for needs in [SPARSE, Needs { row_bytes: 12, batch_rows: 1 << 24, ..SPARSE }, Needs { rows: 1, ..SPARSE }] {
            for of in [share, Share::of_copy as fn(&Needs, u64) -> _] {
                let least = of(&needs, 0).unwrap_err();
                let enough = of(&needs, least + (1 << 20)).unwrap();
                assert!(enough.reading_threads >= 1 && enough.writing_threads >= 1);
                assert!(of(&needs, least / 2).is_err(), "{least} for {needs:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn more_memory_is_never_worse(rows in 1u64..1 << 34, megabytes in 64u64..1 << 14, threads in 1u64..32) {
            let needs = Needs { rows, threads, ..SPARSE };
            if let Ok(less) = share(&needs, megabytes << 20) {
                let more = share(&needs, megabytes << 21).unwrap();
                prop_assert!(more.writing_threads >= less.writing_threads);
                prop_assert!(more.reading_threads >= less.reading_threads);
            }
        }
    }

    #[test]
    fn the_machine_says_how_much_there_is() {
        assert!(default_limit() >= 64 << 20);
    }
}
