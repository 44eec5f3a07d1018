//! Prepared click logs for tests and benchmarks, made without `prep`.

use std::path::Path;

use manifests::clicks::{self, ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER};
use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::place::Place;
use manifests::{load, scales};
use random::Stream;
use schemas::clicks::{CategoricalColumn, Dense, Hash, HashFunction, Labels, N_NUMERIC, NumericColumn, Sparse};
use schemas::dataset::{DESCRIPTOR_KEY, Descriptor, FORMAT, Holdout, Layout, Object, RowCounts, Source, VERSION};

/// What a dataset is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: &'static str,
    /// The form of its rows.
    pub(crate) form: Form,
    /// Training rows.
    pub(crate) rows: u64,
    /// Held-out rows.
    pub(crate) holdout: u64,
    /// Rows of a part, at most.
    pub(crate) part_rows: u64,
}

/// Tokens of each categorical column, roughly those of Criteo's.
const TOKENS: [f64; 26] = [
    1e3, 6e2, 1e7, 2e6, 3e2, 24.0, 1e4, 6e2, 3.0, 9e4, 6e3, 8e6, 3e3, 27.0, 1e4, 5e6, 10.0, 6e3, 2e3, 4.0, 7e6, 18.0,
    15.0, 3e5, 1e2, 1e5,
];

/// Writes the dataset to `folder`. `I1` tells the rows apart: it is the row's number, and held-out rows count from a million.
pub(crate) fn prepare(folder: &Path, spec: Spec) {
    let place = Place::parse(folder.to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &place, DESCRIPTOR_KEY, &digest(format!("{spec:?}").as_bytes()));
    let parts = parts(&staging, "part", spec, 0..spec.rows);
    let holdout_parts = self::parts(&staging, "holdout", spec, 1_000_000..1_000_000 + spec.holdout);
    let labels = spec.form.labelled.then_some(Labels {
        train_positives: spec.rows / 4,
        holdout_positives: 0,
        train_base_log_loss: 0.5,
        holdout_base_log_loss: None,
    });
    let numeric = (1..=N_NUMERIC)
        .map(|i| NumericColumn {
            name: format!("I{i}"),
            present: spec.rows,
            min: Some(0),
            max: Some(1),
            mean: 0.0,
            sd: 1.0,
        })
        .collect();
    let layout = match spec.form.n_buckets {
        None => Layout::Dense(Dense { labels, numeric, fitted_on: None }),
        Some(buckets) => Layout::Sparse(Sparse {
            labels,
            numeric,
            categorical: (1..=26).map(|i| CategoricalColumn { name: format!("C{i}"), present: spec.rows }).collect(),
            hash: Hash { function: HashFunction::Xxh3, buckets },
            n_features: buckets + 13,
            scales: Some(staging.put("scales.parquet", scales::encode(&[(3, 2)]), 1).unwrap()),
            rows_with_collisions: 1,
            entries: 1,
            fitted_on: None,
        }),
    };
    let descriptor = Descriptor {
        format: FORMAT.to_owned(),
        version: VERSION,
        tool: "test".to_owned(),
        name: spec.name.to_owned(),
        source: Source {
            name: "train.txt".to_owned(),
            format: "criteo".to_owned(),
            bytes: 0,
            digest: digest(b""),
            files: Vec::new(),
        },
        layout,
        filter: None,
        rows: RowCounts {
            read: spec.rows + spec.holdout,
            train: spec.rows,
            holdout: spec.holdout,
            rejected: 0,
            filtered: 0,
        },
        holdout: (spec.holdout > 0).then_some(Holdout { fraction: 0.1, seed: 8 }),
        parts,
        holdout_parts,
        rejects: None,
    };
    staging.commit(serde_json::to_vec_pretty(&descriptor).unwrap(), true).unwrap();
    load::dataset(&place).unwrap();
}

fn parts(staging: &Staging, prefix: &str, spec: Spec, range: std::ops::Range<u64>) -> Vec<Object> {
    let mut parts = Vec::new();
    let mut rows = ClickRows::default();
    for row in range.clone() {
        push(spec.form, row, &mut rows);
        if rows.len as u64 == spec.part_rows || row + 1 == range.end {
            let name = format!("{prefix}-{:05}.parquet", parts.len());
            parts.push(staging.put(&name, clicks::encode(spec.form, &rows), rows.len as u64).unwrap());
            rows.clear();
        }
    }
    parts
}

/// Appends row number `row`: heavy tails, few distinct values in most columns, missing ones where they may be.
fn push(form: Form, row: u64, rows: &mut ClickRows) {
    let mut draw = Stream::new(1, "clicks").at(row);
    rows.len += 1;
    if form.labelled {
        rows.labels.push(if draw.unit() < 0.256 { 1.0 } else { 0.0 });
    }
    for (i, column) in rows.numbers.iter_mut().enumerate() {
        let missing = form.is_sparse() && i > 0 && draw.unit() < i as f64 / 20.0;
        let number = if i == 0 { row as f32 } else { (draw.unit().powi(6) * 3e3).floor() as f32 / 3e3 };
        column.push(if missing { MISSING_NUMBER } else { number });
    }
    if let Some(n_buckets) = form.n_buckets {
        for (i, column) in rows.buckets.iter_mut().enumerate() {
            let token = TOKENS[i].powf(draw.unit()) as u64;
            let missing = i % 3 == 2 && draw.unit() < 0.1;
            let bucket = random::mix(26 * token + i as u64) % u64::from(n_buckets);
            column.push(if missing { MISSING_BUCKET } else { bucket as u32 });
        }
    }
}
