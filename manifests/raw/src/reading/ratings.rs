//! Ratings from a source: what they are called, and how their blocks are parsed.

use reporting::interrupt::Stopped;

use super::{Read, Reading, Refused, format_of};
use crate::ratings::format::{Needs, recognise};
use crate::ratings::parse::{Columns, PackedRating, Parsed, Separator, parse_block};
use crate::source::{Input, Source};
use crate::{Error, TextFormat};

/// What the rows are called in messages.
pub const ROWS: &str = "ratings";
/// Names of the files in archives and folders that hold ratings, the preferred one first.
const NAMES: [&str; 3] = ["ratings.csv", "ratings.dat", "u.data"];

/// Opens `input`, whose columns are separated by `asked` if anything is asked for, and looks at its first line.
///
/// # Errors
/// [`Error`] when it cannot be opened or read, is of no known format, or holds no rows.
pub fn open(input: &Input, asked: Option<Separator>, needs: Needs) -> Result<(Source, TextFormat<Columns>), Error> {
    let source = Source::open(input, &NAMES)?;
    let format = format_of(&source, ROWS, |head| recognise(head, asked, needs, &source.shown))?;
    Ok((source, format))
}

/// [`Reading::blocks`] of ratings: `take` makes something of the good rows of a block, and `keep` gets them with what was made.
///
/// # Errors
/// As [`Reading::blocks`].
pub fn read<Thread, Made, E>(
    reading: &Reading<'_, Columns>,
    thread: impl Fn() -> Thread + Sync,
    take: impl Fn(&mut Thread, &[PackedRating], &mut Made) -> Result<(), E> + Sync,
    refuse: impl FnMut(Refused<'_>) -> Result<(), E>,
    mut keep: impl FnMut(&[PackedRating], &Made) -> Result<(), E>,
) -> Result<(Read, Vec<Thread>), E>
where
    Thread: Send,
    Made: Default + Send,
    E: From<Error> + From<Stopped> + Send,
{
    let parse = |state: &mut Thread, text: &[u8], (parsed, made): &mut (Parsed, Made)| {
        parse_block(text, reading.format.columns, reading.bad_max, parsed);
        take(state, &parsed.rows, made)?;
        Ok(parsed.take_outcome())
    };
    reading.blocks(thread, parse, refuse, |(parsed, made), _| keep(&parsed.rows, made))
}
