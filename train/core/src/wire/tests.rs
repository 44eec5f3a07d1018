//! Properties of the formats: what is written is read, what is damaged is refused, what goes on goes on with the same bits.

mod steps;

use proptest::prelude::*;
use random::Stream;

use super::ids::{Form, List};
use super::pmf::{Size, Travelled};
use super::{Slice, close, logistic, pmf};
use crate::lanes::{LANES, Lane};
use crate::logistic::Space;
use crate::logistic::gradient::Gradient as Sparse;
use crate::pmf::factors::{Shape, Side};
use crate::pmf::gradient::{Gradient as Rows, Residuals, RowGradients};

/// Ascending ids below `n`, each there with this chance.
fn ids(stream: &mut Stream, n: u32, chance: f64) -> Vec<u32> {
    (0..n).filter(|_| stream.unit() < chance).collect()
}

/// A float that is often a special one. Without `any` it is finite and sums of a few are.
fn float(stream: &mut Stream, any: bool) -> f32 {
    match stream.below(12) {
        0 => 0.0,
        1 => -0.0,
        2 => 1e-41,
        3 => 1.5,
        4 => -1.5,
        5 if any => f32::from_bits(stream.next_u64() as u32),
        6 if any => [f32::INFINITY, f32::NEG_INFINITY, f32::NAN][stream.below(3) as usize],
        _ => (stream.unit() * 20.0 - 10.0) as f32,
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn sparse(stream: &mut Stream, space: &Space, chance: f64, any: bool) -> Sparse {
    let ids = ids(stream, space.n_parameters(), chance);
    let values = ids.iter().map(|_| float(stream, any)).collect();
    Sparse { ids, values, loss_sum: f64::from(float(stream, any)), rows: 1 + stream.below(9000) as u32 }
}

fn row_gradients(stream: &mut Stream, shape: Shape, side: Side, n: u32, chance: f64, any: bool) -> RowGradients {
    let ids = ids(stream, n, chance);
    let mut values: Vec<Lane> = vec![[0.0; LANES]; shape.lanes() * ids.len()];
    for row in values.as_flattened_mut().chunks_exact_mut(shape.lanes() * LANES) {
        row[..shape.n_factors].fill_with(|| float(stream, any));
        if shape.biases {
            row[shape.bias_place(side)] = float(stream, any);
        }
    }
    RowGradients { ids, values }
}

fn rows(stream: &mut Stream, size: Size, chance: f64, any: bool) -> Rows {
    Rows {
        users: row_gradients(stream, size.shape, Side::User, size.n_users, chance, any),
        items: row_gradients(stream, size.shape, Side::Item, size.n_items, chance, any),
        squared_error: f64::from(float(stream, any)),
        rows: 1 + stream.below(9000) as u32,
        residuals: Residuals::default(),
    }
}

/// A gradient of which only what travels as residuals is right; there are rows enough for these to be fewer bytes.
fn residuals(stream: &mut Stream, size: Size, chance: f64) -> Rows {
    let mut gradient = rows(stream, size, chance, true);
    let (n_users, n_items) = (gradient.users.ids.len(), gradient.items.ids.len());
    gradient.residuals.starts.push(0);
    for _ in 0..if n_items > 0 { n_users } else { 0 } {
        let rows = 1 + stream.below(3) as u32 * stream.below(2) as u32;
        for _ in 0..rows {
            gradient.residuals.slots.push(stream.below(n_items as u64) as u32);
            gradient.residuals.errors.push(float(stream, true));
        }
        gradient.residuals.starts.push(gradient.residuals.errors.len() as u32);
    }
    if n_items == 0 {
        gradient.users = RowGradients::default();
    }
    gradient
}

fn slices(n_slices: u32) -> impl Iterator<Item = Slice> {
    (0..n_slices).map(move |index| Slice { index, n_slices })
}

fn size() -> impl Strategy<Value = Size> {
    (1usize..30, any::<bool>(), 1u32..2500, 1u32..60).prop_map(|(n_factors, biases, n_users, n_items)| Size {
        shape: Shape { n_factors, biases },
        n_users,
        n_items,
    })
}

/// A space with some scaled buckets.
fn space() -> impl Strategy<Value = Space> {
    (0u32..40_000, any::<bool>(), any::<u64>()).prop_map(|(n_buckets, intercept, seed)| {
        let mut stream = Stream::new(seed, "scales");
        let scales: Vec<_> = ids(&mut stream, n_buckets, 0.001).into_iter().map(|bucket| (bucket, 3)).collect();
        Space::new(n_buckets, intercept, &scales)
    })
}

fn whole(space: &Space, gradient: &Sparse) -> Vec<u8> {
    let mut out = Vec::new();
    logistic::encode(space, gradient, Slice::WHOLE, &mut out);
    out
}

proptest! {
    #[test]
    fn ids_come_back_in_every_form_and_the_smallest_is_chosen(
        seed: u64, first in 0u32..1000, len in 0u32..5000, chance in prop_oneof![0.0..0.02, 0.0..=1.0],
    ) {
        let found: Vec<u32> = ids(&mut Stream::new(seed, "ids"), len, chance).iter().map(|id| first + id).collect();
        let count = found.len() as u32;
        let mut forms: Vec<Form> = (0..32).map(Form::Split).chain([Form::Bitmap]).collect();
        if len == count {
            forms.push(Form::All);
        }
        let smallest = Form::smallest(len, count).bytes(len, count);
        for form in forms {
            prop_assert!(smallest <= form.bytes(len, count), "{form:?}");
            let list = List { form, ..List::new("ids", &(first..first + len), found.len()) };
            let (mut out, mut back) = (vec![7], vec![9; 3]);
            list.write(&found, &mut out);
            prop_assert_eq!(out.len() as u64, 1 + list.bytes());
            list.read(&out[1..], &mut back).unwrap();
            prop_assert_eq!(&back, &found);
        }
    }

    #[test]
    fn sparse_gradients_come_back_from_their_slices(
        seed: u64, space in space(), n_slices in 1u32..30, chance in prop_oneof![0.0..0.02, 0.0..=1.0],
    ) {
        let mut stream = Stream::new(seed, "gradient");
        let gradient = sparse(&mut stream, &space, chance, true);
        let mut back = sparse(&mut stream, &space, 0.1, true);
        let (mut found, mut values) = (Vec::new(), Vec::new());
        for slice in slices(n_slices) {
            let mut bytes = vec![1, 2, 3];
            logistic::encode(&space, &gradient, slice, &mut bytes);
            logistic::decode(&space, &bytes[3..], slice, &mut back).unwrap();
            found.extend_from_slice(&back.ids);
            values.extend_from_slice(&back.values);
            prop_assert_eq!((back.rows, back.loss_sum.to_bits()), (gradient.rows, gradient.loss_sum.to_bits()));
        }
        prop_assert_eq!(found, gradient.ids);
        prop_assert_eq!(bits(&values), bits(&gradient.values));
    }

    #[test]
    fn row_gradients_come_back_from_their_slices(seed: u64, size in size(), n_slices in 1u32..30, chance in 0.0..=1.0) {
        let mut stream = Stream::new(seed, "gradient");
        let gradient = rows(&mut stream, size, chance, true);
        let mut back = rows(&mut stream, size, 0.1, true);
        let (mut users, mut items) = (RowGradients::default(), RowGradients::default());
        for slice in slices(n_slices) {
            let mut bytes = vec![1, 2, 3];
            pmf::encode(size, &gradient, slice, &mut bytes);
            pmf::decode(size, &bytes[3..], slice, &mut back).unwrap();
            for (all, part) in [(&mut users, &back.users), (&mut items, &back.items)] {
                all.ids.extend_from_slice(&part.ids);
                all.values.extend_from_slice(&part.values);
            }
            let sum = (back.rows, back.squared_error.to_bits());
            prop_assert_eq!(sum, (gradient.rows, gradient.squared_error.to_bits()));
        }
        for (found, expected) in [(users, gradient.users), (items, gradient.items)] {
            prop_assert_eq!(found.ids, expected.ids);
            prop_assert_eq!(bits(found.values.as_flattened()), bits(expected.values.as_flattened()));
        }
    }

    /// Whatever the bytes are: a gradient as the kernels want it, or an error.
    #[test]
    fn damaged_gradients_are_refused_or_sound(
        seed: u64, space in space(), size in size(), chance in prop_oneof![0.0..0.02, 0.0..=1.0], n_changes in 1usize..5,
        cut in prop_oneof![Just(0usize), 0usize..60],
    ) {
        let mut stream = Stream::new(seed, "damage");
        let mut sparse_bytes = whole(&space, &sparse(&mut stream, &space, chance, true));
        let mut row_bytes = Vec::new();
        pmf::encode(size, &rows(&mut stream, size, chance.min(0.05), true), Slice::WHOLE, &mut row_bytes);
        for bytes in [&mut sparse_bytes, &mut row_bytes] {
            let original = bytes.clone();
            bytes.truncate(bytes.len().saturating_sub(cut + super::DIGEST));
            for _ in 0..n_changes.min(bytes.len()) {
                // Most of what can be wrong is in the first bytes.
                let end = if stream.below(2) == 0 { bytes.len() } else { bytes.len().min(60) };
                bytes[stream.below(end as u64) as usize] = stream.next_u64() as u8;
            }
            let damaged = [bytes.as_slice(), &original[original.len() - super::DIGEST..]].concat();
            if damaged != original {
                prop_assert!(logistic::decode(&space, &damaged, Slice::WHOLE, &mut Sparse::default()).is_err());
                prop_assert!(pmf::decode(size, &damaged, Slice::WHOLE, &mut Rows::default()).is_err());
            }
            close(0, bytes);
        }
        let (mut gradient, mut found) = (Sparse::default(), Rows::default());
        if logistic::decode(&space, &sparse_bytes, Slice::WHOLE, &mut gradient).is_ok() {
            prop_assert!(gradient.ids.is_sorted_by(|a, b| a < b));
            prop_assert!(gradient.ids.last().is_none_or(|&id| id < space.n_parameters()));
            prop_assert_eq!(gradient.ids.len(), gradient.values.len());
        }
        prop_assert!(gradient.ids.capacity() <= 2 * sparse_bytes.len().max(space.n_parameters() as usize));
        if pmf::decode(size, &row_bytes, Slice::WHOLE, &mut found).is_ok() {
            for (rows, n) in [(&found.users, size.n_users), (&found.items, size.n_items)] {
                prop_assert!(rows.ids.is_sorted_by(|a, b| a < b) && rows.ids.last().is_none_or(|&id| id < n));
                prop_assert_eq!(rows.ids.len() * size.shape.lanes(), rows.values.len());
            }
        }
    }

    #[test]
    fn residuals_come_back_and_are_sent_where_they_are_fewer_bytes(seed: u64, size in size(), chance in 0.0..=1.0) {
        let mut stream = Stream::new(seed, "residuals");
        let gradient = residuals(&mut stream, size, chance);
        let mut back = residuals(&mut stream, size, 0.1);
        let (mut bytes, mut as_rows) = (Vec::new(), Vec::new());
        pmf::encode(size, &gradient, Slice::WHOLE, &mut bytes);
        pmf::encode(size, &Rows { residuals: Residuals::default(), ..gradient.clone() }, Slice::WHOLE, &mut as_rows);
        prop_assert!(bytes.len() <= as_rows.len());
        if pmf::decode(size, &bytes, Slice::WHOLE, &mut back).unwrap() == Travelled::Residuals {
            let Residuals { starts, slots, errors } = &gradient.residuals;
            prop_assert_eq!((&back.users.ids, &back.items.ids), (&gradient.users.ids, &gradient.items.ids));
            prop_assert_eq!((&back.residuals.starts, &back.residuals.slots), (starts, slots));
            prop_assert_eq!(bits(&back.residuals.errors), bits(errors));
        } else {
            prop_assert_eq!(&back.residuals, &Residuals::default());
            prop_assert_eq!(back.rows, gradient.rows);
        }
    }

    /// Whatever the bytes are: what the kernel may rely on, or an error.
    #[test]
    fn damaged_residuals_are_refused_or_sound(seed: u64, size in size(), n_changes in 1usize..5, cut in 0usize..9) {
        let mut stream = Stream::new(seed, "damage");
        let mut bytes = Vec::new();
        pmf::encode(size, &residuals(&mut stream, size, 0.05), Slice::WHOLE, &mut bytes);
        let cut = if cut < 6 { 0 } else { cut };
        bytes.truncate(bytes.len().saturating_sub(cut + super::DIGEST));
        for _ in 0..n_changes {
            let at = 8 + stream.below(bytes.len() as u64 - 8) as usize;
            bytes[at] = stream.next_u64() as u8;
        }
        close(0, &mut bytes);
        let mut found = Rows::default();
        if pmf::decode(size, &bytes, Slice::WHOLE, &mut found) == Ok(Travelled::Residuals) {
            let Residuals { starts, slots, errors } = &found.residuals;
            prop_assert_eq!(starts.len(), found.users.ids.len() + 1);
            prop_assert!(starts[0] == 0 && starts.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(starts[starts.len() - 1] as usize, errors.len());
            prop_assert_eq!(slots.len(), errors.len());
            prop_assert!(slots.iter().all(|&slot| (slot as usize) < found.items.ids.len()));
            for (rows, n) in [(&found.users, size.n_users), (&found.items, size.n_items)] {
                prop_assert!(rows.ids.is_sorted_by(|a, b| a < b) && rows.ids.last().is_none_or(|&id| id < n));
            }
        }
    }

    #[test]
    fn slices_cover_everything_once(n in prop_oneof![0u32..100, any::<u32>()], n_slices in 1u32..200) {
        let size = Size { shape: Shape { n_factors: 1, biases: false }, n_users: n, n_items: n };
        let (mut all, mut items) = (0, 0);
        for slice in slices(n_slices) {
            prop_assert_eq!(slice.of(n).start, all);
            prop_assert_eq!(size.items_in(slice).start, items);
            prop_assert!(slice.of(n).len().abs_diff((n / n_slices) as usize) <= 1);
            prop_assert!(items <= size.items_in(slice).end);
            (all, items) = (slice.of(n).end, size.items_in(slice).end);
        }
        prop_assert_eq!((all, items), (n, n));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that tests/oracle/wire.py made.
const SPARSE: &str = "474d6772010100016a180000000000000000e83ff603000052010000520100000500000005607817010b410000003f0000008000005040caf249\
    f1c2160100a24bc751b2d04743";

const ROWS: &str = "474d67720102030107000000000000000000f83f0a000000000000000a000000040000002004000000000000000400000004000000218d000000\
    00000000003e0000803e0000c03e00000040000008400000104000001840000040400000484000005040000058400000e0400000e4400000e840\
    0000ec4000000000000000be000080be0000c0be000080bf000090bf0000a0bf0000b0bf000000c0000008c0000010c0000018c0000040c00000\
    48c0000050c0000058c092cca30573d422ba";

const RESIDUALS: &str = "474d726501020301090000000a000000000000000a000000040000002004000000000000000400000003000000208d000b1b0092a40100\
    0080bf000040bf000000bf000080be000000000000803e0000003f0000403f0000803f9e77878f62036e2e";

#[test]
fn the_bytes_are_those_of_the_description() {
    let space = Space::new(1000, true, &[]);
    let (ids, values) = (vec![3, 338, 341, 400, 512, 675, 676], vec![9.0, 0.5, -0.0, 3.25, -1e30, 1e-40, 9.0]);
    let gradient = Sparse { ids, values, loss_sum: 0.75, rows: 6250 };
    let mut bytes = Vec::new();
    logistic::encode(&space, &gradient, Slice { index: 1, n_slices: 3 }, &mut bytes);
    assert_eq!(hex(&bytes), SPARSE);
    let size = Size { shape: Shape { n_factors: 3, biases: true }, n_users: 10, n_items: 4 };
    let row = |id: f32, places: [usize; 4]| {
        let mut row = [0.0; LANES];
        (0u8..).zip(places).for_each(|(i, place)| row[place] = id + f32::from(i) / 8.0);
        row
    };
    let users = [0.0, 2.0, 3.0, 7.0].map(|id| row(id, [0, 1, 2, 3])).to_vec();
    let items = [0.0, 1.0, 2.0, 3.0].map(|id| row(id, [0, 1, 2, 4]).map(|x| 0.0 - x));
    let gradient = Rows {
        users: RowGradients { ids: vec![0, 2, 3, 7], values: users },
        items: RowGradients { ids: vec![0, 1, 2, 3], values: items.to_vec() },
        squared_error: 1.5,
        rows: 7,
        residuals: Residuals::default(),
    };
    bytes.clear();
    pmf::encode(size, &gradient, Slice::WHOLE, &mut bytes);
    assert_eq!(hex(&bytes), ROWS);
    let (starts, slots) = (vec![0, 1, 3, 4, 9], vec![2, 0, 1, 2, 0, 1, 2, 2, 1]);
    let errors = (0..9u8).map(|row| f32::from(row) / 4.0 - 1.0).collect();
    let items = RowGradients { ids: vec![0, 1, 3], values: items[..3].to_vec() };
    let gradient = Rows { items, residuals: Residuals { starts, slots, errors }, ..gradient };
    bytes.clear();
    pmf::encode(size, &gradient, Slice::WHOLE, &mut bytes);
    assert_eq!(hex(&bytes), RESIDUALS);
}

/// Bytes whose digest was made anew after `change`.
fn changed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    bytes.truncate(bytes.len() - super::DIGEST);
    change(&mut bytes);
    close(0, &mut bytes);
    bytes
}

#[test]
fn errors_say_what_is_wrong() {
    let space = Space::new(1000, true, &[]);
    let gradient = Sparse { ids: vec![3, 4], values: vec![1.0, 2.0], loss_sum: 1.0, rows: 2 };
    let good = whole(&space, &gradient);
    let set = |at: usize, value: u8| changed(good.clone(), |bytes| bytes[at] = value);
    let cases: [(Vec<u8>, &str); 15] = [
        (vec![], "0 bytes; 4 are needed"),
        (b"PK\x03\x04 and so on".to_vec(), "begins with [80, 75, 3, 4], which no gradient does"),
        (good[..12].to_vec(), "12 bytes; 16 are needed"),
        (set(4, 2), "gradient of version 2; this program reads version 1"),
        (
            [&good[..30], &[255], &good[31..]].concat(),
            "the digest is not that of the bytes, so some were changed on their way",
        ),
        (set(5, 2), "kind of model: 2; this model has 1"),
        (set(6, 20), "factors: 20; this model has 0"),
        (set(7, 0), "intercept or biases: 0; this model has 1"),
        (set(20, 0), "parameters: 768; this model has 1014"),
        (set(24, 1), "first id of the slice: 1; this model has 0"),
        (set(28, 1), "ids of the slice: 769; this model has 1014"),
        (set(36, 34), "2 parameters of 1014 in form 34, which cannot be"),
        (set(35, 200), "3355443202 parameters of 1014 in form 8, which cannot be"),
        (changed(good.clone(), |bytes| bytes.push(0)), "12 bytes; 11 are needed"),
        // The lower bits of both ids are 0: the second does not ascend.
        (changed(good.clone(), |bytes| bytes[37..39].fill(0)), "parameters, entry 1: the ids must ascend"),
    ];
    for (bytes, expected) in cases {
        let error = logistic::decode(&space, &bytes, Slice::WHOLE, &mut Sparse::default()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error:?}, not {expected:?}");
    }
}

/// What a message may take beyond four bytes for each value.
#[test]
fn messages_are_as_small_as_they_can_be() {
    let bound = |n: f64, k: f64| {
        let entropy = |p: f64| -p * p.log2() - (1.0 - p) * (1.0 - p).log2();
        4.0 * k + n * entropy(k / n) / 8.0
    };
    for (chance, excess) in [(0.043, 1.02), (0.39, 1.005)] {
        let space = Space::new(1_000_000, true, &[]);
        let gradient = sparse(&mut Stream::new(8, "size"), &space, chance, false);
        let least = bound(1e6, gradient.ids.len() as f64);
        let bytes = whole(&space, &gradient).len() as f64;
        assert!(bytes < least * excess && bytes > least, "{bytes} {least} {}", gradient.ids.len());
    }
    let space = Space::new(0, true, &[]);
    let gradient = Sparse { ids: (0..14).collect(), values: vec![1.0; 14], loss_sum: 1.0, rows: 6250 };
    assert_eq!(whole(&space, &gradient).len(), 101);
}
