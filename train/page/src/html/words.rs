//! What a page says of a run in words.

use schemas::report::{FunctionsReport, StopReason, TrainReport, Trained};

use super::compared_with;
use crate::figures::{loss_name, verdict};
use crate::number::{count, dollars, figure, large, seconds, significant, some};
use crate::run::Run;

/// A figure that matters, and what to think of it.
pub(super) struct Tile {
    /// What it is of.
    pub(super) of: String,
    /// The figure.
    pub(super) value: String,
    /// What it means.
    pub(super) note: String,
    /// Whether something is wrong with it.
    pub(super) warns: bool,
}

/// The tools that made the runs, and what the page is made of.
pub(super) fn made_by(runs: &[Run]) -> String {
    let mut tools: Vec<&str> = runs.iter().map(|run| run.report.tool.as_str()).collect();
    tools.sort_unstable();
    tools.dedup();
    format!("Made of the files of {} by {}.", if runs.len() == 1 { "the run" } else { "the runs" }, tools.join(", "))
}

/// Why a run ended.
const fn stopped(reason: StopReason) -> &'static str {
    match reason {
        StopReason::MaxEpochs => "all epochs are done",
        StopReason::MaxTime => "the time was up",
        StopReason::TargetLoss => "the target loss was reached",
        StopReason::TargetHoldoutLoss => "the target held-out loss was reached",
        StopReason::Patience => "the held-out loss no longer improved",
    }
}

const fn model(trained: &Trained) -> &'static str {
    match trained {
        Trained::Pmf { .. } => "matrix factorisation of ratings",
        Trained::Logistic { .. } => "logistic regression of click logs",
    }
}

/// The run in two sentences.
pub(super) fn lead(report: &TrainReport) -> String {
    let who = match &report.functions {
        Some(functions) => format!("{} as functions {}", some(report.workers.into(), "worker"), functions.function),
        None => some(report.workers.into(), "worker"),
    };
    format!(
        "A {} by {who} on {}: {} and {} in {}. It ended because {}.",
        model(&report.trained),
        report.manifest,
        some(report.steps, "step"),
        some(report.epochs, "whole epoch"),
        seconds(report.seconds),
        stopped(report.stopped_by)
    )
}

/// The figures that matter.
pub(super) fn tiles(report: &TrainReport) -> Vec<Tile> {
    let mut tiles = Vec::new();
    if let Some(verdict) = verdict(report) {
        let epoch = report.model_epoch.map(|epoch| format!("; after epoch {}", count(epoch + 1)));
        let note = format!("{}{}", verdict.words, epoch.unwrap_or_default());
        tiles.push(Tile { of: verdict.of, value: figure(verdict.loss), note, warns: !verdict.better });
    }
    let mut add = |of: &str, value: String, note: String| {
        tiles.push(Tile { of: of.to_owned(), value, note, warns: false });
    };
    let loss = loss_name(&report.trained);
    if let (Some(train), Some(_)) = (report.trained.train_loss(), report.trained.holdout_loss()) {
        let note = "over the last whole epoch, taken before each step".to_owned();
        add(&format!("Training {loss}"), figure(train), note);
    }
    if let Trained::Logistic { holdout: Some(quality), .. } = &report.trained {
        if let Some(auc) = quality.auc {
            add("AUC", figure(auc), "0.5 is guessing, 1 is perfect".to_owned());
        }
        if let Some(entropy) = quality.normalised_entropy {
            let note = if entropy < 1.0 { "below 1: something was learnt" } else { "NOT below 1: nothing was learnt" };
            add("Normalised entropy", figure(entropy), note.to_owned());
        }
        if let Some(calibration) = quality.calibration {
            let words = compared_with(calibration, 1.0);
            add("Calibration", figure(calibration), format!("{words} the clicks there are were predicted"));
        }
    }
    let rows = if matches!(report.trained, Trained::Pmf { .. }) { "Ratings a second" } else { "Rows a second" };
    let workers = some(report.workers.into(), "worker");
    add(rows, large(report.rows_per_second), format!("{workers}, evaluation and saving not counted"));
    let note = format!("{}, {}", some(report.steps, "step"), some(report.epochs, "whole epoch"));
    add("Time", seconds(report.seconds), note);
    if let Some(functions) = &report.functions {
        let note = functions.predicted.as_ref().map(|run| {
            let predicted = run.cost.total;
            format!("{} the {} predicted", compared_with(functions.cost.total, predicted), dollars(predicted))
        });
        let note = note.unwrap_or_else(|| format!("by prices of {}", functions.prices_of));
        add("Cost", dollars(functions.cost.total), note);
    }
    tiles
}

/// What functions cost, against what was predicted.
pub(super) fn cost(functions: &FunctionsReport, took: f64) -> String {
    let what = format!(
        "In US dollars by prices of {}: {} version {}, {} MB, {}; {}, and {} relaunched after a death.",
        functions.prices_of,
        functions.function,
        functions.version,
        count(functions.memory_mb.into()),
        functions.architecture.name(),
        some(functions.handovers, "hand-over"),
        count(functions.relaunches),
    );
    let Some(predicted) = &functions.predicted else { return format!("{what} Nothing was predicted.") };
    format!(
        "{what} It cost {}, {} the {} that were predicted, and took {}, {} the {} that were predicted.",
        dollars(functions.cost.total),
        compared_with(functions.cost.total, predicted.cost.total),
        dollars(predicted.cost.total),
        seconds(took),
        compared_with(took, predicted.run_seconds),
        seconds(predicted.run_seconds)
    )
}

/// Everything that says what ran, by name.
pub(super) fn facts(report: &TrainReport) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| facts.push((name.to_owned(), value));
    add("manifest", report.manifest.clone());
    add("model", model(&report.trained).to_owned());
    let settings = match &report.trained {
        Trained::Pmf { settings, .. } => serde_json::to_value(settings),
        Trained::Logistic { settings, .. } => serde_json::to_value(settings),
    };
    if let Ok(serde_json::Value::Object(settings)) = settings {
        for (name, value) in settings {
            add(&name.replace('_', " "), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    add("ended because", stopped(report.stopped_by).to_owned());
    add("steps", count(report.steps));
    add("whole epochs", count(report.epochs));
    add("kept model", report.model_epoch.map_or(String::new(), |epoch| format!("after epoch {}", count(epoch + 1))));
    add("workers", count(report.workers.into()));
    add("rows a second", count(report.rows_per_second as u64));
    add("seconds", significant(report.seconds, 4));
    add("place", report.output.clone());
    add("tool", report.tool.clone());
    let digests = [
        ("identity", &report.identity),
        ("manifest digest", &report.manifest_digest),
        ("model digest", &report.model_digest),
        ("history digest", &report.history_digest),
    ];
    digests.into_iter().for_each(|(name, digest)| add(name, digest.as_str().to_owned()));
    facts
}
