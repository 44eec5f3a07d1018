//! Manifests with mini-batches of click rows, made without `prep` and `shard`: labels that follow the numbers and buckets, with
//! noise.

use std::path::Path;

use manifests::clicks::{self, ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER};
use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::place::Place;
use manifests::scales;
use random::Stream;
use schemas::clicks::{
    CategoricalColumn, Dense, Hash, HashFunction, Labels, N_CATEGORICAL, N_NUMERIC, NumericColumn, Sparse,
};
use schemas::dataset::{Holdout, Layout, Object, Source};
use schemas::manifest::{FORMAT, Manifest, Shuffle, VERSION};

/// Buckets of the sparse rows: in two blocks of parameters.
pub(crate) const N_BUCKETS: u32 = 20_000;
/// Buckets whose hits are worth less than 1.
pub(crate) const SCALES: [(u32, u32); 2] = [(3, 2), (19_990, 3)];
/// Training and held-out rows: 41 mini-batches, so that with 8 a step the last step of an epoch has a single one.
pub(crate) const ROWS: [u64; 2] = [4003, 430];
const BATCH_ROWS: u64 = 100;

/// Writes `criteo.json` and `shards/criteo/` into `folder`.
pub(crate) fn write(folder: &Path, sparse: bool) {
    let place = Place::parse(folder.join("shards/criteo").to_str().unwrap()).unwrap();
    let index = Place::parse(folder.to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &index, "criteo.json", &digest(if sparse { b"sparse" } else { b"dense" }));
    let form = Form { labelled: true, n_buckets: sparse.then_some(N_BUCKETS) };
    let [train, holdout] = [("train", ROWS[0]), ("holdout", ROWS[1])].map(|(name, n)| rows(name, n as usize, sparse));
    let positives = |rows: &ClickRows| rows.labels.iter().filter(|&&y| y == 1.0).count() as u64;
    let share = positives(&train) as f64 / ROWS[0] as f64;
    let base = |rows: &ClickRows| {
        let p = positives(rows) as f64 / rows.len as f64;
        -(p * share.ln() + (1.0 - p) * (1.0 - share).ln())
    };
    let labels = Some(Labels {
        train_positives: positives(&train),
        holdout_positives: positives(&holdout),
        train_base_log_loss: base(&train),
        holdout_base_log_loss: Some(base(&holdout)),
    });
    let numeric = (1..=N_NUMERIC).map(|i| NumericColumn {
        name: format!("I{i}"),
        present: ROWS[0],
        min: Some(0),
        max: Some(100),
        mean: 50.0,
        sd: 28.9,
    });
    let numeric = numeric.collect();
    let layout = if sparse {
        Layout::Sparse(Sparse {
            labels,
            numeric,
            categorical: (1..=N_CATEGORICAL)
                .map(|i| CategoricalColumn { name: format!("C{i}"), present: ROWS[0] })
                .collect(),
            hash: Hash { function: HashFunction::Xxh3, buckets: N_BUCKETS },
            n_features: N_NUMERIC as u32 + N_BUCKETS,
            scales: Some(staging.put("scales.parquet", scales::encode(&SCALES), SCALES.len() as u64).unwrap()),
            rows_with_collisions: 5,
            entries: 39 * ROWS[0],
            fitted_on: None,
        })
    } else {
        Layout::Dense(Dense { labels, numeric, fitted_on: None })
    };
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        tool: "test".to_owned(),
        name: "criteo".to_owned(),
        source: Source {
            name: "train.txt".to_owned(),
            format: "criteo-tsv".to_owned(),
            bytes: 0,
            digest: digest(b""),
            files: Vec::new(),
        },
        dataset_digest: digest(b"descriptor"),
        layout,
        holdout: Some(Holdout { fraction: 0.1, seed: 8 }),
        shuffle: Shuffle { seed: 8, batch_rows: BATCH_ROWS, sorted_by: vec![] },
        rows_per_object: None,
        base: "shards/criteo".to_owned(),
        rows: ROWS[0],
        holdout_rows: ROWS[1],
        batches: batches(&staging, "batch", form, &train).into(),
        holdout_batches: batches(&staging, "holdout", form, &holdout).into(),
    };
    staging.commit(serde_json::to_vec_pretty(&manifest).unwrap(), true).unwrap();
}

/// Rows whose labels are drawn with a probability that some columns say something about.
fn rows(name: &str, count: usize, sparse: bool) -> ClickRows {
    let mut stream = Stream::new(1, name);
    let mut rows = ClickRows::default();
    for _ in 0..count {
        let mut logit = -1.0;
        for (j, column) in rows.numbers.iter_mut().enumerate() {
            let x = stream.unit() as f32 * 2.0 - 1.0;
            let missing = sparse && stream.below(4) == 0;
            column.push(if missing { MISSING_NUMBER } else { x });
            logit += if missing || j > 4 { 0.0 } else { f64::from(x) * (j as f64 - 2.5) };
        }
        for (j, column) in rows.buckets.iter_mut().enumerate().filter(|_| sparse) {
            // Few tokens in the first columns, so that they have a dictionary; many in the last.
            let token = stream.below(3 + 40 * j as u64) as u32;
            let bucket = if token == 1 { MISSING_BUCKET } else { (token * 37 + j as u32 * 900) % N_BUCKETS };
            column.push(if j == 25 && token < 40 { 19_990 } else { bucket });
            logit += if bucket % 2 == 0 && j < 6 { 0.4 } else { 0.0 };
        }
        rows.labels.push(f32::from(u8::from(stream.unit() < 1.0 / (1.0 + (-logit).exp()))));
        rows.len += 1;
    }
    rows
}

/// Cuts `rows` as `shard` does: sizes that differ by at most one.
fn batches(staging: &Staging, prefix: &str, form: Form, rows: &ClickRows) -> Vec<Object> {
    let count = rows.len.div_ceil(BATCH_ROWS as usize);
    let cut = |b: usize| {
        let range = rows.len * b / count..rows.len * (b + 1) / count;
        let batch = ClickRows {
            len: range.len(),
            labels: rows.labels[range.clone()].to_vec(),
            numbers: rows.numbers.each_ref().map(|c| c[range.clone()].to_vec()),
            buckets: rows.buckets.each_ref().map(|c| c.get(range.clone()).unwrap_or_default().to_vec()),
        };
        staging.put(&format!("{prefix}-{b:06}.parquet"), clicks::encode(form, &batch), batch.len as u64).unwrap()
    };
    (0..count).map(cut).collect()
}

/// The rows of the object at `pointer` of `criteo.json` in `folder`.
pub(crate) fn stored_rows(folder: &Path, pointer: &str) -> ClickRows {
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(folder.join("criteo.json")).unwrap()).unwrap();
    let mut rows = ClickRows::default();
    let form = Form::of(&manifest.layout).unwrap();
    clicks::decode(form, std::fs::read(path(folder, pointer)).unwrap().into(), &mut rows).unwrap();
    rows
}

fn path(folder: &Path, pointer: &str) -> std::path::PathBuf {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("criteo.json")).unwrap()).unwrap();
    folder.join("shards/criteo").join(manifest.pointer(pointer).unwrap()["key"].as_str().unwrap())
}

/// Changes the rows of the object at `pointer`, with size and digest in the manifest to match. `n_buckets` is what the rows are
/// written for.
pub(crate) fn change_rows(folder: &Path, pointer: &str, n_buckets: Option<u32>, change: impl FnOnce(&mut ClickRows)) {
    let mut rows = stored_rows(folder, pointer);
    change(&mut rows);
    let bytes = clicks::encode(Form { labelled: true, n_buckets }, &rows);
    std::fs::write(path(folder, pointer), &bytes).unwrap();
    crate::shards::edit(&folder.join("criteo.json"), |manifest| {
        let object = manifest.pointer_mut(pointer).unwrap();
        object["bytes"] = bytes.len().into();
        object["digest"] = digest(&bytes).as_str().into();
    });
}
