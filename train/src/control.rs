//! The control plane: how supervisor and workers reach each other. One direct queue for each receiver and one broadcast to all
//! workers of the run; gradients do not travel here.

pub mod memory;

use std::time::Duration;

use schemas::message::{Envelope, Party};

/// A failure of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody has ever opened the mailbox.
    #[error("{party} has no mailbox")]
    NoMailbox {
        /// The receiver.
        party: Party,
    },
}

/// Carries messages between the parties of one run. Implementations pass the suite in `tests/conformance.rs`.
pub trait ControlPlane: Send + Sync {
    /// Opens the mailbox of `party`. Messages that were sent to it earlier and not yet received are in it.
    ///
    /// # Errors
    /// A failure of the transport.
    fn open(&self, party: Party) -> Result<Box<dyn Mailbox>, ControlError>;

    /// Sends to one party. Messages of one sender to one receiver arrive in order; a message may arrive twice.
    ///
    /// # Errors
    /// [`ControlError::NoMailbox`] when the receiver's mailbox was never opened.
    fn send(&self, to: Party, envelope: &Envelope) -> Result<(), ControlError>;

    /// Sends to every worker whose mailbox is open.
    ///
    /// # Errors
    /// A failure of the transport.
    fn broadcast(&self, envelope: &Envelope) -> Result<(), ControlError>;
}

/// Where one party receives.
pub trait Mailbox: Send {
    /// The next message, or `None` when none came within `wait`.
    ///
    /// # Errors
    /// A failure of the transport.
    fn receive(&mut self, wait: Duration) -> Result<Option<Envelope>, ControlError>;
}
