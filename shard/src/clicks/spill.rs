//! Rows in a temporary file that has no name, so that nothing is left of it however the process ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// A temporary file of rows of equal width.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    folder: PathBuf,
    width: usize,
}

impl Spill {
    /// An empty one in `folder`, for rows of `width` words.
    ///
    /// # Errors
    /// [`Error::Temporary`].
    pub(super) fn create(folder: &Path, width: usize) -> Result<Self, Error> {
        match tempfile::tempfile_in(folder) {
            Ok(file) => Ok(Self { file, folder: folder.to_owned(), width }),
            Err(source) => Err(failed(folder, "create", source)),
        }
    }

    /// Words of a row.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    const fn offset(&self, row: u32) -> u64 {
        row as u64 * (self.width * size_of::<u32>()) as u64
    }

    /// Writes rows from number `row` on.
    ///
    /// # Errors
    /// [`Error::Temporary`].
    pub(super) fn write(&self, row: u32, words: &[u32]) -> Result<(), Error> {
        let outcome = self.file.write_all_at(bytemuck::cast_slice(words), self.offset(row));
        outcome.map_err(|source| failed(&self.folder, "write", source))
    }

    /// Reads rows from number `row` on, as many as `words` has room for.
    ///
    /// # Errors
    /// [`Error::Temporary`].
    pub(super) fn read(&self, row: u32, words: &mut [u32]) -> Result<(), Error> {
        let outcome = self.file.read_exact_at(bytemuck::cast_slice_mut(words), self.offset(row));
        outcome.map_err(|source| failed(&self.folder, "read", source))
    }
}

fn failed(folder: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Temporary { folder: folder.display().to_string(), action, source }
}
