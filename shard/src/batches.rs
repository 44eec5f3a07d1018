//! Cuts rows into mini-batches and writes them.

use std::ops::Range;

use manifests::packed::Packer;
use manifests::ratings::{self, RatingRows};
use rayon::prelude::*;
use reporting::{Progress, interrupt};
use schemas::dataset::{Object, Ratings};

use crate::Error;
use crate::shuffle::Row;
use crate::sort::Sorter;

/// Where the mini-batches begin and end: as few as possible of at most a given number of rows, whose sizes differ by at
/// most one. The first ones get the additional rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cuts {
    rows: usize,
    count: usize,
}

impl Cuts {
    /// Cuts `rows` rows into batches of at most `batch_rows`.
    pub(crate) fn new(rows: usize, batch_rows: usize) -> Self {
        Self { rows, count: rows.div_ceil(batch_rows) }
    }

    /// How many batches there are.
    pub(crate) const fn count(self) -> usize {
        self.count
    }

    /// The rows of batch number `batch`.
    pub(crate) fn range(self, batch: usize) -> Range<usize> {
        let start = |batch: usize| batch * (self.rows / self.count) + batch.min(self.rows % self.count);
        start(batch)..start(batch + 1)
    }
}

/// Writes `rows` as mini-batches of at most `batch_rows` rows.
///
/// # Errors
/// When an object cannot be written, or a signal arrives.
pub(crate) fn write(
    packer: &Packer<'_>,
    rows: &[Row],
    batch_rows: usize,
    layout: &Ratings,
    progress: &Progress,
) -> Result<Vec<Object>, Error> {
    let cuts = Cuts::new(rows.len(), batch_rows);
    let buffers = || (Sorter::new(layout.n_users, layout.n_items), RatingRows::default());
    let objects: Vec<Object> = (0..cuts.count())
        .into_par_iter()
        .map_init(buffers, |(sorter, sorted), batch| {
            interrupt::check()?;
            sorter.sort(&rows[cuts.range(batch)], sorted);
            let count = sorted.len() as u64;
            let object = packer.put(batch, ratings::encode(sorted), count)?;
            progress.add(count);
            Ok::<_, Error>(object)
        })
        .collect::<Result<_, _>>()?;
    assert_eq!(objects.iter().map(|o| o.rows).sum::<u64>(), rows.len() as u64, "every row is in one batch");
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_differ_by_at_most_one_and_add_up() {
        let table: [(usize, usize, &[usize]); 8] = [
            (0, 5, &[]),
            (1, 5, &[1]),
            (4, 5, &[4]),
            (5, 5, &[5]),
            (6, 5, &[3, 3]),
            (11, 5, &[4, 4, 3]),
            (3, 1, &[1, 1, 1]),
            (7, 16_777_216, &[7]),
        ];
        for (rows, batch_rows, expected) in table {
            let cuts = Cuts::new(rows, batch_rows);
            let sizes: Vec<usize> = (0..cuts.count()).map(|b| cuts.range(b).len()).collect();
            assert_eq!(sizes, expected, "{rows} rows in batches of {batch_rows}");
        }
        // ML-20M in batches of 12000: 20,000,263 = 1667 * 11,997 + 1264.
        let cuts = Cuts::new(20_000_263, 12_000);
        assert_eq!((cuts.count(), cuts.range(1263), cuts.range(1264).len()), (1667, 15_153_474..15_165_472, 11_997));
        assert_eq!(cuts.range(1666).end, 20_000_263);
    }
}
