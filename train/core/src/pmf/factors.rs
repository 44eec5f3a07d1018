//! The factor matrices of a matrix factorisation, in blocks of rows that carry their momentum.
//!
//! A row holds, in lanes of eight floats padded with zeros:
//!
//! | | factors | next | next |
//! |---|---|---|---|
//! | user `k` | `U_k` | bias of the user | 1 |
//! | item `m` | `V_m` | 1 | bias of the item |
//!
//! so that one inner product of a user's and an item's row is the model's output, with and without biases. The ones are
//! constants: their gradient is masked.

use random::Stream;

use crate::lanes::{LANES, Lane, ROW_LANES};

/// Rows of a block, at most.
pub const BLOCK_ROWS: usize = 1024;

/// Most factors a model may have.
pub const FACTORS_MAX: usize = ROW_LANES[ROW_LANES.len() - 1] * LANES - 2;

/// Standard deviation of the factors at the start (Salakhutdinov's `pmf.m` starts the same way).
const START_SD: f64 = 0.1;

/// Which of the two matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Rows of users, `U`.
    User,
    /// Rows of items, `V`.
    Item,
}

/// The shape of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Factors of a user or item.
    pub n_factors: usize,
    /// Whether users and items have a bias.
    pub biases: bool,
}

impl Shape {
    /// Lanes of a row.
    ///
    /// # Panics
    /// When there are more factors than [`FACTORS_MAX`], or none.
    #[must_use]
    pub fn lanes(&self) -> usize {
        assert!((1..=FACTORS_MAX).contains(&self.n_factors), "1..={FACTORS_MAX} factors are possible");
        let needed = (self.n_factors + if self.biases { 2 } else { 0 }).div_ceil(LANES);
        *ROW_LANES.iter().find(|&&lanes| lanes >= needed).expect("the most factors fit the widest row")
    }

    /// Lines that `n_rows` rows take.
    #[must_use]
    pub fn lines(&self, n_rows: u32) -> usize {
        self.lanes() * n_rows as usize
    }

    /// The place of the bias in a row of `side`; the other place next to the factors is the constant.
    pub(crate) const fn bias_place(&self, side: Side) -> usize {
        self.n_factors + matches!(side, Side::Item) as usize
    }

    pub(crate) fn constant_place(&self, side: Side) -> usize {
        self.n_factors + usize::from(side == Side::User)
    }

    /// The place whose gradient must be zero in rows of `side`, as lane and position.
    pub(crate) fn masked(&self, side: Side) -> Option<(usize, usize)> {
        let place = self.constant_place(side);
        self.biases.then_some((place / LANES, place % LANES))
    }
}

/// Eight parameters and their velocities, in one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line {
    /// Parameters.
    pub value: Lane,
    /// Their velocities.
    pub velocity: Lane,
}

/// Up to [`BLOCK_ROWS`] consecutive rows of one matrix.
///
/// Rows are updated lazily: row `i` is as after `stamps[i]` steps, and its motion since then is known in closed form.
#[derive(Debug, PartialEq)]
pub struct Block<'m> {
    pub(crate) side: Side,
    pub(crate) first_row: u32,
    pub(crate) lines: &'m mut [Line],
    pub(crate) stamps: Vec<u32>,
    pub(crate) steps: u32,
}

impl Block<'_> {
    /// How many steps were applied to this block.
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.steps
    }
}

/// The matrix of `n_rows` rows in `memory` at its start: factors drawn from `N(0, 0.1^2)`, biases 0, velocities 0.
///
/// Row `i` comes from a stream of its own, so it does not depend on the number of rows, nor on who makes it.
///
/// # Panics
/// As [`from_rows`].
#[must_use]
pub fn start(seed: u64, side: Side, shape: Shape, n_rows: u32, memory: &mut [Line]) -> Vec<Block<'_>> {
    let stream = Stream::new(seed, if side == Side::User { "user factors" } else { "item factors" });
    let row = |i: u32, row: &mut [f32]| {
        let mut stream = stream.at(u64::from(i));
        for pair in row[..shape.n_factors].chunks_mut(2) {
            let (a, b) = stream.normal_pair();
            pair[0] = (a * START_SD) as f32;
            if let Some(second) = pair.get_mut(1) {
                *second = (b * START_SD) as f32;
            }
        }
    };
    from_rows(side, shape, n_rows, memory, row)
}

/// The matrix in `memory` whose row `i` has the factors and, if the shape has biases, the bias that `fill` writes into a zeroed
/// slice of `n_factors + 1` floats.
///
/// # Panics
/// When `memory` has not the [`Shape::lines`] of `n_rows` rows.
pub fn from_rows(
    side: Side,
    shape: Shape,
    n_rows: u32,
    memory: &mut [Line],
    fill: impl Fn(u32, &mut [f32]),
) -> Vec<Block<'_>> {
    assert!(memory.len() == shape.lines(n_rows), "the memory fits the rows");
    let lanes = shape.lanes();
    let mut row = vec![0.0f32; shape.n_factors + 1];
    let mut padded = vec![0.0f32; lanes * LANES];
    for (i, lines) in (0..).zip(memory.chunks_exact_mut(lanes)) {
        row.fill(0.0);
        fill(i, &mut row);
        padded.fill(0.0);
        padded[..shape.n_factors].copy_from_slice(&row[..shape.n_factors]);
        if shape.biases {
            padded[shape.bias_place(side)] = row[shape.n_factors];
            padded[shape.constant_place(side)] = 1.0;
        }
        for (line, &value) in lines.iter_mut().zip(padded.as_chunks::<LANES>().0) {
            *line = Line { value, velocity: [0.0; LANES] };
        }
    }
    let block = |(i, lines): (u32, _)| {
        let lines: &mut [Line] = lines;
        let stamps = vec![0; lines.len() / lanes];
        Block { side, first_row: i * BLOCK_ROWS as u32, lines, stamps, steps: 0 }
    };
    (0..).zip(memory.chunks_mut(BLOCK_ROWS * lanes)).map(block).collect()
}

/// Read access to all rows of one matrix.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    blocks: &'a [&'a Block<'a>],
}

impl<'a> Rows<'a> {
    /// The matrix made of `blocks`, in order.
    ///
    /// # Panics
    /// When a block is not where its rows belong.
    #[must_use]
    pub fn new(blocks: &'a [&'a Block<'a>]) -> Self {
        assert!(
            blocks.iter().enumerate().all(|(i, b)| b.first_row as usize == i * BLOCK_ROWS),
            "blocks are in order and complete"
        );
        Self { blocks }
    }

    /// The `N` lines of row `id` and how many steps it has seen.
    #[inline(always)]
    pub(crate) fn row<const N: usize>(&self, id: u32) -> (&'a [Line; N], u32) {
        let block = self.blocks[id as usize / BLOCK_ROWS];
        let row = id as usize % BLOCK_ROWS;
        let lines = block.lines[row * N..].first_chunk::<N>().expect("a block has all its rows");
        (lines, block.stamps[row])
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.last().map_or(0, |b| b.first_row as usize + b.stamps.len())
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// A matrix as people use it: row-major factors and biases, without momentum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// Factors, shape `(n_rows, n_factors)`, row-major.
    pub factors: Vec<f32>,
    /// Biases, shape `(n_rows,)`, or empty when the model has none.
    pub biases: Vec<f32>,
}

impl Matrix {
    /// The rows as they are after `steps` steps.
    #[must_use]
    pub fn of(blocks: &[&Block<'_>], shape: Shape, motion: &crate::pmf::nesterov::Motion, steps: u32) -> Self {
        let lanes = shape.lanes();
        let mut matrix = Self::default();
        let mut row = vec![0.0f32; lanes * LANES];
        for block in blocks {
            for (lines, &stamp) in block.lines.chunks_exact(lanes).zip(&block.stamps) {
                for (line, out) in lines.iter().zip(row.as_chunks_mut::<LANES>().0) {
                    *out = motion.value_after(line, steps - stamp);
                }
                matrix.factors.extend_from_slice(&row[..shape.n_factors]);
                if shape.biases {
                    matrix.biases.push(row[shape.bias_place(block.side)]);
                }
            }
        }
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_normal_with_sd_a_tenth_and_independent_of_size() {
        let shape = Shape { n_factors: 21, biases: true };
        let motion = crate::pmf::nesterov::Motion::new(1.0, 0.8);
        let matrix = |n| {
            let mut memory = vec![Line::default(); shape.lines(n)];
            let blocks = start(8, Side::Item, shape, n, &mut memory);
            Matrix::of(&blocks.iter().collect::<Vec<_>>(), shape, &motion, 0)
        };
        let (small, large) = (matrix(1000), matrix(3000));
        assert_eq!(small.factors[..], large.factors[..1000 * 21]);
        assert!(large.biases.iter().all(|&b| b == 0.0) && large.biases.len() == 3000);
        let n = large.factors.len() as f64;
        let mean = large.factors.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let sd = (large.factors.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 0.1 * 5.0 / n.sqrt(), "{mean}");
        assert!((sd - 0.1).abs() < 0.1 * 5.0 / (2.0 * n).sqrt(), "{sd}");
        let (mut users, mut items) = (vec![Line::default(); shape.lines(1)], vec![Line::default(); shape.lines(1)]);
        assert_ne!(start(8, Side::User, shape, 1, &mut users), start(8, Side::Item, shape, 1, &mut items));
        assert_ne!(users, items);
    }

    #[test]
    fn every_number_of_factors_has_a_row_width() {
        for n_factors in 1..=FACTORS_MAX {
            for biases in [false, true] {
                let lanes = Shape { n_factors, biases }.lanes();
                assert!(lanes * LANES >= n_factors + if biases { 2 } else { 0 });
            }
        }
    }
}
