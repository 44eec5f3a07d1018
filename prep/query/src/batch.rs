//! Decoded rows as record batches, and record batches as rows.
//!
//! Tokens become views, 16 bytes each, in which a token of up to 12 bytes lies itself; only longer ones need memory besides.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BinaryViewArray, Int64Array, RecordBatch, UInt64Array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use raw::clicks::{Numbers, Tokens};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use crate::schema::schema;

/// The longest token that lies in its view.
const INLINE_BYTES_MAX: usize = 12;

/// Collects decoded rows into record batches.
#[derive(Debug)]
pub struct ClickBatchBuilder {
    labelled: bool,
    first_row: u64,
    rows: Vec<u64>,
    labels: Vec<i64>,
    present: Vec<u16>,
    numbers: [Vec<i64>; N_NUMERIC],
    tokens: [Vec<u128>; N_CATEGORICAL],
    /// Tokens that do not lie in their views.
    long: Vec<u8>,
}

impl ClickBatchBuilder {
    /// A builder of rows with or without labels.
    #[must_use]
    pub fn new(labelled: bool) -> Self {
        Self {
            labelled,
            first_row: 0,
            rows: Vec::new(),
            labels: Vec::new(),
            present: Vec::new(),
            numbers: Default::default(),
            tokens: Default::default(),
            long: Vec::new(),
        }
    }

    /// Says that line 0 of the block that follows is row `first_row` of the input.
    pub fn start(&mut self, first_row: u64) {
        self.first_row = first_row;
    }

    /// How many rows have been collected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no rows have been collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Makes room for `rows` more.
    pub(crate) fn make_room(&mut self, rows: usize) {
        self.rows.reserve(rows);
        self.present.reserve(rows);
        self.labels.reserve(if self.labelled { rows } else { 0 });
        self.numbers.iter_mut().for_each(|column| column.reserve(rows));
        self.tokens.iter_mut().for_each(|column| column.reserve(rows));
    }

    #[inline]
    pub(crate) fn add<'a>(&mut self, row: u64, numbers: &Numbers, token: impl Fn(usize) -> &'a [u8]) {
        self.rows.push(row);
        if self.labelled {
            self.labels.push(i64::from(numbers.label));
        }
        self.present.push(numbers.present);
        for (column, &value) in self.numbers.iter_mut().zip(&numbers.values) {
            column.push(value);
        }
        for (column, views) in self.tokens.iter_mut().enumerate() {
            let token = token(column);
            let view = match <[u8; 8]>::try_from(token) {
                Ok(word) => u128::from(u64::from_le_bytes(word)) << 32 | 8,
                Err(_) => view(token, &mut self.long),
            };
            views.push(view);
        }
    }

    /// The rows since the last call.
    ///
    /// # Panics
    /// When a batch is larger than 4 GiB.
    pub fn finish(&mut self) -> RecordBatch {
        let len = self.rows.len();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(std::mem::take(&mut self.rows)))];
        if self.labelled {
            columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.labels))));
        }
        let present = std::mem::take(&mut self.present);
        for (j, column) in self.numbers.iter_mut().enumerate() {
            let nulls = nulls(len, |i| present[i] >> j & 1 != 0);
            columns.push(Arc::new(Int64Array::new(ScalarBuffer::from(std::mem::take(column)), nulls)));
        }
        let long: Vec<Buffer> = match self.long.is_empty() {
            true => Vec::new(),
            false => vec![Buffer::from_vec(std::mem::take(&mut self.long))],
        };
        for column in &mut self.tokens {
            let views = std::mem::take(column);
            let nulls = nulls(len, |i| views[i] != 0);
            let tokens = BinaryViewArray::try_new(ScalarBuffer::from(views), long.clone(), nulls);
            columns.push(Arc::new(tokens.expect("every view fits the tokens")));
        }
        RecordBatch::try_new(schema(self.labelled), columns).expect("the columns are those of the schema")
    }
}

impl raw::clicks::Rows for ClickBatchBuilder {
    fn reserve(&mut self, rows: usize) {
        self.make_room(rows);
    }

    #[inline]
    fn push(&mut self, line: usize, numbers: &Numbers, tokens: Tokens<'_>) {
        self.add(self.first_row + line as u64, numbers, |column| tokens.get(column));
    }
}

/// The view of `token`, which is put into `long` when it must be. The view of an empty token is 0.
fn view(token: &[u8], long: &mut Vec<u8>) -> u128 {
    let len = token.len() as u128;
    if token.len() <= INLINE_BYTES_MAX {
        let mut bytes = [0; 16];
        bytes[4..4 + token.len()].copy_from_slice(token);
        return u128::from_le_bytes(bytes) | len;
    }
    let prefix = u32::from_le_bytes(*token.first_chunk().expect("the token is long"));
    let offset = u32::try_from(long.len()).expect("a batch is smaller than 4 GiB");
    long.extend_from_slice(token);
    len | u128::from(prefix) << 32 | u128::from(offset) << 96
}

fn nulls(len: usize, present: impl FnMut(usize) -> bool) -> Option<NullBuffer> {
    let nulls = NullBuffer::new(BooleanBuffer::collect_bool(len, present));
    (nulls.null_count() > 0).then_some(nulls)
}

/// The rows of a record batch of this crate.
#[derive(Clone, Copy, Debug)]
pub struct ClickBatch<'a> {
    rows: &'a [u64],
    labels: Option<&'a [i64]>,
    numbers: [&'a Int64Array; N_NUMERIC],
    tokens: [&'a BinaryViewArray; N_CATEGORICAL],
}

impl<'a> ClickBatch<'a> {
    /// The rows of `batch`.
    ///
    /// # Panics
    /// When `batch` has another [`schema`](mod@crate::schema).
    #[must_use]
    pub fn of(batch: &'a RecordBatch) -> Self {
        let labelled = batch.num_columns() == schema(true).fields().len();
        let first = 1 + usize::from(labelled);
        Self {
            rows: batch.column(0).as_primitive::<UInt64Type>().values(),
            labels: labelled.then(|| &batch.column(1).as_primitive::<Int64Type>().values()[..]),
            numbers: std::array::from_fn(|j| batch.column(first + j).as_primitive()),
            tokens: std::array::from_fn(|j| batch.column(first + N_NUMERIC + j).as_binary_view()),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether rows have labels.
    #[must_use]
    pub fn labelled(&self) -> bool {
        self.labels.is_some()
    }

    /// Number in the input, from 0, of row `i` of the batch.
    ///
    /// # Panics
    /// When there is no row `i`.
    #[inline]
    #[must_use]
    pub fn row_number(&self, i: usize) -> u64 {
        self.rows[i]
    }

    /// Label and numbers of row `i`.
    ///
    /// # Panics
    /// When there is no row `i`.
    #[inline]
    #[must_use]
    pub fn numbers(&self, i: usize) -> Numbers {
        let mut numbers =
            Numbers { label: self.labels.map_or(0, |labels| u8::from(labels[i] != 0)), ..Numbers::default() };
        for (j, column) in self.numbers.iter().enumerate() {
            if column.is_valid(i) {
                numbers.values[j] = column.value(i);
                numbers.present |= 1 << j;
            }
        }
        numbers
    }

    /// Token `Cj` of row `i` for `column = j - 1`; empty where it is missing.
    ///
    /// # Panics
    /// When there is no such row or column.
    #[inline]
    #[must_use]
    pub fn token(&self, i: usize, column: usize) -> &'a [u8] {
        let tokens = self.tokens[column];
        if tokens.is_valid(i) { tokens.value(i) } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use raw::clicks::Format;
    use raw::clicks::lines::{Decoder, Limits};
    use raw::clicks::reference::Collected;

    const LIMITS: Limits = Limits { bad_max: usize::MAX, line_bytes_max: 1 << 18 };

    #[track_caller]
    fn same_rows(text: &[u8], format: Format) {
        let mut expected = Collected::default();
        Decoder::default().decode(text, format, LIMITS, &mut expected);
        let mut builder = ClickBatchBuilder::new(format.label);
        // What was there before must not show.
        builder.start(7);
        Decoder::default().decode(text, format, LIMITS, &mut builder);
        assert_eq!(builder.len(), expected.0.len());
        builder.finish();
        builder.start(1 << 40);
        Decoder::default().decode(text, format, LIMITS, &mut builder);
        let batch = builder.finish();
        assert!(builder.is_empty());
        assert_eq!(batch.schema(), schema(format.label));
        let rows = ClickBatch::of(&batch);
        assert_eq!((rows.len(), rows.labelled()), (expected.0.len(), format.label));
        for (i, row) in expected.0.iter().enumerate() {
            assert_eq!(rows.row_number(i), (1 << 40) + row.line as u64);
            assert_eq!(rows.numbers(i), row.numbers);
            for (column, token) in row.tokens.iter().enumerate() {
                assert_eq!(rows.token(i, column), token);
                let array = batch.column_by_name(&format!("C{}", column + 1)).unwrap();
                assert_eq!(array.is_null(i), token.is_empty());
            }
        }
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_decoded(
            label: bool,
            rows in proptest::collection::vec(
                (0u8..3, proptest::collection::vec(proptest::option::of(any::<i64>()), 13),
                 proptest::collection::vec(proptest::collection::vec(11u8..=255, 0..15), 26)), 0..9),
        ) {
            let mut text = Vec::new();
            for (bit, numbers, tokens) in &rows {
                let number = |n: &Option<i64>| n.map_or(String::new(), |n| n.to_string()).into_bytes();
                let head = label.then(|| bit.to_string().into_bytes());
                let fields: Vec<Vec<u8>> = head.into_iter().chain(numbers.iter().map(number)).chain(tokens.iter().cloned()).collect();
                text.extend(fields.join(&b'\t'));
                text.push(b'\n');
            }
            same_rows(&text, Format { separator: b'\t', id: false, label });
        }
    }

    #[test]
    fn every_length_of_a_token_is_right() {
        let tokens: Vec<String> =
            (0..N_CATEGORICAL).map(|len| "tokens-of-every-length-1234"[..len].to_owned()).collect();
        let row = format!("1{}\t{}\n", "\t5".repeat(N_NUMERIC), tokens.join("\t"));
        same_rows(row.repeat(3).as_bytes(), Format { separator: b'\t', id: false, label: true });
    }
}
