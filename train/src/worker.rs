//! The worker's shell: carries out what its side of the protocol commands, and measures where the time goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use schemas::exit::Explain;
use schemas::message::{BatchLoss, Message, Party, StepTimings};
use train_core::order::{Schedule, epoch_order, worker_of_slot};

use crate::control::{ControlPlane, Mailbox};
use crate::error::Error;
use crate::exchange::UpdateExchange;
use crate::model::{Model, Share};
use crate::protocol::envelope;
use crate::protocol::worker::{Command, Event, Worker};
use crate::reader::{BatchDecoder, ReadAhead, Set};

/// What a worker needs to know of its run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the run.
    pub run: String,
    /// This worker.
    pub worker: u32,
    /// Workers of the run.
    pub n_workers: u32,
    /// Steps and epochs.
    pub schedule: Schedule,
    /// Training batches.
    pub n_batches: u32,
    /// Held-out batches.
    pub n_holdout_batches: u32,
    /// Root seed of the order.
    pub seed: u64,
    /// How long to wait for the other workers or the supervisor before giving up.
    pub wait_max: Duration,
}

impl Job {
    /// The slots of `step` that this worker computes.
    fn slots(&self, step: u64) -> impl Iterator<Item = u32> + use<> {
        let (worker, n_workers) = (self.worker, self.n_workers);
        (0..self.schedule.n_slots(step)).filter(move |&slot| worker_of_slot(slot, n_workers) == worker)
    }

    /// The training batches that this worker computes, in order, without end.
    pub fn wanted(&self) -> impl Iterator<Item = u32> + Send + use<> {
        let job = self.clone();
        // A worker beyond the slots of the first step, the fullest, never computes: without this it would look for its next
        // batch for ever.
        let epochs = if self.worker < self.schedule.n_slots(0) { 0..u64::MAX } else { 0..0 };
        epochs.flat_map(move |epoch| {
            let order = epoch_order(job.seed, epoch, job.n_batches);
            let steps = job.schedule.steps_per_epoch();
            let job = job.clone();
            (epoch * steps..(epoch + 1) * steps).flat_map(move |step| {
                let positions = job.schedule.positions(step);
                job.slots(step).map(|slot| order[positions.start + slot as usize]).collect::<Vec<_>>()
            })
        })
    }

    fn holdout_slots(&self) -> impl Iterator<Item = u32> + use<> {
        let (worker, n_workers) = (self.worker, self.n_workers);
        (0..self.n_holdout_batches).filter(move |&slot| worker_of_slot(slot, n_workers) == worker)
    }
}

/// How often a worker that waits looks whether the run was aborted.
const POLL: Duration = Duration::from_millis(100);

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
    batches: ReadAhead,
    decoder: BatchDecoder<'a, M>,
    scratch: M::Scratch,
    buffers: Vec<Arc<M::Gradient>>,
    kept: Option<M::Saved>,
    timings: StepTimings,
    step_over: Instant,
    saved: Option<M::Saved>,
}

impl<'a, M: Model> Shell<'a, M> {
    /// A worker with everything it needs.
    ///
    /// # Errors
    /// When its mailbox cannot be opened.
    pub fn new(
        job: Job,
        model: &'a M,
        exchange: &'a dyn UpdateExchange<M::Gradient>,
        control: &'a dyn ControlPlane,
        batches: ReadAhead,
        decoder: BatchDecoder<'a, M>,
    ) -> Result<Self, Error> {
        let mailbox = control.open(Party::Worker(job.worker).life(0)).map_err(Error::internal)?;
        Ok(Self {
            protocol: Worker::new(&job.run),
            job,
            model,
            exchange,
            control,
            mailbox,
            batches,
            decoder,
            scratch: M::Scratch::default(),
            buffers: Vec::new(),
            kept: None,
            timings: StepTimings::default(),
            step_over: Instant::now(),
            saved: None,
        })
    }

    /// Works until the run ends. Worker 0 returns the model to save; a failure is told to the supervisor first.
    ///
    /// # Errors
    /// Whatever kept this worker from going on.
    pub fn work(mut self) -> Result<Option<M::Saved>, Error> {
        let result = self.run();
        if let Err(error) = &result {
            let message = Message::Failed { kind: error.kind(), error: error.to_string(), fix: error.fix() };
            self.send(message)?;
        }
        result.map(|()| self.saved)
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut events = vec![Event::Launched];
        while let Some(event) = events.pop() {
            // A message that is refused is not for this worker and changes nothing.
            let commands = self.protocol.handle(event).unwrap_or_default();
            for command in commands {
                events.extend(self.carry_out(command)?);
            }
            if events.is_empty() && !self.protocol.ended() {
                events.push(Event::Received(self.wait_for_message()?));
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, command: Command) -> Result<Option<Event>, Error> {
        Ok(match command {
            Command::Send(message) => {
                self.send(message)?;
                None
            }
            Command::Compute { step } => Some(Event::Computed { losses: self.compute(step)? }),
            Command::Apply { step } => {
                if !self.apply(step)? {
                    return Ok(None);
                }
                Some(Event::Applied { timings: self.timings })
            }
            Command::Evaluate { .. } => Some(self.evaluate()?),
            Command::KeepModel => {
                self.kept = (self.job.worker == 0).then(|| self.model.saved(self.steps()));
                None
            }
            Command::Finish { save_kept, .. } => {
                if self.job.worker == 0 {
                    let present = || self.model.saved(self.steps());
                    self.saved = if save_kept { self.kept.take() } else { Some(present()) };
                }
                None
            }
            Command::Abort => None,
        })
    }

    /// Steps that the replica has seen: one more than the last that this worker applied.
    fn steps(&self) -> u32 {
        self.timings.step as u32 + 1
    }

    fn compute(&mut self, step: u64) -> Result<Vec<BatchLoss>, Error> {
        let decision_us = micros(&mut self.step_over);
        // The supervisor lets nobody begin this step before all have computed the last one, hence applied the one before it.
        self.exchange.release(step.saturating_sub(1)).map_err(Error::internal)?;
        self.timings = StepTimings { step, decision_us, ..StepTimings::default() };
        let mut losses = Vec::new();
        for slot in self.job.slots(step) {
            let fetched = self.batches.next(self.job.wait_max)?;
            self.timings.fetch_us += fetched.fetch_us;
            self.timings.batch_wait_us += micros(&mut self.step_over);
            let batch = self.decoder.decode(fetched)?;
            self.timings.decode_us += micros(&mut self.step_over);
            let mut buffer = free_buffer(&mut self.buffers);
            let out = Arc::get_mut(&mut buffer).expect("a free buffer is held by nobody else");
            let loss = self.model.gradient(step as u32, batch, &mut self.scratch, out);
            losses.push(BatchLoss { slot, loss_sum: loss.sum, rows: loss.rows });
            self.timings.compute_us += micros(&mut self.step_over);
            self.exchange.publish(step, slot, Arc::clone(&buffer)).map_err(Error::internal)?;
            self.buffers.push(buffer);
            self.timings.exchange_write_us += micros(&mut self.step_over);
        }
        Ok(losses)
    }

    /// False when the run was aborted meanwhile.
    fn apply(&mut self, step: u64) -> Result<bool, Error> {
        let n_slots = self.job.schedule.n_slots(step);
        if !self.wait_for_gradients(step, n_slots)? {
            return Ok(false);
        }
        self.timings.exchange_wait_us = micros(&mut self.step_over);
        let gradients = self.exchange.read(step, n_slots).map_err(Error::internal)?;
        self.timings.exchange_read_us = micros(&mut self.step_over);
        let share = Share { worker: self.job.worker, n_workers: self.job.n_workers };
        self.model.apply(step as u32, &gradients, share, &mut self.scratch);
        drop(gradients);
        self.timings.apply_us = micros(&mut self.step_over);
        Ok(true)
    }

    /// False when the run was aborted meanwhile.
    fn wait_for_gradients(&mut self, step: u64, n_slots: u32) -> Result<bool, Error> {
        let start = Instant::now();
        loop {
            let missing = self.exchange.missing(step, n_slots, POLL).map_err(Error::internal)?;
            if missing.is_empty() {
                return Ok(true);
            }
            while let Some(message) = self.receive(Duration::ZERO)? {
                // Only an abort is acted on before the step is applied; anything else is kept by the protocol or refused.
                let _ = self.protocol.handle(Event::Received(message));
                if self.protocol.ended() {
                    return Ok(false);
                }
            }
            if start.elapsed() > self.job.wait_max {
                let mut workers: Vec<u32> =
                    missing.iter().map(|&slot| worker_of_slot(slot, self.job.n_workers)).collect();
                workers.sort_unstable();
                workers.dedup();
                return Err(Error::Lost { workers, seconds: self.job.wait_max.as_secs() });
            }
        }
    }

    fn evaluate(&mut self) -> Result<Event, Error> {
        let shards = self.decoder.shards();
        let mut losses = Vec::new();
        let steps = self.steps();
        let batches = ReadAhead::start(shards, Set::Holdout, self.job.holdout_slots(), HOLDOUT_AHEAD)?;
        for slot in self.job.holdout_slots() {
            let batch = self.decoder.decode(batches.next(self.job.wait_max)?)?;
            let loss = self.model.measure(steps, batch, &mut self.scratch);
            losses.push(BatchLoss { slot, loss_sum: loss.sum, rows: loss.rows });
        }
        // Evaluation belongs to no step.
        self.step_over = Instant::now();
        Ok(Event::Evaluated { losses, scores: self.model.scores(&mut self.scratch) })
    }

    fn wait_for_message(&mut self) -> Result<schemas::message::Envelope, Error> {
        let start = Instant::now();
        loop {
            if let Some(message) = self.receive(POLL)? {
                return Ok(message);
            }
            if start.elapsed() > self.job.wait_max {
                return Err(Error::Internal(format!(
                    "worker {} has not heard from the supervisor for {} seconds",
                    self.job.worker,
                    self.job.wait_max.as_secs()
                )));
            }
        }
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<schemas::message::Envelope>, Error> {
        self.mailbox.receive(wait).map_err(Error::internal)
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        let message = envelope(&self.job.run, Party::Worker(self.job.worker), 0, message);
        self.control.send(Party::Supervisor.life(0), &message).map_err(Error::internal)
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
