//! Long series made short so that no spike is lost: consecutive values in buckets, each with its smallest and largest.

/// Consecutive values of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    /// Place of the first value in the series.
    pub(crate) first: usize,
    /// Place of the last value.
    pub(crate) last: usize,
    /// The smallest value.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
    /// Their mean.
    pub(crate) mean: f64,
}

/// `values` in at most `n_max` buckets of equally many; the last may have fewer.
///
/// # Panics
/// When `n_max` is 0.
pub(crate) fn thin(values: impl ExactSizeIterator<Item = f64>, n_max: usize) -> Vec<Bucket> {
    let width = values.len().div_ceil(n_max).max(1);
    let mut buckets: Vec<Bucket> = Vec::with_capacity(values.len().div_ceil(width));
    for (place, value) in values.enumerate() {
        match buckets.last_mut().filter(|_| place % width != 0) {
            Some(bucket) => {
                bucket.last = place;
                bucket.min = bucket.min.min(value);
                bucket.max = bucket.max.max(value);
                let n = (place - bucket.first + 1) as f64;
                bucket.mean += (value - bucket.mean) / n;
            }
            None => buckets.push(Bucket { first: place, last: place, min: value, max: value, mean: value }),
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_of_consecutive_values() {
        let found = thin([3.0, 1.0, 2.0, 5.0, 4.0].into_iter(), 3);
        let bucket = |first, last, min, max, mean| Bucket { first, last, min, max, mean };
        assert_eq!(found, [bucket(0, 1, 1.0, 3.0, 2.0), bucket(2, 3, 2.0, 5.0, 3.5), bucket(4, 4, 4.0, 4.0, 4.0)]);
        assert_eq!(thin([].into_iter(), 3), []);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(values in prop::collection::vec(-1e6..1e6_f64, 1..500), n_max in 1..60_usize) {
            let buckets = thin(values.iter().copied(), n_max);
            prop_assert!(buckets.len() <= n_max);
            prop_assert_eq!(buckets[0].first, 0);
            prop_assert_eq!(buckets[buckets.len() - 1].last, values.len() - 1);
            for (a, b) in buckets.iter().zip(&buckets[1..]) {
                prop_assert_eq!(a.last + 1, b.first);
            }
            let fold = |f: fn(f64, f64) -> f64, values: &mut dyn Iterator<Item = f64>| values.reduce(f);
            prop_assert_eq!(
                fold(f64::min, &mut buckets.iter().map(|b| b.min)),
                fold(f64::min, &mut values.iter().copied())
            );
            prop_assert_eq!(
                fold(f64::max, &mut buckets.iter().map(|b| b.max)),
                fold(f64::max, &mut values.iter().copied())
            );
            for b in &buckets {
                for value in &values[b.first..=b.last] {
                    prop_assert!(b.min <= *value && *value <= b.max);
                }
                prop_assert!(b.min - 1e-6 <= b.mean && b.mean <= b.max + 1e-6);
            }
        }
    }
}
