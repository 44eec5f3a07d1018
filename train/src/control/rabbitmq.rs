//! The control plane over RabbitMQ: a queue for each life of a party, and one fanout exchange that all worker queues are bound to.
//!
//! Everything in the broker is soft: nothing is durable, queues that nobody reads go away after the run's expiry, and the exchange
//! with the last of them. A lost connection is made again here, with queues and consumers, as lapin's own recovery is not relied on.
//! A message is confirmed by the broker before a call that sent it returns, and acknowledged once [`Mailbox::receive`] has handed it over.
//!
//! One connection a process, and lapin has one thread for it. There is one publication at a time, since lapin cannot always tell which
//! one of several a returned message belongs to. A call that got no answer ends its connection by its socket: lapin would wait for ever.

mod failure;
mod link;
mod mailbox;
mod names;
mod outbox;
mod url;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use schemas::exit::ErrorKind;
use schemas::message::{Address, Envelope, Party};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::failure::Failure;
use self::link::{Link, lost};
use self::mailbox::Subscription;
use self::names::Names;
use self::outbox::Outbox;
pub use self::url::{AmqpUrl, AmqpUrlError};
use super::{ControlError, ControlPlane, Mailbox, wire};
use crate::service::ServiceError;

/// Messages that a mailbox is sent before it acknowledges.
const PREFETCH: u16 = 64;
/// What a queue holds before it drops its oldest messages: one that nobody reads must not take the broker's memory.
const QUEUE_BYTES: i64 = 64 << 20;
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
    /// There until the end.
    outbox: Option<Outbox>,
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
        let outbox = Some(Outbox::open(&shared));
        Ok(Self { shared, outbox })
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
        let subscribed = self.shared.call(async |link| self.shared.subscribe(link, address).await);
        let subscription = subscribed.map_err(|error| match error.problem.contains(failure::IN_USE) {
            true => ControlError::Taken { address },
            false => error.into(),
        })?;
        Ok(mailbox::open(&self.shared, address, subscription))
    }

    fn send(&self, to: Address, envelope: &Envelope) -> Result<(), ControlError> {
        let body = self.shared.encode(envelope)?;
        let queue = self.shared.names.queue(to);
        let routed = self.shared.handle.block_on(self.shared.deliver(&queue, &body))?;
        if routed { Ok(()) } else { Err(ControlError::NoMailbox { address: to }) }
    }

    fn hand_over(&self, to: Address, envelope: &Envelope) -> Result<(), ControlError> {
        let body = self.shared.encode(envelope)?;
        Ok(self.outbox.as_ref().map_or(Ok(()), |outbox| outbox.hand_over(self.shared.names.queue(to), body))?)
    }

    fn broadcast(&self, envelope: &Envelope) -> Result<(), ControlError> {
        let body = self.shared.encode(envelope)?;
        let exchange = self.shared.names.exchange();
        Ok(self.shared.call(async |link| link.announce(&exchange, &body).await)?)
    }
}

impl Drop for RabbitControl {
    fn drop(&mut self) {
        // In asynchronous code the connection goes with its last user, by its socket.
        if Handle::try_current().is_ok() {
            return;
        }
        self.shared.handle.block_on(async {
            if let Some(outbox) = self.outbox.take() {
                outbox.close().await;
            }
            // So it does with mailboxes open.
            if Arc::strong_count(&self.shared) == 1
                && let Ok(Some(link)) = timeout(CLOSE_LIMIT, self.shared.link.lock()).await.map(|mut held| held.take())
            {
                let _ = timeout(CLOSE_LIMIT, link.connection.close(200, "OK".into())).await;
            }
        });
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
        self.handle.block_on(async {
            let mut attempts = Attempts::begin(self);
            loop {
                let attempt = async {
                    let link = self.link(attempts.until).await?;
                    link.within(attempts.until, act(&link)).await
                };
                match attempt.await {
                    Ok(done) => return Ok(done),
                    Err(failure) => attempts.pause(failure).await?,
                }
            }
        })
    }

    /// Sends to a queue; whether it is there.
    async fn deliver(&self, queue: &str, body: &[u8]) -> Result<bool, ServiceError> {
        let mut attempts = Attempts::begin(self);
        loop {
            let attempt = async {
                let link = self.link(attempts.until).await?;
                link.within(attempts.until, link.publish(queue, body)).await
            };
            match attempt.await {
                Ok(done) => return Ok(done),
                Err(failure) => attempts.pause(failure).await?,
            }
        }
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
        // Nobody misses what a watcher that is gone was to see.
        let auto_delete = matches!(address.party, Party::Watcher(_));
        let options = QueueDeclareOptions { auto_delete, ..Default::default() };
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
        // Two processes that live the same life would each get some of its messages. The broker may take a while to see that a connection
        // is gone.
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
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

/// The instant after `wait`, which may be longer than any clock goes.
fn after(wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    Instant::now() + wait.min(YEAR)
}

/// Attempts at one thing, until the deadline.
struct Attempts<'a> {
    shared: &'a Shared,
    until: Instant,
    pauses: Pauses,
    before: Option<Failure>,
}

impl<'a> Attempts<'a> {
    fn begin(shared: &'a Shared) -> Self {
        Self { shared, until: after(shared.deadline), pauses: Pauses::default(), before: None }
    }

    /// After a failure that may pass, waits before the next attempt.
    async fn pause(&mut self, failure: Failure) -> Result<(), ServiceError> {
        let pause = self.pauses.next();
        if failure.is_lasting() || Instant::now() + pause >= self.until {
            // Silence at the very end says less than what was heard before it.
            let told = self.before.take().filter(|_| failure == Failure::Silent).unwrap_or(failure);
            return Err(told.explain(&self.shared.url));
        }
        self.before = Some(failure);
        sleep(pause).await;
        Ok(())
    }
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
