//! The second stage from the renumbered rows to Parquet parts or a pipe, and the errors of the baselines on the way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use manifests::commit::Staging;
use manifests::ratings::{RatingRows, encode};
use manifests::stream::{Encoder, Kind};
use raw::blocks::in_order;
use raw::ratings::parse::{PackedRating, unpack};
use reporting::Progress;
use schemas::dataset::{BaselineRmse, Baselines, Object};

use super::spill::{CHUNK_ROWS, Spill};
use super::statistics::{Effects, ITEM_SHRINKAGE, Split, USER_SHRINKAGE};
use crate::error::Error;
use crate::pipe::{self, Pipe};
use crate::threads::on_threads;

/// Sums of squared errors over some rows.
#[derive(Clone, Copy, Default)]
struct Errors {
    rows: u64,
    mean: f64,
    effects: f64,
}

impl Errors {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.mean += other.mean;
        self.effects += other.effects;
    }

    fn rmse(self) -> BaselineRmse {
        let of = |sum: f64| (sum / self.rows as f64).sqrt();
        BaselineRmse { mean: of(self.mean), effects: of(self.effects) }
    }
}

/// The rows of one sort in one chunk.
#[derive(Default)]
struct Sort {
    rows: RatingRows,
    errors: Errors,
}

impl Sort {
    fn clear(&mut self) {
        self.rows.users.clear();
        self.rows.items.clear();
        self.rows.ratings.clear();
        self.errors = Errors::default();
    }

    fn push(&mut self, user: u32, item: u32, centred: f64, effects: f64) {
        self.rows.push(user, item, centred as f32);
        self.errors.rows += 1;
        self.errors.mean += centred * centred;
        self.errors.effects += (centred - effects) * (centred - effects);
    }
}

/// What one chunk became.
struct WrittenChunk {
    chunk: u64,
    parts: [Option<Object>; 2],
    errors: [Errors; 2],
}

/// What all chunks became.
pub(super) struct Written {
    pub parts: Vec<Object>,
    pub holdout_parts: Vec<Object>,
    pub baselines: Baselines,
}

/// What is written.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub spill: &'a Spill,
    pub mean: f64,
    pub effects: &'a Effects,
    pub split: &'a Split<'a>,
    pub threads: usize,
}

impl Parts<'_> {
    /// Writes the rows as parts, one of each sort for each chunk that has such rows.
    pub(super) fn write(&self, staging: &Staging, progress: &Progress) -> Result<Written, Error> {
        self.each_chunk(|chunk, rows, name| {
            let count = rows.len() as u64;
            let part = staging.put(&format!("{name}-{chunk:05}.parquet"), encode(rows), count)?;
            progress.add(count);
            Ok(Some(part))
        })
    }

    /// What simple predictors reach on the rows. Nothing is written.
    pub(super) fn sum_up(&self) -> Result<Written, Error> {
        self.each_chunk(|_, _, _| Ok(None))
    }

    fn fill(&self, chunk: u64, buffer: &mut Vec<PackedRating>, sorts: &mut [Sort; 2]) -> Result<(), Error> {
        sorts.iter_mut().for_each(Sort::clear);
        let mut held_out = self.split.flags(chunk * CHUNK_ROWS);
        self.spill.read_chunk(chunk, buffer, |_, rows| {
            for (row, held_out) in rows.iter().zip(&mut held_out) {
                let (user, item, rating) = unpack(row);
                let effects = self.effects.items[item as usize] + self.effects.users[user as usize];
                sorts[usize::from(held_out)].push(user, item, f64::from(rating) - self.mean, effects);
            }
        })
    }

    fn each_chunk(
        &self,
        put: impl Fn(u64, &RatingRows, &str) -> Result<Option<Object>, Error> + Sync,
    ) -> Result<Written, Error> {
        let written = Mutex::new(Vec::new());
        let state = || (Vec::<PackedRating>::new(), [Sort::default(), Sort::default()]);
        on_threads(self.threads, self.spill.chunks(), state, |(buffer, sorts), chunk| {
            self.fill(chunk, buffer, sorts)?;
            let mut parts = [None, None];
            for ((part, sort), name) in parts.iter_mut().zip(&*sorts).zip(["train", "holdout"]) {
                if !sort.rows.is_empty() {
                    *part = put(chunk, &sort.rows, name)?;
                }
            }
            let errors = [sorts[0].errors, sorts[1].errors];
            written.lock().unwrap_or_else(PoisonError::into_inner).push(WrittenChunk { chunk, parts, errors });
            Ok(())
        })?;
        let mut written = written.into_inner().unwrap_or_else(PoisonError::into_inner);
        written.sort_unstable_by_key(|w| w.chunk);
        let mut errors = [Errors::default(); 2];
        let (mut parts, mut holdout_parts) = (Vec::new(), Vec::new());
        for chunk in written {
            let [train, holdout] = chunk.parts;
            parts.extend(train);
            holdout_parts.extend(holdout);
            errors.iter_mut().zip(chunk.errors).for_each(|(sum, more)| sum.add(more));
        }
        let [train, holdout] = errors;
        let baselines = Baselines {
            item_shrinkage: ITEM_SHRINKAGE,
            user_shrinkage: USER_SHRINKAGE,
            train: train.rmse(),
            holdout: (holdout.rows > 0).then(|| holdout.rmse()),
        };
        Ok(Written { parts, holdout_parts, baselines })
    }

    /// Writes the rows to `pipe`, the training rows and then the `holdout` others.
    pub(super) fn stream(&self, mut pipe: Pipe, kind: Kind, holdout: u64, progress: &Progress) -> Result<Pipe, Error> {
        for sort in 0..if holdout > 0 { 2 } else { 1 } {
            if sort == 1 {
                pipe.begin_holdout()?;
            }
            let claimed = AtomicU64::new(0);
            let state = || (Vec::new(), [Sort::default(), Sort::default()], Encoder::new(kind));
            let produce = |(buffer, sorts, encoder): &mut (Vec<_>, [Sort; 2], Encoder), (): &mut ()| {
                let chunk = claimed.fetch_add(1, Ordering::Relaxed);
                (chunk < self.spill.chunks()).then(|| {
                    let outcome = self.fill(chunk, buffer, sorts);
                    let rows = std::mem::take(&mut sorts[sort].rows);
                    let count = rows.len() as u64;
                    (chunk, outcome.map(|()| (encoder.ratings(rows), count)))
                })
            };
            in_order(self.threads.min(pipe::THREADS_MAX), state, produce, |(), (rows, count)| {
                progress.add(count);
                pipe.write(rows, count)
            })?;
        }
        Ok(pipe)
    }
}
