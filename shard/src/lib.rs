//! Shuffles a prepared dataset into mini-batches and writes the manifest that `train` reads.
//!
//! * [`cli`]: what can be typed. [`plan`]: flags resolved into a checked plan.
//! * `existing`: what is already there. `memory`: what may be taken, and what for.
//! * `shuffle`: where every row belongs. `parts`: the rows as they come. `scatter`: each part read once, its rows put where their buckets
//!   lie, in memory or in a temporary file (`spill`). `shuffled`: the buckets, each shuffled.
//! * `window`: rows cut into mini-batches (`cuts`) while they come, and written.
//! * `kind`: what is different between ratings and click logs. On the way a row is a few words, one behind the other.
//!
//! How rows are stored and committed is in the crate `manifests`; what they mean for a model is not known here.

pub mod cli;
mod cuts;
mod error;
mod existing;
mod kind;
pub mod memory;
mod parts;
pub mod plan;
mod scatter;
mod shuffle;
mod shuffled;
mod spill;
mod window;
mod workers;

use std::path::Path;
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
use kind::{Clicks, Kind, RatingKind};
use memory::{Needs, Share};
use parts::Set;
use plan::Plan;
use shuffle::{BUCKET_ROWS, Buckets};
use shuffled::Shuffled;
use window::Source;

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

/// The order that rows are put in.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// That of the parts.
    Kept,
    /// Shuffled with this seed.
    Shuffled(u64),
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
    let put = |batch: usize, bytes: Vec<u8>, rows: u64| -> Result<Object, Error> {
        Ok(staging.put(&format!("{prefix}-{batch:06}.parquet"), bytes, rows)?)
    };
    match &plan.dataset.descriptor.layout {
        Layout::Ratings(layout) => write(plan, RatingKind::of(layout), parts, order, console, put),
        other @ (Layout::Dense(_) | Layout::Sparse(_)) => {
            let form = Form::of(other).expect("the layout is one of click rows");
            write(plan, Clicks(form), parts, order, console, put)
        }
    }
}

fn write<K: Kind>(
    plan: &Plan,
    kind: K,
    parts: &[Object],
    order: Order,
    console: &Console,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<Object, Error> + Sync,
) -> Result<Vec<Object>, Error> {
    let needs = Needs {
        row_bytes: 4 * kind.width() as u64,
        rows: parts.iter().map(|part| part.rows).sum(),
        part_rows: parts.iter().map(|part| part.rows).max().unwrap_or(0),
        part_bytes: parts.iter().map(|part| part.bytes).max().unwrap_or(0),
        batch_rows: plan.shuffle.batch_rows,
        threads: plan.threads as u64,
    };
    let too_little = |least: u64| Error::TooLittleMemory { memory: plan.memory, least };
    let set = Set { kind, place: &plan.dataset.place, named_by: &plan.descriptor, parts };
    match order {
        Order::Kept => {
            let share = Share::of_copy(&needs, plan.memory).map_err(too_little)?;
            cut(&set.kind, &set, plan.shuffle.batch_rows, &share, console, put)
        }
        Order::Shuffled(seed) => {
            let buckets = Buckets::new(seed, needs.rows, BUCKET_ROWS);
            let share = Share::of_shuffle(&needs, &buckets, plan.memory).map_err(too_little)?;
            console.detail(format!("{share:?}"));
            let shuffled = shuffle(&set, buckets, &share, &plan.temp_dir, console)?;
            cut(&set.kind, &shuffled, plan.shuffle.batch_rows, &share, console, put)
        }
    }
}

fn shuffle<K: Kind>(
    set: &Set<'_, K>,
    buckets: Buckets,
    share: &Share,
    temp_dir: &Path,
    console: &Console,
) -> Result<Shuffled, Error> {
    let progress = console.progress("reading", Some(set.rows()), "rows");
    let shuffled = Shuffled::read(set, buckets, share, temp_dir, &progress);
    progress.finish();
    shuffled
}

fn cut<K: Kind>(
    kind: &K,
    rows: &impl Source,
    batch_rows: u64,
    share: &Share,
    console: &Console,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<Object, Error> + Sync,
) -> Result<Vec<Object>, Error> {
    let batch_rows = usize::try_from(batch_rows).expect("batches are bounded by the command line");
    let total: usize = rows.sizes().iter().sum();
    let progress = console.progress("writing", Some(total as u64), "rows");
    let written = window::write(kind, rows, batch_rows, share, &progress, put);
    progress.finish();
    written
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

#[cfg(test)]
mod tests;
