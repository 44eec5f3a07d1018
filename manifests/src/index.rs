//! Many mini-batches as one Parquet object beside the manifest: flat columns that any engine reads.
//!
//! Keys are stored as differences from the one before, the sizes likewise, so that a mini-batch takes about 25 bytes, 16 of which
//! are its digest.

use std::panic::catch_unwind;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as PhysicalType, ZstdLevel};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};
use schemas::manifest::Listing;

use crate::Error;
use crate::batches::{Batches, Builder};
use crate::commit::Staging;

/// Most mini-batches that the manifest itself lists: a person can still read it.
pub const LISTED_MAX: usize = 1000;

const COLUMNS: [&str; 5] = ["key", "offset", "rows", "bytes", "digest"];
/// Mini-batches of a row group: what is decoded at once stays small.
const GROUP: usize = 1 << 16;

static SCHEMA: LazyLock<Arc<Type>> = LazyLock::new(|| {
    let column = |name, physical| Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
    let number = |name| column(name, PhysicalType::INT64);
    let fields = [
        column(COLUMNS[0], PhysicalType::BYTE_ARRAY).with_logical_type(Some(LogicalType::String)).build(),
        number(COLUMNS[1]).with_repetition(Repetition::OPTIONAL).build(),
        number(COLUMNS[2]).build(),
        number(COLUMNS[3]).build(),
        column(COLUMNS[4], PhysicalType::FIXED_LEN_BYTE_ARRAY).with_length(16).build(),
    ];
    let fields = fields.into_iter().map(|f| Arc::new(f.expect("the schema is fixed"))).collect();
    Arc::new(Type::group_type_builder("batches").with_fields(fields).build().expect("the schema is fixed"))
});

static PROPERTIES: LazyLock<Arc<WriterProperties>> = LazyLock::new(|| {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by("gristmill".to_owned())
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_compression(Compression::ZSTD(ZstdLevel::default()));
    for (name, encoding) in [
        (COLUMNS[0], Encoding::DELTA_BYTE_ARRAY),
        (COLUMNS[1], Encoding::DELTA_BINARY_PACKED),
        (COLUMNS[2], Encoding::DELTA_BINARY_PACKED),
        (COLUMNS[3], Encoding::DELTA_BINARY_PACKED),
        (COLUMNS[4], Encoding::PLAIN),
    ] {
        properties = properties.set_column_encoding(ColumnPath::from(name), encoding);
    }
    Arc::new(properties.set_column_compression(ColumnPath::from(COLUMNS[4]), Compression::UNCOMPRESSED).build())
});

/// How the manifest lists `batches`: one by one, or, when there are many, by an index that is written as the object
/// `index-<name>.parquet` of `staging`.
///
/// # Errors
/// As [`Staging::put`].
pub fn listing(staging: &Staging, name: &str, batches: &Batches) -> Result<Listing, Error> {
    if batches.len() <= LISTED_MAX {
        return Ok(Listing::Each(batches.iter().collect()));
    }
    let key = format!("index-{name}.parquet");
    staging.put(&key, encode(batches), batches.len() as u64).map(Listing::Index)
}

/// `batches` as a Parquet file. Equal ones give equal bytes.
///
/// # Panics
/// Never: a table has no numbers that are too large for the file.
#[must_use]
pub fn encode(batches: &Batches) -> Vec<u8> {
    write(batches).expect("writing Parquet to memory does not fail")
}

fn write(batches: &Batches) -> Result<Vec<u8>, ParquetError> {
    let mut out = Vec::with_capacity(batches.len() * 26 + 4096);
    let mut file = SerializedFileWriter::new(&mut out, Arc::clone(&SCHEMA), Arc::clone(&PROPERTIES))?;
    for start in (0..batches.len()).step_by(GROUP) {
        let group: Vec<_> = (start..batches.len().min(start + GROUP)).map(|i| batches.get(i)).collect();
        let number = |n: u64| i64::try_from(n).expect("rows and bytes of an object fit 63 bits");
        let offsets: Vec<i64> = group.iter().filter_map(|b| b.offset).map(number).collect();
        let present: Vec<i16> = group.iter().map(|b| i16::from(b.offset.is_some())).collect();
        let keys: Vec<ByteArray> = group.iter().map(|b| ByteArray::from(b.key.as_str())).collect();
        let digest =
            |text: &schemas::dataset::Digest| text.xxh3_128().expect("a table has whole digests").to_be_bytes();
        let digests: Vec<FixedLenByteArray> =
            group.iter().map(|b| ByteArray::from(digest(&b.digest).to_vec()).into()).collect();
        let mut columns = file.next_row_group()?;
        put::<ByteArrayType>(&mut columns, &keys, None)?;
        put::<Int64Type>(&mut columns, &offsets, Some(&present))?;
        put::<Int64Type>(&mut columns, &group.iter().map(|b| number(b.rows)).collect::<Vec<_>>(), None)?;
        put::<Int64Type>(&mut columns, &group.iter().map(|b| number(b.bytes)).collect::<Vec<_>>(), None)?;
        put::<FixedLenByteArrayType>(&mut columns, &digests, None)?;
        columns.close()?;
    }
    file.close()?;
    Ok(out)
}

fn put<T: DataType>(
    columns: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[T::T],
    present: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = columns.next_column()?.expect("the schema has five columns");
    column.typed::<T>().write_batch(values, present, None)?;
    column.close()
}

/// Reads an index.
///
/// # Errors
/// What is wrong with the file, or the rule that a mini-batch breaks.
pub fn decode(bytes: Bytes) -> Result<Batches, String> {
    // The reader panics on some headers that nobody wrote on purpose. Nothing it touched is used afterwards.
    catch_unwind(|| read(bytes))
        .unwrap_or_else(|_| Err("not a readable Parquet file: its headers contradict each other".to_owned()))
}

fn read(bytes: Bytes) -> Result<Batches, String> {
    let unreadable = |e: ParquetError| format!("not a readable Parquet file: {e}");
    let file = SerializedFileReader::new(bytes).map_err(unreadable)?;
    let found = file.metadata().file_metadata().schema_descr().root_schema();
    if found.get_fields() != SCHEMA.get_fields() {
        return Err(format!("its columns are not {}", COLUMNS.join(", ")));
    }
    let count = usize::try_from(file.metadata().file_metadata().num_rows()).map_err(|e| e.to_string())?;
    let mut table = Builder::for_about(count.min(1 << 24));
    let mut group = Group::default();
    for g in 0..file.num_row_groups() {
        group.read(&*file.get_row_group(g).map_err(unreadable)?).map_err(unreadable)?;
        group.add_to(&mut table)?;
    }
    table.finish()
}

/// The columns of a row group.
#[derive(Default)]
struct Group {
    keys: Vec<ByteArray>,
    offsets: Vec<i64>,
    present: Vec<i16>,
    rows: Vec<i64>,
    bytes: Vec<i64>,
    digests: Vec<FixedLenByteArray>,
}

impl Group {
    fn read(&mut self, group: &dyn RowGroupReader) -> Result<(), ParquetError> {
        fn all<T: DataType>(
            group: &dyn RowGroupReader,
            column: usize,
            levels: Option<&mut Vec<i16>>,
            values: &mut Vec<T::T>,
        ) -> Result<(), ParquetError> {
            let mut reader: ColumnReaderImpl<T> = get_typed_column_reader(group.get_column_reader(column)?);
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(usize::MAX);
            values.clear();
            match levels {
                None => reader.read_records(rows, None, None, values).map(drop),
                Some(levels) => {
                    levels.clear();
                    reader.read_records(rows, Some(levels), None, values).map(drop)
                }
            }
        }
        all::<ByteArrayType>(group, 0, None, &mut self.keys)?;
        all::<Int64Type>(group, 1, Some(&mut self.present), &mut self.offsets)?;
        all::<Int64Type>(group, 2, None, &mut self.rows)?;
        all::<Int64Type>(group, 3, None, &mut self.bytes)?;
        all::<FixedLenByteArrayType>(group, 4, None, &mut self.digests)
    }

    fn add_to(&self, table: &mut Builder) -> Result<(), String> {
        let count = self.keys.len();
        if [self.present.len(), self.rows.len(), self.bytes.len(), self.digests.len()] != [count; 4] {
            return Err("its columns differ in length".to_owned());
        }
        let number = |n: i64| u64::try_from(n).map_err(|_| format!("{n} is negative"));
        let mut offsets = self.offsets.iter();
        for i in 0..count {
            let key = std::str::from_utf8(self.keys[i].data()).map_err(|e| e.to_string())?;
            let offset = if self.present[i] == 0 { None } else { offsets.next() };
            let offset = offset.map(|&offset| number(offset)).transpose()?;
            let digest = <[u8; 16]>::try_from(self.digests[i].data()).map_err(|e| e.to_string())?;
            table.push(key, offset, number(self.rows[i])?, number(self.bytes[i])?, u128::from_be_bytes(digest))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(count: u64, packed: u64) -> Batches {
        let mut table = Builder::default();
        for i in 0..count {
            let digest = u128::from(i) << 64 | u128::from(i * i);
            let (key, offset) = match packed {
                0 => (format!("gen/batch-{i:06}.parquet"), None),
                n => (format!("gen/batch-{:06}.parquet", i / n), Some(i % n * 1000)),
            };
            table.push(&key, offset, 1 + i % 2, 1000, digest).unwrap();
        }
        table.finish().unwrap()
    }

    #[test]
    fn batches_come_back() {
        for (count, packed) in [(0, 0), (1, 0), (1, 1), (70_000, 0), (70_000, 100), (65_536, 1)] {
            let made = batches(count, packed);
            let bytes = encode(&made);
            assert!(bytes.len() as u64 <= 27 * count + 2000, "{} bytes of {count}", bytes.len());
            assert_eq!(decode(bytes.into()).unwrap(), made, "{count} {packed}");
        }
    }

    #[test]
    fn what_is_no_index_is_told() {
        let other = crate::id_map::encode("user", &[1, 2]);
        assert_eq!(decode(other.into()).unwrap_err(), "its columns are not key, offset, rows, bytes, digest");
        assert!(decode(Bytes::from_static(b"{}")).unwrap_err().starts_with("not a readable Parquet file"));
        let bytes = encode(&batches(100, 10));
        for at in (0..bytes.len()).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            // Whatever comes of it, nothing panics.
            let _ = decode(damaged.into());
        }
    }
}
