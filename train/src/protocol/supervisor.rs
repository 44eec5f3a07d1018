//! The barrier, the membership, and the way back when something was lost.
//!
//! There is one [`Directive`] at a time. A turn is over when every worker that shares its task has reported; then [`Course`] decides
//! what comes next. Until then the directive is repeated, so nothing depends on a message that arrives.
//!
//! A gradient depends on nothing but the batch and the model, so a batch that is computed twice, by whomever, gives the same bits.
//! That is why a new life of a worker, or all workers, may simply do again what is not known to be done: a worker that comes late
//! loads the newest checkpoint and applies what was exchanged since; when that is lost, all go back to the checkpoint.

mod phases;

use std::time::Duration;

use schemas::exit::ErrorKind;
use schemas::message::{Address, Directive, Envelope, Message, Party, Save, Sizes, Stored, Task, Turn, Work};
use schemas::records::{BatchLoss, Counted, EvaluationRecord, HeldOut, Outcome, StepRecord, StepTimings};
use serde::{Deserialize, Serialize};
use train_core::order::worker_of_slot;

use super::course::{Course, Reported, Rules};
use super::{REPEAT, Refusal, check_origin};
use crate::exchange::reduce_scatter_pays;

/// How often a run may go back to the same checkpoint.
const ROLLBACKS_MAX: u32 = 20;

/// While a worker leaves, checkpoints come so many times as often, so that its successor has little to catch up with.
const CATCH_UP_PART: u64 = 4;

/// Who takes part, and what is done about those who do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    /// Workers of the run.
    pub n_workers: u32,
    /// A worker that was not heard of for this long is lost.
    pub silence_max: Duration,
    /// How the run goes on without a lost worker; nothing when it ends then.
    pub recovery: Option<Recovery>,
}

/// How a run survives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovery {
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// How gradients are exchanged.
    pub strategy: Strategy,
    /// Bytes of exchanged gradients that are kept for those who catch up.
    pub replay_bytes: u64,
}

/// How gradients are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The one by which fewer bytes are moved, once their sizes are known.
    Auto,
    /// Every worker reads the gradients of all others.
    AllToAll,
    /// Every worker reduces some slices of the parameters and reads the reduced slices of the others.
    ReduceScatter,
}

/// Where a run can go on from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The model; nothing for its start.
    pub stored: Option<Stored>,
    /// The model that is the result unless a better one comes.
    pub kept: Option<Stored>,
    /// How far the run has come.
    pub course: Course,
    /// The first step whose gradients are reduced in slices.
    pub reduce_scatter_from: Option<u64>,
    /// How far the run had come beyond the stored model when its supervisor was succeeded in order.
    pub ahead: Option<Course>,
}

impl Checkpoint {
    /// The beginning of a run.
    #[must_use]
    pub fn start(strategy: Option<Strategy>) -> Self {
        let reduce_scatter_from = (strategy == Some(Strategy::ReduceScatter)).then_some(0);
        Self { stored: None, kept: None, course: Course::new(), reduce_scatter_from, ahead: None }
    }

    /// Steps that are on record.
    #[must_use]
    pub fn steps_on_record(&self) -> u64 {
        self.ahead.as_ref().unwrap_or(&self.course).steps
    }
}

/// What happens to the supervisor.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "an event lives for one call")]
pub enum Event {
    /// A message came.
    Received(Envelope),
    /// Nothing came for a while.
    Tick,
}

/// What the shell must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send this to all workers.
    Broadcast(Message),
    /// Send this to one life of a worker.
    Send(Address, Message),
    /// Send this to the client.
    Tell(Message),
    /// Everybody is there.
    Started,
    /// Note the loss of a step, and whose gradients counted.
    Step(StepRecord, Vec<Counted>),
    /// Note the held-out loss after an epoch.
    Evaluation(EvaluationRecord, Option<HeldOut>),
    /// Note where a worker's time went.
    Timings {
        /// The worker.
        worker: u32,
        /// Its step.
        timings: StepTimings,
    },
    /// Write down that the run can go on from here, together with the records of all steps before.
    Commit(Box<Checkpoint>),
    /// Forget the records of this step and of those after it.
    Rollback {
        /// The step.
        steps: u64,
    },
    /// Write down that the run goes on from here, together with all records, and have the successor lead it.
    HandOver(Box<Checkpoint>),
    /// The run is over.
    End(Outcome),
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    incarnation: u32,
    heard: Option<Duration>,
    /// When the client was asked to replace it.
    given_up: Duration,
    /// When its time is over. Until then it goes on, if another life of it comes, while that one catches up.
    leaves_by: Option<Duration>,
    /// The last turn it reported in.
    reported: Turn,
}

/// A model that is being stored.
#[derive(Clone, Debug)]
struct Pending {
    save: Save,
    course: Course,
    reduce_scatter_from: Option<u64>,
    stored: Option<Stored>,
}

/// The supervisor's side of the protocol.
#[derive(Clone, Debug)]
pub struct Supervisor {
    run: String,
    rules: Rules,
    settings: Members,
    /// The workers that there should be.
    target: u32,
    members: Vec<Member>,
    course: Course,
    directive: Directive,
    reported: Reported,
    counted: Vec<Counted>,
    /// Of the turn, as the two before: a successor that leads in the middle of it is told again.
    timings: Vec<(u32, StepTimings)>,
    base: Checkpoint,
    /// Steps of the checkpoint before that one. Who began to catch up from there may go on.
    previous_base: u64,
    pending: Vec<Pending>,
    sizes: Option<Sizes>,
    rollbacks: u32,
    /// A checkpoint is wanted before it is due.
    save_wanted: bool,
    /// A successor waits to lead.
    handing_over: bool,
    stopping: bool,
    started: bool,
    ended: bool,
    turn_began: Duration,
    sent: Duration,
    told: Duration,
}

impl Supervisor {
    /// The supervisor of `run` in its life number `incarnation`, which goes on from `base` at `now`.
    #[must_use]
    pub fn new(
        run: &str,
        incarnation: u32,
        rules: Rules,
        settings: Members,
        mut base: Checkpoint,
        now: Duration,
    ) -> (Self, Vec<Command>) {
        let course = base.ahead.take().unwrap_or_else(|| base.course.clone());
        let target = settings.n_workers;
        let nothing = Directive {
            turn: Turn { supervisor: incarnation, number: 0 },
            at: 0,
            task: Task::Step,
            n_workers: target,
            n_members: target,
            save: None,
            base: None,
            reduce_scatter_from: base.reduce_scatter_from,
            release_below: 0,
        };
        let mut supervisor = Self {
            run: run.to_owned(),
            rules,
            target,
            members: vec![Member::default(); target as usize],
            settings,
            course,
            directive: nothing,
            reported: Reported::default(),
            counted: Vec::new(),
            timings: Vec::new(),
            previous_base: base.course.steps,
            base,
            pending: Vec::new(),
            sizes: None,
            rollbacks: 0,
            save_wanted: false,
            handing_over: false,
            stopping: false,
            started: false,
            ended: false,
            turn_began: now,
            sent: now,
            told: now,
        };
        let commands = supervisor.next(false, now);
        (supervisor, commands)
    }

    /// Hands over to a successor that waits to lead: with the next event, or once a model is stored that is to be kept. What was
    /// reported of the present turn is reported to the successor.
    pub const fn hand_over(&mut self) {
        self.handing_over = true;
    }

    /// Takes one event at `now` (time since the start of the run) and says what to do.
    ///
    /// # Errors
    /// A [`Refusal`] of a message; the state is then unchanged.
    pub fn handle(&mut self, event: Event, now: Duration) -> Result<Vec<Command>, Refusal> {
        if self.ended {
            return Ok(vec![]);
        }
        let mut commands = match event {
            Event::Tick => self.tick(now),
            Event::Received(envelope) => self.receive(envelope, now)?,
        };
        commands.extend(self.hand_over_if_ready());
        Ok(commands)
    }

    fn receive(&mut self, envelope: Envelope, now: Duration) -> Result<Vec<Command>, Refusal> {
        check_origin(&envelope, &self.run)?;
        let Address { party: sender, incarnation } = envelope.sender;
        let worker = match (sender, &envelope.message) {
            (Party::Client, Message::Scale { n_workers }) => return Ok(self.scale(*n_workers, now)),
            (Party::Client, Message::Stop) => {
                self.stopping = true;
                return Ok(vec![]);
            }
            (
                Party::Worker(worker),
                Message::Hello
                | Message::Report { .. }
                | Message::Missing { .. }
                | Message::Leaving { .. }
                | Message::Failed { .. },
            ) if (worker as usize) < self.members.len() => worker,
            _ => return Err(Refusal::Unexpected { sender }),
        };
        let member = &mut self.members[worker as usize];
        if member.heard.is_some() && incarnation < member.incarnation {
            return Err(Refusal::Stale { sender, found: incarnation, current: member.incarnation });
        }
        if let Message::Report { turn, result, .. } = &envelope.message {
            let fits = match (result, self.directive.task) {
                (Work::Computed { .. }, Task::Step)
                | (Work::Evaluated { .. }, Task::Evaluate { .. })
                | (Work::Finished { .. }, Task::End { .. }) => *turn <= self.directive.turn,
                _ => *turn < self.directive.turn,
            };
            if !fits {
                return Err(Refusal::Unexpected { sender });
            }
        }
        let reborn = member.heard.is_some() && incarnation > member.incarnation;
        let succeeds = reborn && member.leaves_by.is_some_and(|end| now < end);
        if succeeds && !self.may_succeed(worker, &envelope.message) {
            // A successor that cannot catch up can do so from the next checkpoint.
            self.save_wanted |= matches!(envelope.message, Message::Missing { .. });
            return Ok(vec![Command::Send(envelope.sender, Message::Directive(self.directive.clone()))]);
        }
        let mut commands = Vec::new();
        let member = &mut self.members[worker as usize];
        if succeeds {
            commands.push(Command::Send(sender.life(member.incarnation), Message::Relieved));
        }
        member.incarnation = incarnation;
        member.heard = Some(now);
        if reborn {
            member.leaves_by = None;
            commands.extend(self.reborn(worker, now));
        }
        if !self.started && self.members.iter().all(|m| m.heard.is_some()) {
            self.started = true;
            commands.push(Command::Started);
        }
        match envelope.message {
            Message::Report { turn, result, stored } => {
                for stored in stored {
                    commands.extend(self.stored(worker, stored));
                }
                if turn == self.directive.turn {
                    commands.extend(self.report(worker, turn, result, now));
                } else if self.members[worker as usize].reported < self.directive.turn {
                    commands.push(self.repeat_to(worker));
                }
            }
            Message::Missing { turn, step } if turn == self.directive.turn => commands.extend(self.rollback(step, now)),
            Message::Hello | Message::Missing { .. } => commands.push(self.repeat_to(worker)),
            Message::Leaving { left } => {
                self.members[worker as usize].leaves_by = Some(now + left);
                if self.settings.recovery.is_some() && worker < self.target {
                    commands.push(Command::Tell(Message::Succeed { worker, incarnation }));
                }
            }
            Message::Failed { kind, error, fix } => {
                commands.extend(self.finish(Outcome::Failed { worker, kind, error, fix }));
            }
            _ => unreachable!("refused above"),
        }
        commands.extend(self.end_if_done());
        Ok(commands)
    }

    /// Whether a later life of `worker`, which says `message`, takes the place of the one that is leaving: once it has caught up, but
    /// for a turn at most that ended meanwhile, and that one has nothing to store.
    fn may_succeed(&self, worker: u32, message: &Message) -> bool {
        match message {
            Message::Report { turn, .. } => {
                self.follows(*turn) && !self.pending.iter().any(|p| p.save.worker == worker && p.stored.is_none())
            }
            message => matches!(message, Message::Failed { .. }),
        }
    }

    /// Whether whoever reported on `turn` is at the present turn, or at the one before it.
    fn follows(&self, turn: Turn) -> bool {
        let present = self.directive.turn;
        turn.supervisor == present.supervisor && turn.number + 1 >= present.number
    }

    fn repeat_to(&self, worker: u32) -> Command {
        let address = Party::Worker(worker).life(self.members[worker as usize].incarnation);
        Command::Send(address, Message::Directive(self.directive.clone()))
    }

    /// A report on the present turn.
    fn report(&mut self, worker: u32, turn: Turn, result: Work, now: Duration) -> Vec<Command> {
        let member = &mut self.members[worker as usize];
        if member.reported == turn {
            return vec![];
        }
        let incarnation = member.incarnation;
        member.reported = turn;
        let mut commands = Vec::new();
        let (losses, n_slots) = match result {
            Work::Computed { losses, timings, sizes } => {
                self.timings.extend(timings.map(|timings| (worker, timings)));
                self.sizes = self.sizes.or(sizes);
                self.counted.extend(losses.iter().map(|loss| Counted { slot: loss.slot, worker, incarnation }));
                (losses, self.rules.schedule.n_slots(self.directive.at))
            }
            Work::Evaluated { losses, scores } => {
                self.reported.scores.extend(scores.map(|scores| (worker, scores)));
                (losses, self.rules.n_holdout_batches)
            }
            Work::Finished { timings } => {
                commands.extend(timings.map(|timings| Command::Timings { worker, timings }));
                return commands;
            }
        };
        let n_workers = self.directive.n_workers;
        let expected = (0..n_slots).filter(|&slot| worker < n_workers && worker_of_slot(slot, n_workers) == worker);
        if !losses.iter().map(|loss| loss.slot).eq(expected.clone()) {
            let outcome = wrong_batches(worker, &losses, expected.count());
            commands.extend(self.finish(outcome));
            return commands;
        }
        self.reported.losses.extend(losses.into_iter().map(|loss| (loss.slot, loss)));
        if self.all_reported() {
            commands.extend(self.turn_over(now));
        }
        commands
    }

    fn all_reported(&self) -> bool {
        let sharing = &self.members[..self.directive.n_workers as usize];
        sharing.iter().all(|member| member.reported == self.directive.turn)
    }

    fn turn_over(&mut self, now: Duration) -> Vec<Command> {
        let reported = std::mem::take(&mut self.reported);
        let mut counted = std::mem::take(&mut self.counted);
        let timings = std::mem::take(&mut self.timings);
        let told = |(worker, timings)| Command::Timings { worker, timings };
        let mut commands: Vec<_> = timings.into_iter().map(told).collect();
        let (keep, went) = match self.directive.task {
            Task::Step => {
                let (record, went) = self.course.step(&self.rules, &reported.losses, now);
                counted.sort_unstable_by_key(|c| c.slot);
                commands.push(Command::Step(record, counted));
                (false, went)
            }
            Task::Evaluate { epoch } => match self.course.evaluation(&self.rules, epoch, &reported, now) {
                Ok((record, held_out)) => {
                    commands.push(Command::Evaluation(record, held_out));
                    (record.best, Ok(()))
                }
                Err(outcome) => (false, Err(outcome)),
            },
            Task::End { .. } => unreachable!("nothing comes after the end"),
        };
        commands.extend(match went {
            Ok(()) => self.next(keep, now),
            Err(outcome) => self.finish(outcome),
        });
        commands
    }

    /// The next directive. `keep` when the model is the best so far.
    fn next(&mut self, keep: bool, now: Duration) -> Vec<Command> {
        if !keep && let Some(command) = self.hand_over_if_ready() {
            return vec![command];
        }
        let n_workers = self.share();
        let at = self.course.steps;
        let task = if self.stopping && !matches!(self.course.task, Task::End { .. }) {
            Task::End { reason: None, save_kept: false }
        } else {
            self.course.task
        };
        if self.directive.reduce_scatter_from.is_none()
            && let (Some(sizes), Some(recovery)) = (self.sizes, self.settings.recovery)
            && recovery.strategy == Strategy::Auto
            && reduce_scatter_pays(sizes, n_workers, self.rules.schedule.n_slots(0))
        {
            self.directive.reduce_scatter_from = Some(at);
        }
        let save = self.save(at, task, keep, n_workers, now);
        self.directive = Directive {
            turn: Turn { number: self.directive.turn.number + 1, ..self.directive.turn },
            at,
            task,
            n_workers,
            n_members: self.target.max(n_workers),
            save,
            base: self.base.stored.clone(),
            reduce_scatter_from: self.directive.reduce_scatter_from,
            release_below: self.release_below(at),
        };
        if let (Some(save), Some(_)) = (save, self.settings.recovery) {
            let reduce_scatter_from = self.directive.reduce_scatter_from;
            self.pending.push(Pending { save, course: self.course.clone(), reduce_scatter_from, stored: None });
        }
        self.turn_began = now;
        self.sent = now;
        vec![Command::Broadcast(Message::Directive(self.directive.clone()))]
    }

    /// Has the successor lead, unless the run is ending, or a model is being stored that is to be kept.
    fn hand_over_if_ready(&mut self) -> Option<Command> {
        let is_ending = matches!(self.course.task, Task::End { .. }) || matches!(self.directive.task, Task::End { .. });
        if self.ended || !self.handing_over || is_ending || self.pending.iter().any(|p| p.save.keep) {
            return None;
        }
        self.ended = true;
        let (ahead, reduce_scatter_from) = (Some(self.course.clone()), self.directive.reduce_scatter_from);
        Some(Command::HandOver(Box::new(Checkpoint { ahead, reduce_scatter_from, ..self.base.clone() })))
    }

    /// How many workers share the next task: those there should be, as soon as the new ones have caught up and none that leaves is
    /// still storing a model.
    fn share(&self) -> u32 {
        let present = self.directive.n_workers;
        if self.target > present {
            let new = &self.members[present as usize..self.target as usize];
            if new.iter().all(|m| m.heard.is_some() && self.follows(m.reported)) { self.target } else { present }
        } else if self.pending.iter().any(|p| p.save.worker >= self.target) {
            present
        } else {
            self.target
        }
    }

    fn save(&mut self, at: u64, task: Task, keep: bool, n_workers: u32, now: Duration) -> Option<Save> {
        let Some(recovery) = self.settings.recovery else { return keep.then_some(Save { worker: 0, keep }) };
        let saved = self.base.stored.as_ref().is_some_and(|s| s.steps == at) && self.base.course == self.course;
        let first = (at / recovery.checkpoint_every % u64::from(n_workers)) as u32;
        // One who leaves would have to wait for it, so of those the one with most time left.
        let leaves_by = |worker: u32| self.members[worker as usize].leaves_by.filter(|&end| now < end);
        let in_turn = (first..n_workers).chain(0..first);
        let storer = in_turn.rev().max_by_key(|&w| leaves_by(w).unwrap_or(Duration::MAX)).unwrap_or(first);
        let (due, keep) = match task {
            _ if keep => (true, true),
            Task::End { reason: Some(_), save_kept } => (!save_kept, true),
            Task::End { reason: None, .. } => (!saved, false),
            // While one is being stored, a further one would only wait for it.
            Task::Step => {
                let someone_leaves = (0..n_workers).any(|worker| leaves_by(worker).is_some());
                let behind = at - self.base.course.steps;
                let wanted = self.save_wanted
                    || at.is_multiple_of(recovery.checkpoint_every)
                    || someone_leaves && behind >= (recovery.checkpoint_every / CATCH_UP_PART).max(1);
                (at > 0 && wanted && !saved && self.pending.is_empty() && !self.handing_over, false)
            }
            Task::Evaluate { .. } => (false, false),
        };
        self.save_wanted &= !due;
        due.then_some(Save { worker: storer, keep })
    }

    /// Below this step nobody will read gradients any more, or there are more than are kept.
    fn release_below(&self, at: u64) -> u64 {
        let Some(recovery) = self.settings.recovery else { return at.saturating_sub(1) };
        let per_step = self.sizes.map_or(0, |s| s.slot) * u64::from(self.rules.schedule.n_slots(0));
        let kept_steps = recovery.replay_bytes.checked_div(per_step).unwrap_or(u64::MAX).max(2);
        at.saturating_sub(kept_steps).max(self.previous_base.min(self.base.course.steps))
    }

    /// A worker has stored a model. Checkpoints become valid in their order, because each names the one that is kept.
    fn stored(&mut self, worker: u32, stored: Stored) -> Vec<Command> {
        let fits = |p: &&mut Pending| p.save.worker == worker && p.course.steps == stored.steps && p.stored.is_none();
        if let Some(pending) = self.pending.iter_mut().find(fits) {
            pending.stored = Some(stored);
        }
        self.commit()
    }

    /// Makes the models that are stored checkpoints, up to the first that is not.
    fn commit(&mut self) -> Vec<Command> {
        let done = self.pending.iter().take_while(|p| p.stored.is_some()).count();
        let mut commands = Vec::new();
        for Pending { save, course, reduce_scatter_from, stored } in self.pending.drain(..done) {
            let kept = if save.keep { stored.clone() } else { self.base.kept.clone() };
            self.previous_base = self.base.course.steps;
            self.base = Checkpoint { stored, kept, course, reduce_scatter_from, ahead: None };
            self.rollbacks = 0;
            commands.push(Command::Commit(Box::new(self.base.clone())));
        }
        commands
    }

    /// A worker lives anew. What its last life was storing is not stored, unless it is told to again.
    fn reborn(&mut self, worker: u32, now: Duration) -> Vec<Command> {
        let (save, at) = (self.directive.save, self.directive.at);
        // Who has reported already is not waited for, so the turn may be over before its next life comes to it.
        let reported = self.members[worker as usize].reported == self.directive.turn;
        let again = save.is_some_and(|save| save.worker == worker) && !reported;
        let lost = |p: &Pending| p.save.worker == worker && p.stored.is_none() && !(again && p.course.steps == at);
        if self.pending.iter().any(|p| lost(p) && p.save.keep) {
            return self.rollback(at, now);
        }
        self.pending.retain(|p| !lost(p));
        self.commit()
    }

    /// All go back to the newest checkpoint.
    fn rollback(&mut self, step: u64, now: Duration) -> Vec<Command> {
        if self.rollbacks == ROLLBACKS_MAX {
            return self.finish(Outcome::Forgotten { step, times: self.rollbacks });
        }
        self.rollbacks += 1;
        self.course = self.base.course.clone();
        self.directive.reduce_scatter_from = self.base.reduce_scatter_from;
        self.reported = Reported::default();
        self.counted.clear();
        self.timings.clear();
        self.pending.clear();
        let mut commands = vec![Command::Rollback { steps: self.course.steps }];
        commands.extend(self.next(false, now));
        commands
    }

    fn scale(&mut self, n_workers: u32, now: Duration) -> Vec<Command> {
        if self.settings.recovery.is_none() || n_workers == 0 || n_workers == self.target {
            return vec![];
        }
        self.target = n_workers;
        let needed = self.members.len().max(n_workers as usize);
        self.members.resize_with(needed, Member::default);
        self.told = now;
        vec![Command::Tell(Message::Launch { n_workers, silent: vec![] })]
    }

    fn tick(&mut self, now: Duration) -> Vec<Command> {
        let mut commands = self.look_for_lost(now);
        if !self.ended && now.saturating_sub(self.sent) >= REPEAT {
            self.sent = now;
            commands.push(Command::Broadcast(Message::Directive(self.directive.clone())));
        }
        commands
    }

    fn look_for_lost(&mut self, now: Duration) -> Vec<Command> {
        let Members { silence_max, .. } = self.settings;
        let (turn, began) = (self.directive.turn, self.turn_began);
        let mut silent = Vec::new();
        for (w, member) in (0..self.target.max(self.directive.n_workers)).zip(&mut self.members) {
            let since = member.heard.unwrap_or_default().max(began).max(member.given_up);
            let storing = self.pending.iter().any(|p| p.save.worker == w && p.stored.is_none());
            let waited_for = member.reported != turn || w >= self.directive.n_workers || storing;
            if waited_for && now.saturating_sub(since) > silence_max {
                member.given_up = now;
                silent.push((w, member.incarnation));
            }
        }
        if silent.is_empty() {
            return vec![];
        }
        if self.settings.recovery.is_some() {
            // One that is to leave is not launched again: the others do without it.
            if silent.iter().any(|(worker, _)| *worker >= self.target) {
                return self.rollback(self.directive.at, now);
            }
            return vec![Command::Tell(Message::Launch { n_workers: self.target, silent })];
        }
        // A worker that falls silent after its work is done does not spoil the run.
        if let Task::End { reason: Some(reason), .. } = self.directive.task {
            return self.finish(Outcome::Finished(self.course.finished(reason)));
        }
        self.finish(Outcome::Lost { workers: silent.into_iter().map(|(worker, _)| worker).collect() })
    }

    fn end_if_done(&mut self) -> Vec<Command> {
        let Task::End { reason, .. } = self.directive.task else { return vec![] };
        if self.ended || !self.all_reported() || !self.pending.is_empty() {
            return vec![];
        }
        self.finish(match reason {
            Some(reason) => Outcome::Finished(self.course.finished(reason)),
            None => Outcome::Stopped { steps: self.course.steps },
        })
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Command> {
        self.ended = true;
        vec![Command::Broadcast(Message::Dismiss), Command::End(outcome)]
    }
}

/// A worker that reports the wrong batches is a bug, not a wrong model.
fn wrong_batches(worker: u32, losses: &[BatchLoss], expected: usize) -> Outcome {
    let slots: Vec<u32> = losses.iter().map(|loss| loss.slot).collect();
    let error = format!("it reported the batches {slots:?}, not the {expected} that are its own");
    Outcome::Failed { worker, kind: ErrorKind::Internal, error, fix: None }
}
