//! What the supervisor of a run puts on record, and how a run ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::ErrorKind;
use crate::report::{ClickQuality, StopReason};

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

/// Held-out rows of one worker, counted by what the model made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scores {
    /// By the model's output.
    Clicks {
        /// Sum of the predicted probabilities, in units of 2^-32.
        predicted: u64,
        /// Bin, clicks and other rows, for each bin that is not empty; ascending.
        bins: Vec<(u32, u64, u64)>,
    },
    /// By rating: the cell, its rows, the sums of the ratings (minus the mean) and of prediction minus rating in units of 2^-24 stars,
    /// and that of its square in units of 2^-24 squared stars.
    Ratings(Vec<(i32, u64, i64, i64, u64)>),
}

/// What the best model so far makes of all held-out rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HeldOut {
    /// Groups of neighbouring outputs, ascending: rows, clicks, and the mean of the predicted probabilities.
    Clicks(Vec<(u64, u64, f64)>),
    /// For each rating, ascending: the rating in stars minus the mean, rows, mean of prediction minus rating, and the root mean squared
    /// error, in stars.
    Ratings(Vec<(f64, u64, f64, f64)>),
}

/// Where the time of one worker's step went, in microseconds, and what it moved.
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
    /// Bytes of gradients published.
    pub bytes_written: u64,
    /// Bytes of gradients read.
    pub bytes_read: u64,
}

/// The loss of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step, from 0.
    pub step: u64,
    /// Its epoch, from 0.
    pub epoch: u64,
    /// Time since the start of the run.
    pub time: Duration,
    /// Loss over the step's rows, before the step.
    pub loss: f64,
    /// Sum of the rows' losses.
    pub loss_sum: f64,
    /// Rows of the step.
    pub rows: u64,
}

/// The held-out loss after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The last step before.
    pub step: u64,
    /// Loss over the held-out rows.
    pub loss: f64,
    /// More about the predictions, for click logs.
    pub clicks: Option<ClickQuality>,
    /// Whether it is the best so far.
    pub best: bool,
}

/// Whose gradient of a mini-batch counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The batch's position in the step.
    pub slot: u32,
    /// The worker.
    pub worker: u32,
    /// Which life of it.
    pub incarnation: u32,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// By a stop rule.
    Finished(Finished),
    /// On request, before a stop rule held; it can be resumed.
    Stopped {
        /// Steps that were applied.
        steps: u64,
    },
    /// The loss went out of bounds.
    Diverged {
        /// The step, from 0.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The loss of the first step.
        first_loss: f64,
    },
    /// A worker could not go on.
    Failed {
        /// The worker.
        worker: u32,
        /// What kind of failure.
        kind: ErrorKind,
        /// In words.
        error: String,
        /// The remedy.
        fix: Option<String>,
    },
    /// Workers fell silent.
    Lost {
        /// Which.
        workers: Vec<u32>,
    },
    /// What the workers exchange was lost again and again before anything more could be saved.
    Forgotten {
        /// The step whose gradients were lost, from 0.
        step: u64,
        /// How often.
        times: u32,
    },
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The stop rule.
    pub reason: StopReason,
    /// Steps that were applied.
    pub steps: u64,
    /// The evaluation with the best held-out loss.
    pub best: Option<EvaluationRecord>,
}
