//! Outputs, loss and gradient of one mini-batch.
//!
//! Columns are walked one after the other: a column's buckets are its own, and the frequent ones stay in the cache. A gradient
//! here is the *sum* over the rows; the mean is taken when a step is reduced.

use super::weights::Effects;
use super::{Buckets, Clicks, N_NUMBERS, Space};
use crate::float::{exp_of_negative, ln_1p};
use crate::lanes::{LANES, Lane, Simd, dispatch, tree};

/// The gradient of one mini-batch: sums over its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradient {
    /// Positions of the parameters that the rows have values for, ascending, shape `(n,)`.
    pub ids: Vec<u32>,
    /// Sums of `(p - y) x`, shape `(n,)`.
    pub values: Vec<f32>,
    /// Sum of the rows' losses, in nats, before the step.
    pub loss_sum: f64,
    /// Rows of the mini-batch.
    pub rows: u32,
}

/// Buffers of the kernels, to be used again for the next batch.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// First the output of each row, then its error `p - y`; padded to whole lanes.
    rows: Vec<Lane>,
    /// Buckets with something to add to the sum of their errors, by ranges of buckets.
    hits: Vec<(u32, f32)>,
    /// For each bucket of a range the sum of its errors so far; all 0 between two ranges.
    sums: Vec<f32>,
    /// One bit a bucket of a range: whether it was hit. All 0 between two ranges.
    hit: Vec<u64>,
    /// For each entry of a dictionary what it adds to the output; or, some times over, the sum of the errors of its hits.
    entries: Vec<f32>,
}

/// Computes the gradient of `batch` at `effects` into `out`, whose buffers are used again.
///
/// # Shapes
/// `batch` has labels. Its buckets are below those of `space`, or missing; `effects` are those of `space`.
///
/// # Numerics
/// Sums over rows run in eight partial sums for numbers; for buckets in the order of columns and rows, in four partial sums where the
/// column has a dictionary. The loss is summed in f64. The bits do not depend on `simd`.
///
/// # Panics
/// When the shapes do not fit.
pub fn gradient(
    simd: Simd,
    space: &Space,
    effects: Effects<'_>,
    batch: &Clicks<'_>,
    scratch: &mut Scratch,
    out: &mut Gradient,
) {
    outputs_of(simd, space, effects, batch, scratch);
    assert!(batch.labels.len() == batch.n_rows(), "there is a label for each row");
    out.loss_sum = errors(simd, batch.labels, &mut scratch.rows);
    out.rows = batch.n_rows() as u32;
    out.ids.clear();
    out.values.clear();
    for (id, column) in (0..).zip(batch.numbers) {
        out.ids.push(id);
        out.values.push(inner_product(simd, column, &scratch.rows));
    }
    sum_by_bucket(space, batch, scratch, out);
    if space.intercept {
        out.ids.push(space.n_features() as u32);
        out.values.push(sum(simd, &scratch.rows));
    }
}

/// The outputs `z` of the rows of `batch`, in order. Labels are not needed.
///
/// # Shapes
/// As [`gradient`].
pub fn outputs<'s>(
    simd: Simd,
    space: &Space,
    effects: Effects<'_>,
    batch: &Clicks<'_>,
    scratch: &'s mut Scratch,
) -> &'s [f32] {
    outputs_of(simd, space, effects, batch, scratch);
    &scratch.rows.as_flattened()[..batch.n_rows()]
}

/// The probabilities `sigmoid(z)` of `outputs`, in place.
pub fn probabilities(simd: Simd, outputs: &mut [f32]) {
    probabilities_kernel(simd, outputs);
}

/// The sum of the losses, in nats, of rows with these `outputs` and `labels`.
///
/// # Panics
/// When there are not as many of one as of the other.
#[must_use]
pub fn loss(simd: Simd, outputs: &[f32], labels: &[f32]) -> f64 {
    assert!(outputs.len() == labels.len(), "there is a label for each output");
    loss_kernel(simd, outputs, labels)
}

fn outputs_of(simd: Simd, space: &Space, effects: Effects<'_>, batch: &Clicks<'_>, scratch: &mut Scratch) {
    let n_rows = batch.n_rows();
    let intercept = effects.at(space.n_features());
    scratch.rows.clear();
    scratch.rows.resize(n_rows.div_ceil(LANES), [intercept; LANES]);
    for (j, column) in batch.numbers.iter().enumerate() {
        assert!(column.len() == n_rows, "columns are as long as the rows are many");
        add_scaled_column(simd, effects.at(j), column, &mut scratch.rows);
    }
    let missing = space.missing_bucket();
    let outputs = &mut scratch.rows.as_flattened_mut()[..n_rows];
    for column in batch.buckets {
        assert!(column.len() == n_rows, "columns are as long as the rows are many");
        match *column {
            Buckets::Plain(buckets) => {
                for (output, &bucket) in outputs.iter_mut().zip(buckets) {
                    *output += effects.at(N_NUMBERS + (bucket as usize).min(missing));
                }
            }
            Buckets::Coded { dictionary, codes } => {
                let entries = &mut scratch.entries;
                entries.clear();
                entries.extend(dictionary.iter().map(|&bucket| effects.at(N_NUMBERS + bucket as usize)));
                entries.push(0.0);
                for (output, &code) in outputs.iter_mut().zip(codes) {
                    *output += entries[code as usize];
                }
            }
        }
    }
}

/// At least so many bits of a bucket are its place in its range: the sums of a range stay in the first-level cache, where those of all
/// buckets would have to come from memory one by one.
const RANGE_BITS: u32 = 12;

/// Ranges that the buckets are cut into, at most, as a power of two: hits are written to the ends of so many lists at once.
const RANGES_BITS: u32 = 8;

/// Sums the errors of each bucket's hits, in the order of columns and rows.
fn sum_by_bucket(space: &Space, batch: &Clicks<'_>, scratch: &mut Scratch, out: &mut Gradient) {
    if batch.buckets.is_empty() {
        return;
    }
    let Scratch { rows, hits, sums, hit, entries } = scratch;
    let missing = space.missing_bucket() as u32;
    let bits = RANGE_BITS.max((u32::BITS - missing.leading_zeros()).saturating_sub(RANGES_BITS));
    let n_ranges = (missing >> bits) as usize + 1;
    let mut ends = [0usize; 1 << RANGES_BITS];
    for column in batch.buckets {
        match *column {
            Buckets::Plain(buckets) => buckets.iter().for_each(|&b| ends[(b.min(missing) >> bits) as usize] += 1),
            Buckets::Coded { dictionary, .. } => dictionary.iter().for_each(|&b| ends[(b >> bits) as usize] += 1),
        }
    }
    let mut n_hits = 0;
    for end in &mut ends[..n_ranges] {
        // Where a range begins, until its hits are in place.
        n_hits += std::mem::replace(end, n_hits);
    }
    hits.resize(n_hits, (0, 0.0));
    let errors = &rows.as_flattened()[..batch.n_rows()];
    let mut add = |bucket: u32, error: f32| {
        let end = &mut ends[(bucket >> bits) as usize];
        hits[*end] = (bucket, error);
        *end += 1;
    };
    for column in batch.buckets {
        match *column {
            Buckets::Plain(buckets) => {
                errors.iter().zip(buckets).for_each(|(&error, &bucket)| add(bucket.min(missing), error));
            }
            Buckets::Coded { dictionary, codes } => {
                let sums = sum_by_code(errors, codes, dictionary.len(), entries);
                dictionary.iter().zip(sums).for_each(|(&bucket, &sum)| add(bucket, sum));
            }
        }
    }
    let len = 1usize << bits;
    sums.resize(len, 0.0);
    hit.resize(len / 64, 0);
    let mut filled = out.ids.len();
    out.ids.resize(filled + n_hits, 0);
    out.values.resize(filled + n_hits, 0.0);
    let mut scales = space.scales.iter().peekable();
    let mut start = 0;
    for (range, &end) in ends[..n_ranges].iter().enumerate() {
        let first = (range << bits) as u32;
        for &(bucket, error) in &hits[start..end] {
            let at = (bucket - first) as usize;
            sums[at] += error;
            hit[at / 64] |= 1 << (at % 64);
        }
        start = end;
        if range == n_ranges - 1 {
            let at = (missing - first) as usize;
            sums[at] = 0.0;
            hit[at / 64] &= !(1 << (at % 64));
        }
        while let Some(&(bucket, value)) = scales.next_if(|scale| (scale.0 >> bits) as usize == range) {
            sums[(bucket - first) as usize] *= value;
        }
        for (word, bits) in hit.iter_mut().enumerate() {
            let mut left = std::mem::take(bits);
            while left != 0 {
                let at = word * 64 + left.trailing_zeros() as usize;
                out.ids[filled] = N_NUMBERS as u32 + first + at as u32;
                out.values[filled] = std::mem::take(&mut sums[at]);
                filled += 1;
                left &= left - 1;
            }
        }
    }
    out.ids.truncate(filled);
    out.values.truncate(filled);
}

/// Rows whose errors are summed apart: a sum need not wait for the one of the row before, which often has the same code.
const APART: usize = 4;

/// For each entry of a dictionary the sum of the errors of its hits.
fn sum_by_code<'e>(errors: &[f32], codes: &[u16], n_entries: usize, entries: &'e mut Vec<f32>) -> &'e [f32] {
    // The last place of each is that of rows without a bucket.
    let n = n_entries + 1;
    entries.clear();
    entries.resize(APART * n, 0.0);
    {
        let mut apart = entries.chunks_exact_mut(n);
        let apart: [&mut [f32]; APART] = std::array::from_fn(|_| apart.next().unwrap_or_default());
        let ((errors, error), (codes, code)) = (errors.as_chunks::<APART>(), codes.as_chunks::<APART>());
        for (errors, codes) in errors.iter().zip(codes) {
            for i in 0..APART {
                apart[i][codes[i] as usize] += errors[i];
            }
        }
        for (error, &code) in error.iter().zip(code) {
            apart[0][code as usize] += error;
        }
    }
    let (first, rest) = entries.split_at_mut(n);
    for others in rest.chunks_exact(n) {
        first.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
    }
    &first[..n_entries]
}

dispatch! {
    /// `rows += weight * column`, where what is missing counts as 0.
    fn add_scaled_column(weight: f32, column: &[f32], rows: &mut [Lane]) -> () = {
        let (whole, rest) = column.as_chunks::<LANES>();
        for (row, x) in rows.iter_mut().zip(whole) {
            for l in 0..LANES {
                row[l] += weight * present(x[l]);
            }
        }
        if let Some(row) = rows.get_mut(whole.len()) {
            row.iter_mut().zip(rest).for_each(|(row, &x)| *row += weight * present(x));
        }
    }
}

dispatch! {
    /// The inner product of a column, in which what is missing counts as 0, and `rows`, which are 0 beyond its end.
    fn inner_product(column: &[f32], rows: &[Lane]) -> f32 = {
        let (whole, rest) = column.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for (row, x) in rows.iter().zip(whole) {
            for l in 0..LANES {
                sums[l] += row[l] * present(x[l]);
            }
        }
        if let Some(row) = rows.get(whole.len()) {
            for (l, &x) in rest.iter().enumerate() {
                sums[l] += row[l] * present(x);
            }
        }
        tree(sums)
    }
}

dispatch! {
    /// The sum of `rows`.
    fn sum(rows: &[Lane]) -> f32 = {
        let mut sums = [0.0f32; LANES];
        for row in rows {
            for l in 0..LANES {
                sums[l] += row[l];
            }
        }
        tree(sums)
    }
}

dispatch! {
    /// Turns outputs into errors `p - y`, 0 beyond the labels, and gives the sum of the losses.
    fn errors(labels: &[f32], rows: &mut [Lane]) -> f64 = {
        let (whole, rest) = labels.as_chunks::<LANES>();
        let mut sums = [0.0f64; LANES];
        for (row, y) in rows.iter_mut().zip(whole) {
            let (p, losses) = probability_and_loss(*row, *y);
            for l in 0..LANES {
                sums[l] += f64::from(losses[l]);
                row[l] = p[l] - y[l];
            }
        }
        if let Some(row) = rows.get_mut(whole.len()) {
            let mut y = [0.0; LANES];
            y[..rest.len()].copy_from_slice(rest);
            let (p, losses) = probability_and_loss(*row, y);
            *row = [0.0; LANES];
            for l in 0..rest.len() {
                sums[l] += f64::from(losses[l]);
                row[l] = p[l] - y[l];
            }
        }
        total(sums)
    }
}

dispatch! {
    fn loss_kernel(outputs: &[f32], labels: &[f32]) -> f64 = {
        let ((z, z_rest), (y, y_rest)) = (outputs.as_chunks::<LANES>(), labels.as_chunks::<LANES>());
        let mut sums = [0.0f64; LANES];
        for (z, y) in z.iter().zip(y) {
            let (_, losses) = probability_and_loss(*z, *y);
            for l in 0..LANES {
                sums[l] += f64::from(losses[l]);
            }
        }
        let (mut z, mut y) = ([0.0; LANES], [0.0; LANES]);
        z[..z_rest.len()].copy_from_slice(z_rest);
        y[..y_rest.len()].copy_from_slice(y_rest);
        let (_, losses) = probability_and_loss(z, y);
        for l in 0..z_rest.len() {
            sums[l] += f64::from(losses[l]);
        }
        total(sums)
    }
}

dispatch! {
    fn probabilities_kernel(outputs: &mut [f32]) -> () = {
        let (whole, rest) = outputs.as_chunks_mut::<LANES>();
        for z in whole {
            *z = probability_and_loss(*z, [0.0; LANES]).0;
        }
        let mut z = [0.0; LANES];
        z[..rest.len()].copy_from_slice(rest);
        let (p, _) = probability_and_loss(z, [0.0; LANES]);
        rest.copy_from_slice(&p[..rest.len()]);
    }
}

/// `x`, or 0 where there is none.
#[inline(always)]
fn present(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x }
}

/// `sigmoid(z)`, and `max(z, 0) - z y + ln(1 + exp(-|z|))`. An output that is not finite gives a loss that is not finite.
#[inline(always)]
fn probability_and_loss(z: Lane, y: Lane) -> (Lane, Lane) {
    let mut negative = [0.0; LANES];
    for l in 0..LANES {
        negative[l] = -z[l].abs();
    }
    let e = exp_of_negative(negative);
    let logarithm = ln_1p(e);
    let (mut p, mut loss) = ([0.0; LANES], [0.0; LANES]);
    for l in 0..LANES {
        let positive = z[l] > 0.0;
        p[l] = if positive { 1.0 } else { e[l] } / (1.0 + e[l]);
        loss[l] = (if positive { z[l] } else { 0.0 } - z[l] * y[l]) + logarithm[l];
    }
    (p, loss)
}

#[inline(always)]
fn total([a, b, c, d, e, f, g, h]: [f64; LANES]) -> f64 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
