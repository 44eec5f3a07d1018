//! `train evaluate`: the metrics of a finished model on the mini-batches of a manifest.
//!
//! Losses are added up as in training, mini-batch by mini-batch in their order, so that the figures of a run come out again.

use std::time::Instant;

use manifests::clicks::{CodedRows, Form, decode_coded};
use manifests::load::{self, Shards};
use manifests::ratings::{self, RatingRows};
use reporting::{Console, Progress, count};
use schemas::dataset::BaselineRmse;
use schemas::manifest::Batch;
use schemas::report::{EvaluateReport, Evaluated, RatingQuality, Split};
use train_core::logistic::gradient::loss;
use train_core::quality::Tally;

use crate::TOOL;
use crate::error::Error;
use crate::model::click_quality;
use crate::plan::scoring::Evaluate;
use crate::predict::{clicks_shown, ratings_shown};
use crate::saved::logistic::{Scores, Scratch};
use crate::saved::{Model, Run, like, logistic, pmf};
use crate::stored::Objects;

/// Measures the model of `plan`.
///
/// # Errors
/// When the run or the manifest cannot be used, the manifest has no such rows, or a signal comes.
pub fn run(plan: &Evaluate, console: &Console) -> Result<EvaluateReport, Error> {
    let start = Instant::now();
    let run = Run::open(&plan.run)?;
    let shards = load::shards(&plan.manifest)?;
    let manifest = &shards.manifest;
    like::check(&run.preparation, &manifest.layout, &shards.name)?;
    let (batches, rows, which, other) = match plan.split {
        Split::Train => (&shards.batches, manifest.rows, "training", "holdout"),
        Split::Holdout => (&shards.holdout_batches, manifest.holdout_rows, "held-out", "train"),
    };
    if rows == 0 {
        let problem = format!("`{}` has no {which} rows", shards.name);
        return Err(Error::Usage { problem, fix: format!("measure the others, with `--rows {other}`") });
    }
    let model = run.model()?;
    let progress = console.progress("measuring", Some(rows), "rows");
    let objects = objects_of(&shards, batches.iter(), batches.len(), plan.threads, &progress);
    let evaluated = match &model {
        Model::Clicks(model) => clicks(model, objects, &shards, plan.split),
        Model::Ratings(model) => stars(model, objects, &shards, plan.split),
    };
    progress.finish();
    let evaluated = evaluated?;
    let (n, name, place) = (count(rows), &shards.name, &run.place);
    console.note(format!("{place} on {n} {which} rows of {name}: {}", shown(&evaluated)));
    Ok(EvaluateReport {
        tool: TOOL.to_owned(),
        model: run.place.to_string(),
        model_digest: run.report.model_digest.clone(),
        manifest: shards.name.clone(),
        manifest_digest: shards.digest.clone(),
        split: plan.split,
        rows,
        evaluated,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The means to read `count` mini-batches of `shards`.
pub(crate) fn objects_of<'a>(
    shards: &'a Shards,
    batches: impl Iterator<Item = Batch> + Send + 'static,
    count: usize,
    threads: usize,
    progress: &'a Progress,
) -> Objects<'a> {
    let objects = Box::new(batches);
    Objects { place: &shards.place, named_by: &shards.name, objects, count, threads, progress }
}

fn shown(evaluated: &Evaluated) -> String {
    match evaluated {
        Evaluated::Clicks { quality, base_log_loss } => {
            let base = base_log_loss.map_or(String::new(), |base| format!("; always the share of clicks {base:.4}"));
            clicks_shown(quality) + &base
        }
        Evaluated::Ratings { quality, baselines } => {
            let known = |BaselineRmse { mean, effects }: BaselineRmse| {
                format!("; always the mean {mean:.4}, user and movie effects {effects:.4}")
            };
            ratings_shown(quality) + &baselines.map_or(String::new(), known)
        }
    }
}

/// What a thread makes of a mini-batch of clicks.
#[derive(Default)]
struct ClickBatch {
    scores: Scores,
    labels: Vec<f32>,
    loss_sum: f64,
}

fn clicks(model: &logistic::Model, objects: Objects<'_>, shards: &Shards, split: Split) -> Result<Evaluated, Error> {
    let layout = &shards.manifest.layout;
    let (Some(form), Some(labels)) = (Form::of(layout), layout.labels()) else {
        let problem = format!("the rows of `{}` have no labels", shards.name);
        return Err(Error::Usage { problem, fix: "score them with `train predict`".to_owned() });
    };
    let work = |(rows, scratch): &mut (CodedRows, Scratch), _, bytes, batch: &mut ClickBatch| {
        decode_coded(form, bytes, rows)?;
        model.score_coded(form, rows, scratch, &mut batch.scores);
        batch.labels.clone_from(&rows.labels);
        batch.loss_sum = loss(model.simd(), &batch.scores.outputs, &batch.labels);
        Ok(rows.len)
    };
    let (mut tally, mut loss_sum, mut rows) = (Tally::default(), 0.0, 0);
    objects.each(work, |batch, _| {
        tally.add(&batch.scores.outputs, &batch.scores.probabilities, &batch.labels);
        loss_sum += batch.loss_sum;
        rows += batch.labels.len() as u64;
        Ok(())
    })?;
    let quality = click_quality(&tally, loss_sum, rows);
    let base_log_loss = match split {
        Split::Train => Some(labels.train_base_log_loss),
        Split::Holdout => labels.holdout_base_log_loss,
    };
    Ok(Evaluated::Clicks { quality, base_log_loss })
}

/// What a thread makes of a mini-batch of ratings: its rows, and the sums of squared and of absolute errors.
type RatingErrors = (u64, [f64; 2]);

fn stars(model: &pmf::Model, objects: Objects<'_>, shards: &Shards, split: Split) -> Result<Evaluated, Error> {
    let work = |(rows, outputs): &mut (RatingRows, Vec<f32>), _, bytes, batch: &mut RatingErrors| {
        ratings::decode(bytes, rows)?;
        model.check(&rows.users, &rows.items)?;
        model.outputs(&rows.users, &rows.items, outputs);
        let mut sums = [0.0; 2];
        for (output, rating) in outputs.iter().zip(&rows.ratings) {
            let error = f64::from(output - rating);
            sums[0] += error * error;
            sums[1] += error.abs();
        }
        *batch = (rows.len() as u64, sums);
        Ok(rows.len())
    };
    let (mut rows, mut sums) = (0, [0.0; 2]);
    objects.each(work, |(more, [squared, absolute]), _| {
        rows += more;
        sums = [sums[0] + squared, sums[1] + absolute];
        Ok(())
    })?;
    let [squared, absolute] = sums.map(|sum: f64| sum / rows as f64);
    let baselines: Option<BaselineRmse> = shards.manifest.layout.ratings().and_then(|ratings| match split {
        Split::Train => Some(ratings.baselines.train),
        Split::Holdout => ratings.baselines.holdout,
    });
    Ok(Evaluated::Ratings { quality: RatingQuality { rmse: squared.sqrt(), mae: absolute }, baselines })
}
