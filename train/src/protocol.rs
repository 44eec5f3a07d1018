//! The protocol between supervisor and workers, as pure state machines: `(state, event) -> (state, commands)`.
//!
//! There is no I/O, no clock and no thread here; the shells in [`crate::supervisor`] and [`crate::worker`] move messages and
//! carry out commands. Time comes in as an argument.

pub mod course;
pub mod supervisor;
pub mod worker;

use std::time::Duration;

use schemas::message::{Address, Envelope, Message, PROTOCOL, Party};

/// Why a message is refused. A refused message changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A version this build does not speak.
    #[error("protocol version {found} is not {PROTOCOL}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A message of another run.
    #[error("it belongs to run `{run}`")]
    Run {
        /// The other run.
        run: String,
    },
    /// A message from an earlier life of its sender.
    #[error("incarnation {found} of {sender} has been replaced by {current}")]
    Stale {
        /// Who sent it.
        sender: Party,
        /// The incarnation found.
        found: u32,
        /// The one that counts now.
        current: u32,
    },
    /// A message that this receiver does not take from this sender.
    #[error("{sender} does not say this")]
    Unexpected {
        /// Who sent it.
        sender: Party,
    },
}

/// How long a party waits for an answer before it repeats what it has said.
pub const REPEAT: Duration = Duration::from_secs(1);

/// Puts `message` of `sender` in an envelope of this build's protocol.
#[must_use]
pub fn envelope(run: &str, sender: Address, message: Message) -> Envelope {
    Envelope { protocol: PROTOCOL, run: run.to_owned(), sender, message }
}

fn check_origin(envelope: &Envelope, run: &str) -> Result<(), Refusal> {
    if envelope.protocol != PROTOCOL {
        return Err(Refusal::Version { found: envelope.protocol });
    }
    if envelope.run != run {
        return Err(Refusal::Run { run: envelope.run.clone() });
    }
    Ok(())
}
