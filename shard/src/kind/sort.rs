//! Rows of one mini-batch in order of user, item and rating.
//!
//! Rows with equal user and item go by the bits of their rating, so that the order is a function of the set of rows.

use manifests::ratings::RatingRows;

use super::ratings::WIDTH;

/// Bits of a digit: its counters fit in the first-level cache.
const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Below this a comparison sort is faster than passes over all counters.
const FEW: usize = 512;

/// User and item in as few bits as they need, and the rating's bits.
type Keyed = (u64, u32);

/// Sorts mini-batch after mini-batch, with the same buffers.
#[derive(Debug)]
pub(crate) struct Sorter {
    item_bits: u32,
    key_bits: u32,
    rows: Vec<Keyed>,
    spare: Vec<Keyed>,
}

impl Sorter {
    /// A sorter for ids below `n_users` and `n_items`.
    pub(crate) fn new(n_users: u32, n_items: u32) -> Self {
        let bits = |count: u32| u32::BITS - count.saturating_sub(1).leading_zeros();
        let item_bits = bits(n_items);
        Self { item_bits, key_bits: bits(n_users) + item_bits, rows: Vec::new(), spare: Vec::new() }
    }

    /// Puts the rows in `words`, sorted, into `sorted`.
    pub(crate) fn sort(&mut self, words: &[u32], sorted: &mut RatingRows) {
        self.rows.clear();
        self.rows.extend(words.chunks_exact(WIDTH).map(|row| {
            let [user, item, rating] = [row[0], row[1], row[2]];
            ((u64::from(user) << self.item_bits) | u64::from(item), rating)
        }));
        if self.rows.len() < FEW {
            self.rows.sort_unstable();
        } else {
            self.radix_sort();
        }
        let item_mask = (1u64 << self.item_bits) - 1;
        sorted.users.clear();
        sorted.users.extend(self.rows.iter().map(|(key, _)| (key >> self.item_bits) as u32));
        sorted.items.clear();
        sorted.items.extend(self.rows.iter().map(|(key, _)| (key & item_mask) as u32));
        sorted.ratings.clear();
        sorted.ratings.extend(self.rows.iter().map(|&(_, rating)| f32::from_bits(rating)));
    }

    /// Least significant digit first; rows of equal keys are then put in order by comparison.
    fn radix_sort(&mut self) {
        self.spare.resize(self.rows.len(), (0, 0));
        for shift in (0..self.key_bits).step_by(DIGIT_BITS as usize) {
            let digit = |key: u64| (key >> shift) as usize & (DIGITS - 1);
            let mut next = [0u32; DIGITS];
            for &(key, _) in &self.rows {
                next[digit(key)] += 1;
            }
            let mut start = 0;
            for slot in &mut next {
                start += std::mem::replace(slot, start);
            }
            for &(key, rating) in &self.rows {
                let slot = &mut next[digit(key)];
                self.spare[*slot as usize] = (key, rating);
                *slot += 1;
            }
            std::mem::swap(&mut self.rows, &mut self.spare);
        }
        for repeated in self.rows.chunk_by_mut(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
            repeated.sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(n_users: u32, n_items: u32, seed: u64, count: usize) {
        let mut stream = random::Stream::new(seed, "rows");
        let mut expected: Vec<[u32; 3]> = (0..count)
            .map(|_| {
                let mut below = |n: u32| stream.below(u64::from(n)) as u32;
                [below(n_users), below(n_items), (below(10) as f32 - 4.5).to_bits()]
            })
            .collect();
        let rows = expected.concat();
        let mut sorted = RatingRows::default();
        sorted.push(1, 2, 3.0);
        Sorter::new(n_users, n_items).sort(&rows, &mut sorted);
        expected.sort_unstable();
        let found: Vec<[u32; 3]> = sorted
            .users
            .iter()
            .zip(&sorted.items)
            .zip(&sorted.ratings)
            .map(|((&user, &item), rating)| [user, item, rating.to_bits()])
            .collect();
        assert_eq!(found, expected, "{n_users} users, {n_items} items, {count} rows");
    }

    #[test]
    fn sorts_by_user_item_and_rating() {
        for (n_users, n_items) in [(1, 1), (1, 7), (3, 1), (138_493, 26_744), (u32::MAX, u32::MAX), (1 << 16, 2)] {
            for count in [0, 1, FEW - 1, FEW, 5000] {
                check(n_users, n_items, 8, count);
            }
        }
    }

    proptest! {
        #[test]
        fn equals_a_comparison_sort(n_users in 1u32.., n_items in 1u32..2000, seed: u64, count in 0usize..2000) {
            check(n_users, n_items, seed, count);
        }
    }
}
