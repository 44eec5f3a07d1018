//! The plan of a matrix factorisation.

use manifests::load::Shards;
use schemas::dataset::{BaselineRmse, Ratings};
use schemas::report::{PmfSettings, Reduce};
use train_core::lanes::Simd;
use train_core::pmf::factors::{FACTORS_MAX, Line};

use super::{check_learning_rate, refuse, usage};
use crate::cli::TrainArgs;
use crate::error::Error;
use crate::memory::Memory;
use crate::model::pmf::Replica;

/// What is trained, and how.
#[derive(Clone, Debug)]
pub struct Task {
    /// The manifest's layout.
    pub ratings: Ratings,
    /// What the result depends on besides the manifest.
    pub settings: PmfSettings,
    /// The learning rate that is used when none is given.
    pub safe_learning_rate: f64,
}

impl Task {
    /// Training with `settings` on the ratings of `shards`.
    #[must_use]
    pub fn new(settings: PmfSettings, shards: &Shards, ratings: &Ratings) -> Self {
        let safe_learning_rate = safe_rate_of(shards, settings.momentum);
        Self { ratings: ratings.clone(), settings, safe_learning_rate }
    }

    /// The baselines to hold the model against: on the held-out rows, or on the training rows when none are held out.
    #[must_use]
    pub fn baselines(&self) -> BaselineRmse {
        let baselines = self.ratings.baselines;
        baselines.holdout.unwrap_or(baselines.train)
    }

    /// Memory for the model.
    ///
    /// # Errors
    /// When the system does not give it.
    pub fn memory(&self) -> Result<Memory, Error> {
        Memory::new(Replica::lines(&self.settings, self.size()) * size_of::<Line>())
    }

    /// The model at its start.
    #[must_use]
    pub fn replica<'m>(&self, memory: &'m mut Memory) -> Replica<'m> {
        Replica::new(Simd::detect(), &self.settings, self.size(), memory.of())
    }

    const fn size(&self) -> (u32, u32) {
        (self.ratings.n_users, self.ratings.n_items)
    }
}

/// What the thesis trains with on MovieLens 10M and 20M: 8.0 with momentum 0.8, that is 40 once the momentum has added up.
const LEARNING_RATE_SUM: f64 = 40.0;

/// For data sets of fewer rows than this, half of it.
const SMALL_ROWS: u64 = 5_000_000;

/// Most of a row's error that one rating of a mini-batch may correct, once the momentum has added up.
const RATING_STEP_MAX: f64 = 0.02;

pub(super) fn resolve(args: &TrainArgs, step_batches: u32, shards: &Shards, ratings: &Ratings) -> Result<Task, Error> {
    let given = [
        ("--beta1", args.beta1.is_some()),
        ("--beta2", args.beta2.is_some()),
        ("--lr-decay", args.lr_decay.is_some()),
        ("--no-intercept", args.no_intercept),
    ];
    refuse(&given, "ratings")?;
    let momentum = args.momentum.unwrap_or(0.8);
    let settings = PmfSettings {
        seed: args.seed,
        factors: args.factors.unwrap_or(20),
        biases: args.biases,
        learning_rate: args.learning_rate.unwrap_or_else(|| safe_rate_of(shards, momentum)),
        momentum,
        l2: args.l2,
        step_batches,
        reduce: args.reduce.map_or(Reduce::Sum, Reduce::from),
    };
    check(&settings)?;
    Ok(Task::new(settings, shards, ratings))
}

fn safe_rate_of(shards: &Shards, momentum: f64) -> f64 {
    let batch_rows = shards.manifest.shuffle.batch_rows.min(shards.manifest.rows);
    safe_learning_rate(shards.manifest.rows, batch_rows, momentum)
}

/// The learning rate that is used when none is given: the thesis's, or less where that could diverge.
///
/// `(1 - momentum) min(40 or 20, batch_rows / 50)`: 40 from 5 million training rows on, 20 below. With momentum 0.8 and
/// mini-batches of 12,000 that is 8 on MovieLens 10M and larger and 4 on the smaller sets. The second bound keeps what one
/// rating moves its rows by at a quarter of where runs began to diverge (measured at batch sizes 500 to 12,000 and momentum
/// 0.8 and 0.9: between 0.08 and 0.16).
#[must_use]
pub fn safe_learning_rate(rows: u64, batch_rows: u64, momentum: f64) -> f64 {
    let sum = if rows < SMALL_ROWS { LEARNING_RATE_SUM / 2.0 } else { LEARNING_RATE_SUM };
    let rate = (1.0 - momentum) * sum.min(RATING_STEP_MAX * batch_rows as f64);
    // Three digits, so that the number that is printed is the number that is used.
    let scale = 10f64.powi(2 - rate.log10().floor() as i32);
    (rate * scale).round() / scale
}

fn check(s: &PmfSettings) -> Result<(), Error> {
    if !(1..=FACTORS_MAX as u32).contains(&s.factors) {
        return Err(usage(format!("--factors {} is outside 1..={FACTORS_MAX}", s.factors), "20 is the usual number"));
    }
    if !(0.0..=0.9999).contains(&s.momentum) {
        return Err(usage(format!("--momentum {} is outside 0..=0.9999", s.momentum), "0.8 is the default"));
    }
    check_learning_rate(s.learning_rate, 1e6)?;
    if !(0.0..=1e3).contains(&s.l2) {
        return Err(usage(format!("--l2 {} is outside 0..=1000", s.l2), "0.02 is a usual weight"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::safe_learning_rate;

    #[test]
    fn the_default_is_the_thesis_s_on_large_sets_and_less_on_small_ones() {
        assert_eq!(safe_learning_rate(20_000_263, 12_000, 0.8), 8.0);
        assert_eq!(safe_learning_rate(10_000_054, 6_250, 0.8), 8.0);
        assert_eq!(safe_learning_rate(1_000_209, 12_000, 0.8), 4.0);
        assert_eq!(safe_learning_rate(90_752, 500, 0.8), 2.0);
        assert_eq!(safe_learning_rate(90_752, 500, 0.95), 0.5);
    }
}
