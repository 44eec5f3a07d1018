//! The plans of measurements.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use super::launch::ExchangeAt;
use super::{Plan, usage};
use crate::cli::{self, Cli};
use crate::error::Error;

/// `train bench exchange`
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Where objects go.
    pub at: ExchangeAt,
    /// Numbers of workers.
    pub workers: Vec<u32>,
    /// Bytes of an object.
    pub sizes: Vec<u64>,
    /// How long each phase lasts.
    pub each: Duration,
    /// The file of the table.
    pub csv: Option<PathBuf>,
}

/// Largest object: Redis keeps none that is larger.
const SIZE_MAX: u64 = 512 << 20;

impl Exchange {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When nothing says where objects go, or a number is out of range.
    pub fn resolve(args: &cli::BenchExchange) -> Result<Self, Error> {
        let sizes: Vec<u64> = args.sizes.iter().map(|size| size.as_u64()).collect();
        if let Some(size) = sizes.iter().find(|size| !(1..=SIZE_MAX).contains(*size)) {
            return Err(usage(format!("--sizes: {size} bytes is outside 1..={SIZE_MAX}"), "25MB is a large gradient"));
        }
        let needed = "there is neither Redis nor a place for objects";
        Ok(Self {
            at: ExchangeAt::resolve(args.redis.as_deref(), args.exchange.as_deref(), needed)?,
            workers: args.workers.clone(),
            sizes,
            each: each(args.seconds)?,
            csv: csv(args.csv.as_deref())?,
        })
    }
}

/// `train bench compute`
#[derive(Clone, Debug)]
pub struct Compute {
    /// Training with one mini-batch a step, and the default of every other setting.
    pub training: Box<Plan>,
    /// Numbers of workers.
    pub workers: Vec<u32>,
    /// How long each number computes.
    pub each: Duration,
    /// The file of the table.
    pub csv: Option<PathBuf>,
}

impl Compute {
    /// Resolves `args`: reads the manifest.
    ///
    /// # Errors
    /// When the manifest cannot be read, or a number is out of range.
    pub fn resolve(args: &cli::BenchCompute) -> Result<Self, Error> {
        let training = ["train", "--workers=1", &format!("--manifest={}", args.manifest)].map(str::to_owned);
        let training = Cli::try_parse_from(training).map_err(Error::internal)?.train;
        Ok(Self {
            each: each(args.seconds)?,
            csv: csv(args.csv.as_deref())?,
            training: Box::new(Plan::resolve(&training)?),
            workers: args.workers.clone(),
        })
    }
}

/// How long a measurement lasts: not so long that objects expire.
pub(super) fn each(seconds: f64) -> Result<Duration, Error> {
    if (0.01..=120.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(usage(format!("--seconds {seconds} is outside 0.01..=120"), "5 are usually enough"))
}

/// A file that is not there yet: it is better known before the measurement than after.
pub(super) fn csv(file: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    match file {
        Some(file) if file.exists() => {
            Err(usage(format!("`{}` is there already", file.display()), "name another file for --csv, or remove it"))
        }
        file => Ok(file.map(Path::to_owned)),
    }
}
