//! Rows of ratings to and from Parquet: `user: u32`, `item: u32`, `rating: f32`, all required.
//!
//! The columns go straight between vectors and the file, without Arrow arrays in between: decoding a mini-batch is in the
//! training loop. Prepared parts and mini-batches have the same columns; ARCHITECTURE.md says how the encodings were chosen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as PhysicalType};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath, SchemaDescriptor, Type};

/// Names of the columns, in file order.
pub const COLUMNS: [&str; 3] = ["user", "item", "rating"];

/// Ratings, column by column. The three columns have the same length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RatingRows {
    /// User of each row, from 0.
    pub users: Vec<u32>,
    /// Item of each row, from 0.
    pub items: Vec<u32>,
    /// Rating of each row minus the mean, in stars.
    pub ratings: Vec<f32>,
}

impl RatingRows {
    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ratings.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ratings.is_empty()
    }

    /// Adds one row.
    #[inline]
    pub fn push(&mut self, user: u32, item: u32, rating: f32) {
        self.users.push(user);
        self.items.push(item);
        self.ratings.push(rating);
    }
}

static SCHEMA: LazyLock<Arc<Type>> = LazyLock::new(|| {
    let id = |name| {
        Type::primitive_type_builder(name, PhysicalType::INT32)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::integer(32, false)))
            .build()
    };
    let rating =
        Type::primitive_type_builder(COLUMNS[2], PhysicalType::FLOAT).with_repetition(Repetition::REQUIRED).build();
    let fields = [id(COLUMNS[0]), id(COLUMNS[1]), rating];
    let fields = fields.into_iter().map(|f| Arc::new(f.expect("the schema is fixed"))).collect();
    Arc::new(Type::group_type_builder("ratings").with_fields(fields).build().expect("the schema is fixed"))
});

static PROPERTIES: LazyLock<Arc<WriterProperties>> = LazyLock::new(|| {
    let column = |name: &str| ColumnPath::from(name);
    Arc::new(
        WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_created_by("gristmill".to_owned())
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_dictionary_enabled(false)
            .set_column_encoding(column(COLUMNS[0]), Encoding::DELTA_BINARY_PACKED)
            .set_column_encoding(column(COLUMNS[1]), Encoding::PLAIN)
            .set_column_dictionary_enabled(column(COLUMNS[2]), true)
            .build(),
    )
});

/// The rows as a Parquet file with one row group. Equal rows give equal bytes.
///
/// # Panics
/// When the columns differ in length.
#[must_use]
pub fn encode(rows: &RatingRows) -> Vec<u8> {
    assert!(rows.users.len() == rows.len() && rows.items.len() == rows.len(), "columns differ in length");
    write(rows).expect("writing Parquet to memory does not fail")
}

fn write(rows: &RatingRows) -> Result<Vec<u8>, ParquetError> {
    let mut bytes = Vec::with_capacity(rows.len() * 8 + 1024);
    let mut file = SerializedFileWriter::new(&mut bytes, Arc::clone(&SCHEMA), Arc::clone(&PROPERTIES))?;
    let mut group = file.next_row_group()?;
    let mut ids = Vec::with_capacity(rows.len());
    for column in [&rows.users, &rows.items] {
        ids.clear();
        ids.extend(column.iter().map(|&id| id.cast_signed()));
        let mut writer = group.next_column()?.expect("the schema has three columns");
        writer.typed::<Int32Type>().write_batch(&ids, None, None)?;
        writer.close()?;
    }
    let mut writer = group.next_column()?.expect("the schema has three columns");
    writer.typed::<FloatType>().write_batch(&rows.ratings, None, None)?;
    writer.close()?;
    group.close()?;
    file.close()?;
    Ok(bytes)
}

/// Reads a Parquet file of ratings into `rows`, whose buffers are used again.
///
/// # Errors
/// A sentence that says what is wrong with the file: not Parquet, other columns, missing values, or a rating that is not
/// finite (with its row).
pub fn decode(bytes: Bytes, rows: &mut RatingRows) -> Result<(), String> {
    // The reader panics on some headers that nobody wrote on purpose (a column at a negative place, an index without its
    // dictionary). Nothing it touched is used afterwards.
    catch_unwind(AssertUnwindSafe(|| read(bytes, rows)))
        .unwrap_or_else(|_| Err("not a readable Parquet file: its headers contradict each other".to_owned()))
}

fn read(bytes: Bytes, rows: &mut RatingRows) -> Result<(), String> {
    let unreadable = |e: ParquetError| format!("not a readable Parquet file: {e}");
    rows.users.clear();
    rows.items.clear();
    rows.ratings.clear();
    let file = SerializedFileReader::new(bytes).map_err(unreadable)?;
    let metadata = file.metadata().file_metadata();
    check_columns(metadata.schema_descr())?;
    let n_rows = usize::try_from(metadata.num_rows()).map_err(|e| e.to_string())?;
    let mut users = signed(std::mem::take(&mut rows.users));
    let mut items = signed(std::mem::take(&mut rows.items));
    for g in 0..file.num_row_groups() {
        let group = file.get_row_group(g).map_err(unreadable)?;
        let group_rows = usize::try_from(group.metadata().num_rows()).map_err(|e| e.to_string())?;
        for (i, column) in [&mut users, &mut items].into_iter().enumerate() {
            let ColumnReader::Int32ColumnReader(mut reader) = group.get_column_reader(i).map_err(unreadable)? else {
                return Err(format!("column `{}` is not INT32", COLUMNS[i]));
            };
            reader.read_records(group_rows, None, None, column).map_err(unreadable)?;
        }
        let ColumnReader::FloatColumnReader(mut reader) = group.get_column_reader(2).map_err(unreadable)? else {
            return Err("column `rating` is not FLOAT".to_owned());
        };
        reader.read_records(group_rows, None, None, &mut rows.ratings).map_err(unreadable)?;
    }
    rows.users = users.into_iter().map(i32::cast_unsigned).collect();
    rows.items = items.into_iter().map(i32::cast_unsigned).collect();
    if rows.users.len() != n_rows || rows.items.len() != n_rows || rows.ratings.len() != n_rows {
        return Err(format!("the footer promises {n_rows} rows, the columns do not hold them"));
    }
    // Without an early way out, so that it is done many ratings at a time; which one it is matters only if there is one.
    if rows.ratings.iter().fold(true, |finite, rating| finite & rating.is_finite()) {
        return Ok(());
    }
    match rows.ratings.iter().position(|rating| !rating.is_finite()) {
        Some(row) => Err(format!("row {row}: the rating {} is not a finite number", rows.ratings[row])),
        None => Ok(()),
    }
}

/// An empty buffer, the same memory: collecting a vector from itself does not allocate.
fn signed(buffer: Vec<u32>) -> Vec<i32> {
    buffer.into_iter().map(u32::cast_signed).collect()
}

fn check_columns(schema: &SchemaDescriptor) -> Result<(), String> {
    let expected = [PhysicalType::INT32, PhysicalType::INT32, PhysicalType::FLOAT];
    let columns = schema.columns();
    let fits = |(i, column): (usize, &ColumnDescPtr)| {
        column.path().parts() == [COLUMNS[i]] && column.physical_type() == expected[i] && column.max_def_level() == 0
    };
    if columns.len() == expected.len() && columns.iter().enumerate().all(fits) {
        return Ok(());
    }
    let found: Vec<String> = columns
        .iter()
        .map(|c| {
            let optional = if c.max_def_level() == 0 { "" } else { " optional" };
            format!("{}: {}{optional}", c.path().string(), c.physical_type())
        })
        .collect();
    let expected: Vec<String> = COLUMNS.iter().zip(expected).map(|(name, kind)| format!("{name}: {kind}")).collect();
    Err(format!("the columns are ({}), not the required ({})", found.join(", "), expected.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(
            cells in proptest::collection::vec((any::<u32>(), any::<u32>(), -5.0f32..5.0), 0..300),
        ) {
            let mut rows = RatingRows::default();
            for (user, item, rating) in cells {
                rows.push(user, item, rating);
            }
            let bytes = encode(&rows);
            prop_assert_eq!(&bytes, &encode(&rows));
            let mut found = RatingRows::default();
            found.push(1, 2, 3.0);
            decode(Bytes::from(bytes), &mut found).unwrap();
            prop_assert_eq!(found, rows);
        }
    }

    #[test]
    fn damaged_files_are_refused_or_read_but_never_panic() {
        let mut rows = RatingRows::default();
        for i in 0..100 {
            rows.push(i, i * 7 % 31, (i % 10) as f32 * 0.5);
        }
        let whole = encode(&rows);
        let mut problems = std::collections::BTreeSet::new();
        for position in 0..whole.len() {
            for value in 0..=u8::MAX {
                let mut bytes = whole.clone();
                bytes[position] = value;
                problems.extend(decode(Bytes::from(bytes), &mut RatingRows::default()).err());
            }
        }
        for length in 0..whole.len() {
            let problem = decode(Bytes::copy_from_slice(&whole[..length]), &mut RatingRows::default()).unwrap_err();
            assert!(problem.starts_with("not a readable Parquet file"), "{problem}");
        }
        for problem in ["not a readable Parquet file: its headers contradict each other", "the columns are ("] {
            assert!(problems.iter().any(|found| found.starts_with(problem)), "{problem}");
        }
    }

    #[test]
    fn buffers_are_used_again() {
        let mut rows = RatingRows::default();
        for i in 0..1000 {
            rows.push(i, i, 0.5);
        }
        let bytes = Bytes::from(encode(&rows));
        let mut out = RatingRows::default();
        decode(bytes.clone(), &mut out).unwrap();
        let buffers = |rows: &RatingRows| (rows.users.as_ptr(), rows.items.as_ptr(), rows.ratings.as_ptr());
        let before = buffers(&out);
        decode(bytes, &mut out).unwrap();
        assert_eq!(buffers(&out), before);
    }

    #[test]
    fn other_columns_are_told() {
        let mut out = RatingRows::default();
        let problem = decode(Bytes::from(crate::id_map::encode("user", &[7])), &mut out).unwrap_err();
        assert_eq!(
            problem,
            "the columns are (user: INT32, user_id: INT32), not the required (user: INT32, item: INT32, rating: FLOAT)"
        );
    }

    #[test]
    fn problems_are_told() {
        let mut out = RatingRows::default();
        assert!(decode(Bytes::from_static(b"PAR1"), &mut out).unwrap_err().starts_with("not a readable Parquet file"));
        let mut rows = RatingRows::default();
        rows.push(0, 0, 1.0);
        rows.push(0, 1, f32::NAN);
        let problem = decode(Bytes::from(encode(&rows)), &mut out).unwrap_err();
        assert_eq!(problem, "row 1: the rating NaN is not a finite number");
    }
}
