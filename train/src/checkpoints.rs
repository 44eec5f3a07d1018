//! Where a run's checkpoints lie: what it takes to go on after everything that runs it has died.
//!
//! | key | |
//! |---|---|
//! | `state-STEPS-WORKER.INCARNATION` | a replica, as [`Model::state`](crate::model::Model::state) gives it |
//! | `records-NUMBER-SUPERVISOR` | the records since the checkpoint before |
//! | `checkpoint` | which of these make the newest checkpoint; written last |
//!
//! `records-*` and `checkpoint` are [postcard](https://postcard.jamesmunns.com), the latter after a line that names format and version.

use bytes::Bytes;
use manifests::digest::digest;
use manifests::load;
use manifests::place::Place;
use schemas::dataset::Object;
use schemas::message::Stored;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::protocol::supervisor::Checkpoint;
use crate::records::{Mark, Records};

const CHECKPOINT: &str = "checkpoint";
const HEAD: &[u8] = b"gristmill.checkpoint 1\n";

/// Models that are kept besides the newest and the best one: a supervisor that was replaced may have told somebody of it.
const SPARE_STATES: usize = 1;

/// The place of a run's checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    place: Place,
}

/// Where a run can go on, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Point {
    checkpoint: Checkpoint,
    /// The records of all steps before, in pieces.
    records: Vec<Object>,
    /// Models that may be removed one day, oldest first.
    states: Vec<String>,
}

/// Writes checkpoints one after the other.
#[derive(Debug)]
pub struct Writer {
    checkpoints: Checkpoints,
    point: Option<Point>,
    mark: Mark,
    supervisor: u32,
}

impl Checkpoints {
    /// The checkpoints of the run at `out`.
    ///
    /// # Errors
    /// When the place has no such name.
    pub fn of(out: &Place) -> Result<Self, Error> {
        Ok(Self { place: out.join("checkpoints")? })
    }

    /// Stores a replica after `steps` steps. `who` tells apart those who may be storing the same.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, steps: u64, who: &str, state: Vec<u8>) -> Result<Stored, Error> {
        let (bytes, digest) = (state.len() as u64, digest(&state));
        let object = Object { key: format!("state-{steps}-{who}"), rows: 0, bytes, digest };
        self.place.put(&object.key, state)?;
        Ok(Stored { steps, object })
    }

    /// A replica.
    ///
    /// # Errors
    /// When it cannot be read or was altered.
    pub fn state(&self, stored: &Stored) -> Result<Bytes, Error> {
        Ok(load::object(&self.place, &stored.object, CHECKPOINT)?)
    }

    /// The newest checkpoint, if there is one; what is on record, which is more when the run has ended; and the writer that goes on
    /// from the checkpoint as the supervisor's life number `supervisor`.
    ///
    /// # Errors
    /// When something of it cannot be read or was altered.
    pub fn open(&self, supervisor: u32) -> Result<(Option<Checkpoint>, Records, Writer), Error> {
        let mut records = Records::default();
        let point = match self.place.get(CHECKPOINT) {
            Ok(bytes) => Some(self.parse(&bytes)?),
            Err(manifests::Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        for piece in point.iter().flat_map(|point| &point.records) {
            let bytes = load::object(&self.place, piece, CHECKPOINT)?;
            records.extend(postcard::from_bytes(&bytes).map_err(|e| self.wrong(&piece.key, &e.to_string()))?);
        }
        let checkpoint = point.as_ref().map(|point| point.checkpoint.clone());
        let steps = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.course.steps);
        let mut before = records.clone();
        before.truncate(steps);
        let mark = before.mark(steps);
        let writer = Writer { checkpoints: self.clone(), point, mark, supervisor };
        Ok((checkpoint, records, writer))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Point, Error> {
        let body = bytes.strip_prefix(HEAD).ok_or("it is no checkpoint of this version".to_owned());
        body.and_then(|body| postcard::from_bytes(body).map_err(|e| e.to_string()))
            .map_err(|problem| self.wrong(CHECKPOINT, &problem))
    }

    fn wrong(&self, key: &str, problem: &str) -> Error {
        Error::Unfit {
            place: self.place.show(key),
            problem: problem.to_owned(),
            fix: "remove the folder of checkpoints and begin anew".to_owned(),
        }
    }

    /// Removes all of them.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<(), Error> {
        // The checkpoint goes first: what it names is then nobody's.
        self.place.delete(CHECKPOINT)?;
        Ok(self.place.clear()?)
    }
}

impl Writer {
    /// Makes `checkpoint` the newest, with what is on `records` of the steps between the last one and it: those after it are done again
    /// by whoever goes on from it.
    ///
    /// # Errors
    /// When it cannot be written; the one before is then still the newest.
    pub fn commit(&mut self, checkpoint: Checkpoint, records: &Records) -> Result<(), Error> {
        let (pieces, mut states) = self.point.take().map_or_else(Default::default, |p| (p.records, p.states));
        let named = |stored: &Option<Stored>| stored.as_ref().map(|s| s.object.key.clone());
        let (newest, kept) = (named(&checkpoint.stored), named(&checkpoint.kept));
        states.retain(|key| Some(key) != newest.as_ref());
        states.extend(newest.clone());
        let in_use = |key: &&String| Some(*key) == newest.as_ref() || Some(*key) == kept.as_ref();
        let unused: Vec<String> = states.iter().filter(|key| !in_use(key)).cloned().collect();
        let gone = &unused[..unused.len().saturating_sub(SPARE_STATES)];
        states.retain(|key| !gone.contains(key));
        let end = checkpoint.course.steps;
        self.write(Point { checkpoint, records: pieces, states }, records, end)?;
        for key in gone {
            self.checkpoints.place.delete(key)?;
        }
        Ok(())
    }

    /// Adds what was put on `records` since the last checkpoint to it, if there is one: the run is over.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self, records: &Records) -> Result<(), Error> {
        self.point.take().map_or(Ok(()), |point| self.write(point, records, u64::MAX))
    }

    fn write(&mut self, mut point: Point, records: &Records, end: u64) -> Result<(), Error> {
        let place = &self.checkpoints.place;
        let bytes = postcard::to_stdvec(&records.between(self.mark, end)).map_err(Error::internal)?;
        let key = format!("records-{}-{}", point.records.len(), self.supervisor);
        let object = Object { key, rows: 0, bytes: bytes.len() as u64, digest: digest(&bytes) };
        place.put(&object.key, bytes)?;
        point.records.push(object);
        let mut bytes = HEAD.to_vec();
        bytes.extend(postcard::to_stdvec(&point).map_err(Error::internal)?);
        place.put(CHECKPOINT, bytes)?;
        self.mark = records.mark(end);
        self.point = Some(point);
        Ok(())
    }
}
