//! Draws of numbers and tokens in a few instructions, from tables made once.

use std::ops::Range;

use random::mix;

use super::super::alias::Alias;
use super::columns::{Categorical, Numeric};

/// Equal steps of probability from one entry of [`Numbers::curve`] to the next: the percentiles fall on entries.
const STEPS: usize = 1_000;
/// The probabilities of [`Numeric::quantiles`], in steps.
const QUANTILE_STEPS: [usize; 7] = [0, 250, 500, 750, 900, 990, STEPS];

/// The most frequent tokens of a column, whose shares are given.
const TOP: u32 = 3;
/// Tokens of neighbouring ranks are drawn alike when there are at least this many of higher rank for each.
const RANKS_PER_ALIKE: u32 = 16;
/// Column numbers modulo this decide which columns have their most frequent tokens in common.
const COLUMNS_APART: u64 = 13;
/// Standard deviation of the weights of frequent tokens, in units of the logit.
const WEIGHT_SD: f64 = 0.32;
/// Tokens with this share of the values have half the variance of the most frequent ones, rarer ones less: what occurs a few
/// times in a million rows cannot be learnt.
const WEIGHT_HALF_SHARE: f64 = 2e-4;

/// Numbers of one column.
pub(super) struct Numbers {
    /// `1 + value - min` by probability: straight lines in its logarithm between the known quantiles.
    curve: Vec<f32>,
    min: i32,
    /// Mean and standard deviation of the logarithm, and what the label makes of it.
    mean: f32,
    factor: f32,
}

impl Numbers {
    pub(super) fn new(shape: &Numeric) -> Self {
        let min = shape.quantiles[0];
        let logs = shape.quantiles.map(|value| libm::log(f64::from(1 + value - min)));
        let mut curve = vec![1.0];
        for (logs, steps) in logs.windows(2).zip(QUANTILE_STEPS.windows(2)) {
            let n = steps[1] - steps[0];
            let log = |step: usize| logs[0] + (logs[1] - logs[0]) * step as f64 / n as f64;
            curve.extend((1..=n).map(|step| libm::exp(log(step)) as f32));
        }
        let logs = || curve.iter().map(|&above| f64::from(log2(above.round())));
        let mean = logs().sum::<f64>() / curve.len() as f64;
        let variance = logs().map(|log| (log - mean) * (log - mean)).sum::<f64>() / curve.len() as f64;
        let factor = shape.effect / libm::sqrt(variance);
        Self { curve, min, mean: mean as f32, factor: factor as f32 }
    }

    /// A value and what it adds to the logit.
    #[inline]
    pub(super) fn draw(&self, word: u32) -> (i32, f32) {
        let wide = u64::from(word) * STEPS as u64;
        let (step, rest) = ((wide >> 32) as usize, wide as u32 as f32 * (1.0 / 4_294_967_296.0));
        let (from, to) = (self.curve[step], self.curve[step + 1]);
        let above = (from + (to - from) * rest + 0.5) as i32;
        (above - 1 + self.min, (log2(above as f32) - self.mean) * self.factor)
    }
}

/// The binary logarithm of a number from 1, with straight lines between the powers of two: the exponent and the mantissa as they
/// are stored. It never errs by more than 0.09, and not at all from one machine to another.
#[inline]
fn log2(x: f32) -> f32 {
    (x.to_bits() - 1.0f32.to_bits()) as f32 * (1.0 / 8_388_608.0)
}

/// Tokens of one column.
pub(super) struct Tokens {
    alias: Alias,
    groups: Vec<Group>,
    column: u64,
}

/// Tokens of neighbouring ranks, drawn equally often.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    len: u32,
    /// What distinguishes the column's tokens, or those of a few columns.
    key: u32,
    /// Standard deviation of the tokens' weights, in what [`bell`] is measured in.
    spread: f32,
}

impl Tokens {
    /// The tokens of column `column`, from 1.
    pub(super) fn new(shape: &Categorical, column: u64) -> Self {
        let (own, shared) = (mix(column) as u32, mix(100 + column % COLUMNS_APART) as u32);
        let (ranks, shares): (Vec<Range<u32>>, Vec<f64>) = shares(shape).into_iter().unzip();
        let group = |(ranks, share): (&Range<u32>, &f64)| {
            let each = share / f64::from(ranks.end - ranks.start);
            let sd = WEIGHT_SD * libm::sqrt(each / (each + WEIGHT_HALF_SHARE));
            Group {
                first: ranks.start,
                len: ranks.end - ranks.start,
                key: if ranks.start < TOP { shared } else { own },
                spread: (sd / BELL_SD) as f32,
            }
        };
        let groups: Vec<Group> = ranks.iter().zip(&shares).map(group).collect();
        let numbers: Vec<u32> = (0..groups.len() as u32).collect();
        Self { alias: Alias::new(&numbers, &shares), groups, column }
    }

    /// A token and its weight.
    #[inline]
    pub(super) fn draw(&self, word: u64) -> (u32, f32) {
        let wide = (word >> 32) * self.alias.len() as u64;
        let group = &self.groups[self.alias.draw((wide >> 32) as usize, wide as u32) as usize];
        let rank = group.first + ((u64::from(word as u32) * u64::from(group.len)) >> 32) as u32;
        let token = scramble(rank ^ group.key);
        // The same token means something else in another column.
        (token, group.spread * bell(mix(self.column << 32 | u64::from(token))))
    }
}

/// Ranks of tokens that are drawn equally often, and their share together.
fn shares(shape: &Categorical) -> Vec<(Range<u32>, f64)> {
    let mut tail = Vec::new();
    let mut first = TOP;
    while first < shape.vocabulary {
        let end = first + (first / RANKS_PER_ALIKE).clamp(1, shape.vocabulary - first);
        tail.push(first..end);
        first = end;
    }
    let len = |ranks: &Range<u32>| f64::from(ranks.end - ranks.start);
    let power = |ranks: &Range<u32>| {
        let middle = f64::from(ranks.start - TOP) + (len(ranks) - 1.0) / 2.0 + shape.shift;
        // Relative to the first, as powers of a large shift are tiny.
        len(ranks) * libm::pow(middle / shape.shift, -shape.exponent)
    };
    let powers: f64 = tail.iter().map(power).sum();
    let left_over = 1.0 - shape.top.iter().sum::<f64>();
    let tail_share = |ranks: &Range<u32>| {
        let even = shape.even * len(ranks) / f64::from(shape.vocabulary - TOP);
        left_over * ((1.0 - shape.even) * power(ranks) / powers + even)
    };
    let top = (0..TOP).map(|rank| rank..rank + 1).zip(shape.top);
    top.chain(tail.iter().map(|ranks| (ranks.clone(), tail_share(ranks)))).collect()
}

/// A bijection of the 32-bit words: ranks become tokens that differ.
///
/// Source: the finaliser of MurmurHash3 (Appleby), with its constants.
#[inline]
const fn scramble(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

/// Standard deviation of [`bell`]: of the sum of four numbers uniform in `0..65536`.
const BELL_SD: f64 = 37_837.2;

/// A nearly normal number with mean 0, made of a uniform word.
#[inline]
const fn bell(word: u64) -> f32 {
    let sum = (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
    (sum as i32 - 2 * 65_535) as f32
}

#[cfg(test)]
mod tests {
    use super::super::columns::{ABSENCES, CATEGORICAL};
    use super::*;

    /// Different tokens of each column in the first 10,000 and in all 45,840,617 rows of the real `train.txt`.
    const DISTINCT: [(f64, f64); 26] = [
        (175.0, 1_460.0),
        (386.0, 583.0),
        (5_520.0, 10_131_227.0),
        (4_032.0, 2_202_608.0),
        (56.0, 305.0),
        (7.0, 24.0),
        (3_184.0, 12_517.0),
        (93.0, 633.0),
        (3.0, 3.0),
        (2_986.0, 93_145.0),
        (2_084.0, 5_683.0),
        (5_283.0, 8_351_593.0),
        (1_725.0, 3_194.0),
        (24.0, 27.0),
        (2_035.0, 14_992.0),
        (4_723.0, 5_461_306.0),
        (9.0, 10.0),
        (1_149.0, 5_652.0),
        (546.0, 2_173.0),
        (3.0, 4.0),
        (5_036.0, 7_046_547.0),
        (7.0, 18.0),
        (12.0, 15.0),
        (2_524.0, 286_181.0),
        (39.0, 105.0),
        (1_938.0, 142_572.0),
    ];

    #[test]
    fn as_many_tokens_are_expected_as_the_real_log_has() {
        for (column, (shape, (in_10_000, in_all))) in (1..).zip(CATEGORICAL.iter().zip(DISTINCT)) {
            let shares = shares(shape);
            assert!((shares.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9, "C{column}");
            let expected = |rows: f64| -> f64 {
                let draws = rows * (1.0 - ABSENCES[shape.absence]);
                let seen = |(ranks, share): &(Range<u32>, f64)| {
                    let len = f64::from(ranks.end - ranks.start);
                    len * -(-draws * share / len).exp_m1()
                };
                shares.iter().map(seen).sum()
            };
            for (rows, real) in [(10_000.0, in_10_000), (45_840_617.0, in_all)] {
                let expected = expected(rows);
                // A short tail misses its handful by up to three.
                assert!((expected - real).abs() < (0.02 * real).max(3.1), "C{column}: {expected} instead of {real}");
            }
        }
    }

    #[test]
    fn tokens_are_drawn_by_share_from_their_ranks() {
        for (column, shape) in (1..).zip(&CATEGORICAL) {
            let tokens = Tokens::new(shape, column);
            let at = |high: u32, low: u32| tokens.draw(u64::from(high) << 32 | u64::from(low)).0;
            // Every word gives one of the column's ranks, and no token of the top is also one of the tail.
            let (own, shared) = (mix(column) as u32, mix(100 + column % COLUMNS_APART) as u32);
            for rank in 0..TOP {
                assert!((rank ^ shared ^ own) >= shape.vocabulary, "C{column}");
            }
            for group in &tokens.groups {
                assert!(group.len > 0 && group.first + group.len <= shape.vocabulary, "C{column}");
            }
            let n = 1 << 16;
            let most_frequent = scramble(shared);
            let hits = (0..n).filter(|&i| at(i << 16, 0) == most_frequent).count();
            let share = hits as f64 / f64::from(n);
            assert!((share - shape.top[0]).abs() < 0.01, "C{column}: {share} instead of {}", shape.top[0]);
        }
    }

    #[test]
    fn the_logarithm_is_near_and_exact_at_powers_of_two() {
        for x in 1..2_000_000u32 {
            let (near, exact) = (log2(x as f32), f64::from(x).log2());
            assert!((f64::from(near) - exact).abs() < 0.09, "{x}: {near}");
            assert!(!x.is_power_of_two() || near == exact as f32, "{x}: {near}");
        }
    }

    #[test]
    fn weights_have_mean_0_and_variance_1() {
        let n = 200_000;
        let weights: Vec<f64> = (0..n).map(|i| f64::from(bell(mix(i))) / BELL_SD).collect();
        let mean = weights.iter().sum::<f64>() / n as f64;
        let variance = weights.iter().map(|w| (w - mean) * (w - mean)).sum::<f64>() / n as f64;
        // Five standard errors.
        assert!(mean.abs() < 5.0 / (n as f64).sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "{variance}");
    }
}
