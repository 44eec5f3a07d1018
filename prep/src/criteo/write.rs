//! The third stage: numbers scaled by what was fitted, and rows written as Parquet parts or to a pipe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use manifests::clicks::{ClickRows, Form, MISSING_BUCKET, encode};
use manifests::commit::Staging;
use manifests::stream::{Encoder, Kind};
use raw::blocks::in_order;
use raw::clicks::scale::{Scale, extend};
use reporting::Progress;
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};
use schemas::dataset::Object;

use super::columns::LABEL;
use super::spill::{Index, Slice, Spill};
use crate::error::Error;
use crate::holdout::Rule;
use crate::pipe::{self, Pipe};
use crate::threads::on_threads;

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

/// Writes the rows to `pipe`, the training rows and then the others, and counts the values that are there.
pub(super) fn write_stream(
    mut pipe: Pipe,
    (spill, index): (&Spill, &Index),
    form: Form,
    scales: &[Scale; N_NUMERIC],
    rule: &Rule,
    threads: usize,
    progress: &Progress,
) -> Result<(Pipe, u64), Error> {
    let mut all_entries = 0;
    let sorts = if rule.holds_some() { &[false, true][..] } else { &[false] };
    let mut opened = false;
    for &sort in sorts {
        let claimed = AtomicU64::new(0);
        let state = || (Vec::new(), Vec::new(), Encoder::new(Kind::Clicks(form)));
        let produce = |(words, held_out, encoder): &mut (Vec<u64>, Vec<bool>, Encoder), (): &mut ()| {
            let number = claimed.fetch_add(1, Ordering::Relaxed);
            (number < index.chunks()).then(|| {
                let mut rows = ClickRows::default();
                let outcome = spill.each_slice(index, number, words, |slice| {
                    held_out.clear();
                    held_out.extend(slice.source_rows().map(|row| rule.holds(row)));
                    add_sort(&mut rows, sort, &slice, held_out, form, scales);
                });
                let (count, entries) = (rows.len as u64, entries(&rows));
                (number, outcome.map(|()| (encoder.clicks(rows), count, entries)))
            })
        };
        in_order(threads.min(pipe::THREADS_MAX), state, produce, |(), (rows, count, entries)| {
            if count > 0 {
                if sort && !opened {
                    pipe.begin_holdout()?;
                    opened = true;
                }
                pipe.write(rows, count)?;
                progress.add(count);
            }
            all_entries += entries;
            Ok::<_, Error>(())
        })?;
    }
    Ok((pipe, all_entries))
}

/// Adds the rows of `slice` to the training and the held-out rows.
fn add(rows: &mut [ClickRows; 2], slice: &Slice<'_>, held_out: &[bool], form: Form, scales: &[Scale; N_NUMERIC]) {
    for (sort, rows) in [false, true].into_iter().zip(rows) {
        add_sort(rows, sort, slice, held_out, form, scales);
    }
}

/// Adds those rows of `slice` that are held out, or those that are not.
fn add_sort(
    rows: &mut ClickRows,
    sort: bool,
    slice: &Slice<'_>,
    held_out: &[bool],
    form: Form,
    scales: &[Scale; N_NUMERIC],
) {
    let flags = slice.flags();
    let kept: Vec<bool> = held_out.iter().map(|&held_out| held_out == sort).collect();
    let count = kept.iter().filter(|kept| **kept).count();
    if count == 0 {
        return;
    }
    let kept = (count < slice.len()).then_some(&kept[..]);
    rows.len += count;
    if form.labelled {
        extend(&mut rows.labels, flags.iter().map(|&flags| if flags & LABEL == 0 { 0.0 } else { 1.0 }), kept);
    }
    for (column, (out, scale)) in rows.numbers.iter_mut().zip(scales).enumerate() {
        scale.extend(out, column, slice.numbers(column), flags, kept);
    }
    for (column, out) in rows.buckets.iter_mut().enumerate().take(if form.is_sparse() { N_CATEGORICAL } else { 0 }) {
        slice.buckets(column, kept, out);
    }
}

fn entries(rows: &ClickRows) -> u64 {
    let numbers = rows.numbers.iter().flatten().filter(|x| !x.is_nan()).count();
    let buckets = rows.buckets.iter().flatten().filter(|&&bucket| bucket != MISSING_BUCKET).count();
    (numbers + buckets) as u64
}
