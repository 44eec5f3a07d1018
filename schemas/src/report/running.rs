//! The reports on runs that are not about their models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::Digest;

/// A page of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PageReport {
    /// `train` and its version.
    pub tool: String,
    /// The places of the runs.
    pub runs: Vec<String>,
    /// The page.
    pub output: String,
    /// The files of the charts.
    pub charts: Vec<String>,
    /// Bytes written.
    pub bytes_written: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// With how many workers a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleReport {
    /// `train` and its version.
    pub tool: String,
    /// The place of the run.
    pub output: String,
    /// Workers from now on.
    pub workers: u32,
}

/// Whether a run counted every mini-batch exactly once in every epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunVerifyReport {
    /// `train` and its version.
    pub tool: String,
    /// The place of the run.
    pub run: String,
    /// The manifest.
    pub manifest: String,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// True: of a run that did not, an error is told instead.
    pub whole: bool,
    /// Steps.
    pub steps: u64,
    /// Whole epochs.
    pub epochs: u64,
    /// Mini-batches that counted, in all epochs.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Workers whose gradients counted.
    pub workers: u64,
    /// Lives of these workers.
    pub lives: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}
