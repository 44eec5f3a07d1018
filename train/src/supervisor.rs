//! The supervisor's shell: moves messages, keeps the records, and ends the run when a signal comes.

use std::time::{Duration, Instant};

use reporting::interrupt::{self, Stopped};
use reporting::{Console, Progress};
use schemas::message::{Message, Party, StepTimings};
use schemas::report::ClickQuality;

use crate::control::{ControlPlane, Mailbox};
use crate::error::Error;
use crate::model::Metric;
use crate::output::logistic::figures;
use crate::protocol::supervisor::{Command, EvaluationRecord, Event, Outcome, Rules, StepRecord, Supervisor};
use crate::protocol::{Refusal, envelope};

/// What a run leaves on record.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// One entry a step.
    pub steps: Vec<StepRecord>,
    /// One entry an evaluation.
    pub evaluations: Vec<EvaluationRecord>,
    /// One entry a worker and step.
    pub timings: Vec<(u32, StepTimings)>,
    /// Time from the first step to the last, evaluations excluded.
    pub stepping: Duration,
}

/// How often the supervisor looks for signals and silent workers.
const POLL: Duration = Duration::from_millis(100);

/// Supervises `run` until it is over. `start` is when the run began.
///
/// # Errors
/// A signal; the workers are then told to abort.
pub fn supervise(
    run: &str,
    rules: Rules,
    control: &dyn ControlPlane,
    mailbox: &mut dyn Mailbox,
    start: Instant,
    (console, progress): (&Console, &Progress),
) -> Result<(Outcome, Records), Error> {
    let mut shell = Shell {
        run,
        metric: rules.metric,
        holdout_base: rules.holdout_base,
        protocol: Supervisor::new(run, rules),
        control,
        records: Records::default(),
        start,
        mark: Duration::ZERO,
        console,
        progress,
    };
    loop {
        if let Err(stopped) = interrupt::check() {
            return Err(shell.stop(stopped));
        }
        let event = mailbox.receive(POLL).map_err(Error::internal)?.map_or(Event::Tick, Event::Received);
        let now = start.elapsed();
        match shell.protocol.handle(event, now) {
            // A message that is not for this supervisor changes nothing.
            Err(Refusal::Version { .. } | Refusal::Run { .. } | Refusal::Stale { .. } | Refusal::Unexpected { .. }) => {
            }
            Ok(commands) => {
                for command in commands {
                    if let Some(outcome) = shell.carry_out(command)? {
                        return Ok((outcome, shell.records));
                    }
                }
            }
        }
    }
}

struct Shell<'a> {
    run: &'a str,
    metric: Metric,
    /// Held-out loss of always predicting the same.
    holdout_base: f64,
    protocol: Supervisor,
    control: &'a dyn ControlPlane,
    records: Records,
    start: Instant,
    /// When the present step could begin.
    mark: Duration,
    console: &'a Console,
    progress: &'a Progress,
}

impl Shell<'_> {
    fn carry_out(&mut self, command: Command) -> Result<Option<Outcome>, Error> {
        match command {
            Command::Broadcast(message) => {
                if self.records.steps.is_empty() {
                    self.mark = self.start.elapsed();
                }
                self.broadcast(message)?;
            }
            Command::Step(record) => {
                self.records.stepping += record.time.saturating_sub(self.mark);
                self.mark = record.time;
                self.records.steps.push(record);
                self.progress.add(record.rows);
                if self.records.steps.len() % 64 == 1 {
                    self.show();
                }
            }
            Command::Evaluation(record) => {
                self.mark = self.start.elapsed();
                let text = format!(
                    "epoch {}: held-out {} {:.4}{}{} after {:.1} s",
                    record.epoch + 1,
                    self.metric.name(),
                    record.loss,
                    record.clicks.map_or(String::new(), |quality| clicks_shown(quality, self.holdout_base)),
                    if record.best { ", the best so far" } else { "" },
                    self.mark.as_secs_f64(),
                );
                // A factorisation takes many short epochs, a logistic regression few long ones.
                self.progress.aside(|| match self.metric {
                    Metric::Rmse => self.console.detail(text),
                    Metric::LogLoss => self.console.note(text),
                });
                self.records.evaluations.push(record);
                self.show();
            }
            Command::Timings { worker, timings } => self.records.timings.push((worker, timings)),
            Command::End(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }

    fn show(&self) {
        let Some(step) = self.records.steps.last() else { return };
        let mut text = format!("epoch {}, {} {:.4}", step.epoch + 1, self.metric.name(), step.loss);
        if let Some(evaluation) = self.records.evaluations.last() {
            text.push_str(&format!(", held-out {:.4}", evaluation.loss));
        }
        self.progress.message(&text);
    }

    fn stop(&self, stopped: Stopped) -> Error {
        match self.broadcast(Message::Abort) {
            Ok(()) => stopped.into(),
            Err(error) => error,
        }
    }

    fn broadcast(&self, message: Message) -> Result<(), Error> {
        self.control.broadcast(&envelope(self.run, Party::Supervisor, 0, message)).map_err(Error::internal)
    }
}

/// ` (always the share of clicks 0.5696), AUC 0.7812, normalised entropy 0.8431, calibration 1.002`, as far as known.
fn clicks_shown(quality: ClickQuality, base: f64) -> String {
    let figures: String = figures(quality).map(|figure| format!(", {figure}")).collect();
    format!(" (always the share of clicks {base:.4}){figures}")
}
