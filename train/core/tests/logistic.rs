//! Logistic regression against PyTorch, against its textbook form, and against finite differences; measures of predictions
//! against scikit-learn.

use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use train_core::lanes::Simd;
use train_core::logistic::adam::{self, Adam, Part, apply};
use train_core::logistic::gradient::{Gradient, Scratch, gradient, loss, outputs, probabilities};
use train_core::logistic::textbook::{self, TextbookLogistic};
use train_core::logistic::weights::{BLOCK, Block, Effects, Weights, floats, start};
use train_core::logistic::{Buckets, Clicks, N_NUMBERS, Space};
use train_core::quality::Tally;

/// Rows with 13 numbers and some columns of buckets.
#[derive(Clone, Debug, Deserialize)]
struct Batch {
    labels: Vec<f32>,
    numbers: [Vec<Option<f32>>; N_NUMBERS],
    buckets: Vec<Vec<Option<u32>>>,
}

impl Batch {
    /// Gives the rows as the kernels want them; every second column of buckets with a dictionary if `coded`.
    fn with<T>(&self, coded: bool, see: impl FnOnce(&Clicks<'_>) -> T) -> T {
        let numbers = self.numbers.each_ref().map(|c| c.iter().map(|x| x.unwrap_or(f32::NAN)).collect());
        let plain: Vec<Vec<u32>> =
            self.buckets.iter().map(|column| column.iter().map(|b| b.unwrap_or(u32::MAX)).collect()).collect();
        let dictionaries: Vec<(Vec<u32>, Vec<u16>)> = plain
            .iter()
            .map(|column| {
                let mut dictionary: Vec<u32> = column.iter().copied().filter(|&b| b != u32::MAX).collect();
                dictionary.sort_unstable_by_key(|b| std::cmp::Reverse(*b));
                dictionary.dedup();
                let code = |b: &u32| dictionary.iter().position(|d| d == b).unwrap_or(dictionary.len()) as u16;
                let codes = column.iter().map(code).collect();
                (dictionary, codes)
            })
            .collect();
        let mut buckets = Vec::new();
        for (i, (plain, (dictionary, codes))) in plain.iter().zip(&dictionaries).enumerate() {
            buckets.push(match coded && i % 2 == 0 {
                true => Buckets::Coded { dictionary, codes },
                false => Buckets::Plain(plain),
            });
        }
        see(&Clicks { labels: &self.labels, numbers: &numbers, buckets: &buckets })
    }

    /// The rows as the textbook has them: a value a feature, and 1 for the intercept.
    fn dense(&self, space: &Space, scales: &[(u32, u32)]) -> Vec<textbook::Row> {
        let row = |i: usize| {
            let mut values = vec![0.0; space.n_features() + usize::from(space.intercept())];
            for (value, column) in values.iter_mut().zip(&self.numbers) {
                *value = column[i].map_or(0.0, f64::from);
            }
            for bucket in self.buckets.iter().filter_map(|column| column[i]) {
                let scale = scales.iter().find(|s| s.0 == bucket).map_or(1, |s| s.1);
                values[N_NUMBERS + bucket as usize] += 1.0 / f64::from(scale);
            }
            if space.intercept() {
                values[space.n_features()] = 1.0;
            }
            (values, f64::from(self.labels[i]))
        };
        (0..self.labels.len()).map(row).collect()
    }
}

/// The fast form, driven the way a worker drives it.
struct Fast {
    space: Space,
    blocks: Vec<Block<'static>>,
    steps: u32,
    simd: Simd,
    coded: bool,
}

impl Fast {
    fn new(space: Space, simd: Simd, coded: bool) -> Self {
        let blocks = start(&space, vec![0.0; floats(&space)].leak());
        Self { space, blocks, steps: 0, simd, coded }
    }

    fn with<T>(&self, see: impl FnOnce(Effects<'_>) -> T) -> T {
        let blocks: Vec<&[f32; BLOCK]> = self.blocks.iter().map(Block::effects).collect();
        see(Effects::new(&blocks))
    }

    fn gradient(&self, batch: &Batch) -> Gradient {
        // A dirty buffer must not show.
        let mut out = Gradient { ids: vec![3, 4], values: vec![1.0, 2.0], loss_sum: 9.0, rows: 7 };
        let mut scratch = Scratch::default();
        for _ in 0..2 {
            batch.with(self.coded, |clicks| {
                self.with(|effects| gradient(self.simd, &self.space, effects, clicks, &mut scratch, &mut out));
            });
        }
        out
    }

    /// One step; gives the mean loss before it.
    fn step(&mut self, batches: &[&Batch], weights: &[f32], adam: Adam) -> f64 {
        let gradients: Vec<Gradient> = batches.iter().map(|batch| self.gradient(batch)).collect();
        let parts: Vec<_> =
            gradients.iter().zip(weights).map(|(gradient, &weight)| Part { weight, gradient }).collect();
        let mut scratch = adam::Scratch::default();
        for block in &mut self.blocks {
            apply(self.simd, &self.space, adam, self.steps, &parts, block, &mut scratch);
        }
        self.steps += 1;
        let rows: u32 = gradients.iter().map(|g| g.rows).sum();
        gradients.iter().map(|g| g.loss_sum).sum::<f64>() / f64::from(rows)
    }

    fn weights(&self) -> Weights {
        Weights::of(&self.space, &self.blocks.iter().collect::<Vec<_>>())
    }
}

fn mean_weights(batches: &[&Batch]) -> Vec<f32> {
    let rows: usize = batches.iter().map(|b| b.labels.len()).sum();
    vec![1.0 / rows as f32; batches.len()]
}

#[derive(Deserialize)]
struct Torch {
    data: Vec<TorchData>,
    cases: Vec<TorchCase>,
}

#[derive(Deserialize)]
struct TorchData {
    name: String,
    n_buckets: u32,
    scales: Vec<(u32, u32)>,
    batches: Vec<Batch>,
}

#[derive(Deserialize)]
struct TorchCase {
    name: String,
    data: String,
    settings: TorchSettings,
    epoch: Vec<Vec<usize>>,
    losses: Vec<f64>,
    weights_after: BTreeMap<usize, TorchWeights>,
}

#[derive(Deserialize)]
struct TorchSettings {
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    l2: f64,
    intercept: bool,
    decay: String,
    reduce: String,
}

#[derive(Deserialize)]
struct TorchWeights {
    intercept: f64,
    numeric: Vec<f64>,
    buckets: Vec<(u32, f64)>,
}

/// Values and their order are those of `oracle/lr_torch.py`.
#[test]
fn two_hundred_steps_equal_pytorch() {
    let torch: Torch = serde_json::from_str(include_str!("oracle/lr_torch.json")).unwrap();
    assert_eq!(torch.cases.len(), 7);
    for (case, coded) in torch.cases.iter().flat_map(|case| [(case, false), (case, true)]) {
        let data = torch.data.iter().find(|data| data.name == case.data).unwrap();
        let s = &case.settings;
        let mut fast = Fast::new(Space::new(data.n_buckets, s.intercept, &data.scales), Simd::detect(), coded);
        assert_eq!(case.losses.len(), 200);
        for (step, expected) in case.losses.iter().enumerate() {
            let batches: Vec<&Batch> = case.epoch[step % case.epoch.len()].iter().map(|&b| &data.batches[b]).collect();
            let passed = (step / case.epoch.len()) as f64;
            let rate = if s.decay == "sqrt-epoch" { s.learning_rate / (passed + 1.0).sqrt() } else { s.learning_rate };
            let weights = match s.reduce.as_str() {
                "mean" => mean_weights(&batches),
                _ => batches.iter().map(|b| 1.0 / b.labels.len() as f32).collect(),
            };
            let adam = Adam { learning_rate: rate, beta1: s.beta1, beta2: s.beta2, l2: s.l2 };
            let found = fast.step(&batches, &weights, adam);
            assert!((found - expected).abs() < 2e-6, "{}: step {step}: loss {found}, not {expected}", case.name);
            let Some(expected) = case.weights_after.get(&(step + 1)) else { continue };
            let found = fast.weights();
            let mut all = expected.numeric.clone();
            all.resize(N_NUMBERS + data.n_buckets as usize, 0.0);
            expected.buckets.iter().for_each(|&(b, w)| all[N_NUMBERS + b as usize] = w);
            all.push(expected.intercept);
            let found = found.features.iter().copied().chain([found.intercept.unwrap_or(0.0)]);
            for (i, (found, expected)) in found.zip(&all).enumerate() {
                let difference = (f64::from(found) - expected).abs();
                assert!(difference < 2e-6, "{}: step {step}: weight {i} is {found}, not {expected}", case.name);
            }
        }
        assert_eq!(case.weights_after.len(), 4);
    }
}

#[derive(Deserialize)]
struct Measured {
    name: String,
    z: Vec<f32>,
    labels: String,
    log_loss: f64,
    auc: Option<f64>,
    normalised_entropy: Option<f64>,
    calibration: Option<f64>,
}

/// Values are those of `oracle/click_metrics.py`.
#[test]
fn measures_equal_scikit_learn() {
    let cases: Vec<Measured> = serde_json::from_str(include_str!("oracle/click_metrics.json")).unwrap();
    assert!(cases.len() > 4);
    let close = |what: &str, found: Option<f64>, expected: Option<f64>, tolerance: f64| match (found, expected) {
        (Some(found), Some(expected)) => {
            assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {found}, not {expected}");
        }
        _ => assert_eq!(found, expected, "{what}"),
    };
    for case in cases {
        let labels: Vec<f32> = case.labels.bytes().map(|b| f32::from(b - b'0')).collect();
        for simd in [Simd::Portable, Simd::detect()] {
            let loss_sum = loss(simd, &case.z, &labels);
            let mut p = case.z.clone();
            probabilities(simd, &mut p);
            // Two workers count half of the rows each.
            let mut tally = Tally::default();
            let half = labels.len() / 2;
            for rows in [half..labels.len(), 0..half] {
                let mut part = Tally::default();
                part.add(&case.z[rows.clone()], &p[rows.clone()], &labels[rows]);
                part.filled().for_each(|(bin, clicks, others)| tally.add_bin(bin, clicks, others));
                tally.add_predicted(part.predicted());
            }
            let quality = tally.quality(loss_sum);
            let name = &case.name;
            close(name, Some(loss_sum / labels.len() as f64), Some(case.log_loss), 1e-6);
            close(name, quality.auc, case.auc, 1e-5);
            close(name, quality.normalised_entropy, case.normalised_entropy, 1e-6);
            close(name, quality.calibration, case.calibration, 1e-6);
        }
    }
}

const N_BUCKETS: u32 = 20_000;
const SCALES: [(u32, u32); 3] = [(2, 3), (7, 2), (N_BUCKETS - 1, 2)];

/// A batch whose buckets lie at the beginning and at the end of the space, which has two blocks.
fn batch(rows: std::ops::Range<usize>) -> impl Strategy<Value = Batch> {
    let bucket = prop_oneof![Just(None), (0..10u32).prop_map(Some), (N_BUCKETS - 10..N_BUCKETS).prop_map(Some)];
    let row = (
        any::<bool>(),
        proptest::array::uniform13(proptest::option::of(-1.0f32..1.0)),
        proptest::collection::vec(bucket, 4),
    );
    proptest::collection::vec(row, rows).prop_map(|rows| Batch {
        labels: rows.iter().map(|r| f32::from(u8::from(r.0))).collect(),
        numbers: std::array::from_fn(|j| rows.iter().map(|r| r.1[j]).collect()),
        buckets: (0..4).map(|j| rows.iter().map(|r| r.2[j]).collect()).collect(),
    })
}

const ADAM: Adam = Adam { learning_rate: 0.02, beta1: 0.9, beta2: 0.999, l2: 0.01 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_fast_form_equals_the_textbook(
        batches in proptest::collection::vec(batch(1..30), 1..7), intercept: bool, coded: bool,
    ) {
        let space = Space::new(N_BUCKETS, intercept, &SCALES);
        let mut fast = Fast::new(space.clone(), Simd::detect(), coded);
        let mut slow = TextbookLogistic::new(
            space.n_features() + usize::from(intercept),
            intercept.then_some(space.n_features()),
        );
        let batches: Vec<&Batch> = batches.iter().collect();
        // Where gradients cancel, Adam divides what is left of them by itself; that is noise in either form.
        let mut noise = vec![false; slow.weights.len()];
        let groups = [&batches[..], &batches[..1], &batches[..batches.len().div_ceil(2)]];
        for (group, tolerance) in groups.into_iter().zip([1e-5, 1e-3, 1e-3]) {
            let dense: Vec<_> = group.iter().map(|b| b.dense(&space, &SCALES)).collect();
            let rows: f64 = dense.iter().map(|b| b.len() as f64).sum();
            let expected = dense.iter().map(|b| slow.loss(b)).sum::<f64>() / rows;
            let gradient = fast.gradient(group[0]);
            let in_full = slow.gradient(&dense[0]);
            let mut seen = vec![0.0; in_full.len()];
            prop_assert!(gradient.ids.is_sorted_by(|a, b| a < b));
            gradient.ids.iter().zip(&gradient.values).for_each(|(&id, &g)| seen[id as usize] = f64::from(g));
            for (found, expected) in seen.iter().zip(&in_full) {
                prop_assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
            }
            let found = fast.step(group, &mean_weights(group), ADAM);
            prop_assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
            let parts: Vec<_> = dense.iter().map(|b| (&b[..], 1.0 / rows)).collect();
            let mut reduced = vec![0.0; noise.len()];
            for batch in &dense {
                reduced.iter_mut().zip(slow.gradient(batch)).for_each(|(sum, g)| *sum += g / rows);
            }
            for (i, noise) in noise.iter_mut().enumerate() {
                let touched = dense.iter().flatten().any(|(values, _)| values[i] != 0.0);
                *noise |= touched && (reduced[i] + ADAM.l2 * slow.weights[i]).abs() < 1e-4;
            }
            slow.step(&parts, textbook::Adam { learning_rate: ADAM.learning_rate, beta1: ADAM.beta1, beta2: ADAM.beta2, l2: ADAM.l2 });
            // So that it does not come back in the next step's gradients.
            let weights = fast.weights();
            let found = weights.features.iter().chain(&weights.intercept).zip(&noise);
            for (weight, (found, _)) in slow.weights.iter_mut().zip(found).filter(|(_, (_, noise))| **noise) {
                *weight = f64::from(*found);
            }
        }
        let weights = fast.weights();
        let pairs = weights.features.iter().chain(&weights.intercept).zip(&slow.weights);
        for (i, (found, expected)) in pairs.enumerate().filter(|(i, _)| !noise[*i]) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-3, "weight {i} is {found}, not {expected}");
        }
    }

    #[test]
    fn each_bucket_has_the_sum_of_its_errors(
        n_buckets in prop::sample::select(vec![1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 1 << 24]),
        mut batch in batch(1..40),
        places in proptest::collection::vec(prop_oneof![any::<u32>(), (0..600u32).prop_map(|i| i * 4096 / 2)], 160),
        coded: bool,
    ) {
        let cells = batch.buckets.iter_mut().flatten();
        cells.zip(places).for_each(|(cell, place)| *cell = cell.map(|_| place % n_buckets));
        let space = Space::new(n_buckets, true, &[]);
        // Of weights that are 0 every output is 0, and every error 1/2 or -1/2.
        let zeros = [0.0; BLOCK];
        let blocks = vec![&zeros; space.n_features().div_ceil(BLOCK) + 1];
        let (mut out, mut scratch) = (Gradient::default(), Scratch::default());
        for _ in 0..2 {
            batch.with(coded, |clicks| gradient(Simd::detect(), &space, Effects::new(&blocks), clicks, &mut scratch, &mut out));
        }
        let mut expected = BTreeMap::new();
        for column in &batch.buckets {
            for (bucket, label) in column.iter().zip(&batch.labels) {
                if let Some(bucket) = bucket {
                    *expected.entry(N_NUMBERS as u32 + bucket).or_insert(0.0) += 0.5 - label;
                }
            }
        }
        let found = out.ids.iter().copied().zip(out.values.iter().copied());
        let buckets = N_NUMBERS as u32..space.n_features() as u32;
        prop_assert!(found.filter(|(id, _)| buckets.contains(id)).eq(expected));
    }

    #[test]
    fn kernels_agree_to_the_bit(batches in proptest::collection::vec(batch(1..40), 1..6), coded: bool) {
        let space = Space::new(N_BUCKETS, true, &SCALES);
        let [mut portable, mut detected] =
            [Simd::Portable, Simd::detect()].map(|simd| Fast::new(space.clone(), simd, coded));
        let batches: Vec<&Batch> = batches.iter().collect();
        for _ in 0..3 {
            let both = [&mut portable, &mut detected].map(|f| f.step(&batches, &mean_weights(&batches), ADAM));
            prop_assert_eq!(both[0].to_bits(), both[1].to_bits());
        }
        prop_assert_eq!(portable.gradient(batches[0]), detected.gradient(batches[0]));
        prop_assert_eq!(portable.weights(), detected.weights());
        let out = [&portable, &detected].map(|fast| {
            batches[0].with(coded, |clicks| {
                fast.with(|e| {
                    let mut z = outputs(fast.simd, &fast.space, e, clicks, &mut Scratch::default()).to_vec();
                    let loss = loss(fast.simd, &z, clicks.labels);
                    probabilities(fast.simd, &mut z);
                    (z, loss.to_bits())
                })
            })
        });
        prop_assert_eq!(&out[0], &out[1]);
        // Rows are measured as they are when they are trained on.
        prop_assert_eq!(f64::from_bits(out[0].1).to_bits(), portable.gradient(batches[0]).loss_sum.to_bits());
    }

    #[test]
    fn batches_under_mean_equal_one_large_batch(batches in proptest::collection::vec(batch(1..30), 1..6)) {
        let space = Space::new(N_BUCKETS, true, &SCALES);
        let mut large = batches[0].clone();
        for other in &batches[1..] {
            large.labels.extend(&other.labels);
            large.numbers.iter_mut().zip(&other.numbers).for_each(|(all, more)| all.extend(more));
            large.buckets.iter_mut().zip(&other.buckets).for_each(|(all, more)| all.extend(more));
        }
        let step = |batches: &[&Batch]| {
            let mut fast = Fast::new(space.clone(), Simd::detect(), false);
            // One step shows the reduced gradient: the first moment is a tenth of it, its root the other factor.
            let loss = fast.step(batches, &mean_weights(batches), Adam { learning_rate: 1e-3, beta1: 0.0, beta2: 0.0, l2: 0.0 });
            (loss, fast.weights())
        };
        let parts = step(&batches.iter().collect::<Vec<_>>());
        let whole = step(&[&large]);
        prop_assert!((parts.0 - whole.0).abs() < 1e-6);
        // A gradient of nothing but rounding errors has a step of full length in either direction.
        let start = TextbookLogistic::new(space.n_features() + 1, Some(space.n_features()));
        let gradient = start.gradient(&large.dense(&space, &SCALES));
        let all = |weights: &Weights| weights.features.iter().chain(&weights.intercept).copied().collect::<Vec<f32>>();
        let pairs = all(&parts.1).into_iter().zip(all(&whole.1)).zip(&gradient).filter(|(_, g)| g.abs() > 1e-3);
        for ((of_parts, of_whole), g) in pairs {
            prop_assert!((of_parts - of_whole).abs() < 1e-6, "gradient {g}: {of_parts} and {of_whole}");
            prop_assert!((of_parts.abs() - 1e-3).abs() < 1e-5, "a step of the learning rate: {of_parts}");
        }
    }

    #[test]
    fn gradients_equal_finite_differences(batch in batch(1..20)) {
        let space = Space::new(N_BUCKETS, true, &SCALES);
        let mut fast = Fast::new(space.clone(), Simd::detect(), true);
        for _ in 0..5 {
            fast.step(&[&batch], &[1.0 / batch.labels.len() as f32], ADAM);
        }
        let weights = fast.weights();
        let mut model = TextbookLogistic::new(space.n_features() + 1, Some(space.n_features()));
        model.weights = weights.features.iter().chain(&weights.intercept).map(|&w| f64::from(w)).collect();
        let rows = batch.dense(&space, &SCALES);
        let gradient = fast.gradient(&batch);
        for (&id, &found) in gradient.ids.iter().zip(&gradient.values) {
            let mut at = |step: f64| {
                let weight = model.weights[id as usize];
                model.weights[id as usize] = weight + step;
                let loss = model.loss(&rows);
                model.weights[id as usize] = weight;
                loss
            };
            let expected = (at(1e-4) - at(-1e-4)) / 2e-4;
            prop_assert!((f64::from(found) - expected).abs() < 1e-4, "{id}: {found}, not {expected}");
        }
    }
}

#[test]
fn the_reduction_tree_is_that_of_the_slots() {
    // One feature, the intercept excluded: sums of floats that show in which order they were added.
    let values = [1.0f32, 1e8, -1e8, 3.0, 5e7, 0.25, -5e7];
    let gradient = |value: f32| Gradient { ids: vec![0], values: vec![value], loss_sum: 0.0, rows: 1 };
    let gradients = values.map(gradient);
    let parts: Vec<_> = gradients.iter().map(|gradient| Part { weight: 1.0, gradient }).collect();
    let [a, b, c, d, e, f, g] = values;
    let sum = ((a + b) + (c + d)) + ((e + f) + g);
    assert_ne!(sum, values.iter().sum::<f32>());
    let space = Space::new(0, false, &[]);
    let mut blocks = start(&space, vec![0.0; floats(&space)].leak());
    // With both betas 0 a step is `rate * g / (|g| + 1e-8)`, which does not show the size; so the second moment keeps its half.
    let adam = Adam { learning_rate: 1.0, beta1: 0.0, beta2: 0.5, l2: 0.0 };
    let one = Gradient { ids: vec![0], values: vec![1.0], loss_sum: 0.0, rows: 1 };
    let first = [Part { weight: 1.0, gradient: &one }];
    apply(Simd::detect(), &space, adam, 0, &first, &mut blocks[0], &mut adam::Scratch::default());
    apply(Simd::detect(), &space, adam, 1, &parts, &mut blocks[0], &mut adam::Scratch::default());
    let found = Weights::of(&space, &blocks.iter().collect::<Vec<_>>()).features[0];
    let g = f64::from(sum);
    let square = 0.5 * 0.5 + 0.5 * g * g;
    let expected = -1.0 - g / (square / 0.75).sqrt();
    assert!((f64::from(found) - expected).abs() < 1e-6, "{found}, not {expected}");
}

#[test]
fn scores_of_saved_weights_are_those_in_training() {
    let space = Space::new(N_BUCKETS, true, &SCALES);
    let mut fast = Fast::new(space.clone(), Simd::detect(), false);
    let column = |j: u32| (0..50u32).map(|i| (i % 7 != j % 7).then_some((i * 37 + j * 11) % N_BUCKETS)).collect();
    let batch = Batch {
        labels: (0..50u8).map(|i| f32::from(u8::from(i % 3 == 0))).collect(),
        numbers: std::array::from_fn(|j| (0..50u8).map(|i| Some(f32::from(i) / (50.0 + j as f32))).collect()),
        buckets: (0..26).map(column).collect(),
    };
    for _ in 0..3 {
        fast.step(&[&batch], &[0.02], ADAM);
    }
    let blocks = fast.weights().effects(&space);
    let saved: Vec<&[f32; BLOCK]> = blocks.iter().collect();
    let mut scratch = Scratch::default();
    batch.with(false, |clicks| {
        let in_training = fast.with(|e| outputs(fast.simd, &space, e, clicks, &mut scratch).to_vec());
        assert!(in_training.iter().any(|z| z.abs() > 0.1));
        assert_eq!(outputs(fast.simd, &space, Effects::new(&saved), clicks, &mut scratch), in_training);
    });
}
