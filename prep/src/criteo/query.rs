//! Rows by way of DataFusion: those of raw text for which a condition holds, and those of files that other engines wrote.
//!
//! [`prep_query`] gives them as record batches, in order, with the number of each row in the input. Here they are packed for the
//! temporary file, so that everything behind it is the same as for raw text.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use manifests::digest::Digester;
use prep_query::{ClickBatch, ClickBatchBuilder, Files, Filter, Filtered, Kind};
use raw::TextFormat;
use raw::clicks::{Format, format};
use raw::reading::clicks::Undecoded;
use raw::source::{Input, Source};
use reporting::{Console, interrupt};
use schemas::dataset::SourceFile;

use super::columns::Columns;
use super::ingest::{self, Ingested, Origin};
use super::spill::{Index, Spill};
use crate::cli::ClickFormat;
use crate::error::Error;
use crate::plan::CriteoPlan;
use crate::rejects::Rejects;

/// Text in which a header is looked for.
const HEAD_BYTES: u64 = 1 << 16;
/// Batches that wait for the condition, at most.
const BATCHES_AHEAD: usize = 4;

/// The kind of `inputs` if they are tables of other engines: asked for, or seen in the first file. `None` for raw text.
pub(super) fn kind(inputs: &[Input], asked: ClickFormat) -> Result<Option<Kind>, Error> {
    let path = match (asked, inputs) {
        (ClickFormat::Log, _) => return Ok(None),
        (ClickFormat::Csv, _) => return Ok(Some(Kind::Csv)),
        (ClickFormat::Parquet, _) => return Ok(Some(Kind::Parquet)),
        (ClickFormat::Auto, [input @ Input::Object { place, key }, ..]) => {
            let len = place.size(key)?.unwrap_or(0).min(HEAD_BYTES);
            let head = if len == 0 { bytes::Bytes::new() } else { place.get_range(key, 0..len)? };
            return match seen_in(&head, &input.shown()) {
                Some(_) => Err(Error::TableInStore { place: input.shown() }),
                None => Ok(None),
            };
        }
        (ClickFormat::Auto, [Input::Path(path), ..]) if path.is_file() => path,
        (ClickFormat::Auto, _) => return Ok(None),
    };
    let place = path.display().to_string();
    let unreadable = |source| raw::Error::Unreadable { place: place.clone(), source };
    let mut head = Vec::new();
    File::open(path).map_err(unreadable)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(unreadable)?;
    Ok(seen_in(&head, &place))
}

/// The kind of a table whose first bytes are `head`, if it is one of another engine.
fn seen_in(head: &[u8], place: &str) -> Option<Kind> {
    if head.starts_with(format::PARQUET) {
        return Some(Kind::Parquet);
    }
    let is_other_csv = format::recognise(head, place).is_err() && names_all_columns(head);
    is_other_csv.then_some(Kind::Csv)
}

/// Whether the first line is a csv header with every column of a click log in it, in whatever order.
fn names_all_columns(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let names: Vec<&str> = line.split(',').map(|name| name.trim().trim_matches('"')).collect();
    format::column_names().all(|column| names.contains(&column.as_str()))
}

/// Packs rows, wherever they come from.
struct Packer {
    spill: Spill,
    index: Index,
    columns: Columns,
    words: Vec<u64>,
}

impl Packer {
    fn new(plan: &CriteoPlan) -> Result<Self, Error> {
        let n_buckets = plan.features.n_buckets();
        let spill = Spill::create(&plan.temp_dir)?;
        Ok(Self { spill, index: Index::new(n_buckets), columns: Columns::new(n_buckets), words: Vec::new() })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        interrupt::check()?;
        let batch = ClickBatch::of(batch);
        let mut next = 0;
        while next < batch.len() {
            // Rows are kept with 32 bits of distance from the first one.
            let first_row = batch.row_number(next);
            self.columns.clear(batch.len() - next);
            while let Some(line) = (next < batch.len())
                .then(|| batch.row_number(next) - first_row)
                .and_then(|distance| u32::try_from(distance).ok())
            {
                self.columns.add(line, &batch.numbers(next), |column| batch.token(next, column));
                next += 1;
            }
            let packed = self.columns.pack(&mut self.words);
            self.index.push(packed, self.spill.write(&self.words)?, first_row);
        }
        Ok(())
    }

    fn finish(self, origin: Origin, rows: u64, rejects: Rejects) -> Result<Ingested, Error> {
        let Self { spill, index, .. } = self;
        let filtered = rows - rejects.count() - index.rows();
        if index.rows() == 0 {
            return Err(Error::AllFiltered { place: origin.shown, filtered });
        }
        Ok(Ingested { origin, spill, index, rejects, filtered })
    }
}

/// Reads the text of `inputs` and keeps the rows for which `filter` holds.
pub(super) fn ingest_text(
    plan: &CriteoPlan,
    filter: &Filter,
    first: (Source, TextFormat<Format>),
    inputs: &[Input],
    console: &Console,
) -> Result<Ingested, Error> {
    let mut packer = Packer::new(plan)?;
    let (sender, batches) = sync_channel::<RecordBatch>(BATCHES_AHEAD);
    let thread = || ClickBatchBuilder::new(filter.labelled());
    let build = |builder: &mut ClickBatchBuilder, block: Undecoded<'_>, batch: &mut Option<RecordBatch>| {
        builder.start(0);
        let outcome = block.decode(builder);
        *batch = Some(builder.finish());
        Ok(outcome)
    };
    let read = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            ingest::read(plan, first, inputs, console, thread, build, |batch, first_row| {
                let batch = batch.as_ref().expect("every block becomes a batch");
                sender.send(numbered_from(batch, first_row)).map_err(|_| Error::NobodyListens)
            })
        });
        let batches = batches.into_iter().map(Ok::<_, Error>);
        let kept = Filtered::new(filter, batches)?.try_for_each(|batch| packer.add(&batch?));
        let read = reading.join().expect("a panic is passed on by the scope");
        // When this side fails first, the other only says that nobody listens.
        kept.and(read)
    })?;
    packer.finish(read.origin, read.rows, read.rejects)
}

/// `batch`, whose rows are numbered from 0, numbered from `first_row`.
fn numbered_from(batch: &RecordBatch, first_row: u64) -> RecordBatch {
    let rows = ClickBatch::of(batch);
    let numbers: UInt64Array = (0..rows.len()).map(|i| first_row + rows.row_number(i)).collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns[0] = std::sync::Arc::new(numbers);
    RecordBatch::try_new(batch.schema(), columns).expect("the columns are as long as before")
}

/// Parquet or csv files of other engines.
pub(super) struct Tables {
    files: Files,
    paths: Vec<PathBuf>,
    kind: Kind,
}

impl Tables {
    /// The files in `inputs`, which are all of this kind.
    pub(super) fn open(inputs: &[Input], kind: Kind) -> Result<Self, Error> {
        let path = |input: &Input| match input {
            Input::Path(path) => Ok(path.clone()),
            Input::Object { .. } => Err(Error::TableInStore { place: input.shown() }),
            Input::Standard => Err(Error::TableInStream),
        };
        let paths: Vec<PathBuf> = inputs.iter().map(path).collect::<Result<_, _>>()?;
        Ok(Self { files: Files::open(&paths, kind)?, paths, kind })
    }

    /// What the files are, without looking at what they say.
    pub(super) fn origin(&self, console: &Console) -> Result<Origin, Error> {
        let progress = console.progress("comparing", None, "bytes");
        let mut files = Vec::new();
        let mut piece = vec![0; 1 << 20];
        for path in &self.paths {
            let unreadable = |source: io::Error| raw::Error::Unreadable { place: path.display().to_string(), source };
            let mut file = File::open(path).map_err(unreadable)?;
            let mut digester = Digester::default();
            loop {
                interrupt::check()?;
                match file.read(&mut piece).map_err(unreadable)? {
                    0 => break,
                    read => digester.update(&piece[..read]),
                }
            }
            progress.add(digester.bytes());
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            files.push(SourceFile { name, bytes: digester.bytes(), digest: digester.finish() });
        }
        progress.finish();
        let format = match self.kind {
            Kind::Parquet => "parquet",
            Kind::Csv => "csv",
        };
        let shown = self.paths.first().map_or_else(String::new, |path| path.display().to_string());
        Ok(Origin { files, format, shown, labelled: self.files.labelled() })
    }

    /// Reads all rows, or those for which `filter` holds.
    pub(super) fn ingest(
        &self,
        plan: &CriteoPlan,
        filter: Option<&Filter>,
        origin: Origin,
        console: &Console,
    ) -> Result<Ingested, Error> {
        let mut packer = Packer::new(plan)?;
        let progress = console.progress("reading", None, "rows");
        let mut rows = 0;
        // All rows are counted on their way to the condition.
        let counted = self.files.rows(None)?.inspect(|batch| {
            rows += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            progress.add(batch.as_ref().map_or(0, |batch| batch.num_rows() as u64));
        });
        let add = |batch: Result<RecordBatch, prep_query::Error>| packer.add(&batch?);
        match filter {
            Some(filter) => Filtered::new(filter, counted)?.try_for_each(add)?,
            None => { counted }.try_for_each(add)?,
        }
        progress.finish();
        if rows == 0 {
            return Err(
                raw::Error::NoRows { place: origin.shown, rows: "rows", found: "there are only columns" }.into()
            );
        }
        packer.finish(origin, rows, Rejects::default())
    }
}
