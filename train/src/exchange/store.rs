//! Where encoded gradients lie between the workers that write them and those that read them: soft state, which may be lost at any
//! moment and is then written again.

pub mod memory;
pub mod object;
pub mod redis;

use bytes::Bytes;

use crate::service::ServiceError;

/// The name of one piece of a step. Whoever writes it, its bytes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The whole gradient of a slot.
    Gradient {
        /// The step.
        step: u64,
        /// The slot.
        slot: u32,
    },
    /// The part of a slot's gradient that is in one slice of the parameters.
    Slice {
        /// The step.
        step: u64,
        /// The slot.
        slot: u32,
        /// The slice.
        slice: u32,
    },
    /// The reduced gradient of one slice of the parameters.
    Reduced {
        /// The step.
        step: u64,
        /// The slice.
        slice: u32,
    },
}

impl Name {
    /// The step that it belongs to.
    #[must_use]
    pub const fn step(&self) -> u64 {
        match self {
            Self::Gradient { step, .. } | Self::Slice { step, .. } | Self::Reduced { step, .. } => *step,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gradient { step, slot } => write!(f, "{step}/g{slot}"),
            Self::Slice { step, slot, slice } => write!(f, "{step}/g{slot}.{slice}"),
            Self::Reduced { step, slice } => write!(f, "{step}/r{slice}"),
        }
    }
}

/// Keeps named bytes for a while. Implementations pass the suite in `tests/conformance.rs`.
///
/// Every call ends within the deadline that the implementation was made with.
pub trait Store: Send + Sync {
    /// Keeps `pieces`. When this returns, everybody can read them.
    ///
    /// Idempotent: the same pieces may be written again, also by somebody else.
    ///
    /// # Errors
    /// When the server cannot be reached in time or refuses.
    fn put(&self, pieces: &[(Name, Bytes)]) -> Result<(), ServiceError>;

    /// The pieces that are there, in the order of `names`.
    ///
    /// # Errors
    /// When the server cannot be reached in time or refuses. That a piece is not there is no error.
    fn get(&self, names: &[Name]) -> Result<Vec<Option<Bytes>>, ServiceError>;

    /// Forgets pieces. Those that are not there are fine.
    ///
    /// # Errors
    /// When the server cannot be reached in time or refuses.
    fn delete(&self, names: &[Name]) -> Result<(), ServiceError>;
}
