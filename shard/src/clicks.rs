//! Shards click rows, which are too large for memory, out of core.
//!
//! Training rows go through a temporary file: every part is read once and its rows are put where their buckets lie
//! (`scatter`, `spill`), then the buckets are read in order, shuffled, and cut into mini-batches (`window`). Held-out rows
//! keep their order and go straight from the parts to the mini-batches. On the way a row is a few words, one behind the
//! other (`words`).
//!
//! Memory goes by threads, not by rows: for a thread a part (as stored, decoded, and sorted by bucket) in the first half;
//! in the second one a bucket, and two buckets' or one mini-batch's worth of rows of the window, whichever is more. To that
//! comes one table of four bytes for each bucket and group of parts.

mod scatter;
mod spill;
mod window;
mod words;
mod workers;

use std::ops::Range;
use std::path::Path;

use manifests::clicks::{self, ClickRows, Form};
use manifests::load;
use manifests::place::Place;
use reporting::{Console, Progress, interrupt};
use schemas::dataset::Object;

use crate::Error;
use crate::read::{Order, groups};
use crate::shuffle::Buckets;
use spill::Spill;
use window::{Buffers, Source};
use workers::Workers;

/// Rows of a bucket, at most on average: many enough that what a part has for one bucket is worth a write.
const BUCKET_ROWS: usize = 1 << 16;
/// Parts that are counted together: few enough groups that the table of positions stays small.
const GROUP_ROWS: u64 = 1 << 18;
const GROUPS_MAX: u64 = 1 << 10;

/// Rows to be made into mini-batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Where the parts lie.
    pub(crate) place: &'a Place,
    /// What names them.
    pub(crate) named_by: &'a str,
    /// Their form.
    pub(crate) form: Form,
    /// The parts, in row order.
    pub(crate) parts: &'a [Object],
    /// Folder for temporary data.
    pub(crate) temp_dir: &'a Path,
    /// Rows of a mini-batch, at most.
    pub(crate) batch_rows: usize,
}

impl Rows<'_> {
    /// Decodes a part.
    ///
    /// # Errors
    /// When it is missing or damaged.
    fn read(&self, part: &Object, rows: &mut ClickRows) -> Result<(), Error> {
        interrupt::check()?;
        let corrupt = |problem| manifests::Error::Corrupt { place: self.place.show(&part.key), problem };
        let bytes = load::object(self.place, part, self.named_by)?;
        clicks::decode(self.form, bytes, rows).map_err(corrupt)?;
        if rows.len as u64 != part.rows {
            return Err(corrupt(format!("it has {} rows, `{}` says {}", rows.len, self.named_by, part.rows)).into());
        }
        Ok(())
    }
}

/// Puts the rows in `order` and hands each mini-batch, with its number and how many rows it has, to `put`.
///
/// # Errors
/// When a part cannot be read, temporary data not kept, or a mini-batch not written, or a signal arrives.
pub(crate) fn write(
    rows: Rows<'_>,
    order: Order,
    console: &Console,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<Object, Error> + Sync,
) -> Result<Vec<Object>, Error> {
    write_buckets(rows, order, BUCKET_ROWS, console, put)
}

fn write_buckets(
    rows: Rows<'_>,
    order: Order,
    bucket_rows: usize,
    console: &Console,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<Object, Error> + Sync,
) -> Result<Vec<Object>, Error> {
    let total: u64 = rows.parts.iter().map(|part| part.rows).sum();
    let Order::Shuffled(seed) = order else {
        let progress = console.progress("writing", Some(total), "rows");
        let written = window::write(rows, &Parts(rows), &progress, put);
        progress.finish();
        return written;
    };
    let progress = console.progress("reading", Some(total), "rows");
    let shuffled = Shuffled::make(rows, seed, total, bucket_rows, &progress);
    progress.finish();
    let shuffled = shuffled?;
    let progress = console.progress("writing", Some(total), "rows");
    let written = window::write(rows, &shuffled, &progress, put);
    progress.finish();
    written
}

/// Rows in the order of the parts.
struct Parts<'a>(Rows<'a>);

impl Source for Parts<'_> {
    fn sizes(&self) -> Vec<usize> {
        self.0.parts.iter().map(|part| part.rows as usize).collect()
    }

    fn fill(&self, part: usize, buffers: &mut Buffers, words: &mut [u32]) -> Result<(), Error> {
        self.0.read(&self.0.parts[part], &mut buffers.rows)?;
        words::pack(self.0.form, &buffers.rows, 0..buffers.rows.len, words);
        Ok(())
    }
}

/// Shuffled rows: bucket after bucket.
struct Shuffled {
    buckets: Buckets,
    starts: Vec<u32>,
    spill: Spill,
}

impl Shuffled {
    /// Reads all rows and puts them where their buckets lie.
    fn make(rows: Rows<'_>, seed: u64, total: u64, bucket_rows: usize, progress: &Progress) -> Result<Self, Error> {
        let spill = Spill::create(rows.temp_dir, words::width(rows.form))?;
        let groups = groups(rows.parts, GROUP_ROWS.max(total.div_ceil(GROUPS_MAX)));
        let ranges: Vec<Range<u32>> = groups.iter().map(|(range, _)| range.clone()).collect();
        let n_rows = ranges.last().map_or(0, |last| last.end);
        let buckets = Buckets::new(seed, n_rows, bucket_rows);
        let positions = buckets.positions(&ranges);
        scatter::scatter(rows, &buckets, groups, positions.cursors, &spill, progress)?;
        Ok(Self { buckets, starts: positions.starts, spill })
    }
}

impl Source for Shuffled {
    fn sizes(&self) -> Vec<usize> {
        self.starts.windows(2).map(|bounds| (bounds[1] - bounds[0]) as usize).collect()
    }

    fn fill(&self, bucket: usize, buffers: &mut Buffers, words: &mut [u32]) -> Result<(), Error> {
        interrupt::check()?;
        buffers.words.resize(words.len(), 0);
        self.spill.read(self.starts[bucket], &mut buffers.words)?;
        let order = &mut buffers.order;
        order.clear();
        order.extend(0..self.starts[bucket + 1] - self.starts[bucket]);
        self.buckets.shuffle_one(bucket, order);
        let width = self.spill.width();
        for (to, &row) in words.chunks_exact_mut(width).zip(order.iter()) {
            to.copy_from_slice(&buffers.words[row as usize * width..][..width]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
