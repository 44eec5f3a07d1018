//! The good rows between the two stages: 12 bytes a row in a temporary file that has no name, so that nothing is left of it
//! however the process ends.
//!
//! The rows are worked on in chunks of fixed size, whatever the number of threads: where floating-point sums are taken, they
//! are taken chunk by chunk and added in chunk order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use raw::ratings::parse::PackedRating;
use reporting::interrupt;

use crate::error::Error;

/// Rows of a chunk; the last one may have fewer.
pub(super) const CHUNK_ROWS: u64 = 1 << 20;
/// Rows that are in memory at a time, a divisor of [`CHUNK_ROWS`]: few enough to stay in the cache.
const WINDOW_ROWS: u64 = 1 << 14;
const ROW_BYTES: u64 = size_of::<PackedRating>() as u64;

/// A temporary file of rows.
pub(super) struct Spill {
    file: File,
    folder: PathBuf,
    rows: u64,
}

impl Spill {
    /// An empty one in `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self, Error> {
        match tempfile::tempfile_in(folder) {
            Ok(file) => Ok(Self { file, folder: folder.to_owned(), rows: 0 }),
            Err(source) => Err(failed(folder, "write", source)),
        }
    }

    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) const fn chunks(&self) -> u64 {
        self.rows.div_ceil(CHUNK_ROWS)
    }

    pub(super) fn append(&mut self, rows: &[PackedRating]) -> Result<(), Error> {
        self.write(self.rows, rows)?;
        self.rows += rows.len() as u64;
        Ok(())
    }

    fn write(&self, first: u64, rows: &[PackedRating]) -> Result<(), Error> {
        let outcome = self.file.write_all_at(rows.as_flattened(), first * ROW_BYTES);
        outcome.map_err(|source| failed(&self.folder, "write", source))
    }

    /// Shows the rows of chunk number `chunk` in order, a slice at a time, with the index of the slice's first row.
    pub(super) fn read_chunk(
        &self,
        chunk: u64,
        rows: &mut Vec<PackedRating>,
        mut see: impl FnMut(u64, &[PackedRating]),
    ) -> Result<(), Error> {
        self.each_window(chunk, rows, |first, rows| {
            see(first, rows);
            Ok(())
        })
    }

    /// As [`Spill::read_chunk`], and writes back what `change` makes of the rows.
    pub(super) fn change_chunk(
        &self,
        chunk: u64,
        rows: &mut Vec<PackedRating>,
        mut change: impl FnMut(u64, &mut [PackedRating]),
    ) -> Result<(), Error> {
        self.each_window(chunk, rows, |first, rows| {
            change(first, rows);
            self.write(first, rows)
        })
    }

    fn each_window(
        &self,
        chunk: u64,
        rows: &mut Vec<PackedRating>,
        mut see: impl FnMut(u64, &mut [PackedRating]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        interrupt::check()?;
        rows.resize(WINDOW_ROWS as usize, PackedRating::default());
        let mut first = chunk * CHUNK_ROWS;
        let end = self.rows.min(first + CHUNK_ROWS);
        while first < end {
            let rows = &mut rows[..WINDOW_ROWS.min(end - first) as usize];
            let outcome = self.file.read_exact_at(rows.as_flattened_mut(), first * ROW_BYTES);
            outcome.map_err(|source| failed(&self.folder, "read", source))?;
            see(first, rows)?;
            first += rows.len() as u64;
        }
        Ok(())
    }
}

fn failed(folder: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Temporary { folder: folder.display().to_string(), action, source }
}
