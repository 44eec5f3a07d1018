//! Click logs to a dataset of Parquet parts, in three stages with a temporary file in between.
//!
//! [`ingest`] reads the text once: it decodes, checks, hashes and packs. Where a condition is asked of the rows, or the rows come
//! from tables of other engines, they go through [`query`] instead. [`fit`] goes over the packed rows to learn what the
//! training rows are like; [`write`] goes over them again, scales the numbers and writes parts. Memory depends on the number of
//! threads, not on how many rows there are.

mod columns;
mod fit;
mod ingest;
mod inputs;
mod query;
mod spill;
mod write;

use manifests::clicks::Form;
use manifests::digest::digest;
use manifests::load::{self, Dataset};
use manifests::place::Place;
use manifests::scales;
use prep_query::{Filter, Kind};
use raw::clicks::scale::Scale;
use raw::reading::clicks;
use raw::source::Input;
use reporting::{Console, count, counted};
use schemas::clicks::{
    CategoricalColumn, Dense, Hash, HashFunction, Labels, N_CATEGORICAL, N_NUMERIC, NumericColumn, Sparse,
};
use schemas::dataset::{self, DESCRIPTOR_KEY, Descriptor, Digest, Layout, RowCounts, Source, SourceFile};
use schemas::report::{DryRunReport, PrepReport, WouldRead};

use self::fit::Totals;
use self::ingest::{Ingested, Origin};
use self::query::Tables;
use self::spill::CHUNK_ROWS;
use crate::error::Error;
use crate::estimate::{self, PerRow};
use crate::holdout::{self, Rule};
use crate::output::{Output, Sink};
use crate::pipe::Pipe;
use crate::plan::{CriteoPlan, Features};
use crate::{Report, TOOL};

/// Rows of a mini-batch that `shard` is advised to make: the thesis's.
const BATCH_ROWS: u64 = 6250;

/// Makes the dataset of `plan`, unless it is there already.
///
/// # Errors
/// [`Error`]. Nothing is then left at the output but what was there before.
pub(crate) fn run(plan: &CriteoPlan, console: &Console) -> Result<Report, Error> {
    let output = Output::open(&plan.out, plan.replace, console)?;
    if !plan.dry_run {
        output.announce();
    }
    let inputs = inputs::expand(&plan.inputs)?;
    let fitted = plan.like.as_ref().map(|place| Fitted::load(place, plan.features)).transpose()?;
    let job = Job { plan, console, output, fitted };
    match query::kind(&inputs, plan.format)? {
        kind if plan.dry_run => job.dry_run(&inputs, kind).map(Report::DryRun),
        Some(kind) => job.prepare_tables(&Tables::open(&inputs, kind)?),
        None => job.prepare_text(&inputs),
    }
}

/// Statistics of another dataset.
struct Fitted {
    numeric: Vec<NumericColumn>,
    scales: Vec<(u32, u32)>,
    digest: Digest,
}

impl Fitted {
    fn load(place: &str, features: Features) -> Result<Self, Error> {
        let Dataset { descriptor, digest, place } = load::dataset(&Place::parse(place)?)?;
        let name = place.show(DESCRIPTOR_KEY);
        let (numeric, table) = match (&descriptor.layout, features) {
            (Layout::Dense(dense), Features::Dense) => (&dense.numeric, None),
            (Layout::Sparse(sparse), Features::Sparse { n_buckets }) if sparse.hash.buckets == n_buckets => {
                (&sparse.numeric, sparse.scales.as_ref())
            }
            (layout, _) => {
                let buckets = match layout {
                    Layout::Sparse(sparse) => format!(" with {} buckets", sparse.hash.buckets),
                    _ => String::new(),
                };
                let problem = format!("its statistics are of {} rows{buckets}, not of {features}", layout.kind());
                return Err(Error::Unlike { place: name, problem });
            }
        };
        let scales = match (table, features.n_buckets()) {
            (Some(table), Some(n_buckets)) => {
                let corrupt = |problem| manifests::Error::Corrupt { place: place.show(&table.key), problem };
                scales::decode(n_buckets, load::object(&place, table, &name)?).map_err(corrupt)?
            }
            _ => Vec::new(),
        };
        Ok(Self { numeric: numeric.clone(), scales, digest })
    }
}

struct Job<'a> {
    plan: &'a CriteoPlan,
    console: &'a Console,
    output: Output<'a>,
    fitted: Option<Fitted>,
}

/// What rows take, about. Parts are as they were measured on generated data.
const fn per_row(features: Features) -> PerRow {
    match features {
        Features::Dense => PerRow { temporary: 35, part: 18, pipe: 56, chunk: CHUNK_ROWS },
        Features::Sparse { .. } => PerRow { temporary: 113, part: 55, pipe: 165, chunk: CHUNK_ROWS },
    }
}

impl Job<'_> {
    /// What would be done.
    fn dry_run(&self, inputs: &[Input], kind: Option<Kind>) -> Result<DryRunReport, Error> {
        let (plan, console) = (self.plan, self.console);
        let taken = self.output.is_taken();
        let (reads, compared) = if let Some(kind) = kind {
            let tables = Tables::open(inputs, kind)?;
            let origin = tables.origin(console)?;
            let filter = self.filter(origin.labelled)?;
            let read = |file: &SourceFile| WouldRead {
                place: file.name.clone(),
                bytes: Some(file.bytes),
                rows: None,
                format: Some(origin.format.to_owned()),
                compression: None,
            };
            let reads = origin.files.iter().map(read).collect();
            (reads, taken.then(|| self.compare(&origin, filter.as_ref())))
        } else {
            let mut reads = Vec::new();
            let mut labelled = false;
            for input in inputs {
                let (source, format) = clicks::open(input)?;
                labelled = format.columns.label;
                let name = raw::clicks::format::name(format.columns);
                reads.push(estimate::sample(&source, format.skipped_bytes, name)?.read);
            }
            let filter = self.filter(labelled)?;
            let origin = if taken { ingest::origin(inputs, plan.threads, console)? } else { None };
            (reads, origin.map(|origin| self.compare(&origin, filter.as_ref())))
        };
        let verdict = self.output.verdict(compared)?;
        let rows = (per_row(plan.features), plan.holdout.is_some());
        Ok(estimate::dry_run(&self.output, verdict, reads, rows, &plan.temp_dir, console))
    }

    /// Raw text, straight to packed rows or by way of a condition.
    fn prepare_text(&self, inputs: &[Input]) -> Result<Report, Error> {
        let (plan, console) = (self.plan, self.console);
        let [first_input, ..] = inputs else { unreachable!("there is at least one input") };
        let first = clicks::open(first_input)?;
        let filter = self.filter(first.1.columns.label)?;
        let is_taken = self.output.is_taken();
        let origin = if is_taken { ingest::origin(inputs, plan.threads, console)? } else { None };
        if let Some(origin) = &origin
            && let Some(report) = self.compare(origin, filter.as_ref())?
        {
            return Ok(Report::Dataset(report));
        }
        let sampled = estimate::sample(&first.0, first.1.skipped_bytes, "")?;
        let all_bytes = inputs.iter().map(Input::stored_bytes).sum();
        estimate::check_disk(&sampled, all_bytes, per_row(plan.features), &plan.temp_dir, console)?;
        let ingested = match &filter {
            Some(filter) => query::ingest_text(plan, filter, first, inputs, console)?,
            None => ingest::ingest(plan, first, inputs, console)?,
        };
        if is_taken
            && origin.is_none()
            && let Some(report) = self.compare(&ingested.origin, filter.as_ref())?
        {
            return Ok(Report::Dataset(report));
        }
        self.make(&ingested, filter.as_ref())
    }

    /// Files of other engines.
    fn prepare_tables(&self, tables: &Tables) -> Result<Report, Error> {
        let origin = tables.origin(self.console)?;
        let filter = self.filter(origin.labelled)?;
        if self.output.is_taken()
            && let Some(report) = self.compare(&origin, filter.as_ref())?
        {
            return Ok(Report::Dataset(report));
        }
        let ingested = tables.ingest(self.plan, filter.as_ref(), origin, self.console)?;
        self.make(&ingested, filter.as_ref())
    }

    /// The condition of the plan, checked.
    fn filter(&self, labelled: bool) -> Result<Option<Filter>, Error> {
        Ok(self.plan.condition.as_ref().map(|condition| Filter::parse(condition, labelled)).transpose()?)
    }

    fn compare(&self, origin: &Origin, filter: Option<&Filter>) -> Result<Option<PrepReport>, Error> {
        let plan = self.plan;
        let none = || "none".to_owned();
        self.output.compare(plan.bad_rows.rejected_max(), |d| {
            let (features, fitted_on) = match &d.layout {
                Layout::Ratings(_) => ("ratings".to_owned(), &None),
                Layout::Dense(dense) => (Features::Dense.to_string(), &dense.fitted_on),
                Layout::Sparse(s) => (Features::Sparse { n_buckets: s.hash.buckets }.to_string(), &s.fitted_on),
            };
            let shown = |fitted_on: Option<&Digest>| fitted_on.map_or_else(none, ToString::to_string);
            manifests::Error::difference(&[
                ("name", d.name.clone(), plan.name.clone()),
                ("content", features, plan.features.to_string()),
                ("format", d.source.format.clone(), origin.format.to_owned()),
                ("source", d.source.digest.to_string(), origin.digest().to_string()),
                ("holdout", holdout::shown(d.holdout), holdout::shown(plan.holdout)),
                ("--where", d.filter.clone().unwrap_or_else(none), filter.map_or_else(none, |f| f.text().to_owned())),
                ("--like", shown(fitted_on.as_ref()), shown(self.fitted_on())),
            ])
        })
    }

    fn fitted_on(&self) -> Option<&Digest> {
        self.fitted.as_ref().map(|fitted| &fitted.digest)
    }

    /// What determines the content: see [`Staging::new`].
    fn identity(&self, origin: &Origin, filter: Option<&Filter>) -> Digest {
        let (version, plan, source, format) = (dataset::VERSION, self.plan, origin.digest(), origin.format);
        let holdout = plan.holdout.map(|h| (h.fraction.to_bits(), h.seed));
        let (fitted_on, filter) = (self.fitted_on(), filter.map(Filter::text));
        let settings = format!("{} {holdout:?} {} {fitted_on:?} {filter:?}", plan.name, plan.features);
        digest(format!("{version} {source} {format} {settings}").as_bytes())
    }

    fn make(&self, ingested: &Ingested, filter: Option<&Filter>) -> Result<Report, Error> {
        let Ingested { origin, spill, index, rejects, filtered } = ingested;
        let (digest, threads) = (origin.digest(), self.plan.threads);
        let text_bytes = origin.files.iter().map(|file| file.bytes).sum();
        self.console.detail(format!("{}: {}, {text_bytes} bytes of text, {digest}", origin.shown, origin.format));
        let rule = Rule::new(self.plan.holdout);
        let n_buckets = self.plan.features.n_buckets();
        self.output.step("fitting");
        let totals = fit::fit(spill, index, n_buckets.is_some(), &rule, threads)?;
        let rows = RowCounts {
            read: index.rows() + rejects.count() + filtered,
            train: totals.rows[0],
            holdout: totals.rows[1],
            rejected: rejects.count(),
            filtered: *filtered,
        };
        if rows.train == 0 {
            let fraction = self.plan.holdout.map_or(0.0, |h| h.fraction);
            return Err(Error::AllHeldOut { place: origin.shown.clone(), holdout: rows.holdout, fraction });
        }
        let mut sink = self.output.sink(&self.identity(origin, filter));
        let layout = self.layout(&mut sink, &totals, origin.labelled, index.entries())?;
        let form = Form { labelled: origin.labelled, n_buckets };
        let (Layout::Dense(Dense { numeric, .. }) | Layout::Sparse(Sparse { numeric, .. })) = &layout else {
            unreachable!("click logs are dense or sparse");
        };
        let scales: [Scale; N_NUMERIC] = std::array::from_fn(|column| Scale::of(&numeric[column], form.is_sparse()));
        let rejects = self.output.keep_rejects(&sink, rejects)?;
        let [first, ..] = &origin.files[..] else { unreachable!("there is at least one input") };
        let mut descriptor = Descriptor {
            format: dataset::FORMAT.to_owned(),
            version: dataset::VERSION,
            tool: TOOL.to_owned(),
            name: self.plan.name.clone(),
            source: Source {
                name: first.name.clone(),
                format: origin.format.to_owned(),
                bytes: text_bytes,
                digest,
                files: if origin.files.len() > 1 { origin.files.clone() } else { Vec::new() },
            },
            layout,
            filter: filter.map(|filter| filter.text().to_owned()),
            rows,
            holdout: self.plan.holdout,
            parts: Vec::new(),
            holdout_parts: Vec::new(),
            rejects,
        };
        self.output.step("writing");
        let progress = self.console.progress("writing", Some(index.rows()), "rows");
        let all_entries = |written: u64| match (form.is_sparse(), index.entries()) {
            (true, read) if written != read => Err(Error::Lost { what: "values of features", read, written }),
            _ => Ok(()),
        };
        let report = match sink {
            Sink::Folder(staging) => {
                let written = write::write_parts(&staging, (spill, index), form, &scales, &rule, threads, &progress)?;
                progress.finish();
                all_entries(written.entries)?;
                (descriptor.parts, descriptor.holdout_parts) = (written.parts, written.holdout_parts);
                Report::Dataset(self.output.commit(*staging, &descriptor)?)
            }
            Sink::Pipe(tables) => {
                let pipe = Pipe::begin(&descriptor, tables)?;
                let (pipe, entries) =
                    write::write_stream(pipe, (spill, index), form, &scales, &rule, threads, &progress)?;
                progress.finish();
                // Before the end is told, so that the reader does not take what is wrong for whole.
                all_entries(entries)?;
                pipe.finish()?;
                Report::Streamed
            }
        };
        self.summarise(&descriptor);
        Ok(report)
    }

    /// What was fitted, or what the other dataset's statistics are, with the table of scales written.
    fn layout(&self, sink: &mut Sink, totals: &Totals, labelled: bool, entries: u64) -> Result<Layout, Error> {
        let fitted_on = self.fitted_on().cloned();
        let labels = labelled.then(|| labels(totals));
        let sparse = self.plan.features.n_buckets();
        let numeric = match &self.fitted {
            Some(fitted) => fitted.numeric.clone(),
            None => (1..)
                .zip(&totals.numeric)
                .map(|(i, sums)| {
                    let (mean, sd) = sums.mean_and_sd(if sparse.is_some() { sums.present } else { totals.rows[0] });
                    let (min, max) = sums.range.unzip();
                    NumericColumn { name: format!("I{i}"), present: sums.present, min, max, mean, sd }
                })
                .collect(),
        };
        let Some(n_buckets) = sparse else {
            return Ok(Layout::Dense(Dense { labels, numeric, fitted_on }));
        };
        let scales: Vec<(u32, u32)> = match &self.fitted {
            Some(fitted) => fitted.scales.clone(),
            None => totals.scales.iter().map(|(&bucket, &scale)| (bucket, scale)).collect(),
        };
        let scales = match scales.len() {
            0 => None,
            rows => Some(sink.put("scales.parquet", scales::encode(&scales), rows as u64)?),
        };
        Ok(Layout::Sparse(Sparse {
            labels,
            numeric,
            categorical: (1..=N_CATEGORICAL)
                .zip(totals.categorical)
                .map(|(i, present)| CategoricalColumn { name: format!("C{i}"), present })
                .collect(),
            hash: Hash { function: HashFunction::Xxh3, buckets: n_buckets },
            n_features: N_NUMERIC as u32 + n_buckets,
            scales,
            rows_with_collisions: totals.rows_with_collisions,
            entries,
            fitted_on,
        }))
    }

    fn summarise(&self, d: &Descriptor) {
        let say = |text: String| self.console.note(text);
        let rows = d.rows.train + d.rows.holdout;
        let (labels, features) = match &d.layout {
            Layout::Dense(dense) => (dense.labels, "13 standardised numbers".to_owned()),
            Layout::Sparse(s) => (s.labels, format!("{} features", count(s.n_features.into()))),
            Layout::Ratings(_) => return,
        };
        say(format!("{} rows of {features} ({}, {} MB)", count(rows), d.source.format, d.source.bytes / 1_000_000));
        match labels {
            Some(labels) => {
                let clicks = labels.train_positives + labels.holdout_positives;
                let percent = 100.0 * clicks as f64 / rows as f64;
                let (on, loss) = match labels.holdout_base_log_loss {
                    Some(loss) => ("held-out", loss),
                    None => ("training", labels.train_base_log_loss),
                };
                say(format!("{percent:.2} % clicks; log loss of the base rate on the {on} rows {loss:.4}"));
            }
            None if self.fitted.is_none() => self.console.warn(
                "these rows have no labels, and their numbers are scaled by their own statistics; for a model that was trained \
                 on another dataset use that one's, with `--like DATASET`",
            ),
            None => {}
        }
        if let Layout::Sparse(sparse) = &d.layout {
            let percent = 100.0 * sparse.rows_with_collisions as f64 / d.rows.train as f64;
            let (rows, entries) = (count(sparse.rows_with_collisions), count(sparse.entries));
            say(format!("{entries} values, all kept; {rows} rows ({percent:.3} %) hit a bucket more than once"));
        }
        if let Some(filter) = &d.filter {
            say(format!("{} rows did not meet {filter}", count(d.rows.filtered)));
        }
        if let Some(holdout) = d.holdout {
            let percent = 100.0 * holdout.fraction;
            say(format!("{} rows held out ({percent} %, seed {})", count(d.rows.holdout), holdout.seed));
        }
        if let Some(rejects) = &d.rejects {
            let place = self.output.place.show(&rejects.key);
            self.console.warn(format!("{} set aside in {place}", counted(d.rows.rejected, "bad row")));
        }
        let seconds = self.output.seconds();
        let rate = count((d.rows.read as f64 / seconds) as u64);
        say(format!("wrote {} in {seconds:.1} s ({rate} rows/s)", self.output.written()));
        self.output.next(BATCH_ROWS);
    }
}

/// Counts of labels, and the log loss of predicting the training rows' share of clicks.
fn labels(totals: &Totals) -> Labels {
    let ([train, holdout], [train_positives, holdout_positives]) = (totals.rows, totals.positives);
    let base = train_positives as f64 / train as f64;
    // A share of 0 or 1 has no logarithm, and none is needed where no row has that label.
    let weighed = |share: f64, p: f64| if share == 0.0 { 0.0 } else { -share * libm::log(p) };
    let log_loss = |positives: u64, rows: u64| {
        let share = positives as f64 / rows as f64;
        weighed(share, base) + weighed(1.0 - share, 1.0 - base)
    };
    Labels {
        train_positives,
        holdout_positives,
        train_base_log_loss: log_loss(train_positives, train),
        holdout_base_log_loss: (holdout > 0)
            .then(|| log_loss(holdout_positives, holdout))
            .filter(|loss| loss.is_finite()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_log_losses_are_those_of_the_textbook() {
        let totals = |rows, positives| Totals { rows, positives, ..Totals::default() };
        let found = labels(&totals([4, 2], [1, 1]));
        // -(0.25 ln 0.25 + 0.75 ln 0.75), -(0.5 ln 0.25 + 0.5 ln 0.75)
        assert!((found.train_base_log_loss - 0.562_335_144_618_808_4).abs() < 1e-15);
        assert!((found.holdout_base_log_loss.unwrap() - 0.836_988_216_785_835_6).abs() < 1e-15);
        let found = labels(&totals([4, 2], [0, 1]));
        assert_eq!((found.train_base_log_loss, found.holdout_base_log_loss), (0.0, None));
        assert_eq!(labels(&totals([4, 2], [4, 2])).holdout_base_log_loss, Some(0.0));
    }
}
