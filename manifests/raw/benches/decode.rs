//! The decoder on text in memory, on one core: bytes and rows a second, alone, with tokens hashed, and prepared for a model.

#![expect(clippy::unwrap_used, reason = "a benchmark ends where it cannot go on")]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use manifests::clicks::ClickRows;
use raw::clicks::hash::Hasher;
use raw::clicks::lines::{Decoder, Limits};
use raw::clicks::prepare::Preparation;
use raw::clicks::{Format, Numbers, Rows, Tokens};
use schemas::clicks::{Hash, HashFunction, NumericColumn, Sparse};
use schemas::dataset::Layout;

const FORMAT: Format = Format { separator: b'\t', id: false, label: true };
const LIMITS: Limits = Limits { bad_max: 1, line_bytes_max: 1 << 18 };
/// Rows of a block of 1 MiB.
const ROWS: usize = 4300;

fn main() {
    divan::main();
}

/// Rows of the real shape: 243 bytes, missing fields at their rates, small numbers mostly.
fn text() -> Vec<u8> {
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
            if stream.below(1000) >= token_missing(column) {
                text.push_str(&format!("{:08x}", stream.below(1 << 32)));
            }
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// Buckets and numbers, column by column.
struct Columns {
    hasher: Hasher,
    len: usize,
    values: Vec<[i64; 13]>,
    buckets: Vec<u32>,
}

impl Rows for Columns {
    fn reserve(&mut self, rows: usize) {
        self.len = 0;
        self.values.resize(rows, [0; 13]);
        self.buckets.resize(26 * rows, 0);
    }

    #[inline]
    fn push(&mut self, _: usize, numbers: &Numbers, tokens: Tokens<'_>) {
        self.values[self.len] = numbers.values;
        let rows = self.values.len();
        for column in 0..26 {
            self.buckets[column * rows + self.len] = self.hasher.bucket(column, tokens.get(column));
        }
        self.len += 1;
    }
}

/// Counts rows, so that nothing but the decoder takes time.
#[derive(Default)]
struct Count(usize, i64);

impl Rows for Count {
    fn reserve(&mut self, _: usize) {
        self.0 = 0;
    }

    #[inline]
    fn push(&mut self, _: usize, numbers: &Numbers, tokens: Tokens<'_>) {
        self.0 += 1;
        self.1 ^= numbers.values.iter().fold(0, |all, value| all ^ value) ^ tokens.get(25).len() as i64;
    }
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let text = text();
    let (mut decoder, mut rows) = (Decoder::default(), Count::default());
    decoder.decode(&text, FORMAT, LIMITS, &mut rows);
    assert_eq!(rows.0, ROWS);
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| decoder.decode(divan::black_box(&text), FORMAT, LIMITS, &mut rows));
}

#[divan::bench]
fn decode_and_hash(bencher: Bencher<'_, '_>) {
    let text = text();
    let mut decoder = Decoder::default();
    let mut rows = Columns { hasher: Hasher::new(1_000_000), len: 0, values: Vec::new(), buckets: Vec::new() };
    decoder.decode(&text, FORMAT, LIMITS, &mut rows);
    assert_eq!(rows.len, ROWS);
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| decoder.decode(divan::black_box(&text), FORMAT, LIMITS, &mut rows));
}

#[divan::bench]
fn decode_and_prepare(bencher: Bencher<'_, '_>) {
    let (text, preparation) = (text(), preparation());
    let (mut decoder, mut rows) = (Decoder::default(), ClickRows::default());
    decoder.decode(&text, FORMAT, LIMITS, &mut preparation.fill(&mut rows));
    assert_eq!((rows.len, rows.buckets[25].len()), (ROWS, ROWS));
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| decoder.decode(divan::black_box(&text), FORMAT, LIMITS, &mut preparation.fill(&mut rows)));
}

/// That of sparse rows with a million buckets.
fn preparation() -> Preparation {
    let numeric =
        |i| NumericColumn { name: format!("I{i}"), present: 2, min: Some(-1), max: Some(99), mean: 5.0, sd: 2.0 };
    let sparse = Sparse {
        labels: None,
        numeric: (1..=13).map(numeric).collect(),
        categorical: Vec::new(),
        hash: Hash { function: HashFunction::Xxh3, buckets: 1_000_000 },
        n_features: 1_000_013,
        scales: None,
        rows_with_collisions: 0,
        entries: 0,
        fitted_on: None,
    };
    Preparation::of(&Layout::Sparse(sparse), true).unwrap()
}

/// The least that any decoder must do: look at every byte.
#[divan::bench]
fn count_line_ends(bencher: Bencher<'_, '_>) {
    let text = text();
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| divan::black_box(&text).iter().filter(|&&b| b == b'\n').count());
}

#[divan::bench]
fn hash_tokens(bencher: Bencher<'_, '_>) {
    let hasher = Hasher::new(1_000_000);
    let tokens: Vec<[u8; 8]> = (0..26 * ROWS as u64).map(|i| random::mix(i).to_le_bytes()).collect();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let rows = divan::black_box(&tokens).as_chunks::<26>().0;
        rows.iter()
            .map(|row| (0..26).fold(0, |all, column| all ^ hasher.bucket(column, &row[column])))
            .fold(0, |a, b| a ^ b)
    });
    assert!(tokens.len() > 26 && ROWS.checked_sub(1).unwrap() > 0);
}
