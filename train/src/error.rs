//! What can go wrong in training.

use schemas::exit::{ErrorKind, Explain};

use crate::model::Metric;

/// A failure of `train`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Flags that do not fit each other or the manifest.
    #[error("{problem}")]
    Usage {
        /// The rule that is broken.
        problem: String,
        /// The remedy.
        fix: String,
    },
    /// A manifest, object or place.
    #[error(transparent)]
    Stored(#[from] manifests::Error),
    /// A mini-batch that is intact but of no use.
    #[error("{place}: {problem}")]
    Batch {
        /// The object.
        place: String,
        /// What is wrong, with the row.
        problem: String,
    },
    /// Raw text that could not be read.
    #[error(transparent)]
    Raw(#[from] raw::Error),
    /// Something in a run, or given to it, that does not fit its model.
    #[error("{place}: {problem}")]
    Unfit {
        /// The file or folder.
        place: String,
        /// What does not fit.
        problem: String,
        /// The remedy.
        fix: String,
    },
    /// A file of titles that is none.
    #[error("{place}:{line}: {problem}")]
    Titles {
        /// The file.
        place: String,
        /// The line, from 1.
        line: u64,
        /// Value and rule.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error("{place}: could not be {done}")]
    File {
        /// The file.
        place: String,
        /// What was tried: `read` or `written`.
        done: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
    /// The loss went out of bounds.
    #[error(
        "training diverged at step {step}: the {} is {loss:.4} {}, it was {first_loss:.4} at the first step ({settings})",
        metric.name(), metric.unit()
    )]
    Diverged {
        /// The step, from 0.
        step: u64,
        /// What the loss is.
        metric: Metric,
        /// The step's loss.
        loss: f64,
        /// The loss of the first step.
        first_loss: f64,
        /// The settings that matter here.
        settings: String,
        /// A learning rate to try: the default for this data, or a quarter of the one that failed.
        safer: f64,
    },
    /// A worker that could not go on.
    #[error("worker {worker}: {error}")]
    Worker {
        /// The worker.
        worker: u32,
        /// The kind of its failure.
        kind: ErrorKind,
        /// Its failure in words.
        error: String,
        /// The remedy in words.
        fix: Option<String>,
    },
    /// Workers that fell silent.
    #[error("no word from worker {} for {seconds} seconds", workers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))]
    Lost {
        /// Which.
        workers: Vec<u32>,
        /// For how long.
        seconds: u64,
    },
    /// Storage that does not answer.
    #[error("a mini-batch could not be read within {seconds} seconds")]
    Slow {
        /// How long was waited.
        seconds: u64,
    },
    /// A model that does not fit.
    #[error("no memory for a model of {bytes} bytes")]
    Memory {
        /// What was asked for.
        bytes: usize,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A signal.
    #[error(transparent)]
    Stopped(#[from] reporting::interrupt::Stopped),
    /// Something that cannot happen.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// What cannot happen, in the words of the error that happened: among others, a transport inside one process does not fail.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Explain for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage { .. } => ErrorKind::Usage,
            Self::Stored(error) => error.kind(),
            Self::Raw(error) => error.kind(),
            Self::Unfit { .. } => ErrorKind::Config,
            Self::File { done: "read", source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::Usage
            }
            Self::File { source, .. } => raw::error::kind_of(source),
            Self::Batch { .. } | Self::Titles { .. } => ErrorKind::Data,
            Self::Diverged { .. } => ErrorKind::NotConverged,
            Self::Worker { kind, .. } => *kind,
            Self::Lost { .. } | Self::Slow { .. } | Self::Memory { .. } => ErrorKind::Unavailable,
            Self::Stopped(stopped) => stopped.kind(),
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::Usage { fix, .. } | Self::Unfit { fix, .. } => Some(fix.clone()),
            // What this tool leaves to `prep` is said here.
            Self::Raw(raw::Error::NotClicks { .. }) => Some(
                "give click logs as Criteo publishes them, with a label or without; or prepare others with `prep criteo --like` \
                 and give the dataset"
                    .to_owned(),
            ),
            Self::Raw(error) => error.fix(),
            Self::Titles { .. } => Some("give MovieLens' movies.csv: movieId,title,genres".to_owned()),
            Self::File { done: "read", .. } => Some("check the path, its owner and mode".to_owned()),
            Self::File { .. } => Some("check that the folder exists, its owner and mode, and its free space".to_owned()),
            Self::Stored(error) => error.fix(),
            Self::Batch { .. } => Some("make the shards anew with `shard --replace`".to_owned()),
            Self::Diverged { safer, .. } => {
                Some(format!("lower the learning rate, for example `--learning-rate {safer}`"))
            }
            Self::Worker { fix, .. } => fix.clone(),
            Self::Lost { .. } | Self::Slow { .. } => Some("run the command again".to_owned()),
            Self::Memory { .. } => {
                Some("choose fewer `--factors` or `--hash-buckets`, or a machine with more memory".to_owned())
            }
            Self::Stopped(stopped) => stopped.fix(),
            Self::Internal(_) => None,
        }
    }
}
