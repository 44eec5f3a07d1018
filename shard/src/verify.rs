//! `shard verify`: whether everything a manifest names is there and as it should be, and what else there is.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use manifests::batches::Batches;
use manifests::commit::generations;
use manifests::fetch::{Ahead, Fetch, Fetched};
use manifests::load::Shards;
use manifests::packed;
use reporting::{Console, Progress, count, interrupt};
use schemas::dataset::Digest;
use schemas::manifest::Batch;
use schemas::report::{Found, VerifyReport};

use crate::plan::VerifyPlan;
use crate::{Error, TOOL, error};

/// Objects of each sort that are named.
const NAMED_MAX: usize = 20;

/// Checks what `plan` names.
///
/// # Errors
/// When something cannot be read for another reason than that it is missing or damaged, or a signal comes.
pub fn run(plan: &VerifyPlan, console: &Console) -> Result<VerifyReport, Error> {
    let start = Instant::now();
    let shards = &plan.shards;
    let total = shards.objects().map(|batch| batch.bytes).sum::<u64>();
    let progress = console.progress("verifying", Some(total), "bytes");
    let checked = check(shards, plan.threads, &progress);
    progress.finish();
    let Checked { problems, mut there, bytes } = checked?;
    let mut objects = 0;
    for batch in shards.objects().filter(|batch| batch.offset.unwrap_or(0) == 0) {
        objects += 1;
        there.remove(&batch.key);
    }
    let mut foreign: Vec<String> = there.into_keys().map(|key| shards.place.show(&key)).collect();
    foreign.sort_unstable();
    let (missing, damaged): (Vec<_>, Vec<_>) = problems.into_iter().partition(|problem| problem.missing);
    let missing = found(missing.into_iter().map(|problem| problem.place).collect());
    let damaged = found(damaged.into_iter().map(|problem| problem.to_string()).collect());
    let foreign = found(foreign);
    let report = VerifyReport {
        tool: TOOL.to_owned(),
        manifest: shards.name.clone(),
        manifest_digest: shards.digest.clone(),
        whole: missing.count + damaged.count + foreign.count == 0,
        objects,
        batches: (shards.batches.len() + shards.holdout_batches.len()) as u64,
        rows: shards.manifest.rows + shards.manifest.holdout_rows,
        bytes,
        missing,
        damaged,
        foreign,
        seconds: start.elapsed().as_secs_f64(),
    };
    summarise(&report, console);
    Ok(report)
}

fn found(mut all: Vec<String>) -> Found {
    let count = all.len() as u64;
    all.truncate(NAMED_MAX);
    Found { count, first: all }
}

fn summarise(report: &VerifyReport, console: &Console) {
    for (what, found) in [("missing", &report.missing), ("damaged", &report.damaged), ("foreign", &report.foreign)] {
        found.first.iter().for_each(|text| console.warn(format!("{what}: {text}")));
        if found.count > found.first.len() as u64 {
            console.warn(format!("{what}: {} more", found.count - found.first.len() as u64));
        }
    }
    let VerifyReport { manifest, objects, batches, rows, seconds, .. } = report;
    let rate = report.bytes as f64 / 1e6 / seconds.max(1e-9);
    let state = match (report.whole, report.missing.count, report.damaged.count, report.foreign.count) {
        (true, ..) => "all there and undamaged".to_owned(),
        (false, missing, damaged, foreign) => format!("{missing} missing, {damaged} damaged, {foreign} foreign"),
    };
    let megabytes = report.bytes as f64 / 1e6;
    console.note(format!(
        "{manifest}: {objects} objects with {} rows in {batches} mini-batches: {state}; {megabytes:.1} MB, {seconds:.2} s, {rate:.0} MB/s",
        count(*rows)
    ));
}

/// What was found.
pub(crate) struct Checked {
    /// What is wrong, in the order of the manifest.
    pub(crate) problems: Vec<Problem>,
    /// Keys and sizes of what is in the generations of the place.
    there: HashMap<String, u64>,
    /// Bytes that were read.
    bytes: u64,
}

/// Reads everything that `shards` names.
///
/// # Errors
/// As [`run`].
pub(crate) fn check(shards: &Shards, threads: usize, progress: &Progress) -> Result<Checked, Error> {
    let mut there = HashMap::new();
    for generation in generations(&shards.place)? {
        let found = shards.place.join(&generation)?.list()?;
        there.extend(found.into_iter().map(|(name, size)| (format!("{generation}/{name}"), size)));
    }
    let sets = [&shards.batches, &shards.holdout_batches];
    let packed: Vec<Packed> = sets.into_iter().flat_map(|batches| Packed::all(batches, &there)).collect();
    let numbers = packed.iter().enumerate().map(|(number, object)| (object.key.clone(), number)).collect();
    let check = Check { shards, packed: &packed, numbers, progress, state: Mutex::default() };
    check.all(threads)?;
    let State { problems, bytes, .. } = check.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut problems: Vec<(u64, Problem)> = problems.into_values().collect();
    problems.sort_unstable_by_key(|(number, _)| *number);
    Ok(Checked { problems: problems.into_iter().map(|(_, problem)| problem).collect(), there, bytes })
}

/// An object with several mini-batches.
struct Packed {
    key: String,
    range: Range<usize>,
    /// Where its footer lies, when it has one.
    footer: Option<Range<u64>>,
}

impl Packed {
    /// Those of a set.
    fn all(batches: &Batches, there: &HashMap<String, u64>) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let Some(start) = batch.offset else { continue };
            if start == 0 {
                let (key, range) = (batch.key.clone(), number..number);
                found.push(Self { key, range, footer: None });
            }
            let object = found.last_mut().expect("the first mini-batch of an object begins at byte 0");
            let (size, end) = (there.get(&batch.key).copied().unwrap_or(0), start + batch.bytes);
            object.range.end = number + 1;
            object.footer = (size > end).then_some(end..size);
        }
        found
    }

    /// The footer as something to fetch: that it has no rows tells it from a mini-batch.
    fn footer(&self) -> Option<Batch> {
        let Range { start, end } = self.footer.clone()?;
        let digest = Digest::from_xxh3_128(0);
        Some(Batch { key: self.key.clone(), offset: Some(start), rows: 0, bytes: end - start, digest })
    }

    fn n_pieces(&self) -> usize {
        self.range.len() + usize::from(self.footer.is_some())
    }
}

/// What is wrong with an object.
pub(crate) struct Problem {
    missing: bool,
    place: String,
    what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

#[derive(Default)]
struct State {
    /// By key, with the number in the order of the manifest: the first of each object.
    problems: BTreeMap<String, (u64, Problem)>,
    /// What is known of objects with several mini-batches of which not everything has come.
    open: HashMap<usize, Open>,
    bytes: u64,
    failure: Option<Error>,
}

/// What has come of an object with several mini-batches.
#[derive(Default)]
struct Open {
    metadata: BTreeMap<u64, (packed::Metadata, u64)>,
    footer: Option<Bytes>,
    n_come: usize,
}

struct Check<'a> {
    shards: &'a Shards,
    packed: &'a [Packed],
    /// Their numbers by key.
    numbers: HashMap<String, usize>,
    progress: &'a Progress,
    state: Mutex<State>,
}

impl Check<'_> {
    fn all(&self, threads: usize) -> Result<(), Error> {
        let footers: Vec<Batch> = self.packed.iter().filter_map(Packed::footer).collect();
        let wanted = self.shards.objects().chain(footers);
        let fetch = Fetch::shared(&self.shards.place, wanted, Ahead::default()).map_err(error::no_thread)?;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while self.lock().failure.is_none() {
                        let Some(fetched) = fetch.next() else { return };
                        let outcome = interrupt::check().map_err(Error::from).and_then(|()| self.one(fetched));
                        if let Err(failure) = outcome {
                            self.lock().failure.get_or_insert(failure);
                        }
                    }
                });
            }
        });
        self.lock().failure.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, fetched: Fetched) -> Result<(), Error> {
        let (number, batch) = (fetched.number, fetched.batch.clone());
        let is_footer = batch.rows == 0 && batch.offset.is_some();
        let object = self.numbers.get(&batch.key).copied();
        let found = if is_footer { fetched.found } else { fetched.checked(&self.shards.place, &self.shards.name) };
        let mut problem = None;
        match found {
            Ok(bytes) => {
                self.lock().bytes += bytes.len() as u64;
                problem = match object {
                    None => self.rows(&batch, &bytes).err(),
                    Some(object) => self.piece(object, &batch, bytes, is_footer).err(),
                };
            }
            // It has been told with the mini-batches.
            Err(manifests::Error::NotFound { .. } | manifests::Error::Corrupt { .. }) if is_footer => {}
            Err(manifests::Error::Missing { place, .. }) => {
                let what = format!("missing, though `{}` names it", self.shards.name);
                problem = Some(Problem { missing: true, place, what });
            }
            Err(manifests::Error::Corrupt { place, problem: what }) => {
                problem = Some(Problem { missing: false, place, what });
            }
            Err(other) => return Err(other.into()),
        }
        self.progress.add(if is_footer { 0 } else { batch.bytes });
        if let Some(problem) = problem {
            let mut state = self.lock();
            let first = state.problems.get(&batch.key).is_none_or(|(before, _)| number < *before);
            if first {
                state.problems.insert(batch.key, (number, problem));
            }
        }
        Ok(())
    }

    fn damaged(&self, key: &str, problem: &str) -> Problem {
        Problem { missing: false, place: self.shards.place.show(key), what: problem.to_owned() }
    }

    fn rows(&self, batch: &Batch, bytes: &Bytes) -> Result<(), Problem> {
        let rows = packed::rows(bytes).map_err(|problem| self.damaged(&batch.key, &problem))?;
        if rows == batch.rows {
            return Ok(());
        }
        let problem = format!("it has {rows} rows, `{}` says {}", self.shards.name, batch.rows);
        Err(self.damaged(&batch.key, &problem))
    }

    /// A mini-batch of an object with several ones, or the footer. With the last piece the footer is compared.
    fn piece(&self, object: usize, batch: &Batch, bytes: Bytes, is_footer: bool) -> Result<(), Problem> {
        let metadata = if is_footer {
            None
        } else {
            self.rows(batch, &bytes)?;
            Some(packed::metadata(&bytes).map_err(|e| self.damaged(&batch.key, &e.to_string()))?)
        };
        let packed = &self.packed[object];
        let complete = {
            let mut state = self.lock();
            let open = state.open.entry(object).or_default();
            open.n_come += 1;
            match metadata {
                Some(metadata) => drop(open.metadata.insert(batch.offset.unwrap_or(0), (metadata, batch.bytes))),
                None => open.footer = Some(bytes),
            }
            if open.n_come < packed.n_pieces() {
                return Ok(());
            }
            state.open.remove(&object)
        };
        let Some(Open { metadata, footer, .. }) = complete else { return Ok(()) };
        let (metadata, sizes): (Vec<_>, Vec<_>) = metadata.into_values().unzip();
        let is_theirs = |footer: &Bytes| packed::is_footer_of(footer, &metadata, &sizes);
        // Nothing came with a range of a remote object that tells whether the network has altered it.
        let place = &self.shards.place;
        let again = || place.get_range(&packed.key, packed.footer.clone().filter(|_| !place.is_local())?).ok();
        match footer {
            Some(footer) if is_theirs(&footer) || again().as_ref().is_some_and(is_theirs) => Ok(()),
            Some(_) => Err(self.damaged(&packed.key, "the footer behind its mini-batches is not theirs")),
            None => Err(self.damaged(&packed.key, "there is no footer behind its mini-batches")),
        }
    }
}
