//! The reports of `train predict`, `train evaluate` and `train recommend`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClickQuality;
use crate::dataset::{BaselineRmse, Digest};

/// What `train predict` wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictReport {
    /// `train` and its version.
    pub tool: String,
    /// The file of the predictions.
    pub output: String,
    /// What was scored.
    pub input: String,
    /// The place of the run whose model was used.
    pub model: String,
    /// `model.safetensors` of that run.
    pub model_digest: Digest,
    /// Rows that were scored.
    pub rows: u64,
    /// How good the predictions are, by the kind of the rows.
    #[serde(flatten)]
    pub predicted: Predicted,
    /// Bytes written.
    pub bytes_written: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// What was predicted, by the kind of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Predicted {
    /// Stars.
    Ratings {
        /// How good the predictions are, if the rows have ratings.
        quality: Option<RatingQuality>,
        /// What of the rows the model knows.
        known: KnownPairs,
    },
    /// Probabilities of clicks.
    Clicks {
        /// How good the predictions are, if the rows have labels.
        quality: Option<ClickQuality>,
    },
}

/// How good predicted ratings are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RatingQuality {
    /// Root mean squared error, in stars.
    pub rmse: f64,
    /// Mean absolute error, in stars.
    pub mae: f64,
}

/// Pairs by what the model knows of them. What it does not know adds nothing to the prediction, which for `neither` is the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnownPairs {
    /// User and item.
    pub both: u64,
    /// The user alone.
    pub user: u64,
    /// The item alone.
    pub item: u64,
    /// Nothing.
    pub neither: u64,
}

/// What `train evaluate` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvaluateReport {
    /// `train` and its version.
    pub tool: String,
    /// The place of the run whose model was measured.
    pub model: String,
    /// `model.safetensors` of that run.
    pub model_digest: Digest,
    /// The manifest whose rows it was measured on.
    pub manifest: String,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Which of its rows.
    pub split: Split,
    /// How many they are.
    pub rows: u64,
    /// How good the model is on them, by their kind.
    #[serde(flatten)]
    pub evaluated: Evaluated,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Rows that were trained on, or rows that were kept from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training rows.
    Train,
    /// Held-out rows.
    Holdout,
}

impl Split {
    /// Its name, as it stands in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Holdout => "holdout",
        }
    }
}

/// How good a model is on some rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evaluated {
    /// On ratings.
    Ratings {
        /// The model.
        quality: RatingQuality,
        /// The baselines on the same rows, if the manifest has them.
        baselines: Option<BaselineRmse>,
    },
    /// On click logs.
    Clicks {
        /// The model.
        quality: ClickQuality,
        /// Log loss, in nats, of always predicting the share of clicks of the manifest's training rows, on the same rows.
        base_log_loss: Option<f64>,
    },
}

/// What `train recommend` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecommendReport {
    /// `train` and its version.
    pub tool: String,
    /// The place of the run whose model was used.
    pub model: String,
    /// `model.safetensors` of that run.
    pub model_digest: Digest,
    /// The user, by the source's id.
    pub user: u32,
    /// Items that the user has rated and that were left out, if rated ones were to be.
    pub rated: Option<u64>,
    /// The best items, the best one first; of equal ones the one with the smaller id.
    pub items: Vec<RecommendedItem>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// An item that a user would like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecommendedItem {
    /// The item, by the source's id.
    pub item_id: u32,
    /// Its title, if titles were given and this one is among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Predicted rating, in stars.
    pub prediction: f32,
}
