//! Several mini-batches in one object.
//!
//! The object is the mini-batches' Parquet files exactly as they would be alone, one behind the other, and a footer over all
//! their row groups. So a mini-batch is a range of bytes with the digest it has anyway, and is decoded without a look at the rest,
//! while for other engines the object is one Parquet file: the format allows bytes between row groups. The object is longer
//! than the files by that footer, about as much as their own footers together.
//!
//! [`Packer`] is how mini-batches of one set are written, packed or each as an object.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
pub use parquet::file::metadata::ParquetMetaData as Metadata;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
    RowGroupMetaData,
};
use schemas::dataset::Object;

use crate::Error;
use crate::batches::{Batches, Builder};
use crate::commit::Staging;
use crate::digest::digest;

/// Most mini-batches of an object: row groups are numbered with 15 bits.
pub const PER_OBJECT_MAX: u64 = i16::MAX as u64;

/// Writes the mini-batches of one set in a generation: each as an object, or several together.
#[derive(Debug)]
pub struct Packer<'a> {
    staging: &'a Staging,
    prefix: String,
    count: usize,
    per_object: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Objects that are not complete yet, with what there is of them.
    open: BTreeMap<usize, Vec<Option<Bytes>>>,
    /// Rows, bytes and digest of each mini-batch that there is.
    written: Vec<Option<(u64, u64, u128)>>,
}

impl<'a> Packer<'a> {
    /// For the `count` mini-batches of a set of `rows` rows, to be written as objects of `staging` whose names begin with
    /// `prefix`. With `rows_per_object`, consecutive mini-batches of about so many rows together make an object; without it,
    /// or when that is less than two mini-batches, each is one.
    #[must_use]
    pub fn new(staging: &'a Staging, prefix: &str, rows: u64, count: usize, rows_per_object: Option<u64>) -> Self {
        let per_object = rows_per_object.map_or(1, |wanted| per_object(rows, count as u64, wanted));
        let state = State { written: vec![None; count], ..State::default() };
        Self { staging, prefix: prefix.to_owned(), count, per_object, state: Mutex::new(state) }
    }

    /// Takes mini-batch number `batch`, a Parquet file of `rows` rows. Any thread may call this, in any order; what is not in an
    /// object yet is kept in memory, so nearly in order is best. Says what the mini-batch is by itself, and the key of the
    /// object that it is or will be in.
    ///
    /// # Errors
    /// As [`Staging::put`].
    ///
    /// # Panics
    /// When the number is too large or has been there before, or the bytes are no Parquet file.
    pub fn put(&self, batch: usize, bytes: impl Into<Bytes>, rows: u64) -> Result<Object, Error> {
        let bytes = bytes.into();
        let found = Object { key: String::new(), rows, bytes: bytes.len() as u64, digest: digest(&bytes) };
        let bits = found.digest.xxh3_128().expect("it was just made");
        let object = batch / self.per_object;
        let name = self.name(object);
        let complete = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let before = state.written[batch].replace((rows, found.bytes, bits));
            assert!(before.is_none(), "mini-batch {batch} is written once");
            if self.per_object == 1 {
                None
            } else {
                let first = object * self.per_object;
                let files = state.open.entry(object);
                let files = files.or_insert_with(|| vec![None; self.per_object.min(self.count - first)]);
                files[batch - first] = Some(bytes.clone());
                if files.iter().all(Option::is_some) { state.open.remove(&object) } else { None }
            }
        };
        if self.per_object == 1 {
            return self.staging.put(&name, bytes, rows);
        }
        if let Some(files) = complete {
            let files: Vec<Bytes> = files.into_iter().flatten().collect();
            let first = object * self.per_object;
            let rows = (first..first + files.len()).map(|i| self.written(i).0).sum();
            self.staging.put(&name, pack(&files).expect("mini-batches are Parquet files"), rows)?;
        }
        Ok(Object { key: self.staging.key(&name), ..found })
    }

    fn written(&self, batch: usize) -> (u64, u64, u128) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.written[batch].expect("every mini-batch is written")
    }

    fn name(&self, object: usize) -> String {
        let (prefix, first) = (&self.prefix, object * self.per_object);
        if self.per_object == 1 {
            return format!("{prefix}-{first:06}.parquet");
        }
        let last = (first + self.per_object).min(self.count) - 1;
        format!("{prefix}-{first:06}-{last:06}.parquet")
    }

    /// All mini-batches in order, each with its place.
    ///
    /// # Panics
    /// When there are fewer than was said.
    #[must_use]
    pub fn finish(self) -> Batches {
        let mut table = Builder::for_about(self.count);
        let mut key = String::new();
        let mut end = 0;
        for batch in 0..self.count {
            if batch % self.per_object == 0 {
                key = self.staging.key(&self.name(batch / self.per_object));
                end = 0;
            }
            let (rows, bytes, digest) = self.written(batch);
            let offset = (self.per_object > 1).then_some(end);
            table.push(&key, offset, rows, bytes, digest).expect("mini-batches lie one behind the other");
            end += bytes;
        }
        table.finish().expect("every object has a name of its own")
    }
}

/// How many of `count` mini-batches of `rows` rows together have about `wanted` rows.
fn per_object(rows: u64, count: u64, wanted: u64) -> usize {
    let batch_rows = rows.div_ceil(count.max(1)).max(1);
    let per_object = wanted.saturating_add(batch_rows / 2) / batch_rows;
    per_object.clamp(1, PER_OBJECT_MAX.min(count.max(1))) as usize
}

/// The object that `files` make: they, one behind the other, and a footer.
///
/// # Errors
/// When one of them is no Parquet file.
pub fn pack(files: &[Bytes]) -> Result<Vec<u8>, ParquetError> {
    let metadata = files.iter().map(metadata).collect::<Result<Vec<_>, _>>()?;
    let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
    let footer = footer(&metadata, &sizes)?;
    let mut object = Vec::with_capacity(files.iter().map(Bytes::len).sum::<usize>() + footer.len());
    files.iter().for_each(|file| object.extend_from_slice(file));
    object.extend_from_slice(&footer);
    Ok(object)
}

/// What stands at the end of the Parquet file `file`.
///
/// # Errors
/// When it is none.
pub fn metadata(file: &Bytes) -> Result<ParquetMetaData, ParquetError> {
    ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip).parse_and_finish(file)
}

/// Rows of the Parquet file `file`, by its own word.
///
/// # Errors
/// A sentence that says why it cannot be told.
pub fn rows(file: &Bytes) -> Result<u64, String> {
    let metadata = catch_unwind(|| metadata(file)).map_err(|_| "not a readable Parquet file".to_owned())?;
    let metadata = metadata.map_err(|e| format!("not a readable Parquet file: {e}"))?;
    u64::try_from(metadata.file_metadata().num_rows()).map_err(|e| e.to_string())
}

/// The footer over files that end with `metadata` and have `sizes` bytes, when they lie one behind the other.
fn footer(metadata: &[ParquetMetaData], sizes: &[u64]) -> Result<Vec<u8>, ParquetError> {
    let mut groups = Vec::with_capacity(metadata.len());
    let mut start = 0;
    for (metadata, size) in metadata.iter().zip(sizes) {
        for group in metadata.row_groups() {
            groups.push(moved(group, start, groups.len())?);
        }
        start += i64::try_from(*size)?;
    }
    let rows = groups.iter().map(RowGroupMetaData::num_rows).sum();
    let first = metadata.first().ok_or_else(|| ParquetError::General("there are no files".to_owned()))?;
    let first = first.file_metadata();
    let file = FileMetaData::new(
        first.version(),
        rows,
        first.created_by().map(str::to_owned),
        None,
        first.schema_descr_ptr(),
        first.column_orders().cloned(),
    );
    let mut footer = Vec::new();
    ParquetMetaDataWriter::new(&mut footer, &ParquetMetaData::new(file, groups)).finish()?;
    Ok(footer)
}

/// `group` as row group number `number` of a file in which it lies `by` bytes later.
fn moved(group: &RowGroupMetaData, by: i64, number: usize) -> Result<RowGroupMetaData, ParquetError> {
    let column = |column: &ColumnChunkMetaData| {
        let moved = |offset: Option<i64>| offset.map(|offset| offset + by);
        column
            .clone()
            .into_builder()
            .set_data_page_offset(column.data_page_offset() + by)
            .set_dictionary_page_offset(moved(column.dictionary_page_offset()))
            .set_index_page_offset(moved(column.index_page_offset()))
            .set_bloom_filter_offset(moved(column.bloom_filter_offset()))
            .set_column_index_offset(moved(column.column_index_offset()))
            .set_offset_index_offset(moved(column.offset_index_offset()))
            .build()
    };
    let columns = group.columns().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let builder = group.clone().into_builder().set_ordinal(i16::try_from(number)?).set_column_metadata(columns);
    match group.file_offset() {
        Some(offset) => builder.set_file_offset(offset + by).build(),
        None => builder.build(),
    }
}

/// Whether `tail`, what stands in an object behind its mini-batches, is the footer over them: files that end with `metadata` and
/// have `sizes` bytes. Of the same length it must be the same bytes; of another one, as another version of the Parquet library
/// may write it, it must say the same.
#[must_use]
pub fn is_footer_of(tail: &Bytes, metadata: &[ParquetMetaData], sizes: &[u64]) -> bool {
    let Ok(expected) = footer(metadata, sizes).map(Bytes::from) else { return false };
    if expected.len() == tail.len() {
        return expected == *tail;
    }
    // The length stands before the last four bytes; only what is all footer is one.
    let body = tail.len().checked_sub(8).map(|end| tail.slice(..end));
    let Some(body) = body.filter(|body| tail.ends_with(b"PAR1") && tail[body.len()..].starts_with(&length(body)))
    else {
        return false;
    };
    let read = |body: &Bytes| catch_unwind(|| ParquetMetaDataReader::decode_metadata(body)).ok()?.ok();
    let found = read(&body);
    found.is_some() && found == read(&expected.slice(..expected.len() - 8))
}

fn length(body: &Bytes) -> [u8; 4] {
    u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use crate::ratings::{self, RatingRows};
    use object_store::memory::InMemory;
    use std::sync::Arc;

    fn file(first: u32, rows: u32) -> Bytes {
        let mut batch = RatingRows::default();
        (first..first + rows).for_each(|i| batch.push(i / 7, i % 100, (i % 10) as f32 / 2.0 - 2.5));
        ratings::encode(&batch).into()
    }

    fn read(bytes: Bytes) -> RatingRows {
        let mut rows = RatingRows::default();
        ratings::decode(bytes, &mut rows).unwrap();
        rows
    }

    #[test]
    fn an_object_is_its_files_and_is_a_file() {
        let files: Vec<Bytes> = (0..5).map(|i| file(i * 1000, 1000 - u32::from(i > 2))).collect();
        let object = Bytes::from(pack(&files).unwrap());
        let rows = read(object.clone());
        assert_eq!(rows.len(), 4998);
        assert_eq!(super::rows(&object).unwrap(), 4998);
        let users: Vec<u32> = files.iter().flat_map(|file| read(file.clone()).users).collect();
        assert_eq!(rows.users, users, "all rows in order");
        let mut end = 0;
        for file in &files {
            assert_eq!(object.slice(end..end + file.len()), file);
            end += file.len();
        }
        let metadata: Vec<_> = files.iter().map(|file| metadata(file).unwrap()).collect();
        let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
        let tail = object.slice(end..);
        assert!(is_footer_of(&tail, &metadata, &sizes));
        assert!(!is_footer_of(&tail, &metadata[..4], &sizes[..4]));
        assert!(!is_footer_of(&tail.slice(1..), &metadata, &sizes));
        assert!(!is_footer_of(&object.slice(end - 1..), &metadata, &sizes));
        for at in 0..tail.len() {
            let mut damaged = tail.to_vec();
            damaged[at] ^= 1;
            assert!(!is_footer_of(&damaged.into(), &metadata, &sizes), "byte {at} of {}", tail.len());
        }
        // As another writer might write it: the same with a key and a value.
        let theirs = ParquetMetaDataReader::new().parse_and_finish(&object).unwrap();
        let file = theirs.file_metadata();
        let other = |created_by: &str| {
            let (schema, orders) = (file.schema_descr_ptr(), file.column_orders().cloned());
            let file = FileMetaData::new(1, 4998, Some(created_by.to_owned()), None, schema, orders);
            let mut out = Vec::new();
            let metadata = ParquetMetaData::new(file, theirs.row_groups().to_vec());
            let writer = ParquetMetaDataWriter::new(&mut out, &metadata);
            writer.with_write_path_in_schema(created_by == "gristmill").finish().unwrap();
            Bytes::from(out)
        };
        assert_eq!(other("gristmill"), tail);
        assert!(!is_footer_of(&other("somebody"), &metadata, &sizes), "it says something else");
        assert!(pack(&[Bytes::from_static(b"no Parquet file")]).is_err());
    }

    #[test]
    fn objects_have_about_as_many_rows_as_asked_for() {
        for (rows, count, wanted, expected) in [
            (20_000_000, 1667, 1_000_000, 83),
            (1000, 10, 1, 1),
            (1000, 10, 149, 1),
            (1000, 10, 150, 2),
            (1000, 10, u64::MAX, 10),
            (1_000_000, 1_000_000, u64::MAX, 32_767),
            (0, 0, 5, 1),
        ] {
            assert_eq!(per_object(rows, count, wanted), expected, "{rows} rows, {count} batches, {wanted} wanted");
        }
    }

    #[test]
    fn mini_batches_in_any_order_make_the_same_objects() {
        let made = |order: &[usize], rows_per_object| {
            let place = Place::in_store(Arc::new(InMemory::new()), "d");
            let staging = Staging::new(&place, &place, "index.json", &digest(b"packed"));
            let packer = Packer::new(&staging, "batch", 700, 7, rows_per_object);
            for &i in order {
                let object = packer.put(i, file(i as u32 * 100, 100), 100).unwrap();
                assert_eq!(object.digest, digest(&file(i as u32 * 100, 100)));
            }
            let batches = packer.finish();
            staging.commit(b"{}".to_vec(), false).unwrap();
            for (i, batch) in batches.iter().enumerate() {
                let bytes = crate::load::batch(&place, &batch, "test").unwrap();
                assert_eq!(bytes, file(i as u32 * 100, 100), "{batch:?}");
            }
            let objects: Vec<_> =
                place.list().unwrap().into_iter().map(|(key, _)| (place.get(&key).unwrap(), key)).collect();
            (batches, objects)
        };
        let (batches, objects) = made(&[0, 1, 2, 3, 4, 5, 6], Some(300));
        assert_eq!((batches.len(), batches.n_objects(), objects.len()), (7, 3, 4));
        assert!(objects[2].1.ends_with("/batch-000006-000006.parquet"), "{objects:?}");
        assert_eq!(made(&[6, 2, 0, 5, 4, 1, 3], Some(300)), (batches, objects));
        let (batches, objects) = made(&[6, 2, 0, 5, 4, 1, 3], None);
        assert_eq!((batches.n_objects(), batches.get(3).offset, objects.len()), (7, None, 8));
        assert_eq!(made(&[0, 1, 2, 3, 4, 5, 6], Some(120)), (batches, objects));
    }
}
