//! What was typed, resolved against the manifest into a plan that can be carried out.

pub mod bench;
pub mod doctor;
pub mod launch;
pub mod logistic;
pub mod pages;
pub mod planning;
pub mod pmf;
pub mod recipe;
pub mod scoring;

use std::time::Duration;

use manifests::digest::digest;
use manifests::load::{self, Shards};
use manifests::place::Place;
use schemas::dataset::{Digest, Layout};
use schemas::report::{LogisticSettings, PmfSettings};
use serde::{Deserialize, Serialize};
use train_core::order::Schedule;

use crate::WAIT_MAX;
use crate::cli::{Bench, Cli, Command, TrainArgs};
use crate::error::Error;
use crate::job::{FORMAT, Job, Join, Settings};
use crate::model::Metric;
use crate::protocol::course::Rules;
pub use launch::Launch;

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Work {
    /// `train`
    Train(Box<Plan>),
    /// `train predict`
    Predict(scoring::Predict),
    /// `train evaluate`
    Evaluate(scoring::Evaluate),
    /// `train recommend`
    Recommend(scoring::Recommend),
    /// `train scale`
    Scale(launch::Scale),
    /// `train watch`
    Watch(launch::Watch),
    /// `train verify`
    Verify(launch::Verify),
    /// Make a page of runs.
    Pages(pages::Pages),
    /// `train bench exchange`
    BenchExchange(bench::Exchange),
    /// `train bench compute`
    BenchCompute(bench::Compute),
    /// `train doctor`
    Doctor(Box<doctor::Doctor>),
    /// `train plan`
    Plan(Box<planning::Planning>),
    /// A part of a run.
    Join(Join),
}

impl Work {
    /// Resolves what was typed. A recipe is left aside: [`recipe::resolve`] sees to it.
    ///
    /// # Errors
    /// As [`Plan::resolve`], or when flags do not fit each other.
    pub fn resolve(cli: &Cli) -> Result<Self, Error> {
        match &cli.command {
            Some(Command::Predict(args)) => scoring::Predict::resolve(args).map(Self::Predict),
            Some(Command::Evaluate(args)) => scoring::Evaluate::resolve(args).map(Self::Evaluate),
            Some(Command::Recommend(args)) => scoring::Recommend::resolve(args).map(Self::Recommend),
            Some(Command::Scale(args)) => launch::Scale::resolve(args).map(Self::Scale),
            Some(Command::Watch(args)) => launch::Watch::resolve(args).map(Self::Watch),
            Some(Command::Verify(args)) => launch::Verify::resolve(args).map(Self::Verify),
            Some(Command::Report(args)) => pages::Pages::resolve(args).map(Self::Pages),
            Some(Command::Bench { what: Bench::Exchange(args) }) => {
                bench::Exchange::resolve(args).map(Self::BenchExchange)
            }
            Some(Command::Bench { what: Bench::Compute(args) }) => {
                bench::Compute::resolve(args).map(Self::BenchCompute)
            }
            Some(Command::Doctor(args)) => doctor::Doctor::resolve(args).map(|doctor| Self::Doctor(Box::new(doctor))),
            Some(Command::Plan(args)) => planning::Planning::resolve(args).map(|plan| Self::Plan(Box::new(plan))),
            Some(Command::Join(args)) => Ok(Self::Join(launch::join(args))),
            Some(Command::Completions { .. }) | None => {
                Plan::resolve(&cli.train).map(|plan| Self::Train(Box::new(plan)))
            }
        }
    }
}

/// Everything that is needed to train.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The mini-batches.
    pub shards: Shards,
    /// What is trained.
    pub task: Task,
    /// Workers.
    pub workers: u32,
    /// How they are launched.
    pub launch: Launch,
    /// When to end.
    pub limits: Limits,
    /// Where the run goes.
    pub out: Place,
    /// Name of the run, in messages and keys.
    pub run: String,
    /// Identity of the run: of manifest, settings and limits.
    pub identity: Digest,
    /// Overwrite another run at `out`.
    pub replace: bool,
    /// Do nothing, but say what would be done.
    pub dry_run: bool,
    /// The recipe that was used, with what it says.
    pub recipe: Option<String>,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// What is trained.
#[derive(Clone, Debug)]
pub enum Task {
    /// Probabilistic matrix factorisation, of ratings.
    Pmf(pmf::Task),
    /// Logistic regression, of click logs.
    Logistic(logistic::Task),
}

/// Settings that every model has.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    /// Root seed.
    pub seed: u64,
    /// Mini-batches of a step.
    pub step_batches: u32,
}

impl Task {
    /// The settings that every model has.
    #[must_use]
    pub const fn common(&self) -> Common {
        match self {
            Self::Pmf(pmf::Task { settings: PmfSettings { seed, step_batches, .. }, .. })
            | Self::Logistic(logistic::Task { settings: LogisticSettings { seed, step_batches, .. }, .. }) => {
                Common { seed: *seed, step_batches: *step_batches }
            }
        }
    }

    /// The loss that people are shown.
    #[must_use]
    pub const fn metric(&self) -> Metric {
        match self {
            Self::Pmf(_) => Metric::Rmse,
            Self::Logistic(_) => Metric::LogLoss,
        }
    }

    /// What a row is called.
    #[must_use]
    pub const fn rows(&self) -> &'static str {
        match self {
            Self::Pmf(_) => "ratings",
            Self::Logistic(_) => "rows",
        }
    }

    /// The loss of the simplest predictor, which does not look at a row: on the training rows, and on the held-out ones.
    #[must_use]
    pub fn base(&self) -> (f64, Option<f64>) {
        match self {
            Self::Pmf(task) => {
                let baselines = &task.ratings.baselines;
                (baselines.train.mean, baselines.holdout.map(|b| b.mean))
            }
            Self::Logistic(task) => (task.labels.train_base_log_loss, task.labels.holdout_base_log_loss),
        }
    }

    const fn short_name(&self) -> &'static str {
        match self {
            Self::Pmf(_) => "pmf",
            Self::Logistic(_) => "lr",
        }
    }
}

/// When to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// After this many epochs.
    pub max_epochs: u64,
    /// After this much time.
    pub max_time: Option<Duration>,
    /// At this training loss.
    pub target_loss: Option<f64>,
    /// At this held-out loss.
    pub target_holdout_loss: Option<f64>,
    /// After this many epochs without a better held-out loss.
    pub patience: Option<u64>,
}

impl Plan {
    /// Resolves `args`: reads the manifest and fills in the defaults.
    ///
    /// # Errors
    /// When the manifest cannot be read or the settings do not fit it or each other.
    pub fn resolve(args: &TrainArgs) -> Result<Self, Error> {
        if let Some(run) = &args.resume {
            let out = Place::parse(run)?;
            let job = Job::read(&out)?;
            let launch = launch::resumed(args, &job)?;
            return Self::of_job(&job, out, launch, args.workers);
        }
        let launch = launch::resolve(args)?;
        let shards = load::shards(args.manifest.as_deref().unwrap_or_default())?;
        if shards.manifest.rows == 0 {
            return Err(usage("the manifest has no training rows", "make one with `shard` from data that has some"));
        }
        let workers = match args.workers {
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        };
        let step_batches = args.step_batches.unwrap_or(workers);
        let task = match &shards.manifest.layout {
            Layout::Ratings(ratings) => Task::Pmf(pmf::resolve(args, step_batches, &shards, ratings)?),
            Layout::Dense(_) | Layout::Sparse(_) => Task::Logistic(logistic::resolve(args, step_batches, &shards)?),
        };
        let limits = Limits {
            max_epochs: args.max_epochs,
            max_time: args.max_time,
            target_loss: args.target_loss,
            target_holdout_loss: args.target_holdout_loss,
            patience: match args.patience {
                Some(epochs) => (epochs > 0).then_some(epochs),
                None => (shards.manifest.holdout_rows > 0).then_some(3),
            },
        };
        let warnings = check_limits(&limits, args, &shards, &task)?;
        let identity = identity(&shards.digest, &task, &limits);
        let run = name(&shards, &task, &identity);
        let out = Place::parse(args.out.as_deref().unwrap_or(&format!("runs/{run}")))?;
        Ok(Self {
            shards,
            task,
            workers,
            launch,
            limits,
            out,
            run,
            identity,
            replace: args.replace,
            dry_run: args.dry_run,
            recipe: None,
            warnings,
        })
    }

    /// The plan of the run at `out` that `job` describes, with other workers perhaps.
    ///
    /// # Errors
    /// When the manifest cannot be read or is not the job's.
    pub fn of_job(job: &Job, out: Place, launch: Launch, workers: Option<u32>) -> Result<Self, Error> {
        let shards = load::shards(&job.manifest)?;
        let manifest = &shards.manifest;
        let task = match (&job.settings, &manifest.layout) {
            (Settings::Pmf(settings), Layout::Ratings(ratings)) => {
                Some(Task::Pmf(pmf::Task::new(settings.clone(), &shards, ratings)))
            }
            (Settings::Logistic(settings), layout) => logistic::Task::new(settings.clone(), layout).map(Task::Logistic),
            (Settings::Pmf(_), _) => None,
        };
        let task = task.filter(|task| identity(&shards.digest, task, &job.limits) == job.identity);
        let task = task.ok_or_else(|| Error::Unfit {
            place: shards.name.clone(),
            problem: "it is not the manifest that the run was begun with".to_owned(),
            fix: "begin the run anew, or bring the manifest back".to_owned(),
        })?;
        Ok(Self {
            run: name(&shards, &task, &job.identity),
            shards,
            task,
            workers: workers.unwrap_or(job.workers),
            launch,
            limits: job.limits.clone(),
            out,
            identity: job.identity.clone(),
            replace: false,
            dry_run: false,
            recipe: None,
            warnings: Vec::new(),
        })
    }

    /// This plan as processes are told of it, under the name `session`.
    #[must_use]
    pub fn job(&self, session: String, processes: &launch::Processes) -> Job {
        Job {
            format: (FORMAT.0.to_owned(), FORMAT.1),
            session,
            manifest: self.shards.name.clone(),
            identity: self.identity.clone(),
            settings: match &self.task {
                Task::Pmf(task) => Settings::Pmf(task.settings.clone()),
                Task::Logistic(task) => Settings::Logistic(task.settings.clone()),
            },
            limits: self.limits.clone(),
            workers: self.workers,
            strategy: processes.strategy,
            exchange: match &processes.servers.exchange {
                launch::ExchangeAt::Storage(place) => Some(place.clone()),
                launch::ExchangeAt::Redis(_) | launch::ExchangeAt::FunctionsRedis => None,
            },
            checkpoint_every: processes.checkpoint_every,
            worker_timeout: processes.worker_timeout,
        }
    }

    /// Steps and epochs.
    ///
    /// # Errors
    /// When there are more mini-batches than can be counted.
    pub fn schedule(&self) -> Result<Schedule, Error> {
        let n_batches = u32::try_from(self.shards.batches.len()).map_err(Error::internal)?;
        Ok(Schedule::new(n_batches, self.task.common().step_batches))
    }

    /// What the run goes by.
    ///
    /// # Errors
    /// When there are more mini-batches than can be counted.
    pub fn rules(&self) -> Result<Rules, Error> {
        Ok(Rules {
            schedule: self.schedule()?,
            n_holdout_batches: u32::try_from(self.shards.holdout_batches.len()).map_err(Error::internal)?,
            metric: self.task.metric(),
            holdout_base: self.task.base().1.unwrap_or(0.0),
            max_epochs: self.limits.max_epochs,
            max_time: self.limits.max_time,
            target_loss: self.limits.target_loss,
            target_holdout_loss: self.limits.target_holdout_loss,
            patience: self.limits.patience,
        })
    }

    /// How long a worker may be silent.
    #[must_use]
    pub fn silence_max(&self) -> Duration {
        match &self.launch {
            Launch::Threads => WAIT_MAX,
            Launch::Processes(processes) => processes.worker_timeout,
        }
    }
}

fn name(shards: &Shards, task: &Task, identity: &Digest) -> String {
    format!("{}-{}-{}", shards.manifest.name, task.short_name(), &identity.hex()[..8])
}

fn identity(manifest: &Digest, task: &Task, limits: &Limits) -> Digest {
    let settings = match task {
        Task::Pmf(task) => serde_json::to_string(&task.settings),
        Task::Logistic(task) => serde_json::to_string(&task.settings),
    };
    let settings = settings.expect("settings are JSON");
    digest(format!("run 1 {manifest} {settings} {limits:?}").as_bytes())
}

pub(crate) fn usage(problem: impl Into<String>, fix: &str) -> Error {
    Error::Usage { problem: problem.into(), fix: fix.to_owned() }
}

/// Refuses flags that are given though the manifest's kind has no use for them.
fn refuse(given: &[(&str, bool)], kind: &str) -> Result<(), Error> {
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(usage(format!("{flag} has no meaning for a manifest of the kind `{kind}`"), "leave it out"))
        }
        None => Ok(()),
    }
}

fn check_learning_rate(rate: f64, max: f64) -> Result<(), Error> {
    if rate > 0.0 && rate <= max {
        return Ok(());
    }
    Err(usage(format!("--learning-rate {rate} is not above 0 and at most {max:e}"), "leave it out for the default"))
}

fn check_limits(limits: &Limits, args: &TrainArgs, shards: &Shards, task: &Task) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    if shards.manifest.holdout_rows == 0 {
        for (flag, given) in
            [("--target-holdout-loss", args.target_holdout_loss.is_some()), ("--patience", limits.patience.is_some())]
        {
            if given {
                let problem = format!("{flag} needs held-out rows, and `{}` has none", shards.name);
                return Err(usage(problem, "prepare the data with `--holdout 0.1`"));
            }
        }
    }
    let (train, holdout) = task.base();
    let pairs = [
        ("--target-loss", limits.target_loss, Some(train)),
        ("--target-holdout-loss", limits.target_holdout_loss, holdout),
    ];
    for (flag, target, base) in pairs {
        let (Some(target), Some(base)) = (target, base) else { continue };
        if !(target > 0.0 && target.is_finite()) {
            let fix = match task.metric() {
                Metric::Rmse => "give an RMSE in stars, for example 0.85",
                Metric::LogLoss => "give a log loss in nats, for example 0.45",
            };
            return Err(usage(format!("{flag} {target} is not a positive number"), fix));
        }
        if target >= base {
            let constant = match task.metric() {
                Metric::Rmse => "the mean",
                Metric::LogLoss => "the share of clicks",
            };
            warnings.push(format!("{flag} {target} is no better than always predicting {constant} ({base:.4})"));
        }
    }
    Ok(warnings)
}
