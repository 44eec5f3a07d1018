//! The rules that a row of a click log keeps, and what is said when it does not.

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::Format;
use super::number::Problem;
use crate::blocks::LINE_BYTES_MAX;
use crate::outcome;

/// A row that breaks a rule.
pub type BadRow = outcome::BadRow<Rule>;

/// The rule a row breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It has as many fields as it should.
    FieldCount {
        /// How many it has.
        found: usize,
    },
    /// There is something on the line.
    NotBlank,
    /// The label is 0 or 1.
    LabelIsBit,
    /// The number in this column, from 0, is an integer of 64 bits.
    NumberIsWhole(usize, Problem),
    /// Fields of a csv file stand without quotes.
    NotQuoted,
    /// A line has a sensible length. Nothing after a longer one can be trusted.
    LineLength,
}

impl Rule {
    /// Value and rule in words, where `field` is the text that breaks it.
    #[must_use]
    pub fn explain(self, field: &[u8], format: Format, line_bytes_max: usize) -> String {
        let value = shortened(field);
        match self {
            Self::FieldCount { found } => {
                let plural = if found == 1 { "" } else { "s" };
                format!("{found} field{plural}, expected {}: {}", format.n_fields(), fields(format))
            }
            Self::NotBlank => "the line is empty".to_owned(),
            Self::LabelIsBit if field.is_empty() => "the label is empty, expected 0 or 1".to_owned(),
            Self::LabelIsBit => format!("the label `{value}` is neither 0 nor 1"),
            Self::NumberIsWhole(column, problem) => {
                let rule = match problem {
                    Problem::NotWhole => "is not an integer",
                    Problem::Decimal => {
                        "is a decimal number, expected an integer; the file seems to have been written anew by a tool that \
                         turns columns with missing values into floats (`--format csv` reads such csv files)"
                    }
                    Problem::TooLarge => "does not fit 64 bits",
                };
                format!("I{} `{value}` {rule}", column + 1)
            }
            Self::NotQuoted => format!("the field `{value}` is in quotes, which Kaggle's csv files do not have"),
            Self::LineLength => format!("the line is longer than {line_bytes_max} bytes"),
        }
    }
}

impl outcome::Rule for Rule {
    type Columns = Format;

    const NOT_BLANK: Self = Self::NotBlank;
    const LINE_LENGTH: Self = Self::LineLength;

    fn problem(self, field: &[u8], columns: Format) -> String {
        self.explain(field, columns, LINE_BYTES_MAX)
    }
}

/// The fields of a row in words.
#[must_use]
pub fn fields(format: Format) -> String {
    let id = if format.id { "Id, " } else { "" };
    let label = if format.label { "label, " } else { "" };
    format!("{id}{label}I1 to I{N_NUMERIC}, C1 to C{N_CATEGORICAL}")
}

/// `text` for a message: printable, and not long.
#[must_use]
pub fn shortened(text: &[u8]) -> String {
    const LENGTH_MAX: usize = 60;
    let cut = &text[..text.len().min(4 * LENGTH_MAX)];
    let mut shown: String = String::from_utf8_lossy(cut).escape_debug().collect();
    if shown.chars().count() > LENGTH_MAX || cut.len() < text.len() {
        shown = shown.chars().take(LENGTH_MAX).chain("...".chars()).collect();
    }
    shown
}
