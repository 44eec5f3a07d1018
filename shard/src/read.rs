//! Reads prepared parts of ratings, each once, and puts every row where it belongs in memory.

use std::ops::Range;

use manifests::load;
use manifests::ratings::{self, RatingRows};
use rayon::prelude::*;
use reporting::{Progress, interrupt};
use schemas::dataset::{Object, Ratings};

use crate::Error;
use crate::plan::Plan;
use crate::shuffle::{Buckets, Row, store};

/// Parts smaller than this are read together, so that the tables of positions stay small beside the rows.
const GROUP_ROWS: u64 = 1 << 18;
/// Rows of a bucket, at most on average: small enough to be shuffled in a core's own cache, large enough that scattering
/// has few destinations.
const BUCKET_ROWS: usize = 8192;

/// The order that rows are put in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// That of the parts.
    Kept,
    /// Shuffled with this seed.
    Shuffled(u64),
}

/// The rows of `parts`, in `order`.
///
/// # Errors
/// When a part is missing, damaged, or has an id that the layout does not allow.
pub(crate) fn rows(
    plan: &Plan,
    layout: &Ratings,
    parts: &[Object],
    order: Order,
    progress: &Progress,
) -> Result<Vec<Row>, Error> {
    let groups = groups(parts, GROUP_ROWS);
    let ranges: Vec<Range<u32>> = groups.iter().map(|(range, _)| range.clone()).collect();
    let n_rows = ranges.last().map_or(0, |last| last.end);
    let mut rows = allocate(n_rows as usize)?;
    match order {
        Order::Kept => {
            groups.par_iter().try_for_each_init(RatingRows::default, |buffers, (range, parts)| {
                let mut next = range.start as usize;
                each_row(plan, layout, parts, buffers, progress, |user, item, rating| {
                    store(&rows[next], user, item, rating);
                    next += 1;
                })
            })?;
        }
        Order::Shuffled(seed) => {
            let buckets = Buckets::new(seed, n_rows, BUCKET_ROWS);
            let mut positions = buckets.positions(&ranges);
            groups.par_iter().zip(&mut positions.cursors).try_for_each_init(
                RatingRows::default,
                |buffers, ((range, parts), cursors)| {
                    let mut row = range.start;
                    each_row(plan, layout, parts, buffers, progress, |user, item, rating| {
                        let cursor = &mut cursors[buckets.of(row)];
                        store(&rows[*cursor as usize], user, item, rating);
                        *cursor += 1;
                        row += 1;
                    })
                },
            )?;
            buckets.shuffle(&mut rows, &positions);
        }
    }
    Ok(rows)
}

/// Consecutive parts of `group_rows` rows or more that are read together, with the numbers of their rows.
pub(crate) fn groups(parts: &[Object], group_rows: u64) -> Vec<(Range<u32>, &[Object])> {
    let mut groups = Vec::new();
    let (mut first_part, mut first_row, mut row) = (0, 0, 0);
    for (i, part) in parts.iter().enumerate() {
        row += part.rows;
        if row - first_row >= group_rows || i + 1 == parts.len() {
            let number = |row: u64| u32::try_from(row).expect("the plan refuses more than u32::MAX rows");
            groups.push((number(first_row)..number(row), &parts[first_part..=i]));
            (first_part, first_row) = (i + 1, row);
        }
    }
    groups
}

fn allocate(n_rows: usize) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    rows.try_reserve_exact(n_rows)
        .map_err(|source| Error::System { what: "the memory for all rows", source: Box::new(source) })?;
    rows.par_extend((0..n_rows).into_par_iter().map(|_| Row::default()));
    Ok(rows)
}

fn each_row(
    plan: &Plan,
    layout: &Ratings,
    parts: &[Object],
    rows: &mut RatingRows,
    progress: &Progress,
    mut put: impl FnMut(u32, u32, f32),
) -> Result<(), Error> {
    let place = &plan.dataset.place;
    for part in parts {
        interrupt::check()?;
        let corrupt = |problem| manifests::Error::Corrupt { place: place.show(&part.key), problem };
        let bytes = load::object(place, part, &plan.descriptor)?;
        ratings::decode(bytes, rows).map_err(corrupt)?;
        if rows.len() as u64 != part.rows {
            return Err(corrupt(format!("it has {} rows, `{}` says {}", rows.len(), plan.descriptor, part.rows)).into());
        }
        check_ids("user", &rows.users, layout.n_users).map_err(corrupt)?;
        check_ids("item", &rows.items, layout.n_items).map_err(corrupt)?;
        for ((&user, &item), &rating) in rows.users.iter().zip(&rows.items).zip(&rows.ratings) {
            put(user, item, rating);
        }
        progress.add(part.rows);
    }
    Ok(())
}

fn check_ids(column: &str, ids: &[u32], count: u32) -> Result<(), String> {
    if ids.iter().copied().max().is_none_or(|most| most < count) {
        return Ok(());
    }
    let row = ids.iter().position(|&id| id >= count).expect("the largest id is too large");
    Err(format!("row {row}: {column} {} is not below the dataset's number of {column}s, {count}", ids[row]))
}
