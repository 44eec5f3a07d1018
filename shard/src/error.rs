//! Everything that can stop `shard`.

use bytesize::ByteSize;
use reporting::interrupt::Stopped;
use schemas::exit::{ErrorKind, Explain};

/// Why there are no shards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// How many rows a mini-batch has was not said.
    #[error("--batch: the rows of a mini-batch were not given")]
    NoBatchSize {
        /// What was given as the dataset.
        prepared: Option<String>,
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
    /// The dataset has nothing to train on.
    #[error("{place}: there are no training rows")]
    NoRows {
        /// The descriptor.
        place: String,
    },
    /// The limit leaves no room to work.
    #[error("{} of memory are too little for this dataset and batch size, which need {}", ByteSize(*memory), ByteSize(*least))]
    TooLittleMemory {
        /// The limit, in bytes.
        memory: u64,
        /// What would be enough, in bytes.
        least: u64,
    },
    /// A disk has less room than the work takes.
    #[error("{folder}: {what} will take about {}, and only {} are free", ByteSize(*needed), ByteSize(*free))]
    TooLittleDisk {
        /// The folder.
        folder: String,
        /// What is to be written there.
        what: &'static str,
        /// Bytes of it.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The manifest exists and is not the one that would be made.
    #[error("{manifest}: already exists and differs: {difference}")]
    Differs {
        /// The manifest.
        manifest: String,
        /// In what.
        difference: String,
    },
    /// The output place has mini-batches that the manifest to be written does not know of.
    #[error("{place}: already has mini-batches ({generation}) that `{manifest}` does not name")]
    Occupied {
        /// The output place.
        place: String,
        /// The folder of the mini-batches.
        generation: String,
        /// The manifest that would be written.
        manifest: String,
    },
    /// Stored data could not be read or written.
    #[error(transparent)]
    Stored(#[from] manifests::Error),
    /// A signal arrived.
    #[error(transparent)]
    Stopped(#[from] Stopped),
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
    /// The operating system refused threads or signal handlers.
    #[error("the operating system refused {what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        Self::System { what: "a signal handler", source: Box::new(source) }
    }
}

/// Why there is no thread.
pub(crate) fn no_thread(source: std::io::Error) -> Error {
    Error::System { what: "a thread", source: Box::new(source) }
}

impl Explain for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoBatchSize { .. } | Self::NoDataset { .. } | Self::SeveralDatasets { .. } => ErrorKind::Usage,
            Self::NoRows { .. } => ErrorKind::Data,
            Self::TooLittleMemory { .. } => ErrorKind::Config,
            Self::Differs { .. } | Self::Occupied { .. } => ErrorKind::Conflict,
            Self::Stored(error) => error.kind(),
            Self::Stopped(stopped) => stopped.kind(),
            Self::Temporary { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied
                | std::io::ErrorKind::ReadOnlyFilesystem
                | std::io::ErrorKind::NotADirectory
                | std::io::ErrorKind::NotFound => ErrorKind::Config,
                _ => ErrorKind::Unavailable,
            },
            Self::TooLittleDisk { .. } | Self::System { .. } => ErrorKind::Unavailable,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::NoBatchSize { prepared } => {
                let prepared = prepared.as_ref().map_or(String::new(), |prepared| format!(" {prepared}"));
                Some(format!(
                    "give a number: `shard{prepared} --batch 1000` for up to half a million rows, 4000 to 12000 for more"
                ))
            }
            Self::NoDataset { .. } => Some(
                "make one with `prep criteo` or `prep movielens`, or name its folder: `shard FOLDER --batch N`"
                    .to_owned(),
            ),
            Self::SeveralDatasets { choices } => Some(format!("name one of them: `shard {} --batch N`", choices[0])),
            Self::NoRows { .. } => Some("prepare it anew from an input with rows, or hold out less".to_owned()),
            Self::TooLittleMemory { least, .. } => {
                let megabytes = least.div_ceil(1 << 20);
                Some(format!("allow more with `--memory {megabytes}MiB`, or choose smaller batches or objects"))
            }
            Self::Differs { .. } | Self::Occupied { .. } => {
                Some("choose another `--out` and `--manifest`, or overwrite with `--replace`".to_owned())
            }
            Self::Stored(error) => error.fix(),
            Self::Stopped(stopped) => stopped.fix(),
            Self::TooLittleDisk { what: "temporary data", .. } => Some(
                "free some space, name a folder on another disk with `--temp-dir`, or allow more memory with `--memory`".to_owned(),
            ),
            Self::TooLittleDisk { .. } => Some("free some space, or choose another `--out`".to_owned()),
            Self::Temporary { .. } => Some("free some space, or name another folder with `--temp-dir`".to_owned()),
            Self::System { .. } => Some("try fewer `--threads`, or run the command again".to_owned()),
        }
    }
}
