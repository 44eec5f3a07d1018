//! Where one party receives: a task passes on what its queue delivers, and consumes it again when the connection was lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::{Acker, Channel, Consumer};
use schemas::message::{Address, Envelope};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::failure::Failure;
use super::link::lost;
use super::{CLOSE_LIMIT, CONNECT_LIMIT, PREFETCH, Pauses, Shared, after};
use crate::control::{ControlError, Mailbox, wire};
use crate::service::ServiceError;

/// Messages that are acknowledged together: each acknowledgement costs client and broker as much as a message. Well below [`PREFETCH`].
const ACKNOWLEDGED_AT_ONCE: usize = 16;

/// A message is acknowledged after this long at the latest.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

/// A consumer of a queue. Its channel has no other.
pub(super) struct Subscription {
    pub(super) channel: Channel,
    pub(super) consumer: Consumer,
}

/// The mailbox of `address`, whose queue has `subscription`.
pub(super) fn open(shared: &Arc<Shared>, address: Address, subscription: Subscription) -> Box<dyn Mailbox> {
    let (deliveries, received) = mpsc::channel(usize::from(PREFETCH));
    let (acknowledged, acks) = mpsc::unbounded_channel();
    let (trouble, seen) = watch::channel(None);
    let (ending, ended) = std::sync::mpsc::channel();
    let keeper = Keeper { shared: Arc::clone(shared), address, deliveries, acks, trouble, _ending: ending };
    let task = shared.handle.spawn(keeper.run(subscription));
    let (shared, acknowledged) = (Arc::clone(shared), Some(acknowledged));
    Box::new(RabbitMailbox { shared, received, acknowledged, trouble: seen, ended, task })
}

/// A mailbox is cut off.
#[derive(Clone, Debug)]
struct Trouble {
    since: Instant,
    error: ServiceError,
    lasting: bool,
}

/// What was handed over and is not acknowledged yet: one acknowledgement stands for all before it.
struct Pending {
    last: Option<Acker>,
    n: usize,
    since: Instant,
}

impl Default for Pending {
    fn default() -> Self {
        Self { last: None, n: 0, since: Instant::now() }
    }
}

impl Pending {
    fn add(&mut self, acker: Acker) {
        if self.n == 0 {
            self.since = Instant::now();
        }
        self.n += 1;
        self.last = Some(acker);
    }

    /// Without an acknowledgement messages come again, which is allowed.
    async fn acknowledge(&mut self) {
        self.n = 0;
        if let Some(last) = self.last.take() {
            let _ = timeout(CLOSE_LIMIT, last.ack(BasicAckOptions { multiple: true })).await;
        }
    }
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
        let mut pending = Pending::default();
        loop {
            tokio::select! {
                biased;
                acker = self.acks.recv() => {
                    let Some(acker) = acker else {
                        pending.acknowledge().await;
                        let _ = timeout(CLOSE_LIMIT, subscription.channel.close(200, "OK".into())).await;
                        return None;
                    };
                    pending.add(acker);
                    if pending.n == ACKNOWLEDGED_AT_ONCE {
                        pending.acknowledge().await;
                    }
                }
                delivery = subscription.consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        // Without a receiver there are no acknowledgements either, which ends the loop.
                        let _ = self.deliveries.send(delivery).await;
                    }
                    Some(Err(error)) => return Some(lost(error)),
                    None => return Some(Failure::Lost("the broker ended the consumer".to_owned())),
                },
                () = sleep_until(pending.since + ACKNOWLEDGED_WITHIN), if pending.n > 0 => pending.acknowledge().await,
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
