//! Training with workers that are threads of this process and share one replica: no server at all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use schemas::exit::ErrorKind;
use schemas::message::{Message, Party};
use schemas::records::Outcome;

use crate::control::ControlPlane;
use crate::control::memory::MemoryControl;
use crate::display::Display;
use crate::error::Error;
use crate::exchange::memory::MemoryExchange;
use crate::model::{Model, Share};
use crate::plan::Plan;
use crate::protocol;
use crate::protocol::supervisor::{Checkpoint, Members};
use crate::records::Records;
use crate::supervisor::{Audience, Post, supervise};
use crate::worker::{Job, Keep, Shell};
use crate::{WAIT_MAX, Watch, diverged};

/// Runs supervisor and workers to the end.
///
/// # Errors
/// As [`crate::run`].
pub fn train<M: Model>(
    plan: &Plan,
    model: &M,
    watch: Watch<'_>,
) -> Result<(schemas::records::Finished, Records, M::Saved), Error> {
    let (exchange, control) = (MemoryExchange::default(), MemoryControl::default());
    let members = Members { n_workers: plan.workers, silence_max: WAIT_MAX, recovery: None };
    let rules = plan.rules()?;
    let mut mailbox = control.open(Party::Supervisor.life(0))?;
    let shards = Arc::new(plan.shards.clone());
    std::thread::scope(|scope| {
        let (exchange, control) = (&exchange, &control);
        let mut workers = Vec::new();
        for worker in 0..plan.workers {
            let share = Share { worker, n_workers: plan.workers };
            let job = Job::of(plan, plan.run.clone(), rules.schedule, worker, share);
            let shell = Shell::new(job.clone(), model, exchange, control, Arc::clone(&shards), Keep::Memory)?;
            workers.push(scope.spawn(move || watched(&job, control, || shell.work())));
        }
        let display = Display::new(plan, None, watch)?;
        let post = Post { run: &plan.run, incarnation: 0, start: watch.start, time: None };
        let supervised = supervise(
            &post,
            rules.clone(),
            members,
            (Checkpoint::start(None), Records::default(), None),
            control,
            &mut *mailbox,
            Audience::Person(Box::new(display)),
        );
        let results: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::Internal("a worker panicked".to_owned()))))
            .collect();
        let (outcome, records) = supervised?;
        let outcome = outcome.ok_or_else(|| Error::Internal("the supervisor has no successor".to_owned()))?;
        let (finished, saved) = conclude(plan, outcome, results)?;
        Ok((finished, records, saved))
    })
}

/// Runs a worker; a panic is told to the supervisor, so that nobody waits for this worker.
fn watched<T>(job: &Job, control: &dyn ControlPlane, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let error = format!("worker {} panicked", job.worker);
        let message = Message::Failed { kind: ErrorKind::Internal, error: error.clone(), fix: None };
        let message = protocol::envelope(&job.run, job.address(), message);
        control.send(Party::Supervisor.life(0), &message)?;
        Err(Error::Internal(error))
    })
}

fn conclude<S>(
    plan: &Plan,
    outcome: Outcome,
    results: Vec<Result<Option<S>, Error>>,
) -> Result<(schemas::records::Finished, S), Error> {
    match outcome {
        Outcome::Finished(finished) => {
            let mut saved = None;
            for result in results {
                saved = result?.or(saved);
            }
            let saved = saved.ok_or_else(|| Error::Internal("no worker returned the model".to_owned()))?;
            Ok((finished, saved))
        }
        Outcome::Failed { worker, kind, error, fix } => {
            // The worker's own error says more than its message about it.
            results
                .into_iter()
                .find_map(|result| result.err().filter(|e| e.to_string() == error))
                .map_or(Err(Error::Worker { worker, kind, error, fix }), Err)
        }
        other => Err(failure(plan, other)),
    }
}

/// The error that an outcome other than success is.
pub(crate) fn failure(plan: &Plan, outcome: Outcome) -> Error {
    match outcome {
        Outcome::Diverged { step, loss, first_loss } => diverged(plan, step, loss, first_loss),
        Outcome::Failed { worker, kind, error, fix } => Error::Worker { worker, kind, error, fix },
        Outcome::Lost { workers } => Error::Lost { workers, seconds: plan.silence_max().as_secs() },
        Outcome::Forgotten { step, times } => Error::Forgotten { step, times },
        Outcome::Stopped { .. } | Outcome::Finished(_) => Error::Internal("the run has not failed".to_owned()),
    }
}
