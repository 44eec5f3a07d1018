//! Sparse rows into the bytes of a pipe and back, on one thread.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use divan::Bencher;
use divan::counter::ItemsCount;
use manifests::clicks::{ClickRows, Form};
use manifests::stream::{Encoder, Kind, StreamReader, StreamWriter};
use schemas::dataset::Descriptor;

const ROWS: usize = 1 << 17;

fn main() {
    divan::main();
}

fn descriptor() -> Descriptor {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/v1/sparse/dataset.json");
    let mut descriptor: Descriptor = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    descriptor.parts.clear();
    descriptor.holdout_parts.clear();
    (descriptor.rows.train, descriptor.rows.holdout) = (ROWS as u64, 0);
    descriptor.rows.read = ROWS as u64 + descriptor.rows.rejected + descriptor.rows.filtered;
    // Without its table, which is of no interest here.
    if let schemas::dataset::Layout::Sparse(sparse) = &mut descriptor.layout {
        sparse.scales = None;
    }
    descriptor
}

fn rows() -> ClickRows {
    let mut rows = ClickRows { len: ROWS, labels: vec![1.0; ROWS], ..ClickRows::default() };
    let missing = |i: usize, column: usize| (i * 7 + column).is_multiple_of(column + 3);
    for (column, out) in rows.numbers.iter_mut().enumerate() {
        *out = (0..ROWS).map(|i| if missing(i, column) { f32::NAN } else { i as f32 }).collect();
    }
    for (column, out) in rows.buckets.iter_mut().enumerate() {
        *out = (0..ROWS).map(|i| if missing(i, column) { u32::MAX } else { (i % 50) as u32 }).collect();
    }
    rows
}

fn written() -> Vec<u8> {
    let descriptor = descriptor();
    let kind = Kind::Clicks(Form::of(&descriptor.layout).unwrap());
    let mut writer = StreamWriter::begin(Vec::new(), &descriptor, &[]).unwrap();
    writer.write(&Encoder::new(kind).clicks(rows())).unwrap();
    writer.finish().unwrap()
}

#[divan::bench]
fn write(bencher: Bencher<'_, '_>) {
    let descriptor = descriptor();
    let kind = Kind::of(&descriptor.layout);
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(rows).bench_local_values(|rows| {
        let mut writer = StreamWriter::begin(std::io::sink(), &descriptor, &[]).unwrap();
        writer.write(&Encoder::new(kind).clicks(rows)).unwrap();
        writer.finish().unwrap()
    });
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let bytes = written();
    let mut rows = ClickRows::default();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut reader = StreamReader::open(&bytes[..]).unwrap();
        while let Some(batch) = reader.next_batch().unwrap() {
            batch.clicks(&mut rows).unwrap();
        }
    });
}
