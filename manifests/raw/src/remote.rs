//! An object in a store, read like a file: in ranges, several of which are under way at a time, so that a store's latency does not
//! show when the object is read from one end to the other.
//!
//! The first ranges are small, because a look at the head or at the index of an archive is not to cost more; those that follow double
//! in size up to [`RANGE_BYTES`]. Memory is bounded by [`AHEAD`] such ranges and those that wait. All ranges are of one version of
//! the object: when it is written over meanwhile, reading fails.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use futures::StreamExt;
use futures::executor::block_on;
use manifests::place::{Place, Version};

/// Bytes of the first range after a start or a jump.
const FIRST_BYTES: u64 = 1 << 16;
/// Bytes of a range, at most.
const RANGE_BYTES: u64 = 1 << 23;
/// Ranges under way at a time.
const AHEAD: usize = 6;
/// Ranges that have come and wait, besides the one that is read.
const WAITING: usize = 2;

type Fetched = Result<Bytes, manifests::Error>;

/// One version of an object.
pub(crate) struct Remote {
    place: Place,
    key: String,
    version: Version,
    position: u64,
    /// The piece that is at hand, and where it begins.
    piece: Bytes,
    piece_start: u64,
    /// What comes after it.
    ahead: Option<Receiver<Fetched>>,
}

impl Remote {
    pub(crate) const fn new(place: Place, key: String, version: Version) -> Self {
        let piece = Bytes::new();
        Self { place, key, version, position: 0, piece, piece_start: 0, ahead: None }
    }

    /// Makes the piece at hand the one that `position` lies in, which is before the end.
    fn move_on(&mut self) -> io::Result<()> {
        let piece_end = self.piece_start + self.piece.len() as u64;
        if self.position != piece_end || self.ahead.is_none() {
            self.ahead = Some(fetch_ahead(&self.place, &self.key, &self.version, self.position));
        }
        let next = self.ahead.as_ref().and_then(|ahead| ahead.recv().ok());
        match next.unwrap_or_else(|| Ok(Bytes::new())) {
            Ok(piece) if piece.is_empty() => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(piece) => {
                (self.piece, self.piece_start) = (piece, self.position);
                Ok(())
            }
            Err(error) => {
                self.ahead = None;
                Err(io::Error::other(error))
            }
        }
    }
}

/// Ranges of a version of an object from `start` to its end, each of them with its size.
fn ranges(start: u64, end: u64) -> impl Iterator<Item = Range<u64>> {
    let mut next = (start, FIRST_BYTES);
    std::iter::from_fn(move || {
        let (start, size) = next;
        next = (start + size, (2 * size).min(RANGE_BYTES));
        (start < end).then(|| start..end.min(start + size))
    })
}

/// Fetches the object from `start` on, on a thread of its own, for as long as somebody wants to have it.
fn fetch_ahead(place: &Place, key: &str, version: &Version, start: u64) -> Receiver<Fetched> {
    let (send, receive) = sync_channel(WAITING);
    let (place, key, version) = (place.clone(), key.to_owned(), version.clone());
    std::thread::spawn(move || {
        let fetch = |range: Range<u64>| {
            let bytes = range.end - range.start;
            let (fetched, place) = (place.fetch_version(&key, range, &version), place.show(&key));
            async move {
                match fetched.await {
                    Ok(piece) if piece.len() as u64 != bytes => Err(manifests::Error::Changed { place }),
                    fetched => fetched,
                }
            }
        };
        let mut pieces = futures::stream::iter(ranges(start, version.bytes).map(fetch)).buffered(AHEAD);
        while let Some(piece) = block_on(pieces.next()) {
            if send.send(piece).is_err() {
                break;
            }
        }
    });
    receive
}

impl Read for Remote {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.version.bytes || buffer.is_empty() {
            return Ok(0);
        }
        let within = |remote: &Self| {
            (remote.piece_start..remote.piece_start + remote.piece.len() as u64).contains(&remote.position)
        };
        if !within(self) {
            self.move_on()?;
        }
        let rest = &self.piece[(self.position - self.piece_start) as usize..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Remote {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let sought = match position {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.version.bytes.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = sought.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::source::{Input, Source};

    #[test]
    fn ranges_cover_the_rest_and_double() {
        for (start, end) in [(0, 0), (0, 1), (5, 5), (7, FIRST_BYTES), (3, 100_000_000)] {
            let ranges: Vec<Range<u64>> = ranges(start, end).collect();
            assert_eq!(ranges.iter().map(|r| r.end - r.start).sum::<u64>(), end - start);
            assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
            assert!(ranges.iter().all(|r| r.end - r.start <= RANGE_BYTES));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn reads_and_jumps_are_those_of_a_file(
            jumps in proptest::collection::vec((0u64..400_000, 0usize..300_000), 1..8),
        ) {
            let bytes: Vec<u8> = (0..333_333u32).map(|i| (i * 31 % 251) as u8).collect();
            let folder = tempfile::tempdir().unwrap();
            let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
            place.put("k", bytes.clone()).unwrap();
            let version = place.version("k").unwrap().unwrap();
            let mut remote = Remote::new(place, "k".to_owned(), version);
            let mut file = io::Cursor::new(&bytes);
            for (position, len) in jumps {
                prop_assert_eq!(remote.seek(SeekFrom::Start(position)).unwrap(), position);
                file.seek(SeekFrom::Start(position)).unwrap();
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                (&mut remote).take(len as u64).read_to_end(&mut found).unwrap();
                (&mut file).take(len as u64).read_to_end(&mut expected).unwrap();
                prop_assert!(found == expected);
            }
        }
    }

    fn read(source: &Source) -> Result<(schemas::dataset::Digest, u64), crate::Error> {
        source.digest(3, &reporting::Console::silent().progress("reading", None, "bytes"))
    }

    fn packed(text: &[u8]) -> [(&'static str, Vec<u8>); 4] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        zip.start_file("ml-x/ratings.csv", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text).unwrap();
        let zip = zip.finish().unwrap().into_inner();
        let zstd = zstd::encode_all(text, 1).unwrap();
        [("r.csv", text.to_vec()), ("r.gz", gzip.finish().unwrap()), ("r.zst", zstd), ("r.zip", zip)]
    }

    #[test]
    fn packing_does_not_show_and_folders_are_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
        let text: String = (0..300_000).map(|i| format!("{},{},3.5,{i}\n", i % 7919, i % 997)).collect();
        for (key, bytes) in packed(text.as_bytes()) {
            place.put(key, bytes.clone()).unwrap();
            let input = Input::Object { place: place.clone(), key: key.to_owned() };
            assert_eq!(input.stored_bytes(), Some(bytes.len() as u64));
            let source = Source::open(&input, &["ratings.csv"]).unwrap();
            assert!(source.shown.starts_with(&place.show(key)), "{}", source.shown);
            let expected = text.len() as f64;
            let found = source.text_bytes().unwrap().unwrap() as f64;
            assert!((found - expected).abs() < 0.1 * expected, "{key}: {found} is not about {expected}");
            assert!(text.as_bytes().starts_with(&source.text.head().unwrap()));
            assert_eq!(
                read(&source).unwrap(),
                (manifests::digest::digest(text.as_bytes()), text.len() as u64),
                "{key}"
            );
        }
        let in_folder = |key: &str| {
            let input = Input::Object { place: place.clone(), key: key.to_owned() };
            Source::open(&input, &["ratings.csv", "r.gz"]).map(|source| source.shown)
        };
        assert_eq!(in_folder("").unwrap(), place.show("r.gz"));
        assert_eq!(in_folder("absent").unwrap_err().to_string(), format!("{}: not found", place.show("absent")));
        place.put("sub/ratings.csv.gz", &b"1,2,3,4"[..]).unwrap();
        assert_eq!(in_folder("sub").unwrap(), place.show("sub/ratings.csv.gz"));
        place.put("other/x", &b"1"[..]).unwrap();
        assert!(in_folder("other").unwrap_err().to_string().ends_with("other: holds none of ratings.csv, r.gz"));
    }

    #[test]
    fn an_object_that_changes_while_it_is_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
        let text = "1,2,3.0,4\n".repeat(6_000_000);
        for (key, bytes) in [("plain", text.clone().into_bytes()), ("gz", packed(text.as_bytes())[1].1.clone())] {
            // What is compressed is small here: it is cut off instead of being written over.
            let input = Input::Object { place: place.clone(), key: key.to_owned() };
            if key == "gz" {
                place.put(key, bytes[..bytes.len() / 2].to_vec()).unwrap();
                let error = read(&Source::open(&input, &[]).unwrap()).unwrap_err();
                assert!(matches!(error, crate::Error::Damaged { packing: "gzip", .. }), "{error}");
                continue;
            }
            place.put(key, bytes).unwrap();
            let source = Source::open(&input, &[]).unwrap();
            source.text.head().unwrap();
            place.put(key, text.replace('3', "4").into_bytes()).unwrap();
            let error = read(&source).unwrap_err();
            assert_eq!(error.to_string(), format!("{}: was changed while it was read", place.show(key)));
        }
    }
}
