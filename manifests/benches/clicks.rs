//! Encoding and decoding of click rows, for the encodings and compressions that were considered.
//!
//! `cargo bench --workspace --bench clicks`. Sizes are printed first; throughput is in rows.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and ends where it cannot go on")]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use manifests::clicks::{self, ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use schemas::clicks::HASH_BUCKETS;

/// Rows of a mini-batch.
const BATCH: usize = 6250;
/// Rows of a prepared part.
const PART: usize = 1 << 17;
const SPARSE: Form = Form { labelled: true, n_buckets: Some(HASH_BUCKETS) };
const DENSE: Form = Form { labelled: true, n_buckets: None };

/// Location and scale of the logarithm, share of missing ones and offset, of each numeric column.
const NUMBERS: [(f64, f64, f64, f64); 13] = [
    (0.3, 1.3, 0.45, 0.0),
    (1.6, 2.0, 0.0, -3.0),
    (1.8, 1.5, 0.21, 0.0),
    (1.6, 0.95, 0.22, 0.0),
    (7.6, 2.2, 0.03, 0.0),
    (3.3, 1.7, 0.22, 0.0),
    (1.3, 1.7, 0.04, 0.0),
    (2.0, 1.1, 0.0005, 0.0),
    (3.6, 1.4, 0.04, 0.0),
    (-0.9, 0.9, 0.45, 0.0),
    (0.4, 1.0, 0.04, 0.0),
    (-1.2, 1.5, 0.76, 0.0),
    (1.5, 1.1, 0.22, 0.0),
];

/// Tokens of each categorical column, and the share of missing ones.
const TOKENS: [(f64, f64); 26] = [
    (1460.0, 0.0),
    (583.0, 0.0),
    (10_131_227.0, 0.034),
    (2_202_608.0, 0.034),
    (305.0, 0.0),
    (24.0, 0.12),
    (12_517.0, 0.0),
    (633.0, 0.0),
    (3.0, 0.0),
    (93_145.0, 0.0),
    (5683.0, 0.0),
    (8_351_593.0, 0.034),
    (3194.0, 0.0),
    (27.0, 0.0),
    (14_992.0, 0.0),
    (5_461_306.0, 0.034),
    (10.0, 0.0),
    (5652.0, 0.0),
    (2173.0, 0.44),
    (4.0, 0.44),
    (7_046_547.0, 0.034),
    (18.0, 0.76),
    (15.0, 0.0),
    (286_181.0, 0.034),
    (105.0, 0.44),
    (142_572.0, 0.44),
];
/// Columns with more tokens than this are of high cardinality.
const HIGH: f64 = 10_000.0;

/// How a column is written.
#[derive(Clone, Copy, Debug)]
enum Column {
    Plain,
    Delta,
    Dictionary,
}

/// A way to write rows.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    numbers: Column,
    /// Buckets of columns with few tokens.
    low: Column,
    /// Buckets of columns with many.
    high: Column,
    /// Values of a dictionary, at most; then come plain ones.
    limit: usize,
    compression: Compression,
}

fn ways() -> Vec<Way> {
    use Column::{Delta, Dictionary, Plain};
    let none = Compression::UNCOMPRESSED;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    let lz4 = Compression::LZ4_RAW;
    let way = |name, [numbers, low, high]: [Column; 3], limit, compression| Way {
        name,
        numbers,
        low,
        high,
        limit,
        compression,
    };
    vec![
        way("plain", [Plain; 3], 1, none),
        way("plain, lz4 raw", [Plain; 3], 1, lz4),
        way("plain, zstd 1", [Plain; 3], 1, zstd),
        way("dictionary to 256", [Dictionary; 3], 256, none),
        way("dictionary to 1024", [Dictionary; 3], 1024, none),
        way("dictionary to 4096", [Dictionary; 3], 4096, none),
        way("dictionary to 4096, lz4 raw", [Dictionary; 3], 4096, lz4),
        way("dictionary to 4096, zstd 1", [Dictionary; 3], 4096, zstd),
        way("dictionary to 65536", [Dictionary; 3], 65536, none),
        way("dictionary, high plain", [Dictionary, Dictionary, Plain], 4096, none),
        way("dictionary, high plain, lz4 raw", [Dictionary, Dictionary, Plain], 4096, lz4),
        way("dictionary, high plain, zstd 1", [Dictionary, Dictionary, Plain], 4096, zstd),
        way("dictionary, high delta", [Dictionary, Dictionary, Delta], 4096, none),
        way("dictionary, high delta, zstd 1", [Dictionary, Dictionary, Delta], 4096, zstd),
        way("numbers dictionary, buckets plain", [Dictionary, Plain, Plain], 4096, none),
        way("numbers plain, buckets dictionary", [Plain, Dictionary, Plain], 4096, none),
    ]
}

/// Rows of the real shape: numbers scaled from heavy-tailed whole numbers, buckets of tokens by Zipf's law.
fn rows(form: Form, n: usize) -> ClickRows {
    let mut state = 8u64;
    let mut next = || {
        // Knuth's MMIX generator: good enough for a benchmark, and no dependency.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut rows = ClickRows { len: n, ..ClickRows::default() };
    rows.labels = (0..n).map(|_| if next() < 0.256 { 1.0 } else { 0.0 }).collect();
    for (column, (location, scale, missing, offset)) in rows.numbers.iter_mut().zip(NUMBERS) {
        let cell = |_| {
            let normal = (-2.0 * (1.0 - next()).ln()).sqrt() * (std::f64::consts::TAU * next()).cos();
            let number = (location + scale * normal).exp().floor() + offset;
            match (next() < missing, form.n_buckets) {
                (true, Some(_)) => MISSING_NUMBER,
                (true, None) => -0.25,
                (false, _) => ((number - offset) / 65_535.0) as f32,
            }
        };
        *column = (0..n).map(cell).collect();
    }
    let categorical = TOKENS.iter().enumerate().take(if form.is_sparse() { 26 } else { 0 });
    for ((number, (tokens, missing)), column) in categorical.zip(&mut rows.buckets) {
        let cell = |_| {
            // The inverse of a continuous distribution function; the exponent is 1.1.
            let token = ((((tokens + 1.0).powf(-0.1) - 1.0) * next() + 1.0).powf(-10.0)).floor() as u64;
            let hash = xxhash_rust::xxh3::xxh3_64_with_seed(format!("{token:08x}").as_bytes(), number as u64 + 1);
            if next() < *missing { MISSING_BUCKET } else { (hash % u64::from(HASH_BUCKETS)) as u32 }
        };
        *column = (0..n).map(cell).collect();
    }
    rows
}

static SPARSE_BATCH: LazyLock<ClickRows> = LazyLock::new(|| rows(SPARSE, BATCH));
static SPARSE_PART: LazyLock<ClickRows> = LazyLock::new(|| rows(SPARSE, PART));
static DENSE_BATCH: LazyLock<ClickRows> = LazyLock::new(|| rows(DENSE, BATCH));

fn properties(way: &Way) -> Arc<WriterProperties> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by("gristmill".to_owned())
        .set_compression(way.compression)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_dictionary_page_size_limit(way.limit * size_of::<f32>());
    let names = SPARSE.columns();
    let categorical = TOKENS.iter().map(|(tokens, _)| if *tokens > HIGH { way.high } else { way.low });
    let columns = std::iter::once(Column::Dictionary).chain([way.numbers; 13]).chain(categorical);
    for (name, column) in names.iter().zip(columns) {
        let path = ColumnPath::from(name.as_str());
        properties = match column {
            Column::Plain => properties.set_column_encoding(path, Encoding::PLAIN),
            Column::Delta => properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            Column::Dictionary => {
                properties.set_column_encoding(path.clone(), Encoding::PLAIN).set_column_dictionary_enabled(path, true)
            }
        };
    }
    Arc::new(properties.build())
}

fn names() -> Vec<&'static str> {
    ways().into_iter().map(|way| way.name).collect()
}

fn encoded(rows: &ClickRows, name: &str) -> Bytes {
    let way = ways().into_iter().find(|way| way.name == name).unwrap();
    Bytes::from(clicks::encode_with(SPARSE, rows, properties(&way)))
}

fn bench_encode(bencher: Bencher, form: Form, rows: &ClickRows) {
    bencher.counter(ItemsCount::new(rows.len)).bench_local(|| clicks::encode(form, rows));
}

fn bench_encode_with(bencher: Bencher, rows: &ClickRows, name: &str) {
    let properties = properties(&ways().into_iter().find(|way| way.name == name).unwrap());
    let encode = || clicks::encode_with(SPARSE, rows, Arc::clone(&properties));
    bencher.counter(ItemsCount::new(rows.len)).bench_local(encode);
}

/// Into the same buffers again and again.
fn bench_decode(bencher: Bencher, form: Form, bytes: &Bytes, n: usize) {
    let mut out = ClickRows::default();
    bencher.counter(ItemsCount::new(n)).bench_local(|| clicks::decode(form, bytes.clone(), &mut out).unwrap());
}

/// What `clicks::encode` does.
#[divan::bench]
fn encode_batch_as_chosen(bencher: Bencher) {
    bench_encode(bencher, SPARSE, &SPARSE_BATCH);
}

#[divan::bench]
fn encode_dense_batch_as_chosen(bencher: Bencher) {
    bench_encode(bencher, DENSE, &DENSE_BATCH);
}

#[divan::bench(sample_count = 10)]
fn encode_part_as_chosen(bencher: Bencher) {
    bench_encode(bencher, SPARSE, &SPARSE_PART);
}

#[divan::bench(args = names())]
fn encode_batch_with(bencher: Bencher, name: &str) {
    bench_encode_with(bencher, &SPARSE_BATCH, name);
}

#[divan::bench(args = names(), sample_count = 5)]
fn encode_part_with(bencher: Bencher, name: &str) {
    bench_encode_with(bencher, &SPARSE_PART, name);
}

#[divan::bench]
fn decode_batch_as_chosen(bencher: Bencher) {
    bench_decode(bencher, SPARSE, &Bytes::from(clicks::encode(SPARSE, &SPARSE_BATCH)), BATCH);
}

#[divan::bench]
fn decode_dense_batch_as_chosen(bencher: Bencher) {
    bench_decode(bencher, DENSE, &Bytes::from(clicks::encode(DENSE, &DENSE_BATCH)), BATCH);
}

#[divan::bench(sample_count = 10)]
fn decode_part_as_chosen(bencher: Bencher) {
    bench_decode(bencher, SPARSE, &Bytes::from(clicks::encode(SPARSE, &SPARSE_PART)), PART);
}

#[divan::bench(args = names())]
fn decode_batch_of(bencher: Bencher, name: &str) {
    bench_decode(bencher, SPARSE, &encoded(&SPARSE_BATCH, name), BATCH);
}

#[divan::bench(args = names(), sample_count = 5)]
fn decode_part_of(bencher: Bencher, name: &str) {
    bench_decode(bencher, SPARSE, &encoded(&SPARSE_PART, name), PART);
}

fn print_sizes() {
    let dense = clicks::encode(DENSE, &DENSE_BATCH).len();
    println!("bytes of a batch and a part; dense batch as chosen: {dense}");
    let print = |name: &str, batch: usize, part: usize| println!("{batch:>8} {part:>10} {name}");
    print("as chosen", clicks::encode(SPARSE, &SPARSE_BATCH).len(), clicks::encode(SPARSE, &SPARSE_PART).len());
    for way in ways() {
        let found = [&*SPARSE_BATCH, &*SPARSE_PART].map(|rows| {
            let bytes = encoded(rows, way.name);
            let mut out = ClickRows::default();
            clicks::decode(SPARSE, bytes.clone(), &mut out).unwrap();
            assert!(out.buckets == rows.buckets && out.labels == rows.labels, "{} comes back", way.name);
            bytes.len()
        });
        print(way.name, found[0], found[1]);
    }
}

fn main() {
    // Run as a test, a benchmark has nothing to show.
    if std::env::args().any(|argument| argument == "--bench") {
        print_sizes();
    }
    divan::main();
}
