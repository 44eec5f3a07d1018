//! The parser kernel on text in memory: bytes and rows a second on one core.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use raw::ratings::parse::{Columns, Parsed, Separator, parse_block};

fn main() {
    divan::main();
}

/// Lines as they are in the 20M set: ids of 1 to 6 digits, half stars.
fn lines(separator: &str, rows: u64) -> Vec<u8> {
    let mut stream = random::Stream::new(8, "benchmark");
    let mut text = String::new();
    for row in 0..rows {
        let (user, item) = (1 + row / 144, 1 + stream.below(131_262));
        let halves = 1 + stream.below(10);
        let (stars, tenth, time) = (halves / 2, 5 * (halves % 2), 1_000_000_000 + stream.below(400_000_000));
        text.push_str(&format!("{user}{separator}{item}{separator}{stars}.{tenth}{separator}{time}\n"));
    }
    text.into_bytes()
}

#[divan::bench(args = [Separator::Comma, Separator::Colons, Separator::Tab])]
fn parse(bencher: Bencher<'_, '_>, separator: Separator) {
    const ROWS: u64 = 40_000;
    let text = lines(separator.text(), ROWS);
    let columns = Columns { separator, n_columns: 4 };
    let mut parsed = Parsed::default();
    parse_block(&text, columns, 1, &mut parsed);
    assert_eq!((parsed.rows.len() as u64, parsed.bad.len()), (ROWS, 0));
    bencher
        .counter(BytesCount::of_slice(&text))
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| parse_block(divan::black_box(&text), columns, 1, divan::black_box(&mut parsed)));
}
