//! The program as it is typed: standard output, standard error, exit code and files.

#![expect(clippy::unwrap_used, reason = "in a test a failure to set up is a failure of the test")]

#[path = "support/clicks.rs"]
mod click_support;
mod clicks;
mod piped;
mod support;
mod verifying;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use manifests::batches::Batches;
use manifests::load::{self, Shards};
use manifests::place::Place;
use manifests::ratings::{self, RatingRows};
use schemas::manifest::Batch;
use schemas::report::ShardReport;
use serde_json::{Value, json};
use support::{Spec, prepare};
use tempfile::TempDir;

const SMALL: Spec = Spec { name: "ml", users: 40, items: 30, rows: 1003, holdout: 57, part_rows: 400 };

/// A working directory with the dataset `spec` in its conventional place.
fn folder_with(spec: Spec) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    prepare(&folder.path().join("prepared").join(spec.name), spec);
    folder
}

fn shard(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shard")).args(arguments).current_dir(folder).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> ShardReport {
    let output = shard(folder, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    validate("shard-report.schema.json", &serde_json::from_str(text.lines().last().unwrap()).unwrap());
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn refused(folder: &Path, arguments: &[&str], code: i32, messages: &[&str]) {
    let output = shard(folder, arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for message in messages {
        assert!(text.contains(message), "{arguments:?}: `{message}` is not in: {text}");
    }
    assert!(output.stdout.is_empty(), "no report of what was not done");
}

fn validate(schema: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/json").join(schema);
    let schema = jsonschema::validator_for(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).unwrap();
    let problems: Vec<String> = schema.iter_errors(value).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Every file below `folder` with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn shards(folder: &Path, manifest: &str) -> Shards {
    load::shards(folder.join(manifest).to_str().unwrap()).unwrap()
}

/// The rows of each object.
fn rows(place: &Place, objects: &[Batch]) -> Vec<Vec<(u32, u32, u32)>> {
    let read = |object: &Batch| {
        let mut rows = RatingRows::default();
        ratings::decode(load::batch(place, object, "test").unwrap(), &mut rows).unwrap();
        assert_eq!(rows.len() as u64, object.rows);
        let ids = rows.users.iter().zip(&rows.items);
        ids.zip(&rows.ratings).map(|((&user, &item), rating)| (user, item, rating.to_bits())).collect()
    };
    objects.iter().map(read).collect()
}

fn all(batches: &Batches) -> Vec<Batch> {
    batches.iter().collect()
}

fn sorted(rows: Vec<Vec<(u32, u32, u32)>>) -> Vec<(u32, u32, u32)> {
    let mut rows = rows.concat();
    rows.sort_unstable();
    rows
}

#[test]
fn the_batches_are_the_rows_of_the_dataset() {
    let batch = 1000;
    for (n, holdout) in [(1, 0), (batch - 1, 1), (batch, batch), (batch + 1, batch + 1), (1_000_003, 100_001)] {
        let folder = folder_with(Spec { users: 300, items: 200, rows: n, holdout, part_rows: 300_000, ..SMALL });
        let report = done(folder.path(), &["--batch", "1000"]);
        let made = shards(folder.path(), "ml.json");
        let prepared =
            load::dataset(&Place::parse(folder.path().join("prepared/ml").to_str().unwrap()).unwrap()).unwrap();
        for (batches, parts, n, counted) in [
            (made.batches.iter().collect::<Vec<_>>(), &prepared.descriptor.parts, n, report.batches),
            (
                made.holdout_batches.iter().collect(),
                &prepared.descriptor.holdout_parts,
                holdout,
                report.holdout_batches,
            ),
        ] {
            let found = rows(&made.place, &batches);
            assert_eq!((found.len() as u64, counted), (n.div_ceil(batch), n.div_ceil(batch)));
            let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
            assert!(sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0) <= 1, "{sizes:?}");
            assert!(sizes.iter().all(|&size| size as u64 <= batch), "{sizes:?}");
            assert!(found.iter().all(|rows| rows.is_sorted()), "rows are sorted inside a batch");
            assert!(found.len() < 3 || !found.concat().is_sorted(), "rows are not sorted across batches");
            assert!(
                sorted(found)
                    == sorted(rows(&prepared.place, &parts.iter().cloned().map(Batch::from).collect::<Vec<_>>())),
                "{n} rows: the same rows"
            );
        }
        assert_eq!((report.rows, report.holdout_rows, report.unchanged), (n, holdout, false));
    }
}

/// Sandelius's procedure as the module `shuffle` defines it, on the rows one by one.
fn shuffled(seed: u64, rows: &[(u32, u32, u32)]) -> Vec<(u32, u32, u32)> {
    let stream = random::Stream::new(seed, "shuffle");
    let count = rows.len().div_ceil(8192).next_power_of_two();
    let mut buckets = vec![Vec::new(); count];
    for (i, row) in rows.iter().enumerate() {
        let bucket = (u128::from(stream.word(i as u64)) * count as u128) >> 64;
        buckets[bucket as usize].push(*row);
    }
    for (b, bucket) in buckets.iter_mut().enumerate() {
        stream.at(b as u64).shuffle(bucket);
    }
    buckets.concat()
}

#[test]
fn each_batch_has_the_rows_that_the_shuffle_gives_it() {
    for (n, part_rows) in [(5000, 800), (700_001, 300_000)] {
        let folder = folder_with(Spec { users: 5000, items: 900, rows: n, part_rows, ..SMALL });
        done(folder.path(), &["--batch", "900", "--seed", "3"]);
        let made = shards(folder.path(), "ml.json");
        let prepared = Place::parse(folder.path().join("prepared/ml").to_str().unwrap()).unwrap();
        let parts = load::dataset(&prepared).unwrap().descriptor.parts;
        let expected =
            shuffled(3, &rows(&prepared, &parts.iter().cloned().map(Batch::from).collect::<Vec<_>>()).concat());
        let mut next = 0;
        for batch in rows(&made.place, &all(&made.batches)) {
            let mut expected = expected[next..next + batch.len()].to_vec();
            expected.sort_unstable();
            assert!(batch == expected, "the batch that begins with row {next} of the shuffled {n}");
            next += batch.len();
        }
    }
}

#[test]
fn held_out_rows_are_in_holdout_batches_only_and_in_order() {
    let folder = folder_with(SMALL);
    done(folder.path(), &["--batch", "10"]);
    let made = shards(folder.path(), "ml.json");
    // The test dataset's held-out ratings are 100 and more, in order.
    assert!(rows(&made.place, &all(&made.batches)).concat().iter().all(|row| f32::from_bits(row.2) < 10.0));
    let mut first = 100.0;
    for batch in rows(&made.place, &all(&made.holdout_batches)) {
        let mut ratings: Vec<f32> = batch.iter().map(|row| f32::from_bits(row.2)).collect();
        ratings.sort_by(f32::total_cmp);
        for rating in ratings {
            assert_eq!(rating, first);
            first += 1.0;
        }
    }
    assert_eq!(first, 157.0);
}

#[test]
fn bytes_depend_on_seed_and_settings_but_not_on_threads() {
    // Several buckets and several groups of parts.
    let spec = Spec { rows: 700_001, part_rows: 100_000, ..SMALL };
    let folder = folder_with(spec);
    let make = |arguments: &[&str]| {
        done(folder.path(), &[&["--batch", "5000", "--replace"], arguments].concat());
        let mut found = files(&folder.path().join("shards"));
        found.insert("manifest".into(), std::fs::read(folder.path().join("ml.json")).unwrap());
        std::fs::remove_file(folder.path().join("ml.json")).unwrap();
        std::fs::remove_dir_all(folder.path().join("shards")).unwrap();
        found
    };
    let one = make(&["--threads", "1"]);
    assert_eq!(one.len(), 141 + 1 + 2 + 1, "batches, holdout batch, id maps, manifest");
    for threads in ["1", "2", "7"] {
        assert!(make(&["--threads", threads]) == one, "{threads} threads");
    }
    assert!(make(&["--seed", "8"]) == one, "8 is the default seed");
    let other = make(&["--seed", "9"]);
    assert!(other.values().filter(|bytes| one.values().any(|o| o == *bytes)).count() <= 3, "id maps and held-out rows");
}

#[test]
fn without_arguments_the_conventional_places_are_used() {
    let folder = folder_with(SMALL);
    let output = shard(folder.path(), &["--batch", "100"]);
    let text = stderr(&output);
    for line in [
        "1003 rows in 11 batches of 91 to 92",
        "57 held-out rows in 1 batch of 57",
        "next: train --manifest ml.json --biases --l2 0.05\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let report: ShardReport = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.output.as_str(), report.manifest.as_str()), ("shards/ml", "ml.json"));
    let written = files(folder.path());
    let bytes =
        written.iter().filter(|(path, _)| !path.starts_with("prepared")).map(|(_, b)| b.len() as u64).sum::<u64>();
    assert_eq!(report.bytes_written, bytes);
    assert_eq!(report.manifest_digest, manifests::digest::digest(&written[Path::new("ml.json")]));

    let manifest: Value = serde_json::from_slice(&written[Path::new("ml.json")]).unwrap();
    validate("manifest.schema.json", &manifest);
    assert_eq!(manifest["base"], "shards/ml");
    assert_eq!(manifest["shuffle"], json!({"seed": 8, "batch_rows": 100, "sorted_by": ["user", "item"]}));
    assert!(written[Path::new("ml.json")].ends_with(b"}\n"));

    // The shards are complete: without the prepared dataset, and in another place.
    std::fs::remove_dir_all(folder.path().join("prepared")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved");
    std::fs::rename(folder.path(), &moved).unwrap();
    let found = shards(&moved, "ml.json");
    assert_eq!(rows(&found.place, &all(&found.batches)).concat().len(), 1003);
    let layout = found.manifest.layout.ratings().unwrap();
    let users = load::object(&found.place, &layout.users, "test").unwrap();
    assert_eq!(manifests::id_map::decode("user", users).unwrap()[..3], [1, 4, 7]);
}

#[test]
fn the_examples_of_the_help_work() {
    let output = shard(Path::new("."), &["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.starts_with("Shuffle a prepared dataset into mini-batches, with a manifest for `train`\n"), "{help}");
    assert!(help.contains(schemas::exit::EXIT_CODES_HELP), "{help}");
    let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  shard ")).collect();
    let (examples, verify) = examples.split_at(4);
    assert_eq!(verify, ["verify ml20m.json"], "{help}");
    let folder = folder_with(Spec { name: "ml20m", ..SMALL });
    let data = folder.path().join("data");
    let manifests = ["ml20m.json", "ml20m.json", "data/ml20m/ml20m.json", "ml20m.json"];
    for (example, manifest) in examples.iter().zip(manifests) {
        let typed = example.replace("/data/", &format!("{}/", data.display()));
        let report = done(folder.path(), &typed.split(' ').collect::<Vec<_>>());
        assert!(!report.unchanged, "{example}");
        let made = shards(folder.path(), manifest);
        assert_eq!(rows(&made.place, &all(&made.batches)).concat().len(), 1003, "{example}");
        assert_eq!(made.manifest.shuffle.seed, if example.contains("--seed 3") { 3 } else { 8 });
    }
    assert_eq!(shards(folder.path(), "data/ml20m/ml20m.json").manifest.base, ".");
    assert!(shard(folder.path(), &verify[0].split(' ').collect::<Vec<_>>()).status.success());
}

#[test]
fn the_dataset_can_be_named_in_every_way() {
    let folder = folder_with(SMALL);
    for (i, named) in ["prepared/ml", "prepared/ml/", "./prepared/ml/dataset.json"].into_iter().enumerate() {
        assert_eq!(done(folder.path(), &[named, "--batch", "500", "-q"]).unchanged, i > 0, "{named}");
    }
    assert!(
        done(&folder.path().join("prepared/ml"), &["dataset.json", "--batch", "9", "--out", "../../o"]).rows == 1003
    );
    assert_eq!(shards(folder.path(), "o/ml.json").manifest.base, ".");
    let output = shard(folder.path(), &["prepared/ml", "--batch", "9", "--out", "p", "--manifest", "m/x.json", "-q"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    assert_eq!(shards(folder.path(), "m/x.json").manifest.base, "../p");
}

#[test]
fn the_same_again_is_verified_and_something_else_is_refused() {
    let folder = folder_with(SMALL);
    let first = done(folder.path(), &["--batch", "100"]);
    let before = files(folder.path());
    let again = done(folder.path(), &["--batch", "100"]);
    assert!(again.unchanged && again.bytes_written == 0);
    assert_eq!(again.manifest_digest, first.manifest_digest);
    assert!(done(folder.path(), &["--batch", "100", "--replace"]).unchanged);

    let conflicts: [(&[&str], &str); 3] = [
        (&["--batch", "101"], "ml.json: already exists and differs: its batch size is 100, this one's 101"),
        (&["--batch", "100", "--seed", "9"], "its seed is 8, this one's 9"),
        (&["--batch", "100", "--out", "o", "--manifest", "ml.json"], "its base is shards/ml, this one's o"),
    ];
    for (arguments, message) in conflicts {
        refused(folder.path(), arguments, 5, &[message, "fix: choose another `--out` and `--manifest`", "`--replace`"]);
    }
    // A second manifest over the same place would take away what the first one names.
    refused(
        folder.path(),
        &["--batch", "101", "--manifest", "other.json"],
        5,
        &["shards/ml: already has mini-batches (gen-", "that `other.json` does not name"],
    );
    assert!(files(folder.path()) == before, "nothing was touched");

    let batch = shards(folder.path(), "ml.json").batches.key(3).to_owned();
    let batch = folder.path().join("shards/ml").join(batch);
    let mut flipped = std::fs::read(&batch).unwrap();
    flipped[100] ^= 1;
    for damage in [None, Some(b"short".to_vec()), Some(flipped)] {
        match damage {
            None => std::fs::remove_file(&batch).unwrap(),
            Some(bytes) => std::fs::write(&batch, bytes).unwrap(),
        }
        let messages = ["ml.json: already exists and differs: ", "batch-000003.parquet: "];
        refused(folder.path(), &["--batch", "100"], 5, &messages);
        assert!(!done(folder.path(), &["--batch", "100", "--replace"]).unchanged);
        assert!(files(folder.path()) == before, "repaired");
    }

    assert!(!done(folder.path(), &["--batch", "101", "--replace"]).unchanged);
    assert!(!batch.exists(), "what was replaced is gone");
    prepare(&folder.path().join("prepared/ml"), Spec { rows: 1004, ..SMALL });
    refused(folder.path(), &["--batch", "101"], 5, &["its dataset is xxh3-128:"]);
    std::fs::write(folder.path().join("ml.json"), "{}").unwrap();
    refused(
        folder.path(),
        &["--batch", "101"],
        5,
        &["ml.json: already exists and differs: not a gristmill.manifest file"],
    );
    assert_eq!(done(folder.path(), &["--batch", "101", "--replace"]).rows, 1004);
}

#[test]
fn wrong_usage_is_told() {
    let folder = folder_with(SMALL);
    for (arguments, message) in [
        (
            &["prepared/ml"][..],
            "--batch: the rows of a mini-batch were not given\n  fix: give a number: `shard prepared/ml --batch 1000` ",
        ),
        (&["--batch", "0"], "0 is not in 1..=16777216"),
        (&["--batch", "16777217"], "16777217 is not in 1..=16777216"),
        (&["--batch", "12k"], "invalid digit"),
        (&["--batch", "5", "--threads", "0"], "0 is not in 1..=1024"),
        (&["nowhere", "--batch", "5"], "error: nowhere/dataset.json: not found\n  fix: check the path"),
        (&["gs://bucket/x", "--batch", "5"], "`gs://bucket/x` is not a place: `gs://` is not supported"),
        (&["--batch", "5", "--out", "ftp://x"], "`ftp://x` is not a place"),
        (&["--batch", "5", "--manifest", ".."], "`..` is not a place: it has no file name"),
    ] {
        refused(folder.path(), arguments, 2, &[message]);
    }
    prepare(&folder.path().join("prepared/second"), Spec { name: "second", ..SMALL });
    std::fs::create_dir(folder.path().join("prepared/empty")).unwrap();
    refused(
        folder.path(),
        &["--batch", "5"],
        2,
        &["no dataset was named, and there are several: prepared/ml, prepared/second", "`shard prepared/ml --batch N`"],
    );
    let empty = tempfile::tempdir().unwrap();
    refused(
        empty.path(),
        &["--batch", "5"],
        2,
        &["no dataset was named, and `prepared/*/dataset.json` does not exist", "`prep movielens`"],
    );
}

/// Changes the descriptor of the dataset in `folder`.
fn edit_manifest(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("ml.json");
    let mut manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(path, manifest.to_string()).unwrap();
}

fn edit(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("prepared/ml/dataset.json");
    let mut descriptor = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut descriptor);
    std::fs::write(path, descriptor.to_string()).unwrap();
}

/// The file of the dataset in `folder` whose name is `name`.
fn stored(folder: &Path, name: &str) -> PathBuf {
    let found = files(folder).into_keys().find(|path| path.ends_with(name)).unwrap();
    folder.join(found)
}

#[test]
fn bad_input_is_told_and_leaves_nothing() {
    type Break = fn(&Path);
    let table: [(Break, i32, &str); 9] = [
        (
            |f| std::fs::remove_file(stored(f, "part-00001.parquet")).unwrap(),
            3,
            "part-00001.parquet: missing, though `prepared/ml/dataset.json` names it",
        ),
        (
            |f| {
                let path = stored(f, "part-00002.parquet");
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[100] ^= 1;
                std::fs::write(path, bytes).unwrap();
            },
            3,
            "part-00002.parquet: its digest is xxh3-128:",
        ),
        (|f| std::fs::write(stored(f, "holdout-00000.parquet"), "PAR1").unwrap(), 3, "it has 4 bytes"),
        (|f| std::fs::write(stored(f, "user.parquet"), "").unwrap(), 3, "user.parquet: it has 0 bytes"),
        (
            |f| {
                edit(f, |d| {
                    d["layout"]["n_users"] = json!(39);
                    d["layout"]["users"]["rows"] = json!(39);
                });
            },
            3,
            "user 39 is not below the dataset's number of users, 39",
        ),
        (
            |f| {
                edit(f, |d| {
                    d["parts"][0]["rows"] = json!(399);
                    d["parts"][1]["rows"] = json!(401);
                });
            },
            3,
            "part-00000.parquet: it has 400 rows, `prepared/ml/dataset.json` says 399",
        ),
        (|f| edit(f, |d| d["version"] = json!(2)), 4, "version 2 of gristmill.dataset is unknown"),
        (
            |f| {
                edit(f, |d| {
                    d["rows"] = json!({"read": 57, "train": 0, "holdout": 57, "rejected": 0});
                    d["parts"] = json!([]);
                });
            },
            3,
            "prepared/ml/dataset.json: there are no training rows",
        ),
        (
            |f| {
                edit(f, |d| {
                    d["rows"]["train"] = json!(1u64 << 60);
                    d["rows"]["read"] = json!((1u64 << 60) + 57);
                    d["parts"][0]["rows"] = json!((1u64 << 60) - 603);
                });
            },
            4,
            "of memory are too little for this dataset and batch size, which need",
        ),
    ];
    for (damage, code, message) in table {
        let folder = folder_with(SMALL);
        damage(folder.path());
        refused(folder.path(), &["--batch", "10"], code, &[message, "fix: "]);
        assert!(!folder.path().join("ml.json").exists(), "{message}");
        assert_eq!(files(&folder.path().join("shards")).len(), 0, "{message}");
    }
}

#[test]
fn places_that_cannot_be_written_to_are_told() {
    let folder = folder_with(SMALL);
    // Refused to everybody, to root too.
    refused(
        folder.path(),
        &["--batch", "10", "--out", "/sys/shards", "--manifest", "m.json"],
        4,
        &["permission denied"],
    );
    std::fs::write(folder.path().join("file"), "").unwrap();
    refused(folder.path(), &["--batch", "10", "--out", "file/x", "--manifest", "m.json"], 2, &["file/x"]);
    // As on a full disk, but nothing is mounted for it: no file may pass 512 bytes.
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 1; exec \"$0\" --batch 500 --manifest m.json",
            env!("CARGO_BIN_EXE_shard"),
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stderr(&output).contains("could not write it"), "{}", stderr(&output));
    assert!(!folder.path().join("m.json").exists());
    assert_eq!(files(&folder.path().join("shards")).len(), 0);
}

#[test]
fn a_signal_ends_it_with_nothing_left_and_a_killed_run_can_be_repeated() {
    let folder = folder_with(Spec { rows: 300_000, ..SMALL });
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shard"))
            .args(["--batch", "1", "--quiet"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // 300,000 files take seconds; the first one is enough to know that it is at work.
        let started = || {
            let generation = std::fs::read_dir(folder.path().join("shards/ml")).ok()?.next()?.ok()?.path();
            Some(generation.join("batch-000000.parquet").exists())
        };
        while started() != Some(true) {
            assert!(child.try_wait().unwrap().is_none(), "still at work");
            std::thread::yield_now();
        }
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), code, "{status}");
        assert!(!folder.path().join("ml.json").exists());
        match code {
            Some(_) => assert_eq!(files(&folder.path().join("shards")).len(), 0, "{signal}"),
            None => assert_eq!(status.signal(), Some(9)),
        }
    }
    // What a killed run leaves is not taken for somebody's data when the same is made again.
    prepare(&folder.path().join("prepared/ml"), SMALL);
    refused(folder.path(), &["--batch", "10"], 5, &["already has mini-batches"]);
    assert!(!done(folder.path(), &["--batch", "10", "--replace"]).unchanged);
    let made = shards(folder.path(), "ml.json");
    assert_eq!(files(&folder.path().join("shards")).len(), made.batches.len() + 6 + 2, "and nothing else");
}

#[test]
fn completions_name_every_flag() {
    let output = shard(Path::new("."), &["completions", "bash"]);
    let script = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--batch",
        "--out",
        "--manifest",
        "--rows-per-object",
        "--seed",
        "--replace",
        "--threads",
        "--temp-dir",
        "--quiet",
        "--progress",
        "--color",
    ] {
        assert!(script.contains(flag), "{flag}");
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let folder = folder_with(SMALL);
    let dry = |arguments: &[&str]| {
        let before = files(folder.path());
        let output = shard(folder.path(), &[arguments, &["--dry-run"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(files(folder.path()), before, "nothing is written");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        validate("dry-run-report.schema.json", &report);
        (report, stderr(&output))
    };
    let (report, said) = dry(&["--batch", "10"]);
    assert_eq!((&report["verdict"], &report["dry_run"]), (&json!("new"), &json!(true)));
    // 1003 and 57 rows in tens, and two maps of ids.
    assert_eq!((&report["writes"][0]["rows"], &report["writes"][0]["objects"]), (&json!(1060), &json!(101 + 6 + 2)));
    assert_eq!(report["temporary_bytes"], json!(0));
    assert!(said.contains("would write shards/ml: 109 objects, about "), "{said}");
    assert!(said.contains("nothing is there yet"), "{said}");
    done(folder.path(), &["--batch", "10"]);
    assert_eq!(files(&folder.path().join("shards/ml")).len(), 109, "as was said");
    for (arguments, verdict) in [
        (&["--batch", "10"][..], "unchanged"),
        (&["--batch", "20"], "conflict"),
        (&["--batch", "20", "--replace"], "replace"),
        (&["--batch", "10", "--out", "shards/ml", "--manifest", "other.json"], "new"),
        (&["--batch", "11", "--out", "shards/ml", "--manifest", "other.json"], "conflict"),
    ] {
        assert_eq!(dry(arguments).0["verdict"], json!(verdict), "{arguments:?}");
    }
}
