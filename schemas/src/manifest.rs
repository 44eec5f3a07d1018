//! The manifest that `shard` writes last: where the mini-batches lie and everything `train` needs to use them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{Digest, Holdout, Layout, Object, Source};

/// The `format` field of a [`Manifest`].
pub const FORMAT: &str = "gristmill.manifest";
/// The newest version of [`Manifest`] that this build reads and the one it writes.
pub const VERSION: u32 = 1;

/// A shuffled dataset, cut into mini-batches.
///
/// `L` rows in batches of at most `B` make `ceil(L / B)` batches whose sizes differ by at most one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Always `gristmill.manifest`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// Tool and version that wrote it.
    pub tool: String,
    /// Short name of the dataset.
    pub name: String,
    /// The raw input, as in the dataset's descriptor.
    pub source: Source,
    /// Digest of the descriptor the batches were made from.
    pub dataset_digest: Digest,
    /// Kind, columns and fitted statistics, with id maps that lie under `base`.
    pub layout: Layout,
    /// How the rows were held out.
    pub holdout: Option<Holdout>,
    /// How the rows were put in order.
    pub shuffle: Shuffle,
    /// Where all keys are relative to: a path relative to this file, or an absolute one.
    pub base: String,
    /// Training rows: the sum over `batches`.
    pub rows: u64,
    /// Held-out rows: the sum over `holdout_batches`.
    pub holdout_rows: u64,
    /// Mini-batches of training rows. A batch's position here is its index in the training order.
    pub batches: Vec<Object>,
    /// Mini-batches of held-out rows.
    pub holdout_batches: Vec<Object>,
}

/// Which rows share a mini-batch, and in which order they lie in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shuffle {
    /// Root seed of the permutation of the training rows.
    pub seed: u64,
    /// Rows of a batch, at most.
    pub batch_rows: u64,
    /// Columns by which the rows inside a batch are sorted. A mini-batch is a set: its gradient is a sum over its rows, and
    /// sorted rows decode and train faster.
    pub sorted_by: Vec<String>,
}
