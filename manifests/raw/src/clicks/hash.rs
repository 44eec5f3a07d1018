//! Tokens to buckets: `xxh3_64(token, seed = number of the column) mod n_buckets`, where `C1` has the number 1.
//!
//! Source of the function: Collet, *XXH3*, <https://github.com/Cyan4973/xxHash>, doc/xxhash_spec.md. Nearly all tokens have
//! eight bytes, so that case is written out here; the crate `xxhash-rust` does the others, and the tests hold one against the
//! other.

use manifests::clicks::MISSING_BUCKET;
use schemas::clicks::N_CATEGORICAL;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Stands for the bucket of a token that is not there.
pub const MISSING: u32 = MISSING_BUCKET;

/// Bytes 8 to 24 of XXH3's secret, the two words that inputs of four to eight bytes use.
const SECRET: [u64; 2] = [0x1cad_21f7_2c81_017c, 0xdb97_9083_e96d_d4de];
/// `PRIME_MX2` of XXH3.
const PRIME: u64 = 0x9fb2_1c65_1e98_df25;

/// Hashes the tokens of all columns.
#[derive(Clone, Debug)]
pub struct Hasher {
    modulus: Modulus,
    /// What XXH3 combines an input of four to eight bytes with, for each column.
    flips: [u64; N_CATEGORICAL],
}

impl Hasher {
    /// A hasher to `n_buckets` buckets.
    ///
    /// # Panics
    /// When `n_buckets` is 0.
    #[must_use]
    pub fn new(n_buckets: u32) -> Self {
        let flips = std::array::from_fn(|column| {
            let seed = seed(column);
            let seed = seed ^ (u64::from((seed as u32).swap_bytes()) << 32);
            (SECRET[0] ^ SECRET[1]).wrapping_sub(seed)
        });
        Self { modulus: Modulus::new(n_buckets), flips }
    }

    /// The bucket of `token` in `column`, from 0; [`MISSING`] for an empty one.
    ///
    /// # Panics
    /// When `column` is not below 26.
    #[inline]
    #[must_use]
    pub fn bucket(&self, column: usize, token: &[u8]) -> u32 {
        if let Ok(token) = <[u8; 8]>::try_from(token) {
            return self.modulus.of(hash_8(u64::from_le_bytes(token), self.flips[column]));
        }
        if token.is_empty() {
            return MISSING;
        }
        self.modulus.of(hash_any(column, token))
    }
}

const fn seed(column: usize) -> u64 {
    column as u64 + 1
}

#[inline]
const fn hash_8(token: u64, flip: u64) -> u64 {
    let mut x = token.rotate_left(32) ^ flip;
    x ^= x.rotate_left(49) ^ x.rotate_left(24);
    x = x.wrapping_mul(PRIME);
    x ^= (x >> 35) + 8;
    x = x.wrapping_mul(PRIME);
    x ^ (x >> 28)
}

#[cold]
fn hash_any(column: usize, token: &[u8]) -> u64 {
    xxh3_64_with_seed(token, seed(column))
}

/// The remainder of a division by the same number, without a division.
///
/// Source: Granlund and Montgomery, *Division by invariant integers using multiplication*, PLDI 1994, figure 4.1.
#[derive(Clone, Copy, Debug)]
struct Modulus {
    divisor: u64,
    multiplier: u64,
    shifts: [u32; 2],
}

impl Modulus {
    fn new(divisor: u32) -> Self {
        assert!(divisor > 0, "a remainder needs a divisor");
        let divisor = u64::from(divisor);
        // The smallest power of two that is not less than the divisor.
        let log2 = u64::BITS - (divisor - 1).leading_zeros();
        let power = 1u128 << log2;
        let multiplier = ((power - u128::from(divisor)) << 64) / u128::from(divisor) + 1;
        Self { divisor, multiplier: multiplier as u64, shifts: [log2.min(1), log2.saturating_sub(1)] }
    }

    #[inline]
    const fn of(self, x: u64) -> u32 {
        let high = ((self.multiplier as u128 * x as u128) >> 64) as u64;
        let quotient = (high + ((x - high) >> self.shifts[0])) >> self.shifts[1];
        (x - quotient * self.divisor) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_remainder_is_that_of_a_division(x: u64, divisor in 1u32.., log2 in 0u32..32, near in 0u32..3) {
            for divisor in [divisor, (1u32 << log2).saturating_add(near).saturating_sub(1).max(1)] {
                let modulus = Modulus::new(divisor);
                for x in [x, x >> 32, 0, u64::MAX, u64::from(divisor), x / u64::from(divisor) * u64::from(divisor)] {
                    prop_assert_eq!(u64::from(modulus.of(x)), x % u64::from(divisor), "{} mod {}", x, divisor);
                }
            }
        }

        #[test]
        fn buckets_are_those_of_xxh3(token in proptest::collection::vec(any::<u8>(), 1..300), column in 0usize..26) {
            for token in [&token[..], &token[..token.len().min(8)]] {
                let expected = xxh3_64_with_seed(token, column as u64 + 1) % 1_000_000;
                prop_assert_eq!(u64::from(Hasher::new(1_000_000).bucket(column, token)), expected);
            }
        }
    }

    #[test]
    fn the_same_token_has_another_bucket_in_another_column() {
        // xxhash.xxh3_64_intdigest(b"68fd1e64", seed=s) % 1000000 of the Python package xxhash 4.1.0, for s = 1, 2, 26.
        let hasher = Hasher::new(1_000_000);
        let found = [0, 1, 25].map(|column| hasher.bucket(column, b"68fd1e64"));
        assert_eq!(found, [613_601, 597_992, 882_839]);
        assert_eq!(hasher.bucket(0, b""), MISSING);
    }
}
