//! Where a dataset goes: what lies there already, whether it is the same, and how the new one appears. Nothing here knows what
//! the rows are.

use std::time::Instant;

use manifests::commit::Staging;
use manifests::load::{self, Dataset};
use manifests::place::Place;
use reporting::Console;
use schemas::dataset::{DESCRIPTOR_KEY, Descriptor, Object, RowCounts, VERSION};
use schemas::report::PrepReport;

use crate::TOOL;
use crate::error::Error;

/// What lies at the output already.
enum Existing {
    Nothing,
    Dataset(Box<Dataset>),
    Unreadable,
}

/// The place of the dataset that is made.
pub(crate) struct Output<'a> {
    pub place: Place,
    console: &'a Console,
    replace: bool,
    existing: Existing,
    start: Instant,
}

impl<'a> Output<'a> {
    /// Looks at what lies at `out`, over which is written if `replace` is set.
    pub(crate) fn open(out: &str, replace: bool, console: &'a Console) -> Result<Self, Error> {
        let start = Instant::now();
        let place = Place::parse(out)?;
        let existing = match load::dataset(&place) {
            Ok(dataset) => Existing::Dataset(Box::new(dataset)),
            Err(manifests::Error::NotFound { .. }) => Existing::Nothing,
            Err(manifests::Error::Invalid { .. }) => Existing::Unreadable,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { place, console, replace, existing, start })
    }

    /// Whether something is there that must be compared with what would be made.
    pub(crate) const fn is_taken(&self) -> bool {
        !matches!(self.existing, Existing::Nothing)
    }

    /// The report when the dataset that exists is the one that would be made, `None` when there is something to make. `same`
    /// says of a descriptor whether it is the one, but for the bad rows, of which `rejected_max` are let pass.
    pub(crate) fn compare(
        &self,
        rejected_max: u64,
        same: impl Fn(&Descriptor) -> bool,
    ) -> Result<Option<PrepReport>, Error> {
        if let Existing::Dataset(dataset) = &self.existing {
            let d = &dataset.descriptor;
            let same = d.version == VERSION && same(d);
            if same && d.rows.rejected > rejected_max {
                // It was made with more patience for bad rows. Reading goes on to the row that is one too many.
                return Ok(None);
            }
            if same && self.verifies(dataset) {
                self.console.note(format!("unchanged: {} holds this dataset already", self.place));
                return Ok(Some(self.report(d.layout.kind(), d.rows, 0, true)));
            }
        }
        if self.replace {
            return Ok(None);
        }
        Err(manifests::Error::Conflict { place: self.place.show(DESCRIPTOR_KEY) }.into())
    }

    fn verifies(&self, dataset: &Dataset) -> bool {
        let name = self.place.show(DESCRIPTOR_KEY);
        objects(&dataset.descriptor).all(|object| match load::object(&dataset.place, object, &name) {
            Ok(_) => true,
            Err(error) => {
                self.console.warn(error.to_string());
                false
            }
        })
    }

    /// Makes the dataset visible.
    pub(crate) fn commit(&self, staging: Staging, descriptor: &Descriptor) -> Result<PrepReport, Error> {
        let mut json = serde_json::to_vec_pretty(descriptor).expect("a descriptor is JSON");
        json.push(b'\n');
        let bytes = objects(descriptor).map(|object| object.bytes).sum::<u64>() + json.len() as u64;
        reporting::interrupt::check()?;
        staging.commit(json, self.replace)?;
        Ok(self.report(descriptor.layout.kind(), descriptor.rows, bytes, false))
    }

    fn report(&self, kind: &str, rows: RowCounts, bytes_written: u64, unchanged: bool) -> PrepReport {
        PrepReport {
            tool: TOOL.to_owned(),
            output: self.place.to_string(),
            descriptor: DESCRIPTOR_KEY.to_owned(),
            unchanged,
            kind: kind.to_owned(),
            rows,
            bytes_written,
            seconds: self.seconds(),
        }
    }

    /// Seconds since the work began.
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Says, if asked for details, which step begins.
    pub(crate) fn step(&self, what: &str) {
        self.console.detail(format!("{:.2} s: {what}", self.seconds()));
    }
}

/// Everything that `descriptor` names.
fn objects(descriptor: &Descriptor) -> impl Iterator<Item = &Object> {
    let tables = descriptor.layout.tables().into_iter().map(|(_, table)| table);
    descriptor.parts.iter().chain(&descriptor.holdout_parts).chain(&descriptor.rejects).chain(tables)
}
