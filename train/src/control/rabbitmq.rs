//! The control plane over RabbitMQ: a queue for each life of a party, and one fanout exchange that all worker queues are bound to.
//!
//! Everything in the broker is soft: nothing is durable, queues that nobody reads go away after the run's expiry, and the exchange
//! with the last of them. A lost connection is made again here, with queues and consumers, as lapin's own recovery is not relied on.
//! A message is confirmed by the broker before a call that sent it returns, and acknowledged once [`Mailbox::receive`] has handed it over.
//!
//! One connection a process, and lapin has one thread for it. There is one publication at a time, since lapin cannot always tell which
//! one of several a returned message belongs to. A call that got no answer ends its connection by its socket: lapin would wait for ever.

mod failure;
mod names;
mod url;

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    Acker, AsyncTcpStream, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Event,
    ExchangeKind,
};
use schemas::exit::ErrorKind;
use schemas::message::{Address, Envelope, Party};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use self::failure::Failure;
use self::names::Names;
pub use self::url::{AmqpUrl, AmqpUrlError};
use super::{ControlError, ControlPlane, Mailbox, wire};
use crate::service::ServiceError;

/// Seconds between signs of life. Who is silent for two of these is taken for dead.
const HEARTBEAT: u16 = 10;
/// Messages that a mailbox is sent before it acknowledges.
const PREFETCH: u16 = 64;
/// What a queue holds before it drops its oldest messages: one that nobody reads must not take the broker's memory.
const QUEUE_BYTES: i64 = 64 << 20;
/// lapin makes two buffers of 32 frames for a connection.
const FRAME_BYTES: u32 = 32 << 10;
/// A connection that takes longer is tried again.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the end of a mailbox or of a connection waits for the broker.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Control messages through a RabbitMQ. Its calls block and must not be made from asynchronous code.
///
/// A party whose queue is gone, for instance after the broker was started again and before the party is back, has no mailbox either.
#[derive(Debug)]
pub struct RabbitControl {
    shared: Arc<Shared>,
}

impl RabbitControl {
    /// Connects for `run`, of which queues that nobody reads are gone after `expiry`. Each later call takes `deadline` at most.
    ///
    /// # Errors
    /// When the broker cannot be reached in time or refuses.
    pub fn connect(
        handle: Handle,
        url: &AmqpUrl,
        run: &str,
        expiry: Duration,
        deadline: Duration,
    ) -> Result<Self, ServiceError> {
        let names = Names::of(run).ok_or_else(|| ServiceError {
            place: url.to_string(),
            problem: format!("a run's name of {} bytes cannot be part of a queue's name", run.len()),
            kind: ErrorKind::Config,
            fix: format!("give the run a name of 1 to {} bytes", Names::RUN_MAX),
        })?;
        let shared = Arc::new(Shared {
            handle,
            url: url.clone(),
            names,
            expiry,
            deadline,
            link: tokio::sync::Mutex::new(None),
            ended: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        shared.call(async |_| Ok(()))?;
        Ok(Self { shared })
    }

    /// How many messages came that are none, and were dropped.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Ends the run in the broker: deletes the queues of `addresses` and the exchange. Those that are not there are fine.
    ///
    /// Mailboxes that are still open receive nothing more.
    ///
    /// # Errors
    /// When the broker cannot be reached in time or refuses.
    pub fn delete_all(&self, addresses: &[Address]) -> Result<(), ServiceError> {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.call(async |link| {
            let channel = link.connection.create_channel().await.map_err(lost)?;
            for &address in addresses {
                let queue = self.shared.names.queue(address);
                channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.map_err(lost)?;
            }
            let exchange = self.shared.names.exchange();
            channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.map_err(lost)?;
            channel.close(200, "OK".into()).await.map_err(lost)
        })
    }
}

impl ControlPlane for RabbitControl {
    fn open(&self, address: Address) -> Result<Box<dyn Mailbox>, ControlError> {
        let subscription = self.shared.call(async |link| self.shared.subscribe(link, address).await)?;
        let (deliveries, received) = mpsc::channel(usize::from(PREFETCH));
        let (acknowledged, acks) = mpsc::unbounded_channel();
        let (trouble, seen) = watch::channel(None);
        let (ending, ended) = std::sync::mpsc::channel();
        let shared = Arc::clone(&self.shared);
        let keeper = Keeper { shared: Arc::clone(&shared), address, deliveries, acks, trouble, _ending: ending };
        let task = shared.handle.spawn(keeper.run(subscription));
        Ok(Box::new(RabbitMailbox { shared, received, acknowledged: Some(acknowledged), trouble: seen, ended, task }))
    }

    fn send(&self, to: Address, envelope: &Envelope) -> Result<(), ControlError> {
        let body = self.shared.encode(envelope)?;
        let queue = self.shared.names.queue(to);
        let routed = self.shared.call(async |link| link.publish(&queue, &body).await)?;
        if routed { Ok(()) } else { Err(ControlError::NoMailbox { address: to }) }
    }

    fn broadcast(&self, envelope: &Envelope) -> Result<(), ControlError> {
        let body = self.shared.encode(envelope)?;
        let exchange = self.shared.names.exchange();
        Ok(self.shared.call(async |link| link.announce(&exchange, &body).await)?)
    }
}

impl Drop for RabbitControl {
    fn drop(&mut self) {
        // With mailboxes open or in asynchronous code the connection goes with its last user, by its socket.
        if Arc::strong_count(&self.shared) == 1 && Handle::try_current().is_err() {
            self.shared.handle.block_on(async {
                if let Ok(Some(link)) = timeout(CLOSE_LIMIT, self.shared.link.lock()).await.map(|mut held| held.take())
                {
                    let _ = timeout(CLOSE_LIMIT, link.connection.close(200, "OK".into())).await;
                }
            });
        }
    }
}

/// What the control plane and its mailboxes share.
#[derive(Debug)]
struct Shared {
    handle: Handle,
    url: AmqpUrl,
    names: Names,
    expiry: Duration,
    deadline: Duration,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    ended: AtomicBool,
    refused: AtomicU64,
}

impl Shared {
    /// Does `act` on a connection, again on another one while its failures may pass, until the deadline.
    fn call<T>(&self, act: impl AsyncFn(&Link) -> Result<T, Failure>) -> Result<T, ServiceError> {
        let until = after(self.deadline);
        self.handle.block_on(async {
            let (mut pauses, mut before) = (Pauses::default(), None);
            loop {
                let attempt = async {
                    let link = self.link(until).await?;
                    link.within(until, act(&link)).await
                };
                let failure = match attempt.await {
                    Ok(done) => return Ok(done),
                    Err(failure) => failure,
                };
                let pause = pauses.next();
                if failure.is_lasting() || Instant::now() + pause >= until {
                    // Silence at the very end says less than what was heard before it.
                    let told = before.filter(|_| failure == Failure::Silent).unwrap_or(failure);
                    return Err(told.explain(&self.url));
                }
                before = Some(failure);
                sleep(pause).await;
            }
        })
    }

    /// The connection, which is made when there is none.
    async fn link(&self, until: Instant) -> Result<Arc<Link>, Failure> {
        let connected = async {
            let mut held = self.link.lock().await;
            if let Some(link) = held.as_ref().filter(|link| link.is_open()) {
                return Ok(Arc::clone(link));
            }
            *held = None;
            let made = timeout(CONNECT_LIMIT, Link::connect(&self.url)).await.unwrap_or(Err(Failure::Silent))?;
            Ok(Arc::clone(held.insert(Arc::new(made))))
        };
        timeout_at(until, connected).await.unwrap_or(Err(Failure::Silent))
    }

    /// Declares the queue of `address` and consumes it.
    async fn subscribe(&self, link: &Link, address: Address) -> Result<Subscription, Failure> {
        let channel = link.connection.create_channel().await.map_err(lost)?;
        let queue = self.names.queue(address);
        let expiry = i64::try_from(self.expiry.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::from(u32::MAX));
        let mut arguments = FieldTable::default();
        for (name, value) in [("x-expires", expiry), ("x-message-ttl", expiry), ("x-max-length-bytes", QUEUE_BYTES)] {
            arguments.insert(name.into(), AMQPValue::LongLongInt(value));
        }
        let options = QueueDeclareOptions::default();
        channel.queue_declare(queue.as_str().into(), options, arguments).await.map_err(lost)?;
        if matches!(address.party, Party::Worker(_)) {
            let exchange = self.names.exchange();
            let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
            let declared = channel.exchange_declare(
                exchange.as_str().into(),
                ExchangeKind::Fanout,
                options,
                FieldTable::default(),
            );
            declared.await.map_err(lost)?;
            let (queue, options) = (queue.as_str().into(), QueueBindOptions::default());
            channel
                .queue_bind(queue, exchange.into(), "".into(), options, FieldTable::default())
                .await
                .map_err(lost)?;
        }
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(lost)?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        Ok(Subscription { consumer: consumer.await.map_err(lost)?, channel })
    }

    fn encode(&self, envelope: &Envelope) -> Result<Vec<u8>, ServiceError> {
        wire::encode(envelope).map_err(|error| ServiceError {
            place: self.url.to_string(),
            problem: error.to_string(),
            kind: ErrorKind::Internal,
            fix: "please report it".to_owned(),
        })
    }
}

/// A connection and its channels for sending.
struct Link {
    connection: Connection,
    /// For messages to one queue, which are returned when there is none.
    publisher: tokio::sync::Mutex<Channel>,
    /// For messages to the exchange: the broker closes it when there is no exchange.
    announcer: tokio::sync::Mutex<Option<Channel>>,
    events: Mutex<BoxStream<'static, Event>>,
    socket: Cut,
}

impl Link {
    async fn connect(url: &AmqpUrl) -> Result<Self, Failure> {
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

    fn is_open(&self) -> bool {
        !self.socket.0.state().cut && self.connection.status().connected()
    }

    /// Does `act`, which has until `until`; a failure that concerns the connection ends it.
    async fn within<T>(&self, until: Instant, act: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
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
    async fn publish(&self, queue: &str, body: &[u8]) -> Result<bool, Failure> {
        let channel = self.publisher.lock().await;
        let sent = publish(&channel, "", queue, body).await;
        if sent.is_err() {
            // What became of the channel is not known.
            self.socket.0.cut();
        }
        sent
    }

    /// Sends to the exchange. It is there while a worker's queue is, so without it there is nobody to hear.
    async fn announce(&self, exchange: &str, body: &[u8]) -> Result<(), Failure> {
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
fn lost(error: lapin::Error) -> Failure {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(said) => {
            Failure::Refused { code: said.get_id(), text: said.get_message().to_string() }
        }
        _ => Failure::Lost(error.to_string()),
    }
}

/// The instant after `wait`, which may be longer than any clock goes.
fn after(wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    Instant::now() + wait.min(YEAR)
}

/// Pauses between attempts, each twice as long up to a second.
#[derive(Debug, Default)]
struct Pauses(u32);

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(20 << self.0.min(6)).min(Duration::from_secs(1));
        self.0 += 1;
        pause
    }
}

/// A consumer of a queue. Its channel has no other.
struct Subscription {
    channel: Channel,
    consumer: Consumer,
}

/// A mailbox is cut off.
#[derive(Clone, Debug)]
struct Trouble {
    since: Instant,
    error: ServiceError,
    lasting: bool,
}

/// Passes on what a queue delivers, and consumes it again when the consumer died.
struct Keeper {
    shared: Arc<Shared>,
    address: Address,
    deliveries: mpsc::Sender<Delivery>,
    acks: mpsc::UnboundedReceiver<Acker>,
    trouble: watch::Sender<Option<Trouble>>,
    /// Goes with the keeper, for whom waits for its end.
    _ending: std::sync::mpsc::Sender<()>,
}

impl Keeper {
    async fn run(mut self, mut subscription: Subscription) {
        while let Some(failure) = self.pass_on(&mut subscription).await {
            match self.subscribe_again(failure).await {
                Some(again) => subscription = again,
                None => return,
            }
        }
    }

    /// Why there are no more deliveries, or `None` when nobody wants them.
    async fn pass_on(&mut self, subscription: &mut Subscription) -> Option<Failure> {
        loop {
            tokio::select! {
                biased;
                acker = self.acks.recv() => {
                    let Some(mut last) = acker else {
                        let _ = timeout(CLOSE_LIMIT, subscription.channel.close(200, "OK".into())).await;
                        return None;
                    };
                    while let Ok(next) = self.acks.try_recv() {
                        last = next;
                    }
                    // Without an acknowledgement the message comes again, which is allowed.
                    let _ = timeout(CLOSE_LIMIT, last.ack(BasicAckOptions { multiple: true })).await;
                }
                delivery = subscription.consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        // Without a receiver there are no acknowledgements either, which ends the loop.
                        let _ = self.deliveries.send(delivery).await;
                    }
                    Some(Err(error)) => return Some(lost(error)),
                    None => return Some(Failure::Lost("the broker ended the consumer".to_owned())),
                },
            }
        }
    }

    /// A new consumer, or `None` when that cannot be or nobody wants it.
    async fn subscribe_again(&self, mut failure: Failure) -> Option<Subscription> {
        let since = Instant::now();
        let mut pauses = Pauses::default();
        loop {
            let (error, lasting) = (failure.explain(&self.shared.url), failure.is_lasting());
            self.trouble.send_replace(Some(Trouble { since, error, lasting }));
            if lasting || self.shared.ended.load(Ordering::SeqCst) {
                return None;
            }
            let again = async {
                sleep(pauses.next()).await;
                let until = after(CONNECT_LIMIT);
                let link = self.shared.link(until).await?;
                link.within(until, self.shared.subscribe(&link, self.address)).await
            };
            let subscribed = tokio::select! {
                () = self.deliveries.closed() => return None,
                subscribed = again => subscribed,
            };
            match subscribed {
                Ok(subscription) => {
                    self.trouble.send_replace(None);
                    return Some(subscription);
                }
                Err(next) => failure = next,
            }
        }
    }
}

/// Where one party receives from RabbitMQ.
struct RabbitMailbox {
    shared: Arc<Shared>,
    received: mpsc::Receiver<Delivery>,
    acknowledged: Option<mpsc::UnboundedSender<Acker>>,
    trouble: watch::Receiver<Option<Trouble>>,
    ended: std::sync::mpsc::Receiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl RabbitMailbox {
    /// The next delivery, or `None` when none came until `until` and the broker was not away for too long.
    async fn next(&mut self, until: Instant) -> Result<Option<Delivery>, ServiceError> {
        loop {
            let trouble = self.trouble.borrow_and_update().clone();
            let limit = |t: &Trouble| if t.lasting { t.since } else { t.since + self.shared.deadline };
            let patience = trouble.as_ref().map_or(until, limit);
            tokio::select! {
                biased;
                Some(delivery) = self.received.recv() => return Ok(Some(delivery)),
                Ok(()) = self.trouble.changed() => continue,
                () = sleep_until(patience.min(until)) => {}
            }
            let ended = self.shared.ended.load(Ordering::SeqCst);
            if let Some(trouble) = trouble.filter(|_| !ended && Instant::now() >= patience) {
                return Err(trouble.error);
            }
            if Instant::now() >= until {
                return Ok(None);
            }
        }
    }
}

impl Mailbox for RabbitMailbox {
    fn receive(&mut self, wait: Duration) -> Result<Option<Envelope>, ControlError> {
        let until = after(wait);
        let handle = self.shared.handle.clone();
        while let Some(delivery) = handle.block_on(self.next(until))? {
            if let Some(acknowledged) = &self.acknowledged {
                let _ = acknowledged.send(delivery.acker);
            }
            match wire::decode(&delivery.data) {
                Ok(envelope) => return Ok(Some(envelope)),
                Err(_) => self.shared.refused.fetch_add(1, Ordering::Relaxed),
            };
        }
        Ok(None)
    }
}

impl Drop for RabbitMailbox {
    fn drop(&mut self) {
        self.received.close();
        self.acknowledged = None;
        // Then what was received is acknowledged, and what was not is back in the queue for the next one who opens it.
        let _ = self.ended.recv_timeout(2 * CLOSE_LIMIT);
        self.task.abort();
    }
}
