//! Shuffles a prepared dataset into mini-batches and writes the manifest that `train` reads.
//!
//! * [`cli`]: what can be typed. [`plan`]: flags resolved into a checked plan.
//! * [`verify`]: whether what a manifest names is as it should be.
//! * `shuffle`: where every row belongs. `existing`: what is already there.
//! * Ratings are held in memory, 12 bytes each. `read`: parts, each read once. `batches`: cut, sorted (`sort`) and written.
//! * `clicks`: click rows are too many for that and go through a temporary file.
//!
//! How rows are stored and committed is in the crate `manifests`; what they
//! mean for a model is not known here.

mod batches;
pub mod cli;
mod clicks;
mod error;
mod existing;
pub mod plan;
mod read;
mod shuffle;
mod sort;
pub mod verify;

use std::time::Instant;

use manifests::clicks::Form;
use manifests::commit::{Sent, Staging, generation};
use manifests::digest::digest;
use manifests::load::{self, Shards};
use manifests::packed::Packer;
use manifests::{batches::Batches, index};
use reporting::{Console, count};
use schemas::dataset::{Digest, Layout, Object};
use schemas::exit::{ErrorKind, Explain};
use schemas::manifest::{self, Manifest};
use schemas::report::ShardReport;

pub use error::Error;
use plan::Plan;
use read::Order;

const TOOL: &str = concat!("shard ", env!("CARGO_PKG_VERSION"));
/// Raised when the same rows and settings make other bytes than before.
const ENCODING: u32 = 1;

/// Makes the shards that `plan` describes, unless they are there.
///
/// # Errors
/// See [`Error`]. Nothing is committed then.
pub fn run(plan: &Plan, console: &Console) -> Result<ShardReport, Error> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(plan.threads)
        .build()
        .map_err(|source| Error::System { what: "the threads", source: Box::new(source) })?;
    pool.install(|| {
        let start = Instant::now();
        let identity = identity(plan);
        if let Some(found) = existing::find(plan, &generation(&identity))? {
            console.note(format!("{}: already done, verified", plan.manifest));
            return Ok(report(plan, &found, None, start));
        }
        let (made, sent) = make(plan, &identity, console).inspect_err(|error| {
            if !plan.out.is_local() && error.kind() != ErrorKind::Conflict {
                console
                    .note(format!("what has been written stays in {}: the same command goes on from there", plan.out));
            }
        })?;
        let report = report(plan, &made, Some(sent), start);
        summarise(&made, &report, console);
        Ok(report)
    })
}

/// What determines the bytes of the mini-batches.
fn identity(plan: &Plan) -> Digest {
    let (format, version) = (manifest::FORMAT, manifest::VERSION);
    let shuffle = serde_json::to_string(&plan.shuffle).expect("settings are JSON");
    let packing = plan.rows_per_object.map_or(String::new(), |rows| format!("{rows} rows per object\n"));
    digest(format!("{format} {version} {ENCODING}\n{}\n{shuffle}\n{packing}", plan.dataset.digest).as_bytes())
}

fn make(plan: &Plan, identity: &Digest, console: &Console) -> Result<(Shards, Sent), Error> {
    let descriptor = &plan.dataset.descriptor;
    let staging = Staging::new(&plan.out, &plan.manifest_place, &plan.manifest_key, identity);
    // First, because it is quick and tells whether the place can be written to.
    let tables = descriptor.layout.tables().into_iter().map(|(name, table)| copy(plan, &staging, table, name));
    let layout = descriptor.layout.clone().with_tables(tables.collect::<Result<_, _>>()?);
    let order = Order::Shuffled(plan.shuffle.seed);
    let batches = set(plan, &staging, "batch", &descriptor.parts, order, console)?;
    let holdout_batches = set(plan, &staging, "holdout", &descriptor.holdout_parts, Order::Kept, console)?;
    let mut manifest = Manifest {
        format: manifest::FORMAT.to_owned(),
        version: manifest::VERSION,
        tool: TOOL.to_owned(),
        name: descriptor.name.clone(),
        source: descriptor.source.clone(),
        dataset_digest: plan.dataset.digest.clone(),
        layout,
        holdout: descriptor.holdout,
        shuffle: plan.shuffle.clone(),
        rows_per_object: plan.rows_per_object,
        base: plan.base.clone(),
        rows: descriptor.rows.train,
        holdout_rows: descriptor.rows.holdout,
        batches: index::listing(&staging, "batches", &batches)?,
        holdout_batches: index::listing(&staging, "holdout_batches", &holdout_batches)?,
    };
    let mut text = serde_json::to_vec_pretty(&manifest).expect("a manifest is JSON");
    text.push(b'\n');
    let (digest, size) = (digest(&text), text.len() as u64);
    let mut sent = staging.commit(text, plan.replace)?;
    sent.bytes_written += size;
    (manifest.batches, manifest.holdout_batches) = Default::default();
    let (place, name) = (plan.out.clone(), plan.manifest.clone());
    Ok((Shards { manifest, batches, holdout_batches, digest, place, name }, sent))
}

/// Reads the rows of `parts` and writes them as mini-batches called `prefix`.
fn set(
    plan: &Plan,
    staging: &Staging,
    prefix: &str,
    parts: &[Object],
    order: Order,
    console: &Console,
) -> Result<Batches, Error> {
    let batch_rows = usize::try_from(plan.shuffle.batch_rows).expect("batches are bounded by the command line");
    let total = parts.iter().map(|part| part.rows).sum::<u64>();
    let count = total.div_ceil(plan.shuffle.batch_rows) as usize;
    let packer = Packer::new(staging, prefix, total, count, plan.rows_per_object);
    let layout = match &plan.dataset.descriptor.layout {
        Layout::Ratings(layout) => layout,
        other @ (Layout::Dense(_) | Layout::Sparse(_)) => {
            let rows = clicks::Rows {
                place: &plan.dataset.place,
                named_by: &plan.descriptor,
                form: Form::of(other).expect("the layout is one of click rows"),
                parts,
                temp_dir: &plan.temp_dir,
                batch_rows,
            };
            clicks::write(rows, order, console, |batch, bytes, rows| Ok(packer.put(batch, bytes, rows)?))?;
            return Ok(packer.finish());
        }
    };
    let progress = console.progress("reading", Some(total), "rows");
    let rows = read::rows(plan, layout, parts, order, &progress);
    progress.finish();
    let rows = rows?;
    let progress = console.progress("writing", Some(total), "rows");
    let written = batches::write(&packer, &rows, batch_rows, layout, &progress);
    progress.finish();
    written?;
    Ok(packer.finish())
}

fn copy(plan: &Plan, staging: &Staging, map: &Object, name: &str) -> Result<Object, Error> {
    let bytes = load::object(&plan.dataset.place, map, &plan.descriptor)?;
    Ok(staging.put(name, bytes, map.rows)?)
}

/// The report on `made`; `sent` is nothing when it was already there.
fn report(plan: &Plan, made: &Shards, sent: Option<Sent>, start: Instant) -> ShardReport {
    let Sent { objects_kept, bytes_written } = sent.unwrap_or_default();
    ShardReport {
        tool: TOOL.to_owned(),
        output: plan.out.to_string(),
        manifest: plan.manifest.clone(),
        manifest_digest: made.digest.clone(),
        unchanged: sent.is_none(),
        kind: made.manifest.layout.kind().to_owned(),
        rows: made.manifest.rows,
        batches: made.batches.len() as u64,
        holdout_rows: made.manifest.holdout_rows,
        holdout_batches: made.holdout_batches.len() as u64,
        objects_kept,
        bytes_written,
        seconds: start.elapsed().as_secs_f64(),
    }
}

fn summarise(made: &Shards, report: &ShardReport, console: &Console) {
    let sets = [("rows", report.rows, &made.batches), ("held-out rows", report.holdout_rows, &made.holdout_batches)];
    for (what, rows, batches) in sets.into_iter().filter(|(_, rows, _)| *rows > 0) {
        let (least, most) = batches.least_and_most_rows();
        let sizes = if most == least { most.to_string() } else { format!("{least} to {most}") };
        let plural = if batches.len() == 1 { "batch" } else { "batches" };
        let objects = match batches.n_objects() {
            objects if objects == batches.len() => String::new(),
            1 => ", in 1 object".to_owned(),
            objects => format!(", in {objects} objects"),
        };
        console.note(format!("{rows} {what} in {} {plural} of {sizes}{objects}", batches.len()));
    }
    if report.objects_kept > 0 {
        console.note(format!("{} objects were there from a run that did not end", report.objects_kept));
    }
    let rate = (report.rows + report.holdout_rows) as f64 / report.seconds.max(1e-9);
    let megabytes = report.bytes_written as f64 / 1e6;
    let (place, seconds) = (&report.output, report.seconds);
    console.note(format!("{megabytes:.1} MB in {place}, {seconds:.2} s, {} rows/s", count(rate as u64)));
    console.note(format!("next: train --manifest {}", report.manifest));
}
