//! A uniform permutation of many rows, made in parallel: scatter to random buckets, then shuffle each bucket.
//!
//! Row `i` goes to the bucket named by the top bits of word `i` of the stream, behind the earlier rows that went there;
//! bucket `b` is then shuffled with the stream's child `b`. The buckets end to end are the permutation. It is uniform:
//! which rows share a bucket does not depend on the order inside it, and every order inside is equally likely. It depends
//! on seed and number of rows only, not on threads or on how the rows lie in files.
//!
//! Source: Rao, *Generation of random permutations of given number of elements using random sampling numbers*, Sankhya A
//! 1961; Sandelius, *A simple randomization procedure*, JRSS B 1962.
//!
//! There is no I/O here.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use random::Stream;
use rayon::prelude::*;

/// User, item and the rating's bits. Threads write disjoint rows through shared references, which safe Rust allows for
/// atomic cells; a relaxed store is a plain one, and joining the threads makes it visible.
pub(crate) type Row = [AtomicU32; 3];

/// Sets `row`.
#[inline]
pub(crate) fn store(row: &Row, user: u32, item: u32, rating: f32) {
    row[0].store(user, Ordering::Relaxed);
    row[1].store(item, Ordering::Relaxed);
    row[2].store(rating.to_bits(), Ordering::Relaxed);
}

/// User, item and rating bits of `row`.
#[inline]
pub(crate) fn load(row: &Row) -> [u32; 3] {
    [0, 1, 2].map(|i| row[i].load(Ordering::Relaxed))
}

/// Which bucket each of a number of rows goes to.
#[derive(Debug)]
pub(crate) struct Buckets {
    stream: Stream,
    log2_count: u32,
}

/// Where the buckets begin and end among the rows, and where each group of rows begins in each bucket.
#[derive(Debug)]
pub(crate) struct Positions {
    /// Bucket `b` has the rows `starts[b]..starts[b + 1]`.
    pub(crate) starts: Vec<u32>,
    /// `cursors[g][b]` is the position of the first row of group `g` in bucket `b`.
    pub(crate) cursors: Vec<Vec<u32>>,
}

impl Buckets {
    /// The buckets for `rows` rows, of `bucket_rows` rows each at most on average.
    pub(crate) fn new(seed: u64, rows: u32, bucket_rows: usize) -> Self {
        let count = (rows as usize).div_ceil(bucket_rows).next_power_of_two();
        Self { stream: Stream::new(seed, "shuffle"), log2_count: count.trailing_zeros() }
    }

    /// How many buckets there are.
    pub(crate) const fn count(&self) -> usize {
        1 << self.log2_count
    }

    /// The bucket of row number `row`.
    #[inline]
    pub(crate) fn of(&self, row: u32) -> usize {
        ((self.stream.word(u64::from(row)) >> 1) >> (63 - self.log2_count)) as usize
    }

    /// Finds the place of every group of consecutive rows in every bucket. The groups follow each other from row 0.
    pub(crate) fn positions(&self, groups: &[Range<u32>]) -> Positions {
        let mut cursors: Vec<Vec<u32>> = groups
            .par_iter()
            .map(|group| {
                let mut counts = vec![0u32; self.count()];
                group.clone().for_each(|row| counts[self.of(row)] += 1);
                counts
            })
            .collect();
        let mut starts = Vec::with_capacity(self.count() + 1);
        let mut next = 0;
        for bucket in 0..self.count() {
            starts.push(next);
            for counts in &mut cursors {
                let count = counts[bucket];
                counts[bucket] = next;
                next += count;
            }
        }
        starts.push(next);
        Positions { starts, cursors }
    }

    /// Shuffles every bucket of `rows`.
    pub(crate) fn shuffle<T: Send>(&self, rows: &mut [T], positions: &Positions) {
        let mut rest = rows;
        let mut buckets = Vec::with_capacity(positions.starts.len());
        for bounds in positions.starts.windows(2) {
            let (bucket, behind) = rest.split_at_mut((bounds[1] - bounds[0]) as usize);
            buckets.push(bucket);
            rest = behind;
        }
        buckets.into_par_iter().enumerate().for_each(|(b, bucket)| self.shuffle_one(b, bucket));
    }

    /// Shuffles the rows of bucket number `bucket`.
    pub(crate) fn shuffle_one<T>(&self, bucket: usize, rows: &mut [T]) {
        self.stream.at(bucket as u64).shuffle(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The permutation of `0..n`, with rows that come in groups of the given sizes.
    fn permutation(seed: u64, sizes: &[u32]) -> Vec<u32> {
        let mut groups = Vec::new();
        let mut n = 0;
        for size in sizes {
            groups.push(n..n + size);
            n += size;
        }
        let buckets = Buckets::new(seed, n, 8192);
        let mut positions = buckets.positions(&groups);
        let mut rows = vec![u32::MAX; n as usize];
        for (g, group) in groups.into_iter().enumerate() {
            for row in group {
                let cursor = &mut positions.cursors[g][buckets.of(row)];
                rows[*cursor as usize] = row;
                *cursor += 1;
            }
        }
        buckets.shuffle(&mut rows, &positions);
        rows
    }

    /// The definition, word by word.
    fn reference(seed: u64, n: u32) -> Vec<u32> {
        let stream = Stream::new(seed, "shuffle");
        let mut log2 = 0;
        while (8192u64 << log2) < u64::from(n) {
            log2 += 1;
        }
        let mut buckets = vec![Vec::new(); 1 << log2];
        for row in 0..n {
            let word = u128::from(stream.word(u64::from(row)));
            buckets[((word << log2) >> 64) as usize].push(row);
        }
        for (b, bucket) in buckets.iter_mut().enumerate() {
            stream.at(b as u64).shuffle(bucket);
        }
        buckets.concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn equals_the_definition_however_the_rows_are_grouped(
            seed: u64,
            sizes in proptest::collection::vec(0u32..12_000, 1..6),
        ) {
            prop_assert_eq!(permutation(seed, &sizes), reference(seed, sizes.iter().sum()));
        }
    }

    #[test]
    fn every_row_occurs_once_at_the_edges_of_the_bucket_count() {
        for n in [0, 1, 2, 8191, 8192, 8193, 16_384, 16_385, 1_000_003] {
            let mut rows = permutation(8, &[n]);
            assert!(n < 3 || !rows.is_sorted(), "{n} rows stay in order");
            rows.sort_unstable();
            assert!(rows.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn every_row_is_equally_likely_in_every_batch() {
        // 4 buckets, so that both the scatter and the shuffle inside matter; 10 batches that do not end with the buckets.
        let (n, batches, seeds) = (20_000u32, 10usize, 400u64);
        let watched = [0u32, 1, 7777, 8191, 8192, 19_998, 19_999];
        let mut counts = vec![vec![0u32; batches]; watched.len()];
        let mut together = 0u32;
        for seed in 0..seeds {
            let rows = permutation(seed, &[n]);
            let mut batch_of = vec![0; n as usize];
            for (position, &row) in rows.iter().enumerate() {
                batch_of[row as usize] = position * batches / n as usize;
            }
            for (count, &row) in counts.iter_mut().zip(&watched) {
                count[batch_of[row as usize]] += 1;
            }
            together += (0..1000).map(|i| u32::from(batch_of[2 * i] == batch_of[2 * i + 1])).sum::<u32>();
        }
        let expected = seeds as f64 / batches as f64;
        for (count, row) in counts.iter().zip(watched) {
            let chi2: f64 = count.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
            // 99.99th percentile of chi-square with 9 degrees of freedom.
            assert!(chi2 < 33.7, "row {row}: {chi2}, {count:?}");
        }
        // Neighbours share a batch with probability (2000 - 1) / (20000 - 1); five standard deviations of a binomial.
        let (trials, p) = (1000.0 * seeds as f64, 1999.0 / 19_999.0);
        let deviation = (f64::from(together) - trials * p).abs() / (trials * p * (1.0 - p)).sqrt();
        assert!(deviation < 5.0, "{deviation}");
    }

    #[test]
    fn small_permutations_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..24_000 {
            *counts.entry(permutation(seed, &[1, 3])).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let chi2: f64 = counts.values().map(|&c| (f64::from(c) - 1000.0).powi(2) / 1000.0).sum();
        // 99.99th percentile of chi-square with 23 degrees of freedom.
        assert!(chi2 < 58.6, "{chi2}");
    }
}
