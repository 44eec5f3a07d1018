//! Where a run's checkpoints lie: what it takes to go on after everything that runs it has died.
//!
//! | key | |
//! |---|---|
//! | `state-STEPS-WORKER.INCARNATION` | a replica, as [`Model::state`](crate::model::Model::state) gives it |
//! | `records-NUMBER-SESSION.SUPERVISOR` | the records since the checkpoint before |
//! | `checkpoint` | which of these make the newest checkpoint; written last |
//!
//! `records-*` and `checkpoint` are [postcard](https://postcard.jamesmunns.com), the latter after a line that names format and version.

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use bytes::Bytes;
use manifests::digest::digest;
use manifests::fetch::{Ahead, Fetch};
use manifests::load;
use manifests::place::Place;
use schemas::dataset::Object;
use schemas::manifest::Batch;
use schemas::message::Stored;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::job::Job;
use crate::protocol::supervisor::Checkpoint;
use crate::records::{Mark, Records};

const CHECKPOINT: &str = "checkpoint";
const HEAD: &[u8] = b"gristmill.checkpoint 3\n";

/// Models that are kept besides the newest and the best one: a supervisor that was replaced may have told somebody of it.
const SPARE_STATES: usize = 1;

/// The place of a run's checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    run: Place,
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
    /// The records of the steps after it, when the run had come further.
    tail: Option<Object>,
}

/// Writes checkpoints one after the other.
#[derive(Debug)]
pub struct Writer {
    checkpoints: Checkpoints,
    point: Option<Point>,
    mark: Mark,
    session: String,
    supervisor: u32,
    /// Removes models that no checkpoint names any more, while the run goes on.
    removing: Option<JoinHandle<Result<(), manifests::Error>>>,
}

/// Records of past steps that were read before they are needed, by key.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, Bytes>);

impl Checkpoints {
    /// The checkpoints of the run at `out`.
    ///
    /// # Errors
    /// When the place has no such name.
    pub fn of(out: &Place) -> Result<Self, Error> {
        Ok(Self { run: out.clone(), place: out.join("checkpoints")? })
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

    /// The records of the newest checkpoint, for one who is going to open a later one: most of it will be in that too.
    ///
    /// # Errors
    /// When something of it cannot be read or was altered.
    pub fn read_ahead(&self) -> Result<Known, Error> {
        let mut known = BTreeMap::new();
        let records = self.point()?.map_or_else(Vec::new, |point| point.records);
        for (key, found) in self.objects(records)? {
            match found {
                Ok(bytes) => drop(known.insert(key, bytes)),
                // The run may have gone back beyond it meanwhile.
                Err(manifests::Error::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Known(known))
    }

    /// What is found of `objects`, in their order; several are under way at once.
    fn objects(
        &self,
        objects: Vec<Object>,
    ) -> Result<impl Iterator<Item = (String, Result<Bytes, manifests::Error>)>, Error> {
        let wanted = objects.into_iter().map(Batch::from);
        let fetch = Fetch::shared(&self.place, wanted, Ahead::default()).map_err(Error::internal)?;
        let next = move || fetch.next().map(|found| (found.batch.key.clone(), found.checked(&self.place, CHECKPOINT)));
        Ok(std::iter::from_fn(next))
    }

    fn point(&self) -> Result<Option<Point>, Error> {
        self.place.find(CHECKPOINT)?.map(|bytes| self.parse(&bytes)).transpose()
    }

    /// The newest checkpoint, if there is one; what is on record, which is more when the run has ended; and the writer that goes on
    /// from the checkpoint as the supervisor's life number `supervisor` in `session`. What is `known` is not read again.
    ///
    /// # Errors
    /// When something of it cannot be read or was altered.
    pub fn open(
        &self,
        session: &str,
        supervisor: u32,
        mut known: Known,
    ) -> Result<(Option<Checkpoint>, Records, Writer), Error> {
        let mut records = Records::default();
        let point = self.point()?;
        let pieces: Vec<&Object> = point.iter().flat_map(|point| point.records.iter().chain(&point.tail)).collect();
        let is_known = |piece: &&&Object| known.0.get(&piece.key).is_some_and(|bytes| digest(bytes) == piece.digest);
        let unknown = pieces.iter().filter(|piece| !is_known(piece)).map(|&piece| piece.clone()).collect();
        for (key, bytes) in self.objects(unknown)? {
            known.0.insert(key, bytes?);
        }
        for piece in pieces {
            let read = postcard::from_bytes(&known.0[&piece.key]);
            records.extend(read.map_err(|e| self.wrong(&piece.key, &e.to_string()))?);
        }
        let checkpoint = point.as_ref().map(|point| point.checkpoint.clone());
        let steps = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.course.steps);
        let mut before = records.clone();
        before.truncate(steps);
        let mark = before.mark(steps);
        let (checkpoints, session) = (self.clone(), session.to_owned());
        let writer = Writer { checkpoints, point, mark, session, supervisor, removing: None };
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
    /// When it cannot be written, or the run goes on in another session; the one before is then still the newest.
    pub fn commit(&mut self, checkpoint: Checkpoint, records: &Records) -> Result<(), Error> {
        let (pieces, mut states) = self.point.take().map_or_else(Default::default, |p| (p.records, p.states));
        let named = |stored: &Option<Stored>| stored.as_ref().map(|s| s.object.key.clone());
        let (newest, kept) = (named(&checkpoint.stored), named(&checkpoint.kept));
        states.retain(|key| Some(key) != newest.as_ref());
        states.extend(newest.clone());
        let in_use = |key: &&String| Some(*key) == newest.as_ref() || Some(*key) == kept.as_ref();
        let unused: Vec<String> = states.iter().filter(|key| !in_use(key)).cloned().collect();
        let gone = unused[..unused.len().saturating_sub(SPARE_STATES)].to_vec();
        states.retain(|key| !gone.contains(key));
        let end = checkpoint.course.steps;
        self.write(Point { checkpoint, records: pieces, states, tail: None }, records, end)?;
        self.end_removing()?;
        if !gone.is_empty() {
            let place = self.checkpoints.place.clone();
            let remove = move || gone.iter().try_for_each(|key| place.delete(key));
            let thread = std::thread::Builder::new().name("remove".to_owned()).spawn(remove);
            self.removing = Some(thread.map_err(Error::internal)?);
        }
        Ok(())
    }

    /// A supervisor that nobody can kill may live on when its client has died and another has taken up the run. That one relies on the
    /// checkpoint that it found, and on the spare one if this comes in between.
    fn check_session(&self) -> Result<(), Error> {
        let found = Job::read(&self.checkpoints.run)?.session;
        if found == self.session {
            return Ok(());
        }
        Err(Error::Superseded { ours: self.session.clone(), found })
    }

    fn end_removing(&mut self) -> Result<(), Error> {
        match self.removing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(removed)) => Ok(removed?),
            Some(Err(_)) => Err(Error::Internal("the thread that removes models has panicked".to_owned())),
        }
    }

    /// Writes down how far the run has come beyond the last checkpoint, which stays what it goes back to, and all that is on `records`.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub fn hand_over(&mut self, checkpoint: Checkpoint, records: &Records) -> Result<(), Error> {
        let (pieces, states) = self.point.take().map_or_else(Default::default, |p| (p.records, p.states));
        let key = format!("{}-ahead", self.key(pieces.len()));
        let tail = Some(self.store(key, records, u64::MAX)?);
        self.put(&Point { checkpoint, records: pieces, states, tail })
    }

    /// The name of a piece of records, which no other session or life of the supervisor gives.
    fn key(&self, number: usize) -> String {
        let session = self.session.rsplit('.').next().unwrap_or_default();
        format!("records-{number}-{session}.{}", self.supervisor)
    }

    /// Stores what is on record of the steps between the last checkpoint and `end`.
    fn store(&self, key: String, records: &Records, end: u64) -> Result<Object, Error> {
        let bytes = postcard::to_stdvec(&records.between(self.mark, end)).map_err(Error::internal)?;
        let object = Object { key, rows: 0, bytes: bytes.len() as u64, digest: digest(&bytes) };
        self.checkpoints.place.put(&object.key, bytes)?;
        Ok(object)
    }

    fn put(&self, point: &Point) -> Result<(), Error> {
        self.check_session()?;
        let mut bytes = HEAD.to_vec();
        bytes.extend(postcard::to_stdvec(point).map_err(Error::internal)?);
        Ok(self.checkpoints.place.put(CHECKPOINT, bytes)?)
    }

    /// Adds what was put on `records` since the last checkpoint to it, if there is one: the run is over.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self, records: &Records) -> Result<(), Error> {
        self.end_removing()?;
        self.point.take().map_or(Ok(()), |point| self.write(point, records, u64::MAX))
    }

    fn write(&mut self, mut point: Point, records: &Records, end: u64) -> Result<(), Error> {
        point.records.push(self.store(self.key(point.records.len()), records, end)?);
        // What lay beyond the checkpoint is in this piece, or done again.
        point.tail = None;
        self.put(&point)?;
        self.mark = records.mark(end);
        self.point = Some(point);
        Ok(())
    }
}
