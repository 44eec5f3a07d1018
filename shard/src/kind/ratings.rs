//! Ratings: a row is its user, its item and the bits of its rating. A mini-batch is sorted.

use std::ops::Range;

use bytes::Bytes;
use manifests::ratings::{self, RatingRows};
use manifests::stream::Batch;
use schemas::dataset::Ratings;

use super::Kind;
use super::sort::Sorter;

/// Words of a row.
pub(super) const WIDTH: usize = 3;

/// Ratings by users below `n_users` of items below `n_items`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RatingKind {
    pub(crate) n_users: u32,
    pub(crate) n_items: u32,
}

impl RatingKind {
    /// The ratings of `layout`.
    pub(crate) const fn of(layout: &Ratings) -> Self {
        Self { n_users: layout.n_users, n_items: layout.n_items }
    }

    /// Words of a row.
    pub(crate) const fn width() -> usize {
        WIDTH
    }
}

impl Kind for RatingKind {
    type Columns = RatingRows;
    type Encoder = (Sorter, RatingRows);

    fn width(&self) -> usize {
        WIDTH
    }

    fn decode(&self, part: Bytes, rows: &mut RatingRows) -> Result<usize, String> {
        ratings::decode(part, rows)?;
        check_ids("user", &rows.users, self.n_users)?;
        check_ids("item", &rows.items, self.n_items)?;
        Ok(rows.len())
    }

    fn receive(&self, batch: &Batch, rows: &mut RatingRows) -> Result<(), manifests::Error> {
        batch.ratings(rows)
    }

    fn pack(&self, rows: &RatingRows, range: Range<usize>, words: &mut [u32]) {
        let cells = rows.users[range.clone()].iter().zip(&rows.items[range.clone()]).zip(&rows.ratings[range]);
        for (word, ((&user, &item), rating)) in words.chunks_exact_mut(WIDTH).zip(cells) {
            word.copy_from_slice(&[user, item, rating.to_bits()]);
        }
    }

    fn encoder(&self) -> Self::Encoder {
        (Sorter::new(self.n_users, self.n_items), RatingRows::default())
    }

    fn encode(&self, words: &[u32], (sorter, sorted): &mut Self::Encoder) -> Vec<u8> {
        sorter.sort(words, sorted);
        ratings::encode(sorted)
    }
}

fn check_ids(column: &str, ids: &[u32], count: u32) -> Result<(), String> {
    if ids.iter().copied().max().is_none_or(|most| most < count) {
        return Ok(());
    }
    let row = ids.iter().position(|&id| id >= count).expect("the largest id is too large");
    Err(format!("row {row}: {column} {} is not below the dataset's number of {column}s, {count}", ids[row]))
}
