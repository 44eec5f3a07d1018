//! Stores a model while the worker goes on.

use std::collections::VecDeque;
use std::thread::JoinHandle;

use schemas::message::Stored;

use crate::checkpoints::Checkpoints;
use crate::error::Error;

/// The models that one worker stores, one at a time.
#[derive(Debug)]
pub(super) struct Saving {
    who: String,
    present: Option<JoinHandle<Result<Stored, Error>>>,
    done: VecDeque<Stored>,
}

impl Saving {
    /// Nothing is being stored yet by this life of `worker`.
    pub(super) fn new(worker: u32, incarnation: u32) -> Self {
        Self { who: format!("{worker}.{incarnation}"), present: None, done: VecDeque::new() }
    }

    /// Starts to store `state`, once the one before is stored.
    pub(super) fn start(&mut self, checkpoints: Checkpoints, steps: u64, state: Vec<u8>) -> Result<(), Error> {
        self.finish()?;
        let who = self.who.clone();
        let store = move || checkpoints.store(steps, &who, state);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        self.present = Some(thread.spawn(store).map_err(Error::internal)?);
        Ok(())
    }

    /// The next that is stored and was not given before.
    pub(super) fn next_stored(&mut self) -> Result<Option<Stored>, Error> {
        if self.present.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish()?;
        }
        Ok(self.done.pop_front())
    }

    /// Waits for what is being stored.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if let Some(thread) = self.present.take() {
            let stored = thread.join().unwrap_or_else(|_| Err(Error::Internal("a thread panicked".to_owned())))?;
            self.done.push_back(stored);
        }
        Ok(())
    }
}
