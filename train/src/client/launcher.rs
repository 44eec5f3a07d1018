//! The port by which the client launches the parts of a run.

use std::time::{Duration, Instant};

use schemas::exit::ErrorKind;

use crate::error::Error;

/// What a part is in a run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// The supervisor of so many workers, which waits so long for the one before it to have it lead.
    Supervisor { workers: u32, waits: Option<Duration> },
    /// A worker, under the supervisor in that life of it.
    Worker { worker: u32, supervisor: u32 },
}

/// How a life has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Well.
    Done,
    /// By itself, with an exit code and an error in words.
    Failed { code: i32, words: String },
    /// By itself, and it said why.
    Told { kind: ErrorKind, error: String, fix: Option<String> },
    /// From outside, or by a limit.
    Killed(String),
}

/// Launches parts.
pub(super) trait Launcher {
    /// Begins the life number `incarnation` of `role`.
    ///
    /// # Errors
    /// When that is refused. One that begins, but later, may say so by its end.
    fn launch(&self, role: Role, incarnation: u32) -> Result<Box<dyn Life>, Error>;
}

/// One life of a supervisor or worker. When this is dropped, nothing of it is left that can be ended from here.
pub(super) trait Life {
    /// Its number.
    fn incarnation(&self) -> u32;

    /// How it has ended, if it has.
    fn ended(&mut self) -> Option<End>;

    /// How long ago it began.
    fn age(&self) -> Duration;

    /// Ends it at once, or has it taken for ended where that cannot be.
    fn kill(&mut self, why: &str);

    /// It has said itself that it is over, and why if it failed.
    fn told(&mut self, _end: End) {}

    /// From when on it has to be paid for, and until when if it is over.
    fn billed(&mut self) -> Option<(Instant, Option<Instant>)> {
        None
    }

    /// Whether nothing of it is left, as far as can be known.
    fn is_over(&mut self) -> bool;

    /// Ends what is left of it, after the run.
    fn end(&mut self);
}
