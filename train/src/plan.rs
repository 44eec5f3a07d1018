//! What was typed, resolved against the manifest into a plan that can be carried out.

use std::time::Duration;

use manifests::digest::digest;
use manifests::load::{self, Shards};
use manifests::place::Place;
use schemas::dataset::{BaselineRmse, Digest, Layout, Ratings};
use schemas::report::{PmfSettings, Reduce};
use train_core::factors::FACTORS_MAX;

use crate::cli::TrainArgs;
use crate::error::Error;

/// Everything that is needed to train.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The mini-batches.
    pub shards: Shards,
    /// The manifest's layout.
    pub ratings: Ratings,
    /// What the result depends on besides the manifest.
    pub settings: PmfSettings,
    /// The learning rate that is used when none is given.
    pub safe_learning_rate: f64,
    /// Worker threads.
    pub workers: u32,
    /// When to end.
    pub limits: Limits,
    /// Where the run goes.
    pub out: Place,
    /// Name of the run, in messages and keys.
    pub run: String,
    /// Identity of the run: of manifest, settings and limits.
    pub identity: Digest,
    /// Overwrite another run at `out`.
    pub replace: bool,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// When to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// After this many epochs.
    pub max_epochs: u64,
    /// After this much time.
    pub max_time: Option<Duration>,
    /// At this training RMSE.
    pub target_loss: Option<f64>,
    /// At this held-out RMSE.
    pub target_holdout_loss: Option<f64>,
    /// After this many epochs without a better held-out RMSE.
    pub patience: Option<u64>,
}

/// What the thesis trains with on MovieLens 10M and 20M: 8.0 with momentum 0.8, that is 40 once the momentum has added up.
const LEARNING_RATE_SUM: f64 = 40.0;

/// For data sets of fewer rows than this, half of it.
const SMALL_ROWS: u64 = 5_000_000;

/// Most of a row's error that one rating of a mini-batch may correct, once the momentum has added up.
const RATING_STEP_MAX: f64 = 0.02;

impl Plan {
    /// Resolves `args`: reads the manifest and fills in the defaults.
    ///
    /// # Errors
    /// When the manifest cannot be read or the settings do not fit it or each other.
    pub fn resolve(args: &TrainArgs) -> Result<Self, Error> {
        let path = args.manifest.as_deref().unwrap_or_default();
        let shards = load::shards(path)?;
        let Layout::Ratings(ratings) = &shards.manifest.layout else {
            let problem = format!("{path} is of the kind `{}`, which has no model yet", shards.manifest.layout.kind());
            return Err(usage(&problem, "train on a manifest of the kind `ratings`"));
        };
        let ratings = ratings.clone();
        if shards.manifest.rows == 0 {
            return Err(usage("the manifest has no training rows", "make one with `shard` from data that has some"));
        }
        let workers = match args.workers {
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        };
        let step_batches = args.step_batches.unwrap_or(workers);
        let reduce = Reduce::from(args.reduce);
        let batch_rows = shards.manifest.shuffle.batch_rows.min(shards.manifest.rows);
        let safe_learning_rate = safe_learning_rate(shards.manifest.rows, batch_rows, args.momentum);
        let settings = PmfSettings {
            seed: args.seed,
            factors: args.factors,
            biases: args.biases,
            learning_rate: args.learning_rate.unwrap_or(safe_learning_rate),
            momentum: args.momentum,
            l2: args.l2,
            step_batches,
            reduce,
        };
        check(&settings)?;
        let limits = Limits {
            max_epochs: args.max_epochs,
            max_time: args.max_time,
            target_loss: args.target_loss,
            target_holdout_loss: args.target_holdout_loss,
            patience: args.patience.or((shards.manifest.holdout_rows > 0).then_some(3)),
        };
        let warnings = check_limits(&limits, args, &shards, &ratings)?;
        let identity = identity(&shards.digest, &settings, &limits);
        let run = format!("{}-pmf-{}", shards.manifest.name, &identity.hex()[..8]);
        let out = Place::parse(args.out.as_deref().unwrap_or(&format!("runs/{run}")))?;
        Ok(Self {
            shards,
            ratings,
            settings,
            safe_learning_rate,
            workers,
            limits,
            out,
            run,
            identity,
            replace: args.replace,
            warnings,
        })
    }

    /// The baselines to hold the model against: on the held-out rows, or on the training rows when none are held out.
    #[must_use]
    pub fn baselines(&self) -> BaselineRmse {
        let baselines = self.ratings.baselines;
        baselines.holdout.unwrap_or(baselines.train)
    }
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

fn identity(manifest: &Digest, settings: &PmfSettings, limits: &Limits) -> Digest {
    let settings = serde_json::to_string(settings).expect("settings are JSON");
    digest(format!("run 1 {manifest} {settings} {limits:?}").as_bytes())
}

fn usage(problem: impl Into<String>, fix: &str) -> Error {
    Error::Usage { problem: problem.into(), fix: fix.to_owned() }
}

fn check(s: &PmfSettings) -> Result<(), Error> {
    if !(1..=FACTORS_MAX as u32).contains(&s.factors) {
        return Err(usage(format!("--factors {} is outside 1..={FACTORS_MAX}", s.factors), "20 is the usual number"));
    }
    if !(0.0..=0.9999).contains(&s.momentum) {
        return Err(usage(format!("--momentum {} is outside 0..=0.9999", s.momentum), "0.8 is the default"));
    }
    if !(s.learning_rate > 0.0 && s.learning_rate <= 1e6) {
        return Err(usage(
            format!("--learning-rate {} is not above 0 and at most 1e6", s.learning_rate),
            "leave it out for the default",
        ));
    }
    if !(0.0..=1e3).contains(&s.l2) {
        return Err(usage(format!("--l2 {} is outside 0..=1000", s.l2), "0.02 is a usual weight"));
    }
    Ok(())
}

fn check_limits(limits: &Limits, args: &TrainArgs, shards: &Shards, ratings: &Ratings) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    if shards.manifest.holdout_rows == 0 {
        for (flag, given) in
            [("--target-holdout-loss", args.target_holdout_loss.is_some()), ("--patience", args.patience.is_some())]
        {
            if given {
                let problem = format!("{flag} needs held-out rows, and `{}` has none", shards.name);
                return Err(usage(problem, "prepare the data with `--holdout 0.1`"));
            }
        }
    }
    let holdout = ratings.baselines.holdout;
    let pairs = [
        ("--target-loss", limits.target_loss, Some(ratings.baselines.train.mean)),
        ("--target-holdout-loss", limits.target_holdout_loss, holdout.map(|b| b.mean)),
    ];
    for (flag, target, mean) in pairs {
        let (Some(target), Some(mean)) = (target, mean) else { continue };
        if !(target > 0.0 && target.is_finite()) {
            return Err(usage(
                format!("{flag} {target} is not a positive number"),
                "give an RMSE in stars, for example 0.85",
            ));
        }
        if target >= mean {
            warnings.push(format!("{flag} {target} is no better than always predicting the mean ({mean:.4})"));
        }
    }
    Ok(warnings)
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
