//! Click logs from a source: what they are called, and how their blocks are decoded.

use reporting::interrupt::Stopped;

use super::{Read, Reading, Refused, format_of};
use crate::blocks::LINE_BYTES_MAX;
use crate::clicks::format::recognise;
use crate::clicks::lines::{Decoder, Limits, Outcome};
use crate::clicks::{Format, Rows};
use crate::source::{Input, Source};
use crate::{Error, TextFormat};

/// What the rows are called in messages.
pub const ROWS: &str = "rows";
/// Names of the files in archives and folders that hold click logs, the preferred one first.
const NAMES: [&str; 4] = ["train.txt", "train.csv", "test.txt", "test.csv"];

/// Opens `input` and looks at its first lines.
///
/// # Errors
/// [`Error`] when it cannot be opened or read, is no click log, or holds no rows.
pub fn open(input: &Input) -> Result<(Source, TextFormat<Format>), Error> {
    let source = Source::open(input, &NAMES)?;
    let format = format_of(&source, ROWS, |head| recognise(head, &source.shown))?;
    Ok((source, format))
}

/// A block that is to be decoded.
pub struct Undecoded<'a> {
    decoder: &'a mut Decoder,
    text: &'a [u8],
    format: Format,
    limits: Limits,
}

impl Undecoded<'_> {
    /// Gives the rows to `rows`.
    pub fn decode(self, rows: &mut impl Rows) -> Outcome {
        self.decoder.decode(self.text, self.format, self.limits, rows)
    }
}

/// [`Reading::blocks`] of a click log: `take` has a block decoded and makes something of its rows.
///
/// # Errors
/// As [`Reading::blocks`].
pub fn read<Thread, Made, E>(
    reading: &Reading<'_, Format>,
    thread: impl Fn() -> Thread + Sync,
    take: impl Fn(&mut Thread, Undecoded<'_>, &mut Made) -> Result<Outcome, E> + Sync,
    refuse: impl FnMut(Refused<'_>) -> Result<(), E>,
    keep: impl FnMut(&Made, u64) -> Result<(), E>,
) -> Result<Read, E>
where
    Thread: Send,
    Made: Default + Send,
    E: From<Error> + From<Stopped> + Send,
{
    let format = reading.format.columns;
    let limits = Limits { bad_max: reading.bad_max, line_bytes_max: LINE_BYTES_MAX };
    let decode = |(decoder, state): &mut (Decoder, Thread), text: &[u8], made: &mut Made| {
        take(state, Undecoded { decoder, text, format, limits }, made)
    };
    let (read, _) = reading.blocks(|| (Decoder::default(), thread()), decode, refuse, keep)?;
    Ok(read)
}
