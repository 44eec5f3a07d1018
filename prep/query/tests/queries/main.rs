//! Conditions, queries and files, against rows made by hand.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod files;
mod filters;

use arrow_array::RecordBatch;
use prep_query::{ClickBatch, ClickBatchBuilder};
use raw::clicks::Format;
use raw::clicks::lines::{Decoder, Limits};

/// Rows of a label, `I1`, `I2`, `C1`, `C2`; nothing else is there.
const ROWS: [[&[u8]; 5]; 5] = [
    [b"1", b"1", b"0", b"68fd1e64", b"aaaa"],
    [b"0", b"", b"-2", b"05db9164", b""],
    [b"1", b"260", b"5", b"68fd1e64", b"\xff\xfe"],
    [b"0", b"0", b"", b"", b"long-token-over-twelve-bytes"],
    [b"1", b"7", b"100", b"it's", b"68FD1E64"],
];

/// A raw line of such a row.
fn line(labelled: bool, [label, i1, i2, c1, c2]: [&[u8]; 5]) -> Vec<u8> {
    let mut fields = vec![i1, i2];
    fields.extend([&b""[..]; 11]);
    fields.extend([c1, c2]);
    fields.extend([&b""[..]; 24]);
    if labelled {
        fields.insert(0, label);
    }
    [fields.join(&b'\t'), b"\n".to_vec()].concat()
}

/// The lines of `text` as rows from number `first_row` on.
fn batch(text: &[u8], labelled: bool, first_row: u64) -> RecordBatch {
    let mut builder = ClickBatchBuilder::new(labelled);
    builder.start(first_row);
    let format = Format { separator: b'\t', id: false, label: labelled };
    let outcome = Decoder::default().decode(text, format, Limits { bad_max: 1, line_bytes_max: 1 << 18 }, &mut builder);
    assert_eq!(outcome.bad, []);
    builder.finish()
}

/// The rows with the numbers 0 to 4, in three batches, one of which is empty.
fn batches(labelled: bool) -> Vec<RecordBatch> {
    let text = |rows: &[[&[u8]; 5]]| rows.iter().flat_map(|row| line(labelled, *row)).collect::<Vec<u8>>();
    vec![batch(&text(&ROWS[..2]), labelled, 0), batch(b"", labelled, 2), batch(&text(&ROWS[2..]), labelled, 2)]
}

/// Every value of every row.
fn contents(batch: &RecordBatch) -> Vec<(u64, raw::clicks::Numbers, Vec<Vec<u8>>)> {
    let rows = ClickBatch::of(batch);
    let tokens = |i| (0..26).map(|column| rows.token(i, column).to_vec()).collect();
    (0..rows.len()).map(|i| (rows.row_number(i), rows.numbers(i), tokens(i))).collect()
}
