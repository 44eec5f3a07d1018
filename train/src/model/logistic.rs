//! The weights that the worker threads of one process share: every block behind a lock of its own.

use std::sync::{Arc, RwLock};

use bytes::Bytes;
use manifests::clicks::{self, BucketColumn, CodedRows, Form};
use schemas::clicks::N_CATEGORICAL;
use schemas::records::Scores;
use schemas::report::{LogisticSettings, LrDecay, Reduce};
use train_core::lanes::Simd;
use train_core::logistic::adam::{self, Adam, Part, apply, apply_reduced, reduce};
use train_core::logistic::gradient::{self, Gradient, gradient, loss, outputs, probabilities};
use train_core::logistic::weights::{BLOCK, Block, Effects, Weights, floats, start};
use train_core::logistic::{Buckets, Clicks, Space};
use train_core::order::Schedule;
use train_core::quality::Tally;
use train_core::wire::logistic::{decode, encode, read_state, write_state};
use train_core::wire::{Slice, WireError};

use super::{LOCK, Loss, Model, Share, take_turns};

/// The weights with Adam's moments, for any number of threads.
#[derive(Debug)]
pub struct Replica<'m> {
    simd: Simd,
    form: Form,
    space: Space,
    settings: LogisticSettings,
    schedule: Schedule,
    blocks: Vec<RwLock<Block<'m>>>,
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub struct Scratch {
    gradient: gradient::Scratch,
    apply: adam::Scratch,
    probabilities: Vec<f32>,
    tally: Option<Tally>,
}

/// Gives `see` the rows as the kernels want them.
pub(crate) fn with_clicks<T>(form: Form, rows: &CodedRows, see: impl FnOnce(&Clicks<'_>) -> T) -> T {
    let buckets = rows.buckets.each_ref().map(|column| {
        let BucketColumn { buckets, dictionary, codes } = column;
        if codes.is_empty() { Buckets::Plain(buckets) } else { Buckets::Coded { dictionary, codes } }
    });
    let n_columns = if form.is_sparse() { N_CATEGORICAL } else { 0 };
    see(&Clicks { labels: &rows.labels, numbers: &rows.numbers, buckets: &buckets[..n_columns] })
}

impl<'m> Replica<'m> {
    /// Floats of memory that the weights of `space` take.
    #[must_use]
    pub fn floats(space: &Space) -> usize {
        floats(space)
    }

    /// The weights of `space` at their start, in `memory`, for mini-batches of `form`.
    ///
    /// # Panics
    /// When `memory` has not [`Replica::floats`].
    #[must_use]
    pub fn new(
        simd: Simd,
        form: Form,
        space: Space,
        settings: LogisticSettings,
        schedule: Schedule,
        memory: &'m mut [f32],
    ) -> Self {
        let blocks = start(&space, memory).into_iter().map(RwLock::new).collect();
        Self { simd, form, space, settings, schedule, blocks }
    }

    /// Gives `read` the weights as they are after `steps` steps.
    ///
    /// # Panics
    /// When a block is not at that step: the caller must have applied the step before.
    fn read<T>(&self, steps: u32, read: impl FnOnce(Effects<'_>) -> T) -> T {
        let blocks: Vec<_> = self.blocks.iter().map(|b| b.read().expect(LOCK)).collect();
        assert!(blocks.iter().all(|b| b.steps() == steps), "every block is after {steps} steps");
        let effects: Vec<&[f32; BLOCK]> = blocks.iter().map(|b| b.effects()).collect();
        read(Effects::new(&effects))
    }

    /// The gradients of a step with their weights.
    fn parts<'g>(&self, gradients: &'g [Arc<Gradient>]) -> Vec<Part<'g>> {
        let rows: u64 = gradients.iter().map(|g| u64::from(g.rows)).sum();
        let weight = |g: &Gradient| match self.settings.reduce {
            Reduce::Mean => 1.0 / rows as f32,
            Reduce::Sum => 1.0 / g.rows as f32,
        };
        gradients.iter().map(|g| Part { weight: weight(g), gradient: g }).collect()
    }

    fn adam(&self, step: u32) -> Adam {
        let LogisticSettings { beta1, beta2, l2, .. } = self.settings;
        Adam { learning_rate: self.learning_rate(step), beta1, beta2, l2 }
    }

    fn learning_rate(&self, step: u32) -> f64 {
        let epoch = self.schedule.epoch(step.into()) + 1;
        match self.settings.lr_decay {
            LrDecay::None => self.settings.learning_rate,
            LrDecay::SqrtEpoch => self.settings.learning_rate / (epoch as f64).sqrt(),
        }
    }
}

impl Model for Replica<'_> {
    type Batch = CodedRows;
    type Decoder = ();
    type Gradient = Gradient;
    type Scratch = Scratch;
    type Saved = Weights;

    fn decode(&self, bytes: Bytes, (): &mut (), batch: &mut CodedRows) -> Result<u64, String> {
        clicks::decode_coded(self.form, bytes, batch)?;
        Ok(batch.len as u64)
    }

    fn gradient(&self, step: u32, batch: &CodedRows, scratch: &mut Scratch, out: &mut Gradient) -> Loss {
        with_clicks(self.form, batch, |clicks| {
            self.read(step, |effects| {
                gradient(self.simd, &self.space, effects, clicks, &mut scratch.gradient, out);
            });
        });
        Loss { sum: out.loss_sum, rows: u64::from(out.rows) }
    }

    fn apply(&self, step: u32, gradients: &[Arc<Gradient>], share: Share, scratch: &mut Scratch) {
        let (parts, adam) = (self.parts(gradients), self.adam(step));
        let blocks: Vec<_> = self.blocks.iter().collect();
        take_turns(share, &blocks, |_, block| {
            if block.steps() == step {
                apply(self.simd, &self.space, adam, step, &parts, block, &mut scratch.apply);
            }
        });
    }

    fn encode_gradient(&self, gradient: &Gradient, slice: Slice, out: &mut Vec<u8>) {
        encode(&self.space, gradient, slice, out);
    }

    fn decode_gradient(
        &self,
        _: u32,
        bytes: &[u8],
        slice: Slice,
        _: &mut Scratch,
        out: &mut Gradient,
    ) -> Result<(), WireError> {
        decode(&self.space, bytes, slice, out)
    }

    fn reduce(&self, gradients: &[Arc<Gradient>], slice: Slice, scratch: &mut Scratch, out: &mut Gradient) {
        reduce(&self.parts(gradients), slice.of(self.space.n_parameters()), &mut scratch.apply, out);
    }

    fn apply_reduced(&self, step: u32, slices: &[Arc<Gradient>], share: Share, scratch: &mut Scratch) {
        let (slices, adam): (Vec<&Gradient>, _) = (slices.iter().map(Arc::as_ref).collect(), self.adam(step));
        let blocks: Vec<_> = self.blocks.iter().collect();
        take_turns(share, &blocks, |_, block| {
            if block.steps() == step {
                apply_reduced(self.simd, &self.space, adam, step, &slices, block, &mut scratch.apply);
            }
        });
    }

    /// # Panics
    /// When another thread has panicked over a block, or a block is not at that step.
    fn state(&self, steps: u32) -> Vec<u8> {
        let blocks: Vec<_> = self.blocks.iter().map(|b| b.read().expect(LOCK)).collect();
        write_state(&self.space, steps, &blocks.iter().map(|b| &**b).collect::<Vec<_>>())
    }

    /// # Panics
    /// When another thread has panicked over a block.
    fn restore(&self, bytes: &[u8]) -> Result<u32, WireError> {
        let mut blocks: Vec<_> = self.blocks.iter().map(|b| b.write().expect(LOCK)).collect();
        read_state(&self.space, bytes, &mut blocks.iter_mut().map(|b| &mut **b).collect::<Vec<_>>())
    }

    fn measure(&self, steps: u32, batch: &CodedRows, scratch: &mut Scratch) -> Loss {
        let Scratch { gradient, probabilities: p, tally, .. } = scratch;
        let outputs = with_clicks(self.form, batch, |clicks| {
            self.read(steps, |effects| outputs(self.simd, &self.space, effects, clicks, gradient))
        });
        p.clear();
        p.extend_from_slice(outputs);
        probabilities(self.simd, p);
        tally.get_or_insert_default().add(outputs, p, &batch.labels);
        Loss { sum: loss(self.simd, outputs, &batch.labels), rows: batch.len as u64 }
    }

    fn scores(&self, scratch: &mut Scratch) -> Scores {
        let tally = scratch.tally.take().unwrap_or_default();
        Scores::Clicks { predicted: tally.predicted(), bins: tally.filled().collect() }
    }

    /// # Panics
    /// When another thread has panicked over a block.
    fn saved(&self, steps: u32) -> Weights {
        let blocks: Vec<_> = self.blocks.iter().map(|b| b.read().expect(LOCK)).collect();
        assert!(blocks.iter().all(|b| b.steps() == steps), "every block is after {steps} steps");
        Weights::of(&self.space, &blocks.iter().map(|b| &**b).collect::<Vec<_>>())
    }
}
