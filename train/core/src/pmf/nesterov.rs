//! Reduction of a step's gradients and stochastic gradient descent with Nesterov momentum, in the form of
//! `torch.optim.SGD(nesterov=True)`:
//!
//! `v <- mu v + g`, `w <- w - eta (g + mu v)`.
//!
//! A row that no gradient touches keeps moving under its momentum. After `k` steps with `g = 0`
//!
//! `w <- w - eta mu^2 (1 - mu^k) / (1 - mu) v`, `v <- mu^k v`,
//!
//! exactly, so such rows are left alone until they are needed ([`Motion`]) and a step costs the rows it touches. Source of
//! the update: Sutskever, Martens, Dahl and Hinton, ICML 2013, after PyTorch's change of variable; the closed form is its
//! geometric series for a constant learning rate.

use std::ops::Range;

use crate::lanes::{LANES, Lane, Simd, kernel, prefetch, scale};
use crate::pmf::factors::{BLOCK_ROWS, Block, Line, Shape};
use crate::pmf::gradient::RowGradients;

/// Learning rate, momentum, and the closed form of what they do to untouched rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Motion {
    learning_rate: f32,
    momentum: f32,
    /// `mu^k`, until it is negligible; the last entry is 0.
    decay: Vec<f32>,
    /// `eta mu^2 (1 - mu^k) / (1 - mu)`; the last entry is the limit.
    drift: Vec<f32>,
}

/// Below this `mu^k` counts as 0: the velocity that is left would move no parameter by one unit in the last place, and
/// subnormal numbers, which are slow, stay away.
const DECAY_MIN: f64 = 1.0 / (1u128 << 80) as f64;

impl Motion {
    /// The motion under `learning_rate` (`eta`) and `momentum` (`mu`).
    ///
    /// # Panics
    /// When `momentum` is not in `0..=0.9999` or `learning_rate` is not positive and finite.
    #[must_use]
    pub fn new(learning_rate: f64, momentum: f64) -> Self {
        assert!((0.0..=0.9999).contains(&momentum), "momentum {momentum} is outside 0..=0.9999");
        assert!(learning_rate > 0.0 && learning_rate.is_finite(), "learning rate {learning_rate} is not positive");
        let (mut decay, mut drift) = (Vec::new(), Vec::new());
        let mut power = 1.0f64;
        let limit = learning_rate * momentum * momentum / (1.0 - momentum);
        while power >= DECAY_MIN {
            decay.push(power as f32);
            drift.push((limit * (1.0 - power)) as f32);
            power *= momentum;
        }
        decay.push(0.0);
        drift.push(limit as f32);
        Self { learning_rate: learning_rate as f32, momentum: momentum as f32, decay, drift }
    }

    #[inline(always)]
    fn factors(&self, steps: u32) -> (f32, f32) {
        let k = (steps as usize).min(self.decay.len() - 1);
        (self.decay[k], self.drift[k])
    }

    /// The parameters of a line after `steps` more steps without gradient.
    #[must_use]
    pub fn value_after(&self, line: &Line, steps: u32) -> Lane {
        let mut value = [[0.0; LANES]];
        self.catch_up_values(std::array::from_ref(line), steps, &mut value);
        value[0]
    }

    /// The parameters of a row after `steps` more steps without gradient.
    #[inline(always)]
    pub(crate) fn catch_up_values<const N: usize>(&self, lines: &[Line; N], steps: u32, out: &mut [Lane; N]) {
        let (_, drift) = self.factors(steps);
        for n in 0..N {
            for l in 0..LANES {
                out[n][l] = lines[n].value[l] - drift * lines[n].velocity[l];
            }
        }
    }
}

/// The gradient of one mini-batch as part of a step.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its position in the step.
    pub slot: u32,
    /// What its sum is multiplied by.
    pub weight: f32,
    /// The gradients of the matrix that is updated.
    pub gradients: &'a RowGradients,
}

/// Buffers of [`apply`] and [`reduce`], to be used again.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// First and last entry of each row of the block, plus one; 0 is none.
    heads: Vec<(u32, u32)>,
    /// Part, row in the part, and next entry of the same row plus one.
    entries: Vec<(u32, u32, u32)>,
    sums: Sums,
}

/// Sums of left subtrees that wait for their right one.
#[derive(Clone, Debug, Default)]
struct Sums {
    /// The sums, a row's lanes each.
    values: Vec<Lane>,
    /// The bit at which each meets what stands to the right of it.
    bits: Vec<u32>,
}

/// Reduces the gradients of a step for the rows of one block and applies them.
///
/// The weighted gradients of a row are added along a binary tree over the slots of the step: slots `a` and `b` meet at the
/// highest bit in which they differ. The tree is the same whoever computed them, and a slot without the row is left out.
///
/// # Shapes
/// `parts` are in ascending order of `slot`; their rows have the block's number of lanes.
///
/// # Panics
/// When the block is not at the state after `step` steps.
pub fn apply(
    simd: Simd,
    shape: Shape,
    motion: &Motion,
    step: u32,
    parts: &[Part<'_>],
    block: &mut Block<'_>,
    scratch: &mut Scratch,
) {
    assert!(block.steps == step, "block after {} steps cannot take step {step}", block.steps);
    debug_assert!(parts.is_sorted_by_key(|p| p.slot), "parts are in the order of their slots");
    apply_kernel(simd, shape.lanes(), motion, step, parts, block, scratch);
    block.steps = step + 1;
}

kernel! {
    fn apply_kernel(
        lanes, motion: &Motion, step: u32, parts: &[Part<'_>], block: &mut Block<'_>, scratch: &mut Scratch,
    ) -> () = apply_body
}

#[inline(always)]
fn apply_body<const N: usize>(
    motion: &Motion,
    step: u32,
    parts: &[Part<'_>],
    block: &mut Block<'_>,
    scratch: &mut Scratch,
) {
    let (lines, _) = block.lines.as_chunks_mut::<N>();
    collect::<N>(parts, block.first_row, block.stamps.len(), scratch, |row| prefetch(&lines[row]));
    let Scratch { heads, entries, sums } = scratch;
    for (row, &(head, _)) in heads.iter().enumerate() {
        if head == 0 {
            continue;
        }
        let gradient = row_sum::<N>(parts, entries, head, sums);
        update(motion, &mut lines[row], step - block.stamps[row], &gradient);
        block.stamps[row] = step + 1;
    }
}

/// Reduces the gradients of a step for the rows in `range` into `out`, along the tree of [`apply`]: applied with the weight 1, in any
/// slot, it gives the same bits, also together with those of other ranges.
///
/// # Shapes
/// As [`apply`].
pub fn reduce(
    simd: Simd,
    shape: Shape,
    parts: &[Part<'_>],
    range: Range<u32>,
    scratch: &mut Scratch,
    out: &mut RowGradients,
) {
    debug_assert!(parts.is_sorted_by_key(|p| p.slot), "parts are in the order of their slots");
    out.ids.clear();
    out.values.clear();
    reduce_kernel(simd, shape.lanes(), parts, range, scratch, out);
}

kernel! {
    fn reduce_kernel(
        lanes, parts: &[Part<'_>], range: Range<u32>, scratch: &mut Scratch, out: &mut RowGradients,
    ) -> () = reduce_body
}

#[inline(always)]
fn reduce_body<const N: usize>(parts: &[Part<'_>], range: Range<u32>, scratch: &mut Scratch, out: &mut RowGradients) {
    for first in range.clone().step_by(BLOCK_ROWS) {
        let n_rows = BLOCK_ROWS.min((range.end - first) as usize);
        collect::<N>(parts, first, n_rows, scratch, |_| ());
        let Scratch { heads, entries, sums } = &mut *scratch;
        for (id, &(head, _)) in (first..).zip(heads.iter()) {
            if head != 0 {
                let gradient = row_sum::<N>(parts, entries, head, sums);
                out.ids.push(id);
                out.values.extend_from_slice(&gradient);
            }
        }
    }
}

/// Lists, for each of `n_rows` rows from `first` on, where its gradients are, in the order of the slots, and asks for their cache
/// lines; what a step touches of a block fits the second-level cache. A row that is touched is told to `touched`.
#[inline(always)]
fn collect<const N: usize>(
    parts: &[Part<'_>],
    first: u32,
    n_rows: usize,
    scratch: &mut Scratch,
    touched: impl Fn(usize),
) {
    let Scratch { heads, entries, .. } = scratch;
    heads.clear();
    heads.resize(n_rows, (0, 0));
    entries.clear();
    for (p, part) in parts.iter().enumerate() {
        let ids = &part.gradients.ids;
        let begin = ids.partition_point(|&id| id < first);
        for (i, &id) in ids[begin..].iter().enumerate() {
            let row = (id - first) as usize;
            let Some((head, tail)) = heads.get_mut(row) else { break };
            entries.push((p as u32, (begin + i) as u32, 0));
            prefetch(&part.gradients.values[(begin + i) * N..(begin + i + 1) * N]);
            let entry = entries.len() as u32;
            if *head == 0 {
                *head = entry;
                touched(row);
            } else {
                entries[*tail as usize - 1].2 = entry;
            }
            *tail = entry;
        }
    }
}

/// The sum of the gradients of a row whose first entry is `head`.
#[inline(always)]
fn row_sum<const N: usize>(parts: &[Part<'_>], entries: &[(u32, u32, u32)], head: u32, sums: &mut Sums) -> [Lane; N] {
    let (part, index, next) = entries[head as usize - 1];
    let first = leaf::<N>(parts, (part, index));
    if next == 0 { first } else { tree_sum::<N>(parts, entries, part, next, first, sums) }
}

#[inline(always)]
fn leaf<const N: usize>(parts: &[Part<'_>], (part, index): (u32, u32)) -> [Lane; N] {
    let part = &parts[part as usize];
    let values = part.gradients.values[index as usize * N..].first_chunk::<N>().expect("every row has its gradient");
    let mut weighted = [[0.0; LANES]; N];
    scale(&mut weighted, part.weight, values);
    weighted
}

/// The sum of a row's gradients: `first`, which part `previous` holds, and those from entry `next` on. A subtree is summed as
/// soon as the next gradient lies outside it.
#[inline(always)]
fn tree_sum<const N: usize>(
    parts: &[Part<'_>],
    entries: &[(u32, u32, u32)],
    mut previous: u32,
    mut next: u32,
    first: [Lane; N],
    sums: &mut Sums,
) -> [Lane; N] {
    let mut sum = first;
    sums.values.clear();
    sums.bits.clear();
    while next != 0 {
        let (part, index, following) = entries[next as usize - 1];
        let bit = (parts[previous as usize].slot ^ parts[part as usize].slot).ilog2();
        while sums.bits.last().is_some_and(|&last| last < bit) {
            sum = merge::<N>(sum, sums);
        }
        sums.values.extend_from_slice(&sum);
        sums.bits.push(bit);
        sum = leaf::<N>(parts, (part, index));
        (previous, next) = (part, following);
    }
    while !sums.bits.is_empty() {
        sum = merge::<N>(sum, sums);
    }
    sum
}

/// The last of the left sums plus `sum`, which stands to the right of it.
#[inline(always)]
fn merge<const N: usize>(mut sum: [Lane; N], sums: &mut Sums) -> [Lane; N] {
    sums.bits.pop();
    let rest = sums.values.len() - N;
    let left = sums.values[rest..].first_chunk::<N>().expect("a sum has a row's lanes");
    for n in 0..N {
        for l in 0..LANES {
            sum[n][l] += left[n][l];
        }
    }
    sums.values.truncate(rest);
    sum
}

#[inline(always)]
fn update<const N: usize>(motion: &Motion, lines: &mut [Line; N], behind: u32, gradient: &[Lane; N]) {
    let (decay, drift) = motion.factors(behind);
    let (momentum, learning_rate) = (motion.momentum, motion.learning_rate);
    for (line, g) in lines.iter_mut().zip(gradient) {
        let Line { mut value, mut velocity } = *line;
        for l in 0..LANES {
            value[l] -= drift * velocity[l];
            velocity[l] = momentum * (decay * velocity[l]) + g[l];
            value[l] -= learning_rate * (g[l] + momentum * velocity[l]);
        }
        *line = Line { value, velocity };
    }
}
