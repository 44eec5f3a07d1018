//! The launcher of functions: AWS Lambda, asked for one asynchronous invocation a life.
//!
//! A life that has begun cannot be seen or ended from here. It says itself when it is over; one that does not is over when its time is,
//! and one that is replaced before is told so by the supervisor.

use std::time::{Duration, Instant};

use lambda::{Invocation, Progress, Version};
use reporting::Console;
use schemas::exit::{ErrorKind, Explain};

use super::launcher::{self, End, Role};
use crate::error::Error;
use crate::job::{INVITATION, Invitation, Join};
use crate::plan::launch::{Functions, Launch};
use crate::plan::{Plan, usage};
use crate::service::ServiceError;

/// A request that is refused for now is tried again for this long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Beyond its limit a function may still be beginning or ending.
const GRACE: Duration = Duration::from_secs(10);

/// Launches functions.
#[derive(Debug)]
pub(super) struct Launcher {
    functions: lambda::Functions,
    pub(super) version: Version,
    run: String,
    session: String,
    time_limit: Option<Duration>,
}

impl Launcher {
    /// Finds the version to invoke, and sees that it fits the run.
    ///
    /// # Errors
    /// When there is none, Lambda refuses, or the function cannot do it.
    pub(super) fn new(settings: &Functions, plan: &Plan, session: &str) -> Result<Self, Error> {
        let told = |error| service(&settings.function, &error);
        let functions = lambda::Functions::new(settings.region.as_deref(), DEADLINE).map_err(told)?;
        let version = functions.version(&settings.function).map_err(told)?;
        let time_limit = match &plan.launch {
            Launch::Processes(processes) => processes.time_limit,
            Launch::Threads => None,
        };
        fits(settings, time_limit, &version)?;
        let there_are = functions.concurrency(&version.function).map_err(told)?;
        has_room(settings, plan.workers, there_are)?;
        let (run, session) = (plan.out.to_string(), session.to_owned());
        Ok(Self { functions, version, run, session, time_limit })
    }
}

impl Launcher {
    /// Says what is invoked.
    pub(super) fn announce(&self, console: &Console) {
        let Version { function, version, memory_mb, timeout, architecture, .. } = &self.version;
        let timeout = humantime::format_duration(*timeout);
        console
            .note(format!("function {function}, version {version}: {memory_mb} MB, {architecture}, {timeout} at most"));
    }
}

/// Sees that `version` has the memory and the time that it is to have.
///
/// # Errors
/// When it has not.
pub(crate) fn fits(settings: &Functions, time_limit: Option<Duration>, version: &Version) -> Result<(), Error> {
    let Version { function, version: number, memory_mb, timeout, .. } = version;
    if let Some(wanted) = settings.memory_mb.filter(|wanted| wanted != memory_mb) {
        let fix = format!(
            "aws lambda update-function-configuration --function-name {function} --memory-size {wanted}, then publish a version"
        );
        let problem = format!("--memory-mb {wanted}: version {number} of `{function}` has {memory_mb} MB");
        return Err(usage(problem, &fix));
    }
    if let Some(limit) = time_limit.filter(|limit| limit > timeout) {
        let (limit, timeout) = (humantime::format_duration(limit), humantime::format_duration(*timeout));
        let problem = format!("--worker-deadline {limit}: version {number} of `{function}` ends after {timeout}");
        return Err(usage(problem, "give a shorter one, or raise the function's timeout, up to 15 minutes"));
    }
    Ok(())
}

/// Sees that a function which may run so many times at once is enough for a run of so many workers.
///
/// # Errors
/// When it is not.
pub(crate) fn has_room(settings: &Functions, workers: u32, there_are: u32) -> Result<(), Error> {
    let (function, needed) = (&settings.function, settings.needed(workers));
    if needed <= there_are {
        return Ok(());
    }
    let problem = format!("`{function}` may run {there_are} times at once, the run needs {needed}");
    Err(usage(problem, "give fewer --workers, or raise the reserved or the account's concurrency"))
}

impl launcher::Launcher for Launcher {
    fn launch(&self, role: Role, incarnation: u32) -> Result<Box<dyn launcher::Life>, Error> {
        let (worker, supervisor, workers, waits) = match role {
            Role::Supervisor { workers, waits } => (None, 0, workers, waits),
            Role::Worker { worker, supervisor } => (Some(worker), supervisor, 0, None),
        };
        let join = Join {
            run: self.run.clone(),
            session: self.session.clone(),
            worker,
            incarnation,
            supervisor,
            workers,
            time_limit: self.time_limit.filter(|_| worker.is_some()),
            waits,
        };
        let invitation = Invitation { format: (INVITATION.0.to_owned(), INVITATION.1), join };
        let payload = serde_json::to_vec(&invitation).map_err(Error::internal)?;
        let invocation = self.functions.invoke(&self.version, payload);
        let invocation = invocation.map_err(|error| service(&self.version.function, &error))?;
        let (function, timeout) = (self.version.function.clone(), self.version.timeout);
        Ok(Box::new(Life { function, incarnation, invocation, asked: Instant::now(), timeout, over: None, gone: None }))
    }
}

/// One life, as far as it is known.
struct Life {
    function: String,
    incarnation: u32,
    invocation: Invocation,
    asked: Instant,
    timeout: Duration,
    /// How it has ended, as it said itself or as is assumed.
    over: Option<End>,
    /// When it was over, as far as that is known.
    gone: Option<Instant>,
}

impl Life {
    /// Looks at what has become of the invocation.
    fn look(&mut self) {
        match self.invocation.progress() {
            Progress::Failed(error) if self.gone.is_none() => {
                let error = service(&self.function, &error);
                let told = End::Told { kind: error.kind(), error: error.to_string(), fix: error.fix() };
                self.over.get_or_insert(told);
                self.gone = Some(self.asked);
            }
            Progress::Accepted(since) if self.gone.is_none() && since.elapsed() > self.timeout + GRACE => {
                let why = format!("it ran for {}", humantime::format_duration(self.timeout));
                self.over.get_or_insert(End::Killed(why));
                self.gone = Some(since + self.timeout);
            }
            _ => {}
        }
    }
}

impl launcher::Life for Life {
    fn incarnation(&self) -> u32 {
        self.incarnation
    }

    fn ended(&mut self) -> Option<End> {
        self.look();
        self.over.clone()
    }

    fn age(&self) -> Duration {
        self.asked.elapsed()
    }

    fn kill(&mut self, why: &str) {
        self.over.get_or_insert_with(|| End::Killed(why.to_owned()));
    }

    fn told(&mut self, end: End) {
        self.over.get_or_insert(end);
        self.gone.get_or_insert_with(Instant::now);
    }

    fn is_over(&mut self) -> bool {
        self.look();
        self.gone.is_some()
    }

    fn billed(&mut self) -> Option<(Instant, Option<Instant>)> {
        self.look();
        match self.invocation.progress() {
            Progress::Accepted(since) => Some((since, self.gone)),
            _ => None,
        }
    }

    fn end(&mut self) {}
}

/// A failure of Lambda as one of this program.
pub(crate) fn service(function: &str, error: &lambda::Error) -> Error {
    let kind = match error {
        lambda::Error::Throttled { .. } | lambda::Error::Busy { .. } | lambda::Error::Unreachable { .. } => {
            ErrorKind::Unavailable
        }
        lambda::Error::Internal { .. } | lambda::Error::TooLarge { .. } => ErrorKind::Internal,
        _ => ErrorKind::Config,
    };
    let place = format!("function {function}");
    Error::Service(ServiceError { place, problem: error.to_string(), kind, fix: error.fix() })
}
