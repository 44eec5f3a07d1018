//! What a person sees of a run while it goes on.
//!
//! [`view`] gathers what is known, [`frame`] draws it, [`rows`] makes text of that. [`lanes`] is where the time of the workers went.

pub mod frame;
pub mod lanes;
pub mod published;
pub mod rows;
pub mod view;

use std::time::Instant;

use reporting::Console;
use reporting::live::{Live, Surface};
use schemas::live::Seen;
use schemas::records::EvaluationRecord;
use schemas::report::ClickQuality;

use crate::Watch;
use crate::error::Error;
use crate::model::Metric;
use crate::output::logistic::figures;
use crate::plan::Plan;
use published::Published;
use view::View;

pub use view::News;

/// Shows a run that is known from somewhere: as rows of a terminal, or as a line now and then.
#[derive(Debug)]
pub struct Screen<'a> {
    console: &'a Console,
    live: Live,
}

impl<'a> Screen<'a> {
    /// A screen on `console`.
    #[must_use]
    pub fn new(console: &'a Console) -> Self {
        Self { console, live: console.live() }
    }

    /// Shows what `seen` gives, if it is time to, or `urgent`.
    pub fn draw<'s>(&mut self, urgent: bool, seen: impl FnOnce() -> &'s Seen) {
        match self.live.due(urgent) {
            None => {}
            Some(Surface::Line) => self.console.note(frame::line(seen())),
            Some(Surface::Rows { columns, rows, color }) => {
                self.live.show(rows::rows(&frame::draw(seen(), columns, rows), color));
            }
        }
    }

    /// Says one line.
    pub fn note(&mut self, text: &str) {
        self.live.aside(|| self.console.note(text));
    }

    /// Says one line when `--verbose`.
    pub fn detail(&mut self, text: &str) {
        if self.console.is_verbose() {
            self.live.aside(|| self.console.detail(text));
        }
    }
}

/// Shows the run that this process leads or launches, and has it published.
#[derive(Debug)]
pub struct Display<'a> {
    screen: Screen<'a>,
    view: View,
    metric: Metric,
    /// Held-out loss of always predicting the same.
    holdout_base: f64,
    /// The last step that was seen.
    last: Option<u64>,
    published: Option<&'a Published>,
    publish_next: Instant,
}

impl<'a> Display<'a> {
    /// A display of the run of `plan`, which may cost `budget` US dollars.
    ///
    /// # Errors
    /// When there are more mini-batches than can be counted.
    pub fn new(plan: &Plan, budget: Option<f64>, watch: Watch<'a>) -> Result<Self, Error> {
        let rules = plan.rules()?;
        let seen = Seen {
            run: plan.out.to_string(),
            loss: rules.metric.name().to_owned(),
            rows_are: plan.task.rows().to_owned(),
            max_epochs: rules.max_epochs,
            steps_per_epoch: rules.schedule.steps_per_epoch(),
            total_rows: plan.shards.manifest.rows.saturating_mul(rules.max_epochs),
            max_seconds: rules.max_time.map(|time| time.as_secs_f64()),
            budget,
            ..Seen::default()
        };
        Ok(Self {
            screen: Screen::new(watch.console),
            view: View::new(rules.metric, seen),
            metric: rules.metric,
            holdout_base: rules.holdout_base,
            last: None,
            published: watch.published,
            publish_next: Instant::now(),
        })
    }

    /// Whether the run gets on when it comes to `step`, be it again.
    #[must_use]
    pub fn is_news(&self, step: u64) -> bool {
        self.last.is_none_or(|last| step > last)
    }

    /// What has happened until `seconds` after the start.
    pub fn hear(&mut self, news: News, seconds: f64) {
        for record in &news.evaluations {
            self.evaluation(record, seconds);
        }
        self.last = news.step.map(|step| step.step).or(self.last);
        self.view.hear(news, seconds);
    }

    /// The last life that was launched of each worker, by its number.
    pub fn launched(&mut self, lives: impl Iterator<Item = (u32, u32)>) {
        self.view.launched(lives);
    }

    /// What changes apart from the steps.
    pub const fn besides(&mut self) -> &mut Seen {
        self.view.besides()
    }

    /// The run at `seconds` after the start.
    pub fn at(&mut self, seconds: f64) -> &Seen {
        self.view.at(seconds)
    }

    /// Shows the run, if it is time to or the `last` time.
    pub fn draw(&mut self, seconds: f64, last: bool) {
        self.screen.draw(last, || self.view.at(seconds));
        if let Some(published) = self.published.filter(|_| Instant::now() >= self.publish_next || last) {
            self.publish_next = Instant::now() + published.interval();
            published.put(self.view.at(seconds));
        }
    }

    fn evaluation(&mut self, record: &EvaluationRecord, seconds: f64) {
        let text = format!(
            "epoch {}: held-out {} {:.4}{}{} after {seconds:.1} s",
            record.epoch + 1,
            self.metric.name(),
            record.loss,
            record.clicks.map_or(String::new(), |quality| clicks_shown(quality, self.holdout_base)),
            if record.best { ", the best so far" } else { "" },
        );
        // A factorisation takes many short epochs, a logistic regression few long ones.
        match self.metric {
            Metric::Rmse => self.screen.detail(&text),
            Metric::LogLoss => self.screen.note(&text),
        }
    }

    /// Something that happened to the run.
    pub fn note(&mut self, text: &str) {
        self.screen.note(text);
    }
}

/// ` (always the share of clicks 0.5696), AUC 0.7812, normalised entropy 0.8431, calibration 1.002`, as far as known.
fn clicks_shown(quality: ClickQuality, base: f64) -> String {
    let figures: String = figures(quality).map(|figure| format!(", {figure}")).collect();
    format!(" (always the share of clicks {base:.4}){figures}")
}
