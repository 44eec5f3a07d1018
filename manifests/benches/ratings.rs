//! Encoding and decoding of a mini-batch, for the encodings and compressions that were considered.
//!
//! `cargo bench --workspace --bench ratings`. Sizes are printed first; throughput is in rows.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and ends where it cannot go on")]

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use manifests::ratings::{self, RatingRows};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{FloatType, Int32Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

/// Rows of a mini-batch.
const ROWS: usize = 12_000;

/// How a column is written.
#[derive(Clone, Copy, Debug)]
enum Column {
    Plain,
    Delta,
    Dictionary,
}

/// A way to write a mini-batch: its name, the columns user, item and rating, and the compression.
type Way = (&'static str, [Column; 3], Compression);

fn ways() -> Vec<Way> {
    use Column::{Delta, Dictionary, Plain};
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    vec![
        ("plain plain plain", [Plain, Plain, Plain], Compression::UNCOMPRESSED),
        ("delta plain plain", [Delta, Plain, Plain], Compression::UNCOMPRESSED),
        ("delta plain dictionary", [Delta, Plain, Dictionary], Compression::UNCOMPRESSED),
        ("plain plain dictionary", [Plain, Plain, Dictionary], Compression::UNCOMPRESSED),
        ("delta delta dictionary", [Delta, Delta, Dictionary], Compression::UNCOMPRESSED),
        ("delta dictionary dictionary", [Delta, Dictionary, Dictionary], Compression::UNCOMPRESSED),
        ("delta plain dictionary, zstd 1", [Delta, Plain, Dictionary], zstd),
        ("delta delta dictionary, zstd 1", [Delta, Delta, Dictionary], zstd),
        ("delta plain dictionary, lz4 raw", [Delta, Plain, Dictionary], Compression::LZ4_RAW),
        ("plain plain plain, zstd 1", [Plain, Plain, Plain], zstd),
        ("plain plain plain, lz4 raw", [Plain, Plain, Plain], Compression::LZ4_RAW),
    ]
}

fn names() -> Vec<&'static str> {
    ways().into_iter().map(|way| way.0).collect()
}

/// A mini-batch of the shape of ML-20M: sorted by user, then item; few items have most of the rows.
fn rows() -> RatingRows {
    let mut state = 8u64;
    let mut next = || {
        // Knuth's MMIX generator: good enough for a benchmark, and no dependency.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut cells: Vec<(u32, u32, f32)> = (0..ROWS)
        .map(|_| {
            let (user, item, stars) =
                (next() * 138_493.0, next().powi(3) * 26_744.0, 0.5 + (next() * 10.0).floor() / 2.0);
            (user as u32, item as u32, (stars - 3.525_529) as f32)
        })
        .collect();
    cells.sort_unstable_by_key(|&(user, item, _)| (user, item));
    let mut rows = RatingRows::default();
    cells.into_iter().for_each(|(user, item, rating)| rows.push(user, item, rating));
    rows
}

/// The file that `ratings::encode` would write with the properties of `way`.
fn encode(rows: &RatingRows, way: &Way) -> Vec<u8> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by("gristmill".to_owned())
        .set_compression(way.2)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false);
    for (name, column) in ratings::COLUMNS.into_iter().zip(way.1) {
        let path = ColumnPath::from(name);
        properties = match column {
            Column::Plain => properties.set_column_encoding(path, Encoding::PLAIN),
            Column::Delta => properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            Column::Dictionary => properties.set_column_dictionary_enabled(path, true),
        };
    }
    let schema = SerializedFileReader::new(Bytes::from(ratings::encode(&RatingRows::default()))).unwrap();
    let schema = schema.metadata().file_metadata().schema_descr().root_schema_ptr();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
    let mut group = file.next_row_group().unwrap();
    for column in [&rows.users, &rows.items] {
        let ids: Vec<i32> = column.iter().map(|&id| id.cast_signed()).collect();
        let mut writer = group.next_column().unwrap().unwrap();
        writer.typed::<Int32Type>().write_batch(&ids, None, None).unwrap();
        writer.close().unwrap();
    }
    let mut writer = group.next_column().unwrap().unwrap();
    writer.typed::<FloatType>().write_batch(&rows.ratings, None, None).unwrap();
    writer.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

fn way(name: &str) -> Way {
    ways().into_iter().find(|way| way.0 == name).unwrap()
}

/// What `ratings::encode` does.
#[divan::bench]
fn encode_as_chosen(bencher: Bencher) {
    let rows = rows();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| ratings::encode(&rows));
}

#[divan::bench(args = names())]
fn encode_with(bencher: Bencher, name: &str) {
    let (rows, way) = (rows(), way(name));
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| encode(&rows, &way));
}

/// What `ratings::decode` does with what `ratings::encode` made, into the same buffers again and again.
#[divan::bench]
fn decode_as_chosen(bencher: Bencher) {
    let bytes = Bytes::from(ratings::encode(&rows()));
    let mut out = RatingRows::default();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| ratings::decode(bytes.clone(), &mut out).unwrap());
}

#[divan::bench(args = names())]
fn decode_of(bencher: Bencher, name: &str) {
    let bytes = Bytes::from(encode(&rows(), &way(name)));
    let mut out = RatingRows::default();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| ratings::decode(bytes.clone(), &mut out).unwrap());
}

fn main() {
    let rows = rows();
    println!("{:>7} bytes as chosen", ratings::encode(&rows).len());
    for way in ways() {
        let bytes = encode(&rows, &way);
        let mut found = RatingRows::default();
        ratings::decode(Bytes::from(bytes.clone()), &mut found).unwrap();
        assert_eq!(found, rows, "{} comes back", way.0);
        println!("{:>7} bytes {}", bytes.len(), way.0);
    }
    divan::main();
}
