//! Kernels of matrix factorisation on data shaped like MovieLens 20M: batches of 12,000 ratings of 138,493 users and 26,744
//! items, 20 factors with biases. One item is one rating: divan's throughput is in ratings per second on one core.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use random::Stream;
use train_core::lanes::Simd;
use train_core::pmf::batch::{Arranger, RatingBatch};
use train_core::pmf::factors::{Block, Line, Rows, Shape, Side, start};
use train_core::pmf::gradient::{
    Gradient, Model, Scratch, from_residuals, gradient, gradient_with_residuals, squared_error,
};
use train_core::pmf::nesterov::{self, Motion, Part, apply, reduce};
use train_core::wire::Slice;
use train_core::wire::pmf::{Size, decode, encode, read_state, write_state};

const N_USERS: u32 = 138_493;
const N_ITEMS: u32 = 26_744;
const ROWS: usize = 12_000;
const BATCHES: usize = 64;
const SHAPE: Shape = Shape { n_factors: 20, biases: true };

const SIZE: Size = Size { shape: SHAPE, n_users: N_USERS, n_items: N_ITEMS };

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

/// What a worker computes of the residuals that another has sent.
#[divan::bench(args = variants())]
fn gradient_from_residuals(bencher: Bencher<'_, '_>, simd: Simd) {
    let (batches, (users, items)) = (batches(), matrices());
    let mut gradients = gradients(simd, &batches, &users, &items);
    let (users, items): (Vec<_>, Vec<_>) = (users.iter().collect(), items.iter().collect());
    let motion = Motion::new(8.0, 0.8);
    let model = Model { shape: SHAPE, users: Rows::new(&users), items: Rows::new(&items), motion: &motion, steps: 0 };
    let (mut scratch, mut i) = (Scratch::default(), 0);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        i = (i + 1) % BATCHES;
        from_residuals(simd, &model, 0.02, &mut scratch, &mut gradients[i]);
    });
}

#[divan::bench(args = variants())]
fn squared_error_of_batch(bencher: Bencher<'_, '_>, simd: Simd) {
    let (batches, (users, items)) = (batches(), matrices());
    let (users, items): (Vec<_>, Vec<_>) = (users.iter().collect(), items.iter().collect());
    let motion = Motion::new(8.0, 0.8);
    let model = Model { shape: SHAPE, users: Rows::new(&users), items: Rows::new(&items), motion: &motion, steps: 0 };
    let (mut scratch, mut errors, mut i) = (Scratch::default(), Vec::new(), 0);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        i = (i + 1) % BATCHES;
        squared_error(simd, &model, &batches[i], &mut scratch, &mut errors)
    });
}

fn gradients(simd: Simd, batches: &[RatingBatch], users: &[Block<'_>], items: &[Block<'_>]) -> Vec<Gradient> {
    let (users, items): (Vec<_>, Vec<_>) = (users.iter().collect(), items.iter().collect());
    let motion = Motion::new(8.0, 0.8);
    let model = Model { shape: SHAPE, users: Rows::new(&users), items: Rows::new(&items), motion: &motion, steps: 0 };
    let mut scratch = Scratch::default();
    let one = |batch: &RatingBatch| {
        let mut out = Gradient::default();
        gradient_with_residuals(simd, &model, 0.02, batch, &mut scratch, &mut out);
        out
    };
    batches.iter().map(one).collect()
}

/// Reduction and update of all blocks for a step of two batches; the count is that of both batches' ratings.
#[divan::bench(args = variants())]
fn apply_step_of_two(bencher: Bencher<'_, '_>, simd: Simd) {
    let (batches, (mut users, mut items)) = (batches(), matrices());
    let motion = Motion::new(8.0, 0.8);
    let gradients = gradients(simd, &batches, &users, &items);
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

/// The gradients of the first `n` batches.
fn some_gradients(n: usize) -> Vec<Gradient> {
    let (users, items) = matrices();
    gradients(Simd::detect(), &batches()[..n], &users, &items)
}

/// A gradient to bytes or back; throughput is in those bytes.
#[divan::bench(args = [false, true])]
fn message(bencher: Bencher<'_, '_>, decoding: bool) {
    let gradients = some_gradients(8);
    let (mut bytes, mut out, mut i) = (Vec::new(), Gradient::default(), 0);
    let messages: Vec<Vec<u8>> = gradients
        .iter()
        .map(|gradient| {
            let mut bytes = Vec::new();
            encode(SIZE, gradient, Slice::WHOLE, &mut bytes);
            bytes
        })
        .collect();
    bencher.counter(BytesCount::new(messages[0].len())).bench_local(|| {
        i = (i + 1) % 8;
        if decoding {
            decode(SIZE, &messages[i], Slice::WHOLE, &mut out).expect("the bytes are right");
        } else {
            bytes.clear();
            encode(SIZE, &gradients[i], Slice::WHOLE, &mut bytes);
        }
    });
}

/// Reduction of 24 gradients: all of them, or one slice of 24.
#[divan::bench(args = [1, 24])]
fn reduction_of_24(bencher: Bencher<'_, '_>, n_slices: u32) {
    let gradients = some_gradients(24);
    let part = |(slot, gradients)| Part { slot, weight: 0.25, gradients };
    let users: Vec<_> = (0..).zip(gradients.iter().map(|g| &g.users)).map(part).collect();
    let items: Vec<_> = (0..).zip(gradients.iter().map(|g| &g.items)).map(part).collect();
    let (mut out, mut scratch) = (Gradient::default(), nesterov::Scratch::default());
    let slice = Slice { index: n_slices / 2, n_slices };
    bencher.bench_local(|| {
        reduce(Simd::detect(), SHAPE, &users, SIZE.users_in(slice), &mut scratch, &mut out.users);
        reduce(Simd::detect(), SHAPE, &items, SIZE.items_in(slice), &mut scratch, &mut out.items);
    });
}

/// Throughput is in bytes of the state: what a checkpoint takes.
#[divan::bench(args = [false, true])]
fn state(bencher: Bencher<'_, '_>, restore: bool) {
    let (users, items) = matrices();
    let mut blocks: Vec<_> = users.into_iter().chain(items).collect();
    let bytes = write_state(SIZE, 0, &blocks.iter().collect::<Vec<_>>());
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        if restore {
            read_state(SIZE, &bytes, &mut blocks.iter_mut().collect::<Vec<_>>()).expect("the bytes are right");
        } else {
            divan::black_box(write_state(SIZE, 0, &blocks.iter().collect::<Vec<_>>()));
        }
    });
}
