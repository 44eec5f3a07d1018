//! Seeded random streams: the same numbers for the same seed on every machine, in every version.
//!
//! A [`Stream`] is SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014).
//! It is counter-based: [`Stream::word`] gives the `i`-th word without computing the ones before it, so that rows can be
//! drawn in parallel and in any order. One root seed serves a whole run; every use derives its own stream by name
//! (`Stream::new(seed, "shuffle")`) and, where it needs many, by index ([`Stream::at`]).
//!
//! The definition is part of the file formats: a change here changes what a seed stands for.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection of the 64-bit words whose output looks random.
#[inline]
#[must_use]
pub const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A reproducible sequence of random words, with the usual distributions on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    key: u64,
    drawn: u64,
}

impl Stream {
    /// The stream called `name` under the root `seed`.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = mix(seed.wrapping_add(GOLDEN));
        for byte in name.bytes() {
            key = mix(key ^ u64::from(byte)).wrapping_add(GOLDEN);
        }
        Self { key, drawn: 0 }
    }

    /// SplitMix64 started at `state`, as its authors define it.
    #[must_use]
    pub const fn from_state(state: u64) -> Self {
        Self { key: state, drawn: 0 }
    }

    /// The child stream number `index`, independent of how much was drawn from this one.
    #[must_use]
    pub fn at(&self, index: u64) -> Self {
        Self { key: mix(self.key ^ mix(index.wrapping_add(GOLDEN))), drawn: 0 }
    }

    /// Word number `i` of the stream, in constant time.
    #[inline]
    #[must_use]
    pub const fn word(&self, i: u64) -> u64 {
        mix(self.key.wrapping_add(GOLDEN.wrapping_mul(i.wrapping_add(1))))
    }

    /// The next word.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let word = self.word(self.drawn);
        self.drawn += 1;
        word
    }

    /// A uniform whole number in `0..n`, without bias.
    ///
    /// Source: Lemire, *Fast random integer generation in an interval*, ACM TOMACS 2019.
    ///
    /// # Panics
    /// When `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a range must not be empty");
        let mut wide = u128::from(self.next_u64()) * u128::from(n);
        if (wide as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (wide as u64) < threshold {
                wide = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (wide >> 64) as u64
    }

    /// A uniform number in `[0, 1)`, a multiple of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Two independent standard normal numbers.
    ///
    /// Source: Box and Muller 1958; logarithm and angle functions come from `libm`, so the bits do not depend on the machine.
    pub fn normal_pair(&mut self) -> (f64, f64) {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        let angle = 2.0 * std::f64::consts::PI * self.unit();
        (radius * libm::cos(angle), radius * libm::sin(angle))
    }

    /// Puts `items` in a uniformly random order (Fisher and Yates; Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_equal_the_reference_implementation() {
        // The reference C code of SplitMix64 started at 1234567 (https://prng.di.unimi.it/splitmix64.c).
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        let mut stream = Stream::from_state(1_234_567);
        for (i, word) in expected.into_iter().enumerate() {
            assert_eq!(stream.word(i as u64), word);
            assert_eq!(stream.next_u64(), word);
        }
    }

    #[test]
    fn streams_are_pinned_by_seed_name_and_index() {
        // A change of these numbers changes every shuffle, split and start that was ever made with a seed.
        assert_eq!(Stream::new(8, "shuffle").word(0), PINNED[0]);
        assert_eq!(Stream::new(8, "order").word(0), PINNED[1]);
        assert_eq!(Stream::new(8, "order").at(3).word(0), PINNED[2]);
    }
    const PINNED: [u64; 3] = [6921719913677341091, 950540072152548257, 3653612608968485697];

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut stream = Stream::new(1, "normal");
        let n = 200_000;
        let draws: Vec<f64> = (0..n / 2).flat_map(|_| <[f64; 2]>::from(stream.normal_pair())).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        let kurtosis = draws.iter().map(|x| x.powi(4)).sum::<f64>() / f64::from(n);
        // Five standard errors of the mean, the variance and the fourth moment.
        assert!(mean.abs() < 5.0 / f64::from(n).sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / f64::from(n)).sqrt(), "{variance}");
        assert!((kurtosis - 3.0).abs() < 5.0 * (96.0 / f64::from(n)).sqrt(), "{kurtosis}");
    }

    #[test]
    fn every_order_of_four_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            Stream::new(seed, "orders").shuffle(&mut items);
            *counts.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let chi2: f64 = counts.values().map(|&c| (f64::from(c) - 1000.0).powi(2) / 1000.0).sum();
        // 99.99th percentile of chi-square with 23 degrees of freedom.
        assert!(chi2 < 58.6, "{chi2}");
    }

    proptest! {
        #[test]
        fn below_stays_below(seed: u64, n in 1u64..) {
            let mut stream = Stream::new(seed, "below");
            for _ in 0..8 {
                prop_assert!(stream.below(n) < n);
            }
        }

        #[test]
        fn shuffle_permutes(seed: u64, n in 0usize..200) {
            let mut items: Vec<usize> = (0..n).collect();
            Stream::new(seed, "shuffle").shuffle(&mut items);
            items.sort_unstable();
            prop_assert!(items.into_iter().eq(0..n));
        }
    }
}
