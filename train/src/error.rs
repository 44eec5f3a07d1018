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
            Self::Batch { .. } => ErrorKind::Data,
            Self::Diverged { .. } => ErrorKind::NotConverged,
            Self::Worker { kind, .. } => *kind,
            Self::Lost { .. } | Self::Slow { .. } | Self::Memory { .. } => ErrorKind::Unavailable,
            Self::Stopped(stopped) => stopped.kind(),
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::Usage { fix, .. } => Some(fix.clone()),
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
