//! Prepared datasets for tests and benchmarks, made without `prep`.

use std::path::Path;

use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::place::Place;
use manifests::ratings::{self, RatingRows};
use manifests::{id_map, load};
use random::Stream;
use schemas::dataset::{
    BaselineRmse, Baselines, DESCRIPTOR_KEY, Descriptor, FORMAT, Holdout, Layout, Object, Ratings, RowCounts, Source,
    VERSION,
};

/// What a dataset is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: &'static str,
    /// Number of users.
    pub(crate) users: u32,
    /// Number of items.
    pub(crate) items: u32,
    /// Training rows.
    pub(crate) rows: u64,
    /// Held-out rows.
    pub(crate) holdout: u64,
    /// Rows of a part, at most.
    pub(crate) part_rows: u64,
}

/// Mean that is taken off the ratings.
const MEAN: f64 = 3.5;

/// Writes the dataset to `folder`. Users ascend over the rows; few items have most of the ratings.
pub(crate) fn prepare(folder: &Path, spec: Spec) {
    let place = Place::parse(folder.to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &place, DESCRIPTOR_KEY, &digest(format!("{spec:?}").as_bytes()));
    let parts = parts(&staging, "part", spec, spec.rows);
    let holdout_parts = parts_of_holdout(&staging, spec);
    let map = |name: &str, count: u32| {
        let ids: Vec<u32> = (0..count).map(|i| 3 * i + 1).collect();
        staging.put(&format!("{name}.parquet"), id_map::encode(name, &ids), u64::from(count)).unwrap()
    };
    let rmse = BaselineRmse { mean: 1.0, effects: 0.9 };
    let layout = Ratings {
        n_users: spec.users,
        n_items: spec.items,
        mean: MEAN,
        rating_min: 0.5,
        rating_max: 5.0,
        user_rows_max: spec.rows,
        item_rows_max: spec.rows,
        repeated_pairs: 0,
        users: map("user", spec.users),
        items: map("item", spec.items),
        baselines: Baselines { item_shrinkage: 5.0, user_shrinkage: 10.0, train: rmse, holdout: None },
    };
    let descriptor = Descriptor {
        format: FORMAT.to_owned(),
        version: VERSION,
        tool: "test".to_owned(),
        name: spec.name.to_owned(),
        source: Source {
            name: "ratings.csv".to_owned(),
            format: "movielens-csv".to_owned(),
            bytes: 0,
            digest: digest(b""),
            files: Vec::new(),
        },
        layout: Layout::Ratings(layout),
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
    let text = serde_json::to_vec_pretty(&descriptor).unwrap();
    staging.commit(text, true).unwrap();
    load::dataset(&place).unwrap();
}

fn parts(staging: &Staging, prefix: &str, spec: Spec, count: u64) -> Vec<Object> {
    let stream = Stream::new(1, prefix);
    let mut parts = Vec::new();
    let mut rows = RatingRows::default();
    for row in 0..count {
        let mut draw = stream.at(row);
        let user = (u128::from(row) * u128::from(spec.users) / u128::from(count)) as u32;
        let item = (draw.unit().powi(3) * f64::from(spec.items)) as u32;
        rows.push(user, item, (0.5 * (draw.below(10) + 1) as f64 - MEAN) as f32);
        if rows.len() as u64 == spec.part_rows || row + 1 == count {
            let name = format!("{prefix}-{:05}.parquet", parts.len());
            parts.push(staging.put(&name, ratings::encode(&rows), rows.len() as u64).unwrap());
            rows = RatingRows::default();
        }
    }
    parts
}

/// Held-out rows have ratings that no training row has, so that a mix-up shows.
fn parts_of_holdout(staging: &Staging, spec: Spec) -> Vec<Object> {
    let mut rows = RatingRows::default();
    for row in 0..spec.holdout {
        rows.push((row % u64::from(spec.users)) as u32, (row % u64::from(spec.items)) as u32, 100.0 + row as f32);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    vec![staging.put("holdout-00000.parquet", ratings::encode(&rows), spec.holdout).unwrap()]
}
