//! The supervisor's shell: moves messages, keeps the records, and ends the run when a signal comes.

use std::time::{Duration, Instant};

use reporting::interrupt;
use schemas::message::{Address, Losses, Message, Party};
use schemas::records::{EvaluationRecord, Outcome};

use crate::checkpoints::Writer;
use crate::control::{ControlError, ControlPlane, Mailbox};
use crate::display::lanes::Timings;
use crate::display::{Display, News};
use crate::error::Error;
use crate::protocol::course::Rules;
use crate::protocol::supervisor::{Checkpoint, Command, Event, Members, Supervisor};
use crate::protocol::{Refusal, envelope};
use crate::records::Records;
use crate::worker::Time;

/// Which run is supervised, by which life of its supervisor.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    /// The run.
    pub run: &'a str,
    /// The supervisor's incarnation.
    pub incarnation: u32,
    /// When the run began, or when it would have begun had it not been interrupted.
    pub start: Instant,
    /// When this life's time is over, if it is limited.
    pub time: Option<Time>,
}

/// Who watches the run.
pub enum Audience<'a> {
    /// A person, at this process's console.
    Person(Box<Display<'a>>),
    /// The client, in another process.
    Client(Address),
}

/// How often the supervisor looks for signals and silent workers.
const POLL: Duration = Duration::from_millis(100);

/// How often those who watch hear of steps.
const SHOW: Duration = Duration::from_millis(200);

/// How often they hear of each worker, of whom there may be a thousand.
const SHOW_LANES: Duration = Duration::from_secs(1);

/// Supervises a run until it is over, or until a successor leads it: then there is no outcome. It goes on from a checkpoint, whose
/// steps are on record; further ones go to the writer.
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
) -> Result<(Option<Outcome>, Records), Error> {
    let now = post.start.elapsed();
    let (protocol, commands) = Supervisor::new(post.run, post.incarnation, rules, members, base, now);
    let rows = records.rows();
    let mut shell = Shell {
        post,
        protocol,
        control,
        records,
        writer,
        rows,
        mark: now,
        audience,
        shown: now,
        unshown: Vec::new(),
        losses: Losses::default(),
        timings: Timings::default(),
        lanes_due: now,
        told: None,
        successor: None,
        led: false,
    };
    if let Some(outcome) = shell.carry_out_all(commands)? {
        return Ok((Some(outcome), shell.records));
    }
    loop {
        if let Err(stopped) = interrupt::check() {
            shell.broadcast(Message::Dismiss)?;
            return Err(stopped.into());
        }
        let event = mailbox.receive(POLL)?;
        if let Some(envelope) = event.as_ref().filter(|e| e.message == Message::Hello && e.run == post.run) {
            shell.hear_successor(envelope.sender);
        }
        if shell.led || post.time.is_some_and(|time| Instant::now() >= time.ends) {
            return Ok((None, shell.records));
        }
        shell.say_when_leaving()?;
        // Between two messages there is time to look at the clock as well, however many there are.
        for event in event.map(Event::Received).into_iter().chain([Event::Tick]) {
            let commands = match shell.protocol.handle(event, post.start.elapsed()) {
                Ok(commands) => commands,
                // One who has been replaced, or has come late, need not wait until it believes that all are gone.
                Err(Refusal::Stale { sender, found, .. }) => {
                    shell.send(sender.life(found), Message::Relieved)?;
                    vec![]
                }
                // A message that is not for this supervisor changes nothing.
                Err(_) => vec![],
            };
            if let Some(outcome) = shell.carry_out_all(commands)? {
                return Ok((Some(outcome), shell.records));
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
    /// Of the steps that were not shown.
    losses: Losses,
    /// Of the workers, since they were last shown.
    timings: Timings,
    /// When they are shown again.
    lanes_due: Duration,
    /// When the client was last told that this life is leaving.
    told: Option<Instant>,
    /// Who waits to lead.
    successor: Option<Address>,
    /// Whether the successor was told to.
    led: bool,
}

impl Shell<'_> {
    /// Says that a successor is wanted, again and again, once this life's time runs out.
    fn say_when_leaving(&mut self) -> Result<(), Error> {
        let (Audience::Client(client), None) = (&self.audience, self.successor) else { return Ok(()) };
        match self.post.time.and_then(|time| time.to_tell(&mut self.told)) {
            Some(left) => self.send(*client, Message::Leaving { left }),
            None => Ok(()),
        }
    }

    /// The next life of this supervisor is ready: it leads from the end of this turn on.
    fn hear_successor(&mut self, sender: Address) {
        let next = Party::Supervisor.life(self.post.incarnation + 1);
        if sender == next && self.successor.is_none() {
            self.successor = Some(next);
            self.protocol.hand_over();
        }
    }

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
                self.losses.rows += record.rows;
                self.losses.loss_sum += record.loss_sum;
            }
            Command::Evaluation(record, held_out) => {
                self.mark = self.post.start.elapsed();
                // All may have gone back to between the step and its evaluation.
                self.records.evaluations.retain(|e| e.step < record.step);
                self.records.evaluations.push(record);
                self.records.held_out.retain(|(step, _)| *step < record.step);
                self.records.held_out.extend(held_out.map(|held_out| (record.step, held_out)));
                self.unshown.push(record);
            }
            Command::Timings { worker, timings } => {
                self.timings.add(worker, &timings);
                self.records.timings.push((worker, timings));
            }
            Command::Commit(checkpoint) => {
                if let Some(writer) = &mut self.writer {
                    writer.commit(*checkpoint, &self.records)?;
                }
            }
            Command::HandOver(checkpoint) => {
                if let (Some(writer), Some(successor)) = (&mut self.writer, self.successor) {
                    writer.hand_over(*checkpoint, &self.records)?;
                    self.led = true;
                    self.send(successor, Message::Lead)?;
                }
            }
            Command::Rollback { steps } => {
                self.mark = self.post.start.elapsed();
                self.records.truncate(steps);
                self.rows = self.records.rows();
                self.losses = Losses::default();
                if let Audience::Person(display) = &mut self.audience {
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
        let (losses, evaluations) = (std::mem::take(&mut self.losses), std::mem::take(&mut self.unshown));
        let mut lanes = Vec::new();
        if now >= self.lanes_due || last {
            self.lanes_due = now + SHOW_LANES;
            lanes = self.protocol.lanes(now);
            self.timings.fill(&mut lanes);
        }
        match &mut self.audience {
            Audience::Person(display) => {
                display.hear(News { step, rows: self.rows, losses, evaluations, lanes }, now.as_secs_f64());
                display.draw(now.as_secs_f64(), last);
                Ok(())
            }
            Audience::Client(client) => {
                let client = *client;
                self.send(client, Message::Shown { step, rows: self.rows, losses, evaluations, lanes })
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
