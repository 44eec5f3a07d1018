//! Rows of click logs to and from Parquet: `label: f32`, `I1..I13: f32`, and for sparse rows `C1..C26: u32`.
//!
//! The columns go straight between vectors and pages (`write`, `read`): both are in the training loop. A missing value is null in the file and a
//! mark in the vectors ([`MISSING_NUMBER`], [`MISSING_BUCKET`]), so that all columns have the same length.

mod read;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::column::page::PageReader;
use parquet::data_type::{FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};
use schemas::dataset::Layout;

use read::Scratch;
use write::{FileWriter, Otherwise};

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

    pub(crate) const fn categorical(self) -> usize {
        if self.is_sparse() { N_CATEGORICAL } else { 0 }
    }

    /// Whether there is such a bucket.
    pub(crate) fn has(self, bucket: u32) -> bool {
        self.n_buckets.is_some_and(|n| bucket < n)
    }

    /// What is wrong with a bucket that there is not.
    pub(crate) fn beyond(self, bucket: u32) -> String {
        format!("{bucket}, not below the number of buckets, {}", self.n_buckets.unwrap_or(0))
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

/// Rows of a click log for training: as [`ClickRows`], but a column of buckets may stay as its file has it.
#[derive(Debug, Default)]
pub struct CodedRows {
    /// How many rows there are.
    pub len: usize,
    /// 1 for a click, else 0. Empty when rows have no labels.
    pub labels: Vec<f32>,
    /// `I1` to `I13`.
    pub numbers: [Vec<f32>; N_NUMERIC],
    /// `C1` to `C26`. Empty when rows are dense.
    pub buckets: [BucketColumn; N_CATEGORICAL],
    scratch: Scratch,
}

/// A column of buckets: the buckets, or places in a dictionary of them.
#[derive(Debug, Default)]
pub struct BucketColumn {
    /// Buckets of the rows. Empty when there are codes.
    pub buckets: Vec<u32>,
    /// Buckets that the codes stand for.
    pub dictionary: Vec<u32>,
    /// For each row the place of its bucket in the dictionary, or the dictionary's length where nothing is.
    pub codes: Vec<u16>,
}

impl BucketColumn {
    /// Entries of a dictionary that codes have room for, and for one more.
    const DICTIONARY_MAX: u32 = u16::MAX as u32;

    fn clear(&mut self) {
        self.buckets.clear();
        self.dictionary.clear();
        self.codes.clear();
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

/// One for each form of rows.
fn schema_of(form: Form) -> SchemaDescPtr {
    static SCHEMAS: LazyLock<[SchemaDescPtr; 4]> = LazyLock::new(|| {
        [(false, None), (true, None), (false, Some(1)), (true, Some(1))]
            .map(|(labelled, n_buckets)| Arc::new(SchemaDescriptor::new(schema(Form { labelled, n_buckets }))))
    });
    Arc::clone(&SCHEMAS[usize::from(form.labelled) + 2 * usize::from(form.is_sparse())])
}

/// The rows as a Parquet file with one row group. Equal rows give equal bytes.
///
/// # Panics
/// When a column is not as long as the rows are many, or there are more than `u32::MAX` rows.
#[must_use]
pub fn encode(form: Form, rows: &ClickRows) -> Vec<u8> {
    check_lengths(form, rows);
    let encode = || {
        let mut file = FileWriter::new(schema_of(form), rows.len)?;
        if form.labelled {
            file.column(&rows.labels, Otherwise::Plain)?;
        }
        rows.numbers.iter().try_for_each(|column| file.column(column, Otherwise::Plain))?;
        let otherwise = Otherwise::of_numbers_below(form.n_buckets.unwrap_or(0));
        let buckets = rows.buckets.iter().take(form.categorical());
        buckets.into_iter().try_for_each(|column| file.column(column, otherwise))?;
        file.finish()
    };
    encode().expect("writing Parquet to memory does not fail")
}

fn check_lengths(form: Form, rows: &ClickRows) {
    let fits = |present: bool, len: usize| len == if present { rows.len } else { 0 };
    assert!(u32::try_from(rows.len).is_ok(), "the rows can be counted");
    assert!(fits(form.labelled, rows.labels.len()), "the labels fit the form");
    assert!(rows.numbers.iter().all(|column| fits(true, column.len())), "the numbers fit the form");
    assert!(rows.buckets.iter().all(|column| fits(form.is_sparse(), column.len())), "the buckets fit the form");
}

/// A cell of a column: 32 bits, or nothing.
pub(crate) trait Cell: Copy {
    /// The mark of nothing.
    const MISSING: Self;
    fn is_missing(self) -> bool;
    fn to_bits(self) -> u32;
    fn from_bits(bits: u32) -> Self;
}

impl Cell for f32 {
    const MISSING: Self = MISSING_NUMBER;

    fn is_missing(self) -> bool {
        self.is_nan()
    }

    fn to_bits(self) -> u32 {
        self.to_bits()
    }

    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
}

impl Cell for u32 {
    const MISSING: Self = MISSING_BUCKET;

    fn is_missing(self) -> bool {
        self == MISSING_BUCKET
    }

    fn to_bits(self) -> u32 {
        self
    }

    fn from_bits(bits: u32) -> Self {
        bits
    }
}

/// As [`encode`], but by Parquet's own writer with `properties`: for the benchmark that chose the encodings.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn encode_with(form: Form, rows: &ClickRows, properties: Arc<WriterProperties>) -> Vec<u8> {
    check_lengths(form, rows);
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

/// As [`decode`], for training: a column of buckets that is stored with a dictionary stays in that form.
///
/// # Errors
/// As [`decode`].
pub fn decode_coded(form: Form, bytes: Bytes, rows: &mut CodedRows) -> Result<(), String> {
    rows.len = 0;
    rows.labels.clear();
    rows.numbers.iter_mut().for_each(Vec::clear);
    rows.buckets.iter_mut().for_each(BucketColumn::clear);
    // As in `decode`.
    catch_unwind(AssertUnwindSafe(|| read_coded(form, bytes, rows)))
        .unwrap_or_else(|_| Err("not a readable Parquet file: its headers contradict each other".to_owned()))
}

fn read(form: Form, bytes: Bytes, rows: &mut ClickRows) -> Result<(), String> {
    let file = SerializedFileReader::new(bytes).map_err(unreadable)?;
    let metadata = file.metadata().file_metadata();
    check_columns(form, metadata.schema_descr())?;
    let n_rows = usize::try_from(metadata.num_rows()).map_err(|e| e.to_string())?;
    let mut scratch = Scratch::default();
    for g in 0..file.num_row_groups() {
        let group = file.get_row_group(g).map_err(unreadable)?;
        let mut columns = Columns { group: &*group, next: 0, scratch: &mut scratch };
        columns.read_numbers(form, &mut rows.labels, &mut rows.numbers)?;
        for out in rows.buckets.iter_mut().take(form.categorical()) {
            columns.read(true, out, |b| form.has(b), |b| form.beyond(b))?;
        }
    }
    rows.len = n_rows;
    let buckets = rows.buckets.iter().take(form.categorical()).map(Vec::len);
    check_read(form, n_rows, &rows.labels, rows.numbers.iter().map(Vec::len).chain(buckets))
}

fn read_coded(form: Form, bytes: Bytes, rows: &mut CodedRows) -> Result<(), String> {
    let file = SerializedFileReader::new(bytes).map_err(unreadable)?;
    let metadata = file.metadata().file_metadata();
    check_columns(form, metadata.schema_descr())?;
    let n_rows = usize::try_from(metadata.num_rows()).map_err(|e| e.to_string())?;
    let whole = file.num_row_groups() == 1;
    for g in 0..file.num_row_groups() {
        let group = file.get_row_group(g).map_err(unreadable)?;
        let mut columns = Columns { group: &*group, next: 0, scratch: &mut rows.scratch };
        columns.read_numbers(form, &mut rows.labels, &mut rows.numbers)?;
        for out in rows.buckets.iter_mut().take(form.categorical()) {
            if whole {
                columns.read_coded(out, |b| form.has(b), |b| form.beyond(b))?;
            } else {
                columns.read(true, &mut out.buckets, |b| form.has(b), |b| form.beyond(b))?;
            }
        }
    }
    rows.len = n_rows;
    let buckets = rows.buckets.iter().take(form.categorical()).map(|column| column.buckets.len() + column.codes.len());
    check_read(form, n_rows, &rows.labels, rows.numbers.iter().map(Vec::len).chain(buckets))
}

/// Checks that all columns, of these lengths, were read to their end, and that labels are labels.
fn check_read(
    form: Form,
    n_rows: usize,
    labels: &[f32],
    mut lengths: impl Iterator<Item = usize>,
) -> Result<(), String> {
    if (form.labelled && labels.len() != n_rows) || lengths.any(|len| len != n_rows) {
        return Err(format!("the footer promises {n_rows} rows, the columns do not hold them"));
    }
    if labels.iter().fold(true, |fits, &x| fits & ((x == 0.0) | (x == 1.0))) {
        return Ok(());
    }
    let row = labels.iter().position(|&x| x != 0.0 && x != 1.0).expect("a label is neither");
    Err(format!("row {row}: the label {} is neither 0 nor 1", labels[row]))
}

fn unreadable(error: ParquetError) -> String {
    format!("not a readable Parquet file: {error}")
}

/// The columns of one row group, one after the other.
struct Columns<'a> {
    group: &'a dyn RowGroupReader,
    next: usize,
    scratch: &'a mut Scratch,
}

impl<'a> Columns<'a> {
    /// Appends labels and numbers.
    fn read_numbers(
        &mut self,
        form: Form,
        labels: &mut Vec<f32>,
        numbers: &mut [Vec<f32>; N_NUMERIC],
    ) -> Result<(), String> {
        let finite = |x: u32| f32::from_bits(x).is_finite();
        let not_finite = |x: u32| format!("{}, not a finite number", f32::from_bits(x));
        if form.labelled {
            self.read(false, labels, finite, not_finite)?;
        }
        numbers.iter_mut().try_for_each(|out| self.read(form.is_sparse(), out, finite, not_finite))
    }

    /// Appends the cells of the next column, whose values must be `allowed`; `problem` says why one is not.
    fn read<C: Cell>(
        &mut self,
        optional: bool,
        out: &mut Vec<C>,
        allowed: impl Fn(u32) -> bool,
        problem: impl Fn(u32) -> String,
    ) -> Result<(), String> {
        let (pages, name, n_rows) = self.next()?;
        read::column(pages, optional, n_rows, self.scratch, out, |values| refused(name, values, &allowed, &problem))
    }

    /// As [`Columns::read`], of buckets that may stay in the form of their dictionary.
    fn read_coded(
        &mut self,
        out: &mut BucketColumn,
        allowed: impl Fn(u32) -> bool,
        problem: impl Fn(u32) -> String,
    ) -> Result<(), String> {
        let (pages, name, n_rows) = self.next()?;
        read::bucket_column(pages, n_rows, self.scratch, out, |values| refused(name, values, &allowed, &problem))
    }

    /// Pages, name and rows of the next column.
    fn next(&mut self) -> Result<(Box<dyn PageReader>, &'a str, usize), String> {
        let group = self.group;
        let metadata = group.metadata();
        let n_rows = usize::try_from(metadata.num_rows()).map_err(|e| e.to_string())?;
        let pages = group.get_column_page_reader(self.next).map_err(unreadable)?;
        let name = metadata.column(self.next).column_descr().name();
        self.next += 1;
        Ok((pages, name, n_rows))
    }
}

/// The first of `values` of the column `name` that is not `allowed`, and why.
fn refused(
    name: &str,
    values: &[u32],
    allowed: &impl Fn(u32) -> bool,
    problem: &impl Fn(u32) -> String,
) -> Option<(usize, String)> {
    // Without an early way out, so that it is done many values at a time; which one it is matters only if there is one.
    if values.iter().fold(true, |all, &bits| all & allowed(bits)) {
        return None;
    }
    let value = values.iter().position(|&bits| !allowed(bits)).expect("one is not allowed");
    Some((value, format!("{name} is {}", problem(values[value]))))
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
mod tests;
