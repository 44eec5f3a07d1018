//! Kernels of logistic regression on data shaped like Criteo's: batches of 6250 rows with 13 numbers and 26 buckets of a million.
//! One item is one row, so divan's throughput is in rows per second on one core; Adam's is in bytes of moments and weights, read and
//! written, to be held against `copy`, which does nothing but move as many.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use random::Stream;
use train_core::lanes::Simd;
use train_core::logistic::adam::{self, Adam, Part, apply, apply_reduced, reduce};
use train_core::logistic::gradient::{Gradient, Scratch, gradient, loss, outputs, probabilities};
use train_core::logistic::weights::{BLOCK, Block, Effects, floats, start};
use train_core::logistic::{Buckets, Clicks, N_NUMBERS, Space};
use train_core::quality::Tally;
use train_core::wire::Slice;
use train_core::wire::logistic::{decode, encode, read_state, write_state};

const ROWS: usize = 6250;
const BATCHES: usize = 32;
const BUCKETS: u32 = 1_000_000;
/// Distinct tokens of the 26 columns of the Criteo log.
const TOKENS: [u32; 26] = [
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683, 8_351_593, 3194, 27, 14_992, 5_461_306,
    10, 5652, 2173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572,
];

fn main() {
    divan::main();
}

struct Rows {
    labels: Vec<f32>,
    numbers: [Vec<f32>; N_NUMBERS],
    buckets: Vec<Column>,
}

/// A column as `shard` stores it: with a dictionary if that is small.
struct Column {
    buckets: Vec<u32>,
    dictionary: Vec<u32>,
    codes: Vec<u16>,
}

impl Column {
    const DICTIONARY_MAX: usize = 2000;

    fn new(buckets: Vec<u32>) -> Self {
        let mut dictionary: Vec<u32> = buckets.iter().copied().filter(|&bucket| bucket != u32::MAX).collect();
        dictionary.sort_unstable();
        dictionary.dedup();
        let code = |bucket| dictionary.binary_search(bucket).unwrap_or(dictionary.len()) as u16;
        let codes = if dictionary.len() > Self::DICTIONARY_MAX { vec![] } else { buckets.iter().map(code).collect() };
        Self { buckets, dictionary, codes }
    }

    fn view(&self) -> Buckets<'_> {
        let Self { buckets, dictionary, codes } = self;
        if codes.is_empty() { Buckets::Plain(buckets) } else { Buckets::Coded { dictionary, codes } }
    }
}

impl Rows {
    fn with<T>(&self, see: impl FnOnce(&Clicks<'_>) -> T) -> T {
        let buckets: Vec<_> = self.buckets.iter().map(Column::view).collect();
        see(&Clicks { labels: &self.labels, numbers: &self.numbers, buckets: &buckets })
    }
}

/// A batch whose tokens have Zipf-like frequencies; some values are missing.
fn rows(seed: u64, dense: bool) -> Rows {
    let mut stream = Stream::new(seed, "bench");
    let mut number = |_| if !dense && stream.below(5) == 0 { f32::NAN } else { stream.unit() as f32 };
    let numbers = std::array::from_fn(|_| (0..ROWS).map(&mut number).collect());
    let mut stream = Stream::new(seed, "buckets");
    let mut bucket = |column: usize, tokens: u32| {
        if stream.below(10) == 0 {
            return u32::MAX;
        }
        let rank = f64::from(tokens).powf(stream.unit()) as u64;
        ((rank * 26 + column as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as u32 % BUCKETS
    };
    let column = |(j, &tokens): (usize, &u32)| Column::new((0..ROWS).map(|_| bucket(j, tokens)).collect());
    let buckets = if dense { vec![] } else { TOKENS.iter().enumerate().map(column).collect() };
    let mut stream = Stream::new(seed, "labels");
    Rows { labels: (0..ROWS).map(|_| f32::from(u8::from(stream.below(4) == 0))).collect(), numbers, buckets }
}

fn space(dense: bool) -> Space {
    Space::new(if dense { 0 } else { BUCKETS }, true, &[])
}

/// Parameters that are not 0.
fn blocks(space: &Space, batches: &[Rows]) -> Vec<Block<'static>> {
    let mut blocks = start(space, vec![0.0; floats(space)].leak());
    let (mut scratch, mut adam_scratch) = (Scratch::default(), adam::Scratch::default());
    for step in 0..4 {
        let mut out = Gradient::default();
        let effects: Vec<&[f32; BLOCK]> = blocks.iter().map(Block::effects).collect();
        batches[step as usize % batches.len()].with(|batch| {
            gradient(Simd::detect(), space, Effects::new(&effects), batch, &mut scratch, &mut out);
        });
        let parts = [Part { weight: 1.0 / ROWS as f32, gradient: &out }];
        for block in &mut blocks {
            apply(Simd::detect(), space, ADAM, step, &parts, block, &mut adam_scratch);
        }
    }
    blocks
}

const ADAM: Adam = Adam { learning_rate: 0.0075, beta1: 0.9, beta2: 0.999, l2: 0.0 };

#[derive(Clone, Copy, Debug)]
struct Case {
    dense: bool,
    simd: Simd,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", if self.dense { "dense" } else { "sparse" }, self.simd)
    }
}

fn cases() -> Vec<Case> {
    let cases = [false, true].map(|dense| [Simd::Portable, Simd::detect()].map(|simd| Case { dense, simd }));
    cases.concat()
}

#[divan::bench(args = cases())]
fn forward(bencher: Bencher<'_, '_>, Case { dense, simd }: Case) {
    let (space, batches) = (space(dense), (0..BATCHES as u64).map(|seed| rows(seed, dense)).collect::<Vec<_>>());
    let blocks = blocks(&space, &batches);
    let effects: Vec<&[f32; BLOCK]> = blocks.iter().map(Block::effects).collect();
    let (mut scratch, mut i) = (Scratch::default(), 0);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        i = (i + 1) % BATCHES;
        batches[i].with(|batch| outputs(simd, &space, Effects::new(&effects), batch, &mut scratch).len())
    });
}

#[divan::bench(args = cases())]
fn forward_and_backward(bencher: Bencher<'_, '_>, Case { dense, simd }: Case) {
    let (space, batches) = (space(dense), (0..BATCHES as u64).map(|seed| rows(seed, dense)).collect::<Vec<_>>());
    let blocks = blocks(&space, &batches);
    let effects: Vec<&[f32; BLOCK]> = blocks.iter().map(Block::effects).collect();
    let (mut scratch, mut out, mut i) = (Scratch::default(), Gradient::default(), 0);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        i = (i + 1) % BATCHES;
        batches[i].with(|batch| gradient(simd, &space, Effects::new(&effects), batch, &mut scratch, &mut out));
    });
}

/// Outputs to losses, probabilities and counts, as for held-out rows.
#[divan::bench(args = [Simd::Portable, Simd::detect()])]
fn measure(bencher: Bencher<'_, '_>, simd: Simd) {
    let mut stream = Stream::new(8, "bench");
    let outputs: Vec<f32> = (0..ROWS).map(|_| (stream.unit() * 8.0 - 6.0) as f32).collect();
    let labels = rows(8, true).labels;
    let (mut tally, mut p) = (Tally::default(), outputs.clone());
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        p.copy_from_slice(&outputs);
        probabilities(simd, &mut p);
        tally.add(&outputs, &p, &labels);
        loss(simd, &outputs, &labels)
    });
}

/// Reduction and Adam over a million parameters for a step of two batches.
#[divan::bench(args = [Simd::Portable, Simd::detect()])]
fn adam_step_of_two(bencher: Bencher<'_, '_>, simd: Simd) {
    let (space, batches) = (space(false), (0..BATCHES as u64).map(|seed| rows(seed, false)).collect::<Vec<_>>());
    let mut blocks = blocks(&space, &batches);
    let mut scratch = Scratch::default();
    let gradients: Vec<Gradient> = {
        let effects: Vec<&[f32; BLOCK]> = blocks.iter().map(Block::effects).collect();
        let one = |batch: &Rows| {
            let mut out = Gradient::default();
            batch.with(|batch| gradient(simd, &space, Effects::new(&effects), batch, &mut scratch, &mut out));
            out
        };
        batches.iter().map(one).collect()
    };
    let (mut scratch, mut step) = (adam::Scratch::default(), 4u32);
    bencher.counter(BytesCount::new(space.n_positions() * 3 * 4 * 2)).bench_local(|| {
        let i = 2 * step as usize % BATCHES;
        let parts = [i, i + 1].map(|i| Part { weight: 1.0 / (2 * ROWS) as f32, gradient: &gradients[i] });
        for block in &mut blocks {
            apply(simd, &space, ADAM, step, &parts, block, &mut scratch);
        }
        step += 1;
    });
}

/// What moving the same bytes takes: three arrays of a million floats, read and written.
#[divan::bench]
fn copy(bencher: Bencher<'_, '_>) {
    let mut arrays = vec![0.5f32; 3 * (BUCKETS as usize + 15)];
    bencher.counter(BytesCount::new(arrays.len() * 4 * 2)).bench_local(|| {
        arrays.iter_mut().for_each(|x| *x *= 1.000_1);
    });
}

/// The gradients of `n` batches of a model that has seen a few steps.
fn gradients(space: &Space, dense: bool, n: u64) -> Vec<Gradient> {
    let batches: Vec<Rows> = (0..n).map(|seed| rows(seed, dense)).collect();
    let blocks = blocks(space, &batches);
    let effects: Vec<&[f32; BLOCK]> = blocks.iter().map(Block::effects).collect();
    let mut scratch = Scratch::default();
    let one = |batch: &Rows| {
        let mut out = Gradient::default();
        batch.with(|batch| gradient(Simd::detect(), space, Effects::new(&effects), batch, &mut scratch, &mut out));
        out
    };
    batches.iter().map(one).collect()
}

/// Which gradient travels: whole, or the sum of 24.
#[derive(Clone, Copy, Debug)]
enum Message {
    Dense,
    Sparse,
    SparseSumOf24,
}

impl Message {
    const ALL: [Self; 3] = [Self::Dense, Self::Sparse, Self::SparseSumOf24];

    fn gradients(self) -> (Space, Vec<Gradient>) {
        let space = space(matches!(self, Self::Dense));
        let gradients = match self {
            Self::Dense => gradients(&space, true, 8),
            Self::Sparse => gradients(&space, false, 8),
            Self::SparseSumOf24 => vec![sum(&space, &gradients(&space, false, 24), Slice::WHOLE)],
        };
        (space, gradients)
    }
}

fn sum(space: &Space, gradients: &[Gradient], slice: Slice) -> Gradient {
    let parts: Vec<_> = gradients.iter().map(|gradient| Part { weight: 0.25, gradient }).collect();
    let mut out = Gradient::default();
    reduce(&parts, slice.of(space.n_parameters()), &mut adam::Scratch::default(), &mut out);
    out
}

/// Throughput is in bytes of ids and values.
#[divan::bench(args = Message::ALL)]
fn encoding(bencher: Bencher<'_, '_>, message: Message) {
    let (space, gradients) = message.gradients();
    let (mut bytes, mut i) = (Vec::new(), 0);
    bencher.counter(BytesCount::new(gradients[0].ids.len() * 8)).bench_local(|| {
        i = (i + 1) % gradients.len();
        bytes.clear();
        encode(&space, &gradients[i], Slice::WHOLE, &mut bytes);
        bytes.len()
    });
}

/// Throughput is in bytes of ids and values.
#[divan::bench(args = Message::ALL)]
fn decoding(bencher: Bencher<'_, '_>, message: Message) {
    let (space, gradients) = message.gradients();
    let encoded = |gradient: &Gradient| {
        let mut bytes = Vec::new();
        encode(&space, gradient, Slice::WHOLE, &mut bytes);
        bytes
    };
    let messages: Vec<Vec<u8>> = gradients.iter().map(encoded).collect();
    let (mut out, mut i) = (Gradient::default(), 0);
    bencher.counter(BytesCount::new(gradients[0].ids.len() * 8)).bench_local(|| {
        i = (i + 1) % messages.len();
        decode(&space, &messages[i], Slice::WHOLE, &mut out).expect("the bytes are right");
    });
}

/// Reduction of 24 gradients: all of them, or one slice of 24.
#[divan::bench(args = [1, 24])]
fn reduction_of_24(bencher: Bencher<'_, '_>, n_slices: u32) {
    let space = space(false);
    let gradients = gradients(&space, false, 24);
    let parts: Vec<_> = gradients.iter().map(|gradient| Part { weight: 0.25, gradient }).collect();
    let (mut out, mut scratch) = (Gradient::default(), adam::Scratch::default());
    let range = Slice { index: n_slices / 2, n_slices }.of(space.n_parameters());
    bencher.bench_local(|| reduce(&parts, range.clone(), &mut scratch, &mut out));
}

/// A step of 24 gradients over a million parameters, and of their 24 reduced slices.
#[divan::bench(args = [false, true])]
fn adam_step_of_24(bencher: Bencher<'_, '_>, reduced: bool) {
    let space = space(false);
    let gradients = gradients(&space, false, 24);
    let slices: Vec<_> = (0..24).map(|index| sum(&space, &gradients, Slice { index, n_slices: 24 })).collect();
    let slices: Vec<&Gradient> = slices.iter().collect();
    let parts: Vec<_> = gradients.iter().map(|gradient| Part { weight: 0.25, gradient }).collect();
    let mut blocks = start(&space, vec![0.0; floats(&space)].leak());
    let (mut scratch, mut step) = (adam::Scratch::default(), 0);
    bencher.bench_local(|| {
        for block in &mut blocks {
            if reduced {
                apply_reduced(Simd::detect(), &space, ADAM, step, &slices, block, &mut scratch);
            } else {
                apply(Simd::detect(), &space, ADAM, step, &parts, block, &mut scratch);
            }
        }
        step += 1;
    });
}

/// Throughput is in bytes of the state: what a checkpoint of a million parameters takes.
#[divan::bench(args = [false, true])]
fn state(bencher: Bencher<'_, '_>, restore: bool) {
    let space = space(false);
    let mut blocks = start(&space, vec![0.0; floats(&space)].leak());
    let bytes = write_state(&space, 0, &blocks.iter().collect::<Vec<_>>());
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        if restore {
            read_state(&space, &bytes, &mut blocks.iter_mut().collect::<Vec<_>>()).expect("the bytes are right");
        } else {
            divan::black_box(write_state(&space, 0, &blocks.iter().collect::<Vec<_>>()));
        }
    });
}
