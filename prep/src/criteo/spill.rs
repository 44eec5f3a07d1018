//! The good rows between the stages: packed blocks in a temporary file that has no name, so that nothing is left of it however
//! the process ends.
//!
//! Blocks are written by whoever has decoded them, wherever the file ends at the moment; the index says in which order they
//! belong. Where blocks begin depends on how the text was read, so what comes later works on chunks of a fixed number of rows.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use raw::clicks::hash::MISSING;
use raw::clicks::scale::{Values, extend};
use reporting::interrupt;
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::columns::{BucketWidth, Packed, Width, words_of};
use crate::error::Error;

/// Rows of a chunk; the last one may have fewer.
pub(super) const CHUNK_ROWS: u64 = 1 << 17;

/// A temporary file that blocks can be written to.
pub(super) struct Spill {
    file: File,
    folder: PathBuf,
    bytes: AtomicU64,
}

/// Where a block lies, and which rows it holds.
#[derive(Clone, Copy, Debug)]
struct Block {
    packed: Packed,
    offset: u64,
    /// Good rows before it.
    first: u64,
    /// Rows of the source before it, bad ones counted.
    source_row: u64,
}

/// The blocks in order.
pub(super) struct Index {
    blocks: Vec<Block>,
    rows: u64,
    bucket_width: BucketWidth,
}

impl Spill {
    /// An empty one in `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self, Error> {
        match tempfile::tempfile_in(folder) {
            Ok(file) => Ok(Self { file, folder: folder.to_owned(), bytes: AtomicU64::new(0) }),
            Err(source) => Err(Self::failed(folder, "write", source)),
        }
    }

    fn failed(folder: &Path, action: &'static str, source: io::Error) -> Error {
        Error::Temporary { folder: folder.display().to_string(), action, source }
    }

    /// Writes a packed block and says where.
    pub(super) fn write(&self, words: &[u64]) -> Result<u64, Error> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let offset = self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match self.file.write_all_at(bytes, offset) {
            Ok(()) => Ok(offset),
            Err(source) => Err(Self::failed(&self.folder, "write", source)),
        }
    }

    /// Shows the rows of chunk number `chunk` in order, a slice at a time.
    pub(super) fn each_slice(
        &self,
        index: &Index,
        chunk: u64,
        words: &mut Vec<u64>,
        mut see: impl FnMut(Slice<'_>),
    ) -> Result<(), Error> {
        interrupt::check()?;
        let rows = chunk * CHUNK_ROWS..index.rows.min((chunk + 1) * CHUNK_ROWS);
        let from = index.blocks.partition_point(|block| block.first + block.packed.rows as u64 <= rows.start);
        for block in index.blocks[from..].iter().take_while(|block| block.first < rows.end) {
            let layout = Layout::new(block.packed, index.bucket_width);
            words.resize(words.len().max(layout.words), 0);
            let words = &mut words[..layout.words];
            let outcome = self.file.read_exact_at(bytemuck::cast_slice_mut(words), block.offset);
            outcome.map_err(|source| Self::failed(&self.folder, "read", source))?;
            let start = rows.start.saturating_sub(block.first) as usize;
            let end = block.packed.rows.min((rows.end - block.first) as usize);
            see(Slice { words, layout, rows: start..end, source_row: block.source_row });
        }
        Ok(())
    }
}

impl Index {
    /// No blocks yet, of rows that have `n_buckets` to choose from, if any.
    pub(super) const fn new(n_buckets: Option<u32>) -> Self {
        Self { blocks: Vec::new(), rows: 0, bucket_width: BucketWidth::of(n_buckets) }
    }

    /// Adds the next block, which lies at `offset`, behind `source_row` rows of the source.
    pub(super) fn push(&mut self, packed: Packed, offset: u64, source_row: u64) {
        if packed.rows > 0 {
            self.blocks.push(Block { packed, offset, first: self.rows, source_row });
            self.rows += packed.rows as u64;
        }
    }

    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) const fn chunks(&self) -> u64 {
        self.rows.div_ceil(CHUNK_ROWS)
    }

    pub(super) fn entries(&self) -> u64 {
        self.blocks.iter().map(|block| block.packed.entries).sum()
    }
}

/// Where the columns of a packed block begin, in words.
#[derive(Clone, Copy)]
struct Layout {
    packed: Packed,
    bucket_width: BucketWidth,
    numbers: [usize; N_NUMERIC],
    buckets: usize,
    flags: usize,
    lines: usize,
    words: usize,
}

impl Layout {
    fn new(packed: Packed, bucket_width: BucketWidth) -> Self {
        let rows = packed.rows;
        let mut next = 0;
        let numbers = packed.widths.map(|width| {
            let start = next;
            next += match width {
                Width::Two => words_of::<i16>(rows),
                Width::Four => words_of::<i32>(rows),
                Width::Eight => words_of::<i64>(rows),
            };
            start
        });
        let buckets = next;
        let flags = buckets
            + N_CATEGORICAL
                * match bucket_width {
                    BucketWidth::None => 0,
                    BucketWidth::Three => words_of::<u16>(rows) + words_of::<u8>(rows),
                    BucketWidth::Four => words_of::<u32>(rows),
                };
        let lines = flags + words_of::<u16>(rows);
        let words = lines + if packed.gaps { words_of::<u32>(rows) } else { 0 };
        Self { packed, bucket_width, numbers, buckets, flags, lines, words }
    }
}

/// Consecutive rows of a block.
pub(super) struct Slice<'a> {
    words: &'a [u64],
    layout: Layout,
    rows: Range<usize>,
    source_row: u64,
}

impl<'a> Slice<'a> {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn column<T: bytemuck::Pod>(&self, start: usize) -> &'a [T] {
        &bytemuck::cast_slice(&self.words[start..])[self.rows.clone()]
    }

    pub(super) fn flags(&self) -> &'a [u16] {
        self.column(self.layout.flags)
    }

    pub(super) fn numbers(&self, column: usize) -> Values<'a> {
        let start = self.layout.numbers[column];
        match self.layout.packed.widths[column] {
            Width::Two => Values::Two(self.column(start)),
            Width::Four => Values::Four(self.column(start)),
            Width::Eight => Values::Eight(self.column(start)),
        }
    }

    /// Appends the buckets of `column`, those with `kept` set, to `out`.
    pub(super) fn buckets(&self, column: usize, kept: Option<&[bool]>, out: &mut Vec<u32>) {
        let rows = self.layout.packed.rows;
        let three = |(&low, &high): (&u16, &u8)| {
            let bucket = u32::from(low) | u32::from(high) << 16;
            if bucket == BucketWidth::MISSING { MISSING } else { bucket }
        };
        match self.layout.bucket_width {
            BucketWidth::None => {}
            BucketWidth::Three => {
                let (low_words, high_words) = (words_of::<u16>(rows), words_of::<u8>(rows));
                let start = self.layout.buckets + column * (low_words + high_words);
                let (low, high) = (self.column::<u16>(start), self.column::<u8>(start + low_words));
                extend(out, low.iter().zip(high).map(three), kept);
            }
            BucketWidth::Four => {
                let buckets = self.column::<u32>(self.layout.buckets + column * words_of::<u32>(rows));
                extend(out, buckets.iter().copied(), kept);
            }
        }
    }

    /// The number of each row in the source.
    pub(super) fn source_rows(&self) -> impl Iterator<Item = u64> + '_ {
        let lines: Option<&[u32]> = self.layout.packed.gaps.then(|| self.column(self.layout.lines));
        let start = self.rows.start;
        (0..self.len()).map(move |i| self.source_row + lines.map_or((start + i) as u64, |lines| u64::from(lines[i])))
    }
}
