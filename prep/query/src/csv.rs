//! Csv files with a header, as spreadsheets and data frames write them: columns in any order, fields in quotes, numbers like
//! `260.0`. This is the way for files that Kaggle's or Criteo's own have become; theirs are read by [`raw::clicks`], and faster.

use std::io::Read;

use arrow_array::RecordBatch;
use csv_core::{ReadRecordResult, Reader};
use raw::clicks::Numbers;
use raw::clicks::number::{self, Number, Problem};
use raw::clicks::rules::shortened;
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use crate::batch::ClickBatchBuilder;
use crate::convert::{LABEL_RULE, Selection, whole};
use crate::engine::BATCH_ROWS;
use crate::error::Error;

/// The longest row, without quotes.
const ROW_BYTES_MAX: usize = 1 << 18;
/// More columns than this are not read.
const COLUMNS_MAX: usize = 10_000;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 18;

/// A csv file that is being read.
pub(crate) struct Csv<R> {
    text: Records<R>,
    selection: Selection,
    n_fields: usize,
    builder: ClickBatchBuilder,
}

impl<R: Read> Csv<R> {
    /// Reads the header.
    pub(crate) fn open(place: &str, source: R, labelled: Option<bool>) -> Result<Self, Error> {
        let mut text = Records {
            place: place.to_owned(),
            source,
            reader: Reader::new(),
            piece: vec![0; PIECE_BYTES],
            unread: 0..0,
            ended: false,
            skipped: 0,
            line: 1,
            record: vec![0; ROW_BYTES_MAX],
            ends: vec![0; COLUMNS_MAX],
        };
        let Some(n_fields) = text.next()? else {
            return Err(text.damaged("it is empty, expected a header".to_owned()));
        };
        let names: Vec<String> =
            (0..n_fields).map(|i| String::from_utf8_lossy(text.field(i)).trim().to_owned()).collect();
        let selection = Selection::of(&format!("{place}:1"), names.into_iter(), labelled)?;
        let builder = ClickBatchBuilder::new(selection.labelled);
        Ok(Self { text, selection, n_fields, builder })
    }

    pub(crate) fn labelled(&self) -> bool {
        self.selection.labelled
    }

    /// The next batch, whose first row is row `first_row` of the input.
    pub(crate) fn next_batch(&mut self, first_row: u64) -> Result<Option<RecordBatch>, Error> {
        self.builder.make_room(BATCH_ROWS);
        while self.builder.len() < BATCH_ROWS {
            let Some(found) = self.text.next()? else { break };
            if found != self.n_fields {
                let place = self.text.position();
                return Err(Error::FieldCount { place, found, expected: self.n_fields });
            }
            let numbers = self.numbers()?;
            let first = usize::from(self.labelled()) + N_NUMERIC;
            let columns: &[usize; N_CATEGORICAL] =
                self.selection.positions[first..].try_into().expect("tokens are the last columns");
            let row = first_row + self.builder.len() as u64;
            self.builder.add(row, &numbers, |column| self.text.field(columns[column]));
        }
        Ok((!self.builder.is_empty()).then(|| self.builder.finish()))
    }

    fn numbers(&self) -> Result<Numbers, Error> {
        let mut numbers = Numbers::default();
        let mut columns = self.selection.positions.iter();
        if self.labelled() {
            let column = *columns.next().expect("the label is the first column");
            numbers.label = match self.number(column)? {
                Some(0) => 0,
                Some(1) => 1,
                _ => return Err(self.bad(column, LABEL_RULE)),
            };
        }
        for (j, &column) in columns.take(N_NUMERIC).enumerate() {
            if let Some(value) = self.number(column)? {
                numbers.values[j] = value;
                numbers.present |= 1 << j;
            }
        }
        Ok(numbers)
    }

    fn number(&self, column: usize) -> Result<Option<i64>, Error> {
        let field = self.text.field(column);
        let rule = match number::parse(field) {
            Number::Missing => return Ok(None),
            Number::Value(value) => return Ok(Some(value)),
            Number::Bad(Problem::Decimal) => {
                let value = str::from_utf8(field).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
                match whole(value, 9_007_199_254_740_992.0) {
                    Ok(value) => return Ok(Some(value)),
                    Err(rule) => rule,
                }
            }
            Number::Bad(Problem::NotWhole) => "is not an integer",
            Number::Bad(Problem::TooLarge) => "does not fit 64 bits",
        };
        Err(self.bad(column, rule))
    }

    #[cold]
    fn bad(&self, column: usize, rule: &'static str) -> Error {
        let index = self.selection.positions.iter().position(|&c| c == column).expect("the column was selected");
        let (column_name, value) = (self.selection.names[index].clone(), shortened(self.text.field(column)));
        Error::Value { place: self.text.position(), column: column_name, value, rule }
    }
}

/// The records of a csv file, one at a time.
struct Records<R> {
    place: String,
    source: R,
    reader: Reader,
    piece: Vec<u8>,
    unread: std::ops::Range<usize>,
    ended: bool,
    /// Ends of lines that the reader has not seen.
    skipped: u64,
    /// The line at which the record begins, from 1.
    line: u64,
    record: Vec<u8>,
    ends: Vec<usize>,
}

impl<R: Read> Records<R> {
    /// Reads the next record and says how many fields it has.
    fn next(&mut self) -> Result<Option<usize>, Error> {
        let (mut len, mut n_fields) = (0, 0);
        self.skip_ends()?;
        self.line = self.reader.line() + self.skipped;
        loop {
            if self.unread.is_empty() && !self.ended {
                self.fill()?;
            }
            let (result, read, written, ended) = self.reader.read_record(
                &self.piece[self.unread.clone()],
                &mut self.record[len..],
                &mut self.ends[n_fields..],
            );
            self.unread.start += read;
            len += written;
            n_fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => return Ok(Some(n_fields)),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::OutputFull => {
                    let problem =
                        format!("the row is longer than {ROW_BYTES_MAX} bytes, perhaps because a quote is not closed");
                    return Err(self.damaged(problem));
                }
                ReadRecordResult::OutputEndsFull => {
                    return Err(self.damaged(format!("the row has more than {COLUMNS_MAX} fields")));
                }
            }
        }
    }

    /// Skips what is left of the end of a line, and blank lines: the reader would count them too late.
    fn skip_ends(&mut self) -> Result<(), Error> {
        loop {
            if self.unread.is_empty() && !self.ended {
                self.fill()?;
            }
            match self.piece[self.unread.clone()].first() {
                Some(b'\n') => self.skipped += 1,
                Some(b'\r') => {}
                _ => return Ok(()),
            }
            self.unread.start += 1;
        }
    }

    fn fill(&mut self) -> Result<(), Error> {
        let read = loop {
            match self.source.read(&mut self.piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.map_err(|source| Error::Unreadable { place: self.place.clone(), source })?;
        (self.unread, self.ended) = (0..read, read == 0);
        Ok(())
    }

    fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.record[start..self.ends[index]]
    }

    #[cold]
    fn position(&self) -> String {
        format!("{}:{}", self.place, self.line)
    }

    #[cold]
    fn damaged(&self, problem: String) -> Error {
        Error::Damaged { place: self.position(), kind: "csv", problem }
    }
}
