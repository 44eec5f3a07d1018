//! The descriptor that `prep` writes last beside its Parquet parts: what the rows are and what was fitted on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clicks::{Dense, Labels, Sparse};

/// The `format` field of a [`Descriptor`].
pub const FORMAT: &str = "gristmill.dataset";
/// The newest version of [`Descriptor`] that this build reads and the one it writes.
pub const VERSION: u32 = 1;
/// The object that holds the [`Descriptor`], under the dataset's place.
pub const DESCRIPTOR_KEY: &str = "dataset.json";

/// A prepared dataset. Keys are relative to the place of the descriptor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Descriptor {
    /// Always `gristmill.dataset`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// Tool and version that wrote it.
    pub tool: String,
    /// Short name, used for the conventional places of the next tools.
    pub name: String,
    /// What was read.
    pub source: Source,
    /// Kind of rows, their columns and the statistics fitted on the training rows.
    pub layout: Layout,
    /// The SQL condition that rows had to meet, if there was one. Rows that did not are counted in `rows.filtered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How many rows there are of each sort.
    pub rows: RowCounts,
    /// The rows kept from training, if any.
    pub holdout: Option<Holdout>,
    /// Parquet objects with the training rows, in row order.
    pub parts: Vec<Object>,
    /// Parquet objects with the held-out rows, in row order.
    pub holdout_parts: Vec<Object>,
    /// Rejected rows with position and reason (CSV), when bad rows were quarantined and there were any.
    pub rejects: Option<Object>,
}

/// The raw input a dataset was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// File name, without its folder; that of the first file when there are several.
    pub name: String,
    /// Recognised format, for example `movielens-csv`.
    pub format: String,
    /// Size of the text after decompression, of all files together.
    pub bytes: u64,
    /// Digest of the text after decompression. Of several files: of their digests, a line each, in order.
    pub digest: Digest,
    /// The files in order, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SourceFile>,
}

/// One of several files of the raw input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceFile {
    /// File name, without its folder.
    pub name: String,
    /// Size of the text after decompression.
    pub bytes: u64,
    /// Digest of the text after decompression.
    pub digest: Digest,
}

/// How many rows were read, kept and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowCounts {
    /// Data rows in the source: `train + holdout + rejected + filtered`.
    pub read: u64,
    /// Rows for training.
    pub train: u64,
    /// Rows held out.
    pub holdout: u64,
    /// Rows that were quarantined.
    pub rejected: u64,
    /// Rows that did not meet the filter.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filtered: u64,
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Which rows are held out: row `i` (counted from 0 in the source, rejected rows included) is held out when
/// `random::Stream::new(seed, "holdout").word(i) < fraction * 2^64`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Holdout {
    /// Share of the rows, in `(0, 1)`.
    pub fraction: f64,
    /// Root seed of the split.
    pub seed: u64,
}

/// One stored object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// Where it lies, relative to the dataset's or manifest's base.
    pub key: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Digest of its bytes.
    pub digest: Digest,
}

/// Content digest, `xxh3-128:` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Digest(#[schemars(regex(pattern = r"^xxh3-128:[0-9a-f]{32}$"))] String);

impl Digest {
    /// The digest whose 128 bits are `value`.
    #[must_use]
    pub fn from_xxh3_128(value: u128) -> Self {
        Self(format!("xxh3-128:{value:032x}"))
    }

    /// The 128 bits that the digits stand for; nothing when the text is not of that form.
    #[must_use]
    pub fn xxh3_128(&self) -> Option<u128> {
        let hex = self.0.strip_prefix("xxh3-128:")?;
        let plain = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if plain { u128::from_str_radix(hex, 16).ok() } else { None }
    }

    /// The digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hexadecimal digits after the algorithm's name.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.rsplit(':').next().unwrap_or_default()
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kind of the rows with everything a later tool must know about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Layout {
    /// `(user, item, centred rating)`, for matrix factorisation.
    Ratings(Ratings),
    /// `(label, 13 standardised numbers)`, for logistic regression.
    Dense(Dense),
    /// `(label, 13 scaled numbers, 26 buckets)`, for logistic regression.
    Sparse(Sparse),
}

impl Layout {
    /// The kind's name, as it stands in the files.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ratings(_) => "ratings",
            Self::Dense(_) => "dense",
            Self::Sparse(_) => "sparse",
        }
    }

    /// The ratings, if that is what the rows are.
    #[must_use]
    pub const fn ratings(&self) -> Option<&Ratings> {
        match self {
            Self::Ratings(ratings) => Some(ratings),
            Self::Dense(_) | Self::Sparse(_) => None,
        }
    }

    /// What is known of the labels of click logs; nothing for rows without labels, and for ratings.
    #[must_use]
    pub const fn labels(&self) -> Option<Labels> {
        match self {
            Self::Ratings(_) => None,
            Self::Dense(dense) => dense.labels,
            Self::Sparse(sparse) => sparse.labels,
        }
    }

    /// The tables that belong to the layout, each with the name it is stored under.
    #[must_use]
    pub fn tables(&self) -> Vec<(&'static str, &Object)> {
        match self {
            Self::Ratings(ratings) => vec![("users.parquet", &ratings.users), ("items.parquet", &ratings.items)],
            Self::Dense(_) => Vec::new(),
            Self::Sparse(sparse) => sparse.scales.iter().map(|scales| ("scales.parquet", scales)).collect(),
        }
    }

    /// The same layout with its tables, in the order of [`Layout::tables`], at other keys.
    ///
    /// # Panics
    /// When there are more or fewer tables than before.
    #[must_use]
    pub fn with_tables(mut self, tables: Vec<Object>) -> Self {
        let places = match &mut self {
            Self::Ratings(ratings) => vec![&mut ratings.users, &mut ratings.items],
            Self::Dense(_) => Vec::new(),
            Self::Sparse(sparse) => sparse.scales.iter_mut().collect(),
        };
        assert_eq!(places.len(), tables.len(), "a layout keeps its tables");
        places.into_iter().zip(tables).for_each(|(place, table)| *place = table);
        self
    }
}

/// Ratings with columns `user: u32`, `item: u32`, `rating: f32`. Users and items are renumbered `0..n` in ascending order
/// of their original id; `rating` is stars minus `mean`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratings {
    /// Users, held-out ones included.
    pub n_users: u32,
    /// Items (movies), held-out ones included.
    pub n_items: u32,
    /// Mean of the training ratings, in stars. A prediction in stars is `mean` plus the model's output.
    pub mean: f64,
    /// Smallest rating, in stars.
    pub rating_min: f32,
    /// Largest rating, in stars.
    pub rating_max: f32,
    /// Training rows of the user with the most.
    pub user_rows_max: u64,
    /// Training rows of the item with the most.
    pub item_rows_max: u64,
    /// Rows whose (user, item) pair had occurred before; they are kept.
    pub repeated_pairs: u64,
    /// Parquet object with `user: u32` and `user_id: u32` (original).
    pub users: Object,
    /// Parquet object with `item: u32` and `item_id: u32` (original).
    pub items: Object,
    /// What simple predictors reach, to hold a model against.
    pub baselines: Baselines,
}

/// Root mean squared error, in stars, of two predictors fitted on the training rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baselines {
    /// Shrinkage of the item effects: `b_i = sum(r - mean) / (item_shrinkage + n_i)`.
    pub item_shrinkage: f64,
    /// Shrinkage of the user effects: `b_u = sum(r - mean - b_i) / (user_shrinkage + n_u)`.
    pub user_shrinkage: f64,
    /// On the training rows.
    pub train: BaselineRmse,
    /// On the held-out rows, if there are any.
    pub holdout: Option<BaselineRmse>,
}

/// RMSE in stars of the two baselines on one set of rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineRmse {
    /// Always predicting the mean.
    pub mean: f64,
    /// Predicting `mean + b_i + b_u`.
    pub effects: f64,
}
