//! Logistic regression on click rows: 13 numbers, and for sparse rows 26 buckets among many, with Adam.
//!
//! `p = sigmoid(w . x + b)`; the loss of a row with label `y` is `max(z, 0) - z y + ln(1 + exp(-|z|))` nats with `z = w . x + b`,
//! its gradient `(p - y) x`.
//!
//! * [`weights`]: the parameters, in blocks that carry Adam's moments.
//! * [`gradient`]: outputs, loss and gradient of a mini-batch.
//! * [`adam`]: reduction of a step's gradients in a fixed tree, and Adam over all parameters.
//! * [`textbook`]: the same in its textbook form, for the tests.

pub mod adam;
pub mod gradient;
pub mod textbook;
pub mod weights;

/// Numbers of a row.
pub const N_NUMBERS: usize = 13;

/// The parameters of a model and where they stand.
///
/// | position | parameter |
/// |---|---|
/// | `0..13` | weights of the numbers |
/// | `13..n_features` | weights of the buckets |
/// | `n_features` | the intercept `b`, if the model has one |
/// | `n_features + 1` | always 0: what a missing bucket adds |
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    n_buckets: u32,
    intercept: bool,
    /// Buckets whose hits are worth less than 1, and what they are worth; ascending.
    scales: Vec<(u32, f32)>,
}

impl Space {
    /// The space of rows with 13 numbers and `n_buckets` buckets (0 for dense rows). A hit of a bucket is worth 1, or
    /// `1 / scale` if it is in `scales`, which ascend.
    ///
    /// # Panics
    /// When `scales` do not ascend below `n_buckets`.
    #[must_use]
    pub fn new(n_buckets: u32, intercept: bool, scales: &[(u32, u32)]) -> Self {
        assert!(scales.is_sorted_by(|a, b| a.0 < b.0), "the buckets ascend");
        assert!(scales.last().is_none_or(|last| last.0 < n_buckets), "the buckets are in the space");
        let scales = scales.iter().map(|&(bucket, scale)| (bucket, 1.0 / scale as f32)).collect();
        Self { n_buckets, intercept, scales }
    }

    /// How many features there are, the intercept not among them.
    #[must_use]
    pub const fn n_features(&self) -> usize {
        N_NUMBERS + self.n_buckets as usize
    }

    /// Whether there is an intercept.
    #[must_use]
    pub const fn intercept(&self) -> bool {
        self.intercept
    }

    /// How many parameters there are: features, and the intercept if there is one.
    #[must_use]
    pub const fn n_parameters(&self) -> u32 {
        (self.n_features() + self.intercept as usize) as u32
    }

    /// Buckets whose hits are worth less than 1, and what they are worth; ascending.
    pub(crate) fn scales(&self) -> &[(u32, f32)] {
        &self.scales
    }

    /// Positions of the parameters, the one that is always 0 among them.
    #[must_use]
    pub const fn n_positions(&self) -> usize {
        self.n_features() + 2
    }

    /// What a missing bucket counts as: the bucket behind the last one and behind the intercept.
    const fn missing_bucket(&self) -> usize {
        self.n_buckets as usize + 1
    }
}

/// A mini-batch of click rows, column by column.
#[derive(Clone, Copy, Debug)]
pub struct Clicks<'a> {
    /// 1 for a click, else 0, shape `(n_rows,)`; empty when there are no labels, which only outputs do without.
    pub labels: &'a [f32],
    /// The numbers, shape `(13, n_rows)`; NaN where there is none.
    pub numbers: &'a [Vec<f32>; N_NUMBERS],
    /// The columns of buckets, or none for dense rows.
    pub buckets: &'a [Buckets<'a>],
}

/// A column of buckets, shape `(n_rows,)`.
#[derive(Clone, Copy, Debug)]
pub enum Buckets<'a> {
    /// The buckets; `u32::MAX` where there is none.
    Plain(&'a [u32]),
    /// Places in a dictionary; its length where there is no bucket.
    Coded {
        /// The buckets that the codes stand for.
        dictionary: &'a [u32],
        /// For each row the place of its bucket.
        codes: &'a [u16],
    },
}

impl Buckets<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Plain(buckets) => buckets.len(),
            Self::Coded { codes, .. } => codes.len(),
        }
    }
}

impl Clicks<'_> {
    /// How many rows there are.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.numbers[0].len()
    }
}
