//! Pieces in this process's memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::{Name, Store};
use crate::service::ServiceError;

/// A store between threads of one process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pieces: Mutex<HashMap<Name, Bytes>>,
}

impl MemoryStore {
    /// Loses everything, as a server does that is started again without its data.
    pub fn lose(&self) {
        self.locked().clear();
    }

    /// How many pieces there are.
    #[must_use]
    pub fn n_pieces(&self) -> usize {
        self.locked().len()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Bytes>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn put(&self, pieces: &[(Name, Bytes)]) -> Result<(), ServiceError> {
        self.locked().extend(pieces.iter().cloned());
        Ok(())
    }

    fn get(&self, names: &[Name]) -> Result<Vec<Option<Bytes>>, ServiceError> {
        let pieces = self.locked();
        Ok(names.iter().map(|name| pieces.get(name).cloned()).collect())
    }

    fn delete(&self, names: &[Name]) -> Result<(), ServiceError> {
        let mut pieces = self.locked();
        for name in names {
            pieces.remove(name);
        }
        Ok(())
    }
}
