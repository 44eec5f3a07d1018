//! The one line of JSON that each tool prints last on standard output, and the `report.json` of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{BaselineRmse, Digest, RowCounts};

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
    /// The model's kind.
    pub model: String,
    /// Everything the result depends on besides the manifest.
    pub settings: PmfSettings,
    /// Worker threads; the result does not depend on it.
    pub workers: u32,
    /// Why the run ended.
    pub stopped_by: StopReason,
    /// Steps that were applied.
    pub steps: u64,
    /// Whole epochs that were finished.
    pub epochs: u64,
    /// Epoch (from 0) whose model was kept: the best on held-out rows, else the last.
    pub model_epoch: Option<u64>,
    /// Root mean squared error, in stars, over the training rows of the last whole epoch, each taken before its step.
    pub train_rmse: Option<f64>,
    /// Root mean squared error, in stars, of the kept model on the held-out rows.
    pub holdout_rmse: Option<f64>,
    /// The baselines on the held-out rows, or on the training rows when none are held out.
    pub baselines: BaselineRmse,
    /// `model.safetensors` of the run.
    pub model_digest: Digest,
    /// Digest of steps, epochs and losses: equal for equal runs whatever the number of workers.
    pub history_digest: Digest,
    /// Training rows a second over the steps, without start, evaluation and saving.
    pub rows_per_second: f64,
    /// Wall-clock seconds from start to report.
    pub seconds: f64,
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
