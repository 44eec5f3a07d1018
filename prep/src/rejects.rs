//! What becomes of bad rows, and those that were set aside, with position and reason, as a CSV table. What makes a row bad is
//! decided elsewhere.
//!
//! The table has the columns line, column, reason and row, and before them the file when there may be several.

use raw::reading::{Refused, stop};

use crate::error::Error;
use crate::plan::BadRows;

/// Rejected rows in order.
#[derive(Default)]
pub(crate) struct Rejects {
    rows: Vec<u64>,
    csv: Vec<u8>,
    first_line: Option<u64>,
}

impl Rejects {
    /// The most that the table may take.
    const CSV_BYTES_MAX: usize = 256 << 20;
    /// Name of the table.
    pub(crate) const KEY: &str = "rejects.csv";

    /// Adds the row number `row` of the source, bad rows counted, with its file (of every row or of none), line and column, the
    /// reason and its text.
    fn push(&mut self, row: u64, file: Option<&str>, line: u64, column: usize, reason: &str, text: &[u8]) {
        if self.csv.is_empty() {
            self.csv.extend_from_slice(if file.is_some() { b"file," } else { b"" });
            self.csv.extend_from_slice(b"line,column,reason,row\n");
        }
        self.first_line.get_or_insert(line);
        self.rows.push(row);
        if let Some(file) = file {
            self.quoted(file.as_bytes());
            self.csv.push(b',');
        }
        self.csv.extend_from_slice(format!("{line},{column},").as_bytes());
        self.quoted(reason.as_bytes());
        self.csv.push(b',');
        self.quoted(String::from_utf8_lossy(text).as_bytes());
        self.csv.push(b'\n');
    }

    /// Does with a bad row what `policy` says. Its number and its file, of every row or of none, are those in all inputs.
    pub(crate) fn refuse(
        &mut self,
        policy: BadRows,
        bad: Refused<'_>,
        row: u64,
        file: Option<&str>,
    ) -> Result<(), Error> {
        let Refused { line, column, .. } = bad;
        match policy {
            BadRows::Fail => stop(bad),
            BadRows::Quarantine { rejected_max } if self.count() >= rejected_max => Err(Error::TooManyBadRows {
                place: bad.place.to_owned(),
                line,
                column,
                problem: bad.problem,
                rejected_max,
            }),
            BadRows::Quarantine { .. } => {
                self.push(row, file, line, column, &bad.problem, bad.text);
                if self.csv.len() > Self::CSV_BYTES_MAX {
                    let place = bad.place.to_owned();
                    return Err(Error::RejectsTooLarge { place, line, bytes_max: Self::CSV_BYTES_MAX });
                }
                Ok(())
            }
        }
    }

    /// A field by RFC 4180.
    fn quoted(&mut self, text: &[u8]) {
        self.csv.push(b'"');
        for &byte in text {
            if byte == b'"' {
                self.csv.push(b'"');
            }
            self.csv.push(byte);
        }
        self.csv.push(b'"');
    }

    pub(crate) const fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    pub(crate) const fn first_line(&self) -> Option<u64> {
        self.first_line
    }

    pub(crate) fn csv(&self) -> &[u8] {
        &self.csv
    }

    /// The numbers in the source of the good rows from the one on that has `good` good rows before it.
    pub(crate) fn source_rows(&self, good: u64) -> impl Iterator<Item = u64> + '_ {
        let bad_before = self.bad_before(good);
        let mut row = good + bad_before as u64;
        let mut bad = self.rows[bad_before..].iter().copied().peekable();
        std::iter::from_fn(move || {
            while bad.next_if_eq(&row).is_some() {
                row += 1;
            }
            row += 1;
            Some(row - 1)
        })
    }

    /// How many bad rows come before the good row that has `good` good rows before it.
    fn bad_before(&self, good: u64) -> usize {
        // Bad row number k has rows[k] - k good rows before it, which never falls as k grows.
        let (mut low, mut high) = (0, self.rows.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.rows[middle] - middle as u64 <= good {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn good_rows_keep_their_numbers(is_bad in proptest::collection::vec(any::<bool>(), 1..80)) {
            let mut rejects = Rejects::default();
            let mut good_rows = Vec::new();
            for (row, bad) in (0..).zip(is_bad) {
                if bad { rejects.push(row, None, row + 2, 1, "", b"") } else { good_rows.push(row) }
            }
            for start in 0..good_rows.len() {
                let found: Vec<u64> = rejects.source_rows(start as u64).take(good_rows.len() - start).collect();
                prop_assert_eq!(&found, &good_rows[start..]);
            }
        }
    }

    #[test]
    fn the_table_is_csv() {
        let mut rejects = Rejects::default();
        rejects.push(0, None, 2, 5, "rating `\"` is not a number", b"1,2,\",4");
        let expected = "line,column,reason,row\n2,5,\"rating `\"\"` is not a number\",\"1,2,\"\",4\"\n";
        assert_eq!(std::str::from_utf8(rejects.csv()).unwrap(), expected);
        let mut rejects = Rejects::default();
        rejects.push(0, Some("day_0"), 2, 5, "x", b"y");
        assert_eq!(rejects.csv(), b"file,line,column,reason,row\n\"day_0\",2,5,\"x\",\"y\"\n");
    }
}
