//! The first stage: from text to packed blocks in a temporary file. Everything that depends on the order of the input happens
//! here, on one thread: line numbers, row numbers, the digest, the policy for bad rows.

use std::path::Path;

use manifests::digest::{Digester, digest};
use prep_decode::lines::{Decoder, Limits, Outcome};
use prep_decode::rules::{BadRow, Rule, fields};
use reporting::{Console, Progress};
use schemas::dataset::{Digest, SourceFile};

use super::columns::{Columns, Packed};
use super::format::{self, TextFormat};
use super::spill::{Index, Spill};
use crate::blocks::{Block, LINE_BYTES_MAX, in_order};
use crate::error::Error;
use crate::plan::{BadRows, CriteoPlan};
use crate::rejects::Rejects;
use crate::source::{Input, Source};

/// What the rows are called in messages.
const ROWS: &str = "rows";
/// Names of the files in archives and folders that hold click logs.
const NAMES: [&str; 4] = ["train.txt", "train.csv", "test.txt", "test.csv"];

/// What the first stage makes.
pub(super) struct Ingested {
    pub origin: Origin,
    /// The good rows.
    pub spill: Spill,
    pub index: Index,
    pub rejects: Rejects,
    /// Whether rows have labels.
    pub labelled: bool,
}

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub files: Vec<SourceFile>,
    /// How the rows are written.
    pub format: &'static str,
    /// Name of the first input, for messages.
    pub shown: String,
}

impl Origin {
    /// Digest of the text: of the one file, or of the digests of all.
    pub(super) fn digest(&self) -> Digest {
        match &self.files[..] {
            [file] => file.digest.clone(),
            files => digest(files.iter().map(|file| format!("{}\n", file.digest)).collect::<String>().as_bytes()),
        }
    }
}

/// Opens `input` and looks at its first lines.
fn open(input: &Input) -> Result<(Source, TextFormat), Error> {
    let source = Source::open(input, &NAMES)?;
    let head = source.text.head().map_err(|e| source.explain(e, 0))?;
    let format = format::recognise(&head, &source.shown)?.ok_or_else(|| Error::NoRows {
        place: source.shown.clone(),
        rows: ROWS,
        found: if head.is_empty() { "it is empty" } else { "there is nothing but empty lines" },
    })?;
    Ok((source, format))
}

/// What `inputs` are, without looking at what they say; `None` when one of them cannot be read a second time.
pub(super) fn origin(inputs: &[Input], threads: usize, console: &Console) -> Result<Option<Origin>, Error> {
    let Some(raw_bytes) = raw_bytes(inputs) else { return Ok(None) };
    let progress = console.progress("comparing", Some(raw_bytes), "bytes");
    let mut origin: Option<Origin> = None;
    for input in inputs {
        let (source, format) = open(input)?;
        let (mut digester, mut lines) = (Digester::default(), 0);
        let read = |(): &mut (), block: &mut Block| source.text.next_block(block).map(|(n, outcome)| (n, Ok(outcome)));
        in_order(
            threads.min(2),
            || (),
            read,
            |block: &Block, outcome| {
                outcome.map_err(|e| source.explain(e, lines))?;
                lines += block.text().iter().filter(|&&b| b == b'\n').count() as u64;
                digester.update(block.text());
                progress.add(source.text.take_raw_bytes());
                Ok::<_, Error>(())
            },
        )?;
        let file = SourceFile { name: source.name.clone(), bytes: digester.bytes(), digest: digester.finish() };
        match &mut origin {
            Some(origin) => origin.files.push(file),
            None => {
                let shown = source.shown.clone();
                origin = Some(Origin { files: vec![file], format: format::name(format.columns), shown });
            }
        }
    }
    progress.finish();
    Ok(origin)
}

/// Size of all inputs as they are stored; `None` when one of them is not a file, or cannot be found.
fn raw_bytes(inputs: &[Input]) -> Option<u64> {
    let bytes = |input: &Input| match input {
        Input::Path(path) => std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|m| m.len()),
        Input::Standard => None,
    };
    inputs.iter().map(bytes).sum()
}

/// Reads all of `inputs`.
pub(super) fn ingest(
    plan: &CriteoPlan,
    inputs: &[Input],
    temp_dir: &Path,
    console: &Console,
) -> Result<Ingested, Error> {
    let progress = console.progress("reading", raw_bytes(inputs), "bytes");
    let mut reader = Reader {
        bad_rows: plan.bad_rows,
        rows: 0,
        index: Index::new(plan.features.n_buckets()),
        rejects: Rejects::default(),
        several: inputs.len() > 1,
    };
    let spill = Spill::create(temp_dir)?;
    let (mut files, mut first) = (Vec::new(), None);
    for input in inputs {
        let (source, format) = open(input)?;
        let (shown, columns) = first.get_or_insert_with(|| (source.shown.clone(), format.columns));
        if *columns != format.columns {
            return Err(Error::DifferentColumns {
                place: source.shown.clone(),
                found: described(format),
                first: shown.clone(),
                expected: described(TextFormat { columns: *columns, ..format }),
            });
        }
        let file = reader.read(plan, &source, format, &spill, &progress)?;
        files.push(SourceFile { name: source.name.clone(), ..file });
    }
    progress.finish();
    let (shown, columns) = first.expect("there is at least one input");
    if reader.index.rows() == 0 {
        let place = if reader.several { "the inputs".to_owned() } else { shown };
        return Err(match reader.rejects.first_line() {
            Some(first_line) => Error::AllRejected { place, rows: ROWS, rejected: reader.rejects.count(), first_line },
            None => Error::NoRows { place, rows: ROWS, found: "there is nothing but a header" },
        });
    }
    let Reader { index, rejects, .. } = reader;
    let origin = Origin { files, format: format::name(columns), shown };
    Ok(Ingested { origin, spill, index, rejects, labelled: columns.label })
}

fn described(format: TextFormat) -> String {
    let separator = if format.columns.separator == b',' { "comma" } else { "tab" };
    format!("{}, separated by {separator}s", fields(format.columns))
}

/// A block with what was found in it.
#[derive(Default)]
struct DecodedBlock {
    block: Block,
    outcome: Outcome,
}

/// What one thread decodes with.
struct Thread {
    decoder: Decoder,
    columns: Columns,
    words: Vec<u64>,
}

/// The thread that sees the blocks in order.
struct Reader {
    bad_rows: BadRows,
    /// Rows before the present block, of all files, bad ones included.
    rows: u64,
    index: Index,
    rejects: Rejects,
    /// Whether there are several files.
    several: bool,
}

/// The place in the file that is being read.
struct Position<'a> {
    source: &'a Source,
    format: TextFormat,
    /// Complete lines before the present block, those before the first row included.
    lines: u64,
    /// Blank lines before the present block that are bad rows if anything follows.
    blanks: usize,
    digester: Digester,
}

impl Reader {
    /// Reads one file; its name is left to the caller.
    fn read(
        &mut self,
        plan: &CriteoPlan,
        source: &Source,
        format: TextFormat,
        spill: &Spill,
        progress: &Progress,
    ) -> Result<SourceFile, Error> {
        let bad_max = usize::try_from(plan.bad_rows.rejected_max().saturating_add(1)).unwrap_or(usize::MAX);
        let limits = Limits { bad_max, line_bytes_max: LINE_BYTES_MAX };
        let skipped = |number: u64| if number == 0 { format.skipped_bytes } else { 0 };
        let thread = || Thread {
            decoder: Decoder::default(),
            columns: Columns::new(plan.features.n_buckets()),
            words: Vec::new(),
        };
        let decode = |thread: &mut Thread, buffer: &mut DecodedBlock| {
            let (number, outcome) = source.text.next_block(&mut buffer.block)?;
            if outcome.is_err() {
                return Some((number, Ok(outcome.map(|()| (number, Packed::default(), 0)))));
            }
            let text = &buffer.block.text()[skipped(number)..];
            buffer.outcome = thread.decoder.decode(text, format.columns, limits, &mut thread.columns);
            let packed = thread.columns.pack(&mut thread.words);
            Some((number, spill.write(&thread.words).map(|offset| Ok((number, packed, offset)))))
        };
        let mut position =
            Position { source, format, lines: format.skipped_lines, blanks: 0, digester: Digester::default() };
        let consume = |buffer: &DecodedBlock, outcome: Result<_, _>| {
            let (number, packed, offset) = outcome.map_err(|e| source.explain(e, position.lines_seen()))?;
            position.digester.update(buffer.block.text());
            let text = &buffer.block.text()[skipped(number)..];
            self.take(&mut position, text, &buffer.outcome, packed, offset).inspect_err(|_| source.text.abandon())?;
            progress.add(source.text.take_raw_bytes());
            Ok::<_, Error>(())
        };
        in_order(plan.threads, thread, decode, consume)?;
        let bytes = position.digester.bytes();
        Ok(SourceFile { name: String::new(), bytes, digest: position.digester.finish() })
    }

    fn take(
        &mut self,
        position: &mut Position<'_>,
        text: &[u8],
        outcome: &Outcome,
        packed: Packed,
        offset: u64,
    ) -> Result<(), Error> {
        if outcome.lines > 0 {
            for _ in 0..std::mem::take(&mut position.blanks) {
                self.reject(position, &[], &BadRow { line: 0, text: 0..0, field: 0..0, rule: Rule::NotBlank })?;
                position.lines += 1;
                self.rows += 1;
            }
        }
        for bad in &outcome.bad {
            self.reject(position, text, bad)?;
        }
        self.index.push(packed, offset, self.rows);
        position.lines += outcome.lines as u64;
        self.rows += outcome.lines as u64;
        position.blanks += outcome.trailing_blanks;
        Ok(())
    }

    fn reject(&mut self, position: &Position<'_>, text: &[u8], bad: &BadRow) -> Result<(), Error> {
        let source = position.source;
        let place = || source.shown.clone();
        let line = position.lines + bad.line as u64 + 1;
        let text = &text[bad.text.clone()];
        let column = bad.field.start + 1;
        let problem = bad.rule.explain(&text[bad.field.clone()], position.format.columns, LINE_BYTES_MAX);
        if bad.rule == Rule::LineLength {
            return Err(Error::LineTooLong { place: place(), line, line_bytes_max: LINE_BYTES_MAX });
        }
        match self.bad_rows {
            BadRows::Fail => Err(Error::BadRow { place: place(), line, column, problem }),
            BadRows::Quarantine { rejected_max } if self.rejects.count() >= rejected_max => {
                Err(Error::TooManyBadRows { place: place(), line, column, problem, rejected_max })
            }
            BadRows::Quarantine { .. } => {
                let file = self.several.then_some(source.name.as_str());
                self.rejects.push(self.rows + bad.line as u64, file, line, column, &problem, text);
                if self.rejects.csv().len() > Rejects::CSV_BYTES_MAX {
                    return Err(Error::RejectsTooLarge { place: place(), line, bytes_max: Rejects::CSV_BYTES_MAX });
                }
                Ok(())
            }
        }
    }
}

impl Position<'_> {
    /// Complete lines in the blocks that were taken, the header's and blank ones included.
    fn lines_seen(&self) -> u64 {
        if self.digester.bytes() == 0 { 0 } else { self.lines + self.blanks as u64 }
    }
}
