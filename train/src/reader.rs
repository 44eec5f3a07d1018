//! Reads mini-batches: fetched from storage ahead of their use by a thread that mostly waits, decoded by the worker that uses
//! them, so that they are in its processor's cache.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use manifests::load::{self, Shards};
use schemas::dataset::Object;

use crate::error::Error;
use crate::model::Model;

/// A mini-batch as it is stored, equal to what the manifest records.
#[derive(Debug)]
pub struct Fetched {
    /// Which it is.
    pub object: Object,
    /// Its bytes.
    pub bytes: Bytes,
    /// Microseconds to read it and check its digest.
    pub fetch_us: u64,
}

impl Fetched {
    /// Fetches `object` of `shards`.
    ///
    /// # Errors
    /// When it is missing or is not what the manifest records.
    pub fn new(shards: &Shards, object: &Object) -> Result<Self, Error> {
        let start = Instant::now();
        let bytes = load::object(&shards.place, object, &shards.name)?;
        Ok(Self { object: object.clone(), bytes, fetch_us: start.elapsed().as_micros() as u64 })
    }
}

/// Decodes mini-batches one after the other into the same buffers.
#[derive(Debug)]
pub struct BatchDecoder<'a, M: Model> {
    shards: Arc<Shards>,
    model: &'a M,
    decoder: M::Decoder,
    batch: M::Batch,
}

impl<'a, M: Model> BatchDecoder<'a, M> {
    /// A decoder of the batches of `shards` for `model`.
    #[must_use]
    pub fn new(shards: Arc<Shards>, model: &'a M) -> Self {
        Self { shards, model, decoder: M::Decoder::default(), batch: M::Batch::default() }
    }

    /// The shards whose batches are decoded.
    #[must_use]
    pub fn shards(&self) -> Arc<Shards> {
        Arc::clone(&self.shards)
    }

    /// The batch in `fetched`.
    ///
    /// # Errors
    /// When it holds rows the model has no place for, or not as many as the manifest says.
    pub fn decode(&mut self, fetched: Fetched) -> Result<&M::Batch, Error> {
        let Fetched { object, bytes, .. } = fetched;
        let wrong = |problem: String| Error::Batch { place: self.shards.place.show(&object.key), problem };
        let rows = self.model.decode(bytes, &mut self.decoder, &mut self.batch).map_err(wrong)?;
        if rows != object.rows {
            return Err(wrong(format!("it has {rows} rows, the manifest says {}", object.rows)));
        }
        Ok(&self.batch)
    }
}

/// Mini-batches in the order of their use, fetched ahead.
#[derive(Debug)]
pub struct ReadAhead {
    fetched: Receiver<Result<Fetched, Error>>,
}

impl ReadAhead {
    /// Starts to fetch the training batches whose indices `wanted` yields, `depth` ahead, in a thread of `scope`.
    pub fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        shards: Arc<Shards>,
        wanted: impl Iterator<Item = u32> + Send + 'scope,
        depth: usize,
    ) -> Self {
        let (fetched_in, fetched) = sync_channel(depth);
        scope.spawn(move || {
            for index in wanted {
                let object = &shards.manifest.batches[index as usize];
                let panicked = |_| Err(Error::Internal(format!("the reader panicked over {}", object.key)));
                let result = catch_unwind(AssertUnwindSafe(|| Fetched::new(&shards, object))).unwrap_or_else(panicked);
                let failed = result.is_err();
                // The worker has gone, or has been told that a batch cannot be read.
                if fetched_in.send(result).is_err() || failed {
                    return;
                }
            }
        });
        Self { fetched }
    }

    /// The next batch, for which it waits `wait` at most.
    ///
    /// # Errors
    /// When it could not be read, or not in time.
    pub fn next(&self, wait: Duration) -> Result<Fetched, Error> {
        self.fetched.recv_timeout(wait).unwrap_or_else(|_| Err(Error::Slow { seconds: wait.as_secs() }))
    }
}
