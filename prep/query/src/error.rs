//! Everything that can be wrong with a condition or a file, with the place, the value, the rule and the remedy.

use schemas::exit::{ErrorKind, Explain};

/// Why a condition cannot be used, or a file not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The condition is not SQL.
    #[error("the condition `{condition}`, column {column}: {problem}")]
    Syntax {
        /// The condition.
        condition: String,
        /// Character of the condition, from 1.
        column: u64,
        /// What was found, and what was expected.
        problem: String,
    },
    /// The condition names a column that there is not.
    #[error("the condition `{condition}`, column {column}: there is no column `{name}`, only {columns}")]
    UnknownColumn {
        /// The condition.
        condition: String,
        /// Character of the condition, from 1.
        column: u64,
        /// The name.
        name: String,
        /// The columns that there are.
        columns: String,
        /// Whether the name stands in double quotes.
        quoted: bool,
    },
    /// The condition is about a label, and there is none.
    #[error("the condition `{condition}`, column {column}: the input has no labels")]
    NoLabels {
        /// The condition.
        condition: String,
        /// Character of the condition, from 1.
        column: u64,
    },
    /// The condition has something in it that a condition on a row cannot have.
    #[error("the condition `{condition}` has {what} in it, and it can be about one row only")]
    NotAllowed {
        /// The condition.
        condition: String,
        /// What it has.
        what: &'static str,
    },
    /// The condition is neither true nor false.
    #[error("the condition `{condition}` is a value of the type {found}, not true or false")]
    NotBoolean {
        /// The condition.
        condition: String,
        /// Its type.
        found: String,
    },
    /// Columns are used as what they are not, or a function is not known.
    #[error("the condition `{condition}`: {problem}")]
    Condition {
        /// The condition.
        condition: String,
        /// What is wrong.
        problem: String,
    },
    /// The condition cannot be told for a row.
    #[error("the condition `{condition}` fails on a row of the input: {problem}")]
    Evaluation {
        /// The condition.
        condition: String,
        /// What happened.
        problem: String,
    },
    /// A query is wrong.
    #[error("the query `{query}`: {problem}")]
    Query {
        /// The query.
        query: String,
        /// What is wrong.
        problem: String,
    },
    /// The operating system does not let us read the file.
    #[error("{place}: could not be read")]
    Unreadable {
        /// The file.
        place: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The file is not of its kind, or is damaged.
    #[error("{place}: not a readable {kind} file: {problem}")]
    Damaged {
        /// The file, and where in it, if that is known.
        place: String,
        /// Kind of file.
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A column is not there.
    #[error("{place}: there is no column `{column}`; columns are {found}")]
    MissingColumn {
        /// The file.
        place: String,
        /// The column.
        column: String,
        /// Columns of the file.
        found: String,
    },
    /// A column is there twice.
    #[error("{place}: the columns `{first}` and `{second}` both mean {column}")]
    AmbiguousColumn {
        /// The file.
        place: String,
        /// The column.
        column: String,
        /// Its name.
        first: String,
        /// Its other name.
        second: String,
    },
    /// Some files have labels, others have not.
    #[error("{place}: has a column `label`, which {first} has not")]
    UnexpectedLabels {
        /// The file.
        place: String,
        /// The first file.
        first: String,
    },
    /// A column holds something else.
    #[error("{place}: column `{column}` is of the type {found}, expected {expected}")]
    ColumnType {
        /// The file.
        place: String,
        /// The column, as the file names it.
        column: String,
        /// Its type.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A value breaks a rule.
    #[error("{place}: {column} `{value}` {rule}")]
    Value {
        /// The file and the row in it.
        place: String,
        /// The column.
        column: String,
        /// The value, shortened.
        value: String,
        /// The rule.
        rule: &'static str,
    },
    /// A row of a csv file has more or fewer fields than its header.
    #[error("{place}: {found} fields, expected {expected} as in the header")]
    FieldCount {
        /// The file and the line in it.
        place: String,
        /// Fields of the row.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
}

impl Explain for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax { .. }
            | Self::UnknownColumn { .. }
            | Self::NoLabels { .. }
            | Self::NotAllowed { .. }
            | Self::NotBoolean { .. }
            | Self::Condition { .. }
            | Self::Evaluation { .. }
            | Self::Query { .. } => ErrorKind::Usage,
            Self::Unreadable { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::Usage,
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::IsADirectory => ErrorKind::Config,
                _ => ErrorKind::Unavailable,
            },
            Self::Damaged { .. }
            | Self::MissingColumn { .. }
            | Self::AmbiguousColumn { .. }
            | Self::UnexpectedLabels { .. }
            | Self::ColumnType { .. }
            | Self::Value { .. }
            | Self::FieldCount { .. } => ErrorKind::Data,
        }
    }

    fn fix(&self) -> Option<String> {
        let text = match self {
            Self::Syntax { .. } | Self::NotAllowed { .. } => "write it as in `label = 1 AND I2 >= 0`",
            Self::NotBoolean { .. } => "compare it with something, as in `label = 1`",
            Self::UnknownColumn { quoted: true, .. } => "put text into single quotes, as in `C1 = '68fd1e64'`",
            Self::UnknownColumn { .. } => "check the name",
            Self::NoLabels { .. } => "leave `label` out of the condition",
            Self::Condition { .. } => "compare numbers with numbers, and tokens with text in single quotes",
            Self::Evaluation { .. } => "write it so that every row has an answer, as in `I1 / nullif(I2, 0) > 1`",
            Self::Query { .. } => return None,
            Self::Unreadable { .. } => "check the path, the owner and the mode of the file",
            Self::Damaged { .. } => "write or fetch the file again",
            Self::MissingColumn { .. } => "give the file the columns label (if there are labels), I1 to I13, C1 to C26",
            Self::AmbiguousColumn { .. } => "rename or drop one of them",
            Self::UnexpectedLabels { .. } => "prepare files with and without labels each for themselves",
            Self::ColumnType { .. } => "write the file again with another type of this column",
            Self::Value { .. } | Self::FieldCount { .. } => "correct the row",
        };
        Some(text.to_owned())
    }
}
