//! Sets of 32-bit ids and the renumbering of their members in ascending order.
//!
//! A set is a bitmap in pages that exist only where there are ids, so its size goes with the spread of the ids and never
//! with the number of rows.

const PAGE_WORDS: usize = 1024;
const PAGES: usize = 1 << 16;

/// A set of ids.
pub(super) struct IdSet {
    pages: Vec<Option<Box<[u64; PAGE_WORDS]>>>,
}

impl Default for IdSet {
    fn default() -> Self {
        Self { pages: vec![None; PAGES] }
    }
}

const fn split(id: u32) -> (usize, usize, u32) {
    ((id >> 16) as usize, (id >> 6) as usize % PAGE_WORDS, id % 64)
}

impl IdSet {
    #[inline]
    pub(super) fn insert(&mut self, id: u32) {
        let (page, word, bit) = split(id);
        self.pages[page].get_or_insert_with(|| Box::new([0; PAGE_WORDS]))[word] |= 1 << bit;
    }

    /// Adds the members of `other`.
    pub(super) fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.pages.iter_mut().zip(other.pages) {
            match (mine, theirs) {
                (_, None) => {}
                (mine @ None, theirs) => *mine = theirs,
                (Some(mine), Some(theirs)) => mine.iter_mut().zip(theirs.iter()).for_each(|(m, t)| *m |= t),
            }
        }
    }

    /// The numbers of the members, in ascending order of the ids.
    pub(super) fn rank(self) -> Ranks {
        let mut count = 0;
        let pages = self.pages.into_iter().map(|page| {
            page.map(|bits| {
                let mut before = Box::new([0; PAGE_WORDS]);
                for (before, bits) in before.iter_mut().zip(bits.iter()) {
                    *before = count;
                    count += bits.count_ones();
                }
                Page { bits, before }
            })
        });
        let pages = pages.collect();
        Ranks { pages, count }
    }
}

struct Page {
    bits: Box<[u64; PAGE_WORDS]>,
    before: Box<[u32; PAGE_WORDS]>,
}

/// A renumbering `id -> 0..count`, ascending.
pub(super) struct Ranks {
    pages: Vec<Option<Page>>,
    count: u32,
}

impl Ranks {
    /// How many ids there are.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// The number of `id`.
    ///
    /// # Panics
    /// When `id` is not in the set.
    #[inline]
    pub(super) fn of(&self, id: u32) -> u32 {
        let (page, word, bit) = split(id);
        let page = self.pages[page].as_ref().expect("every id of the rows is in the set");
        page.before[word] + (page.bits[word] & ((1 << bit) - 1)).count_ones()
    }

    /// The ids in order of their numbers.
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.count as usize);
        for (number, page) in self.pages.iter().enumerate() {
            for (word, &bits) in page.iter().flat_map(|page| page.bits.iter().enumerate()) {
                let mut left = bits;
                while left != 0 {
                    ids.push(((number << 16) | (word << 6)) as u32 | left.trailing_zeros());
                    left &= left - 1;
                }
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranks_are_positions_in_the_sorted_set(
            a in proptest::collection::vec(prop_oneof![0u32..300, any::<u32>()], 0..60),
            b in proptest::collection::vec(prop_oneof![0u32..300, any::<u32>(), Just(u32::MAX)], 0..60),
        ) {
            let mut set = IdSet::default();
            let mut other = IdSet::default();
            a.iter().for_each(|&id| set.insert(id));
            b.iter().for_each(|&id| other.insert(id));
            set.merge(other);
            let expected: Vec<u32> = a.iter().chain(&b).copied().collect::<BTreeSet<_>>().into_iter().collect();
            let ranks = set.rank();
            prop_assert_eq!(ranks.count() as usize, expected.len());
            for (rank, &id) in expected.iter().enumerate() {
                prop_assert_eq!(ranks.of(id) as usize, rank);
            }
            prop_assert_eq!(ranks.ids(), expected);
        }
    }
}
