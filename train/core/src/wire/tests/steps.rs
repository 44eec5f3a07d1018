//! Steps of gradients that travelled, and of replicas that were restored, against those that did not.

use proptest::prelude::*;
use random::Stream;

use super::{Rows, Sparse, bits, changed, rows, size, slices, space, sparse};
use crate::lanes::Simd;
use crate::logistic::Space;
use crate::logistic::adam::{self, Adam};
use crate::logistic::weights::{self, Block as WeightBlock, floats};
use crate::pmf::factors::{self, Block as RowBlock, Line, Shape, Side};
use crate::pmf::nesterov::{self, Motion};
use crate::wire::pmf::Size;
use crate::wire::{Slice, WireError, logistic, pmf};

/// All bits of a state.
type Sparse3 = (Vec<u32>, Vec<u32>, Vec<u32>, Vec<u32>, u32);

fn weight_bits(blocks: &[WeightBlock<'_>]) -> Vec<Sparse3> {
    let of = |b: &WeightBlock<'_>| {
        let scaled: Vec<f32> = b.scaled.iter().map(|s| s.weight).collect();
        (bits(&b.effects[..]), bits(&b.means[..]), bits(&b.squares[..]), bits(&scaled), b.steps)
    };
    blocks.iter().map(of).collect()
}

const ADAM: Adam = Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, l2: 0.001 };

fn weight_blocks(space: &Space) -> Vec<WeightBlock<'static>> {
    weights::start(space, vec![0.0; floats(space)].leak())
}

fn row_blocks(size: Size, seed: u64) -> Vec<RowBlock<'static>> {
    let memory = |n| -> &'static mut [Line] { vec![Line::default(); size.shape.lines(n)].leak() };
    let mut blocks = factors::start(seed, Side::User, size.shape, size.n_users, memory(size.n_users));
    blocks.extend(factors::start(seed, Side::Item, size.shape, size.n_items, memory(size.n_items)));
    blocks
}

fn row_bits(blocks: &[RowBlock<'_>]) -> Vec<(Vec<u32>, Vec<u32>, u32)> {
    let of = |b: &RowBlock<'_>| (bytemuck::cast_slice(b.lines).to_vec(), b.stamps.clone(), b.steps);
    blocks.iter().map(of).collect()
}

fn weighted<'a>(gradients: &'a [Sparse], weights: &[f32]) -> Vec<adam::Part<'a>> {
    gradients.iter().zip(weights).map(|(gradient, &weight)| adam::Part { weight, gradient }).collect()
}

fn simd(portable: bool) -> Simd {
    if portable { Simd::Portable } else { Simd::detect() }
}

fn apply_rows(
    simd: Simd,
    size: Size,
    motion: &Motion,
    step: u32,
    parts: &[(u32, f32, &Rows)],
    blocks: &mut [RowBlock<'_>],
) {
    let mut scratch = nesterov::Scratch::default();
    let [users, items] = [Side::User, Side::Item].map(|side| row_parts(side, parts));
    for block in blocks {
        let parts = if block.side == Side::User { &users } else { &items };
        nesterov::apply(simd, size.shape, motion, step, parts, block, &mut scratch);
    }
}

fn row_parts<'a>(side: Side, parts: &[(u32, f32, &'a Rows)]) -> Vec<nesterov::Part<'a>> {
    let gradients = |g: &'a Rows| if side == Side::User { &g.users } else { &g.items };
    let part = |&(slot, weight, g): &(u32, f32, &'a Rows)| nesterov::Part { slot, weight, gradients: gradients(g) };
    parts.iter().map(part).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Parts travel in slices, are reduced slice by slice, and the reduced slices travel: the same bits as applying the parts.
    #[test]
    fn reduced_slices_of_weights_apply_like_the_parts(
        seed: u64, space in space(), n_parts in 1usize..14, n_slices in 1u32..12, chance in prop_oneof![0.0..0.02, 0.0..=1.0],
        portable: bool,
    ) {
        let mut stream = Stream::new(seed, "parts");
        let (mut whole, mut sliced) = (weight_blocks(&space), weight_blocks(&space));
        let (mut scratch, simd) = (adam::Scratch::default(), simd(portable));
        for step in 0..3 {
            let gradients: Vec<Sparse> = (0..n_parts).map(|_| sparse(&mut stream, &space, chance, false)).collect();
            let weights: Vec<f32> = gradients.iter().map(|g| 1.0 / g.rows as f32).collect();
            let parts = weighted(&gradients, &weights);
            whole.iter_mut().for_each(|b| adam::apply(simd, &space, ADAM, step, &parts, b, &mut scratch));
            let mut reduced = Vec::new();
            for slice in slices(n_slices) {
                let travelled: Vec<Sparse> = gradients.iter().map(|g| travel(&space, g, slice)).collect();
                let travelled = weighted(&travelled, &weights);
                let (mut of_slices, mut of_wholes) = (Sparse::default(), Sparse::default());
                let range = slice.of(space.n_parameters());
                adam::reduce(&travelled, range.clone(), &mut scratch, &mut of_slices);
                adam::reduce(&parts, range.clone(), &mut scratch, &mut of_wholes);
                prop_assert_eq!(bits(&of_slices.values), bits(&of_wholes.values));
                prop_assert_eq!(&of_slices.ids, &of_wholes.ids);
                let mut union: Vec<u32> = gradients.iter().flat_map(|g| g.ids.clone()).filter(|id| range.contains(id)).collect();
                union.sort_unstable();
                union.dedup();
                prop_assert_eq!(&of_slices.ids, &union);
                prop_assert_eq!(of_slices.rows, gradients.iter().map(|g| g.rows).sum::<u32>());
                reduced.push(travel(&space, &of_slices, slice));
            }
            let reduced: Vec<&Sparse> = reduced.iter().collect();
            sliced.iter_mut().for_each(|b| adam::apply_reduced(simd, &space, ADAM, step, &reduced, b, &mut scratch));
            prop_assert_eq!(weight_bits(&whole), weight_bits(&sliced));
        }
    }

    #[test]
    fn reduced_slices_of_rows_apply_like_the_parts(
        seed: u64, size in size(), n_parts in 1u32..14, n_slices in 1u32..12, chance in 0.0..0.3, portable: bool,
    ) {
        let mut stream = Stream::new(seed, "parts");
        let (mut whole, mut sliced) = (row_blocks(size, seed), row_blocks(size, seed));
        let (motion, simd, mut scratch) = (Motion::new(0.5, 0.8), simd(portable), nesterov::Scratch::default());
        for step in 0..3 {
            let gradients: Vec<Rows> = (0..n_parts).map(|_| rows(&mut stream, size, chance, false)).collect();
            // Slots ascend, with gaps.
            let parts: Vec<_> = (0..).zip(&gradients).map(|(i, g)| (i * i, 1.0 / g.rows as f32, g)).collect();
            apply_rows(simd, size, &motion, step, &parts, &mut whole);
            let mut reduced = Vec::new();
            for slice in slices(n_slices) {
                let mut out = Rows::default();
                for (side, range, out) in [
                    (Side::User, size.users_in(slice), &mut out.users),
                    (Side::Item, size.items_in(slice), &mut out.items),
                ] {
                    let parts = row_parts(side, &parts);
                    nesterov::reduce(simd, size.shape, &parts, range, &mut scratch, out);
                }
                let (mut bytes, mut back) = (Vec::new(), Rows::default());
                pmf::encode(size, &out, slice, &mut bytes);
                pmf::decode(size, &bytes, slice, &mut back).unwrap();
                reduced.push(back);
            }
            let reduced: Vec<_> = (0..).zip(&reduced).map(|(slot, g)| (slot, 1.0, g)).collect();
            apply_rows(simd, size, &motion, step, &reduced, &mut sliced);
            prop_assert_eq!(row_bits(&whole), row_bits(&sliced));
        }
    }

    /// A run that is cut in two by a checkpoint is the whole run.
    #[test]
    fn weights_go_on_from_their_state(seed: u64, space in space(), before in 0u32..4, chance in 0.0..0.2) {
        let mut stream = Stream::new(seed, "state");
        let (mut run, mut other) = (weight_blocks(&space), weight_blocks(&space));
        let mut scratch = adam::Scratch::default();
        let mut step = |blocks: &mut [WeightBlock<'_>], step, gradient: &Sparse| {
            let parts = [adam::Part { weight: 0.5, gradient }];
            blocks.iter_mut().for_each(|b| adam::apply(Simd::detect(), &space, ADAM, step, &parts, b, &mut scratch));
        };
        for i in 0..before {
            step(&mut run, i, &sparse(&mut stream, &space, chance, false));
        }
        // What was there is overwritten.
        step(&mut other, 0, &sparse(&mut stream, &space, chance, false));
        let bytes = logistic::write_state(&space, before, &run.iter().collect::<Vec<_>>());
        prop_assert_eq!(bytes.len(), space.n_parameters() as usize * 12 + 32);
        let restored = logistic::read_state(&space, &bytes, &mut other.iter_mut().collect::<Vec<_>>());
        prop_assert_eq!(restored, Ok(before));
        for i in before..before + 2 {
            let gradient = sparse(&mut stream, &space, chance, false);
            step(&mut run, i, &gradient);
            step(&mut other, i, &gradient);
        }
        prop_assert_eq!(weight_bits(&run), weight_bits(&other));
    }

    #[test]
    fn rows_go_on_from_their_state(seed: u64, size in size(), before in 0u32..4, chance in 0.0..0.2) {
        let mut stream = Stream::new(seed, "state");
        let (mut run, mut other) = (row_blocks(size, seed), row_blocks(size, !seed));
        let motion = Motion::new(0.5, 0.8);
        let step = |blocks: &mut [RowBlock<'_>], step, gradient: &Rows| {
            apply_rows(Simd::detect(), size, &motion, step, &[(0, 0.5, gradient)], blocks);
        };
        for i in 0..before {
            step(&mut run, i, &rows(&mut stream, size, chance, false));
        }
        step(&mut other, 0, &rows(&mut stream, size, chance, true));
        let bytes = pmf::write_state(size, before, &run.iter().collect::<Vec<_>>());
        let restored = pmf::read_state(size, &bytes, &mut other.iter_mut().collect::<Vec<_>>());
        prop_assert_eq!(restored, Ok(before));
        prop_assert_eq!(row_bits(&run), row_bits(&other));
        for i in before..before + 2 {
            let gradient = rows(&mut stream, size, chance, false);
            step(&mut run, i, &gradient);
            step(&mut other, i, &gradient);
        }
        prop_assert_eq!(row_bits(&run), row_bits(&other));
    }
}

fn travel(space: &Space, gradient: &Sparse, slice: Slice) -> Sparse {
    let (mut bytes, mut back) = (Vec::new(), Sparse::default());
    logistic::encode(space, gradient, slice, &mut bytes);
    logistic::decode(space, &bytes, slice, &mut back).unwrap();
    back
}

#[test]
fn a_wrong_state_changes_nothing() {
    let space = Space::new(50, false, &[(7, 2)]);
    let scaled = Space::new(50, false, &[(7, 3)]);
    let mut blocks = weight_blocks(&space);
    let state = logistic::write_state(&space, 0, &blocks.iter().collect::<Vec<_>>());
    let before = weight_bits(&blocks);
    let long = changed(state.clone(), |bytes| bytes.push(1));
    for (space, bytes) in [(&scaled, &state), (&space, &long), (&space, &state[..40].to_vec())] {
        logistic::read_state(space, bytes, &mut blocks.iter_mut().collect::<Vec<_>>()).unwrap_err();
    }
    assert_eq!(weight_bits(&blocks), before);

    let size = Size { shape: Shape { n_factors: 3, biases: true }, n_users: 5, n_items: 4 };
    let mut blocks = row_blocks(size, 8);
    let state = pmf::write_state(size, 0, &blocks.iter().collect::<Vec<_>>());
    let before = row_bits(&blocks);
    // After head, steps and sizes: the stamp of the second item, that of a step which is still to come.
    let early = changed(state.clone(), |bytes| bytes[20 + 4 * 6] = 1);
    let mut read = |size, bytes: &[u8]| pmf::read_state(size, bytes, &mut blocks.iter_mut().collect::<Vec<_>>());
    assert_eq!(read(size, &early), Err(WireError::Stamp { what: "items", row: 1, stamp: 1, steps: 0 }));
    let fewer = Size { n_items: 3, ..size };
    assert_eq!(read(fewer, &state), Err(WireError::Shape { what: "items", found: 4, expected: 3 }));
    assert_eq!(row_bits(&blocks), before);
}
