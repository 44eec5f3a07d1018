//! The worker's shell: carries out what its side of the protocol commands, and measures where the time goes.

mod saving;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use manifests::load::Shards;
use schemas::exit::Explain;
use schemas::message::{Address, Envelope, Message, Party, Stored};
use schemas::records::{BatchLoss, StepTimings};
use train_core::order::{Schedule, epoch_order, worker_of_slot};

use crate::WAIT_MAX;
use crate::checkpoints::Checkpoints;
use crate::control::{ControlPlane, Mailbox};
use crate::error::Error;
use crate::exchange::{Collected, UpdateExchange};
use crate::model::{Model, Share};
use crate::plan::Plan;
use crate::protocol::worker::{Collect, Command, Event, Worker};
use crate::protocol::{REPEAT, envelope};
use crate::reader::{BatchDecoder, Fetched, ReadAhead, Set};
use saving::Saving;

/// What a worker needs to know of its run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the run.
    pub run: String,
    /// This worker.
    pub worker: u32,
    /// Which life of it.
    pub incarnation: u32,
    /// The supervisor's life at its launch.
    pub supervisor: u32,
    /// Steps and epochs.
    pub schedule: Schedule,
    /// Held-out batches.
    pub n_holdout_batches: u32,
    /// Root seed of the order.
    pub seed: u64,
    /// How many workers share the replica in this process's memory, and which of them this is.
    pub share: Share,
    /// How long to wait for storage or the supervisor before giving up.
    pub wait_max: Duration,
    /// When its time is over, if it is limited.
    pub time: Option<Time>,
}

/// The time that a life has.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// From then on a successor is wanted.
    pub leaves: Instant,
    /// Then it is over.
    pub ends: Instant,
}

impl Time {
    /// Longest time for a successor to begin and to catch up.
    const HANDOVER_MAX: Duration = Duration::from_secs(30);

    /// The time of a life that has `limit` since `begin`: the last third is for handing over, thirty seconds at most.
    #[must_use]
    pub fn of(begin: Instant, limit: Duration) -> Self {
        let ends = begin + limit;
        Self { leaves: ends.checked_sub((limit / 3).min(Self::HANDOVER_MAX)).unwrap_or(begin), ends }
    }

    /// What is left of it, when a successor is wanted and that is to be said now: first, or again so long after it was last `told`.
    pub(crate) fn to_tell(self, told: &mut Option<Instant>) -> Option<Duration> {
        let now = Instant::now();
        if now < self.leaves || told.is_some_and(|told| now < told + REPEAT) {
            return None;
        }
        *told = Some(now);
        Some(self.ends.saturating_duration_since(now))
    }
}

impl Job {
    /// The job of `worker` in the first life of the run `session`, as `plan` says.
    #[must_use]
    pub fn of(plan: &Plan, session: String, schedule: Schedule, worker: u32, share: Share) -> Self {
        Self {
            run: session,
            worker,
            incarnation: 0,
            supervisor: 0,
            schedule,
            n_holdout_batches: plan.shards.holdout_batches.len() as u32,
            seed: plan.task.common().seed,
            share,
            wait_max: WAIT_MAX,
            time: None,
        }
    }

    /// Where messages for this worker go.
    #[must_use]
    pub const fn address(&self) -> Address {
        Party::Worker(self.worker).life(self.incarnation)
    }

    /// The slots of `step` that this worker computes when `n_workers` share it.
    fn slots(&self, step: u64, n_workers: u32) -> impl Iterator<Item = u32> + use<> {
        self.share_of(self.schedule.n_slots(step), n_workers)
    }

    fn share_of(&self, n_slots: u32, n_workers: u32) -> impl Iterator<Item = u32> + use<> {
        let worker = self.worker;
        (0..n_slots).filter(move |&slot| worker_of_slot(slot, n_workers) == worker)
    }

    /// The training batches that this worker computes from `step` on, in order, without end.
    pub fn wanted(&self, step: u64, n_workers: u32) -> impl Iterator<Item = u32> + Send + use<> {
        let job = self.clone();
        // A worker beyond the slots of the first step, the fullest, never computes: without this it would look for its next
        // batch for ever.
        let idle = self.share_of(self.schedule.n_slots(0), n_workers).next().is_none();
        let first = self.schedule.epoch(step);
        let epochs = if idle { first..first } else { first..u64::MAX };
        epochs.flat_map(move |epoch| {
            let order = epoch_order(job.seed, epoch, job.schedule.n_batches());
            let steps = job.schedule.steps_per_epoch();
            let job = job.clone();
            (step.max(epoch * steps)..(epoch + 1) * steps).flat_map(move |step| {
                let positions = job.schedule.positions(step);
                job.slots(step, n_workers).map(|slot| order[positions.start + slot as usize]).collect::<Vec<_>>()
            })
        })
    }
}

/// Where models go that are to be kept.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// Into this process's memory, by worker 0, which returns the result.
    Memory,
    /// Into storage.
    Storage(&'a Checkpoints),
}

/// How often a worker that waits looks for messages.
const POLL: Duration = Duration::from_millis(100);

/// After this long, gradients of a step that is past are taken to be lost.
const ABSENT: Duration = Duration::from_secs(3);

/// Mini-batches that a worker's reader is ahead, at least.
const READ_AHEAD: usize = 4;

/// Held-out batches that a worker's reader is ahead.
const HOLDOUT_AHEAD: usize = 2;

/// Gradient buffers of a worker that are in use at once: being computed, published, and perhaps still being read.
const BUFFERS: usize = 3;

/// One running worker.
pub struct Shell<'a, M: Model> {
    job: Job,
    protocol: Worker,
    model: &'a M,
    exchange: &'a dyn UpdateExchange<M::Gradient>,
    control: &'a dyn ControlPlane,
    mailbox: Box<dyn Mailbox>,
    batches: Option<Reading>,
    /// Held-out batches that are read ahead, for so many workers, at the end of an epoch.
    holdout: Option<(u32, ReadAhead)>,
    decoder: BatchDecoder<'a, M>,
    scratch: M::Scratch,
    buffers: Vec<Arc<M::Gradient>>,
    keep: Keep<'a>,
    /// The model at its start, until there is a checkpoint to go back to.
    start: Vec<u8>,
    saving: Saving,
    /// What is to be said once all that was published can be had.
    unsent: Option<(Address, Message)>,
    kept: Option<M::Saved>,
    timings: StepTimings,
    step_over: Instant,
    /// When the supervisor was last heard of.
    heard: Instant,
    /// When it was last told that this life is leaving.
    told: Option<Instant>,
    saved: Option<M::Saved>,
}

/// Batches that are read ahead: from which step on, shared by how many workers.
struct Reading {
    step: u64,
    n_workers: u32,
    batches: ReadAhead,
    /// Whether the next is decoded already.
    ahead: Option<Result<(), Error>>,
}

impl<'a, M: Model> Shell<'a, M> {
    /// A worker with everything it needs, whose model has seen no step.
    ///
    /// # Errors
    /// When its mailbox cannot be opened.
    pub fn new(
        job: Job,
        model: &'a M,
        exchange: &'a dyn UpdateExchange<M::Gradient>,
        control: &'a dyn ControlPlane,
        shards: Arc<Shards>,
        keep: Keep<'a>,
    ) -> Result<Self, Error> {
        let mailbox = control.open(job.address())?;
        Ok(Self {
            protocol: Worker::new(&job.run, job.worker, job.supervisor, job.schedule, 0),
            saving: Saving::new(job.worker, job.incarnation),
            unsent: None,
            job,
            model,
            exchange,
            control,
            mailbox,
            batches: None,
            holdout: None,
            decoder: BatchDecoder::new(shards, model),
            scratch: M::Scratch::default(),
            buffers: Vec::new(),
            start: if matches!(keep, Keep::Storage(_)) { model.state(0) } else { Vec::new() },
            keep,
            kept: None,
            timings: StepTimings::default(),
            step_over: Instant::now(),
            heard: Instant::now(),
            told: None,
            saved: None,
        })
    }

    /// Works until the run ends. Where models are kept in memory, worker 0 returns the one to save; a failure is told to the
    /// supervisor first.
    ///
    /// # Errors
    /// Whatever kept this worker from going on.
    pub fn work(mut self) -> Result<Option<M::Saved>, Error> {
        let result = self.run();
        // One that heard of nobody for long, or stood still while the run went on, is launched again: that is not the end of the run.
        if let Err(error) = &result
            && !matches!(error, Error::Unheard { .. } | Error::Late { .. })
        {
            let message = Message::Failed { kind: error.kind(), error: error.to_string(), fix: error.fix() };
            let message = envelope(&self.job.run, self.job.address(), message);
            // The failure itself says more than that it could not be told.
            let _ = self.control.send(Party::Supervisor.life(self.protocol.supervisor()), &message);
        }
        result.map(|()| self.saved)
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut events = VecDeque::from([Event::Launched]);
        loop {
            while let Some(event) = events.pop_front() {
                events.extend(self.handle(event)?);
                if let Some(stored) = self.saving.next_stored()? {
                    events.push_back(Event::Stored(stored));
                }
            }
            if self.protocol.ended() {
                return Ok(());
            }
            self.say_when_leaving()?;
            events.push_back(self.wait()?);
        }
    }

    /// Lets the protocol take `event` and carries out what it commands.
    fn handle(&mut self, event: Event) -> Result<Vec<Event>, Error> {
        // A message that is refused is not for this worker and changes nothing.
        let commands = self.protocol.handle(event).unwrap_or_default();
        let mut events = Vec::new();
        for command in commands {
            events.extend(self.carry_out(command)?);
        }
        Ok(events)
    }

    fn carry_out(&mut self, command: Command) -> Result<Option<Event>, Error> {
        Ok(match command {
            Command::Send(to, message) => {
                self.unsent = Some((to, message));
                self.send_once_settled(Duration::ZERO)?;
                None
            }
            Command::Compute { step, n_workers } => Some(Event::Computed { losses: self.compute(step, n_workers)? }),
            Command::Collect(collect) => self.collect(collect)?,
            Command::Evaluate { n_workers } => Some(self.evaluate(n_workers)?),
            Command::Load(stored) => {
                self.load(stored.as_ref())?;
                Some(Event::Loaded)
            }
            Command::Save { steps, keep } => {
                self.save(steps, keep)?;
                None
            }
            Command::Release { below } => {
                if self.protocol.has_base() {
                    self.start = Vec::new();
                }
                self.exchange.release(below)?;
                None
            }
            Command::Finish { save_kept, .. } => {
                if matches!(self.keep, Keep::Memory) && self.job.worker == 0 {
                    let present = || self.model.saved(self.protocol.steps() as u32);
                    self.saved = if save_kept { self.kept.take() } else { Some(present()) };
                }
                self.saving.finish()?;
                None
            }
            Command::Leave => {
                self.saving.finish()?;
                self.exchange.release(u64::MAX)?;
                None
            }
            Command::Rest => {
                self.saving.finish()?;
                None
            }
            Command::Dismiss => {
                self.exchange.release(u64::MAX)?;
                None
            }
        })
    }

    /// Says that a successor is wanted, again and again, once this life's time runs out.
    fn say_when_leaving(&mut self) -> Result<(), Error> {
        let Some(left) = self.job.time.and_then(|time| time.to_tell(&mut self.told)) else { return Ok(()) };
        let message = Message::Leaving { left };
        let to = Party::Supervisor.life(self.protocol.supervisor());
        Ok(self.control.hand_over(to, &envelope(&self.job.run, self.job.address(), message))?)
    }

    /// Sends what was not sent because the gradients that it tells of were on their way, once they can be had. Whether there is nothing
    /// left to send.
    fn send_once_settled(&mut self, wait: Duration) -> Result<bool, Error> {
        let Some((to, message)) = self.unsent.take() else { return Ok(true) };
        if !self.exchange.settle(wait)? {
            self.unsent = Some((to, message));
            return Ok(false);
        }
        self.control.hand_over(to, &envelope(&self.job.run, self.job.address(), message))?;
        Ok(true)
    }

    fn load(&mut self, stored: Option<&Stored>) -> Result<(), Error> {
        let Keep::Storage(checkpoints) = self.keep else {
            return Err(Error::Internal("there is no checkpoint to go back to".to_owned()));
        };
        let steps = match stored {
            Some(stored) => {
                let state = checkpoints.state(stored).map_err(|error| match error {
                    Error::Stored(manifests::Error::Missing { .. }) => {
                        Error::Late { worker: self.job.worker, steps: stored.steps }
                    }
                    error => error,
                })?;
                self.model.restore(&state)
            }
            None => self.model.restore(&self.start),
        };
        let (steps, expected) = (steps.map_err(Error::internal)?, stored.map_or(0, |stored| stored.steps));
        if u64::from(steps) == expected {
            return Ok(());
        }
        Err(Error::Internal(format!("the checkpoint of {expected} steps holds a model after {steps}")))
    }

    fn save(&mut self, steps: u64, keep: bool) -> Result<(), Error> {
        match self.keep {
            Keep::Memory if keep => self.kept = Some(self.model.saved(steps as u32)),
            Keep::Memory => {}
            Keep::Storage(checkpoints) => {
                self.saving.start(checkpoints.clone(), steps, self.model.state(steps as u32))?;
            }
        }
        // Keeping belongs to no step.
        self.step_over = Instant::now();
        Ok(())
    }

    fn compute(&mut self, step: u64, n_workers: u32) -> Result<Vec<BatchLoss>, Error> {
        let decision_us = micros(&mut self.step_over);
        self.timings = StepTimings { step, decision_us, ..StepTimings::default() };
        let mut reading = self.reading(step, n_workers)?;
        let mut losses = Vec::new();
        for slot in self.job.slots(step, n_workers) {
            if let Some(decoded) = reading.ahead.take() {
                decoded?;
            } else {
                let fetched = reading.batches.next(self.job.wait_max)?;
                self.timings.batch_wait_us += micros(&mut self.step_over);
                self.decode(fetched)?;
            }
            let mut buffer = free_buffer(&mut self.buffers);
            let out = Arc::get_mut(&mut buffer).expect("a free buffer is held by nobody else");
            let loss = self.model.gradient(step as u32, self.decoder.batch(), &mut self.scratch, out);
            losses.push(BatchLoss { slot, loss_sum: loss.sum, rows: loss.rows });
            self.timings.compute_us += micros(&mut self.step_over);
            self.exchange.publish(step, slot, Arc::clone(&buffer), self.protocol.reduces_in_slices(step))?;
            self.buffers.push(buffer);
            self.timings.exchange_write_us += micros(&mut self.step_over);
        }
        self.batches = Some(Reading { step: step + 1, ..reading });
        // While the gradients are on their way, there is time for what comes next.
        self.decode_ahead();
        Ok(losses)
    }

    fn decode(&mut self, fetched: Fetched) -> Result<(), Error> {
        self.timings.fetch_us += fetched.fetch_us;
        let decoded = self.decoder.decode(fetched);
        self.timings.decode_us += micros(&mut self.step_over);
        decoded
    }

    /// Decodes the next batch if it is there. What it fails of is told when the batch is needed.
    fn decode_ahead(&mut self) {
        let Some(mut reading) = self.batches.take() else { return };
        if reading.ahead.is_none() {
            reading.ahead = reading.batches.next_if_there().map(|fetched| self.decode(fetched?));
        }
        self.batches = Some(reading);
    }

    /// The batches from `step` on: those that are read ahead already, unless the run took another turn.
    fn reading(&mut self, step: u64, n_workers: u32) -> Result<Reading, Error> {
        // Between may be steps that this worker has no batch of.
        let goes_on = |r: &Reading| {
            let idle = |between| self.job.slots(between, n_workers).next().is_none();
            r.n_workers == n_workers && r.step <= step && (r.step..step).all(idle)
        };
        if let Some(reading) = self.batches.take().filter(goes_on) {
            return Ok(reading);
        }
        let depth = READ_AHEAD.max(2 * self.job.slots(0, n_workers).count());
        let wanted = self.job.wanted(step, n_workers);
        let batches = ReadAhead::start(self.decoder.shards(), Set::Train, wanted, depth)?;
        Ok(Reading { step, n_workers, batches, ahead: None })
    }

    /// Collects and applies a step. Nothing when the run was ended meanwhile.
    fn collect(&mut self, collect: Collect) -> Result<Option<Event>, Error> {
        let step = collect.step;
        // Of a step that this worker has no batch of, or catches up with, it has only collected.
        if collect.is_past() || self.timings.step != step {
            self.timings = StepTimings { step, ..StepTimings::default() };
        }
        let last_of_epoch = (step + 1).is_multiple_of(self.job.schedule.steps_per_epoch());
        if last_of_epoch && !collect.is_past() && self.job.n_holdout_batches > 0 {
            self.holdout = Some((collect.n_workers, self.read_holdout(collect.n_workers)?));
        }
        let n_slots = self.job.schedule.n_slots(step);
        let (began, mut repeated) = (Instant::now(), Instant::now());
        let collected = loop {
            // Looking takes about as long as what is on its way still.
            let wait = if self.send_once_settled(Duration::ZERO)? { POLL } else { Duration::ZERO };
            match self.exchange.collect(collect, n_slots, wait)? {
                Collected::Missing(_) => {}
                collected => break collected,
            }
            while let Some(message) = self.receive(Duration::ZERO)? {
                self.handle(Event::Received(message))?;
                if self.protocol.ended() {
                    return Ok(None);
                }
            }
            self.report_stored()?;
            if self.protocol.is_wanted_elsewhere() {
                return Ok(Some(Event::Interrupted));
            }
            if collect.is_past() && began.elapsed() > ABSENT {
                return Ok(Some(Event::Absent));
            }
            if repeated.elapsed() > REPEAT {
                repeated = Instant::now();
                self.exchange.publish_again()?;
                self.handle(Event::Tick)?;
            }
            self.check_life()?;
        };
        if !self.send_once_settled(self.job.wait_max)? {
            return Err(Error::Slow { seconds: self.job.wait_max.as_secs() });
        }
        let spent = micros(&mut self.step_over);
        let traffic = self.exchange.traffic();
        // Between threads, reading costs nothing and all of it is waiting.
        let waited = if traffic.read == 0 { spent } else { (traffic.waited.as_micros() as u64).min(spent) };
        self.timings.exchange_wait_us = waited;
        self.timings.exchange_read_us = spent - waited;
        (self.timings.bytes_written, self.timings.bytes_read) = (traffic.written, traffic.read);
        match &collected {
            Collected::Slots(gradients) => self.model.apply(step as u32, gradients, self.job.share, &mut self.scratch),
            Collected::Reduced(slices) => {
                self.model.apply_reduced(step as u32, slices, self.job.share, &mut self.scratch);
            }
            Collected::Missing(_) => {}
        }
        drop(collected);
        self.timings.apply_us = micros(&mut self.step_over);
        Ok(Some(Event::Applied { timings: self.timings, sizes: self.exchange.sizes() }))
    }

    fn read_holdout(&self, n_workers: u32) -> Result<ReadAhead, Error> {
        let slots: Vec<u32> = self.job.share_of(self.job.n_holdout_batches, n_workers).collect();
        ReadAhead::start(self.decoder.shards(), Set::Holdout, slots.into_iter(), HOLDOUT_AHEAD)
    }

    fn evaluate(&mut self, n_workers: u32) -> Result<Event, Error> {
        let slots = self.job.share_of(self.job.n_holdout_batches, n_workers);
        let mut losses = Vec::new();
        let steps = self.protocol.steps() as u32;
        let batches = match self.holdout.take() {
            Some((for_workers, batches)) if for_workers == n_workers => batches,
            _ => self.read_holdout(n_workers)?,
        };
        // The training batch that comes next may be decoded already.
        let mut decoder = BatchDecoder::new(self.decoder.shards(), self.model);
        for slot in slots {
            decoder.decode(batches.next(self.job.wait_max)?)?;
            let loss = self.model.measure(steps, decoder.batch(), &mut self.scratch);
            losses.push(BatchLoss { slot, loss_sum: loss.sum, rows: loss.rows });
        }
        // Evaluation belongs to no step.
        self.step_over = Instant::now();
        Ok(Event::Evaluated { losses, scores: Some(self.model.scores(&mut self.scratch)) })
    }

    /// Waits for what comes next.
    fn wait(&mut self) -> Result<Event, Error> {
        let began = Instant::now();
        loop {
            self.send_once_settled(POLL)?;
            if let Some(message) = self.receive(POLL)? {
                return Ok(Event::Received(message));
            }
            if let Some(stored) = self.saving.next_stored()? {
                return Ok(Event::Stored(stored));
            }
            if began.elapsed() > REPEAT {
                // Somebody may be waiting for what was lost.
                self.exchange.publish_again()?;
                return Ok(Event::Tick);
            }
            self.check_life()?;
        }
    }

    fn report_stored(&mut self) -> Result<(), Error> {
        if let Some(stored) = self.saving.next_stored()? {
            self.handle(Event::Stored(stored))?;
        }
        Ok(())
    }

    /// Whether this life may go on: it has heard of its supervisor, and has time.
    fn check_life(&mut self) -> Result<(), Error> {
        self.say_when_leaving()?;
        if self.heard.elapsed() <= self.job.wait_max {
            return Ok(());
        }
        Err(Error::Unheard { worker: self.job.worker, seconds: self.job.wait_max.as_secs() })
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Envelope>, Error> {
        let message = self.mailbox.receive(wait)?;
        if message.as_ref().is_some_and(|m| m.run == self.job.run && m.sender.party == Party::Supervisor) {
            self.heard = Instant::now();
        }
        Ok(message)
    }
}

/// A gradient buffer that no worker reads any more, or a new one.
fn free_buffer<G: Default>(buffers: &mut Vec<Arc<G>>) -> Arc<G> {
    let free = buffers.iter().position(|buffer| Arc::strong_count(buffer) == 1);
    match free {
        Some(i) if buffers.len() >= BUFFERS => buffers.swap_remove(i),
        _ => Arc::default(),
    }
}

/// Microseconds since `since`, which becomes now.
fn micros(since: &mut Instant) -> u64 {
    let now = Instant::now();
    let spent = now - *since;
    *since = now;
    spent.as_micros() as u64
}
