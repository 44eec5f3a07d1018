//! The manifest that `shard` writes last: where the mini-batches lie and everything `train` needs to use them.

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::dataset::{Digest, Holdout, Layout, Object, Source};

/// The `format` field of a [`Manifest`].
pub const FORMAT: &str = "gristmill.manifest";
/// The newest version of [`Manifest`] that this build reads and the one it writes.
pub const VERSION: u32 = 2;

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
    /// Digest of the descriptor the batches were made from, without its parts (`parts` and `holdout_parts` empty, as JSON
    /// without white space): how the rows were stored before does not matter.
    pub dataset_digest: Digest,
    /// Kind, columns and fitted statistics, with id maps that lie under `base`.
    pub layout: Layout,
    /// How the rows were held out.
    pub holdout: Option<Holdout>,
    /// How the rows were put in order.
    pub shuffle: Shuffle,
    /// How many rows, about, the mini-batches of an object have together; nothing when each mini-batch is an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_object: Option<u64>,
    /// Where all keys are relative to: a path relative to this file, or an absolute one.
    pub base: String,
    /// Training rows: the sum over `batches`.
    pub rows: u64,
    /// Held-out rows: the sum over `holdout_batches`.
    pub holdout_rows: u64,
    /// Mini-batches of training rows. A batch's position here is its index in the training order.
    pub batches: Listing,
    /// Mini-batches of held-out rows.
    pub holdout_batches: Listing,
}

/// Mini-batches in order: one by one, or, when there are many, by an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Listing {
    /// Every mini-batch.
    Each(Vec<Batch>),
    /// A Parquet object with a row for each mini-batch: `key` (text), `offset` (or null), `rows`, `bytes`, and `digest`, the 16
    /// bytes that the digits stand for. Its `rows` are the number of mini-batches.
    Index(Object),
}

impl Default for Listing {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

impl From<Vec<Object>> for Listing {
    fn from(objects: Vec<Object>) -> Self {
        Self::Each(objects.into_iter().map(Batch::from).collect())
    }
}

// Derived code would try both forms and tell of neither what is wrong with it.
impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Listing;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of mini-batches or the object that is their index")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Listing, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Listing::Each)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Listing, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(object)).map(Listing::Index)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// One stored mini-batch: a Parquet file that is an object, or that lies in one with others.
///
/// An object with several mini-batches is their files one behind the other, from its first byte on without gaps and in order,
/// and a footer over all their row groups, with which the whole is a Parquet file as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// The object, relative to the manifest's base.
    pub key: String,
    /// Where in the object it begins; nothing when it is the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Digest of its bytes.
    pub digest: Digest,
}

impl From<Object> for Batch {
    fn from(Object { key, rows, bytes, digest }: Object) -> Self {
        Self { key, offset: None, rows, bytes, digest }
    }
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
