//! Standard output as the way that rows take to `shard`: a pipe that is written to by a thread of its own, so that a signal is
//! heard though nobody reads.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use manifests::stream::{Encoded, StreamWriter};
use reporting::interrupt;
use schemas::dataset::Descriptor;

use crate::error::Error;

/// What the pipe is called in messages.
pub(crate) const STANDARD_OUTPUT: &str = "standard output";
/// Threads that make rows for the pipe, at most: more make them faster than a pipe takes them, and hold more of them.
pub(crate) const THREADS_MAX: usize = 4;
/// How often a signal is looked for.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Whether standard output is a pipe, rather than a file, a terminal or nothing.
pub(crate) fn standard_output_is_one() -> bool {
    let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|f| f.metadata()).is_ok_and(|m| m.file_type().is_fifo())
}

/// Whether what is said to people goes into the same pipe, where it would mix with rows.
pub(crate) fn standard_error_is_the_same() -> bool {
    let of = |fd: io::Result<std::os::fd::OwnedFd>| fd.map(File::from).and_then(|file| file.metadata());
    let both = (of(io::stdout().as_fd().try_clone_to_owned()), of(io::stderr().as_fd().try_clone_to_owned()));
    matches!(both, (Ok(out), Ok(error)) if (out.dev(), out.ino()) == (error.dev(), error.ino()))
}

/// What the pipe's thread is to do.
enum Work {
    Rows(Encoded),
    Holdout,
    Finish,
}

/// A stream of rows under way to standard output.
pub(crate) struct Pipe {
    work: SyncSender<Work>,
    done: Receiver<io::Result<()>>,
    rows: u64,
    written: u64,
}

impl Pipe {
    /// Begins with what `descriptor` and its `tables` say.
    pub(crate) fn begin(descriptor: &Descriptor, tables: Vec<Bytes>) -> Result<Self, Error> {
        let out = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let out = out.map_err(|source| Error::Unwritable { place: STANDARD_OUTPUT.to_owned(), source })?;
        let (work, todo) = sync_channel::<Work>(1);
        let (tell, done) = sync_channel(1);
        let of_rows = descriptor.rows;
        let descriptor = descriptor.clone();
        std::thread::spawn(move || {
            let mut outcome = Ok(());
            let mut writer = StreamWriter::begin(out, &descriptor, &tables).map_err(|error| outcome = Err(error)).ok();
            while tell.send(std::mem::replace(&mut outcome, Ok(()))).is_ok() {
                let (Ok(work), Some(stream)) = (todo.recv(), writer.as_mut()) else { break };
                outcome = match work {
                    Work::Rows(rows) => stream.write(&rows),
                    Work::Holdout => stream.begin_holdout(),
                    Work::Finish => writer.take().map_or(Ok(()), |stream| stream.finish().map(drop)),
                };
            }
        });
        let pipe = Self { work, done, rows: of_rows.train + of_rows.holdout, written: 0 };
        pipe.wait()?;
        Ok(pipe)
    }

    fn wait(&self) -> Result<(), Error> {
        loop {
            match self.done.recv_timeout(SIGNAL_INTERVAL) {
                Ok(outcome) => return outcome.map_err(|source| self.failed(source)),
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed(io::Error::other("its thread has ended")));
                }
            }
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Error::PipeClosed { written: self.written, rows: self.rows },
            io::ErrorKind::FileTooLarge => Error::TablesTooLarge,
            _ => Error::Unwritable { place: STANDARD_OUTPUT.to_owned(), source },
        }
    }

    fn hand_over(&self, work: Work) -> Result<(), Error> {
        // When the thread has ended, the wait tells.
        let _ = self.work.send(work);
        self.wait()
    }

    /// Writes the next `count` rows.
    pub(crate) fn write(&mut self, rows: Encoded, count: u64) -> Result<(), Error> {
        self.hand_over(Work::Rows(rows))?;
        self.written += count;
        Ok(())
    }

    /// The training rows are through, held-out ones come next.
    pub(crate) fn begin_holdout(&self) -> Result<(), Error> {
        self.hand_over(Work::Holdout)
    }

    /// All rows are through. Without this the reader takes them for the beginning of something.
    pub(crate) fn finish(self) -> Result<(), Error> {
        interrupt::check()?;
        self.hand_over(Work::Finish)
    }
}
