//! Stored rows, object by object, for those who use a trained model: read and decoded by several threads, seen in order.

use bytes::Bytes;
use manifests::fetch::{Ahead, Fetch, Fetched};
use manifests::place::Place;
use raw::blocks::in_order;
use reporting::Progress;
use schemas::manifest::Batch;

use crate::error::Error;

/// Some objects, or mini-batches in them, and the means to read them.
pub struct Objects<'a> {
    /// Where they lie.
    pub place: &'a Place,
    /// The file that names them.
    pub named_by: &'a str,
    /// The objects, in order.
    pub objects: Box<dyn Iterator<Item = Batch> + Send>,
    /// How many there are.
    pub count: usize,
    /// How many threads work on them.
    pub threads: usize,
    /// Where progress is shown, in rows.
    pub progress: &'a Progress,
}

impl Objects<'_> {
    /// Has `work` make something of the checked bytes of each object, on several threads, each with a state that `Default`
    /// makes; it gives the rows it found, or what is wrong with the object. In order, `keep` gets what was made, in a buffer
    /// that goes round, and the number of the object.
    ///
    /// # Errors
    /// Of the first object that is missing, damaged, or not what it should be; of `keep`; or that a signal came.
    pub fn each<State: Default + Send, Made: Default + Send>(
        self,
        work: impl Fn(&mut State, usize, Bytes, &mut Made) -> Result<usize, String> + Sync,
        mut keep: impl FnMut(&Made, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Self { place, named_by, objects, count, threads, progress } = self;
        let fetch = Fetch::shared(place, objects, Ahead::default()).map_err(Error::internal)?;
        let produce = |state: &mut State, made: &mut Made| {
            let fetched = fetch.next()?;
            let (number, rows) = (fetched.number, fetched.batch.rows);
            let outcome = one(place, named_by, fetched, |bytes| work(state, number as usize, bytes, made));
            Some((number, outcome.map(|()| (number, rows))))
        };
        let consume = |made: &Made, (number, rows): (u64, u64)| {
            keep(made, number as usize)?;
            progress.add(rows);
            Ok(())
        };
        in_order(threads.min(count).max(1), State::default, produce, consume).map(drop)
    }
}

fn one(
    place: &Place,
    named_by: &str,
    fetched: Fetched,
    work: impl FnOnce(Bytes) -> Result<usize, String>,
) -> Result<(), Error> {
    let (shown, expected) = (place.show(&fetched.batch.key), fetched.batch.rows);
    let corrupt = |problem| manifests::Error::Corrupt { place: shown.clone(), problem };
    let rows = work(fetched.checked(place, named_by)?).map_err(corrupt)?;
    if rows as u64 != expected {
        return Err(corrupt(format!("it has {rows} rows, `{named_by}` says {expected}")).into());
    }
    Ok(())
}
