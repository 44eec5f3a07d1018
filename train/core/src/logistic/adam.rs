//! Reduction of a step's gradients, and Adam, equal to `torch.optim.Adam`:
//!
//! `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
//! `w <- w - eta (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + 1e-8)` for `t = 1, 2, ...`
//!
//! for every parameter in every step, also for those without a gradient, which go on moving under their moments. L2 adds
//! `l2 w` to the gradient, but for the intercept. Source: Kingma and Ba, *Adam*, ICLR 2015, algorithm 1.

use super::Space;
use super::gradient::Gradient;
use super::weights::Block;
use crate::float::power;
use crate::lanes::{LANES, Lane, Simd, dispatch, prefetch_to_write};

/// What is added to the root, outside of it.
const EPSILON: f32 = 1e-8;

/// Moments smaller than this count as 0. `sqrt(2^-100)` is 1e-15, far below the epsilon, and a step of 1e-30 / 1e-8 moves no
/// weight; but subnormal numbers, which moments decay to, are slow.
const TINY: f32 = 1.0 / (1u128 << 100) as f32;

/// Parameters that are reduced and updated together, so that their gradient stays in the first-level cache.
const CHUNK: usize = 2048;

/// The settings of the optimiser in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate, `eta`.
    pub learning_rate: f64,
    /// Decay of the first moments, `b1`.
    pub beta1: f64,
    /// Decay of the second moments, `b2`.
    pub beta2: f64,
    /// Weight of the L2 term.
    pub l2: f64,
}

/// The gradient of one mini-batch as part of a step.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What its sums are multiplied by.
    pub weight: f32,
    /// The sums.
    pub gradient: &'a Gradient,
}

/// Buffers of [`apply`], to be used again.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// How far the ids of each part are used up.
    used: Vec<usize>,
    /// Sums of left subtrees that wait for their right one.
    sums: Vec<Sum>,
}

/// A sum of gradients. As the arrays of a block do, it keeps its distance in the lower twelve bits of its address.
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
struct Sum {
    distance: [Lane; 3072 / size_of::<Lane>()],
    lanes: [Lane; CHUNK / LANES],
}

impl Sum {
    const ZERO: Self =
        Self { distance: [[0.0; LANES]; 3072 / size_of::<Lane>()], lanes: [[0.0; LANES]; CHUNK / LANES] };
}

/// What Adam multiplies by in one step.
#[derive(Clone, Copy, Debug)]
struct Factors {
    beta1: f32,
    beta2: f32,
    /// `1 - b1`, `1 - b2`.
    rest: (f32, f32),
    /// `eta / (1 - b1^t)`.
    rate: f32,
    /// `1 / sqrt(1 - b2^t)`.
    root: f32,
    l2: f32,
}

/// Reduces the gradients of a step for the parameters of one block and applies them as step number `step`, counted from 0.
///
/// The weighted gradients are added along a binary tree over the positions of `parts`: parts `a` and `b` meet at the highest
/// bit in which their positions differ. So the order of the sum does not depend on who computed them.
///
/// # Panics
/// When the block is not at the state after `step` steps.
pub fn apply(
    simd: Simd,
    space: &Space,
    adam: Adam,
    step: u32,
    parts: &[Part<'_>],
    block: &mut Block<'_>,
    scratch: &mut Scratch,
) {
    assert!(block.steps == step, "block after {} steps cannot take step {step}", block.steps);
    let t = u64::from(step) + 1;
    let factors = Factors {
        beta1: adam.beta1 as f32,
        beta2: adam.beta2 as f32,
        rest: ((1.0 - adam.beta1) as f32, (1.0 - adam.beta2) as f32),
        rate: (adam.learning_rate / (1.0 - power(adam.beta1, t))) as f32,
        root: (1.0 / (1.0 - power(adam.beta2, t)).sqrt()) as f32,
        l2: adam.l2 as f32,
    };
    for scaled in &block.scaled {
        block.effects[scaled.at] = scaled.weight;
    }
    let Scratch { used, sums } = scratch;
    used.clear();
    used.extend(parts.iter().map(|part| part.gradient.ids.partition_point(|&id| (id as usize) < block.first)));
    for start in (0..block.len).step_by(CHUNK) {
        let len = CHUNK.min(block.len - start);
        let next = (start + CHUNK).min(block.len)..(start + 2 * CHUNK).min(block.len);
        prefetch_to_write(&mut block.effects[next]);
        reduce(parts, used, block.first + start, sums);
        // The intercept is the last parameter; nothing pulls it towards 0.
        let decayed = space.n_features().saturating_sub(block.first + start).min(len);
        let chunk = start..start + len;
        update(
            simd,
            &factors,
            decayed,
            &sums[0].lanes.as_flattened()[..len],
            &mut block.effects[chunk.clone()],
            &mut block.means[chunk.clone()],
            &mut block.squares[chunk],
        );
    }
    for scaled in &mut block.scaled {
        scaled.weight = block.effects[scaled.at];
        block.effects[scaled.at] = scaled.weight * scaled.value;
    }
    block.steps = step + 1;
}

/// The sum of all parts for the parameters from `first` on, into `sums[0]`. A subtree is summed as soon as the next part lies
/// outside it.
fn reduce(parts: &[Part<'_>], used: &mut [usize], first: usize, sums: &mut Vec<Sum>) {
    let mut depth = 0;
    for (i, pair) in parts.chunks(2).enumerate() {
        if sums.len() == depth {
            sums.push(Sum::ZERO);
        }
        let sum = sums[depth].lanes.as_flattened_mut();
        sum.fill(0.0);
        for (part, used) in pair.iter().zip(&mut used[2 * i..]) {
            scatter(part, used, first, sum);
        }
        depth += 1;
        for _ in 0..(i + 1).trailing_zeros() {
            merge(sums, &mut depth);
        }
    }
    while depth > 1 {
        merge(sums, &mut depth);
    }
}

/// Adds what `part` has for the parameters from `first` on.
fn scatter(part: &Part<'_>, used: &mut usize, first: usize, sum: &mut [f32]) {
    let (ids, values) = (&part.gradient.ids[*used..], &part.gradient.values[*used..]);
    for (&id, &value) in ids.iter().zip(values) {
        let Some(sum) = sum.get_mut(id as usize - first) else { break };
        *sum += part.weight * value;
        *used += 1;
    }
}

/// The last of the sums is added to the one before it.
fn merge(sums: &mut [Sum], depth: &mut usize) {
    let (left, right) = sums.split_at_mut(*depth - 1);
    if let Some(left) = left.last_mut() {
        let right = right[0].lanes.as_flattened();
        left.lanes.as_flattened_mut().iter_mut().zip(right).for_each(|(left, right)| *left += right);
    }
    *depth -= 1;
}

dispatch! {
    fn update(
        factors: &Factors, decayed: usize, gradient: &[f32], weights: &mut [f32], means: &mut [f32], squares: &mut [f32]
    ) -> () = {
        let (inside, outside) = gradient.split_at(decayed);
        let (inside_weights, outside_weights) = weights.split_at_mut(decayed);
        let (inside_means, outside_means) = means.split_at_mut(decayed);
        let (inside_squares, outside_squares) = squares.split_at_mut(decayed);
        update_all(factors, factors.l2, inside, inside_weights, inside_means, inside_squares);
        update_all(factors, 0.0, outside, outside_weights, outside_means, outside_squares);
    }
}

#[inline(always)]
fn update_all(
    factors: &Factors,
    l2: f32,
    gradient: &[f32],
    weights: &mut [f32],
    means: &mut [f32],
    squares: &mut [f32],
) {
    let &Factors { beta1, beta2, rest, rate, root, .. } = factors;
    for (((&g, w), m), v) in gradient.iter().zip(weights).zip(means).zip(squares) {
        let g = g + l2 * *w;
        let mean = beta1 * *m + rest.0 * g;
        let square = beta2 * *v + rest.1 * (g * g);
        *m = if mean.abs() < TINY { 0.0 } else { mean };
        *v = if square < TINY { 0.0 } else { square };
        *w -= rate * *m / (v.sqrt() * root + EPSILON);
    }
}
