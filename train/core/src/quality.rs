//! How good predicted probabilities of clicks are.
//!
//! Outputs are counted in narrow bins, clicks and others apart. Counts can be added in any order, so workers count their own
//! rows and the sum is the same whoever counted what.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
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
