//! Rows of click logs to and from Parquet: `label: f32`, `I1..I13: f32`, and for sparse rows `C1..C26: u32`.
//!
//! The columns go straight between vectors and the file, as in [`crate::ratings`]. A missing value is null in the file and a
//! mark in the vectors ([`MISSING_NUMBER`], [`MISSING_BUCKET`]), so that all columns have the same length.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as PhysicalType};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{SchemaDescriptor, Type};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};
use schemas::dataset::Layout;

/// Stands for a number that is not there.
pub const MISSING_NUMBER: f32 = f32::NAN;
/// Stands for a bucket that is not there.
pub const MISSING_BUCKET: u32 = u32::MAX;

/// Which columns there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Whether there is a label.
    pub labelled: bool,
    /// How many buckets there are to choose from in sparse rows; `None` for dense ones.
    pub n_buckets: Option<u32>,
}

impl Form {
    /// The form of rows of `layout`, if they are click logs.
    #[must_use]
    pub fn of(layout: &Layout) -> Option<Self> {
        match layout {
            Layout::Ratings(_) => None,
            Layout::Dense(dense) => Some(Self { labelled: dense.labels.is_some(), n_buckets: None }),
            Layout::Sparse(sparse) => {
                Some(Self { labelled: sparse.labels.is_some(), n_buckets: Some(sparse.hash.buckets) })
            }
        }
    }

    /// Whether there are buckets, and numbers may be missing.
    #[must_use]
    pub const fn is_sparse(self) -> bool {
        self.n_buckets.is_some()
    }

    const fn categorical(self) -> usize {
        if self.is_sparse() { N_CATEGORICAL } else { 0 }
    }

    /// Names of the columns, in file order.
    #[must_use]
    pub fn columns(self) -> Vec<String> {
        let label = self.labelled.then(|| "label".to_owned());
        let numeric = (1..=N_NUMERIC).map(|i| format!("I{i}"));
        let categorical = (1..=self.categorical()).map(|i| format!("C{i}"));
        label.into_iter().chain(numeric).chain(categorical).collect()
    }
}

/// Rows of a click log, column by column. Every column that the form has is `len` long.
#[derive(Clone, Debug, Default)]
pub struct ClickRows {
    /// How many rows there are.
    pub len: usize,
    /// 1 for a click, else 0. Empty when rows have no labels.
    pub labels: Vec<f32>,
    /// `I1` to `I13`.
    pub numbers: [Vec<f32>; N_NUMERIC],
    /// `C1` to `C26`. Empty when rows are dense.
    pub buckets: [Vec<u32>; N_CATEGORICAL],
}

impl ClickRows {
    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.labels.clear();
        self.numbers.iter_mut().for_each(Vec::clear);
        self.buckets.iter_mut().for_each(Vec::clear);
    }
}

fn schema(form: Form) -> Arc<Type> {
    let column = |name: &str| {
        let (physical, logical) = match name.as_bytes()[0] {
            b'C' => (PhysicalType::INT32, Some(LogicalType::integer(32, false))),
            _ => (PhysicalType::FLOAT, None),
        };
        let optional = form.is_sparse() && name != "label";
        let repetition = if optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        Arc::new(builder.with_logical_type(logical).build().expect("the schema is fixed"))
    };
    let fields = form.columns().iter().map(|name| column(name)).collect();
    Arc::new(Type::group_type_builder("clicks").with_fields(fields).build().expect("the schema is fixed"))
}

/// A dictionary of more distinct values than this saves nothing; the writer then goes on with plain values.
const DICTIONARY_VALUES: usize = 4096;

static PROPERTIES: LazyLock<Arc<WriterProperties>> = LazyLock::new(|| {
    Arc::new(
        WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_created_by("gristmill".to_owned())
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_encoding(Encoding::PLAIN)
            .set_dictionary_enabled(true)
            .set_dictionary_page_size_limit(DICTIONARY_VALUES * size_of::<f32>())
            .build(),
    )
});

/// The rows as a Parquet file with one row group. Equal rows give equal bytes.
///
/// # Panics
/// When a column is not as long as the rows are many.
#[must_use]
pub fn encode(form: Form, rows: &ClickRows) -> Vec<u8> {
    encode_with(form, rows, Arc::clone(&PROPERTIES))
}

/// As [`encode`], with other properties: for the benchmark that chose them.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn encode_with(form: Form, rows: &ClickRows, properties: Arc<WriterProperties>) -> Vec<u8> {
    let fits = |present: bool, len: usize| len == if present { rows.len } else { 0 };
    assert!(fits(form.labelled, rows.labels.len()), "the labels fit the form");
    assert!(rows.numbers.iter().all(|column| fits(true, column.len())), "the numbers fit the form");
    assert!(rows.buckets.iter().all(|column| fits(form.is_sparse(), column.len())), "the buckets fit the form");
    write(form, rows, properties).expect("writing Parquet to memory does not fail")
}

/// The values of a column that are present, and 1 for each that is, 0 for each that is not.
#[derive(Default)]
struct Present<T> {
    values: Vec<T>,
    levels: Vec<i16>,
}

impl<T> Present<T> {
    fn of<'a, V: Copy + 'a>(&mut self, column: &'a [V], value: impl Fn(V) -> (bool, T)) -> (&[T], Option<&[i16]>)
    where
        T: Copy + Default,
    {
        self.values.clear();
        self.values.resize(column.len(), T::default());
        self.levels.clear();
        let mut count = 0;
        // Every value is put at the end, and stays there if it is one.
        self.levels.extend(column.iter().map(|&cell| {
            let (present, value) = value(cell);
            self.values[count] = value;
            count += usize::from(present);
            i16::from(present)
        }));
        (&self.values[..count], Some(&self.levels))
    }
}

fn write(form: Form, rows: &ClickRows, properties: Arc<WriterProperties>) -> Result<Vec<u8>, ParquetError> {
    let mut bytes = Vec::with_capacity(rows.len * 4 * (N_NUMERIC + N_CATEGORICAL) + 4096);
    let mut file = SerializedFileWriter::new(&mut bytes, schema(form), properties)?;
    let mut group = file.next_row_group()?;
    let (mut numbers, mut buckets) = (Present::default(), Present::default());
    if form.labelled {
        write_floats(&mut group, (&rows.labels, None))?;
    }
    for column in &rows.numbers {
        let column = match form.is_sparse() {
            false => (&column[..], None),
            true => numbers.of(column, |x: f32| (!x.is_nan(), x)),
        };
        write_floats(&mut group, column)?;
    }
    for column in rows.buckets.iter().take(form.categorical()) {
        let (values, levels) = buckets.of(column, |b: u32| (b != MISSING_BUCKET, b.cast_signed()));
        let mut writer = group.next_column()?.expect("the schema has this column");
        writer.typed::<Int32Type>().write_batch(values, levels, None)?;
        writer.close()?;
    }
    group.close()?;
    file.close()?;
    Ok(bytes)
}

fn write_floats<W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    (values, levels): (&[f32], Option<&[i16]>),
) -> Result<(), ParquetError> {
    let mut writer = group.next_column()?.expect("the schema has this column");
    writer.typed::<FloatType>().write_batch(values, levels, None)?;
    writer.close()
}

/// Reads a Parquet file of click logs into `rows`, whose buffers are used again.
///
/// # Errors
/// A sentence that says what is wrong with the file: not Parquet, other columns, or a value that is not finite (with its row).
pub fn decode(form: Form, bytes: Bytes, rows: &mut ClickRows) -> Result<(), String> {
    rows.clear();
    // The reader panics on some headers that nobody wrote on purpose. Nothing it touched is used afterwards.
    catch_unwind(AssertUnwindSafe(|| read(form, bytes, rows)))
        .unwrap_or_else(|_| Err("not a readable Parquet file: its headers contradict each other".to_owned()))
}

fn read(form: Form, bytes: Bytes, rows: &mut ClickRows) -> Result<(), String> {
    let file = SerializedFileReader::new(bytes).map_err(unreadable)?;
    let metadata = file.metadata().file_metadata();
    check_columns(form, metadata.schema_descr())?;
    let n_rows = usize::try_from(metadata.num_rows()).map_err(|e| e.to_string())?;
    let (mut levels, mut signed) = (Vec::new(), Vec::new());
    for g in 0..file.num_row_groups() {
        let group = file.get_row_group(g).map_err(unreadable)?;
        let mut columns = 0..;
        let mut column = || Column { group: &*group, index: columns.next().expect("columns are few") };
        if form.labelled {
            column().floats(&mut levels, &mut rows.labels)?;
        }
        for out in &mut rows.numbers {
            column().floats(&mut levels, out)?;
        }
        for out in rows.buckets.iter_mut().take(form.categorical()) {
            column().buckets(form.n_buckets.unwrap_or(0), &mut levels, &mut signed, out)?;
        }
    }
    rows.len = n_rows;
    let holds = |len: usize| len == n_rows;
    let complete = (!form.labelled || holds(rows.labels.len()))
        && rows.numbers.iter().all(|out| holds(out.len()))
        && rows.buckets.iter().take(form.categorical()).all(|out| holds(out.len()));
    if !complete {
        return Err(format!("the footer promises {n_rows} rows, the columns do not hold them"));
    }
    match rows.labels.iter().position(|&x| x != 0.0 && x != 1.0) {
        Some(row) => Err(format!("row {row}: the label {} is neither 0 nor 1", rows.labels[row])),
        None => Ok(()),
    }
}

fn unreadable(error: ParquetError) -> String {
    format!("not a readable Parquet file: {error}")
}

/// A column of one row group.
struct Column<'a> {
    group: &'a dyn RowGroupReader,
    index: usize,
}

impl Column<'_> {
    fn rows(&self) -> Result<usize, String> {
        usize::try_from(self.group.metadata().num_rows()).map_err(|e| e.to_string())
    }

    /// Whether values may be missing, and the name.
    fn description(&self) -> (bool, String) {
        let description = self.group.metadata().schema_descr().column(self.index);
        (description.max_def_level() > 0, description.name().to_owned())
    }

    /// Appends the values, which must be finite.
    fn floats(&self, levels: &mut Vec<i16>, out: &mut Vec<f32>) -> Result<(), String> {
        let (optional, name) = self.description();
        let ColumnReader::FloatColumnReader(mut reader) =
            self.group.get_column_reader(self.index).map_err(unreadable)?
        else {
            return Err(format!("column `{name}` is not FLOAT"));
        };
        let start = out.len();
        levels.clear();
        reader.read_records(self.rows()?, optional.then_some(&mut *levels), None, out).map_err(unreadable)?;
        // Without an early way out, so that it is done many values at a time; which one it is matters only if there is one.
        if !out[start..].iter().fold(true, |finite, x| finite & x.is_finite()) {
            let value = out[start..].iter().position(|x| !x.is_finite()).expect("one is not finite");
            let (row, x) = (start + row_of(value, levels), out[start + value]);
            return Err(format!("row {row}: {name} is {x}, not a finite number"));
        }
        spread(start, levels, out, MISSING_NUMBER);
        Ok(())
    }

    /// Appends the values, which must be below `n_buckets`.
    fn buckets(
        &self,
        n_buckets: u32,
        levels: &mut Vec<i16>,
        signed: &mut Vec<i32>,
        out: &mut Vec<u32>,
    ) -> Result<(), String> {
        let (_, name) = self.description();
        let ColumnReader::Int32ColumnReader(mut reader) =
            self.group.get_column_reader(self.index).map_err(unreadable)?
        else {
            return Err(format!("column `{name}` is not INT32"));
        };
        let start = out.len();
        levels.clear();
        signed.clear();
        reader.read_records(self.rows()?, Some(&mut *levels), None, signed).map_err(unreadable)?;
        out.extend(signed.iter().map(|b| b.cast_unsigned()));
        if out[start..].iter().fold(0, |most, &b| most.max(b)) >= n_buckets
            && let Some(value) = out[start..].iter().position(|&b| b >= n_buckets)
        {
            let (row, b) = (start + row_of(value, levels), out[start + value]);
            return Err(format!("row {row}: {name} is {b}, not below the number of buckets, {n_buckets}"));
        }
        spread(start, levels, out, MISSING_BUCKET);
        Ok(())
    }
}

/// The row of value number `value`.
fn row_of(value: usize, levels: &[i16]) -> usize {
    if levels.is_empty() {
        return value;
    }
    let mut rows = levels.iter().enumerate().filter(|(_, level)| **level != 0).map(|(row, _)| row);
    rows.nth(value).unwrap_or(value)
}

/// Puts the values from `start` on where their levels say, and `missing` between them.
fn spread<T: Copy>(start: usize, levels: &[i16], out: &mut Vec<T>, missing: T) {
    let mut from = out.len();
    if from - start >= levels.len() {
        return;
    }
    out.resize(start + levels.len(), missing);
    // From the end, so that a value never lands on one that is still to be moved.
    for (row, &level) in levels.iter().enumerate().rev() {
        out[start + row] = if level == 0 {
            missing
        } else {
            from -= 1;
            out[from]
        };
    }
}

fn check_columns(form: Form, schema: &SchemaDescriptor) -> Result<(), String> {
    let describe = |name: &str, kind: PhysicalType, optional: bool| {
        format!("{name}: {kind}{}", if optional { " optional" } else { "" })
    };
    let found: Vec<String> = schema
        .columns()
        .iter()
        .map(|c| describe(&c.path().string(), c.physical_type(), c.max_def_level() == 1 && c.max_rep_level() == 0))
        .collect();
    let expected: Vec<String> = form
        .columns()
        .iter()
        .map(|name| {
            let kind = if name.starts_with('C') { PhysicalType::INT32 } else { PhysicalType::FLOAT };
            describe(name, kind, form.is_sparse() && name != "label")
        })
        .collect();
    match found.iter().zip(&expected).position(|(found, expected)| found != expected) {
        Some(i) => Err(format!("column {} is `{}`, not the required `{}`", i + 1, found[i], expected[i])),
        None if found.len() != expected.len() => {
            Err(format!("there are {} columns, not the required {}", found.len(), expected.len()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Equal to the bit, so that the mark of a missing number equals itself.
    pub(super) fn bits(rows: &ClickRows) -> (usize, Vec<Vec<u32>>) {
        let floats = |column: &Vec<f32>| column.iter().map(|x| x.to_bits()).collect();
        let numbers = rows.numbers.iter().map(floats);
        (rows.len, [floats(&rows.labels)].into_iter().chain(numbers).chain(rows.buckets.iter().cloned()).collect())
    }

    /// Rows made of `cells`, 40 a row; one in four is missing where it may be.
    fn rows(form: Form, cells: &[u32]) -> ClickRows {
        let mut rows = ClickRows::default();
        for cells in cells.chunks_exact(40) {
            rows.len += 1;
            if form.labelled {
                rows.labels.push((cells[0] % 2) as f32);
            }
            let missing = |cell: u32| form.is_sparse() && cell.is_multiple_of(4);
            for (column, &cell) in rows.numbers.iter_mut().zip(&cells[1..14]) {
                column.push(if missing(cell) { MISSING_NUMBER } else { cell.cast_signed() as f32 / 1e3 });
            }
            if let Some(n) = form.n_buckets {
                for (column, &cell) in rows.buckets.iter_mut().zip(&cells[14..]) {
                    column.push(if missing(cell) { MISSING_BUCKET } else { cell % n });
                }
            }
        }
        rows
    }

    fn forms() -> impl Iterator<Item = Form> {
        let n_buckets = [None, Some(7), Some(u32::MAX)];
        n_buckets.into_iter().flat_map(|n_buckets| [false, true].map(|labelled| Form { labelled, n_buckets }))
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(cells in proptest::collection::vec(any::<u32>(), 0..4000)) {
            for form in forms() {
                let rows = rows(form, &cells);
                let bytes = encode(form, &rows);
                prop_assert_eq!(&bytes, &encode(form, &rows));
                let mut found = tests::rows(form, &[1; 120]);
                decode(form, Bytes::from(bytes), &mut found).unwrap();
                prop_assert_eq!(bits(&found), bits(&rows));
            }
        }
    }

    #[test]
    fn columns_with_many_values_come_back() {
        let cells: Vec<u32> = (0..40 * 20_000u32).map(|i| i.wrapping_mul(0x9E37_79B9).rotate_left(13)).collect();
        let form = Form { labelled: true, n_buckets: Some(1_000_000) };
        let rows = rows(form, &cells);
        let mut found = ClickRows::default();
        decode(form, Bytes::from(encode(form, &rows)), &mut found).unwrap();
        assert_eq!(bits(&found), bits(&rows));
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_row_and_rule() {
        let form = Form { labelled: true, n_buckets: Some(10) };
        let cells: Vec<u32> = (0..400).collect();
        let refused = |change: &dyn Fn(&mut ClickRows)| {
            let mut rows = rows(form, &cells);
            change(&mut rows);
            decode(form, Bytes::from(encode(form, &rows)), &mut ClickRows::default()).unwrap_err()
        };
        assert_eq!(refused(&|rows| rows.labels[3] = 0.5), "row 3: the label 0.5 is neither 0 nor 1");
        assert_eq!(refused(&|rows| rows.labels[9] = f32::NAN), "row 9: label is NaN, not a finite number");
        assert_eq!(refused(&|rows| rows.numbers[12][7] = f32::INFINITY), "row 7: I13 is inf, not a finite number");
        assert_eq!(refused(&|rows| rows.buckets[25][9] = 10), "row 9: C26 is 10, not below the number of buckets, 10");
        let found = decode(form, Bytes::from_static(b"PAR1"), &mut ClickRows::default()).unwrap_err();
        assert!(found.starts_with("not a readable Parquet file: "), "{found}");
        let bytes = Bytes::from(encode(form, &rows(form, &cells)));
        let read_as = |other: Form| decode(other, bytes.clone(), &mut ClickRows::default()).unwrap_err();
        assert_eq!(
            read_as(Form { labelled: false, ..form }),
            "column 1 is `label: FLOAT`, not the required `I1: FLOAT optional`"
        );
        assert_eq!(
            read_as(Form { n_buckets: None, ..form }),
            "column 2 is `I1: FLOAT optional`, not the required `I1: FLOAT`"
        );
        let dense = Form { labelled: true, n_buckets: None };
        let bytes = Bytes::from(encode(dense, &rows(dense, &cells)));
        let found = decode(Form { labelled: true, n_buckets: None }, bytes.clone(), &mut ClickRows::default());
        assert_eq!(found, Ok(()));
    }

    #[test]
    fn a_null_between_damaged_values_does_not_shift_the_row() {
        let form = Form { labelled: false, n_buckets: Some(10) };
        let mut rows = rows(form, &(1..=400).collect::<Vec<_>>());
        rows.numbers[0] = vec![MISSING_NUMBER; 10];
        rows.numbers[0][8] = f32::NEG_INFINITY;
        let found = decode(form, Bytes::from(encode(form, &rows)), &mut ClickRows::default()).unwrap_err();
        assert_eq!(found, "row 8: I1 is -inf, not a finite number");
    }

    #[test]
    fn damaged_files_are_refused_or_read_but_never_panic() {
        let form = Form { labelled: true, n_buckets: Some(10) };
        let whole = encode(form, &rows(form, &(0..200).collect::<Vec<_>>()));
        for position in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] ^= flip;
                let _ = decode(form, Bytes::from(bytes), &mut ClickRows::default());
            }
            let cut = decode(form, Bytes::copy_from_slice(&whole[..position]), &mut ClickRows::default());
            assert!(cut.unwrap_err().starts_with("not a readable Parquet file"));
        }
    }
}
