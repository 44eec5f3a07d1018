//! The first stage: from text to rows in a temporary file, and the ids that are in them.

use raw::TextFormat;
use raw::ratings::format::Needs;
use raw::ratings::parse::{Columns, PackedRating, Separator, unpack};
use raw::reading::ratings::{self, ROWS};
use raw::reading::{Reading, Refused};
use raw::source::Source;
use reporting::Console;
use schemas::dataset::Digest;

use super::ids::IdSet;
use super::spill::Spill;
use crate::cli::Format;
use crate::error::Error;
use crate::plan::MovielensPlan;
use crate::rejects::Rejects;

/// What the first stage makes.
pub(super) struct Ingested {
    pub digest: Digest,
    pub text_bytes: u64,
    /// The good rows.
    pub spill: Spill,
    pub rejects: Rejects,
    pub users: IdSet,
    pub items: IdSet,
}

/// The separator that is asked for, if any.
const fn separator(format: Format) -> Option<Separator> {
    match format {
        Format::Auto => None,
        Format::Csv => Some(Separator::Comma),
        Format::Dat => Some(Separator::Colons),
        Format::Tab => Some(Separator::Tab),
    }
}

/// Opens the input of `plan` and looks at its first line.
pub(super) fn open(plan: &MovielensPlan) -> Result<(Source, TextFormat<Columns>), Error> {
    Ok(ratings::open(&plan.input, separator(plan.format), Needs::Ratings)?)
}

/// Reads all of `source`.
pub(super) fn ingest(
    plan: &MovielensPlan,
    source: &Source,
    format: TextFormat<Columns>,
    console: &Console,
) -> Result<Ingested, Error> {
    let progress = console.progress("reading", source.raw_bytes, "bytes");
    let bad_max = plan.bad_rows.bad_max();
    let reading = Reading { source, format, threads: plan.threads, bad_max, progress: &progress };
    let (mut spill, mut rejects) = (Spill::create(&plan.temp_dir)?, Rejects::default());
    let collect = |(users, items): &mut (IdSet, IdSet), rows: &[PackedRating], (): &mut ()| {
        let mut last = None;
        for row in rows {
            let (user, item, _) = unpack(row);
            if last != Some(user) {
                users.insert(user);
                last = Some(user);
            }
            items.insert(item);
        }
        Ok(())
    };
    let refuse = |bad: Refused<'_>| {
        let row = bad.row;
        rejects.refuse(plan.bad_rows, bad, row, None)
    };
    let (read, found) = ratings::read(&reading, Default::default, collect, refuse, |rows, ()| spill.append(rows))?;
    progress.finish();
    let (mut users, mut items) = (IdSet::default(), IdSet::default());
    for (their_users, their_items) in found {
        users.merge(their_users);
        items.merge(their_items);
    }
    if read.good == 0 {
        let place = source.shown.clone();
        return Err(match rejects.first_line() {
            Some(first_line) => Error::AllRejected { place, rows: ROWS, rejected: rejects.count(), first_line },
            None => raw::Error::only_a_header(place, ROWS).into(),
        });
    }
    Ok(Ingested { digest: read.digest, text_bytes: read.bytes, spill, rejects, users, items })
}
