//! Reads parts, each once, and puts every row where its bucket lies: in memory, or, when the rows are too many for that, where
//! its partition lies in a temporary file.
//!
//! A part is given out together with where its rows go, which follows from their numbers alone; so threads need no order
//! between them.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;
use reporting::Progress;

use crate::Error;
use crate::kind::{Kind, TILE_ROWS};
use crate::parts::{Part, Set};
use crate::shuffle::Buckets;
use crate::spill::Spill;
use crate::workers::Workers;

/// All rows in memory. Threads write disjoint words through shared references, which safe Rust allows for atomic cells; a relaxed
/// store is a plain one, and joining the threads makes it visible.
pub(crate) type Words = Vec<AtomicU32>;

/// Rows to be read, the number of the first, and where the next row of each partition goes.
type Claim<'a> = (Part<'a>, u64, Vec<u64>);

/// The parts of `set` in order. `starts` is where each of `2^log2_partitions` partitions begins.
fn claims<'a, K: Kind>(
    set: &'a Set<'_, K>,
    buckets: &Buckets,
    log2_partitions: u32,
    starts: &[u64],
    bytes_ahead: u64,
) -> Result<impl Iterator<Item = Result<Claim<'a>, Error>> + Send, Error> {
    let (buckets, shift) = (buckets.clone(), buckets.log2_count() - log2_partitions);
    let mut next = starts.to_vec();
    let mut row = 0;
    let parts = set.parts(bytes_ahead)?;
    Ok(parts.map(move |part| {
        let part = part?;
        let (first, cursors) = (row, next.clone());
        row += part.rows();
        (first..row).for_each(|row| next[(buckets.of(row) >> shift) as usize] += 1);
        Ok((part, first, cursors))
    }))
}

/// Puts all rows into memory, bucket after bucket. `starts` is where the buckets begin.
///
/// # Errors
/// When a part cannot be read, there is no memory, or a signal arrives.
pub(crate) fn into_memory<K: Kind>(
    set: &Set<'_, K>,
    buckets: &Buckets,
    starts: &[u64],
    (threads, bytes_ahead): (usize, u64),
    progress: &Progress,
) -> Result<Words, Error> {
    struct Thread<K: Kind> {
        columns: K::Columns,
        tile: Vec<u32>,
    }
    let width = set.kind.width();
    let words = allocate(set.origin.rows() as usize * width)?;
    let mut workers =
        Workers::new(threads, || Thread::<K> { columns: K::Columns::default(), tile: vec![0; TILE_ROWS * width] });
    let claims = claims(set, buckets, buckets.log2_count(), starts, bytes_ahead)?;
    workers.run(claims, |Thread { columns, tile }, claim| {
        let (part, mut row, mut cursors) = claim?;
        let rows = part.rows() as usize;
        set.read(part, columns)?;
        for first in (0..rows).step_by(TILE_ROWS) {
            let range = first..rows.min(first + TILE_ROWS);
            let tile = &mut tile[..range.len() * width];
            set.kind.pack(columns, range, tile);
            for cells in tile.chunks_exact(width) {
                let cursor = &mut cursors[buckets.of(row) as usize];
                store(&words[*cursor as usize * width..][..width], cells);
                *cursor += 1;
                row += 1;
            }
        }
        progress.add(rows as u64);
        Ok(())
    })?;
    Ok(words)
}

/// Writes a row. Ratings, of which there are many and which are small, get code of their own.
#[inline]
fn store(words: &[AtomicU32], cells: &[u32]) {
    if let ([a, b, c], [x, y, z]) = (words, cells) {
        a.store(*x, Ordering::Relaxed);
        b.store(*y, Ordering::Relaxed);
        c.store(*z, Ordering::Relaxed);
    } else {
        words.iter().zip(cells).for_each(|(word, &cell)| word.store(cell, Ordering::Relaxed));
    }
}

/// Reads a row, as [`store`] writes it.
#[inline]
pub(crate) fn load(words: &[AtomicU32], cells: &mut [u32]) {
    if let ([a, b, c], [x, y, z]) = (words, &mut *cells) {
        *x = a.load(Ordering::Relaxed);
        *y = b.load(Ordering::Relaxed);
        *z = c.load(Ordering::Relaxed);
    } else {
        cells.iter_mut().zip(words).for_each(|(cell, word)| *cell = word.load(Ordering::Relaxed));
    }
}

fn allocate(len: usize) -> Result<Words, Error> {
    let mut words = Vec::new();
    words
        .try_reserve_exact(len)
        .map_err(|source| Error::System { what: "the memory for all rows", source: Box::new(source) })?;
    words.par_extend((0..len).into_par_iter().map(|_| AtomicU32::new(0)));
    Ok(words)
}

/// What one thread works with that sorts parts by partition, so that there is one write for each and not for each row.
struct Sorting<K: Kind> {
    columns: K::Columns,
    /// The bucket of each row of the part.
    buckets: Vec<u64>,
    /// Where the next row of each partition goes in `sorted`.
    next: Vec<u32>,
    tile: Vec<u32>,
    sorted: Vec<u32>,
}

/// Puts all rows into `spill`, partition after partition, each row with the number of its bucket in its partition behind it.
/// `starts` is where the `2^log2_partitions` partitions begin.
///
/// # Errors
/// When a part cannot be read or temporary data not be written, or a signal arrives.
pub(crate) fn into_file<K: Kind>(
    set: &Set<'_, K>,
    buckets: &Buckets,
    (log2_partitions, starts): (u32, &[u64]),
    spill: &Spill,
    (threads, bytes_ahead): (usize, u64),
    progress: &Progress,
) -> Result<(), Error> {
    let mut workers = Workers::new(threads, || Sorting::<K> {
        columns: K::Columns::default(),
        buckets: Vec::new(),
        next: Vec::new(),
        tile: vec![0; TILE_ROWS * set.kind.width()],
        sorted: Vec::new(),
    });
    let shift = buckets.log2_count() - log2_partitions;
    workers.run(claims(set, buckets, log2_partitions, starts, bytes_ahead)?, |sorting, claim| {
        let (part, first, cursors) = claim?;
        let rows = part.rows();
        set.read(part, &mut sorting.columns)?;
        sorting.buckets.clear();
        sorting.buckets.extend((first..first + rows).map(|row| buckets.of(row)));
        sorting.sort(&set.kind, shift, 1 << log2_partitions);
        sorting.write(cursors, spill)?;
        progress.add(rows);
        Ok(())
    })
}

impl<K: Kind> Sorting<K> {
    /// Puts the part's rows into `sorted` by partition.
    fn sort(&mut self, kind: &K, shift: u32, partitions: usize) {
        let Self { columns, buckets, next, tile, sorted } = self;
        let width = kind.width();
        next.clear();
        next.resize(partitions, 0);
        buckets.iter().for_each(|&bucket| next[(bucket >> shift) as usize] += 1);
        let mut start = 0;
        for next in &mut *next {
            start += std::mem::replace(next, start);
        }
        sorted.resize(buckets.len() * (width + 1), 0);
        let in_partition = (1u64 << shift) - 1;
        for (first, buckets) in (0..).step_by(TILE_ROWS).zip(buckets.chunks(TILE_ROWS)) {
            let tile = &mut tile[..buckets.len() * width];
            kind.pack(columns, first..first + buckets.len(), tile);
            for (cells, &bucket) in tile.chunks_exact(width).zip(buckets) {
                let next = &mut next[(bucket >> shift) as usize];
                let row = &mut sorted[*next as usize * (width + 1)..][..width + 1];
                row[..width].copy_from_slice(cells);
                row[width] = (bucket & in_partition) as u32;
                *next += 1;
            }
        }
    }

    /// Writes the sorted rows of each partition at its cursor.
    fn write(&self, cursors: Vec<u64>, spill: &Spill) -> Result<(), Error> {
        let mut start = 0;
        for (&end, cursor) in self.next.iter().zip(cursors) {
            if start < end {
                let words = start as usize * spill.width()..end as usize * spill.width();
                spill.write(cursor, &self.sorted[words])?;
                start = end;
            }
        }
        Ok(())
    }
}
