//! A dataset of ratings, with the rows of the manifest that `shards` writes.

use std::path::Path;

use manifests::batches::Batches;
use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::load;
use manifests::place::Place;
use manifests::ratings::{self, RatingRows};
use schemas::dataset::{DESCRIPTOR_KEY, Descriptor, FORMAT, RowCounts, VERSION};

/// Rows of a part, at most.
const PART_ROWS: usize = 900;

/// Writes the rows of `ml20m.json` as the dataset `name`, whose descriptor `change` may change.
pub(crate) fn write_ratings(folder: &Path, name: &str, change: impl FnOnce(&mut Descriptor)) {
    let shards = load::shards(folder.join("ml20m.json").to_str().unwrap()).unwrap();
    let manifest = &shards.manifest;
    let place = Place::parse(folder.join(name).to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &place, DESCRIPTOR_KEY, &digest(b"ratings"));
    let parts = |prefix: &str, batches: &Batches| {
        let (mut all, mut batch) = (Vec::new(), RatingRows::default());
        for object in batches.iter() {
            ratings::decode(load::batch(&shards.place, &object, "test").unwrap(), &mut batch).unwrap();
            all.extend((0..batch.len()).map(|row| (batch.users[row], batch.items[row], batch.ratings[row])));
        }
        let part = |(i, cells): (usize, &[(u32, u32, f32)])| {
            let mut rows = RatingRows::default();
            cells.iter().for_each(|&(user, item, rating)| rows.push(user, item, rating));
            staging.put(&format!("{prefix}-{i:03}.parquet"), ratings::encode(&rows), rows.len() as u64).unwrap()
        };
        all.chunks(PART_ROWS).enumerate().map(part).collect::<Vec<_>>()
    };
    let tables = manifest.layout.tables().into_iter().map(|(name, table)| {
        let bytes = load::object(&shards.place, table, "test").unwrap();
        staging.put(name, bytes, table.rows).unwrap()
    });
    let mut descriptor = Descriptor {
        format: FORMAT.to_owned(),
        version: VERSION,
        tool: "test".to_owned(),
        name: "ml20m".to_owned(),
        source: manifest.source.clone(),
        layout: manifest.layout.clone().with_tables(tables.collect()),
        filter: None,
        rows: RowCounts {
            read: manifest.rows + manifest.holdout_rows,
            train: manifest.rows,
            holdout: manifest.holdout_rows,
            rejected: 0,
            filtered: 0,
        },
        holdout: manifest.holdout,
        parts: parts("train", &shards.batches),
        holdout_parts: parts("holdout", &shards.holdout_batches),
        rejects: None,
    };
    change(&mut descriptor);
    staging.commit(serde_json::to_vec_pretty(&descriptor).unwrap(), true).unwrap();
}
