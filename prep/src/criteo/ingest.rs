//! The first stage: from text to packed blocks in a temporary file. Everything that depends on the order of the input happens
//! here, on one thread: line numbers, row numbers, the digest, the policy for bad rows.

use manifests::digest::{Digester, digest};
use raw::TextFormat;
use raw::blocks::{Block, LINE_BYTES_MAX, in_order};
use raw::clicks::format;
use raw::clicks::lines::{Decoder, Limits, Outcome};
use raw::clicks::rules::{BadRow, Rule, fields};
use raw::clicks::{Format, Rows};
use raw::source::{Input, Source};
use reporting::{Console, Progress};
use schemas::dataset::{Digest, SourceFile};

use super::columns::Columns;
use super::spill::{Index, Spill};
use crate::error::Error;
use crate::plan::{BadRows, CriteoPlan};
use crate::rejects::Rejects;

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
    /// Rows that did not meet the condition.
    pub filtered: u64,
}

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub files: Vec<SourceFile>,
    /// How the rows are written.
    pub format: &'static str,
    /// Name of the first input, for messages.
    pub shown: String,
    /// Whether rows have labels.
    pub labelled: bool,
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
pub(super) fn open(input: &Input) -> Result<(Source, TextFormat<Format>), Error> {
    let source = Source::open(input, &NAMES)?;
    let head = source.text.head().map_err(|e| source.explain(e, 0))?;
    let format = format::recognise(&head, &source.shown)?.ok_or_else(|| raw::Error::NoRows {
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
        let (digest, bytes) = source.digest(threads, &progress)?;
        let file = SourceFile { name: source.name.clone(), bytes, digest };
        let origin = origin.get_or_insert_with(|| Origin {
            files: Vec::new(),
            format: format::name(format.columns),
            shown: source.shown.clone(),
            labelled: format.columns.label,
        });
        origin.files.push(file);
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

/// What reading the text of all inputs has given, but for the rows.
pub(super) struct Read {
    pub origin: Origin,
    /// Rows, bad ones included.
    pub rows: u64,
    pub rejects: Rejects,
}

/// Reads all of `inputs` straight into packed blocks.
pub(super) fn ingest(
    plan: &CriteoPlan,
    first: (Source, TextFormat<Format>),
    inputs: &[Input],
    console: &Console,
) -> Result<Ingested, Error> {
    let spill = Spill::create(&plan.temp_dir)?;
    let mut index = Index::new(plan.features.n_buckets());
    let thread = || (Columns::new(plan.features.n_buckets()), Vec::new());
    let pack = |(columns, words): &mut (Columns, Vec<u64>), block: Undecoded<'_>| {
        let outcome = block.decode(columns);
        let packed = columns.pack(words);
        Ok((outcome, (packed, spill.write(words)?)))
    };
    let read = read(plan, first, inputs, console, thread, pack, |(packed, offset), first_row| {
        index.push(packed, offset, first_row);
        Ok(())
    })?;
    Ok(Ingested { origin: read.origin, spill, index, rejects: read.rejects, filtered: 0 })
}

/// A block that is to be decoded.
pub(super) struct Undecoded<'a> {
    decoder: &'a mut Decoder,
    text: &'a [u8],
    format: Format,
    limits: Limits,
}

impl Undecoded<'_> {
    /// Gives the rows to `rows`.
    pub(super) fn decode(self, rows: &mut impl Rows) -> Outcome {
        self.decoder.decode(self.text, self.format, self.limits, rows)
    }
}

/// Reads all of `inputs`, of which the first is open already. On `plan.threads` threads, each with a state that `thread` makes, `take` has a block decoded and makes
/// something of its rows. In order, `keep` gets this and the number of the block's first line among all rows.
pub(super) fn read<State: Send, Made: Send>(
    plan: &CriteoPlan,
    first: (Source, TextFormat<Format>),
    inputs: &[Input],
    console: &Console,
    thread: impl Fn() -> State + Sync,
    take: impl Fn(&mut State, Undecoded<'_>) -> Result<(Outcome, Made), Error> + Sync,
    mut keep: impl FnMut(Made, u64) -> Result<(), Error>,
) -> Result<Read, Error> {
    let progress = console.progress("reading", raw_bytes(inputs), "bytes");
    let mut reader =
        Reader { bad_rows: plan.bad_rows, rows: 0, good: 0, rejects: Rejects::default(), several: inputs.len() > 1 };
    let columns = first.1.columns;
    let mut origin = Origin {
        files: Vec::new(),
        format: format::name(columns),
        shown: first.0.shown.clone(),
        labelled: columns.label,
    };
    let mut opened = Some(first);
    for input in inputs {
        let (source, format) = opened.take().map_or_else(|| open(input), Ok)?;
        if columns != format.columns {
            return Err(Error::DifferentColumns {
                place: source.shown.clone(),
                found: described(format.columns),
                first: origin.shown.clone(),
                expected: described(columns),
            });
        }
        origin.files.push(reader.read(plan.threads, &source, format, &progress, &thread, &take, &mut keep)?);
    }
    progress.finish();
    let Reader { rows, good, rejects, several, .. } = reader;
    if good == 0 {
        let place = if several { "the inputs".to_owned() } else { origin.shown };
        return Err(match rejects.first_line() {
            Some(first_line) => Error::AllRejected { place, rows: ROWS, rejected: rejects.count(), first_line },
            None => raw::Error::NoRows { place, rows: ROWS, found: "there is nothing but a header" }.into(),
        });
    }
    Ok(Read { origin, rows, rejects })
}

fn described(columns: Format) -> String {
    let separator = if columns.separator == b',' { "comma" } else { "tab" };
    format!("{}, separated by {separator}s", fields(columns))
}

/// The thread that sees the blocks in order.
struct Reader {
    bad_rows: BadRows,
    /// Rows before the present block, of all files, bad ones included.
    rows: u64,
    /// Good ones among them.
    good: u64,
    rejects: Rejects,
    /// Whether there are several files.
    several: bool,
}

/// The place in the file that is being read.
struct Position<'a> {
    source: &'a Source,
    format: TextFormat<Format>,
    /// Complete lines before the present block, those before the first row included.
    lines: u64,
    /// Blank lines before the present block that are bad rows if anything follows.
    blanks: usize,
    digester: Digester,
}

impl Reader {
    /// Reads one file.
    #[expect(clippy::too_many_arguments, reason = "the last three are what `read` was given, for every file")]
    fn read<State: Send, Made: Send>(
        &mut self,
        threads: usize,
        source: &Source,
        format: TextFormat<Format>,
        progress: &Progress,
        thread: impl Fn() -> State + Sync,
        take: impl Fn(&mut State, Undecoded<'_>) -> Result<(Outcome, Made), Error> + Sync,
        mut keep: impl FnMut(Made, u64) -> Result<(), Error>,
    ) -> Result<SourceFile, Error> {
        let bad_max = usize::try_from(self.bad_rows.rejected_max().saturating_add(1)).unwrap_or(usize::MAX);
        let limits = Limits { bad_max, line_bytes_max: LINE_BYTES_MAX };
        let skipped = |number: u64| if number == 0 { format.skipped_bytes } else { 0 };
        let decode = |(decoder, state): &mut (Decoder, State), block: &mut Block| {
            let (number, outcome) = source.text.next_block(block)?;
            if let Err(error) = outcome {
                return Some((number, Ok(Err(error))));
            }
            let text = &block.text()[skipped(number)..];
            let made = take(state, Undecoded { decoder, text, format: format.columns, limits });
            Some((number, made.map(|(outcome, made)| Ok((number, outcome, made)))))
        };
        let mut position =
            Position { source, format, lines: format.skipped_lines, blanks: 0, digester: Digester::default() };
        let consume = |block: &Block, outcome: Result<_, _>| {
            let (number, outcome, made) = outcome.map_err(|e| source.explain(e, position.lines_seen()))?;
            position.digester.update(block.text());
            let text = &block.text()[skipped(number)..];
            let first_row = self.take(&mut position, text, &outcome);
            first_row.and_then(|row| keep(made, row)).inspect_err(|_| source.text.abandon())?;
            progress.add(source.text.take_raw_bytes());
            Ok::<_, Error>(())
        };
        in_order(threads, || (Decoder::default(), thread()), decode, consume)?;
        let bytes = position.digester.bytes();
        Ok(SourceFile { name: source.name.clone(), bytes, digest: position.digester.finish() })
    }

    /// Takes notice of the next block and gives the number of its first line among all rows.
    fn take(&mut self, position: &mut Position<'_>, text: &[u8], outcome: &Outcome) -> Result<u64, Error> {
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
        let first_row = self.rows;
        position.lines += outcome.lines as u64;
        self.rows += outcome.lines as u64;
        self.good += (outcome.lines - outcome.bad.len()) as u64;
        position.blanks += outcome.trailing_blanks;
        Ok(first_row)
    }

    fn reject(&mut self, position: &Position<'_>, text: &[u8], bad: &BadRow) -> Result<(), Error> {
        let source = position.source;
        let place = || source.shown.clone();
        let line = position.lines + bad.line as u64 + 1;
        let text = &text[bad.text.clone()];
        let column = bad.field.start + 1;
        let problem = bad.rule.explain(&text[bad.field.clone()], position.format.columns, LINE_BYTES_MAX);
        if bad.rule == Rule::LineLength {
            return Err(raw::Error::LineTooLong { place: place(), line, line_bytes_max: LINE_BYTES_MAX }.into());
        }
        match self.bad_rows {
            BadRows::Fail => Err(raw::Error::BadRow { place: place(), line, column, problem }.into()),
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
