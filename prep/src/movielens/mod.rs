//! MovieLens ratings to a dataset of Parquet parts, in two stages with a temporary file in between.
//!
//! [`ingest`] reads the text once: it parses, checks, and collects the ids. Then the ids are numbered, and the second stage
//! goes over the rows again to renumber and sum up ([`statistics`]), to count repeated pairs ([`pairs`]) and to write
//! ([`write`]). Memory depends on how many users and items there are, not on how many rows.

mod ids;
mod ingest;
mod pairs;
mod spill;
mod statistics;
mod write;

use manifests::digest::digest;
use manifests::id_map;
use manifests::stream::Kind;
use raw::TextFormat;
use raw::ratings::format;
use raw::ratings::parse::Columns;
use raw::source::Source;
use reporting::{Console, count, counted};
use schemas::dataset::{self, Descriptor, Digest, Layout, Ratings, RowCounts, Source as Origin};
use schemas::report::{DryRunReport, PrepReport};

use self::ids::Ranks;
use self::ingest::Ingested;
use self::spill::CHUNK_ROWS;
use self::statistics::Split;
use self::write::Parts;
use crate::error::Error;
use crate::estimate::{self, PerRow, Sampled};
use crate::holdout;
use crate::output::{Output, Sink};
use crate::pipe::Pipe;
use crate::plan::MovielensPlan;
use crate::{Report, TOOL};

/// Makes the dataset of `plan`, unless it is there already.
///
/// # Errors
/// [`Error`]. Nothing is then left at the output but what was there before.
pub(crate) fn run(plan: &MovielensPlan, console: &Console) -> Result<Report, Error> {
    let output = Output::open(&plan.out, plan.replace, console)?;
    let job = Job { plan, console, output };
    let (mut source, mut format) = ingest::open(plan)?;
    let sampled = estimate::sample(&source, format.skipped_bytes, format::name(format.columns.separator))?;
    if plan.dry_run {
        return job.dry_run(&source, format, sampled).map(Report::DryRun);
    }
    job.output.announce();
    if job.output.is_taken() && source.can_be_read_again {
        let progress = console.progress("comparing", source.raw_bytes, "bytes");
        let (digest, _) = source.digest(plan.threads, &progress)?;
        progress.finish();
        if let Some(report) = job.compare(&digest, format)? {
            return Ok(Report::Dataset(report));
        }
        (source, format) = ingest::open(plan)?;
    }
    if format.columns.n_columns == 3 {
        console.note(format!("{}: three columns, so there are no timestamps", source.shown));
    }
    estimate::check_disk(&sampled, source.raw_bytes, PER_ROW, &plan.temp_dir, console)?;
    let ingested = ingest::ingest(plan, &source, format, console)?;
    if job.output.is_taken()
        && !source.can_be_read_again
        && let Some(report) = job.compare(&ingested.digest, format)?
    {
        return Ok(Report::Dataset(report));
    }
    job.make(&source, format, ingested)
}

/// What ratings take, about. Parts are as they were measured on MovieLens 20M.
const PER_ROW: PerRow = PerRow { temporary: 12, part: 6, pipe: 12, chunk: CHUNK_ROWS };

struct Job<'a> {
    plan: &'a MovielensPlan,
    console: &'a Console,
    output: Output<'a>,
}

impl Job<'_> {
    /// What would be done.
    fn dry_run(&self, source: &Source, format: TextFormat<Columns>, sampled: Sampled) -> Result<DryRunReport, Error> {
        let plan = self.plan;
        let compared = if self.output.is_taken() && source.can_be_read_again {
            let progress = self.console.progress("comparing", source.raw_bytes, "bytes");
            let (digest, _) = source.digest(plan.threads, &progress)?;
            progress.finish();
            Some(self.compare(&digest, format))
        } else {
            None
        };
        let verdict = self.output.verdict(compared)?;
        let rows = (PER_ROW, plan.holdout.is_some());
        Ok(estimate::dry_run(&self.output, verdict, vec![sampled.read], rows, &plan.temp_dir, self.console))
    }

    fn compare(&self, digest: &Digest, format: TextFormat<Columns>) -> Result<Option<PrepReport>, Error> {
        let plan = self.plan;
        self.output.compare(plan.bad_rows.rejected_max(), |d| {
            manifests::Error::difference(&[
                ("name", d.name.clone(), plan.name.clone()),
                ("format", d.source.format.clone(), format::name(format.columns.separator).to_owned()),
                ("source", d.source.digest.to_string(), digest.to_string()),
                ("holdout", holdout::shown(d.holdout), holdout::shown(plan.holdout)),
            ])
        })
    }

    /// The second stage.
    fn make(&self, source: &Source, format: TextFormat<Columns>, ingested: Ingested) -> Result<Report, Error> {
        let Ingested { digest, text_bytes, spill, rejects, users, items } = ingested;
        let (format, threads) = (format::name(format.columns.separator), self.plan.threads);
        self.console.detail(format!("{}: {format}, {text_bytes} bytes of text, {digest}", source.shown));
        let mut sink = self.output.sink(&self.identity(&digest, format));
        let (users, items) = (users.rank(), items.rank());
        let split = Split::new(self.plan.holdout, &rejects);
        self.output.step("renumbering");
        let totals = statistics::renumber(&spill, &users, &items, &split, threads)?;
        let rows = RowCounts {
            read: spill.rows() + rejects.count(),
            train: totals.train_rows,
            holdout: spill.rows() - totals.train_rows,
            rejected: rejects.count(),
            filtered: 0,
        };
        if rows.train == 0 {
            let fraction = self.plan.holdout.map_or(0.0, |h| h.fraction);
            return Err(Error::AllHeldOut { place: source.shown.clone(), holdout: rows.holdout, fraction });
        }
        self.output.step("fitting effects");
        let effects = statistics::fit_effects(&spill, &totals, &split, threads)?;
        self.output.step("counting repeated pairs");
        let repeated_pairs = pairs::count_repeated(&spill, totals.user_rows(), items.count(), threads)?;
        self.output.step("writing");
        let progress = self.console.progress("writing", Some(spill.rows()), "rows");
        let parts = Parts { spill: &spill, mean: totals.mean, effects: &effects, split: &split, threads };
        // What simple predictors reach is summed up on the way to the parts, but a pipe is told before the rows.
        let written = match &sink {
            Sink::Folder(staging) => parts.write(staging, &progress)?,
            Sink::Pipe(_) => parts.sum_up()?,
        };
        let mut map = |file: &str, name: &str, ranks: &Ranks| {
            sink.put(file, id_map::encode(name, &ranks.ids()), u64::from(ranks.count()))
        };
        let layout = Ratings {
            n_users: users.count(),
            n_items: items.count(),
            mean: totals.mean,
            rating_min: totals.rating_min,
            rating_max: totals.rating_max,
            user_rows_max: totals.user_rows_max(),
            item_rows_max: totals.item_rows_max(),
            repeated_pairs,
            users: map("users.parquet", "user", &users)?,
            items: map("items.parquet", "item", &items)?,
            baselines: written.baselines,
        };
        let origin = Origin {
            name: source.name.clone(),
            format: format.to_owned(),
            bytes: text_bytes,
            digest,
            files: Vec::new(),
        };
        let descriptor = Descriptor {
            format: dataset::FORMAT.to_owned(),
            version: dataset::VERSION,
            tool: TOOL.to_owned(),
            name: self.plan.name.clone(),
            source: origin,
            layout: Layout::Ratings(layout.clone()),
            filter: None,
            rows,
            holdout: self.plan.holdout,
            parts: written.parts,
            holdout_parts: written.holdout_parts,
            rejects: self.output.keep_rejects(&sink, &rejects)?,
        };
        let report = match sink {
            Sink::Folder(staging) => Report::Dataset(self.output.commit(*staging, &descriptor)?),
            Sink::Pipe(tables) => {
                let kind = Kind::of(&descriptor.layout);
                parts.stream(Pipe::begin(&descriptor, tables)?, kind, rows.holdout, &progress)?.finish()?;
                Report::Streamed
            }
        };
        progress.finish();
        self.summarise(&descriptor, &layout);
        Ok(report)
    }

    /// What determines the content: see [`Staging::new`].
    fn identity(&self, source: &Digest, format: &str) -> Digest {
        let version = dataset::VERSION;
        let holdout = self.plan.holdout.map(|h| (h.fraction.to_bits(), h.seed));
        digest(format!("{version} {source} {format} {} {holdout:?}", self.plan.name).as_bytes())
    }

    fn summarise(&self, d: &Descriptor, r: &Ratings) {
        let say = |text: String| self.console.note(text);
        say(format!(
            "{} ratings of {} movies by {} users ({}), mean {:.4}",
            count(d.rows.train + d.rows.holdout),
            count(r.n_items.into()),
            count(r.n_users.into()),
            d.source.format,
            r.mean
        ));
        if let Some(holdout) = d.holdout {
            let percent = 100.0 * holdout.fraction;
            say(format!("{} rows held out ({percent} %, seed {})", count(d.rows.holdout), holdout.seed));
        }
        if let Some(rejects) = &d.rejects {
            self.console.warn(format!(
                "{} set aside in {}",
                counted(d.rows.rejected, "bad row"),
                self.output.place.show(&rejects.key)
            ));
        }
        if r.repeated_pairs > 0 {
            let rows = counted(r.repeated_pairs, "row");
            self.console.warn(format!("{rows} with a (user, movie) pair that is there already; they are kept"));
        }
        let (on, rmse) = match r.baselines.holdout {
            Some(rmse) => ("held-out", rmse),
            None => ("training", r.baselines.train),
        };
        say(format!("RMSE on the {on} rows: mean only {:.4}, user and movie effects {:.4}", rmse.mean, rmse.effects));
        let seconds = self.output.seconds();
        let rate = count((d.rows.read as f64 / seconds) as u64);
        say(format!("wrote {} in {seconds:.1} s ({rate} rows/s)", self.output.written()));
        // Small sets need many steps an epoch to get anywhere, large ones few objects.
        let batch = match d.rows.train {
            0..500_000 => 1000,
            500_000..5_000_000 => 4000,
            5_000_000.. => 12_000,
        };
        self.output.next(batch);
    }
}
