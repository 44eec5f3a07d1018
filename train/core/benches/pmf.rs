//! Kernels of matrix factorisation on data shaped like MovieLens 20M: batches of 12,000 ratings of 138,493 users and 26,744
//! items, 20 factors with biases. One item is one rating: divan's throughput is in ratings per second on one core.

use divan::Bencher;
use divan::counter::ItemsCount;
use random::Stream;
use train_core::lanes::Simd;
use train_core::pmf::batch::{Arranger, RatingBatch};
use train_core::pmf::factors::{Block, Line, Rows, Shape, Side, start};
use train_core::pmf::gradient::{Gradient, Model, Scratch, gradient, squared_error};
use train_core::pmf::nesterov::{self, Motion, Part, apply};

const N_USERS: u32 = 138_493;
const N_ITEMS: u32 = 26_744;
const ROWS: usize = 12_000;
const BATCHES: usize = 64;
const SHAPE: Shape = Shape { n_factors: 20, biases: true };

fn main() {
    divan::main();
}

type Columns = (Vec<u32>, Vec<u32>, Vec<f32>);

/// Ratings sorted by user, items with Zipf-like popularity.
fn columns(seed: u64) -> Columns {
    let mut stream = Stream::new(seed, "bench");
    let mut rows: Vec<(u32, u32, f32)> = (0..ROWS)
        .map(|_| {
            let user = stream.below(u64::from(N_USERS)) as u32;
            let popularity = f64::from(N_ITEMS + 1).powf(stream.unit()) - 1.0;
            let item = ((popularity as u32).min(N_ITEMS - 1)).wrapping_mul(7919) % N_ITEMS;
            (user, item, (stream.below(10) as f32) * 0.5 - 3.0)
        })
        .collect();
    rows.sort_by_key(|r| (r.0, r.1));
    (rows.iter().map(|r| r.0).collect(), rows.iter().map(|r| r.1).collect(), rows.iter().map(|r| r.2).collect())
}

fn batches() -> Vec<RatingBatch> {
    let mut arranger = Arranger::default();
    (0..BATCHES as u64)
        .map(|seed| {
            let (users, items, ratings) = columns(seed);
            let mut batch = RatingBatch::default();
            batch.arrange(&mut arranger, (N_USERS, N_ITEMS), &users, &items, &ratings).expect("the rows are right");
            batch
        })
        .collect()
}

fn matrices() -> (Vec<Block<'static>>, Vec<Block<'static>>) {
    let memory = |rows| vec![Line::default(); SHAPE.lines(rows)].leak();
    (start(8, Side::User, SHAPE, N_USERS, memory(N_USERS)), start(8, Side::Item, SHAPE, N_ITEMS, memory(N_ITEMS)))
}

#[divan::bench]
fn arrange(bencher: Bencher<'_, '_>) {
    let columns: Vec<Columns> = (0..BATCHES as u64).map(columns).collect();
    let (mut arranger, mut batch, mut i) = (Arranger::default(), RatingBatch::default(), 0);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        i = (i + 1) % BATCHES;
        let (users, items, ratings) = &columns[i];
        batch.arrange(&mut arranger, (N_USERS, N_ITEMS), users, items, ratings).expect("the rows are right");
    });
}

fn variants() -> [Simd; 2] {
    [Simd::Portable, Simd::detect()]
}

#[divan::bench(args = variants())]
fn gradient_of_batch(bencher: Bencher<'_, '_>, simd: Simd) {
    let (batches, (users, items)) = (batches(), matrices());
    let (users, items): (Vec<_>, Vec<_>) = (users.iter().collect(), items.iter().collect());
    let motion = Motion::new(8.0, 0.8);
    let model = Model { shape: SHAPE, users: Rows::new(&users), items: Rows::new(&items), motion: &motion, steps: 0 };
    let (mut scratch, mut out, mut i) = (Scratch::default(), Gradient::default(), 0);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        i = (i + 1) % BATCHES;
        gradient(simd, &model, 0.02, &batches[i], &mut scratch, &mut out);
    });
}

#[divan::bench(args = variants())]
fn squared_error_of_batch(bencher: Bencher<'_, '_>, simd: Simd) {
    let (batches, (users, items)) = (batches(), matrices());
    let (users, items): (Vec<_>, Vec<_>) = (users.iter().collect(), items.iter().collect());
    let motion = Motion::new(8.0, 0.8);
    let model = Model { shape: SHAPE, users: Rows::new(&users), items: Rows::new(&items), motion: &motion, steps: 0 };
    let (mut scratch, mut i) = (Scratch::default(), 0);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        i = (i + 1) % BATCHES;
        squared_error(simd, &model, &batches[i], &mut scratch)
    });
}

/// Reduction and update of all blocks for a step of two batches; the count is that of both batches' ratings.
#[divan::bench(args = variants())]
fn apply_step_of_two(bencher: Bencher<'_, '_>, simd: Simd) {
    let (batches, (mut users, mut items)) = (batches(), matrices());
    let motion = Motion::new(8.0, 0.8);
    let gradients: Vec<Gradient> = {
        let (users, items): (Vec<_>, Vec<_>) = (users.iter().collect(), items.iter().collect());
        let model =
            Model { shape: SHAPE, users: Rows::new(&users), items: Rows::new(&items), motion: &motion, steps: 0 };
        let mut scratch = Scratch::default();
        batches
            .iter()
            .map(|batch| {
                let mut out = Gradient::default();
                gradient(simd, &model, 0.02, batch, &mut scratch, &mut out);
                out
            })
            .collect()
    };
    let (mut scratch, mut step) = (nesterov::Scratch::default(), 0u32);
    bencher.counter(ItemsCount::new(2 * ROWS)).bench_local(|| {
        let pair = [&gradients[2 * step as usize % BATCHES], &gradients[(2 * step as usize + 1) % BATCHES]];
        for (blocks, side) in [(&mut users, Side::User), (&mut items, Side::Item)] {
            let parts: Vec<Part<'_>> = (0..2u32)
                .zip(pair)
                .map(|(slot, g)| Part {
                    slot,
                    weight: 1.0 / ROWS as f32,
                    gradients: if side == Side::User { &g.users } else { &g.items },
                })
                .collect();
            for block in blocks {
                apply(simd, SHAPE, &motion, step, &parts, block, &mut scratch);
            }
        }
        step += 1;
    });
}
