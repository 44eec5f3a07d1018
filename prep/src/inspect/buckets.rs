//! How often each bucket occurs in each column, and in which rows a bucket occurs twice.
//!
//! One table serves all threads, a column at a time: with a million buckets it takes 104 MB. Where there are so many buckets
//! that most stay empty, the ones that occur are kept in a map instead.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

use manifests::clicks::MISSING_BUCKET;
use schemas::clicks::N_CATEGORICAL;

/// Up to so many buckets a column's table has a place for each.
const TABLE_BUCKETS_MAX: u32 = 1 << 22;
/// Rows that are looked through for collisions together: their buckets fit in the first cache.
const ROWS_AT_A_TIME: usize = 256;

/// Counts of the buckets of all columns.
pub(super) struct Counts {
    n_buckets: u32,
    columns: [Mutex<Column>; N_CATEGORICAL],
}

/// Counts of the buckets of a column. They stop at the largest u32.
enum Column {
    Table(Vec<u32>),
    Map(HashMap<u32, u32, BuildHasherDefault<Spread>>),
}

/// A bucket is a hash already; this moves its bits to where the map looks for them.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    fn write_u32(&mut self, bucket: u32) {
        self.0 = (self.0 ^ u64::from(bucket)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a column holds.
pub(super) struct Summary {
    /// Rows with a value.
    pub(super) present: u64,
    /// Different buckets.
    pub(super) distinct: u64,
    /// The bucket that occurs most often, of several the first, and how often it does.
    pub(super) top: Option<(u32, u64)>,
}

impl Counts {
    /// For columns of `n_buckets` buckets.
    pub(super) fn new(n_buckets: u32) -> Self {
        let columns = std::array::from_fn(|_| {
            // The system gives memory to a table where it is first written to.
            Mutex::new(if n_buckets <= TABLE_BUCKETS_MAX {
                Column::Table(vec![0; n_buckets as usize])
            } else {
                Column::Map(HashMap::default())
            })
        });
        Self { n_buckets, columns }
    }

    /// Counts the buckets of some rows, which must be below the number of buckets, and gives how many values are present.
    /// `turn` says with which column to begin, so that threads seldom wait for each other.
    pub(super) fn add(&self, turn: usize, columns: &[Vec<u32>; N_CATEGORICAL]) -> [u64; N_CATEGORICAL] {
        let mut present = [0; N_CATEGORICAL];
        for i in 0..N_CATEGORICAL {
            let c = (turn + i) % N_CATEGORICAL;
            let mut counts = self.columns[c].lock().unwrap_or_else(PoisonError::into_inner);
            let buckets = columns[c].iter().copied().filter(|&bucket| bucket != MISSING_BUCKET);
            let mut n = 0;
            let mut count = |count: &mut u32| {
                *count = count.saturating_add(1);
                n += 1;
            };
            match &mut *counts {
                Column::Table(table) => buckets.for_each(|bucket| count(&mut table[bucket as usize])),
                Column::Map(map) => buckets.for_each(|bucket| count(map.entry(bucket).or_default())),
            }
            present[c] = n;
        }
        present
    }

    /// What each column holds, and how many different buckets all of them use.
    pub(super) fn finish(self) -> (Vec<Summary>, u64) {
        let mut used = vec![0u64; (self.n_buckets as usize).div_ceil(64)];
        let columns = self.columns.into_iter().map(|column| {
            let mut summary = Summary { present: 0, distinct: 0, top: None };
            let mut see = |bucket: u32, count: u32| {
                let count = u64::from(count);
                summary.present += count;
                summary.distinct += 1;
                used[bucket as usize / 64] |= 1 << (bucket % 64);
                if summary.top.is_none_or(|(top, most)| count > most || (count == most && bucket < top)) {
                    summary.top = Some((bucket, count));
                }
            };
            match column.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Column::Table(table) => {
                    (0..).zip(table).filter(|(_, count)| *count > 0).for_each(|(bucket, count)| see(bucket, count));
                }
                Column::Map(map) => map.into_iter().for_each(|(bucket, count)| see(bucket, count)),
            }
            summary
        });
        let columns = columns.collect();
        (columns, used.iter().map(|word| u64::from(word.count_ones())).sum())
    }
}

/// In how many of `len` rows two columns have the same bucket.
pub(super) fn rows_with_collisions(len: usize, columns: &[Vec<u32>; N_CATEGORICAL]) -> u64 {
    let mut rows = 0;
    for start in (0..len).step_by(ROWS_AT_A_TIME) {
        let n = ROWS_AT_A_TIME.min(len - start);
        let block = |c: usize| &columns[c][start..start + n];
        let mut colliding = [0u32; ROWS_AT_A_TIME];
        for c in 1..N_CATEGORICAL {
            // Each pair of columns for all rows before the next pair: the compiler compares many rows at once.
            let mut equal = [0u32; ROWS_AT_A_TIME];
            for other in 0..c {
                for ((equal, &a), &b) in equal.iter_mut().zip(block(c)).zip(block(other)) {
                    *equal |= u32::from(a == b);
                }
            }
            for ((colliding, &equal), &a) in colliding.iter_mut().zip(&equal).zip(block(c)) {
                *colliding |= equal & u32::from(a != MISSING_BUCKET);
            }
        }
        rows += u64::from(colliding.iter().sum::<u32>());
    }
    rows
}

/// How many tokens, thrown at random into `n_buckets`, are expected to use `used` of them. Nothing when all are used.
pub(super) fn expected_tokens(used: u64, n_buckets: u32) -> Option<f64> {
    let n = f64::from(n_buckets);
    // Of a single bucket, that it is used says only that there is a token; and its logarithm below is infinite.
    (used < u64::from(n_buckets))
        .then(|| if used == 0 { 0.0 } else { (-(used as f64) / n).ln_1p() / (-1.0 / n).ln_1p() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn columns(rows: &[[u32; N_CATEGORICAL]]) -> [Vec<u32>; N_CATEGORICAL] {
        std::array::from_fn(|c| rows.iter().map(|row| row[c]).collect())
    }

    fn row() -> impl Strategy<Value = [u32; N_CATEGORICAL]> {
        prop::array::uniform26(prop_oneof![1 => Just(MISSING_BUCKET), 3 => 0u32..300])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn counts_and_collisions_equal_those_of_plain_sets(rows in prop::collection::vec(row(), 0..600)) {
            let present = |row: &[u32; N_CATEGORICAL]| row.iter().copied().filter(|&b| b != MISSING_BUCKET).collect::<Vec<_>>();
            let colliding = rows.iter().filter(|row| {
                let buckets = present(row);
                buckets.iter().collect::<BTreeSet<_>>().len() < buckets.len()
            });
            prop_assert_eq!(rows_with_collisions(rows.len(), &columns(&rows)), colliding.count() as u64);
            let all: BTreeSet<u32> = rows.iter().flat_map(present).collect();
            for n_buckets in [300, TABLE_BUCKETS_MAX + 1] {
                let counts = Counts::new(n_buckets);
                let (a, b) = rows.split_at(rows.len() / 3);
                let (first, second) = (counts.add(0, &columns(a)), counts.add(7, &columns(b)));
                let (found, used) = counts.finish();
                prop_assert_eq!(used, all.len() as u64);
                for (c, found) in found.iter().enumerate() {
                    let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
                    rows.iter().map(|row| row[c]).filter(|&b| b != MISSING_BUCKET).for_each(|b| *expected.entry(b).or_default() += 1);
                    let top = expected.iter().map(|(&bucket, &count)| (count, u32::MAX - bucket)).max();
                    prop_assert_eq!(found.present, expected.values().sum::<u64>());
                    prop_assert_eq!(first[c] + second[c], found.present);
                    prop_assert_eq!(found.distinct, expected.len() as u64);
                    prop_assert_eq!(found.top, top.map(|(count, bucket)| (u32::MAX - bucket, count)));
                }
            }
        }
    }

    #[test]
    fn tokens_are_estimated_from_the_buckets_in_use() {
        // By hand: two buckets, one used: ln(1/2) / ln(1/2) = 1 token. Four, two used: ln(1/2) / ln(3/4) = 2.409420839653209.
        for (used, buckets, expected) in [
            (0, 5, Some(0.0)),
            (1, 2, Some(1.0)),
            (2, 4, Some(2.409_420_839_653_209)),
            (4, 4, None),
            (0, 1, Some(0.0)),
            (1, 1, None),
        ] {
            match (expected_tokens(used, buckets), expected) {
                (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-12, "{used} {buckets} {found}"),
                (found, expected) => assert_eq!(found, expected, "{used} {buckets}"),
            }
        }
        // A million different tokens in a million buckets leave 1/e of them empty.
        let found = expected_tokens(632_121, 1_000_000).unwrap();
        assert!((found - 1e6).abs() < 5.0, "{found}");
    }
}
