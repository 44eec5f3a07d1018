//! Pieces in Redis: one server, several independent ones that share the names between them, or a cluster.
//!
//! One connection a server, made when it is first needed and made again when it fails, over which all commands of a call are under
//! way at once. It is ours and not the client's connection manager, which keeps a connection whose answers no longer come, and
//! waits by rules of its own where a call here has one deadline. What is written expires; a run that is killed leaves nothing.

mod failure;
mod placement;
mod url;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use self::failure::{Cause, Failure, Remedy, Stage};
use self::placement::Placement;
pub use self::url::RedisUrl;
use super::{Name, Store};
use crate::service::ServiceError;

/// Commands that are under way at once on one connection.
const IN_FLIGHT: usize = 256;
/// A connection over which nothing comes for this long is given up.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Pause before the second attempt; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// A store in Redis.
pub struct RedisStore {
    handle: Handle,
    servers: Vec<Server>,
    placement: Placement,
    prefix: String,
    expiry: Duration,
    deadline: Duration,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&RedisUrl> = self.servers.iter().map(|server| &server.url).collect();
        f.debug_struct("RedisStore").field("servers", &urls).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects to all servers and sees whether they can be used. Keys are `prefix/name` and gone after `expiry`; each call, this
    /// one too, ends within about `deadline`.
    ///
    /// Must not be called, nor may the store's other calls be, from a task of `handle`'s runtime.
    ///
    /// # Errors
    /// `Config`, when there is no URL, a cluster beside other servers, or a server refuses user, password or TLS;
    /// `Unavailable`, when one cannot be reached in time.
    pub fn connect(
        handle: Handle,
        urls: &[RedisUrl],
        prefix: &str,
        expiry: Duration,
        deadline: Duration,
    ) -> Result<Self, ServiceError> {
        // TLS needs to know which cryptography to use; whoever was first has said so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut urls = urls.to_vec();
        let mut seen = std::collections::BTreeSet::new();
        urls.retain(|url| seen.insert(url.to_string()));
        let Some(first) = urls.first() else {
            return Err(refused("the list of Redis servers", "it is empty", "name at least one server"));
        };
        let clusters = urls.iter().filter(|url| url.cluster).count();
        if clusters > 0 && clusters < urls.len() {
            let fix = "name servers of one cluster, or independent servers";
            return Err(refused(&first.to_string(), "it is mixed with servers of another kind", fix));
        }
        let open = |urls: &[RedisUrl]| Server::new(urls, prefix, deadline);
        let servers =
            if clusters > 0 { vec![open(&urls)?] } else { urls.chunks(1).map(open).collect::<Result<_, _>>()? };
        let shown: Vec<String> = servers.iter().map(|server| server.url.to_string()).collect();
        let placement = Placement::new(shown.iter().map(String::as_str));
        let store = Self { handle, servers, placement, prefix: prefix.to_owned(), expiry, deadline };
        store.probe()?;
        Ok(store)
    }

    /// Asks each server for a key of ours that is never there: whatever keeps it from answering keeps it from being used.
    fn probe(&self) -> Result<(), ServiceError> {
        let end = Instant::now() + self.deadline;
        let command = |_| {
            let mut get = redis::cmd("GET");
            get.arg(format!("{}/", self.prefix));
            get
        };
        let probes = self.servers.iter().map(|server| server.ask(vec![0], &command, end));
        self.handle.block_on(try_join_all(probes)).map(drop)
    }

    fn key(&self, name: Name) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// The answers to `n` commands, each sent to the server that its key lies on.
    fn call(
        &self,
        keys: &[String],
        command: &(dyn Fn(usize) -> Cmd + Sync),
    ) -> Result<Vec<(usize, Value)>, ServiceError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let end = Instant::now() + self.deadline;
        let mut shares = vec![Vec::new(); self.servers.len()];
        for (position, key) in keys.iter().enumerate() {
            shares[self.placement.server(key)].push(position);
        }
        let shares = self.servers.iter().zip(shares).filter(|(_, share)| !share.is_empty());
        let asked = shares.map(|(server, share)| server.ask(share, command, end));
        Ok(self.handle.block_on(try_join_all(asked))?.concat())
    }
}

impl Store for RedisStore {
    fn put(&self, pieces: &[(Name, Bytes)]) -> Result<(), ServiceError> {
        let keys: Vec<String> = pieces.iter().map(|(name, _)| self.key(*name)).collect();
        let expiry = u64::try_from(self.expiry.as_millis()).unwrap_or(u64::MAX).max(1);
        let set = |position: usize| {
            let mut set = redis::cmd("SET");
            set.arg(&keys[position]).arg(&pieces[position].1[..]).arg("PX").arg(expiry);
            set
        };
        self.call(&keys, &set).map(drop)
    }

    fn get(&self, names: &[Name]) -> Result<Vec<Option<Bytes>>, ServiceError> {
        let keys: Vec<String> = names.iter().map(|name| self.key(*name)).collect();
        let get = |position: usize| {
            let mut get = redis::cmd("GET");
            get.arg(&keys[position]);
            get
        };
        let mut found = vec![None; names.len()];
        for (position, value) in self.call(&keys, &get)? {
            found[position] = match value {
                Value::BulkString(bytes) => Some(Bytes::from(bytes)),
                Value::Nil => None,
                _ => {
                    let server = &self.servers[self.placement.server(&keys[position])];
                    let fix = "see that it is Redis 6 or newer";
                    return Err(refused(&server.url.to_string(), "it answers GET with something else than bytes", fix));
                }
            };
        }
        Ok(found)
    }

    fn delete(&self, names: &[Name]) -> Result<(), ServiceError> {
        let keys: Vec<String> = names.iter().map(|name| self.key(*name)).collect();
        let unlink = |position: usize| {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(&keys[position]);
            unlink
        };
        self.call(&keys, &unlink).map(drop)
    }
}

fn refused(place: &str, problem: &str, fix: &str) -> ServiceError {
    let [place, problem, fix] = [place, problem, fix].map(str::to_owned);
    ServiceError { place, problem, kind: schemas::exit::ErrorKind::Config, fix }
}

/// A server, or a cluster as if it were one.
struct Server {
    url: RedisUrl,
    prefix: String,
    deadline: Duration,
    /// One, or for a cluster those that are named.
    clients: Vec<Client>,
    cluster: Option<ClusterClient>,
    /// Held while a connection is made, so that there is one.
    connection: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    /// How many connections there have been.
    number: u64,
    connection: Option<Connection>,
}

#[derive(Clone)]
enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        use redis::aio::ConnectionLike;
        match self {
            Self::Server(connection) => connection.send_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        }?
        .extract_error()
    }
}

impl Server {
    /// Of `urls`, of which there are several only for a cluster. Nothing is connected yet.
    fn new(urls: &[RedisUrl], prefix: &str, deadline: Duration) -> Result<Self, ServiceError> {
        let url = urls[0].clone();
        let failed = |error: RedisError| refused(&url.to_string(), &error.to_string(), "correct its URL");
        let infos: Vec<_> = urls.iter().map(info).collect::<Result<_, _>>().map_err(failed)?;
        let clients = infos.iter().cloned().map(Client::open).collect::<Result<_, _>>().map_err(failed)?;
        let cluster = url.cluster.then(|| {
            let attempt = ATTEMPT.min(deadline / 2);
            let builder = ClusterClient::builder(infos).connection_timeout(attempt).response_timeout(attempt);
            builder.tcp_settings(TcpSettings::default().set_nodelay(true)).build()
        });
        let cluster = cluster.transpose().map_err(failed)?;
        Ok(Self { url, prefix: prefix.to_owned(), deadline, clients, cluster, connection: Mutex::default() })
    }

    /// The answers to the commands at `positions`. Those that failed are sent again until `end`, or until one fails for good.
    async fn ask(
        &self,
        positions: Vec<usize>,
        command: &(dyn Fn(usize) -> Cmd + Sync),
        end: Instant,
    ) -> Result<Vec<(usize, Value)>, ServiceError> {
        let mut open = positions;
        let mut answered = Vec::with_capacity(open.len());
        let mut pause = PAUSE;
        loop {
            // A connection whose other end is gone without a word must not take all the time that there is.
            let attempt_end = end.min(Instant::now() + ATTEMPT.min(self.deadline / 2));
            let attempt = timeout_at(attempt_end, self.attempt(&open, command, &mut answered)).await;
            let failure = match attempt {
                Ok(Ok(())) => return Ok(answered),
                Ok(Err(failure)) => failure,
                Err(_) => self.silence(end).await,
            };
            if failure.remedy == Remedy::None || Instant::now() + pause >= end {
                return Err(failure.told(&self.url, self.deadline));
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
            let done: std::collections::HashSet<usize> = answered.iter().map(|(position, _)| *position).collect();
            open.retain(|position| !done.contains(position));
        }
    }

    /// Sends the commands once. What is answered is in `answered`, whatever happens to the rest.
    async fn attempt(
        &self,
        positions: &[usize],
        command: &(dyn Fn(usize) -> Cmd + Sync),
        answered: &mut Vec<(usize, Value)>,
    ) -> Result<(), Failure> {
        let (number, connection) = self.connection().await?;
        let sent = positions.iter().map(|&position| {
            let mut connection = connection.clone();
            async move { (position, connection.send(&command(position)).await) }
        });
        let mut answers = futures::stream::iter(sent).buffer_unordered(IN_FLIGHT);
        let mut failed = None;
        while let Some((position, answer)) = answers.next().await {
            match answer.map_err(|error| self.failure(cause(&error), Stage::Asking)) {
                Ok(value) => answered.push((position, value)),
                Err(failure) if failure.remedy == Remedy::Wait => failed = Some(failure),
                Err(failure) => {
                    if failure.remedy == Remedy::Reconnect {
                        self.forget(Some(number));
                    }
                    return Err(failure);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The connection, made if there is none, and its number.
    async fn connection(&self) -> Result<(u64, Connection), Failure> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((slot.number, connection.clone()));
        }
        let made = match &self.cluster {
            None => Connection::Server(self.open(&self.clients[0]).await?),
            Some(cluster) => self.open_cluster(cluster).await?,
        };
        slot.number += 1;
        slot.connection = Some(made.clone());
        Ok((slot.number, made))
    }

    /// A connection that something has been heard over: until then one to a TLS server looks as good as any.
    async fn open(&self, client: &Client) -> Result<MultiplexedConnection, Failure> {
        // Time is kept by the call.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let opened = async {
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            match connection.send_packed_command(&redis::cmd("PING")).await {
                // Who may not ask this may still do what matters.
                Err(error) if !matches!(cause(&error), Cause::Answer { .. }) => Err(error),
                _ => Ok(connection),
            }
        };
        match opened.await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                let mut cause = cause(&error);
                if !self.url.tls && matches!(&cause, Cause::Io { kind, .. } if closed(*kind)) && self.speaks(true).await
                {
                    cause = Cause::SpeaksTls;
                }
                Err(self.failure(cause, Stage::Connecting))
            }
        }
    }

    /// A cluster's client does not tell why it cannot connect; one of its servers does.
    async fn open_cluster(&self, cluster: &ClusterClient) -> Result<Connection, Failure> {
        let mut failed = None;
        for client in &self.clients {
            match self.open(client).await {
                Ok(connection) => {
                    let mut slots = redis::cmd("CLUSTER");
                    slots.arg("SLOTS");
                    let asked = Connection::Server(connection).send(&slots).await;
                    drop(asked.map_err(|error| self.failure(cause(&error), Stage::Connecting))?);
                    let connected = cluster.get_async_connection().await;
                    return connected
                        .map(Connection::Cluster)
                        .map_err(|error| self.failure(cause(&error), Stage::Asking));
                }
                Err(failure) => failed = Some(failure),
            }
        }
        Err(failed.unwrap_or_else(|| self.failure(Cause::Silence, Stage::Connecting)))
    }

    /// Gives up the connection over which nothing came, and tells why. Redis without TLS waits for the end of what it takes for a
    /// command.
    async fn silence(&self, end: Instant) -> Failure {
        let connected = self.connection.try_lock().is_ok_and(|slot| slot.connection.is_some());
        self.forget(None);
        let probe_end = end.min(Instant::now() + self.deadline / 4);
        let plain = self.url.tls && !connected && timeout_at(probe_end, self.speaks(false)).await == Ok(true);
        self.failure(if plain { Cause::SpeaksPlain } else { Cause::Silence }, Stage::Connecting)
    }

    /// Whether the server answers with, or without, TLS. It is not told the password.
    async fn speaks(&self, tls: bool) -> bool {
        let url = RedisUrl { tls, user: None, password: None, database: 0, ..self.url.clone() };
        let Ok(client) = info(&url).and_then(Client::open) else { return false };
        let asked =
            async { client.get_multiplexed_async_connection().await?.send_packed_command(&redis::cmd("PING")).await };
        match asked.await.map_err(|error| cause(&error)) {
            Ok(_) | Err(Cause::Answer { .. }) => true,
            Err(Cause::Io { kind: io::ErrorKind::InvalidData, text }) => tls && text.contains("certificate"),
            Err(_) => false,
        }
    }

    /// Gives the connection up, unless it is no longer the one of `number`.
    fn forget(&self, number: Option<u64>) {
        // When it is locked, another is being made.
        if let Ok(mut slot) = self.connection.try_lock()
            && number.is_none_or(|number| number == slot.number)
        {
            slot.connection = None;
        }
    }

    fn failure(&self, cause: Cause, stage: Stage) -> Failure {
        Failure::new(cause, stage, &self.url, &self.prefix)
    }
}

/// Whether a connection that was there ended.
fn closed(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn info(url: &RedisUrl) -> Result<redis::ConnectionInfo, RedisError> {
    let RedisUrl { host, port, .. } = url.clone();
    let address = match url.tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let info = address.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let mut settings = info.redis_settings().clone().set_db(url.database).set_skip_set_lib_name();
    if let Some(user) = &url.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &url.password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}

fn cause(error: &RedisError) -> Cause {
    use redis::ErrorKind;
    match error.kind() {
        ErrorKind::AuthenticationFailed => Cause::Login,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Cause::Protocol(error.to_string()),
        ErrorKind::Server(_) | ErrorKind::Extension => Cause::Answer {
            code: error.code().unwrap_or("ERR").to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
        },
        ErrorKind::Io => {
            let inner = std::error::Error::source(error)
                .and_then(|e| e.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
            match inner.and_then(|e| e.downcast_ref::<io::Error>()) {
                Some(io) => Cause::Io { kind: io.kind(), text: io.to_string() },
                None if inner.is_some() => Cause::Certificates(error.to_string()),
                None => Cause::Io { kind: io::ErrorKind::Other, text: error.to_string() },
            }
        }
        _ => Cause::Io { kind: io::ErrorKind::Other, text: error.to_string() },
    }
}
