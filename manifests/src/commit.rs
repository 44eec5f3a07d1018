//! How a tool's output appears whole or not at all.
//!
//! Objects are written under a *generation*, a folder named after what determines the content (`gen-` and 12 hexadecimal
//! digits). The descriptor or manifest that names them is written last; without it there is no dataset. So a reader never
//! sees old and new objects mixed, also not while `--replace` runs, and a killed writer leaves nothing that looks whole.
//! A writer that fails or is interrupted takes its generation away from local disks, unless the descriptor that is there names
//! it: two writers of the same content share a generation, and what one has committed the other must not remove. In a remote
//! place the generation stays: the next writer of the same content finds it, also that of a writer that was killed, and sends only
//! what is not there yet. A writer that lost against one of other content takes its generation away everywhere. After a commit
//! the generations that were there when it began and that the new descriptor does not name are taken away too. Of several writers that
//! replace the same descriptor at once one wins: it is replaced on condition that it is the one that was there at the beginning, and that
//! nobody has taken objects of the new generation away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use schemas::dataset::{Digest, Object};

use crate::Error;
use crate::digest::digest;
use crate::place::{Place, Version};
use crate::uploads::Uploads;
pub use crate::uploads::{Limits, Sent};

/// Objects of one generation, written but not yet visible.
#[derive(Debug)]
pub struct Staging {
    place: Place,
    generation: String,
    index: (Place, String),
    limits: Limits,
    /// Made when the first object comes, because it looks at what is there.
    uploads: OnceLock<Uploads>,
    starting: Mutex<()>,
    /// What was there when the first object came.
    start: OnceLock<Start>,
    /// Objects that were given.
    objects: AtomicU64,
    ending: Ending,
}

/// What a writer finds.
#[derive(Debug)]
struct Start {
    index: Option<Version>,
    generations: Vec<String>,
}

/// What is to become of the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It is of use for another attempt.
    Unfinished,
    /// Something else is in its place.
    Refused,
    Committed,
}

impl Staging {
    /// Starts the generation whose content is determined by `identity`, in `place`. It will become visible as the object `key`
    /// of `index`.
    #[must_use]
    pub fn new(place: &Place, index: &Place, key: &str, identity: &Digest) -> Self {
        Self::with_limits(place, index, key, identity, Limits::default())
    }

    /// As [`Staging::new`], with other limits on what is on its way at once. Local places are written to by the threads that call
    /// [`Staging::put`].
    #[must_use]
    pub fn with_limits(place: &Place, index: &Place, key: &str, identity: &Digest, limits: Limits) -> Self {
        Self {
            place: place.clone(),
            generation: generation(identity),
            index: (index.clone(), key.to_owned()),
            limits,
            uploads: OnceLock::new(),
            starting: Mutex::default(),
            start: OnceLock::new(),
            objects: AtomicU64::new(0),
            ending: Ending::Unfinished,
        }
    }

    /// The key of the object `name` of this generation.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.generation)
    }

    /// Writes the object `name` of this generation, which holds `rows` rows; to a remote place, later, while the caller goes on.
    ///
    /// # Errors
    /// As [`Place::put`], for this object or one that was given before.
    pub fn put(&self, name: &str, bytes: impl Into<Bytes>, rows: u64) -> Result<Object, Error> {
        let bytes = bytes.into();
        let object = Object { key: self.key(name), rows, bytes: bytes.len() as u64, digest: digest(&bytes) };
        self.uploads()?.put(object.key.clone(), bytes, object.digest.clone())?;
        self.objects.fetch_add(1, Ordering::Relaxed);
        Ok(object)
    }

    fn uploads(&self) -> Result<&Uploads, Error> {
        if let Some(uploads) = self.uploads.get() {
            return Ok(uploads);
        }
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.uploads.get().is_none() {
            let (index, key) = &self.index;
            let start = Start { index: index.version(key)?, generations: generations(&self.place)? };
            let _ = self.start.set(start);
            let before = self.place.join(&self.generation)?.list()?;
            let before: HashMap<_, _> = before.into_iter().map(|(name, size)| (self.key(&name), size)).collect();
            let _ = self.uploads.set(Uploads::new(&self.place, before, self.limits));
        }
        Ok(self.uploads.get().expect("it was just set"))
    }

    /// Makes the generation visible by writing `bytes`, which name its objects, as its index, once all of them have arrived.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the index exists and `replace` is not set, or another writer has replaced it meanwhile or taken objects of
    /// this generation away; else as [`Place::put`]. Nothing is then visible.
    ///
    /// # Panics
    /// Never: what was there is known by then.
    pub fn commit(mut self, bytes: Vec<u8>, replace: bool) -> Result<Sent, Error> {
        let sent = self.uploads()?.finish()?;
        let start = self.start.get().expect("it is looked at before anything is uploaded");
        if let Err(error) = self.write_index(bytes.into(), start.index.as_ref().filter(|_| replace)) {
            if matches!(error, Error::Conflict { .. }) {
                self.ending = Ending::Refused;
            }
            return Err(error);
        }
        self.ending = Ending::Committed;
        // The dataset is whole from here on; a leftover that cannot be removed now is removed by the next commit. A generation that was
        // begun later is of a writer who will find the index replaced, and take it away; one that was there before may be of one too.
        let _ = self.place.join(&self.generation).map(|generation| generation.tidy());
        for folder in start.generations.iter().filter(|folder| **folder != self.generation) {
            let _ = self.place.join(folder).and_then(|generation| generation.clear());
        }
        Ok(sent)
    }

    /// Writes the index over the version `old`, or where there is none.
    fn write_index(&self, bytes: Bytes, old: Option<&Version>) -> Result<(), Error> {
        let (index, key) = &self.index;
        let there = self.place.join(&self.generation)?.list()?.len() as u64;
        if there < self.objects.load(Ordering::Relaxed) {
            return Err(Error::Conflict { place: self.place.show(&self.generation) });
        }
        match old {
            None => index.create(key, bytes),
            Some(old) => index.replace(key, bytes, old),
        }
    }

    /// Whether the index that is there now names this generation.
    fn is_visible(&self) -> bool {
        let (index, key) = &self.index;
        index.get(key).is_ok_and(|bytes| {
            let name = format!("\"{}/", self.generation);
            bytes.windows(name.len()).any(|window| window == name.as_bytes())
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // First, so that nothing arrives any more.
        drop(self.uploads.take());
        let useless = self.place.is_local() || self.ending == Ending::Refused;
        if self.ending != Ending::Committed && useless && !self.is_visible() {
            // The failure that led here is what the user must see; what cannot be removed now is removed by the next commit.
            let _ = self.place.join(&self.generation).and_then(|generation| generation.clear());
        }
    }
}

/// Takes away what is in the generations of `place` besides `generation`, and what is unfinished in that. A commit does it; a
/// writer that was killed between the two has left it to the next one, also when that finds everything done.
///
/// # Errors
/// As [`Place::clear`].
pub fn sweep(place: &Place, generation: &str) -> Result<(), Error> {
    place.join(generation)?.tidy();
    for folder in generations(place)? {
        if folder != generation {
            place.join(&folder)?.clear()?;
        }
    }
    Ok(())
}

/// The folder of the generation whose content is determined by `identity`.
#[must_use]
pub fn generation(identity: &Digest) -> String {
    format!("gen-{}", &identity.hex()[..12])
}

/// The generations that are in `place`, committed or not, sorted.
///
/// # Errors
/// As [`Place::folders`].
pub fn generations(place: &Place) -> Result<Vec<String>, Error> {
    let mut folders = place.folders()?;
    folders.retain(|folder| is_generation(folder));
    Ok(folders)
}

fn is_generation(folder: &str) -> bool {
    folder.strip_prefix("gen-").is_some_and(|hex| hex.len() == 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

mod tests;
