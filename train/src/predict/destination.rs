//! Where predictions go: a file that appears whole or not at all, or standard output.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::plan::scoring::Predict;

/// A place for predictions.
pub(super) struct Destination<'a> {
    plan: &'a Predict,
    /// Beside the file that it becomes.
    file: Option<NamedTempFile>,
    shown: String,
}

impl<'a> Destination<'a> {
    /// Makes sure that predictions can be written to the place of `plan`.
    pub(super) fn open(plan: &'a Predict) -> Result<Self, Error> {
        let Some(path) = &plan.out else {
            return Ok(Self { plan, file: None, shown: "standard output".to_owned() });
        };
        let shown = path.display().to_string();
        if path.symlink_metadata().is_ok() && !plan.replace {
            return Err(manifests::Error::Conflict { place: shown }.into());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any new file, it may be read and written by whom the umask lets.
        let mut builder = tempfile::Builder::new();
        builder.prefix(".train-").permissions(Permissions::from_mode(0o666));
        let file = builder.tempfile_in(folder);
        let file = file.map_err(|source| Error::File { place: shown.clone(), done: "written", source })?;
        Ok(Self { plan, file: Some(file), shown })
    }

    /// What takes the bytes.
    pub(super) fn writer(&self) -> Result<Box<dyn Write + Send>, Error> {
        Ok(match &self.file {
            None => Box::new(BufWriter::new(io::stdout())),
            Some(file) => Box::new(BufWriter::new(file.as_file().try_clone().map_err(|e| self.unwritable(e))?)),
        })
    }

    pub(super) fn unwritable(&self, source: io::Error) -> Error {
        Error::File { place: self.shown.clone(), done: "written", source }
    }

    /// Makes the file appear, and gives its name and size.
    pub(super) fn keep(self) -> Result<Option<(String, u64)>, Error> {
        let (Some(file), Some(path)) = (self.file, &self.plan.out) else { return Ok(None) };
        let place = self.shown;
        let unwritable = |source| Error::File { place: place.clone(), done: "written", source };
        let bytes = file.as_file().metadata().map_err(unwritable)?.len();
        let kept = if self.plan.replace { file.persist(path) } else { file.persist_noclobber(path) };
        match kept {
            Ok(_) => Ok(Some((place, bytes))),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(manifests::Error::Conflict { place }.into())
            }
            Err(e) => Err(unwritable(e.error)),
        }
    }
}
