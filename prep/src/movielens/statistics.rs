//! The second stage up to writing: renumbering, sums, and what simple predictors reach.
//!
//! Every sum that several threads share is a sum of whole numbers, so it does not depend on who adds what when. A rating in
//! `0.5..=5` is a whole multiple of 2^-24, because it is an `f32`; effects are rounded to multiples of 2^-32.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use raw::ratings::parse::{PackedRating, pack, unpack};
use schemas::dataset::Holdout;

use super::ids::Ranks;
use super::spill::{CHUNK_ROWS, Spill};
use crate::error::Error;
use crate::holdout::Rule;
use crate::rejects::Rejects;
use crate::threads::on_threads;

/// Shrinkage of the item and of the user effects: see [`schemas::dataset::Baselines`]. Chosen for the lowest held-out error
/// on ml-latest-small, mean of ten splits of 10 % (`tests/oracle/statistics.py --grid`): 0.8642.
pub(super) const ITEM_SHRINKAGE: f64 = 3.0;
/// See [`ITEM_SHRINKAGE`].
pub(super) const USER_SHRINKAGE: f64 = 4.0;

const RATING_UNIT: f64 = 1.0 / (1u64 << 24) as f64;
const EFFECT_UNIT: f64 = 1.0 / (1u64 << 32) as f64;

/// The rating in multiples of 2^-24.
#[inline]
fn units(rating: f32) -> u64 {
    // Exact: the scale is a power of two and the product is below 2^27.
    (rating * (1 << 24) as f32) as u64
}

/// Decides which rows are held out, as [`Holdout`] says.
pub(super) struct Split<'a> {
    rejects: &'a Rejects,
    rule: Rule,
}

impl<'a> Split<'a> {
    pub(super) fn new(holdout: Option<Holdout>, rejects: &'a Rejects) -> Self {
        Self { rejects, rule: Rule::new(holdout) }
    }

    /// Whether the good rows from number `first` on are held out.
    pub(super) fn flags(&self, first: u64) -> impl Iterator<Item = bool> + '_ {
        let mut rows = self.rule.holds_some().then(|| self.rejects.source_rows(first));
        std::iter::from_fn(move || {
            Some(match &mut rows {
                None => false,
                Some(rows) => rows.next().is_some_and(|row| self.rule.holds(row)),
            })
        })
    }
}

/// Sums over the training rows of one user or item.
#[derive(Clone, Copy, Default)]
struct Sum {
    units: u64,
    rows: u64,
}

/// Sums over the rows of one user, added to by many threads.
#[derive(Default)]
struct UserSums {
    units: AtomicU64,
    train_rows: AtomicU64,
    rows: AtomicU64,
    item_effects: AtomicI64,
}

/// What is known after renumbering.
pub(super) struct Totals {
    users: Vec<UserSums>,
    items: Vec<Sum>,
    pub train_rows: u64,
    /// Mean of the training ratings, in stars; NaN when there are none.
    pub mean: f64,
    pub rating_min: f32,
    pub rating_max: f32,
}

/// What one thread knows while renumbering.
struct Tally {
    buffer: Vec<PackedRating>,
    items: Vec<Sum>,
    rating_min: f32,
    rating_max: f32,
}

/// Sums over consecutive rows of the same user, so that the shared sums are touched once for all of them.
#[derive(Default)]
struct Run {
    user: u32,
    rows: u64,
    train: Sum,
}

impl Run {
    fn flush(&mut self, users: &[UserSums]) {
        if self.rows > 0 {
            let sums = &users[self.user as usize];
            sums.rows.fetch_add(self.rows, Ordering::Relaxed);
            sums.train_rows.fetch_add(self.train.rows, Ordering::Relaxed);
            sums.units.fetch_add(self.train.units, Ordering::Relaxed);
        }
    }
}

/// Replaces the ids in `spill` by their numbers and sums up the rows.
pub(super) fn renumber(
    spill: &Spill,
    users: &Ranks,
    items: &Ranks,
    split: &Split<'_>,
    threads: usize,
) -> Result<Totals, Error> {
    // Each thread has its own sums of the items; with very many items fewer threads keep memory in bounds.
    const ITEM_SUMS_MAX: usize = 1 << 25;
    let n_items = items.count() as usize;
    let threads = threads.min((ITEM_SUMS_MAX / n_items.max(1)).max(1));
    let sums: Vec<UserSums> = std::iter::repeat_with(UserSums::default).take(users.count() as usize).collect();
    let state = || Tally {
        buffer: Vec::new(),
        items: vec![Sum::default(); n_items],
        rating_min: f32::INFINITY,
        rating_max: f32::NEG_INFINITY,
    };
    let tallies = on_threads(threads, spill.chunks(), state, |tally, chunk| {
        let Tally { buffer, items: item_sums, rating_min, rating_max } = tally;
        let mut held_out = split.flags(chunk * CHUNK_ROWS);
        let mut run = Run::default();
        let mut last = (0, None);
        spill.change_chunk(chunk, buffer, |_, rows| {
            for (row, held_out) in rows.iter_mut().zip(&mut held_out) {
                let (user_id, item_id, rating) = unpack(row);
                let item = items.of(item_id);
                if last.1.is_none() || last.0 != user_id {
                    run.flush(&sums);
                    run = Run { user: users.of(user_id), ..Run::default() };
                    last = (user_id, Some(()));
                }
                *row = pack((run.user, item, rating));
                run.rows += 1;
                if !held_out {
                    let units = units(rating);
                    run.train.rows += 1;
                    run.train.units += units;
                    let sum = &mut item_sums[item as usize];
                    sum.rows += 1;
                    sum.units += units;
                    *rating_min = rating_min.min(rating);
                    *rating_max = rating_max.max(rating);
                }
            }
        })?;
        run.flush(&sums);
        Ok(())
    })?;
    Ok(Totals::new(sums, tallies))
}

impl Totals {
    fn new(users: Vec<UserSums>, tallies: Vec<Tally>) -> Self {
        let rating_min = tallies.iter().map(|t| t.rating_min).fold(f32::INFINITY, f32::min);
        let rating_max = tallies.iter().map(|t| t.rating_max).fold(f32::NEG_INFINITY, f32::max);
        let items = tallies.into_iter().map(|t| t.items).reduce(|mut all, some| {
            for (all, some) in all.iter_mut().zip(some) {
                all.rows += some.rows;
                all.units += some.units;
            }
            all
        });
        let items = items.unwrap_or_default();
        let train_rows: u64 = items.iter().map(|sum| sum.rows).sum();
        let units: u64 = items.iter().map(|sum| sum.units).sum();
        let mean = units as f64 * RATING_UNIT / train_rows as f64;
        Self { users, items, train_rows, mean, rating_min, rating_max }
    }

    /// Rows of each user, held-out ones included.
    pub(super) fn user_rows(&self) -> impl Iterator<Item = u64> + '_ {
        self.users.iter().map(|sums| sums.rows.load(Ordering::Relaxed))
    }

    /// Training rows of the user with the most.
    pub(super) fn user_rows_max(&self) -> u64 {
        self.users.iter().map(|sums| sums.train_rows.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// Training rows of the item with the most.
    pub(super) fn item_rows_max(&self) -> u64 {
        self.items.iter().map(|sum| sum.rows).max().unwrap_or(0)
    }
}

/// Effects of items and users, in stars.
pub(super) struct Effects {
    /// By item.
    pub items: Vec<f64>,
    /// By user.
    pub users: Vec<f64>,
}

/// Fits the effects to the training rows.
pub(super) fn fit_effects(spill: &Spill, totals: &Totals, split: &Split<'_>, threads: usize) -> Result<Effects, Error> {
    let effect = |units: u64, rows: u64, explained: f64, shrinkage: f64| {
        (units as f64 * RATING_UNIT - rows as f64 * totals.mean - explained) / (shrinkage + rows as f64)
    };
    let items: Vec<f64> = totals.items.iter().map(|sum| effect(sum.units, sum.rows, 0.0, ITEM_SHRINKAGE)).collect();
    let item_units: Vec<i64> = items.iter().map(|effect| (effect / EFFECT_UNIT).round() as i64).collect();
    on_threads(threads, spill.chunks(), Vec::new, |buffer, chunk| {
        let mut held_out = split.flags(chunk * CHUNK_ROWS);
        let (mut last, mut sum) = (0, 0);
        let flush = |user: u32, sum: i64| totals.users[user as usize].item_effects.fetch_add(sum, Ordering::Relaxed);
        spill.read_chunk(chunk, buffer, |_, rows| {
            for (row, held_out) in rows.iter().zip(&mut held_out) {
                let (user, item, _) = unpack(row);
                if user != last {
                    flush(last, std::mem::take(&mut sum));
                    last = user;
                }
                if !held_out {
                    sum += item_units[item as usize];
                }
            }
        })?;
        flush(last, sum);
        Ok(())
    })?;
    let users = totals.users.iter().map(|sums| {
        let explained = sums.item_effects.load(Ordering::Relaxed) as f64 * EFFECT_UNIT;
        effect(sums.units.load(Ordering::Relaxed), sums.train_rows.load(Ordering::Relaxed), explained, USER_SHRINKAGE)
    });
    Ok(Effects { items, users: users.collect() })
}
