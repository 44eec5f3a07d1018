//! Descriptors and manifests, read and checked. What passes here keeps its promises; what does not is told with its rule.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC, NumericColumn, Sparse};
use schemas::dataset::{self, Descriptor, Digest, Layout, Object, Ratings};
use schemas::manifest::{self, Batch, Listing, Manifest};
use schemas::preparation::{self, Preparation};
use schemas::report::{self, TrainReport};

use crate::Error;
use crate::batches::{Batches, Builder, check_key};
use crate::digest::digest;
use crate::index;
use crate::place::Place;

/// A dataset's descriptor with its digest and the place its keys are relative to.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The descriptor.
    pub descriptor: Descriptor,
    /// Its [`dataset_digest`].
    pub digest: Digest,
    /// Where its objects lie.
    pub place: Place,
}

/// A manifest with its digest and the place its keys are relative to.
#[derive(Clone, Debug)]
pub struct Shards {
    /// The manifest, without its lists of mini-batches: an index keeps its object, a list is empty.
    pub manifest: Manifest,
    /// Mini-batches of training rows.
    pub batches: Batches,
    /// Mini-batches of held-out rows.
    pub holdout_batches: Batches,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Where its objects lie.
    pub place: Place,
    /// What the manifest is called in messages.
    pub name: String,
}

impl Shards {
    /// Everything the manifest names, in the order of its first use; of an object with several mini-batches, these.
    pub fn objects(&self) -> impl Iterator<Item = Batch> + Send + use<> {
        let m = &self.manifest;
        let indices = [&m.batches, &m.holdout_batches].into_iter().filter_map(|listing| match listing {
            Listing::Index(object) => Some(object),
            Listing::Each(_) => None,
        });
        let tables = m.layout.tables().into_iter().map(|(_, table)| table);
        let others: Vec<Batch> = indices.chain(tables).cloned().map(Batch::from).collect();
        others.into_iter().chain(self.batches.iter()).chain(self.holdout_batches.iter())
    }
}

/// Identity of a dataset, however its rows are stored: the digest of its descriptor with `parts` and `holdout_parts` empty, as
/// JSON without white space.
///
/// # Panics
/// Never: a descriptor is JSON.
#[must_use]
pub fn dataset_digest(descriptor: &Descriptor) -> Digest {
    let without = Descriptor { parts: Vec::new(), holdout_parts: Vec::new(), ..descriptor.clone() };
    digest(&serde_json::to_vec(&without).expect("a descriptor is JSON"))
}

/// The dataset at `place`.
///
/// # Errors
/// [`Error::NotFound`] when there is no descriptor, [`Error::Invalid`] when it breaks a rule.
pub fn dataset(place: &Place) -> Result<Dataset, Error> {
    let key = dataset::DESCRIPTOR_KEY;
    let bytes = place.get(key)?;
    let name = place.show(key);
    let descriptor: Descriptor = parse(&name, &bytes, dataset::FORMAT, dataset::VERSION, "prep")?;
    check_descriptor(&descriptor).map_err(|problem| invalid(&name, problem, "prep"))?;
    let digest = dataset_digest(&descriptor);
    Ok(Dataset { descriptor, digest, place: place.clone() })
}

/// The place of the dataset that `text` names: its folder, or its descriptor.
///
/// # Errors
/// As [`Place::parse`].
pub fn named_dataset(text: &str) -> Result<Place, Error> {
    if Path::new(text).file_name().is_some_and(|name| name == dataset::DESCRIPTOR_KEY) {
        return Ok(Place::parse_file(text)?.0);
    }
    Place::parse(text)
}

/// The folders directly below `place` that hold a dataset, sorted.
///
/// # Errors
/// As [`Place::folders`].
pub fn datasets(place: &Place) -> Result<Vec<Place>, Error> {
    let mut found = Vec::new();
    for folder in place.folders()? {
        let folder = place.join(&folder)?;
        if folder.size(dataset::DESCRIPTOR_KEY)?.is_some() {
            found.push(folder);
        }
    }
    Ok(found)
}

/// The manifest in the file `path`.
///
/// # Errors
/// [`Error::NotFound`] when it does not exist, [`Error::Invalid`] when it breaks a rule.
pub fn shards(path: &str) -> Result<Shards, Error> {
    let (folder, key) = Place::parse_file(path)?;
    let bytes = folder.get(&key)?;
    let name = folder.show(&key);
    let mut manifest: Manifest = parse(&name, &bytes, manifest::FORMAT, manifest::VERSION, "shard")?;
    let digest = digest(&bytes);
    drop(bytes);
    let place = folder.join(&manifest.base)?;
    let batches = listed(&place, &name, &mut manifest.batches)?;
    let holdout_batches = listed(&place, &name, &mut manifest.holdout_batches)?;
    let found = Shards { manifest, batches, holdout_batches, digest, place, name };
    check_manifest(&found).map_err(|problem| invalid(&found.name, problem, "shard"))?;
    Ok(found)
}

/// The mini-batches that `listing` lists. A list is emptied, because the table has what it says.
fn listed(place: &Place, name: &str, listing: &mut Listing) -> Result<Batches, Error> {
    match listing {
        Listing::Each(list) => {
            let list = std::mem::take(list);
            let mut table = Builder::for_about(list.len());
            let table = list.iter().try_for_each(|batch| table.push_batch(batch)).and_then(|()| table.finish());
            table.map_err(|problem| invalid(name, problem, "shard"))
        }
        Listing::Index(index) => {
            check_object(index).map_err(|problem| invalid(name, problem, "shard"))?;
            let table = index::decode(object(place, index, name)?);
            let table = table.map_err(|problem| invalid(&place.show(&index.key), problem, "shard"))?;
            if table.len() as u64 != index.rows {
                let problem = format!("it lists {} mini-batches, `{name}` says {}", table.len(), index.rows);
                return Err(invalid(&place.show(&index.key), problem, "shard"));
            }
            Ok(table)
        }
    }
}

/// The report of the run at `place`, in the object `key`.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Invalid`] when it is no report.
pub fn report(place: &Place, key: &str) -> Result<TrainReport, Error> {
    parse(&place.show(key), &place.get(key)?, report::RUN_FORMAT, report::RUN_VERSION, "train")
}

/// How rows are prepared for the model of the run at `place`.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Invalid`] when it breaks a rule.
pub fn preparation(place: &Place) -> Result<Preparation, Error> {
    let key = preparation::PREPARATION_KEY;
    let bytes = place.get(key)?;
    let name = place.show(key);
    let found: Preparation = parse(&name, &bytes, preparation::FORMAT, preparation::VERSION, "train")?;
    check_layout(&found.layout).map_err(|problem| invalid(&name, problem, "train"))?;
    Ok(found)
}

/// The bytes of `object`, checked against the size and digest that `named_by` records.
///
/// # Errors
/// [`Error::Missing`], [`Error::Corrupt`], or another failure to read.
pub fn object(place: &Place, object: &Object, named_by: &str) -> Result<bytes::Bytes, Error> {
    batch(place, &Batch::from(object.clone()), named_by)
}

/// The bytes of `batch`, checked against the size and digest that `named_by` records.
///
/// # Errors
/// As [`object`].
pub fn batch(place: &Place, batch: &Batch, named_by: &str) -> Result<bytes::Bytes, Error> {
    checked(place, batch, futures::executor::block_on(place.fetch(&batch.key, range(batch))), named_by)
}

/// Which bytes of its object `batch` is, when it is not all of them.
pub(crate) fn range(batch: &Batch) -> Option<std::ops::Range<u64>> {
    batch.offset.map(|start| start..start.saturating_add(batch.bytes))
}

/// What was `found` where `batch` should be, when it is that.
pub(crate) fn checked(
    place: &Place,
    batch: &Batch,
    found: Result<bytes::Bytes, Error>,
    named_by: &str,
) -> Result<bytes::Bytes, Error> {
    let corrupt = |problem| Error::Corrupt { place: place.show(&batch.key), problem };
    let mut bytes = match (found, range(batch)) {
        (Err(failure @ (Error::Storage { .. } | Error::Corrupt { .. })), Some(range)) => {
            match place.size(&batch.key)? {
                // How a store refuses a range that is not there is its own affair.
                Some(size) if size < range.end => {
                    return Err(corrupt(format!("it has {size} bytes, `{named_by}` says {} or more", range.end)));
                }
                _ => return Err(failure),
            }
        }
        (found, _) => found.map_err(|e| e.named_by(named_by))?,
    };
    let which = range(batch).map_or(String::new(), |range| format!(", of bytes {} to {},", range.start, range.end));
    if bytes.len() as u64 != batch.bytes {
        return Err(corrupt(match range(batch) {
            None => format!("it has {} bytes, `{named_by}` says {}", bytes.len(), batch.bytes),
            Some(range) => {
                let size = range.start + bytes.len() as u64;
                format!("it has {size} bytes, `{named_by}` says {} or more", range.end)
            }
        }));
    }
    let mut found = digest(&bytes);
    if found != batch.digest
        && !place.is_local()
        && let Some(range) = range(batch)
    {
        // Whole objects come with a checksum, which is checked on arrival, but ranges do not: the network may have altered it.
        bytes = place.get_range(&batch.key, range).map_err(|e| e.named_by(named_by))?;
        found = digest(&bytes);
    }
    if found != batch.digest {
        return Err(corrupt(format!("its digest{which} is {found}, `{named_by}` says {}", batch.digest)));
    }
    Ok(bytes)
}

/// `bytes` that `shown` names, when they are `object`, which `named_by` records.
///
/// # Errors
/// [`Error::Corrupt`].
pub(crate) fn equal(
    shown: impl Fn() -> String,
    object: &Object,
    bytes: bytes::Bytes,
    named_by: &str,
) -> Result<bytes::Bytes, Error> {
    let corrupt = |problem| Error::Corrupt { place: shown(), problem };
    if bytes.len() as u64 != object.bytes {
        return Err(corrupt(format!("it has {} bytes, `{named_by}` says {}", bytes.len(), object.bytes)));
    }
    let found = digest(&bytes);
    if found != object.digest {
        return Err(corrupt(format!("its digest is {found}, `{named_by}` says {}", object.digest)));
    }
    Ok(bytes)
}

/// The descriptor `bytes` of a dataset that comes through a pipe, which has no parts.
///
/// # Errors
/// [`Error::Invalid`] when it breaks a rule.
pub(crate) fn streamed(name: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
    let descriptor: Descriptor = parse(name, bytes, dataset::FORMAT, dataset::VERSION, "prep")?;
    let problem = match descriptor.parts.len() + descriptor.holdout_parts.len() {
        0 => check_content(&descriptor).err(),
        parts => Some(format!("it names {parts} parts, and there are none in a pipe")),
    };
    problem.map_or(Ok(descriptor), |problem| Err(invalid(name, problem, "prep")))
}

/// Only the head of a file: enough to refuse a file of another format or version by name.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8], format: &str, newest: u32, tool: &str) -> Result<T, Error> {
    let head: Head =
        serde_json::from_slice(bytes).map_err(|e| invalid(name, format!("not a {format} file: {e}"), tool))?;
    if head.format != format {
        let problem = format!("its format is `{}`, not `{format}`", head.format);
        let fix = match (&*head.format, format) {
            (dataset::FORMAT, manifest::FORMAT) => format!(
                "this is what `prep` made: run `shard {name} --batch 1000` (or more rows), and give the manifest that it writes"
            ),
            (manifest::FORMAT, dataset::FORMAT) => {
                "this is what `shard` made: give the folder that `prep` made".to_owned()
            }
            (report::RUN_FORMAT, _) => "this is the report of a run: give what the run was made from".to_owned(),
            _ => format!("make it anew with `{tool}`"),
        };
        return Err(Error::Invalid { place: name.to_owned(), problem, fix });
    }
    if head.version == 0 || head.version > newest {
        return Err(Error::Invalid {
            place: name.to_owned(),
            problem: format!(
                "version {} of {format} is unknown; this build reads versions up to {newest}",
                head.version
            ),
            fix: "use a newer Gristmill, or make the file anew with this one".to_owned(),
        });
    }
    serde_json::from_slice(bytes).map_err(|e| invalid(name, format!("not a valid {format} file: {e}"), tool))
}

fn invalid(name: &str, problem: String, tool: &str) -> Error {
    Error::Invalid { place: name.to_owned(), problem, fix: format!("make it anew with `{tool}`") }
}

fn check_descriptor(d: &Descriptor) -> Result<(), String> {
    check_objects("parts", &d.parts, d.rows.train)?;
    check_objects("holdout_parts", &d.holdout_parts, d.rows.holdout)?;
    check_content(d)
}

/// What is true of a dataset wherever its rows are.
fn check_content(d: &Descriptor) -> Result<(), String> {
    let sorts = [d.rows.train, d.rows.holdout, d.rows.rejected, d.rows.filtered];
    if u128::from(d.rows.read) != sorts.into_iter().map(u128::from).sum() {
        return Err(format!("rows.read is {}, not train + holdout + rejected + filtered", d.rows.read));
    }
    check_name(&d.name)?;
    check_layout(&d.layout)
}

fn check_manifest(shards: &Shards) -> Result<(), String> {
    let m = &shards.manifest;
    let sets = [("batches", &shards.batches, m.rows), ("holdout_batches", &shards.holdout_batches, m.holdout_rows)];
    for (name, batches, rows) in sets {
        if batches.rows() != u128::from(rows) {
            return Err(format!("{name} have {} rows together, not {rows}", batches.rows()));
        }
    }
    if m.shuffle.batch_rows == 0 {
        return Err("shuffle.batch_rows is 0".to_owned());
    }
    for (name, batches, rows) in sets {
        let (least, most) = batches.least_and_most_rows();
        if most > m.shuffle.batch_rows || most - least > 1 || (least == 0 && most > 0) {
            return Err(format!(
                "{name} have {least} to {most} rows; sizes must differ by at most one and not pass shuffle.batch_rows, {}",
                m.shuffle.batch_rows
            ));
        }
        let count = rows.div_ceil(m.shuffle.batch_rows);
        if batches.len() as u64 != count {
            return Err(format!(
                "there are {} {name}; {rows} rows make {count} of at most {}",
                batches.len(),
                m.shuffle.batch_rows
            ));
        }
    }
    if let Some(key) = shards.batches.shared_key(&shards.holdout_batches) {
        return Err(format!("the key `{key}` is named twice"));
    }
    check_name(&m.name)?;
    check_layout(&m.layout)
}

fn check_objects(name: &str, objects: &[Object], rows: u64) -> Result<(), String> {
    let sum: u128 = objects.iter().map(|o| u128::from(o.rows)).sum();
    if sum != u128::from(rows) {
        return Err(format!("{name} have {sum} rows together, not {rows}"));
    }
    objects.iter().try_for_each(check_object)
}

fn check_object(object: &Object) -> Result<(), String> {
    check_key(&object.key)
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!("the name `{name}` is not made of letters, digits, `-`, `_` and `.`"));
    }
    Ok(())
}

fn check_layout(layout: &Layout) -> Result<(), String> {
    match layout {
        Layout::Ratings(r) => check_ratings(r),
        Layout::Dense(d) => check_numeric(&d.numeric),
        Layout::Sparse(s) => check_sparse(s),
    }
}

fn check_ratings(r: &Ratings) -> Result<(), String> {
    if r.n_users == 0 || r.n_items == 0 {
        return Err(format!("there are {} users and {} items", r.n_users, r.n_items));
    }
    if !r.mean.is_finite() {
        return Err(format!("the mean rating is {}", r.mean));
    }
    for (name, map, count) in [("users", &r.users, r.n_users), ("items", &r.items, r.n_items)] {
        check_object(map)?;
        if map.rows != u64::from(count) {
            return Err(format!("the map of {name} has {} rows, not {count}", map.rows));
        }
    }
    Ok(())
}

fn check_numeric(columns: &[NumericColumn]) -> Result<(), String> {
    check_names("numeric", 'I', N_NUMERIC, columns.iter().map(|c| c.name.as_str()))?;
    for column in columns {
        let name = &column.name;
        if !column.mean.is_finite() || !column.sd.is_finite() || column.sd < 0.0 {
            return Err(format!("{name} has the mean {} and the standard deviation {}", column.mean, column.sd));
        }
        if column.min > column.max || column.min.is_some() != column.max.is_some() {
            return Err(format!("{name} reaches from {:?} to {:?}", column.min, column.max));
        }
    }
    Ok(())
}

fn check_sparse(s: &Sparse) -> Result<(), String> {
    check_numeric(&s.numeric)?;
    check_names("categorical", 'C', N_CATEGORICAL, s.categorical.iter().map(|c| c.name.as_str()))?;
    if s.hash.buckets == 0 || s.hash.buckets.checked_add(N_NUMERIC as u32) != Some(s.n_features) {
        return Err(format!("n_features is {}, not {N_NUMERIC} + hash.buckets, {}", s.n_features, s.hash.buckets));
    }
    s.scales.iter().try_for_each(check_object)
}

fn check_names<'a>(what: &str, letter: char, count: usize, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    if names.eq((1..=count).map(|i| format!("{letter}{i}"))) {
        return Ok(());
    }
    Err(format!("the {what} columns are not {letter}1 to {letter}{count}"))
}

mod tests;
