//! Reads mini-batches: from storage, checked against the manifest, decoded and arranged for the kernels; ahead of their use,
//! in a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use manifests::load::{self, Shards};
use manifests::ratings::{RatingRows, decode};
use schemas::dataset::Object;
use train_core::batch::{Arranger, RatingBatch};

use crate::error::Error;

/// A mini-batch that is ready to compute, and what it took.
#[derive(Debug, Default)]
pub struct Ready {
    /// The batch.
    pub batch: RatingBatch,
    /// Microseconds to read it and check its digest.
    pub fetch_us: u64,
    /// Microseconds to decode and arrange it.
    pub decode_us: u64,
}

/// Reads one mini-batch after the other, with buffers that are used again.
#[derive(Debug)]
pub struct BatchReader {
    shards: Arc<Shards>,
    size: (u32, u32),
    rows: RatingRows,
    arranger: Arranger,
}

impl BatchReader {
    /// A reader of the batches of `shards`, whose model has `size` (users, items).
    #[must_use]
    pub fn new(shards: Arc<Shards>, size: (u32, u32)) -> Self {
        Self { shards, size, rows: RatingRows::default(), arranger: Arranger::default() }
    }

    /// The shards that are read.
    #[must_use]
    pub fn shards(&self) -> Arc<Shards> {
        Arc::clone(&self.shards)
    }

    /// Reads `object` into `ready`.
    ///
    /// # Errors
    /// When it is missing, is not what the manifest records, or holds rows the model has no place for.
    pub fn read(&mut self, object: &Object, ready: &mut Ready) -> Result<(), Error> {
        let start = Instant::now();
        let bytes = load::object(&self.shards.place, object, &self.shards.name)?;
        let fetched = Instant::now();
        let wrong = |problem: String| Error::Batch { place: self.shards.place.show(&object.key), problem };
        decode(bytes, &mut self.rows).map_err(wrong)?;
        let RatingRows { users, items, ratings } = &self.rows;
        if ratings.len() as u64 != object.rows {
            return Err(wrong(format!("it has {} rows, the manifest says {}", ratings.len(), object.rows)));
        }
        ready.batch.arrange(&mut self.arranger, self.size, users, items, ratings).map_err(|e| wrong(e.to_string()))?;
        ready.fetch_us = (fetched - start).as_micros() as u64;
        ready.decode_us = fetched.elapsed().as_micros() as u64;
        Ok(())
    }
}

/// Mini-batches in the order of their use, read ahead.
#[derive(Debug)]
pub struct ReadAhead {
    ready: Receiver<Result<Ready, Error>>,
    used: SyncSender<Ready>,
}

impl ReadAhead {
    /// Starts to read the training batches whose indices `wanted` yields, `depth` ahead and one in hand, in a thread of `scope`.
    pub fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        mut reader: BatchReader,
        wanted: impl Iterator<Item = u32> + Send + 'scope,
        depth: usize,
    ) -> Self {
        let (ready_in, ready) = sync_channel(depth);
        let (used, used_out) = sync_channel::<Ready>(depth + 2);
        scope.spawn(move || {
            for index in wanted {
                let mut ready = used_out.try_recv().unwrap_or_default();
                let object = reader.shards.manifest.batches[index as usize].clone();
                let read = AssertUnwindSafe(|| reader.read(&object, &mut ready));
                let panicked = |_| Err(Error::Internal(format!("the reader panicked over {}", object.key)));
                let result = catch_unwind(read).unwrap_or_else(panicked).map(|()| ready);
                let failed = result.is_err();
                // The worker has gone, or has been told that a batch cannot be read.
                if ready_in.send(result).is_err() || failed {
                    return;
                }
            }
        });
        Self { ready, used }
    }

    /// The next batch, for which it waits `wait` at most.
    ///
    /// # Errors
    /// When it could not be read, or not in time.
    pub fn next(&self, wait: Duration) -> Result<Ready, Error> {
        self.ready.recv_timeout(wait).unwrap_or_else(|_| Err(Error::Slow { seconds: wait.as_secs() }))
    }

    /// Gives a batch's buffers back.
    pub fn give_back(&self, ready: Ready) {
        // A full channel means that there are buffers enough.
        let _ = self.used.try_send(ready);
    }
}
