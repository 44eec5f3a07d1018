//! Realistic raw data, for trials and benchmarks: where they go. What they are like is in [`movielens`].

mod movielens;

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use reporting::{Console, count};
use schemas::report::GenerateReport;

use self::movielens::{HEADER, World, Writer};
use crate::blocks::in_order;
use crate::error::Error;
use crate::plan::GeneratePlan;
use crate::{Report, TOOL};

/// Users whose ratings are made at a time, by one thread.
const USERS_AT_A_TIME: usize = 64;

/// Writes the ratings of `plan` to its file or to standard output.
///
/// # Errors
/// [`Error::Unwritable`], [`Error::FileExists`], or a signal. A file is there whole or not at all.
pub fn run(plan: &GeneratePlan, console: &Console) -> Result<Report, Error> {
    let start = Instant::now();
    let Some(path) = &plan.out else {
        let outcome = write_ratings(plan, console, &mut BufWriter::new(io::stdout()), "standard output");
        return match outcome {
            // Whoever reads has seen enough.
            Err(Error::Unwritable { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(Report::Streamed),
            outcome => outcome.map(|()| Report::Streamed),
        };
    };
    let shown = path.display().to_string();
    let unwritable = |source| Error::Unwritable { place: shown.clone(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any new file, it may be read and written by whom the umask lets.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".prep-").permissions(Permissions::from_mode(0o666));
    let file = builder.tempfile_in(folder).map_err(unwritable)?;
    write_compressed(plan, console, path, file.as_file(), &shown)?;
    let bytes_written = file.as_file().metadata().map_err(unwritable)?.len();
    let exists = path.exists();
    if exists && same_content(path, file.path()).map_err(unwritable)? {
        console.note(format!("unchanged: {shown} holds these ratings already"));
    } else if exists && !plan.replace {
        return Err(Error::FileExists { place: shown });
    } else {
        file.persist(path).map_err(|e| unwritable(e.error))?;
        console.note(format!("wrote {shown}: {} ratings", count(plan.ratings)));
        console.note(format!("next: prep movielens {shown} --holdout 0.1"));
    }
    let seconds = start.elapsed().as_secs_f64();
    let report = GenerateReport {
        tool: TOOL.to_owned(),
        output: shown,
        rows: plan.ratings,
        log_loss: None,
        bytes_written,
        seconds,
    };
    Ok(Report::Generated(report))
}

fn write_compressed(
    plan: &GeneratePlan,
    console: &Console,
    path: &Path,
    file: &File,
    shown: &str,
) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable { place: shown.to_owned(), source };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            let mut encoder = flate2::write::GzEncoder::new(BufWriter::new(file), flate2::Compression::default());
            write_ratings(plan, console, &mut encoder, shown)?;
            encoder.finish().and_then(|mut out| out.flush()).map_err(unwritable)
        }
        Some("zst") => {
            let mut encoder = zstd::Encoder::new(BufWriter::new(file), 0).map_err(unwritable)?;
            write_ratings(plan, console, &mut encoder, shown)?;
            encoder.finish().and_then(|mut out| out.flush()).map_err(unwritable)
        }
        _ => write_ratings(plan, console, &mut BufWriter::new(file), shown),
    }
}

fn write_ratings(plan: &GeneratePlan, console: &Console, out: &mut impl Write, shown: &str) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable { place: shown.to_owned(), source };
    let progress = console.progress("generating", Some(plan.ratings), "rows");
    let world = World::new(plan.seed, plan.ratings, plan.users, plan.movies);
    let n_users = world.user_rows.len();
    let claimed = AtomicUsize::new(0);
    out.write_all(HEADER).map_err(unwritable)?;
    let produce = |writer: &mut Writer<'_>, text: &mut Vec<u8>| {
        let number = claimed.fetch_add(1, Ordering::Relaxed);
        let from = number * USERS_AT_A_TIME;
        let users = from..n_users.min(from + USERS_AT_A_TIME);
        text.clear();
        let rows: u64 = users.clone().map(|user| u64::from(world.user_rows[user])).sum();
        users.for_each(|user| writer.write_user(user, text));
        (from < n_users).then_some((number as u64, Ok(rows)))
    };
    in_order(
        plan.threads,
        || Writer::new(&world),
        produce,
        |text: &Vec<u8>, rows| {
            progress.add(rows);
            out.write_all(text).map_err(unwritable)
        },
    )?;
    progress.finish();
    out.flush().map_err(unwritable)
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
