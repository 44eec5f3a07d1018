//! Outputs of a finished matrix factorisation, for any pairs of users and items.
//!
//! The rows are laid out as in training and multiplied in the same order, so that a model that was saved and loaded has the
//! outputs, to the bit, that it was measured by. Each matrix has one row more, of zeros: what is not known adds nothing.

use crate::lanes::{LANES, Lane, Simd, kernel, prefetch, tree};
use crate::pmf::factors::{Matrix, Shape, Side};

/// A finished model.
#[derive(Clone, Debug)]
pub struct Predictor {
    shape: Shape,
    users: Vec<Lane>,
    items: Vec<Lane>,
}

/// How many pairs ahead rows are asked for.
const PREFETCH_PAIRS: usize = 8;

impl Predictor {
    /// The model of `users` and `items`.
    ///
    /// # Panics
    /// When a matrix is not of `shape`.
    #[must_use]
    pub fn new(shape: Shape, users: &Matrix, items: &Matrix) -> Self {
        Self { shape, users: rows(shape, Side::User, users), items: rows(shape, Side::Item, items) }
    }

    /// Number of the user that stands for all unknown ones: the number of users.
    #[must_use]
    pub fn unknown_user(&self) -> u32 {
        (self.users.len() / self.shape.lanes() - 1) as u32
    }

    /// Number of the item that stands for all unknown ones: the number of items.
    #[must_use]
    pub fn unknown_item(&self) -> u32 {
        (self.items.len() / self.shape.lanes() - 1) as u32
    }

    /// The outputs (stars less the mean) for the pairs of `users` and `items`, shape `(n,)` each, into `out`.
    ///
    /// # Panics
    /// When there are not as many of one as of the other, or a number is above that of the unknown.
    pub fn outputs(&self, simd: Simd, users: &[u32], items: &[u32], out: &mut Vec<f32>) {
        assert!(users.len() == items.len(), "users and items are pairs");
        out.clear();
        outputs_kernel(simd, self.shape.lanes(), &self.users, &self.items, users, items, out);
    }
}

/// The rows of `matrix`, padded to whole lanes, and one of zeros, which still passes on the other side's bias.
fn rows(shape: Shape, side: Side, matrix: &Matrix) -> Vec<Lane> {
    let n_rows = matrix.factors.len() / shape.n_factors;
    assert!(matrix.factors.len() == n_rows * shape.n_factors, "every row has all its factors");
    assert!(matrix.biases.len() == if shape.biases { n_rows } else { 0 }, "there is a bias for each row, or for none");
    let lanes = shape.lanes();
    let mut padded = vec![[0.0; LANES]; (n_rows + 1) * lanes];
    for (i, row) in padded.chunks_exact_mut(lanes).enumerate() {
        let row = row.as_flattened_mut();
        if i < n_rows {
            row[..shape.n_factors].copy_from_slice(&matrix.factors[i * shape.n_factors..][..shape.n_factors]);
        }
        if shape.biases {
            row[shape.bias_place(side)] = matrix.biases.get(i).copied().unwrap_or(0.0);
            row[shape.constant_place(side)] = 1.0;
        }
    }
    padded
}

kernel! {
    fn outputs_kernel(
        lanes, user_rows: &[Lane], item_rows: &[Lane], users: &[u32], items: &[u32], out: &mut Vec<f32>,
    ) -> () = outputs_body
}

#[inline(always)]
fn outputs_body<const N: usize>(
    user_rows: &[Lane],
    item_rows: &[Lane],
    users: &[u32],
    items: &[u32],
    out: &mut Vec<f32>,
) {
    let (user_rows, item_rows) = (user_rows.as_chunks::<N>().0, item_rows.as_chunks::<N>().0);
    out.extend(users.iter().zip(items).enumerate().map(|(i, (&user, &item))| {
        if let (Some(&user), Some(&item)) = (users.get(i + PREFETCH_PAIRS), items.get(i + PREFETCH_PAIRS)) {
            prefetch(&user_rows[user as usize]);
            prefetch(&item_rows[item as usize]);
        }
        let (user, item) = (&user_rows[user as usize], &item_rows[item as usize]);
        let mut sums = [0.0f32; LANES];
        for n in 0..N {
            for l in 0..LANES {
                sums[l] += user[n][l] * item[n][l];
            }
        }
        tree(sums)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pmf::batch::{Arranger, RatingBatch};
    use crate::pmf::factors::{Block, Line, Rows, from_rows};
    use crate::pmf::gradient::{Model, Scratch, squared_error};
    use crate::pmf::nesterov::Motion;
    use random::Stream;

    fn matrix(shape: Shape, side: &str, n_rows: usize) -> Matrix {
        let stream = Stream::new(5, side);
        let number = |i: usize| stream.at(i as u64).normal_pair().0 as f32;
        let factors = (0..n_rows * shape.n_factors).map(number).collect();
        let biases = (0..if shape.biases { n_rows } else { 0 }).map(|i| number(i + 1_000_000)).collect();
        Matrix { factors, biases }
    }

    #[test]
    fn outputs_are_inner_products_and_biases_and_nothing_of_the_unknown() {
        for (n_factors, biases) in [(1, false), (6, true), (7, true), (8, false), (20, true), (100, true)] {
            let shape = Shape { n_factors, biases };
            let (users, items) = (matrix(shape, "u", 7), matrix(shape, "i", 11));
            let predictor = Predictor::new(shape, &users, &items);
            assert_eq!((predictor.unknown_user(), predictor.unknown_item()), (7, 11));
            let pairs: Vec<(u32, u32)> = (0..8).flat_map(|u| (0..12).map(move |i| (u, i))).collect();
            let (u, i): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            let mut found = Vec::new();
            predictor.outputs(Simd::Portable, &u, &i, &mut found);
            for (&(u, i), &found) in pairs.iter().zip(&found) {
                let (u, i) = (u as usize, i as usize);
                let mut expected = 0.0f64;
                if u < 7 && i < 11 {
                    let factor =
                        |f| f64::from(users.factors[u * n_factors + f]) * f64::from(items.factors[i * n_factors + f]);
                    expected += (0..n_factors).map(factor).sum::<f64>();
                }
                if biases {
                    expected += users.biases.get(u).map_or(0.0, |&b| f64::from(b));
                    expected += items.biases.get(i).map_or(0.0, |&b| f64::from(b));
                }
                assert!((f64::from(found) - expected).abs() < 1e-4, "{shape:?} {u} {i}: {found}, {expected}");
            }
            let mut fast = Vec::new();
            predictor.outputs(Simd::detect(), &u, &i, &mut fast);
            assert!(fast.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "the same bits on any processor");
        }
    }

    #[test]
    fn a_saved_model_errs_by_the_very_bits_it_was_measured_by() {
        for (n_factors, biases) in [(5, true), (20, false), (20, true)] {
            let shape = Shape { n_factors, biases };
            let (users, items) = (matrix(shape, "u", 40), matrix(shape, "i", 30));
            let stream = Stream::new(6, "pairs");
            let mut pairs: Vec<(u32, u32)> =
                (0..500).map(|i| (stream.at(i).below(40) as u32, stream.at(i + 500).below(30) as u32)).collect();
            pairs.sort_unstable();
            let (u, i): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            let ratings: Vec<f32> = (0..500).map(|i| stream.at(i + 2000).normal_pair().0 as f32).collect();
            let mut outputs = Vec::new();
            Predictor::new(shape, &users, &items).outputs(Simd::detect(), &u, &i, &mut outputs);
            let error = |(output, rating): (&f32, &f32)| f64::from(output - rating) * f64::from(output - rating);
            let found: f64 = outputs.iter().zip(&ratings).map(error).sum();

            let mut memory = [(); 2].map(|()| vec![Line::default(); shape.lines(40)]);
            let [user_lines, item_lines] = &mut memory;
            let fill = |matrix: &Matrix, i: u32, row: &mut [f32]| {
                row[..n_factors].copy_from_slice(&matrix.factors[i as usize * n_factors..][..n_factors]);
                row[n_factors] = matrix.biases.get(i as usize).copied().unwrap_or(0.0);
            };
            let user_blocks = from_rows(Side::User, shape, 40, user_lines, |i, row| fill(&users, i, row));
            let item_lines = &mut item_lines[..shape.lines(30)];
            let item_blocks = from_rows(Side::Item, shape, 30, item_lines, |i, row| fill(&items, i, row));
            let (user_blocks, item_blocks): (Vec<&Block<'_>>, Vec<&Block<'_>>) =
                (user_blocks.iter().collect(), item_blocks.iter().collect());
            let motion = Motion::new(1.0, 0.8);
            let model = Model {
                shape,
                users: Rows::new(&user_blocks),
                items: Rows::new(&item_blocks),
                motion: &motion,
                steps: 0,
            };
            let mut batch = RatingBatch::default();
            batch.arrange(&mut Arranger::default(), (40, 30), &u, &i, &ratings).unwrap();
            let expected = squared_error(Simd::detect(), &model, &batch, &mut Scratch::default(), &mut Vec::new());
            assert_eq!(found.to_bits(), expected.to_bits(), "{shape:?}");
        }
    }
}
