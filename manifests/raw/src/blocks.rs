//! Text cut into blocks of whole lines, and work on blocks in parallel whose results are consumed in order.
//!
//! A plain file is read by all threads at once, each at its own offset; a stream is read by one thread ahead of the others.
//! Where the cuts fall differs between the two and must not show in any output. Nothing here knows what a line means.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reporting::interrupt;
use reporting::interrupt::Stopped;

/// Text that a block holds, about: small enough that it is still in the cache when it is parsed.
const BLOCK_BYTES: usize = 1 << 20;
/// The longest line, its end not counted. Users of blocks must refuse a longer one: cuts behind it are not at line ends.
pub const LINE_BYTES_MAX: usize = 1 << 18;
/// Text that [`Text::head`] shows.
const HEAD_BYTES: usize = 1 << 16;
/// Bytes a stream is read by, and how many such pieces are read ahead.
const PIECE_BYTES: usize = 1 << 18;
const PIECES_AHEAD: usize = 16;
/// How often a thread that waits looks for a signal.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Consecutive whole lines of the text; only the last block's last line may lack its end.
#[derive(Debug, Default)]
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Block {
    /// The lines.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Makes room for `len` bytes; what they hold is undefined.
    fn reset(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        (self.start, self.end) = (0, len);
        &mut self.bytes[..len]
    }

    fn append(&mut self, more: &[u8]) {
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(more);
        self.end = self.bytes.len();
    }
}

/// Reading failed.
#[derive(Debug)]
pub struct ReadError {
    /// The system's or decompressor's words.
    pub source: io::Error,
    /// Bytes of text that were read before.
    pub text_bytes: u64,
    /// Complete lines after the last block that was read whole.
    pub lines: u64,
}

/// Text that is read block by block, from any thread.
pub struct Text {
    block_bytes: usize,
    reading: Reading,
    raw_bytes: Arc<AtomicU64>,
}

enum Reading {
    File { file: File, len: u64, claimed: AtomicU64 },
    Stream(Mutex<Stream>, Arc<AtomicBool>),
}

struct Stream {
    pieces: Pieces,
    carry: Vec<u8>,
    claimed: u64,
    text_bytes: u64,
    ended: bool,
}

impl Text {
    /// The text in a plain file of `len` bytes.
    #[must_use]
    pub fn in_file(file: File, len: u64) -> Self {
        let reading = Reading::File { file, len, claimed: AtomicU64::new(0) };
        Self { block_bytes: BLOCK_BYTES, reading, raw_bytes: Arc::default() }
    }

    /// The text that `read` gives out piece by piece, on a thread of its own. `raw_bytes` counts what goes into that.
    pub fn in_stream(raw_bytes: Arc<AtomicU64>, read: impl FnOnce(&mut Feeder) + Send + 'static) -> Self {
        let abandoned = Arc::new(AtomicBool::new(false));
        let stream = Stream {
            pieces: Pieces::start(read, Arc::clone(&abandoned)),
            carry: Vec::new(),
            claimed: 0,
            text_bytes: 0,
            ended: false,
        };
        Self { block_bytes: BLOCK_BYTES, reading: Reading::Stream(Mutex::new(stream), abandoned), raw_bytes }
    }

    /// The beginning of the text: all of it, or at least 64 KiB. To be called before the first block is read.
    ///
    /// # Errors
    /// [`ReadError`], where nothing is said about lines.
    pub fn head(&self) -> Result<Vec<u8>, ReadError> {
        match &self.reading {
            Reading::File { file, len, .. } => {
                let mut head = vec![0; HEAD_BYTES.min(usize::try_from(*len).unwrap_or(usize::MAX))];
                file.read_exact_at(&mut head, 0).map_err(|source| ReadError { source, text_bytes: 0, lines: 0 })?;
                Ok(head)
            }
            Reading::Stream(stream, _) => {
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                // It was asked for before. No more is read: a failure behind it is to be told where it is reached.
                if !stream.carry.is_empty() {
                    return Ok(stream.carry.clone());
                }
                let mut head = Block::default();
                let outcome = stream.fill(&mut head, HEAD_BYTES);
                stream.carry.extend_from_slice(head.text());
                match outcome {
                    // What came before the failure is enough to begin with; it is told again when it is reached.
                    Err(error) if head.text().is_empty() => Err(error),
                    _ => Ok(head.text().to_vec()),
                }
            }
        }
    }

    /// Bytes of the file, compressed as it is, that were read since the last call.
    pub fn take_raw_bytes(&self) -> u64 {
        self.raw_bytes.swap(0, Ordering::Relaxed)
    }

    /// Makes all threads that wait for this text give up.
    pub fn abandon(&self) {
        if let Reading::Stream(_, abandoned) = &self.reading {
            abandoned.store(true, Ordering::Relaxed);
        }
    }

    /// Reads the next block that no other thread has claimed and gives its number, from 0; `None` at the end of the text.
    pub fn next_block(&self, block: &mut Block) -> Option<(u64, Result<(), ReadError>)> {
        match &self.reading {
            Reading::File { file, len, claimed } => {
                let number = claimed.fetch_add(1, Ordering::Relaxed);
                let offset = number.checked_mul(self.block_bytes as u64).filter(|offset| offset < len)?;
                let outcome = read_lines_at(file, *len, offset, self.block_bytes, block).map_err(|source| ReadError {
                    source,
                    text_bytes: offset,
                    lines: 0,
                });
                self.raw_bytes.fetch_add((*len - offset).min(self.block_bytes as u64), Ordering::Relaxed);
                Some((number, outcome))
            }
            Reading::Stream(stream, _) => {
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                stream.next_block(self.block_bytes, block)
            }
        }
    }
}

/// The lines that begin in the bytes `offset..offset + block_bytes` of a file of `len` bytes.
fn read_lines_at(file: &File, len: u64, offset: u64, block_bytes: usize, block: &mut Block) -> io::Result<()> {
    // A line begins after an end of line, which may be the byte before `offset`.
    let from = offset.saturating_sub(1);
    let to = len.min(offset + block_bytes as u64);
    file.read_exact_at(block.reset((to - from) as usize), from)?;
    if offset > 0 {
        match block.text().iter().position(|&b| b == b'\n') {
            Some(end) => block.start = end + 1,
            None => block.end = 0,
        }
    }
    let mut next = to;
    let mut more = [0; 4096];
    while next < len && block.text().last().is_some_and(|&b| b != b'\n') && next - to <= LINE_BYTES_MAX as u64 {
        let more = &mut more[..(len - next).min(4096) as usize];
        file.read_exact_at(more, next)?;
        let end = more.iter().position(|&b| b == b'\n').map_or(more.len(), |end| end + 1);
        block.append(&more[..end]);
        next += end as u64;
    }
    Ok(())
}

impl Stream {
    fn next_block(&mut self, block_bytes: usize, block: &mut Block) -> Option<(u64, Result<(), ReadError>)> {
        if self.ended && self.carry.is_empty() {
            return None;
        }
        let number = self.claimed;
        self.claimed += 1;
        block.reset(0);
        block.append(&self.carry);
        self.carry.clear();
        let mut enough = block_bytes;
        loop {
            if let Err(error) = self.fill(block, enough) {
                self.ended = true;
                return Some((number, Err(error)));
            }
            if self.ended {
                return (!block.text().is_empty()).then_some((number, Ok(())));
            }
            if let Some(last) = block.text().iter().rposition(|&b| b == b'\n') {
                self.carry.extend_from_slice(&block.text()[last + 1..]);
                block.end = last + 1;
                return Some((number, Ok(())));
            }
            if block.end > LINE_BYTES_MAX {
                return Some((number, Ok(())));
            }
            enough = block.end + block_bytes;
        }
    }

    /// Appends to `block` until it has at least `len` bytes, or up to the end.
    fn fill(&mut self, block: &mut Block, len: usize) -> Result<(), ReadError> {
        while block.end < len {
            match self.pieces.next() {
                Ok(Some(piece)) => {
                    block.append(&piece);
                    self.text_bytes += piece.len() as u64;
                    self.pieces.give_back(piece);
                }
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Err(source) => {
                    let lines = block.text().iter().filter(|&&b| b == b'\n').count() as u64;
                    return Err(ReadError { source, text_bytes: self.text_bytes, lines });
                }
            }
        }
        Ok(())
    }
}

/// Where the reading thread of a stream puts what it reads.
pub struct Feeder {
    pieces: SyncSender<io::Result<Vec<u8>>>,
    used: Receiver<Vec<u8>>,
}

impl Feeder {
    /// Reads `reader` to its end.
    pub fn copy(&mut self, reader: &mut dyn io::Read) {
        loop {
            let mut piece = self.used.try_recv().unwrap_or_default();
            piece.clear();
            let outcome = io::Read::read_to_end(&mut io::Read::take(&mut *reader, PIECE_BYTES as u64), &mut piece);
            let ended = outcome.is_err() || piece.is_empty();
            if !piece.is_empty() && self.pieces.send(Ok(piece)).is_err() {
                return;
            }
            if let Err(error) = outcome {
                self.fail(error);
            }
            if ended {
                return;
            }
        }
    }

    /// Says that reading has failed.
    pub fn fail(&mut self, error: io::Error) {
        // The receiver may have stopped to listen; then nobody wants to know.
        let _ = self.pieces.send(Err(error));
    }
}

/// What the reading thread has read. The thread is never waited for: it may hang in a read for as long as it likes.
struct Pieces {
    pieces: Receiver<io::Result<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
    failed: Option<io::Error>,
    abandoned: Arc<AtomicBool>,
}

impl Pieces {
    fn start(read: impl FnOnce(&mut Feeder) + Send + 'static, abandoned: Arc<AtomicBool>) -> Self {
        let (pieces_in, pieces) = sync_channel(PIECES_AHEAD);
        let (used, used_out) = sync_channel(PIECES_AHEAD);
        std::thread::spawn(move || read(&mut Feeder { pieces: pieces_in, used: used_out }));
        Self { pieces, used, failed: None, abandoned }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        loop {
            match self.pieces.recv_timeout(SIGNAL_INTERVAL) {
                Ok(Ok(piece)) => return Ok(Some(piece)),
                Ok(Err(error)) => {
                    self.failed = Some(io::Error::new(error.kind(), error.to_string()));
                    return Err(error);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    if self.abandoned.load(Ordering::Relaxed) || interrupt::check().is_err() {
                        return Err(io::Error::from(io::ErrorKind::Interrupted));
                    }
                }
            }
        }
    }

    fn give_back(&self, piece: Vec<u8>) {
        let _ = self.used.try_send(piece);
    }
}

/// Produces numbered results on `threads` threads and consumes them in the order of their numbers on this one.
///
/// `produce` claims the next number, fills the buffer it is given and says what came of it, or says that there is no more.
/// Numbers are claimed from 0 without gaps. A fixed number of buffers goes round, so that memory does not grow when one
/// number takes long. Returns the threads' states.
///
/// # Errors
/// The first error in order, from `produce` or `consume`, or that a signal came.
///
/// # Panics
/// When `state` or `produce` panics.
pub fn in_order<State: Send, Buffer: Default + Send, Outcome: Send, E: From<Stopped> + Send>(
    threads: usize,
    state: impl Fn() -> State + Sync,
    produce: impl Fn(&mut State, &mut Buffer) -> Option<(u64, Result<Outcome, E>)> + Sync,
    mut consume: impl FnMut(&Buffer, Outcome) -> Result<(), E>,
) -> Result<Vec<State>, E> {
    let (give_back, free) = channel();
    for _ in 0..2 * threads + 1 {
        let _ = give_back.send(Buffer::default());
    }
    let free = Mutex::new(free);
    let (done, results) = channel();
    let work = |done: Sender<(u64, Buffer, Result<Outcome, E>)>| {
        let mut state = state();
        loop {
            // A number is claimed only with a buffer in hand, so the number that is waited for always has one.
            let buffer = free.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut buffer) = buffer else { break };
            let Some((number, outcome)) = produce(&mut state, &mut buffer) else { break };
            if done.send((number, buffer, outcome)).is_err() {
                break;
            }
        }
        state
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (work, done) = (&work, done.clone());
                scope.spawn(move || work(done))
            })
            .collect();
        drop(done);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        loop {
            interrupt::check()?;
            match results.recv_timeout(SIGNAL_INTERVAL) {
                Ok((number, buffer, outcome)) => drop(waiting.insert(number, (buffer, outcome))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Some((buffer, outcome)) = waiting.remove(&next) {
                consume(&buffer, outcome?)?;
                let _ = give_back.send(buffer);
                next += 1;
            }
        }
        // The closure owns both channel ends of this side; an early return above drops them, which ends the workers.
        drop(give_back);
        drop(results);
        Ok(workers.into_iter().map(|w| w.join().expect("a worker's panic is passed on by the scope")).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file_of(text: &[u8]) -> Text {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Text::in_file(file, text.len() as u64)
    }

    fn stream_of(text: &[u8]) -> Text {
        let text = text.to_vec();
        Text::in_stream(Arc::default(), move |feeder| {
            // Pieces of odd sizes, as a pipe may give them.
            text.chunks(7).for_each(|piece| feeder.copy(&mut io::Cursor::new(piece)));
        })
    }

    fn blocks(text: &Text, threads: usize) -> Vec<Vec<u8>> {
        let mut blocks = Vec::new();
        let produce =
            |(): &mut (), block: &mut Block| text.next_block(block).map(|(n, read)| (n, read.map_err(|_| Failed(n))));
        in_order(
            threads,
            || (),
            produce,
            |block: &Block, ()| {
                blocks.push(block.text().to_vec());
                Ok(())
            },
        )
        .unwrap();
        blocks
    }

    proptest! {
        #[test]
        fn blocks_are_whole_lines_and_together_the_text(
            lines in proptest::collection::vec(proptest::collection::vec(97u8..100, 0..12), 0..40),
            ends_in_newline: bool,
            block_bytes in 1usize..50,
            threads in 1usize..4,
            look_at_head: bool,
        ) {
            let mut text = lines.join(&b'\n');
            if ends_in_newline { text.push(b'\n') }
            for mut read in [file_of(&text), stream_of(&text)] {
                read.block_bytes = block_bytes;
                if look_at_head {
                    prop_assert_eq!(read.head().unwrap(), &text[..]);
                }
                let blocks = blocks(&read, threads);
                prop_assert_eq!(&blocks.concat(), &text);
                // Blocks that lie within one long line are empty.
                let mut filled = blocks.iter().filter(|block| !block.is_empty()).rev();
                filled.next();
                prop_assert!(filled.all(|block| block.ends_with(b"\n")));
            }
        }
    }

    #[test]
    fn the_first_failure_in_order_is_told_and_ends_the_work() {
        let claimed = AtomicU64::new(0);
        let produce = |(): &mut (), _: &mut ()| {
            let number = claimed.fetch_add(1, Ordering::Relaxed);
            Some((number, if number % 10 == 7 { Err(Failed(number)) } else { Ok(number) }))
        };
        let mut seen = Vec::new();
        let outcome = in_order(
            3,
            || (),
            produce,
            |(), number| {
                seen.push(number);
                Ok(())
            },
        );
        assert_eq!(outcome.unwrap_err(), Failed(7));
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[derive(Debug, PartialEq)]
    struct Failed(u64);

    impl From<Stopped> for Failed {
        fn from(_: Stopped) -> Self {
            Self(u64::MAX)
        }
    }

    #[test]
    fn a_stream_that_fails_says_how_far_it_came() {
        let text = Text::in_stream(Arc::default(), |feeder| {
            feeder.copy(&mut io::Cursor::new(b"one\ntwo\nthr"));
            feeder.fail(io::Error::from(io::ErrorKind::UnexpectedEof));
        });
        for _ in 0..3 {
            assert_eq!(text.head().unwrap(), b"one\ntwo\nthr");
        }
        let mut block = Block::default();
        let (number, outcome) = text.next_block(&mut block).unwrap();
        let error = outcome.unwrap_err();
        assert_eq!((number, error.text_bytes, error.lines), (0, 11, 2));
        assert_eq!(error.source.kind(), io::ErrorKind::UnexpectedEof);
        assert!(text.next_block(&mut block).is_none());
    }
}
