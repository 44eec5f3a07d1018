//! What can go wrong in training.

use schemas::exit::{ErrorKind, Explain};

use crate::control::ControlError;
use crate::exchange::ExchangeError;
use crate::model::Metric;
use crate::service::ServiceError;

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
    /// A run's ledger that does not show what it must.
    #[error("{place}: {problem}")]
    Ledger {
        /// The file.
        place: String,
        /// What it shows instead.
        problem: String,
    },
    /// A file of a run that cannot be shown.
    #[error("{place}/{wrong}")]
    Page {
        /// The run.
        place: String,
        /// File, line and problem.
        wrong: page::Wrong,
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
    /// A supervisor that fell silent.
    #[error("worker {worker} has not heard from the supervisor for {seconds} seconds")]
    Unheard {
        /// The worker.
        worker: u32,
        /// For how long.
        seconds: u64,
    },
    /// A worker that stood still for so long that the checkpoint it was to go on from is no longer kept.
    #[error("worker {worker} comes too late: the checkpoint of {steps} steps is gone")]
    Late {
        /// The worker.
        worker: u32,
        /// Steps of the checkpoint.
        steps: u64,
    },
    /// What the workers exchange was lost again and again.
    #[error("the gradients of step {step} were lost {times} times before a checkpoint could be made")]
    Forgotten {
        /// The step, from 0.
        step: u64,
        /// How often.
        times: u32,
    },
    /// The exchange of gradients.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The control plane.
    #[error(transparent)]
    Control(#[from] ControlError),
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
    /// A signal, for a run on threads.
    #[error("{stopped}, and nothing of the run is kept: its workers are threads")]
    Dropped {
        /// The signal.
        stopped: reporting::interrupt::Stopped,
    },
    /// A process of the run that has failed.
    #[error("{part} has failed: {}", last_error(words))]
    Process {
        /// Which.
        part: String,
        /// Its exit code.
        code: i32,
        /// The end of what it said.
        words: String,
    },
    /// A part of the run, elsewhere, that has failed and said why.
    #[error("{part} has failed: {error}")]
    Part {
        /// Which.
        part: String,
        /// The kind of its failure.
        kind: ErrorKind,
        /// Its failure in words.
        error: String,
        /// The remedy in words.
        fix: Option<String>,
    },
    /// A run that was watched and did not end well, or does not let itself be watched.
    #[error("{error}")]
    Ended {
        /// The kind of its failure.
        kind: ErrorKind,
        /// Its failure in words.
        error: String,
        /// The remedy in words.
        fix: Option<String>,
    },
    /// A run that was watched and says nothing.
    #[error("{place}: the run was not heard of for {seconds} seconds")]
    Silent {
        /// The run's place.
        place: String,
        /// For how long.
        seconds: u64,
    },
    /// A run that was stopped before it cost too much.
    #[error("stopped after {steps} steps, at ${spent:.4} of the ${budget} of --budget-usd")]
    Budget {
        /// The budget, in US dollars.
        budget: f64,
        /// What the run has cost.
        spent: f64,
        /// Steps of the model that is saved.
        steps: u64,
        /// The run's place, and the flags by which it goes on there.
        run: String,
    },
    /// A process of a run that another client has taken up.
    #[error("the run goes on as `{found}`, not as `{ours}`")]
    Superseded {
        /// The session of this process.
        ours: String,
        /// That of the run.
        found: String,
    },
    /// A process of the run that dies again and again.
    #[error("{part} died, the {deaths}th death since the run last got on: {why}")]
    Dying {
        /// Which.
        part: String,
        /// Why it died the last time.
        why: String,
        /// How often processes have died.
        deaths: u32,
    },
    /// A run that was stopped by a signal and has saved its model.
    #[error("{stopped} after {steps} steps")]
    Paused {
        /// The signal.
        stopped: reporting::interrupt::Stopped,
        /// Steps that are done.
        steps: u64,
        /// The run's place, and the flags by which it goes on there.
        run: String,
    },
    /// A server that the run needs.
    #[error(transparent)]
    Service(#[from] ServiceError),
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
            Self::Page { wrong, .. } => wrong.kind(),
            Self::Batch { .. } | Self::Titles { .. } | Self::Ledger { .. } => ErrorKind::Data,
            Self::Diverged { .. } => ErrorKind::NotConverged,
            Self::Worker { kind, .. } => *kind,
            Self::Exchange(ExchangeError::Service(error))
            | Self::Control(ControlError::Service(error))
            | Self::Service(error) => error.kind,
            Self::Control(ControlError::Taken { .. }) => ErrorKind::Conflict,
            Self::Exchange(_) | Self::Control(ControlError::NoMailbox { .. }) => ErrorKind::Internal,
            Self::Unheard { .. }
            | Self::Superseded { .. }
            | Self::Late { .. }
            | Self::Forgotten { .. }
            | Self::Lost { .. }
            | Self::Slow { .. }
            | Self::Memory { .. } => ErrorKind::Unavailable,
            Self::Process { code, .. } => ErrorKind::ALL
                .into_iter()
                .find(|kind| i32::from(kind.exit_code()) == *code)
                .unwrap_or(ErrorKind::Internal),
            Self::Part { kind, .. } | Self::Ended { kind, .. } => *kind,
            Self::Budget { .. } => ErrorKind::Config,
            Self::Dying { .. } | Self::Silent { .. } => ErrorKind::Unavailable,
            Self::Stopped(stopped) | Self::Dropped { stopped } | Self::Paused { stopped, .. } => stopped.kind(),
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
            Self::Page { wrong, .. } => wrong.fix(),
            Self::Ledger { .. } => Some("train anew, with `--replace`; and please report it, if nobody has touched the run".to_owned()),
            Self::Titles { .. } => Some("give MovieLens' movies.csv: movieId,title,genres".to_owned()),
            Self::File { done: "read", .. } => Some("check the path, its owner and mode".to_owned()),
            Self::File { .. } => Some("check that the folder exists, its owner and mode, and its free space".to_owned()),
            Self::Stored(error) => error.fix(),
            Self::Batch { .. } => Some("make the shards anew with `shard --replace`".to_owned()),
            Self::Diverged { safer, .. } => {
                Some(format!("lower the learning rate, for example `--learning-rate {safer}`"))
            }
            Self::Worker { fix, .. } => fix.clone(),
            Self::Exchange(ExchangeError::Service(error)) | Self::Control(ControlError::Service(error)) | Self::Service(error) => error.fix(),
            Self::Exchange(_) | Self::Control(ControlError::NoMailbox { .. } | ControlError::Taken { .. }) => None,
            Self::Forgotten { .. } => Some(
                "see that Redis has memory for the gradients of the steps between two checkpoints, or make checkpoints more often with \
                 `--checkpoint-every`"
                    .to_owned(),
            ),
            Self::Unheard { .. } | Self::Late { .. } | Self::Lost { .. } | Self::Slow { .. } => {
                Some("run the command again".to_owned())
            }
            Self::Superseded { .. } => Some("nothing: it is the other one that counts".to_owned()),
            Self::Memory { .. } => {
                Some("choose fewer `--factors` or `--hash-buckets`, or a machine with more memory".to_owned())
            }
            Self::Process { words, .. } => {
                words.lines().find_map(|line| line.split_once("fix: ")).map(|(_, fix)| fix.to_owned())
            }
            Self::Part { fix, .. } | Self::Ended { fix, .. } => fix.clone(),
            Self::Silent { .. } => Some(
                "look where it was begun: it was killed, stands still or is cut off; a run of processes goes on with `train --resume`"
                    .to_owned(),
            ),
            Self::Budget { run, .. } => {
                Some(format!("go on with `train --resume {run}` and another --budget-usd"))
            }
            Self::Dying { .. } => Some(
                "see that what launches it works, and what else is on its machine; give it more `--memory-limit` or `--time-limit` \
                 if it passed these; then go on with `train --resume`"
                    .to_owned(),
            ),
            Self::Paused { run, .. } => Some(format!("go on with `train --resume {run}`")),
            Self::Dropped { .. } => Some(
                "run the same command again; `--max-time` ends a run early and keeps the best model so far, and a run with \
                 `--launch process` is saved and can be resumed"
                    .to_owned(),
            ),
            Self::Stopped(stopped) => stopped.fix(),
            Self::Internal(_) => None,
        }
    }
}

/// What a process said last, without the words before it.
pub(crate) fn last_error(words: &str) -> &str {
    let error = words.lines().rev().find_map(|line| line.split_once("error: "));
    error.map_or_else(|| words.lines().next_back().unwrap_or("it said nothing"), |(_, error)| error)
}
