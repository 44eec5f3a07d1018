//! What a person sees of a run while it goes on.

use reporting::{Console, Progress};
use schemas::records::{EvaluationRecord, StepRecord};
use schemas::report::ClickQuality;

use crate::model::Metric;
use crate::output::logistic::figures;

/// Shows a run on the console.
pub struct Display<'a> {
    console: &'a Console,
    progress: &'a Progress,
    metric: Metric,
    /// Held-out loss of always predicting the same.
    holdout_base: f64,
    rows: u64,
    /// The last step that was seen.
    last: Option<u64>,
    held_out: Option<f64>,
    /// US dollars.
    cost: Option<f64>,
}

impl<'a> Display<'a> {
    /// A display of losses in `metric`, to be held against `holdout_base`.
    #[must_use]
    pub const fn new(console: &'a Console, progress: &'a Progress, metric: Metric, holdout_base: f64) -> Self {
        Self { console, progress, metric, holdout_base, rows: 0, last: None, held_out: None, cost: None }
    }

    /// Whether the run gets on when it comes to `step`, be it again.
    #[must_use]
    pub fn is_news(&self, step: u64) -> bool {
        self.last.is_none_or(|last| step > last)
    }

    /// The run has come to `step`; `rows` is how many it has used in all.
    pub fn step(&mut self, step: &StepRecord, rows: u64) {
        self.progress.add(rows.saturating_sub(self.rows));
        self.rows = self.rows.max(rows);
        self.last = Some(step.step);
        let held_out = self.held_out.map_or(String::new(), |loss| format!(", held-out {loss:.4}"));
        let cost = self.cost.map_or(String::new(), |usd| format!(", ${usd:.4}"));
        let (epoch, metric) = (step.epoch + 1, self.metric.name());
        self.progress.message(&format!("epoch {epoch}, {metric} {:.4}{held_out}{cost}", step.loss));
    }

    /// The run has cost so many US dollars.
    pub const fn cost(&mut self, usd: f64) {
        self.cost = Some(usd);
    }

    /// An epoch was evaluated, `seconds` after the start.
    pub fn evaluation(&mut self, record: &EvaluationRecord, seconds: f64) {
        self.held_out = Some(record.loss);
        let text = format!(
            "epoch {}: held-out {} {:.4}{}{} after {seconds:.1} s",
            record.epoch + 1,
            self.metric.name(),
            record.loss,
            record.clicks.map_or(String::new(), |quality| clicks_shown(quality, self.holdout_base)),
            if record.best { ", the best so far" } else { "" },
        );
        // A factorisation takes many short epochs, a logistic regression few long ones.
        self.progress.aside(|| match self.metric {
            Metric::Rmse => self.console.detail(text),
            Metric::LogLoss => self.console.note(text),
        });
    }

    /// Something that happened to the run.
    pub fn note(&self, text: &str) {
        self.progress.aside(|| self.console.note(text));
    }
}

/// ` (always the share of clicks 0.5696), AUC 0.7812, normalised entropy 0.8431, calibration 1.002`, as far as known.
fn clicks_shown(quality: ClickQuality, base: f64) -> String {
    let figures: String = figures(quality).map(|figure| format!(", {figure}")).collect();
    format!(" (always the share of clicks {base:.4}){figures}")
}
