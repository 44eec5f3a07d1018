//! Writes pieces to a store beside the work of who hands them over, in the order in which they come.
//!
//! What waits here is bounded by the protocol: nobody computes a step while its predecessor is not published.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::store::{Name, Store};
use crate::service::ServiceError;

enum Job {
    Put(Vec<(Name, Bytes)>),
    Delete(Vec<Name>),
}

/// A thread that writes. When this is dropped, everything is written, unless something could not be.
pub struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is not written yet.
    waiting: usize,
    failure: Option<ServiceError>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts to write to `store`.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(store: Arc<dyn Store>) -> std::io::Result<Self> {
        let (jobs, received) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                for job in received {
                    let done = match job {
                        // After a failure the run is going to end: what is there expires by itself.
                        _ if shared.state().failure.is_some() => Ok(()),
                        Job::Put(pieces) => store.put(&pieces),
                        Job::Delete(names) => store.delete(&names),
                    };
                    let mut state = shared.state();
                    state.waiting -= 1;
                    if let Err(error) = done {
                        state.failure = Some(error);
                    }
                    drop(state);
                    shared.changed.notify_all();
                }
            }
        };
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), shared, thread: Some(thread) })
    }

    /// Has `pieces` kept.
    ///
    /// # Errors
    /// When something before could not be written.
    pub fn put(&self, pieces: Vec<(Name, Bytes)>) -> Result<(), ServiceError> {
        self.hand_over(Job::Put(pieces))
    }

    /// Has `names` forgotten.
    ///
    /// # Errors
    /// When something before could not be written.
    pub fn delete(&self, names: Vec<Name>) -> Result<(), ServiceError> {
        self.hand_over(Job::Delete(names))
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.state().waiting == 0
    }

    /// Waits, at most for `wait`, until everything is written; whether it is.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn settle(&self, wait: Duration) -> Result<bool, ServiceError> {
        let waits = |state: &mut State| state.waiting > 0;
        let settled = self.shared.changed.wait_timeout_while(self.shared.state(), wait, waits);
        let state = settled.unwrap_or_else(PoisonError::into_inner).0;
        state.failure.clone().map_or(Ok(state.waiting == 0), Err)
    }

    /// Whether everything could be written so far.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(&self) -> Result<(), ServiceError> {
        self.shared.state().failure.clone().map_or(Ok(()), Err)
    }

    fn hand_over(&self, job: Job) -> Result<(), ServiceError> {
        self.check()?;
        self.shared.state().waiting += 1;
        // The thread receives until this is dropped.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
