//! Parquet and csv files as one table: rows numbered through all files, in the order in which the files are given.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;

use crate::convert::{Converter, Selection};
use crate::csv::Csv;
use crate::engine::{Filter, Filtered, Scan};
use crate::error::Error;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Parquet.
    Parquet,
    /// Text with commas, a header, and quotes where they are needed.
    Csv,
}

/// Files with the columns of a click log, in any order and among others, with names in any case.
///
/// Numbers are integers of any width, or floats that are whole; tokens are strings or bytes, plain or from a dictionary.
/// Nulls, empty strings and NaN are missing. Labels are integers, floats or booleans, and never missing.
#[derive(Clone, Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    kind: Kind,
    labelled: bool,
}

/// The rows of files, or those that a condition keeps.
pub enum Rows {
    /// All rows.
    All(Numbered),
    /// Those for which a condition is true.
    Kept(Box<Filtered<Numbered>>),
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::All(rows) => rows.next(),
            Self::Kept(rows) => rows.next(),
        }
    }
}

impl Files {
    /// Checks the columns of all files.
    ///
    /// # Errors
    /// A file that cannot be read, or lacks a column, or has one of another type; labels in some files only.
    pub fn open(paths: &[PathBuf], kind: Kind) -> Result<Self, Error> {
        let mut first: Option<(&Path, bool)> = None;
        for path in paths {
            let labelled = match kind {
                Kind::Parquet => {
                    let (scan, place) = (scan(path)?, place(path));
                    let selection = Selection::of(&place, names(&scan), first.map(|(_, labelled)| labelled))?;
                    Converter::new(&place, &selection, scan.schema())?;
                    selection.labelled
                }
                Kind::Csv => Csv::open(&place(path), open(path)?, first.map(|(_, labelled)| labelled))?.labelled(),
            };
            match first {
                Some((other, false)) if labelled => {
                    return Err(Error::UnexpectedLabels { place: place(path), first: place(other) });
                }
                Some(_) => {}
                None => first = Some((path, labelled)),
            }
        }
        let labelled = first.is_some_and(|(_, labelled)| labelled);
        Ok(Self { paths: paths.to_vec(), kind, labelled })
    }

    /// Whether rows have labels.
    #[must_use]
    pub fn labelled(&self) -> bool {
        self.labelled
    }

    /// The rows, or those for which `filter` is true. Nothing comes after an error.
    ///
    /// # Errors
    /// A condition that cannot be planned.
    pub fn rows(&self, filter: Option<&Filter>) -> Result<Rows, Error> {
        let paths = self.paths.clone().into_iter();
        let rows = Numbered { paths, kind: self.kind, labelled: self.labelled, next_row: 0, file: None };
        Ok(match filter {
            Some(filter) => Rows::Kept(Box::new(Filtered::new(filter, rows)?)),
            None => Rows::All(rows),
        })
    }
}

/// All rows of files.
pub struct Numbered {
    paths: std::vec::IntoIter<PathBuf>,
    kind: Kind,
    labelled: bool,
    next_row: u64,
    file: Option<Batches>,
}

/// The batches of one file, which are told the number of their first row.
type Batches = Box<dyn FnMut(u64) -> Option<Result<RecordBatch, Error>> + Send>;

impl Numbered {
    fn open(&self, path: &Path) -> Result<Batches, Error> {
        let place = place(path);
        Ok(match self.kind {
            Kind::Parquet => {
                let scan = scan(path)?;
                let selection = Selection::of(&place, names(&scan), Some(self.labelled))?;
                let mut converter = Converter::new(&place, &selection, scan.schema())?;
                let damaged = move |problem| Error::Damaged { place: place.clone(), kind: "Parquet", problem };
                let mut batches = scan.batches(&selection.names).map_err(&damaged)?;
                Box::new(move |first_row| {
                    let batch = batches.next()?.map_err(&damaged);
                    Some(batch.and_then(|batch| converter.convert(&batch, first_row)))
                })
            }
            Kind::Csv => {
                let mut csv = Csv::open(&place, open(path)?, Some(self.labelled))?;
                Box::new(move |first_row| csv.next_batch(first_row).transpose())
            }
        })
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            if self.file.is_none() {
                let Some(path) = self.paths.next() else { return Ok(None) };
                self.file = Some(self.open(&path)?);
            }
            match self.file.as_mut().and_then(|file| file(self.next_row)).transpose()? {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => {
                    self.next_row += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                None => self.file = None,
            }
        }
    }
}

impl Iterator for Numbered {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            (self.paths, self.file) = (Vec::new().into_iter(), None);
        }
        next.transpose()
    }
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Unreadable { place: place(path), source })
}

/// The columns of a Parquet file; the system's words when it cannot be opened.
fn scan(path: &Path) -> Result<Scan, Error> {
    let file = open(path)?;
    let damaged = |problem| Error::Damaged { place: place(path), kind: "Parquet", problem };
    match file.metadata() {
        Err(source) => Err(Error::Unreadable { place: place(path), source }),
        Ok(metadata) if metadata.is_dir() => {
            let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            Err(Error::Unreadable { place: place(path), source })
        }
        // DataFusion passes over empty files.
        Ok(metadata) if metadata.len() == 0 => Err(damaged("it is empty".to_owned())),
        Ok(_) => Scan::open(path).map_err(damaged),
    }
}

fn names(scan: &Scan) -> impl Iterator<Item = String> {
    scan.schema().fields().iter().map(|field| field.name().clone())
}
