//! Turns raw ratings and click logs into clean columnar data.
//!
//! * [`cli`] holds what was typed, [`plan`] what it means; [`run`] does it.
//! * `criteo` reads click logs and writes the dataset; `movielens` reads ratings and writes the dataset; [`generate`] writes realistic raw data.
//! * [`inspect`] reads a dataset and shows what is in it.
//!
//! How raw text is found, read and decoded is in `raw`, what the files look like in `schemas`, how they are stored and committed in `manifests`.

pub mod cli;
mod criteo;
pub mod error;
mod estimate;
pub mod generate;
mod holdout;
pub mod inspect;
mod movielens;
mod output;
mod pipe;
pub mod plan;
mod rejects;
mod threads;

use reporting::Console;
use schemas::report::{DryRunReport, GenerateReport, InspectReport, PrepReport};
use serde::Serialize;

use crate::error::Error;
use crate::plan::Plan;

/// Name and version of this tool, as it stands in files and reports.
pub const TOOL: &str = concat!("prep ", env!("CARGO_PKG_VERSION"));

/// What a command did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// A dataset was made, or was already there.
    Dataset(PrepReport),
    /// A file of raw data was generated.
    Generated(GenerateReport),
    /// Nothing was done, but what would be done is known.
    DryRun(DryRunReport),
    /// A dataset was inspected.
    Inspected(Box<InspectReport>),
    /// What was asked for went to standard output itself, so there is no report on it.
    Streamed,
}

/// Runs `plan`.
///
/// # Errors
/// [`Error`] says what is wrong, where, and what helps. No dataset is left that looks whole and is not.
pub fn run(plan: &Plan, console: &Console) -> Result<Report, Error> {
    match plan {
        Plan::Movielens(plan) => movielens::run(plan, console),
        Plan::Criteo(plan) => criteo::run(plan, console),
        Plan::Inspect(plan) => inspect::run(plan, console),
        Plan::Generate(plan) => generate::run(plan, console),
    }
}
