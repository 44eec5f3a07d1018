//! What is seen of a run while it goes on: by the person who began it, and by those who watch it from elsewhere.

use serde::{Deserialize, Serialize};

/// A run as it is at one moment. Its size is bounded: losses are thinned, and there is one lane a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Place of the run.
    pub run: String,
    /// What the loss is called.
    pub loss: String,
    /// What a row is called.
    pub rows_are: String,
    /// Epochs, at most.
    pub max_epochs: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Rows of all epochs.
    pub total_rows: u64,
    /// How long the run may take, in seconds, if that is limited.
    pub max_seconds: Option<f64>,
    /// Since the start of the command that trains, in seconds.
    pub seconds: f64,
    /// Steps that are done.
    pub steps: u64,
    /// Rows of these steps.
    pub rows: u64,
    /// Steps a second, of late.
    pub steps_per_second: f64,
    /// Rows a second, of late.
    pub rows_per_second: f64,
    /// Bytes of gradients that all workers wrote and read in a step, of late.
    pub bytes_per_step: u64,
    /// Training losses, each the mean over some steps; the last is of the newest ones.
    pub train: Vec<Point>,
    /// Held-out losses.
    pub held_out: Vec<Point>,
    /// The last evaluation.
    pub evaluated: Option<Evaluated>,
    /// The evaluation with the least loss.
    pub best: Option<Evaluated>,
    /// The workers.
    pub lanes: Vec<Lane>,
    /// How often a part of the run was launched again after its death.
    pub relaunches: u32,
    /// How often a part of the run handed over to a successor before its time was over.
    pub handovers: u32,
    /// What the run has cost, in US dollars, if it costs by the second.
    pub usd: Option<f64>,
    /// What it may cost.
    pub budget: Option<f64>,
    /// What is out of the ordinary.
    pub trouble: Option<String>,
}

/// A loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The last step that it is of, from 0.
    pub step: u64,
    /// The loss, as people are shown it.
    pub loss: f64,
}

/// A held-out loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The loss.
    pub loss: f64,
}

/// A worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its number.
    pub worker: u32,
    /// Which life of it.
    pub incarnation: u32,
    /// What it is at.
    pub phase: Phase,
    /// Seconds since it was last heard of, or since the start of the run.
    pub silence: u32,
    /// Where the time of its last steps went.
    pub shares: Shares,
    /// Bytes of gradients that it wrote and read in a step.
    pub bytes: u64,
}

/// What a worker is at, as far as its messages tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was launched and has said nothing yet.
    Starting,
    /// It takes part in turns that are too short to look into.
    Stepping,
    /// It has not reported the step yet.
    Computing,
    /// It has not reported its held-out mini-batches yet.
    Evaluating,
    /// It has not reported its end yet.
    Ending,
    /// It has reported, and others have not.
    Waiting,
    /// It follows the run and has no share of the work yet.
    CatchingUp,
    /// It stores a model beside its work.
    Storing,
    /// Its time runs out, and it works on until its successor has caught up.
    Leaving,
}

/// Where the time of a worker's steps went, in percent; all are 0 while nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Decoding, gradients, reducing and applying.
    pub compute: u8,
    /// Writing and reading gradients.
    pub exchange: u8,
    /// Waiting for the gradients of others and for the supervisor.
    pub wait: u8,
    /// Waiting for mini-batches from storage.
    pub read: u8,
}
