//! Any bytes with a right head and digest: a decoder must not panic, and what it takes for a gradient must be one, which comes back
//! from its own bytes.
//!
//! `cargo +nightly fuzz run decode` in the folder `train/core/fuzz`. The first byte chooses the model and the slice, the second how
//! many parameters there are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use train_core::logistic::{self, Space};
use train_core::pmf::factors::Shape;
use train_core::pmf::gradient::{Gradient as Rows, Residuals};
use train_core::wire::pmf::{Size, Travelled};
use train_core::wire::{self, Slice};
use xxhash_rust::xxh3::xxh3_64;

fuzz_target!(|data: &[u8]| {
    let [choice, many, rest @ ..] = data else { return };
    let flag = choice & 2 != 0;
    let slice = if choice & 4 == 0 { Slice::WHOLE } else { Slice { index: u32::from(choice >> 5) % 3, n_slices: 3 } };
    let n = u32::from(*many) * if choice & 8 == 0 { 1 } else { 300 };
    if choice & 1 == 0 {
        let space = Space::new(n, flag, &[]);
        let bytes = closed(&[b"GMgr\x01\x01\x00".as_slice(), &[u8::from(flag)], rest].concat());
        let (mut found, mut back) = (logistic::gradient::Gradient::default(), logistic::gradient::Gradient::default());
        if wire::logistic::decode(&space, &bytes, slice, &mut found).is_err() {
            return;
        }
        ascending(&found.ids, space.n_parameters());
        let mut again = Vec::new();
        wire::logistic::encode(&space, &found, slice, &mut again);
        assert!(again.len() <= bytes.len());
        wire::logistic::decode(&space, &again, slice, &mut back).expect("what was encoded is decoded");
        assert_eq!(found.ids, back.ids);
    } else {
        let size = Size { shape: Shape { n_factors: 3, biases: flag }, n_users: n, n_items: 50 };
        let magic = if choice & 16 == 0 { b"GMgr" } else { b"GMre" };
        let bytes = closed(&[magic.as_slice(), b"\x01\x02\x03", &[u8::from(flag)], rest].concat());
        let (mut found, mut back) = (Rows::default(), Rows::default());
        let Ok(travelled) = wire::pmf::decode(size, &bytes, slice, &mut found) else { return };
        ascending(&found.users.ids, size.n_users);
        ascending(&found.items.ids, size.n_items);
        if travelled == Travelled::Residuals {
            let Residuals { starts, slots, errors } = &found.residuals;
            assert!(starts.len() == found.users.ids.len() + 1 && starts[0] == 0 && starts.is_sorted_by(|a, b| a < b));
            assert!(starts[starts.len() - 1] as usize == errors.len() && slots.len() == errors.len());
            assert!(slots.iter().all(|&slot| (slot as usize) < found.items.ids.len()));
            return;
        }
        let mut again = Vec::new();
        wire::pmf::encode(size, &found, slice, &mut again);
        assert!(again.len() <= bytes.len());
        wire::pmf::decode(size, &again, slice, &mut back).expect("what was encoded is decoded");
        assert_eq!((found.users.ids, found.items.ids), (back.users.ids, back.items.ids));
    }
});

fn closed(content: &[u8]) -> Vec<u8> {
    [content, &xxh3_64(content).to_le_bytes()].concat()
}

fn ascending(ids: &[u32], n: u32) {
    assert!(ids.is_sorted_by(|a, b| a < b) && ids.last().is_none_or(|&id| id < n));
}
