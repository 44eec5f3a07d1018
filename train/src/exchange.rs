//! The update exchange: how the gradients of a step get from the workers that computed them to all that apply them.

pub mod encoded;
pub mod memory;
pub mod store;
pub mod writer;

use std::sync::Arc;
use std::time::Duration;

use schemas::message::Sizes;
use train_core::wire::WireError;

use crate::protocol::worker::Collect;
use crate::service::ServiceError;

/// A failure of the exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The same slot of a step was published with another gradient.
    #[error("step {step}, slot {slot}: published twice with different gradients")]
    Contradiction {
        /// The step.
        step: u64,
        /// The slot.
        slot: u32,
    },
    /// The server that keeps the gradients.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Bytes that are no gradient of this run's model.
    #[error("{name}: {source}")]
    Bytes {
        /// Under which name they are kept.
        name: store::Name,
        /// What is wrong.
        source: WireError,
    },
}

/// What was collected of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Collected<G> {
    /// Slots that are missing still, of all or of some slice.
    Missing(Vec<u32>),
    /// The gradients in the order of their slots.
    Slots(Vec<Arc<G>>),
    /// The reduced gradients in the order of their slices.
    Reduced(Vec<Arc<G>>),
}

/// What a worker has moved since it last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes published.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
    /// Time spent waiting for others.
    pub waited: Duration,
}

/// Moves gradients of the kind `G` between the workers of one run.
///
/// Every slot of a step is published by one worker and read by all. Published gradients are kept until they are
/// released. Implementations pass the suite in `tests/conformance.rs`.
pub trait UpdateExchange<G>: Send + Sync {
    /// Makes the gradient of `slot` in `step` available to all, in slices if `reduce_scatter`; it may be on its way still when this
    /// returns, and a failure may be told by a later call.
    ///
    /// Idempotent: a repeated call with an equal gradient changes nothing, also after the step was released.
    ///
    /// # Errors
    /// [`ExchangeError::Contradiction`] when the slot already holds another gradient; it then keeps the first. A failure of the
    /// transport.
    fn publish(&self, step: u64, slot: u32, gradient: Arc<G>, reduce_scatter: bool) -> Result<(), ExchangeError>;

    /// Waits, at most for `wait`, until all that was published can be had by all; whether it can. Whoever says that a gradient is there
    /// must be right, or those who come late wait for it in vain.
    ///
    /// # Errors
    /// A failure of the transport.
    fn settle(&self, wait: Duration) -> Result<bool, ExchangeError>;

    /// Waits, at most for `wait`, until all `n_slots` gradients of the step can be had. Any number of workers may wait for the same
    /// step; one that waits again goes on where it left off.
    ///
    /// # Errors
    /// A failure of the transport. That something is missing is no error.
    fn collect(&self, collect: Collect, n_slots: u32, wait: Duration) -> Result<Collected<G>, ExchangeError>;

    /// Publishes once more what this worker has published last, in case it was lost.
    ///
    /// # Errors
    /// A failure of the transport.
    fn publish_again(&self) -> Result<(), ExchangeError>;

    /// Forgets all steps below `step`: nobody will read them any more. Idempotent. As [`Self::publish`], it may end later.
    ///
    /// # Errors
    /// A failure of the transport.
    fn release(&self, step: u64) -> Result<(), ExchangeError>;

    /// What was moved since the last call.
    fn traffic(&self) -> Traffic;

    /// How large gradients are when they are moved, once a step was collected; nothing where nothing is moved.
    fn sizes(&self) -> Option<Sizes>;
}

/// A second round of messages costs about as much as moving this many bytes.
const ROUND_BYTES: u64 = 256 << 10;

/// Whether a step of `n_slots` gradients moves clearly fewer bytes a worker when each of `n_workers` reduces some slices.
///
/// All to all, everybody reads all gradients. In slices, the gradients are read once in all, and everybody reads the reduced one.
#[must_use]
pub fn reduce_scatter_pays(sizes: Sizes, n_workers: u32, n_slots: u32) -> bool {
    let Sizes { slot, reduced } = sizes;
    let (workers, slots) = (u64::from(n_workers), u64::from(n_slots));
    let all_to_all = workers * slots * slot;
    let reduce_scatter = 2 * slots * slot + workers * reduced;
    all_to_all > reduce_scatter + workers * ROUND_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_workers_with_large_gradients_reduce_in_slices() {
        // Sparse logistic regression over 10^6 buckets: 43,000 of them in a batch, 390,000 in 24.
        let sparse = Sizes { slot: 210_000, reduced: 1_800_000 };
        assert!(reduce_scatter_pays(sparse, 24, 24));
        assert!(!reduce_scatter_pays(sparse, 2, 2));
        assert!(!reduce_scatter_pays(Sizes { slot: 100, reduced: 100 }, 24, 24), "the dense one is too small to cut");
    }
}
