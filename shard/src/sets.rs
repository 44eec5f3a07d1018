//! A set of rows becomes mini-batches: read, shuffled if it is the training rows, cut, and handed out.

use std::path::Path;

use reporting::Console;
use schemas::dataset::Descriptor;

use crate::Error;
use crate::kind::Kind;
use crate::memory::{Share, Where};
use crate::parts::{Origin, Set};
use crate::plan::{Input, Plan};
use crate::shares::transfer_bytes;
use crate::shuffle::{BUCKET_ROWS, Buckets};
use crate::shuffled::Shuffled;
use crate::window::{self, Kept, Source};

/// Where training and held-out rows come from.
pub(crate) fn origins(plan: &Plan) -> [Origin<'_>; 2] {
    let Descriptor { parts, holdout_parts, rows, .. } = &plan.descriptor;
    match &plan.input {
        Input::Stored(place) => {
            [parts, holdout_parts].map(|parts| Origin::Stored { place, named_by: &plan.named_by, parts })
        }
        Input::Piped(pipe) => [rows.train, rows.holdout].map(|rows| Origin::Piped(pipe, rows)),
    }
}

/// Hands the rows of `origin`, as encoded mini-batches, to `put`, with the number of the mini-batch and of its rows.
///
/// # Errors
/// When rows cannot be read or temporary data not be kept, that of `put`, or a signal.
pub(crate) fn write<K: Kind>(
    plan: &Plan,
    kind: K,
    origin: Origin<'_>,
    share: &Share,
    console: &Console,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let set = Set { kind, origin };
    let batch_rows = plan.shuffle.batch_rows;
    let Some(place) = share.shuffled else {
        return cut(&set.kind, &Kept::new(&set), batch_rows, share, console, put);
    };
    let buckets = Buckets::new(plan.shuffle.seed, origin.rows(), BUCKET_ROWS);
    let reading = (share.reading_threads, transfer_bytes(plan));
    let shuffled = shuffle(&set, buckets, place, reading, &plan.temp_dir, console)?;
    cut(&set.kind, &shuffled, batch_rows, share, console, put)
}

fn shuffle<K: Kind>(
    set: &Set<'_, K>,
    buckets: Buckets,
    place: Where,
    reading: (usize, u64),
    temp_dir: &Path,
    console: &Console,
) -> Result<Shuffled, Error> {
    let progress = console.progress("reading", Some(set.origin.rows()), "rows");
    let shuffled = Shuffled::read(set, buckets, place, reading, temp_dir, &progress);
    progress.finish();
    shuffled
}

fn cut<K: Kind>(
    kind: &K,
    rows: &impl Source,
    batch_rows: u64,
    share: &Share,
    console: &Console,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let batch_rows = usize::try_from(batch_rows).expect("batches are bounded by the command line");
    let total: usize = rows.sizes().iter().sum();
    let progress = console.progress("writing", Some(total as u64), "rows");
    let written = window::write(kind, rows, batch_rows, share, &progress, put);
    progress.finish();
    written
}

#[cfg(test)]
mod tests;
