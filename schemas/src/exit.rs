//! The kinds of failure, and the exit code that tells a scheduler which one it was.

use serde::{Deserialize, Serialize};

/// What a failure means for the operator. Each kind has one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A bug in Gristmill.
    Internal,
    /// Wrong flags, or an input that does not exist.
    Usage,
    /// Input rows or files are wrong.
    Data,
    /// A descriptor, manifest, place or setting is invalid or incompatible.
    Config,
    /// The output exists with different content.
    Conflict,
    /// Training diverged.
    NotConverged,
    /// Storage or a service failed; trying again may help.
    Unavailable,
    /// Stopped by SIGINT.
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 9] = [
        Self::Internal,
        Self::Usage,
        Self::Data,
        Self::Config,
        Self::Conflict,
        Self::NotConverged,
        Self::Unavailable,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The process exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Data => 3,
            Self::Config => 4,
            Self::Conflict => 5,
            Self::NotConverged => 6,
            Self::Unavailable => 75,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

/// An error that knows what it means for the operator and, where one is known, the remedy.
pub trait Explain: std::error::Error {
    /// What kind of failure this is.
    fn kind(&self) -> ErrorKind;

    /// What the person can do about it, as one sentence.
    fn fix(&self) -> Option<String> {
        None
    }
}

/// The table of exit codes that every `--help` ends with.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    done, or already done with the same content
  1    internal error (please report it)
  2    wrong usage, or the input does not exist
  3    bad input data
  4    invalid or incompatible descriptor, manifest or setting
  5    the output exists with different content
  6    training diverged
  75   storage or a service failed; trying again may help
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_listed_in_help() {
        let mut codes: Vec<u8> = ErrorKind::ALL.iter().map(|k| k.exit_code()).collect();
        for code in &codes {
            assert!(EXIT_CODES_HELP.contains(&format!("\n  {code:<5}")), "{code} is not in the help");
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        assert!(!codes.contains(&0));
    }
}
