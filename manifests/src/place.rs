//! Places: where a tool's files lie. A place is a folder of the storage port, addressed by keys.
//!
//! The port is [`ObjectStore`]; the calls here block, because the tools that use them are made of threads. Local paths need
//! no async runtime at all.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use schemas::dataset::Digest;

use crate::Error;

/// Under this name a store that keeps attributes of objects keeps the digest of an object's bytes.
const STAMP: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("xxh3-128"));

/// A folder in some storage.
#[derive(Clone, Debug)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    root: StorePath,
    shown: String,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its size.
    pub bytes: u64,
    /// What the store calls it by, if it tells versions apart.
    tag: Option<String>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Place {
    /// The place that a path on this machine names. Nothing is touched yet.
    ///
    /// # Errors
    /// [`Error::BadPlace`] for a URL of a scheme that is not supported, or a path that cannot be made absolute.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |problem: String| Error::BadPlace { text: text.to_owned(), problem };
        let path = match text.split_once("://") {
            None => text,
            Some(("file", path)) => path,
            Some((scheme, _)) => return Err(bad(format!("`{scheme}://` is not supported"))),
        };
        if path.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let absolute = normalised(&std::path::absolute(path).map_err(|e| bad(e.to_string()))?);
        let root = StorePath::from_absolute_path(&absolute).map_err(|e| bad(e.to_string()))?;
        let shown = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        Ok(Self { store: Arc::new(LocalFileSystem::new()), root, shown: shown.to_owned() })
    }

    /// The place of the file that `text` names, and the file's key there.
    ///
    /// # Errors
    /// As [`Place::parse`], and when `text` has no file name.
    pub fn parse_file(text: &str) -> Result<(Self, String), Error> {
        let path = Path::new(text);
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return Err(Error::BadPlace { text: text.to_owned(), problem: "it has no file name".to_owned() });
        };
        let folder = match path.parent().and_then(Path::to_str) {
            None | Some("") => ".",
            Some(folder) => folder,
        };
        Ok((Self::parse(folder)?, name.to_owned()))
    }

    /// A place in some other store, for tests and embedding.
    #[must_use]
    pub fn in_store(store: Arc<dyn ObjectStore>, root: &str) -> Self {
        Self { store, root: StorePath::from(root), shown: root.to_owned() }
    }

    /// The place at `relative` below this one; `..` and absolute paths are understood, for bases written in manifests.
    ///
    /// # Errors
    /// As [`Place::parse`].
    pub fn join(&self, relative: &str) -> Result<Self, Error> {
        if relative.contains("://") || relative.starts_with('/') {
            return Self::parse(relative);
        }
        let mut root = self.root.clone();
        for part in relative.split('/') {
            match part {
                "" | "." => {}
                ".." => root = root.parts().take(root.parts().count().saturating_sub(1)).collect(),
                part => root = root.clone().join(part),
            }
        }
        let shown = match (self.shown.as_str(), relative) {
            (_, "." | "") => self.shown.clone(),
            (".", relative) => relative.to_owned(),
            (shown, relative) => format!("{shown}/{relative}"),
        };
        Ok(Self { store: Arc::clone(&self.store), root, shown })
    }

    /// How the object `key` is called in messages.
    #[must_use]
    pub fn show(&self, key: &str) -> String {
        if self.shown == "." { key.to_owned() } else { format!("{}/{key}", self.shown) }
    }

    fn path(&self, key: &str) -> StorePath {
        key.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }

    /// The whole object.
    ///
    /// # Errors
    /// As [`Place::fetch`].
    pub fn get(&self, key: &str) -> Result<Bytes, Error> {
        block_on(self.fetch(key, None))
    }

    /// The bytes `range` of an object.
    ///
    /// # Errors
    /// As [`Place::fetch`].
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        block_on(self.fetch(key, Some(range)))
    }

    /// An object, or a range of its bytes, as something to wait for: several can be under way at once.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Denied`] or [`Error::Storage`]; the last also when the range is not within the object.
    pub fn fetch(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send + 'static {
        let (store, path, shown) = (Arc::clone(&self.store), self.path(key), self.show(key));
        async move {
            let fetched = match range {
                None => async { store.get(&path).await?.bytes().await }.await,
                Some(range) => store.get_range(&path, range).await,
            };
            fetched.map_err(|e| Error::from_store(shown, "read it", e))
        }
    }

    /// The version of an object that is there now, or `None` when it does not exist.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn version(&self, key: &str) -> Result<Option<Version>, Error> {
        match block_on(self.store.head(&self.path(key))) {
            Ok(meta) => Ok(Some(Version { bytes: meta.size, tag: meta.e_tag })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::from_store(self.show(key), "look at it", e)),
        }
    }

    /// As [`Place::fetch`], of one version of an object.
    ///
    /// # Errors
    /// [`Error::Changed`] when another version has taken its place, else as [`Place::fetch`].
    pub fn fetch_version(
        &self,
        key: &str,
        range: Range<u64>,
        version: &Version,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send + 'static {
        let (store, path, shown) = (Arc::clone(&self.store), self.path(key), self.show(key));
        let options = GetOptions { range: Some(range.into()), if_match: version.tag.clone(), ..GetOptions::default() };
        async move {
            let fetched = async { store.get_opts(&path, options).await?.bytes().await }.await;
            fetched.map_err(|e| Error::from_store(shown, "read it", e))
        }
    }

    /// Writes an object whole or not at all, over one that is there.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Full`] or [`Error::Storage`].
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.put_mode(key, bytes.into(), PutMode::Overwrite)
    }

    /// Writes an object that must not exist yet: of several writers exactly one succeeds.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it exists, else as [`Place::put`].
    pub fn create(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.put_mode(key, bytes.into(), PutMode::Create)
    }

    fn put_mode(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<(), Error> {
        let path = self.path(key);
        block_on(self.store.put_opts(&path, bytes.into(), PutOptions::from(mode)))
            .map(drop)
            .map_err(|e| Error::from_store(self.show(key), "write it", e))
    }

    /// Writes an object as [`Place::put`] does, and with it `digest`, that of its bytes: for [`Place::stamp`].
    ///
    /// # Errors
    /// As [`Place::put`].
    pub(crate) fn put_stamped(&self, key: &str, bytes: Bytes, digest: &Digest) -> Result<(), Error> {
        if self.is_local() {
            return self.put(key, bytes);
        }
        let attributes = Attributes::from_iter([(STAMP, digest.as_str().to_owned())]);
        let options = PutOptions { attributes, ..PutOptions::from(PutMode::Overwrite) };
        match block_on(self.store.put_opts(&self.path(key), bytes.clone().into(), options)) {
            // A store that keeps no attributes is read when the digest is wanted.
            Err(object_store::Error::NotImplemented { .. }) => self.put(key, bytes),
            outcome => outcome.map(drop).map_err(|e| Error::from_store(self.show(key), "write it", e)),
        }
    }

    /// The digest that an object was written with, as far as the storage knows.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Denied`] or [`Error::Storage`].
    pub(crate) fn stamp(&self, key: &str) -> Result<Option<String>, Error> {
        if self.is_local() {
            return Ok(None);
        }
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = block_on(self.store.get_opts(&self.path(key), options))
            .map_err(|e| Error::from_store(self.show(key), "look at it", e))?;
        Ok(found.attributes.get(&STAMP).map(|stamp| stamp.as_ref().to_owned()))
    }

    /// Whether this is a folder on one of this machine's disks.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.store.to_string().starts_with("LocalFileSystem")
    }

    /// The folder, when it is one on this machine's disks.
    #[must_use]
    pub fn local_path(&self) -> Option<PathBuf> {
        self.is_local().then(|| PathBuf::from(format!("/{}", self.root)))
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        match block_on(self.store.delete(&self.path(key))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::from_store(self.show(key), "delete it", e)),
        }
    }

    /// Size of an object, or `None` when it does not exist.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        match block_on(self.store.head(&self.path(key))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => match Error::from_store(self.show(key), "look at it", e) {
                Error::NotFound { .. } => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Names of the folders directly below this place, sorted.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn folders(&self) -> Result<Vec<String>, Error> {
        let listed = block_on(self.store.list_with_delimiter(Some(&self.root)))
            .map_err(|e| Error::from_store(self.to_string(), "list it", e))?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Keys and sizes of all objects below this place, in order of their keys.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn list(&self) -> Result<Vec<(String, u64)>, Error> {
        let listed = self.store.list(Some(&self.root)).try_collect::<Vec<_>>();
        let listed = block_on(listed).map_err(|e| Error::from_store(self.to_string(), "list it", e))?;
        let key = |path: &StorePath| path.prefix_match(&self.root).map(|parts| StorePath::from_iter(parts).to_string());
        let mut found: Vec<(String, u64)> =
            listed.iter().filter_map(|meta| Some((key(&meta.location)?, meta.size))).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Removes every object below this place.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn clear(&self) -> Result<(), Error> {
        let paths = self.store.list(Some(&self.root)).map_ok(|meta| meta.location).boxed();
        block_on(self.store.delete_stream(paths).try_for_each(|_| futures::future::ready(Ok(()))))
            .map_err(|e| Error::from_store(self.to_string(), "empty it", e))?;
        self.tidy();
        Ok(())
    }

    /// Object stores have no folders, local disks do: takes away empty ones below this place, and what writers that were
    /// killed left of objects that never came to be (`name#1`, which is not listed as an object).
    pub(crate) fn tidy(&self) {
        fn tidy(folder: &Path) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    tidy(&entry.path());
                } else if entry.file_name().to_str().is_some_and(is_unfinished) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
            // Fails on a folder that is not empty, as it should.
            let _ = std::fs::remove_dir(folder);
        }
        if self.is_local() {
            tidy(Path::new(&format!("/{}", self.root)));
        }
    }
}

/// Whether a file of this name is an object that `object_store` has not finished writing.
fn is_unfinished(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// `path` without `.` and `..`, by its text alone.
fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn suite(place: &Place) {
        assert!(matches!(place.get("a/b"), Err(Error::NotFound { .. })));
        assert_eq!(place.size("a/b").unwrap(), None);
        place.create("a/b", &b"one"[..]).unwrap();
        assert!(matches!(place.create("a/b", &b"two"[..]), Err(Error::Conflict { .. })));
        assert_eq!(place.get("a/b").unwrap(), &b"one"[..]);
        place.put("a/b", &b"three"[..]).unwrap();
        assert_eq!(place.size("a/b").unwrap(), Some(5));
        assert_eq!(place.get_range("a/b", 1..4).unwrap(), &b"hre"[..]);
        assert!(place.get_range("a/b", 7..9).is_err());
        place.put("empty", &b""[..]).unwrap();
        assert_eq!(place.get("empty").unwrap().len(), 0);
        assert_eq!(place.folders().unwrap(), ["a"]);
        assert_eq!(place.join("a").unwrap().get("b").unwrap(), &b"three"[..]);
        assert_eq!(place.join("a/../a").unwrap().get("b").unwrap(), &b"three"[..]);
        place.delete("a/b").unwrap();
        place.delete("a/b").unwrap();
        assert_eq!(place.size("a/b").unwrap(), None);
        place.put("c/d/e", &b"x"[..]).unwrap();
        assert_eq!(place.list().unwrap(), [("c/d/e".to_owned(), 1), ("empty".to_owned(), 0)]);
        assert_eq!(place.join("c").unwrap().list().unwrap(), [("d/e".to_owned(), 1)]);
        assert_eq!(place.join("none").unwrap().list().unwrap(), []);
        place.join("c").unwrap().clear().unwrap();
        assert_eq!(place.size("c/d/e").unwrap(), None);
        assert_eq!(place.size("empty").unwrap(), Some(0));
    }

    #[test]
    fn a_local_folder_is_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::parse(folder.path().join("not/made yet").to_str().unwrap()).unwrap();
        suite(&place);
        assert!(!folder.path().join("not/made yet/c").exists(), "emptied folders are taken away");

        place.put("c/d", &b"x"[..]).unwrap();
        for name in ["c/d#1", "c/e#27"] {
            std::fs::write(folder.path().join("not/made yet").join(name), "half").unwrap();
        }
        place.join("c").unwrap().clear().unwrap();
        assert!(!folder.path().join("not/made yet/c").exists(), "unfinished objects are taken away");
        for (name, unfinished) in [("d#1", true), ("d#12", true), ("d", false), ("d#", false), ("d#x1", false)] {
            assert_eq!(is_unfinished(name), unfinished, "{name}");
        }
    }

    #[test]
    fn memory_is_a_place() {
        suite(&Place::in_store(Arc::new(InMemory::new()), "root"));
    }

    #[test]
    fn of_many_creators_exactly_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|i| {
                    scope.spawn({
                        let place = &place;
                        move || usize::from(place.create("k", vec![i]).is_ok())
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn an_unknown_scheme_is_told() {
        let error = Place::parse("ftp://host/x").unwrap_err();
        assert_eq!(error.to_string(), "`ftp://host/x` is not a place: `ftp://` is not supported");
    }
}
