//! Where raw text comes from: files, folders, archives, objects in a store and standard input, decompressed.
//!
//! Compression is recognised by the first bytes, never by a name. Nothing here knows what the text means; which names to look
//! for in folders and archives is the caller's to say.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use manifests::digest::Digester;
use manifests::place::Place;
use reporting::Progress;
use schemas::dataset::Digest;

use crate::Error;
use crate::blocks::{Block, ReadError, Text, in_order};
use crate::remote::Remote;

/// Where text is to be read from.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file or folder.
    Path(PathBuf),
    /// An object in a store, or all objects below a place when the key is empty.
    Object {
        /// The place.
        place: Place,
        /// The key there.
        key: String,
    },
    /// Standard input.
    Standard,
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(a), Self::Path(b)) => a == b,
            (Self::Standard, Self::Standard) => true,
            (Self::Object { .. }, Self::Object { .. }) => self.shown() == other.shown(),
            _ => false,
        }
    }
}

impl Input {
    /// What `path` names: a file or folder, or with a scheme in front an object, or with `/` behind it a folder of them.
    ///
    /// # Errors
    /// As [`Place::parse`].
    pub fn named(path: &Path) -> Result<Self, Error> {
        let Some((text, rest)) = path.to_str().and_then(|text| Some((text, text.split_once("://")?.1))) else {
            return Ok(Self::Path(path.to_owned()));
        };
        if rest.ends_with('/') || !rest.contains('/') {
            return Ok(Self::Object { place: Place::parse(text.trim_end_matches('/'))?, key: String::new() });
        }
        let (place, key) = Place::parse_file(text)?;
        Ok(Self::Object { place, key })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Object { place, key } if key.is_empty() => place.to_string(),
            Self::Object { place, key } => place.show(key),
            Self::Standard => STANDARD_INPUT.to_owned(),
        }
    }

    /// Its size as it is stored, if it is a single thing that can be read again.
    #[must_use]
    pub fn stored_bytes(&self) -> Option<u64> {
        match self {
            Self::Path(path) => std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|m| m.len()),
            Self::Object { place, key } if !key.is_empty() => place.size(key).ok().flatten(),
            Self::Object { .. } | Self::Standard => None,
        }
    }
}

/// Stored bytes from which the size of a compressed text is estimated.
const SAMPLE_BYTES: u64 = 1 << 20;
const STANDARD_INPUT: &str = "standard input";

/// Text that was found and opened.
pub struct Source {
    /// Name of the text without folder and compression: `ratings.csv`, however it was packed.
    pub name: String,
    /// What it is called in messages.
    pub shown: String,
    /// Size of the file as it is stored, when that is known.
    pub raw_bytes: Option<u64>,
    /// Whether opening the same input again gives the same text again.
    pub can_be_read_again: bool,
    /// The text.
    pub text: Text,
    packing: Packing,
    stored: Stored,
}

/// Where a source can be had once more.
enum Stored {
    Nowhere,
    File(PathBuf),
    Object(Place, String),
    /// In an archive, with so many bytes.
    Member(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Zip,
}

impl Packing {
    const NAMES: [(Self, &'static str, &'static [u8]); 3] = [
        (Self::Gzip, "gzip", b"\x1f\x8b"),
        (Self::Zstd, "zstd", b"\x28\xb5\x2f\xfd"),
        (Self::Zip, "zip", b"PK\x03\x04"),
    ];

    fn recognise(first: &[u8]) -> Self {
        Self::NAMES
            .iter()
            .find(|(_, _, magic)| first.starts_with(magic))
            .map_or(Self::Plain, |(packing, _, _)| *packing)
    }

    fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(packing, _, _)| *packing == self).map(|(_, name, _)| *name)
    }
}

impl Source {
    /// Finds and opens the text; in a folder or archive, the first file that is called one of `names`.
    ///
    /// # Errors
    /// [`Error`] when there is no such file, or it cannot be read or decompressed.
    pub fn open(input: &Input, names: &[&str]) -> Result<Self, Error> {
        match input {
            Input::Standard => Self::in_standard_input(),
            Input::Path(path) if path.is_dir() => Self::in_file(&find_in_folder(path, names)?, names),
            Input::Path(path) => Self::in_file(path, names),
            Input::Object { place, key } => Self::in_store(place, key, names),
        }
    }

    /// How it is compressed, if it is.
    #[must_use]
    pub fn compression(&self) -> Option<&'static str> {
        self.packing.name()
    }

    /// Size of the text: exactly if it is plain or in an archive, else as its beginning suggests, or nothing for a pipe.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn text_bytes(&self) -> Result<Option<u64>, Error> {
        let mut head = Vec::new();
        let unreadable = |source| Error::Unreadable { place: self.shown.clone(), source };
        match (&self.stored, self.packing, self.raw_bytes) {
            (Stored::Member(bytes), ..) => return Ok(Some(*bytes)),
            (Stored::Nowhere, ..) | (.., None) => return Ok(None),
            (_, Packing::Plain, bytes) => return Ok(bytes),
            (Stored::File(path), ..) => {
                let file = File::open(path).map_err(unreadable)?;
                file.take(SAMPLE_BYTES).read_to_end(&mut head).map_err(unreadable)?;
            }
            (Stored::Object(place, key), _, Some(bytes)) => {
                head = place.get_range(key, 0..bytes.min(SAMPLE_BYTES))?.to_vec();
            }
        }
        // It is cut off somewhere: what comes before that is enough.
        let mut rest = &head[..];
        let text_bytes = match self.packing {
            Packing::Gzip => count_text(&mut flate2::bufread::MultiGzDecoder::new(&mut rest)),
            _ => zstd::Decoder::with_buffer(&mut rest).map_or(0, |mut decoder| count_text(&mut decoder)),
        };
        let estimate = |bytes: u64| u128::from(bytes) * u128::from(text_bytes) / head.len().max(1) as u128;
        Ok(self.raw_bytes.map(|bytes| u64::try_from(estimate(bytes)).unwrap_or(u64::MAX)))
    }

    /// The error to report when reading failed after `lines_before` complete lines.
    #[must_use]
    pub fn explain(&self, error: ReadError, lines_before: u64) -> Error {
        let ReadError { source, text_bytes, lines } = error;
        if source.kind() == io::ErrorKind::Interrupted
            && let Err(stopped) = reporting::interrupt::check()
        {
            return stopped.into();
        }
        let source = match source.downcast::<manifests::Error>() {
            Ok(error) => return error.into(),
            Err(source) => source,
        };
        match self.packing.name() {
            Some(packing) if source.raw_os_error().is_none() => Error::Damaged {
                place: self.shown.clone(),
                packing,
                problem: if source.kind() == io::ErrorKind::UnexpectedEof { "end too early" } else { "are damaged" },
                text_bytes,
                line: lines_before + lines + 1,
                source,
            },
            _ => Error::Unreadable { place: self.shown.clone(), source },
        }
    }

    /// Digest and size of the text, without looking at what it says. The text is then read.
    ///
    /// # Errors
    /// As [`Source::explain`].
    pub fn digest(&self, threads: usize, progress: &Progress) -> Result<(Digest, u64), Error> {
        let (mut digester, mut lines) = (Digester::default(), 0);
        let read = |(): &mut (), block: &mut Block| self.text.next_block(block).map(|(n, outcome)| (n, Ok(outcome)));
        in_order(
            threads.min(2),
            || (),
            read,
            |block: &Block, outcome| {
                outcome.map_err(|e| self.explain(e, lines))?;
                lines += block.text().iter().filter(|&&b| b == b'\n').count() as u64;
                digester.update(block.text());
                progress.add(self.text.take_raw_bytes());
                Ok::<_, Error>(())
            },
        )?;
        Ok((digester.finish(), digester.bytes()))
    }

    fn in_standard_input() -> Result<Self, Error> {
        let name = STANDARD_INPUT.to_owned();
        match io::stdin().as_fd().try_clone_to_owned() {
            Ok(file) => Self::in_stream(File::from(file), name.clone(), name),
            Err(source) => Err(Error::Unreadable { place: name, source }),
        }
    }

    /// A source that can be read once, from its present position on: a pipe, say.
    fn in_stream(file: File, name: String, shown: String) -> Result<Self, Error> {
        let mut first = Vec::new();
        if let Err(source) = (&file).take(4).read_to_end(&mut first) {
            return Err(Error::Unreadable { place: shown, source });
        }
        let packing = Packing::recognise(&first);
        if packing == Packing::Zip {
            return Err(Error::ZipInStream { place: shown });
        }
        let count = Arc::new(AtomicU64::new(0));
        let reader = Counted { inner: io::Cursor::new(first).chain(file), count: Arc::clone(&count) };
        let text = stream(packing, count, reader);
        Ok(Self { name, shown, raw_bytes: None, can_be_read_again: false, text, packing, stored: Stored::Nowhere })
    }

    /// The object `key` of `place`; of a folder, the first that is called one of `names`.
    fn in_store(place: &Place, key: &str, names: &[&str]) -> Result<Self, Error> {
        let found = if key.is_empty() { None } else { place.version(key)? };
        let Some(version) = found else {
            let folder = if key.is_empty() { place.clone() } else { place.join(key)? };
            let key = find_in_store(&folder, names).map_err(|error| match error {
                Error::InputNotFound { .. } => Error::InputNotFound { place: place.show(key) },
                error => error,
            })?;
            return Self::in_store(&folder, &key, names);
        };
        let shown = place.show(key);
        let unreadable = |source: io::Error| match source.downcast::<manifests::Error>() {
            Ok(error) => Error::Stored(error),
            Err(source) => Error::Unreadable { place: shown.clone(), source },
        };
        let (mut first, bytes) = (Vec::new(), version.bytes);
        let mut object = Remote::new(place.clone(), key.to_owned(), version);
        (&mut object).take(4).read_to_end(&mut first).map_err(unreadable)?;
        object.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let packing = Packing::recognise(&first);
        let count = Arc::new(AtomicU64::new(0));
        let object = Counted { inner: object, count: Arc::clone(&count) };
        let name = unpacked(key.rsplit('/').next().unwrap_or(key)).to_owned();
        let mut stored = Stored::Object(place.clone(), key.to_owned());
        let (name, shown, text) = match packing {
            Packing::Plain | Packing::Gzip | Packing::Zstd => (name, shown, stream(packing, count, object)),
            Packing::Zip => {
                let (member, text_bytes, text) = in_archive(object, names, &shown, count)?;
                stored = Stored::Member(text_bytes);
                (member.rsplit('/').next().unwrap_or(&member).to_owned(), format!("{shown}/{member}"), text)
            }
        };
        Ok(Self { name, shown, raw_bytes: Some(bytes), can_be_read_again: true, text, packing, stored })
    }

    fn in_file(path: &Path, names: &[&str]) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::InputNotFound { place: shown.clone() },
            _ => Error::Unreadable { place: shown.clone(), source },
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let name = path.file_name().map_or_else(|| shown.clone(), |n| n.to_string_lossy().into_owned());
        let name = unpacked(&name).to_owned();
        if !metadata.is_file() {
            return Self::in_stream(file, name, shown);
        }
        let count = Arc::new(AtomicU64::new(0));
        let mut first = [0; 4];
        let found = file.read_at(&mut first, 0).map_err(unreadable)?;
        let packing = Packing::recognise(&first[..found]);
        let mut stored = Stored::File(path.to_owned());
        let (name, shown, text) = match packing {
            Packing::Plain => (name, shown, Text::in_file(file, metadata.len())),
            Packing::Gzip | Packing::Zstd => {
                let reader = Counted { inner: file, count: Arc::clone(&count) };
                (name, shown, stream(packing, count, reader))
            }
            Packing::Zip => {
                let archive = Counted { inner: file, count: Arc::clone(&count) };
                let (member, text_bytes, text) = in_archive(archive, names, &shown, count)?;
                stored = Stored::Member(text_bytes);
                let name = member.rsplit('/').next().unwrap_or(&member).to_owned();
                (name, format!("{shown}/{member}"), text)
            }
        };
        Ok(Self { name, shown, raw_bytes: Some(metadata.len()), can_be_read_again: true, text, packing, stored })
    }
}

/// Bytes that `reader` gives up to its end or failure.
fn count_text(reader: &mut impl Read) -> u64 {
    let (mut piece, mut total) = (vec![0; 1 << 16], 0);
    while let Ok(read @ 1..) = reader.read(&mut piece) {
        total += read as u64;
    }
    total
}

/// `name` without what compression adds to it.
fn unpacked(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// The key in `place` that is the first of `names` that is there, possibly compressed.
fn find_in_store(place: &Place, names: &[&str]) -> Result<String, Error> {
    let there = place.list()?;
    names
        .iter()
        .flat_map(|name| ["", ".gz", ".zst"].map(|suffix| format!("{name}{suffix}")))
        .find(|name| there.iter().any(|(key, _)| key == name))
        .ok_or_else(|| match there.is_empty() {
            true => Error::InputNotFound { place: place.to_string() },
            false => Error::NothingInside { place: place.to_string(), looked_for: names.join(", ") },
        })
}

/// The file in `folder` that is called the first of `names` that is there, possibly compressed.
fn find_in_folder(folder: &Path, names: &[&str]) -> Result<PathBuf, Error> {
    names
        .iter()
        .flat_map(|name| ["", ".gz", ".zst"].map(|suffix| folder.join(format!("{name}{suffix}"))))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NothingInside { place: folder.display().to_string(), looked_for: names.join(", ") })
}

fn stream(packing: Packing, count: Arc<AtomicU64>, raw: impl Read + Send + 'static) -> Text {
    let mut raw = BufReader::with_capacity(1 << 17, raw);
    Text::in_stream(count, move |feeder| match packing {
        Packing::Gzip => feeder.copy(&mut flate2::bufread::MultiGzDecoder::new(raw)),
        Packing::Zstd => match zstd::Decoder::with_buffer(raw) {
            Ok(mut decoder) => feeder.copy(&mut decoder),
            Err(error) => feeder.fail(error),
        },
        Packing::Plain | Packing::Zip => feeder.copy(&mut raw),
    })
}

/// The member of a zip archive that is called the first of `names` that is there, nearest to the root, with its size.
fn in_archive(
    file: Counted<impl Read + Seek + Send + 'static>,
    names: &[&str],
    shown: &str,
    count: Arc<AtomicU64>,
) -> Result<(String, u64, Text), Error> {
    let damaged = |error: zip::result::ZipError| Error::Damaged {
        place: shown.to_owned(),
        packing: "zip",
        problem: "are damaged",
        text_bytes: 0,
        line: 1,
        source: error.into(),
    };
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let members: Vec<String> = (0..archive.len())
        .filter_map(|i| archive.name_for_index(i).and_then(Result::ok).map(std::borrow::Cow::into_owned))
        .filter(|member| !member.starts_with("__MACOSX/"))
        .collect();
    let member = names.iter().find_map(|name| {
        let of_that_name = members.iter().filter(|member| member.rsplit('/').next() == Some(name));
        of_that_name.min_by_key(|member| (member.matches('/').count(), member.as_str()))
    });
    let Some(member) = member.cloned() else {
        return Err(Error::NothingInside { place: shown.to_owned(), looked_for: names.join(", ") });
    };
    let bytes = archive.by_name(&member).map_err(damaged)?.size();
    let wanted = member.clone();
    let text = Text::in_stream(count, move |feeder| match archive.by_name(&wanted) {
        Ok(mut reader) => feeder.copy(&mut reader),
        Err(error) => feeder.fail(error.into()),
    });
    Ok((member, bytes, text))
}

/// Counts the bytes that are read.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
