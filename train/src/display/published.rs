//! A run on threads has no servers through which it can be watched, so it says how it is in a file in its place, which goes with its end.
//!
//! A thread writes it, so that nobody waits for storage; while that is slow, what comes meanwhile is left out.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use manifests::place::Place;
use reporting::Console;
use schemas::live::Seen;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The file.
pub const KEY: &str = "live.json";
/// Name and version of the file.
pub const FORMAT: (&str, u32) = ("gristmill.live", 1);

/// What is in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Name and version of the format.
    pub format: (String, u32),
    /// The run.
    #[serde(flatten)]
    pub seen: Seen,
}

/// Writes the file of a run.
#[derive(Debug)]
pub struct Published {
    place: Place,
    latest: SyncSender<Seen>,
    writer: JoinHandle<Result<(), Error>>,
}

impl Published {
    /// Begins to, at `place`.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn begin(place: &Place) -> Result<Self, Error> {
        let (latest, wanted) = sync_channel(1);
        let to = place.clone();
        let write = move || {
            for seen in wanted {
                let file = File { format: (FORMAT.0.to_owned(), FORMAT.1), seen };
                to.put(KEY, serde_json::to_vec(&file).map_err(Error::internal)?)?;
            }
            Ok(())
        };
        let writer = std::thread::Builder::new().name("live".to_owned()).spawn(write).map_err(Error::internal)?;
        Ok(Self { place: place.clone(), latest, writer })
    }

    /// How often it is worth while: in object storage each time costs.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(if self.place.is_local() { 1 } else { 10 })
    }

    /// Has `seen` written, unless the writer is busy or has failed.
    pub fn put(&self, seen: &Seen) {
        match self.latest.try_send(seen.clone()) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Removes the file. What went wrong with it does the run no harm, and is said.
    pub fn end(self, console: &Console) {
        drop(self.latest);
        let written = self.writer.join().unwrap_or_else(|_| Err(Error::Internal("its thread panicked".to_owned())));
        if let Err(error) = written.and_then(|()| Ok(self.place.delete(KEY)?)) {
            console.warn(format!("the run could not be watched, or {KEY} is left behind: {error}"));
        }
    }
}
