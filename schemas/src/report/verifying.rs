//! The report on whether stored objects are as they should be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::Digest;

/// Whether what a manifest names is there and as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// `shard` and its version.
    pub tool: String,
    /// The manifest.
    pub manifest: String,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// True when nothing is missing, damaged or foreign.
    pub whole: bool,
    /// Objects that the manifest names.
    pub objects: u64,
    /// Mini-batches, held-out ones included.
    pub batches: u64,
    /// Rows, held-out ones included.
    pub rows: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects that are not there.
    pub missing: Found,
    /// Objects that are not what the manifest says.
    pub damaged: Found,
    /// Objects beside the manifest's own that it does not name.
    pub foreign: Found,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Objects that something is wrong with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// The first of them, 20 at most: each with what is wrong when that differs between them.
    pub first: Vec<String>,
}
