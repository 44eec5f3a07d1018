//! What `train doctor` looks at from two sides: here the client's checks of storage and messages, and what a function answers that is
//! invoked to look at its surroundings. Checks go on beside each other, and none waits for long.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use manifests::load;
use manifests::place::Place;
use schemas::exit::{ErrorKind, Explain};
use schemas::message::{Message, PROTOCOL, Party};
use schemas::report::CheckOutcome;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::control::{ControlError, ControlPlane, Mailbox};
use crate::error::Error;
use crate::exchange::store::Name;
use crate::job::{CHECKUP, Checkup, Event, understood};
use crate::plan::launch::{AMQP, ExchangeAt, REDIS, Servers};
use crate::plan::usage;
use crate::protocol::envelope;
use crate::servers::{Connections, FIRST_DEADLINE, store};
use crate::service::ServiceError;
use crate::{TOOL, join};

/// What came of a check, with the kind of the failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What came of it.
    pub outcome: CheckOutcome,
    /// What was found, in words.
    pub found: String,
    /// What to do about it, in words.
    pub fix: Option<String>,
    /// What kind of failure it is, when it failed.
    pub kind: Option<ErrorKind>,
}

impl Finding {
    /// As it should be.
    pub fn ok(found: impl Into<String>) -> Self {
        Self { outcome: CheckOutcome::Ok, found: found.into(), fix: None, kind: None }
    }

    /// A run works, perhaps not as it should.
    pub fn warn(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { outcome: CheckOutcome::Warn, found: found.into(), fix: Some(fix.into()), kind: None }
    }

    /// It could not be looked at.
    pub fn skipped(found: impl Into<String>) -> Self {
        Self { outcome: CheckOutcome::Skipped, found: found.into(), fix: None, kind: None }
    }

    /// A run would not work.
    pub fn fail(kind: ErrorKind, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { outcome: CheckOutcome::Fail, found: found.into(), fix: Some(fix.into()), kind: Some(kind) }
    }
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        Self { outcome: CheckOutcome::Fail, found: error.to_string(), fix: error.fix(), kind: Some(error.kind()) }
    }
}

impl From<Result<Self, Error>> for Finding {
    fn from(result: Result<Self, Error>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

/// What a function answers to a checkup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// `train` and its version.
    pub tool: String,
    /// The protocol that it speaks.
    pub protocol: u32,
    /// Its clock, in milliseconds since 1970.
    pub clock_ms: u64,
    /// Variables of its environment that are set, of those that it needs.
    pub variables: Vec<String>,
    /// The manifest.
    pub manifest: Finding,
    /// The run's place.
    pub run: Finding,
    /// Where gradients go.
    pub exchange: Finding,
    /// RabbitMQ.
    pub rabbitmq: Finding,
}

/// Does what a function is invoked for that has so much time `left`, and gives what it answers.
///
/// # Errors
/// As [`join::function`], or when the event was written by another version.
pub fn answer(event: &Event, left: Duration) -> Result<Value, Error> {
    match event {
        Event::Invitation(invitation) => join::function(invitation, left).map(|()| json!({ "done": true })),
        Event::Checkup(checkup) => serde_json::to_value(look(checkup, left)?).map_err(Error::internal),
    }
}

/// Longest time of a check beyond that of its servers.
const MARGIN: Duration = Duration::from_millis(500);

/// Looks at everything that a worker needs.
fn look(checkup: &Checkup, left: Duration) -> Result<Answer, Error> {
    understood(&checkup.format, CHECKUP)?;
    let clock_ms = milliseconds(SystemTime::now());
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let variables = [AMQP, REDIS].into_iter().filter(set).map(str::to_owned).collect();
    let limit = FIRST_DEADLINE.min(left.saturating_sub(3 * MARGIN));
    let (manifest, run, session) = (checkup.manifest.clone(), checkup.run.clone(), checkup.session.clone());
    let (exchange, listens) = (checkup.exchange.clone(), checkup.client_listens);
    let checks = [
        Beside::start(&checkup.manifest, limit, move || batch(&manifest)),
        Beside::start(&checkup.run, limit, {
            let session = session.clone();
            move || writable(&Place::parse(&run)?, "function", &session)
        }),
        Beside::start("where gradients go", limit, {
            let session = session.clone();
            move || match &exchange {
                Some(place) => gradients(&ExchangeAt::Storage(place.clone()), &session, limit),
                None => match std::env::var(REDIS) {
                    Ok(urls) => gradients(&ExchangeAt::Redis(urls), &session, limit),
                    Err(_) => Ok(Finding::skipped(format!("{REDIS} is not set"))),
                },
            }
        }),
        Beside::start("RabbitMQ", limit, move || match std::env::var(AMQP) {
            Ok(amqp) => meet(amqp, &session, listens, limit),
            Err(_) => Ok(Finding::skipped(format!("{AMQP} is not set"))),
        }),
    ];
    let [manifest, run, exchange, rabbitmq] = checks.map(Beside::end);
    Ok(Answer { tool: TOOL.to_owned(), protocol: PROTOCOL, clock_ms, variables, manifest, run, exchange, rabbitmq })
}

/// A time as milliseconds since 1970.
#[must_use]
pub fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A check on a thread of its own.
pub struct Beside {
    place: String,
    limit: Duration,
    found: mpsc::Receiver<Finding>,
    thread: std::io::Result<JoinHandle<()>>,
}

impl Beside {
    /// Begins `check`, of `place`; what is not found within `limit` is not waited for.
    pub fn start(
        place: &str,
        limit: Duration,
        check: impl FnOnce() -> Result<Finding, Error> + Send + 'static,
    ) -> Self {
        let (done, found) = mpsc::sync_channel(1);
        // Nobody waits for it any more when this fails.
        let work = move || drop(done.send(Finding::from(check())));
        let thread = thread::Builder::new().name("check".to_owned()).spawn(work);
        Self { place: place.to_owned(), limit, found, thread }
    }

    /// What it found.
    #[must_use]
    pub fn end(self) -> Finding {
        if let Err(error) = &self.thread {
            return Error::internal(format!("no thread for a check: {error}")).into();
        }
        self.found.recv_timeout(self.limit + MARGIN).unwrap_or_else(|_| {
            let seconds = self.limit.as_secs_f64();
            let fix = "see that it can be reached from there: the network, its subnets and security groups, the server's own rules";
            Finding::fail(ErrorKind::Unavailable, format!("{}: no answer within {seconds:.1} s", self.place), fix)
        })
    }
}

/// Reads the manifest.
///
/// # Errors
/// When it cannot be read or is none.
pub fn manifest(manifest: &str) -> Result<Finding, Error> {
    let shards = load::shards(manifest)?;
    let (rows, batches) = (shards.manifest.rows, shards.batches.len());
    Ok(Finding::ok(format!("{manifest}: {rows} rows in {batches} mini-batches")))
}

/// Reads the manifest, and its first mini-batch.
fn batch(manifest: &str) -> Result<Finding, Error> {
    let shards = load::shards(manifest)?;
    let Some(batch) = shards.batches.iter().next() else {
        return Err(usage(
            format!("{manifest}: it has no mini-batches"),
            "make one with `shard` from data that has some",
        ));
    };
    let bytes = load::batch(&shards.place, &batch, &shards.name)?;
    Ok(Finding::ok(format!("{manifest} and its first mini-batch, {} bytes", bytes.len())))
}

/// Writes a small object below `out` that `who` and `session` name, reads it and removes it. No two look at the same object, even
/// when several sessions check the same place at once.
///
/// # Errors
/// When one of these cannot be done.
pub fn writable(out: &Place, who: &str, session: &str) -> Result<Finding, Error> {
    let key = format!("{session}-{who}");
    let bytes = Bytes::from_static(b"train doctor");
    out.put(&key, bytes.clone())?;
    let read = out.get(&key);
    out.delete(&key)?;
    if read? == bytes {
        return Ok(Finding::ok(format!("{out} can be written, read and cleared")));
    }
    Err(Error::Unfit {
        place: out.show(&key),
        problem: "what was read is not what was written".to_owned(),
        fix: "see that nobody else writes there".to_owned(),
    })
}

/// Writes a small piece where gradients go, reads it and removes it.
fn gradients(at: &ExchangeAt, session: &str, limit: Duration) -> Result<Finding, Error> {
    let shown = at.shown()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(Error::internal)?;
    let store = store(at, runtime.handle().clone(), &format!("gristmill.{session}"), limit)?;
    let name = Name::Gradient { step: 0, slot: 0 };
    let bytes = Bytes::from_static(b"train doctor");
    store.put(&[(name, bytes.clone())])?;
    let read = store.get(&[name]);
    store.delete(&[name])?;
    if read?.first() == Some(&Some(bytes)) {
        return Ok(Finding::ok(format!("{shown} keeps what is written")));
    }
    Err(Error::Service(ServiceError {
        place: shown,
        problem: "what was written is not there".to_owned(),
        kind: ErrorKind::Unavailable,
        fix: "see that it has memory, and that nobody else clears it".to_owned(),
    }))
}

/// Connects to RabbitMQ as a worker does, and sends the client a message if it listens.
fn meet(amqp: String, session: &str, client_listens: bool, limit: Duration) -> Result<Finding, Error> {
    let servers = Servers { amqp, exchange: ExchangeAt::Storage(String::new()) };
    let place = servers.amqp_url()?.to_string();
    let connections = Connections::open(&servers, session, limit)?;
    // The same rights as a run needs: a mailbox, and messages to others.
    let me = Party::Supervisor.life(0);
    let mailbox = connections.control.open(me)?;
    let sent = match client_listens {
        true => {
            connections.control.send(Party::Client.life(0), &envelope(session, me, Message::Gone { failure: None }))
        }
        false => Ok(()),
    };
    drop(mailbox);
    // What cannot be removed goes away by itself.
    let _ = connections.control.delete_all(&[me]);
    match sent {
        Ok(()) if client_listens => Ok(Finding::ok(format!("{place}, where the client is too"))),
        Ok(()) => Ok(Finding::ok(place)),
        Err(ControlError::NoMailbox { .. }) => Err(Error::Unfit {
            place,
            problem: "the client is not there".to_owned(),
            fix: format!("give the function's {AMQP} and --amqp the same RabbitMQ and virtual host"),
        }),
        Err(error) => Err(error.into()),
    }
}

/// The client's side of RabbitMQ: a mailbox, in which the function's message is to arrive.
pub struct Post {
    connections: Connections,
    _mailbox: Box<dyn Mailbox>,
    /// What was found.
    pub place: String,
}

impl Post {
    /// Connects to the RabbitMQ of `servers`, in the session of a check.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub fn open(servers: &Servers, session: &str) -> Result<Self, Error> {
        let place = servers.amqp_url()?.to_string();
        let connections = Connections::open(servers, session, FIRST_DEADLINE)?;
        let mailbox = connections.control.open(Party::Client.life(0))?;
        Ok(Self { connections, _mailbox: mailbox, place })
    }

    /// Removes what is left of the check. What cannot be removed goes away by itself.
    pub fn close(self) {
        let _ = self.connections.control.delete_all(&[Party::Client.life(0)]);
    }
}
