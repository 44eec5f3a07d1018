//! How good predicted probabilities of clicks are.
//!
//! Outputs are counted in bins of a thousandth of a unit of the logit, clicks and others apart. Counts can be added in any order, so
//! workers count their own rows and the sum is the same whoever counted what.

/// Bins for each unit of the output.
const BINS_A_UNIT: f32 = 1024.0;
/// Outputs beyond this, to either side, count as this: probabilities of 1e-7 and less.
const OUTPUT_MAX: f32 = 16.0;
/// How many bins there are.
const BINS: usize = 2 * (OUTPUT_MAX as usize) * (BINS_A_UNIT as usize);

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
    /// counted half (Hanley and McNeil, *Radiology* 143, 1982). Outputs that differ by less than a thousandth may count as tied. `None`
    /// when there are no such pairs.
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
            let bin = ((z + OUTPUT_MAX) * BINS_A_UNIT) as usize;
            self.bins[bin.min(BINS - 1)][usize::from(y == 0.0)] += 1;
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
