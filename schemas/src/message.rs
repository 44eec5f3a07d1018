//! What supervisor and workers say to each other: control messages only. Gradients travel through the update exchange.
//!
//! Every message is in an [`Envelope`] that names protocol version, run, sender and incarnation, so that a message from
//! another version, another run or an earlier life of a worker is recognised and refused. Every message may be delivered
//! twice: receivers go by `step`, `epoch` and [`Milestone`], not by how often they hear something.

use serde::{Deserialize, Serialize};

use crate::exit::ErrorKind;
use crate::report::StopReason;

/// Version of the protocol that this build speaks.
pub const PROTOCOL: u32 = 1;

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// Who launched the run and collects its result.
    Client,
    /// The one supervisor of a run.
    Supervisor,
    /// A worker, by its number from 0.
    Worker(u32),
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
    /// Who sent it.
    pub sender: Party,
    /// Which life of the sender: a relaunched worker has a higher one.
    pub incarnation: u32,
    /// What is said.
    pub message: Message,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A worker is ready.
    Joined,
    /// A worker has computed and published the gradients of its batches of `step`.
    Computed {
        /// The step.
        step: u64,
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
        /// Where the time of the worker's step before this one went, once known.
        timings: Option<StepTimings>,
    },
    /// A worker has measured its held-out batches after `epoch`.
    Evaluated {
        /// The epoch, from 0.
        epoch: u64,
        /// One entry for each of its batches.
        losses: Vec<BatchLoss>,
        /// For click logs: its rows, counted by the model's output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scores: Option<Scores>,
    },
    /// A worker is done.
    Finished {
        /// Where the time of its last step went.
        timings: Option<StepTimings>,
    },
    /// A worker cannot go on.
    Failed {
        /// What kind of failure.
        kind: ErrorKind,
        /// The error in words.
        error: String,
        /// The remedy in words.
        fix: Option<String>,
    },
    /// The supervisor's answer once every worker has passed a milestone.
    Proceed {
        /// The milestone this answers.
        after: Milestone,
        /// Keep the model as it is now: it is the best so far.
        keep_model: bool,
        /// What to do.
        next: Next,
    },
    /// The run has failed: stop at once.
    Abort,
}

/// A point that all workers pass before any goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// Everybody has joined.
    Start,
    /// Everybody has computed this step.
    Step(u64),
    /// Everybody has evaluated after this epoch.
    Evaluation(u64),
}

/// What all workers do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Compute this step.
    Step(u64),
    /// Measure the held-out batches after this epoch.
    Evaluate(u64),
    /// Finish; the model to save is the one that was last kept, or the present one.
    End {
        /// Why.
        reason: StopReason,
        /// Save the kept model rather than the present one.
        save_kept: bool,
    },
}

/// The loss of one mini-batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchLoss {
    /// The batch's position in the step, or among the held-out batches.
    pub slot: u32,
    /// Sum over its rows: squared errors in stars, or log losses in nats.
    pub loss_sum: f64,
    /// Its rows.
    pub rows: u64,
}

/// Held-out rows of one worker, counted by the model's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scores {
    /// Sum of the predicted probabilities, in units of 2^-32.
    pub predicted: u64,
    /// Bin, clicks and other rows, for each bin that is not empty; ascending.
    pub bins: Vec<(u32, u64, u64)>,
}

/// Where the time of one worker's step went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTimings {
    /// The step.
    pub step: u64,
    /// Reading its batches from storage and checking their digests (ahead of time, in the background).
    pub fetch_us: u64,
    /// Decoding them.
    pub decode_us: u64,
    /// Waiting for a batch that was not fetched yet.
    pub batch_wait_us: u64,
    /// Gradients.
    pub compute_us: u64,
    /// Publishing them.
    pub exchange_write_us: u64,
    /// Waiting until all gradients of the step were published.
    pub exchange_wait_us: u64,
    /// Reading them.
    pub exchange_read_us: u64,
    /// Reducing and applying.
    pub apply_us: u64,
    /// Waiting for the supervisor.
    pub decision_us: u64,
}
