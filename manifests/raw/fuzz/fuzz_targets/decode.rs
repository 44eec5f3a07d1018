//! Any text: the decoder must not panic, and must say what the readable decoder says.
//!
//! `cargo +nightly fuzz run decode -- -dict=fuzz_targets/decode.dict` in the folder `manifests/raw/fuzz`. The first byte chooses
//! the format.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raw::clicks::Format;
use raw::clicks::hash::Hasher;
use raw::clicks::lines::{Decoder, Limits};
use raw::clicks::reference::{self, Collected};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    let format =
        Format { separator: if choice & 1 == 0 { b'\t' } else { b',' }, id: choice & 2 != 0, label: choice & 4 == 0 };
    let limits = Limits { bad_max: if choice & 8 == 0 { usize::MAX } else { 2 }, line_bytes_max: 2000 };
    let mut rows = Collected::default();
    let outcome = Decoder::default().decode(text, format, limits, &mut rows);
    let (expected_rows, expected) = reference::decode(text, format, limits);
    assert_eq!(outcome, expected);
    assert_eq!(rows.0, expected_rows);
    for bad in &outcome.bad {
        let row = &text[bad.text.clone()];
        assert!(!bad.rule.explain(&row[bad.field.clone()], format, limits.line_bytes_max).is_empty());
    }
    let hasher = Hasher::new(1 + u32::from(choice));
    for (column, token) in rows.0.iter().flat_map(|row| row.tokens.iter().enumerate()) {
        let bucket = hasher.bucket(column, token);
        assert_eq!(bucket == u32::MAX, token.is_empty());
        assert!(token.is_empty() || bucket <= u32::from(choice));
    }
});
