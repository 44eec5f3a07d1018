//! Count, range, mean and variance of stored numbers, in f64, one column of one part at a time.

use schemas::report::InspectedValues;

/// Sums kept side by side, so that additions need not wait for each other. Part of the result: the last bits depend on it.
const LANES: usize = 8;

/// What is known of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moments {
    pub(super) count: u64,
    min: f32,
    max: f32,
    mean: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, min: f32::INFINITY, max: f32::NEG_INFINITY, mean: 0.0, squares: 0.0 }
    }
}

impl Moments {
    /// Of the numbers in `column` that are not NaN.
    pub(super) fn of(column: &[f32]) -> Self {
        let (mut counts, mut mins, mut maxs) = ([0u64; LANES], [f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let sum = lanes(column, |lane, x| {
            counts[lane] += u64::from(!x.is_nan());
            mins[lane] = mins[lane].min(x);
            maxs[lane] = maxs[lane].max(x);
            if x.is_nan() { 0.0 } else { f64::from(x) }
        });
        let count = counts.iter().sum();
        if count == 0 {
            return Self::default();
        }
        let mean = sum / count as f64;
        let squares = lanes(column, |_, x| {
            let distance = f64::from(x) - mean;
            if x.is_nan() { 0.0 } else { distance * distance }
        });
        let min = mins.into_iter().fold(f32::INFINITY, f32::min);
        let max = maxs.into_iter().fold(f32::NEG_INFINITY, f32::max);
        Self { count, min, max, mean, squares }
    }

    /// Adds those of other numbers.
    ///
    /// Source: Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*, 1979.
    pub(super) fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (here, there) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.count += other.count;
        self.mean += apart * there / (here + there);
        self.squares += other.squares + apart * apart * here * there / (here + there);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The figures, if there are any numbers, with `offset` added to each number.
    pub(super) fn values(&self, offset: f64) -> Option<InspectedValues> {
        (self.count > 0).then(|| InspectedValues {
            min: f64::from(self.min) + offset,
            max: f64::from(self.max) + offset,
            mean: self.mean + offset,
            sd: (self.squares / self.count as f64).sqrt(),
        })
    }
}

/// The sum of `term(lane, x)` over `column`.
fn lanes(column: &[f32], mut term: impl FnMut(usize, f32) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = column.as_chunks::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            sums[lane] += term(lane, chunk[lane]);
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        sums[lane] += term(lane, x);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(parts: &[Vec<Option<i16>>]) -> Moments {
        let mut whole = Moments::default();
        for part in parts {
            let column: Vec<f32> = part.iter().map(|x| x.map_or(f32::NAN, f32::from)).collect();
            whole.add(&Moments::of(&column));
        }
        whole
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(parts in prop::collection::vec(prop::collection::vec(any::<Option<i16>>(), 0..40), 0..6)) {
            let numbers: Vec<i64> = parts.iter().flatten().flatten().map(|&x| i64::from(x)).collect();
            let Some(found) = whole(&parts).values(0.0) else {
                prop_assert!(numbers.is_empty());
                return Ok(());
            };
            // Exact in whole numbers: n * sum of squares - square of the sum is n^2 times the variance.
            let n = numbers.len() as i64;
            let (sum, squares) = (numbers.iter().sum::<i64>(), numbers.iter().map(|x| x * x).sum::<i64>());
            let sd = ((n * squares - sum * sum) as f64).sqrt() / n as f64;
            let (min, max) = (*numbers.iter().min().unwrap() as f64, *numbers.iter().max().unwrap() as f64);
            prop_assert_eq!((found.min, found.max), (min, max));
            prop_assert!((found.mean - sum as f64 / n as f64).abs() < 1e-9, "{}", found.mean);
            prop_assert!((found.sd - sd).abs() < 1e-6, "{} {}", found.sd, sd);
        }
    }
}
