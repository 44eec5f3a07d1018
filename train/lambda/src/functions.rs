//! The AWS SDK: its client, and the requests that a launcher is made of. This is the one file that names the SDK of Lambda.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, State};
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::error::Refusal;
use crate::{Error, Ramp, Remedy};

/// Longest payload of an asynchronous invocation, in bytes.
const PAYLOAD_MAX: usize = 1 << 20;

/// Requests that are under way at once.
const AT_ONCE: usize = 32;

/// A request that is not answered for this long is tried again.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Wait before the second attempt; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A published version of a function, as Lambda describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Name of the function.
    pub function: String,
    /// The version's number.
    pub version: String,
    /// Memory of an environment, in MB.
    pub memory_mb: u32,
    /// Longest time of an invocation.
    pub timeout: Duration,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Names of the variables that are set.
    pub variables: Vec<String>,
    /// Whether it runs in a network of the account.
    pub in_vpc: bool,
}

/// What a function answered to a call that waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The bytes.
    pub payload: Vec<u8>,
    /// How it failed, when it did.
    pub failed: Option<String>,
}

/// How far an invocation has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Lambda has not taken it yet.
    Asking,
    /// It begins as soon as there is an environment.
    Accepted(Instant),
    /// It was refused, for good or for too long.
    Failed(Error),
}

/// An asynchronous invocation. Nothing is known of what becomes of it.
#[derive(Clone, Debug)]
pub struct Invocation(Arc<Mutex<Progress>>);

impl Invocation {
    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The way to Lambda in one region.
#[derive(Debug)]
pub struct Functions {
    client: Client,
    gate: Arc<Gate>,
    deadline: Duration,
    runtime: Runtime,
}

/// Lets invocations begin.
#[derive(Debug)]
struct Gate {
    at_once: Semaphore,
    ramp: Mutex<Ramp>,
    since: Instant,
}

impl Gate {
    async fn wait(&self) {
        let wait = self.ramp.lock().unwrap_or_else(PoisonError::into_inner).take(self.since.elapsed());
        sleep(wait).await;
    }
}

impl Functions {
    /// The way to Lambda in `region`, or in that of the environment or profile. What is refused for now is tried again until
    /// `deadline`. Nothing is asked yet.
    ///
    /// # Errors
    /// When there is no region, or the system refuses a thread.
    pub fn new(region: Option<&str>, deadline: Duration) -> Result<Self, Error> {
        let internal = |e: std::io::Error| Error::Internal { cause: format!("no thread for requests: {e}") };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("lambda").enable_all().build();
        let runtime = runtime.map_err(internal)?;
        let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        let loaded = runtime.block_on(loader.load());
        if loaded.region().is_none() {
            return Err(Error::NoCredentials { cause: "no region is known".to_owned() });
        }
        let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(5)).read_timeout(ATTEMPT).build();
        let config = aws_sdk_lambda::config::Builder::from(&loaded)
            // Attempts are counted and classified here, once.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        let gate = Gate {
            at_once: Semaphore::new(AT_ONCE),
            ramp: Mutex::new(Ramp::new(Ramp::BURST, Ramp::PER_SECOND)),
            since: Instant::now(),
        };
        Ok(Self { client: Client::from_conf(config), gate: Arc::new(gate), deadline, runtime })
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.client.config().region().map_or("", |region| region.as_ref())
    }

    /// The published version that `name` means: `function`, of which the newest is taken, or `function:version` or
    /// `function:alias`.
    ///
    /// # Errors
    /// When there is none, it is not active, or Lambda refuses.
    pub fn version(&self, name: &str) -> Result<Version, Error> {
        let (function, qualifier) = name.split_once(':').map_or((name, None), |(f, q)| (f, Some(q.to_owned())));
        let deadline = self.deadline;
        self.runtime.block_on(async {
            let qualifier = match qualifier {
                Some(qualifier) => qualifier,
                None => again(deadline, || self.newest(function)).await?,
            };
            again(deadline, || self.describe(function, &qualifier)).await
        })
    }

    /// The number of the newest published version.
    async fn newest(&self, function: &str) -> Result<String, Error> {
        let mut pages = self.client.list_versions_by_function().function_name(function).into_paginator().send();
        let mut newest = None;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| failure("lambda:ListVersionsByFunction", function, &e))?;
            let numbers = page.versions().iter().filter_map(|v| v.version()?.parse::<u64>().ok());
            newest = newest.max(numbers.max());
        }
        newest.map(|number| number.to_string()).ok_or_else(|| Error::NoVersion { function: function.to_owned() })
    }

    async fn describe(&self, function: &str, qualifier: &str) -> Result<Version, Error> {
        let asked = self.client.get_function_configuration().function_name(function).qualifier(qualifier).send().await;
        let named = format!("{function}:{qualifier}");
        let found = asked.map_err(|e| failure("lambda:GetFunctionConfiguration", &named, &e))?;
        let version = found.version().unwrap_or(qualifier).to_owned();
        if version == "$LATEST" {
            // What it is may change while a run goes on.
            return Err(Error::NoVersion { function: function.to_owned() });
        }
        match found.state() {
            None | Some(State::Active | State::Inactive) => {}
            Some(state) => {
                let (function, state) = (function.to_owned(), state.as_str().to_lowercase());
                return Err(Error::NotActive { function, version, state });
            }
        }
        let variables = found.environment().and_then(|e| e.variables());
        let mut variables: Vec<String> = variables.into_iter().flatten().map(|(name, _)| name.clone()).collect();
        variables.sort_unstable();
        Ok(Version {
            function: function.to_owned(),
            version,
            memory_mb: found.memory_size().and_then(|mb| mb.try_into().ok()).unwrap_or(0),
            timeout: Duration::from_secs(found.timeout().and_then(|s| s.try_into().ok()).unwrap_or(0)),
            architecture: found.architectures().first().map_or("x86_64", |a| a.as_str()).to_owned(),
            variables,
            in_vpc: found.vpc_config().is_some_and(|vpc| !vpc.subnet_ids().is_empty()),
        })
    }

    /// How many environments `function` may have at once: those reserved for it, else those that the account has left.
    ///
    /// # Errors
    /// When Lambda refuses.
    pub fn concurrency(&self, function: &str) -> Result<u32, Error> {
        self.runtime.block_on(again(self.deadline, || async {
            let reserved = self.client.get_function_concurrency().function_name(function).send().await;
            let reserved = reserved.map_err(|e| failure("lambda:GetFunctionConcurrency", function, &e))?;
            if let Some(reserved) = reserved.reserved_concurrent_executions() {
                return Ok(reserved.try_into().unwrap_or(0));
            }
            let account = self.client.get_account_settings().send().await;
            let account = account.map_err(|e| failure("lambda:GetAccountSettings", function, &e))?;
            let limit = account.account_limit();
            let left = limit.map_or(0, |l| l.unreserved_concurrent_executions().unwrap_or(l.concurrent_executions()));
            Ok(left.try_into().unwrap_or(0))
        }))
    }

    /// How often Lambda itself invokes `version` again after a failed asynchronous invocation; 2 unless it was set, which each
    /// version needs anew.
    ///
    /// # Errors
    /// When Lambda refuses.
    pub fn retries(&self, version: &Version) -> Result<u32, Error> {
        let Version { function, version, .. } = version;
        self.runtime.block_on(again(self.deadline, || async {
            let request = self.client.get_function_event_invoke_config().function_name(function).qualifier(version);
            let asked = request.send().await;
            match asked {
                Ok(found) => Ok(found.maximum_retry_attempts().and_then(|n| n.try_into().ok()).unwrap_or(2)),
                Err(error) => match failure("lambda:GetFunctionEventInvokeConfig", function, &error) {
                    Error::NoFunction { .. } => Ok(2),
                    other => Err(other),
                },
            }
        }))
    }

    /// Invokes `version` asynchronously, as soon as the function may grow.
    ///
    /// # Errors
    /// When the payload is too large.
    pub fn invoke(&self, version: &Version, payload: Vec<u8>) -> Result<Invocation, Error> {
        if payload.len() > PAYLOAD_MAX {
            return Err(Error::TooLarge { bytes: payload.len(), limit: PAYLOAD_MAX });
        }
        let invocation = Invocation(Arc::new(Mutex::new(Progress::Asking)));
        let progress = Arc::clone(&invocation.0);
        let (client, gate, deadline) = (self.client.clone(), Arc::clone(&self.gate), self.deadline);
        let Version { function, version, .. } = version.clone();
        self.runtime.spawn(async move {
            gate.wait().await;
            let invoke = || async {
                let _turn = gate.at_once.acquire().await;
                let request = client.invoke().function_name(&function).qualifier(&version);
                let request = request.invocation_type(InvocationType::Event).payload(Blob::new(payload.clone()));
                let asked = request.send().await;
                asked.map_err(|e| failure("lambda:InvokeFunction", &format!("{function}:{version}"), &e))
            };
            let came = match again(deadline, invoke).await {
                Ok(_) => Progress::Accepted(Instant::now()),
                Err(error) => Progress::Failed(error),
            };
            *progress.lock().unwrap_or_else(PoisonError::into_inner) = came;
        });
        Ok(invocation)
    }

    /// Invokes `version` and waits for its answer.
    ///
    /// # Errors
    /// When Lambda refuses. A failure of the function itself is in the answer.
    pub fn call(&self, version: &Version, payload: &[u8]) -> Result<Answer, Error> {
        let Version { function, version, .. } = version;
        self.runtime.block_on(again(self.deadline, || async {
            let request = self.client.invoke().function_name(function).qualifier(version);
            let asked = request.payload(Blob::new(payload)).send().await;
            let answer = asked.map_err(|e| failure("lambda:InvokeFunction", &format!("{function}:{version}"), &e))?;
            Ok(Answer {
                payload: answer.payload().map(|blob| blob.as_ref().to_vec()).unwrap_or_default(),
                failed: answer.function_error().map(str::to_owned),
            })
        }))
    }
}

/// Tries until it succeeds, fails for good, or `deadline` is over.
async fn again<T, F: Future<Output = Result<T, Error>>>(
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error> {
    let end = Instant::now() + deadline;
    let mut pause = PAUSE;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let wait = match error.remedy() {
            Remedy::Permanent => return Err(error),
            Remedy::Throttled(Some(wait)) => wait.max(pause),
            Remedy::Throttled(None) | Remedy::Transient => pause,
        };
        if Instant::now() + wait >= end {
            return Err(error);
        }
        sleep(wait).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn failure<E: ProvideErrorMetadata + std::error::Error + 'static>(
    action: &'static str,
    function: &str,
    error: &SdkError<E, HttpResponse>,
) -> Error {
    let causes = || std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let words = || {
        let mut words: Vec<String> = causes().map(ToString::to_string).collect();
        words.dedup();
        words.join(": ")
    };
    // Not the connection, although the SDK says so of both.
    let by_credentials = || causes().any(|cause| cause.is::<CredentialsError>());
    match error {
        SdkError::ServiceError(refused) => {
            let (raw, said) = (refused.raw(), refused.err());
            let refusal = Refusal {
                status: raw.status().as_u16(),
                code: said.code().unwrap_or_default(),
                message: said.message().unwrap_or_default(),
                retry_after: raw.headers().get("retry-after"),
            };
            Error::refused(action, function, &refusal)
        }
        SdkError::ConstructionFailure(_) => Error::NoCredentials { cause: words() },
        SdkError::DispatchFailure(_) if by_credentials() => Error::NoCredentials { cause: words() },
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            Error::Unreachable { cause: words() }
        }
        _ => Error::Internal { cause: words() },
    }
}
