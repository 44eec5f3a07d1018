//! What a run costs: prices, what was used, what it comes to, and what is predicted of runs that were not begun.
//!
//! All money is in US dollars.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::Digest;

/// The `format` field of [`Prices`].
pub const PRICES_FORMAT: &str = "gristmill.prices";
/// The newest version of [`Prices`] that this build reads.
pub const PRICES_VERSION: u32 = 1;

/// The prices of one region at one date, in US dollars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Always `gristmill.prices`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// When they were looked up, as `2026-11-23`.
    pub date: String,
    /// Where they hold, as `us-east-1`.
    pub region: String,
    /// Where they are from, and for which services, in words.
    pub sources: Vec<String>,
    /// Lambda, a GB of memory for a second, on x86_64.
    pub lambda_x86_64_gb_second: f64,
    /// Lambda, a GB of memory for a second, on arm64.
    pub lambda_arm64_gb_second: f64,
    /// Lambda, a million requests.
    pub lambda_million_requests: f64,
    /// S3, a thousand requests that write or list.
    pub s3_thousand_puts: f64,
    /// S3, a thousand requests that read.
    pub s3_thousand_gets: f64,
    /// A Redis server for an hour.
    pub redis_hour: f64,
    /// A RabbitMQ broker for an hour.
    pub broker_hour: f64,
}

/// What the processors of functions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Architecture {
    /// Intel's and AMD's.
    #[default]
    #[serde(rename = "x86_64")]
    X86,
    /// Graviton.
    #[serde(rename = "arm64")]
    Arm,
}

impl Architecture {
    /// What AWS calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        }
    }
}

/// What a run has used of what costs money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Gigabytes of the functions' memory (1,024 MB each) times seconds that they are billed for.
    pub gb_seconds: f64,
    /// Functions that were begun.
    pub requests: u64,
    /// Requests to S3 that write or list.
    pub s3_puts: u64,
    /// Requests to S3 that read.
    pub s3_gets: u64,
    /// Hours of Redis: those of the run, for each server.
    pub redis_hours: f64,
    /// Hours of RabbitMQ.
    pub broker_hours: f64,
}

/// What a [`Usage`] comes to, in US dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Time of functions.
    pub compute: f64,
    /// Beginnings of functions.
    pub requests: f64,
    /// Requests to S3 that write or list.
    pub s3_puts: f64,
    /// Requests to S3 that read.
    pub s3_gets: f64,
    /// Redis.
    pub redis: f64,
    /// RabbitMQ.
    pub broker: f64,
    /// All of these.
    pub total: f64,
}

/// How long the parts of training take one thread on a whole processor, and how large what travels is. Times are medians.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// Mini-batches that were computed for it.
    pub batches: u64,
    /// To check, decode and compute a mini-batch and to encode its gradient.
    pub batch_seconds: f64,
    /// To check, decode and measure a held-out mini-batch; 0 when there are none.
    pub holdout_seconds: f64,
    /// To decode a gradient of another worker.
    pub decode_seconds: f64,
    /// To apply a step, however many gradients it has.
    pub apply_seconds: f64,
    /// To apply one gradient more.
    pub apply_gradient_seconds: f64,
    /// Where steps are reduced in slices: to decode all slices of a gradient and to reduce them.
    pub slice_seconds: f64,
    /// Where steps are reduced in slices: to decode all reduced slices and to apply them.
    pub reduced_seconds: f64,
    /// Gradients of the reduced slices that took [`Calibration::reduced_seconds`].
    pub reduced_slots: u32,
    /// Bytes of an encoded gradient.
    pub slot_bytes: u64,
    /// Bytes of an encoded gradient in slices, all of them.
    pub sliced_bytes: u64,
    /// Bytes of what some gradients reduce to, by their number, which grows.
    pub reduced: Vec<ReducedBytes>,
    /// Wall-clock seconds that it took.
    pub seconds: f64,
}

/// How large a reduced gradient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReducedBytes {
    /// Gradients that were reduced.
    pub slots: u32,
    /// Bytes of what they reduced to.
    pub bytes: u64,
}

/// What is taken for granted of functions, network and servers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assumptions {
    /// Memory of a function, in MB.
    pub memory_mb: u32,
    /// Processors of the functions.
    pub architecture: Architecture,
    /// Share of a processor that a function of one thread has, by its memory.
    pub cpu_share: f64,
    /// Bytes a second between a function and the servers, in either direction.
    pub bandwidth: f64,
    /// Bytes a second that Redis moves, read and written.
    pub redis_bandwidth: f64,
    /// Seconds from a request to its answer.
    pub latency_seconds: f64,
    /// Seconds from the request for a function to its first mini-batch.
    pub start_seconds: f64,
    /// Seconds after which a function hands over to its successor.
    pub life_seconds: f64,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
}

/// What is to be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// Training rows.
    pub rows: u64,
    /// Training mini-batches.
    pub batches: u32,
    /// Mean bytes of a training mini-batch.
    pub batch_bytes: u64,
    /// Held-out mini-batches.
    pub holdout_batches: u32,
    /// Epochs.
    pub epochs: u64,
}

/// How the gradients of a step get to all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PredictedExchange {
    /// Every worker reads the gradients of all others.
    AllToAll,
    /// Every worker reduces some slices of the parameters, and reads the other slices reduced.
    ReduceScatter,
}

/// What is predicted of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictedRun {
    /// Workers, besides the supervisor.
    pub workers: u32,
    /// Mini-batches of a step.
    pub step_batches: u32,
    /// How gradients are exchanged.
    pub exchange: PredictedExchange,
    /// Seconds of a full step: of the worker that takes longest.
    pub step_seconds: f64,
    /// Of these, reading mini-batches and computing gradients.
    pub compute_seconds: f64,
    /// Of these, waiting for network and Redis.
    pub exchange_seconds: f64,
    /// Of these, decoding, reducing and applying gradients.
    pub apply_seconds: f64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Seconds of an epoch, with the evaluation after it.
    pub epoch_seconds: f64,
    /// Training rows a second, evaluation included.
    pub rows_per_second: f64,
    /// Seconds of the run, with the start of the functions.
    pub run_seconds: f64,
    /// Lives of every function.
    pub lives: u64,
    /// What the run uses.
    pub usage: Usage,
    /// What that costs.
    pub cost: Cost,
}

/// What `train plan` predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// `train` and its version.
    pub tool: String,
    /// The manifest.
    pub manifest: String,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Kind of its rows.
    pub kind: String,
    /// What is to be trained.
    pub workload: Workload,
    /// What was measured on this machine.
    pub calibration: Calibration,
    /// What is taken for granted.
    pub assumptions: Assumptions,
    /// The prices.
    pub prices: Prices,
    /// One for each number of workers.
    pub runs: Vec<PredictedRun>,
    /// Wall-clock seconds.
    pub seconds: f64,
}
