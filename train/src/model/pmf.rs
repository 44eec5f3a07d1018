//! The user and item matrices that the worker threads of one process share: every block of rows behind a lock of its own.

use std::sync::{Arc, RwLock};

use bytes::Bytes;
use manifests::ratings::{self, RatingRows};
use schemas::records::Scores;
use schemas::report::{PmfSettings, Reduce};
use train_core::lanes::Simd;
use train_core::pmf::batch::{Arranger, RatingBatch};
use train_core::pmf::factors::{Block, Line, Matrix, Rows, Shape, Side, start};
use train_core::pmf::gradient::{self, Gradient, from_residuals, gradient, gradient_with_residuals, squared_error};
use train_core::pmf::nesterov::{self, Motion, Part, apply, reduce};
use train_core::quality::RatingTally;
use train_core::wire::pmf::{Size, Travelled, decode, encode, read_state, write_state};
use train_core::wire::{Slice, WireError};

use super::{LOCK, Loss, Model, Share, take_turns};

/// The user and item matrices with their momentum, for any number of threads.
#[derive(Debug)]
pub struct Replica<'m> {
    simd: Simd,
    shape: Shape,
    motion: Motion,
    l2: f32,
    reduce: Reduce,
    size: (u32, u32),
    /// Gradients are computed with what they follow from.
    residuals: bool,
    users: Vec<RwLock<Block<'m>>>,
    items: Vec<RwLock<Block<'m>>>,
}

/// A model as people use it.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// Rows of users.
    pub users: Matrix,
    /// Rows of items.
    pub items: Matrix,
}

impl Factors {
    /// Whether every number is one.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        [&self.users, &self.items].iter().all(|m| m.factors.iter().chain(&m.biases).all(|x| x.is_finite()))
    }
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub struct Scratch {
    gradient: gradient::Scratch,
    apply: nesterov::Scratch,
    errors: Vec<f32>,
    tally: RatingTally,
}

const fn shape(settings: &PmfSettings) -> Shape {
    Shape { n_factors: settings.factors as usize, biases: settings.biases }
}

impl<'m> Replica<'m> {
    /// Lines of memory that a model of `size` (users, items) takes.
    #[must_use]
    pub fn lines(settings: &PmfSettings, size: (u32, u32)) -> usize {
        shape(settings).lines(size.0) + shape(settings).lines(size.1)
    }

    /// The model of `size` (users, items) at its start, in `memory`.
    ///
    /// # Panics
    /// When `memory` has not [`Replica::lines`].
    #[must_use]
    pub fn new(simd: Simd, settings: &PmfSettings, size: (u32, u32), memory: &'m mut [Line]) -> Self {
        let shape = shape(settings);
        let (users, items) = memory.split_at_mut(shape.lines(size.0));
        let locked = |blocks: Vec<Block<'m>>| blocks.into_iter().map(RwLock::new).collect();
        Self {
            simd,
            shape,
            motion: Motion::new(settings.learning_rate, settings.momentum),
            l2: settings.l2 as f32,
            reduce: settings.reduce,
            size,
            residuals: false,
            users: locked(start(settings.seed, Side::User, shape, size.0, users)),
            items: locked(start(settings.seed, Side::Item, shape, size.1, items)),
        }
    }

    /// One whose gradients are going to travel to other processes: they have residuals.
    #[must_use]
    pub fn with_residuals(self) -> Self {
        Self { residuals: true, ..self }
    }

    const fn size(&self) -> Size {
        Size { shape: self.shape, n_users: self.size.0, n_items: self.size.1 }
    }

    /// The gradients of a step with their weights.
    fn parts<'g>(&self, gradients: &'g [Arc<Gradient>]) -> [Vec<Part<'g>>; 2] {
        let rows: u64 = gradients.iter().map(|g| u64::from(g.rows)).sum();
        parts(gradients, |g| match self.reduce {
            Reduce::Mean => 1.0 / rows as f32,
            Reduce::Sum => 1.0 / g.rows as f32,
        })
    }

    fn apply_parts(&self, step: u32, [users, items]: &[Vec<Part<'_>>; 2], share: Share, scratch: &mut Scratch) {
        let blocks: Vec<_> = self.users.iter().chain(&self.items).collect();
        take_turns(share, &blocks, |i, block| {
            if block.steps() == step {
                let parts = if i < self.users.len() { users } else { items };
                apply(self.simd, self.shape, &self.motion, step, parts, block, &mut scratch.apply);
            }
        });
    }

    /// Gives `read` the model as it is after `steps` steps.
    ///
    /// # Panics
    /// When a block is not at that step: the caller must have applied the step before.
    fn read<T>(&self, steps: u32, read: impl FnOnce(&gradient::Model<'_>) -> T) -> T {
        let users: Vec<_> = self.users.iter().map(|b| b.read().expect(LOCK)).collect();
        let items: Vec<_> = self.items.iter().map(|b| b.read().expect(LOCK)).collect();
        assert!(users.iter().chain(&items).all(|b| b.steps() == steps), "every block is after {steps} steps");
        let users: Vec<&Block<'_>> = users.iter().map(|b| &**b).collect();
        let items: Vec<&Block<'_>> = items.iter().map(|b| &**b).collect();
        read(&gradient::Model {
            shape: self.shape,
            users: Rows::new(&users),
            items: Rows::new(&items),
            motion: &self.motion,
            steps,
        })
    }
}

/// Gradients in the order of their slots, for the users and for the items.
fn parts<'g>(gradients: &'g [Arc<Gradient>], weight: impl Fn(&Gradient) -> f32) -> [Vec<Part<'g>>; 2] {
    [Side::User, Side::Item].map(|side| {
        let slots = (0..).zip(gradients);
        slots
            .map(|(slot, g)| Part {
                slot,
                weight: weight(g),
                gradients: if side == Side::User { &g.users } else { &g.items },
            })
            .collect()
    })
}

impl Model for Replica<'_> {
    type Batch = RatingBatch;
    type Decoder = (RatingRows, Arranger);
    type Gradient = Gradient;
    type Scratch = Scratch;
    type Saved = Factors;

    fn decode(
        &self,
        bytes: Bytes,
        (rows, arranger): &mut Self::Decoder,
        batch: &mut RatingBatch,
    ) -> Result<u64, String> {
        ratings::decode(bytes, rows)?;
        let RatingRows { users, items, ratings } = rows;
        batch.arrange(arranger, self.size, users, items, ratings).map_err(|e| e.to_string())?;
        Ok(ratings.len() as u64)
    }

    fn gradient(&self, step: u32, batch: &RatingBatch, scratch: &mut Scratch, out: &mut Gradient) -> Loss {
        let kernel = if self.residuals { gradient_with_residuals } else { gradient };
        self.read(step, |model| kernel(self.simd, model, self.l2, batch, &mut scratch.gradient, out));
        Loss { sum: out.squared_error, rows: u64::from(out.rows) }
    }

    fn apply(&self, step: u32, gradients: &[Arc<Gradient>], share: Share, scratch: &mut Scratch) {
        self.apply_parts(step, &self.parts(gradients), share, scratch);
    }

    fn encode_gradient(&self, gradient: &Gradient, slice: Slice, out: &mut Vec<u8>) {
        encode(self.size(), gradient, slice, out);
    }

    /// # Panics
    /// When the gradient has travelled as its residuals and a block is not at that step.
    fn decode_gradient(
        &self,
        step: u32,
        bytes: &[u8],
        slice: Slice,
        scratch: &mut Scratch,
        out: &mut Gradient,
    ) -> Result<(), WireError> {
        if decode(self.size(), bytes, slice, out)? == Travelled::Residuals {
            self.read(step, |model| from_residuals(self.simd, model, self.l2, &mut scratch.gradient, out));
        }
        Ok(())
    }

    fn reduce(&self, gradients: &[Arc<Gradient>], slice: Slice, scratch: &mut Scratch, out: &mut Gradient) {
        let [users, items] = self.parts(gradients);
        let size = self.size();
        reduce(self.simd, self.shape, &users, size.users_in(slice), &mut scratch.apply, &mut out.users);
        reduce(self.simd, self.shape, &items, size.items_in(slice), &mut scratch.apply, &mut out.items);
        out.squared_error = gradients.iter().map(|g| g.squared_error).sum();
        out.residuals.clear();
        out.rows = gradients.iter().fold(0, |sum, g| sum.saturating_add(g.rows));
    }

    fn apply_reduced(&self, step: u32, slices: &[Arc<Gradient>], share: Share, scratch: &mut Scratch) {
        self.apply_parts(step, &parts(slices, |_| 1.0), share, scratch);
    }

    /// # Panics
    /// When another thread has panicked over a block, or a block is not at that step.
    fn state(&self, steps: u32) -> Vec<u8> {
        let blocks: Vec<_> = self.users.iter().chain(&self.items).map(|b| b.read().expect(LOCK)).collect();
        write_state(self.size(), steps, &blocks.iter().map(|b| &**b).collect::<Vec<_>>())
    }

    /// # Panics
    /// When another thread has panicked over a block.
    fn restore(&self, bytes: &[u8]) -> Result<u32, WireError> {
        let mut blocks: Vec<_> = self.users.iter().chain(&self.items).map(|b| b.write().expect(LOCK)).collect();
        read_state(self.size(), bytes, &mut blocks.iter_mut().map(|b| &mut **b).collect::<Vec<_>>())
    }

    fn measure(&self, steps: u32, batch: &RatingBatch, scratch: &mut Scratch) -> Loss {
        let Scratch { gradient, errors, tally, .. } = scratch;
        let sum = self.read(steps, |model| squared_error(self.simd, model, batch, gradient, errors));
        tally.add(&batch.ratings, errors);
        Loss { sum, rows: batch.n_rows() as u64 }
    }

    fn scores(&self, scratch: &mut Scratch) -> Scores {
        let tally = std::mem::take(&mut scratch.tally);
        Scores::Ratings(tally.ratings().iter().map(|e| (e.cell, e.rows, e.ratings, e.errors, e.squares)).collect())
    }

    /// # Panics
    /// When another thread has panicked over a block.
    fn saved(&self, steps: u32) -> Factors {
        let matrix = |blocks: &[RwLock<Block<'_>>]| {
            let blocks: Vec<_> = blocks.iter().map(|b| b.read().expect(LOCK)).collect();
            assert!(blocks.iter().all(|b| b.steps() == steps), "every block is after {steps} steps");
            let blocks: Vec<&Block<'_>> = blocks.iter().map(|b| &**b).collect();
            Matrix::of(&blocks, self.shape, &self.motion, steps)
        };
        Factors { users: matrix(&self.users), items: matrix(&self.items) }
    }
}
