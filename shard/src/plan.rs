//! Flags resolved into a checked plan: which dataset, which settings, which places. Only what says which dataset it is is read here.

use std::io::Stdin;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use manifests::load::{self, Dataset, Shards};
use manifests::place::Place;
use manifests::stream::{STANDARD_INPUT, StreamReader};
use reporting::standard_input_is_given;
use schemas::dataset::{DESCRIPTOR_KEY, Descriptor, Digest, Layout};
use schemas::manifest::Shuffle;

use crate::Error;
use crate::cli::{Cli, Verify};
use crate::memory;

/// Where `prep` puts datasets unless told otherwise.
const PREPARED: &str = "prepared";
/// Where mini-batches go unless told otherwise.
const SHARDS: &str = "shards";

/// Where the dataset comes from.
#[derive(Debug)]
pub enum Input {
    /// A folder.
    Stored(Place),
    /// Standard input.
    Piped(Box<Mutex<StreamReader<Stdin>>>),
}

/// Everything `run` needs to know.
#[derive(Debug)]
pub struct Plan {
    /// What the dataset to shuffle is.
    pub descriptor: Descriptor,
    /// The digest that says which dataset it is.
    pub dataset_digest: Digest,
    /// Where it comes from.
    pub input: Input,
    /// What it is called in messages.
    pub named_by: String,
    /// Where the mini-batches go.
    pub out: Place,
    /// The folder of the manifest.
    pub manifest_place: Place,
    /// The manifest's key there.
    pub manifest_key: String,
    /// The manifest as a path, for the report and for `train --manifest`.
    pub manifest: String,
    /// What the manifest says about where the mini-batches are.
    pub base: String,
    /// The order of the rows.
    pub shuffle: Shuffle,
    /// Rows that the mini-batches of an object have together, about; nothing when each is an object.
    pub rows_per_object: Option<u64>,
    /// Whether something else at the same place may be overwritten.
    pub replace: bool,
    /// Whether nothing is done, but said what would be.
    pub dry_run: bool,
    /// Threads to work with.
    pub threads: usize,
    /// Bytes of memory that the process may take.
    pub memory: u64,
    /// Folder for temporary data.
    pub temp_dir: PathBuf,
}

impl Plan {
    /// Resolves what was typed.
    ///
    /// # Errors
    /// When there is no batch size or no dataset to be found, it has no rows or too many, or a place cannot be used.
    pub fn resolve(cli: &Cli) -> Result<Self, Error> {
        let Some(batch_rows) = cli.batch else {
            return Err(Error::NoBatchSize { prepared: cli.prepared.clone() });
        };
        let (descriptor, dataset_digest, input, named_by) = match &cli.prepared {
            None if standard_input_is_given() => piped()?,
            Some(text) if text == "-" => piped()?,
            Some(text) => stored(load::named_dataset(text)?)?,
            None => stored(only_dataset()?)?,
        };
        if descriptor.rows.train == 0 {
            return Err(Error::NoRows { place: named_by });
        }
        let name = &descriptor.name;
        let out_text = cli.out.clone().unwrap_or_else(|| format!("{SHARDS}/{name}"));
        let out = Place::parse(&out_text)?;
        let manifest = match (&cli.manifest, &cli.out) {
            (Some(file), _) => file.clone(),
            (None, Some(_)) => out.show(&format!("{name}.json")),
            (None, None) => format!("{name}.json"),
        };
        let (manifest_place, manifest_key) = Place::parse_file(&manifest)?;
        Ok(Self {
            out,
            base: base(&manifest, &out_text),
            manifest_place,
            manifest_key,
            manifest,
            shuffle: Shuffle {
                seed: cli.seed,
                batch_rows: u64::from(batch_rows),
                sorted_by: match descriptor.layout {
                    Layout::Ratings(_) => vec!["user".to_owned(), "item".to_owned()],
                    Layout::Dense(_) | Layout::Sparse(_) => Vec::new(),
                },
            },
            rows_per_object: cli.rows_per_object,
            replace: cli.replace,
            dry_run: cli.dry_run,
            threads: threads(cli.threads),
            memory: cli.memory.map_or_else(memory::default_limit, |size| size.as_u64()),
            temp_dir: cli.temp_dir.clone().unwrap_or_else(std::env::temp_dir),
            descriptor,
            dataset_digest,
            input,
            named_by,
        })
    }
}

/// A dataset, its digest, where it comes from, and what it is called in messages.
type Found = (Descriptor, Digest, Input, String);

fn stored(place: Place) -> Result<Found, Error> {
    let Dataset { descriptor, digest, place } = load::dataset(&place)?;
    let named_by = place.show(DESCRIPTOR_KEY);
    Ok((descriptor, digest, Input::Stored(place), named_by))
}

fn piped() -> Result<Found, Error> {
    let stream = StreamReader::open(std::io::stdin())?;
    let (descriptor, digest) = (stream.descriptor().clone(), load::dataset_digest(stream.descriptor()));
    Ok((descriptor, digest, Input::Piped(Box::new(Mutex::new(stream))), STANDARD_INPUT.to_owned()))
}

/// Everything `verify` needs to know.
#[derive(Clone, Debug)]
pub struct VerifyPlan {
    /// What is to be checked.
    pub shards: Shards,
    /// Threads that check what was read.
    pub threads: usize,
}

impl VerifyPlan {
    /// Resolves what was typed.
    ///
    /// # Errors
    /// When the manifest, or an index that it names, cannot be read or breaks a rule.
    pub fn resolve(args: &Verify) -> Result<Self, Error> {
        Ok(Self { shards: load::shards(&args.named)?, threads: threads(args.threads) })
    }
}

fn threads(typed: Option<u16>) -> usize {
    typed.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

fn only_dataset() -> Result<Place, Error> {
    let mut found = load::datasets(&Place::parse(PREPARED)?)?;
    match found.len() {
        0 => Err(Error::NoDataset { looked_for: format!("{PREPARED}/*/{DESCRIPTOR_KEY}") }),
        1 => Ok(found.remove(0)),
        _ => Err(Error::SeveralDatasets { choices: found.iter().map(Place::to_string).collect() }),
    }
}

/// Where `out` is, seen from the folder of the file `manifest`, so that the two can be moved together. Absolute when they
/// have no folder, or no bucket, in common.
fn base(manifest: &str, out: &str) -> String {
    let bucket = |text: &str| Some(text.strip_prefix("s3://")?.split('/').next()?.to_owned());
    match (bucket(manifest), bucket(out)) {
        (None, None) => {}
        (of_manifest, Some(of_out)) if of_manifest.as_ref() != Some(&of_out) => return out.to_owned(),
        (Some(_), None) => return std::path::absolute(out).unwrap_or_else(|_| out.into()).display().to_string(),
        // As if the bucket were a folder below the root.
        _ => return base(&manifest["s3:/".len()..], &out["s3:/".len()..]),
    }
    let local = |text: &str| PathBuf::from(text.strip_prefix("file://").unwrap_or(text));
    let (manifest, out) = (local(manifest), local(out));
    let from = manifest.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let (from_names, out_names) = (names(from), names(&out));
    let shared = from_names.iter().zip(&out_names).take_while(|(a, b)| a == b).count();
    if shared == 0 && (manifest.is_absolute() || out.is_absolute()) {
        return format!("/{}", out_names.join("/"));
    }
    let up = std::iter::repeat_n("..", from_names.len() - shared);
    let path: Vec<&str> = up.chain(out_names[shared..].iter().map(String::as_str)).collect();
    if path.is_empty() { ".".to_owned() } else { path.join("/") }
}

/// Names of the folders from the root to `path`, without `.` and `..`.
fn names(path: &Path) -> Vec<String> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut names = Vec::new();
    for part in absolute.components() {
        match part {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_relative_wherever_manifest_and_batches_can_move_together() {
        let table = [
            ("ml20m.json", "shards/ml20m", "shards/ml20m"),
            ("./ml20m.json", "./shards//ml20m/", "shards/ml20m"),
            ("shards/ml20m/ml20m.json", "shards/ml20m", "."),
            ("manifests/a.json", "shards/a", "../shards/a"),
            ("a/../b.json", "c/../shards/a", "shards/a"),
            ("/data/a/a.json", "/data/a", "."),
            ("/data/a.json", "/data/shards/a", "shards/a"),
            ("/home/a.json", "/data/shards/a", "/data/shards/a"),
            ("file:///data/a.json", "/data/shards/a", "shards/a"),
            ("s3://data/a/a.json", "s3://data/a", "."),
            ("s3://data/a.json", "s3://data/shards/a/", "shards/a"),
            ("s3://data/manifests/a.json", "s3://data/shards/a", "../shards/a"),
            ("s3://data/a.json", "s3://other/shards/a", "s3://other/shards/a"),
            ("a.json", "s3://other/shards/a", "s3://other/shards/a"),
            ("s3://data/a.json", "/data/a", "/data/a"),
        ];
        for (manifest, out, expected) in table {
            assert_eq!(base(manifest, out), expected, "{manifest} {out}");
        }
    }
}
