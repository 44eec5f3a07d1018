//! What a block of lines holds besides good rows, whatever its rows are.

use std::ops::Range;

/// A rule that rows of one kind keep.
pub trait Rule: Copy + PartialEq {
    /// How rows are made of columns.
    type Columns: Copy;

    /// There is something on the line.
    const NOT_BLANK: Self;
    /// A line has a sensible length. Nothing after a longer one can be trusted.
    const LINE_LENGTH: Self;

    /// Value and rule in words, where `field` is the text that breaks it.
    fn problem(self, field: &[u8], columns: Self::Columns) -> String;

    /// What helps when it is not a row that is wrong, but the kind of all of them.
    fn fix(self) -> Option<&'static str> {
        None
    }
}

/// A row that breaks a rule, with its place in the block. Offsets are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow<R> {
    /// Its line in the block, from 0.
    pub line: usize,
    /// Where it lies in the block, without the end of the line.
    pub text: Range<usize>,
    /// Where the field that breaks the rule lies in the row.
    pub field: Range<usize>,
    /// The rule.
    pub rule: R,
}

impl<R: Rule> BadRow<R> {
    /// The blank line number `line`.
    #[must_use]
    pub const fn blank(line: usize) -> Self {
        Self { line, text: 0..0, field: 0..0, rule: R::NOT_BLANK }
    }
}

/// What a block holds besides good rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<R> {
    /// Lines that are rows, good and bad. Blank lines at the end of the block are not among them.
    pub lines: usize,
    /// Blank lines at the end of the block. They are bad rows if anything follows.
    pub trailing_blanks: usize,
    /// The bad rows.
    pub bad: Vec<BadRow<R>>,
}

impl<R> Default for Outcome<R> {
    fn default() -> Self {
        Self { lines: 0, trailing_blanks: 0, bad: Vec::new() }
    }
}
