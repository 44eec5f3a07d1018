//! Trains a model from the mini-batches that a manifest names, and makes use of trained models.
//!
//! * [`cli`] is what was typed, [`plan`] what it means, [`carry_out`] does it; [`run`] trains.
//! * [`model`] is what training needs of a model, and the models.
//! * [`protocol`] says what supervisor and workers do when, without any I/O; [`supervisor`] and [`worker`] carry it out.
//! * [`threads`] runs them as threads of this process; [`client`] launches them as processes, which [`job`] tells what to do.
//! * [`exchange`] and [`control`] are the ports for gradients and for messages, with their implementations.
//! * [`checkpoints`] and [`records`] are what a run goes on from, [`display`] what is seen of it meanwhile.
//! * [`watch`] shows a run that was begun elsewhere.
//! * [`bench`] measures the exchange alone, and computing alone.
//! * [`forecast`] predicts time and money of runs on functions, [`cost`] counts and adds up what they cost.
//! * [`doctor`] checks a set-up for functions, [`checkup`] is what of it a function does.
//! * [`dry_run`] says what training would do, [`advice`] what to try when the model is no good.
//! * [`reader`] reads mini-batches ahead of their use, [`output`] writes the run, [`pages`] shows runs to people.
//! * [`saved`] reads a run, [`predict`], [`evaluate`] and [`recommend`] use its model; [`stored`] reads what they are given.

pub mod advice;
pub mod bench;
pub mod checkpoints;
pub mod checkup;
pub mod cli;
pub mod client;
pub mod control;
pub mod cost;
pub mod display;
pub mod doctor;
pub mod dry_run;
mod error;
pub mod evaluate;
pub mod exchange;
pub mod forecast;
pub mod job;
pub mod join;
pub mod memory;
pub mod model;
pub mod output;
pub mod pages;
pub mod plan;
pub mod predict;
pub mod protocol;
pub mod reader;
pub mod recommend;
pub mod records;
pub mod saved;
pub mod scale;
pub mod servers;
pub mod service;
pub mod stored;
pub mod supervisor;
pub mod threads;
pub mod verify;
pub mod watch;
pub mod worker;

use std::time::{Duration, Instant};

use manifests::place::Place;
use reporting::Console;
use schemas::cost::Prediction;
use schemas::records::Finished;
use schemas::report::{
    ComputeBenchReport, DoctorReport, DryRunReport, EvaluateReport, ExchangeBenchReport, PageReport, PredictReport,
    RecommendReport, RunVerifyReport, ScaleReport, TrainReport,
};
use serde::Serialize;

use display::published::Published;
pub use error::Error;
use model::Model;
use output::{Files, Launched, Tables};
use plan::{Launch, Plan, Task, Work};
use records::Records;

/// How long a party waits for another before it gives up.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Name and version of this tool, as it stands in files and reports.
pub const TOOL: &str = concat!("train ", env!("CARGO_PKG_VERSION"));

/// What a command did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// A model was trained, here or while it was watched, or was already there.
    Trained(Box<TrainReport>),
    /// What training would do was said.
    DryRun(Box<DryRunReport>),
    /// Rows were scored.
    Predicted(Box<PredictReport>),
    /// A model was measured.
    Evaluated(Box<EvaluateReport>),
    /// Movies were listed.
    Recommended(Box<RecommendReport>),
    /// A run goes on with other workers.
    Scaled(ScaleReport),
    /// A run's ledger was checked.
    Verified(Box<RunVerifyReport>),
    /// A page of runs was made.
    Shown(Box<PageReport>),
    /// The exchange of gradients was measured.
    ExchangeMeasured(Box<ExchangeBenchReport>),
    /// Computing was measured.
    ComputeMeasured(Box<ComputeBenchReport>),
    /// A set-up for functions was checked.
    Examined(Box<DoctorReport>),
    /// Runs were predicted.
    Planned(Box<Prediction>),
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
        Work::Scale(scale) => scale::run(scale, console).map(Report::Scaled),
        Work::Watch(watch) => watch::run(watch, console).map(Box::new).map(Report::Trained),
        Work::Verify(verify) => verify::run(verify, console).map(Box::new).map(Report::Verified),
        Work::Pages(plan) => pages::run(plan, console).map(Box::new).map(Report::Shown),
        Work::BenchExchange(plan) => bench::exchange::run(plan, console).map(Box::new).map(Report::ExchangeMeasured),
        Work::BenchCompute(plan) => bench::compute::run(plan, console).map(Box::new).map(Report::ComputeMeasured),
        Work::Doctor(plan) => Ok(Report::Examined(Box::new(doctor::run(plan, console)))),
        Work::Plan(planning) => forecast::table::run(planning, console).map(Box::new).map(Report::Planned),
        Work::Join(part) => join::run(part).map(|()| Report::Streamed),
    }
}

/// Trains as `plan` says.
///
/// # Errors
/// When something stored is missing or wrong, the run diverges, a worker fails, or a signal comes. Without `report.json` there
/// is no run.
pub fn run(plan: &Plan, console: &Console) -> Result<TrainReport, Error> {
    let start = Instant::now();
    plan.recipe.iter().for_each(|words| console.note(words));
    plan.warnings.iter().for_each(|warning| console.warn(warning));
    if let Some(report) = output::existing(plan)? {
        console.note(format!("{} is already there, unchanged", plan.out));
        // Its last act may have been cut off.
        pages::ensure(&plan.out)?;
        summarise(&plan.out, &report, console);
        return Ok(report);
    }
    let tables = output::prepare(plan)?;
    output::announce(plan, console);
    let published = match plan.launch {
        Launch::Threads => Some(Published::begin(&plan.out)?),
        Launch::Processes(_) => None,
    };
    let watch = Watch { start, console, published: published.as_ref() };
    let result = match &plan.task {
        Task::Pmf(task) => train_pmf(plan, task, tables, watch),
        Task::Logistic(task) => train_logistic(plan, task, tables, watch),
    };
    if let Some(published) = published {
        published.end(console);
    }
    let report = result.map_err(|error| match (error, &plan.launch) {
        (Error::Stopped(stopped), Launch::Threads) => Error::Dropped { stopped },
        (error, _) => error,
    })?;
    if matches!(plan.launch, Launch::Processes(_)) {
        client::tidy(plan)?;
    }
    pages::ensure(&plan.out)?;
    summarise(&plan.out, &report, console);
    Ok(report)
}

fn summarise(out: &Place, report: &TrainReport, console: &Console) {
    output::summarise(out, report, console);
    advice::advice(report).iter().for_each(|advice| console.warn(advice));
}

/// Since when, and where to be seen.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// When the command began.
    pub start: Instant,
    /// For words.
    pub console: &'a Console,
    /// For those who watch from elsewhere, if there is no better way.
    pub published: Option<&'a Published>,
}

fn train_pmf(plan: &Plan, task: &plan::pmf::Task, tables: Tables, watch: Watch<'_>) -> Result<TrainReport, Error> {
    let ids = output::pmf::Ids::new(plan, &tables)?;
    let (finished, records, factors, launched) = {
        let mut memory = task.memory()?;
        train(plan, &task.replica(&mut memory), watch)?
    };
    check_finite(plan, &finished, &records, factors.is_finite())?;
    let save = |files: &mut Files<'_>| output::pmf::save(plan, task, &factors, ids, files);
    output::write(plan, (finished, &records, launched), tables, watch.start, save)
}

fn train_logistic(
    plan: &Plan,
    task: &plan::logistic::Task,
    tables: Tables,
    watch: Watch<'_>,
) -> Result<TrainReport, Error> {
    let space = output::logistic::space(plan, task, &tables)?;
    let (finished, records, weights, launched) = {
        let mut memory = task.memory(&space)?;
        train(plan, &task.replica(space, plan.schedule()?, &mut memory), watch)?
    };
    check_finite(plan, &finished, &records, weights.is_finite())?;
    let save = |files: &mut Files<'_>| output::logistic::save(plan, task, &weights, files);
    output::write(plan, (finished, &records, launched), tables, watch.start, save)
}

/// Runs supervisor and workers to the end, and gives the model and what is known of those that were launched.
fn train<M: Model>(plan: &Plan, model: &M, watch: Watch<'_>) -> Result<(Finished, Records, M::Saved, Launched), Error> {
    match &plan.launch {
        Launch::Threads => {
            let (finished, records, saved) = threads::train(plan, model, watch)?;
            Ok((finished, records, saved, Launched::default()))
        }
        Launch::Processes(processes) => {
            let client::Trained { finished, records, state, launched } = client::train(plan, processes, watch)?;
            let steps = model.restore(&state).map_err(Error::internal)?;
            Ok((finished, records, model.saved(steps), launched))
        }
    }
}

/// Only the last step of a run without held-out rows can have spoilt the model without being seen.
fn check_finite(plan: &Plan, finished: &Finished, records: &Records, finite: bool) -> Result<(), Error> {
    let first_loss = records.steps.first().map_or(f64::NAN, |s| s.loss);
    if finite { Ok(()) } else { Err(diverged(plan, finished.steps - 1, f64::NAN, first_loss)) }
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
