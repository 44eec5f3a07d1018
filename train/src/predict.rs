//! `train predict`: scores rows with a trained model, in order, with memory that does not depend on their number.
//!
//! Blocks of text, or parts of a dataset, are decoded and scored by several threads; their predictions are written, and the losses
//! added up, by one, in the order of the rows. [`clicks`] and [`ratings`] know the two kinds of rows, [`destination`] and
//! [`sink`] how predictions are written.

mod clicks;
mod destination;
mod ratings;
mod sink;

use std::io::ErrorKind::BrokenPipe;
use std::time::Instant;

use manifests::load::{self, Dataset};
use manifests::place::Place;
use raw::source;
use reporting::{Console, count};
use schemas::dataset::DESCRIPTOR_KEY;
use schemas::manifest::Batch;
use schemas::report::{ClickQuality, KnownPairs, PredictReport, Predicted, RatingQuality, Split};

use crate::error::Error;
use crate::plan::scoring::{Input, Predict};
use crate::saved::{Model, Run, like};
use crate::{TOOL, output};

use destination::Destination;

/// What all kinds of rows need.
struct Job<'a> {
    plan: &'a Predict,
    run: &'a Run,
    console: &'a Console,
    destination: &'a Destination<'a>,
}

/// Scores the rows of `plan`. There is no report when the predictions go to standard output.
///
/// # Errors
/// When the run, the rows or the place of the predictions cannot be used, or a signal comes. A file is there whole or not at all.
pub fn run(plan: &Predict, console: &Console) -> Result<Option<PredictReport>, Error> {
    let start = Instant::now();
    let run = Run::open(&plan.run)?;
    let destination = Destination::open(plan)?;
    let job = Job { plan, run: &run, console, destination: &destination };
    let outcome = match run.model()? {
        Model::Clicks(model) => clicks::predict(&job, &model),
        Model::Ratings(model) => ratings::predict(&job, &model),
    };
    let done = match outcome {
        // Whoever reads has seen enough.
        Err(Error::File { source, .. }) if plan.out.is_none() && source.kind() == BrokenPipe => return Ok(None),
        done => done?,
    };
    summarise(&run, &done, start, console);
    let Some((output, bytes_written)) = destination.keep()? else { return Ok(None) };
    console.note(format!("predictions  {output}"));
    Ok(Some(PredictReport {
        tool: TOOL.to_owned(),
        output,
        input: done.input,
        model: run.place.to_string(),
        model_digest: run.report.model_digest.clone(),
        rows: done.rows,
        predicted: done.predicted,
        bytes_written,
        seconds: start.elapsed().as_secs_f64(),
    }))
}

/// What was scored.
struct Done {
    input: String,
    rows: u64,
    predicted: Predicted,
}

fn summarise(run: &Run, done: &Done, start: Instant, console: &Console) {
    let seconds = start.elapsed().as_secs_f64();
    let (rows, input, rate) = (count(done.rows), &done.input, count((done.rows as f64 / seconds.max(1e-9)) as u64));
    let what = match done.predicted {
        Predicted::Ratings { .. } => "pairs",
        Predicted::Clicks { .. } => "rows",
    };
    console.note(format!("scored {rows} {what} of {input} with {} in {seconds:.1} s, {rate} {what}/s", run.place));
    match &done.predicted {
        Predicted::Clicks { quality: Some(quality) } => console.note(clicks_shown(quality)),
        Predicted::Ratings { quality, known } => {
            let KnownPairs { user, item, neither, .. } = known;
            if user + item + neither > 0 {
                let (user, item, neither) = (count(*user), count(*item), count(*neither));
                console
                    .note(format!("unknown to the model: of {user} the item, of {item} the user, of {neither} both"));
            }
            quality.iter().for_each(|quality| console.note(ratings_shown(quality)));
        }
        Predicted::Clicks { quality: None } => {}
    }
}

/// `log loss 0.4512 nats, AUC 0.7812, ...`
pub(crate) fn clicks_shown(quality: &ClickQuality) -> String {
    let shown: Vec<String> = output::logistic::figures(*quality).collect();
    [vec![format!("log loss {:.4} nats", quality.log_loss)], shown].concat().join(", ")
}

/// `RMSE 0.8512 stars, mean absolute error 0.6521`
pub(crate) fn ratings_shown(RatingQuality { rmse, mae }: &RatingQuality) -> String {
    format!("RMSE {rmse:.4} stars, mean absolute error {mae:.4}")
}

/// What is scored.
enum Rows<'a> {
    Text(&'a source::Input),
    Parts(Box<Parts>),
}

impl<'a> Job<'a> {
    fn rows(&self) -> Result<Rows<'a>, Error> {
        match &self.plan.input {
            Input::Text(input) => Ok(Rows::Text(input)),
            Input::Dataset { place, train, holdout } => {
                Parts::open(self, place, *train, *holdout).map(Box::new).map(Rows::Parts)
            }
        }
    }
}

/// The parts of a dataset that are scored.
struct Parts {
    dataset: Dataset,
    descriptor: String,
    /// Number of the first row that is scored, training rows first.
    first_row: u64,
    splits: Vec<Split>,
    rows: u64,
}

impl Parts {
    /// Opens the dataset at `place`, whose rows must be prepared as the model's.
    fn open(job: &Job<'_>, place: &Place, train: bool, holdout: bool) -> Result<Self, Error> {
        let dataset = load::dataset(place)?;
        let descriptor = place.show(DESCRIPTOR_KEY);
        let d = &dataset.descriptor;
        like::check(&job.run.preparation, &d.layout, &descriptor)?;
        let rows = if train { d.rows.train } else { 0 } + if holdout { d.rows.holdout } else { 0 };
        if rows == 0 {
            let which = if train { "training" } else { "held-out" };
            let problem = format!("`{descriptor}` has no {which} rows");
            return Err(Error::Usage { problem, fix: "choose others with `--rows`".to_owned() });
        }
        let some = |count: usize, chosen: bool| if chosen { count } else { 0 };
        let mut splits = vec![Split::Train; some(d.parts.len(), train)];
        splits.resize(splits.len() + some(d.holdout_parts.len(), holdout), Split::Holdout);
        let first_row = if train { 0 } else { d.rows.train };
        Ok(Self { descriptor, first_row, splits, rows, dataset })
    }

    /// The parts in order.
    fn objects(&self) -> Vec<Batch> {
        let d = &self.dataset.descriptor;
        let all = d.parts.iter().map(|part| (Split::Train, part));
        let all = all.chain(d.holdout_parts.iter().map(|part| (Split::Holdout, part)));
        all.filter(|(split, _)| self.splits.contains(split)).map(|(_, part)| Batch::from(part.clone())).collect()
    }

    /// Number of the first held-out row.
    fn n_train(&self) -> u64 {
        self.dataset.descriptor.rows.train
    }
}
