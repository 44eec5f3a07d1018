//! Click logs: a row is its label if there is one, its numbers and its buckets; as bits, with the marks of what is missing.

use std::ops::Range;

use bytes::Bytes;
use manifests::clicks::{self, ClickRows, Form};
use manifests::stream::Batch;
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::{Kind, TILE_ROWS};

/// Rows of a click log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clicks(pub(crate) Form);

impl Kind for Clicks {
    type Columns = ClickRows;
    type Encoder = ClickRows;

    fn width(&self) -> usize {
        width(self.0)
    }

    fn decode(&self, part: Bytes, rows: &mut ClickRows) -> Result<usize, String> {
        clicks::decode(self.0, part, rows)?;
        Ok(rows.len)
    }

    fn receive(&self, batch: &Batch, rows: &mut ClickRows) -> Result<(), manifests::Error> {
        batch.clicks(rows)
    }

    fn pack(&self, rows: &ClickRows, range: Range<usize>, words: &mut [u32]) {
        pack(self.0, rows, range, words);
    }

    fn encoder(&self) -> ClickRows {
        ClickRows::default()
    }

    fn encode(&self, words: &[u32], rows: &mut ClickRows) -> Vec<u8> {
        unpack(self.0, words, rows);
        clicks::encode(self.0, rows)
    }
}

const fn categorical(form: Form) -> usize {
    if form.is_sparse() { N_CATEGORICAL } else { 0 }
}

/// Words of a row.
const fn width(form: Form) -> usize {
    form.labelled as usize + N_NUMERIC + categorical(form)
}

/// Puts the rows number `range` of `rows` into `words`.
fn pack(form: Form, rows: &ClickRows, range: Range<usize>, words: &mut [u32]) {
    let width = width(form);
    for (tile, first) in words.chunks_mut(TILE_ROWS * width).zip(range.step_by(TILE_ROWS)) {
        let labels = form.labelled.then_some(&rows.labels).into_iter();
        for (at, column) in labels.chain(&rows.numbers).enumerate() {
            for (row, cell) in tile.chunks_exact_mut(width).zip(&column[first..]) {
                row[at] = cell.to_bits();
            }
        }
        for (at, column) in (width - categorical(form)..width).zip(&rows.buckets) {
            for (row, &cell) in tile.chunks_exact_mut(width).zip(&column[first..]) {
                row[at] = cell;
            }
        }
    }
}

/// Makes `rows` the rows in `words`.
fn unpack(form: Form, words: &[u32], rows: &mut ClickRows) {
    rows.clear();
    let width = width(form);
    rows.len = words.len() / width;
    for tile in words.chunks(TILE_ROWS * width) {
        let labels = form.labelled.then_some(&mut rows.labels).into_iter();
        for (at, column) in labels.chain(&mut rows.numbers).enumerate() {
            column.extend(tile.chunks_exact(width).map(|row| f32::from_bits(row[at])));
        }
        for (at, column) in (width - categorical(form)..width).zip(&mut rows.buckets) {
            column.extend(tile.chunks_exact(width).map(|row| row[at]));
        }
    }
}
