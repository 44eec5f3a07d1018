//! About how many rows an input holds and how much room they take, from the head of the text; what `--dry-run` says; and the
//! refusal of work for which the disk is too small.

use std::path::Path;

use manifests::disk::free_bytes;
use raw::source::Source;
use reporting::{Console, count};
use schemas::report::{DryRunReport, Verdict, WouldRead, WouldWrite};

use crate::TOOL;
use crate::error::Error;
use crate::output::Output;

/// Bytes that a row takes, about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerRow {
    /// In the temporary file.
    pub temporary: u64,
    /// In Parquet parts.
    pub part: u64,
    /// In a pipe.
    pub pipe: u64,
    /// Rows of a part.
    pub chunk: u64,
}

/// What an input holds, about.
#[derive(Clone, Debug)]
pub(crate) struct Sampled {
    pub read: WouldRead,
    /// Whether the size of the text is known and not estimated.
    sure: bool,
}

/// Looks at the head of `source`, whose rows begin behind `skipped` bytes.
pub(crate) fn sample(source: &Source, skipped: usize, format: &str) -> Result<Sampled, Error> {
    let head = source.text.head().map_err(|error| source.explain(error, 0))?;
    let head = head.get(skipped..).unwrap_or_default();
    let lines = head.iter().filter(|&&b| b == b'\n').count() as u64;
    let whole = head.iter().rposition(|&b| b == b'\n').map_or(head.len(), |last| last + 1) as u64;
    let text_bytes = source.text_bytes()?;
    let rows = text_bytes.map(|bytes| {
        let bytes = bytes.saturating_sub(skipped as u64);
        (u128::from(bytes) * u128::from(lines.max(1))).div_ceil(u128::from(whole.max(1))) as u64
    });
    let read = WouldRead {
        place: source.shown.clone(),
        bytes: source.raw_bytes,
        rows,
        format: Some(format.to_owned()),
        compression: source.compression().map(str::to_owned),
    };
    Ok(Sampled { read, sure: source.compression().is_none_or(|name| name == "zip") })
}

/// Rows of all inputs; nothing when one of them does not say.
pub(crate) fn rows<'a>(reads: impl IntoIterator<Item = &'a WouldRead>) -> Option<u64> {
    reads.into_iter().map(|read| read.rows).sum()
}

/// Refuses work on the inputs of which some were looked at and the others are like them, when the disk is surely too small for its
/// temporary data, and warns when it may be.
pub(crate) fn check_disk(
    sampled: &Sampled,
    all_bytes: Option<u64>,
    per_row: PerRow,
    folder: &Path,
    console: &Console,
) -> Result<(), Error> {
    let (Some(rows), Some(bytes), Some(all_bytes)) = (sampled.read.rows, sampled.read.bytes, all_bytes) else {
        return Ok(());
    };
    let Ok(free_bytes) = free_bytes(folder) else { return Ok(()) };
    let rows = (u128::from(rows) * u128::from(all_bytes)).div_ceil(u128::from(bytes.max(1)));
    let needed_bytes = u64::try_from(rows * u128::from(per_row.temporary)).unwrap_or(u64::MAX);
    let folder = folder.display();
    // The head of a text need not be like the rest of it, so there has to be more than a little too little.
    if sampled.sure && free_bytes < needed_bytes / 10 * 9 {
        return Err(Error::TooLittleDisk { folder: folder.to_string(), free_bytes, needed_bytes });
    }
    if free_bytes < needed_bytes {
        console.warn(format!(
            "{folder}: {} bytes are free, and temporary data may take {}; name another folder with `--temp-dir`",
            count(free_bytes),
            count(needed_bytes)
        ));
    }
    Ok(())
}

/// Says what would be done, and reports it.
pub(crate) fn dry_run(
    output: &Output<'_>,
    verdict: Verdict,
    reads: Vec<WouldRead>,
    (per_row, holdout): (PerRow, bool),
    temp_dir: &Path,
    console: &Console,
) -> DryRunReport {
    let about = |n: Option<u64>, unit: &str| {
        n.map_or_else(|| format!("an unknown number of {unit}"), |n| format!("{} {unit}", count(n)))
    };
    for read in &reads {
        let packing = read.compression.as_deref().unwrap_or("not compressed");
        let format = read.format.as_deref().unwrap_or("unknown");
        let (bytes, rows) = (about(read.bytes, "bytes"), about(read.rows, "rows"));
        console.note(format!("would read {}: {bytes}, {packing}, {format}, about {rows}", read.place));
    }
    let rows = rows(&reads);
    let (write_rows, temporary_bytes, objects) = match verdict {
        Verdict::Unchanged | Verdict::Conflict => (Some(0), Some(0), Some(0)),
        _ if output.is_pipe() => (rows, rows.map(|rows| rows * per_row.temporary), None),
        _ => {
            let parts = rows.map(|rows| rows.div_ceil(per_row.chunk) * if holdout { 2 } else { 1 } + 1);
            (rows, rows.map(|rows| rows * per_row.temporary), parts)
        }
    };
    let bytes = write_rows.map(|rows| rows * if output.is_pipe() { per_row.pipe } else { per_row.part });
    let free = free_bytes(temp_dir).ok();
    let place = output.shown();
    let what = match verdict {
        Verdict::New => format!("would write {place}: about {}", about(bytes, "bytes")),
        Verdict::Unchanged => format!("would write nothing: {place} holds this dataset already"),
        Verdict::Replace => format!("would replace what is in {place}: about {}", about(bytes, "bytes")),
        Verdict::Conflict => format!("would be refused: {place} holds a dataset with other content"),
        Verdict::Unknown => format!("{place} holds a dataset; whether it is the same shows when all is read"),
    };
    console.note(what);
    let (needed, left) = (about(temporary_bytes, "bytes"), about(free, "bytes"));
    console.note(format!("temporary data: about {needed} in {}, where {left} are free", temp_dir.display()));
    if matches!((temporary_bytes, free), (Some(needed), Some(free)) if needed > free) {
        console.warn("that is too little; name another folder with `--temp-dir`");
    }
    DryRunReport {
        tool: TOOL.to_owned(),
        dry_run: true,
        verdict,
        output: place.clone(),
        reads,
        writes: vec![WouldWrite { place, bytes, rows: write_rows, objects }],
        temporary_bytes,
        temporary_bytes_free: free,
        memory_bytes: None,
        seconds: output.seconds(),
    }
}
