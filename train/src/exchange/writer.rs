//! Writes pieces to a store beside the work of who hands them over, in the order in which they come.
//!
//! What waits here is bounded by the protocol: nobody computes a step while its predecessor is not published.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

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
    waiting: AtomicUsize,
    failure: Mutex<Option<ServiceError>>,
}

impl Shared {
    fn failure(&self) -> Option<ServiceError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, error: ServiceError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
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
                        _ if shared.failure().is_some() => Ok(()),
                        Job::Put(pieces) => store.put(&pieces),
                        Job::Delete(names) => store.delete(&names),
                    };
                    if let Err(error) = done {
                        shared.fail(error);
                    }
                    shared.waiting.fetch_sub(1, Ordering::SeqCst);
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
        self.shared.waiting.load(Ordering::SeqCst) == 0
    }

    /// Whether everything could be written so far.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(&self) -> Result<(), ServiceError> {
        self.shared.failure().map_or(Ok(()), Err)
    }

    fn hand_over(&self, job: Job) -> Result<(), ServiceError> {
        self.check()?;
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
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
