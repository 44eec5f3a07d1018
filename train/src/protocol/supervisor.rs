//! The barrier, the merging of losses, the stop rules, and the decision what comes next.
//!
//! A step is over when every slot of it has been reported, an evaluation when every held-out batch has. Losses are added in
//! the order of the slots, so the history does not depend on who reported first.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::exit::ErrorKind;
use schemas::message::{BatchLoss, Envelope, Message, Milestone, Next, Party, Scores, StepTimings};
use schemas::report::{ClickQuality, StopReason};
use train_core::order::{Schedule, worker_of_slot};
use train_core::quality::Tally;

use super::{Refusal, check_origin};
use crate::model::{Metric, click_quality};

/// A run has diverged when a step's mean loss is this many times that of the first step: a doubled RMSE. On held-out rows the
/// baseline's loss counts too, because a few odd rows may be far from the mean to begin with.
const DIVERGED: f64 = 4.0;

/// The training loss must stay at the target for this many steps.
const TARGET_STEPS: u32 = 10;

/// What the supervisor goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Workers of the run.
    pub n_workers: u32,
    /// Steps and epochs.
    pub schedule: Schedule,
    /// Held-out batches, 0 for none.
    pub n_holdout_batches: u32,
    /// The loss that is shown and that the targets are in.
    pub metric: Metric,
    /// Loss, on the held-out rows, of always predicting the mean; 0 when unknown.
    pub holdout_base: f64,
    /// End after this many epochs.
    pub max_epochs: u64,
    /// End once this much time has passed.
    pub max_time: Option<Duration>,
    /// End once the training loss was at or below this for ten steps in a row.
    pub target_loss: Option<f64>,
    /// End once the held-out loss is at or below this.
    pub target_holdout_loss: Option<f64>,
    /// End once the held-out loss has not improved for this many epochs.
    pub patience: Option<u64>,
    /// A worker that was not heard of for this long is lost.
    pub silence_max: Duration,
}

/// What happens to the supervisor.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message came.
    Received(Envelope),
    /// Nothing came for a while.
    Tick,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send this to all workers.
    Broadcast(Message),
    /// Note the loss of a step.
    Step(StepRecord),
    /// Note the held-out loss after an epoch.
    Evaluation(EvaluationRecord),
    /// Note where a worker's time went.
    Timings {
        /// The worker.
        worker: u32,
        /// Its step.
        timings: StepTimings,
    },
    /// The run is over.
    End(Outcome),
}

/// The loss of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// The step, from 0.
    pub step: u64,
    /// Its epoch, from 0.
    pub epoch: u64,
    /// Time since the start of the run.
    pub time: Duration,
    /// Loss over the step's rows, before the step.
    pub loss: f64,
    /// Sum of the rows' losses.
    pub loss_sum: f64,
    /// Rows of the step.
    pub rows: u64,
}

/// The held-out loss after an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationRecord {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The last step before.
    pub step: u64,
    /// Loss over the held-out rows.
    pub loss: f64,
    /// More about the predictions, for click logs.
    pub clicks: Option<ClickQuality>,
    /// Whether it is the best so far.
    pub best: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// By a stop rule.
    Finished(Finished),
    /// The loss went out of bounds.
    Diverged {
        /// The step, from 0.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The loss of the first step.
        first_loss: f64,
    },
    /// A worker could not go on.
    Failed {
        /// The worker.
        worker: u32,
        /// What kind of failure.
        kind: ErrorKind,
        /// In words.
        error: String,
        /// The remedy.
        fix: Option<String>,
    },
    /// Workers fell silent.
    Lost {
        /// Which.
        workers: Vec<u32>,
        /// What they should have reported.
        waiting_for: Milestone,
    },
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    /// The stop rule.
    pub reason: StopReason,
    /// Steps that were applied.
    pub steps: u64,
    /// The evaluation with the best held-out loss.
    pub best: Option<EvaluationRecord>,
}

#[derive(Clone, Debug)]
enum State {
    /// Waiting for everybody to pass the milestone.
    Waiting(Milestone),
    /// Waiting for everybody to finish.
    Finishing(Outcome),
    Ended,
}

/// The supervisor's side of the protocol.
#[derive(Clone, Debug)]
pub struct Supervisor {
    run: String,
    rules: Rules,
    state: State,
    /// For each worker: its incarnation, when it was last heard of, and whether it has passed what is waited for.
    workers: Vec<Member>,
    losses: BTreeMap<u32, BatchLoss>,
    /// What each worker counted.
    scores: BTreeMap<u32, Scores>,
    first_loss: Option<f64>,
    steps_at_target: u32,
    best: Option<EvaluationRecord>,
    ending: Option<StopReason>,
    steps_done: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    incarnation: u32,
    heard: Duration,
    passed: bool,
}

impl Supervisor {
    /// The supervisor of `run`, waiting for its workers.
    #[must_use]
    pub fn new(run: &str, rules: Rules) -> Self {
        let workers = vec![Member::default(); rules.n_workers as usize];
        Self {
            run: run.to_owned(),
            rules,
            state: State::Waiting(Milestone::Start),
            workers,
            losses: BTreeMap::new(),
            scores: BTreeMap::new(),
            first_loss: None,
            steps_at_target: 0,
            best: None,
            ending: None,
            steps_done: 0,
        }
    }

    /// Takes one event at `now` (time since the start of the run) and says what to do.
    ///
    /// # Errors
    /// A [`Refusal`] of a message; the state is then unchanged.
    pub fn handle(&mut self, event: Event, now: Duration) -> Result<Vec<Command>, Refusal> {
        if matches!(self.state, State::Ended) {
            return Ok(vec![]);
        }
        match event {
            Event::Tick => Ok(self.look_for_lost(now)),
            Event::Received(envelope) => self.receive(envelope, now),
        }
    }

    fn receive(&mut self, envelope: Envelope, now: Duration) -> Result<Vec<Command>, Refusal> {
        check_origin(&envelope, &self.run)?;
        let sender = envelope.sender;
        let Party::Worker(worker) = sender else { return Err(Refusal::Unexpected { sender }) };
        let Some(member) = self.workers.get_mut(worker as usize) else { return Err(Refusal::Unexpected { sender }) };
        if envelope.incarnation < member.incarnation {
            return Err(Refusal::Stale { sender, found: envelope.incarnation, current: member.incarnation });
        }
        if matches!(envelope.message, Message::Proceed { .. } | Message::Abort) {
            return Err(Refusal::Unexpected { sender });
        }
        member.incarnation = envelope.incarnation;
        member.heard = now;
        match envelope.message {
            Message::Joined => {
                if matches!(self.state, State::Waiting(Milestone::Start)) {
                    member.passed = true;
                }
                Ok(self.pass(now))
            }
            Message::Computed { step, losses, timings } => {
                let mut commands = Vec::new();
                if matches!(self.state, State::Waiting(Milestone::Step(current)) if current == step) && !member.passed {
                    member.passed = true;
                    commands.extend(timings.map(|timings| Command::Timings { worker, timings }));
                    self.losses.extend(losses.into_iter().map(|loss| (loss.slot, loss)));
                    commands.extend(self.pass(now));
                }
                Ok(commands)
            }
            Message::Evaluated { epoch, losses, scores } => {
                if matches!(self.state, State::Waiting(Milestone::Evaluation(current)) if current == epoch) {
                    member.passed = true;
                    self.losses.extend(losses.into_iter().map(|loss| (loss.slot, loss)));
                    self.scores.extend(scores.map(|scores| (worker, scores)));
                    return Ok(self.pass(now));
                }
                Ok(vec![])
            }
            Message::Finished { timings } => {
                if !matches!(self.state, State::Finishing(_)) || member.passed {
                    return Ok(vec![]);
                }
                member.passed = true;
                let mut commands: Vec<_> =
                    timings.map(|timings| Command::Timings { worker, timings }).into_iter().collect();
                commands.extend(self.pass(now));
                Ok(commands)
            }
            Message::Failed { kind, error, fix } => Ok(self.fail(Outcome::Failed { worker, kind, error, fix })),
            Message::Proceed { .. } | Message::Abort => unreachable!("refused above"),
        }
    }

    fn fail(&mut self, outcome: Outcome) -> Vec<Command> {
        self.state = State::Ended;
        vec![Command::Broadcast(Message::Abort), Command::End(outcome)]
    }

    fn look_for_lost(&mut self, now: Duration) -> Vec<Command> {
        let silent = |m: &Member| !m.passed && now.saturating_sub(m.heard) > self.rules.silence_max;
        let workers: Vec<u32> = (0..).zip(&self.workers).filter(|(_, m)| silent(m)).map(|(w, _)| w).collect();
        if workers.is_empty() {
            return vec![];
        }
        let waiting_for = match &self.state {
            State::Waiting(milestone) => *milestone,
            State::Finishing(_) | State::Ended => return self.finish_anyway(),
        };
        self.fail(Outcome::Lost { workers, waiting_for })
    }

    /// A worker that falls silent after its work is done does not spoil the run.
    fn finish_anyway(&mut self) -> Vec<Command> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Finishing(outcome) => vec![Command::End(outcome)],
            State::Waiting(_) | State::Ended => vec![],
        }
    }

    /// Goes on once everybody has passed.
    fn pass(&mut self, now: Duration) -> Vec<Command> {
        if !self.workers.iter().all(|m| m.passed) {
            return vec![];
        }
        for member in &mut self.workers {
            member.passed = false;
            member.heard = now;
        }
        let losses = std::mem::take(&mut self.losses);
        match self.state.clone() {
            State::Waiting(Milestone::Start) => self.proceed(Milestone::Start, false, Next::Step(0)),
            State::Waiting(Milestone::Step(step)) => self.after_step(step, &losses, now),
            State::Waiting(Milestone::Evaluation(epoch)) => self.after_evaluation(epoch, &losses, now),
            State::Finishing(outcome) => {
                self.state = State::Ended;
                vec![Command::End(outcome)]
            }
            State::Ended => vec![],
        }
    }

    fn after_step(&mut self, step: u64, losses: &BTreeMap<u32, BatchLoss>, now: Duration) -> Vec<Command> {
        let n_slots = self.rules.schedule.n_slots(step);
        if !losses.keys().copied().eq(0..n_slots) {
            return self.fail(self.incomplete(&format!("step {step}"), n_slots, losses));
        }
        let (loss_sum, rows) = totals(losses);
        let loss = loss_sum / rows as f64;
        self.steps_done = step + 1;
        let epoch = self.rules.schedule.epoch(step);
        let shown = self.rules.metric.of_mean(loss);
        let record = StepRecord { step, epoch, time: now, loss: shown, loss_sum, rows };
        let mut commands = vec![Command::Step(record)];
        let first = *self.first_loss.get_or_insert(loss);
        if !loss.is_finite() || loss > DIVERGED * first {
            commands.extend(self.fail(self.diverged(step, shown)));
            return commands;
        }
        let at_target = self.rules.target_loss.is_some_and(|target| shown <= target);
        self.steps_at_target = if at_target { self.steps_at_target + 1 } else { 0 };
        let ends_epoch = self.rules.schedule.ends_epoch(step);
        let stop = if self.steps_at_target >= TARGET_STEPS {
            Some(StopReason::TargetLoss)
        } else if self.rules.max_time.is_some_and(|max| now >= max) {
            Some(StopReason::MaxTime)
        } else if ends_epoch && epoch + 1 >= self.rules.max_epochs {
            Some(StopReason::MaxEpochs)
        } else {
            None
        };
        let after = Milestone::Step(step);
        commands.extend(match stop {
            _ if self.rules.n_holdout_batches > 0 && (ends_epoch || stop.is_some()) => {
                self.ending = stop;
                self.proceed(after, false, Next::Evaluate(epoch))
            }
            Some(reason) => self.end(after, false, reason),
            None => self.proceed(after, false, Next::Step(step + 1)),
        });
        commands
    }

    fn after_evaluation(&mut self, epoch: u64, losses: &BTreeMap<u32, BatchLoss>, now: Duration) -> Vec<Command> {
        if !losses.keys().copied().eq(0..self.rules.n_holdout_batches) {
            let outcome =
                self.incomplete(&format!("the evaluation of epoch {epoch}"), self.rules.n_holdout_batches, losses);
            return self.fail(outcome);
        }
        let (loss_sum, rows) = totals(losses);
        let mean = loss_sum / rows as f64;
        let loss = self.rules.metric.of_mean(mean);
        let step = self.steps_done - 1;
        let first = self.first_loss.unwrap_or(f64::INFINITY);
        if !mean.is_finite() || mean > DIVERGED * first.max(self.rules.metric.mean_of(self.rules.holdout_base)) {
            return self.fail(self.diverged(step, loss));
        }
        let best = self.best.is_none_or(|best| loss < best.loss);
        let record = EvaluationRecord { epoch, step, loss, clicks: self.quality(loss_sum, rows), best };
        if best {
            self.best = Some(record);
        }
        let mut commands = vec![Command::Evaluation(record)];
        let waited = epoch - self.best.map_or(epoch, |best| best.epoch);
        let stop = if self.rules.target_holdout_loss.is_some_and(|target| loss <= target) {
            Some(StopReason::TargetHoldoutLoss)
        } else if self.ending.is_some() {
            self.ending
        } else if self.rules.patience.is_some_and(|patience| waited >= patience) {
            Some(StopReason::Patience)
        } else if self.rules.max_time.is_some_and(|max| now >= max) {
            Some(StopReason::MaxTime)
        } else {
            None
        };
        let after = Milestone::Evaluation(epoch);
        commands.extend(match stop {
            Some(reason) => self.end(after, best, reason),
            None => self.proceed(after, best, Next::Step(step + 1)),
        });
        commands
    }

    /// What all workers counted together, if they did.
    fn quality(&mut self, loss_sum: f64, rows: u64) -> Option<ClickQuality> {
        let counted = std::mem::take(&mut self.scores);
        if counted.is_empty() {
            return None;
        }
        let mut tally = Tally::default();
        for scores in counted.into_values() {
            tally.add_predicted(scores.predicted);
            scores.bins.iter().for_each(|&(bin, clicks, others)| tally.add_bin(bin, clicks, others));
        }
        Some(click_quality(&tally, loss_sum, rows))
    }

    fn diverged(&self, step: u64, loss: f64) -> Outcome {
        let first = self.first_loss.map_or(f64::NAN, |first| self.rules.metric.of_mean(first));
        Outcome::Diverged { step, loss, first_loss: first }
    }

    fn end(&mut self, after: Milestone, keep_model: bool, reason: StopReason) -> Vec<Command> {
        let commands = self.proceed(after, keep_model, Next::End { reason, save_kept: self.best.is_some() });
        let finished = Finished { reason, steps: self.steps_done, best: self.best };
        self.state = State::Finishing(Outcome::Finished(finished));
        commands
    }

    fn proceed(&mut self, after: Milestone, keep_model: bool, next: Next) -> Vec<Command> {
        match next {
            Next::Step(step) => self.state = State::Waiting(Milestone::Step(step)),
            Next::Evaluate(epoch) => self.state = State::Waiting(Milestone::Evaluation(epoch)),
            Next::End { .. } => {}
        }
        vec![Command::Broadcast(Message::Proceed { after, keep_model, next })]
    }

    /// A worker that reports the wrong batches is a bug, not a wrong model.
    fn incomplete(&self, what: &str, expected: u32, losses: &BTreeMap<u32, BatchLoss>) -> Outcome {
        let missing = (0..expected).find(|slot| !losses.contains_key(slot));
        let slot = missing.unwrap_or(expected);
        Outcome::Failed {
            worker: worker_of_slot(slot, self.rules.n_workers),
            kind: ErrorKind::Internal,
            error: format!(
                "{what} was reported with {} batches instead of {expected}; slot {slot} is wrong",
                losses.len()
            ),
            fix: None,
        }
    }
}

/// Sums in the order of the slots.
fn totals(losses: &BTreeMap<u32, BatchLoss>) -> (f64, u64) {
    losses.values().fold((0.0, 0), |(loss, rows), batch| (loss + batch.loss_sum, rows + batch.rows))
}
