//! Realistic raw data, for trials and benchmarks: where they go. What they are like is in [`movielens`] and [`criteo`].

mod alias;
mod criteo;
mod movielens;

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use raw::blocks::in_order;
use reporting::{Console, count};
use schemas::report::{GenerateReport, GeneratedLogLoss};

use crate::error::Error;
use crate::plan::{GenerateKind, GeneratePlan};
use crate::{Report, TOOL};

/// A text in pieces that can be made in any order, by several threads.
trait Pieces: Sync {
    /// What one thread works with.
    type Scratch: Send;

    /// What comes before the first piece.
    const HEADER: &'static [u8];

    /// What a thread starts with.
    fn scratch(&self) -> Self::Scratch;

    /// Appends piece `number`, from 0, to `text`; `None` after the last.
    fn write(&self, number: u64, scratch: &mut Self::Scratch, text: &mut Vec<u8>) -> Option<Tally>;
}

/// What a piece holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    /// Data rows.
    rows: u64,
    /// Rows with the label 1.
    clicks: u64,
    /// Sum of the entropies, in nats, of the probabilities that the labels were drawn with.
    entropy: f64,
}

impl Tally {
    /// To be called in the order of the pieces, which makes the sum the same whatever the threads.
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.clicks += other.clicks;
        self.entropy += other.entropy;
    }

    fn log_loss(&self) -> GeneratedLogLoss {
        let rows = self.rows as f64;
        let clicks = self.clicks as f64 / rows;
        let term = |share: f64| if share > 0.0 { -share * libm::log(share) } else { 0.0 };
        GeneratedLogLoss { best: self.entropy / rows, base_rate: term(clicks) + term(1.0 - clicks) }
    }
}

/// Writes the data of `plan` to its file or to standard output.
///
/// # Errors
/// [`Error::Unwritable`], [`Error::FileExists`], or a signal. A file is there whole or not at all.
pub fn run(plan: &GeneratePlan, console: &Console) -> Result<Report, Error> {
    let start = Instant::now();
    let Some(path) = &plan.out else {
        return match write_rows(plan, console, &mut BufWriter::new(io::stdout()), "standard output") {
            // Whoever reads has seen enough.
            Err(Error::Unwritable { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(Report::Streamed),
            outcome => outcome.map(|tally| {
                log_loss(plan, console, &tally);
                Report::Streamed
            }),
        };
    };
    let shown = path.display().to_string();
    let unwritable = |source| Error::Unwritable { place: shown.clone(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any new file, it may be read and written by whom the umask lets.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".prep-").permissions(Permissions::from_mode(0o666));
    let file = builder.tempfile_in(folder).map_err(unwritable)?;
    let tally = write_compressed(plan, console, path, file.as_file(), &shown)?;
    let bytes_written = file.as_file().metadata().map_err(unwritable)?.len();
    let exists = path.exists();
    let (data, command) = match plan.kind {
        GenerateKind::Movielens { .. } => ("ratings", "movielens"),
        GenerateKind::Criteo { .. } => ("rows", "criteo"),
    };
    let unchanged = exists && same_content(path, file.path()).map_err(unwritable)?;
    if unchanged {
        console.note(format!("unchanged: {shown} holds these {data} already"));
    } else if exists && !plan.replace {
        return Err(Error::FileExists { place: shown });
    } else {
        file.persist(path).map_err(|e| unwritable(e.error))?;
        console.note(format!("wrote {shown}: {} {data}", count(tally.rows)));
    }
    let log_loss = log_loss(plan, console, &tally);
    if !unchanged {
        console.note(format!("next: prep {command} {shown} --holdout 0.1"));
    }
    let seconds = start.elapsed().as_secs_f64();
    let report =
        GenerateReport { tool: TOOL.to_owned(), output: shown, rows: tally.rows, log_loss, bytes_written, seconds };
    Ok(Report::Generated(report))
}

/// What a model can reach on the labels, told as a note. Ratings have none.
fn log_loss(plan: &GeneratePlan, console: &Console, tally: &Tally) -> Option<GeneratedLogLoss> {
    let GenerateKind::Criteo { .. } = plan.kind else { return None };
    let log_loss = tally.log_loss();
    let GeneratedLogLoss { best, base_rate } = log_loss;
    let percent = 100.0 * tally.clicks as f64 / tally.rows as f64;
    console.note(format!(
        "log loss: {best:.4} is the best possible, {base_rate:.4} the base rate's ({percent:.2} % clicks)"
    ));
    Some(log_loss)
}

fn write_compressed(
    plan: &GeneratePlan,
    console: &Console,
    path: &Path,
    file: &File,
    shown: &str,
) -> Result<Tally, Error> {
    let unwritable = |source| Error::Unwritable { place: shown.to_owned(), source };
    let (tally, finished) = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            let mut encoder = flate2::write::GzEncoder::new(BufWriter::new(file), flate2::Compression::default());
            (write_rows(plan, console, &mut encoder, shown)?, encoder.finish().and_then(|mut out| out.flush()))
        }
        Some("zst") => {
            let mut encoder = zstd::Encoder::new(BufWriter::new(file), 0).map_err(unwritable)?;
            (write_rows(plan, console, &mut encoder, shown)?, encoder.finish().and_then(|mut out| out.flush()))
        }
        _ => (write_rows(plan, console, &mut BufWriter::new(file), shown)?, Ok(())),
    };
    finished.map(|()| tally).map_err(unwritable)
}

fn write_rows(plan: &GeneratePlan, console: &Console, out: &mut dyn Write, shown: &str) -> Result<Tally, Error> {
    match plan.kind {
        GenerateKind::Movielens { ratings, users, movies } => {
            let world = movielens::World::new(plan.seed, ratings, users, movies);
            write_pieces(&world, ratings, plan.threads, console, out, shown)
        }
        GenerateKind::Criteo { rows } => {
            write_pieces(&criteo::World::new(plan.seed, rows), rows, plan.threads, console, out, shown)
        }
    }
}

fn write_pieces<P: Pieces>(
    pieces: &P,
    rows: u64,
    threads: usize,
    console: &Console,
    out: &mut dyn Write,
    shown: &str,
) -> Result<Tally, Error> {
    let unwritable = |source| Error::Unwritable { place: shown.to_owned(), source };
    let progress = console.progress("generating", Some(rows), "rows");
    let claimed = AtomicU64::new(0);
    let mut tally = Tally::default();
    out.write_all(P::HEADER).map_err(unwritable)?;
    let produce = |scratch: &mut P::Scratch, text: &mut Vec<u8>| {
        let number = claimed.fetch_add(1, Ordering::Relaxed);
        text.clear();
        pieces.write(number, scratch, text).map(|tally| (number, Ok(tally)))
    };
    in_order(
        threads,
        || pieces.scratch(),
        produce,
        |text: &Vec<u8>, piece: Tally| {
            progress.add(piece.rows);
            tally.add(piece);
            out.write_all(text).map_err(unwritable)
        },
    )?;
    progress.finish();
    out.flush().map_err(unwritable)?;
    Ok(tally)
}

/// Whether two files hold the same bytes.
fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut piece_a, mut piece_b) = (Vec::new(), Vec::new());
    loop {
        for (file, piece) in [(&mut a, &mut piece_a), (&mut b, &mut piece_b)] {
            piece.clear();
            file.take(1 << 16).read_to_end(piece)?;
        }
        if piece_a != piece_b {
            return Ok(false);
        }
        if piece_a.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_loss_is_the_mean_entropy_and_that_of_the_share() {
        // A quarter clicked: 0.25 ln 4 + 0.75 ln(4/3).
        let mut tally = Tally { rows: 3, clicks: 1, entropy: 1.0 };
        tally.add(Tally { rows: 1, clicks: 0, entropy: 0.5 });
        let GeneratedLogLoss { best, base_rate } = tally.log_loss();
        assert!((best - 0.375).abs() < 1e-15 && (base_rate - 0.562_335_144_618_808_3).abs() < 1e-15, "{base_rate}");
        let GeneratedLogLoss { base_rate, .. } = Tally { rows: 3, clicks: 0, entropy: 1.0 }.log_loss();
        assert!(base_rate.abs() < f64::MIN_POSITIVE);
    }
}
