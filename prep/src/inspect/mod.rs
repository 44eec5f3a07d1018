//! `prep inspect`: reads all of a dataset, checks it against its descriptor, and tells what is in it.
//!
//! Every part is read once, by one of the threads; what it adds up to is added in part order, so that the figures do not
//! depend on the threads. Nothing is written. [`clicks`] and [`ratings`] know what to count, [`table`] how to show it.

mod buckets;
mod clicks;
mod moments;
mod parts;
mod ratings;
mod table;

use std::io::Write;
use std::time::Instant;

use manifests::load::{self, Dataset};
use manifests::place::Place;
use reporting::Console;
use schemas::dataset::{DESCRIPTOR_KEY, Layout};
use schemas::report::{InspectReport, Inspected};

use crate::error::Error;
use crate::plan::InspectPlan;
use crate::{Report, TOOL};

use self::parts::Parts;

/// Where datasets are put unless told otherwise.
const PREPARED: &str = "prepared";

/// Inspects the dataset of `plan`, and prints the table if that is what was asked for.
///
/// # Errors
/// When there is no dataset, something of it is missing or damaged, or a signal came.
pub fn run(plan: &InspectPlan, console: &Console) -> Result<Report, Error> {
    let report = inspect(plan, console)?;
    for contradiction in &report.contradictions {
        console.warn(contradiction);
    }
    if plan.json {
        return Ok(Report::Inspected(Box::new(report)));
    }
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(table::text(&report).as_bytes());
    Ok(Report::Streamed)
}

fn inspect(plan: &InspectPlan, console: &Console) -> Result<InspectReport, Error> {
    let start = Instant::now();
    let dataset = find(plan.dataset.as_deref())?;
    let d = &dataset.descriptor;
    let progress = console.progress("inspecting", Some(d.rows.train + d.rows.holdout), "rows");
    let parts = Parts { dataset: &dataset, threads: plan.threads, progress: &progress };
    let mut contradictions = Contradictions { descriptor: dataset.place.show(DESCRIPTOR_KEY), found: Vec::new() };
    let content = match &d.layout {
        Layout::Ratings(layout) => Inspected::Ratings(ratings::inspect(&parts, layout, &mut contradictions)?),
        Layout::Dense(layout) => Inspected::Dense(clicks::inspect_dense(&parts, layout, &mut contradictions)?),
        Layout::Sparse(layout) => Inspected::Sparse(clicks::inspect_sparse(&parts, layout, &mut contradictions)?),
    };
    progress.finish();
    let objects = || d.parts.iter().chain(&d.holdout_parts);
    Ok(InspectReport {
        tool: TOOL.to_owned(),
        dataset: dataset.place.to_string(),
        digest: dataset.digest.clone(),
        name: d.name.clone(),
        made_by: d.tool.clone(),
        source: d.source.name.clone(),
        filter: d.filter.clone(),
        rows: d.rows,
        holdout: d.holdout,
        parts: objects().count() as u64,
        bytes: objects().map(|object| object.bytes).sum(),
        content,
        contradictions: contradictions.found,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The dataset that was named, else the only one in the conventional place.
fn find(named: Option<&str>) -> Result<Dataset, Error> {
    let place = match named {
        Some(text) => load::named_dataset(text)?,
        None => only_dataset()?,
    };
    Ok(load::dataset(&place)?)
}

fn only_dataset() -> Result<Place, Error> {
    let mut found = load::datasets(&Place::parse(PREPARED)?)?;
    match found.len() {
        0 => Err(Error::NoDataset { looked_for: format!("{PREPARED}/*/{DESCRIPTOR_KEY}") }),
        1 => Ok(found.remove(0)),
        _ => Err(Error::SeveralDatasets { choices: found.iter().map(Place::to_string).collect() }),
    }
}

/// What the descriptor says that is not so.
struct Contradictions {
    descriptor: String,
    found: Vec<String>,
}

impl Contradictions {
    /// Notes it when the descriptor says something else of `what` than was counted.
    fn check<T: PartialEq + std::fmt::Display>(&mut self, what: impl std::fmt::Display, said: T, counted: T) {
        if said != counted {
            self.found.push(format!("{}: {what}: it says {said}, the parts hold {counted}", self.descriptor));
        }
    }
}

/// `part` of `whole`, 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
