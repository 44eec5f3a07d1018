//! Matrix factorisation against PyTorch, against its textbook form, and against finite differences.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use proptest::prelude::*;
use serde::Deserialize;
use train_core::lanes::{Lane, Simd};
use train_core::pmf::batch::{Arranger, RatingBatch};
use train_core::pmf::factors::{BLOCK_ROWS, Block, Line, Matrix, Rows, Shape, Side, from_rows};
use train_core::pmf::gradient::{
    Gradient, Model, Residuals, Scratch, from_residuals, gradient, gradient_with_residuals, squared_error,
};
use train_core::pmf::nesterov::{self, Motion, Part, apply};
use train_core::pmf::textbook::{Row, TextbookPmf};
use train_core::wire::Slice;
use train_core::wire::pmf::{Size, Travelled, decode, encode};

/// Memory for so many rows, for as long as the test runs.
fn memory(shape: Shape, rows: usize) -> &'static mut [Line] {
    vec![Line::default(); shape.lines(rows as u32)].leak()
}

/// The fast form, driven the way a worker drives it.
struct Lazy {
    shape: Shape,
    motion: Motion,
    users: Vec<Block<'static>>,
    items: Vec<Block<'static>>,
    steps: u32,
    simd: Simd,
}

impl Lazy {
    fn new(shape: Shape, motion: Motion, users: &[f64], items: &[f64], simd: Simd) -> Self {
        let d = shape.n_factors;
        let blocks = |side, rows: &[f64]| {
            from_rows(side, shape, (rows.len() / d) as u32, memory(shape, rows.len() / d), |i, row| {
                row[..d].iter_mut().zip(&rows[i as usize * d..]).for_each(|(x, &start)| *x = start as f32);
            })
        };
        Self { shape, users: blocks(Side::User, users), items: blocks(Side::Item, items), motion, steps: 0, simd }
    }

    fn with<T>(&self, f: impl FnOnce(&Model<'_>) -> T) -> T {
        let (users, items): (Vec<_>, Vec<_>) = (self.users.iter().collect(), self.items.iter().collect());
        let model = Model {
            shape: self.shape,
            users: Rows::new(&users),
            items: Rows::new(&items),
            motion: &self.motion,
            steps: self.steps,
        };
        f(&model)
    }

    fn batch(&self, rows: &[Row]) -> RatingBatch {
        let size = self.with(|m| (m.users.len() as u32, m.items.len() as u32));
        let users: Vec<u32> = rows.iter().map(|r| r.0 as u32).collect();
        let items: Vec<u32> = rows.iter().map(|r| r.1 as u32).collect();
        let ratings: Vec<f32> = rows.iter().map(|r| r.2 as f32).collect();
        let mut batch = RatingBatch::default();
        batch.arrange(&mut Arranger::default(), size, &users, &items, &ratings).unwrap();
        batch
    }

    fn gradient(&self, rows: &[Row], l2: f64) -> Gradient {
        let mut out = Gradient::default();
        self.with(|m| gradient(self.simd, m, l2 as f32, &self.batch(rows), &mut Scratch::default(), &mut out));
        out
    }

    /// One step; gives the sum of squared errors before it.
    fn step(&mut self, batches: &[(&[Row], f64)], l2: f64) -> f64 {
        let gradients: Vec<Gradient> = batches.iter().map(|(rows, _)| self.gradient(rows, l2)).collect();
        for side in [Side::User, Side::Item] {
            let parts: Vec<Part<'_>> = (0..)
                .zip(gradients.iter().zip(batches))
                .map(|(slot, (g, (_, weight)))| Part {
                    slot,
                    weight: *weight as f32,
                    gradients: if side == Side::User { &g.users } else { &g.items },
                })
                .collect();
            let blocks = if side == Side::User { &mut self.users } else { &mut self.items };
            for block in blocks {
                apply(
                    self.simd,
                    self.shape,
                    &self.motion,
                    self.steps,
                    &parts,
                    block,
                    &mut nesterov::Scratch::default(),
                );
            }
        }
        self.steps += 1;
        gradients.iter().map(|g| g.squared_error).sum()
    }

    fn matrices(&self) -> (Matrix, Matrix) {
        let of =
            |blocks: &[Block]| Matrix::of(&blocks.iter().collect::<Vec<_>>(), self.shape, &self.motion, self.steps);
        (of(&self.users), of(&self.items))
    }
}

fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(found) - expected).abs();
        assert!(difference <= tolerance * expected.abs().max(1.0), "{what}[{i}]: {found} is not {expected}");
    }
}

#[derive(Deserialize)]
struct TorchCase {
    name: String,
    n_factors: usize,
    biases: bool,
    l2: f64,
    learning_rate: f64,
    momentum: f64,
    reduce: String,
    step_batches: usize,
    start_users: Vec<f64>,
    start_items: Vec<f64>,
    batches: Vec<Vec<Row>>,
    losses: Vec<f64>,
    users: Vec<f64>,
    items: Vec<f64>,
    user_biases: Vec<f64>,
    item_biases: Vec<f64>,
}

/// The numbers come from `oracle/pmf_torch.py`.
#[test]
fn two_hundred_steps_equal_pytorch() {
    let cases: Vec<TorchCase> = serde_json::from_str(include_str!("oracle/pmf_torch.json")).unwrap();
    for case in &cases {
        for simd in [Simd::Portable, Simd::detect()] {
            let shape = Shape { n_factors: case.n_factors, biases: case.biases };
            let motion = Motion::new(case.learning_rate, case.momentum);
            let mut lazy = Lazy::new(shape, motion, &case.start_users, &case.start_items, simd);
            for (step, &expected) in case.losses.iter().enumerate() {
                let at = |j: usize| case.batches[(step * case.step_batches + j) % case.batches.len()].as_slice();
                let chosen: Vec<&[Row]> = (0..case.step_batches).map(at).collect();
                let rows: usize = chosen.iter().map(|b| b.len()).sum();
                let weight = |b: &[Row]| 1.0 / (if case.reduce == "sum" { b.len() } else { rows }) as f64;
                let batches: Vec<_> = chosen.iter().map(|b| (*b, weight(b))).collect();
                let loss = lazy.step(&batches, case.l2) / rows as f64;
                assert!(
                    (loss - expected).abs() <= 1e-5 * expected.max(1.0),
                    "{}, step {step}: {loss} is not {expected}",
                    case.name
                );
            }
            let (users, items) = lazy.matrices();
            assert_close(&format!("{}: users", case.name), &users.factors, &case.users, 1e-5);
            assert_close(&format!("{}: items", case.name), &items.factors, &case.items, 1e-5);
            assert_close(&format!("{}: user biases", case.name), &users.biases, &case.user_biases, 1e-5);
            assert_close(&format!("{}: item biases", case.name), &items.biases, &case.item_biases, 1e-5);
        }
    }
}

fn ratings(n_users: usize, n_items: usize) -> impl Strategy<Value = Vec<Row>> {
    let row = (0..n_users, 0..n_items, -8i8..=8).prop_map(|(u, i, y)| (u, i, f64::from(y) / 2.0));
    proptest::collection::vec(row, 1..25).prop_map(|mut rows| {
        rows.sort_by_key(|r| r.0);
        rows
    })
}

fn start(n: usize) -> Vec<f64> {
    let mut stream = random::Stream::new(5, "test start");
    (0..n).map(|_| f64::from((stream.normal_pair().0 * 0.3) as f32)).collect()
}

/// More rows than a block has, few of them ever touched.
const N_USERS: usize = BLOCK_ROWS + 40;
const N_ITEMS: usize = 7;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Rows that are touched now and then, in any pattern, end where the dense form has them.
    #[test]
    fn lazy_momentum_equals_the_dense_form(
        steps in proptest::collection::vec(proptest::collection::vec(ratings(N_USERS, N_ITEMS), 1..6), 1..30),
        biases: bool,
        momentum in prop_oneof![Just(0.0), Just(0.8), 0.0..0.95],
        l2 in prop_oneof![Just(0.0), 0.0..0.1],
        n_factors in 1usize..11,
    ) {
        let (users, items) = (start(N_USERS * n_factors), start(N_ITEMS * n_factors));
        let learning_rate = 0.05;
        let mut dense = TextbookPmf::new(n_factors, biases, users.clone(), items.clone());
        let shape = Shape { n_factors, biases };
        let mut lazy = Lazy::new(shape, Motion::new(learning_rate, momentum), &users, &items, Simd::detect());
        for batches in &steps {
            let batches: Vec<(&[Row], f64)> = batches.iter().map(|b| (b.as_slice(), 1.0 / b.len() as f64)).collect();
            dense.step(&batches, l2, learning_rate, momentum);
            lazy.step(&batches, l2);
        }
        let (users, items) = lazy.matrices();
        assert_close("users", &users.factors, &dense.users, 2e-5);
        assert_close("items", &items.factors, &dense.items, 2e-5);
        if biases {
            assert_close("user biases", &users.biases, &dense.user_biases, 2e-5);
            assert_close("item biases", &items.biases, &dense.item_biases, 2e-5);
        }
    }

    /// Every instruction set gives the same bits, also for the loss without a gradient.
    #[test]
    fn kernels_agree_to_the_bit(
        steps in proptest::collection::vec(proptest::collection::vec(ratings(40, 30), 1..5), 1..4),
        n_factors in 1usize..40,
        biases: bool,
    ) {
        let shape = Shape { n_factors, biases };
        let (users, items) = (start(40 * n_factors), start(30 * n_factors));
        let run = |simd| {
            let mut lazy = Lazy::new(shape, Motion::new(0.3, 0.8), &users, &items, simd);
            let mut losses = Vec::new();
            for batches in &steps {
                let batch = lazy.batch(&batches[0]);
                let alone = lazy.with(|m| squared_error(simd, m, &batch, &mut Scratch::default(), &mut Vec::new()));
                assert_eq!(alone.to_bits(), lazy.gradient(&batches[0], 0.01).squared_error.to_bits());
                let batches: Vec<(&[Row], f64)> = batches.iter().map(|b| (b.as_slice(), 0.1)).collect();
                losses.push(lazy.step(&batches, 0.01).to_bits());
            }
            let bits = |m: Matrix| m.factors.iter().chain(&m.biases).map(|x| x.to_bits()).collect::<Vec<_>>();
            let (users, items) = lazy.matrices();
            (losses, bits(users), bits(items))
        };
        prop_assert_eq!(run(Simd::Portable), run(Simd::detect()));
    }

    /// What travels as residuals is computed anew with the same bits, by every instruction set, into whatever was there before.
    #[test]
    fn gradients_follow_from_their_residuals_and_the_model(
        (before, rows) in (ratings(40, 30), ratings(40, 30)), n_factors in 1usize..40, biases: bool, l2 in 0.0..0.1,
    ) {
        let shape = Shape { n_factors, biases };
        let (users, items) = (start(40 * n_factors), start(30 * n_factors));
        let mut lazy = Lazy::new(shape, Motion::new(0.3, 0.8), &users, &items, Simd::detect());
        let used = lazy.gradient(&rows, 0.3);
        lazy.step(&[(&before, 0.1)], l2);
        let (mut expected, batch) = (used.clone(), lazy.batch(&rows));
        lazy.with(|m| {
            gradient_with_residuals(lazy.simd, m, l2 as f32, &batch, &mut Scratch::default(), &mut expected);
        });
        let without = Gradient { residuals: Residuals::default(), ..expected.clone() };
        prop_assert_eq!(without, lazy.gradient(&rows, l2));
        let size = Size { shape, n_users: 40, n_items: 30 };
        let mut bytes = Vec::new();
        encode(size, &expected, Slice::WHOLE, &mut bytes);
        for simd in [Simd::Portable, Simd::detect()] {
            let mut found = used.clone();
            found.items.values.truncate(3);
            if decode(size, &bytes, Slice::WHOLE, &mut found).unwrap() == Travelled::Residuals {
                lazy.with(|m| from_residuals(simd, m, l2 as f32, &mut Scratch::default(), &mut found));
                prop_assert_eq!(&found.residuals, &expected.residuals);
            }
            for (found, expected) in [(&found.users, &expected.users), (&found.items, &expected.items)] {
                let bits = |values: &[Lane]| values.as_flattened().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(&found.ids, &expected.ids);
                prop_assert_eq!(bits(&found.values), bits(&expected.values));
            }
            prop_assert_eq!(found.squared_error.to_bits(), expected.squared_error.to_bits());
            prop_assert_eq!(found.rows, expected.rows);
        }
    }

    /// The textbook gradient is the slope of the textbook loss.
    #[test]
    fn gradients_equal_finite_differences(rows in ratings(5, 4), biases: bool, l2 in 0.0..0.1) {
        let n_factors = 3;
        let mut model = TextbookPmf::new(n_factors, biases, start(5 * n_factors), start(4 * n_factors));
        let found = model.gradient(&rows, l2);
        let h = 1e-5;
        for (which, gradient) in found.iter().enumerate().take(if biases { 4 } else { 2 }) {
            for (i, &found) in gradient.iter().enumerate() {
                let mut at = |change: f64| {
                    let place = match which {
                        0 => &mut model.users[i],
                        1 => &mut model.items[i],
                        2 => &mut model.user_biases[i],
                        _ => &mut model.item_biases[i],
                    };
                    *place += change;
                    model.loss(&rows, l2)
                };
                let (up, _, down) = (at(h), at(-h), at(-h));
                at(h);
                let slope = (up - down) / (2.0 * h);
                prop_assert!((slope - found).abs() < 1e-5 * (1.0 + found.abs()), "{which}[{i}]: {found} is not {slope}");
            }
        }
    }

    /// Under `mean` weights, several batches are one large batch.
    #[test]
    fn batches_under_mean_equal_one_large_batch(batches in proptest::collection::vec(ratings(20, 10), 1..6)) {
        let shape = Shape { n_factors: 4, biases: true };
        let (users, items) = (start(20 * 4), start(10 * 4));
        let total: usize = batches.iter().map(Vec::len).sum();
        let weight = 1.0 / total as f64;
        let mut parts = Lazy::new(shape, Motion::new(0.1, 0.8), &users, &items, Simd::detect());
        let mut whole = Lazy::new(shape, Motion::new(0.1, 0.8), &users, &items, Simd::detect());
        let mut all: Vec<Row> = batches.concat();
        all.sort_by_key(|r| r.0);
        for _ in 0..5 {
            parts.step(&batches.iter().map(|b| (b.as_slice(), weight)).collect::<Vec<_>>(), 0.02);
            whole.step(&[(all.as_slice(), weight)], 0.02);
        }
        let (a, b) = (parts.matrices(), whole.matrices());
        let wide = |m: &[f32]| m.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        assert_close("users", &a.0.factors, &wide(&b.0.factors), 1e-5);
        assert_close("items", &a.1.factors, &wide(&b.1.factors), 1e-5);
        assert_close("item biases", &a.1.biases, &wide(&b.1.biases), 1e-5);
    }
}

/// The reduction does not depend on which worker computed what, so not on how slots are spread: only on the slots.
#[test]
fn the_reduction_tree_is_that_of_the_slots() {
    let shape = Shape { n_factors: 1, biases: false };
    let motion = Motion::new(1.0, 0.0);
    // Numbers whose sum depends on the order of the additions.
    let values = [1e8f32, 1.0, -1e8, 1.0, 3.0, 1e-3, 7.0];
    let gradients: Vec<_> = values
        .iter()
        .map(|&x| train_core::pmf::gradient::RowGradients {
            ids: vec![0],
            values: vec![[x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]],
        })
        .collect();
    let sum = |slots: &[u32]| {
        let mut block = from_rows(Side::User, shape, 1, memory(shape, 1), |_, _| {});
        let parts: Vec<_> =
            slots.iter().map(|&slot| Part { slot, weight: 1.0, gradients: &gradients[slot as usize] }).collect();
        apply(Simd::detect(), shape, &motion, 0, &parts, &mut block[0], &mut nesterov::Scratch::default());
        -Matrix::of(&[&block[0]], shape, &motion, 1).factors[0]
    };
    let v = values;
    assert_eq!(sum(&[0, 1, 2, 3, 4, 5, 6]), ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + v[6]));
    assert_eq!(sum(&[1, 2, 3]), v[1] + (v[2] + v[3]));
    assert_eq!(sum(&[0, 5, 6]), v[0] + (v[5] + v[6]));
    assert_eq!(sum(&[2]), v[2]);
}
