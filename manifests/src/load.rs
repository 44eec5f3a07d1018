//! Descriptors and manifests, read and checked. What passes here keeps its promises; what does not is told with its rule.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC, NumericColumn, Sparse};
use schemas::dataset::{self, Descriptor, Digest, Layout, Object, Ratings};
use schemas::manifest::{self, Manifest};
use schemas::preparation::{self, Preparation};
use schemas::report::{self, TrainReport};

use crate::Error;
use crate::digest::digest;
use crate::place::Place;

/// A dataset's descriptor with its digest and the place its keys are relative to.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The descriptor.
    pub descriptor: Descriptor,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Where its objects lie.
    pub place: Place,
}

/// A manifest with its digest and the place its keys are relative to.
#[derive(Clone, Debug)]
pub struct Shards {
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Where its objects lie.
    pub place: Place,
    /// What the manifest is called in messages.
    pub name: String,
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
    Ok(Dataset { descriptor, digest: digest(&bytes), place: place.clone() })
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
    let manifest: Manifest = parse(&name, &bytes, manifest::FORMAT, manifest::VERSION, "shard")?;
    check_manifest(&manifest).map_err(|problem| invalid(&name, problem, "shard"))?;
    let place = folder.join(&manifest.base)?;
    Ok(Shards { manifest, digest: digest(&bytes), place, name })
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
    let bytes = place.get(&object.key).map_err(|e| e.named_by(named_by))?;
    checked(|| place.show(&object.key), object, bytes, named_by)
}

/// `bytes` that `shown` names, checked against the size and digest of `object`, which `named_by` records.
pub(crate) fn checked(
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
        return Err(invalid(name, format!("its format is `{}`, not `{format}`", head.format), tool));
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

fn check_manifest(m: &Manifest) -> Result<(), String> {
    check_objects("batches", &m.batches, m.rows)?;
    check_objects("holdout_batches", &m.holdout_batches, m.holdout_rows)?;
    if m.shuffle.batch_rows == 0 {
        return Err("shuffle.batch_rows is 0".to_owned());
    }
    let sets = [("batches", &m.batches, m.rows), ("holdout_batches", &m.holdout_batches, m.holdout_rows)];
    for (name, batches, rows) in sets {
        let sizes = batches.iter().map(|b| b.rows);
        let (least, most) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
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
    let key = &object.key;
    if key.is_empty() || key.starts_with('/') || key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("the key `{key}` is not a plain relative path"));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::exit::{ErrorKind, Explain};
    use serde_json::{Value, json};

    fn fixture(name: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Loads `value` from a file of its own.
    fn load(name: &str, value: &Value) -> Result<(), Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        if name == "dataset.json" {
            dataset(&Place::parse(folder.path().to_str().unwrap()).unwrap()).map(drop)
        } else {
            shards(path.to_str().unwrap()).map(drop)
        }
    }

    #[test]
    fn files_of_version_1_load() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/v1");
        let found = dataset(&Place::parse(folder).unwrap()).unwrap();
        assert_eq!((found.descriptor.rows.train, found.descriptor.parts.len()), (3, 2));
        let Layout::Ratings(layout) = &found.descriptor.layout else { panic!("{:?}", found.descriptor.layout) };
        assert_eq!((layout.n_users, layout.n_items, layout.mean), (2, 3, 3.5));

        let found = shards(&format!("{folder}/manifest.json")).unwrap();
        assert_eq!((found.manifest.rows, found.manifest.batches.len(), found.manifest.shuffle.seed), (3, 2, 8));
        assert!(found.place.to_string().ends_with("fixtures/v1/shards/tiny"), "{}", found.place);
        for name in ["dataset", "manifest"] {
            let text = schemas::json_schemas().into_iter().find(|s| s.0 == format!("{name}.schema.json")).unwrap().1;
            let schema = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
            let problems: Vec<String> =
                schema.iter_errors(&fixture(&format!("{name}.json"))).map(|e| e.to_string()).collect();
            assert!(problems.is_empty(), "{name}: {problems:?}");
        }
    }

    #[test]
    fn click_logs_of_version_1_load() {
        for kind in ["sparse", "dense"] {
            let folder = format!("{}/fixtures/v1/{kind}", env!("CARGO_MANIFEST_DIR"));
            let found = dataset(&Place::parse(&folder).unwrap()).unwrap().descriptor;
            assert_eq!((found.layout.kind(), found.rows.train, found.rows.holdout), (kind, 34, 6));
            let (labels, numeric) = match &found.layout {
                Layout::Dense(dense) => (dense.labels, &dense.numeric),
                Layout::Sparse(sparse) => (sparse.labels, &sparse.numeric),
                Layout::Ratings(_) => panic!("{kind}"),
            };
            assert_eq!((labels.unwrap().train_positives, numeric[1].min, numeric[1].max), (12, Some(-2), Some(1303)));
            let found = shards(&format!("{folder}/manifest.json")).unwrap().manifest;
            assert_eq!(
                (found.layout.kind(), found.batches.len(), found.layout.tables().len()),
                (kind, 4, usize::from(kind == "sparse"))
            );
            for name in ["dataset", "manifest"] {
                let text =
                    schemas::json_schemas().into_iter().find(|s| s.0 == format!("{name}.schema.json")).unwrap().1;
                let schema = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
                let file = fixture(&format!("{kind}/{name}.json"));
                let problems: Vec<String> = schema.iter_errors(&file).map(|e| e.to_string()).collect();
                assert!(problems.is_empty(), "{kind} {name}: {problems:?}");
            }
        }
    }

    #[test]
    fn click_logs_that_break_a_rule_are_refused_with_the_rule() {
        let table = [
            ("sparse", "/layout/n_features", json!(64), "n_features is 64, not 13 + hash.buckets, 50"),
            ("sparse", "/layout/hash/buckets", json!(0), "n_features is 63, not 13 + hash.buckets, 0"),
            ("sparse", "/layout/hash/function", json!("md5"), "unknown variant `md5`"),
            ("sparse", "/layout/numeric/3/name", json!("I5"), "the numeric columns are not I1 to I13"),
            ("sparse", "/layout/categorical", json!([]), "the categorical columns are not C1 to C26"),
            ("sparse", "/layout/scales/key", json!("../x"), "the key `../x` is not a plain relative path"),
            ("dense", "/layout/numeric/0/sd", json!(-1.0), "I1 has the mean"),
            ("dense", "/layout/numeric/0/min", json!(99), "I1 reaches from Some(99) to Some(15)"),
            ("dense", "/layout/numeric/0/max", json!(null), "I1 reaches from Some(0) to None"),
            ("dense", "/rows/filtered", json!(1), "rows.read is 40, not train + holdout + rejected + filtered"),
        ];
        for (kind, pointer, value, problem) in table {
            let mut file = fixture(&format!("{kind}/dataset.json"));
            match file.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => drop(file["rows"].as_object_mut().unwrap().insert("filtered".to_owned(), value)),
            }
            let error = load("dataset.json", &file).unwrap_err();
            assert!(error.to_string().contains(problem), "{kind} {pointer}: {error}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_the_rule() {
        let (d, m) = ("dataset.json", "manifest.json");
        let table = [
            (d, "/version", json!(2), "version 2 of gristmill.dataset is unknown; this build reads versions up to 1"),
            (m, "/version", json!(2), "version 2 of gristmill.manifest is unknown; this build reads versions up to 1"),
            (m, "/version", json!(0), "version 0 of gristmill.manifest is unknown"),
            (d, "/format", json!("gristmill.manifest"), "its format is `gristmill.manifest`, not `gristmill.dataset`"),
            (m, "/format", json!("other"), "its format is `other`, not `gristmill.manifest`"),
            (m, "/batches/0", json!({}), "not a valid gristmill.manifest file: missing field `key`"),
            (m, "", json!([1]), "not a gristmill.manifest file"),
            (d, "/rows/train", json!(4), "parts have 3 rows together, not 4"),
            (d, "/rows/read", json!(6), "rows.read is 6, not train + holdout + rejected + filtered"),
            (d, "/parts/0/rows", json!(u64::MAX), "rows together, not 3"),
            (m, "/rows", json!(4), "batches have 3 rows together, not 4"),
            (m, "/holdout_rows", json!(0), "holdout_batches have 1 rows together, not 0"),
            (m, "/shuffle/batch_rows", json!(1), "batches have 1 to 2 rows; sizes must differ by at most one"),
            (m, "/shuffle/batch_rows", json!(3), "there are 2 batches; 3 rows make 1 of at most 3"),
            (m, "/shuffle/batch_rows", json!(0), "shuffle.batch_rows is 0"),
            (m, "/batches/0/key", json!("a/../b"), "the key `a/../b` is not a plain relative path"),
            (d, "/parts/1/key", json!("../b"), "the key `../b` is not a plain relative path"),
            (m, "/layout/users/key", json!("/b"), "the key `/b` is not a plain relative path"),
            (d, "/layout/items/rows", json!(2), "the map of items has 2 rows, not 3"),
            (d, "/layout/n_users", json!(0), "there are 0 users and 3 items"),
            (m, "/layout/kind", json!("pixels"), "unknown variant `pixels`"),
            (m, "/name", json!("a b"), "the name `a b` is not made of letters, digits, `-`, `_` and `.`"),
        ];
        for (name, pointer, value, problem) in table {
            let mut file = fixture(name);
            *file.pointer_mut(pointer).unwrap() = value;
            let error = load(name, &file).unwrap_err();
            assert!(error.to_string().contains(problem), "{name} {pointer}: {error}");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.fix().is_some());
        }
        let mut uneven = fixture(m);
        uneven["batches"][0]["rows"] = json!(3);
        uneven["rows"] = json!(4);
        uneven["shuffle"]["batch_rows"] = json!(3);
        let error = load(m, &uneven).unwrap_err().to_string();
        assert!(error.contains("batches have 1 to 3 rows; sizes must differ by at most one"), "{error}");
    }

    #[test]
    fn objects_are_checked_against_size_and_digest() {
        let place = Place::in_store(std::sync::Arc::new(object_store::memory::InMemory::new()), "p");
        place.put("k", &b"right"[..]).unwrap();
        let named = Object { key: "k".to_owned(), rows: 1, bytes: 5, digest: digest(b"right") };
        assert_eq!(object(&place, &named, "m.json").unwrap(), &b"right"[..]);
        place.put("k", &b"wrong"[..]).unwrap();
        let error = object(&place, &named, "m.json").unwrap_err();
        assert!(error.to_string().starts_with("p/k: its digest is xxh3-128:"), "{error}");
        place.put("k", &b"short"[..3]).unwrap();
        let error = object(&place, &named, "m.json").unwrap_err();
        assert_eq!(error.to_string(), "p/k: it has 3 bytes, `m.json` says 5");
        place.delete("k").unwrap();
        let error = object(&place, &named, "m.json").unwrap_err();
        assert_eq!(error.to_string(), "p/k: missing, though `m.json` names it");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
