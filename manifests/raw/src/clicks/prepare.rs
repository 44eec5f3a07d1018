//! Decoded rows as models see them: numbers scaled as the rows of a dataset were, tokens as buckets.
//!
//! The cells have the bits that `prep criteo --like` would give them. What a bucket's hit is worth belongs to the model.

use manifests::clicks::{ClickRows, Form};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};
use schemas::dataset::Layout;

use super::hash::Hasher;
use super::scale::Scale;
use super::{Numbers, Rows, Tokens};

/// How rows are prepared.
#[derive(Clone, Debug)]
pub struct Preparation {
    labelled: bool,
    scales: [Scale; N_NUMERIC],
    /// For the buckets of sparse rows; none for dense ones.
    hasher: Option<Hasher>,
    n_buckets: Option<u32>,
}

impl Preparation {
    /// That of the rows of `layout`, if they are click logs, for rows that have labels or not.
    ///
    /// # Panics
    /// When `layout` has not 13 numeric columns, or no buckets; what was loaded has.
    #[must_use]
    pub fn of(layout: &Layout, labelled: bool) -> Option<Self> {
        let n_buckets = Form::of(layout)?.n_buckets;
        let numeric = match layout {
            Layout::Ratings(_) => return None,
            Layout::Dense(dense) => &dense.numeric,
            Layout::Sparse(sparse) => &sparse.numeric,
        };
        let scales = std::array::from_fn(|column| Scale::of(&numeric[column], n_buckets.is_some()));
        Some(Self { labelled, scales, hasher: n_buckets.map(Hasher::new), n_buckets })
    }

    /// The form of prepared rows.
    #[must_use]
    pub const fn form(&self) -> Form {
        Form { labelled: self.labelled, n_buckets: self.n_buckets }
    }

    /// What takes decoded rows to fill `rows` with, which are removed first.
    pub fn fill<'a>(&'a self, rows: &'a mut ClickRows) -> Prepared<'a> {
        rows.clear();
        Prepared { preparation: self, rows }
    }
}

/// Takes decoded rows.
#[derive(Debug)]
pub struct Prepared<'a> {
    preparation: &'a Preparation,
    rows: &'a mut ClickRows,
}

impl Rows for Prepared<'_> {
    fn reserve(&mut self, rows: usize) {
        if self.preparation.labelled {
            self.rows.labels.reserve(rows);
        }
        self.rows.numbers.iter_mut().for_each(|column| column.reserve(rows));
        if self.preparation.hasher.is_some() {
            self.rows.buckets.iter_mut().for_each(|column| column.reserve(rows));
        }
    }

    #[inline]
    fn push(&mut self, _: usize, numbers: &Numbers, tokens: Tokens<'_>) {
        let Preparation { labelled, scales, hasher, .. } = self.preparation;
        self.rows.len += 1;
        if *labelled {
            self.rows.labels.push(f32::from(numbers.label));
        }
        for (column, (out, scale)) in self.rows.numbers.iter_mut().zip(scales).enumerate() {
            out.push(scale.cell(numbers.values[column], numbers.present >> column & 1 != 0));
        }
        if let Some(hasher) = hasher {
            for column in 0..N_CATEGORICAL {
                self.rows.buckets[column].push(hasher.bucket(column, tokens.get(column)));
            }
        }
    }
}
