//! What a worker does when.
//!
//! ```text
//! Launched -> Joined -> [Start] -> compute -> collect and apply -> [Step] -> compute ...
//!                                                                      \-> evaluate -> [Evaluation] -> ...
//! ```
//!
//! In brackets are the milestones where the worker waits for the supervisor. The supervisor's answer to a step may come
//! while the worker still applies it, so one answer is kept until it is due.

use schemas::message::{BatchLoss, Envelope, Message, Milestone, Next, Party, Scores, StepTimings};
use schemas::report::StopReason;

use super::{Refusal, check_origin};

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It has started and can receive.
    Launched,
    /// It has computed and published its batches of a step.
    Computed {
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
    },
    /// It has applied the reduced gradient of the step.
    Applied {
        /// Where the time of the step went.
        timings: StepTimings,
    },
    /// It has measured its held-out batches.
    Evaluated {
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
        /// Their rows by the model's output, for click logs.
        scores: Option<Scores>,
    },
    /// A message came.
    Received(Envelope),
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send this to the supervisor.
    Send(Message),
    /// Compute and publish the gradients of this worker's batches of the step.
    Compute {
        /// The step.
        step: u64,
    },
    /// Collect the gradients of all, reduce and apply them.
    Apply {
        /// The step.
        step: u64,
    },
    /// Measure this worker's held-out batches.
    Evaluate {
        /// The epoch that has just ended.
        epoch: u64,
    },
    /// Keep the model as it is now.
    KeepModel,
    /// Finish in order: the run has ended.
    Finish {
        /// Why.
        reason: StopReason,
        /// Save the kept model rather than the present one.
        save_kept: bool,
    },
    /// Stop at once: the run has failed.
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Computing(u64),
    Applying(u64),
    Evaluating(u64),
    Waiting(Milestone),
    Ended,
}

/// One worker's side of the protocol.
#[derive(Clone, Debug)]
pub struct Worker {
    run: String,
    state: State,
    /// The supervisor's answer to the milestone that comes next, when it came early.
    early: Option<(Milestone, bool, Next)>,
    timings: Option<StepTimings>,
}

impl Worker {
    /// A worker of `run` that has not started.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self { run: run.to_owned(), state: State::New, early: None, timings: None }
    }

    /// Whether there is nothing to do until a message comes.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Whether the run has ended for this worker.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Takes one event and says what to do.
    ///
    /// # Errors
    /// A [`Refusal`] of a message; the state is then unchanged.
    ///
    /// # Panics
    /// When the shell reports something it was not told to do.
    pub fn handle(&mut self, event: Event) -> Result<Vec<Command>, Refusal> {
        match (self.state, event) {
            (State::Ended, _) => Ok(vec![]),
            (State::New, Event::Launched) => {
                let mut commands = vec![Command::Send(Message::Joined)];
                commands.extend(self.arrive(Milestone::Start));
                Ok(commands)
            }
            (State::Computing(step), Event::Computed { losses }) => {
                self.state = State::Applying(step);
                let timings = self.timings.take();
                Ok(vec![Command::Send(Message::Computed { step, losses, timings }), Command::Apply { step }])
            }
            (State::Applying(step), Event::Applied { timings }) => {
                self.timings = Some(timings);
                Ok(self.arrive(Milestone::Step(step)))
            }
            (State::Evaluating(epoch), Event::Evaluated { losses, scores }) => {
                let mut commands = vec![Command::Send(Message::Evaluated { epoch, losses, scores })];
                commands.extend(self.arrive(Milestone::Evaluation(epoch)));
                Ok(commands)
            }
            (_, Event::Received(envelope)) => self.receive(envelope),
            (state, event) => panic!("{event:?} does not happen in state {state:?}"),
        }
    }

    fn receive(&mut self, envelope: Envelope) -> Result<Vec<Command>, Refusal> {
        check_origin(&envelope, &self.run)?;
        match envelope.message {
            _ if envelope.sender != Party::Supervisor => Err(Refusal::Unexpected { sender: envelope.sender }),
            Message::Abort => {
                self.state = State::Ended;
                Ok(vec![Command::Abort])
            }
            Message::Proceed { after, keep_model, next } => {
                if self.state == State::Waiting(after) {
                    return Ok(self.proceed(keep_model, next));
                }
                if self.ahead() == Some(after) {
                    self.early = Some((after, keep_model, next));
                }
                Ok(vec![])
            }
            _ => Err(Refusal::Unexpected { sender: envelope.sender }),
        }
    }

    /// The milestone this worker is on its way to. An answer to any other is a repetition.
    const fn ahead(&self) -> Option<Milestone> {
        match self.state {
            State::New => Some(Milestone::Start),
            State::Computing(step) | State::Applying(step) => Some(Milestone::Step(step)),
            State::Evaluating(epoch) => Some(Milestone::Evaluation(epoch)),
            State::Waiting(_) | State::Ended => None,
        }
    }

    fn arrive(&mut self, milestone: Milestone) -> Vec<Command> {
        self.state = State::Waiting(milestone);
        match self.early.take() {
            Some((after, keep_model, next)) if after == milestone => self.proceed(keep_model, next),
            _ => vec![],
        }
    }

    fn proceed(&mut self, keep_model: bool, next: Next) -> Vec<Command> {
        let mut commands = Vec::new();
        if keep_model {
            commands.push(Command::KeepModel);
        }
        match next {
            Next::Step(step) => {
                self.state = State::Computing(step);
                commands.push(Command::Compute { step });
            }
            Next::Evaluate(epoch) => {
                self.state = State::Evaluating(epoch);
                commands.push(Command::Evaluate { epoch });
            }
            Next::End { reason, save_kept } => {
                self.state = State::Ended;
                commands.push(Command::Finish { reason, save_kept });
                commands.push(Command::Send(Message::Finished { timings: self.timings.take() }));
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope;
    use super::*;

    fn proceed(after: Milestone, next: Next) -> Event {
        let message = Message::Proceed { after, keep_model: false, next };
        Event::Received(envelope("run", Party::Supervisor, 0, message))
    }

    fn applying(step: u64) -> Worker {
        let mut worker = Worker::new("run");
        worker.handle(Event::Launched).unwrap();
        worker.handle(proceed(Milestone::Start, Next::Step(step))).unwrap();
        worker.handle(Event::Computed { losses: vec![] }).unwrap();
        worker
    }

    fn applied(step: u64) -> Event {
        Event::Applied { timings: StepTimings { step, ..StepTimings::default() } }
    }

    #[test]
    fn an_early_answer_is_kept_until_the_step_is_applied() {
        let mut worker = applying(0);
        assert_eq!(worker.handle(proceed(Milestone::Step(0), Next::Step(1))).unwrap(), []);
        assert_eq!(worker.handle(applied(0)).unwrap(), [Command::Compute { step: 1 }]);
    }

    #[test]
    fn a_repeated_answer_changes_nothing() {
        let mut worker = applying(0);
        worker.handle(applied(0)).unwrap();
        let answer = proceed(Milestone::Step(0), Next::Step(1));
        assert_eq!(worker.handle(answer.clone()).unwrap(), [Command::Compute { step: 1 }]);
        assert_eq!(worker.handle(answer.clone()).unwrap(), []);
        worker.handle(Event::Computed { losses: vec![] }).unwrap();
        assert_eq!(worker.handle(answer.clone()).unwrap(), []);
        worker.handle(applied(1)).unwrap();
        assert_eq!(worker.handle(answer).unwrap(), []);
        assert!(worker.waits());
    }

    #[test]
    fn messages_of_another_run_version_or_party_are_refused() {
        let refused = |message: Envelope| applying(0).handle(Event::Received(message)).unwrap_err().to_string();
        let mut other = envelope("run", Party::Supervisor, 0, Message::Abort);
        other.protocol = 2;
        assert_eq!(refused(other), "protocol version 2 is not 1");
        assert_eq!(refused(envelope("other", Party::Supervisor, 0, Message::Abort)), "it belongs to run `other`");
        assert_eq!(refused(envelope("run", Party::Worker(3), 0, Message::Abort)), "worker 3 does not say this");
        assert_eq!(refused(envelope("run", Party::Supervisor, 0, Message::Joined)), "the supervisor does not say this");
    }

    #[test]
    fn an_abort_ends_the_worker_in_every_state() {
        let mut worker = applying(0);
        let abort = Event::Received(envelope("run", Party::Supervisor, 0, Message::Abort));
        assert_eq!(worker.handle(abort.clone()).unwrap(), [Command::Abort]);
        assert!(worker.ended());
        assert_eq!(worker.handle(abort).unwrap(), []);
    }

    #[test]
    fn the_last_message_carries_the_last_timings() {
        let mut worker = applying(7);
        worker.handle(applied(7)).unwrap();
        let end = Next::End { reason: StopReason::MaxEpochs, save_kept: true };
        let commands = worker.handle(proceed(Milestone::Step(7), end)).unwrap();
        let timings = Some(StepTimings { step: 7, ..StepTimings::default() });
        assert_eq!(
            commands,
            [
                Command::Finish { reason: StopReason::MaxEpochs, save_kept: true },
                Command::Send(Message::Finished { timings }),
            ]
        );
    }
}
