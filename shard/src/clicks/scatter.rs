//! Reads parts, each once, and writes every row to the place of its bucket in the temporary file.
//!
//! A part's rows are first sorted by bucket in memory, so that there is one write for each bucket and not for each row. The
//! places are known beforehand, so threads need no order between them.

use std::ops::Range;

use manifests::clicks::ClickRows;
use reporting::Progress;
use schemas::dataset::Object;

use super::spill::Spill;
use super::words::{TILE_ROWS, pack};
use super::{Rows, Workers};
use crate::Error;
use crate::shuffle::Buckets;

/// What one thread works with.
#[derive(Default)]
struct Scatter {
    rows: ClickRows,
    /// The bucket of each row of the part.
    buckets: Vec<u32>,
    /// Where the next row of each bucket goes in `sorted`.
    next: Vec<u32>,
    tile: Vec<u32>,
    sorted: Vec<u32>,
}

/// Scatters the rows of `groups`. `cursors` are where each group's rows begin in each bucket.
///
/// # Errors
/// When a part cannot be read or temporary data not be written, or a signal arrives.
pub(super) fn scatter(
    rows: Rows<'_>,
    buckets: &Buckets,
    groups: Vec<(Range<u32>, &[Object])>,
    cursors: Vec<Vec<u32>>,
    spill: &Spill,
    progress: &Progress,
) -> Result<(), Error> {
    let mut workers = Workers::new(Scatter::default);
    workers.run(groups.into_iter().zip(cursors), |scatter, ((range, parts), mut cursors)| {
        let mut first = range.start;
        for part in parts {
            rows.read(part, &mut scatter.rows)?;
            scatter.sort(rows, buckets, first, spill.width());
            scatter.write(&mut cursors, spill)?;
            first += scatter.rows.len as u32;
            progress.add(part.rows);
        }
        Ok(())
    })
}

impl Scatter {
    /// Puts the part's rows, of which the first has the number `first`, into `sorted` by bucket.
    fn sort(&mut self, rows: Rows<'_>, buckets: &Buckets, first: u32, width: usize) {
        let count = self.rows.len;
        self.next.clear();
        self.next.resize(buckets.count(), 0);
        self.buckets.clear();
        self.buckets.extend((first..).take(count).map(|row| buckets.of(row) as u32));
        self.buckets.iter().for_each(|&bucket| self.next[bucket as usize] += 1);
        let mut start = 0;
        for next in &mut self.next {
            start += std::mem::replace(next, start);
        }
        self.sorted.resize(count * width, 0);
        self.tile.resize(TILE_ROWS * width, 0);
        for (first, buckets) in (0..).step_by(TILE_ROWS).zip(self.buckets.chunks(TILE_ROWS)) {
            let tile = &mut self.tile[..buckets.len() * width];
            pack(rows.form, &self.rows, first..first + buckets.len(), tile);
            for (row, &bucket) in tile.chunks_exact(width).zip(buckets) {
                let next = &mut self.next[bucket as usize];
                self.sorted[*next as usize * width..][..width].copy_from_slice(row);
                *next += 1;
            }
        }
    }

    /// Writes the sorted rows of each bucket at its cursor, and moves the cursor behind them.
    fn write(&self, cursors: &mut [u32], spill: &Spill) -> Result<(), Error> {
        let mut start = 0;
        for (&end, cursor) in self.next.iter().zip(cursors) {
            if start < end {
                let words = start as usize * spill.width()..end as usize * spill.width();
                spill.write(*cursor, &self.sorted[words])?;
                *cursor += end - start;
                start = end;
            }
        }
        Ok(())
    }
}
