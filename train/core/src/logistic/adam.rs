//! Reduction of a step's gradients, and Adam, equal to `torch.optim.Adam`:
//!
//! `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
//! `w <- w - eta (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + 1e-8)` for `t = 1, 2, ...`
//!
//! for every parameter in every step, also for those without a gradient, which go on moving under their moments. L2 adds
//! `l2 w` to the gradient, but for the intercept. Source: Kingma and Ba, *Adam*, ICLR 2015, algorithm 1.

use std::ops::Range;

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

/// Buffers of [`apply`] and [`reduce`], to be used again.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// How far the ids of each part are used up.
    used: Vec<usize>,
    /// Sums of left subtrees that wait for their right one.
    sums: Vec<Sum>,
    /// One bit a parameter of a chunk: whether a part has it.
    present: Vec<u64>,
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
    let Scratch { used, sums, .. } = scratch;
    begin(parts, used, block.first);
    for start in (0..block.len).step_by(CHUNK) {
        let len = CHUNK.min(block.len - start);
        let next = (start + CHUNK).min(block.len)..(start + 2 * CHUNK).min(block.len);
        prefetch_to_write(&mut block.effects[next]);
        sum_chunk(parts, used, block.first + start, sums);
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

/// Applies the gradients that [`reduce`] made of disjoint slices as step number `step`: the same bits as [`apply`] with the parts that
/// were reduced.
///
/// # Panics
/// When the block is not at the state after `step` steps.
pub fn apply_reduced(
    simd: Simd,
    space: &Space,
    adam: Adam,
    step: u32,
    slices: &[&Gradient],
    block: &mut Block<'_>,
    scratch: &mut Scratch,
) {
    // A sum that has one summand other than 0 does not depend on its order, and no sum here is -0. So most slices need not be looked
    // at for a block.
    let inside = |gradient: &&&Gradient| {
        let ids = &gradient.ids;
        let next = ids.get(ids.partition_point(|&id| (id as usize) < block.first));
        next.is_some_and(|&id| (id as usize) < block.first + block.len)
    };
    let parts: Vec<_> = slices.iter().filter(inside).map(|gradient| Part { weight: 1.0, gradient }).collect();
    apply(simd, space, adam, step, &parts, block, scratch);
}

/// Reduces the gradients of a step for the parameters in `range` into `out`, along the tree of [`apply`]: applied with the weight 1
/// it gives the same bits. The losses are added in the order of `parts`; rows beyond `u32::MAX` count as that.
pub fn reduce(parts: &[Part<'_>], range: Range<u32>, scratch: &mut Scratch, out: &mut Gradient) {
    let Scratch { used, sums, present } = scratch;
    out.loss_sum = parts.iter().map(|part| part.gradient.loss_sum).sum();
    out.rows = parts.iter().fold(0, |sum, part| sum.saturating_add(part.gradient.rows));
    out.ids.clear();
    out.values.clear();
    begin(parts, used, range.start as usize);
    for start in range.clone().step_by(CHUNK) {
        let end = range.end.min(start.saturating_add(CHUNK as u32));
        mark(parts, used, start..end, present);
        sum_chunk(parts, used, start as usize, sums);
        gather(present, start, sums[0].lanes.as_flattened(), out);
    }
}

/// How far the ids of each part lie below `first`.
fn begin(parts: &[Part<'_>], used: &mut Vec<usize>, first: usize) {
    used.clear();
    used.extend(parts.iter().map(|part| part.gradient.ids.partition_point(|&id| (id as usize) < first)));
}

/// Sets the bit of each parameter of `chunk` that a part has.
fn mark(parts: &[Part<'_>], used: &[usize], chunk: Range<u32>, present: &mut Vec<u64>) {
    present.clear();
    present.resize(CHUNK / 64, 0);
    for (part, &used) in parts.iter().zip(used) {
        for &id in part.gradient.ids[used..].iter().take_while(|&&id| id < chunk.end) {
            let at = (id - chunk.start) as usize;
            present[at / 64] |= 1 << (at % 64);
        }
    }
}

/// Appends to `out` the sums of the parameters from `first` on whose bits are set.
fn gather(present: &[u64], first: u32, sums: &[f32], out: &mut Gradient) {
    let start = out.ids.len();
    let end = start + present.iter().map(|bits| bits.count_ones() as usize).sum::<usize>();
    out.ids.resize(end, 0);
    out.values.resize(end, 0.0);
    let mut places = out.ids[start..].iter_mut().zip(&mut out.values[start..]);
    for (word, &bits) in present.iter().enumerate() {
        let mut left = bits;
        while left != 0 {
            let at = word * 64 + left.trailing_zeros() as usize;
            if let Some((id, value)) = places.next() {
                (*id, *value) = (first + at as u32, sums[at]);
            }
            left &= left - 1;
        }
    }
}

/// The sum of all parts for the parameters from `first` on, into `sums[0]`. A subtree is summed as soon as the next part lies
/// outside it.
fn sum_chunk(parts: &[Part<'_>], used: &mut [usize], first: usize, sums: &mut Vec<Sum>) {
    if sums.is_empty() {
        sums.push(Sum::ZERO);
    }
    if parts.is_empty() {
        // What was summed before must not be taken for the sum of nothing.
        sums[0].lanes.as_flattened_mut().fill(0.0);
    }
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
