//! The one line of JSON that each tool prints last on standard output, and the `report.json` of a run. [`scoring`] has those of what
//! is done with a trained model, [`dry_run`] that of a tool that only says what it would do, [`benches`] those of measurements.

pub mod benches;
mod doctor;
pub mod dry_run;
mod running;
pub mod scoring;
mod verifying;

use crate::cost::{Architecture, Cost, PredictedRun, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{BaselineRmse, Baselines, Digest, Holdout, RowCounts};

pub use benches::{ComputeBenchReport, ComputeRates, ExchangeBenchReport, ExchangeRates, TransferRates};
pub use doctor::{Check, CheckOutcome, DoctorReport};
pub use dry_run::{DryRunReport, Verdict, WouldRead, WouldWrite};
pub use running::{PageReport, RunVerifyReport, ScaleReport};
pub use scoring::{
    EvaluateReport, Evaluated, KnownPairs, PredictReport, Predicted, RatingQuality, RecommendReport, RecommendedItem,
    Split,
};
pub use verifying::{Found, VerifyReport};

/// What `prep` made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrepReport {
    /// `prep` and its version.
    pub tool: String,
    /// The place of the dataset.
    pub output: String,
    /// The descriptor's key under `output`.
    pub descriptor: String,
    /// True when the same dataset was already there and nothing was written.
    pub unchanged: bool,
    /// Kind of the rows.
    pub kind: String,
    /// Row counts.
    pub rows: RowCounts,
    /// Bytes written.
    pub bytes_written: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// What `prep generate` wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GenerateReport {
    /// `prep` and its version.
    pub tool: String,
    /// The file that was written.
    pub output: String,
    /// Data rows in it.
    pub rows: u64,
    /// For a click log: what a model can reach on its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<GeneratedLogLoss>,
    /// Bytes written.
    pub bytes_written: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Log loss, in nats, of two predictors on a generated click log.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratedLogLoss {
    /// Predicting the probability that each label was drawn with: no model does better in the long run.
    pub best: f64,
    /// Always predicting the share of clicks.
    pub base_rate: f64,
}

/// What `shard` made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShardReport {
    /// `shard` and its version.
    pub tool: String,
    /// The place of the mini-batches.
    pub output: String,
    /// The manifest, for `train --manifest`.
    pub manifest: String,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// True when the same shards were already there and nothing was written.
    pub unchanged: bool,
    /// Kind of the rows.
    pub kind: String,
    /// Training rows.
    pub rows: u64,
    /// Training mini-batches.
    pub batches: u64,
    /// Held-out rows.
    pub holdout_rows: u64,
    /// Held-out mini-batches.
    pub holdout_batches: u64,
    /// Objects that a run that did not come to its end had written, and that were not written again.
    #[serde(default)]
    pub objects_kept: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// The `format` field of a [`TrainReport`].
pub const RUN_FORMAT: &str = "gristmill.run";
/// The newest version of [`TrainReport`] that this build reads and the one it writes.
pub const RUN_VERSION: u32 = 1;

/// What `train` made: the last line of standard output and the `report.json` of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrainReport {
    /// Always `gristmill.run`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// `train` and its version.
    pub tool: String,
    /// The place of the run.
    pub output: String,
    /// True when the same run was already there and nothing was trained.
    pub unchanged: bool,
    /// Digest of what determines the run: manifest, settings and stop rules.
    pub identity: Digest,
    /// The manifest that was trained on.
    pub manifest: String,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// The model's kind, its settings, and how good it is.
    #[serde(flatten)]
    pub trained: Trained,
    /// Worker threads; the result does not depend on it.
    pub workers: u32,
    /// Why the run ended.
    pub stopped_by: StopReason,
    /// Steps that were applied.
    pub steps: u64,
    /// Whole epochs that were finished.
    pub epochs: u64,
    /// Epoch whose model was kept: the best on held-out rows, else the last. From 0, as in `history.csv`; on the screen epochs count
    /// from 1.
    pub model_epoch: Option<u64>,
    /// `model.safetensors` of the run.
    pub model_digest: Digest,
    /// Digest of steps, epochs and losses: equal for equal runs whatever the number of workers.
    pub history_digest: Digest,
    /// Training rows a second over the steps, without start, evaluation and saving.
    pub rows_per_second: f64,
    /// The functions that trained, and what they cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<FunctionsReport>,
    /// Wall-clock seconds from start to report.
    pub seconds: f64,
}

/// The functions of a run, and what they cost. What an earlier session of a resumed run cost is not in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionsReport {
    /// Name of the function.
    pub function: String,
    /// The published version that was invoked.
    pub version: String,
    /// Memory of each, in MB.
    pub memory_mb: u32,
    /// What their processors are.
    pub architecture: Architecture,
    /// Lives that took over from others whose time ran out.
    pub handovers: u64,
    /// Lives that took over from others which died.
    pub relaunches: u64,
    /// What was used, as the client saw it.
    pub usage: Usage,
    /// What that costs.
    pub cost: Cost,
    /// Date of the prices.
    pub prices_of: String,
    /// What was predicted for so many workers, if a prediction was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<PredictedRun>,
}

/// What was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "model")]
pub enum Trained {
    /// Probabilistic matrix factorisation, of ratings.
    #[serde(rename = "pmf")]
    Pmf {
        /// Everything the result depends on besides the manifest.
        settings: PmfSettings,
        /// Root mean squared error, in stars, over the training rows of the last whole epoch, each taken before its step.
        train_rmse: Option<f64>,
        /// Root mean squared error, in stars, of the kept model on the held-out rows.
        holdout_rmse: Option<f64>,
        /// The baselines on the held-out rows, or on the training rows when none are held out.
        baselines: BaselineRmse,
    },
    /// Logistic regression, of click logs.
    #[serde(rename = "lr")]
    Logistic {
        /// Everything the result depends on besides the manifest.
        settings: LogisticSettings,
        /// Mean log loss, in nats, over the training rows of the last whole epoch, each taken before its step.
        train_log_loss: Option<f64>,
        /// The kept model on the held-out rows.
        holdout: Option<ClickQuality>,
        /// Log loss, in nats, of always predicting the training rows' share of clicks: on the held-out rows, or on the
        /// training rows when none are held out.
        base_log_loss: f64,
    },
}

impl Trained {
    /// The training loss of the last whole epoch, if there was one: RMSE in stars, or log loss in nats.
    #[must_use]
    pub const fn train_loss(&self) -> Option<f64> {
        match self {
            Self::Pmf { train_rmse: loss, .. } | Self::Logistic { train_log_loss: loss, .. } => *loss,
        }
    }

    /// The loss of the kept model on the held-out rows, if there are any.
    #[must_use]
    pub fn holdout_loss(&self) -> Option<f64> {
        match self {
            Self::Pmf { holdout_rmse, .. } => *holdout_rmse,
            Self::Logistic { holdout, .. } => holdout.map(|quality| quality.log_loss),
        }
    }

    /// The loss of predicting the same for every row.
    #[must_use]
    pub const fn base_loss(&self) -> f64 {
        match self {
            Self::Pmf { baselines, .. } => baselines.mean,
            Self::Logistic { base_log_loss, .. } => *base_log_loss,
        }
    }
}

/// How good predicted probabilities of clicks are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClickQuality {
    /// Mean log loss in nats.
    pub log_loss: f64,
    /// Area under the ROC curve; nothing when all rows have the same label.
    pub auc: Option<f64>,
    /// Log loss divided by that of always predicting these rows' own share of clicks; nothing when all have the same label.
    pub normalised_entropy: Option<f64>,
    /// Mean probability divided by the share of clicks; nothing when there are no clicks.
    pub calibration: Option<f64>,
}

/// Settings of a logistic regression that determine its bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogisticSettings {
    /// Root seed of the order.
    pub seed: u64,
    /// Whether there is an intercept.
    pub intercept: bool,
    /// Adam's learning rate in the first epoch.
    pub learning_rate: f64,
    /// How the learning rate changes from epoch to epoch.
    pub lr_decay: LrDecay,
    /// Decay of Adam's first moments.
    pub beta1: f64,
    /// Decay of Adam's second moments.
    pub beta2: f64,
    /// Multiple of each weight, but not of the intercept, that is added to its gradient.
    pub l2: f64,
    /// Mini-batches of a step.
    pub step_batches: u32,
    /// How the mini-batches' gradients make the step's.
    pub reduce: Reduce,
}

/// How the learning rate changes from epoch to epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LrDecay {
    /// It does not.
    None,
    /// Divided by the square root of the epoch, counted from 1.
    SqrtEpoch,
}

/// Settings of a matrix factorisation that determine its bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PmfSettings {
    /// Root seed of the start and of the order.
    pub seed: u64,
    /// Factors of a user or item.
    pub factors: u32,
    /// Whether user and item biases are learnt.
    pub biases: bool,
    /// Learning rate of one mini-batch's mean gradient.
    pub learning_rate: f64,
    /// Nesterov momentum.
    pub momentum: f64,
    /// Weight of the squared norm of the two rows of each rating.
    pub l2: f64,
    /// Mini-batches of a step.
    pub step_batches: u32,
    /// How the mini-batches' gradients make the step's.
    pub reduce: Reduce,
}

/// How the gradients of a step's mini-batches are made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// Sum over all rows divided by the rows of the step: `P` batches of `B` rows equal one batch of `P * B`.
    Mean,
    /// Sum of the batches' mean gradients: a step is worth as many updates as it has batches.
    Sum,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// `--max-epochs` were finished.
    MaxEpochs,
    /// `--max-time` passed.
    MaxTime,
    /// The training loss stayed at or below `--target-loss`.
    TargetLoss,
    /// The held-out loss came to `--target-holdout-loss`.
    TargetHoldoutLoss,
    /// The held-out loss did not improve for `--patience` epochs.
    Patience,
}

/// What `prep inspect` found in a dataset: counted in its parts, unless a field says that it is the descriptor's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectReport {
    /// `prep` and its version.
    pub tool: String,
    /// The place of the dataset.
    pub dataset: String,
    /// Digest of the descriptor.
    pub digest: Digest,
    /// Name of the dataset, by the descriptor.
    pub name: String,
    /// Tool and version that made it, by the descriptor.
    pub made_by: String,
    /// Name of the raw input, by the descriptor.
    pub source: String,
    /// The condition that rows had to meet, by the descriptor.
    pub filter: Option<String>,
    /// Rows of each sort. The parts were seen to hold as many.
    pub rows: RowCounts,
    /// How rows were held out, by the descriptor.
    pub holdout: Option<Holdout>,
    /// Parts that were read, held-out ones included.
    pub parts: u64,
    /// Bytes of these parts.
    pub bytes: u64,
    /// What is in them.
    pub content: Inspected,
    /// What the descriptor says that its parts do not bear out, a sentence each. A sound dataset has none.
    pub contradictions: Vec<String>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// What was found, by the kind of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspected {
    /// In ratings.
    Ratings(InspectedRatings),
    /// In 13 standardised numbers a row.
    Dense(InspectedClicks),
    /// In 13 scaled numbers and 26 buckets a row.
    Sparse(InspectedClicks),
}

/// What was found in a click log. Columns are of the training rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedClicks {
    /// The labels, or nothing when there are none.
    pub labels: Option<InspectedLabels>,
    /// Digest of the descriptor whose statistics scaled the numbers, when it is another dataset's.
    pub fitted_on: Option<Digest>,
    /// `I1` to `I13`.
    pub numeric: Vec<InspectedNumber>,
    /// `C1` to `C26`; empty for dense rows.
    pub categorical: Vec<InspectedCategory>,
    /// All categorical columns together; nothing for dense rows.
    pub buckets: Option<InspectedBuckets>,
    /// Values that are there; nothing for dense rows, which have no others.
    pub entries: Option<InspectedEntries>,
}

/// Clicks among the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedLabels {
    /// Share of clicks among the training rows.
    pub train_clicks: f64,
    /// The same among the held-out rows, if there are any.
    pub holdout_clicks: Option<f64>,
    /// Log loss, in nats, of always predicting the training rows' share of clicks, by the descriptor: on the training rows.
    pub train_base_log_loss: f64,
    /// The same on the held-out rows, if there are any.
    pub holdout_base_log_loss: Option<f64>,
}

/// A numeric column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedNumber {
    /// `I1` to `I13`.
    pub name: String,
    /// Share of the training rows without a value: of dense rows by the descriptor, and unknown when it was fitted on others.
    pub missing: Option<f64>,
    /// Smallest raw value that the scaling was fitted on, by the descriptor.
    pub raw_min: Option<i64>,
    /// Largest raw value that the scaling was fitted on, by the descriptor.
    pub raw_max: Option<i64>,
    /// The stored values, if there are any.
    pub stored: Option<InspectedValues>,
}

/// Statistics of stored values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedValues {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub sd: f64,
}

/// A categorical column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedCategory {
    /// `C1` to `C26`.
    pub name: String,
    /// Share of the training rows without a value.
    pub missing: f64,
    /// Different buckets.
    pub buckets: u64,
    /// The most frequent bucket; of several the first. Nothing when all rows lack a value.
    pub top_bucket: Option<u32>,
    /// Share of the training rows that have it.
    pub top_share: f64,
}

/// The space that all categorical columns share, as the training rows use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedBuckets {
    /// Buckets to choose from.
    pub buckets: u32,
    /// Different buckets that some row has.
    pub used: u64,
    /// Rows in which some bucket is hit more than once.
    pub rows_with_collisions: u64,
    /// Share of these rows.
    pub share_with_collisions: f64,
    /// Expected number of different tokens, of those seen, for each bucket: that many tokens, thrown at random, use as many
    /// buckets as are used, `ln(1 - used / buckets) / ln(1 - 1 / buckets) / buckets`. Nothing when all buckets are used: the
    /// tokens could then be any number.
    pub tokens_per_bucket: Option<f64>,
}

/// Values that are not missing, in all rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedEntries {
    /// Before scaling, by the descriptor.
    pub before: u64,
    /// In the parts.
    pub after: u64,
    /// `after / before`: 1, or scaling has lost some.
    pub surviving: f64,
}

/// What was found in ratings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectedRatings {
    /// Users, held-out ones included, by the descriptor.
    pub users: u32,
    /// Items, held-out ones included, by the descriptor.
    pub items: u32,
    /// Share of all pairs of user and item that have a rating, held-out ones included; repeated ones count each time.
    pub density: f64,
    /// Mean of the training ratings, in stars, by the descriptor.
    pub mean: f64,
    /// The training ratings, in stars: those in the parts plus `mean`.
    pub stars: Option<InspectedValues>,
    /// Training rows of the user with the most.
    pub user_rows_max: u64,
    /// Training rows of the item with the most.
    pub item_rows_max: u64,
    /// Rows whose pair had occurred before, by the descriptor.
    pub repeated_pairs: u64,
    /// What simple predictors reach, by the descriptor.
    pub baselines: Baselines,
}
