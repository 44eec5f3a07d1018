//! Layouts of click logs: a label, 13 numbers `I1..I13`, 26 categorical columns `C1..C26`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{Digest, Object};

/// Numeric columns of a click log: `I1` to `I13`.
pub const N_NUMERIC: usize = 13;
/// Categorical columns of a click log: `C1` to `C26`.
pub const N_CATEGORICAL: usize = 26;
/// Buckets that the categorical columns share unless told otherwise.
pub const HASH_BUCKETS: u32 = 1_000_000;

/// The 13 numbers, standardised. Columns: `label: f32` (when there are labels), `I1..I13: f32`, none of them null.
///
/// A missing number counts as 0, then `x' = (x - mean) / sd`; 0 where `sd` is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dense {
    /// The labels, or nothing when the source has none.
    pub labels: Option<Labels>,
    /// `I1` to `I13`; mean and standard deviation with missing numbers as 0.
    pub numeric: Vec<NumericColumn>,
    /// Digest of the descriptor whose statistics were used, when they were not fitted on the rows themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_on: Option<Digest>,
}

/// All 39 columns in a space of `13 + hash.buckets` features. Columns: `label: f32` (when there are labels),
/// `I1..I13: f32 null`, `C1..C26: u32 null`.
///
/// `Ij` is feature `j - 1` with the value `x' = (x - min) / (max - min)`, 0 where `min = max`. `Cj` holds a bucket: feature
/// `13 + bucket`, each hit worth `1 / scale`, where `scale` is what `scales` says of the bucket, else 1. Null is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sparse {
    /// The labels, or nothing when the source has none.
    pub labels: Option<Labels>,
    /// `I1` to `I13`; mean and standard deviation of the numbers that are present.
    pub numeric: Vec<NumericColumn>,
    /// `C1` to `C26`.
    pub categorical: Vec<CategoricalColumn>,
    /// How a token becomes a bucket.
    pub hash: Hash,
    /// Size of the feature space: `13 + hash.buckets`.
    pub n_features: u32,
    /// Parquet object with `bucket: u32` and `scale: u32`, ascending: the buckets that a training row hits more than once, and
    /// the most hits that one row has. No such object means that there are no such buckets.
    pub scales: Option<Object>,
    /// Training rows in which some bucket is hit more than once.
    pub rows_with_collisions: u64,
    /// Values present in all rows before scaling, and as many after it.
    pub entries: u64,
    /// Digest of the descriptor whose statistics were used, when they were not fitted on the rows themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_on: Option<Digest>,
}

/// The labels of a click log: 1 for a click, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Labels {
    /// Training rows with label 1.
    pub train_positives: u64,
    /// Held-out rows with label 1.
    pub holdout_positives: u64,
    /// Log loss, in nats, of always predicting the training rows' share of clicks: on the training rows.
    pub train_base_log_loss: f64,
    /// The same on the held-out rows, if there are any.
    pub holdout_base_log_loss: Option<f64>,
}

/// What was fitted on the training rows of a numeric column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NumericColumn {
    /// `I1` to `I13`.
    pub name: String,
    /// Training rows with a value.
    pub present: u64,
    /// Smallest value, if there is any.
    pub min: Option<i64>,
    /// Largest value, if there is any.
    pub max: Option<i64>,
    /// Mean; the layout says of what.
    pub mean: f64,
    /// Population standard deviation; the layout says of what.
    pub sd: f64,
}

/// What was counted on the training rows of a categorical column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CategoricalColumn {
    /// `C1` to `C26`.
    pub name: String,
    /// Training rows with a value.
    pub present: u64,
}

/// `bucket = xxh3_64(token bytes, seed = number of the column) mod buckets`, where `C1` has the number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hash {
    /// The hash function.
    pub function: HashFunction,
    /// Buckets, shared by all columns.
    pub buckets: u32,
}

/// A hash function of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashFunction {
    /// XXH3 with 64 bits, seeded with the number of the column.
    #[serde(rename = "xxh3-64")]
    Xxh3,
}
