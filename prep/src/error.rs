//! Everything that can stop `prep`, with the place, the value, the rule and the remedy.

use schemas::exit::{ErrorKind, Explain};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag's value breaks a rule.
    #[error("{flag}: {problem}")]
    Setting {
        /// The flag as it is typed.
        flag: &'static str,
        /// Value and rule.
        problem: String,
        /// The remedy.
        fix: String,
    },
    /// There is no input.
    #[error("no input: no INPUT is given, and standard input is neither a pipe nor a file")]
    NoInput {
        /// A command with an input.
        example: &'static str,
    },
    /// Two inputs with different columns.
    #[error("{place}: its rows are {found}, those of `{first}` {expected}")]
    DifferentColumns {
        /// The input.
        place: String,
        /// Its columns.
        found: String,
        /// The first input.
        first: String,
        /// The first input's columns.
        expected: String,
    },
    /// The raw text could not be read.
    #[error(transparent)]
    Raw(#[from] raw::Error),
    /// A pattern that no file matches, or a folder without files.
    #[error("{place}: {problem}")]
    NoFiles {
        /// The pattern or folder.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A dataset whose statistics do not fit.
    #[error("{place}: {problem}")]
    Unlike {
        /// The dataset.
        place: String,
        /// In what it does not fit.
        problem: String,
    },
    /// A condition that cannot be used, or a table that cannot be read.
    #[error(transparent)]
    Query(#[from] prep_query::Error),
    /// No row meets the condition.
    #[error("{place}: no rows are left: all {filtered} do not meet the condition")]
    AllFiltered {
        /// The input.
        place: String,
        /// Rows that do not meet it.
        filtered: u64,
    },
    /// A table of another engine in a pipe.
    #[error("standard input: Parquet and csv files of other engines cannot be read from a pipe")]
    TableInStream,
    /// Whoever asked for rows does not want more of them: its own failure is the one to be told.
    #[error("nobody wants the rows that are read")]
    NobodyListens,
    /// Rows lost or made up between reading and writing: a bug, found before anybody could use the result.
    #[error("{what}: {read} were read and {written} written")]
    Lost {
        /// What was counted.
        what: &'static str,
        /// How many there were before.
        read: u64,
        /// How many there are now.
        written: u64,
    },
    /// More rows break a rule than are allowed to.
    #[error("{place}:{line}:{column}: {problem}, and {rejected_max} rows were set aside before it, as many as allowed")]
    TooManyBadRows {
        /// The input.
        place: String,
        /// The line, from 1.
        line: u64,
        /// Byte of the line at which the field begins, from 1.
        column: usize,
        /// Value and rule.
        problem: String,
        /// The limit.
        rejected_max: u64,
    },
    /// The rejected rows fill more space than is sensible.
    #[error("{place}:{line}:1: the rows set aside up to here take more than {bytes_max} bytes")]
    RejectsTooLarge {
        /// The input.
        place: String,
        /// The line, from 1.
        line: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// Every row was rejected.
    #[error("{place}: no {rows}: all {rejected} rows were set aside, the first in line {first_line}")]
    AllRejected {
        /// The input.
        place: String,
        /// What the rows are called.
        rows: &'static str,
        /// Rows in it.
        rejected: u64,
        /// The first bad line.
        first_line: u64,
    },
    /// Every row was held out.
    #[error("{place}: no training rows are left: all {holdout} rows are held out by `--holdout {fraction}`")]
    AllHeldOut {
        /// The input.
        place: String,
        /// Rows held out.
        holdout: u64,
        /// The share asked for.
        fraction: f64,
    },
    /// Temporary data could not be written or read.
    #[error("{folder}: could not {action} temporary data")]
    Temporary {
        /// The folder of temporary data.
        folder: String,
        /// The attempted action, in the infinitive.
        action: &'static str,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Less room for temporary data than will be needed.
    #[error("{folder}: has {free_bytes} bytes free, and temporary data will take about {needed_bytes}")]
    TooLittleDisk {
        /// The folder of temporary data.
        folder: String,
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes that are needed, about.
        needed_bytes: u64,
    },
    /// Whoever read the rows has gone away.
    #[error("standard output: its reader went away after {written} of {rows} rows")]
    PipeClosed {
        /// Rows that were written.
        written: u64,
        /// Rows there are.
        rows: u64,
    },
    /// The tables of a dataset do not fit in a message.
    #[error("standard output: the tables that belong to the rows take more than 1 GiB")]
    TablesTooLarge,
    /// A table of another engine in an object store.
    #[error("{place}: Parquet and csv files of other engines are read from this machine only")]
    TableInStore {
        /// The object.
        place: String,
    },
    /// The generated file could not be written.
    #[error("{place}: could not be written")]
    Unwritable {
        /// The file.
        place: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The file to generate exists and differs.
    #[error("{place}: already exists with different content")]
    FileExists {
        /// The file.
        place: String,
    },
    /// No dataset was named and the conventional place has none.
    #[error("no dataset was named, and `{looked_for}` does not exist")]
    NoDataset {
        /// The descriptors that were looked for.
        looked_for: String,
    },
    /// No dataset was named and the conventional place has several.
    #[error("no dataset was named, and there are several: {}", choices.join(", "))]
    SeveralDatasets {
        /// Their folders.
        choices: Vec<String>,
    },
    /// The system refuses to install a signal handler.
    #[error("could not listen for signals")]
    Signals(#[source] std::io::Error),
    /// The dataset could not be read or written.
    #[error(transparent)]
    Stored(#[from] manifests::Error),
    /// A signal came.
    #[error(transparent)]
    Stopped(#[from] reporting::interrupt::Stopped),
}

impl Explain for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. }
            | Self::NoInput { .. }
            | Self::NoFiles { .. }
            | Self::Unlike { .. }
            | Self::TableInStream
            | Self::TableInStore { .. }
            | Self::TablesTooLarge
            | Self::NoDataset { .. }
            | Self::SeveralDatasets { .. } => ErrorKind::Usage,
            Self::Lost { .. } | Self::NobodyListens => ErrorKind::Internal,
            Self::Raw(error) => error.kind(),
            Self::Query(error) => error.kind(),
            Self::DifferentColumns { .. }
            | Self::TooManyBadRows { .. }
            | Self::RejectsTooLarge { .. }
            | Self::AllRejected { .. }
            | Self::AllFiltered { .. }
            | Self::AllHeldOut { .. } => ErrorKind::Data,
            Self::Unwritable { source, .. } | Self::Temporary { source, .. } => raw::error::kind_of(source),
            Self::FileExists { .. } => ErrorKind::Conflict,
            Self::Signals(_) | Self::PipeClosed { .. } | Self::TooLittleDisk { .. } => ErrorKind::Unavailable,
            Self::Stored(error) => error.kind(),
            Self::Stopped(stopped) => stopped.kind(),
        }
    }

    fn fix(&self) -> Option<String> {
        let text = match self {
            Self::Setting { fix, .. } => fix,
            Self::NoInput { example } => {
                return Some(format!("name a file or folder, or pipe rows in, as in {example}"));
            }
            // What this tool has flags for is said here.
            Self::Raw(raw::Error::ZipInStream { .. }) => "name the archive itself, as in `prep movielens ml-20m.zip`",
            Self::Raw(raw::Error::UnknownFormat { .. }) => {
                "ratings have the columns userId, movieId, rating, timestamp; name the separator with `--format csv|dat|tab`"
            }
            Self::Raw(raw::Error::ClicksInstead { .. }) => "prepare click logs with `prep criteo`",
            Self::Raw(raw::Error::RatingsInstead { .. }) => "prepare ratings with `prep movielens`",
            Self::Raw(raw::Error::BadRow { fix, .. }) => {
                let besides = fix.map_or(String::new(), |fix| format!("; {fix}"));
                return Some(format!("correct the row, or set bad rows aside with `--bad-rows quarantine`{besides}"));
            }
            Self::Raw(error) => return error.fix(),
            Self::DifferentColumns { .. } => "prepare the files with labels and those without as two datasets",
            Self::NoFiles { .. } => "check the path; a pattern may have `*`, `?` and `[...]`",
            Self::Unlike { .. } => "name a dataset that was prepared with the same `--features` and `--hash-buckets`",
            Self::AllFiltered { .. } => "choose a condition that some rows meet; a missing value meets no comparison",
            Self::TableInStream => "name the file",
            Self::TableInStore { .. } => "copy it to this machine first, or have that engine write raw text",
            Self::TablesTooLarge => "write a folder with `--out FOLDER`, and give that to `shard`",
            Self::PipeClosed { .. } => {
                "see what the command behind the pipe says; to write a folder instead, name it with `--out`"
            }
            Self::NobodyListens => return None,
            Self::Query(error) => return error.fix(),
            Self::Lost { .. } => "please report this, with the command and, if you can, the input",
            Self::RejectsTooLarge { .. } => "check that this is the right file",
            Self::TooManyBadRows { .. } => "correct the rows, or allow more with `--bad-rows quarantine:N`",
            Self::AllRejected { .. } => "check `--format` and the input; without quarantine the first bad row is shown",
            Self::AllHeldOut { .. } => "hold out a smaller share",
            Self::Temporary { .. } | Self::TooLittleDisk { .. } => {
                "free some space, or name another folder with `--temp-dir`"
            }
            Self::Unwritable { .. } => "check that the folder exists, its owner and mode, and its free space",
            Self::FileExists { .. } => "choose another file, or overwrite it with `--replace`",
            Self::NoDataset { .. } => "make one with `prep`, or name its folder: `prep inspect FOLDER`",
            Self::SeveralDatasets { choices } => {
                return Some(format!("name one of them: `prep inspect {}`", choices[0]));
            }
            Self::Signals(_) => return None,
            Self::Stored(error) => return error.fix(),
            Self::Stopped(stopped) => return stopped.fix(),
        };
        Some(text.to_owned())
    }
}
