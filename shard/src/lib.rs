//! Shuffles a prepared dataset into mini-batches and writes the manifest that `train` reads.
//!
//! * [`cli`]: what can be typed. [`plan`]: flags resolved into a checked plan.
//! * [`verify`]: whether what a manifest names is as it should be.
//! * `existing`: what is already there. `dry_run`: what would be done. `memory`: what may be taken, and what for.
//! * `shuffle`: where every row belongs. `parts`: the rows as they come. `scatter`: each part read once, its rows put where their buckets
//!   lie, in memory or in a temporary file (`spill`). `shuffled`: the buckets, each shuffled.
//! * `sets`: all this, one set of rows after the other; `shares`: whether memory and disks have room for it.
//! * `window`: rows cut into mini-batches (`cuts`) while they come, and written.
//! * `kind`: what is different between ratings and click logs. On the way a row is a few words, one behind the other.
//!
//! How rows are stored and committed is in the crate `manifests`; what they mean for a model is not known here.

pub mod cli;
mod cuts;
mod dry_run;
mod error;
mod existing;
mod kind;
pub mod memory;
mod parts;
pub mod plan;
mod scatter;
mod sets;
mod shares;
mod shuffle;
mod shuffled;
mod spill;
pub mod verify;
mod window;
mod workers;

use std::sync::PoisonError;
use std::time::Instant;

use manifests::clicks::Form;
use manifests::commit::{Limits, Sent, Staging, generation, sweep};
use manifests::digest::digest;
use manifests::load::{self, Shards};
use manifests::packed::Packer;
use manifests::{batches::Batches, index};
use reporting::{Console, count, counted};
use schemas::dataset::{Digest, Layout, Object};
use schemas::exit::{ErrorKind, Explain};
use schemas::manifest::{self, Manifest};
use schemas::report::{DryRunReport, ShardReport};
use serde::Serialize;

pub use error::Error;
use kind::{Clicks, RatingKind};
use memory::Share;
use parts::{Origin, drain};
use plan::{Input, Plan};
use sets::origins;
use shares::{Shares, transfer_bytes};

const TOOL: &str = concat!("shard ", env!("CARGO_PKG_VERSION"));
/// Raised when the same rows and settings make other bytes than before.
const ENCODING: u32 = 1;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Shards were made, or were already there.
    Made(Box<ShardReport>),
    /// What would be done was said.
    DryRun(Box<DryRunReport>),
}

/// Does what `plan` asks for, or says what that would be.
///
/// # Errors
/// As [`run`].
pub fn carry_out(plan: &Plan, console: &Console) -> Result<Report, Error> {
    if plan.dry_run {
        return dry_run::run(plan, console).map(Box::new).map(Report::DryRun);
    }
    run(plan, console).map(Box::new).map(Report::Made)
}

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
            if plan.replace {
                // A run that was killed after its commit did not come to it. What is asked for is there, whether this succeeds or not.
                let _ = sweep(&plan.out, &generation(&identity));
            }
            console.note(format!("{}: already done, verified", plan.manifest));
            return Ok(report(plan, &found, None, start));
        }
        let shares = Shares::of(plan)?;
        shares.check_disk(plan)?;
        console.detail(format!("{shares:?}"));
        let (made, sent) = make(plan, &identity, &shares, console).inspect_err(|error| {
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
    digest(format!("{format} {version} {ENCODING}\n{}\n{shuffle}\n{packing}", plan.dataset_digest).as_bytes())
}

fn make(plan: &Plan, identity: &Digest, shares: &Shares, console: &Console) -> Result<(Shards, Sent), Error> {
    let descriptor = &plan.descriptor;
    let limits = Limits { bytes: transfer_bytes(plan), ..Limits::default() };
    let staging = Staging::with_limits(&plan.out, &plan.manifest_place, &plan.manifest_key, identity, limits);
    // First, because it is quick and tells whether the place can be written to.
    let layout = descriptor.layout.clone().with_tables(copy_tables(plan, &staging)?);
    let [train, holdout] = origins(plan);
    let batches = set(plan, &staging, "batch", train, &shares.train, console)?;
    let holdout_batches = set(plan, &staging, "holdout", holdout, &shares.holdout, console)?;
    if let Input::Piped(pipe) = &plan.input {
        drain(pipe)?;
    }
    let mut manifest = Manifest {
        format: manifest::FORMAT.to_owned(),
        version: manifest::VERSION,
        tool: TOOL.to_owned(),
        name: descriptor.name.clone(),
        source: descriptor.source.clone(),
        dataset_digest: plan.dataset_digest.clone(),
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

/// Reads the rows of `origin` and writes them as mini-batches called `prefix`.
fn set(
    plan: &Plan,
    staging: &Staging,
    prefix: &str,
    origin: Origin<'_>,
    share: &Share,
    console: &Console,
) -> Result<Batches, Error> {
    let count = origin.rows().div_ceil(plan.shuffle.batch_rows) as usize;
    let packer = Packer::new(staging, prefix, origin.rows(), count, plan.rows_per_object);
    let put = |batch: usize, bytes: Vec<u8>, rows: u64| -> Result<(), Error> {
        packer.put(batch, bytes, rows)?;
        Ok(())
    };
    match &plan.descriptor.layout {
        Layout::Ratings(layout) => sets::write(plan, RatingKind::of(layout), origin, share, console, put),
        other @ (Layout::Dense(_) | Layout::Sparse(_)) => {
            let form = Form::of(other).expect("the layout is one of click rows");
            sets::write(plan, Clicks(form), origin, share, console, put)
        }
    }?;
    Ok(packer.finish())
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
        let what = if rows == 1 { what.trim_end_matches('s') } else { what };
        console.note(format!("{rows} {what} in {} {plural} of {sizes}{objects}", batches.len()));
    }
    if report.objects_kept > 0 {
        console.note(format!("{} of a run that did not end kept", counted(report.objects_kept, "object")));
    }
    let rate = (report.rows + report.holdout_rows) as f64 / report.seconds.max(1e-9);
    let megabytes = report.bytes_written as f64 / 1e6;
    let (place, seconds) = (&report.output, report.seconds);
    console.note(format!("{megabytes:.1} MB in {place}, {seconds:.2} s, {} rows/s", count(rate as u64)));
    let settings = match &made.manifest.layout {
        // Without them a factorisation often loses to the effects of users and movies alone.
        Layout::Ratings(_) => " --biases --l2 0.05",
        Layout::Dense(_) | Layout::Sparse(_) => "",
    };
    console.note(format!("next: train --manifest {}{settings}", report.manifest));
}
