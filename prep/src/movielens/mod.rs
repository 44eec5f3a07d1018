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

use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::id_map;
use raw::TextFormat;
use raw::ratings::format;
use raw::ratings::parse::Columns;
use raw::source::Source;
use reporting::{Console, count};
use schemas::dataset::{self, DESCRIPTOR_KEY, Descriptor, Digest, Layout, Ratings, RowCounts, Source as Origin};
use schemas::report::PrepReport;

use self::ids::{IdSet, Ranks};
use self::ingest::Ingested;
use self::spill::Spill;
use self::statistics::Split;
use self::write::Written;
use crate::TOOL;
use crate::error::Error;
use crate::output::Output;
use crate::plan::MovielensPlan;
use crate::rejects::Rejects;

/// Makes the dataset of `plan`, unless it is there already.
///
/// # Errors
/// [`Error`]. Nothing is then left at the output but what was there before.
pub(crate) fn run(plan: &MovielensPlan, console: &Console) -> Result<PrepReport, Error> {
    let output = Output::open(&plan.out, plan.replace, console)?;
    let job = Job { plan, console, output };
    let (mut source, mut format) = ingest::open(plan)?;
    if job.output.is_taken() && source.can_be_read_again {
        let progress = console.progress("comparing", source.raw_bytes, "bytes");
        let (digest, _) = source.digest(plan.threads, &progress)?;
        progress.finish();
        if let Some(report) = job.compare(&digest, format)? {
            return Ok(report);
        }
        (source, format) = ingest::open(plan)?;
    }
    if format.columns.n_columns == 3 {
        console.note(format!("{}: three columns, so there are no timestamps", source.shown));
    }
    let ingested = ingest::ingest(plan, &source, format, console)?;
    if job.output.is_taken()
        && !source.can_be_read_again
        && let Some(report) = job.compare(&ingested.digest, format)?
    {
        return Ok(report);
    }
    job.make(&source, format, ingested)
}

struct Job<'a> {
    plan: &'a MovielensPlan,
    console: &'a Console,
    output: Output<'a>,
}

impl Job<'_> {
    fn compare(&self, digest: &Digest, format: TextFormat<Columns>) -> Result<Option<PrepReport>, Error> {
        self.output.compare(self.plan.bad_rows.rejected_max(), |d| {
            d.name == self.plan.name
                && d.source.digest == *digest
                && d.source.format == format::name(format.columns.separator)
                && d.holdout == self.plan.holdout
        })
    }

    fn make(&self, source: &Source, format: TextFormat<Columns>, ingested: Ingested) -> Result<PrepReport, Error> {
        let Ingested { digest, text_bytes, spill, rejects, users, items } = ingested;
        let format = format::name(format.columns.separator);
        self.console.detail(format!("{}: {format}, {text_bytes} bytes of text, {digest}", source.shown));
        let staging =
            Staging::new(&self.output.place, &self.output.place, DESCRIPTOR_KEY, &self.identity(&digest, format));
        let (rows, layout, written) = self.write_rows(&staging, source, &spill, &rejects, users, items)?;
        let rejects = match rejects.count() {
            0 => None,
            count => Some(staging.put(Rejects::KEY, rejects.csv().to_vec(), count)?),
        };
        let descriptor = Descriptor {
            format: dataset::FORMAT.to_owned(),
            version: dataset::VERSION,
            tool: TOOL.to_owned(),
            name: self.plan.name.clone(),
            source: Origin {
                name: source.name.clone(),
                format: format.to_owned(),
                bytes: text_bytes,
                digest,
                files: Vec::new(),
            },
            layout: Layout::Ratings(layout.clone()),
            filter: None,
            rows,
            holdout: self.plan.holdout,
            parts: written.parts,
            holdout_parts: written.holdout_parts,
            rejects,
        };
        let report = self.output.commit(staging, &descriptor)?;
        self.summarise(&descriptor, &layout);
        Ok(report)
    }

    /// The second stage: everything but the descriptor and the rejected rows.
    fn write_rows(
        &self,
        staging: &Staging,
        source: &Source,
        spill: &Spill,
        rejects: &Rejects,
        users: IdSet,
        items: IdSet,
    ) -> Result<(RowCounts, Ratings, Written), Error> {
        let threads = self.plan.threads;
        let (users, items) = (users.rank(), items.rank());
        let split = Split::new(self.plan.holdout, rejects);
        self.output.step("renumbering");
        let totals = statistics::renumber(spill, &users, &items, &split, threads)?;
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
        let effects = statistics::fit_effects(spill, &totals, &split, threads)?;
        self.output.step("counting repeated pairs");
        let repeated_pairs = pairs::count_repeated(spill, totals.user_rows(), items.count(), threads)?;
        self.output.step("writing");
        let progress = self.console.progress("writing", Some(spill.rows()), "rows");
        let written = write::write_parts(staging, spill, totals.mean, &effects, &split, threads, &progress)?;
        progress.finish();
        let map = |file: &str, name: &str, ranks: &Ranks| {
            staging.put(file, id_map::encode(name, &ranks.ids()), u64::from(ranks.count()))
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
        Ok((rows, layout, written))
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
                "{} bad rows are set aside in {}",
                d.rows.rejected,
                self.output.place.show(&rejects.key)
            ));
        }
        if r.repeated_pairs > 0 {
            self.console.warn(format!("{} rows repeat a (user, movie) pair; they are kept", r.repeated_pairs));
        }
        let (on, rmse) = match r.baselines.holdout {
            Some(rmse) => ("held-out", rmse),
            None => ("training", r.baselines.train),
        };
        say(format!("RMSE on the {on} rows: mean only {:.4}, user and movie effects {:.4}", rmse.mean, rmse.effects));
        let seconds = self.output.seconds();
        let rate = count((d.rows.read as f64 / seconds) as u64);
        say(format!("wrote {} in {seconds:.1} s ({rate} rows/s)", self.output.place));
        // Small sets need many steps an epoch to get anywhere, large ones few objects.
        let batch = match d.rows.train {
            0..500_000 => 1000,
            500_000..5_000_000 => 4000,
            5_000_000.. => 12_000,
        };
        say(format!("next: shard {} --batch {batch}", self.output.place));
    }
}
