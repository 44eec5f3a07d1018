//! The reports on measurements: of the exchange of gradients, and of computing them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::Digest;

/// How fast workers write objects to where gradients go, and read them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExchangeBenchReport {
    /// `train` and its version.
    pub tool: String,
    /// Where the objects went, without user and password.
    pub exchange: String,
    /// One for each number of workers and size.
    pub rows: Vec<ExchangeRates>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// How fast so many workers write and read objects of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExchangeRates {
    /// Workers, each with a connection of its own.
    pub workers: u32,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Bytes of all objects that lay there at once.
    pub stored_bytes: u64,
    /// Writing.
    pub write: TransferRates,
    /// Reading what another worker has written.
    pub read: TransferRates,
}

/// How fast objects were moved, by all workers together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransferRates {
    /// Objects.
    pub objects: u64,
    /// Seconds from the first beginning to the last end.
    pub seconds: f64,
    /// Millions of bytes a second.
    pub megabytes_per_second: f64,
    /// Objects a second.
    pub objects_per_second: f64,
    /// Half of the objects took at most so many milliseconds.
    pub p50_ms: f64,
    /// Of a hundred objects 99 took at most so many milliseconds.
    pub p99_ms: f64,
}

/// How many updates workers make that exchange nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComputeBenchReport {
    /// `train` and its version.
    pub tool: String,
    /// The manifest.
    pub manifest: String,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Kind of its rows.
    pub kind: String,
    /// Processors that the process may use.
    pub processors: u32,
    /// One for each number of workers.
    pub rows: Vec<ComputeRates>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// How many updates so many workers make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComputeRates {
    /// Workers, each with a replica of its own.
    pub workers: u32,
    /// Updates of all workers: each is the gradient of one mini-batch, applied to the worker's own replica.
    pub updates: u64,
    /// Seconds from the first beginning to the last end.
    pub seconds: f64,
    /// Updates a second.
    pub updates_per_second: f64,
    /// Rows a second.
    pub rows_per_second: f64,
    /// Share of the updates that there were if each worker made as many as each of the first row's.
    pub share_of_ideal: f64,
}
