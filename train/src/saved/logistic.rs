//! A saved logistic regression.

use manifests::clicks::{ClickRows, CodedRows, Form};
use manifests::scales;
use schemas::clicks::N_CATEGORICAL;
use schemas::dataset::Layout;
use schemas::report::LogisticSettings;
use train_core::lanes::Simd;
use train_core::logistic::gradient::{self, outputs, probabilities};
use train_core::logistic::weights::{BLOCK, Effects, Weights};
use train_core::logistic::{Buckets, Clicks, Space};

use super::{Run, Tensors};
use crate::error::Error;
use crate::model::logistic::with_clicks;

/// A logistic regression that is ready to score rows, from any number of threads.
#[derive(Clone, Debug)]
pub struct Model {
    simd: Simd,
    space: Space,
    effects: Vec<[f32; BLOCK]>,
}

/// Buffers of one thread.
#[derive(Clone, Debug, Default)]
pub struct Scratch(gradient::Scratch);

/// What a model says of some rows.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Outputs `w . x + b`, shape `(n_rows,)`.
    pub outputs: Vec<f32>,
    /// Probabilities of a click, shape `(n_rows,)`.
    pub probabilities: Vec<f32>,
}

impl Model {
    /// The model of `run`, which has `settings` and rows of `layout`.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not what it should be.
    pub(super) fn load(run: &Run, settings: &LogisticSettings, layout: &Layout) -> Result<Self, Error> {
        let n_buckets = Form::of(layout).and_then(|form| form.n_buckets).unwrap_or(0);
        let bytes = run.model_bytes()?;
        let tensors = Tensors::new(run, &bytes)?;
        let mut scales = Vec::new();
        for (_, table) in layout.tables() {
            scales = scales::decode(n_buckets, run.table(table)?).map_err(|e| run.corrupt(&table.key, e))?;
        }
        let space = Space::new(n_buckets, settings.intercept, &scales);
        let features = tensors.get("weights", &[space.n_features()])?;
        let intercept = match settings.intercept {
            true => tensors.get("intercept", &[1])?.pop(),
            false => None,
        };
        let effects = Weights { features, intercept }.effects(&space);
        Ok(Self { simd: Simd::detect(), space, effects })
    }

    /// The instruction set that it runs on.
    #[must_use]
    pub const fn simd(&self) -> Simd {
        self.simd
    }

    /// Scores rows of text.
    pub fn score(&self, rows: &ClickRows, scratch: &mut Scratch, scores: &mut Scores) {
        let sparse = rows.buckets.iter().any(|column| !column.is_empty());
        let buckets = rows.buckets.each_ref().map(|column| Buckets::Plain(column));
        let buckets = &buckets[..if sparse { N_CATEGORICAL } else { 0 }];
        self.score_clicks(&Clicks { labels: &[], numbers: &rows.numbers, buckets }, scratch, scores);
    }

    /// Scores stored rows of `form`.
    pub fn score_coded(&self, form: Form, rows: &CodedRows, scratch: &mut Scratch, scores: &mut Scores) {
        with_clicks(form, rows, |clicks| self.score_clicks(clicks, scratch, scores));
    }

    fn score_clicks(&self, clicks: &Clicks<'_>, scratch: &mut Scratch, scores: &mut Scores) {
        let effects: Vec<&[f32; BLOCK]> = self.effects.iter().collect();
        let outputs = outputs(self.simd, &self.space, Effects::new(&effects), clicks, &mut scratch.0);
        scores.outputs.clear();
        scores.outputs.extend_from_slice(outputs);
        scores.probabilities.clone_from(&scores.outputs);
        probabilities(self.simd, &mut scores.probabilities);
    }
}
