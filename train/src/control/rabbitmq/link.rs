//! A connection to a broker: lapin's, made over a socket that is also held apart from it, to end what lapin would wait for for ever.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{AsyncTcpStream, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Event};
use tokio::time::{Instant, timeout, timeout_at};

use super::CONNECT_LIMIT;
use super::failure::{self, Failure};
use super::url::AmqpUrl;

/// Seconds between signs of life. Who is silent for two of these is taken for dead.
const HEARTBEAT: u16 = 10;
/// lapin makes two buffers of 32 frames for a connection.
const FRAME_BYTES: u32 = 32 << 10;

/// A connection and its channels for sending.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// For messages to one queue, which are returned when there is none.
    publisher: tokio::sync::Mutex<Channel>,
    /// For messages to the exchange: the broker closes it when there is no exchange.
    announcer: tokio::sync::Mutex<Option<Channel>>,
    events: Mutex<BoxStream<'static, Event>>,
    socket: Cut,
}

impl Link {
    pub(super) async fn connect(url: &AmqpUrl) -> Result<Self, Failure> {
        let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|error| Failure::Lookup(error.to_string()))?.collect();
        let trusted = url.authorities.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|error| Failure::Tls {
                problem: format!("cannot read {}: {error}", path.display()),
                lasting: true,
            })
        });
        let tls = OwnedTLSConfig { identity: None, cert_chain: trusted.transpose()? };
        let socket = Cut(Arc::default());
        let (held, host, over_tls) = (Arc::clone(&socket.0), url.host.clone(), url.tls);
        let runtime = lapin::runtime::default_runtime().map_err(lost)?;
        let reactor = runtime.clone();
        // It runs on lapin's thread, which outlives a caller who gave up; so it ends by itself.
        let open = async move |_, _| {
            let opened = async {
                let refused = |error: std::io::Error| Failure::Connect(error.to_string());
                let stream = AsyncTcpStream::connect(&reactor, addresses.clone()).await.map_err(refused)?;
                if let AsyncTcpStream::Plain(stream) = &stream {
                    held.hold(stream.get_ref().as_fd().try_clone_to_owned().map_err(refused)?.into())?;
                }
                if !over_tls {
                    return Ok(stream);
                }
                stream.into_tls(&host, tls.as_ref()).await.map_err(untrusted)
            };
            timeout(CONNECT_LIMIT, opened).await.unwrap_or(Err(Failure::Silent)).map_err(|failure| {
                let error = std::io::Error::other("the connection was not made");
                held.state().failure = Some(failure);
                error.into()
            })
        };
        let name = ConnectionProperties::default().with_connection_name("gristmill".into());
        let connection = Connection::connector(uri(url), runtime, open, name).await.map_err(|error| {
            let known = socket.0.state().failure.take();
            known.unwrap_or_else(|| handshake(error))
        })?;
        let events = Mutex::new(connection.events_listener().boxed());
        let publisher = tokio::sync::Mutex::new(confirming(&connection).await?);
        Ok(Self { connection, publisher, announcer: tokio::sync::Mutex::new(None), events, socket })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.socket.0.state().cut && self.connection.status().connected()
    }

    /// Does `act`, which has until `until`; a failure that concerns the connection ends it.
    pub(super) async fn within<T>(
        &self,
        until: Instant,
        act: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = timeout_at(until, act).await.unwrap_or_else(|_| Err(self.silence()));
        if done.as_ref().is_err_and(|failure| !failure.spares_the_connection()) {
            self.socket.0.cut();
        }
        done
    }

    /// Why there was no answer.
    fn silence(&self) -> Failure {
        if !self.connection.status().blocked() {
            return Failure::Silent;
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reason = String::new();
        while let Some(Some(event)) = events.next().now_or_never() {
            if let Event::ConnectionBlocked(told) = event {
                reason = told;
            }
        }
        Failure::Blocked(reason)
    }

    /// Sends to a queue; whether it is there.
    pub(super) async fn publish(&self, queue: &str, body: &[u8]) -> Result<bool, Failure> {
        let channel = self.publisher.lock().await;
        let sent = publish(&channel, "", queue, body).await;
        if sent.is_err() {
            // What became of the channel is not known.
            self.socket.0.cut();
        }
        sent
    }

    /// Sends to the exchange. It is there while a worker's queue is, so without it there is nobody to hear.
    pub(super) async fn announce(&self, exchange: &str, body: &[u8]) -> Result<(), Failure> {
        let mut held = self.announcer.lock().await;
        let channel = match held.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => confirming(&self.connection).await?,
        };
        match publish(&channel, exchange, "", body).await {
            Ok(_) => {
                *held = Some(channel);
                Ok(())
            }
            Err(Failure::Refused { code: failure::NOT_FOUND, .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// The socket of a connection, apart from lapin, and why lapin did not get it.
#[derive(Debug, Default)]
struct Socket(Mutex<SocketState>);

#[derive(Debug, Default)]
struct SocketState {
    stream: Option<TcpStream>,
    cut: bool,
    failure: Option<Failure>,
}

impl Socket {
    fn state(&self) -> MutexGuard<'_, SocketState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, stream: TcpStream) -> Result<(), Failure> {
        let mut state = self.state();
        if state.cut {
            return Err(Failure::Silent);
        }
        state.stream = Some(stream);
        Ok(())
    }

    /// Ends the connection, and with it lapin's thread and everything that waits for it.
    fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        if let Some(stream) = state.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A socket that ends with this value.
#[derive(Debug)]
struct Cut(Arc<Socket>);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// A channel whose messages the broker confirms.
async fn confirming(connection: &Connection) -> Result<Channel, Failure> {
    let channel = connection.create_channel().await.map_err(lost)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(lost)?;
    Ok(channel)
}

/// Sends a message and waits until the broker has it; whether a queue took it.
async fn publish(channel: &Channel, exchange: &str, key: &str, body: &[u8]) -> Result<bool, Failure> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, BasicProperties::default());
    match sent.await.map_err(lost)?.await.map_err(lost)? {
        Confirmation::Ack(returned) => Ok(returned.is_none()),
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(Failure::Declined),
    }
}

fn uri(url: &AmqpUrl) -> AMQPUri {
    let userinfo = AMQPUserInfo { username: url.user.clone(), password: url.password.clone() };
    AMQPUri {
        scheme: if url.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority { userinfo, host: url.host.clone(), port: url.port },
        vhost: url.vhost.clone(),
        query: AMQPQueryString { frame_max: Some(FRAME_BYTES), heartbeat: Some(HEARTBEAT), ..Default::default() },
    }
}

/// A failure of TLS. Certificates and protocols stay what they are, an ended connection does not.
fn untrusted(error: std::io::Error) -> Failure {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    let passing = [BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof];
    Failure::Tls { problem: error.to_string(), lasting: !passing.contains(&error.kind()) }
}

/// A failure before the connection is open.
fn handshake(error: lapin::Error) -> Failure {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(_) => lost(error),
        lapin::ErrorKind::ParsingError(_) => Failure::Foreign("its answer is no frame".to_owned()),
        lapin::ErrorKind::InvalidProtocolVersion(_) => Failure::Foreign(error.to_string()),
        _ => Failure::Closed(error.to_string()),
    }
}

/// A failure of an open connection.
pub(super) fn lost(error: lapin::Error) -> Failure {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(said) => {
            Failure::Refused { code: said.get_id(), text: said.get_message().to_string() }
        }
        _ => Failure::Lost(error.to_string()),
    }
}
