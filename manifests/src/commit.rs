//! How a tool's output appears whole or not at all.
//!
//! Objects are written under a *generation*, a folder named after what determines the content (`gen-` and 12 hexadecimal
//! digits). The descriptor or manifest that names them is written last; without it there is no dataset. So a reader never
//! sees old and new objects mixed, also not while `--replace` runs, and a killed writer leaves nothing that looks whole.
//! A writer that fails or is interrupted takes its generation away, unless the descriptor that is there names it: two writers of
//! the same content share a generation, and what one has committed the other must not remove. After a commit the generations
//! that the new descriptor does not name are taken away too.

use bytes::Bytes;
use schemas::dataset::{Digest, Object};

use crate::Error;
use crate::digest::digest;
use crate::place::Place;

/// Objects of one generation, written but not yet visible.
#[derive(Debug)]
pub struct Staging {
    place: Place,
    generation: String,
    index: (Place, String),
    committed: bool,
}

impl Staging {
    /// Starts the generation whose content is determined by `identity`, in `place`. It will become visible as the object `key`
    /// of `index`.
    #[must_use]
    pub fn new(place: &Place, index: &Place, key: &str, identity: &Digest) -> Self {
        let index = (index.clone(), key.to_owned());
        Self { place: place.clone(), generation: generation(identity), index, committed: false }
    }

    /// Writes the object `name` of this generation, which holds `rows` rows.
    ///
    /// # Errors
    /// As [`Place::put`].
    pub fn put(&self, name: &str, bytes: impl Into<Bytes>, rows: u64) -> Result<Object, Error> {
        let bytes = bytes.into();
        let object = Object {
            key: format!("{}/{name}", self.generation),
            rows,
            bytes: bytes.len() as u64,
            digest: digest(&bytes),
        };
        self.place.put(&object.key, bytes)?;
        Ok(object)
    }

    /// Makes the generation visible by writing `bytes`, which name its objects, as its index.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the index exists and `replace` is not set; else as [`Place::put`]. Nothing is then visible.
    pub fn commit(mut self, bytes: Vec<u8>, replace: bool) -> Result<(), Error> {
        let (index, key) = &self.index;
        if replace {
            index.put(key, bytes)?;
        } else {
            index.create(key, bytes)?;
        }
        self.committed = true;
        // The dataset is whole from here on; a leftover that cannot be removed now is removed by the next commit.
        let _ = self.sweep();
        Ok(())
    }

    fn sweep(&self) -> Result<(), Error> {
        self.place.join(&self.generation)?.tidy();
        for folder in generations(&self.place)? {
            if folder != self.generation {
                self.place.join(&folder)?.clear()?;
            }
        }
        Ok(())
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
        if !self.committed && !self.is_visible() {
            // The failure that led here is what the user must see; what cannot be removed now is removed by the next commit.
            let _ = self.place.join(&self.generation).and_then(|generation| generation.clear());
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    #[test]
    fn replacing_swaps_generations_and_failing_leaves_the_old_one() {
        let place = Place::in_store(Arc::new(InMemory::new()), "d");
        let first = Staging::new(&place, &place, "index.json", &digest(b"first"));
        let old = first.put("part", &b"old"[..], 1).unwrap();
        first.commit(b"1".to_vec(), false).unwrap();

        let refused = Staging::new(&place, &place, "index.json", &digest(b"second"));
        let new = refused.put("part", &b"new"[..], 1).unwrap();
        assert!(matches!(refused.commit(b"2".to_vec(), false), Err(Error::Conflict { .. })));
        assert_eq!(place.get(&old.key).unwrap(), &b"old"[..]);
        assert_eq!(place.size(&new.key).unwrap(), None, "a refused generation is taken away");

        place.put("gen-notours/x", &b""[..]).unwrap();
        let second = Staging::new(&place, &place, "index.json", &digest(b"second"));
        second.put("part", &b"new"[..], 1).unwrap();
        second.commit(b"2".to_vec(), true).unwrap();
        assert_eq!(place.get(&new.key).unwrap(), &b"new"[..]);
        assert_eq!(place.size(&old.key).unwrap(), None, "a replaced generation is taken away");
        assert_eq!(place.size("gen-notours/x").unwrap(), Some(0), "other people's folders stay");
        assert_eq!(place.get("index.json").unwrap(), &b"2"[..]);
    }

    #[test]
    fn a_commit_sweeps_up_what_a_killed_writer_of_the_same_left() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
        let staging = Staging::new(&place, &place, "index.json", &digest(b"same"));
        let part = staging.put("part", &b"x"[..], 1).unwrap();
        let left = folder.path().join(format!("{}#1", part.key));
        std::fs::write(&left, "half").unwrap();
        staging.commit(b"1".to_vec(), false).unwrap();
        assert!(!left.exists());
        assert_eq!(place.get(&part.key).unwrap(), &b"x"[..]);
        assert_eq!(generations(&place).unwrap(), [generation(&digest(b"same"))]);
    }

    #[test]
    fn of_two_writers_of_the_same_the_loser_leaves_the_winner_whole() {
        let place = Place::in_store(Arc::new(InMemory::new()), "d");
        let writer = || Staging::new(&place, &place, "index.json", &digest(b"same"));
        let (first, second, interrupted) = (writer(), writer(), writer());
        let part = first.put("part", &b"x"[..], 1).unwrap();
        second.put("part", &b"x"[..], 1).unwrap();
        let index = format!("{{\"key\": \"{}\"}}", part.key).into_bytes();
        first.commit(index.clone(), false).unwrap();
        assert!(matches!(second.commit(index, false), Err(Error::Conflict { .. })));
        drop(interrupted);
        assert_eq!(place.get(&part.key).unwrap(), &b"x"[..]);
    }
}
