//! What a run leaves behind: the model, its history and timings, and the report that is written last.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, Schema};
use manifests::digest::digest;
use manifests::{id_map, load};
use parquet::arrow::ArrowWriter;
use reporting::{Console, count};
use safetensors::tensor::TensorView;
use schemas::dataset::Object;
use schemas::report::{RUN_FORMAT, RUN_VERSION, Reduce, StopReason, TrainReport};
use train_core::factors::Matrix;

use crate::error::Error;
use crate::plan::Plan;
use crate::protocol::supervisor::Outcome;
use crate::replica::Factors;
use crate::supervisor::Records;

/// The model, for programs.
pub const MODEL: &str = "model.safetensors";
/// The factors of every user with the source's id, for people and other engines.
pub const USERS: &str = "users.parquet";
/// The factors of every item with the source's id.
pub const ITEMS: &str = "items.parquet";
/// Loss of every step.
pub const HISTORY: &str = "history.csv";
/// Where the time of every worker's step went.
pub const TIMINGS: &str = "timings.csv";
/// The report; without it there is no run.
pub const REPORT: &str = "report.json";
/// Shows that the place can be written to; there for a moment only.
const PROBE: &str = "probe.tmp";

/// The report of the very same run when it is already there, whole.
///
/// # Errors
/// `Conflict` when another run is there and is not to be replaced.
pub fn existing(plan: &Plan) -> Result<Option<TrainReport>, Error> {
    let bytes = match plan.out.get(REPORT) {
        Ok(bytes) => bytes,
        Err(manifests::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let report: Option<TrainReport> = serde_json::from_slice(&bytes).ok();
    if let Some(mut report) = report.filter(|r| r.format == RUN_FORMAT && r.identity == plan.identity)
        && plan.out.get(MODEL).is_ok_and(|model| digest(&model) == report.model_digest)
        && [USERS, ITEMS, HISTORY, TIMINGS].iter().all(|key| matches!(plan.out.size(key), Ok(Some(_))))
    {
        report.unchanged = true;
        report.output = plan.out.to_string();
        return Ok(Some(report));
    }
    if plan.replace {
        return Ok(None);
    }
    Err(manifests::Error::Conflict { place: plan.out.show(REPORT) }.into())
}

/// The source's ids, in order of their number in the model.
#[derive(Clone, Debug)]
pub struct Ids {
    users: Vec<u32>,
    items: Vec<u32>,
}

/// Makes sure, before hours are spent on a model, that it can be saved: reads the id maps and tries to write to the place.
///
/// # Errors
/// When an id map is missing or wrong, or the place cannot be written to.
pub fn prepare(plan: &Plan) -> Result<Ids, Error> {
    let ratings = &plan.ratings;
    let ids = Ids { users: ids(plan, "user", &ratings.users)?, items: ids(plan, "item", &ratings.items)? };
    plan.out.put(PROBE, Vec::new())?;
    plan.out.delete(PROBE)?;
    Ok(ids)
}

fn ids(plan: &Plan, name: &str, map: &Object) -> Result<Vec<u32>, Error> {
    let bytes = load::object(&plan.shards.place, map, &plan.shards.name)?;
    let wrong = |problem| Error::Batch { place: plan.shards.place.show(&map.key), problem };
    let ids = id_map::decode(name, bytes).map_err(wrong)?;
    if ids.len() as u64 != map.rows {
        return Err(wrong(format!("it has {} rows, the manifest says {}", ids.len(), map.rows)));
    }
    Ok(ids)
}

/// Says what is about to happen.
pub fn announce(plan: &Plan, console: &Console) {
    let (settings, manifest) = (&plan.settings, &plan.shards.manifest);
    let times = match settings.reduce {
        Reduce::Sum => f64::from(settings.step_batches.min(manifest.batches.len() as u32)),
        Reduce::Mean => 1.0,
    };
    console.note(format!(
        "training on {}: {} ratings in {} mini-batches, {} held out; {} users x {} items, {} factors{}",
        plan.shards.name,
        count(manifest.rows),
        manifest.batches.len(),
        count(manifest.holdout_rows),
        count(plan.ratings.n_users.into()),
        count(plan.ratings.n_items.into()),
        settings.factors,
        if settings.biases { " and biases" } else { "" },
    ));
    console.note(format!(
        "{} worker{}, {} mini-batch{} a step; learning rate {} x {times} = {} a step, momentum {}, l2 {}",
        plan.workers,
        if plan.workers == 1 { "" } else { "s" },
        settings.step_batches,
        if settings.step_batches == 1 { "" } else { "es" },
        settings.learning_rate,
        settings.learning_rate * times,
        settings.momentum,
        settings.l2,
    ));
}

/// Writes everything, the report last.
///
/// # Errors
/// When something cannot be written; there is then no report.
pub fn write(
    plan: &Plan,
    outcome: Outcome,
    records: &Records,
    factors: &Factors,
    ids: Ids,
    start: Instant,
) -> Result<TrainReport, Error> {
    let Outcome::Finished { reason, steps, best } = outcome else {
        return Err(Error::Internal("only a finished run is written".to_owned()));
    };
    plan.out.delete(REPORT)?;
    let model = safetensors(plan, factors)?;
    let model_digest = digest(&model);
    // From here on a run that is replaced is no longer whole.
    if plan.replace {
        plan.out.delete(REPORT)?;
    }
    plan.out.put(MODEL, model)?;
    plan.out.put(USERS, table(plan, "user", ids.users, &factors.users)?)?;
    plan.out.put(ITEMS, table(plan, "item", ids.items, &factors.items)?)?;
    let (history, history_digest) = history(records);
    plan.out.put(HISTORY, history)?;
    plan.out.put(TIMINGS, timings(records))?;
    let report = report(plan, reason, steps, best, records, [model_digest, history_digest], start);
    let mut json = serde_json::to_vec_pretty(&report).map_err(Error::internal)?;
    json.push(b'\n');
    plan.out.create(REPORT, json)?;
    Ok(report)
}

fn report(
    plan: &Plan,
    stopped_by: StopReason,
    steps: u64,
    best: Option<(u64, f64)>,
    records: &Records,
    [model_digest, history_digest]: [schemas::dataset::Digest; 2],
    start: Instant,
) -> TrainReport {
    let steps_per_epoch = (plan.shards.manifest.batches.len() as u64).div_ceil(plan.settings.step_batches.into());
    let epochs = steps / steps_per_epoch;
    let last_epoch = records.steps.iter().filter(|s| epochs > 0 && s.epoch == epochs - 1);
    let (loss_sum, rows) = last_epoch.fold((0.0, 0), |(loss, rows), s| (loss + s.loss_sum, rows + s.rows));
    let all_rows: u64 = records.steps.iter().map(|s| s.rows).sum();
    TrainReport {
        format: RUN_FORMAT.to_owned(),
        version: RUN_VERSION,
        tool: concat!("train ", env!("CARGO_PKG_VERSION")).to_owned(),
        output: plan.out.to_string(),
        unchanged: false,
        identity: plan.identity.clone(),
        manifest: plan.shards.name.clone(),
        manifest_digest: plan.shards.digest.clone(),
        model: "pmf".to_owned(),
        settings: plan.settings.clone(),
        workers: plan.workers,
        stopped_by,
        steps,
        epochs,
        model_epoch: best.map(|(epoch, _)| epoch).or_else(|| records.steps.last().map(|s| s.epoch)),
        train_rmse: (rows > 0).then(|| (loss_sum / rows as f64).sqrt()),
        holdout_rmse: best.map(|(_, rmse)| rmse),
        baselines: plan.baselines(),
        model_digest,
        history_digest,
        rows_per_second: all_rows as f64 / records.stepping.as_secs_f64().max(1e-9),
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Says how it went.
pub fn summarise(plan: &Plan, report: &TrainReport, console: &Console) {
    let reason = match report.stopped_by {
        StopReason::MaxEpochs => "all epochs are done",
        StopReason::MaxTime => "the time was up",
        StopReason::TargetLoss => "the target loss was reached",
        StopReason::TargetHoldoutLoss => "the target held-out loss was reached",
        StopReason::Patience => "the held-out loss no longer improved",
    };
    console.note(format!(
        "{} steps, {} whole epochs in {:.1} s, {} ratings/s; {reason}",
        report.steps,
        report.epochs,
        report.seconds,
        count(report.rows_per_second as u64),
    ));
    let (rows, model) = match report.holdout_rmse {
        Some(rmse) => ("held-out", Some(rmse)),
        None => ("training", report.train_rmse),
    };
    console.note(format!("RMSE in stars on the {rows} ratings"));
    console.note(format!("  always the mean         {:.4}", report.baselines.mean));
    console.note(format!("  user and movie effects  {:.4}", report.baselines.effects));
    if let Some(rmse) = model {
        let epoch = report.model_epoch.map_or(String::new(), |epoch| format!("  (after epoch {})", epoch + 1));
        console.note(format!("  this model              {rmse:.4}{epoch}"));
    }
    console.note(format!("model    {} (for DuckDB or pandas: {USERS}, {ITEMS})", plan.out.show(MODEL)));
    console.note(format!("history  {}", plan.out.show(HISTORY)));
    console.note(format!("report   {}", plan.out.show(REPORT)));
}

/// The model as safetensors: `user_factors`, `item_factors` and, with biases, `user_biases`, `item_biases`, all f32.
fn safetensors(plan: &Plan, factors: &Factors) -> Result<Vec<u8>, Error> {
    let n_factors = plan.settings.factors as usize;
    let mut tensors = Vec::new();
    for (name, matrix) in [("user", &factors.users), ("item", &factors.items)] {
        let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
        let shape = vec![matrix.factors.len() / n_factors, n_factors];
        tensors.push((format!("{name}_factors"), shape, bytes(&matrix.factors)));
        if plan.settings.biases {
            tensors.push((format!("{name}_biases"), vec![matrix.biases.len()], bytes(&matrix.biases)));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(Error::internal)?;
    // One entry, because the order of several would not be the same in every run.
    let about = serde_json::json!({
        "format": "gristmill.pmf",
        "version": 1,
        "manifest": plan.shards.digest,
        "mean": plan.ratings.mean,
        "stars": "mean + user_factors[u] . item_factors[i] + user_biases[u] + item_biases[i]",
    });
    let metadata = HashMap::from([("gristmill".to_owned(), about.to_string())]);
    safetensors::serialize(views, Some(metadata)).map_err(Error::internal)
}

/// One matrix as Parquet: the model's number, the source's id, the bias if there is one, the factors.
fn table(plan: &Plan, name: &str, ids: Vec<u32>, matrix: &Matrix) -> Result<Vec<u8>, Error> {
    let n_factors = plan.settings.factors as usize;
    let entry = Arc::new(Field::new("item", DataType::Float32, false));
    let list = DataType::FixedSizeList(Arc::clone(&entry), n_factors as i32);
    let mut fields =
        vec![Field::new(name, DataType::UInt32, false), Field::new(format!("{name}_id"), DataType::UInt32, false)];
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(UInt32Array::from_iter_values(0..ids.len() as u32)), Arc::new(UInt32Array::from(ids))];
    if plan.settings.biases {
        fields.push(Field::new("bias", DataType::Float32, false));
        columns.push(Arc::new(Float32Array::from(matrix.biases.clone())));
    }
    fields.push(Field::new("factors", list, false));
    let values = Arc::new(Float32Array::from(matrix.factors.clone()));
    columns.push(Arc::new(FixedSizeListArray::new(entry, n_factors as i32, values, None)));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::internal)?;
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(id_map::properties())).map_err(Error::internal)?;
    writer.write(&batch).map_err(Error::internal)?;
    writer.close().map_err(Error::internal)?;
    Ok(bytes)
}

/// The history as CSV, and the digest of all of it but the times.
fn history(records: &Records) -> (String, schemas::dataset::Digest) {
    let mut csv = "step,epoch,seconds,loss,holdout_loss\n".to_owned();
    let mut timeless = String::new();
    let mut evaluations = records.evaluations.iter().peekable();
    for step in &records.steps {
        let holdout = evaluations.next_if(|e| e.step == step.step).map_or(String::new(), |e| e.rmse.to_string());
        let _ = writeln!(csv, "{},{},{:.6},{},{holdout}", step.step, step.epoch, step.time.as_secs_f64(), step.rmse);
        let _ = writeln!(timeless, "{},{},{},{holdout}", step.step, step.epoch, step.rmse);
    }
    (csv, digest(timeless.as_bytes()))
}

fn timings(records: &Records) -> String {
    let mut csv = "worker,step,fetch_us,decode_us,batch_wait_us,compute_us,exchange_write_us,exchange_wait_us,\
                   exchange_read_us,apply_us,decision_us\n"
        .to_owned();
    for (worker, t) in &records.timings {
        let _ = writeln!(
            csv,
            "{worker},{},{},{},{},{},{},{},{},{},{}",
            t.step,
            t.fetch_us,
            t.decode_us,
            t.batch_wait_us,
            t.compute_us,
            t.exchange_write_us,
            t.exchange_wait_us,
            t.exchange_read_us,
            t.apply_us,
            t.decision_us
        );
    }
    csv
}
