//! Shuffled rows: read and put where their buckets lie (`scatter`), then given out bucket after bucket, each of them shuffled.

use std::path::Path;

use reporting::{Progress, interrupt};

use crate::Error;
use crate::kind::Kind;
use crate::memory::Where;
use crate::parts::Set;
use crate::scatter::{Words, into_file, into_memory, load};
use crate::shuffle::Buckets;
use crate::spill::Spill;
use crate::window::Source;

/// The rows of a set, shuffled.
pub(crate) struct Shuffled {
    buckets: Buckets,
    width: usize,
    /// Where the partitions begin, and where the last one ends.
    starts: Vec<u64>,
    rows: Rows,
}

enum Rows {
    /// A partition is a bucket.
    Memory(Words),
    /// A partition is several buckets, whose rows lie there in the order of their numbers, each with the number of its bucket in
    /// the partition.
    File(Spill),
}

/// What one thread works with.
#[derive(Default)]
pub(crate) struct Buffers {
    /// A partition as it lies in the file.
    stored: Vec<u32>,
    /// The order of its rows.
    order: Vec<u32>,
    /// Where the next row of each bucket goes in `order`.
    next: Vec<u32>,
}

impl Shuffled {
    /// Reads all rows.
    ///
    /// # Errors
    /// When a part cannot be read or temporary data not be kept, or a signal arrives.
    pub(crate) fn read<K: Kind>(
        set: &Set<'_, K>,
        buckets: Buckets,
        place: Where,
        (threads, bytes_ahead): (usize, u64),
        temp_dir: &Path,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let width = set.kind.width();
        let (starts, rows) = match place {
            Where::Memory => {
                let starts = buckets.starts(buckets.log2_count());
                let words = into_memory(set, &buckets, &starts, (threads, bytes_ahead), progress)?;
                (starts, Rows::Memory(words))
            }
            Where::File { log2_partitions } => {
                let starts = buckets.starts(log2_partitions);
                let spill = Spill::create(temp_dir, width + 1)?;
                into_file(set, &buckets, (log2_partitions, &starts), &spill, (threads, bytes_ahead), progress)?;
                (starts, Rows::File(spill))
            }
        };
        Ok(Self { buckets, width, starts, rows })
    }
}

impl Source for Shuffled {
    type Buffers = Buffers;

    fn sizes(&self) -> Vec<usize> {
        self.starts.windows(2).map(|bounds| (bounds[1] - bounds[0]) as usize).collect()
    }

    fn fill(&self, partition: usize, buffers: &mut Buffers, words: &mut [u32]) -> Result<(), Error> {
        interrupt::check()?;
        let width = self.width;
        let start = self.starts[partition];
        let slots = words.chunks_exact_mut(width);
        let Buffers { stored, order, next } = buffers;
        match &self.rows {
            Rows::Memory(words) => {
                let rows = &words[start as usize * width..];
                order.clear();
                order.extend(0..slots.len() as u32);
                self.buckets.shuffle(partition as u64, order);
                for (slot, &row) in slots.zip(&*order) {
                    load(&rows[row as usize * width..][..width], slot);
                }
            }
            Rows::File(spill) => {
                stored.resize(slots.len() * spill.width(), 0);
                spill.read(start, stored)?;
                self.order(partition as u64, stored, order, next);
                for (slot, &row) in slots.zip(&*order) {
                    slot.copy_from_slice(&stored[row as usize * spill.width()..][..width]);
                }
            }
        }
        Ok(())
    }
}

impl Shuffled {
    /// Puts into `order` the rows of a partition, of which `stored` are the words: bucket after bucket, each shuffled.
    fn order(&self, partition: u64, stored: &[u32], order: &mut Vec<u32>, next: &mut Vec<u32>) {
        let buckets = 1u64 << (self.buckets.log2_count() - (self.starts.len() - 1).ilog2());
        let bucket_of = |row: &[u32]| row[self.width] as usize;
        let rows = stored.chunks_exact(self.width + 1);
        order.clear();
        order.resize(rows.len(), 0);
        next.clear();
        next.resize(buckets as usize, 0);
        rows.clone().for_each(|row| next[bucket_of(row)] += 1);
        let mut start = 0;
        for next in &mut *next {
            start += std::mem::replace(next, start);
        }
        for (number, row) in (0..).zip(rows) {
            let next = &mut next[bucket_of(row)];
            order[*next as usize] = number;
            *next += 1;
        }
        // Where the next row would go is where the bucket ends.
        let mut rest = &mut order[..];
        let mut start = 0;
        for (bucket, &end) in (partition * buckets..).zip(&*next) {
            let (rows, behind) = rest.split_at_mut((end - start) as usize);
            self.buckets.shuffle(bucket, rows);
            (rest, start) = (behind, end);
        }
    }
}
