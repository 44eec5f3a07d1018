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
use std::sync::PoisonError;
use std::time::Instant;

use manifests::clicks::Form;
use manifests::commit::{Staging, generation};
use manifests::digest::digest;
use manifests::disk::free_bytes;
use manifests::load;
use reporting::{Console, count};
use schemas::dataset::{Descriptor, Digest, Layout, Object};
use schemas::manifest::{self, Manifest};
use schemas::report::ShardReport;

pub use error::Error;
use kind::{Clicks, Kind, RatingKind};
use memory::{Needs, Share, Where};
use parts::{Origin, Set, drain};
use plan::{Input, Plan};
use shuffle::{BUCKET_ROWS, Buckets};
use shuffled::Shuffled;
use spill::spilled_bytes;
use window::{Kept, Source};

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
            if let Input::Piped(pipe) = &plan.input {
                drain(pipe)?;
            }
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
    digest(format!("{format} {version} {ENCODING}\n{}\n{shuffle}\n", plan.dataset_digest).as_bytes())
}

fn make(plan: &Plan, identity: &Digest, console: &Console) -> Result<(Manifest, Digest, u64), Error> {
    let descriptor = &plan.descriptor;
    let shares = Shares::of(plan)?;
    shares.check_disk(plan)?;
    console.detail(format!("{shares:?}"));
    let staging = Staging::new(&plan.out, &plan.manifest_place, &plan.manifest_key, identity);
    // First, because it is quick and tells whether the place can be written to.
    let layout = descriptor.layout.clone().with_tables(copy_tables(plan, &staging)?);
    let [train, holdout] = origins(plan);
    let batches = set(plan, &staging, "batch", train, &shares.train, console)?;
    let holdout_batches = set(plan, &staging, "holdout", holdout, &shares.holdout, console)?;
    if let Input::Piped(pipe) = &plan.input {
        drain(pipe)?;
    }
    let manifest = Manifest {
        format: manifest::FORMAT.to_owned(),
        version: manifest::VERSION,
        tool: TOOL.to_owned(),
        name: descriptor.name.clone(),
        source: descriptor.source.clone(),
        dataset_digest: plan.dataset_digest.clone(),
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

/// How the memory is shared while each of the two sets is dealt with.
#[derive(Debug)]
struct Shares {
    train: Share,
    holdout: Share,
    /// What the temporary file takes.
    temporary_bytes: u64,
}

impl Shares {
    fn of(plan: &Plan) -> Result<Self, Error> {
        let layout = &plan.descriptor.layout;
        let width = Form::of(layout).map_or_else(RatingKind::width, |form| Clicks(form).width());
        let row_bytes = 4 * width as u64;
        let [train, holdout] = origins(plan).map(|origin| Needs {
            row_bytes,
            rows: origin.rows(),
            part_rows: origin.part_rows(),
            part_bytes: origin.part_bytes(row_bytes),
            batch_rows: plan.shuffle.batch_rows,
            threads: plan.threads as u64,
        });
        let too_little = |least: u64| Error::TooLittleMemory { memory: plan.memory, least };
        let buckets = Buckets::new(plan.shuffle.seed, train.rows, BUCKET_ROWS);
        let (rows, train) = (train.rows, Share::of_shuffle(&train, &buckets, plan.memory).map_err(too_little)?);
        let temporary_bytes = match train.shuffled {
            Some(Where::File { .. }) => rows.saturating_mul(spilled_bytes(row_bytes)),
            Some(Where::Memory) | None => 0,
        };
        Ok(Self { train, holdout: Share::of_copy(&holdout, plan.memory).map_err(too_little)?, temporary_bytes })
    }

    /// # Errors
    /// [`Error::TooLittleDisk`].
    fn check_disk(&self, plan: &Plan) -> Result<(), Error> {
        let folder = &plan.temp_dir;
        let failed =
            |source| Error::Temporary { folder: folder.display().to_string(), action: "measure the room for", source };
        let free = if self.temporary_bytes == 0 { u64::MAX } else { free_bytes(folder).map_err(failed)? };
        if self.temporary_bytes > free {
            let (folder, needed) = (folder.display().to_string(), self.temporary_bytes);
            return Err(Error::TooLittleDisk { folder, what: "temporary data", needed, free });
        }
        Ok(())
    }
}

/// Reads the rows of `origin` and writes them as mini-batches called `prefix`.
fn set(
    plan: &Plan,
    staging: &Staging,
    prefix: &str,
    origin: Origin<'_>,
    share: &Share,
    console: &Console,
) -> Result<Vec<Object>, Error> {
    let put = |batch: usize, bytes: Vec<u8>, rows: u64| -> Result<Object, Error> {
        Ok(staging.put(&format!("{prefix}-{batch:06}.parquet"), bytes, rows)?)
    };
    match &plan.descriptor.layout {
        Layout::Ratings(layout) => write(plan, RatingKind::of(layout), origin, share, console, put),
        other @ (Layout::Dense(_) | Layout::Sparse(_)) => {
            let form = Form::of(other).expect("the layout is one of click rows");
            write(plan, Clicks(form), origin, share, console, put)
        }
    }
}

fn write<K: Kind>(
    plan: &Plan,
    kind: K,
    origin: Origin<'_>,
    share: &Share,
    console: &Console,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<Object, Error> + Sync,
) -> Result<Vec<Object>, Error> {
    let set = Set { kind, origin };
    let batch_rows = plan.shuffle.batch_rows;
    let Some(place) = share.shuffled else {
        return cut(&set.kind, &Kept::new(&set), batch_rows, share, console, put);
    };
    let buckets = Buckets::new(plan.shuffle.seed, origin.rows(), BUCKET_ROWS);
    let shuffled = shuffle(&set, buckets, (place, share.reading_threads), &plan.temp_dir, console)?;
    cut(&set.kind, &shuffled, batch_rows, share, console, put)
}

fn shuffle<K: Kind>(
    set: &Set<'_, K>,
    buckets: Buckets,
    (place, threads): (Where, usize),
    temp_dir: &Path,
    console: &Console,
) -> Result<Shuffled, Error> {
    let progress = console.progress("reading", Some(set.origin.rows()), "rows");
    let shuffled = Shuffled::read(set, buckets, place, threads, temp_dir, &progress);
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

/// Where training and held-out rows come from.
fn origins(plan: &Plan) -> [Origin<'_>; 2] {
    let Descriptor { parts, holdout_parts, rows, .. } = &plan.descriptor;
    match &plan.input {
        Input::Stored(place) => {
            [parts, holdout_parts].map(|parts| Origin::Stored { place, named_by: &plan.named_by, parts })
        }
        Input::Piped(pipe) => [rows.train, rows.holdout].map(|rows| Origin::Piped(pipe, rows)),
    }
}

/// Writes the tables that belong to the layout.
fn copy_tables(plan: &Plan, staging: &Staging) -> Result<Vec<Object>, Error> {
    let mut copies = Vec::new();
    for (i, (name, table)) in plan.descriptor.layout.tables().into_iter().enumerate() {
        let bytes = match &plan.input {
            Input::Stored(place) => load::object(place, table, &plan.named_by)?,
            Input::Piped(pipe) => pipe.lock().unwrap_or_else(PoisonError::into_inner).tables()[i].clone(),
        };
        copies.push(staging.put(name, bytes, table.rows)?);
    }
    Ok(copies)
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
