//! The order of click rows against its definition, with buckets so small that there are several.

use clap::Parser;
use manifests::clicks::{MISSING_BUCKET, MISSING_NUMBER};
use manifests::digest::digest;
use proptest::prelude::*;
use random::Stream;

use super::*;
use crate::cli::Cli;

const FORMS: [Form; 4] = [
    Form { labelled: true, n_buckets: Some(1000) },
    Form { labelled: false, n_buckets: Some(u32::MAX) },
    Form { labelled: true, n_buckets: None },
    Form { labelled: false, n_buckets: None },
];

/// A row's cells as bits.
type Cells = Vec<u32>;

/// The cells of row number `row`; of which each kind of missing one is drawn, and numbers that a conversion would not keep.
fn cells(form: Form, row: u64) -> Cells {
    let mut draw = Stream::new(5, "cells").at(row);
    let mut cells = Vec::new();
    if form.labelled {
        cells.push((draw.below(2) as f32).to_bits());
    }
    for _ in 0..13 {
        let number = [row as f32, -0.0, f32::MIN_POSITIVE / 8.0, draw.unit() as f32][draw.below(4) as usize];
        let missing = form.is_sparse() && draw.below(3) == 0;
        cells.push(if missing { MISSING_NUMBER } else { number }.to_bits());
    }
    if let Some(n) = form.n_buckets {
        cells.extend((0..26).map(|_| if draw.below(3) == 0 { MISSING_BUCKET } else { draw.below(n.into()) as u32 }));
    }
    cells
}

fn to_rows(form: Form, cells: &[Cells]) -> ClickRows {
    let mut rows = ClickRows { len: cells.len(), ..ClickRows::default() };
    for row in cells {
        let mut next = row.iter().copied();
        let mut cell = || next.next().unwrap();
        if form.labelled {
            rows.labels.push(f32::from_bits(cell()));
        }
        rows.numbers.iter_mut().for_each(|column| column.push(f32::from_bits(cell())));
        if form.is_sparse() {
            rows.buckets.iter_mut().for_each(|column| column.push(cell()));
        }
    }
    rows
}

fn to_cells(form: Form, rows: &ClickRows) -> Vec<Cells> {
    let row = |i: usize| {
        let label = form.labelled.then(|| rows.labels[i].to_bits());
        let numbers = rows.numbers.iter().map(|column| column[i].to_bits());
        let buckets = rows.buckets.iter().filter(|_| form.is_sparse()).map(|column| column[i]);
        label.into_iter().chain(numbers).chain(buckets).collect()
    };
    (0..rows.len).map(row).collect()
}

/// Rows in parts of the given sizes, in a folder of their own.
struct Prepared {
    folder: tempfile::TempDir,
    form: Form,
    cells: Vec<Cells>,
    parts: Vec<Object>,
}

impl Prepared {
    fn new(form: Form, sizes: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
        let mut cells = Vec::new();
        let mut parts = Vec::new();
        for &rows in sizes {
            let first = cells.len() as u64;
            cells.extend((first..first + rows).map(|row| self::cells(form, row)));
            let bytes = clicks::encode(form, &to_rows(form, &cells[first as usize..]));
            let key = format!("part-{}", parts.len());
            parts.push(Object { key: key.clone(), rows, bytes: bytes.len() as u64, digest: digest(&bytes) });
            place.put(&key, bytes).unwrap();
        }
        Self { folder, form, cells, parts }
    }

    /// The mini-batches, on some number of threads.
    fn batches(&self, order: Order, bucket_rows: usize, batch_rows: usize, threads: usize) -> Vec<Vec<u8>> {
        let place = Place::parse(self.folder.path().to_str().unwrap()).unwrap();
        let console = Console::new(&Cli::parse_from(["shard", "--batch", "1", "--quiet"]).messages);
        let temp_dir = std::env::temp_dir();
        let (form, parts) = (self.form, &self.parts[..]);
        let rows = Rows { place: &place, named_by: "test", form, parts, temp_dir: &temp_dir, batch_rows };
        let made = std::sync::Mutex::new(std::collections::BTreeMap::new());
        let put = |batch: usize, bytes: Vec<u8>, rows: u64| {
            let object = Object { key: batch.to_string(), rows, bytes: bytes.len() as u64, digest: digest(&bytes) };
            assert_eq!(made.lock().unwrap().insert(batch, bytes), None, "every batch is made once");
            Ok(object)
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let objects = pool.install(|| write_buckets(rows, order, bucket_rows, &console, put)).unwrap();
        let made = made.into_inner().unwrap();
        assert!(made.keys().copied().eq(0..objects.len()));
        assert!(objects.iter().zip(made.values()).all(|(object, bytes)| object.digest == digest(bytes)));
        made.into_values().collect()
    }

    fn rows_of(&self, batches: Vec<Vec<u8>>) -> Vec<Vec<Cells>> {
        let read = |bytes: Vec<u8>| {
            let mut rows = ClickRows::default();
            clicks::decode(self.form, bytes.into(), &mut rows).unwrap();
            to_cells(self.form, &rows)
        };
        batches.into_iter().map(read).collect()
    }
}

/// Sandelius's procedure, row by row.
fn shuffled(seed: u64, rows: &[Cells], bucket_rows: usize) -> Vec<Cells> {
    let stream = Stream::new(seed, "shuffle");
    let count = rows.len().div_ceil(bucket_rows).next_power_of_two();
    let mut buckets = vec![Vec::new(); count];
    for (i, row) in rows.iter().enumerate() {
        buckets[((u128::from(stream.word(i as u64)) * count as u128) >> 64) as usize].push(row.clone());
    }
    buckets.iter_mut().enumerate().for_each(|(b, bucket)| stream.at(b as u64).shuffle(bucket));
    buckets.concat()
}

fn check(form: Form, sizes: &[u64], bucket_rows: usize, batch_rows: usize, seed: u64) {
    let prepared = Prepared::new(form, sizes);
    let expected = shuffled(seed, &prepared.cells, bucket_rows);
    for (order, expected) in [(Order::Shuffled(seed), expected), (Order::Kept, prepared.cells.clone())] {
        let batches = prepared.batches(order, bucket_rows, batch_rows, 1);
        for threads in [2, 7] {
            let found = prepared.batches(order, bucket_rows, batch_rows, threads);
            assert!(found == batches, "{order:?}, {threads} threads: the same bytes");
        }
        let found = prepared.rows_of(batches);
        let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(sizes.len(), prepared.cells.len().div_ceil(batch_rows));
        assert!(sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0) <= 1, "{sizes:?}");
        assert!(found.concat() == expected, "{order:?}: the rows as the definition has them");
    }
}

#[test]
fn sizes_around_a_batch_keep_every_row() {
    for form in FORMS {
        for rows in [0, 1, 49, 50, 51] {
            check(form, &[rows], 64, 50, 8);
        }
    }
}

#[test]
fn batches_straddle_buckets_and_parts() {
    // About 16 buckets of 62 rows: batches of less than a bucket, of several, and of everything.
    for form in FORMS {
        for batch_rows in [1, 7, 200, 5000] {
            check(form, &[300, 0, 299, 1, 400], 64, batch_rows, 3);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_order_is_the_definition_s(
        seed: u64,
        form in 0usize..4,
        sizes in proptest::collection::vec(0u64..300, 1..6),
        bucket_rows in 1usize..100,
        batch_rows in 1usize..300,
    ) {
        check(FORMS[form], &sizes, bucket_rows, batch_rows, seed);
    }
}

#[test]
fn windows_of_several_rounds_lose_nothing() {
    // With one thread a window holds 131,072 rows and what it takes to complete its last chunk.
    let form = Form { labelled: true, n_buckets: None };
    let prepared = Prepared::new(form, &[100_000, 70_000, 130_001, 9]);
    for (order, expected) in
        [(Order::Shuffled(1), shuffled(1, &prepared.cells, 8192)), (Order::Kept, prepared.cells.clone())]
    {
        let found = prepared.rows_of(prepared.batches(order, 8192, 6250, 1));
        assert_eq!(found.len(), 49);
        assert!(found.concat() == expected, "{order:?}");
    }
}

#[test]
fn a_folder_for_temporary_data_that_is_not_there_is_told() {
    use schemas::exit::{ErrorKind, Explain};
    let error = Spill::create(Path::new("/nowhere/at/all"), 14).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/at/all: could not create temporary data");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.fix().unwrap().contains("--temp-dir"));
}
