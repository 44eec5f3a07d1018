//! Work shared between threads that keep their buffers. Items are taken in order, so files are read nearly in order.

use std::sync::{Mutex, PoisonError};

use crate::Error;

/// The buffers of every thread.
pub(crate) struct Workers<S> {
    states: Vec<S>,
}

impl<S: Send> Workers<S> {
    /// One state for each of `threads` threads.
    pub(crate) fn new(threads: usize, state: impl Fn() -> S) -> Self {
        Self { states: (0..threads).map(|_| state()).collect() }
    }

    /// Does `work` for every item, on all threads. After a failure no further item is begun.
    ///
    /// # Errors
    /// The failure of the first item that fails, however many threads there are.
    pub(crate) fn run<T: Send>(
        &mut self,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(&mut S, T) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        self.run_some(self.states.len(), items, work)
    }

    /// As [`Workers::run`], on `threads` threads at most.
    ///
    /// # Errors
    /// As [`Workers::run`].
    pub(crate) fn run_some<T: Send>(
        &mut self,
        threads: usize,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(&mut S, T) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let items = Mutex::new(items.fuse().enumerate());
        // Items are begun in order and finished whatever happens, so nothing before the first failure is left out.
        let failure = Mutex::new(None::<(usize, Error)>);
        // A thread that panics ends the process' work as a whole; what it held is not looked at again.
        let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let take = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        rayon::scope(|scope| {
            for state in self.states.iter_mut().take(threads) {
                let (failed, take, failure, work) = (&failed, &take, &failure, &work);
                scope.spawn(move |_| {
                    while !failed() {
                        let Some((index, item)) = take() else { return };
                        if let Err(error) = work(state, item) {
                            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                            if failure.as_ref().is_none_or(|(first, _)| index < *first) {
                                *failure = Some((index, error));
                            }
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
    }
}
