//! Reads mini-batches: from storage, checked against the manifest, decoded and arranged for the kernels; ahead of their use,
//! in a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use manifests::load::{self, Shards};
use schemas::dataset::Object;

use crate::error::Error;
use crate::model::Model;

/// A mini-batch that is ready to compute, and what it took.
#[derive(Debug, Default)]
pub struct Ready<B> {
    /// The batch.
    pub batch: B,
    /// Its rows.
    pub rows: u64,
    /// Microseconds to read it and check its digest.
    pub fetch_us: u64,
    /// Microseconds to decode and arrange it.
    pub decode_us: u64,
}

/// Reads one mini-batch after the other, with buffers that are used again.
pub struct BatchReader<'a, M: Model> {
    shards: Arc<Shards>,
    model: &'a M,
    decoder: M::Decoder,
}

impl<'a, M: Model> BatchReader<'a, M> {
    /// A reader of the batches of `shards` for `model`.
    #[must_use]
    pub fn new(shards: Arc<Shards>, model: &'a M) -> Self {
        Self { shards, model, decoder: M::Decoder::default() }
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
    pub fn read(&mut self, object: &Object, ready: &mut Ready<M::Batch>) -> Result<(), Error> {
        let start = Instant::now();
        let bytes = load::object(&self.shards.place, object, &self.shards.name)?;
        let fetched = Instant::now();
        let wrong = |problem: String| Error::Batch { place: self.shards.place.show(&object.key), problem };
        ready.rows = self.model.decode(bytes, &mut self.decoder, &mut ready.batch).map_err(wrong)?;
        if ready.rows != object.rows {
            return Err(wrong(format!("it has {} rows, the manifest says {}", ready.rows, object.rows)));
        }
        ready.fetch_us = (fetched - start).as_micros() as u64;
        ready.decode_us = fetched.elapsed().as_micros() as u64;
        Ok(())
    }
}

/// Mini-batches in the order of their use, read ahead.
#[derive(Debug)]
pub struct ReadAhead<B> {
    ready: Receiver<Result<Ready<B>, Error>>,
    used: SyncSender<Ready<B>>,
}

impl<B: Default + Send> ReadAhead<B> {
    /// Starts to read the training batches whose indices `wanted` yields, `depth` ahead and one in hand, in a thread of `scope`.
    pub fn start<'scope, M: Model<Batch = B>>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        mut reader: BatchReader<'scope, M>,
        wanted: impl Iterator<Item = u32> + Send + 'scope,
        depth: usize,
    ) -> Self
    where
        B: 'scope,
    {
        let (ready_in, ready) = sync_channel(depth);
        let (used, used_out) = sync_channel::<Ready<B>>(depth + 2);
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
    pub fn next(&self, wait: Duration) -> Result<Ready<B>, Error> {
        self.ready.recv_timeout(wait).unwrap_or_else(|_| Err(Error::Slow { seconds: wait.as_secs() }))
    }

    /// Gives a batch's buffers back.
    pub fn give_back(&self, ready: Ready<B>) {
        // A full channel means that there are buffers enough.
        let _ = self.used.try_send(ready);
    }
}
