//! What holds for every model: gradients that travel, in slices, and states that are gone back to, change no bit.

use std::sync::Arc;

use manifests::clicks::Form;
use schemas::report::{LogisticSettings, LrDecay, PmfSettings, Reduce};
use train::model::{Model, Share, logistic, pmf};
use train_core::lanes::Simd;
use train_core::logistic::{Space, gradient::Gradient as Sparse};
use train_core::order::Schedule;
use train_core::pmf::batch::{Arranger, RatingBatch};
use train_core::pmf::factors::Line;
use train_core::pmf::gradient::{Gradient, Residuals, RowGradients};
use train_core::wire::Slice;

const ONE: Share = Share { worker: 0, n_workers: 1 };

/// Gradients that travel in slices, are reduced slice by slice, and travel again, in a replica that was restored half-way: the
/// same bits as in one that is handed the gradients.
fn slices_and_states_change_no_bit<M: Model>(plain: &M, far: &M, restored: &M, steps: [Vec<M::Gradient>; 2])
where
    M::Saved: PartialEq + std::fmt::Debug,
{
    let mut scratch = M::Scratch::default();
    let travel = |step, gradient: &M::Gradient, slice| {
        let (mut bytes, mut back) = (Vec::new(), M::Gradient::default());
        plain.encode_gradient(gradient, slice, &mut bytes);
        far.decode_gradient(step, &bytes, slice, &mut M::Scratch::default(), &mut back).unwrap();
        Arc::new(back)
    };
    for ((step, gradients), replica) in (0..).zip(steps).zip([far, restored]) {
        let mut reduced = Vec::new();
        for slice in (0..3).map(|index| Slice { index, n_slices: 3 }) {
            let parts: Vec<_> = gradients.iter().map(|gradient| travel(step, gradient, slice)).collect();
            let mut out = M::Gradient::default();
            replica.reduce(&parts, slice, &mut scratch, &mut out);
            reduced.push(travel(step, &out, slice));
        }
        replica.apply_reduced(step, &reduced, ONE, &mut scratch);
        let gradients: Vec<_> = gradients.into_iter().map(Arc::new).collect();
        plain.apply(step, &gradients, ONE, &mut scratch);
        assert_eq!(plain.state(step + 1), replica.state(step + 1));
        assert_eq!(plain.saved(step + 1), replica.saved(step + 1));
        assert_eq!(restored.restore(&plain.state(step + 1)).unwrap(), step + 1);
    }
}

#[test]
fn logistic_regressions_travel() {
    for reduce in [Reduce::Mean, Reduce::Sum] {
        let space = Space::new(100, true, &[(7, 3)]);
        let settings = LogisticSettings {
            seed: 8,
            intercept: true,
            learning_rate: 0.1,
            lr_decay: LrDecay::None,
            beta1: 0.9,
            beta2: 0.999,
            l2: 0.01,
            step_batches: 3,
            reduce,
        };
        let mut memory = [(); 3].map(|()| vec![0.0; logistic::Replica::floats(&space)]);
        let [plain, far, restored] = memory.each_mut().map(|memory| {
            let form = Form { labelled: true, n_buckets: Some(100) };
            let schedule = Schedule::new(6, 3);
            logistic::Replica::new(Simd::detect(), form, space.clone(), settings.clone(), schedule, memory)
        });
        let gradient = |slot: u32| {
            let ids: Vec<u32> = (0..114).filter(|id| id % (slot + 2) == 0).collect();
            let values = ids.iter().map(|&id| (id as f32 - 20.0) / (3.0 + slot as f32)).collect();
            Sparse { ids, values, loss_sum: 1.0, rows: 5 + slot }
        };
        let steps = [(0..3).map(gradient).collect(), (3..6).map(gradient).collect()];
        slices_and_states_change_no_bit(&plain, &far, &restored, steps);
    }
}

#[test]
fn factorisations_travel() {
    for reduce in [Reduce::Mean, Reduce::Sum] {
        let settings = PmfSettings {
            seed: 8,
            factors: 9,
            biases: true,
            learning_rate: 0.5,
            momentum: 0.8,
            l2: 0.0,
            step_batches: 3,
            reduce,
        };
        let size = (1500, 40);
        let mut memory = [(); 3].map(|()| vec![Line::default(); pmf::Replica::lines(&settings, size)]);
        let [plain, far, restored] =
            memory.each_mut().map(|memory| pmf::Replica::new(Simd::detect(), &settings, size, memory));
        let rows = |n: u32, slot: u32, constant: usize| {
            let ids: Vec<u32> = (0..n).filter(|id| id % (slot + 2) == 1).collect();
            let row = |&id: &u32| {
                let mut row = [[0.0f32; 8]; 2];
                let places = row.as_flattened_mut()[..11].iter_mut().enumerate();
                places.for_each(|(place, x)| *x = (id as f32 + place as f32) / (7.0 + slot as f32));
                row.as_flattened_mut()[constant] = 0.0;
                row
            };
            RowGradients { values: ids.iter().flat_map(row).collect(), ids }
        };
        let gradient = |slot: u32| Gradient {
            users: rows(size.0, slot, 10),
            items: rows(size.1, slot, 9),
            squared_error: 1.0,
            rows: 5 + slot,
            residuals: Residuals::default(),
        };
        let steps = [(0..3).map(gradient).collect(), (3..6).map(gradient).collect()];
        slices_and_states_change_no_bit(&plain, &far, &restored, steps);
    }
}

/// A gradient that travels whole goes as its residuals, from which another replica computes all of it.
#[test]
fn factorisations_travel_as_residuals() {
    let settings = PmfSettings {
        seed: 8,
        factors: 20,
        biases: true,
        learning_rate: 0.5,
        momentum: 0.8,
        l2: 0.01,
        step_batches: 1,
        reduce: Reduce::Sum,
    };
    let size = (1500, 40);
    let mut memory = [(); 2].map(|()| vec![Line::default(); pmf::Replica::lines(&settings, size)]);
    let [near, far] =
        memory.each_mut().map(|memory| pmf::Replica::new(Simd::detect(), &settings, size, memory).with_residuals());
    let users: Vec<u32> = (0..600).map(|row| row * 2).collect();
    let items: Vec<u32> = (0..600).map(|row| row * 7 % 40).collect();
    let ratings: Vec<f32> = items.iter().map(|&item| item as f32 / 20.0 - 1.0).collect();
    let mut batch = RatingBatch::default();
    batch.arrange(&mut Arranger::default(), size, &users, &items, &ratings).unwrap();
    let mut scratch = pmf::Scratch::default();
    for step in 0..3 {
        let (mut gradient, mut back, mut bytes) = (Gradient::default(), Gradient::default(), Vec::new());
        near.gradient(step, &batch, &mut scratch, &mut gradient);
        near.encode_gradient(&gradient, Slice::WHOLE, &mut bytes);
        assert!(bytes.len() < 8 * 600, "{} bytes for 600 ratings of 640 rows of 21 floats", bytes.len());
        far.decode_gradient(step, &bytes, Slice::WHOLE, &mut scratch, &mut back).unwrap();
        assert!(back == gradient);
        near.apply(step, &[Arc::new(gradient)], ONE, &mut scratch);
        far.apply(step, &[Arc::new(back)], ONE, &mut scratch);
        assert_eq!(near.state(step + 1), far.state(step + 1));
    }
}
