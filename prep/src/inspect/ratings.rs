//! What is in ratings: their range, who has the most, and how full the table of users and items is.

use std::sync::{Mutex, PoisonError};

use manifests::ratings::{self, RatingRows};
use schemas::dataset::Ratings;
use schemas::report::InspectedRatings;

use crate::error::Error;

use super::Contradictions;
use super::moments::Moments;
use super::parts::Parts;

/// How many rows each id has. They stop at the largest u32.
struct Counts {
    what: &'static str,
    rows: Mutex<Vec<u32>>,
}

impl Counts {
    fn new(what: &'static str, n_ids: u32) -> Self {
        Self { what, rows: Mutex::new(vec![0; n_ids as usize]) }
    }

    /// Counts the ids when `counting`, else only checks them.
    fn add(&self, ids: &[u32], counting: bool) -> Result<(), String> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = ids.iter().position(|&id| id as usize >= rows.len()) {
            let (what, id) = (self.what, ids[row]);
            return Err(format!("row {row}: {what} is {id}, not below the number of them, {}", rows.len()));
        }
        for &id in ids.iter().filter(|_| counting) {
            let rows = &mut rows[id as usize];
            *rows = rows.saturating_add(1);
        }
        Ok(())
    }

    fn most(self) -> u64 {
        let rows = self.rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        rows.into_iter().max().unwrap_or(0).into()
    }
}

/// Inspects ratings.
pub(super) fn inspect(
    parts: &Parts<'_>,
    layout: &Ratings,
    contradictions: &mut Contradictions,
) -> Result<InspectedRatings, Error> {
    let d = &parts.dataset.descriptor;
    let (users, items) = (Counts::new("user", layout.n_users), Counts::new("item", layout.n_items));
    let read = |objects, training| {
        parts.each(objects, |rows: &mut RatingRows, _, bytes| {
            ratings::decode(bytes, rows)?;
            users.add(&rows.users, training)?;
            items.add(&rows.items, training)?;
            Ok((rows.len(), Moments::of(&rows.ratings)))
        })
    };
    let mut stars = Moments::default();
    read(&d.parts, true)?.iter().for_each(|part| stars.add(part));
    read(&d.holdout_parts, false)?;
    let (user_rows_max, item_rows_max) = (users.most(), items.most());
    contradictions.check("training rows of the user with the most", layout.user_rows_max, user_rows_max);
    contradictions.check("training rows of the item with the most", layout.item_rows_max, item_rows_max);
    let pairs = f64::from(layout.n_users) * f64::from(layout.n_items);
    Ok(InspectedRatings {
        users: layout.n_users,
        items: layout.n_items,
        density: (d.rows.train + d.rows.holdout) as f64 / pairs,
        mean: layout.mean,
        stars: stars.values(layout.mean),
        user_rows_max,
        item_rows_max,
        repeated_pairs: layout.repeated_pairs,
        baselines: layout.baselines,
    })
}
