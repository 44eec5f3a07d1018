//! The parameters of a logistic regression in blocks, with Adam's moments.
//!
//! A kernel that reads wants `w / scale` for a bucket of some scale, because that is what a hit adds to the output. So this is
//! what stands in the block, and the weights of the few scaled buckets stand beside it.

use super::Space;

/// Parameters of a block. A power of two, and so many that reading a parameter finds the address of its block in the
/// first-level cache.
pub const BLOCK: usize = 1 << 14;

/// Floats that are kept for each parameter: its value and two moments.
const ARRAYS: usize = 3;

/// Floats between two of these arrays. A processor takes a store for one to the address of a later load when both agree in the
/// lower twelve bits, and makes the load wait. With this gap equal positions are a quarter of 4096 bytes apart in this respect.
const GAP: usize = 1024 + 256;

/// Some consecutive parameters.
#[derive(Debug)]
pub struct Block<'m> {
    /// Position of the first parameter.
    pub(crate) first: usize,
    /// Parameters that are updated; the rest stay 0.
    pub(crate) len: usize,
    /// What a value of 1, or a hit of a bucket, adds to the output.
    pub(crate) effects: &'m mut [f32; BLOCK],
    /// First moments, `m`.
    pub(crate) means: &'m mut [f32; BLOCK],
    /// Second moments, `v`.
    pub(crate) squares: &'m mut [f32; BLOCK],
    /// Parameters whose hits are worth less than 1.
    pub(crate) scaled: Vec<Scaled>,
    pub(crate) steps: u32,
}

/// A parameter whose hits are worth less than 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaled {
    /// Where in the block.
    pub at: usize,
    /// What a hit is worth.
    pub value: f32,
    /// The parameter itself.
    pub weight: f32,
}

impl Block<'_> {
    /// How many steps were applied to this block.
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// What each parameter adds to the output, for [`Effects::new`].
    #[must_use]
    pub const fn effects(&self) -> &[f32; BLOCK] {
        self.effects
    }
}

/// Floats of memory that the parameters of `space` take.
#[must_use]
pub fn floats(space: &Space) -> usize {
    ARRAYS * (BLOCK * space.n_positions().div_ceil(BLOCK) + GAP)
}

/// The parameters of `space` at the start, all 0, in `memory`.
///
/// # Panics
/// When `memory` has not the [`floats`] of `space`, or they are not 0.
#[must_use]
pub fn start<'m>(space: &Space, memory: &'m mut [f32]) -> Vec<Block<'m>> {
    assert!(memory.len() == floats(space), "the memory fits the parameters");
    let n_parameters = space.n_parameters() as usize;
    let (effects, moments) = memory.split_at_mut(memory.len() / ARRAYS);
    let (means, squares) = moments.split_at_mut(moments.len() / 2);
    let arrays = effects.as_chunks_mut().0.iter_mut().zip(means.as_chunks_mut().0).zip(squares.as_chunks_mut().0);
    let block = |(i, ((effects, means), squares)): (usize, ((&'m mut [f32; BLOCK], _), _))| {
        let first = i * BLOCK;
        let scaled = space.scales.iter().map(|&(bucket, value)| (super::N_NUMBERS + bucket as usize, value));
        let scaled = scaled
            .filter(|&(position, _)| (first..first + BLOCK).contains(&position))
            .map(|(position, value)| Scaled { at: position - first, value, weight: 0.0 })
            .collect();
        let len = n_parameters.saturating_sub(first).min(BLOCK);
        Block { first, len, effects, means, squares, scaled, steps: 0 }
    };
    arrays.enumerate().map(block).collect()
}

/// Read access to what each parameter adds to the output.
#[derive(Clone, Copy, Debug)]
pub struct Effects<'a> {
    blocks: &'a [&'a [f32; BLOCK]],
}

impl<'a> Effects<'a> {
    /// The parameters that stand in `blocks`, in order.
    #[must_use]
    pub const fn new(blocks: &'a [&'a [f32; BLOCK]]) -> Self {
        Self { blocks }
    }

    /// What the parameter at `position` adds.
    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> f32 {
        self.blocks[position / BLOCK][position % BLOCK]
    }
}

/// A model as people use it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Weights of the features, shape `(n_features,)`.
    pub features: Vec<f32>,
    /// The intercept, if the model has one.
    pub intercept: Option<f32>,
}

impl Weights {
    /// The parameters that stand in `blocks`.
    #[must_use]
    pub fn of(space: &Space, blocks: &[&Block<'_>]) -> Self {
        let mut features = Vec::with_capacity(space.n_positions());
        for block in blocks {
            let start = features.len();
            features.extend_from_slice(&block.effects[..block.len]);
            block.scaled.iter().for_each(|scaled| features[start + scaled.at] = scaled.weight);
        }
        let intercept = if space.intercept { features.pop() } else { None };
        Self { features, intercept }
    }

    /// What each parameter adds to the output, in the blocks that [`Effects::new`] takes.
    ///
    /// # Panics
    /// When there are not as many weights as `space` has features.
    #[must_use]
    pub fn effects(&self, space: &Space) -> Vec<[f32; BLOCK]> {
        assert!(self.features.len() == space.n_features(), "the weights fit the space");
        let mut blocks = vec![[0.0; BLOCK]; space.n_positions().div_ceil(BLOCK)];
        let flat = blocks.as_flattened_mut();
        flat[..self.features.len()].copy_from_slice(&self.features);
        flat[self.features.len()] = self.intercept.unwrap_or(0.0);
        for &(bucket, value) in &space.scales {
            flat[super::N_NUMBERS + bucket as usize] *= value;
        }
        blocks
    }

    /// Whether every number is one.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.features.iter().chain(&self.intercept).all(|w| w.is_finite())
    }
}
