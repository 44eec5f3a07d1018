//! Measurements of what training is made of: [`exchange`], the moving of gradients alone, and [`compute`], computing alone.
//!
//! Training itself is measured by its own `timings.csv`.

pub mod compute;
pub mod exchange;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Lets the workers of a measurement begin together.
struct Gate {
    n_workers: u32,
    arrived: AtomicU32,
    closed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Gate {
    /// Waits until all workers have come to the `nth` beginning, from 1.
    ///
    /// # Errors
    /// When one of them has failed and will not come; what it failed of is told instead of this.
    fn begin(&self, nth: u32) -> Result<(), Error> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < nth * self.n_workers {
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::Internal("another worker has failed".to_owned()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Tells all that there is a failure; the first is kept.
    fn close(&self, failure: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// Has `work` done by so many threads at once; what they give, in their order.
///
/// # Errors
/// The first failure of any of them.
fn together<T: Send>(n_workers: u32, work: impl Fn(u32, &Gate) -> Result<T, Error> + Sync) -> Result<Vec<T>, Error> {
    let (arrived, closed) = (AtomicU32::new(0), AtomicBool::new(false));
    let gate = Gate { n_workers, arrived, closed, failure: Mutex::new(None) };
    let one = |worker| {
        let worked = catch_unwind(AssertUnwindSafe(|| work(worker, &gate)));
        let worked = worked.unwrap_or_else(|_| Err(Error::Internal(format!("worker {worker} panicked"))));
        worked.map_err(|failure| gate.close(failure)).ok()
    };
    let given: Vec<Option<T>> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for worker in 0..n_workers {
            match std::thread::Builder::new().spawn_scoped(scope, move || one(worker)) {
                Ok(thread) => threads.push(thread),
                Err(refused) => {
                    gate.close(Error::Internal(format!("there is no thread for worker {worker}: {refused}")));
                    break;
                }
            }
        }
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    match gate.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(given.into_iter().flatten().collect()),
    }
}

/// Seconds from the first beginning to the last end.
fn span(times: impl Iterator<Item = (Instant, Instant)>) -> f64 {
    let whole = times.reduce(|(begun, ended), (b, e)| (begun.min(b), ended.max(e)));
    whole.map_or(0.0, |(begun, ended)| ended.duration_since(begun).as_secs_f64()).max(1e-9)
}

/// Writes the lines of a table.
pub(crate) fn write_csv(file: Option<&Path>, header: &str, lines: &[String]) -> Result<(), Error> {
    let Some(file) = file else { return Ok(()) };
    let text = format!("{header}\n{}", lines.concat());
    std::fs::write(file, text).map_err(|source| Error::File {
        place: file.display().to_string(),
        done: "written",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_begin_together_and_again() {
        let (early, late) = (AtomicU32::new(0), AtomicU32::new(0));
        let seen = together(5, |worker, gate| {
            std::thread::sleep(Duration::from_millis(u64::from(worker) * 4));
            early.fetch_add(1, Ordering::SeqCst);
            gate.begin(1)?;
            let first = early.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(u64::from(5 - worker) * 4));
            late.fetch_add(1, Ordering::SeqCst);
            gate.begin(2)?;
            Ok((worker, first, late.load(Ordering::SeqCst)))
        });
        assert_eq!(seen.ok(), Some((0..5).map(|worker| (worker, 5, 5)).collect()));
    }

    #[test]
    fn a_failure_and_a_panic_let_nobody_wait() {
        let failed = together(4, |worker, gate| match worker {
            2 => Err::<(), _>(Error::Slow { seconds: 7 }),
            _ => gate.begin(1),
        });
        assert!(matches!(failed, Err(Error::Slow { seconds: 7 })), "{failed:?}");
        let panicked = together(3, |worker, gate| {
            assert!(worker != 1, "on purpose");
            gate.begin(1)
        });
        assert!(panicked.is_err_and(|error| error.to_string() == "worker 1 panicked"));
    }

    #[test]
    fn the_span_is_from_the_first_beginning_to_the_last_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!((span([(at(20), at(50)), (at(10), at(30))].into_iter()) - 0.04).abs() < 1e-9);
    }
}
