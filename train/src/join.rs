//! What a process of a run does: one worker, or the supervisor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manifests::place::Place;
use schemas::exit::Explain;
use schemas::message::{Failure, Message, Party};
use train_core::order::Schedule;

use crate::checkpoints::{Checkpoints, Known};
use crate::control::{ControlError, ControlPlane, Mailbox};
use crate::error::Error;
use crate::exchange::encoded::EncodedExchange;
use crate::job::{INVITATION, Invitation, Job, Join, understood};
use crate::model::{Model, Share};
use crate::output;
use crate::plan::{Plan, Task, launch};
use crate::protocol::supervisor::{Checkpoint, Members, Recovery};
use crate::protocol::{REPEAT, envelope};
use crate::servers::{Connections, DEADLINE, FIRST_DEADLINE};
use crate::supervisor::{Audience, Post, supervise};
use crate::worker::{self, Keep, Shell, Time};

/// Gradients that are kept for workers which catch up, in bytes; of more steps than that a worker catches up from a checkpoint.
const REPLAY_BYTES: u64 = 256 << 20;

/// Takes part in a run, as a process of the client, until it is over.
///
/// # Errors
/// Whatever kept this process from going on; a worker has told its supervisor.
pub fn run(join: &Join) -> Result<(), Error> {
    end_with_parent()?;
    take_part(join)
}

/// Takes part in a run, as a function that has so much time `left`, and tells the client when it is over.
///
/// # Errors
/// As [`run`]; also the client has been told, if it could be.
pub fn function(invitation: &Invitation, left: Duration) -> Result<(), Error> {
    let Invitation { format, join } = invitation;
    let limit = left.saturating_sub(RESERVE);
    let time_limit = Some(join.time_limit.map_or(limit, |own| own.min(limit)));
    let result = understood(format, INVITATION).and_then(|()| take_part(&Join { time_limit, ..join.clone() }));
    // Lambda may deliver an event twice; the one who came first says what becomes of this life.
    if matches!(result, Err(Error::Control(ControlError::Taken { .. }))) {
        return Ok(());
    }
    // The failure itself says more than that it could not be told.
    let told = tell_client(join, result.as_ref().err());
    result.and(told)
}

/// What a function keeps of its time for saying that it is over.
const RESERVE: Duration = Duration::from_millis(500);

/// Without this, the client knows of the end of a function only when it is missed.
fn tell_client(join: &Join, error: Option<&Error>) -> Result<(), Error> {
    let Join { session, worker, incarnation, .. } = join;
    let failure = error.map(|e| Failure { kind: e.kind(), error: e.to_string(), fix: e.fix() });
    let me = worker.map_or(Party::Supervisor, Party::Worker).life(*incarnation);
    let servers = launch::servers_by_environment()?;
    let connections = Connections::open(&servers, session, FIRST_DEADLINE)?;
    let message = envelope(session, me, Message::Gone { failure });
    match connections.control.send(Party::Client.life(0), &message) {
        // The client has gone.
        Err(ControlError::NoMailbox { .. }) => Ok(()),
        sent => Ok(sent?),
    }
}

fn take_part(join: &Join) -> Result<(), Error> {
    let begin = Instant::now();
    let out = Place::parse(&join.run)?;
    let job = Job::read(&out)?;
    if job.session != join.session {
        return Err(Error::Superseded { ours: join.session.clone(), found: job.session });
    }
    // A supervisor has no gradients to exchange.
    let servers = if join.worker.is_some() { launch::servers_of(&job)? } else { launch::servers_by_environment()? };
    let plan = Plan::of_job(&job, out, launch::Launch::Threads, None)?;
    let connections = Connections::open(&servers, &job.session, DEADLINE)?;
    let checkpoints = Checkpoints::of(&plan.out)?;
    let time = join.time_limit.map(|limit| Time::of(begin, limit));
    let Some(worker) = join.worker else { return lead(join, &job, &plan, time, &connections, &checkpoints) };
    let tables = output::tables(&plan)?;
    let part =
        Part { join, job: &job, plan: &plan, worker, time, connections: &connections, checkpoints: &checkpoints };
    let schedule = plan.schedule()?;
    match &plan.task {
        Task::Pmf(task) => part.work(&task.replica(&mut task.memory()?).with_residuals(), schedule),
        Task::Logistic(task) => {
            let space = output::logistic::space(&plan, task, &tables)?;
            let mut memory = task.memory(&space)?;
            part.work(&task.replica(space, schedule, &mut memory), schedule)
        }
    }
}

/// A process that outlives the client which launched it would train for nobody.
fn end_with_parent() -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(Error::internal)?;
    Ok(())
}

struct Part<'a> {
    join: &'a Join,
    job: &'a Job,
    plan: &'a Plan,
    worker: u32,
    time: Option<Time>,
    connections: &'a Connections,
    checkpoints: &'a Checkpoints,
}

impl Part<'_> {
    fn work<M: Model>(&self, model: &M, schedule: Schedule) -> Result<(), Error> {
        let store = Arc::from(self.connections.store()?);
        let n_slices = schedule.n_slots(0);
        let exchange = EncodedExchange::new(self.worker, n_slices, model, store).map_err(Error::internal)?;
        let job = worker::Job {
            incarnation: self.join.incarnation,
            supervisor: self.join.supervisor,
            wait_max: 3 * self.job.worker_timeout,
            time: self.time,
            ..worker::Job::of(
                self.plan,
                self.job.session.clone(),
                schedule,
                self.worker,
                Share { worker: 0, n_workers: 1 },
            )
        };
        let shards = Arc::new(self.plan.shards.clone());
        let keep = Keep::Storage(self.checkpoints);
        Shell::new(job, model, &exchange, &self.connections.control, shards, keep)?.work().map(drop)
    }
}

/// Supervises until the run is over, and tells the client how it ended.
fn lead(
    join: &Join,
    job: &Job,
    plan: &Plan,
    time: Option<Time>,
    connections: &Connections,
    checkpoints: &Checkpoints,
) -> Result<(), Error> {
    let me = Party::Supervisor.life(join.incarnation);
    let client = Party::Client.life(0);
    let control = &connections.control;
    let mut mailbox = control.open(me)?;
    let mut known = Known::default();
    if let Some(wait) = join.waits {
        known = wait_to_lead(join, job, control, &mut *mailbox, checkpoints, wait)?;
    }
    let (checkpoint, mut records, writer) = checkpoints.open(&job.session, join.incarnation, known)?;
    let base = checkpoint.unwrap_or_else(|| Checkpoint::start(Some(job.strategy)));
    // The client may have died after the run's end.
    records.truncate(base.steps_on_record());
    let members = Members {
        n_workers: join.workers,
        silence_max: job.worker_timeout,
        recovery: Some(Recovery {
            checkpoint_every: job.checkpoint_every,
            strategy: job.strategy,
            replay_bytes: REPLAY_BYTES,
        }),
    };
    // The time of steps that have to be done again counts once.
    let elapsed = records.steps.last().map_or_else(Default::default, |step| step.time);
    let now = Instant::now();
    let start = now.checked_sub(elapsed).unwrap_or(now);
    let post = Post { run: &job.session, incarnation: join.incarnation, start, time };
    let from = (base, records, Some(writer));
    let led = supervise(&post, plan.rules()?, members, from, control, &mut *mailbox, Audience::Client(client));
    if matches!(led, Err(Error::Superseded { .. })) {
        // Its workers train for nobody.
        control.broadcast(&envelope(&job.session, me, Message::Dismiss))?;
    }
    match led?.0 {
        Some(outcome) => Ok(control.send(client, &envelope(&job.session, me, Message::Ended(outcome)))?),
        None => Ok(()),
    }
}

/// Waits until the supervisor before this one has it lead, or is gone: then this one goes on from the newest checkpoint, whose records
/// are read meanwhile as far as they are there.
fn wait_to_lead(
    join: &Join,
    job: &Job,
    control: &dyn ControlPlane,
    mailbox: &mut dyn Mailbox,
    checkpoints: &Checkpoints,
    wait: Duration,
) -> Result<Known, Error> {
    let me = Party::Supervisor.life(join.incarnation);
    let before = Party::Supervisor.life(join.incarnation.saturating_sub(1));
    let end = Instant::now() + wait;
    // It is asked to lead as soon as it is heard of.
    let known = checkpoints.read_ahead()?;
    while Instant::now() < end {
        // The client wants to know that this life is there.
        for to in [before, Party::Client.life(0)] {
            control.hand_over(to, &envelope(&job.session, me, Message::Hello))?;
        }
        let next = Instant::now() + REPEAT;
        while let Some(left) = next.min(end).checked_duration_since(Instant::now()) {
            let message = mailbox.receive(left)?;
            if message.is_some_and(|m| m.sender == before && m.run == job.session && m.message == Message::Lead) {
                return Ok(known);
            }
        }
    }
    Ok(known)
}
