//! What can go wrong with a server that a run needs: its Redis, its RabbitMQ, its object storage.

use schemas::exit::{ErrorKind, Explain};

/// A failure of a server. Temporary ones have been tried again until the deadline before they become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ServiceError {
    /// The server, by its address without user and password.
    pub place: String,
    /// What went wrong, in its own words where it has any.
    pub problem: String,
    /// What kind of failure.
    pub kind: ErrorKind,
    /// The remedy in words.
    pub fix: String,
}

impl Explain for ServiceError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn fix(&self) -> Option<String> {
        Some(self.fix.clone())
    }
}
