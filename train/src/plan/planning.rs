//! The plan of `train plan`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use schemas::cost::{Architecture, Assumptions, Prices, Workload};

use super::bench::{csv, each};
use super::launch::CHECKPOINT_EVERY;
use super::{Plan, usage};
use crate::cli::{self, ArchitectureArg, Cli};
use crate::cost;
use crate::error::Error;
use crate::forecast::cpu_share;

/// From the request for a function to its first mini-batch: a cold start, the manifest, connections.
const START_SECONDS: f64 = 2.0;
/// A function of Lambda lives for 15 minutes at most.
const LIFE_SECONDS: f64 = 900.0;

/// Bytes a second that are believed.
const BANDWIDTH: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000;
/// Longest time from a request to its answer that is believed.
const LATENCY_MAX: Duration = Duration::from_secs(10);

/// `train plan`
#[derive(Clone, Debug)]
pub struct Planning {
    /// Training with one mini-batch a step, and the default of every other setting.
    pub training: Box<Plan>,
    /// Numbers of workers.
    pub workers: Vec<u32>,
    step_batches: Option<u32>,
    /// What is to be trained.
    pub workload: Workload,
    /// What is taken for granted.
    pub assumptions: Assumptions,
    /// What things cost.
    pub prices: Prices,
    /// How long to measure.
    pub each: Duration,
    /// The file of the table.
    pub csv: Option<PathBuf>,
}

impl Planning {
    /// Resolves `args`: reads the manifest and the prices.
    ///
    /// # Errors
    /// When the manifest or the prices cannot be read, or a number is out of range.
    pub fn resolve(args: &cli::Plan) -> Result<Self, Error> {
        let (each, csv) = (each(args.seconds)?, csv(args.csv.as_deref())?);
        let assumptions = Assumptions {
            memory_mb: args.memory_mb,
            architecture: args.architecture.into(),
            cpu_share: cpu_share(args.memory_mb),
            bandwidth: bandwidth("--bandwidth", &args.bandwidth, "75MB/s")?,
            redis_bandwidth: bandwidth("--redis-bandwidth", &args.redis_bandwidth, "1GB/s")?,
            latency_seconds: latency(args.latency)?,
            start_seconds: START_SECONDS,
            life_seconds: LIFE_SECONDS,
            checkpoint_every: CHECKPOINT_EVERY,
        };
        let prices = args.prices.as_deref().map_or_else(|| Ok(cost::default_table()), cost::of_file)?;
        let training = ["train", "--workers=1", &format!("--manifest={}", args.manifest)].map(str::to_owned);
        let training = Plan::resolve(&Cli::try_parse_from(training).map_err(Error::internal)?.train)?;
        let shards = &training.shards;
        let count = |n: usize| u32::try_from(n).map_err(Error::internal);
        let batches = count(shards.batches.len())?;
        let workload = Workload {
            rows: shards.manifest.rows,
            batches,
            batch_bytes: (shards.batches.bytes() / u128::from(batches.max(1))) as u64,
            holdout_batches: count(shards.holdout_batches.len())?,
            epochs: args.epochs,
        };
        let (workers, step_batches) = (args.workers.clone(), args.step_batches);
        Ok(Self { training: Box::new(training), workers, step_batches, workload, assumptions, prices, each, csv })
    }

    /// Mini-batches of a step of so many workers.
    #[must_use]
    pub fn step_batches(&self, workers: u32) -> u32 {
        self.step_batches.unwrap_or(workers)
    }
}

/// Bytes a second, as `75MB/s` or `75MB`.
fn bandwidth(flag: &str, typed: &str, usual: &str) -> Result<f64, Error> {
    let bytes = typed.strip_suffix("/s").unwrap_or(typed).trim().parse::<ByteSize>().map(|bytes| bytes.as_u64());
    match bytes {
        Ok(bytes) if BANDWIDTH.contains(&bytes) => Ok(bytes as f64),
        Ok(_) => Err(usage(format!("{flag} {typed} is outside 1kB/s..=1TB/s"), &format!("{usual} is the default"))),
        Err(_) => {
            Err(usage(format!("{flag} {typed} is not a number of bytes a second"), &format!("give one as {usual}")))
        }
    }
}

fn latency(latency: Duration) -> Result<f64, Error> {
    if latency <= LATENCY_MAX {
        return Ok(latency.as_secs_f64());
    }
    Err(usage(format!("--latency {latency:?} is more than {LATENCY_MAX:?}"), "2ms is the default"))
}

impl From<ArchitectureArg> for Architecture {
    fn from(arg: ArchitectureArg) -> Self {
        match arg {
            ArchitectureArg::X86 => Self::X86,
            ArchitectureArg::Arm => Self::Arm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bandwidth;

    #[test]
    fn bandwidths_are_bytes_a_second() {
        for (typed, expected) in [("75MB/s", 75e6), ("1GB/s", 1e9), ("64KiB", 65_536.0), ("2 MB /s", 2e6)] {
            assert_eq!(bandwidth("--bandwidth", typed, "75MB/s").ok(), Some(expected), "{typed}");
        }
        for (typed, said) in [
            ("fast", "--bandwidth fast is not a number of bytes a second"),
            ("75Mbit/s", "--bandwidth 75Mbit/s is not a number of bytes a second"),
            ("0MB/s", "--bandwidth 0MB/s is outside 1kB/s..=1TB/s"),
            ("-1MB/s", "--bandwidth -1MB/s is not a number of bytes a second"),
            ("2TB/s", "--bandwidth 2TB/s is outside 1kB/s..=1TB/s"),
        ] {
            let error = bandwidth("--bandwidth", typed, "75MB/s").expect_err(typed);
            assert_eq!(error.to_string(), said);
        }
    }
}
