//! What the losses mean for a run: the history, the best model so far, the stop rules, and the decision what comes next.
//!
//! Losses are added in the order of the slots, so the history does not depend on who reported first.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::message::Task;
use schemas::records::{BatchLoss, EvaluationRecord, Finished, HeldOut, Outcome, Scores, StepRecord};
use schemas::report::{ClickQuality, StopReason};
use serde::{Deserialize, Serialize};
use train_core::order::Schedule;
use train_core::quality::{RatingErrors, RatingTally, Tally};

use crate::model::{Metric, click_quality};

/// A run has diverged when a step's mean loss is this many times that of the first step: a doubled RMSE. On held-out rows the
/// baseline's loss counts too, because a few odd rows may be far from the mean to begin with.
const DIVERGED: f64 = 4.0;

/// Groups of held-out clicks that are told apart.
const GROUPS: u64 = 200;

/// The training loss must stay at the target for this many steps.
const TARGET_STEPS: u32 = 10;

/// What a run goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
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
}

/// How far a run has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Steps that are done.
    pub steps: u64,
    /// What comes next.
    pub task: Task,
    first_loss: Option<f64>,
    steps_at_target: u32,
    best: Option<EvaluationRecord>,
    ending: Option<StopReason>,
}

/// The batches of a task as the workers reported them.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// The losses by slot.
    pub losses: BTreeMap<u32, BatchLoss>,
    /// What each worker counted.
    pub scores: BTreeMap<u32, Scores>,
}

impl Course {
    /// The beginning.
    #[must_use]
    pub const fn new() -> Self {
        Self { steps: 0, task: Task::Step, first_loss: None, steps_at_target: 0, best: None, ending: None }
    }

    /// Goes on by a step, after which `task` is what comes next.
    ///
    /// # Errors
    /// The run has diverged; the step is then in the history as well.
    pub fn step(
        &mut self,
        rules: &Rules,
        losses: &BTreeMap<u32, BatchLoss>,
        now: Duration,
    ) -> (StepRecord, Result<(), Outcome>) {
        let step = self.steps;
        let (loss_sum, rows) = totals(losses);
        let mean = loss_sum / rows as f64;
        let loss = rules.metric.of_mean(mean);
        let epoch = rules.schedule.epoch(step);
        let record = StepRecord { step, epoch, time: now, loss, loss_sum, rows };
        self.steps = step + 1;
        let first = *self.first_loss.get_or_insert(mean);
        if !mean.is_finite() || mean > DIVERGED * first {
            return (record, Err(self.diverged(rules, loss)));
        }
        let at_target = rules.target_loss.is_some_and(|target| loss <= target);
        self.steps_at_target = if at_target { self.steps_at_target + 1 } else { 0 };
        let ends_epoch = rules.schedule.ends_epoch(step);
        let stop = if self.steps_at_target >= TARGET_STEPS {
            Some(StopReason::TargetLoss)
        } else if rules.max_time.is_some_and(|max| now >= max) {
            Some(StopReason::MaxTime)
        } else if ends_epoch && epoch + 1 >= rules.max_epochs {
            Some(StopReason::MaxEpochs)
        } else {
            None
        };
        self.task = if rules.n_holdout_batches > 0 && (ends_epoch || stop.is_some()) {
            self.ending = stop;
            Task::Evaluate { epoch }
        } else {
            stop.map_or(Task::Step, |reason| self.end(reason))
        };
        (record, Ok(()))
    }

    /// Takes in the held-out loss after `epoch`, after which `task` is what comes next. When the model is the best so far, there is more to
    /// tell of it.
    ///
    /// # Errors
    /// The run has diverged.
    pub fn evaluation(
        &mut self,
        rules: &Rules,
        epoch: u64,
        reported: &Reported,
        now: Duration,
    ) -> Result<(EvaluationRecord, Option<HeldOut>), Outcome> {
        let (loss_sum, rows) = totals(&reported.losses);
        let mean = loss_sum / rows as f64;
        let loss = rules.metric.of_mean(mean);
        let first = self.first_loss.unwrap_or(f64::INFINITY);
        if !mean.is_finite() || mean > DIVERGED * first.max(rules.metric.mean_of(rules.holdout_base)) {
            return Err(self.diverged(rules, loss));
        }
        let best = self.best.is_none_or(|best| loss < best.loss);
        let (clicks, held_out) = held_out(&reported.scores, loss_sum, rows, best);
        let record = EvaluationRecord { epoch, step: self.steps - 1, loss, clicks, best };
        if best {
            self.best = Some(record);
        }
        let waited = epoch - self.best.map_or(epoch, |best| best.epoch);
        let stop = if rules.target_holdout_loss.is_some_and(|target| loss <= target) {
            Some(StopReason::TargetHoldoutLoss)
        } else if self.ending.is_some() {
            self.ending
        } else if rules.patience.is_some_and(|patience| waited >= patience) {
            Some(StopReason::Patience)
        } else if rules.max_time.is_some_and(|max| now >= max) {
            Some(StopReason::MaxTime)
        } else {
            None
        };
        self.task = stop.map_or(Task::Step, |reason| self.end(reason));
        Ok((record, held_out))
    }

    /// How the run ends when its stop rule is `reason`.
    #[must_use]
    pub const fn finished(&self, reason: StopReason) -> Finished {
        Finished { reason, steps: self.steps, best: self.best }
    }

    const fn end(&self, reason: StopReason) -> Task {
        Task::End { reason: Some(reason), save_kept: self.best.is_some() }
    }

    fn diverged(&self, rules: &Rules, loss: f64) -> Outcome {
        let first_loss = self.first_loss.map_or(f64::NAN, |first| rules.metric.of_mean(first));
        Outcome::Diverged { step: self.steps - 1, loss, first_loss }
    }
}

impl Default for Course {
    fn default() -> Self {
        Self::new()
    }
}

/// What all workers counted together, if they did; all of it only of the `best` model so far.
fn held_out(
    scores: &BTreeMap<u32, Scores>,
    loss_sum: f64,
    rows: u64,
    best: bool,
) -> (Option<ClickQuality>, Option<HeldOut>) {
    let (mut clicks, mut ratings) = (None::<Tally>, None::<RatingTally>);
    for scores in scores.values() {
        match scores {
            Scores::Clicks { predicted, bins } => {
                let tally = clicks.get_or_insert_default();
                tally.add_predicted(*predicted);
                bins.iter().for_each(|&(bin, clicks, others)| tally.add_bin(bin, clicks, others));
            }
            Scores::Ratings(errors) => {
                let tally = ratings.get_or_insert_default();
                for &(cell, rows, ratings, errors, squares) in errors {
                    tally.add_all(RatingErrors { cell, rows, ratings, errors, squares });
                }
            }
        }
    }
    if let Some(tally) = clicks {
        let groups = || tally.groups(GROUPS).iter().map(|g| (g.rows, g.clicks, g.predicted)).collect();
        return (Some(click_quality(&tally, loss_sum, rows)), best.then(|| HeldOut::Clicks(groups())));
    }
    let of = |e: &RatingErrors| (e.rating(), e.rows, e.mean(), e.rmse());
    (None, ratings.filter(|_| best).map(|tally| HeldOut::Ratings(tally.ratings().iter().map(of).collect())))
}

/// Sums in the order of the slots.
fn totals(losses: &BTreeMap<u32, BatchLoss>) -> (f64, u64) {
    losses.values().fold((0.0, 0), |(loss, rows), batch| (loss + batch.loss_sum, rows + batch.rows))
}
