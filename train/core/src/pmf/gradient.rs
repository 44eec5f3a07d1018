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

/// What the gradient of a mini-batch follows from, given the model: its rows without their targets, and their errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Residuals {
    /// As those of [`RatingBatch`], shape `(n_batch_users + 1,)`; empty when a gradient is not that of a whole mini-batch.
    pub starts: Vec<u32>,
    /// As those of [`RatingBatch`], shape `(n_rows,)`.
    pub slots: Vec<u32>,
    /// Output minus target of each row, in stars, shape `(n_rows,)`.
    pub errors: Vec<f32>,
}

impl Residuals {
    /// Forgets them.
    pub fn clear(&mut self) {
        self.starts.clear();
        self.slots.clear();
        self.errors.clear();
    }
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
    /// What all of this follows from.
    pub residuals: Residuals,
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
    /// Rows of each item, where no batch tells.
    counts: Vec<u32>,
}

/// How many users ahead rows are asked for: the time of one memory access is that of a few users' arithmetic.
const PREFETCH_USERS: usize = 8;

/// How many items ahead, where nothing is done but copying.
const PREFETCH_ITEMS: usize = 32;

/// Computes the gradient of `batch` under `model` into `out`, whose buffers are used again, without its residuals.
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
    out.residuals.clear();
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
    batch_sums::<N, { errors::LEFT }>(model, l2, batch, scratch, out);
}

/// As [`gradient`], with the residuals: for what is to travel.
pub fn gradient_with_residuals(
    simd: Simd,
    model: &Model<'_>,
    l2: f32,
    batch: &RatingBatch,
    scratch: &mut Scratch,
    out: &mut Gradient,
) {
    out.residuals.starts.clone_from(&batch.starts);
    out.residuals.slots.clone_from(&batch.slots);
    out.residuals.errors.resize(batch.n_rows(), 0.0);
    gradient_with_residuals_kernel(simd, model.shape.lanes(), model, l2, batch, scratch, out);
}

kernel! {
    fn gradient_with_residuals_kernel(
        lanes, model: &Model<'_>, l2: f32, batch: &RatingBatch, scratch: &mut Scratch, out: &mut Gradient,
    ) -> () = gradient_with_residuals_body
}

#[inline(always)]
fn gradient_with_residuals_body<const N: usize>(
    model: &Model<'_>,
    l2: f32,
    batch: &RatingBatch,
    scratch: &mut Scratch,
    out: &mut Gradient,
) {
    batch_sums::<N, { errors::KEPT }>(model, l2, batch, scratch, out);
}

#[inline(always)]
fn batch_sums<const N: usize, const ERRORS: u8>(
    model: &Model<'_>,
    l2: f32,
    batch: &RatingBatch,
    scratch: &mut Scratch,
    out: &mut Gradient,
) {
    let Gradient { users, items, residuals, .. } = out;
    users.ids.clone_from(&batch.users);
    items.ids.clone_from(&batch.items);
    let RatingBatch { starts, slots, ratings, item_counts, .. } = batch;
    let rows = BatchRows { starts, slots, targets: ratings, item_counts };
    out.squared_error = sums::<N, ERRORS>(model, l2, &rows, &mut scratch.items, &mut residuals.errors, users, items);
    out.rows = batch.n_rows() as u32;
}

/// Computes everything in `out` from its residuals and the ids of its rows, under the same `model` as [`gradient`] did: the same bits.
///
/// # Shapes
/// As they are in a gradient of a mini-batch; the ids are below the rows of `model`.
pub fn from_residuals(simd: Simd, model: &Model<'_>, l2: f32, scratch: &mut Scratch, out: &mut Gradient) {
    from_residuals_kernel(simd, model.shape.lanes(), model, l2, scratch, out);
}

kernel! {
    fn from_residuals_kernel(
        lanes, model: &Model<'_>, l2: f32, scratch: &mut Scratch, out: &mut Gradient,
    ) -> () = from_residuals_body
}

#[inline(always)]
fn from_residuals_body<const N: usize>(model: &Model<'_>, l2: f32, scratch: &mut Scratch, out: &mut Gradient) {
    let Gradient { users, items, residuals, .. } = out;
    let Residuals { starts, slots, errors } = residuals;
    scratch.counts.clear();
    scratch.counts.resize(items.ids.len(), 0);
    for &slot in &*slots {
        scratch.counts[slot as usize] += 1;
    }
    let rows = BatchRows { starts, slots, targets: errors, item_counts: &scratch.counts };
    out.squared_error = sums::<N, { errors::KNOWN }>(model, l2, &rows, &mut scratch.items, &mut [], users, items);
    out.rows = errors.len() as u32;
}

/// The rows of a batch.
struct BatchRows<'a> {
    starts: &'a [u32],
    slots: &'a [u32],
    /// What the model should have given; or, if the errors are known, these.
    targets: &'a [f32],
    item_counts: &'a [u32],
}

/// What becomes of the errors of the rows.
mod errors {
    /// They are computed.
    pub(super) const LEFT: u8 = 0;
    /// They are computed and kept.
    pub(super) const KEPT: u8 = 1;
    /// They are given.
    pub(super) const KNOWN: u8 = 2;
}

/// The sums of all rows for the users and items of which the ids are given, and the sum of the squared errors. `kept` has room for the
/// errors if they are kept.
#[inline(always)]
fn sums<const N: usize, const ERRORS: u8>(
    model: &Model<'_>,
    l2: f32,
    batch: &BatchRows<'_>,
    lines: &mut Vec<Line>,
    kept: &mut [f32],
    users: &mut RowGradients,
    items: &mut RowGradients,
) -> f64 {
    load_items::<N>(model, &items.ids, lines);
    let (lines, _) = lines.as_chunks_mut::<N>();
    users.values.clear();
    users.values.reserve(users.ids.len() * N);
    let masked = model.shape.masked(Side::User);
    let mut squared_error = 0.0f64;
    for (i, &user) in users.ids.iter().enumerate() {
        if let Some(&ahead) = users.ids.get(i + PREFETCH_USERS) {
            prefetch(model.users.row::<N>(ahead).0);
        }
        let value = current::<N>(model, model.users, user);
        let rows = batch.starts[i] as usize..batch.starts[i + 1] as usize;
        let mut sum = [[0.0f32; LANES]; N];
        let n_rows = rows.len() as f32;
        for (row, (&slot, &target)) in rows.clone().zip(batch.slots[rows.clone()].iter().zip(&batch.targets[rows])) {
            let item = &mut lines[slot as usize];
            let error = if ERRORS == errors::KNOWN { target } else { output(&value, item) - target };
            if ERRORS == errors::KEPT {
                kept[row] = error;
            }
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
        users.values.extend_from_slice(&sum);
    }
    store_items::<N>(model, l2, batch.item_counts, lines, &mut items.values);
    squared_error
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
fn load_items<const N: usize>(model: &Model<'_>, ids: &[u32], items: &mut Vec<Line>) {
    items.clear();
    items.reserve(ids.len() * N);
    for (i, &id) in ids.iter().enumerate() {
        if let Some(&ahead) = ids.get(i + PREFETCH_ITEMS) {
            prefetch(model.items.row::<N>(ahead).0);
        }
        for value in current::<N>(model, model.items, id) {
            items.push(Line { value, velocity: [0.0; LANES] });
        }
    }
}

#[inline(always)]
fn store_items<const N: usize>(model: &Model<'_>, l2: f32, counts: &[u32], items: &[[Line; N]], out: &mut Vec<Lane>) {
    let masked = model.shape.masked(Side::Item);
    out.clear();
    out.reserve(items.len() * N);
    for (item, &count) in items.iter().zip(counts) {
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
        out.extend_from_slice(&sum);
    }
}

/// The sum of squared errors of `batch` under `model`, in squared stars, without a gradient. `errors` becomes the error of each
/// row, prediction minus rating.
#[must_use]
pub fn squared_error(
    simd: Simd,
    model: &Model<'_>,
    batch: &RatingBatch,
    scratch: &mut Scratch,
    errors: &mut Vec<f32>,
) -> f64 {
    squared_error_kernel(simd, model.shape.lanes(), model, batch, scratch, errors)
}

kernel! {
    fn squared_error_kernel(
        lanes,
        model: &Model<'_>,
        batch: &RatingBatch,
        scratch: &mut Scratch,
        errors: &mut Vec<f32>,
    ) -> f64 = squared_error_body
}

#[inline(always)]
fn squared_error_body<const N: usize>(
    model: &Model<'_>,
    batch: &RatingBatch,
    scratch: &mut Scratch,
    errors: &mut Vec<f32>,
) -> f64 {
    errors.clear();
    load_items::<N>(model, &batch.items, &mut scratch.items);
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
            errors.push(error);
        }
    }
    squared_error
}
