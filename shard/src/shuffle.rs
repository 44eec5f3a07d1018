//! A uniform permutation of many rows: each goes to a random bucket, then each bucket is shuffled.
//!
//! Row `i` goes to the bucket named by the top bits of word `i` of the stream, behind the earlier rows that went there;
//! bucket `b` is then shuffled with the stream's child `b`. The buckets end to end are the permutation. It is uniform:
//! which rows share a bucket does not depend on the order inside it, and every order inside is equally likely. It depends
//! on seed and number of rows only: not on threads, nor on how the rows lie in files, nor on how much memory there is, because
//! consecutive buckets can be dealt with as one (a partition) wherever that is better.
//!
//! Source: Rao, *Generation of random permutations of given number of elements using random sampling numbers*, Sankhya A
//! 1961; Sandelius, *A simple randomization procedure*, JRSS B 1962.
//!
//! There is no I/O here.

use random::Stream;
use rayon::prelude::*;

/// Rows of a bucket, at most on average: few enough that they are shuffled in a core's own cache.
pub(crate) const BUCKET_ROWS: u64 = 8192;

/// Which bucket each of a number of rows goes to.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    stream: Stream,
    rows: u64,
    log2_count: u32,
}

impl Buckets {
    /// The buckets for `rows` rows, of `bucket_rows` rows each at most on average.
    pub(crate) fn new(seed: u64, rows: u64, bucket_rows: u64) -> Self {
        let count = rows.div_ceil(bucket_rows).next_power_of_two();
        Self { stream: Stream::new(seed, "shuffle"), rows, log2_count: count.trailing_zeros() }
    }

    /// The binary logarithm of their number.
    pub(crate) const fn log2_count(&self) -> u32 {
        self.log2_count
    }

    /// The bucket of row number `row`.
    #[inline]
    pub(crate) fn of(&self, row: u64) -> u64 {
        (self.stream.word(row) >> 1) >> (63 - self.log2_count)
    }

    /// Where each of `2^log2_partitions` partitions, which are as many consecutive buckets each, begins among the shuffled rows,
    /// and where the last one ends.
    ///
    /// # Panics
    /// When there are more partitions than buckets.
    pub(crate) fn starts(&self, log2_partitions: u32) -> Vec<u64> {
        let shift = self.log2_count.checked_sub(log2_partitions).expect("a partition has at least a bucket");
        let slices = (rayon::current_num_threads() as u64).min(self.rows).max(1);
        let counts = (0..slices).into_par_iter().map(|slice| {
            let mut counts = vec![0u64; 1 << log2_partitions];
            let rows = self.rows * slice / slices..self.rows * (slice + 1) / slices;
            rows.for_each(|row| counts[(self.of(row) >> shift) as usize] += 1);
            counts
        });
        let add = |mut sum: Vec<u64>, counts: Vec<u64>| {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            sum
        };
        let mut starts = counts.reduce_with(add).unwrap_or_default();
        let mut next = 0;
        for start in &mut starts {
            next += std::mem::replace(start, next);
        }
        starts.push(next);
        starts
    }

    /// Shuffles the rows of bucket number `bucket`, which come in ascending order of their numbers.
    pub(crate) fn shuffle<T>(&self, bucket: u64, rows: &mut [T]) {
        self.stream.at(bucket).shuffle(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The permutation of `0..n`, dealt with in `2^log2_partitions` partitions, or as many as there are buckets.
    fn permutation(seed: u64, n: u64, log2_partitions: u32) -> Vec<u64> {
        let buckets = Buckets::new(seed, n, BUCKET_ROWS);
        let log2_partitions = log2_partitions.min(buckets.log2_count());
        let starts = buckets.starts(log2_partitions);
        let shift = buckets.log2_count() - log2_partitions;
        let mut next = starts.clone();
        let mut rows = vec![u64::MAX; n as usize];
        for row in 0..n {
            let next = &mut next[(buckets.of(row) >> shift) as usize];
            rows[*next as usize] = row;
            *next += 1;
        }
        assert_eq!(next[..next.len() - 1], starts[1..], "every partition is full");
        for bounds in starts.windows(2) {
            let partition = &mut rows[bounds[0] as usize..bounds[1] as usize];
            partition.sort_by_key(|&row| buckets.of(row));
            for bucket in partition.chunk_by_mut(|&a, &b| buckets.of(a) == buckets.of(b)) {
                buckets.shuffle(buckets.of(bucket[0]), bucket);
            }
        }
        rows
    }

    /// The definition, word by word.
    fn reference(seed: u64, n: u64) -> Vec<u64> {
        let stream = Stream::new(seed, "shuffle");
        let mut log2 = 0;
        while (8192u64 << log2) < n {
            log2 += 1;
        }
        let mut buckets = vec![Vec::new(); 1 << log2];
        for row in 0..n {
            let word = u128::from(stream.word(row));
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
        fn equals_the_definition_in_however_many_partitions(seed: u64, n in 0u64..60_000, log2_partitions in 0u32..4) {
            prop_assert_eq!(permutation(seed, n, log2_partitions), reference(seed, n));
        }
    }

    #[test]
    fn every_row_occurs_once_at_the_edges_of_the_bucket_count() {
        for n in [0, 1, 2, 8191, 8192, 8193, 16_384, 16_385, 1_000_003] {
            let mut rows = permutation(8, n, 3);
            assert!(n < 3 || !rows.is_sorted(), "{n} rows stay in order");
            rows.sort_unstable();
            assert!(rows.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn rows_beyond_32_bits_have_buckets_of_their_own() {
        // Criteo's terabyte has 4,373,472,329 rows.
        let buckets = Buckets::new(8, 4_373_472_329, BUCKET_ROWS);
        assert_eq!(buckets.log2_count(), 20);
        let stream = Stream::new(8, "shuffle");
        for row in [0, 1 << 32, 4_373_472_328] {
            assert_eq!(buckets.of(row), stream.word(row) >> 44);
        }
        assert_ne!(buckets.of(0), buckets.of(1 << 32));
    }

    #[test]
    fn every_row_is_equally_likely_in_every_batch() {
        // 4 buckets, so that both the scatter and the shuffle inside matter; 10 batches that do not end with the buckets.
        let (n, batches, seeds) = (20_000u64, 10u64, 400u64);
        let watched = [0u64, 1, 7777, 8191, 8192, 19_998, 19_999];
        let mut counts = vec![vec![0u32; batches as usize]; watched.len()];
        let mut together = 0u32;
        for seed in 0..seeds {
            let rows = permutation(seed, n, 1);
            let mut batch_of = vec![0; n as usize];
            for (position, &row) in (0..).zip(&rows) {
                batch_of[row as usize] = (position * batches / n) as usize;
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
            *counts.entry(permutation(seed, 4, 0)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let chi2: f64 = counts.values().map(|&c| (f64::from(c) - 1000.0).powi(2) / 1000.0).sum();
        // 99.99th percentile of chi-square with 23 degrees of freedom.
        assert!(chi2 < 58.6, "{chi2}");
    }
}
