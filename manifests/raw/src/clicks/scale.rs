//! Numbers on the scale of a dataset: what its rows and every later row are scaled by, with the same bits.

use manifests::clicks::MISSING_NUMBER;
use schemas::clicks::NumericColumn;

/// How the numbers of a column are scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// `(x - min) / (max - min)`, and nothing where nothing is there.
    MinMax {
        /// What becomes 0.
        min: i64,
        /// What becomes 1.
        max: i64,
    },
    /// `(x - mean) / sd`, with 0 where nothing is there.
    Standard {
        /// What becomes 0.
        mean: f64,
        /// What differs by this much becomes 1 apart.
        sd: f64,
    },
}

impl Scale {
    /// The scale that was fitted on `column`. A column without numbers has none to scale; any scale will do.
    #[must_use]
    pub fn of(column: &NumericColumn, sparse: bool) -> Self {
        match sparse {
            true => Self::MinMax { min: column.min.unwrap_or(0), max: column.max.unwrap_or(0) },
            false => Self::Standard { mean: column.mean, sd: column.sd },
        }
    }

    /// Appends the scaled numbers of `column`, from 0, or those of rows with `kept` set, to `out`. Bit `column` of a row's
    /// `flags` says whether there is a number.
    pub fn extend(self, out: &mut Vec<f32>, column: usize, values: Values<'_>, flags: &[u16], kept: Option<&[bool]>) {
        match values {
            Values::Two(values) => self.extend_small(out, column, values, flags, kept),
            Values::Four(values) => self.extend_small(out, column, values, flags, kept),
            Values::Eight(values) => {
                let cells = values.iter().zip(flags).map(|(&x, flags)| self.cell(x, flags >> column & 1 != 0));
                extend(out, cells, kept);
            }
        }
    }

    /// [`Scale::extend`] of numbers of at most 32 bits. In f64 they and their differences are exact if the smallest is not
    /// huge, which lets the processor work on several at a time; the result is that of [`Scale::cell`].
    fn extend_small<T: Copy + Into<i32>>(
        self,
        out: &mut Vec<f32>,
        column: usize,
        values: &[T],
        flags: &[u16],
        kept: Option<&[bool]>,
    ) {
        let rows = values.iter().zip(flags).map(|(&x, flags)| (x.into(), flags >> column & 1 != 0));
        match self {
            Self::MinMax { min, max } if min.unsigned_abs() < 1 << 52 && min < max => {
                let (min, range) = (min as f64, (i128::from(max) - i128::from(min)) as f64);
                let scaled = |x: i32| ((f64::from(x) - min) / range) as f32;
                extend(out, rows.map(|(x, there)| if there { scaled(x) } else { MISSING_NUMBER }), kept);
            }
            _ => extend(out, rows.map(|(x, there)| self.cell(x.into(), there)), kept),
        }
    }

    /// The number `x` scaled, or what stands for none. Where none is there, `x` must be 0.
    #[must_use]
    pub fn cell(self, x: i64, there: bool) -> f32 {
        match self {
            Self::MinMax { .. } if !there => MISSING_NUMBER,
            Self::MinMax { min, max } if min == max => 0.0,
            // Differences of such numbers are exact in f64.
            Self::MinMax { min, max } if [x, min, max].iter().all(|x| x.unsigned_abs() <= 1 << 52) => {
                ((x as f64 - min as f64) / (max as f64 - min as f64)) as f32
            }
            Self::MinMax { min, max } => {
                // Numbers of other rows than the fitted ones may lie anywhere, so that differences need 65 bits.
                let (above, range) = (i128::from(x) - i128::from(min), i128::from(max) - i128::from(min));
                (above as f64 / range as f64) as f32
            }
            Self::Standard { sd: 0.0, .. } => 0.0,
            Self::Standard { mean, sd } => ((x as f64 - mean) / sd) as f32,
        }
    }
}

/// Appends `cells`, or those with `kept` set.
pub fn extend<T>(out: &mut Vec<T>, cells: impl ExactSizeIterator<Item = T>, kept: Option<&[bool]>) {
    match kept {
        None => out.extend(cells),
        Some(kept) => out.extend(cells.zip(kept).filter(|(_, kept)| **kept).map(|(cell, _)| cell)),
    }
}

/// The values of a numeric column, 0 where nothing is there.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// All fit 16 bits.
    Two(&'a [i16]),
    /// All fit 32 bits.
    Four(&'a [i32]),
    /// Any.
    Eight(&'a [i64]),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_scaled_as_defined() {
        let scale = |scale: Scale, values: &[i64]| {
            let mut out = Vec::new();
            scale.extend(&mut out, 3, Values::Eight(values), &vec![1 << 3; values.len()], None);
            out
        };
        assert_eq!(scale(Scale::MinMax { min: -2, max: 2 }, &[-2, -1, 2, 6]), [0.0, 0.25, 1.0, 2.0]);
        assert_eq!(scale(Scale::MinMax { min: 5, max: 5 }, &[5, 6]), [0.0, 0.0]);
        let ends = [i64::MIN, 0, i64::MAX];
        assert_eq!(scale(Scale::MinMax { min: i64::MIN, max: i64::MAX }, &ends), [0.0, 0.5, 1.0]);
        assert_eq!(scale(Scale::MinMax { min: i64::MAX - 1, max: i64::MAX }, &[i64::MIN]), [-(2f32.powi(64))]);
        assert_eq!(scale(Scale::Standard { mean: 1.0, sd: 2.0 }, &[5, 1, 0]), [2.0, 0.0, -0.5]);
        assert_eq!(scale(Scale::Standard { mean: 3.0, sd: 0.0 }, &[3, 4]), [0.0, 0.0]);
        let (flags, kept) = ([1, 1, 0], [true, false, true]);
        let mut out = Vec::new();
        Scale::MinMax { min: 0, max: 4 }.extend(&mut out, 0, Values::Four(&[1, 2, 0]), &flags, Some(&kept));
        assert_eq!((out[0], out[1].is_nan(), out.len()), (0.25, true, 2));
        out.clear();
        Scale::Standard { mean: 1.0, sd: 1.0 }.extend(&mut out, 0, Values::Two(&[1, 2, 0]), &flags, Some(&kept));
        assert_eq!(out, [0.0, -1.0]);
    }

    proptest! {
        #[test]
        fn cells_are_exact_differences_divided(x: i64, min: i64, max: i64, shifts in proptest::array::uniform3(0u32..64), near in -2i64..3) {
            let bound = |x: i64, shift: u32| (x >> shift).clamp(i64::MIN + 2, i64::MAX - 2);
            let [x, min, max] = [bound(x, shifts[0]), bound(min, shifts[1]), bound(max, shifts[2])];
            for x in [x, min, max, (1 << 52) + near, near - (1 << 52)] {
                for (min, max) in [(min, max), (near - (1 << 52), 1 << 52), (-(1 << 52), (1 << 52) + near)] {
                    let (above, range) = (i128::from(x) - i128::from(min), i128::from(max) - i128::from(min));
                    let expected = if range == 0 { 0.0 } else { (above as f64 / range as f64) as f32 };
                    prop_assert_eq!(Scale::MinMax { min, max }.cell(x, true).to_bits(), expected.to_bits());
                }
            }
        }

        #[test]
        fn small_numbers_are_scaled_as_large_ones(values in proptest::collection::vec(any::<i32>(), 0..40), min: i64, shift in 0u32..64, range in 0u32..) {
            let min = min >> shift;
            let scale = Scale::MinMax { min, max: min.saturating_add(range.into()) };
            let (mut small, mut large) = (Vec::new(), Vec::new());
            let flags: Vec<u16> = values.iter().map(|x| (x & 1) as u16).collect();
            scale.extend(&mut small, 0, Values::Four(&values), &flags, None);
            let wide: Vec<i64> = values.iter().map(|&x| x.into()).collect();
            scale.extend(&mut large, 0, Values::Eight(&wide), &flags, None);
            let bits = |cells: &[f32]| cells.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&small), bits(&large));
        }
    }
}
