//! A set of rows as the dataset has it, in row order: stored parts, or what comes through a pipe.

use std::io::Stdin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use manifests::fetch::{Ahead, Fetch, Fetched};
use manifests::load;
use manifests::place::Place;
use manifests::stream::{self, Batch, StreamReader};
use reporting::interrupt;
use schemas::dataset::Object;
use schemas::manifest;

use crate::Error;
use crate::kind::Kind;

/// What a pipe brings.
pub(crate) type Pipe = Mutex<StreamReader<Stdin>>;

/// A set of rows of one kind.
#[derive(Debug)]
pub(crate) struct Set<'a, K> {
    /// What they are.
    pub(crate) kind: K,
    /// Where they come from.
    pub(crate) origin: Origin<'a>,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// Stored parts.
    Stored {
        /// Where the parts lie.
        place: &'a Place,
        /// What names them.
        named_by: &'a str,
        /// The parts.
        parts: &'a [Object],
    },
    /// A pipe, from which so many rows are to be taken.
    Piped(&'a Pipe, u64),
}

/// Parts, one after the other.
pub(crate) type Parts<'a> = Box<dyn Iterator<Item = Result<Part<'a>, Error>> + Send + 'a>;

/// Rows that follow each other, not yet read.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// In an object.
    Stored(&'a Object),
    /// In an object, and what came when it was asked for.
    Fetched(Box<Fetched>),
    /// Off the pipe.
    Piped(Batch),
}

impl Part<'_> {
    /// How many rows they are.
    pub(crate) const fn rows(&self) -> u64 {
        match self {
            Self::Stored(object) => object.rows,
            Self::Fetched(fetched) => fetched.batch.rows,
            Self::Piped(batch) => batch.rows as u64,
        }
    }
}

impl Origin<'_> {
    /// How many rows there are.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::Stored { parts, .. } => parts.iter().map(|part| part.rows).sum(),
            Self::Piped(_, rows) => *rows,
        }
    }

    /// Rows of the largest part.
    pub(crate) fn part_rows(&self) -> u64 {
        match self {
            Self::Stored { parts, .. } => parts.iter().map(|part| part.rows).max().unwrap_or(0),
            Self::Piped(_, rows) => (*rows).min(stream::BATCH_ROWS as u64),
        }
    }

    /// Bytes of the largest part, when a row that is not compressed has `row_bytes`.
    pub(crate) fn part_bytes(&self, row_bytes: u64) -> u64 {
        match self {
            Self::Stored { parts, .. } => parts.iter().map(|part| part.bytes).max().unwrap_or(0),
            Self::Piped(..) => self.part_rows() * row_bytes,
        }
    }
}

impl<K: Kind> Set<'_, K> {
    /// The parts in order. Those of a remote place are fetched ahead, no more than `bytes_ahead` of them; those of a pipe are taken
    /// off it, and there are none behind a failure.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn parts(&self, bytes_ahead: u64) -> Result<Parts<'_>, Error> {
        Ok(match self.origin {
            Origin::Stored { place, parts, .. } if place.is_local() => {
                Box::new(parts.iter().map(|part| Ok(Part::Stored(part))))
            }
            Origin::Stored { place, parts, .. } => {
                let wanted: Vec<_> = parts.iter().cloned().map(manifest::Batch::from).collect();
                let ahead = Ahead { bytes: bytes_ahead, ..Ahead::default() };
                let refused = |source| Error::System { what: "a thread", source: Box::new(source) };
                let fetch = Fetch::ahead(place, wanted.into_iter(), ahead).map_err(refused)?;
                Box::new(std::iter::from_fn(move || Some(Ok(Part::Fetched(Box::new(fetch.next()?))))))
            }
            Origin::Piped(pipe, rows) => {
                let mut left = rows;
                Box::new(std::iter::from_fn(move || {
                    let next = (left > 0).then(|| next(&mut pipe_of(pipe)))?;
                    left = next.as_ref().map_or(0, |batch| left - batch.rows as u64);
                    Some(next.map(Part::Piped))
                }))
            }
        })
    }

    /// Decodes `part`.
    ///
    /// # Errors
    /// When it is missing or damaged, or a signal came.
    pub(crate) fn read(&self, part: Part<'_>, columns: &mut K::Columns) -> Result<(), Error> {
        interrupt::check()?;
        let expected = part.rows();
        let (place, named_by) = match self.origin {
            Origin::Stored { place, named_by, .. } => (place, named_by),
            Origin::Piped(..) => {
                let Part::Piped(batch) = part else { unreachable!("a pipe brings no objects") };
                return Ok(self.kind.receive(&batch, columns)?);
            }
        };
        let (key, bytes) = match part {
            Part::Stored(object) => (object.key.clone(), load::object(place, object, named_by)?),
            Part::Fetched(fetched) => (fetched.batch.key.clone(), fetched.checked(place, named_by)?),
            Part::Piped(_) => unreachable!("a place brings no messages"),
        };
        let corrupt = |problem| manifests::Error::Corrupt { place: place.show(&key), problem };
        let rows = self.kind.decode(bytes, columns).map_err(corrupt)?;
        if rows as u64 != expected {
            return Err(corrupt(format!("it has {rows} rows, `{named_by}` says {expected}")).into());
        }
        Ok(())
    }
}

fn pipe_of(pipe: &Pipe) -> MutexGuard<'_, StreamReader<Stdin>> {
    // A thread that panics ends the process' work as a whole.
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next rows of a pipe that must have some.
fn next(pipe: &mut StreamReader<Stdin>) -> Result<Batch, Error> {
    interrupt::check()?;
    Ok(pipe.next_batch()?.expect("the reader gives as many rows as its descriptor says"))
}

/// Takes everything that is left off the pipe, so that its writer comes to its end; all rows must be there.
///
/// # Errors
/// When the rows end early, or reading fails, or a signal came.
pub(crate) fn drain(pipe: &Pipe) -> Result<(), Error> {
    let mut pipe = pipe_of(pipe);
    while pipe.next_batch()?.is_some() {
        interrupt::check()?;
    }
    Ok(())
}

/// Rows as they come, cut anew into chunks of equal size.
pub(crate) struct InTurn<'a, K: Kind> {
    set: &'a Set<'a, K>,
    pipe: &'a Pipe,
    rest: Mutex<Rest<K>>,
}

/// What is left of the part that came last.
struct Rest<K: Kind> {
    columns: K::Columns,
    next: usize,
    rows: usize,
}

impl<'a, K: Kind> InTurn<'a, K> {
    /// The rows of `set`, which come through `pipe`.
    pub(crate) fn new(set: &'a Set<'a, K>, pipe: &'a Pipe) -> Self {
        Self { set, pipe, rest: Mutex::new(Rest { columns: K::Columns::default(), next: 0, rows: 0 }) }
    }

    /// How many rows each chunk has.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        let rows = self.set.origin.rows() as usize;
        (0..rows).step_by(stream::BATCH_ROWS).map(|first| stream::BATCH_ROWS.min(rows - first)).collect()
    }

    /// Puts the next rows into `words`, as many as there is room for.
    ///
    /// # Errors
    /// As [`Set::read`].
    pub(crate) fn fill(&self, mut words: &mut [u32]) -> Result<(), Error> {
        let width = self.set.kind.width();
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        while !words.is_empty() {
            if rest.next == rest.rows {
                let batch = next(&mut pipe_of(self.pipe))?;
                (rest.next, rest.rows) = (0, batch.rows);
                self.set.read(Part::Piped(batch), &mut rest.columns)?;
            }
            let rows = (words.len() / width).min(rest.rows - rest.next);
            let slot = words.split_off_mut(..rows * width).expect("there is room");
            self.set.kind.pack(&rest.columns, rest.next..rest.next + rows, slot);
            rest.next += rows;
        }
        Ok(())
    }
}
