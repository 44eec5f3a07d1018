//! What training needs of a model. Workers, supervisor and exchange are the same for all models; this is where they differ.
//!
//! A model here is a replica: parameters in the memory of one process, shared by its worker threads. In the gradient phase all
//! threads read them; in the apply phase [`take_turns`] shares the blocks out.

pub mod logistic;
pub mod pmf;

use std::sync::{Arc, RwLock, TryLockError};

use bytes::Bytes;
use schemas::records::Scores;
use schemas::report::ClickQuality;
use train_core::quality::{Quality, Tally};
use train_core::wire::{Slice, WireError};

/// A model that is being trained.
pub trait Model: Sync {
    /// A mini-batch as the kernels want it.
    type Batch: Default + Send;
    /// Buffers that decoding needs.
    type Decoder: Default + Send;
    /// The gradient of a mini-batch.
    type Gradient: Default + PartialEq + Send + Sync;
    /// A worker's buffers.
    type Scratch: Default + Send;
    /// The model as people use it.
    type Saved: Send;

    /// Decodes a stored mini-batch into `batch`, whose buffers are used again, and gives the number of its rows.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file.
    fn decode(&self, bytes: Bytes, decoder: &mut Self::Decoder, batch: &mut Self::Batch) -> Result<u64, String>;

    /// Computes the gradient of `batch` after `step` steps.
    fn gradient(&self, step: u32, batch: &Self::Batch, scratch: &mut Self::Scratch, out: &mut Self::Gradient) -> Loss;

    /// Reduces `gradients` (in the order of their slots) and applies them as step number `step`, together with the other
    /// workers that call this for the same step.
    fn apply(&self, step: u32, gradients: &[Arc<Self::Gradient>], share: Share, scratch: &mut Self::Scratch);

    /// Appends to `out` what is in `slice` of `gradient`, as it travels. Equal gradients give equal bytes.
    fn encode_gradient(&self, gradient: &Self::Gradient, slice: Slice, out: &mut Vec<u8>);

    /// Decodes into `out`, whose buffers are used again, what [`Model::encode_gradient`] of an equal model made of `slice` of a gradient
    /// of step number `step`. The model must be as it was when the gradient was computed: after `step` steps.
    ///
    /// # Errors
    /// When the bytes are anything else; `out` is then of no use.
    fn decode_gradient(
        &self,
        step: u32,
        bytes: &[u8],
        slice: Slice,
        scratch: &mut Self::Scratch,
        out: &mut Self::Gradient,
    ) -> Result<(), WireError>;

    /// Reduces what is in `slice` of `gradients` (in the order of their slots, whole or just that slice of each) into `out`, as
    /// [`Model::apply`] does: a step of the reduced slices gives the same bits as one of the gradients.
    fn reduce(
        &self,
        gradients: &[Arc<Self::Gradient>],
        slice: Slice,
        scratch: &mut Self::Scratch,
        out: &mut Self::Gradient,
    );

    /// Applies what [`Model::reduce`] made of all slices, in their order, as step number `step`, together with the other workers
    /// that call this for the same step.
    fn apply_reduced(&self, step: u32, slices: &[Arc<Self::Gradient>], share: Share, scratch: &mut Self::Scratch);

    /// All that it takes to go on after `steps` steps with the same bits.
    fn state(&self, steps: u32) -> Vec<u8>;

    /// Goes back, or forward, to a [`Model::state`] of an equal model and gives the steps it is after.
    ///
    /// # Errors
    /// When the bytes are anything else; the model is then as it was.
    fn restore(&self, bytes: &[u8]) -> Result<u32, WireError>;

    /// Loss on held-out rows after `steps` steps.
    fn measure(&self, steps: u32, batch: &Self::Batch, scratch: &mut Self::Scratch) -> Loss;

    /// What was counted in `scratch` while rows were measured, which is then forgotten.
    fn scores(&self, scratch: &mut Self::Scratch) -> Scores;

    /// A copy of the model as it is after `steps` steps.
    fn saved(&self, steps: u32) -> Self::Saved;
}

/// A loss over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum over the rows: squared errors in stars, or log losses in nats.
    pub sum: f64,
    /// The rows.
    pub rows: u64,
}

/// How good predictions are that were counted in `tally`, and whose losses, in nats, add up to `loss_sum` over `rows`.
#[must_use]
pub fn click_quality(tally: &Tally, loss_sum: f64, rows: u64) -> ClickQuality {
    let Quality { auc, normalised_entropy, calibration } = tally.quality(loss_sum);
    ClickQuality { log_loss: loss_sum / rows as f64, auc, normalised_entropy, calibration }
}

/// Which worker of how many.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The worker.
    pub worker: u32,
    /// Workers of the run.
    pub n_workers: u32,
}

/// The loss that people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Root mean squared error, in stars.
    Rmse,
    /// Mean log loss, in nats.
    LogLoss,
}

impl Metric {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rmse => "RMSE",
            Self::LogLoss => "log loss",
        }
    }

    /// What it is counted in.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Rmse => "stars",
            Self::LogLoss => "nats",
        }
    }

    /// The loss to show for a mean of the rows' losses.
    #[must_use]
    pub fn of_mean(self, mean: f64) -> f64 {
        match self {
            Self::Rmse => mean.sqrt(),
            Self::LogLoss => mean,
        }
    }

    /// The mean of the rows' losses behind a loss that is shown.
    #[must_use]
    pub fn mean_of(self, shown: f64) -> f64 {
        match self {
            Self::Rmse => shown * shown,
            Self::LogLoss => shown,
        }
    }
}

const LOCK: &str = "no holder of this lock panics";

/// Has `take` called for every block, by this thread or by another that calls this at the same time. A thread first takes whichever
/// blocks are free, beginning at its share of them so that threads meet in the middle, then waits for those that another
/// held. `take` must do nothing to a block that is done already; whoever returns knows that all are done.
///
/// Nobody may call this for a step before all gradients of it were published, that is, before all readers have let go.
fn take_turns<B>(share: Share, blocks: &[&RwLock<B>], mut take: impl FnMut(usize, &mut B)) {
    let first = blocks.len() * share.worker as usize / share.n_workers as usize;
    let mut held = Vec::new();
    for i in (first..blocks.len()).chain(0..first) {
        match blocks[i].try_write() {
            Ok(mut block) => take(i, &mut block),
            Err(TryLockError::WouldBlock) => held.push(i),
            Err(TryLockError::Poisoned(_)) => panic!("{LOCK}"),
        }
    }
    for i in held {
        take(i, &mut blocks[i].write().expect(LOCK));
    }
}
