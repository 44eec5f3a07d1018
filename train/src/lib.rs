//! Trains a model from the mini-batches that a manifest names, and makes use of trained models.
//!
//! * [`cli`] is what was typed, [`plan`] what it means, [`carry_out`] does it; [`run`] trains.
//! * [`model`] is what training needs of a model, and the models.
//! * [`protocol`] says what supervisor and workers do when, without any I/O; [`supervisor`] and [`worker`] carry it out.
//! * [`exchange`] and [`control`] are the ports for gradients and for messages, with their embedded implementations.
//! * [`dry_run`] says what training would do.
//! * [`reader`] reads mini-batches ahead of their use, [`output`] writes the run.
//! * [`saved`] reads a run, [`predict`], [`evaluate`] and [`recommend`] use its model; [`stored`] reads what they are given.

pub mod cli;
pub mod control;
pub mod dry_run;
mod error;
pub mod evaluate;
pub mod exchange;
pub mod memory;
pub mod model;
pub mod output;
pub mod plan;
pub mod predict;
pub mod protocol;
pub mod reader;
pub mod recommend;
pub mod saved;
pub mod service;
pub mod stored;
pub mod supervisor;
pub mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reporting::{Console, Progress};
use schemas::exit::ErrorKind;
use schemas::message::{Message, Party};
use schemas::report::{DryRunReport, EvaluateReport, PredictReport, RecommendReport, TrainReport};
use serde::Serialize;
use train_core::lanes::Simd;
use train_core::order::Schedule;
use train_core::pmf::factors::Line;

use control::ControlPlane;
use control::memory::MemoryControl;
pub use error::Error;
use exchange::memory::MemoryExchange;
use memory::Memory;
use model::{Model, logistic, pmf};
use output::{Files, Tables};
use plan::{Plan, Task, Work};
use protocol::supervisor::{Finished, Outcome, Rules};
use reader::{BatchDecoder, ReadAhead, Set};
use supervisor::Records;
use worker::{Job, Shell};

/// How long a party waits for another before it gives up.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Mini-batches that a worker's reader is ahead, at least.
const READ_AHEAD: usize = 4;

/// Name and version of this tool, as it stands in files and reports.
pub const TOOL: &str = concat!("train ", env!("CARGO_PKG_VERSION"));

/// What a command did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// A model was trained, or was already there.
    Trained(Box<TrainReport>),
    /// What training would do was said.
    DryRun(Box<DryRunReport>),
    /// Rows were scored.
    Predicted(Box<PredictReport>),
    /// A model was measured.
    Evaluated(Box<EvaluateReport>),
    /// Movies were listed.
    Recommended(Box<RecommendReport>),
    /// What was asked for went to standard output itself, so there is no report on it.
    Streamed,
}

/// Does `work`.
///
/// # Errors
/// As [`run`], [`dry_run::run`], [`predict::run`], [`evaluate::run`] and [`recommend::run`].
pub fn carry_out(work: &Work, console: &Console) -> Result<Report, Error> {
    match work {
        Work::Train(plan) if plan.dry_run => dry_run::run(plan, console).map(Box::new).map(Report::DryRun),
        Work::Train(plan) => run(plan, console).map(Box::new).map(Report::Trained),
        Work::Predict(plan) => predict::run(plan, console)
            .map(|report| report.map_or(Report::Streamed, |r| Report::Predicted(Box::new(r)))),
        Work::Evaluate(plan) => evaluate::run(plan, console).map(Box::new).map(Report::Evaluated),
        Work::Recommend(plan) => recommend::run(plan, console).map(Box::new).map(Report::Recommended),
    }
}

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
    let tables = output::prepare(plan)?;
    output::announce(plan, console);
    let total = plan.shards.manifest.rows.saturating_mul(plan.limits.max_epochs);
    let progress = console.progress("training", Some(total), plan.task.rows());
    let watch = Watch { start, console, progress: &progress };
    let result = match &plan.task {
        Task::Pmf(task) => train_pmf(plan, task, tables, watch),
        Task::Logistic(task) => train_logistic(plan, task, tables, watch),
    };
    progress.finish();
    let report = result?;
    output::summarise(plan, &report, console);
    Ok(report)
}

/// Since when, and where to be seen.
#[derive(Clone, Copy)]
struct Watch<'a> {
    start: Instant,
    console: &'a Console,
    progress: &'a Progress,
}

fn train_pmf(plan: &Plan, task: &plan::pmf::Task, tables: Tables, watch: Watch<'_>) -> Result<TrainReport, Error> {
    let ids = output::pmf::Ids::new(plan, &tables)?;
    let size = (task.ratings.n_users, task.ratings.n_items);
    let (finished, records, factors) = {
        let mut memory = Memory::new(pmf::Replica::lines(&task.settings, size) * size_of::<Line>())?;
        let replica = pmf::Replica::new(Simd::detect(), &task.settings, size, memory.of());
        train(plan, &replica, watch)?
    };
    check_finite(plan, &finished, &records, factors.is_finite())?;
    let save = |files: &mut Files<'_>| output::pmf::save(plan, task, &factors, ids, files);
    output::write(plan, finished, &records, tables, watch.start, save)
}

fn train_logistic(
    plan: &Plan,
    task: &plan::logistic::Task,
    tables: Tables,
    watch: Watch<'_>,
) -> Result<TrainReport, Error> {
    let space = output::logistic::space(plan, task, &tables)?;
    let (finished, records, weights) = {
        let mut memory = Memory::new(logistic::Replica::floats(&space) * size_of::<f32>())?;
        let (settings, schedule) = (task.settings.clone(), schedule(plan)?);
        let replica = logistic::Replica::new(Simd::detect(), task.form, space, settings, schedule, memory.of());
        train(plan, &replica, watch)?
    };
    check_finite(plan, &finished, &records, weights.is_finite())?;
    let save = |files: &mut Files<'_>| output::logistic::save(plan, task, &weights, files);
    output::write(plan, finished, &records, tables, watch.start, save)
}

/// Only the last step of a run without held-out rows can have spoilt the model without being seen.
fn check_finite(plan: &Plan, finished: &Finished, records: &Records, finite: bool) -> Result<(), Error> {
    let first_loss = records.steps.first().map_or(f64::NAN, |s| s.loss);
    if finite { Ok(()) } else { Err(diverged(plan, finished.steps - 1, f64::NAN, first_loss)) }
}

fn schedule(plan: &Plan) -> Result<Schedule, Error> {
    let n_batches = u32::try_from(plan.shards.batches.len()).map_err(Error::internal)?;
    Ok(Schedule::new(n_batches, plan.task.common().step_batches))
}

/// Runs supervisor and workers to the end.
fn train<M: Model>(plan: &Plan, model: &M, watch: Watch<'_>) -> Result<(Finished, Records, M::Saved), Error> {
    let common = plan.task.common();
    let schedule = schedule(plan)?;
    let n_batches = u32::try_from(plan.shards.batches.len()).map_err(Error::internal)?;
    let n_holdout_batches = u32::try_from(plan.shards.holdout_batches.len()).map_err(Error::internal)?;
    let (exchange, control) = (MemoryExchange::default(), MemoryControl::default());
    let rules = Rules {
        n_workers: plan.workers,
        schedule,
        n_holdout_batches,
        metric: plan.task.metric(),
        holdout_base: plan.task.base().1.unwrap_or(0.0),
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
        seed: common.seed,
        wait_max: WAIT_MAX,
    };
    let mut mailbox = control.open(Party::Supervisor.life(0)).map_err(Error::internal)?;
    let shards = Arc::new(plan.shards.clone());
    let depth = READ_AHEAD.max(2 * common.step_batches.div_ceil(plan.workers) as usize);
    std::thread::scope(|scope| {
        let (exchange, control) = (&exchange, &control);
        let mut workers = Vec::new();
        for job in (0..plan.workers).map(job) {
            let batches = ReadAhead::start(Arc::clone(&shards), Set::Train, job.wanted(), depth)?;
            let decoder = BatchDecoder::new(Arc::clone(&shards), model);
            let shell = Shell::new(job.clone(), model, exchange, control, batches, decoder)?;
            workers.push(scope.spawn(move || watched(&job, control, || shell.work())));
        }
        let Watch { start, console, progress } = watch;
        let supervised = supervisor::supervise(&plan.run, rules, control, &mut *mailbox, start, (console, progress));
        let results: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::Internal("a worker panicked".to_owned()))))
            .collect();
        let (outcome, records) = supervised?;
        let (finished, saved) = conclude(plan, outcome, results)?;
        Ok((finished, records, saved))
    })
}

/// Runs a worker; a panic is told to the supervisor, so that nobody waits for this worker.
fn watched<T>(job: &Job, control: &dyn ControlPlane, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let error = format!("worker {} panicked", job.worker);
        let message = Message::Failed { kind: ErrorKind::Internal, error: error.clone(), fix: None };
        let message = protocol::envelope(&job.run, Party::Worker(job.worker), 0, message);
        control.send(Party::Supervisor.life(0), &message).map_err(Error::internal)?;
        Err(Error::Internal(error))
    })
}

fn conclude<S>(plan: &Plan, outcome: Outcome, results: Vec<Result<Option<S>, Error>>) -> Result<(Finished, S), Error> {
    match outcome {
        Outcome::Finished(finished) => {
            let mut saved = None;
            for result in results {
                saved = result?.or(saved);
            }
            let saved = saved.ok_or_else(|| Error::Internal("no worker returned the model".to_owned()))?;
            Ok((finished, saved))
        }
        Outcome::Diverged { step, loss, first_loss } => Err(diverged(plan, step, loss, first_loss)),
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

fn diverged(plan: &Plan, step: u64, loss: f64, first_loss: f64) -> Error {
    let (settings, safer) = match &plan.task {
        Task::Pmf(task) => {
            let s = &task.settings;
            let (rate, batches) = (s.learning_rate, s.step_batches);
            let settings = format!("learning rate {rate} x {batches} batches a step, momentum {}", s.momentum);
            (settings, task.safe_learning_rate.min(rate / 4.0))
        }
        Task::Logistic(task) => {
            let rate = task.settings.learning_rate;
            (format!("learning rate {rate}"), rate / 10.0)
        }
    };
    Error::Diverged { step, metric: plan.task.metric(), loss, first_loss, settings, safer }
}
