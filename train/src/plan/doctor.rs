//! The plan of `train doctor`: what the same flags mean for `train --launch lambda`.

use clap::Parser;
use manifests::place::Place;

use super::launch::{self, Processes, Workers};
use super::{Launch, usage};
use crate::cli::{self, Cli, SupervisorArg};
use crate::error::Error;

/// `train doctor`
#[derive(Clone, Debug)]
pub struct Doctor {
    /// Where the manifest is.
    pub manifest: String,
    /// Where the run is to go.
    pub out: Place,
    /// Workers.
    pub workers: u32,
    /// The function.
    pub functions: launch::Functions,
    /// Where functions and client meet, and the time of a worker.
    pub processes: Box<Processes>,
}

impl Doctor {
    /// Resolves `args`. Nothing is asked yet.
    ///
    /// # Errors
    /// When flags do not fit each other, or a place is not in S3.
    pub fn resolve(args: &cli::Doctor) -> Result<Self, Error> {
        let mut words = ["train", "--launch=lambda"].map(str::to_owned).to_vec();
        let mut flag = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("--{name}={value}")));
        flag("manifest", Some(args.manifest.clone()));
        flag("out", Some(args.out.clone()));
        flag("function", args.function.clone());
        flag("region", args.region.clone());
        flag("exchange", args.exchange.clone());
        flag("memory-mb", args.memory_mb.map(|mb| mb.to_string()));
        flag("worker-deadline", args.worker_deadline.map(|time| humantime::format_duration(time).to_string()));
        let mut train = Cli::try_parse_from(words).map_err(Error::internal)?.train;
        train.amqp = args.amqp.clone();
        train.supervisor = args.supervisor.filter(|&place| place == SupervisorArg::Client);
        if let Some(place) = &args.exchange
            && Place::parse(place)?.local_path().is_some()
        {
            let problem = format!("--exchange {place} is on this machine, where functions cannot see it");
            return Err(usage(problem, "give a place in S3: s3://bucket/folder"));
        }
        let Launch::Processes(processes) = launch::resolve(&train)? else {
            return Err(Error::Internal("functions are no threads".to_owned()));
        };
        let Workers::Functions(functions) = &processes.workers else {
            return Err(Error::Internal("these workers are no functions".to_owned()));
        };
        Ok(Self {
            manifest: args.manifest.clone(),
            out: Place::parse(&args.out)?,
            workers: args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32)),
            functions: (**functions).clone(),
            processes,
        })
    }
}
