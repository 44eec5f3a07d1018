//! How the workers of a run are launched, and by which servers they meet.

use std::str::FromStr;
use std::time::Duration;

use manifests::place::Place;

use super::usage;
use crate::cli::{self, LaunchArg, StrategyArg, TrainArgs};
use crate::control::rabbitmq::AmqpUrl;
use crate::error::Error;
use crate::exchange::store::redis::RedisUrl;
use crate::job::Job;
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
    /// The line of a shell that launches a worker; without it, workers are processes of this program.
    pub command: Option<String>,
    /// Where they meet.
    pub servers: Servers,
    /// How gradients are exchanged.
    pub strategy: Strategy,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// A worker that was not heard of for this long is replaced.
    pub worker_timeout: Duration,
    /// A worker is killed after this long.
    pub time_limit: Option<Duration>,
    /// A worker is killed when it has used more bytes of memory than this.
    pub memory_limit: Option<u64>,
    /// Go on with a run that has died.
    pub resume: bool,
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
            Self::Storage(_) => Ok(Vec::new()),
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

/// Steps between two checkpoints when nothing else is said.
const CHECKPOINT_EVERY: u64 = 100;

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
    if !wanted {
        return match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                Err(usage(format!("{flag} is for workers that are processes"), "add `--launch process`"))
            }
            None => Ok(Launch::Threads),
        };
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
    Ok(Launch::Processes(Box::new(Processes {
        command: command(args)?,
        servers: servers(args.amqp.as_deref(), args.redis.as_deref(), exchange)?,
        strategy: resumed.map(|job| job.strategy).or(given).unwrap_or(Strategy::Auto),
        checkpoint_every: resumed.map(|job| job.checkpoint_every).or(args.checkpoint_every).unwrap_or(CHECKPOINT_EVERY),
        worker_timeout: resumed.map(|job| job.worker_timeout).or(args.worker_timeout).unwrap_or(WORKER_TIMEOUT),
        time_limit: args.time_limit,
        memory_limit: args.memory_limit.map(|bytes| bytes.as_u64()),
        resume: resumed.is_some(),
    })))
}

/// The line that launches a worker, where one does.
fn command(args: &TrainArgs) -> Result<Option<String>, Error> {
    let example = r#"one is: --launch command --command 'ssh -o SendEnv=GRISTMILL_* "node$GRISTMILL_WORKER" train $GRISTMILL_JOIN'"#;
    match (args.launch, &args.command) {
        (LaunchArg::Command, None) => {
            Err(usage("`--launch command` needs a --command that launches a worker", example))
        }
        (LaunchArg::Process, Some(_)) => Err(usage("--command is for `--launch command`", example)),
        (_, Some(line)) if !line.contains(JOIN) => {
            let problem = format!("--command does not use ${JOIN}, so it cannot launch the worker that is wanted");
            Err(usage(problem, example))
        }
        (_, Some(_)) if args.memory_limit.is_some() => {
            Err(usage("--memory-limit is for processes on this machine", "limit the memory of a worker in --command"))
        }
        (_, command) => Ok(command.clone()),
    }
}

/// Where RabbitMQ is, as `given` or by the environment.
///
/// # Errors
/// When neither says.
fn amqp(given: Option<&str>) -> Result<String, Error> {
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

/// A process of a run.
#[derive(Clone, Debug)]
pub struct Join {
    /// The run's place.
    pub run: Place,
    /// The session.
    pub session: String,
    /// The worker; without it, the supervisor.
    pub worker: Option<u32>,
    /// Which life of it.
    pub incarnation: u32,
    /// The supervisor's life at the launch of a worker.
    pub supervisor: u32,
    /// Workers at the launch of a supervisor.
    pub workers: u32,
}

impl Join {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When the run is no place.
    pub fn resolve(args: &cli::Join) -> Result<Self, Error> {
        Ok(Self {
            run: Place::parse(&args.run)?,
            session: args.session.clone(),
            worker: args.worker,
            incarnation: args.incarnation,
            supervisor: args.supervisor,
            workers: args.workers,
        })
    }
}
