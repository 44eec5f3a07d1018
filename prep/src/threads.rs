//! Numbered pieces of work on several threads, when their order does not matter. Where it does, see [`crate::blocks::in_order`].

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Does `work` for every number below `n` on `threads` threads and returns the threads' states.
///
/// # Errors
/// An error of `work`; which one, if several threads fail, is not determined.
pub(crate) fn on_threads<State: Send>(
    threads: usize,
    n: u64,
    state: impl Fn() -> State + Sync,
    work: impl Fn(&mut State, u64) -> Result<(), Error> + Sync,
) -> Result<Vec<State>, Error> {
    let claimed = AtomicU64::new(0);
    let run = || {
        let mut state = state();
        loop {
            let number = claimed.fetch_add(1, Ordering::Relaxed);
            if number >= n {
                return Ok(state);
            }
            if let Err(error) = work(&mut state, number) {
                claimed.store(n, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mine = run();
        let theirs = workers.into_iter().map(|w| w.join().expect("a worker's panic is passed on by the scope"));
        std::iter::once(mine).chain(theirs).collect()
    })
}
