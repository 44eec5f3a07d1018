//! A saved matrix factorisation.

use manifests::id_map;
use schemas::dataset::{Object, Ratings};
use schemas::report::PmfSettings;
use train_core::lanes::Simd;
use train_core::pmf::factors::{FACTORS_MAX, Matrix, Shape};
use train_core::pmf::predict::Predictor;

use super::{Run, Tensors};
use crate::error::Error;
use crate::output::REPORT;

/// A matrix factorisation that is ready to score pairs, from any number of threads.
#[derive(Clone, Debug)]
pub struct Model {
    simd: Simd,
    predictor: Predictor,
    /// Mean of the ratings it was trained on.
    pub mean: f64,
    /// The users it knows.
    pub users: Ids,
    /// The items it knows.
    pub items: Ids,
}

/// The source's ids, ascending, and their numbers in the model.
#[derive(Clone, Debug)]
pub struct Ids {
    ids: Vec<u32>,
    /// The number of each id up to the largest, where they are dense enough; [`UNKNOWN`] where there is none.
    numbers: Vec<u32>,
}

/// In [`Ids::numbers`]: no such id.
const UNKNOWN: u32 = u32::MAX;

/// A table of numbers may have so many times the entries that there are ids.
const SPARSITY_MAX: usize = 64;

impl Ids {
    fn new(ids: Vec<u32>) -> Result<Self, String> {
        if let Some(row) = ids.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(format!("row {}: the id {} does not follow {}", row + 1, ids[row + 1], ids[row]));
        }
        let most = ids.last().map_or(0, |&id| id as usize);
        let mut numbers = Vec::new();
        if most / SPARSITY_MAX <= ids.len() {
            numbers.resize(most + 1, UNKNOWN);
            (0..).zip(&ids).for_each(|(number, &id)| numbers[id as usize] = number);
        }
        Ok(Self { ids, numbers })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.ids.len() as u32
    }

    /// The number of `id`; of an unknown one, the number behind the last.
    #[must_use]
    pub fn number(&self, id: u32) -> u32 {
        if self.numbers.is_empty() {
            return self.ids.binary_search(&id).map_or(self.count(), |number| number as u32);
        }
        self.numbers.get(id as usize).map_or(self.count(), |&number| number.min(self.count()))
    }

    /// The id of a number below the count.
    #[must_use]
    pub fn id(&self, number: u32) -> u32 {
        self.ids[number as usize]
    }
}

impl Model {
    /// The model of `run`, which has `settings` and rows of `ratings`.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not what it should be.
    pub(super) fn load(run: &Run, settings: &PmfSettings, ratings: &Ratings) -> Result<Self, Error> {
        let shape = Shape { n_factors: settings.factors as usize, biases: settings.biases };
        if !(1..=FACTORS_MAX).contains(&shape.n_factors) {
            let problem = format!("settings.factors is {}, outside 1..={FACTORS_MAX}", shape.n_factors);
            return Err(run.corrupt(REPORT, problem));
        }
        let bytes = run.model_bytes()?;
        let tensors = Tensors::new(run, &bytes)?;
        let matrix = |name: &str, n_rows: u32| {
            let n_rows = n_rows as usize;
            let factors = tensors.get(&format!("{name}_factors"), &[n_rows, shape.n_factors])?;
            let biases = match shape.biases {
                true => tensors.get(&format!("{name}_biases"), &[n_rows])?,
                false => Vec::new(),
            };
            Ok::<_, Error>(Matrix { factors, biases })
        };
        let (users, items) = (matrix("user", ratings.n_users)?, matrix("item", ratings.n_items)?);
        let ids = |name: &str, table: &Object| {
            let wrong = |problem| run.corrupt(&table.key, problem);
            let ids = id_map::decode(name, run.table(table)?).map_err(wrong)?;
            if ids.len() as u64 != table.rows {
                return Err(wrong(format!("it has {} rows, not {}", ids.len(), table.rows)));
            }
            Ids::new(ids).map_err(wrong)
        };
        Ok(Self {
            simd: Simd::detect(),
            predictor: Predictor::new(shape, &users, &items),
            mean: ratings.mean,
            users: ids("user", &ratings.users)?,
            items: ids("item", &ratings.items)?,
        })
    }

    /// The outputs, in stars less the mean, for pairs of numbers. One behind the last stands for what is unknown.
    pub fn outputs(&self, users: &[u32], items: &[u32], out: &mut Vec<f32>) {
        self.predictor.outputs(self.simd, users, items, out);
    }

    /// The prediction in stars of an output.
    #[must_use]
    pub fn stars(&self, output: f32) -> f32 {
        (self.mean + f64::from(output)) as f32
    }

    /// Checks that pairs of a prepared file are known.
    ///
    /// # Errors
    /// A sentence about the first that is not.
    pub fn check(&self, users: &[u32], items: &[u32]) -> Result<(), String> {
        for (name, numbers, count) in [("user", users, self.users.count()), ("item", items, self.items.count())] {
            if let Some(row) = numbers.iter().position(|&number| number >= count) {
                return Err(format!("row {row}: the {name} {} is not below their number, {count}", numbers[row]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_numbers_and_unknown_ones_the_number_behind_the_last() {
        for ids in [vec![0, 1, 7], vec![3, 4_000_000_000], vec![5], vec![7, 8, u32::MAX]] {
            let found = Ids::new(ids.clone()).unwrap();
            for (number, &id) in (0..).zip(&ids) {
                assert_eq!((found.number(id), found.id(number)), (number, id));
                for near in [id.wrapping_sub(1), id.wrapping_add(1)] {
                    let expected = ids.iter().position(|&x| x == near).unwrap_or(ids.len());
                    assert_eq!(found.number(near) as usize, expected, "{near} in {ids:?}");
                }
            }
        }
        assert_eq!(Ids::new(vec![1, 3, 3]).unwrap_err(), "row 2: the id 3 does not follow 3");
        assert_eq!(Ids::new(vec![2, 1]).unwrap_err(), "row 1: the id 1 does not follow 2");
    }
}
