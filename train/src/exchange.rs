//! The update exchange: how the gradients of a step get from the workers that computed them to all that apply them.

pub mod memory;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

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
    /// A slot that is not there, or no longer.
    #[error("step {step}, slot {slot}: not published, or already released")]
    Absent {
        /// The step.
        step: u64,
        /// The slot.
        slot: u32,
    },
}

/// Moves gradients of the kind `G` between the workers of one run.
///
/// Every slot of a step is published by one worker and read by all. Published gradients are kept until they are
/// released. Implementations pass the suite in `tests/conformance.rs`.
pub trait UpdateExchange<G>: Send + Sync {
    /// Makes the gradient of `slot` in `step` available to all.
    ///
    /// Idempotent: a repeated call with an equal gradient changes nothing, also after the step was released.
    ///
    /// # Errors
    /// [`ExchangeError::Contradiction`] when the slot already holds another gradient; it then keeps the first.
    fn publish(&self, step: u64, slot: u32, gradient: Arc<G>) -> Result<(), ExchangeError>;

    /// Waits, at most for `wait`, until slots `0..n_slots` of `step` are all published, and gives those that are still
    /// missing. Any number of workers may wait for the same step.
    ///
    /// # Errors
    /// A failure of the transport. That something is missing is no error.
    fn missing(&self, step: u64, n_slots: u32, wait: Duration) -> Result<Vec<u32>, ExchangeError>;

    /// The gradients of slots `0..n_slots` of `step`, in the order of the slots.
    ///
    /// # Errors
    /// [`ExchangeError::Absent`] for a slot that was not published or is already released.
    fn read(&self, step: u64, n_slots: u32) -> Result<Vec<Arc<G>>, ExchangeError>;

    /// Forgets all steps below `step`: nobody will read them any more. Idempotent.
    ///
    /// # Errors
    /// A failure of the transport.
    fn release(&self, step: u64) -> Result<(), ExchangeError>;
}
