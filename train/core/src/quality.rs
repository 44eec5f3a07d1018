//! How good predictions are: probabilities of clicks, and ratings.
//!
//! Outputs are counted in narrow bins, clicks and others apart, and errors of ratings for each rating. Counts can be added in any
//! order, so workers count their own rows and the sum is the same whoever counted what.

use crate::lanes::Simd;
use crate::logistic::gradient::probabilities;

/// Bins for each unit of an output of at most [`LINEAR_MAX`], and for each doubling of a larger one.
const BINS_A_UNIT: u32 = 1024;
/// Up to here bins are equally wide.
const LINEAR_MAX: f32 = 16.0;
/// Bins of the outputs of one sign: up to 16, and up to 2^20. What lies beyond counts as that.
const SIDE: u32 = 2 * 16 * BINS_A_UNIT;
/// How many bins there are.
const BINS: usize = 2 * SIDE as usize;

/// The bin of an output. Larger outputs are in the same bin or in a later one.
fn bin(output: f32) -> usize {
    let size = output.abs();
    let i = if size < LINEAR_MAX {
        (size * BINS_A_UNIT as f32) as u32
    } else {
        // The exponent and the first ten digits behind it.
        SIDE / 2 + ((size.to_bits() - LINEAR_MAX.to_bits()) >> 13)
    };
    let i = i.min(SIDE - 1);
    (if output < 0.0 { SIDE - 1 - i } else { SIDE + i }) as usize
}

/// An output in the middle of a bin.
fn middle(bin: u32) -> f32 {
    let side = if bin < SIDE { SIDE - 1 - bin } else { bin - SIDE };
    let size = if side < SIDE / 2 {
        (side as f32 + 0.5) / BINS_A_UNIT as f32
    } else {
        f32::from_bits(LINEAR_MAX.to_bits() + ((side - SIDE / 2) << 13))
    };
    if bin < SIDE { -size } else { size }
}

/// What a probability of 1 counts as.
const ONE: f64 = (1u64 << 32) as f64;

/// Rows counted by output and label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Clicks and others in each bin.
    bins: Vec<[u64; 2]>,
    /// Sum of the probabilities, in units of 2^-32, each rounded to one.
    predicted: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { bins: vec![[0; 2]; BINS], predicted: 0 }
    }
}

/// Rows of neighbouring outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    /// How many.
    pub rows: u64,
    /// How many of them are clicks.
    pub clicks: u64,
    /// Mean of their predicted probabilities, to within a 2,000th of an output.
    pub predicted: f64,
}

/// How good the predicted probabilities of some rows are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Area under the ROC curve: the share of pairs of a click and another row in which the click has the higher output, ties
    /// counted half (Hanley and McNeil, *Radiology* 143, 1982). Outputs that differ by less than a thousandth, or beyond 16 by
    /// less than a thousandth of themselves, may count as tied. `None` when there are no such pairs.
    pub auc: Option<f64>,
    /// Log loss divided by that of always predicting these rows' own share of clicks (He et al., *Practical Lessons from
    /// Predicting Clicks on Ads at Facebook*, ADKDD 2014, section 2.1). `None` when all rows have the same label.
    pub normalised_entropy: Option<f64>,
    /// Mean probability divided by the share of clicks (the same source). `None` when there are no clicks.
    pub calibration: Option<f64>,
}

impl Tally {
    /// Counts rows with these `outputs`, their `probabilities` and `labels` (1 for a click, else 0).
    ///
    /// # Panics
    /// When the three differ in length.
    pub fn add(&mut self, outputs: &[f32], probabilities: &[f32], labels: &[f32]) {
        assert!(outputs.len() == labels.len() && probabilities.len() == labels.len(), "there is one of each for a row");
        for (&z, &y) in outputs.iter().zip(labels) {
            self.bins[bin(z)][usize::from(y == 0.0)] += 1;
        }
        let fixed = |&p: &f32| (f64::from(p) * ONE) as u64;
        self.predicted += probabilities.iter().map(fixed).sum::<u64>();
    }

    /// Adds `clicks` and `others` to a bin; what lies beyond the last bin counts as in it.
    pub fn add_bin(&mut self, bin: u32, clicks: u64, others: u64) {
        let counts = &mut self.bins[(bin as usize).min(BINS - 1)];
        *counts = [counts[0] + clicks, counts[1] + others];
    }

    /// Adds to the sum of the probabilities, in units of 2^-32.
    pub const fn add_predicted(&mut self, predicted: u64) {
        self.predicted += predicted;
    }

    /// The sum of the probabilities, in units of 2^-32.
    #[must_use]
    pub const fn predicted(&self) -> u64 {
        self.predicted
    }

    /// Bins in which there are rows, ascending: bin, clicks, others.
    pub fn filled(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let bins = (0..).zip(&self.bins).map(|(bin, &[clicks, others])| (bin, clicks, others));
        bins.filter(|&(_, clicks, others)| clicks + others > 0)
    }

    /// All rows in at most `n` groups of neighbouring outputs, ascending, each of nearly as many rows as far as outputs differ.
    #[must_use]
    pub fn groups(&self, n: u64) -> Vec<Group> {
        let rows: u64 = self.filled().map(|(_, clicks, others)| clicks + others).sum();
        let mut middles: Vec<f32> = self.filled().map(|(bin, _, _)| middle(bin)).collect();
        probabilities(Simd::Portable, &mut middles);
        let mut groups: Vec<Group> = Vec::new();
        let (mut before, mut last) = (0, None);
        for ((_, clicks, others), probability) in self.filled().zip(middles) {
            let number = u128::from(before) * u128::from(n) / u128::from(rows);
            if last != Some(number) {
                groups.push(Group::default());
                last = Some(number);
            }
            let here = clicks + others;
            if let Some(group) = groups.last_mut() {
                group.rows += here;
                group.clicks += clicks;
                group.predicted += f64::from(probability) * here as f64;
            }
            before += here;
        }
        groups.iter_mut().for_each(|group| group.predicted /= group.rows as f64);
        groups
    }

    /// How good the predictions are, whose losses, in nats, add up to `loss_sum`.
    #[must_use]
    pub fn quality(&self, loss_sum: f64) -> Quality {
        let (clicks, others) = self.filled().fold((0, 0), |(c, o), (_, clicks, others)| (c + clicks, o + others));
        let (n_clicks, n_others) = (clicks as f64, others as f64);
        let rows = n_clicks + n_others;
        let mut below = 0u64;
        let mut doubled_pairs = 0u128;
        for (_, clicks, others) in self.filled() {
            doubled_pairs += u128::from(clicks) * (2 * u128::from(below) + u128::from(others));
            below += others;
        }
        let both = clicks > 0 && others > 0;
        let entropy = -(n_clicks * (n_clicks / rows).ln() + n_others * (n_others / rows).ln());
        Quality {
            auc: both.then(|| doubled_pairs as f64 / (2.0 * n_clicks * n_others)),
            normalised_entropy: both.then(|| loss_sum / entropy),
            calibration: (clicks > 0).then(|| self.predicted as f64 / ONE / n_clicks),
        }
    }
}

/// What an error of one star counts as; that of a squared one as well.
const STAR: f64 = (1u64 << 24) as f64;

/// Cells of ratings a star: half stars are in cells of their own, whatever the mean is.
const CELLS_A_STAR: f32 = 8.0;
/// What lies beyond this cell counts as in it.
const CELL_MAX: i32 = 2048;

/// Errors of the rows of one rating, or of ratings so near that they share a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatingErrors {
    /// The cell.
    pub cell: i32,
    /// Its rows.
    pub rows: u64,
    /// Sum of the ratings, in units of 2^-24 stars, each minus the mean and rounded to one.
    pub ratings: i64,
    /// Sum of prediction minus rating, in the same units.
    pub errors: i64,
    /// Sum of its square, in units of 2^-24 squared stars, each rounded to one.
    pub squares: u64,
}

impl RatingErrors {
    /// Mean rating, in stars minus the mean of all.
    #[must_use]
    pub fn rating(&self) -> f64 {
        self.ratings as f64 / STAR / self.rows as f64
    }

    /// Mean of prediction minus rating, in stars.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.errors as f64 / STAR / self.rows as f64
    }

    /// Root mean squared error, in stars.
    #[must_use]
    pub fn rmse(&self) -> f64 {
        (self.squares as f64 / STAR / self.rows as f64).sqrt()
    }
}

/// Errors counted by rating, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RatingTally(Vec<RatingErrors>);

impl RatingTally {
    /// Counts rows of these `ratings`, in stars minus the mean, that are predicted with these `errors`.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn add(&mut self, ratings: &[f32], errors: &[f32]) {
        assert!(ratings.len() == errors.len(), "there is one error for a row");
        let fixed = |stars: f64| (stars * STAR).round();
        for (&rating, &error) in ratings.iter().zip(errors) {
            self.add_all(RatingErrors {
                cell: (rating * CELLS_A_STAR).floor() as i32,
                rows: 1,
                ratings: fixed(rating.into()) as i64,
                errors: fixed(error.into()) as i64,
                squares: fixed(f64::from(error) * f64::from(error)) as u64,
            });
        }
    }

    /// Adds what was counted elsewhere in one cell.
    pub fn add_all(&mut self, more: RatingErrors) {
        let more = RatingErrors { cell: more.cell.clamp(-CELL_MAX, CELL_MAX), ..more };
        match self.0.binary_search_by_key(&more.cell, |known| known.cell) {
            Ok(i) => {
                let known = &mut self.0[i];
                known.rows = known.rows.saturating_add(more.rows);
                known.ratings = known.ratings.saturating_add(more.ratings);
                known.errors = known.errors.saturating_add(more.errors);
                known.squares = known.squares.saturating_add(more.squares);
            }
            Err(i) => self.0.insert(i, more),
        }
    }

    /// What was counted.
    #[must_use]
    pub fn ratings(&self) -> &[RatingErrors] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_middle_of_a_bin_is_in_it(number in 0..BINS as u32) {
            prop_assert_eq!(bin(middle(number)), number as usize);
        }

        /// Whatever they are grouped into, rows and clicks are as many as before, and probabilities are those of the outputs.
        #[test]
        fn groups_hold_all_rows_in_order(
            rows in proptest::collection::vec((-6.0f32..6.0, any::<bool>()), 1..400),
            n in 1u64..50,
        ) {
            let outputs: Vec<f32> = rows.iter().map(|row| row.0).collect();
            let labels: Vec<f32> = rows.iter().map(|row| f32::from(row.1)).collect();
            let mut predicted = outputs.clone();
            probabilities(Simd::Portable, &mut predicted);
            let mut tally = Tally::default();
            tally.add(&outputs, &predicted, &labels);
            let groups = tally.groups(n);
            prop_assert!(groups.len() as u64 <= n);
            prop_assert_eq!(groups.iter().map(|g| g.rows).sum::<u64>(), rows.len() as u64);
            prop_assert_eq!(groups.iter().map(|g| g.clicks).sum::<u64>(), rows.iter().filter(|row| row.1).count() as u64);
            prop_assert!(groups.windows(2).all(|pair| pair[0].predicted <= pair[1].predicted));
            let sum = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / rows.len() as f64;
            let by_groups = sum(&mut groups.iter().map(|g| g.predicted * g.rows as f64));
            let by_rows = sum(&mut predicted.iter().map(|&p| f64::from(p)));
            prop_assert!((by_groups - by_rows).abs() < 2e-4, "{} {}", by_groups, by_rows);
        }

        /// By hand, whatever the mean, and the same in any order and by any number of workers.
        #[test]
        fn errors_are_those_of_each_rating(
            rows in proptest::collection::vec((0u8..10, -4.0f32..4.0), 1..200),
            mean in 0.5f32..5.0,
            at: usize,
        ) {
            let ratings: Vec<f32> = rows.iter().map(|row| f32::from(row.0) / 2.0 - mean).collect();
            let errors: Vec<f32> = rows.iter().map(|row| row.1).collect();
            let mut tally = RatingTally::default();
            tally.add(&ratings, &errors);
            for counted in tally.ratings() {
                let here = ratings.iter().zip(&errors).filter(|(r, _)| (f64::from(**r) - counted.rating()).abs() < 0.01);
                let of: Vec<f64> = here.map(|(_, e)| f64::from(*e)).collect();
                let n = of.len() as f64;
                prop_assert_eq!(counted.rows, of.len() as u64);
                prop_assert!((counted.mean() - of.iter().sum::<f64>() / n).abs() < 1e-6);
                prop_assert!((counted.rmse() - (of.iter().map(|e| e * e).sum::<f64>() / n).sqrt()).abs() < 1e-3);
            }
            let at = at % rows.len();
            let [mut late, mut early] = [RatingTally::default(), RatingTally::default()];
            late.add(&ratings[at..], &errors[at..]);
            early.add(&ratings[..at], &errors[..at]);
            early.ratings().iter().for_each(|&more| late.add_all(more));
            prop_assert_eq!(late, tally);
        }

        #[test]
        fn bins_keep_the_order_and_are_narrow(a: f32, b: f32, near in -20.0f32..20.0) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            for (a, b) in [(a, b), (near, b), (near, near + 1e-3)] {
                prop_assert!(bin(a) < BINS && bin(b) < BINS);
                prop_assert!(bin(a.min(b)) <= bin(a.max(b)), "{a} {b}");
            }
            prop_assert_ne!(bin(near), bin(near + near.abs().max(1.0) * 2e-3));
        }
    }

    /// However many different ratings there are, what is counted stays small.
    #[test]
    fn ratings_of_any_value_share_cells() {
        let ratings: Vec<f32> =
            (0..100_000u32).map(|i| i as f32 / 10_000.0 - 5.0).chain([f32::MAX, f32::NAN]).collect();
        let mut tally = RatingTally::default();
        tally.add(&ratings, &vec![1.0; ratings.len()]);
        assert_eq!(tally.ratings().len(), 81);
        assert!(tally.ratings().iter().all(|counted| counted.mean() == 1.0 && counted.rmse() == 1.0));
    }

    #[test]
    fn there_is_a_bin_for_every_output() {
        let outputs =
            [f32::NEG_INFINITY, -1e30, -17.0, -16.0, -15.999, -1e-3, -1e-9, 0.0, 1e-3, 16.0, 17.0, f32::INFINITY];
        let bins: Vec<usize> = outputs.iter().map(|&z| bin(z)).collect();
        assert!(bins.is_sorted() && bins[0] == 0 && bins[11] == BINS - 1, "{bins:?}");
        assert_eq!(bin(-0.0), bin(0.0));
        assert!(bin(f32::NAN) < BINS);
    }
}
