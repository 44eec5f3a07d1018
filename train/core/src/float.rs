//! Elementary functions on eight floats at a time, made of additions, multiplications and divisions only: the same bits on every
//! machine, which the functions of a system's own library do not promise.

use crate::lanes::{LANES, Lane};

/// Below this `exp` is the smallest normal number, 1.2e-38, as far as any sum is concerned.
const EXP_MIN: f32 = -87.0;
/// Adding it to a float of at most 2^22 rounds that float to a whole number, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `exp(x)` for `x <= 0`, within 2 units in the last place. What is below -87 counts as -87.
///
/// `exp(n ln 2 + r) = 2^n exp(r)`, with the polynomial of the Cephes library's `expf` (Moshier, 1987) for `exp(r)`.
#[inline(always)]
pub(crate) fn exp_of_negative(x: Lane) -> Lane {
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        let x = if x[l] > EXP_MIN { x[l] } else { EXP_MIN };
        let rounded = x * std::f32::consts::LOG2_E + ROUND;
        let n = rounded - ROUND;
        // ln 2 in two parts, the first with so few digits that its product with `n` is exact.
        let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
        let mut p = 1.987_569_2e-4;
        p = p * r + 1.398_2e-3;
        p = p * r + 8.333_452e-3;
        p = p * r + 4.166_579_6e-2;
        p = p * r + 1.666_666_5e-1;
        p = p * r + 5e-1;
        let exp_r = (p * r) * r + r + 1.0;
        let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
        out[l] = exp_r * f32::from_bits(exponent << 23);
    }
    out
}

/// `ln(1 + x)` for `0 <= x <= 1`, within 3 units in the last place: `2 artanh(x / (2 + x))` by its series.
#[inline(always)]
pub(crate) fn ln_1p(x: Lane) -> Lane {
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        let s = x[l] / (2.0 + x[l]);
        let s2 = s * s;
        let mut p = 1.0 / 15.0;
        p = p * s2 + 1.0 / 13.0;
        p = p * s2 + 1.0 / 11.0;
        p = p * s2 + 1.0 / 9.0;
        p = p * s2 + 1.0 / 7.0;
        p = p * s2 + 1.0 / 5.0;
        p = p * s2 + 1.0 / 3.0;
        out[l] = 2.0 * ((p * s2) * s + s);
    }
    out
}

/// `base^exponent` by squaring: the same bits everywhere.
pub(crate) fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= base;
        }
        base *= base;
        exponent /= 2;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(from: f64, to: f64, ours: impl Fn(Lane) -> Lane, exact: impl Fn(f64) -> f64) -> f64 {
        let steps = 1_000_000;
        let at = |i: i32| (from + (to - from) * f64::from(i) / f64::from(steps)) as f32;
        let relative = |i: i32| {
            let x = at(i);
            let exact = exact(f64::from(x));
            let error = (f64::from(ours([x; LANES])[0]) - exact).abs();
            if exact == 0.0 { error } else { error / exact }
        };
        (0..=steps).map(relative).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_exact_to_some_units_in_the_last_place() {
        let ulp = f64::from(f32::EPSILON);
        let error = worst(-87.0, 0.0, exp_of_negative, f64::exp);
        assert!(error < 2.0 * ulp, "exp: {}", error / ulp);
        let error = worst(0.0, 1.0, ln_1p, f64::ln_1p);
        assert!(error < 3.0 * ulp, "ln_1p: {}", error / ulp);
        assert_eq!(
            exp_of_negative([-1e30, f32::NEG_INFINITY, 0.0, -0.0, -87.0, -88.0, -1e9, -100.0])[2..4],
            [1.0, 1.0]
        );
        assert!(exp_of_negative([-1e30; LANES]).iter().all(|&e| e > 0.0 && e < 2e-38));
    }

    #[test]
    fn powers() {
        assert_eq!(power(0.9, 0), 1.0);
        assert_eq!(power(2.0, 10), 1024.0);
        assert!((power(0.999, 123_456) / 0.999f64.powf(123_456.0) - 1.0).abs() < 1e-10);
    }
}
