//! Cuts rows into mini-batches while they come: a window of consecutive rows moves over them, and what is left behind the
//! last whole mini-batch is carried over to the next window.

use reporting::{Progress, interrupt};
use schemas::dataset::Object;

use crate::Error;
use crate::cuts::Cuts;
use crate::kind::Kind;
use crate::memory::Share;
use crate::parts::{InTurn, Origin, Part, Set};
use crate::workers::Workers;

/// Rows that come in chunks, in order.
pub(crate) trait Source: Sync {
    /// What one thread works with.
    type Buffers: Default + Send;

    /// How many rows each chunk has.
    fn sizes(&self) -> Vec<usize>;

    /// Whether the chunks can only be had one after the other.
    fn in_turn(&self) -> bool {
        false
    }

    /// Puts the rows of chunk number `chunk` into `words`.
    ///
    /// # Errors
    /// When they cannot be read, or a signal arrives.
    fn fill(&self, chunk: usize, buffers: &mut Self::Buffers, words: &mut [u32]) -> Result<(), Error>;
}

/// The rows of a set in the order of its parts.
pub(crate) enum Kept<'a, K: Kind> {
    /// Stored ones.
    Stored(&'a Set<'a, K>, &'a [Object]),
    /// Those that a pipe brings.
    Piped(InTurn<'a, K>),
}

impl<'a, K: Kind> Kept<'a, K> {
    /// The rows of `set`.
    pub(crate) fn new(set: &'a Set<'a, K>) -> Self {
        match set.origin {
            Origin::Stored { parts, .. } => Self::Stored(set, parts),
            Origin::Piped(pipe, _) => Self::Piped(InTurn::new(set, pipe)),
        }
    }
}

impl<K: Kind> Source for Kept<'_, K> {
    type Buffers = K::Columns;

    fn sizes(&self) -> Vec<usize> {
        match self {
            Self::Stored(_, parts) => parts.iter().map(|part| part.rows as usize).collect(),
            Self::Piped(rows) => rows.sizes(),
        }
    }

    fn in_turn(&self) -> bool {
        matches!(self, Self::Piped(_))
    }

    fn fill(&self, chunk: usize, columns: &mut K::Columns, words: &mut [u32]) -> Result<(), Error> {
        match self {
            Self::Stored(set, parts) => {
                let part = &parts[chunk];
                set.read(Part::Stored(part), columns)?;
                set.kind.pack(columns, 0..part.rows as usize, words);
                Ok(())
            }
            Self::Piped(rows) => rows.fill(words),
        }
    }
}

/// Hands the rows of `source`, as encoded mini-batches of at most `batch_rows` rows, to `put`, with the number of the mini-batch and
/// of its rows.
///
/// # Errors
/// Those of `source` and `put`, or a signal.
pub(crate) fn write<K: Kind, S: Source>(
    kind: &K,
    source: &S,
    batch_rows: usize,
    share: &Share,
    progress: &Progress,
    put: impl Fn(usize, Vec<u8>, u64) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let sizes = source.sizes();
    let cuts = Cuts::new(sizes.iter().sum(), batch_rows);
    let width = kind.width();
    let mut workers = Workers::new(share.writing_threads, || (S::Buffers::default(), kind.encoder()));
    let mut written = 0;
    let mut window: Vec<u32> = Vec::new();
    let (mut chunk, mut first, mut end) = (0, 0, 0);
    while chunk < sizes.len() {
        let from = chunk;
        while chunk < sizes.len() && (chunk == from || end + sizes[chunk] - first <= share.window_rows) {
            end += sizes[chunk];
            chunk += 1;
        }
        let carried = window.len();
        // Not more than is needed: what a vector grows by on its own would be half of it again.
        window.reserve_exact((end - first) * width - carried);
        window.resize((end - first) * width, 0);
        let mut free = &mut window[carried..];
        let slots = sizes[from..chunk].iter().zip(from..).map(|(size, chunk)| {
            let slot = free.split_off_mut(..size * width).expect("the window has room for its chunks");
            (chunk, slot)
        });
        let at_once = if source.in_turn() { 1 } else { share.writing_threads };
        workers.run_some(at_once, slots, |(buffers, _), (chunk, slot)| source.fill(chunk, buffers, slot))?;

        let ready = (written..cuts.count()).take_while(|&batch| cuts.range(batch).end <= end).count();
        workers.run(written..written + ready, |(_, encoder), batch| {
            interrupt::check()?;
            let range = cuts.range(batch);
            let bytes = kind.encode(&window[(range.start - first) * width..(range.end - first) * width], encoder);
            let count = range.len() as u64;
            put(batch, bytes, count)?;
            progress.add(count);
            Ok(())
        })?;
        written += ready;
        let used = if written < cuts.count() { cuts.range(written).start } else { end };
        window.drain(..(used - first) * width);
        first = used;
    }
    assert_eq!((written, first), (cuts.count(), end), "every row is in one batch");
    Ok(())
}
