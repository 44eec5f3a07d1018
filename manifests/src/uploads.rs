//! Objects on their way to a place that is not on this machine: several at once, so that the time it takes to answer is hidden,
//! and no more bytes of them in memory than allowed.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use schemas::dataset::Digest;

use crate::Error;
use crate::digest::digest;
use crate::place::Place;

/// How much may be on its way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Objects, at most.
    pub in_flight: NonZeroUsize,
    /// Bytes that are on their way or wait for it, at most; a single object may be larger.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: NonZeroUsize::new(16).expect("it is not 0"), bytes: 64 << 20 }
    }
}

/// What has become of the objects so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Objects that were there already, with the same bytes.
    pub objects_kept: u64,
    /// Bytes of the other ones.
    pub bytes_written: u64,
}

/// Objects on their way to one place.
#[derive(Debug)]
pub(crate) struct Uploads {
    shared: Arc<Shared>,
    limits: Limits,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    /// Keys and sizes of what was there before.
    before: HashMap<String, u64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Upload>,
    /// Objects that wait or are on their way, and their bytes.
    objects: usize,
    bytes: u64,
    sent: Sent,
    failure: Option<Error>,
    closed: bool,
}

#[derive(Debug)]
struct Upload {
    key: String,
    bytes: Bytes,
    digest: Digest,
}

impl Uploads {
    /// To `place`, in which there are the objects `before`.
    pub(crate) fn new(place: &Place, before: HashMap<String, u64>, limits: Limits) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { place: place.clone(), before, state, changed });
        let threads = if place.is_local() { 0 } else { limits.in_flight.get() };
        let thread = |shared: &Arc<Shared>| {
            let shared = Arc::clone(shared);
            std::thread::Builder::new().name("upload".to_owned()).spawn(move || shared.work())
        };
        // With fewer threads than wanted it only takes longer; without any, callers do the work.
        let threads = (0..threads).map_while(|_| thread(&shared).ok()).collect();
        Self { shared, limits, threads }
    }

    /// Sends an object, or has it sent later.
    ///
    /// # Errors
    /// Of this object or one that was given before.
    pub(crate) fn put(&self, key: String, bytes: Bytes, digest: Digest) -> Result<(), Error> {
        let upload = Upload { key, bytes, digest };
        if self.threads.is_empty() {
            let sent = self.shared.send(&upload)?;
            self.shared.lock().add(&sent);
            return Ok(());
        }
        let size = upload.bytes.len() as u64;
        let full = |state: &mut State| {
            state.failure.is_none()
                && state.objects > 0
                && (state.bytes + size > self.limits.bytes || state.objects >= 2 * self.limits.in_flight.get())
        };
        let mut state = self.shared.wait_while(full);
        if let Some(failure) = &state.failure {
            return Err(failure.again());
        }
        state.objects += 1;
        state.bytes += size;
        state.waiting.push_back(upload);
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until everything is sent.
    ///
    /// # Errors
    /// When something could not be.
    pub(crate) fn finish(&self) -> Result<Sent, Error> {
        let state = self.shared.wait_while(|state| state.failure.is_none() && state.objects > 0);
        state.failure.as_ref().map_or(Ok(state.sent), |failure| Err(failure.again()))
    }
}

impl Drop for Uploads {
    /// What waits is not sent any more; what is on its way arrives.
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.waiting.clear();
            state.closed = true;
        }
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of the storage has been made an error.
            let _ = thread.join();
        }
    }
}

impl State {
    fn add(&mut self, sent: &Sent) {
        self.sent.objects_kept += sent.objects_kept;
        self.sent.bytes_written += sent.bytes_written;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.lock(), condition).unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut state = self.wait_while(|state| state.waiting.is_empty() && !state.closed);
            let Some(upload) = state.waiting.pop_front() else { return };
            drop(state);
            let panicked = |_| Err(self.panicked(&upload));
            let sent = catch_unwind(AssertUnwindSafe(|| self.send(&upload))).unwrap_or_else(panicked);
            let mut state = self.lock();
            state.objects -= 1;
            state.bytes -= upload.bytes.len() as u64;
            match sent {
                Ok(sent) => state.add(&sent),
                Err(failure) => {
                    state.failure.get_or_insert(failure);
                    // Nothing that waits is of use any more.
                    let (objects, bytes) =
                        (state.waiting.len(), state.waiting.iter().map(|u| u.bytes.len() as u64).sum::<u64>());
                    state.waiting.clear();
                    state.objects -= objects;
                    state.bytes -= bytes;
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Without this the others would wait for the object for ever.
    fn panicked(&self, upload: &Upload) -> Error {
        let place = self.place.show(&upload.key);
        Error::Storage { place, action: "write it", source: "the storage panicked".into() }
    }

    /// Sends an object, unless it is there already.
    fn send(&self, upload: &Upload) -> Result<Sent, Error> {
        let Upload { key, bytes, digest } = upload;
        if self.has(upload)? {
            return Ok(Sent { objects_kept: 1, bytes_written: 0 });
        }
        self.place.put_stamped(key, bytes.clone(), digest)?;
        Ok(Sent { objects_kept: 0, bytes_written: bytes.len() as u64 })
    }

    fn has(&self, upload: &Upload) -> Result<bool, Error> {
        let Upload { key, bytes, digest: expected } = upload;
        if self.before.get(key) != Some(&(bytes.len() as u64)) {
            return Ok(false);
        }
        let found = match self.place.stamp(key) {
            Ok(Some(stamp)) => return Ok(stamp == expected.as_str()),
            Ok(None) => self.place.get(key).map(|found| digest(&found)),
            Err(failure) => Err(failure),
        };
        match found {
            Ok(found) => Ok(found == *expected),
            // Somebody else has taken it away meanwhile.
            Err(Error::NotFound { .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
