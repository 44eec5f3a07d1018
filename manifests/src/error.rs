//! Everything that can go wrong between a tool and what is stored.

use schemas::exit::{ErrorKind, Explain};

use crate::bucket;

/// The action, in messages, of whoever puts an object.
pub(crate) const WRITE: &str = "write it";

/// A failure to read or write stored data, with the place it happened at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text does not name a place.
    #[error("`{text}` is not a place: {problem}")]
    BadPlace {
        /// What was given.
        text: String,
        /// Why it cannot be used.
        problem: String,
    },
    /// Something the user named is not there.
    #[error("{place}: not found")]
    NotFound {
        /// Where it was looked for.
        place: String,
    },
    /// Something a descriptor or manifest names is not there.
    #[error("{place}: missing, though `{named_by}` names it")]
    Missing {
        /// Where it was looked for.
        place: String,
        /// The file that names it.
        named_by: String,
    },
    /// The output is already there and differs.
    #[error("{place}: already exists with different content")]
    Conflict {
        /// What exists.
        place: String,
    },
    /// The output is already there and differs in something that is known.
    #[error("{place}: already exists and differs: {difference}")]
    Differs {
        /// What exists.
        place: String,
        /// In what it differs.
        difference: String,
    },
    /// An object was written over while it was read.
    #[error("{place}: was changed while it was read")]
    Changed {
        /// The object.
        place: String,
    },
    /// The operating system or service refused access.
    #[error("{place}: permission denied")]
    Denied {
        /// What was to be read or written.
        place: String,
    },
    /// Object storage refused access, or has no such bucket.
    #[error("{place}: {problem}")]
    Access {
        /// What was to be read or written.
        place: String,
        /// Which of bucket, region, credentials and rights is at fault.
        problem: s3::Error,
    },
    /// No space left.
    #[error("{place}: no space left to write")]
    Full {
        /// What was to be written.
        place: String,
    },
    /// Any other failure of the storage.
    #[error("{place}: could not {action}")]
    Storage {
        /// What was to be read or written.
        place: String,
        /// The attempted action, in the infinitive.
        action: &'static str,
        /// The storage's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A descriptor or manifest of the wrong format or version, or one that breaks a rule.
    #[error("{place}: {problem}")]
    Invalid {
        /// The file.
        place: String,
        /// The broken rule.
        problem: String,
        /// The remedy.
        fix: String,
    },
    /// Rows in a pipe that end early, or break a rule.
    #[error("{place}: {problem}")]
    Stream {
        /// What the pipe is called.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Stored bytes that are not what was written.
    #[error("{place}: {problem}")]
    Corrupt {
        /// The object.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Explain for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Access { problem, .. } => bucket::kind(problem),
            Self::BadPlace { .. } | Self::NotFound { .. } => ErrorKind::Usage,
            Self::Missing { .. } | Self::Corrupt { .. } | Self::Stream { .. } => ErrorKind::Data,
            Self::Conflict { .. } | Self::Differs { .. } => ErrorKind::Conflict,
            Self::Denied { .. } | Self::Invalid { .. } => ErrorKind::Config,
            Self::Full { .. } | Self::Storage { .. } | Self::Changed { .. } => ErrorKind::Unavailable,
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Access { problem, .. } => bucket::fix(problem),
            Self::BadPlace { .. } => "give a path on this machine, or s3://bucket/folder".to_owned(),
            Self::NotFound { .. } => "check the path".to_owned(),
            Self::Missing { named_by, .. } => format!(
                "if `{named_by}` was moved, move it back or the data too: what it names is looked for from its own folder; else restore \
                 it, or make `{named_by}` anew with `--replace`"
            ),
            Self::Stream { .. } => {
                "see what the command that writes the rows says, and run both again; or have it write a folder with `--out`"
                    .to_owned()
            }
            Self::Corrupt { .. } => {
                "restore the object, or make the data anew with the tool that wrote it and `--replace`".to_owned()
            }
            Self::Conflict { .. } | Self::Differs { .. } => "choose another `--out`, or overwrite it with `--replace`".to_owned(),
            Self::Changed { .. } => "run the command again once nobody writes there".to_owned(),
            Self::Denied { .. } => "check the owner and mode of the place, or choose another one".to_owned(),
            Self::Full { .. } => "free some space or choose another place, and run the command again".to_owned(),
            Self::Storage { .. } => "run the command again once the storage answers".to_owned(),
            Self::Invalid { fix, .. } => fix.clone(),
        })
    }
}

impl Error {
    /// Classifies an error of the storage port.
    pub(crate) fn from_store(place: String, action: &'static str, error: object_store::Error) -> Self {
        if let Some(told) = bucket::told(&place, action, &error) {
            return told;
        }
        match &error {
            object_store::Error::NotFound { .. } => return Self::NotFound { place },
            object_store::Error::AlreadyExists { .. } => return Self::Conflict { place },
            object_store::Error::Precondition { .. } => return Self::Changed { place },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                return Self::Denied { place };
            }
            _ => {}
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(source) = cause {
            if let Some(io) = source.downcast_ref::<std::io::Error>() {
                match io.kind() {
                    std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                        return Self::Denied { place };
                    }
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => return Self::Full { place },
                    std::io::ErrorKind::NotFound if action == WRITE => {
                        let problem = "no folder can be made there".to_owned();
                        return Self::BadPlace { text: place, problem };
                    }
                    std::io::ErrorKind::NotFound => return Self::NotFound { place },
                    std::io::ErrorKind::NotADirectory => {
                        return Self::BadPlace {
                            text: place,
                            problem: "a file is where a folder should be".to_owned(),
                        };
                    }
                    _ => {}
                }
            }
            cause = source.source();
        }
        Self::Storage { place, action, source: Box::new(error) }
    }

    /// The same failure once more, for another one who has to be told. The storage's words become one text.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::BadPlace { text, problem } => Self::BadPlace { text: text.clone(), problem: problem.clone() },
            Self::NotFound { place } => Self::NotFound { place: place.clone() },
            Self::Missing { place, named_by } => Self::Missing { place: place.clone(), named_by: named_by.clone() },
            Self::Conflict { place } => Self::Conflict { place: place.clone() },
            Self::Differs { place, difference } => {
                Self::Differs { place: place.clone(), difference: difference.clone() }
            }
            Self::Denied { place } => Self::Denied { place: place.clone() },
            Self::Full { place } => Self::Full { place: place.clone() },
            Self::Storage { place, action, source } => {
                let causes = std::iter::successors(source.source(), |cause| cause.source());
                let words = causes.fold(source.to_string(), |text, cause| format!("{text}: {cause}"));
                Self::Storage { place: place.clone(), action, source: words.into() }
            }
            Self::Invalid { place, problem, fix } => {
                Self::Invalid { place: place.clone(), problem: problem.clone(), fix: fix.clone() }
            }
            Self::Corrupt { place, problem } => Self::Corrupt { place: place.clone(), problem: problem.clone() },
            Self::Stream { place, problem } => Self::Stream { place: place.clone(), problem: problem.clone() },
            Self::Changed { place } => Self::Changed { place: place.clone() },
            Self::Access { place, problem } => Self::Access { place: place.clone(), problem: problem.clone() },
        }
    }

    /// What lies at `place` differs in the first of `pairs` whose second and third are not the same: what it is, what it is there, and
    /// what it is here. Nothing when all are the same.
    #[must_use]
    pub fn difference(pairs: &[(&str, String, String)]) -> Option<String> {
        let (what, old, new) = pairs.iter().find(|(_, old, new)| old != new)?;
        Some(format!("its {what} is {old}, this one's {new}"))
    }

    /// The same failure, told as a dangling reference when it is that something was not found.
    #[must_use]
    pub fn named_by(self, named_by: &str) -> Self {
        match self {
            Self::NotFound { place } => Self::Missing { place, named_by: named_by.to_owned() },
            other => other,
        }
    }
}
