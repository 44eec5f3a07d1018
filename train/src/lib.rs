//! Trains a model from the mini-batches that a manifest names.
//!
//! * [`cli`] is what was typed, [`plan`] what it means, [`run`] does it.
//! * [`protocol`] says what supervisor and workers do when, without any I/O; [`supervisor`] and [`worker`] carry it out.
//! * [`exchange`] and [`control`] are the ports for gradients and for messages, with their embedded implementations.
//! * [`reader`] reads mini-batches ahead of their use, [`replica`] is the model that threads share, [`output`] writes the run.

pub mod cli;
pub mod control;
mod error;
pub mod exchange;
pub mod memory;
pub mod output;
pub mod plan;
pub mod protocol;
pub mod reader;
pub mod replica;
pub mod supervisor;
pub mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reporting::{Console, Progress};
use schemas::exit::ErrorKind;
use schemas::message::{Message, Party};
use schemas::report::TrainReport;
use train_core::factors::Shape;
use train_core::lanes::Simd;
use train_core::nesterov::Motion;
use train_core::order::Schedule;

use control::ControlPlane;
use control::memory::MemoryControl;
pub use error::Error;
use exchange::memory::MemoryExchange;
use memory::Memory;
use plan::Plan;
use protocol::supervisor::{Outcome, Rules};
use reader::{BatchReader, ReadAhead};
use replica::{Factors, Replica};
use supervisor::Records;
use worker::{Job, Shell};

/// How long a party waits for another before it gives up.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Mini-batches that a worker's reader is ahead, at least.
const READ_AHEAD: usize = 4;

/// Trains as `plan` says: workers are threads of this process.
///
/// # Errors
/// When something stored is missing or wrong, the run diverges, a worker fails, or a signal comes. Without `report.json` there
/// is no run.
pub fn run(plan: &Plan, console: &Console) -> Result<TrainReport, Error> {
    let start = Instant::now();
    plan.warnings.iter().for_each(|warning| console.warn(warning));
    if let Some(report) = output::existing(plan)? {
        console.note(format!("{} is already there, unchanged", plan.out));
        output::summarise(plan, &report, console);
        return Ok(report);
    }
    let ids = output::prepare(plan)?;
    output::announce(plan, console);
    let progress =
        console.progress("training", Some(plan.shards.manifest.rows.saturating_mul(plan.limits.max_epochs)), "ratings");
    let result = train(plan, start, console, &progress);
    progress.finish();
    let (outcome, records, factors) = result?;
    let report = output::write(plan, outcome, &records, &factors, ids, start)?;
    output::summarise(plan, &report, console);
    Ok(report)
}

/// Runs supervisor and workers to the end.
fn train(
    plan: &Plan,
    start: Instant,
    console: &Console,
    progress: &Progress,
) -> Result<(Outcome, Records, Factors), Error> {
    let manifest = &plan.shards.manifest;
    let ratings = &plan.ratings;
    let settings = &plan.settings;
    let n_batches = u32::try_from(manifest.batches.len()).map_err(Error::internal)?;
    let n_holdout_batches = u32::try_from(manifest.holdout_batches.len()).map_err(Error::internal)?;
    let schedule = Schedule::new(n_batches, settings.step_batches);
    let shape = Shape { n_factors: settings.factors as usize, biases: settings.biases };
    let motion = Motion::new(settings.learning_rate, settings.momentum);
    let mut memory = Memory::new(Replica::lines(shape, ratings.n_users, ratings.n_items))?;
    let replica = Replica::new(settings.seed, shape, motion, ratings.n_users, ratings.n_items, memory.lines());
    let (exchange, control) = (MemoryExchange::default(), MemoryControl::default());
    let rules = Rules {
        n_workers: plan.workers,
        schedule,
        n_holdout_batches,
        holdout_mean_rmse: ratings.baselines.holdout.map_or(0.0, |baseline| baseline.mean),
        max_epochs: plan.limits.max_epochs,
        max_time: plan.limits.max_time,
        target_loss: plan.limits.target_loss,
        target_holdout_loss: plan.limits.target_holdout_loss,
        patience: plan.limits.patience,
        silence_max: WAIT_MAX,
    };
    let job = |worker| Job {
        run: plan.run.clone(),
        worker,
        n_workers: plan.workers,
        schedule,
        n_batches,
        n_holdout_batches,
        seed: settings.seed,
        l2: settings.l2,
        reduce: settings.reduce,
        simd: Simd::detect(),
        wait_max: WAIT_MAX,
    };
    let mut mailbox = control.open(Party::Supervisor).map_err(Error::internal)?;
    let shards = Arc::new(plan.shards.clone());
    let size = (ratings.n_users, ratings.n_items);
    let depth = READ_AHEAD.max(2 * settings.step_batches.div_ceil(plan.workers) as usize);
    std::thread::scope(|scope| {
        let (exchange, control, replica) = (&exchange, &control, &replica);
        let mut workers = Vec::new();
        for job in (0..plan.workers).map(job) {
            let reader = || BatchReader::new(Arc::clone(&shards), size);
            let batches = ReadAhead::start(scope, reader(), job.wanted(), depth);
            let shell = Shell::new(job.clone(), replica, exchange, control, batches, reader())?;
            workers.push(scope.spawn(move || watched(&job, control, || shell.work())));
        }
        let supervised = supervisor::supervise(&plan.run, rules, control, &mut *mailbox, start, (console, progress));
        let results: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::Internal("a worker panicked".to_owned()))))
            .collect();
        let (outcome, records) = supervised?;
        conclude(plan, outcome, records, results)
    })
}

/// Runs a worker; a panic is told to the supervisor, so that nobody waits for this worker.
fn watched<T>(job: &Job, control: &dyn ControlPlane, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let error = format!("worker {} panicked", job.worker);
        let message = Message::Failed { kind: ErrorKind::Internal, error: error.clone(), fix: None };
        let message = protocol::envelope(&job.run, Party::Worker(job.worker), 0, message);
        control.send(Party::Supervisor, &message).map_err(Error::internal)?;
        Err(Error::Internal(error))
    })
}

fn conclude(
    plan: &Plan,
    outcome: Outcome,
    records: Records,
    results: Vec<Result<Option<Factors>, Error>>,
) -> Result<(Outcome, Records, Factors), Error> {
    match outcome {
        Outcome::Finished { steps, .. } => {
            let mut factors = None;
            for result in results {
                factors = result?.or(factors);
            }
            let factors = factors.ok_or_else(|| Error::Internal("no worker returned the model".to_owned()))?;
            if !factors.is_finite() {
                // Only the last step of a run without held-out rows gets this far unseen.
                let first_rmse = records.steps.first().map_or(f64::NAN, |s| s.rmse);
                return Err(diverged(plan, steps - 1, f64::NAN, first_rmse));
            }
            Ok((outcome, records, factors))
        }
        Outcome::Diverged { step, rmse, first_rmse } => Err(diverged(plan, step, rmse, first_rmse)),
        Outcome::Failed { worker, kind, error, fix } => {
            // The worker's own error says more than its message about it.
            results
                .into_iter()
                .find_map(|result| result.err().filter(|e| e.to_string() == error))
                .map_or(Err(Error::Worker { worker, kind, error, fix }), Err)
        }
        Outcome::Lost { workers, .. } => Err(Error::Lost { workers, seconds: WAIT_MAX.as_secs() }),
    }
}

fn diverged(plan: &Plan, step: u64, rmse: f64, first_rmse: f64) -> Error {
    Error::Diverged {
        step,
        rmse,
        first_rmse,
        learning_rate: plan.settings.learning_rate,
        step_batches: plan.settings.step_batches,
        momentum: plan.settings.momentum,
        safer: plan.safe_learning_rate.min(plan.settings.learning_rate / 4.0),
    }
}
