//! The first stage: from the text of all inputs to packed blocks in a temporary file. [`raw::reading`] keeps the numbers of lines
//! and rows of each input; here they become numbers among all rows.

use manifests::digest::digest;
use raw::TextFormat;
use raw::clicks::lines::Outcome;
use raw::clicks::rules::fields;
use raw::clicks::{Format, format};
use raw::reading::clicks::{self, ROWS, Undecoded, open};
use raw::reading::{Reading, Refused};
use raw::source::{Input, Source};
use reporting::Console;
use schemas::dataset::{Digest, SourceFile};

use super::columns::{Columns, Packed};
use super::spill::{Index, Spill};
use crate::error::Error;
use crate::plan::CriteoPlan;
use crate::rejects::Rejects;

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
    inputs.iter().map(Input::stored_bytes).sum()
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
    let pack = |(columns, words): &mut (Columns, Vec<u64>), block: Undecoded<'_>, made: &mut (Packed, u64)| {
        let outcome = block.decode(columns);
        let packed = columns.pack(words);
        *made = (packed, spill.write(words)?);
        Ok(outcome)
    };
    let read = read(plan, first, inputs, console, thread, pack, |&(packed, offset), first_row| {
        index.push(packed, offset, first_row);
        Ok(())
    })?;
    Ok(Ingested { origin: read.origin, spill, index, rejects: read.rejects, filtered: 0 })
}

/// Reads all of `inputs`, of which the first is open already. On `plan.threads` threads, each with a state that `thread` makes,
/// `take` has a block decoded and makes something of its rows. In order, `keep` gets this and the number of the block's first
/// line among all rows.
pub(super) fn read<State: Send, Made: Default + Send>(
    plan: &CriteoPlan,
    first: (Source, TextFormat<Format>),
    inputs: &[Input],
    console: &Console,
    thread: impl Fn() -> State + Sync,
    take: impl Fn(&mut State, Undecoded<'_>, &mut Made) -> Result<Outcome, Error> + Sync,
    mut keep: impl FnMut(&Made, u64) -> Result<(), Error>,
) -> Result<Read, Error> {
    let progress = console.progress("reading", raw_bytes(inputs), "bytes");
    let (mut rows, mut good, mut rejects) = (0, 0, Rejects::default());
    let several = inputs.len() > 1;
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
        let (bad_rows, name) = (plan.bad_rows, source.name.clone());
        let file = several.then_some(name.as_str());
        let reading = Reading {
            source: &source,
            format,
            threads: plan.threads,
            bad_max: bad_rows.bad_max(),
            progress: &progress,
        };
        let refuse = |bad: Refused<'_>| {
            let row = rows + bad.row;
            rejects.refuse(bad_rows, bad, row, file)
        };
        let read = clicks::read(&reading, &thread, &take, refuse, |made, first_row| keep(made, rows + first_row))?;
        rows += read.rows;
        good += read.good;
        origin.files.push(SourceFile { name, bytes: read.bytes, digest: read.digest });
    }
    progress.finish();
    if good == 0 {
        let place = if several { "the inputs".to_owned() } else { origin.shown };
        return Err(match rejects.first_line() {
            Some(first_line) => Error::AllRejected { place, rows: ROWS, rejected: rejects.count(), first_line },
            None => raw::Error::only_a_header(place, ROWS).into(),
        });
    }
    Ok(Read { origin, rows, rejects })
}

fn described(columns: Format) -> String {
    let separator = if columns.separator == b',' { "comma" } else { "tab" };
    format!("{}, separated by {separator}s", fields(columns))
}
