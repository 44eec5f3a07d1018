//! Reads the parts of a dataset, each once, on several threads, and gives what came of them in part order.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use manifests::load::{self, Dataset};
use reporting::{Progress, interrupt};
use schemas::dataset::{DESCRIPTOR_KEY, Object};

use crate::error::Error;

/// The parts of a dataset and the means to read them.
pub(super) struct Parts<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) threads: usize,
    pub(super) progress: &'a Progress,
}

impl Parts<'_> {
    /// What `work` makes of each of `objects`, in order. `work` gets buffers that its thread keeps, the number of the part
    /// and its checked bytes; it gives the rows it found and its result, or what is wrong with the part.
    ///
    /// # Errors
    /// That of the first part that is missing, damaged, or not what it should be; or that a signal came.
    pub(super) fn each<Buffers: Default, T: Send>(
        &self,
        objects: &[Object],
        work: impl Fn(&mut Buffers, usize, Bytes) -> Result<(usize, T), String> + Sync,
    ) -> Result<Vec<T>, Error> {
        let claimed = AtomicUsize::new(0);
        let run = || {
            let (mut buffers, mut done) = (Buffers::default(), Vec::new());
            loop {
                let number = claimed.fetch_add(1, Ordering::Relaxed);
                let Some(object) = objects.get(number) else { return done };
                let result = self.one(object, |bytes| work(&mut buffers, number, bytes));
                let failed = result.is_err();
                done.push((number, result));
                if failed {
                    // Every part before this one is claimed, so the first failure is the same whatever the threads.
                    claimed.store(objects.len(), Ordering::Relaxed);
                }
            }
        };
        let mut results = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..self.threads.min(objects.len())).map(|_| scope.spawn(run)).collect();
            let mut results = run();
            for worker in workers {
                results.extend(worker.join().expect("a worker does not panic"));
            }
            results
        });
        results.sort_unstable_by_key(|(number, _)| *number);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn one<T>(&self, object: &Object, work: impl FnOnce(Bytes) -> Result<(usize, T), String>) -> Result<T, Error> {
        interrupt::check()?;
        let place = &self.dataset.place;
        let named_by = place.show(DESCRIPTOR_KEY);
        let corrupt = |problem| manifests::Error::Corrupt { place: place.show(&object.key), problem };
        let (rows, result) = work(load::object(place, object, &named_by)?).map_err(corrupt)?;
        if rows as u64 != object.rows {
            return Err(corrupt(format!("it has {rows} rows, `{named_by}` says {}", object.rows)).into());
        }
        self.progress.add(object.rows);
        Ok(result)
    }
}
