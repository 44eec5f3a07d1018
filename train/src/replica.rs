//! The model that the worker threads of one process share: every block of rows behind a lock of its own.
//!
//! In the gradient phase all threads read all blocks. In the apply phase each thread first takes whichever blocks are free and
//! not yet at the next step, then waits for those that another thread held and sees that they are done. Nobody enters the
//! apply phase before all gradients of the step were published, that is, before all readers have let go; and whoever leaves it
//! knows that every block is at the next step.

use std::sync::{RwLock, TryLockError};

use schemas::report::Reduce;
use train_core::factors::{Block, Line, Matrix, Rows, Shape, Side, start};
use train_core::gradient::{Gradient, Model};
use train_core::lanes::Simd;
use train_core::nesterov::{Motion, Part, Scratch, apply};

/// The user and item matrices with their momentum, for any number of threads.
#[derive(Debug)]
pub struct Replica<'m> {
    shape: Shape,
    motion: Motion,
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

const LOCK: &str = "no holder of this lock panics";

impl<'m> Replica<'m> {
    /// Lines of memory that a model of `n_users` and `n_items` takes.
    #[must_use]
    pub fn lines(shape: Shape, n_users: u32, n_items: u32) -> usize {
        shape.lines(n_users) + shape.lines(n_items)
    }

    /// The model at its start, in `memory`.
    ///
    /// # Panics
    /// When `memory` has not [`Replica::lines`].
    #[must_use]
    pub fn new(seed: u64, shape: Shape, motion: Motion, n_users: u32, n_items: u32, memory: &'m mut [Line]) -> Self {
        let (users, items) = memory.split_at_mut(shape.lines(n_users));
        let locked = |blocks: Vec<Block<'m>>| blocks.into_iter().map(RwLock::new).collect();
        Self {
            shape,
            motion,
            users: locked(start(seed, Side::User, shape, n_users, users)),
            items: locked(start(seed, Side::Item, shape, n_items, items)),
        }
    }

    /// Gives `read` the model as it is after `steps` steps.
    ///
    /// # Panics
    /// When a block is not at that step: the caller must have applied the step before.
    pub fn read<T>(&self, steps: u32, read: impl FnOnce(&Model<'_>) -> T) -> T {
        let users: Vec<_> = self.users.iter().map(|b| b.read().expect(LOCK)).collect();
        let items: Vec<_> = self.items.iter().map(|b| b.read().expect(LOCK)).collect();
        assert!(users.iter().chain(&items).all(|b| b.steps() == steps), "every block is after {steps} steps");
        let users: Vec<&Block<'_>> = users.iter().map(|b| &**b).collect();
        let items: Vec<&Block<'_>> = items.iter().map(|b| &**b).collect();
        read(&Model {
            shape: self.shape,
            users: Rows::new(&users),
            items: Rows::new(&items),
            motion: &self.motion,
            steps,
        })
    }

    /// Reduces `gradients` (in the order of their slots) and applies them as step number `step`, together with the other
    /// threads that call this for the same step. `first` says where to begin, so that threads meet in the middle.
    ///
    /// # Panics
    /// When another thread has panicked over a block.
    pub fn apply(
        &self,
        simd: Simd,
        step: u32,
        reduce: Reduce,
        gradients: &[impl AsRef<Gradient>],
        first: usize,
        scratch: &mut Scratch,
    ) {
        let rows: u64 = gradients.iter().map(|g| u64::from(g.as_ref().rows)).sum();
        let weight = |g: &Gradient| match reduce {
            Reduce::Mean => 1.0 / rows as f32,
            Reduce::Sum => 1.0 / g.rows as f32,
        };
        let parts = |side: Side| -> Vec<Part<'_>> {
            let gradients = gradients.iter().map(AsRef::as_ref);
            (0..)
                .zip(gradients)
                .map(|(slot, g)| Part {
                    slot,
                    weight: weight(g),
                    gradients: if side == Side::User { &g.users } else { &g.items },
                })
                .collect()
        };
        let (user_parts, item_parts) = (parts(Side::User), parts(Side::Item));
        let n_blocks = self.n_blocks();
        let mut take = |block: &mut Block<'_>, parts: &[Part<'_>]| {
            if block.steps() == step {
                apply(simd, self.shape, &self.motion, step, parts, block, scratch);
            }
        };
        let mut held = Vec::new();
        for i in (first..n_blocks).chain(0..first.min(n_blocks)) {
            let (lock, parts) = match i.checked_sub(self.users.len()) {
                None => (&self.users[i], &user_parts),
                Some(i) => (&self.items[i], &item_parts),
            };
            match lock.try_write() {
                Ok(mut block) => take(&mut block, parts),
                Err(TryLockError::WouldBlock) => held.push((lock, parts)),
                Err(TryLockError::Poisoned(_)) => panic!("{LOCK}"),
            }
        }
        for (lock, parts) in held {
            take(&mut lock.write().expect(LOCK), parts);
        }
    }

    /// How many blocks there are.
    #[must_use]
    pub fn n_blocks(&self) -> usize {
        self.users.len() + self.items.len()
    }

    /// A copy of the model as it is after `steps` steps.
    ///
    /// # Panics
    /// When another thread has panicked over a block.
    #[must_use]
    pub fn factors(&self, steps: u32) -> Factors {
        let matrix = |blocks: &[RwLock<Block<'m>>]| {
            let blocks: Vec<_> = blocks.iter().map(|b| b.read().expect(LOCK)).collect();
            assert!(blocks.iter().all(|b| b.steps() == steps), "every block is after {steps} steps");
            let blocks: Vec<&Block<'_>> = blocks.iter().map(|b| &**b).collect();
            Matrix::of(&blocks, self.shape, &self.motion, steps)
        };
        Factors { users: matrix(&self.users), items: matrix(&self.items) }
    }
}
