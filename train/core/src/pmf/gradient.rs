//! Gradient and loss of one mini-batch of ratings.
//!
//! For a rating `y` (centred) of item `m` by user `k` the model's output is `r = U_k . V_m` (plus biases), its loss
//! `(r - y)^2 + l2 (|U_k|^2 + |V_m|^2)`, and the gradients are
//!
//! * `2 (r - y) V_m + 2 l2 U_k` for `U_k`,
//! * `2 (r - y) U_k + 2 l2 V_m` for `V_m`, from the old `U_k`,
//!
//! biases alike (theirs is the partner's constant 1). A gradient here is the *sum* over the batch's rows; the mean is taken
//! when a step is reduced. Source: Mnih and Salakhutdinov, *Probabilistic Matrix Factorization*, NIPS 2007, eq. 4, with the
//! regulariser counted once per rating, as in Koren, Bell and Volinsky, *Computer* 42(8), 2009, eq. 3.

use crate::lanes::{LANES, Lane, Simd, add_scaled, kernel, prefetch, tree};
use crate::pmf::batch::RatingBatch;
use crate::pmf::factors::{Line, Rows, Shape, Side};
use crate::pmf::nesterov::Motion;

/// Gradients of some rows of one matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowGradients {
    /// The rows, ascending, shape `(n,)`.
    pub ids: Vec<u32>,
    /// Their gradients, shape `(n, lanes of a row)`, row-major.
    pub values: Vec<Lane>,
}

/// The gradient of one mini-batch: sums over its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradient {
    /// For the users of the batch.
    pub users: RowGradients,
    /// For the items of the batch.
    pub items: RowGradients,
    /// Sum of `(r - y)^2`, in squared stars, before the step.
    pub squared_error: f64,
    /// Ratings in the batch.
    pub rows: u32,
}

/// The model as a kernel reads it: both matrices and how far their rows have moved.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// Shape of the rows.
    pub shape: Shape,
    /// `U`, shape `(n_users, n_factors)`.
    pub users: Rows<'a>,
    /// `V`, shape `(n_items, n_factors)`.
    pub items: Rows<'a>,
    /// Closed form of the motion of untouched rows.
    pub motion: &'a Motion,
    /// Steps applied so far: rows are read as they are after these.
    pub steps: u32,
}

/// Buffers of the kernel, to be used again for the next batch.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// For each item of the batch its parameters and its gradient so far, side by side.
    items: Vec<Line>,
}

/// How many users ahead rows are asked for: the time of one memory access is that of a few users' arithmetic.
const PREFETCH_USERS: usize = 8;

/// How many items ahead, where nothing is done but copying.
const PREFETCH_ITEMS: usize = 32;

/// Computes the gradient of `batch` under `model` into `out`, whose buffers are used again.
///
/// # Shapes
/// Ids of `batch` are below the rows of `model`, as [`RatingBatch::arrange`] ensures.
///
/// # Numerics
/// Sums run over the rows in order; the squared error is summed in f64. The bits do not depend on `simd`.
pub fn gradient(
    simd: Simd,
    model: &Model<'_>,
    l2: f32,
    batch: &RatingBatch,
    scratch: &mut Scratch,
    out: &mut Gradient,
) {
    gradient_kernel(simd, model.shape.lanes(), model, l2, batch, scratch, out);
}

kernel! {
    fn gradient_kernel(
        lanes, model: &Model<'_>, l2: f32, batch: &RatingBatch, scratch: &mut Scratch, out: &mut Gradient,
    ) -> () = gradient_body
}

#[inline(always)]
fn gradient_body<const N: usize>(
    model: &Model<'_>,
    l2: f32,
    batch: &RatingBatch,
    scratch: &mut Scratch,
    out: &mut Gradient,
) {
    load_items::<N>(model, batch, &mut scratch.items);
    let (items, _) = scratch.items.as_chunks_mut::<N>();
    out.users.ids.clone_from(&batch.users);
    out.users.values.clear();
    out.users.values.reserve(batch.users.len() * N);
    let masked = model.shape.masked(Side::User);
    let mut squared_error = 0.0f64;
    for (i, &user) in batch.users.iter().enumerate() {
        if let Some(&ahead) = batch.users.get(i + PREFETCH_USERS) {
            prefetch(model.users.row::<N>(ahead).0);
        }
        let value = current::<N>(model, model.users, user);
        let rows = batch.starts[i] as usize..batch.starts[i + 1] as usize;
        let mut sum = [[0.0f32; LANES]; N];
        let n_rows = rows.len() as f32;
        for (&slot, &rating) in batch.slots[rows.clone()].iter().zip(&batch.ratings[rows]) {
            let item = &mut items[slot as usize];
            let error = output(&value, item) - rating;
            squared_error += f64::from(error) * f64::from(error);
            let scale = 2.0 * error;
            for n in 0..N {
                for l in 0..LANES {
                    sum[n][l] += scale * item[n].value[l];
                    item[n].velocity[l] += scale * value[n][l];
                }
            }
        }
        add_scaled(&mut sum, 2.0 * l2 * n_rows, &value);
        if let Some((lane, position)) = masked {
            sum[lane][position] = 0.0;
        }
        out.users.values.extend_from_slice(&sum);
    }
    store_items::<N>(model, l2, batch, items, &mut out.items);
    out.squared_error = squared_error;
    out.rows = batch.n_rows() as u32;
}

/// The model's output for a user's row and an item's.
#[inline(always)]
fn output<const N: usize>(user: &[Lane; N], item: &[Line; N]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for n in 0..N {
        for l in 0..LANES {
            sums[l] += user[n][l] * item[n].value[l];
        }
    }
    tree(sums)
}

/// A row's parameters after all steps so far.
#[inline(always)]
fn current<const N: usize>(model: &Model<'_>, rows: Rows<'_>, id: u32) -> [Lane; N] {
    let (lines, stamp) = rows.row::<N>(id);
    let mut value = [[0.0; LANES]; N];
    model.motion.catch_up_values(lines, model.steps - stamp, &mut value);
    value
}

#[inline(always)]
fn load_items<const N: usize>(model: &Model<'_>, batch: &RatingBatch, items: &mut Vec<Line>) {
    items.clear();
    items.reserve(batch.items.len() * N);
    for (i, &id) in batch.items.iter().enumerate() {
        if let Some(&ahead) = batch.items.get(i + PREFETCH_ITEMS) {
            prefetch(model.items.row::<N>(ahead).0);
        }
        for value in current::<N>(model, model.items, id) {
            items.push(Line { value, velocity: [0.0; LANES] });
        }
    }
}

#[inline(always)]
fn store_items<const N: usize>(
    model: &Model<'_>,
    l2: f32,
    batch: &RatingBatch,
    items: &[[Line; N]],
    out: &mut RowGradients,
) {
    let masked = model.shape.masked(Side::Item);
    out.ids.clone_from(&batch.items);
    out.values.clear();
    out.values.reserve(items.len() * N);
    for (item, &count) in items.iter().zip(&batch.item_counts) {
        let mut sum = [[0.0f32; LANES]; N];
        let decay = 2.0 * l2 * count as f32;
        for n in 0..N {
            for l in 0..LANES {
                sum[n][l] = item[n].velocity[l] + decay * item[n].value[l];
            }
        }
        if let Some((lane, position)) = masked {
            sum[lane][position] = 0.0;
        }
        out.values.extend_from_slice(&sum);
    }
}

/// The sum of squared errors of `batch` under `model`, in squared stars, without a gradient.
#[must_use]
pub fn squared_error(simd: Simd, model: &Model<'_>, batch: &RatingBatch, scratch: &mut Scratch) -> f64 {
    squared_error_kernel(simd, model.shape.lanes(), model, batch, scratch)
}

kernel! {
    fn squared_error_kernel(lanes, model: &Model<'_>, batch: &RatingBatch, scratch: &mut Scratch,) -> f64 = squared_error_body
}

#[inline(always)]
fn squared_error_body<const N: usize>(model: &Model<'_>, batch: &RatingBatch, scratch: &mut Scratch) -> f64 {
    load_items::<N>(model, batch, &mut scratch.items);
    let (items, _) = scratch.items.as_chunks::<N>();
    let mut squared_error = 0.0f64;
    for (i, &user) in batch.users.iter().enumerate() {
        if let Some(&ahead) = batch.users.get(i + PREFETCH_USERS) {
            prefetch(model.users.row::<N>(ahead).0);
        }
        let value = current::<N>(model, model.users, user);
        let rows = batch.starts[i] as usize..batch.starts[i + 1] as usize;
        for (&slot, &rating) in batch.slots[rows.clone()].iter().zip(&batch.ratings[rows]) {
            let error = output(&value, &items[slot as usize]) - rating;
            squared_error += f64::from(error) * f64::from(error);
        }
    }
    squared_error
}
