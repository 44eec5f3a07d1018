//! Columns of 32-bit cells as Parquet pages: a dictionary where that is the smallest, else differences or plain values.
//!
//! The choice is a function of the column's values, so equal rows give equal bytes. Parquet's own writer spends three
//! quarters of its time in a general hash table of the values, before it knows whether a dictionary pays; here the table is
//! as large as a dictionary that pays can be, and given up when it is full. Page headers and the footer are Parquet's own.
//!
//! There is one row group, with one data page a column.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::SchemaDescPtr;

use super::Cell;

const MAGIC: &[u8] = b"PAR1";
/// Values of a block of differences, and of a part of it that has a bit width of its own: the usual sizes.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// What is written where a dictionary does not pay.
#[derive(Clone, Copy, Debug)]
pub(super) enum Otherwise {
    /// The values as they are. A dictionary has to save a quarter to be worth its look-ups.
    Plain,
    /// Differences of neighbours, of at most so many bits.
    Delta(u32),
}

impl Otherwise {
    /// For whole numbers below `bound`. Differences need one bit more than the values, and the format has 32 for them.
    pub(super) const fn of_numbers_below(bound: u32) -> Self {
        let bits = u32::BITS - bound.saturating_sub(1).leading_zeros();
        if bits <= 28 { Self::Delta(bits + 1) } else { Self::Plain }
    }

    /// Bits of a value that a dictionary has to stay below.
    const fn bits(self) -> u32 {
        match self {
            Self::Plain => 24,
            Self::Delta(bits) => bits,
        }
    }
}

/// A file that is being written to memory.
pub(super) struct FileWriter {
    sink: TrackedWrite<Vec<u8>>,
    schema: SchemaDescPtr,
    rows: usize,
    chunks: Vec<ColumnChunkMetaData>,
    values: Vec<u32>,
    levels: Vec<u8>,
    dictionary: Dictionary,
}

impl FileWriter {
    pub(super) fn new(schema: SchemaDescPtr, rows: usize) -> Result<Self, ParquetError> {
        let capacity = rows * schema.num_columns() * size_of::<u32>() / 2 + 8192;
        let mut sink = TrackedWrite::new(Vec::with_capacity(capacity));
        sink.write_all(MAGIC)?;
        let chunks = Vec::with_capacity(schema.num_columns());
        Ok(Self { sink, schema, rows, chunks, values: vec![], levels: vec![], dictionary: Dictionary::default() })
    }

    /// Writes the next column. Cells may be missing where the schema says so.
    pub(super) fn column<C: Cell>(&mut self, cells: &[C], otherwise: Otherwise) -> Result<(), ParquetError> {
        let description = self.schema.column(self.chunks.len());
        let mut body = Vec::with_capacity(cells.len() * size_of::<u32>() + cells.len() / 8 + 64);
        self.values.clear();
        if description.max_def_level() == 0 {
            self.values.extend(cells.iter().map(|cell| cell.to_bits()));
        } else {
            self.present(cells);
            body.extend_from_slice(&(self.levels.len() as u32).to_le_bytes());
            body.extend_from_slice(&self.levels);
        }
        let limit = dictionary_limit(self.values.len(), otherwise.bits());
        let has_dictionary = self.dictionary.build(&self.values, limit);
        let encoding = if has_dictionary {
            self.dictionary.write_indices(&mut body);
            Encoding::RLE_DICTIONARY
        } else if let Otherwise::Delta(_) = otherwise {
            write_differences(&self.values, &mut body);
            Encoding::DELTA_BINARY_PACKED
        } else {
            write_plain(&self.values, &mut body);
            Encoding::PLAIN
        };
        let start = self.sink.bytes_written();
        let mut pages = SerializedPageWriter::new(&mut self.sink);
        let mut dictionary_offset = None;
        let mut encodings = vec![encoding, Encoding::RLE];
        if has_dictionary {
            let mut buf = Vec::with_capacity(self.dictionary.values.len() * size_of::<u32>());
            write_plain(&self.dictionary.values, &mut buf);
            let num_values = self.dictionary.values.len() as u32;
            let encoding = Encoding::PLAIN;
            let page = Page::DictionaryPage { buf: Bytes::from(buf), num_values, encoding, is_sorted: false };
            dictionary_offset = Some(put(&mut pages, page)?);
            encodings.push(Encoding::PLAIN);
        }
        let page = Page::DataPage {
            buf: Bytes::from(body),
            num_values: cells.len() as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let data_offset = put(&mut pages, page)?;
        let size = (self.sink.bytes_written() - start) as i64;
        let chunk = ColumnChunkMetaData::builder(description)
            .set_encodings(encodings)
            .set_num_values(cells.len() as i64)
            .set_compression(Compression::UNCOMPRESSED)
            .set_total_compressed_size(size)
            .set_total_uncompressed_size(size)
            .set_dictionary_page_offset(dictionary_offset)
            .set_data_page_offset(data_offset);
        self.chunks.push(chunk.build()?);
        Ok(())
    }

    /// Collects the values that are present, and which ones they are: as one run of bits, or a repeated one.
    fn present<C: Cell>(&mut self, cells: &[C]) {
        self.levels.clear();
        if cells.iter().fold(true, |complete, cell| complete & !cell.is_missing()) {
            self.values.extend(cells.iter().map(|cell| cell.to_bits()));
            write_varint(2 * cells.len() as u64, &mut self.levels);
            self.levels.push(1);
            return;
        }
        write_varint(2 * cells.len().div_ceil(8) as u64 + 1, &mut self.levels);
        self.values.resize(cells.len(), 0);
        let mut count = 0;
        // Every cell is put at the end, and stays there if it is a value.
        self.levels.extend(cells.chunks(8).map(|cells| {
            cells.iter().enumerate().fold(0, |byte, (i, cell)| {
                let present = !cell.is_missing();
                self.values[count] = cell.to_bits();
                count += usize::from(present);
                byte | (u8::from(present) << i)
            })
        }));
        self.values.truncate(count);
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, ParquetError> {
        let Self { sink, schema, rows, chunks, .. } = self;
        // A file without rows has no row group: some readers expect values where there is a page.
        let mut groups = Vec::new();
        if rows > 0 {
            let bytes = chunks.iter().map(ColumnChunkMetaData::uncompressed_size).sum();
            groups.push(
                RowGroupMetaData::builder(Arc::clone(&schema))
                    .set_num_rows(rows as i64)
                    .set_total_byte_size(bytes)
                    .set_file_offset(MAGIC.len() as i64)
                    .set_ordinal(0)
                    .set_column_metadata(chunks)
                    .build()?,
            );
        }
        let file = FileMetaData::new(1, rows as i64, Some("gristmill".to_owned()), None, schema, None);
        let mut bytes = sink.into_inner()?;
        ParquetMetaDataWriter::new(&mut bytes, &ParquetMetaData::new(file, groups)).finish()?;
        Ok(bytes)
    }
}

/// Writes `page` and returns where it begins.
fn put(pages: &mut SerializedPageWriter<'_, Vec<u8>>, page: Page) -> Result<i64, ParquetError> {
    let size = page.buffer().len();
    Ok(pages.write_page(CompressedPage::new(page, size))?.offset as i64)
}

/// Most distinct values with which a dictionary of `count` values takes less than `bits` a value.
fn dictionary_limit(count: usize, bits: u32) -> usize {
    let most = |width: u32| (count * bits.saturating_sub(width) as usize / 32).min(1 << width);
    (1..bits).map(most).max().unwrap_or(0)
}

/// Bits that every number up to `most` fits in, at least one: some readers do not expect none.
fn width_of(most: u32) -> u32 {
    (u32::BITS - most.leading_zeros()).max(1)
}

/// The distinct values of a column, in order of first occurrence.
#[derive(Default)]
struct Dictionary {
    values: Vec<u32>,
    /// For every value of the column, where it is among `values`.
    indices: Vec<u32>,
    /// Open addressing: the value in the upper half, one more than its index in the lower half, 0 if free.
    slots: Vec<u64>,
    /// The slots that are not free.
    taken: Vec<u32>,
}

impl Dictionary {
    /// Finds the distinct values of `column`. Whether there are any, and at most `limit` as far as can be told.
    fn build(&mut self, column: &[u32], limit: usize) -> bool {
        self.taken.drain(..).for_each(|slot| self.slots[slot as usize] = 0);
        self.values.clear();
        self.indices.clear();
        let log2_slots = (2 * limit).next_power_of_two().trailing_zeros().max(4);
        if self.slots.len() < 1 << log2_slots {
            self.slots = vec![0; 1 << log2_slots];
        }
        // More of it in the first quarter than this, and it will be full long before the end.
        let (begin, rest) = column.split_at(column.len() / 4);
        self.add(begin, limit * 3 / 5, log2_slots) && self.add(rest, limit, log2_slots) && !column.is_empty()
    }

    /// Adds `column`, as long as there are at most `limit` distinct values; whether there are.
    fn add(&mut self, column: &[u32], limit: usize, log2_slots: u32) -> bool {
        let Self { values, indices, slots, taken } = self;
        let slots = &mut slots[..1 << log2_slots];
        let first = indices.len();
        indices.resize(first + column.len(), 0);
        for (index, &value) in indices[first..].iter_mut().zip(column) {
            // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
            let mut slot = (u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - log2_slots)) as usize;
            *index = loop {
                let found = slots[slot];
                if (found >> 32) as u32 == value && found as u32 != 0 {
                    break found as u32 - 1;
                }
                if found as u32 == 0 {
                    if values.len() >= limit {
                        return false;
                    }
                    values.push(value);
                    taken.push(slot as u32);
                    slots[slot] = (u64::from(value) << 32) | values.len() as u64;
                    break values.len() as u32 - 1;
                }
                slot = (slot + 1) & (slots.len() - 1);
            };
        }
        true
    }

    fn write_indices(&self, out: &mut Vec<u8>) {
        let width = width_of(self.values.len() as u32 - 1);
        out.push(width as u8);
        if self.values.len() == 1 {
            write_varint(2 * self.indices.len() as u64, out);
            out.push(0);
            return;
        }
        write_varint(2 * self.indices.len().div_ceil(8) as u64 + 1, out);
        pack(&self.indices, width, self.indices.len().next_multiple_of(8), out);
    }
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_signed(number: i64, out: &mut Vec<u8>) {
    write_varint(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
}

fn write_plain(values: &[u32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Puts `values` one behind the other, `width` bits each, least significant bit first, and zeros up to `count` values.
pub(super) fn pack(values: &[u32], width: u32, count: usize, out: &mut Vec<u8>) {
    let end = out.len() + (count * width as usize).div_ceil(8);
    let (mut bits, mut held) = (0u64, 0);
    for &value in values {
        bits |= u64::from(value) << held;
        held += width;
        if held >= u32::BITS {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= u32::BITS;
            held -= u32::BITS;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes());
    out.resize(end, 0);
}

/// `DELTA_BINARY_PACKED`, of numbers below 2^28.
fn write_differences(values: &[u32], out: &mut Vec<u8>) {
    write_varint(BLOCK as u64, out);
    write_varint((BLOCK / MINIBLOCK) as u64, out);
    write_varint(values.len() as u64, out);
    write_signed(i64::from(values.first().copied().unwrap_or(0)), out);
    let mut differences = [0i32; BLOCK];
    let mut packed = [0u32; BLOCK];
    // Windows of two, a block at a time: each block begins with the last value of the one before.
    for first in (1..values.len()).step_by(BLOCK) {
        let count = BLOCK.min(values.len() - first);
        let pairs = values[first - 1..].iter().zip(&values[first..]);
        for (difference, (&before, &value)) in differences.iter_mut().zip(pairs) {
            *difference = value.cast_signed().wrapping_sub(before.cast_signed());
        }
        let least = differences[..count].iter().copied().min().expect("a block has values");
        write_signed(i64::from(least), out);
        for (packed, difference) in packed.iter_mut().zip(&differences[..count]) {
            *packed = difference.wrapping_sub(least).cast_unsigned();
        }
        let most = |values: &[u32]| values.iter().fold(0, |bits, value| bits | value);
        let widths = packed[..count].chunks(MINIBLOCK).map(|values| u32::BITS - most(values).leading_zeros());
        let mut bytes = [0u8; BLOCK / MINIBLOCK];
        bytes.iter_mut().zip(widths).for_each(|(byte, width)| *byte = width as u8);
        out.extend_from_slice(&bytes);
        for (values, width) in packed[..count].chunks(MINIBLOCK).zip(bytes) {
            pack(values, u32::from(width), MINIBLOCK, out);
        }
    }
}
