//! A row as words, one behind the other: the label if there is one, the numbers, the buckets; as bits, with the marks of
//! what is missing.

use std::ops::Range;

use manifests::clicks::{ClickRows, Form};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

/// Rows whose words stay in the fastest cache while columns are turned into rows, or back.
pub(super) const TILE_ROWS: usize = 64;

const fn categorical(form: Form) -> usize {
    if form.is_sparse() { N_CATEGORICAL } else { 0 }
}

/// Words of a row.
pub(super) const fn width(form: Form) -> usize {
    form.labelled as usize + N_NUMERIC + categorical(form)
}

/// Puts the rows number `range` of `rows` into `words`.
pub(super) fn pack(form: Form, rows: &ClickRows, range: Range<usize>, words: &mut [u32]) {
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
pub(super) fn unpack(form: Form, words: &[u32], rows: &mut ClickRows) {
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
