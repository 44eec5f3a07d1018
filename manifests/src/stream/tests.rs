//! What goes in comes out, for every kind of rows; and whatever is wrong with a stream is told.

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader as ArrowReader;
use bytes::Bytes;
use proptest::prelude::*;
use schemas::dataset::{Descriptor, Layout, Object};
use schemas::exit::{ErrorKind, Explain};

use super::*;
use crate::Error;
use crate::clicks::{ClickRows, MISSING_BUCKET, MISSING_NUMBER};
use crate::digest::digest;
use crate::ratings::RatingRows;

/// The descriptor of a fixture as it goes through a pipe, with `rows` rows of each sort, and its tables.
fn dataset(name: &str, rows: [u64; 2]) -> (Descriptor, Vec<Bytes>) {
    let path = format!("{}/fixtures/v1/{name}/dataset.json", env!("CARGO_MANIFEST_DIR"));
    let mut descriptor: Descriptor = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    descriptor.parts.clear();
    descriptor.holdout_parts.clear();
    (descriptor.rows.train, descriptor.rows.holdout) = (rows[0], rows[1]);
    descriptor.rows.read = rows[0] + rows[1] + descriptor.rows.rejected + descriptor.rows.filtered;
    let tables: Vec<Bytes> =
        descriptor.layout.tables().iter().map(|(name, _)| Bytes::from(format!("the table {name}"))).collect();
    let layout = descriptor.layout.clone();
    let objects = layout.tables().into_iter().zip(&tables).map(|((name, table), bytes)| Object {
        key: name.to_owned(),
        rows: table.rows,
        bytes: bytes.len() as u64,
        digest: digest(bytes),
    });
    let objects = objects.collect();
    descriptor.layout = layout.with_tables(objects);
    (descriptor, tables)
}

fn clicks(form: Form, from: usize, rows: usize) -> ClickRows {
    let mut out = ClickRows { len: rows, ..ClickRows::default() };
    let missing = |i: usize, column: usize| form.is_sparse() && (i * 7 + column * 3).is_multiple_of(column + 2);
    if form.labelled {
        out.labels = (from..from + rows).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
    }
    for (column, numbers) in out.numbers.iter_mut().enumerate() {
        let number = |i| if missing(i, column) { MISSING_NUMBER } else { i as f32 * 0.25 - column as f32 };
        *numbers = (from..from + rows).map(number).collect();
    }
    for (column, buckets) in out.buckets.iter_mut().enumerate().take(form.categorical()) {
        let n = form.n_buckets.unwrap() as usize;
        let bucket = |i| if missing(i, column) { MISSING_BUCKET } else { ((i * 31 + column) % n) as u32 };
        *buckets = (from..from + rows).map(bucket).collect();
    }
    out
}

fn bits(rows: &ClickRows) -> Vec<Vec<u32>> {
    let floats = std::iter::once(&rows.labels).chain(&rows.numbers);
    let floats = floats.map(|column| column.iter().map(|x| x.to_bits()).collect());
    floats.chain(rows.buckets.iter().cloned()).collect()
}

fn join(all: &mut ClickRows, more: &ClickRows) {
    all.len += more.len;
    all.labels.extend(&more.labels);
    all.numbers.iter_mut().zip(&more.numbers).for_each(|(all, column)| all.extend(column));
    all.buckets.iter_mut().zip(&more.buckets).for_each(|(all, column)| all.extend(column));
}

/// A whole stream of a click log, written in pieces of `pieces` rows.
fn click_stream(name: &str, rows: [u64; 2], pieces: usize) -> (Vec<u8>, Form) {
    let (descriptor, tables) = dataset(name, rows);
    let form = Form::of(&descriptor.layout).unwrap();
    let mut encoder = Encoder::new(Kind::of(&descriptor.layout));
    let mut writer = StreamWriter::begin(Vec::new(), &descriptor, &tables).unwrap();
    for (sort, rows) in rows.into_iter().enumerate() {
        if sort == 1 && rows > 0 {
            writer.begin_holdout().unwrap();
        }
        for from in (0..rows as usize).step_by(pieces) {
            writer.write(&encoder.clicks(clicks(form, from, pieces.min(rows as usize - from)))).unwrap();
        }
    }
    assert_eq!(writer.written(), rows.iter().sum::<u64>());
    (writer.finish().unwrap(), form)
}

/// All rows of a stream of a click log, or why not.
fn read_clicks(bytes: &[u8]) -> Result<[ClickRows; 2], Error> {
    let mut reader = StreamReader::open(bytes)?;
    let mut all = [ClickRows::default(), ClickRows::default()];
    let mut rows = ClickRows::default();
    while let Some(batch) = reader.next_batch()? {
        let all = &mut all[batch.sort as usize];
        assert_eq!(batch.first_row, all.len as u64);
        batch.clicks(&mut rows)?;
        assert_eq!(rows.len, batch.rows);
        join(all, &rows);
    }
    assert!(reader.next_batch()?.is_none());
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn click_logs_come_through(train in 1u64..3000, holdout in 0u64..700, pieces in 1usize..1500, sparse: bool) {
        let name = if sparse { "sparse" } else { "dense" };
        let (bytes, form) = click_stream(name, [train, holdout], pieces);
        let found = read_clicks(&bytes).unwrap();
        for (found, rows) in found.iter().zip([train, holdout]) {
            let mut expected = clicks(form, 0, rows as usize);
            expected.len = rows as usize;
            prop_assert_eq!(bits(found), bits(&expected));
        }
        // What any reader of Arrow streams makes of it: the training rows.
        let plain: Vec<RecordBatch> =
            ArrowReader::try_new(&bytes[..], None).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(plain.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, train);
    }

    #[test]
    fn ratings_come_through(
        cells in proptest::collection::vec((0u32..2, 0u32..3, -5.0f32..5.0), 1..400),
        held in 0usize..200,
    ) {
        let held = held.min(cells.len() - 1);
        let split = [&cells[held..], &cells[..held]];
        let (descriptor, tables) = dataset(".", split.map(|rows| rows.len() as u64));
        let rows = split.map(|cells| {
            let mut rows = RatingRows::default();
            cells.iter().for_each(|&(user, item, rating)| rows.push(user, item, rating));
            rows
        });
        let mut encoder = Encoder::new(Kind::of(&descriptor.layout));
        let mut writer = StreamWriter::begin(Vec::new(), &descriptor, &tables).unwrap();
        writer.write(&encoder.ratings(rows[0].clone())).unwrap();
        if held > 0 {
            writer.begin_holdout().unwrap();
            writer.write(&encoder.ratings(rows[1].clone())).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = StreamReader::open(&bytes[..]).unwrap();
        prop_assert_eq!(reader.descriptor(), &descriptor);
        prop_assert_eq!(reader.tables(), &tables[..]);
        let mut found = [RatingRows::default(), RatingRows::default()];
        let mut buffer = RatingRows::default();
        while let Some(batch) = reader.next_batch().unwrap() {
            batch.ratings(&mut buffer).unwrap();
            found[batch.sort as usize].users.extend(&buffer.users);
            found[batch.sort as usize].items.extend(&buffer.items);
            found[batch.sort as usize].ratings.extend(&buffer.ratings);
        }
        prop_assert_eq!(found, rows);
    }
}

#[test]
fn large_pieces_are_cut_and_the_bytes_are_the_same_again() {
    let rows = BATCH_ROWS as u64 * 2 + 5;
    let (bytes, form) = click_stream("dense", [rows, 0], usize::MAX >> 1);
    assert_eq!(click_stream("dense", [rows, 0], usize::MAX >> 1).0, bytes);
    let mut reader = StreamReader::open(&bytes[..]).unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        sizes.push(batch.rows);
    }
    assert_eq!(sizes, [BATCH_ROWS, BATCH_ROWS, 5]);
    assert_eq!(bits(&read_clicks(&bytes).unwrap()[0]), bits(&clicks(form, 0, rows as usize)));
}

#[test]
fn a_stream_that_ends_early_is_no_smaller_dataset() {
    let (bytes, _) = click_stream("sparse", [70, 20], 30);
    read_clicks(&bytes).unwrap();
    let mut counts = std::collections::BTreeSet::new();
    for len in 0..bytes.len() {
        let error = read_clicks(&bytes[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{len}: {error}");
        let text = error.to_string();
        match text.strip_prefix("standard input: ended after ").and_then(|rest| rest.strip_suffix(" of 90 rows")) {
            Some(count) => drop(counts.insert(count.parse::<u64>().unwrap())),
            None => assert_eq!(text, "standard input: ended before the first row", "{len}"),
        }
    }
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [0, 30, 60, 70, 90]);
    let mut more = bytes;
    more.push(0);
    let error = read_clicks(&more).unwrap_err().to_string();
    assert!(error.ends_with("something follows the last row"), "{error}");
}

#[test]
fn what_is_no_stream_or_breaks_a_rule_is_told() {
    let problem = |bytes: &[u8]| read_clicks(bytes).unwrap_err().to_string();
    assert_eq!(
        problem(b"1\t2\t3\n1\t2\t3\n"),
        "standard input: not a stream of rows from `prep`: it is no Arrow IPC stream"
    );
    let (form, missing) = (Form { labelled: true, n_buckets: Some(50) }, "its schema has no `gristmill.stream`");
    let schema = Kind::Clicks(form).schema(HashMap::new());
    let foreign = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &schema).unwrap().into_inner().unwrap();
    assert!(problem(&foreign).ends_with(missing), "{}", problem(&foreign));

    let (descriptor, tables) = dataset("sparse", [3, 0]);
    let n_buckets = Form::of(&descriptor.layout).unwrap().n_buckets.unwrap();
    let kind = Kind::of(&descriptor.layout);
    let stream = |descriptor: &Descriptor, change: &dyn Fn(&mut ClickRows)| {
        let Kind::Clicks(form) = kind else { panic!("these are clicks") };
        let mut rows = clicks(form, 100, 3);
        change(&mut rows);
        let mut writer = StreamWriter::begin(Vec::new(), descriptor, &tables).unwrap();
        writer.write(&Encoder::new(kind).clicks(rows)).unwrap();
        writer.finish().unwrap()
    };
    for (change, expected) in [
        (&(|rows: &mut ClickRows| rows.labels[1] = 2.0) as &dyn Fn(&mut ClickRows), "label is 2, neither 0 nor 1"),
        (&|rows| rows.numbers[4][1] = f32::INFINITY, "I5 is inf, not a finite number"),
        (&|rows| rows.buckets[25][1] = 50, "C26 is 50, not below the number of buckets, 50"),
    ] {
        assert_eq!(n_buckets, 50);
        assert_eq!(problem(&stream(&descriptor, change)), format!("standard input: train row 1: {expected}"));
    }
    for change in [
        (|d: &mut Descriptor| d.version = 9) as fn(&mut Descriptor),
        |d| d.rows.rejected = 7,
        |d| d.name = "a b".to_owned(),
        |d| {
            let object = d.layout.tables().first().map(|(_, table)| (*table).clone()).unwrap();
            d.parts.push(object);
        },
    ] {
        let mut descriptor = descriptor.clone();
        change(&mut descriptor);
        let error = read_clicks(&stream(&descriptor, &|_| {})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    let mut damaged = descriptor.clone();
    let Layout::Sparse(sparse) = &mut damaged.layout else { panic!("this is sparse") };
    sparse.scales.as_mut().unwrap().digest = digest(b"other");
    assert!(problem(&stream(&damaged, &|_| {})).starts_with("standard input, scales.parquet: its digest is"));
}

#[test]
fn damaged_streams_never_panic() {
    let (bytes, _) = click_stream("sparse", [40, 9], 40);
    let mut told = 0;
    for position in 0..bytes.len() {
        for value in [0, 0x7f, 0xff, bytes[position] ^ 1] {
            let mut bytes = bytes.clone();
            bytes[position] = value;
            told += usize::from(read_clicks(&bytes).is_err());
        }
    }
    assert!(told > 1000, "{told}");
}
