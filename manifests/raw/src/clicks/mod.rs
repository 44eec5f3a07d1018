//! Raw click logs: text to rows, tokens to buckets.
//!
//! * [`lines`]: the decoder. It finds the ends of all fields first ([`separators`]) and then takes row by row apart.
//! * [`number`]: integers. [`hash`]: tokens to buckets. [`rules`]: what a row must keep, and what is said when it does not.
//! * [`mod@format`]: columns and header from the first lines. [`scale`]: numbers on the scale of a dataset.
//! * [`prepare`]: rows as models see them.
//! * [`reference`]: the same as [`lines`] in its readable form, for tests.
//!
//! There is no I/O here, no thread and no clock.

pub mod format;
pub mod hash;
pub mod lines;
pub mod number;
pub mod prepare;
pub mod reference;
pub mod rules;
pub mod scale;
mod separators;

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

/// How the fields of a row are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// What is between two fields: a tab or a comma.
    pub separator: u8,
    /// Whether a row begins with its number, as in Kaggle's csv files.
    pub id: bool,
    /// Whether there is a label before the numbers.
    pub label: bool,
}

impl Format {
    /// Fields of a row.
    #[must_use]
    pub const fn n_fields(self) -> usize {
        self.first_number() + N_NUMERIC + N_CATEGORICAL
    }

    /// Position of `I1` among the fields.
    #[must_use]
    pub const fn first_number(self) -> usize {
        self.id as usize + self.label as usize
    }
}

/// What a row says besides its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// 1 for a click, else 0; also 0 where there is no label.
    pub label: u8,
    /// Bit `j` is set when `values[j]` is there.
    pub present: u16,
    /// `I1` to `I13`, 0 where nothing is there.
    pub values: [i64; N_NUMERIC],
}

/// The tokens of a row, `C1` to `C26`. An empty one is missing.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    text: &'a [u8],
    /// Where the field before `C1` ends, then where `C1` to `C25` end.
    ends: &'a [u32; N_CATEGORICAL],
    /// Where `C26` ends.
    last: usize,
}

impl<'a> Tokens<'a> {
    /// Token `Cj` for `j - 1`.
    ///
    /// # Panics
    /// When `column` is not below 26.
    #[inline]
    #[must_use]
    pub fn get(&self, column: usize) -> &'a [u8] {
        let start = self.ends[column] as usize + 1;
        let end = if column + 1 < N_CATEGORICAL { self.ends[column + 1] as usize } else { self.last };
        &self.text[start..end]
    }
}

/// Where decoded rows go.
pub trait Rows {
    /// At most `rows` rows follow.
    fn reserve(&mut self, rows: usize);

    /// The row in line `line` of the block, from 0.
    fn push(&mut self, line: usize, numbers: &Numbers, tokens: Tokens<'_>);
}
