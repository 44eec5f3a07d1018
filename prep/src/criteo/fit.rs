//! The second stage: what the training rows are like. All sums are of whole numbers and exact, so that neither threads nor the
//! order of the rows show in them.

use std::collections::BTreeMap;

use raw::clicks::hash::MISSING;
use raw::clicks::scale::Values;
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::columns::LABEL;
use super::spill::{Index, Slice, Spill};
use crate::error::Error;
use crate::holdout::Rule;
use crate::threads::on_threads;

/// Counts and sums over rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    /// Training and held-out rows.
    pub rows: [u64; 2],
    /// Training and held-out rows with label 1.
    pub positives: [u64; 2],
    /// `I1` to `I13` over the training rows.
    pub numeric: [Sums; N_NUMERIC],
    /// Training rows with a token in `C1` to `C26`.
    pub categorical: [u64; N_CATEGORICAL],
    /// Training rows that hit a bucket more than once.
    pub rows_with_collisions: u64,
    /// The most hits of one training row on each bucket that some row hits more than once.
    pub scales: BTreeMap<u32, u32>,
}

/// Count and sums of whole numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub present: u64,
    pub range: Option<(i64, i64)>,
    sum: i128,
    /// The sum of squares is `2^64 high + low`.
    high: u128,
    low: u128,
}

impl Sums {
    fn add(&mut self, x: i64) {
        self.present += 1;
        self.sum += i128::from(x);
        let square = u128::from(x.unsigned_abs()) * u128::from(x.unsigned_abs());
        self.high += square >> 64;
        self.low += square & u128::from(u64::MAX);
        self.range = Some(self.range.map_or((x, x), |(min, max)| (min.min(x), max.max(x))));
    }

    fn merge(&mut self, other: &Self) {
        self.present += other.present;
        self.sum += other.sum;
        self.high += other.high;
        self.low += other.low;
        self.range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (a, b) => a.or(b),
        };
    }

    /// Mean and population standard deviation over `count` values, of which those that are not present are 0.
    pub(super) fn mean_and_sd(&self, count: u64) -> (f64, f64) {
        if count == 0 {
            return (0.0, 0.0);
        }
        // With a whole number near the mean as origin nothing is lost: `m` is the origin, `d` how far the mean is from it.
        let n = i128::from(count);
        let m = self.sum.div_euclid(n);
        let d = self.sum.rem_euclid(n) as f64 / count as f64;
        // The sum of (x - m)^2 as `2^64 high + low`: squares - 2 m sum + n m^2, products in halves of 64 bits.
        let halves = |a: i128, b: i128| {
            let (upper, lower) = (b >> 64, b & i128::from(u64::MAX));
            let product = a * lower;
            (a * upper + (product >> 64), product & i128::from(u64::MAX))
        };
        let (mixed_high, mixed_low) = halves(-m, self.sum);
        let (square_high, square_low) = halves(n, m * m);
        let low = self.low as i128 + 2 * mixed_low + square_low;
        let high = self.high as i128 + 2 * mixed_high + square_high + (low >> 64);
        let squares = high as f64 * 2f64.powi(64) + (low & i128::from(u64::MAX)) as f64;
        let variance = squares / count as f64 - d * d;
        (m as f64 + d, variance.max(0.0).sqrt())
    }
}

impl Totals {
    fn merge(&mut self, other: Self) {
        for sort in 0..2 {
            self.rows[sort] += other.rows[sort];
            self.positives[sort] += other.positives[sort];
        }
        self.numeric.iter_mut().zip(&other.numeric).for_each(|(sums, more)| sums.merge(more));
        self.categorical.iter_mut().zip(&other.categorical).for_each(|(count, more)| *count += more);
        self.rows_with_collisions += other.rows_with_collisions;
        for (bucket, hits) in other.scales {
            let most = self.scales.entry(bucket).or_default();
            *most = hits.max(*most);
        }
    }
}

/// Goes over all rows. `sparse` rows have buckets.
pub(super) fn fit(spill: &Spill, index: &Index, sparse: bool, rule: &Rule, threads: usize) -> Result<Totals, Error> {
    let found = on_threads(threads, index.chunks(), Fitter::default, |fitter, chunk| {
        let mut words = std::mem::take(&mut fitter.words);
        let outcome = spill.each_slice(index, chunk, &mut words, |slice| fitter.add(&slice, sparse, rule));
        fitter.words = words;
        outcome
    })?;
    let mut totals = Totals::default();
    found.into_iter().for_each(|fitter| totals.merge(fitter.totals));
    Ok(totals)
}

/// What one thread has seen.
#[derive(Default)]
struct Fitter {
    totals: Totals,
    words: Vec<u64>,
    /// The flags of the training rows, none of those that are held out.
    flags: Vec<u16>,
    is_training: Vec<bool>,
    buckets: [Vec<u32>; N_CATEGORICAL],
    finder: Finder,
}

impl Fitter {
    fn add(&mut self, slice: &Slice<'_>, sparse: bool, rule: &Rule) {
        self.is_training.clear();
        match rule.holds_some() {
            true => self.is_training.extend(slice.source_rows().map(|row| !rule.holds(row))),
            false => self.is_training.resize(slice.len(), true),
        }
        self.flags.clear();
        let totals = &mut self.totals;
        self.flags.extend(slice.flags().iter().zip(&self.is_training).map(|(&flags, &training)| {
            let sort = usize::from(!training);
            totals.rows[sort] += 1;
            totals.positives[sort] += u64::from(flags & LABEL != 0);
            if training { flags } else { 0 }
        }));
        for (column, sums) in totals.numeric.iter_mut().enumerate() {
            match slice.numbers(column) {
                Values::Two(values) => add_many(sums, values, &self.flags, column),
                Values::Four(values) => add_many(sums, values, &self.flags, column),
                Values::Eight(values) => {
                    let values = values.iter().zip(&self.flags).filter(|(_, flags)| **flags & (1 << column) != 0);
                    values.for_each(|(&x, _)| sums.add(x));
                }
            }
        }
        if sparse {
            for (column, (count, buckets)) in totals.categorical.iter_mut().zip(&mut self.buckets).enumerate() {
                buckets.clear();
                slice.buckets(column, None, buckets);
                let there = buckets.iter().zip(&self.is_training).map(|(&b, &t)| u32::from(t && b != MISSING));
                *count += u64::from(there.sum::<u32>());
            }
            for (row, _) in self.is_training.iter().enumerate().filter(|(_, training)| **training) {
                let buckets = std::array::from_fn(|column| self.buckets[column][row]);
                let found = self.finder.find(buckets, &mut totals.scales);
                totals.rows_with_collisions += u64::from(found);
            }
        }
    }
}

/// [`Sums::add`] of many numbers of at most 32 bits, so many at a time that no sum of theirs overflows.
fn add_many<T: Copy + Into<i32>>(sums: &mut Sums, values: &[T], flags: &[u16], column: usize) {
    const ROWS: usize = 1 << 12;
    for (values, flags) in values.chunks(ROWS).zip(flags.chunks(ROWS)) {
        let (mut present, mut sum, mut low, mut high) = (0u32, 0i64, 0u64, 0u64);
        let (mut min, mut max) = (i32::MAX, i32::MIN);
        for (&x, &flags) in values.iter().zip(flags) {
            let there = (flags >> column) & 1 != 0;
            let x: i32 = if there { x.into() } else { 0 };
            present += u32::from(there);
            sum += i64::from(x);
            let square = (i64::from(x) * i64::from(x)).cast_unsigned();
            low += square & 0xffff_ffff;
            high += square >> 32;
            min = min.min(if there { x } else { i32::MAX });
            max = max.max(if there { x } else { i32::MIN });
        }
        sums.merge(&Sums {
            present: u64::from(present),
            range: (present > 0).then_some((i64::from(min), i64::from(max))),
            sum: i128::from(sum),
            high: 0,
            low: u128::from(low) + (u128::from(high) << 32),
        });
    }
}

/// Finds buckets that occur more than once among those of a row.
struct Finder {
    /// In which row, counted from 1, a bucket with these last bits was seen last.
    seen: Vec<u32>,
    row: u32,
}

impl Finder {
    const SLOTS: usize = 4096;

    /// Whether one of `buckets` occurs more than once; if so, `scales` is raised to how often.
    fn find(&mut self, buckets: [u32; N_CATEGORICAL], scales: &mut BTreeMap<u32, u32>) -> bool {
        self.row = self.row.wrapping_add(1);
        if self.row == 0 {
            self.seen.fill(0);
            self.row = 1;
        }
        let mut suspicious = false;
        for bucket in buckets {
            // A missing bucket leaves no mark.
            let slot = &mut self.seen[bucket as usize % Self::SLOTS];
            suspicious |= (*slot == self.row) & (bucket != MISSING);
            *slot = if bucket == MISSING { *slot } else { self.row };
        }
        suspicious && Self::count(buckets, scales)
    }

    #[cold]
    fn count(mut buckets: [u32; N_CATEGORICAL], scales: &mut BTreeMap<u32, u32>) -> bool {
        buckets.sort_unstable();
        let mut found = false;
        for run in buckets.chunk_by(|a, b| a == b).filter(|run| run.len() > 1 && run[0] != MISSING) {
            let most = scales.entry(run[0]).or_default();
            *most = (run.len() as u32).max(*most);
            found = true;
        }
        found
    }
}

impl Default for Finder {
    fn default() -> Self {
        Self { seen: vec![0; Self::SLOTS], row: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(values: &[i64]) -> Sums {
        let mut sums = Sums::default();
        values.iter().for_each(|&x| sums.add(x));
        sums
    }

    proptest! {
        #[test]
        fn mean_and_sd_are_those_of_the_textbook(values in proptest::collection::vec(-1_000_000i64..1_000_000, 1..60), zeros in 0u64..5) {
            let n = (values.len() as u64 + zeros) as f64;
            let mean = values.iter().sum::<i64>() as f64 / n;
            let squares: f64 = values.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() + zeros as f64 * mean * mean;
            let (found_mean, found_sd) = sums(&values).mean_and_sd(values.len() as u64 + zeros);
            prop_assert!((found_mean - mean).abs() <= 1e-9 * mean.abs().max(1.0));
            prop_assert!((found_sd - (squares / n).sqrt()).abs() <= 1e-9 * (squares / n).sqrt().max(1.0));
        }

        #[test]
        fn many_numbers_at_once_make_the_same_sums(values in proptest::collection::vec((any::<i32>(), any::<bool>()), 0..60)) {
            let mut expected = Sums::default();
            values.iter().filter(|v| v.1).for_each(|v| expected.add(v.0.into()));
            let (numbers, flags): (Vec<i32>, Vec<u16>) = values.iter().map(|&(x, there)| (x, u16::from(there) << 7 | 1 << 3)).unzip();
            let mut found = Sums::default();
            add_many(&mut found, &numbers, &flags, 7);
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        }

        #[test]
        fn collisions_are_found(buckets in proptest::collection::vec(prop_oneof![Just(MISSING), 0u32..40, any::<u32>()], 26)) {
            let buckets: [u32; 26] = buckets.try_into().unwrap();
            let mut expected = BTreeMap::new();
            for &bucket in buckets.iter().filter(|&&b| b != MISSING) {
                *expected.entry(bucket).or_insert(0) += 1;
            }
            expected.retain(|_, hits| *hits > 1);
            let (mut finder, mut scales) = (Finder::default(), BTreeMap::new());
            finder.find(std::array::from_fn(|i| i as u32), &mut BTreeMap::new());
            prop_assert_eq!(finder.find(buckets, &mut scales), !expected.is_empty());
            prop_assert_eq!(scales, expected);
        }
    }

    #[test]
    fn sums_are_exact_where_floating_point_would_lose_everything() {
        // Numbers around 2^62 that differ by ones: mean 2^62 + 1, variance 2/3.
        let base = 1i64 << 62;
        let (mean, sd) = sums(&[base, base + 1, base + 2]).mean_and_sd(3);
        assert_eq!(mean, base as f64);
        assert!((sd - (2.0f64 / 3.0).sqrt()).abs() < 1e-15, "{sd}");
        // The two ends of the range: the standard deviation is half of 2^64 - 1.
        let (mean, sd) = sums(&[i64::MIN, i64::MAX]).mean_and_sd(2);
        assert_eq!((mean, sd), (-0.5, 2f64.powi(63)));
        assert_eq!(sums(&[7; 5]).mean_and_sd(5), (7.0, 0.0));
        assert_eq!(sums(&[]).mean_and_sd(4), (0.0, 0.0));
        assert_eq!(sums(&[i64::MIN]).range, Some((i64::MIN, i64::MIN)));
    }
}
