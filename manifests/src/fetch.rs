//! Objects, or ranges of them, in a given order: several are under way at once, so that the time a remote place takes to answer
//! is hidden.
//!
//! What is fetched is checked against size and digest by the thread that uses it, which then has it in its processor's cache.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::executor::block_on;
use futures::future::{Either, select};
use futures::stream::{FuturesOrdered, StreamExt};
use schemas::manifest::Batch;

use crate::Error;
use crate::load;
use crate::place::Place;

/// How far fetching may be ahead of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Requests under way at once, at most.
    pub in_flight: NonZeroUsize,
    /// Bytes that are under way or wait to be used, at most; a single object may be larger.
    pub bytes: u64,
    /// Objects that are under way or wait to be used, at most, until somebody has to wait; each time that happens there may be
    /// twice as many. Few where not all that is wanted may be used: a request that nobody uses costs time and money all the same.
    pub at_first: NonZeroUsize,
}

impl Default for Ahead {
    /// For remote places: 16 requests hide 20 ms behind 1.25 ms of work for each object. All that is wanted will be used.
    fn default() -> Self {
        let in_flight = NonZeroUsize::new(16).expect("it is not 0");
        Self { in_flight, bytes: 64 << 20, at_first: NonZeroUsize::MAX }
    }
}

const TWO: NonZeroUsize = NonZeroUsize::new(2).expect("it is not 0");

/// Something that was fetched, or could not be.
#[derive(Debug)]
pub struct Fetched {
    /// Its number in the order.
    pub number: u64,
    /// What was wanted.
    pub batch: Batch,
    /// What came, unchecked: see [`Fetched::checked`].
    pub found: Result<Bytes, Error>,
    /// Time from request to answer.
    pub took: Duration,
}

impl Fetched {
    /// The bytes, checked against the size and digest that `named_by` records.
    ///
    /// # Errors
    /// As [`load::batch`].
    pub fn checked(self, place: &Place, named_by: &str) -> Result<Bytes, Error> {
        load::checked(place, &self.batch, self.found, named_by)
    }
}

/// Things wanted, in order.
type Wanted = Box<dyn Iterator<Item = Batch> + Send>;

/// Fetches things in the order they are wanted in. Several threads may take what comes.
///
/// A failure is handed on like everything else; what is wanted after it is fetched all the same.
#[derive(Debug)]
pub struct Fetch(Source);

enum Source {
    /// Read by whoever asks.
    Here { place: Place, wanted: Mutex<(u64, Wanted)> },
    /// Fetched ahead, by a thread that mostly waits.
    Ahead { fetched: Mutex<Receiver<Fetched>>, users: UnboundedSender<User>, thread: Mutex<Option<JoinHandle<()>>> },
}

/// What somebody who takes things does.
enum User {
    /// Took so many bytes.
    Took(u64),
    /// Waits.
    Waits,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Here { .. } => "Here",
            Self::Ahead { .. } => "Ahead",
        })
    }
}

impl Fetch {
    /// Fetches `wanted` from `place` ahead of its use, on a thread of its own. Dropping this ends it.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn ahead(
        place: &Place,
        wanted: impl Iterator<Item = Batch> + Send + 'static,
        ahead: Ahead,
    ) -> std::io::Result<Self> {
        let (arrived, fetched) = channel();
        let (users, told) = unbounded();
        let place = place.clone();
        let work = move || block_on(drive(&place, wanted, ahead, &arrived, told));
        let thread = std::thread::Builder::new().name("fetch".to_owned()).spawn(work)?;
        Ok(Self(Source::Ahead { fetched: Mutex::new(fetched), users, thread: Mutex::new(Some(thread)) }))
    }

    /// Fetches `wanted` from `place` for several threads: ahead of its use, or, from this machine's own disks, where there is
    /// nothing to wait for, on the threads that ask.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn shared(
        place: &Place,
        wanted: impl Iterator<Item = Batch> + Send + 'static,
        ahead: Ahead,
    ) -> std::io::Result<Self> {
        if place.is_local() {
            return Ok(Self(Source::Here { place: place.clone(), wanted: Mutex::new((0, Box::new(wanted))) }));
        }
        Self::ahead(place, wanted, ahead)
    }

    /// The next one, or that there is no more.
    ///
    /// # Panics
    /// When the iterator of what is wanted has panicked.
    pub fn next(&self) -> Option<Fetched> {
        match &self.0 {
            Source::Here { place, wanted } => {
                let (number, batch) = {
                    let mut wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                    let batch = wanted.1.next()?;
                    wanted.0 += 1;
                    (wanted.0 - 1, batch)
                };
                Some(block_on(fetch(place, number, batch)))
            }
            Source::Ahead { fetched, users, .. } => {
                let fetched = fetched.lock().unwrap_or_else(PoisonError::into_inner);
                let next = fetched.try_recv().or_else(|_| {
                    drop(users.unbounded_send(User::Waits));
                    fetched.recv()
                });
                drop(fetched);
                self.taken(next.ok())
            }
        }
    }

    /// The next one, or that there is no more. Fails when it is not there within `wait`.
    ///
    /// # Errors
    /// [`Late`].
    ///
    /// # Panics
    /// When the iterator of what is wanted has panicked.
    pub fn next_within(&self, wait: Duration) -> Result<Option<Fetched>, Late> {
        let Source::Ahead { fetched, users, .. } = &self.0 else { return Ok(self.next()) };
        let fetched = fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let next = fetched.try_recv().or_else(|_| {
            if !wait.is_zero() {
                drop(users.unbounded_send(User::Waits));
            }
            fetched.recv_timeout(wait)
        });
        drop(fetched);
        match next {
            Ok(fetched) => Ok(self.taken(Some(fetched))),
            Err(RecvTimeoutError::Timeout) => Err(Late),
            Err(RecvTimeoutError::Disconnected) => Ok(self.taken(None)),
        }
    }

    /// Makes room for more. At the end, passes on that the thread has panicked.
    fn taken(&self, next: Option<Fetched>) -> Option<Fetched> {
        let Source::Ahead { users, thread, .. } = &self.0 else { return next };
        match &next {
            // The thread has gone when everything has come.
            Some(fetched) => drop(users.unbounded_send(User::Took(fetched.batch.bytes))),
            None => {
                let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(Err(panic)) = thread.map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        next
    }
}

/// What was waited for did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

async fn fetch(place: &Place, number: u64, batch: Batch) -> Fetched {
    let start = Instant::now();
    let found = place.fetch(&batch.key, load::range(&batch)).await;
    Fetched { number, batch, found, took: start.elapsed() }
}

/// Starts requests as long as there is room, and hands on in order what they bring, until nothing more is wanted or nobody
/// takes it.
async fn drive(
    place: &Place,
    wanted: impl Iterator<Item = Batch>,
    ahead: Ahead,
    arrived: &Sender<Fetched>,
    mut told: UnboundedReceiver<User>,
) {
    let mut wanted = (0..).zip(wanted).peekable();
    let mut under_way = FuturesOrdered::new();
    // Requested and not used yet.
    let (mut objects, mut bytes) = (0, 0);
    let mut most_objects = ahead.at_first;
    loop {
        while under_way.len() < ahead.in_flight.get()
            && objects < most_objects.get()
            && let Some((number, batch)) = wanted.next_if(|(_, batch)| bytes == 0 || bytes + batch.bytes <= ahead.bytes)
        {
            objects += 1;
            bytes += batch.bytes;
            under_way.push_back(fetch(place, number, batch));
        }
        if under_way.is_empty() && wanted.peek().is_none() {
            return;
        }
        // An empty stream of requests would end at once; then there is only room to wait for.
        let next =
            async { if under_way.is_empty() { futures::future::pending().await } else { under_way.next().await } };
        match select(pin!(next), told.next()).await {
            Either::Left((fetched, _)) => {
                if fetched.is_none_or(|fetched| arrived.send(fetched).is_err()) {
                    return;
                }
            }
            Either::Right((Some(User::Took(used)), _)) => {
                objects -= 1;
                bytes -= used;
            }
            Either::Right((Some(User::Waits), _)) => most_objects = most_objects.saturating_mul(TWO),
            Either::Right((None, _)) => return,
        }
    }
}

mod tests;
