//! Everything that can be wrong with raw text, with the place, the value, the rule and the remedy.

use schemas::exit::{ErrorKind, Explain};

/// Why raw text could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input does not exist.
    #[error("{place}: not found")]
    InputNotFound {
        /// The input.
        place: String,
    },
    /// A folder or archive without ratings.
    #[error("{place}: holds none of {looked_for}")]
    NothingInside {
        /// The folder or archive.
        place: String,
        /// The names that were looked for.
        looked_for: String,
    },
    /// An archive in a pipe: its index is at its end.
    #[error("{place}: a zip archive cannot be read from a pipe")]
    ZipInStream {
        /// The input.
        place: String,
    },
    /// The operating system does not let us read the input.
    #[error("{place}: could not be read")]
    Unreadable {
        /// The input.
        place: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The store does not let us read the input.
    #[error(transparent)]
    Stored(#[from] manifests::Error),
    /// Compressed data that end too early or are not what they should be.
    #[error("{place}: the {packing} data {problem}, after {text_bytes} bytes of text (in line {line})")]
    Damaged {
        /// The input.
        place: String,
        /// Kind of compression.
        packing: &'static str,
        /// What is wrong.
        problem: &'static str,
        /// Bytes of text that could be read.
        text_bytes: u64,
        /// The line that is cut off, from 1.
        line: u64,
        /// The decompressor's words.
        #[source]
        source: std::io::Error,
    },
    /// The first line is of no known format.
    #[error("{place}:1:1: the first line, `{line}`, has no columns separated by a comma, `::` or a tab")]
    UnknownFormat {
        /// The input.
        place: String,
        /// The first line, shortened.
        line: String,
    },
    /// The input is no click log.
    #[error("{place}:1:1: {problem}")]
    NotClicks {
        /// The input.
        place: String,
        /// What it is instead.
        problem: String,
    },
    /// A click log where ratings were expected.
    #[error("{place}:1:1: {n_columns} columns, expected 4: this looks like a click log")]
    ClicksInstead {
        /// The input.
        place: String,
        /// How many the first line has.
        n_columns: usize,
    },
    /// Ratings where a click log was expected.
    #[error("{place}:1:1: {problem}: this looks like ratings")]
    RatingsInstead {
        /// The input.
        place: String,
        /// Why it is no click log.
        problem: String,
    },
    /// The header names other columns.
    #[error("{place}:{line}:1: the header `{header}` is not userId, movieId, rating, timestamp")]
    UnknownHeader {
        /// The input.
        place: String,
        /// The header's line.
        line: u64,
        /// The header, shortened.
        header: String,
    },
    /// A line of absurd length.
    #[error("{place}:{line}:1: the line is longer than {line_bytes_max} bytes")]
    LineTooLong {
        /// The input.
        place: String,
        /// The line, from 1.
        line: u64,
        /// The limit.
        line_bytes_max: usize,
    },
    /// A row breaks a rule.
    #[error("{place}:{line}:{column}: {problem}")]
    BadRow {
        /// The input.
        place: String,
        /// The line, from 1.
        line: u64,
        /// Byte of the line at which the field begins, from 1.
        column: usize,
        /// Value and rule.
        problem: String,
        /// What helps besides correcting the row.
        fix: Option<&'static str>,
    },
    /// The input holds no rows.
    #[error("{place}: no {rows}: {found}")]
    NoRows {
        /// The input.
        place: String,
        /// What the rows are called.
        rows: &'static str,
        /// What it holds instead.
        found: &'static str,
    },
    /// A signal came.
    #[error(transparent)]
    Stopped(#[from] reporting::interrupt::Stopped),
}

impl Error {
    /// At `place` there is a header and nothing behind it but blank lines.
    #[must_use]
    pub const fn only_a_header(place: String, rows: &'static str) -> Self {
        Self::NoRows { place, rows, found: "there is nothing but a header" }
    }
}

impl Explain for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InputNotFound { .. } | Self::NothingInside { .. } | Self::ZipInStream { .. } => ErrorKind::Usage,
            Self::Damaged { .. }
            | Self::UnknownFormat { .. }
            | Self::NotClicks { .. }
            | Self::ClicksInstead { .. }
            | Self::RatingsInstead { .. }
            | Self::UnknownHeader { .. }
            | Self::LineTooLong { .. }
            | Self::BadRow { .. }
            | Self::NoRows { .. } => ErrorKind::Data,
            Self::Unreadable { source, .. } => kind_of(source),
            Self::Stored(error) => error.kind(),
            Self::Stopped(stopped) => stopped.kind(),
        }
    }

    fn fix(&self) -> Option<String> {
        let text = match self {
            Self::InputNotFound { .. } => "check the path",
            Self::NothingInside { .. } => "name the file with the ratings",
            Self::ZipInStream { .. } => "name the archive itself",
            Self::Unreadable { .. } => "check the owner, mode and disk of the input",
            Self::Damaged { .. } => "fetch or compress the file again",
            Self::UnknownFormat { .. } => "ratings have the columns userId, movieId, rating, timestamp",
            Self::ClicksInstead { .. } => "give ratings: userId, movieId, rating, timestamp",
            Self::NotClicks { .. } | Self::RatingsInstead { .. } => {
                "give click logs as Criteo publishes them: label (or none), I1 to I13, C1 to C26, separated by tabs; or Kaggle's csv with its header"
            }
            Self::UnknownHeader { .. } => "put the columns in this order, or remove a header that means the same",
            Self::LineTooLong { .. } => "check that this is the right file",
            Self::BadRow { fix: Some(fix), .. } => return Some(format!("correct the row; {fix}")),
            Self::BadRow { fix: None, .. } => "correct the row",
            Self::NoRows { .. } => "check that the input is complete",
            Self::Stopped(stopped) => return stopped.fix(),
            Self::Stored(error) => return error.fix(),
        };
        Some(text.to_owned())
    }
}

/// What a failure of the operating system means for the operator.
#[must_use]
pub fn kind_of(source: &std::io::Error) -> ErrorKind {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied
        | std::io::ErrorKind::ReadOnlyFilesystem
        | std::io::ErrorKind::NotADirectory
        | std::io::ErrorKind::IsADirectory
        | std::io::ErrorKind::NotFound => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    }
}
