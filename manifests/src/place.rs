//! Places: where a tool's files lie. A place is a folder of the storage port, addressed by keys.
//!
//! The port is [`ObjectStore`]; the calls here block, because the tools that use them are made of threads. Local paths need
//! no async runtime at all, and S3 brings its own.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion,
};
use s3::S3Store;
use schemas::dataset::Digest;

use crate::error::WRITE;
use crate::{Error, bucket};

/// Under this name a store that keeps attributes of objects keeps the digest of an object's bytes.
const STAMP: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("xxh3-128"));

/// What browsers and programs are to take an object for that people may look at.
fn content_type(key: &str) -> Option<&'static str> {
    match Path::new(key).extension()?.to_str()? {
        "html" => Some("text/html; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        "png" => Some("image/png"),
        "json" => Some("application/json"),
        "csv" => Some("text/csv; charset=utf-8"),
        _ => None,
    }
}

/// A folder in some storage.
#[derive(Clone, Debug)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    root: StorePath,
    shown: String,
    kind: Kind,
}

/// What the storage can do besides what the port says.
#[derive(Clone, Debug)]
enum Kind {
    Local,
    S3(S3Store),
    Other,
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
    /// The place that a path on this machine or `s3://bucket/folder` names. Nothing is touched yet.
    ///
    /// # Errors
    /// [`Error::BadPlace`] for a URL of a scheme that is not supported, or a path that cannot be made absolute.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |problem: String| Error::BadPlace { text: text.to_owned(), problem };
        let path = match text.split_once("://") {
            None => text,
            Some(("file", path)) => path,
            Some(("s3", rest)) => {
                let (store, root, shown) = bucket::open(rest).map_err(bad)?;
                return Ok(Self { store: Arc::new(store.clone()), root, shown, kind: Kind::S3(store) });
            }
            Some((scheme, _)) => return Err(bad(format!("`{scheme}://` is not supported"))),
        };
        if path.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let absolute = normalised(&std::path::absolute(path).map_err(|e| bad(e.to_string()))?);
        let root = StorePath::from_absolute_path(&absolute).map_err(|e| bad(e.to_string()))?;
        let shown = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        Ok(Self { store: Arc::new(LocalFileSystem::new()), root, shown: shown.to_owned(), kind: Kind::Local })
    }

    /// Whether it is a folder of this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.kind, Kind::Local)
    }

    /// The place of the file that `text` names, and the file's key there.
    ///
    /// # Errors
    /// As [`Place::parse`], and when `text` has no file name.
    pub fn parse_file(text: &str) -> Result<(Self, String), Error> {
        let nameless = || Error::BadPlace { text: text.to_owned(), problem: "it has no file name".to_owned() };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (folder, name) = rest.rsplit_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(nameless)?;
            return Ok((Self::parse(&format!("s3://{folder}"))?, name.to_owned()));
        }
        let path = Path::new(text);
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return Err(nameless());
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
        Self { store, root: StorePath::from(root), shown: root.to_owned(), kind: Kind::Other }
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
                part if matches!(self.kind, Kind::S3(_)) => {
                    let bad = |problem| Error::BadPlace { text: relative.to_owned(), problem };
                    root = bucket::join(&root, part).map_err(bad)?;
                }
                part => root = root.clone().join(part),
            }
        }
        let shown = match (self.shown.as_str(), relative, &self.kind) {
            (_, _, Kind::S3(store)) => bucket::shown(store, &root),
            (_, "." | "", _) => self.shown.clone(),
            (".", relative, _) => relative.to_owned(),
            (shown, relative, _) => format!("{shown}/{relative}"),
        };
        Ok(Self { store: Arc::clone(&self.store), root, shown, kind: self.kind.clone() })
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

    /// The whole object, if there is one.
    ///
    /// # Errors
    /// As [`Place::get`], but for [`Error::NotFound`].
    pub fn find(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match self.get(key) {
            Err(Error::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        }
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
    /// [`Error::NotFound`], [`Error::Denied`], [`Error::Access`] or [`Error::Storage`]; the last also when the range begins behind
    /// the object's end, [`Error::Corrupt`] when it ends there.
    pub fn fetch(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send + 'static {
        let (store, path, shown) = (Arc::clone(&self.store), self.path(key), self.show(key));
        async move {
            let mut begun = 0;
            let fetched = loop {
                begun += 1;
                let fetched = match range.clone() {
                    None => async { store.get(&path).await?.bytes().await }.await,
                    Some(range) => store.get_range(&path, range).await,
                };
                // What the network has altered on the way is read again.
                let altered = |e| matches!(bucket::cause(e), Some(s3::Error::Mismatch { .. }));
                if begun == bucket::BEGUN_AT_MOST || !fetched.as_ref().err().is_some_and(altered) {
                    break fetched;
                }
            };
            let bytes = fetched.map_err(|e| Error::from_store(shown.clone(), "read it", e))?;
            match range {
                Some(range) if bytes.len() as u64 != range.end - range.start => {
                    let end = range.start + bytes.len() as u64;
                    let problem = format!("it ends at byte {end}, within the range {}..{}", range.start, range.end);
                    Err(Error::Corrupt { place: shown, problem })
                }
                _ => Ok(bytes),
            }
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
        self.put_with(key, bytes, PutOptions::from(mode)).map_err(|e| Error::from_store(self.show(key), WRITE, e))
    }

    fn put_with(&self, key: &str, bytes: Bytes, mut options: PutOptions) -> object_store::Result<()> {
        let path = self.path(key);
        if let (Kind::S3(_), Some(content_type)) = (&self.kind, content_type(key)) {
            options.attributes.insert(Attribute::ContentType, content_type.into());
        }
        match &self.kind {
            Kind::S3(store) if bytes.len() > bucket::PART && options.mode == PutMode::Overwrite => {
                block_on(bucket::put_in_parts(store, &path, &bytes, &options.attributes))
            }
            _ => {
                let mut begun = 0;
                loop {
                    begun += 1;
                    match block_on(self.store.put_opts(&path, bytes.clone().into(), options.clone())) {
                        // Another writer of the same has tidied up after a killed one, and taken our half of a file for its.
                        Err(error) if self.is_local() && begun < bucket::BEGUN_AT_MOST && is_gone(&error) => {}
                        ended => return ended.map(drop),
                    }
                }
            }
        }
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
        match self.put_with(key, bytes.clone(), options) {
            // A store that keeps no attributes is read when the digest is wanted.
            Err(object_store::Error::NotImplemented { .. }) => self.put(key, bytes),
            outcome => outcome.map_err(|e| Error::from_store(self.show(key), WRITE, e)),
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

    /// The folder, when it is one on this machine's disks.
    #[must_use]
    pub fn local_path(&self) -> Option<PathBuf> {
        self.is_local().then(|| PathBuf::from(format!("/{}", self.root)))
    }

    /// Writes over the version `old` of an object: of several writers who have seen that version exactly one succeeds.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another version is there, or none; else as [`Place::put`].
    pub(crate) fn replace(&self, key: &str, bytes: Bytes, old: &Version) -> Result<(), Error> {
        let conflict = || Error::Conflict { place: self.show(key) };
        if let Some(folder) = self.local_path() {
            // Local files cannot be replaced on a condition, so those who do it take turns.
            let _turn = crate::turn::take(&folder).map_err(|source| Error::Storage {
                place: self.to_string(),
                action: "take turns with other writers there",
                source: Box::new(source),
            })?;
            return if self.version(key)?.as_ref() == Some(old) { self.put(key, bytes) } else { Err(conflict()) };
        }
        let version = UpdateVersion { e_tag: old.tag.clone(), version: None };
        match self.put_mode(key, bytes, PutMode::Update(version)) {
            Err(Error::Changed { .. } | Error::NotFound { .. }) => Err(conflict()),
            outcome => outcome,
        }
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        match block_on(self.store.delete(&self.path(key))) {
            Ok(()) => Ok(()),
            Err(e) => match Error::from_store(self.show(key), "delete it", e) {
                Error::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        }
    }

    /// Size of an object, or `None` when it does not exist.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Storage`].
    pub fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        match block_on(self.store.head(&self.path(key))) {
            Ok(meta) => Ok(Some(meta.size)),
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
        // Another writer may be clearing the same place; what it has taken away must not keep the rest here.
        let deleted = self.store.delete_stream(paths).map(|deleted| match deleted {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            deleted => deleted.map(drop),
        });
        block_on(deleted.try_for_each(|()| futures::future::ready(Ok(()))))
            .map_err(|e| Error::from_store(self.to_string(), "empty it", e))?;
        self.tidy();
        Ok(())
    }

    /// Takes away what writers that were killed left below this place of objects that never came to be, which is not listed: on
    /// local disks files `name#1`, in S3 uploads in parts. Object stores have no folders, local disks do: empty ones go too.
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
        match &self.kind {
            Kind::Local => tidy(Path::new(&format!("/{}", self.root))),
            // What cannot be removed now is removed by the next commit.
            Kind::S3(store) => {
                let _ = block_on(store.abort_unfinished(&format!("{}/", self.root), Duration::ZERO));
            }
            Kind::Other => {}
        }
    }
}

/// Whether a file was not there that had just been made.
fn is_gone(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = next {
        if at.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::NotFound) {
            return true;
        }
        next = at.source();
    }
    false
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
#[path = "place_suite.rs"]
mod suite;

#[cfg(test)]
mod tests {
    use super::suite::suite;
    use super::*;
    use object_store::memory::InMemory;

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
