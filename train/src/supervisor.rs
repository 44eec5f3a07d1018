//! The supervisor's shell: moves messages, keeps the records, and ends the run when a signal comes.

use std::time::{Duration, Instant};

use reporting::interrupt;
use schemas::message::{Address, Message, Party};
use schemas::records::{EvaluationRecord, Outcome};

use crate::checkpoints::Writer;
use crate::control::{ControlError, ControlPlane, Mailbox};
use crate::display::Display;
use crate::error::Error;
use crate::protocol::course::Rules;
use crate::protocol::envelope;
use crate::protocol::supervisor::{Checkpoint, Command, Event, Members, Supervisor};
use crate::records::Records;

/// Which run is supervised, by which life of its supervisor.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    /// The run.
    pub run: &'a str,
    /// The supervisor's incarnation.
    pub incarnation: u32,
    /// When the run began, or when it would have begun had it not been interrupted.
    pub start: Instant,
}

/// Who watches the run.
pub enum Audience<'a> {
    /// A person, at this process's console.
    Person(Display<'a>),
    /// The client, in another process.
    Client(Address),
}

/// How often the supervisor looks for signals and silent workers.
const POLL: Duration = Duration::from_millis(100);

/// How often those who watch hear of steps.
const SHOW: Duration = Duration::from_millis(200);

/// Supervises a run until it is over. It goes on from a checkpoint, whose steps are on record; further ones go to the writer.
///
/// # Errors
/// A signal; the workers are then told to stop. A failure of the control plane or of the storage of checkpoints.
pub fn supervise(
    post: &Post<'_>,
    rules: Rules,
    members: Members,
    (base, records, writer): (Checkpoint, Records, Option<Writer>),
    control: &dyn ControlPlane,
    mailbox: &mut dyn Mailbox,
    audience: Audience<'_>,
) -> Result<(Outcome, Records), Error> {
    let now = post.start.elapsed();
    let (protocol, commands) = Supervisor::new(post.run, post.incarnation, rules, members, base, now);
    let rows = records.rows();
    let mut shell =
        Shell { post, protocol, control, records, writer, rows, mark: now, audience, shown: now, unshown: Vec::new() };
    if let Some(outcome) = shell.carry_out_all(commands)? {
        return Ok((outcome, shell.records));
    }
    loop {
        if let Err(stopped) = interrupt::check() {
            shell.broadcast(Message::Dismiss)?;
            return Err(stopped.into());
        }
        let event = mailbox.receive(POLL)?;
        // Between two messages there is time to look at the clock as well, however many there are.
        for event in event.map(Event::Received).into_iter().chain([Event::Tick]) {
            // A message that is not for this supervisor changes nothing.
            let commands = shell.protocol.handle(event, post.start.elapsed()).unwrap_or_default();
            if let Some(outcome) = shell.carry_out_all(commands)? {
                return Ok((outcome, shell.records));
            }
        }
        shell.show(false)?;
    }
}

struct Shell<'a> {
    post: &'a Post<'a>,
    protocol: Supervisor,
    control: &'a dyn ControlPlane,
    records: Records,
    writer: Option<Writer>,
    /// Rows of all steps on record.
    rows: u64,
    /// When the present step could begin.
    mark: Duration,
    audience: Audience<'a>,
    shown: Duration,
    unshown: Vec<EvaluationRecord>,
}

impl Shell<'_> {
    fn carry_out_all(&mut self, commands: Vec<Command>) -> Result<Option<Outcome>, Error> {
        for command in commands {
            if let Some(outcome) = self.carry_out(command)? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    fn carry_out(&mut self, command: Command) -> Result<Option<Outcome>, Error> {
        match command {
            Command::Broadcast(message) => self.broadcast(message)?,
            Command::Send(to, message) => self.send(to, message)?,
            Command::Tell(message) => {
                if let Audience::Client(client) = self.audience {
                    self.send(client, message)?;
                }
            }
            Command::Started => self.mark = self.post.start.elapsed(),
            Command::Step(record, counted) => {
                self.records.stepping += record.time.saturating_sub(self.mark);
                self.mark = record.time;
                self.records.steps.push(record);
                self.records.counted.extend(counted.into_iter().map(|counted| (record.step, counted)));
                self.rows += record.rows;
            }
            Command::Evaluation(record) => {
                self.mark = self.post.start.elapsed();
                // All may have gone back to between the step and its evaluation.
                self.records.evaluations.retain(|e| e.step < record.step);
                self.records.evaluations.push(record);
                self.unshown.push(record);
            }
            Command::Timings { worker, timings } => self.records.timings.push((worker, timings)),
            Command::Commit(checkpoint) => {
                if let Some(writer) = &mut self.writer {
                    writer.commit(*checkpoint, &self.records)?;
                }
            }
            Command::Rollback { steps } => {
                self.mark = self.post.start.elapsed();
                self.records.truncate(steps);
                self.rows = self.records.rows();
                if let Audience::Person(display) = &self.audience {
                    display.note(&format!("gradients were lost: all workers go back to step {steps}"));
                }
            }
            Command::End(outcome) => {
                let over = matches!(outcome, Outcome::Finished(_) | Outcome::Stopped { .. });
                if let Some(writer) = self.writer.as_mut().filter(|_| over) {
                    writer.flush(&self.records)?;
                }
                self.show(true)?;
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Shows what has happened: evaluations at once, steps now and then, or when it is the last time.
    fn show(&mut self, last: bool) -> Result<(), Error> {
        let now = self.post.start.elapsed();
        if self.shown + SHOW > now && self.unshown.is_empty() && !last {
            return Ok(());
        }
        self.shown = now;
        let step = self.records.steps.last().copied();
        let evaluations = std::mem::take(&mut self.unshown);
        match &mut self.audience {
            Audience::Person(display) => {
                evaluations.iter().for_each(|record| display.evaluation(record, now.as_secs_f64()));
                if let Some(step) = step {
                    display.step(&step, self.rows);
                }
                Ok(())
            }
            Audience::Client(client) => {
                let client = *client;
                self.send(client, Message::Shown { step, rows: self.rows, evaluations })
            }
        }
    }

    fn broadcast(&self, message: Message) -> Result<(), Error> {
        Ok(self.control.broadcast(&self.envelope(message))?)
    }

    fn send(&self, to: Address, message: Message) -> Result<(), Error> {
        match self.control.send(to, &self.envelope(message)) {
            // A life that is over, or not begun. What is said is repeated to the next.
            Err(ControlError::NoMailbox { .. }) => Ok(()),
            sent => Ok(sent?),
        }
    }

    fn envelope(&self, message: Message) -> schemas::message::Envelope {
        envelope(self.post.run, Party::Supervisor.life(self.post.incarnation), message)
    }
}
