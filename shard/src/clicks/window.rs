//! Cuts rows into mini-batches while they come: a window of consecutive rows moves over them, and what is left behind the
//! last whole mini-batch is carried over to the next window.

use manifests::clicks::{self, ClickRows};
use reporting::{Progress, interrupt};
use schemas::dataset::Object;

use super::words::{unpack, width};
use super::{Rows, Workers};
use crate::Error;
use crate::batches::Cuts;

/// Rows of the window for each thread, at least; a mini-batch if that is more. So all threads have work to share.
const THREAD_ROWS: usize = 1 << 17;

/// Rows that come in chunks, in order.
pub(super) trait Source: Sync {
    /// How many rows each chunk has.
    fn sizes(&self) -> Vec<usize>;

    /// Puts the rows of chunk number `chunk` into `words`.
    fn fill(&self, chunk: usize, buffers: &mut Buffers, words: &mut [u32]) -> Result<(), Error>;
}

/// What one thread works with.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) rows: ClickRows,
    pub(super) words: Vec<u32>,
    pub(super) order: Vec<u32>,
}

/// Hands the rows of `source`, as encoded mini-batches, to `put`.
///
/// # Errors
/// Those of `source` and `put`, or a signal.
pub(super) fn write(
    rows: Rows<'_>,
    source: &impl Source,
    progress: &Progress,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<Object, Error> + Sync,
) -> Result<Vec<Object>, Error> {
    let sizes = source.sizes();
    let cuts = Cuts::new(sizes.iter().sum(), rows.batch_rows);
    let width = width(rows.form);
    let enough = rayon::current_num_threads() * rows.batch_rows.max(THREAD_ROWS);
    let mut workers = Workers::new(Buffers::default);
    let mut objects = Vec::with_capacity(cuts.count());
    let mut window: Vec<u32> = Vec::new();
    let (mut chunk, mut first, mut end) = (0, 0, 0);
    while chunk < sizes.len() {
        let from = chunk;
        while chunk < sizes.len() && (chunk == from || end - first < enough) {
            end += sizes[chunk];
            chunk += 1;
        }
        let carried = window.len();
        window.resize((end - first) * width, 0);
        let mut free = &mut window[carried..];
        let slots = sizes[from..chunk].iter().zip(from..).map(|(size, chunk)| {
            let slot = free.split_off_mut(..size * width).expect("the window has room for its chunks");
            (chunk, slot)
        });
        workers.run(slots, |buffers, (chunk, slot)| source.fill(chunk, buffers, slot))?;

        let ready = (objects.len()..cuts.count()).take_while(|&batch| cuts.range(batch).end <= end).count();
        let mut made: Vec<Option<Object>> = vec![None; ready];
        let batches = (objects.len()..).zip(&mut made);
        workers.run(batches, |buffers, (batch, made)| {
            interrupt::check()?;
            let range = cuts.range(batch);
            unpack(rows.form, &window[(range.start - first) * width..(range.end - first) * width], &mut buffers.rows);
            let count = range.len() as u64;
            *made = Some(put(batch, clicks::encode(rows.form, &buffers.rows), count)?);
            progress.add(count);
            Ok(())
        })?;
        objects.extend(made.into_iter().flatten());
        let used = if objects.len() < cuts.count() { cuts.range(objects.len()).start } else { end };
        window.drain(..(used - first) * width);
        first = used;
    }
    let written: u64 = objects.iter().map(|object| object.rows).sum();
    assert_eq!(written, end as u64, "every row is in one batch");
    Ok(objects)
}
