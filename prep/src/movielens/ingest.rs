//! The first stage: from text to numbered rows in a temporary file. Everything that depends on the order of the input happens
//! here, on one thread: line numbers, row numbers, the digest, the policy for bad rows.

use std::ops::Range;
use std::path::Path;

use manifests::digest::Digester;
use reporting::Console;
use schemas::dataset::Digest;

use raw::TextFormat;
use raw::blocks::{Block, LINE_BYTES_MAX, in_order};
use raw::ratings::format;
use raw::ratings::parse::{BadRow, Columns, Parsed, Separator, parse_block, unpack};
use raw::ratings::rules::Rule;
use raw::source::Source;

use super::ids::IdSet;
use super::spill::Spill;
use crate::cli::Format;
use crate::error::Error;
use crate::plan::BadRows;
use crate::rejects::Rejects;

/// What the rows are called in messages.
const ROWS: &str = "ratings";

/// What the first stage makes.
pub(super) struct Ingested {
    pub digest: Digest,
    pub text_bytes: u64,
    /// The good rows.
    pub spill: Spill,
    pub rejects: Rejects,
    pub users: IdSet,
    pub items: IdSet,
}

/// A block with the rows that were found in it.
#[derive(Default)]
struct ParsedBlock {
    block: Block,
    parsed: Parsed,
}

/// The separator that is asked for, if any.
const fn separator(format: Format) -> Option<Separator> {
    match format {
        Format::Auto => None,
        Format::Csv => Some(Separator::Comma),
        Format::Dat => Some(Separator::Colons),
        Format::Tab => Some(Separator::Tab),
    }
}

/// How `source` is to be read.
pub(super) fn recognise(source: &Source, asked: Format) -> Result<TextFormat<Columns>, Error> {
    let head = source.text.head().map_err(|e| source.explain(e, 0))?;
    let format = format::recognise(&head, separator(asked), &source.shown)?.ok_or_else(|| raw::Error::NoRows {
        place: source.shown.clone(),
        rows: ROWS,
        found: if head.is_empty() { "it is empty" } else { "there is nothing but empty lines" },
    })?;
    Ok(format)
}

/// Reads all of `source`.
pub(super) fn ingest(
    source: &Source,
    format: TextFormat<Columns>,
    bad_rows: BadRows,
    threads: usize,
    temp_dir: &Path,
    console: &Console,
) -> Result<Ingested, Error> {
    let progress = console.progress("reading", source.raw_bytes, "bytes");
    let bad_max = match bad_rows {
        BadRows::Fail => 1,
        BadRows::Quarantine { rejected_max } => usize::try_from(rejected_max.saturating_add(1)).unwrap_or(usize::MAX),
    };
    let parse = |ids: &mut (IdSet, IdSet), buffer: &mut ParsedBlock| {
        let (number, outcome) = source.text.next_block(&mut buffer.block)?;
        if outcome.is_ok() {
            let text = &buffer.block.text()[skipped(number, format)..];
            parse_block(text, format.columns, bad_max, &mut buffer.parsed);
            let mut last = None;
            for row in &buffer.parsed.rows {
                let (user, item, _) = unpack(row);
                if last != Some(user) {
                    ids.0.insert(user);
                    last = Some(user);
                }
                ids.1.insert(item);
            }
        }
        Some((number, Ok(outcome.map(|()| number))))
    };
    let mut reader = Reader {
        source,
        format,
        bad_rows,
        lines: format.skipped_lines,
        rows: 0,
        blanks: 0,
        digester: Digester::default(),
        spill: Spill::create(temp_dir)?,
        rejects: Rejects::default(),
    };
    let consume = |buffer: &ParsedBlock, outcome: Result<u64, _>| {
        let number = outcome.map_err(|e| source.explain(e, reader.lines_seen()))?;
        reader.take(&buffer.block, skipped(number, format), &buffer.parsed).inspect_err(|_| source.text.abandon())?;
        progress.add(source.text.take_raw_bytes());
        Ok::<_, Error>(())
    };
    let found = in_order(threads, Default::default, parse, consume)?;
    progress.finish();
    let (mut users, mut items) = (IdSet::default(), IdSet::default());
    for (their_users, their_items) in found {
        users.merge(their_users);
        items.merge(their_items);
    }
    reader.check_not_empty()?;
    let Reader { digester, spill, rejects, .. } = reader;
    Ok(Ingested { digest: digester.finish(), text_bytes: digester.bytes(), spill, rejects, users, items })
}

/// Bytes of block `number` that come before the first row.
const fn skipped(number: u64, format: TextFormat<Columns>) -> usize {
    if number == 0 { format.skipped_bytes } else { 0 }
}

/// The thread that sees the blocks in order.
struct Reader<'a> {
    source: &'a Source,
    format: TextFormat<Columns>,
    bad_rows: BadRows,
    /// Complete lines before the present block, those before the first row included.
    lines: u64,
    /// Rows before the present block, bad ones included.
    rows: u64,
    /// Blank lines before the present block that are bad rows if anything follows.
    blanks: usize,
    digester: Digester,
    spill: Spill,
    rejects: Rejects,
}

impl Reader<'_> {
    fn take(&mut self, block: &Block, skipped: usize, parsed: &Parsed) -> Result<(), Error> {
        self.digester.update(block.text());
        let text = &block.text()[skipped..];
        if !(parsed.rows.is_empty() && parsed.bad.is_empty()) {
            for _ in 0..std::mem::take(&mut self.blanks) {
                self.reject(&[], &BadRow { line: 0, text: 0..0, field: 0..0, rule: Rule::NotBlank })?;
                self.lines += 1;
                self.rows += 1;
            }
        }
        for bad in &parsed.bad {
            self.reject(text, bad)?;
        }
        self.spill.append(&parsed.rows)?;
        let lines = (parsed.rows.len() + parsed.bad.len()) as u64;
        self.lines += lines;
        self.rows += lines;
        self.blanks += parsed.trailing_blanks;
        Ok(())
    }

    /// Complete lines in the blocks that were taken, the header's and blank ones included.
    fn lines_seen(&self) -> u64 {
        if self.digester.bytes() == 0 { 0 } else { self.lines + self.blanks as u64 }
    }

    fn reject(&mut self, text: &[u8], bad: &BadRow) -> Result<(), Error> {
        let place = || self.source.shown.clone();
        let line = self.lines + bad.line as u64 + 1;
        let text = &text[bad.text.clone()];
        let field: Range<usize> = bad.field.clone();
        let column = field.start + 1;
        let problem = bad.rule.explain(&text[field], self.format.columns);
        if bad.rule == Rule::LineLength {
            return Err(raw::Error::LineTooLong { place: place(), line, line_bytes_max: LINE_BYTES_MAX }.into());
        }
        match self.bad_rows {
            BadRows::Fail => Err(raw::Error::BadRow { place: place(), line, column, problem }.into()),
            BadRows::Quarantine { rejected_max } if self.rejects.count() >= rejected_max => {
                Err(Error::TooManyBadRows { place: place(), line, column, problem, rejected_max })
            }
            BadRows::Quarantine { .. } => {
                self.rejects.push(self.rows + bad.line as u64, None, line, column, &problem, text);
                if self.rejects.csv().len() > Rejects::CSV_BYTES_MAX {
                    return Err(Error::RejectsTooLarge { place: place(), line, bytes_max: Rejects::CSV_BYTES_MAX });
                }
                Ok(())
            }
        }
    }

    fn check_not_empty(&self) -> Result<(), Error> {
        let place = self.source.shown.clone();
        if self.spill.rows() > 0 {
            return Ok(());
        }
        Err(match self.rejects.first_line() {
            Some(first_line) => Error::AllRejected { place, rows: ROWS, rejected: self.rejects.count(), first_line },
            None => raw::Error::NoRows { place, rows: ROWS, found: "there is nothing but a header" }.into(),
        })
    }
}
