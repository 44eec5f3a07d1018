//! The third stage: numbers scaled by what was fitted, and rows written as Parquet parts.

use std::sync::{Mutex, PoisonError};

use manifests::clicks::{ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER, encode};
use manifests::commit::Staging;
use reporting::Progress;
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC, NumericColumn};
use schemas::dataset::Object;

use super::columns::LABEL;
use super::spill::{Index, Slice, Spill, Values};
use crate::error::Error;
use crate::holdout::Rule;
use crate::threads::on_threads;

/// How the numbers of a column are scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// `(x - min) / (max - min)`, and nothing where nothing is there.
    MinMax { min: i64, max: i64 },
    /// `(x - mean) / sd`, with 0 where nothing is there.
    Standard { mean: f64, sd: f64 },
}

impl Scale {
    /// The scale that was fitted on `column`. A column without numbers has none to scale; any scale will do.
    pub(super) fn of(column: &NumericColumn, sparse: bool) -> Self {
        match sparse {
            true => Self::MinMax { min: column.min.unwrap_or(0), max: column.max.unwrap_or(0) },
            false => Self::Standard { mean: column.mean, sd: column.sd },
        }
    }

    /// Appends the scaled numbers of `column`, those of rows with `kept` set, to `out`.
    fn extend(self, out: &mut Vec<f32>, column: usize, values: Values<'_>, flags: &[u16], kept: Option<&[bool]>) {
        match values {
            Values::Two(values) => self.extend_small(out, column, values, flags, kept),
            Values::Four(values) => self.extend_small(out, column, values, flags, kept),
            Values::Eight(values) => {
                let cells = values.iter().zip(flags).map(|(&x, flags)| self.cell(x, flags >> column & 1 != 0));
                extend(out, cells, kept);
            }
        }
    }

    /// [`Scale::extend`] of numbers of at most 32 bits. In f64 they and their differences are exact if the smallest is not
    /// huge, which lets the processor work on several at a time; the result is that of [`Scale::cell`].
    fn extend_small<T: Copy + Into<i32>>(
        self,
        out: &mut Vec<f32>,
        column: usize,
        values: &[T],
        flags: &[u16],
        kept: Option<&[bool]>,
    ) {
        let rows = values.iter().zip(flags).map(|(&x, flags)| (x.into(), flags >> column & 1 != 0));
        match self {
            Self::MinMax { min, max } if min.unsigned_abs() < 1 << 52 && min < max => {
                let (min, range) = (min as f64, (i128::from(max) - i128::from(min)) as f64);
                let scaled = |x: i32| ((f64::from(x) - min) / range) as f32;
                extend(out, rows.map(|(x, there)| if there { scaled(x) } else { MISSING_NUMBER }), kept);
            }
            _ => extend(out, rows.map(|(x, there)| self.cell(x.into(), there)), kept),
        }
    }

    fn cell(self, x: i64, there: bool) -> f32 {
        match self {
            Self::MinMax { .. } if !there => MISSING_NUMBER,
            Self::MinMax { min, max } if min == max => 0.0,
            Self::MinMax { min, max } => {
                // Numbers of other rows than the fitted ones may lie anywhere, so that differences need 65 bits.
                let (above, range) = (i128::from(x) - i128::from(min), i128::from(max) - i128::from(min));
                (above as f64 / range as f64) as f32
            }
            Self::Standard { sd: 0.0, .. } => 0.0,
            Self::Standard { mean, sd } => ((x as f64 - mean) / sd) as f32,
        }
    }
}

/// Appends `cells`, or those with `kept` set.
fn extend(out: &mut Vec<f32>, cells: impl ExactSizeIterator<Item = f32>, kept: Option<&[bool]>) {
    match kept {
        None => out.extend(cells),
        Some(kept) => out.extend(cells.zip(kept).filter(|(_, kept)| **kept).map(|(cell, _)| cell)),
    }
}

/// What the rows became.
#[derive(Default)]
pub(super) struct Written {
    pub parts: Vec<Object>,
    pub holdout_parts: Vec<Object>,
    /// Values that are there, of numbers and of buckets.
    pub entries: u64,
}

/// The parts of one chunk.
struct Chunk {
    number: u64,
    parts: [Option<Object>; 2],
    entries: u64,
}

/// What one thread works with.
#[derive(Default)]
struct Thread {
    words: Vec<u64>,
    held_out: Vec<bool>,
    /// Training and held-out rows.
    rows: [ClickRows; 2],
}

/// Writes the rows as parts, one of each sort for each chunk that has such rows.
pub(super) fn write_parts(
    staging: &Staging,
    (spill, index): (&Spill, &Index),
    form: Form,
    scales: &[Scale; N_NUMERIC],
    rule: &Rule,
    threads: usize,
    progress: &Progress,
) -> Result<Written, Error> {
    let chunks = Mutex::new(Vec::new());
    on_threads(threads, index.chunks(), Thread::default, |thread, number| {
        let Thread { words, held_out, rows } = thread;
        rows.iter_mut().for_each(ClickRows::clear);
        spill.each_slice(index, number, words, |slice| {
            held_out.clear();
            held_out.extend(slice.source_rows().map(|row| rule.holds(row)));
            add(rows, &slice, held_out, form, scales);
        })?;
        let mut parts = [None, None];
        for ((part, rows), name) in parts.iter_mut().zip(&*rows).zip(["train", "holdout"]) {
            if rows.len > 0 {
                let bytes = encode(form, rows);
                *part = Some(staging.put(&format!("{name}-{number:05}.parquet"), bytes, rows.len as u64)?);
                progress.add(rows.len as u64);
            }
        }
        let entries = rows.iter().map(entries).sum();
        chunks.lock().unwrap_or_else(PoisonError::into_inner).push(Chunk { number, parts, entries });
        Ok(())
    })?;
    let mut chunks = chunks.into_inner().unwrap_or_else(PoisonError::into_inner);
    chunks.sort_unstable_by_key(|chunk| chunk.number);
    let mut written = Written::default();
    for chunk in chunks {
        let [train, holdout] = chunk.parts;
        written.parts.extend(train);
        written.holdout_parts.extend(holdout);
        written.entries += chunk.entries;
    }
    Ok(written)
}

/// Adds the rows of `slice` to the training and the held-out rows.
fn add(rows: &mut [ClickRows; 2], slice: &Slice<'_>, held_out: &[bool], form: Form, scales: &[Scale; N_NUMERIC]) {
    let flags = slice.flags();
    for (sort, rows) in [false, true].into_iter().zip(rows) {
        let kept: Vec<bool> = held_out.iter().map(|&held_out| held_out == sort).collect();
        let count = kept.iter().filter(|kept| **kept).count();
        if count == 0 {
            continue;
        }
        let kept = (count < slice.len()).then_some(&kept[..]);
        rows.len += count;
        if form.labelled {
            extend(&mut rows.labels, flags.iter().map(|&flags| if flags & LABEL == 0 { 0.0 } else { 1.0 }), kept);
        }
        for (column, (out, scale)) in rows.numbers.iter_mut().zip(scales).enumerate() {
            scale.extend(out, column, slice.numbers(column), flags, kept);
        }
        for (column, out) in rows.buckets.iter_mut().enumerate().take(if form.is_sparse() { N_CATEGORICAL } else { 0 })
        {
            slice.buckets(column, kept, out);
        }
    }
}

fn entries(rows: &ClickRows) -> u64 {
    let numbers = rows.numbers.iter().flatten().filter(|x| !x.is_nan()).count();
    let buckets = rows.buckets.iter().flatten().filter(|&&bucket| bucket != MISSING_BUCKET).count();
    (numbers + buckets) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_scaled_as_defined() {
        let scale = |scale: Scale, values: &[i64]| {
            let mut out = Vec::new();
            scale.extend(&mut out, 3, Values::Eight(values), &vec![1 << 3; values.len()], None);
            out
        };
        assert_eq!(scale(Scale::MinMax { min: -2, max: 2 }, &[-2, -1, 2, 6]), [0.0, 0.25, 1.0, 2.0]);
        assert_eq!(scale(Scale::MinMax { min: 5, max: 5 }, &[5, 6]), [0.0, 0.0]);
        let ends = [i64::MIN, 0, i64::MAX];
        assert_eq!(scale(Scale::MinMax { min: i64::MIN, max: i64::MAX }, &ends), [0.0, 0.5, 1.0]);
        assert_eq!(scale(Scale::MinMax { min: i64::MAX - 1, max: i64::MAX }, &[i64::MIN]), [-(2f32.powi(64))]);
        assert_eq!(scale(Scale::Standard { mean: 1.0, sd: 2.0 }, &[5, 1, 0]), [2.0, 0.0, -0.5]);
        assert_eq!(scale(Scale::Standard { mean: 3.0, sd: 0.0 }, &[3, 4]), [0.0, 0.0]);
        let (flags, kept) = ([1, 1, 0], [true, false, true]);
        let mut out = Vec::new();
        Scale::MinMax { min: 0, max: 4 }.extend(&mut out, 0, Values::Four(&[1, 2, 0]), &flags, Some(&kept));
        assert_eq!((out[0], out[1].is_nan(), out.len()), (0.25, true, 2));
        out.clear();
        Scale::Standard { mean: 1.0, sd: 1.0 }.extend(&mut out, 0, Values::Two(&[1, 2, 0]), &flags, Some(&kept));
        assert_eq!(out, [0.0, -1.0]);
    }

    proptest! {
        #[test]
        fn small_numbers_are_scaled_as_large_ones(values in proptest::collection::vec(any::<i32>(), 0..40), min: i64, shift in 0u32..64, range in 0u32..) {
            let min = min >> shift;
            let scale = Scale::MinMax { min, max: min.saturating_add(range.into()) };
            let (mut small, mut large) = (Vec::new(), Vec::new());
            let flags: Vec<u16> = values.iter().map(|x| (x & 1) as u16).collect();
            scale.extend(&mut small, 0, Values::Four(&values), &flags, None);
            let wide: Vec<i64> = values.iter().map(|&x| x.into()).collect();
            scale.extend(&mut large, 0, Values::Eight(&wide), &flags, None);
            let bits = |cells: &[f32]| cells.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&small), bits(&large));
        }
    }
}
