//! Reads mini-batches: fetched from storage ahead of their use by a thread that mostly waits, checked and decoded by the
//! worker that uses them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manifests::fetch::{Ahead, Fetch};
use manifests::load::Shards;
use schemas::manifest::Batch;

use crate::error::Error;
use crate::model::Model;

/// Requests under way at once when the place is remote, at least.
const REMOTE_IN_FLIGHT: usize = 16;
/// Bytes ahead of their use when the place is remote, at least.
const REMOTE_BYTES: u64 = 32 << 20;

/// A mini-batch as it is stored, equal to what the manifest records.
#[derive(Debug)]
pub struct Fetched {
    /// Which it is.
    pub batch: Batch,
    /// Its bytes.
    pub bytes: Bytes,
    /// Microseconds from the request to the bytes, and to check their digest.
    pub fetch_us: u64,
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

    /// The batch that was decoded last.
    pub const fn batch(&self) -> &M::Batch {
        &self.batch
    }

    /// Decodes the batch in `fetched`.
    ///
    /// # Errors
    /// When it holds rows the model has no place for, or not as many as the manifest says.
    pub fn decode(&mut self, fetched: Fetched) -> Result<(), Error> {
        let Fetched { batch, bytes, .. } = fetched;
        let place = || match batch.offset {
            None => self.shards.place.show(&batch.key),
            Some(start) => format!("{}, mini-batch at byte {start}", self.shards.place.show(&batch.key)),
        };
        let wrong = |problem: String| Error::Batch { place: place(), problem };
        let rows = self.model.decode(bytes, &mut self.decoder, &mut self.batch).map_err(wrong)?;
        if rows != batch.rows {
            return Err(wrong(format!("it has {rows} rows, the manifest says {}", batch.rows)));
        }
        Ok(())
    }
}

/// Mini-batches of which set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Training rows.
    Train,
    /// Held-out rows.
    Holdout,
}

/// Mini-batches in the order of their use, fetched ahead.
#[derive(Debug)]
pub struct ReadAhead {
    shards: Arc<Shards>,
    fetch: Fetch,
}

impl ReadAhead {
    /// Starts to fetch the batches of `set` whose indices `wanted` yields, about `depth` ahead; from a remote place more, if that
    /// is not enough to have none waited for. (A function that ends, and a worker that goes back, leave unused what is ahead.)
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(
        shards: Arc<Shards>,
        set: Set,
        wanted: impl Iterator<Item = u32> + Send + 'static,
        depth: usize,
    ) -> Result<Self, Error> {
        let batches = match set {
            Set::Train => shards.batches.clone(),
            Set::Holdout => shards.holdout_batches.clone(),
        };
        let mean_bytes = (batches.bytes() / batches.len().max(1) as u128) as u64;
        // The mean of the sizes is rounded down, and the sizes vary.
        let bytes = (depth as u64 + 1) * (mean_bytes + mean_bytes / 8);
        let (in_flight, bytes) = match shards.place.is_local() {
            true => (depth, bytes),
            false => (depth.max(REMOTE_IN_FLIGHT), bytes.max(REMOTE_BYTES)),
        };
        let some = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        let ahead = Ahead { in_flight: some(in_flight), bytes, at_first: some(depth) };
        let wanted = wanted.map(move |index| batches.get(index as usize));
        let fetch = Fetch::ahead(&shards.place, wanted, ahead).map_err(Error::internal)?;
        Ok(Self { shards, fetch })
    }

    /// The next batch, for which it waits `wait` at most.
    ///
    /// # Errors
    /// When it could not be read, or not in time, or is missing or not what the manifest records.
    pub fn next(&self, wait: Duration) -> Result<Fetched, Error> {
        self.next_within(wait).unwrap_or(Err(Error::Slow { seconds: wait.as_secs() }))
    }

    /// The next batch if it is there already.
    ///
    /// # Errors
    /// When it could not be read, or is missing or not what the manifest records.
    pub fn next_if_there(&self) -> Option<Result<Fetched, Error>> {
        self.next_within(Duration::ZERO)
    }

    /// Nothing when it took longer.
    fn next_within(&self, wait: Duration) -> Option<Result<Fetched, Error>> {
        let fetched = self.fetch.next_within(wait).ok()?;
        let none = || Error::Internal("there are no more mini-batches to read".to_owned());
        Some(fetched.ok_or_else(none).and_then(|fetched| {
            let (batch, took, start) = (fetched.batch.clone(), fetched.took, Instant::now());
            let bytes = fetched.checked(&self.shards.place, &self.shards.name)?;
            Ok(Fetched { batch, bytes, fetch_us: (took + start.elapsed()).as_micros() as u64 })
        }))
    }
}
