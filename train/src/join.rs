//! What a process of a run does: one worker, or the supervisor.

use std::sync::Arc;
use std::time::Instant;

use schemas::message::{Message, Party};
use train_core::order::Schedule;

use crate::checkpoints::Checkpoints;
use crate::control::ControlPlane;
use crate::error::Error;
use crate::exchange::encoded::EncodedExchange;
use crate::job::Job;
use crate::model::{Model, Share};
use crate::output;
use crate::plan::{Plan, Task, launch};
use crate::protocol::envelope;
use crate::protocol::supervisor::{Checkpoint, Members, Recovery};
use crate::servers::{Connections, DEADLINE};
use crate::supervisor::{Audience, Post, supervise};
use crate::worker::{self, Keep, Shell};

/// Gradients that are kept for workers which catch up, in bytes; of more steps than that a worker catches up from a checkpoint.
const REPLAY_BYTES: u64 = 256 << 20;

/// Takes part in a run until it is over.
///
/// # Errors
/// Whatever kept this process from going on; a worker has told its supervisor.
pub fn run(join: &launch::Join) -> Result<(), Error> {
    end_with_parent()?;
    let out = join.run.clone();
    let job = Job::read(&out)?;
    if job.session != join.session {
        return Err(Error::Internal(format!("the run goes on as `{}`, not as `{}`", job.session, join.session)));
    }
    let servers = launch::servers_of(&job)?;
    let plan = Plan::of_job(&job, out, launch::Launch::Threads, None)?;
    let connections = Connections::open(&servers, &job.session, DEADLINE)?;
    let checkpoints = Checkpoints::of(&plan.out)?;
    let Some(worker) = join.worker else { return lead(join, &job, &plan, &connections, &checkpoints) };
    let tables = output::tables(&plan)?;
    let part = Part { join, job: &job, plan: &plan, worker, connections: &connections, checkpoints: &checkpoints };
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
    join: &'a launch::Join,
    job: &'a Job,
    plan: &'a Plan,
    worker: u32,
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
    join: &launch::Join,
    job: &Job,
    plan: &Plan,
    connections: &Connections,
    checkpoints: &Checkpoints,
) -> Result<(), Error> {
    let me = Party::Supervisor.life(join.incarnation);
    let client = Party::Client.life(0);
    let control = &connections.control;
    let mut mailbox = control.open(me)?;
    let (checkpoint, mut records, writer) = checkpoints.open(join.incarnation)?;
    let base = checkpoint.unwrap_or_else(|| Checkpoint::start(Some(job.strategy)));
    // The client may have died after the run's end.
    records.truncate(base.course.steps);
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
    let post =
        Post { run: &job.session, incarnation: join.incarnation, start: now.checked_sub(elapsed).unwrap_or(now) };
    let from = (base, records, Some(writer));
    let (outcome, _) =
        supervise(&post, plan.rules()?, members, from, control, &mut *mailbox, Audience::Client(client))?;
    Ok(control.send(client, &envelope(&job.session, me, Message::Ended(outcome)))?)
}
