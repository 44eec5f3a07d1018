//! Files of every version load, and what breaks a rule is refused with the rule.

#![cfg(test)]

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
    assert_eq!((found.manifest.rows, found.batches.len(), found.manifest.shuffle.seed), (3, 2, 8));
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
        let found = shards(&format!("{folder}/manifest.json")).unwrap();
        let layout = &found.manifest.layout;
        assert_eq!(
            (layout.kind(), found.batches.len(), layout.tables().len()),
            (kind, 4, usize::from(kind == "sparse"))
        );
        for name in ["dataset", "manifest"] {
            let text = schemas::json_schemas().into_iter().find(|s| s.0 == format!("{name}.schema.json")).unwrap().1;
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
        (m, "/version", json!(3), "version 3 of gristmill.manifest is unknown; this build reads versions up to 2"),
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

/// A manifest of the folder `v2`, which names an index or not.
fn fixture_v2(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v2").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn packed_and_indexed_manifests_of_version_2_load() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/v2");
    let packed = shards(&format!("{folder}/packed.json")).unwrap();
    assert_eq!((packed.batches.len(), packed.batches.n_objects(), packed.manifest.rows_per_object), (2, 1, Some(3)));
    assert_eq!((packed.batches.get(1).offset, packed.batches.get(1).bytes), (Some(300), 290));
    assert_eq!(packed.objects().count(), 5, "two id maps, three mini-batches");
    let indexed = shards(&format!("{folder}/indexed.json")).unwrap();
    assert_eq!((indexed.batches.len(), indexed.batches.n_objects()), (2, 2));
    assert_eq!(indexed.batches.key(1), "gen-000000000002/batch-000001.parquet");
    assert_eq!(indexed.objects().count(), 6, "and the index");
    for name in ["packed", "indexed"] {
        let text = schemas::json_schemas().into_iter().find(|s| s.0 == "manifest.schema.json").unwrap().1;
        let schema = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
        let file = fixture_v2(&format!("{name}.json"));
        let problems: Vec<String> = schema.iter_errors(&file).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{name}: {problems:?}");
    }
}

/// Written by `index::encode` of the mini-batches of the manifest of version 1; `GRISTMILL_UPDATE_FIXTURES=1` writes it and the
/// manifest that names it anew.
#[test]
fn the_index_of_the_fixture_is_what_is_written_today() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let bytes = index::encode(&shards(&format!("{folder}/v1/manifest.json")).unwrap().batches);
    let path = format!("{folder}/v2/shards/tiny/gen-000000000002/index-batches.parquet");
    if std::env::var_os("GRISTMILL_UPDATE_FIXTURES").is_some() {
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let text = std::fs::read_to_string(format!("{folder}/v2/indexed.json")).unwrap();
        let old = fixture_v2("indexed.json")["batches"].clone();
        let text = text.replace(&format!("\"bytes\": {},", old["bytes"]), &format!("\"bytes\": {},", bytes.len()));
        let text = text.replace(old["digest"].as_str().unwrap(), digest(&bytes).as_str());
        std::fs::write(format!("{folder}/v2/indexed.json"), text).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == bytes);
}

#[test]
fn listings_that_break_a_rule_are_refused_with_the_rule() {
    let table = [
        ("packed", "/batches/1/offset", json!(299), "a mini-batch ends at byte 300 and the next begins at 299"),
        ("packed", "/batches/0/offset", json!(1), "begins at byte 1"),
        ("packed", "/batches/1/offset", json!(u64::MAX), "has a mini-batch of 290 bytes at 18446744073709551615"),
        ("packed", "/batches/1/offset", json!(-1), "not a valid gristmill.manifest file"),
        ("packed", "/batches/0/digest", json!("sha256:1"), "`sha256:1` is not `xxh3-128:` and 32 hexadecimal digits"),
        ("packed", "/batches", json!("all"), "expected a list of mini-batches or the object that is their index"),
        ("indexed", "/batches", json!({"rows": 1}), "missing field `key`"),
        ("indexed", "/batches/key", json!("../x"), "the key `../x` is not a plain relative path"),
        ("indexed", "/rows", json!(4), "batches have 3 rows together, not 4"),
        ("indexed", "/shuffle/batch_rows", json!(1), "sizes must differ by at most one"),
        ("indexed", "/batches/rows", json!(3), "index-batches.parquet: it lists 2 mini-batches, `"),
        ("indexed", "/holdout_batches/0/key", json!("gen-000000000002/batch-000001.parquet"), "is named twice"),
        ("indexed", "/version", json!(3), "version 3 of gristmill.manifest is unknown"),
    ];
    for (name, pointer, value, problem) in table {
        let folder = tempfile::tempdir().unwrap();
        let index = "shards/tiny/gen-000000000002/index-batches.parquet";
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v2").join(index);
        std::fs::create_dir_all(folder.path().join(index).parent().unwrap()).unwrap();
        std::fs::copy(from, folder.path().join(index)).unwrap();
        let mut file = fixture_v2(&format!("{name}.json"));
        *file.pointer_mut(pointer).unwrap() = value;
        let path = folder.path().join("m.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let error = shards(path.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains(problem), "{name} {pointer}: {error}");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    let mut file = fixture_v2("indexed.json");
    file["batches"]["digest"] = json!("xxh3-128:00000000000000000000000000000001");
    file["base"] = json!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/v2/shards/tiny"));
    let error = load("m.json", &file).unwrap_err();
    assert!(error.to_string().contains("index-batches.parquet: its digest is"), "{error}");
    file["base"] = json!("none");
    let error = load("m.json", &file).unwrap_err();
    assert!(error.to_string().contains("index-batches.parquet: missing, though"), "{error}");
}

#[test]
fn the_identity_of_a_dataset_is_not_that_of_its_parts() {
    let mut descriptor = fixture("dataset.json");
    let digest = |descriptor: &Value| {
        let descriptor: Descriptor = serde_json::from_value(descriptor.clone()).unwrap();
        dataset_digest(&descriptor)
    };
    let before = digest(&descriptor);
    descriptor["parts"] = json!([]);
    descriptor["holdout_parts"] = json!([]);
    assert_eq!(digest(&descriptor), before);
    descriptor["rows"]["train"] = json!(9);
    assert_ne!(digest(&descriptor), before);
}
