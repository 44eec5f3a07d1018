//! The control plane: how supervisor and workers reach each other. One direct queue for each receiver and one broadcast to all
//! workers of the run; gradients do not travel here.

pub mod memory;
pub mod rabbitmq;
pub mod wire;

use std::time::Duration;

use schemas::message::{Address, Envelope};

use crate::service::ServiceError;

/// A failure of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody has ever opened the mailbox.
    #[error("{address} has no mailbox")]
    NoMailbox {
        /// The receiver.
        address: Address,
    },
    /// The mailbox is open elsewhere: another process lives this life.
    #[error("another process is {address}")]
    Taken {
        /// Who it is.
        address: Address,
    },
    /// The server that carries the messages.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Carries messages between the parties of one run. Implementations pass the suite in `tests/conformance.rs`.
///
/// Messages of one sender to one receiver arrive in order, as long as nothing fails. When the server or a connection fails,
/// messages may be lost or arrive twice or late; the protocol copes. Every call ends within the deadline that the implementation
/// was made with.
pub trait ControlPlane: Send + Sync {
    /// Opens the mailbox of `address`. Messages that were sent to it since it was first opened and not yet received are in it.
    ///
    /// # Errors
    /// A failure of the transport.
    fn open(&self, address: Address) -> Result<Box<dyn Mailbox>, ControlError>;

    /// Sends to one party.
    ///
    /// # Errors
    /// [`ControlError::NoMailbox`] when the receiver's mailbox was never opened.
    fn send(&self, to: Address, envelope: &Envelope) -> Result<(), ControlError>;

    /// Hands over what is repeated until it is answered: does not wait until it has arrived, and a receiver without a mailbox is no
    /// error. It may overtake, or be overtaken by, what is sent by the other calls.
    ///
    /// # Errors
    /// A failure of the transport, of this or an earlier call.
    fn hand_over(&self, to: Address, envelope: &Envelope) -> Result<(), ControlError>;

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
