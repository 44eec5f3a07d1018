//! Descriptors and manifests, read and checked. What passes here keeps its promises; what does not is told with its rule.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use schemas::dataset::{self, Descriptor, Digest, Layout, Object};
use schemas::manifest::{self, Manifest};

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

/// The bytes of `object`, checked against the size and digest that `named_by` records.
///
/// # Errors
/// [`Error::Missing`], [`Error::Corrupt`], or another failure to read.
pub fn object(place: &Place, object: &Object, named_by: &str) -> Result<bytes::Bytes, Error> {
    let bytes = place.get(&object.key).map_err(|e| e.named_by(named_by))?;
    let corrupt = |problem| Error::Corrupt { place: place.show(&object.key), problem };
    if bytes.len() as u64 != object.bytes {
        return Err(corrupt(format!("it has {} bytes, `{named_by}` says {}", bytes.len(), object.bytes)));
    }
    let found = digest(&bytes);
    if found != object.digest {
        return Err(corrupt(format!("its digest is {found}, `{named_by}` says {}", object.digest)));
    }
    Ok(bytes)
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
    if d.rows.read != d.rows.train + d.rows.holdout + d.rows.rejected {
        return Err(format!("rows.read is {}, not train + holdout + rejected", d.rows.read));
    }
    check_name(&d.name)?;
    check_layout(&d.layout)
}

fn check_manifest(m: &Manifest) -> Result<(), String> {
    check_objects("batches", &m.batches, m.rows)?;
    check_objects("holdout_batches", &m.holdout_batches, m.holdout_rows)?;
    for (name, batches) in [("batches", &m.batches), ("holdout_batches", &m.holdout_batches)] {
        let sizes = batches.iter().map(|b| b.rows);
        let (least, most) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
        if most > m.shuffle.batch_rows || most - least > 1 || (least == 0 && most > 0) {
            return Err(format!(
                "{name} have {least} to {most} rows; sizes must differ by at most one and not pass shuffle.batch_rows, {}",
                m.shuffle.batch_rows
            ));
        }
    }
    check_name(&m.name)?;
    check_layout(&m.layout)
}

fn check_objects(name: &str, objects: &[Object], rows: u64) -> Result<(), String> {
    let sum: u64 = objects.iter().map(|o| o.rows).sum();
    if sum != rows {
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
        Layout::Ratings(r) => {
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
    }
}
