//! Pieces in object storage, for those who have no Redis: objects in a folder of their own, local or in S3.
//!
//! Nothing expires there. What a killed run leaves lies in that folder, and [`ObjectStorageStore::clear`] takes it away.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use manifests::Error;
use manifests::place::Place;
use schemas::exit::Explain;

use super::{Name, Store};
use crate::service::ServiceError;

/// Objects that are under way at once. A request to S3 takes tens of milliseconds whatever its size.
const IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(32).expect("it is not 0");

/// A store in a folder of object storage. Its calls end within the time that the storage's own settings allow.
#[derive(Clone, Debug)]
pub struct ObjectStorageStore {
    place: Place,
}

impl ObjectStorageStore {
    /// Of the folder `prefix` in `place`, which belongs to it alone.
    ///
    /// # Errors
    /// `Config`, when it does not name a folder.
    pub fn new(place: &Place, prefix: &str) -> Result<Self, ServiceError> {
        Ok(Self { place: place.join(prefix).map_err(|error| told(place, &error))? })
    }

    /// Removes everything, also what was left by runs that were killed.
    ///
    /// # Errors
    /// When the storage cannot be reached in time or refuses.
    pub fn clear(&self) -> Result<(), ServiceError> {
        self.place.clear().map_err(|error| told(&self.place, &error))
    }

    /// Does `work` for `0..n`, several at once where it is worth it, and stops at the first failure.
    fn each(&self, n: usize, work: impl Fn(usize) -> Result<(), Error> + Sync) -> Result<(), ServiceError> {
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let worker = || {
            while let Some(position) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|position| *position < n) {
                if let Err(error) = work(position) {
                    next.store(n, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        let further = if self.place.is_local() { 0 } else { n.min(IN_FLIGHT.get()).saturating_sub(1) };
        std::thread::scope(|scope| {
            // With fewer threads than wanted it only takes longer.
            (0..further).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, worker).ok()).for_each(drop);
            worker();
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(()), |error| Err(told(&self.place, &error)))
    }
}

impl Store for ObjectStorageStore {
    fn put(&self, pieces: &[(Name, Bytes)]) -> Result<(), ServiceError> {
        self.each(pieces.len(), |position| {
            let (name, bytes) = &pieces[position];
            self.place.put(&name.to_string(), bytes.clone())
        })
    }

    fn get(&self, names: &[Name]) -> Result<Vec<Option<Bytes>>, ServiceError> {
        let keys: Vec<String> = names.iter().map(Name::to_string).collect();
        let fetches = keys.iter().map(|key| self.place.fetch(key, None));
        let fetched = futures::stream::iter(fetches).buffered(IN_FLIGHT.get()).map(|fetched| match fetched {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(told(&self.place, &error)),
        });
        let fetched: Vec<Result<Option<Bytes>, ServiceError>> = futures::executor::block_on(fetched.collect());
        fetched.into_iter().collect()
    }

    fn delete(&self, names: &[Name]) -> Result<(), ServiceError> {
        self.each(names.len(), |position| self.place.delete(&names[position].to_string()))
    }
}

/// What to tell of a failure of the storage.
fn told(place: &Place, error: &Error) -> ServiceError {
    let mut problem = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        problem = format!("{problem}: {cause}");
        next = cause.source();
    }
    let fix = error.fix().unwrap_or_else(|| "see that the storage can be reached and written".to_owned());
    ServiceError { place: place.to_string(), problem, kind: error.kind(), fix }
}
