//! Rows in a temporary file that has no name, so that nothing is left of it however the process ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Bytes that a row of `row_bytes` takes in a temporary file: it has the number of its bucket behind it.
pub(crate) const fn spilled_bytes(row_bytes: u64) -> u64 {
    row_bytes + size_of::<u32>() as u64
}

/// A temporary file of rows of equal width.
#[derive(Debug)]
pub(crate) struct Spill {
    file: File,
    folder: PathBuf,
    width: usize,
}

impl Spill {
    /// An empty one in `folder`, for rows of `width` words.
    ///
    /// # Errors
    /// [`Error::Temporary`].
    pub(crate) fn create(folder: &Path, width: usize) -> Result<Self, Error> {
        match tempfile::tempfile_in(folder) {
            Ok(file) => Ok(Self { file, folder: folder.to_owned(), width }),
            Err(source) => Err(failed(folder, "create", source)),
        }
    }

    /// Words of a row.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    const fn offset(&self, row: u64) -> u64 {
        row * (self.width * size_of::<u32>()) as u64
    }

    /// Writes rows from number `row` on.
    ///
    /// # Errors
    /// [`Error::Temporary`].
    pub(crate) fn write(&self, row: u64, words: &[u32]) -> Result<(), Error> {
        let outcome = self.file.write_all_at(bytemuck::cast_slice(words), self.offset(row));
        outcome.map_err(|source| failed(&self.folder, "write", source))
    }

    /// Reads rows from number `row` on, as many as `words` has room for.
    ///
    /// # Errors
    /// [`Error::Temporary`].
    pub(crate) fn read(&self, row: u64, words: &mut [u32]) -> Result<(), Error> {
        let outcome = self.file.read_exact_at(bytemuck::cast_slice_mut(words), self.offset(row));
        outcome.map_err(|source| failed(&self.folder, "read", source))
    }
}

fn failed(folder: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Temporary { folder: folder.display().to_string(), action, source }
}
