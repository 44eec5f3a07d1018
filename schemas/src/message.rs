//! What client, supervisor and workers say to each other: control messages only. Gradients travel through the update exchange.
//!
//! Every message is in an [`Envelope`] that names protocol version, run, sender and incarnation, so that a message from
//! another version, another run or an earlier life of its sender is recognised and refused. Any message may be lost, late, delivered
//! twice or out of order: what the supervisor wants is one [`Directive`] at a time, numbered by its [`Turn`], which it repeats until it
//! has been answered, and workers repeat their answers until they get the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dataset::Object;
use crate::exit::ErrorKind;
use crate::live::{Lane, Seen};
use crate::records::{BatchLoss, EvaluationRecord, Outcome, Scores, StepRecord, StepTimings};
use crate::report::StopReason;

/// Version of the protocol that this build speaks.
pub const PROTOCOL: u32 = 4;

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Party {
    /// Who launched the run and collects its result.
    Client,
    /// The one supervisor of a run.
    Supervisor,
    /// A worker, by its number from 0.
    Worker(u32),
    /// Who looks on, by a number of its own choice.
    Watcher(u32),
}

impl Party {
    /// The address of this party in its life number `incarnation`.
    #[must_use]
    pub const fn life(self, incarnation: u32) -> Address {
        Address { party: self, incarnation }
    }
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client => f.write_str("the client"),
            Self::Supervisor => f.write_str("the supervisor"),
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Watcher(number) => write!(f, "watcher {number}"),
        }
    }
}

/// One life of a party: where messages for it go. A party that was launched again has another address, so that it does not get what
/// its predecessor was told, nor its predecessor what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// The party.
    pub party: Party,
    /// Which life of it, from 0.
    pub incarnation: u32,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, incarnation {}", self.party, self.incarnation)
    }
}

/// A message with its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Version of the protocol, [`PROTOCOL`].
    pub protocol: u32,
    /// The run it belongs to.
    pub run: String,
    /// Who sent it, in which life.
    pub sender: Address,
    /// What is said.
    pub message: Message,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Worker to supervisor, or supervisor to the one before it: its life has begun, and it wants to know what to do.
    Hello,
    /// Worker to supervisor: what it was told to do in `turn` is done.
    Report {
        /// The turn.
        turn: Turn,
        /// What came of it.
        result: Work,
        /// The models that this worker has stored since the newest checkpoint that it knows of.
        stored: Vec<Stored>,
    },
    /// Worker to supervisor: gradients of an earlier step, which it has to catch up with, are gone.
    Missing {
        /// The turn in which they were needed.
        turn: Turn,
        /// Their step.
        step: u64,
    },
    /// Worker to supervisor: it cannot go on. Client to watcher: it does not let it watch.
    Failed {
        /// What kind of failure.
        kind: ErrorKind,
        /// The error in words.
        error: String,
        /// The remedy in words.
        fix: Option<String>,
    },
    /// Worker to supervisor, or supervisor to client: its time is running out, and it works on until a successor can take over.
    Leaving {
        /// What is left of its time.
        left: Duration,
    },
    /// Supervisor to workers: what to do.
    Directive(Directive),
    /// Supervisor to workers: the run is over.
    Dismiss,
    /// Supervisor to one life of a worker: a later one has taken its place.
    Relieved,
    /// Supervisor to its successor: lead the run from here.
    Lead,
    /// Client to supervisor: go on with this many workers.
    Scale {
        /// Workers from now on.
        n_workers: u32,
    },
    /// Client to supervisor: save the model and stop.
    Stop,
    /// Supervisor to client: which workers there should be.
    Launch {
        /// Workers `0..n_workers` belong to the run.
        n_workers: u32,
        /// Worker and incarnation of those that were not heard of for too long: they are to be replaced.
        silent: Vec<(u32, u32)>,
    },
    /// Supervisor to client: launch a successor of this life, which is still needed.
    Succeed {
        /// The worker.
        worker: u32,
        /// The life that is about to end.
        incarnation: u32,
    },
    /// Supervisor to client: what has happened since the last time.
    Shown {
        /// The last step.
        step: Option<StepRecord>,
        /// Rows of all steps so far.
        rows: u64,
        /// The losses of the steps since the last time.
        losses: Losses,
        /// Evaluations.
        evaluations: Vec<EvaluationRecord>,
        /// What the workers are at; empty when that was said a moment ago.
        lanes: Vec<Lane>,
    },
    /// Watcher to client: it wants to see the run for the next seconds.
    Watch,
    /// Client to watcher: the run as it is.
    Seen(Box<Seen>),
    /// A part that the client cannot watch, to the client, or the client to a watcher: this life is over.
    Gone {
        /// Why, if it could not go on.
        failure: Option<Failure>,
    },
    /// Supervisor to client: the run is over, and everything is on record.
    Ended(Outcome),
}

/// The losses of some steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Sum of the rows' losses.
    pub loss_sum: f64,
    /// Rows.
    pub rows: u64,
}

/// Why a part of a run could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// The error in words.
    pub error: String,
    /// The remedy in words.
    pub fix: Option<String>,
}

/// The number of a directive: a supervisor that was launched again goes on above all of its predecessor's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// The supervisor's incarnation.
    pub supervisor: u32,
    /// The number within it, from 1.
    pub number: u64,
}

/// What all workers do next, and everything that one who has just begun needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directive {
    /// Its number.
    pub turn: Turn,
    /// Steps that the model must have seen before the task. Who has seen fewer catches up; who has seen more goes back to `base`.
    pub at: u64,
    /// What to do then.
    pub task: Task,
    /// Workers that share the task.
    pub n_workers: u32,
    /// Workers from `n_workers` to here follow the run until the work is shared out anew; those above leave it.
    pub n_members: u32,
    /// Who stores the model as it is after `at` steps.
    pub save: Option<Save>,
    /// The newest checkpoint, if there is one.
    pub base: Option<Stored>,
    /// The first step whose gradients are reduced in slices, if there is one.
    pub reduce_scatter_from: Option<u64>,
    /// Gradients of steps below this are no longer needed.
    pub release_below: u64,
}

/// What to do in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Compute the next step, report it, and apply it.
    Step,
    /// Measure the held-out batches.
    Evaluate {
        /// The epoch that has ended, from 0.
        epoch: u64,
    },
    /// Finish.
    End {
        /// Why; nothing when the run was stopped on request.
        reason: Option<StopReason>,
        /// The result is the model that was last kept rather than the present one.
        save_kept: bool,
    },
}

/// Who stores the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Save {
    /// The worker.
    pub worker: u32,
    /// It may be the result of the run, not only a place to go back to.
    pub keep: bool,
}

/// A model in storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Steps that it has seen.
    pub steps: u64,
    /// Where it lies, relative to the place of the run's checkpoints.
    pub object: Object,
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// The gradients of the worker's batches of the step are published.
    Computed {
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
        /// Where the time of the worker's step before this one went, once known.
        timings: Option<StepTimings>,
        /// How large gradients are, once this worker has measured them.
        sizes: Option<Sizes>,
    },
    /// The worker's held-out batches are measured.
    Evaluated {
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
        /// Its rows, counted by what the model made of them.
        scores: Option<Scores>,
    },
    /// The worker is done.
    Finished {
        /// Where the time of its last step went.
        timings: Option<StepTimings>,
    },
}

/// How large encoded gradients are, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Of the largest slot of a step.
    pub slot: u64,
    /// Of the reduced gradient of the step.
    pub reduced: u64,
}
