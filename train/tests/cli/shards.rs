//! Manifests with mini-batches, made without `prep` and `shard`: ratings of low rank with noise.

use std::path::{Path, PathBuf};

use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::id_map;
use manifests::place::Place;
use manifests::ratings::{self, RatingRows};
use random::Stream;
use schemas::dataset::{BaselineRmse, Baselines, Holdout, Layout, Object, Ratings, Source};
use schemas::manifest::{FORMAT, Manifest, Shuffle, VERSION};

/// What the data are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Name of the dataset and of the manifest's file.
    pub(crate) name: &'static str,
    /// Number of users.
    pub(crate) users: u32,
    /// Number of items.
    pub(crate) items: u32,
    /// Training rows.
    pub(crate) rows: u64,
    /// Held-out rows.
    pub(crate) holdout: u64,
    /// Rows of a mini-batch, at most.
    pub(crate) batch_rows: u64,
}

/// 41 mini-batches: with 8 a step, the last step of an epoch has a single one.
pub(crate) const SMALL: Spec = Spec { name: "ml20m", users: 150, items: 80, rows: 4003, holdout: 430, batch_rows: 100 };

/// The same without held-out rows.
pub(crate) const NO_HOLDOUT: Spec = Spec { holdout: 0, ..SMALL };

/// Mean that was taken off the ratings.
pub(crate) const MEAN: f64 = 3.5;

const RANK: usize = 2;
const NOISE: f64 = 0.3;

/// Original id of user or item number `i`.
pub(crate) const fn original(i: u32) -> u32 {
    3 * i + 1
}

/// Writes `<name>.json` and `shards/<name>/` into `folder`.
pub(crate) fn write(folder: &Path, spec: Spec) {
    let place = Place::parse(folder.join("shards").join(spec.name).to_str().unwrap()).unwrap();
    let index = Place::parse(folder.to_str().unwrap()).unwrap();
    let key = format!("{}.json", spec.name);
    let staging = Staging::new(&place, &index, &key, &digest(format!("{spec:?}").as_bytes()));
    let (train, holdout) = (rows(spec, "train", spec.rows), rows(spec, "holdout", spec.holdout));
    let squares = |rows: &RatingRows| rows.ratings.iter().map(|&r| f64::from(r).powi(2)).sum::<f64>();
    let baseline = |rows: &RatingRows| {
        let mean = (squares(rows) / rows.len() as f64).sqrt();
        BaselineRmse { mean, effects: 0.95 * mean }
    };
    let map = |name: &str, count: u32| {
        let ids: Vec<u32> = (0..count).map(original).collect();
        staging.put(&format!("{name}.parquet"), id_map::encode(name, &ids), count.into()).unwrap()
    };
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
        baselines: Baselines {
            item_shrinkage: 5.0,
            user_shrinkage: 10.0,
            train: baseline(&train),
            holdout: (spec.holdout > 0).then(|| baseline(&holdout)),
        },
    };
    let manifest = Manifest {
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
        dataset_digest: digest(b"descriptor"),
        layout: Layout::Ratings(layout),
        holdout: (spec.holdout > 0).then_some(Holdout { fraction: 0.1, seed: 8 }),
        shuffle: Shuffle {
            seed: 8,
            batch_rows: spec.batch_rows,
            sorted_by: vec!["user".to_owned(), "item".to_owned()],
        },
        rows_per_object: None,
        base: format!("shards/{}", spec.name),
        rows: spec.rows,
        holdout_rows: spec.holdout,
        batches: batches(&staging, "batch", spec, &train).into(),
        holdout_batches: batches(&staging, "holdout", spec, &holdout).into(),
    };
    let text = serde_json::to_vec_pretty(&manifest).unwrap();
    staging.commit(text, true).unwrap();
}

/// Ratings of random pairs: the product of two vectors of `RANK` normal numbers, and noise.
fn rows(spec: Spec, name: &str, count: u64) -> RatingRows {
    let vector = |side: &str, i: u32| -> [f64; RANK] {
        let mut draw = Stream::new(1, side).at(i.into());
        std::array::from_fn(|_| draw.normal_pair().0)
    };
    let stream = Stream::new(1, name);
    let mut rows = RatingRows::default();
    for i in 0..count {
        let mut draw = stream.at(i);
        let (user, item) = (draw.below(spec.users.into()) as u32, draw.below(spec.items.into()) as u32);
        let products = vector("user", user).into_iter().zip(vector("item", item)).map(|(u, v)| u * v);
        let rating = products.sum::<f64>() / (RANK as f64).sqrt() + NOISE * draw.normal_pair().0;
        rows.push(user, item, rating as f32);
    }
    rows
}

/// Cuts `rows` as `shard` does: sizes that differ by at most one, rows sorted inside a batch.
fn batches(staging: &Staging, prefix: &str, spec: Spec, rows: &RatingRows) -> Vec<Object> {
    let count = rows.len().div_ceil(spec.batch_rows as usize);
    let cut = |b: usize| {
        let mut cells: Vec<(u32, u32, f32)> = (rows.len() * b / count..rows.len() * (b + 1) / count)
            .map(|i| (rows.users[i], rows.items[i], rows.ratings[i]))
            .collect();
        cells.sort_by_key(|&(user, item, _)| (user, item));
        let mut batch = RatingRows::default();
        cells.iter().for_each(|&(user, item, rating)| batch.push(user, item, rating));
        staging.put(&format!("{prefix}-{b:06}.parquet"), ratings::encode(&batch), batch.len() as u64).unwrap()
    };
    (0..count).map(cut).collect()
}

/// Changes the JSON file at `path`.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// The file that the manifest of `SMALL` in `folder` names at `pointer`, for example `/batches/3`.
pub(crate) fn stored(folder: &Path, pointer: &str) -> PathBuf {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("ml20m.json")).unwrap()).unwrap();
    let key = manifest.pointer(pointer).unwrap()["key"].as_str().unwrap();
    folder.join("shards/ml20m").join(key)
}

/// Changes the rows of the object at `pointer`, with size and digest in the manifest to match.
pub(crate) fn change_rows(folder: &Path, pointer: &str, change: impl FnOnce(&mut RatingRows)) {
    let path = stored(folder, pointer);
    let mut rows = RatingRows::default();
    ratings::decode(std::fs::read(&path).unwrap().into(), &mut rows).unwrap();
    change(&mut rows);
    let bytes = ratings::encode(&rows);
    edit(&folder.join("ml20m.json"), |manifest| {
        let object = manifest.pointer_mut(pointer).unwrap();
        object["bytes"] = bytes.len().into();
        object["digest"] = digest(&bytes).as_str().into();
    });
    std::fs::write(path, bytes).unwrap();
}
