//! Where a dataset goes: what lies there already, whether it is the same, and how the new one appears. Nothing here knows what
//! the rows are.

use std::time::Instant;

use bytes::Bytes;
use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::load::{self, Dataset};
use manifests::place::Place;
use reporting::{Console, counted};
use schemas::dataset::{DESCRIPTOR_KEY, Descriptor, Digest, Object, RowCounts, VERSION};
use schemas::report::{PrepReport, Verdict};

use crate::TOOL;
use crate::error::Error;
use crate::pipe::STANDARD_OUTPUT;
use crate::plan::Out;
use crate::rejects::Rejects;

/// Where the objects of a dataset go.
pub(crate) enum Sink {
    /// To a folder, in which they are not yet visible.
    Folder(Box<Staging>),
    /// Into a pipe, with the rows.
    Pipe(Vec<Bytes>),
}

impl Sink {
    /// Takes the table `name` of the dataset.
    pub(crate) fn put(&mut self, name: &str, bytes: Vec<u8>, rows: u64) -> Result<Object, Error> {
        match self {
            Self::Folder(staging) => Ok(staging.put(name, bytes, rows)?),
            Self::Pipe(tables) => {
                let table = Object { key: name.to_owned(), rows, bytes: bytes.len() as u64, digest: digest(&bytes) };
                tables.push(bytes.into());
                Ok(table)
            }
        }
    }
}

/// What lies at the output already.
enum Existing {
    Nothing,
    Dataset(Box<Dataset>),
    /// What is wrong with it.
    Unreadable(String),
}

/// The place of the dataset that is made.
pub(crate) struct Output<'a> {
    /// Of a stream, where it would be if standard output were no pipe.
    pub place: Place,
    is_pipe: bool,
    console: &'a Console,
    replace: bool,
    existing: Existing,
    start: Instant,
}

impl<'a> Output<'a> {
    /// Looks at what lies at `out`, over which is written if `replace` is set.
    pub(crate) fn open(out: &Out, replace: bool, console: &'a Console) -> Result<Self, Error> {
        let start = Instant::now();
        let place = match out {
            Out::Place(place) => Place::parse(place)?,
            Out::Pipe { instead } => {
                let place = Place::parse(instead)?;
                return Ok(Self { place, is_pipe: true, console, replace, existing: Existing::Nothing, start });
            }
        };
        let existing = match load::dataset(&place) {
            Ok(dataset) => Existing::Dataset(Box::new(dataset)),
            Err(manifests::Error::NotFound { .. }) => Existing::Nothing,
            Err(manifests::Error::Invalid { problem, .. }) => Existing::Unreadable(problem),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { place, is_pipe: false, console, replace, existing, start })
    }

    /// Says, when it is so, that no folder is made.
    pub(crate) fn announce(&self) {
        if self.is_pipe {
            self.console.note(format!(
                "rows go to standard output, as a stream for `shard`, and no report follows; for a folder give `--out {}`",
                self.place
            ));
        }
    }

    /// Whether it goes into a pipe.
    pub(crate) const fn is_pipe(&self) -> bool {
        self.is_pipe
    }

    /// What would become of the output, where `compared` is what [`Output::compare`] says, if it was asked.
    pub(crate) fn verdict(&self, compared: Option<Result<Option<PrepReport>, Error>>) -> Result<Verdict, Error> {
        match compared {
            _ if !self.is_taken() => Ok(Verdict::New),
            None if self.replace => Ok(Verdict::Replace),
            None => Ok(Verdict::Unknown),
            Some(Ok(Some(_))) => Ok(Verdict::Unchanged),
            Some(Ok(None)) => Ok(if self.replace { Verdict::Replace } else { Verdict::Conflict }),
            Some(Err(Error::Stored(manifests::Error::Differs { .. }))) => Ok(Verdict::Conflict),
            Some(Err(error)) => Err(error),
        }
    }

    /// What the output is called.
    pub(crate) fn shown(&self) -> String {
        if self.is_pipe { STANDARD_OUTPUT.to_owned() } else { self.place.to_string() }
    }

    /// What was written, for people.
    pub(crate) fn written(&self) -> String {
        if self.is_pipe {
            "all rows to standard output, and no dataset to a folder,".to_owned()
        } else {
            self.place.to_string()
        }
    }

    /// The command that comes next, if this one does not feed it.
    pub(crate) fn next(&self, batch: u64) {
        if !self.is_pipe {
            self.console.note(format!("next: shard {} --batch {batch}", self.place));
        }
    }

    /// What takes the objects of the dataset whose content is determined by `identity`.
    pub(crate) fn sink(&self, identity: &Digest) -> Sink {
        match self.is_pipe {
            true => Sink::Pipe(Vec::new()),
            false => Sink::Folder(Box::new(Staging::new(&self.place, &self.place, DESCRIPTOR_KEY, identity))),
        }
    }

    /// Keeps the rows that were set aside. They do not go through a pipe, but lie where a person finds them.
    pub(crate) fn keep_rejects(&self, sink: &Sink, rejects: &Rejects) -> Result<Option<Object>, Error> {
        match (rejects.count(), sink) {
            (0, _) => Ok(None),
            (count, Sink::Folder(staging)) => Ok(Some(staging.put(Rejects::KEY, rejects.csv().to_vec(), count)?)),
            (count, Sink::Pipe(_)) => {
                let (folder, key) = Place::parse_file(&format!("{}.{}", self.place, Rejects::KEY))?;
                folder.put(&key, rejects.csv().to_vec())?;
                self.console.warn(format!("{} set aside in {}", counted(count, "bad row"), folder.show(&key)));
                Ok(None)
            }
        }
    }

    /// Whether something is there that must be compared with what would be made.
    pub(crate) const fn is_taken(&self) -> bool {
        !matches!(self.existing, Existing::Nothing)
    }

    /// The report when the dataset that exists is the one that would be made, `None` when there is something to make. `difference`
    /// says in what a descriptor is not the one, bad rows left aside, of which `rejected_max` are let pass.
    pub(crate) fn compare(
        &self,
        rejected_max: u64,
        difference: impl Fn(&Descriptor) -> Option<String>,
    ) -> Result<Option<PrepReport>, Error> {
        let difference = match &self.existing {
            Existing::Nothing => return Ok(None),
            Existing::Unreadable(problem) => problem.clone(),
            Existing::Dataset(dataset) => {
                let d = &dataset.descriptor;
                let version = [("version", d.version.to_string(), VERSION.to_string())];
                match manifests::Error::difference(&version).or_else(|| difference(d)) {
                    Some(difference) => difference,
                    // It was made with more patience for bad rows. Reading goes on to the row that is one too many.
                    None if d.rows.rejected > rejected_max => return Ok(None),
                    None if self.verifies(dataset) => {
                        self.console.note(format!("unchanged: {} holds this dataset already", self.place));
                        return Ok(Some(self.report(d.layout.kind(), d.rows, 0, true)));
                    }
                    None => "a file of it is missing or damaged".to_owned(),
                }
            }
        };
        if self.replace {
            return Ok(None);
        }
        Err(manifests::Error::Differs { place: self.place.show(DESCRIPTOR_KEY), difference }.into())
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
