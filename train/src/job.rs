//! What the processes of a run are told: a file in the run's place, so that only its address is handed to them.

use std::time::Duration;

use manifests::place::Place;
use schemas::dataset::Digest;
use schemas::report::{LogisticSettings, PmfSettings};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::plan::{Limits, usage};
use crate::protocol::supervisor::Strategy;

/// The file.
pub const KEY: &str = "job.json";
/// Name and version of the file.
pub const FORMAT: (&str, u32) = ("gristmill.job", 1);

/// A run as its processes need to know it. There are no passwords in it: the URLs of the servers come by the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Name and version of the format.
    pub format: (String, u32),
    /// Name of the run in messages and keys; another one each time that the run is begun or resumed.
    pub session: String,
    /// Where the manifest is.
    pub manifest: String,
    /// Identity of the run: of manifest, settings and limits.
    pub identity: Digest,
    /// What is trained, and how.
    pub settings: Settings,
    /// When to end.
    pub limits: Limits,
    /// Workers at the beginning.
    pub workers: u32,
    /// How gradients are exchanged.
    pub strategy: Strategy,
    /// The place through which gradients are exchanged, when that is not Redis.
    pub exchange: Option<String>,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// A worker that was not heard of for this long is replaced.
    pub worker_timeout: Duration,
}

/// Name and version of what a function is invoked with.
pub const INVITATION: (&str, u32) = ("gristmill.invitation", 1);

/// Who a process or a function is, in which run. Everything else it reads from the run's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The run's place.
    pub run: String,
    /// The session.
    pub session: String,
    /// The worker; without it, the supervisor.
    pub worker: Option<u32>,
    /// Which life of it.
    pub incarnation: u32,
    /// The supervisor's life at the launch of a worker.
    pub supervisor: u32,
    /// Workers at the launch of a supervisor.
    pub workers: u32,
    /// How long it has, if its time is limited; of a function, if that is less than the function's own limit.
    pub time_limit: Option<Duration>,
    /// How long a supervisor waits, at most, for the one before it to have it lead.
    pub waits: Option<Duration>,
}

/// What a function is invoked with that is to take part in a run: a few hundred bytes, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Name and version of the format.
    pub format: (String, u32),
    /// Who it is.
    #[serde(flatten)]
    pub join: Join,
}

/// Sees that what a function is invoked with has the format that it `understands`.
///
/// # Errors
/// When it was written by another version.
pub fn understood(found: &(String, u32), understands: (&str, u32)) -> Result<(), Error> {
    let (format, version) = found;
    if (format.as_str(), *version) == understands {
        return Ok(());
    }
    let problem = format!(
        "the client sends `{format}` {version}, this function understands `{}` {}",
        understands.0, understands.1
    );
    Err(usage(problem, "deploy the function of the version that you run, and give it by --function"))
}

/// Name and version of [`Checkup`].
pub const CHECKUP: (&str, u32) = ("gristmill.checkup", 1);

/// What a function is invoked with that is to look at its surroundings, for `train doctor`. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkup {
    /// Name and version of the format.
    pub format: (String, u32),
    /// Where the manifest is.
    pub manifest: String,
    /// The run's place.
    pub run: String,
    /// The place through which gradients are exchanged, when that is not Redis.
    pub exchange: Option<String>,
    /// Name of the check in messages and keys, which no other has.
    pub session: String,
    /// The client has a mailbox in that session.
    pub client_listens: bool,
}

/// What a function is invoked with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// To take part in a run.
    Invitation(Invitation),
    /// To look at its surroundings.
    Checkup(Checkup),
}

/// The settings of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settings {
    /// Of a matrix factorisation.
    Pmf(PmfSettings),
    /// Of a logistic regression.
    Logistic(LogisticSettings),
}

impl Job {
    /// Writes it to the run's place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: &Place) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(self).map_err(Error::internal)?;
        Ok(out.put(KEY, json)?)
    }

    /// Reads that of the run at `out`.
    ///
    /// # Errors
    /// When there is none, or none of this version.
    pub fn read(out: &Place) -> Result<Self, Error> {
        let unfit = |problem: String| Error::Unfit {
            place: out.show(KEY),
            problem,
            fix: "give the folder of a run that was begun with `train --launch process` by this version".to_owned(),
        };
        let bytes = match out.get(KEY) {
            Err(manifests::Error::NotFound { .. }) => return Err(unfit("there is no unfinished run".to_owned())),
            bytes => bytes?,
        };
        let job: Self = serde_json::from_slice(&bytes).map_err(|e| unfit(e.to_string()))?;
        let (format, version) = &job.format;
        if (format.as_str(), *version) == FORMAT {
            return Ok(job);
        }
        Err(unfit(format!("it is `{format}` {version}, not `{}` {}", FORMAT.0, FORMAT.1)))
    }

    /// Removes that of the run at `out`.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(out: &Place) -> Result<(), Error> {
        Ok(out.delete(KEY)?)
    }
}
