//! Click logs as text, as a dataset and as mini-batches, made without `prep` and `shard`. Numbers are scaled here by the formulas of
//! the layouts, not by the code under test.

use std::collections::BTreeMap;
use std::path::Path;

use manifests::clicks::{self, ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER};
use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::place::Place;
use manifests::scales;
use random::Stream;
use raw::clicks::hash::Hasher;
use schemas::clicks::{CategoricalColumn, Dense, Hash, HashFunction, Labels, NumericColumn, Sparse};
use schemas::dataset::{DESCRIPTOR_KEY, Descriptor, Layout, Object, RowCounts, Source};
use schemas::manifest::{Manifest, Shuffle};
use schemas::{dataset, manifest};

/// Few, so that some rows hit one more than once.
pub(crate) const N_BUCKETS: u32 = 300;
/// Rows of a mini-batch, at most.
const BATCH_ROWS: usize = 250;
/// Rows of a part, at most.
const PART_ROWS: usize = 700;
/// What of the world is for training, and what is held out.
const ROWS: (usize, usize) = (2000, 310);

/// One row of the raw log.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) label: u8,
    pub(crate) numbers: [Option<i64>; 13],
    pub(crate) tokens: [String; 26],
}

impl Row {
    /// The row as a line.
    pub(crate) fn line(&self, labelled: bool) -> String {
        let label = labelled.then(|| self.label.to_string());
        let numbers = self.numbers.iter().map(|x| x.map_or(String::new(), |x| x.to_string()));
        let fields: Vec<String> = label.into_iter().chain(numbers).chain(self.tokens.iter().cloned()).collect();
        fields.join("\t") + "\n"
    }
}

/// `count` rows of the world `name`; clicks depend on `I2` and `C3`.
pub(crate) fn rows(name: &str, count: usize) -> Vec<Row> {
    let stream = Stream::new(3, name);
    let row = |i: usize| {
        let mut draw = stream.at(i as u64);
        let mut number = |j: usize| {
            let missing = j > 0 && draw.below(5) == 0;
            let x = draw.below(40 + j as u64) as i64 - 3;
            (!missing).then_some(x)
        };
        let numbers: [Option<i64>; 13] = std::array::from_fn(&mut number);
        let tokens: [String; 26] = std::array::from_fn(|j| {
            let token = draw.below(3 + 4 * j as u64);
            if draw.below(8) == 0 { String::new() } else { format!("{:08x}", token * 2_654_435_761 % (1 << 32)) }
        });
        let z = 0.15 * numbers[1].unwrap_or(0) as f64 - 3.0
            + if tokens[2].len() == 8 && *tokens[2] < *"8" { 1.5 } else { 0.0 };
        Row { label: u8::from(draw.unit() < 1.0 / (1.0 + (-z).exp())), numbers, tokens }
    };
    (0..count).map(row).collect()
}

/// The rows as a file.
pub(crate) fn text(rows: &[Row], labelled: bool) -> String {
    rows.iter().map(|row| row.line(labelled)).collect()
}

/// Training and held-out rows of the world.
pub(crate) fn world() -> (Vec<Row>, Vec<Row>) {
    let mut train = rows("world", ROWS.0 + ROWS.1);
    let holdout = train.split_off(ROWS.0);
    (train, holdout)
}

/// The bucket of every token, in the order of the columns.
pub(crate) fn buckets(row: &Row) -> Vec<Option<u32>> {
    let hasher = Hasher::new(N_BUCKETS);
    let bucket = |(j, token): (usize, &String)| (!token.is_empty()).then(|| hasher.bucket(j, token.as_bytes()));
    row.tokens.iter().enumerate().map(bucket).collect()
}

/// For each bucket that a training row hits more than once the most hits.
pub(crate) fn most_hits() -> BTreeMap<u32, u32> {
    let mut most = BTreeMap::new();
    for row in world().0 {
        let mut hits: BTreeMap<u32, u32> = BTreeMap::new();
        buckets(&row).into_iter().flatten().for_each(|bucket| *hits.entry(bucket).or_default() += 1);
        for (bucket, hits) in hits.into_iter().filter(|(_, hits)| *hits > 1) {
            let entry = most.entry(bucket).or_insert(hits);
            *entry = hits.max(*entry);
        }
    }
    most
}

/// Statistics of column `j`, which need not be the true ones.
pub(crate) fn column(j: usize) -> NumericColumn {
    let (mean, sd) = (15.25 + j as f64 / 3.0, if j == 4 { 0.0 } else { 11.5 + j as f64 / 7.0 });
    NumericColumn { name: format!("I{}", j + 1), present: 1, min: Some(-3), max: Some(36 + j as i64), mean, sd }
}

/// A number of column `j` as it is in prepared rows.
pub(crate) fn scaled(sparse: bool, j: usize, x: Option<i64>) -> Option<f32> {
    let NumericColumn { min, max, mean, sd, .. } = column(j);
    let (min, max) = (min.unwrap() as f64, max.unwrap() as f64);
    match (sparse, x) {
        (true, x) => x.map(|x| ((x as f64 - min) / (max - min)) as f32),
        (false, _) if sd == 0.0 => Some(0.0),
        (false, x) => Some(((x.unwrap_or(0) as f64 - mean) / sd) as f32),
    }
}

fn prepared(sparse: bool, rows: &[Row]) -> ClickRows {
    let mut out = ClickRows { len: rows.len(), ..ClickRows::default() };
    for row in rows {
        out.labels.push(f32::from(row.label));
        for (j, &x) in row.numbers.iter().enumerate() {
            out.numbers[j].push(scaled(sparse, j, x).unwrap_or(MISSING_NUMBER));
        }
        if sparse {
            let buckets = buckets(row).into_iter().zip(&mut out.buckets);
            buckets.for_each(|(bucket, column)| column.push(bucket.unwrap_or(MISSING_BUCKET)));
        }
    }
    out
}

fn layout(sparse: bool, staging: &Staging) -> Layout {
    let labels = Some(Labels {
        train_positives: 700,
        holdout_positives: 100,
        train_base_log_loss: 0.68,
        holdout_base_log_loss: Some(0.67),
    });
    let numeric = (0..13).map(column).collect();
    if !sparse {
        return Layout::Dense(Dense { labels, numeric, fitted_on: None });
    }
    let most: Vec<(u32, u32)> = most_hits().into_iter().collect();
    assert!(most.len() > 10, "some buckets have scales");
    Layout::Sparse(Sparse {
        labels,
        numeric,
        categorical: (1..=26).map(|i| CategoricalColumn { name: format!("C{i}"), present: 1 }).collect(),
        hash: Hash { function: HashFunction::Xxh3, buckets: N_BUCKETS },
        n_features: N_BUCKETS + 13,
        scales: Some(staging.put("scales.parquet", scales::encode(&most), most.len() as u64).unwrap()),
        rows_with_collisions: 1,
        entries: 1,
        fitted_on: None,
    })
}

fn source() -> Source {
    let (name, format) = ("train.txt".to_owned(), "criteo-tsv".to_owned());
    Source { name, format, bytes: 0, digest: digest(b""), files: Vec::new() }
}

const fn kind(sparse: bool) -> &'static str {
    if sparse { "sparse" } else { "dense" }
}

fn form(sparse: bool) -> Form {
    Form { labelled: true, n_buckets: sparse.then_some(N_BUCKETS) }
}

fn objects(staging: &Staging, prefix: &str, sparse: bool, rows: &[Row], size: usize) -> Vec<Object> {
    let n = rows.len().div_ceil(size);
    let cut = |i: usize| {
        let rows = prepared(sparse, &rows[rows.len() * i / n..rows.len() * (i + 1) / n]);
        staging.put(&format!("{prefix}-{i:03}.parquet"), clicks::encode(form(sparse), &rows), rows.len as u64).unwrap()
    };
    (0..n).map(cut).collect()
}

/// Writes the mini-batches of the world and `<name>.json`, with held-out ones or without.
pub(crate) fn write_manifest(folder: &Path, name: &str, sparse: bool, held_out: bool) {
    let place = Place::parse(folder.join("shards").join(name).to_str().unwrap()).unwrap();
    let index = Place::parse(folder.to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &index, &format!("{name}.json"), &digest(kind(sparse).as_bytes()));
    let (train, mut holdout) = world();
    if !held_out {
        holdout.clear();
    }
    let manifest = Manifest {
        format: manifest::FORMAT.to_owned(),
        version: manifest::VERSION,
        tool: "test".to_owned(),
        name: name.to_owned(),
        source: source(),
        dataset_digest: digest(b"descriptor"),
        layout: layout(sparse, &staging),
        holdout: None,
        shuffle: Shuffle { seed: 8, batch_rows: BATCH_ROWS as u64, sorted_by: Vec::new() },
        rows_per_object: None,
        base: format!("shards/{name}"),
        rows: train.len() as u64,
        holdout_rows: holdout.len() as u64,
        batches: objects(&staging, "batch", sparse, &train, BATCH_ROWS).into(),
        holdout_batches: objects(&staging, "holdout", sparse, &holdout, BATCH_ROWS).into(),
    };
    staging.commit(serde_json::to_vec_pretty(&manifest).unwrap(), true).unwrap();
}

/// Writes the world as the dataset `folder/name`, whose descriptor `change` may change.
pub(crate) fn write_dataset(folder: &Path, name: &str, sparse: bool, change: impl FnOnce(&mut Descriptor)) {
    let (train, holdout) = world();
    let place = Place::parse(folder.join(name).to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &place, DESCRIPTOR_KEY, &digest(name.as_bytes()));
    let (n_train, n_holdout) = (train.len() as u64, holdout.len() as u64);
    let mut descriptor = Descriptor {
        format: dataset::FORMAT.to_owned(),
        version: dataset::VERSION,
        tool: "test".to_owned(),
        name: "clicks".to_owned(),
        source: source(),
        layout: layout(sparse, &staging),
        filter: None,
        rows: RowCounts { read: n_train + n_holdout, train: n_train, holdout: n_holdout, rejected: 0, filtered: 0 },
        holdout: None,
        parts: objects(&staging, "train", sparse, &train, PART_ROWS),
        holdout_parts: objects(&staging, "holdout", sparse, &holdout, PART_ROWS),
        rejects: None,
    };
    change(&mut descriptor);
    staging.commit(serde_json::to_vec_pretty(&descriptor).unwrap(), true).unwrap();
}

/// Replaces the rows of part `number` of the dataset at `folder` by `change`d ones, with size and digest to match.
pub(crate) fn change_part(folder: &Path, number: usize, sparse: bool, change: impl FnOnce(&mut ClickRows)) {
    let path = folder.join("dataset.json");
    let mut descriptor: Descriptor = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let object = &mut descriptor.parts[number];
    let mut rows = ClickRows::default();
    clicks::decode(form(sparse), std::fs::read(folder.join(&object.key)).unwrap().into(), &mut rows).unwrap();
    change(&mut rows);
    let bytes = clicks::encode(form(sparse), &rows);
    (object.bytes, object.digest) = (bytes.len() as u64, digest(&bytes));
    std::fs::write(folder.join(&object.key), bytes).unwrap();
    std::fs::write(path, serde_json::to_vec(&descriptor).unwrap()).unwrap();
}
