//! How predictions are written: csv, whose text is made beforehand, or Parquet, in row groups of a fixed size, so that the bytes do
//! not depend on where the blocks of the input are cut.

use std::io::{self, Write};
use std::ops::Range;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use schemas::report::Split;

use super::destination::Destination;
use crate::error::Error;
use crate::plan::scoring::Format;

/// Rows of a row group.
const GROUP_ROWS: usize = 1 << 17;

/// Columns of predictions.
pub(super) trait Columns: Default {
    /// How many rows there are.
    fn len(&self) -> usize;
    /// Appends some rows of `other`.
    fn extend(&mut self, other: &Self, rows: Range<usize>);
    /// Removes all rows and keeps the memory.
    fn clear(&mut self);
    /// The columns of `shape`; the first row has the number `first_row`.
    fn batch(&self, shape: Shape, first_row: u64) -> RecordBatch;
}

/// Which columns there are besides those that there always are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Labels or ratings.
    pub(super) known: bool,
    /// The split of a dataset: rows from this number on are held out.
    pub(super) n_train: Option<u64>,
}

impl Shape {
    /// `train` or `holdout` for some rows.
    pub(super) fn splits(self, first_row: u64, rows: usize) -> Option<impl Iterator<Item = &'static str>> {
        let split = |row, n_train| if row < n_train { Split::Train } else { Split::Holdout };
        let rows = first_row..first_row + rows as u64;
        self.n_train.map(|n_train| rows.map(move |row| split(row, n_train).name()))
    }
}

/// Where predictions are written, in order.
pub(super) struct Sink<'a, C> {
    destination: &'a Destination<'a>,
    shape: Shape,
    /// Number of the next row that is kept.
    pub(super) next_row: u64,
    form: Form<C>,
}

enum Form<C> {
    /// The header is written with the first rows, so that nothing is when there are none.
    Csv {
        writer: Box<dyn Write + Send>,
        header: Option<String>,
    },
    Parquet {
        file: Box<ArrowWriter<Box<dyn Write + Send>>>,
        waiting: C,
    },
}

impl<'a, C: Columns> Sink<'a, C> {
    /// A file of `format`; a csv begins with `header`.
    pub(super) fn open(
        destination: &'a Destination<'a>,
        format: Format,
        shape: Shape,
        next_row: u64,
        header: &str,
    ) -> Result<Self, Error> {
        let writer = destination.writer()?;
        let form = match format {
            Format::Csv => Form::Csv { writer, header: Some(header.to_owned()) },
            Format::Parquet => {
                let schema = C::default().batch(shape, 0).schema();
                let file = ArrowWriter::try_new(writer, schema, Some(properties()));
                let file = Box::new(file.map_err(|e| destination.unwritable(system(e)))?);
                Form::Parquet { file, waiting: C::default() }
            }
        };
        Ok(Self { destination, shape, next_row, form })
    }

    /// Adds the next rows: `columns`, or what `text` makes of the number of the first.
    pub(super) fn add<'t>(&mut self, columns: &C, text: impl FnOnce(u64) -> &'t [u8]) -> Result<(), Error> {
        let n_rows = columns.len();
        if n_rows == 0 {
            return Ok(());
        }
        if let Form::Csv { writer, header } = &mut self.form {
            let header = header.take().unwrap_or_default();
            let written = writer.write_all(header.as_bytes()).and_then(|()| writer.write_all(text(self.next_row)));
            written.map_err(|e| self.destination.unwritable(e))?;
            self.next_row += n_rows as u64;
            return Ok(());
        }
        let mut done = 0;
        while let (Form::Parquet { waiting, .. }, true) = (&mut self.form, done < n_rows) {
            let more = (GROUP_ROWS - waiting.len()).min(n_rows - done);
            waiting.extend(columns, done..done + more);
            done += more;
            self.next_row += more as u64;
            self.settle(GROUP_ROWS)?;
        }
        Ok(())
    }

    /// Writes a row group once it has `rows`.
    fn settle(&mut self, rows: usize) -> Result<(), Error> {
        let Form::Parquet { file, waiting } = &mut self.form else { return Ok(()) };
        if waiting.len() >= rows {
            let batch = waiting.batch(self.shape, self.next_row - waiting.len() as u64);
            let written = file.write(&batch).and_then(|()| file.flush());
            written.map_err(|e| self.destination.unwritable(system(e)))?;
            waiting.clear();
        }
        Ok(())
    }

    /// Writes the rest.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.settle(1)?;
        match self.form {
            Form::Csv { mut writer, .. } => writer.flush().map_err(|e| self.destination.unwritable(e)),
            Form::Parquet { file, .. } => {
                let written = file.into_inner().map_err(system).and_then(|mut writer| writer.flush());
                written.map_err(|e| self.destination.unwritable(e))
            }
        }
    }
}

/// The same bytes whichever version of the library writes them, and no dictionaries where all values differ.
fn properties() -> WriterProperties {
    let plain = ["row", "user_id", "item_id", "probability", "prediction"];
    let builder = WriterProperties::builder().set_created_by("gristmill".to_owned());
    let builder = builder.set_column_encoding(ColumnPath::from("row"), Encoding::DELTA_BINARY_PACKED);
    let plain = plain.into_iter().map(ColumnPath::from);
    plain.fold(builder, |builder, column| builder.set_column_dictionary_enabled(column, false)).build()
}

/// What the system said, if it was the system.
fn system(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(inner) => io::Error::other(inner),
        },
        other => io::Error::other(other),
    }
}

/// Appends the digits of `number`.
pub(super) fn push_number(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[first..]);
}

/// Appends the shortest digits that name `x` among the numbers of 32 bits.
pub(super) fn push_float(text: &mut Vec<u8>, x: f32) {
    write!(text, "{x}").expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for (number, digits) in [(0, "0"), (9, "9"), (10, "10"), (1_203, "1203"), (u64::MAX, "18446744073709551615")] {
            let mut text = b"x".to_vec();
            push_number(&mut text, number);
            assert_eq!(text, format!("x{digits}").as_bytes());
        }
        let mut text = Vec::new();
        push_float(&mut text, 0.1);
        assert_eq!(text, b"0.1");
    }

    #[test]
    fn rows_from_a_number_on_are_held_out() {
        let shape = Shape { known: true, n_train: Some(5) };
        assert_eq!(shape.splits(3, 3).unwrap().collect::<Vec<_>>(), ["train", "train", "holdout"]);
        assert!(Shape { n_train: None, ..shape }.splits(3, 3).is_none());
    }
}
