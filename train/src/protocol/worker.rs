//! What a worker does when.
//!
//! A worker knows how many steps its model has seen and what the supervisor's newest directive wants. Whenever it is free it does
//! what is next on the way there:
//!
//! ```text
//! ahead of the directive, or so far behind that
//! gradients are forgotten                    ->  load the checkpoint
//! behind the directive                       ->  collect and apply the next step
//! there                                      ->  store the model if told so, do the task, report it;
//!                                                after a step: collect and apply it
//! done                                       ->  wait, repeating the report
//! ```

use schemas::message::{Address, Directive, Envelope, Message, Party, Save, Sizes, Stored, Task, Turn, Work};
use schemas::records::{BatchLoss, Scores, StepTimings};
use schemas::report::StopReason;
use train_core::order::{Schedule, worker_of_slot};

use super::{Refusal, check_origin};

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It has started and can receive.
    Launched,
    /// A message came.
    Received(Envelope),
    /// Nothing came for a while.
    Tick,
    /// It has computed and published its batches of the step.
    Computed {
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
    },
    /// It has applied the reduced gradient of the step.
    Applied {
        /// Where the time of the step went.
        timings: StepTimings,
        /// How large its gradients are, when it has measured that.
        sizes: Option<Sizes>,
    },
    /// The gradients of the step were not there for long.
    Absent,
    /// It has let go of the step because the supervisor wants something else.
    Interrupted,
    /// It has measured its held-out batches.
    Evaluated {
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
        /// Their rows by the model's output, for click logs.
        scores: Option<Scores>,
    },
    /// The model is that of the checkpoint.
    Loaded,
    /// A model that it was to store is stored.
    Stored(Stored),
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send this to the supervisor in this life of it.
    Send(Address, Message),
    /// Compute and publish the gradients of this worker's batches of the step.
    Compute {
        /// The step.
        step: u64,
        /// Workers that share it.
        n_workers: u32,
    },
    /// Collect the gradients of all, reduce and apply them.
    Collect(Collect),
    /// Measure this worker's held-out batches.
    Evaluate {
        /// Workers that share them.
        n_workers: u32,
    },
    /// Take the model from the checkpoint; without one, the model at its start.
    Load(Option<Stored>),
    /// Keep the model as it is now, after `steps` steps.
    Save {
        /// What it has seen.
        steps: u64,
        /// It may be the result of the run.
        keep: bool,
    },
    /// Forget the gradients of all steps below this.
    Release {
        /// The step.
        below: u64,
    },
    /// Finish in order: the run has ended. What is being stored must be stored first.
    Finish {
        /// Why; nothing when it was stopped on request.
        reason: Option<StopReason>,
        /// The result is the kept model rather than the present one.
        save_kept: bool,
    },
    /// Go: the work is shared out among fewer. What is being stored must be stored first.
    Leave,
    /// Go: a later life has taken over, gradients too. What is being stored must be stored first.
    Rest,
    /// Stop at once: the run is over.
    Dismiss,
}

/// How a step is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collect {
    /// The step.
    pub step: u64,
    /// The step that the run is at. Gradients of those before were all published long ago: they are there or lost.
    pub present: u64,
    /// They are reduced in slices.
    pub reduce_scatter: bool,
    /// Workers that reduce them.
    pub n_workers: u32,
}

impl Collect {
    /// Whether the run is beyond the step.
    #[must_use]
    pub const fn is_past(&self) -> bool {
        self.step < self.present
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    New,
    Idle,
    Loading,
    Computing(Turn),
    Collecting(u64),
    Evaluating(Turn),
    Ended,
}

/// One worker's side of the protocol.
#[derive(Clone, Debug)]
pub struct Worker {
    run: String,
    number: u32,
    schedule: Schedule,
    /// The supervisor's life, as far as known.
    supervisor: u32,
    activity: Activity,
    /// Steps that the model has seen.
    steps: u64,
    /// Whether it has seen one of them in this life, or has loaded a checkpoint.
    begun: bool,
    directive: Option<Directive>,
    /// The last turn whose task is done, and what was said about it.
    done: Option<(Turn, Work)>,
    /// The last turn in which the model was stored.
    saved: Option<Turn>,
    /// What it has stored and the supervisor may not know yet.
    stored: Vec<Stored>,
    /// Of the last step, which the supervisor knows once the next turn is over.
    timings: Option<StepTimings>,
    sizes: Option<Sizes>,
}

impl Worker {
    /// Worker `number` of `run`, whose model has seen `steps` steps. `supervisor` is the life of the supervisor that it was launched
    /// under.
    #[must_use]
    pub fn new(run: &str, number: u32, supervisor: u32, schedule: Schedule, steps: u64) -> Self {
        Self {
            run: run.to_owned(),
            number,
            schedule,
            supervisor,
            activity: Activity::New,
            steps,
            begun: false,
            directive: None,
            done: None,
            saved: None,
            stored: Vec::new(),
            timings: None,
            sizes: None,
        }
    }

    /// Whether there is nothing to do until a message comes.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self.activity, Activity::Idle)
    }

    /// Whether the run has ended for this worker.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.activity, Activity::Ended)
    }

    /// Steps that the model has seen.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The supervisor's life, as far as this worker knows.
    #[must_use]
    pub const fn supervisor(&self) -> u32 {
        self.supervisor
    }

    /// Whether there is a checkpoint.
    #[must_use]
    pub fn has_base(&self) -> bool {
        self.directive.as_ref().is_some_and(|d| d.base.is_some())
    }

    /// Whether the gradients of `step` are reduced in slices.
    #[must_use]
    pub fn reduces_in_slices(&self, step: u64) -> bool {
        self.directive.as_ref().and_then(|d| d.reduce_scatter_from).is_some_and(|from| step >= from)
    }

    /// Whether the supervisor wants something else than that the present step is collected.
    #[must_use]
    pub fn is_wanted_elsewhere(&self) -> bool {
        match (self.activity, &self.directive) {
            (Activity::Collecting(step), Some(directive)) => {
                directive.at < step
                    || directive.at == step && !self.has_done(directive)
                    || is_forgotten(directive, step)
                    || self.number >= directive.n_members
            }
            (Activity::Collecting(_), None) => false,
            _ => true,
        }
    }

    /// Takes one event and says what to do.
    ///
    /// # Errors
    /// A [`Refusal`] of a message; the state is then unchanged.
    ///
    /// # Panics
    /// When the shell reports something it was not told to do.
    pub fn handle(&mut self, event: Event) -> Result<Vec<Command>, Refusal> {
        let mut commands = Vec::new();
        match (self.activity, event) {
            (Activity::Ended, _) => return Ok(commands),
            (_, Event::Received(envelope)) => {
                if let Some(last) = self.receive(envelope)? {
                    return Ok(vec![last]);
                }
            }
            (Activity::New, Event::Launched) => {
                self.activity = Activity::Idle;
                commands.push(self.to_supervisor(Message::Hello));
            }
            (_, Event::Stored(stored)) => {
                self.stored.push(stored);
                commands.extend(self.repeated());
            }
            (_, Event::Tick) => {
                commands.extend(self.repeated());
                if self.directive.is_none() && self.activity == Activity::Idle {
                    commands.push(self.to_supervisor(Message::Hello));
                }
            }
            (Activity::Computing(turn), Event::Computed { losses }) => {
                self.activity = Activity::Idle;
                let (timings, sizes) = (self.timings, self.sizes);
                commands.extend(self.report(turn, Work::Computed { losses, timings, sizes }));
            }
            (Activity::Evaluating(turn), Event::Evaluated { losses, scores }) => {
                self.activity = Activity::Idle;
                commands.extend(self.report(turn, Work::Evaluated { losses, scores }));
            }
            (Activity::Collecting(step), Event::Applied { timings, sizes }) => {
                self.activity = Activity::Idle;
                self.steps = step + 1;
                self.begun = true;
                self.timings = Some(timings);
                self.sizes = self.sizes.or(sizes);
            }
            (Activity::Collecting(_), Event::Interrupted) => self.activity = Activity::Idle,
            (Activity::Collecting(step), Event::Absent) => {
                self.activity = Activity::Idle;
                let directive = self.directive.as_ref().expect("a directive was followed");
                if step < base_steps(directive) {
                    commands.push(self.load());
                } else if step < directive.at {
                    commands.push(self.to_supervisor(Message::Missing { turn: directive.turn, step }));
                }
            }
            (Activity::Loading, Event::Loaded) => {
                self.activity = Activity::Idle;
                self.begun = true;
                self.timings = None;
            }
            (activity, event) => panic!("{event:?} does not happen while {activity:?}"),
        }
        if self.activity == Activity::Idle {
            commands.extend(self.advance());
        }
        Ok(commands)
    }

    /// A message; some end everything.
    fn receive(&mut self, envelope: Envelope) -> Result<Option<Command>, Refusal> {
        check_origin(&envelope, &self.run)?;
        let Address { party: sender, incarnation } = envelope.sender;
        if sender != Party::Supervisor {
            return Err(Refusal::Unexpected { sender });
        }
        if incarnation < self.supervisor {
            return Err(Refusal::Stale { sender, found: incarnation, current: self.supervisor });
        }
        match envelope.message {
            Message::Dismiss => {
                self.activity = Activity::Ended;
                Ok(Some(Command::Dismiss))
            }
            Message::Relieved => {
                self.activity = Activity::Ended;
                Ok(Some(Command::Rest))
            }
            Message::Directive(directive) if directive.turn.supervisor == incarnation => {
                self.supervisor = incarnation;
                if self.directive.as_ref().is_none_or(|present| present.turn < directive.turn) {
                    self.stored.retain(|stored| stored.steps > base_steps(&directive));
                    self.directive = Some(directive);
                }
                Ok(None)
            }
            _ => Err(Refusal::Unexpected { sender }),
        }
    }

    /// What is next on the way to what the directive wants.
    fn advance(&mut self) -> Vec<Command> {
        let Some(directive) = self.directive.clone() else { return vec![] };
        let Directive { turn, at, task, n_workers, save, .. } = directive;
        if self.number >= directive.n_members {
            self.activity = Activity::Ended;
            return vec![Command::Leave];
        }
        let collect = |step| {
            let reduce_scatter = directive.reduce_scatter_from.is_some_and(|from| step >= from);
            Command::Collect(Collect { step, present: at, reduce_scatter, n_workers })
        };
        if self.has_done(&directive) {
            if task == Task::Step && self.steps == at {
                self.activity = Activity::Collecting(at);
                return vec![collect(at)];
            }
            return vec![];
        }
        let is_behind = if self.begun { is_forgotten } else { |d: &Directive, steps| steps < base_steps(d) };
        if self.steps > at || is_behind(&directive, self.steps) {
            return vec![self.load()];
        }
        if self.steps < at {
            self.activity = Activity::Collecting(self.steps);
            return vec![collect(self.steps)];
        }
        let mut commands = vec![Command::Release { below: directive.release_below }];
        if let Some(Save { worker, keep }) = save
            && worker == self.number
            && self.saved != Some(turn)
        {
            self.saved = Some(turn);
            commands.push(Command::Save { steps: at, keep });
        }
        let shares = self.number < n_workers;
        match task {
            Task::Step
                if shares && (0..self.schedule.n_slots(at)).any(|s| worker_of_slot(s, n_workers) == self.number) =>
            {
                self.activity = Activity::Computing(turn);
                commands.push(Command::Compute { step: at, n_workers });
            }
            Task::Step => {
                let (timings, sizes) = (self.timings, self.sizes);
                commands.extend(self.report(turn, Work::Computed { losses: vec![], timings, sizes }));
                self.activity = Activity::Collecting(at);
                commands.push(collect(at));
            }
            Task::Evaluate { .. } if shares => {
                self.activity = Activity::Evaluating(turn);
                commands.push(Command::Evaluate { n_workers });
            }
            Task::Evaluate { .. } => {
                commands.extend(self.report(turn, Work::Evaluated { losses: vec![], scores: None }));
            }
            Task::End { reason, save_kept } => {
                commands.push(Command::Finish { reason, save_kept });
                let timings = self.timings;
                commands.extend(self.report(turn, Work::Finished { timings }));
            }
        }
        commands
    }

    /// Goes to the checkpoint, there or back.
    fn load(&mut self) -> Command {
        let base = self.directive.as_ref().and_then(|directive| directive.base.clone());
        self.activity = Activity::Loading;
        self.steps = base.as_ref().map_or(0, |base| base.steps);
        Command::Load(base)
    }

    fn has_done(&self, directive: &Directive) -> bool {
        self.done.as_ref().is_some_and(|(turn, _)| *turn == directive.turn)
    }

    /// Reports on `turn`, unless something else is wanted meanwhile.
    fn report(&mut self, turn: Turn, result: Work) -> Option<Command> {
        if self.directive.as_ref().is_some_and(|d| d.turn != turn) {
            return None;
        }
        self.done = Some((turn, result));
        self.repeated()
    }

    /// The last report once more, as long as nothing new is wanted.
    fn repeated(&self) -> Option<Command> {
        let (turn, result) = self.done.as_ref()?;
        let present = self.directive.as_ref().is_some_and(|d| d.turn == *turn);
        let message = Message::Report { turn: *turn, result: result.clone(), stored: self.stored.clone() };
        present.then(|| self.to_supervisor(message))
    }

    fn to_supervisor(&self, message: Message) -> Command {
        Command::Send(Party::Supervisor.life(self.supervisor), message)
    }
}

/// Whether the gradients of `step` may be gone, as nobody needs them who begins at the checkpoint.
fn is_forgotten(directive: &Directive, step: u64) -> bool {
    step < base_steps(directive).min(directive.release_below)
}

fn base_steps(directive: &Directive) -> u64 {
    directive.base.as_ref().map_or(0, |base| base.steps)
}

#[cfg(test)]
mod tests {
    use super::super::envelope;
    use super::*;

    fn directive(number: u64, at: u64, task: Task) -> Directive {
        Directive {
            turn: Turn { supervisor: 0, number },
            at,
            task,
            n_workers: 1,
            n_members: 1,
            save: None,
            base: None,
            reduce_scatter_from: None,
            release_below: 0,
        }
    }

    fn told(directive: Directive) -> Event {
        Event::Received(envelope(
            "run",
            Party::Supervisor.life(directive.turn.supervisor),
            Message::Directive(directive),
        ))
    }

    fn collecting(step: u64) -> Worker {
        let mut worker = Worker::new("run", 0, 0, Schedule::new(9, 1), step);
        worker.handle(Event::Launched).unwrap();
        worker.handle(told(directive(1, step, Task::Step))).unwrap();
        worker.handle(Event::Computed { losses: vec![] }).unwrap();
        worker
    }

    fn computes(commands: &[Command]) -> Option<u64> {
        commands.iter().find_map(|c| if let Command::Compute { step, .. } = c { Some(*step) } else { None })
    }

    #[test]
    fn an_early_answer_is_kept_until_the_step_is_applied() {
        let mut worker = collecting(0);
        assert_eq!(worker.handle(told(directive(2, 1, Task::Step))).unwrap(), []);
        assert!(!worker.is_wanted_elsewhere());
        let applied = Event::Applied { timings: StepTimings::default(), sizes: None };
        assert_eq!(computes(&worker.handle(applied).unwrap()), Some(1));
    }

    #[test]
    fn a_repeated_or_older_directive_changes_nothing() {
        let mut worker = collecting(0);
        worker.handle(told(directive(3, 1, Task::Step))).unwrap();
        let applied = Event::Applied { timings: StepTimings::default(), sizes: None };
        worker.handle(applied).unwrap();
        worker.handle(Event::Computed { losses: vec![] }).unwrap();
        for number in [1, 2, 3] {
            assert_eq!(worker.handle(told(directive(number, 0, Task::Step))).unwrap(), []);
        }
        assert!(!worker.is_wanted_elsewhere());
    }

    #[test]
    fn messages_of_another_run_version_or_party_are_refused() {
        let refused = |message: Envelope| collecting(0).handle(Event::Received(message)).unwrap_err().to_string();
        let mut other = envelope("run", Party::Supervisor.life(0), Message::Dismiss);
        other.protocol = 1;
        assert_eq!(refused(other), "protocol version 1 is not 4");
        let from = |run, party: Party, message| refused(envelope(run, party.life(0), message));
        assert_eq!(from("other", Party::Supervisor, Message::Dismiss), "it belongs to run `other`");
        assert_eq!(from("run", Party::Worker(3), Message::Dismiss), "worker 3 does not say this");
        assert_eq!(from("run", Party::Supervisor, Message::Hello), "the supervisor does not say this");
    }

    #[test]
    fn a_dismissal_ends_the_worker_in_every_state() {
        let mut worker = collecting(0);
        let dismiss = Event::Received(envelope("run", Party::Supervisor.life(0), Message::Dismiss));
        assert_eq!(worker.handle(dismiss.clone()).unwrap(), [Command::Dismiss]);
        assert!(worker.ended());
        assert_eq!(worker.handle(dismiss).unwrap(), []);
    }

    #[test]
    fn a_worker_that_is_told_to_go_back_lets_go_and_loads() {
        let mut worker = collecting(5);
        worker.handle(told(directive(2, 0, Task::Step))).unwrap();
        assert!(worker.is_wanted_elsewhere());
        assert_eq!(worker.handle(Event::Interrupted).unwrap(), [Command::Load(None)]);
        assert_eq!(computes(&worker.handle(Event::Loaded).unwrap()), Some(0));
    }

    #[test]
    fn the_last_message_carries_the_last_timings() {
        let mut worker = collecting(7);
        worker
            .handle(Event::Applied { timings: StepTimings { step: 7, ..StepTimings::default() }, sizes: None })
            .unwrap();
        let end = Task::End { reason: Some(StopReason::MaxEpochs), save_kept: true };
        let commands = worker.handle(told(directive(2, 8, end))).unwrap();
        let timings = Some(StepTimings { step: 7, ..StepTimings::default() });
        let turn = Turn { supervisor: 0, number: 2 };
        let report = Message::Report { turn, result: Work::Finished { timings }, stored: vec![] };
        assert_eq!(commands.last(), Some(&Command::Send(Party::Supervisor.life(0), report)));
    }
}
