//! The second stage from the renumbered rows to Parquet parts, and the errors of the baselines on the way.

use std::sync::Mutex;
use std::sync::PoisonError;

use manifests::commit::Staging;
use manifests::ratings::{RatingRows, encode};
use raw::ratings::parse::{PackedRating, unpack};
use reporting::Progress;
use schemas::dataset::{BaselineRmse, Baselines, Object};

use super::spill::{CHUNK_ROWS, Spill};
use super::statistics::{Effects, ITEM_SHRINKAGE, Split, USER_SHRINKAGE};
use crate::error::Error;
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

/// Writes the rows as parts, one of each sort for each chunk that has such rows.
pub(super) fn write_parts(
    staging: &Staging,
    spill: &Spill,
    mean: f64,
    effects: &Effects,
    split: &Split<'_>,
    threads: usize,
    progress: &Progress,
) -> Result<Written, Error> {
    let written = Mutex::new(Vec::new());
    let state = || (Vec::<PackedRating>::new(), [Sort::default(), Sort::default()]);
    on_threads(threads, spill.chunks(), state, |(buffer, sorts), chunk| {
        sorts.iter_mut().for_each(Sort::clear);
        let mut held_out = split.flags(chunk * CHUNK_ROWS);
        spill.read_chunk(chunk, buffer, |_, rows| {
            for (row, held_out) in rows.iter().zip(&mut held_out) {
                let (user, item, rating) = unpack(row);
                let effects = effects.items[item as usize] + effects.users[user as usize];
                sorts[usize::from(held_out)].push(user, item, f64::from(rating) - mean, effects);
            }
        })?;
        let mut parts = [None, None];
        for ((part, sort), name) in parts.iter_mut().zip(&*sorts).zip(["train", "holdout"]) {
            if !sort.rows.is_empty() {
                let rows = sort.rows.len() as u64;
                *part = Some(staging.put(&format!("{name}-{chunk:05}.parquet"), encode(&sort.rows), rows)?);
                progress.add(rows);
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
