//! Shuffles a prepared dataset into mini-batches and writes the manifest that `train` reads.
//!
//! * [`cli`]: what can be typed. [`plan`]: flags resolved into a checked plan.
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

use std::time::Instant;

use manifests::clicks::Form;
use manifests::commit::{Staging, generation};
use manifests::digest::digest;
use manifests::load;
use reporting::{Console, count};
use schemas::dataset::{Digest, Layout, Object};
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
            return Ok(report(plan, &found.manifest, found.digest, None, start));
        }
        let (made, digest, bytes) = make(plan, &identity, console)?;
        let report = report(plan, &made, digest, Some(bytes), start);
        summarise(&made, &report, console);
        Ok(report)
    })
}

/// What determines the bytes of the mini-batches.
fn identity(plan: &Plan) -> Digest {
    let (format, version) = (manifest::FORMAT, manifest::VERSION);
    let shuffle = serde_json::to_string(&plan.shuffle).expect("settings are JSON");
    digest(format!("{format} {version} {ENCODING}\n{}\n{shuffle}\n", plan.dataset.digest).as_bytes())
}

fn make(plan: &Plan, identity: &Digest, console: &Console) -> Result<(Manifest, Digest, u64), Error> {
    let descriptor = &plan.dataset.descriptor;
    let staging = Staging::new(&plan.out, &plan.manifest_place, &plan.manifest_key, identity);
    // First, because it is quick and tells whether the place can be written to.
    let tables = descriptor.layout.tables().into_iter().map(|(name, table)| copy(plan, &staging, table, name));
    let layout = descriptor.layout.clone().with_tables(tables.collect::<Result<_, _>>()?);
    let order = Order::Shuffled(plan.shuffle.seed);
    let batches = set(plan, &staging, "batch", &descriptor.parts, order, console)?;
    let holdout_batches = set(plan, &staging, "holdout", &descriptor.holdout_parts, Order::Kept, console)?;
    let manifest = Manifest {
        format: manifest::FORMAT.to_owned(),
        version: manifest::VERSION,
        tool: TOOL.to_owned(),
        name: descriptor.name.clone(),
        source: descriptor.source.clone(),
        dataset_digest: plan.dataset.digest.clone(),
        layout,
        holdout: descriptor.holdout,
        shuffle: plan.shuffle.clone(),
        base: plan.base.clone(),
        rows: descriptor.rows.train,
        holdout_rows: descriptor.rows.holdout,
        batches,
        holdout_batches,
    };
    let mut text = serde_json::to_vec_pretty(&manifest).expect("a manifest is JSON");
    text.push(b'\n');
    let (digest, bytes) = (digest(&text), objects(&manifest).map(|o| o.bytes).sum::<u64>() + text.len() as u64);
    staging.commit(text, plan.replace)?;
    Ok((manifest, digest, bytes))
}

/// Reads the rows of `parts` and writes them as mini-batches called `prefix`.
fn set(
    plan: &Plan,
    staging: &Staging,
    prefix: &str,
    parts: &[Object],
    order: Order,
    console: &Console,
) -> Result<Vec<Object>, Error> {
    let batch_rows = usize::try_from(plan.shuffle.batch_rows).expect("batches are bounded by the command line");
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
            return clicks::write(rows, order, console, |batch, bytes, rows| {
                Ok(staging.put(&format!("{prefix}-{batch:06}.parquet"), bytes, rows)?)
            });
        }
    };
    let total = Some(parts.iter().map(|part| part.rows).sum());
    let progress = console.progress("reading", total, "rows");
    let rows = read::rows(plan, layout, parts, order, &progress);
    progress.finish();
    let rows = rows?;
    let progress = console.progress("writing", total, "rows");
    let batches = batches::write(staging, prefix, &rows, batch_rows, layout, &progress);
    progress.finish();
    batches
}

fn copy(plan: &Plan, staging: &Staging, map: &Object, name: &str) -> Result<Object, Error> {
    let bytes = load::object(&plan.dataset.place, map, &plan.descriptor)?;
    Ok(staging.put(name, bytes, map.rows)?)
}

/// Everything that `manifest` names.
fn objects(manifest: &Manifest) -> impl Iterator<Item = &Object> {
    let tables = manifest.layout.tables().into_iter().map(|(_, table)| table);
    tables.chain(&manifest.batches).chain(&manifest.holdout_batches)
}

/// The report on `made`; `written` is `None` when it was already there.
fn report(plan: &Plan, made: &Manifest, digest: Digest, written: Option<u64>, start: Instant) -> ShardReport {
    ShardReport {
        tool: TOOL.to_owned(),
        output: plan.out.to_string(),
        manifest: plan.manifest.clone(),
        manifest_digest: digest,
        unchanged: written.is_none(),
        kind: made.layout.kind().to_owned(),
        rows: made.rows,
        batches: made.batches.len() as u64,
        holdout_rows: made.holdout_rows,
        holdout_batches: made.holdout_batches.len() as u64,
        bytes_written: written.unwrap_or(0),
        seconds: start.elapsed().as_secs_f64(),
    }
}

fn summarise(made: &Manifest, report: &ShardReport, console: &Console) {
    let sets = [("rows", report.rows, &made.batches), ("held-out rows", report.holdout_rows, &made.holdout_batches)];
    for (what, rows, batches) in sets.into_iter().filter(|(_, rows, _)| *rows > 0) {
        let (most, least) = (batches.first().map_or(0, |b| b.rows), batches.last().map_or(0, |b| b.rows));
        let sizes = if most == least { most.to_string() } else { format!("{least} to {most}") };
        let plural = if batches.len() == 1 { "batch" } else { "batches" };
        console.note(format!("{rows} {what} in {} {plural} of {sizes}", batches.len()));
    }
    let rate = (report.rows + report.holdout_rows) as f64 / report.seconds.max(1e-9);
    let megabytes = report.bytes_written as f64 / 1e6;
    let (place, seconds) = (&report.output, report.seconds);
    console.note(format!("{megabytes:.1} MB in {place}, {seconds:.2} s, {} rows/s", count(rate as u64)));
    console.note(format!("next: train --manifest {}", report.manifest));
}
