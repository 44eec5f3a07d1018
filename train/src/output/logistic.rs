//! A logistic regression as files and in words.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, StringArray, UInt32Array};
use arrow_schema::{DataType, Field};
use manifests::scales;
use reporting::count;
use schemas::report::{ClickQuality, LrDecay, Reduce};
use train_core::logistic::weights::Weights;
use train_core::logistic::{N_NUMBERS, Space};

use super::{Files, MODEL, Tables, Tensor, parquet, safetensors};
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::logistic::Task;

/// The weight of every feature, for people and other engines.
pub const TABLES: [&str; 1] = ["weights.parquet"];

/// The features of the manifest, with the scales in `tables`.
///
/// # Errors
/// When the table of scales is wrong.
pub fn space(plan: &Plan, task: &Task, tables: &Tables) -> Result<Space, Error> {
    let n_buckets = task.form.n_buckets.unwrap_or(0);
    let scales = match tables.get("scales.parquet") {
        Some((object, bytes)) => scales::decode(n_buckets, bytes)
            .map_err(|problem| Error::Batch { place: plan.shards.place.show(&object.key), problem })?,
        None => Vec::new(),
    };
    Ok(Space::new(n_buckets, task.settings.intercept, &scales))
}

/// The model and the settings in words.
pub(super) fn announced(task: &Task) -> (String, String) {
    let settings = &task.settings;
    let features = N_NUMBERS as u64 + u64::from(task.form.n_buckets.unwrap_or(0));
    let intercept = if settings.intercept { " and an intercept" } else { "" };
    let decay = match settings.lr_decay {
        LrDecay::None => "",
        LrDecay::SqrtEpoch => " / sqrt(epoch)",
    };
    let reduce = match settings.reduce {
        Reduce::Mean => "the mean of a step's rows",
        Reduce::Sum => "the sum of a step's mini-batch means",
    };
    let words = format!(
        "Adam on {reduce}, learning rate {}{decay}, betas {} and {}, l2 {}",
        settings.learning_rate, settings.beta1, settings.beta2, settings.l2
    );
    (format!("{} features{intercept}", count(features)), words)
}

/// How good the model is, in words.
pub(super) fn summary(train: Option<f64>, holdout: Option<ClickQuality>, base: f64, epoch: &str) -> Vec<String> {
    let (rows, model) = match holdout {
        Some(quality) => ("held-out", Some(quality.log_loss)),
        None => ("training", train),
    };
    let mut lines =
        vec![format!("log loss in nats on the {rows} rows"), format!("  always the share of clicks  {base:.4}")];
    lines.extend(model.map(|loss| format!("  this model                  {loss:.4}{epoch}")));
    if let Some(quality) = holdout {
        lines.push(format!("  {}", figures(quality).collect::<Vec<_>>().join(", ")));
    }
    lines
}

/// `AUC 0.7812`, `normalised entropy 0.8431`, `calibration 1.0020`, as far as known.
pub(crate) fn figures(quality: ClickQuality) -> impl Iterator<Item = String> {
    let ClickQuality { auc, normalised_entropy, calibration, .. } = quality;
    let figures = [("AUC", auc), ("normalised entropy", normalised_entropy), ("calibration", calibration)];
    figures.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value:.4}")))
}

/// Saves the model.
///
/// # Errors
/// When a file cannot be written.
pub fn save(plan: &Plan, task: &Task, weights: &Weights, files: &mut Files<'_>) -> Result<(), Error> {
    files.put(MODEL, model(plan, weights)?)?;
    files.put(TABLES[0], table(task, weights)?)
}

/// The model as safetensors: `weights`, shape `(n_features,)`, and `intercept`, shape `(1,)`, if there is one; both f32.
fn model(plan: &Plan, weights: &Weights) -> Result<Vec<u8>, Error> {
    let mut tensors = vec![Tensor::new("weights", vec![weights.features.len()], &weights.features)];
    tensors.extend(weights.intercept.map(|intercept| Tensor::new("intercept", vec![1], &[intercept])));
    let about = serde_json::json!({
        "format": "gristmill.lr",
        "version": 1,
        "manifest": plan.shards.digest,
        "probability": "sigmoid(weights . x + intercept); feature j - 1 is Ij, feature 13 + bucket is a bucket",
    });
    safetensors(&tensors, &about)
}

/// The weights as Parquet: `name` of a number or the intercept, or `bucket`; and `weight`.
fn table(task: &Task, weights: &Weights) -> Result<Vec<u8>, Error> {
    let n_buckets = task.form.n_buckets.unwrap_or(0);
    let intercept = weights.intercept.is_some().then(|| Some("intercept".to_owned()));
    let names =
        (1..=N_NUMBERS).map(|i| Some(format!("I{i}"))).chain((0..n_buckets).map(|_| None)).chain(intercept.clone());
    let buckets = (0..N_NUMBERS).map(|_| None).chain((0..n_buckets).map(Some)).chain(intercept.map(|_| None));
    let values = weights.features.iter().chain(&weights.intercept).copied();
    let fields = vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("bucket", DataType::UInt32, true),
        Field::new("weight", DataType::Float32, false),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(names.collect::<StringArray>()),
        Arc::new(buckets.collect::<UInt32Array>()),
        Arc::new(Float32Array::from_iter_values(values)),
    ];
    parquet(fields, columns)
}
