//! What a model must know to score new rows: how the rows that it was trained on were prepared. `train` puts it beside the model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{Digest, Layout};

/// The `format` field of a [`Preparation`].
pub const FORMAT: &str = "gristmill.preparation";
/// The newest version of [`Preparation`] that this build reads and the one it writes.
pub const VERSION: u32 = 1;
/// The object that holds the [`Preparation`], under the run's place.
pub const PREPARATION_KEY: &str = "preparation.json";

/// How rows are prepared for a model. Keys are relative to the place of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Preparation {
    /// Always `gristmill.preparation`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// Digest of the manifest that the model was trained on.
    pub manifest_digest: Digest,
    /// Kind, columns and fitted statistics, with the tables that belong to them.
    pub layout: Layout,
}
