//! Where DataFusion pays: conditions on decoded rows, and statistics of prepared parts, each against a loop of our own.
//!
//! Everything is in memory or in the page cache, and on one core. Rows are of the real shape, 243 bytes of text.

#![expect(clippy::unwrap_used, reason = "a benchmark ends where it cannot go on")]

use std::collections::HashSet;
use std::sync::LazyLock;

use arrow_array::RecordBatch;
use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use manifests::clicks::{self, ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER};
use prep_query::{Answer, ClickBatch, ClickBatchBuilder, Error, Files, Filter, Filtered, Kind, parquet_answer};
use raw::clicks::hash::Hasher;
use raw::clicks::lines::{Decoder, Limits};
use raw::clicks::{Format, Numbers, Rows, Tokens};
use tempfile::TempDir;

const FORMAT: Format = Format { separator: b'\t', id: false, label: true };
const LIMITS: Limits = Limits { bad_max: 1, line_bytes_max: 1 << 18 };
/// Rows of a block of 1 MiB.
const ROWS: usize = 4300;
/// Blocks that one measurement goes through.
const BLOCKS: usize = 24;
const FORM: Form = Form { labelled: true, n_buckets: Some(1_000_000) };
const CONDITIONS: [&str; 5] = ["label = 1", "label = 1 AND I2 >= 0", "C1 = '68fd1e64'", "C1 LIKE '68%'", "true"];

fn main() {
    divan::main();
}

/// Rows of the real shape: 243 bytes, missing fields at their rates, small numbers mostly, some tokens often.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    const NUMBERS_MISSING: [u64; 13] = [448, 0, 204, 198, 49, 251, 49, 1, 49, 448, 49, 773, 198];
    let token_missing = |column: usize| match column {
        3 | 4 | 12 | 16 | 21 | 24 => 36,
        6 => 133,
        19 | 20 | 25 | 26 => 450,
        22 => 818,
        _ => 0,
    };
    let mut stream = random::Stream::new(8, "benchmark");
    let mut text = String::new();
    for _ in 0..ROWS {
        text.push_str(if stream.below(4) == 0 { "1" } else { "0" });
        for missing in NUMBERS_MISSING {
            text.push('\t');
            if stream.below(1000) >= missing {
                let bits = stream.below(16);
                text.push_str(&(stream.below(1 << bits) as i64 - i64::from(stream.below(20) == 0)).to_string());
            }
        }
        for column in 1..=26 {
            text.push('\t');
            if column == 1 && stream.below(2) == 0 {
                text.push_str("68fd1e64");
            } else if stream.below(1000) >= token_missing(column) {
                text.push_str(&format!("{:08x}", stream.below(1 << 32)));
            }
        }
        text.push('\n');
    }
    text
});

/// What preparing a row does with it: buckets and numbers.
#[derive(Default)]
struct Prepared {
    hasher: Option<Hasher>,
    rows: ClickRows,
}

impl Prepared {
    fn new() -> Self {
        Self { hasher: Some(Hasher::new(1_000_000)), rows: ClickRows::default() }
    }

    #[inline]
    fn add<'a>(&mut self, numbers: &Numbers, token: impl Fn(usize) -> &'a [u8]) {
        self.rows.len += 1;
        self.rows.labels.push(f32::from(numbers.label));
        for (j, column) in self.rows.numbers.iter_mut().enumerate() {
            column.push(if numbers.present >> j & 1 != 0 { numbers.values[j] as f32 } else { MISSING_NUMBER });
        }
        let hasher = self.hasher.as_ref().unwrap();
        for (j, column) in self.rows.buckets.iter_mut().enumerate() {
            let token = token(j);
            column.push(if token.is_empty() { MISSING_BUCKET } else { hasher.bucket(j, token) });
        }
    }
}

impl Rows for Prepared {
    fn reserve(&mut self, _: usize) {}

    #[inline]
    fn push(&mut self, _: usize, numbers: &Numbers, tokens: Tokens<'_>) {
        self.add(numbers, |column| tokens.get(column));
    }
}

/// Decoded rows, block after block.
fn decoded() -> impl Iterator<Item = Result<RecordBatch, Error>> {
    let (mut decoder, mut builder) = (Decoder::default(), ClickBatchBuilder::new(true));
    (0..BLOCKS).map(move |block| {
        builder.start((block * ROWS) as u64);
        decoder.decode(TEXT.as_bytes(), FORMAT, LIMITS, &mut builder);
        Ok(builder.finish())
    })
}

fn prepare(batches: impl Iterator<Item = Result<RecordBatch, Error>>) -> usize {
    let mut prepared = Prepared::new();
    let mut n_rows = 0;
    for batch in batches {
        let batch = batch.unwrap();
        let rows = ClickBatch::of(&batch);
        prepared.rows.clear();
        for i in 0..rows.len() {
            prepared.add(&rows.numbers(i), |column| rows.token(i, column));
        }
        n_rows += black_box(&prepared.rows).len;
    }
    n_rows
}

/// Without a condition and without batches: the way of `prep` when nothing is filtered.
#[divan::bench]
fn a_decode_and_prepare(bencher: Bencher<'_, '_>) {
    LazyLock::force(&TEXT);
    bencher.counter(ItemsCount::new(ROWS * BLOCKS)).bench(|| {
        let (mut decoder, mut prepared) = (Decoder::default(), Prepared::new());
        for _ in 0..BLOCKS {
            prepared.rows.clear();
            decoder.decode(TEXT.as_bytes(), FORMAT, LIMITS, &mut prepared);
            black_box(&prepared.rows);
        }
    });
}

/// The batches alone.
#[divan::bench]
fn b_decode_to_batches(bencher: Bencher<'_, '_>) {
    LazyLock::force(&TEXT);
    bencher
        .counter(ItemsCount::new(ROWS * BLOCKS))
        .bench(|| decoded().map(|batch| batch.unwrap().num_rows()).sum::<usize>());
}

/// Batches, no condition, and the same preparation.
#[divan::bench]
fn c_through_batches(bencher: Bencher<'_, '_>) {
    LazyLock::force(&TEXT);
    bencher.counter(ItemsCount::new(ROWS * BLOCKS)).bench(|| prepare(decoded()));
}

/// Batches, a condition, and the preparation of what is kept.
#[divan::bench(args = CONDITIONS)]
fn d_filtered(bencher: Bencher<'_, '_>, condition: &str) {
    LazyLock::force(&TEXT);
    let filter = Filter::parse(condition, true).unwrap();
    bencher.counter(ItemsCount::new(ROWS * BLOCKS)).bench(|| prepare(Filtered::new(&filter, decoded()).unwrap()));
}

/// Raw rows in files of other engines: csv with a header, and Parquet as it is written by default, all prepared.
#[divan::bench(args = ["csv", "parquet"])]
fn e_files(bencher: Bencher<'_, '_>, kind: &str) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rows");
    if kind == "csv" {
        let names: Vec<String> = prep_query::schema::names(true).collect();
        std::fs::write(&path, names.join(",") + "\n" + &TEXT.replace('\t', ",").repeat(BLOCKS)).unwrap();
    } else {
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, prep_query::schema::schema(true), None).unwrap();
        decoded().for_each(|batch| writer.write(&batch.unwrap()).unwrap());
        writer.close().unwrap();
    }
    let kind = if kind == "csv" { Kind::Csv } else { Kind::Parquet };
    let files = Files::open(&[path], kind).unwrap();
    bencher.counter(ItemsCount::new(ROWS * BLOCKS)).bench(|| prepare(files.rows(None).unwrap()));
}

/// A prepared part of all rows, as bytes and as a file.
static PART: LazyLock<(Bytes, TempDir)> = LazyLock::new(|| {
    let (mut decoder, mut prepared) = (Decoder::default(), Prepared::new());
    for _ in 0..BLOCKS {
        decoder.decode(TEXT.as_bytes(), FORMAT, LIMITS, &mut prepared);
    }
    let bytes = Bytes::from(clicks::encode(FORM, &prepared.rows));
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("part.parquet"), &bytes).unwrap();
    (bytes, folder)
});

fn query() -> String {
    let of = |i| format!("count(I{i}), min(I{i}), max(I{i}), avg(I{i}), stddev_pop(I{i})");
    let columns: Vec<String> = (1..=13).map(of).collect();
    format!("SELECT {}, count(DISTINCT C3) FROM rows", columns.join(", "))
}

/// Count, least, largest, mean and standard deviation of 13 columns, and distinct values of `C3`: a query on the part.
#[divan::bench]
fn f_statistics_of_a_part_by_query(bencher: Bencher<'_, '_>) {
    let (_, folder) = &*PART;
    let query = query();
    bencher.counter(ItemsCount::new(ROWS * BLOCKS)).bench(|| parquet_answer(&query, folder.path()).unwrap());
}

/// The same in a loop over the columns of the part.
#[divan::bench]
fn g_statistics_of_a_part_by_loop(bencher: Bencher<'_, '_>) {
    let (_, folder) = &*PART;
    bencher.counter(ItemsCount::new(ROWS * BLOCKS)).bench(|| {
        let bytes = std::fs::read(folder.path().join("part.parquet")).unwrap();
        let mut rows = ClickRows::default();
        clicks::decode(FORM, bytes.into(), &mut rows).unwrap();
        let statistics = rows
            .numbers
            .each_ref()
            .map(|column| statistics(column.iter().filter(|x| !x.is_nan()).map(|&x| f64::from(x))));
        let distinct: HashSet<u32> = rows.buckets[2].iter().copied().filter(|&b| b != MISSING_BUCKET).collect();
        (statistics, distinct.len())
    });
}

/// The same query on decoded rows.
#[divan::bench]
fn h_statistics_of_text_by_query(bencher: Bencher<'_, '_>) {
    LazyLock::force(&TEXT);
    let query = query();
    bencher
        .counter(ItemsCount::new(ROWS * BLOCKS))
        .bench(|| Answer::new(&query, true, decoded()).unwrap().map(Result::unwrap).collect::<Vec<_>>());
}

/// What the query asks, row by row as rows are decoded.
#[divan::bench]
fn i_statistics_of_text_by_loop(bencher: Bencher<'_, '_>) {
    #[derive(Default)]
    struct Seen {
        moments: [(u64, i64, i64, f64, f64); 13],
        distinct: HashSet<[u8; 8]>,
    }
    impl Rows for Seen {
        fn reserve(&mut self, _: usize) {}

        #[inline]
        fn push(&mut self, _: usize, numbers: &Numbers, tokens: Tokens<'_>) {
            for (j, (n, min, max, sum, squares)) in self.moments.iter_mut().enumerate() {
                if numbers.present >> j & 1 != 0 {
                    let value = numbers.values[j];
                    (*n, *min, *max) = (*n + 1, value.min(*min), value.max(*max));
                    *sum += value as f64;
                    *squares += (value as f64).powi(2);
                }
            }
            self.distinct.extend(tokens.get(2).first_chunk::<8>());
        }
    }
    LazyLock::force(&TEXT);
    bencher.counter(ItemsCount::new(ROWS * BLOCKS)).bench(|| {
        let (mut decoder, mut seen) = (Decoder::default(), Seen::default());
        for _ in 0..BLOCKS {
            decoder.decode(TEXT.as_bytes(), FORMAT, LIMITS, &mut seen);
        }
        (seen.moments, seen.distinct.len())
    });
}

fn statistics(values: impl Iterator<Item = f64> + Clone) -> (f64, f64, f64, f64, f64) {
    let start = (0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0);
    let (n, min, max, sum) = values
        .clone()
        .fold(start, |(n, min, max, sum): (f64, f64, f64, f64), x| (n + 1.0, min.min(x), max.max(x), sum + x));
    let mean = sum / n;
    (n, min, max, mean, (values.map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
}
