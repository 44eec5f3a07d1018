//! Stored rows, object by object, for those who use a trained model: read and decoded by several threads, seen in order.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use manifests::load;
use manifests::place::Place;
use raw::blocks::in_order;
use reporting::Progress;
use schemas::dataset::Object;

use crate::error::Error;

/// Some objects and the means to read them.
pub struct Objects<'a> {
    /// Where they lie.
    pub place: &'a Place,
    /// The file that names them.
    pub named_by: &'a str,
    /// The objects.
    pub objects: Vec<&'a Object>,
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
        &self,
        work: impl Fn(&mut State, usize, Bytes, &mut Made) -> Result<usize, String> + Sync,
        mut keep: impl FnMut(&Made, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let claimed = AtomicU64::new(0);
        let produce = |state: &mut State, made: &mut Made| {
            let number = claimed.fetch_add(1, Ordering::Relaxed);
            let object = self.objects.get(number as usize)?;
            let one = |bytes| work(state, number as usize, bytes, made);
            Some((number, self.one(object, one).map(|()| (number, object.rows))))
        };
        let consume = |made: &Made, (number, rows): (u64, u64)| {
            keep(made, number as usize)?;
            self.progress.add(rows);
            Ok(())
        };
        let threads = self.threads.min(self.objects.len()).max(1);
        in_order(threads, State::default, produce, consume).map(drop)
    }

    fn one(&self, object: &Object, work: impl FnOnce(Bytes) -> Result<usize, String>) -> Result<(), Error> {
        let bytes = load::object(self.place, object, self.named_by)?;
        let corrupt = |problem| manifests::Error::Corrupt { place: self.place.show(&object.key), problem };
        let rows = work(bytes).map_err(corrupt)?;
        if rows as u64 != object.rows {
            return Err(corrupt(format!("it has {rows} rows, `{}` says {}", self.named_by, object.rows)).into());
        }
        Ok(())
    }
}
