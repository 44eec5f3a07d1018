//! From a source to rows: blocks are worked on by several threads, and what depends on the order of the text is kept by one:
//! line numbers, row numbers, the digest. [`clicks`] and [`ratings`] know how their blocks are decoded.
//!
//! What becomes of a bad row is the caller's to say, and so is where good rows go.

pub mod clicks;
pub mod ratings;

use manifests::digest::Digester;
use reporting::Progress;
use reporting::interrupt::Stopped;
use schemas::dataset::Digest;

use crate::blocks::{Block, LINE_BYTES_MAX, in_order};
use crate::outcome::{BadRow, Outcome, Rule};
use crate::source::Source;
use crate::{Error, TextFormat};

/// A text that is to be read.
pub struct Reading<'a, Columns> {
    /// Where it comes from, with nothing read but the head.
    pub source: &'a Source,
    /// How it is to be read.
    pub format: TextFormat<Columns>,
    /// How many threads decode it.
    pub threads: usize,
    /// After so many bad rows in a block, no more of it is decoded: 1 for who gives up at the first.
    pub bad_max: usize,
    /// Where progress is shown, in bytes as they are stored.
    pub progress: &'a Progress,
}

/// A text that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Bytes of the text, decompressed.
    pub bytes: u64,
    /// Digest of the text, decompressed.
    pub digest: Digest,
    /// Rows, bad ones included.
    pub rows: u64,
    /// Good ones among them.
    pub good: u64,
}

/// A row that breaks a rule, with its place in the text.
#[derive(Clone, Debug)]
pub struct Refused<'a> {
    /// What the text is called in messages.
    pub place: &'a str,
    /// Its number among all rows, from 0.
    pub row: u64,
    /// Its line, from 1.
    pub line: u64,
    /// Byte of the line at which the field that breaks the rule begins, from 1.
    pub column: usize,
    /// Value and rule.
    pub problem: String,
    /// What helps besides correcting the row.
    pub fix: Option<&'static str>,
    /// The row.
    pub text: &'a [u8],
}

impl From<Refused<'_>> for Error {
    fn from(bad: Refused<'_>) -> Self {
        let Refused { place, line, column, problem, fix, .. } = bad;
        Self::BadRow { place: place.to_owned(), line, column, problem, fix }
    }
}

/// What refuses the first bad row, and the text with it.
///
/// # Errors
/// [`Error::BadRow`].
pub fn stop<E: From<Error>>(bad: Refused<'_>) -> Result<(), E> {
    Err(Error::from(bad).into())
}

impl<Columns: Copy + Sync> Reading<'_, Columns> {
    /// Reads all blocks. On several threads, each with a state that `thread` makes, `take` decodes the lines of a block and fills
    /// a buffer that goes round. In order, `refuse` gets the bad rows of a block, and then `keep` its buffer and the number of its
    /// first line among all rows. Memory does not depend on the length of the text. Returns the threads' states too.
    ///
    /// # Errors
    /// That of `take`, `refuse` or `keep` which comes first in the text; or that reading failed, that a line is too long, or that
    /// a signal came.
    ///
    /// # Panics
    /// When `thread` or `take` panics.
    pub fn blocks<R, Thread, Made, E>(
        &self,
        thread: impl Fn() -> Thread + Sync,
        take: impl Fn(&mut Thread, &[u8], &mut Made) -> Result<Outcome<R>, E> + Sync,
        mut refuse: impl FnMut(Refused<'_>) -> Result<(), E>,
        mut keep: impl FnMut(&Made, u64) -> Result<(), E>,
    ) -> Result<(Read, Vec<Thread>), E>
    where
        R: Rule<Columns = Columns> + Send,
        Thread: Send,
        Made: Default + Send,
        E: From<Error> + From<Stopped> + Send,
    {
        let Self { source, format, progress, .. } = *self;
        let skipped = |number: u64| if number == 0 { format.skipped_bytes } else { 0 };
        let decode = |thread: &mut Thread, (block, made): &mut (Block, Made)| {
            let (number, outcome) = source.text.next_block(block)?;
            if let Err(error) = outcome {
                return Some((number, Ok(Err(error))));
            }
            let outcome = take(thread, &block.text()[skipped(number)..], made);
            Some((number, outcome.map(|outcome| Ok((number, outcome)))))
        };
        let mut position = Position {
            source,
            columns: format.columns,
            lines: format.skipped_lines,
            blanks: 0,
            rows: 0,
            good: 0,
            digester: Digester::default(),
        };
        let consume = |(block, made): &(Block, Made), outcome: Result<(u64, Outcome<R>), _>| {
            let (number, outcome) = outcome.map_err(|e| source.explain(e, position.lines_seen()))?;
            position.digester.update(block.text());
            let first_row = position.take(&block.text()[skipped(number)..], &outcome, &mut refuse);
            first_row.and_then(|row| keep(made, row)).inspect_err(|_| source.text.abandon())?;
            progress.add(source.text.take_raw_bytes());
            Ok::<_, E>(())
        };
        let threads = in_order(self.threads, thread, decode, consume)?;
        let Position { rows, good, digester, .. } = position;
        Ok((Read { bytes: digester.bytes(), digest: digester.finish(), rows, good }, threads))
    }
}

/// The place in the text.
struct Position<'a, Columns> {
    source: &'a Source,
    columns: Columns,
    /// Complete lines before the present block, those before the first row included.
    lines: u64,
    /// Blank lines before the present block that are bad rows if anything follows.
    blanks: usize,
    /// Rows before the present block, bad ones included.
    rows: u64,
    /// Good ones among them.
    good: u64,
    digester: Digester,
}

impl<Columns: Copy> Position<'_, Columns> {
    /// Takes notice of the next block and gives the number of its first line among all rows.
    fn take<R: Rule<Columns = Columns>, E: From<Error>>(
        &mut self,
        text: &[u8],
        outcome: &Outcome<R>,
        refuse: &mut impl FnMut(Refused<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        if outcome.lines > 0 {
            for _ in 0..std::mem::take(&mut self.blanks) {
                refuse(self.refused(&[], &BadRow::<R>::blank(0))?)?;
                self.lines += 1;
                self.rows += 1;
            }
        }
        for bad in &outcome.bad {
            refuse(self.refused(text, bad)?)?;
        }
        let first_row = self.rows;
        self.lines += outcome.lines as u64;
        self.rows += outcome.lines as u64;
        self.good += (outcome.lines - outcome.bad.len()) as u64;
        self.blanks += outcome.trailing_blanks;
        Ok(first_row)
    }

    fn refused<'b, R: Rule<Columns = Columns>>(
        &'b self,
        text: &'b [u8],
        bad: &BadRow<R>,
    ) -> Result<Refused<'b>, Error> {
        let place = &self.source.shown;
        let line = self.lines + bad.line as u64 + 1;
        if bad.rule == R::LINE_LENGTH {
            return Err(Error::LineTooLong { place: place.clone(), line, line_bytes_max: LINE_BYTES_MAX });
        }
        let text = &text[bad.text.clone()];
        let problem = bad.rule.problem(&text[bad.field.clone()], self.columns);
        let (row, column, fix) = (self.rows + bad.line as u64, bad.field.start + 1, bad.rule.fix());
        Ok(Refused { place, row, line, column, problem, fix, text })
    }

    /// Complete lines in the blocks that were taken, the header's and blank ones included.
    fn lines_seen(&self) -> u64 {
        if self.digester.bytes() == 0 { 0 } else { self.lines + self.blanks as u64 }
    }
}

/// The format that `recognise` sees in the head of `source`; it gives nothing for nothing but blank lines.
fn format_of<Columns>(
    source: &Source,
    rows: &'static str,
    recognise: impl FnOnce(&[u8]) -> Result<Option<TextFormat<Columns>>, Error>,
) -> Result<TextFormat<Columns>, Error> {
    let head = source.text.head().map_err(|e| source.explain(e, 0))?;
    recognise(&head)?.ok_or_else(|| Error::NoRows {
        place: source.shown.clone(),
        rows,
        found: if head.is_empty() { "it is empty" } else { "there is nothing but empty lines" },
    })
}

#[cfg(test)]
mod tests;
