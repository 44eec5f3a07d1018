//! How the workers of a run are launched, and by which servers they meet.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use manifests::place::Place;
use schemas::cost::{Prediction, Prices};

use super::usage;
use crate::cli::{self, LaunchArg, StrategyArg, SupervisorArg, TrainArgs};
use crate::control::rabbitmq::AmqpUrl;
use crate::cost::{self, Budget};
use crate::error::Error;
use crate::exchange::store::redis::RedisUrl;
use crate::job::{Job, Join};
use crate::protocol::supervisor::Strategy;
use crate::saved;

/// Where the URL of RabbitMQ is looked for when no flag gives it.
pub const AMQP: &str = "GRISTMILL_AMQP";
/// Where the URLs of Redis are looked for when no flag gives them.
pub const REDIS: &str = "GRISTMILL_REDIS";

/// Where a line that launches a worker finds its arguments.
pub const JOIN: &str = "GRISTMILL_JOIN";

/// How workers are launched.
#[derive(Clone, Debug)]
pub enum Launch {
    /// As threads of this process.
    Threads,
    /// As processes on this machine.
    Processes(Box<Processes>),
}

/// Workers as processes.
#[derive(Clone, Debug)]
pub struct Processes {
    /// What launches them.
    pub workers: Workers,
    /// Where they meet.
    pub servers: Servers,
    /// How gradients are exchanged.
    pub strategy: Strategy,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// A worker that was not heard of for this long is replaced.
    pub worker_timeout: Duration,
    /// A worker has this long, and hands over before.
    pub time_limit: Option<Duration>,
    /// Go on with a run that has died.
    pub resume: bool,
}

/// What launches workers.
#[derive(Clone, Debug)]
pub enum Workers {
    /// This program, on this machine.
    Here {
        /// A worker is killed when it has used more bytes of memory than this.
        memory_limit: Option<u64>,
    },
    /// A line of a shell.
    Command(String),
    /// AWS Lambda.
    Functions(Box<Functions>),
}

impl Workers {
    /// The flags by which a run is gone on with where it was, with a space before each.
    #[must_use]
    pub fn flags(&self) -> String {
        match self {
            Self::Here { .. } => String::new(),
            Self::Command(line) => format!(" --launch command --command '{line}'"),
            Self::Functions(functions) => {
                let Functions { function, region, .. } = &**functions;
                let named = if function == FUNCTION { String::new() } else { format!(" --function {function}") };
                let region = region.as_ref().map(|region| format!(" --region {region}")).unwrap_or_default();
                format!(" --launch lambda{named}{region}")
            }
        }
    }
}

/// Workers as functions.
#[derive(Clone, Debug)]
pub struct Functions {
    /// The function's name, with a version or an alias after a colon perhaps.
    pub function: String,
    /// Its region, if it is not that of the environment.
    pub region: Option<String>,
    /// The memory that it must have, in MB.
    pub memory_mb: Option<u32>,
    /// The supervisor is a function too.
    pub supervisor: bool,
    /// What the run may cost.
    pub budget: Option<Budget>,
    /// What things cost.
    pub prices: Prices,
    /// What was predicted, of any numbers of workers.
    pub prediction: Option<Prediction>,
}

impl Functions {
    /// How many functions a run of so many workers has at once, handing over apart.
    #[must_use]
    pub const fn needed(&self, workers: u32) -> u32 {
        workers + if self.supervisor { 1 } else { 0 }
    }
}

/// The servers of a run. Their URLs may hold passwords.
#[derive(Clone)]
pub struct Servers {
    /// RabbitMQ.
    pub amqp: String,
    /// Where gradients go.
    pub exchange: ExchangeAt,
}

/// Where gradients go.
#[derive(Clone)]
pub enum ExchangeAt {
    /// Redis: URLs separated by commas.
    Redis(String),
    /// The Redis that functions find in their own environment.
    FunctionsRedis,
    /// A place in object storage.
    Storage(String),
}

impl std::fmt::Debug for ExchangeAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExchangeAt")
    }
}

impl ExchangeAt {
    /// The place `exchange`, or else Redis by `redis` or the environment; `needed` says who needs one of them.
    ///
    /// # Errors
    /// When nothing says where, or what says it names no place.
    pub fn resolve(redis: Option<&str>, exchange: Option<&str>, needed: &str) -> Result<Self, Error> {
        let at = match exchange {
            Some(place) => {
                Place::parse(place)?;
                Self::Storage(place.to_owned())
            }
            None => Self::Redis(redis.map(str::to_owned).or_else(|| std::env::var(REDIS).ok()).ok_or_else(|| {
                let fix = format!("give --redis redis://host, or set {REDIS}; or --exchange PLACE to do without Redis");
                usage(needed, &fix)
            })?),
        };
        at.shown().map(|_| at)
    }

    /// As words without user and password.
    ///
    /// # Errors
    /// When a URL is none.
    pub fn shown(&self) -> Result<String, Error> {
        Ok(match self {
            Self::Redis(_) => {
                let urls: Vec<String> = self.redis_urls()?.iter().map(ToString::to_string).collect();
                urls.join(", ")
            }
            Self::FunctionsRedis => "the functions' Redis".to_owned(),
            Self::Storage(place) => place.clone(),
        })
    }

    /// Where Redis is; none when gradients go through object storage.
    ///
    /// # Errors
    /// When a URL is none.
    pub fn redis_urls(&self) -> Result<Vec<RedisUrl>, Error> {
        match self {
            Self::Redis(urls) => {
                let one = |url: &str| RedisUrl::parse(url.trim()).map_err(|e| usage(e.problem, &e.fix));
                urls.split(',').map(one).collect()
            }
            Self::FunctionsRedis | Self::Storage(_) => Ok(Vec::new()),
        }
    }
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Servers")
    }
}

impl Servers {
    /// The servers as words without user and password.
    ///
    /// # Errors
    /// When a URL is none.
    pub fn shown(&self) -> Result<String, Error> {
        Ok(format!("{} and {}", self.exchange.shown()?, self.amqp_url()?))
    }

    /// Where RabbitMQ is.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn amqp_url(&self) -> Result<AmqpUrl, Error> {
        AmqpUrl::from_str(&self.amqp).map_err(|e| usage(e.to_string(), "amqp://user:password@host:5672/vhost is one"))
    }
}

/// The servers of the run of `job`, as its client has put them into the environment.
///
/// # Errors
/// When something is not there.
pub fn servers_of(job: &Job) -> Result<Servers, Error> {
    servers(None, None, job.exchange.as_deref())
}

/// The servers as the environment has them, of which that of messages is wanted only.
///
/// # Errors
/// When it is not there.
pub fn servers_by_environment() -> Result<Servers, Error> {
    Ok(Servers { amqp: amqp(None)?, exchange: ExchangeAt::Storage(String::new()) })
}

/// Steps between two checkpoints when nothing else is said.
pub(super) const CHECKPOINT_EVERY: u64 = 100;

/// How long a worker may be silent when nothing else is said.
const WORKER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn resolve(args: &TrainArgs) -> Result<Launch, Error> {
    let wanted = args.launch != LaunchArg::Thread;
    let given = [
        ("--command", args.command.is_some()),
        ("--redis", args.redis.is_some()),
        ("--amqp", args.amqp.is_some()),
        ("--exchange", args.exchange.is_some()),
        ("--strategy", args.strategy.is_some()),
        ("--checkpoint-every", args.checkpoint_every.is_some()),
        ("--worker-timeout", args.worker_timeout.is_some()),
        ("--time-limit", args.time_limit.is_some()),
        ("--memory-limit", args.memory_limit.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given && !wanted) {
        return Err(usage(format!("{flag} is for workers that are processes"), "add `--launch process`"));
    }
    if args.launch != LaunchArg::Lambda {
        let given = [
            ("--function", args.function.is_some()),
            ("--region", args.region.is_some()),
            ("--memory-mb", args.memory_mb.is_some()),
            ("--worker-deadline", args.worker_deadline.is_some()),
            ("--supervisor", args.supervisor.is_some()),
            ("--budget-usd", args.budget_usd.is_some()),
            ("--prices", args.prices.is_some()),
            ("--prediction", args.prediction.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            return Err(usage(format!("{flag} is for workers that are functions"), "add `--launch lambda`"));
        }
    }
    if !wanted {
        return Ok(Launch::Threads);
    }
    processes(args, args.exchange.as_deref(), None)
}

/// Of a run that goes on, which is what `job` says it is.
pub(super) fn resumed(args: &TrainArgs, job: &Job) -> Result<Launch, Error> {
    processes(args, job.exchange.as_deref(), Some(job))
}

fn processes(args: &TrainArgs, exchange: Option<&str>, resumed: Option<&Job>) -> Result<Launch, Error> {
    if args.time_limit.is_some_and(|limit| limit < Duration::from_secs(1)) {
        return Err(usage("--time-limit is less than a second", "a worker needs about that long to begin"));
    }
    let given = args.strategy.map(Strategy::from);
    let servers = match args.launch {
        LaunchArg::Lambda => {
            let exchange = match exchange {
                Some(place) => ExchangeAt::resolve(None, Some(place), "")?,
                None => ExchangeAt::FunctionsRedis,
            };
            Servers { amqp: amqp(args.amqp.as_deref())?, exchange }
        }
        _ => servers(args.amqp.as_deref(), args.redis.as_deref(), exchange)?,
    };
    Ok(Launch::Processes(Box::new(Processes {
        workers: workers(args)?,
        servers,
        strategy: resumed.map(|job| job.strategy).or(given).unwrap_or(Strategy::Auto),
        checkpoint_every: resumed.map(|job| job.checkpoint_every).or(args.checkpoint_every).unwrap_or(CHECKPOINT_EVERY),
        worker_timeout: resumed.map(|job| job.worker_timeout).or(args.worker_timeout).unwrap_or(WORKER_TIMEOUT),
        time_limit: args.time_limit.or(args.worker_deadline),
        resume: resumed.is_some(),
    })))
}

/// What launches workers.
fn workers(args: &TrainArgs) -> Result<Workers, Error> {
    let example = r#"one is: --launch command --command 'ssh -o SendEnv=GRISTMILL_* "node$GRISTMILL_WORKER" train $GRISTMILL_JOIN'"#;
    if args.command.is_some() && args.launch != LaunchArg::Command {
        return Err(usage("--command is for `--launch command`", example));
    }
    let is_here = args.launch == LaunchArg::Process;
    if args.memory_limit.is_some() && !is_here {
        let fix = "limit the memory of a worker in --command, or by the settings of the function";
        return Err(usage("--memory-limit is for processes on this machine", fix));
    }
    match (args.launch, &args.command) {
        (LaunchArg::Lambda, _) => functions(args).map(|functions| Workers::Functions(Box::new(functions))),
        (LaunchArg::Command, None) => {
            Err(usage("`--launch command` needs a --command that launches a worker", example))
        }
        (LaunchArg::Command, Some(line)) if !line.contains(JOIN) => {
            let problem = format!("--command does not use ${JOIN}, so it cannot launch the worker that is wanted");
            Err(usage(problem, example))
        }
        (LaunchArg::Command, Some(line)) => Ok(Workers::Command(line.clone())),
        _ => Ok(Workers::Here { memory_limit: args.memory_limit.map(|bytes| bytes.as_u64()) }),
    }
}

/// The name of the function when no flag gives it.
const FUNCTION: &str = "gristmill";

fn functions(args: &TrainArgs) -> Result<Functions, Error> {
    if args.time_limit.is_some() {
        return Err(usage(
            "--time-limit is for processes",
            "a function's limit is in its settings: give --worker-deadline",
        ));
    }
    if args.redis.is_some() {
        let fix = "set GRISTMILL_REDIS in the function's environment, which keeps the password out of what it is invoked with";
        return Err(usage("--redis is for processes", fix));
    }
    if args.worker_deadline.is_some_and(|limit| limit < Duration::from_secs(3)) {
        return Err(usage("--worker-deadline is less than three seconds", "a worker needs about that long to begin"));
    }
    for (flag, place) in [("--manifest", &args.manifest), ("-o", &args.out), ("--resume", &args.resume)] {
        let Some(place) = place else { continue };
        if Place::parse(place)?.local_path().is_some() {
            let problem = format!("{flag} {place} is on this machine, where functions cannot see it");
            return Err(usage(problem, "give a place in S3: s3://bucket/folder"));
        }
    }
    if args.out.is_none() && args.resume.is_none() {
        return Err(usage(
            "functions need a place for the run that they can see",
            "give one in S3: -o s3://bucket/runs/name",
        ));
    }
    Ok(Functions {
        function: args.function.clone().unwrap_or_else(|| FUNCTION.to_owned()),
        region: args.region.clone(),
        memory_mb: args.memory_mb,
        supervisor: args.supervisor != Some(SupervisorArg::Client),
        budget: args.budget_usd.map(budget).transpose()?,
        prices: args.prices.as_deref().map_or_else(|| Ok(cost::default_table()), cost::of_file)?,
        prediction: args.prediction.as_deref().map(prediction).transpose()?,
    })
}

fn budget(usd: f64) -> Result<Budget, Error> {
    if usd > 0.0 && usd.is_finite() {
        return Ok(Budget { usd });
    }
    Err(usage(format!("--budget-usd {usd} is not a positive number"), "give US dollars, for example 0.50"))
}

/// The report of `train plan`.
fn prediction(file: &Path) -> Result<Prediction, Error> {
    let place = file.display().to_string();
    let read = std::fs::read(file);
    let bytes = read.map_err(|source| Error::File { place: place.clone(), done: "read", source })?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Unfit {
        place: format!("{place}:{}:{}", e.line(), e.column()),
        problem: e.to_string(),
        fix: "give what `train plan` has written to standard output".to_owned(),
    })
}

/// Where RabbitMQ is, as `given` or by the environment.
///
/// # Errors
/// When neither says.
pub fn amqp(given: Option<&str>) -> Result<String, Error> {
    given.map(str::to_owned).or_else(|| std::env::var(AMQP).ok()).ok_or_else(|| {
        let fix = format!("give --amqp amqp://user:password@host/vhost, or set {AMQP}");
        usage("workers that are processes need RabbitMQ", &fix)
    })
}

/// The servers by flags, else by the environment.
fn servers(amqp_given: Option<&str>, redis_given: Option<&str>, exchange: Option<&str>) -> Result<Servers, Error> {
    let amqp = amqp(amqp_given)?;
    let exchange = ExchangeAt::resolve(redis_given, exchange, "workers that are processes need Redis")?;
    let servers = Servers { amqp, exchange };
    servers.shown()?;
    Ok(servers)
}

impl From<StrategyArg> for Strategy {
    fn from(arg: StrategyArg) -> Self {
        match arg {
            StrategyArg::Auto => Self::Auto,
            StrategyArg::AllToAll => Self::AllToAll,
            StrategyArg::ReduceScatter => Self::ReduceScatter,
        }
    }
}

/// `train scale`
#[derive(Clone)]
pub struct Scale {
    /// The run's place, as it was typed.
    pub run: String,
    /// Workers from now on.
    pub workers: u32,
    /// Where RabbitMQ is.
    pub amqp: String,
}

impl std::fmt::Debug for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scale {} to {}", self.run, self.workers)
    }
}

impl Scale {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When nothing says where RabbitMQ is.
    pub fn resolve(args: &cli::Scale) -> Result<Self, Error> {
        Ok(Self { run: args.run.clone(), workers: args.workers, amqp: amqp(args.amqp.as_deref())? })
    }
}

/// `train watch`
#[derive(Clone)]
pub struct Watch {
    /// The run.
    pub run: Place,
    /// Where RabbitMQ is, if that was typed.
    pub amqp: Option<String>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch {}", self.run)
    }
}

impl Watch {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When the run is no place.
    pub fn resolve(args: &cli::Watch) -> Result<Self, Error> {
        Ok(Self { run: saved::named(&args.run)?, amqp: args.amqp.clone() })
    }
}

/// `train verify`
#[derive(Clone, Debug)]
pub struct Verify {
    /// The run.
    pub run: Place,
    /// The manifest; without a name, it is where the run found it.
    pub manifest: Option<String>,
}

impl Verify {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When the run is no place.
    pub fn resolve(args: &cli::Verify) -> Result<Self, Error> {
        Ok(Self { run: saved::named(&args.run)?, manifest: args.manifest.clone() })
    }
}

/// Who a process is, as its command line says.
#[must_use]
pub fn join(args: &cli::Join) -> Join {
    Join {
        run: args.run.clone(),
        session: args.session.clone(),
        worker: args.worker,
        incarnation: args.incarnation,
        supervisor: args.supervisor,
        workers: args.workers,
        time_limit: args.time_limit,
        waits: None,
    }
}
