//! The order of rows against its definition, in memory and in a file, with buckets so small that there are several.

use manifests::clicks::{self, ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER};
use manifests::digest::digest;
use manifests::place::Place;
use manifests::ratings::{self, RatingRows};
use proptest::prelude::*;
use random::Stream;
use schemas::dataset::Object;

use super::*;
use crate::kind::{Clicks, RatingKind};
use crate::spill::Spill;

/// The order that rows are put in.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// That of the parts.
    Kept,
    /// Shuffled with this seed.
    Shuffled(u64),
}

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

    /// The mini-batches, on some number of threads. In a file there are `2^log2_partitions` partitions, or as many as buckets.
    fn batches(
        &self,
        order: Order,
        (bucket_rows, batch_rows): (u64, u64),
        threads: usize,
        log2_partitions: Option<u32>,
    ) -> Vec<Vec<u8>> {
        let place = Place::parse(self.folder.path().to_str().unwrap()).unwrap();
        let set = Set {
            kind: Clicks(self.form),
            origin: Origin::Stored { place: &place, named_by: "test", parts: &self.parts },
        };
        batches(&set, order, (bucket_rows, batch_rows), threads, log2_partitions)
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

fn batches<K: Kind>(
    set: &Set<'_, K>,
    order: Order,
    (bucket_rows, batch_rows): (u64, u64),
    threads: usize,
    log2_partitions: Option<u32>,
) -> Vec<Vec<u8>> {
    let console = Console::silent();
    let made = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let put = |batch: usize, bytes: Vec<u8>, rows: u64| {
        assert_eq!(made.lock().unwrap().insert(batch, (bytes, rows)), None, "every batch is made once");
        Ok(())
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let share = Share { shuffled: None, reading_threads: threads, writing_threads: threads, window_rows: 1000 };
    let written = pool.install(|| match order {
        Order::Kept => cut(&set.kind, &Kept::new(set), batch_rows, &share, &console, put),
        Order::Shuffled(seed) => {
            let buckets = Buckets::new(seed, set.origin.rows(), bucket_rows);
            let place = log2_partitions.map_or(Where::Memory, |log2_partitions| Where::File {
                log2_partitions: log2_partitions.min(buckets.log2_count()),
            });
            let shuffled = shuffle(set, buckets, place, (threads, 1 << 20), &std::env::temp_dir(), &console).unwrap();
            cut(&set.kind, &shuffled, batch_rows, &share, &console, put)
        }
    });
    written.unwrap();
    let made = made.into_inner().unwrap();
    assert!(made.keys().copied().eq(0..made.len()));
    assert_eq!(made.values().map(|(_, rows)| rows).sum::<u64>(), set.origin.rows());
    made.into_values().map(|(bytes, _)| bytes).collect()
}

/// Sandelius's procedure, row by row.
fn shuffled<T: Clone>(seed: u64, rows: &[T], bucket_rows: u64) -> Vec<T> {
    let stream = Stream::new(seed, "shuffle");
    let count = rows.len().div_ceil(bucket_rows as usize).next_power_of_two();
    let mut buckets = vec![Vec::new(); count];
    for (i, row) in rows.iter().enumerate() {
        buckets[((u128::from(stream.word(i as u64)) * count as u128) >> 64) as usize].push(row.clone());
    }
    buckets.iter_mut().enumerate().for_each(|(b, bucket)| stream.at(b as u64).shuffle(bucket));
    buckets.concat()
}

fn check(form: Form, sizes: &[u64], bucket_rows: u64, batch_rows: u64, seed: u64) {
    let prepared = Prepared::new(form, sizes);
    let expected = shuffled(seed, &prepared.cells, bucket_rows);
    for (order, expected) in [(Order::Shuffled(seed), expected), (Order::Kept, prepared.cells.clone())] {
        let batches = prepared.batches(order, (bucket_rows, batch_rows), 1, None);
        for (threads, partitions) in [(2, None), (1, Some(0)), (3, Some(2)), (7, Some(60))] {
            let found = prepared.batches(order, (bucket_rows, batch_rows), threads, partitions);
            assert!(found == batches, "{order:?}, {threads} threads, partitions {partitions:?}: the same bytes");
        }
        let found = prepared.rows_of(batches);
        let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(sizes.len(), prepared.cells.len().div_ceil(batch_rows as usize));
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
        bucket_rows in 1u64..100,
        batch_rows in 1u64..300,
    ) {
        check(FORMS[form], &sizes, bucket_rows, batch_rows, seed);
    }
}

#[test]
fn ratings_go_the_same_way_and_are_sorted_in_their_batch() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
    let mut draw = Stream::new(1, "ratings");
    let mut all = Vec::new();
    let mut parts = Vec::new();
    for rows in [400u64, 1, 0, 730] {
        let mut part = RatingRows::default();
        for _ in 0..rows {
            let row = (draw.below(30) as u32, draw.below(20) as u32, draw.below(10) as f32);
            part.push(row.0, row.1, row.2);
            all.push((row.0, row.1, row.2.to_bits()));
        }
        let bytes = ratings::encode(&part);
        let key = format!("part-{}", parts.len());
        parts.push(Object { key: key.clone(), rows, bytes: bytes.len() as u64, digest: digest(&bytes) });
        place.put(&key, bytes).unwrap();
    }
    let origin = Origin::Stored { place: &place, named_by: "test", parts: &parts };
    let set = Set { kind: RatingKind { n_users: 30, n_items: 20 }, origin };
    let found = batches(&set, Order::Shuffled(5), (64, 100), 1, None);
    for (threads, partitions) in [(2, None), (1, Some(0)), (2, Some(3)), (3, Some(60))] {
        assert!(batches(&set, Order::Shuffled(5), (64, 100), threads, partitions) == found, "{threads} {partitions:?}");
    }
    let mut expected = shuffled(5, &all, 64);
    let mut rows = RatingRows::default();
    for batch in found {
        ratings::decode(batch.into(), &mut rows).unwrap();
        let batch: Vec<_> =
            (0..rows.len()).map(|i| (rows.users[i], rows.items[i], rows.ratings[i].to_bits())).collect();
        let rest = expected.split_off(batch.len());
        expected.sort_unstable();
        assert!(batch == expected, "the batch's rows as the definition has them, sorted");
        expected = rest;
    }
    assert!(expected.is_empty());
}

#[test]
fn a_folder_for_temporary_data_that_is_not_there_is_told() {
    use schemas::exit::{ErrorKind, Explain};
    let error = Spill::create(Path::new("/nowhere/at/all"), 14).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/at/all: could not create temporary data");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.fix().unwrap().contains("--temp-dir"));
}
