//! How many rows repeat a (user, item) pair, counted exactly and in bounded memory.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use raw::ratings::parse::unpack;

use super::spill::Spill;
use crate::error::Error;
use crate::threads::on_threads;

/// Rows that are grouped at a time, 4 bytes each. A single user with more rows than this is grouped alone.
const ROWS_AT_A_TIME: usize = 1 << 25;
/// Users that a thread looks through at a time.
const USERS_AT_A_TIME: usize = 1 << 12;

/// Rows of `spill` beyond the first of each pair. `user_rows` has the rows of each user.
pub(super) fn count_repeated(
    spill: &Spill,
    user_rows: impl Iterator<Item = u64>,
    n_items: u32,
    threads: usize,
) -> Result<u64, Error> {
    count_repeated_in(spill, user_rows, n_items, threads, ROWS_AT_A_TIME)
}

fn count_repeated_in(
    spill: &Spill,
    user_rows: impl Iterator<Item = u64>,
    n_items: u32,
    threads: usize,
    rows_at_a_time: usize,
) -> Result<u64, Error> {
    let mut repeated = 0;
    let mut first_user = 0;
    let mut ends: Vec<usize> = Vec::new();
    let mut users = user_rows.peekable();
    while let Some(rows) = users.next() {
        let rows = rows as usize;
        ends.push(ends.last().unwrap_or(&0) + rows);
        let full = users.peek().is_none_or(|&next| ends.last().unwrap_or(&0) + next as usize > rows_at_a_time);
        if full {
            repeated += count_in_range(spill, first_user, &ends, n_items, threads)?;
            first_user += ends.len();
            ends.clear();
        }
    }
    Ok(repeated)
}

/// As [`count_repeated`], for the users from `first_user` on, where `ends` are the running totals of their rows.
fn count_in_range(
    spill: &Spill,
    first_user: usize,
    ends: &[usize],
    n_items: u32,
    threads: usize,
) -> Result<u64, Error> {
    let starts = || std::iter::once(0).chain(ends.iter().copied());
    let cursors: Vec<AtomicUsize> = starts().take(ends.len()).map(AtomicUsize::new).collect();
    let n_rows = ends.last().copied().unwrap_or(0);
    let items: Vec<AtomicU32> = std::iter::repeat_with(AtomicU32::default).take(n_rows).collect();
    on_threads(threads, spill.chunks(), Vec::new, |buffer, chunk| {
        spill.read_chunk(chunk, buffer, |_, rows| {
            for same_user in rows.chunk_by(|a, b| a[..4] == b[..4]) {
                let (user, _, _) = unpack(&same_user[0]);
                let Some(cursor) = (user as usize).checked_sub(first_user).and_then(|user| cursors.get(user)) else {
                    continue;
                };
                let at = cursor.fetch_add(same_user.len(), Ordering::Relaxed);
                for (slot, row) in items[at..].iter().zip(same_user) {
                    slot.store(unpack(row).1, Ordering::Relaxed);
                }
            }
        })
    })?;
    let groups = ends.len().div_ceil(USERS_AT_A_TIME) as u64;
    let state = || (vec![u32::MAX; n_items as usize], 0u64);
    let counted = on_threads(threads, groups, state, |(seen_by, repeated), group| {
        let from = group as usize * USERS_AT_A_TIME;
        let to = ends.len().min(from + USERS_AT_A_TIME);
        for user in from..to {
            let start = if user == 0 { 0 } else { ends[user - 1] };
            for item in &items[start..ends[user]] {
                let seen_by = &mut seen_by[item.load(Ordering::Relaxed) as usize];
                *repeated += u64::from(*seen_by == user as u32);
                *seen_by = user as u32;
            }
        }
        Ok(())
    })?;
    Ok(counted.into_iter().map(|(_, repeated)| repeated).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use raw::ratings::parse::pack;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn equals_the_count_by_a_set(
            pairs in proptest::collection::vec((0u32..6, 0u32..5), 1..120),
            rows_at_a_time in 1usize..60,
            threads in 1usize..4,
        ) {
            let mut spill = Spill::create(&std::env::temp_dir()).unwrap();
            let rows: Vec<_> = pairs.iter().map(|&(user, item)| pack((user, item, 3.0))).collect();
            spill.append(&rows).unwrap();
            let user_rows = (0..6).map(|user| pairs.iter().filter(|p| p.0 == user).count() as u64);
            let found = count_repeated_in(&spill, user_rows, 5, threads, rows_at_a_time).unwrap();
            let distinct: BTreeSet<_> = pairs.iter().collect();
            prop_assert_eq!(found, (pairs.len() - distinct.len()) as u64);
        }
    }
}
