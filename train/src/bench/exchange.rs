//! How fast workers write objects to where gradients go, and read them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use manifests::place::Place;
use reporting::{Console, interrupt};
use schemas::exit::ErrorKind;
use schemas::report::{ExchangeBenchReport, ExchangeRates, TransferRates};
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_64;

use super::{Gate, span, together, write_csv};
use crate::TOOL;
use crate::client::session;
use crate::error::Error;
use crate::exchange::store::object::ObjectStorageStore;
use crate::exchange::store::{Name, Store};
use crate::plan::bench::Exchange;
use crate::plan::launch::ExchangeAt;
use crate::servers::{self, DEADLINE, FIRST_DEADLINE};
use crate::service::ServiceError;

/// Names that a worker writes in turn, at most.
const NAMES_MAX: u64 = 4;

/// Fewer names are used when the objects of all workers would take more bytes than this.
const STORED_BYTES: u64 = 256_000_000;

const CSV: &str =
    "workers,object_bytes,operation,objects,seconds,megabytes_per_second,objects_per_second,p50_ms,p99_ms";

/// Measures as `plan` says.
///
/// # Errors
/// When the server cannot be reached, refuses or loses objects; a signal; when the table cannot be written.
pub fn run(plan: &Exchange, console: &Console) -> Result<ExchangeBenchReport, Error> {
    let start = Instant::now();
    let exchange = plan.at.shown()?;
    let bench =
        Bench { plan, exchange: &exchange, prefix: format!("gristmill/{}", session("bench")), runtime: runtime()? };
    drop(bench.store(FIRST_DEADLINE)?);
    console.note(format!("{exchange}: objects are written for {:?}, then read for as long", plan.each));
    console.note(format!("{:>7} {:>9} {:^45} {:^45}", "", "", "write", "read"));
    let head = format!("{:>11} {:>12} {:>10} {:>9}", "MB/s", "objects/s", "p50 ms", "p99 ms");
    console.note(format!("{:>7} {:>9} {head} {head}", "workers", "KB"));
    let mut rows = Vec::new();
    for &workers in &plan.workers {
        for &size in &plan.sizes {
            let row = bench.cell(workers, size)?;
            let kilobytes = size as f64 / 1e3;
            console.note(format!("{workers:>7} {kilobytes:>9} {} {}", cells(&row.write), cells(&row.read)));
            rows.push(row);
        }
    }
    bench.clear()?;
    let lines: Vec<String> = rows.iter().flat_map(lines).collect();
    write_csv(plan.csv.as_deref(), CSV, &lines)?;
    let (tool, exchange) = (TOOL.to_owned(), exchange.clone());
    Ok(ExchangeBenchReport { tool, exchange, rows, seconds: start.elapsed().as_secs_f64() })
}

/// Unlike a worker's, it serves many connections.
fn runtime() -> Result<Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.thread_name("servers").enable_all().build().map_err(Error::internal)
}

struct Bench<'a> {
    plan: &'a Exchange,
    exchange: &'a str,
    /// Of the names of everything that is written.
    prefix: String,
    runtime: Runtime,
}

impl Bench<'_> {
    fn store(&self, deadline: Duration) -> Result<Box<dyn Store>, Error> {
        servers::store(&self.plan.at, self.runtime.handle().clone(), &self.prefix, deadline)
    }

    /// Removes what is left where nothing expires.
    fn clear(&self) -> Result<(), Error> {
        if let ExchangeAt::Storage(place) = &self.plan.at {
            ObjectStorageStore::new(&Place::parse(place)?, &self.prefix)?.clear()?;
        }
        Ok(())
    }

    /// So many workers with objects of `size` bytes.
    fn cell(&self, workers: u32, size: u64) -> Result<ExchangeRates, Error> {
        let n_names = names_of(workers, size);
        let object = object(size);
        let stores = (0..workers).map(|_| self.store(DEADLINE)).collect::<Result<Vec<_>, _>>()?;
        let measured = together(workers, |worker, gate| {
            let store = stores[worker as usize].as_ref();
            self.turn(store, &object, (worker, workers), n_names, gate)
        });
        let removed = self.remove(&stores, n_names);
        // What cannot be removed after a failure is no news.
        let (written, read): (Vec<Moved>, Vec<Moved>) = measured?.into_iter().unzip();
        removed?;
        Ok(ExchangeRates {
            workers,
            object_bytes: size,
            stored_bytes: size * n_names * u64::from(workers),
            write: rates(&written, size),
            read: rates(&read, size),
        })
    }

    fn remove(&self, stores: &[Box<dyn Store>], n_names: u64) -> Result<(), Error> {
        let names: Vec<Name> = (0..stores.len() as u32).flat_map(|w| (0..n_names).map(move |n| name(w, n))).collect();
        if let Some(store) = stores.first()
            && let Err(failure) = store.delete(&names)
        {
            self.clear()?;
            return Err(failure.into());
        }
        Ok(())
    }

    /// What one worker does: writes, and reads what the next one has written.
    fn turn(
        &self,
        store: &dyn Store,
        object: &Bytes,
        (worker, n_workers): (u32, u32),
        n_names: u64,
        gate: &Gate,
    ) -> Result<(Moved, Moved), Error> {
        let write = |number| Ok(store.put(&[(name(worker, number), object.clone())])?);
        // Not measured: the connection is made, and everything is there however short the phase is.
        (0..n_names).try_for_each(write)?;
        gate.begin(1)?;
        let written = self.phase(n_names, write)?;
        let next = (worker + 1) % n_workers;
        gate.begin(2)?;
        let read = self.phase(n_names, |number| {
            let found = store.get(&[name(next, number)])?;
            match found.first() {
                Some(Some(bytes)) if bytes.len() == object.len() => Ok(()),
                _ => Err(self.lost().into()),
            }
        })?;
        Ok((written, read))
    }

    fn phase(&self, n_names: u64, mut one: impl FnMut(u64) -> Result<(), Error>) -> Result<Moved, Error> {
        let (begun, mut took) = (Instant::now(), Vec::new());
        let mut last = begun;
        while took.is_empty() || last.duration_since(begun) < self.plan.each {
            one(took.len() as u64 % n_names)?;
            let now = Instant::now();
            took.push(now.duration_since(last));
            last = now;
            interrupt::check()?;
        }
        Ok(Moved { begun, ended: last, took })
    }

    fn lost(&self) -> ServiceError {
        ServiceError {
            place: self.exchange.to_owned(),
            problem: "an object that was written a moment ago is not there".to_owned(),
            kind: ErrorKind::Unavailable,
            fix: "give it memory for the objects, or measure with fewer workers or smaller ones".to_owned(),
        }
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // After a failure: the failure is what is told.
        let _ = self.clear();
    }
}

/// What one worker has moved in a phase.
struct Moved {
    begun: Instant,
    ended: Instant,
    took: Vec<Duration>,
}

fn name(worker: u32, number: u64) -> Name {
    Name::Gradient { step: number, slot: worker }
}

/// Names of each worker.
fn names_of(workers: u32, size: u64) -> u64 {
    (STORED_BYTES / (u64::from(workers) * size)).clamp(1, NAMES_MAX)
}

/// Bytes that nothing on the way can make fewer.
fn object(size: u64) -> Bytes {
    let words = (0..size.div_ceil(8)).flat_map(|word: u64| xxh3_64(&word.to_le_bytes()).to_le_bytes());
    words.take(size as usize).collect()
}

fn rates(moved: &[Moved], size: u64) -> TransferRates {
    let seconds = span(moved.iter().map(|m| (m.begun, m.ended)));
    let mut took: Vec<Duration> = moved.iter().flat_map(|m| m.took.iter().copied()).collect();
    took.sort_unstable();
    let objects = took.len() as u64;
    let per_second = objects as f64 / seconds;
    TransferRates {
        objects,
        seconds,
        megabytes_per_second: per_second * size as f64 / 1e6,
        objects_per_second: per_second,
        p50_ms: percentile(&took, 50),
        p99_ms: percentile(&took, 99),
    }
}

/// Milliseconds that so many of a hundred took at most.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}

fn cells(rates: &TransferRates) -> String {
    let TransferRates { megabytes_per_second, objects_per_second, p50_ms, p99_ms, .. } = rates;
    format!("{megabytes_per_second:>11.1} {objects_per_second:>12.0} {p50_ms:>10.3} {p99_ms:>9.3}")
}

fn lines(row: &ExchangeRates) -> [String; 2] {
    [("write", &row.write), ("read", &row.read)].map(|(operation, r)| {
        format!(
            "{},{},{operation},{},{:.6},{:.3},{:.3},{:.6},{:.6}\n",
            row.workers,
            row.object_bytes,
            r.objects,
            r.seconds,
            r.megabytes_per_second,
            r.objects_per_second,
            r.p50_ms,
            r.p99_ms
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let took: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert!((percentile(&took, 50) - 100.0).abs() < 1e-9);
        assert!((percentile(&took, 99) - 198.0).abs() < 1e-9);
        assert!((percentile(&took[..1], 99) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_lies_there_at_once_is_bounded() {
        assert_eq!(names_of(1, 10_000), 4);
        assert_eq!(names_of(10, 10_000_000), 2);
        assert_eq!(names_of(50, 25_000_000), 1, "one object of each worker there must be");
    }

    #[test]
    fn objects_have_their_size_and_cannot_be_compressed() {
        for size in [1, 8, 13, 10_000] {
            let bytes = object(size);
            assert_eq!(bytes.len() as u64, size);
        }
        let mut counts = [0u32; 256];
        object(256_000).iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
