//! A mini-batch of ratings, arranged so that the kernels touch every user row once and keep the item rows in cache.

/// Ratings grouped by user, with the items of the batch numbered `0..items.len()`.
///
/// A batch is a set: its loss and gradient are sums over its rows, here in the order of the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RatingBatch {
    /// Distinct users, ascending, shape `(n_batch_users,)`.
    pub users: Vec<u32>,
    /// `starts[i]..starts[i + 1]` are the rows of `users[i]`, shape `(n_batch_users + 1,)`.
    pub starts: Vec<u32>,
    /// Distinct items, ascending, shape `(n_batch_items,)`.
    pub items: Vec<u32>,
    /// Rows of each of `items`, shape `(n_batch_items,)`.
    pub item_counts: Vec<u32>,
    /// Position in `items` of each row's item, shape `(n_rows,)`.
    pub slots: Vec<u32>,
    /// Target of each row, in stars minus the mean, shape `(n_rows,)`.
    pub ratings: Vec<f32>,
}

/// Why rows cannot be made a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A user or item that the model does not have.
    #[error("row {row}: {what} {id} is not below {count}")]
    OutOfRange {
        /// The row, from 0.
        row: usize,
        /// `user` or `item`.
        what: &'static str,
        /// The number found.
        id: u32,
        /// How many there are.
        count: u32,
    },
    /// Rows that are not grouped by user in ascending order.
    #[error("row {row}: user {id} comes after user {previous}; the rows must be sorted by user")]
    NotSorted {
        /// The row, from 0.
        row: usize,
        /// Its user.
        id: u32,
        /// The user of the row before.
        previous: u32,
    },
}

/// Buffers that arranging a batch needs, to be used again for the next one.
#[derive(Clone, Debug, Default)]
pub struct Arranger {
    /// One bit an item: whether the batch has it.
    present: Vec<u64>,
    /// The slot of each item that the batch has; whatever an earlier batch left for the others.
    slot_of: Vec<u32>,
}

impl RatingBatch {
    /// How many ratings there are.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.ratings.len()
    }

    /// Arranges rows that are sorted by user. `users`, `items` and `ratings` have shape `(n_rows,)`.
    ///
    /// # Errors
    /// [`BatchError`] with the offending row; the batch is then of no use.
    ///
    /// # Panics
    /// When the three columns differ in length.
    pub fn arrange(
        &mut self,
        arranger: &mut Arranger,
        (n_users, n_items): (u32, u32),
        users: &[u32],
        items: &[u32],
        ratings: &[f32],
    ) -> Result<(), BatchError> {
        assert!(users.len() == ratings.len() && items.len() == ratings.len(), "columns differ in length");
        self.group_users(n_users, users)?;
        self.number_items(arranger, n_items, items)?;
        self.ratings.clear();
        self.ratings.extend_from_slice(ratings);
        Ok(())
    }

    fn group_users(&mut self, n_users: u32, users: &[u32]) -> Result<(), BatchError> {
        if let Some(row) = (1..users.len()).find(|&row| users[row - 1] > users[row]) {
            return Err(BatchError::NotSorted { row, id: users[row], previous: users[row - 1] });
        }
        if users.last().is_some_and(|&last| last >= n_users) {
            let row = users.partition_point(|&id| id < n_users);
            return Err(BatchError::OutOfRange { row, what: "user", id: users[row], count: n_users });
        }
        // Every row is written where the next group begins; only a row that begins one moves that place on.
        self.users.resize(users.len(), 0);
        self.starts.resize(users.len() + 1, 0);
        let (mut groups, mut previous) = (0, None);
        for (row, &id) in users.iter().enumerate() {
            let begins = previous != Some(id);
            groups += usize::from(begins);
            self.users[groups - 1] = id;
            self.starts[groups] = row as u32 + 1;
            previous = Some(id);
        }
        if let Some(first) = self.starts.first_mut() {
            *first = 0;
        }
        self.users.truncate(groups);
        self.starts.truncate(groups + 1);
        Ok(())
    }

    fn number_items(&mut self, arranger: &mut Arranger, n_items: u32, items: &[u32]) -> Result<(), BatchError> {
        let Arranger { present, slot_of } = arranger;
        if let Some(row) = items.iter().position(|&id| id >= n_items) {
            return Err(BatchError::OutOfRange { row, what: "item", id: items[row], count: n_items });
        }
        present.clear();
        present.resize(n_items.div_ceil(64) as usize, 0);
        for &id in items {
            present[(id / 64) as usize] |= 1 << (id % 64);
        }
        slot_of.resize(n_items as usize, 0);
        self.items.clear();
        for (word, &bits) in present.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let id = word as u32 * 64 + bits.trailing_zeros();
                slot_of[id as usize] = self.items.len() as u32;
                self.items.push(id);
                bits &= bits - 1;
            }
        }
        self.item_counts.clear();
        self.item_counts.resize(self.items.len(), 0);
        self.slots.clear();
        let counts = &mut self.item_counts;
        self.slots.extend(items.iter().map(|&id| {
            let slot = slot_of[id as usize];
            counts[slot as usize] += 1;
            slot
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_rows_can_be_read_back(
            mut rows in proptest::collection::vec((0u32..50, 0u32..200, -5.0f32..5.0), 0..300),
        ) {
            rows.sort_by_key(|row| row.0);
            let users: Vec<u32> = rows.iter().map(|r| r.0).collect();
            let items: Vec<u32> = rows.iter().map(|r| r.1).collect();
            let ratings: Vec<f32> = rows.iter().map(|r| r.2).collect();
            let mut batch = RatingBatch::default();
            batch.arrange(&mut Arranger::default(), (50, 200), &users, &items, &ratings).unwrap();
            prop_assert!(batch.users.is_sorted_by(|a, b| a < b));
            prop_assert!(batch.items.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(batch.item_counts.iter().sum::<u32>() as usize, rows.len());
            let mut found = Vec::new();
            for (i, &user) in batch.users.iter().enumerate() {
                for row in batch.starts[i] as usize..batch.starts[i + 1] as usize {
                    found.push((user, batch.items[batch.slots[row] as usize], batch.ratings[row]));
                }
            }
            prop_assert_eq!(found, rows);
        }
    }

    #[test]
    fn wrong_rows_are_told() {
        let arrange = |users: &[u32], items: &[u32]| {
            RatingBatch::default()
                .arrange(&mut Arranger::default(), (3, 70), users, items, &vec![0.0; users.len()])
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            arrange(&[0, 2, 1], &[0, 0, 0]).unwrap_err(),
            "row 2: user 1 comes after user 2; the rows must be sorted by user"
        );
        assert_eq!(arrange(&[0, 3], &[0, 0]).unwrap_err(), "row 1: user 3 is not below 3");
        assert_eq!(arrange(&[0, 1], &[69, 70]).unwrap_err(), "row 1: item 70 is not below 70");
    }
}
