//! The rules that a row of ratings keeps, and what is said when it does not. Where they are checked is [`super::parse`].

use super::parse::Columns;
use crate::blocks::LINE_BYTES_MAX;
use crate::clicks::rules::shortened;
use crate::outcome;

/// Smallest and largest rating that is allowed, in stars.
pub const RATING_MIN: f32 = 0.5;
/// See [`RATING_MIN`].
pub const RATING_MAX: f32 = 5.0;

/// The rule a row breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It has as many columns as it should.
    ColumnCount {
        /// How many it has.
        found: usize,
    },
    /// There is something on the line.
    NotBlank,
    /// The field of this column is not empty.
    NotEmpty(Column),
    /// An id is made of digits.
    IdIsWhole(Column),
    /// An id is not negative.
    IdNotNegative(Column),
    /// An id fits 32 bits.
    IdFits(Column),
    /// A rating is a number.
    RatingIsNumber,
    /// A rating is finite.
    RatingIsFinite,
    /// A rating is between [`RATING_MIN`] and [`RATING_MAX`].
    RatingInRange,
    /// A line has a sensible length. Nothing after a longer one can be trusted.
    LineLength,
}

/// A column that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Who rates.
    User,
    /// What is rated.
    Item,
    /// The stars.
    Rating,
}

impl Column {
    /// Every column, in file order.
    pub const ALL: [Self; 3] = [Self::User, Self::Item, Self::Rating];

    const fn name(self) -> &'static str {
        match self {
            Self::User => "userId",
            Self::Item => "movieId",
            Self::Rating => "rating",
        }
    }
}

impl Rule {
    /// Value and rule in words, where `field` is the text that breaks it.
    #[must_use]
    pub fn explain(self, field: &[u8], columns: Columns) -> String {
        let value = shortened(field);
        match self {
            Self::ColumnCount { found } => {
                let plural = if found == 1 { "" } else { "s" };
                format!("{found} column{plural}, expected {}", columns.n_columns)
            }
            Self::NotBlank => "the line is empty".to_owned(),
            Self::NotEmpty(column) => format!("{} is empty", column.name()),
            Self::IdIsWhole(column) => format!("{} `{value}` is not a whole number", column.name()),
            Self::IdNotNegative(column) => format!("{} {value} is negative", column.name()),
            Self::IdFits(column) => format!("{} {value} is larger than {}", column.name(), u32::MAX),
            Self::RatingIsNumber => format!("rating `{value}` is not a number"),
            Self::RatingIsFinite => format!("rating {value} is not a finite number"),
            Self::RatingInRange => format!("rating {value} is outside {RATING_MIN}..={RATING_MAX}"),
            Self::LineLength => format!("the line is longer than {LINE_BYTES_MAX} bytes"),
        }
    }
}

impl outcome::Rule for Rule {
    type Columns = Columns;

    const NOT_BLANK: Self = Self::NotBlank;
    const LINE_LENGTH: Self = Self::LineLength;

    fn problem(self, field: &[u8], columns: Columns) -> String {
        self.explain(field, columns)
    }

    fn fix(self) -> Option<&'static str> {
        (self == Self::RatingInRange).then_some("bring ratings on another scale to 0.5 to 5 first")
    }
}
