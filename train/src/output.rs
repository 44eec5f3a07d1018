//! What a run leaves behind: the model, how rows are prepared for it, its history and timings, and the report that is written
//! last.

mod existing;
pub mod ledger;
pub mod lives;
pub mod logistic;
pub mod pmf;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use manifests::digest::digest;
use manifests::place::Place;
use manifests::{id_map, load};
use parquet::arrow::ArrowWriter;
use reporting::{Console, count, counted};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use schemas::dataset::{Digest, Object};
use schemas::preparation::{self, PREPARATION_KEY, Preparation};
use schemas::records::{Finished, HeldOut};
use schemas::report::{FunctionsReport, RUN_FORMAT, RUN_VERSION, Reduce, StopReason, TrainReport, Trained};

use crate::error::Error;
use crate::pages::PAGE;
use crate::plan::{Launch, Plan, Task};
use crate::records::Records;

/// The model, for programs.
pub const MODEL: &str = "model.safetensors";
/// Loss of every step.
pub const HISTORY: &str = "history.csv";
/// Where the time of every worker's step went.
pub const TIMINGS: &str = "timings.csv";
/// What the kept model makes of held-out rows: groups of clicks, or ratings.
pub const SCORES: &str = "scores.csv";
/// The report; without it there is no run.
pub const REPORT: &str = "report.json";
/// Shows that the place can be written to; there for a moment only.
const PROBE: &str = "probe.tmp";

/// Where the files of a model go, one after the other.
pub struct Files<'a> {
    place: &'a Place,
    model_digest: Option<Digest>,
}

impl Files<'_> {
    fn put(&mut self, key: &str, bytes: Vec<u8>) -> Result<(), Error> {
        if key == MODEL {
            self.model_digest = Some(digest(&bytes));
        }
        Ok(self.place.put(key, bytes)?)
    }
}

/// What is known of workers that were launched; of threads there is nothing to know.
#[derive(Debug, Default)]
pub struct Launched {
    /// Why their lives began.
    pub begun: lives::Begun,
    /// What the functions among them cost.
    pub functions: Option<FunctionsReport>,
}

/// The report of the very same run when it is already there, whole.
///
/// # Errors
/// `Differs` when another run is there and is not to be replaced.
pub fn existing(plan: &Plan) -> Result<Option<TrainReport>, Error> {
    let Some(bytes) = plan.out.find(REPORT)? else { return Ok(None) };
    let tables: &[&str] = match plan.task {
        Task::Pmf(_) => &pmf::TABLES,
        Task::Logistic(_) => &logistic::TABLES,
    };
    let report: Option<TrainReport> = serde_json::from_slice(&bytes).ok();
    if let Some(mut report) = report.clone().filter(|r| r.format == RUN_FORMAT && r.identity == plan.identity)
        && plan.out.get(MODEL).is_ok_and(|model| digest(&model) == report.model_digest)
        && [HISTORY, TIMINGS, lives::LIVES, ledger::LEDGER, PREPARATION_KEY]
            .iter()
            .chain(tables)
            .all(|key| matches!(plan.out.size(key), Ok(Some(_))))
    {
        report.unchanged = true;
        report.output = plan.out.to_string();
        return Ok(Some(report));
    }
    if plan.replace {
        return Ok(None);
    }
    let difference = existing::difference(plan, report.as_ref());
    Err(manifests::Error::Differs { place: plan.out.show(REPORT), difference }.into())
}

/// The tables of the manifest's layout, in the order of [`schemas::dataset::Layout::tables`].
#[derive(Clone, Debug)]
pub struct Tables(Vec<(&'static str, Object, Bytes)>);

impl Tables {
    /// The table that is stored under `name` and what the manifest says of it.
    fn get(&self, name: &str) -> Option<(&Object, Bytes)> {
        self.0.iter().find(|table| table.0 == name).map(|(_, object, bytes)| (object, bytes.clone()))
    }
}

/// Makes sure, before hours are spent on a model, that it can be saved: reads the tables that belong to it and tries to write to
/// the place.
///
/// # Errors
/// When a table is missing or wrong, or the place cannot be written to.
pub fn prepare(plan: &Plan) -> Result<Tables, Error> {
    let tables = tables(plan)?;
    plan.out.put(PROBE, Vec::new())?;
    plan.out.delete(PROBE)?;
    Ok(tables)
}

/// The tables that belong to the model.
///
/// # Errors
/// When a table is missing or wrong.
pub fn tables(plan: &Plan) -> Result<Tables, Error> {
    let shards = &plan.shards;
    let mut tables = Vec::new();
    for (name, object) in shards.manifest.layout.tables() {
        tables.push((name, object.clone(), load::object(&shards.place, object, &shards.name)?));
    }
    Ok(Tables(tables))
}

/// Says what is about to happen.
pub fn announce(plan: &Plan, console: &Console) {
    let manifest = &plan.shards.manifest;
    let (model, settings) = match &plan.task {
        Task::Pmf(task) => pmf::announced(task, plan.shards.batches.len()),
        Task::Logistic(task) => logistic::announced(task),
    };
    console.note(format!(
        "training on {}: {} {} in {} mini-batches, {} held out; {model}",
        plan.shards.name,
        count(manifest.rows),
        plan.task.rows(),
        plan.shards.batches.len(),
        count(manifest.holdout_rows),
    ));
    let step_batches = plan.task.common().step_batches;
    console.note(format!(
        "{} worker{}, {step_batches} mini-batch{} a step; {settings}",
        plan.workers,
        if plan.workers == 1 { "" } else { "s" },
        if step_batches == 1 { "" } else { "es" },
    ));
    if let Launch::Processes(processes) = &plan.launch
        && let Ok(servers) = processes.servers.shown()
    {
        console.note(format!("workers are processes that meet in {servers}"));
    }
}

/// How often a learning rate counts in a step, for people.
fn times(reduce: Reduce, step_batches: u32, n_batches: usize) -> f64 {
    match reduce {
        Reduce::Sum => f64::from(step_batches.min(n_batches as u32)),
        Reduce::Mean => 1.0,
    }
}

/// Writes everything: what `save` gives, the model among it, and the report last.
///
/// # Errors
/// When something cannot be written; there is then no report.
pub fn write(
    plan: &Plan,
    (finished, records, launched): (Finished, &Records, Launched),
    Tables(tables): Tables,
    start: Instant,
    save: impl FnOnce(&mut Files<'_>) -> Result<(), Error>,
) -> Result<TrainReport, Error> {
    // From here on a run that is replaced is no longer whole.
    if plan.replace {
        plan.out.delete(REPORT)?;
    }
    // The page of whatever was there, or of a run that was cut off.
    plan.out.delete(PAGE)?;
    let mut files = Files { place: &plan.out, model_digest: None };
    save(&mut files)?;
    let model_digest = files.model_digest.ok_or_else(|| Error::Internal("the model is saved".to_owned()))?;
    let mut objects = Vec::new();
    for (name, object, bytes) in tables {
        let key = format!("preparation/{name}");
        plan.out.put(&key, bytes)?;
        objects.push(Object { key, ..object });
    }
    plan.out.put(PREPARATION_KEY, preparation(plan, objects)?)?;
    let (history, history_digest) = history(records);
    plan.out.put(HISTORY, history)?;
    plan.out.put(TIMINGS, timings(records))?;
    plan.out.put(lives::LIVES, lives::lives(records, &launched.begun))?;
    match scores(plan, records) {
        Some(scores) => plan.out.put(SCORES, scores)?,
        // Of the run that this one replaces.
        None => plan.out.delete(SCORES)?,
    }
    let entries = ledger::entries(records, plan.task.common().seed, plan.schedule()?);
    plan.out.put(ledger::LEDGER, ledger::encode(&entries)?)?;
    let mut report = report(plan, &finished, records, [model_digest, history_digest], start);
    report.functions = launched.functions;
    plan.out.create(REPORT, json(&report)?)?;
    Ok(report)
}

fn preparation(plan: &Plan, tables: Vec<Object>) -> Result<Vec<u8>, Error> {
    json(&Preparation {
        format: preparation::FORMAT.to_owned(),
        version: preparation::VERSION,
        manifest_digest: plan.shards.digest.clone(),
        layout: plan.shards.manifest.layout.clone().with_tables(tables),
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    let mut json = serde_json::to_vec_pretty(value).map_err(Error::internal)?;
    json.push(b'\n');
    Ok(json)
}

fn report(
    plan: &Plan,
    finished: &Finished,
    records: &Records,
    [model_digest, history_digest]: [Digest; 2],
    start: Instant,
) -> TrainReport {
    let steps_per_epoch = (plan.shards.batches.len() as u64).div_ceil(plan.task.common().step_batches.into());
    let epochs = finished.steps / steps_per_epoch;
    let last_epoch = records.steps.iter().filter(|s| epochs > 0 && s.epoch == epochs - 1);
    let (loss_sum, rows) = last_epoch.fold((0.0, 0), |(loss, rows), s| (loss + s.loss_sum, rows + s.rows));
    let train_loss = (rows > 0).then(|| plan.task.metric().of_mean(loss_sum / rows as f64));
    let all_rows: u64 = records.steps.iter().map(|s| s.rows).sum();
    let best = finished.best;
    TrainReport {
        format: RUN_FORMAT.to_owned(),
        version: RUN_VERSION,
        tool: concat!("train ", env!("CARGO_PKG_VERSION")).to_owned(),
        output: plan.out.to_string(),
        unchanged: false,
        identity: plan.identity.clone(),
        manifest: plan.shards.name.clone(),
        manifest_digest: plan.shards.digest.clone(),
        trained: match &plan.task {
            Task::Pmf(task) => Trained::Pmf {
                settings: task.settings.clone(),
                train_rmse: train_loss,
                holdout_rmse: best.map(|best| best.loss),
                baselines: task.baselines(),
            },
            Task::Logistic(task) => Trained::Logistic {
                settings: task.settings.clone(),
                train_log_loss: train_loss,
                holdout: best.and_then(|best| best.clicks),
                base_log_loss: task.base_log_loss(),
            },
        },
        workers: plan.workers,
        stopped_by: finished.reason,
        steps: finished.steps,
        epochs,
        model_epoch: best.map(|best| best.epoch).or_else(|| records.steps.last().map(|s| s.epoch)),
        model_digest,
        history_digest,
        rows_per_second: all_rows as f64 / records.stepping.as_secs_f64().max(1e-9),
        functions: None,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Says how it went.
pub fn summarise(out: &Place, report: &TrainReport, console: &Console) {
    let reason = match report.stopped_by {
        StopReason::MaxEpochs => "all epochs are done",
        StopReason::MaxTime => "the time was up",
        StopReason::TargetLoss => "the target loss was reached",
        StopReason::TargetHoldoutLoss => "the target held-out loss was reached",
        StopReason::Patience => "the held-out loss no longer improved",
    };
    console.note(format!(
        "{}, {} in {:.1} s, {} {}/s; {reason}",
        counted(report.steps, "step"),
        counted(report.epochs, "whole epoch"),
        report.seconds,
        count(report.rows_per_second as u64),
        match report.trained {
            Trained::Pmf { .. } => "ratings",
            Trained::Logistic { .. } => "rows",
        },
    ));
    let epoch = report.model_epoch.map_or(String::new(), |epoch| format!("  (after epoch {})", epoch + 1));
    let (lines, tables) = match &report.trained {
        Trained::Pmf { train_rmse, holdout_rmse, baselines, .. } => {
            (pmf::summary(*train_rmse, *holdout_rmse, baselines, &epoch), &pmf::TABLES[..])
        }
        Trained::Logistic { train_log_loss, holdout, base_log_loss, .. } => {
            (logistic::summary(*train_log_loss, *holdout, *base_log_loss, &epoch), &logistic::TABLES[..])
        }
    };
    lines.iter().for_each(|line| console.note(line));
    if let Some(functions) = &report.functions {
        costs(functions, report.seconds).iter().for_each(|line| console.note(line));
    }
    console.note(format!("model    {} (for DuckDB or pandas: {})", out.show(MODEL), tables.join(", ")));
    console.note(format!("history  {}", out.show(HISTORY)));
    console.note(format!("report   {}", out.show(REPORT)));
    console.note(format!("page     {}", out.show(PAGE)));
}

/// What functions cost, for people.
fn costs(functions: &FunctionsReport, seconds: f64) -> Vec<String> {
    let FunctionsReport { usage, cost, handovers, relaunches, predicted, prices_of, .. } = functions;
    let mut lines = vec![
        format!("US dollars, by prices of {prices_of}"),
        format!("  functions     {:.4}  ({:.1} GB-seconds)", cost.compute, usage.gb_seconds),
        format!(
            "  invocations   {:.4}  ({}: {}, {relaunches} after a death)",
            cost.requests,
            usage.requests,
            counted(*handovers, "handover")
        ),
        format!("  S3            {:.4}  ({} put, {} get)", cost.s3_puts + cost.s3_gets, usage.s3_puts, usage.s3_gets),
        format!("  Redis, broker {:.4}  ({:.3} hours)", cost.redis + cost.broker, usage.broker_hours),
        format!("  together      {:.4}", cost.total),
    ];
    if let Some(run) = predicted {
        let (run_seconds, usd) = (run.run_seconds, run.cost.total);
        lines.push(format!("  predicted     {usd:.4} and {run_seconds:.1} s; it took {seconds:.1} s"));
    }
    lines
}

/// A named array of floats.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn new(name: &str, shape: Vec<usize>, values: &[f32]) -> Self {
        Self { name: name.to_owned(), shape, bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect() }
    }
}

/// A safetensors file, which says what it is `about`.
fn safetensors(tensors: &[Tensor], about: &serde_json::Value) -> Result<Vec<u8>, Error> {
    let views = tensors
        .iter()
        .map(|t| Ok((&t.name, TensorView::new(Dtype::F32, t.shape.clone(), &t.bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()
        .map_err(Error::internal)?;
    // One entry, because the order of several would not be the same in every run.
    let metadata = HashMap::from([("gristmill".to_owned(), about.to_string())]);
    safetensors::serialize(views, Some(metadata)).map_err(Error::internal)
}

/// A Parquet file of one table.
fn parquet(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<Vec<u8>, Error> {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::internal)?;
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(id_map::properties())).map_err(Error::internal)?;
    writer.write(&batch).map_err(Error::internal)?;
    writer.close().map_err(Error::internal)?;
    Ok(bytes)
}

/// The history as CSV, and the digest of all of it but the times.
fn history(records: &Records) -> (String, Digest) {
    let clicks = records.evaluations.iter().any(|e| e.clicks.is_some());
    let more = if clicks { ",holdout_auc,holdout_normalised_entropy,holdout_calibration" } else { "" };
    let mut csv = format!("step,epoch,seconds,loss,holdout_loss{more}\n");
    let mut timeless = String::new();
    let mut evaluations = records.evaluations.iter().peekable();
    for step in &records.steps {
        let mut holdout = String::new();
        let evaluation = evaluations.next_if(|e| e.step == step.step);
        if let Some(evaluation) = evaluation {
            let _ = write!(holdout, "{}", evaluation.loss);
        }
        if clicks {
            let quality = evaluation.and_then(|e| e.clicks);
            let figures = quality.map_or([None; 3], |q| [q.auc, q.normalised_entropy, q.calibration]);
            for figure in figures {
                let _ = write!(holdout, ",{}", figure.map_or(String::new(), |figure| figure.to_string()));
            }
        }
        let _ = writeln!(csv, "{},{},{:.6},{},{holdout}", step.step, step.epoch, step.time.as_secs_f64(), step.loss);
        let _ = writeln!(timeless, "{},{},{},{holdout}", step.step, step.epoch, step.loss);
    }
    (csv, digest(timeless.as_bytes()))
}

/// What the kept model makes of the held-out rows, as CSV.
fn scores(plan: &Plan, records: &Records) -> Option<String> {
    let (_, held_out) = records.held_out.last()?;
    let mut csv = String::new();
    match (held_out, &plan.task) {
        (HeldOut::Clicks(groups), _) => {
            csv.push_str("rows,clicks,predicted\n");
            for (rows, clicks, predicted) in groups {
                let _ = writeln!(csv, "{rows},{clicks},{predicted}");
            }
        }
        (HeldOut::Ratings(ratings), Task::Pmf(task)) => {
            csv.push_str("stars,rows,mean_error,rmse\n");
            for (rating, rows, mean, rmse) in ratings {
                // The mean is no round number, a rating is one of hundredths at most.
                let stars = ((rating + task.ratings.mean) * 100.0).round() / 100.0;
                let _ = writeln!(csv, "{stars},{rows},{mean},{rmse}");
            }
        }
        (HeldOut::Ratings(_), Task::Logistic(_)) => return None,
    }
    Some(csv)
}

fn timings(records: &Records) -> String {
    let mut csv = "worker,step,fetch_us,decode_us,batch_wait_us,compute_us,exchange_write_us,exchange_wait_us,\
                   exchange_read_us,apply_us,decision_us,bytes_written,bytes_read\n"
        .to_owned();
    for (worker, t) in &records.timings {
        let _ = writeln!(
            csv,
            "{worker},{},{},{},{},{},{},{},{},{},{},{},{}",
            t.step,
            t.fetch_us,
            t.decode_us,
            t.batch_wait_us,
            t.compute_us,
            t.exchange_write_us,
            t.exchange_wait_us,
            t.exchange_read_us,
            t.apply_us,
            t.decision_us,
            t.bytes_written,
            t.bytes_read
        );
    }
    csv
}
