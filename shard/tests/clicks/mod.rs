//! Dense and sparse click rows through the program as it is typed.

use std::path::Path;
use std::process::{Command, Stdio};

use manifests::clicks::{self, ClickRows, Form};
use manifests::load;
use manifests::place::Place;
use schemas::dataset::Object;
use schemas::manifest::Batch;
use serde_json::{Value, json};

use super::click_support::{Spec, prepare};
use super::{done, files, refused, shard, shards, stderr, stored, validate};

const SPARSE: Form = Form { labelled: true, n_buckets: Some(5000) };
const FORMS: [Form; 4] = [
    SPARSE,
    Form { labelled: false, n_buckets: Some(5000) },
    Form { labelled: true, n_buckets: None },
    Form { labelled: false, n_buckets: None },
];
const SMALL: Spec = Spec { name: "criteo", form: SPARSE, rows: 1003, holdout: 57, part_rows: 400 };
/// 32 MB of rows, which [`LITTLE`] has no room for.
const LARGE: Spec = Spec { rows: 200_000, part_rows: 5_000, ..SMALL };
const LITTLE: [&str; 2] = ["--memory", "40MiB"];

fn folder_with(spec: Spec) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    prepare(&folder.path().join("prepared").join(spec.name), spec);
    folder
}

/// The rows of each object, cell by cell as bits.
fn rows(form: Form, place: &Place, objects: impl Iterator<Item = Batch>) -> Vec<Vec<Vec<u32>>> {
    let read = |object: Batch| {
        let mut rows = ClickRows::default();
        clicks::decode(form, load::batch(place, &object, "test").unwrap(), &mut rows).unwrap();
        assert_eq!(rows.len as u64, object.rows);
        let row = |i: usize| {
            let floats = std::iter::once(&rows.labels).chain(&rows.numbers).filter(|column| !column.is_empty());
            let buckets = rows.buckets.iter().filter(|column| !column.is_empty());
            floats.map(|column| column[i].to_bits()).chain(buckets.map(|column| column[i])).collect()
        };
        (0..rows.len).map(row).collect()
    };
    objects.map(read).collect()
}

fn whole(parts: &[Object]) -> impl Iterator<Item = Batch> {
    parts.iter().cloned().map(Batch::from)
}

fn sorted(rows: Vec<Vec<Vec<u32>>>) -> Vec<Vec<u32>> {
    let mut rows = rows.concat();
    rows.sort_unstable();
    rows
}

#[test]
fn the_batches_are_the_rows_of_the_dataset() {
    let table = FORMS.into_iter().zip([(1, 0), (249, 1), (250, 250), (140_251, 251)]);
    for (form, (n, holdout)) in table {
        let folder = folder_with(Spec { form, rows: n, holdout, part_rows: 40_000, ..SMALL });
        let report = done(folder.path(), &["--batch", "250"]);
        assert_eq!((report.rows, report.holdout_rows, report.unchanged), (n, holdout, false));
        assert_eq!(report.kind, if form.is_sparse() { "sparse" } else { "dense" });
        let made = shards(folder.path(), "criteo.json");
        let prepared =
            load::dataset(&Place::parse(folder.path().join("prepared/criteo").to_str().unwrap()).unwrap()).unwrap();
        let found = rows(form, &made.place, made.batches.iter());
        assert_eq!((found.len() as u64, report.batches), (n.div_ceil(250), n.div_ceil(250)));
        let expected = rows(form, &prepared.place, whole(&prepared.descriptor.parts));
        assert!(n < 3 || found.concat() != expected.concat(), "{n} rows stay in order");
        assert!(sorted(found) == sorted(expected), "{n} rows: the same rows");
        let kept = rows(form, &made.place, made.holdout_batches.iter());
        assert!(kept.concat() == rows(form, &prepared.place, whole(&prepared.descriptor.holdout_parts)).concat());
    }
}

#[test]
fn the_manifest_says_what_the_rows_are() {
    let folder = folder_with(SMALL);
    let output = shard(folder.path(), &["--batch", "100"]);
    for line in
        ["1003 rows in 11 batches of 91 to 92", "57 held-out rows in 1 batch of 57", "next: train --manifest criteo"]
    {
        assert!(stderr(&output).contains(line), "{}", stderr(&output));
    }
    let manifest: Value = serde_json::from_slice(&std::fs::read(folder.path().join("criteo.json")).unwrap()).unwrap();
    validate("manifest.schema.json", &manifest);
    assert_eq!(manifest["shuffle"], json!({"seed": 8, "batch_rows": 100, "sorted_by": []}));
    let made = shards(folder.path(), "criteo.json");
    let tables = made.manifest.layout.tables();
    assert_eq!(tables.len(), 1);
    let scales = load::object(&made.place, tables[0].1, "test").unwrap();
    assert_eq!(manifests::scales::decode(5000, scales).unwrap(), [(3, 2)]);
}

#[test]
fn bytes_depend_on_the_seed_but_not_on_threads() {
    // Two groups of parts and eight buckets.
    let folder = folder_with(Spec { rows: 300_000, part_rows: 50_000, ..SMALL });
    let make = |arguments: &[&str]| {
        done(folder.path(), &[&["--batch", "5000", "--replace"], arguments].concat());
        let found = files(&folder.path().join("shards"));
        std::fs::remove_file(folder.path().join("criteo.json")).unwrap();
        std::fs::remove_dir_all(folder.path().join("shards")).unwrap();
        found
    };
    let one = make(&["--threads", "1"]);
    assert_eq!(one.len(), 60 + 1 + 1, "batches, holdout batch, scales");
    for threads in ["2", "7"] {
        assert!(make(&["--threads", threads]) == one, "{threads} threads");
    }
    let other = make(&["--seed", "9"]);
    assert!(other.values().filter(|bytes| one.values().any(|o| o == *bytes)).count() <= 2, "scales and held-out rows");
}

#[test]
fn the_same_again_is_verified_and_something_else_is_refused() {
    let folder = folder_with(SMALL);
    done(folder.path(), &["--batch", "100"]);
    let before = files(folder.path());
    assert!(done(folder.path(), &["--batch", "100"]).unchanged);
    refused(folder.path(), &["--batch", "100", "--seed", "9"], 5, &["its seed is 8, this one's 9", "`--replace`"]);
    assert!(files(folder.path()) == before, "nothing was touched");
    std::fs::remove_file(stored(folder.path(), "batch-000003.parquet")).unwrap();
    refused(folder.path(), &["--batch", "100"], 5, &["criteo.json: already exists and differs: ", "batch-000003"]);
    assert!(!done(folder.path(), &["--batch", "100", "--replace"]).unchanged);
    assert!(files(folder.path()) == before, "repaired");
}

/// Changes the descriptor of the dataset in `folder`.
fn edit(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("prepared/criteo/dataset.json");
    let mut descriptor = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut descriptor);
    std::fs::write(path, descriptor.to_string()).unwrap();
}

#[test]
fn bad_input_is_told_and_leaves_nothing() {
    type Break = fn(&Path);
    let table: [(Break, i32, &str); 6] = [
        (
            |f| std::fs::remove_file(stored(f, "part-00001.parquet")).unwrap(),
            3,
            "part-00001.parquet: missing, though `prepared/criteo/dataset.json` names it",
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
        (
            |f| {
                edit(f, |d| {
                    d["layout"]["hash"]["buckets"] = json!(4);
                    d["layout"]["n_features"] = json!(17);
                });
            },
            3,
            "not below the number of buckets, 4",
        ),
        (
            |f| {
                edit(f, |d| {
                    d["parts"][0]["rows"] = json!(399);
                    d["parts"][1]["rows"] = json!(401);
                });
            },
            3,
            "part-00000.parquet: it has 400 rows, `prepared/criteo/dataset.json` says 399",
        ),
        (|f| edit(f, |d| d["layout"]["labels"] = json!(null)), 3, "column 1 is `label: FLOAT`, not the required"),
    ];
    for (damage, code, message) in table {
        let folder = folder_with(SMALL);
        damage(folder.path());
        refused(folder.path(), &["--batch", "10"], code, &[message, "fix: "]);
        assert!(!folder.path().join("criteo.json").exists(), "{message}");
        assert_eq!(files(&folder.path().join("shards")).len(), 0, "{message}");
    }
    let folder = folder_with(SMALL);
    edit(folder.path(), |d| {
        d["layout"]["hash"]["buckets"] = json!(4);
        d["layout"]["n_features"] = json!(17);
    });
    let text = stderr(&shard(folder.path(), &["--batch", "10"]));
    assert!(text.contains("part-00000.parquet: row 0: C1 is "), "the part, the row and the column: {text}");
}

#[test]
fn temporary_data_goes_where_it_is_told_and_leaves_nothing() {
    let folder = folder_with(LARGE);
    let other = folder.path().join("other");
    let typed = ["--batch", "1000", "--memory", "40MiB", "--temp-dir", other.to_str().unwrap()];
    let message = format!("{}: could not create temporary data", other.display());
    refused(folder.path(), &typed, 4, &[&message, "fix: free some space, or name another folder with `--temp-dir`"]);
    assert!(!folder.path().join("criteo.json").exists());
    std::fs::create_dir(&other).unwrap();
    done(folder.path(), &typed);
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0);

    // As on a full disk, but nothing is mounted for it: no file may pass 64 KB, which temporary data does first.
    let folder = folder_with(LARGE);
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 128; exec \"$0\" --batch 100 --memory 40MiB",
            env!("CARGO_BIN_EXE_shard"),
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stderr(&output).contains("could not write temporary data"), "{}", stderr(&output));
    assert!(!folder.path().join("criteo.json").exists());
    assert_eq!(files(&folder.path().join("shards")).len(), 0);
}

#[test]
fn a_signal_ends_it_with_nothing_left() {
    let folder = folder_with(LARGE);
    let temporary = folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shard"))
            .args(["--batch", "1", "--quiet", "--temp-dir", temporary.to_str().unwrap()])
            .args(LITTLE)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // 200,000 files take seconds; the first one is enough to know that it is at work.
        let started = || {
            let generation = std::fs::read_dir(folder.path().join("shards/criteo")).ok()?.next()?.ok()?.path();
            Some(generation.join("batch-000000.parquet").exists())
        };
        while started() != Some(true) {
            assert!(child.try_wait().unwrap().is_none(), "still at work");
            std::thread::yield_now();
        }
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{status}");
        assert!(!folder.path().join("criteo.json").exists());
        assert_eq!(files(&folder.path().join("shards")).len(), 0, "{signal}");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{signal}");
    }
}

#[test]
fn memory_is_kept_and_the_result_does_not_depend_on_it() {
    let folder = folder_with(Spec { holdout: 20_000, ..LARGE });
    let run = |out: &str, options: &str| {
        // The system refuses what is more than the limit.
        let kilobytes = if options.contains("40MiB") { 40 << 10 } else { 512 << 10 };
        let script = format!("ulimit -d {kilobytes}; exec \"$0\" --batch 999 --out {out} {options}");
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_shard")])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{options}: {}", stderr(&output));
        let mut files = files(&folder.path().join(out));
        files.retain(|path, _| path.extension().is_some_and(|e| e == "parquet"));
        (files, stderr(&output))
    };
    let (expected, said) = run("all", "--memory 512MiB --threads 2 --verbose");
    assert!(said.contains("Memory"), "{said}");
    assert_eq!(expected.len(), 201 + 21 + 1, "mini-batches of both sets, and the scales");
    for (out, options) in
        [("one", "--memory 40MiB --threads 1 --verbose"), ("two", "--memory 40MiB --threads 2 --verbose")]
    {
        let (found, said) = run(out, options);
        assert!(said.contains("File"), "{said}");
        assert!(found == expected, "{options}");
    }
    refused(
        folder.path(),
        &["--batch", "999", "--memory", "20MB"],
        4,
        &[" of memory are too little for this dataset and batch size, which need", "fix: allow more with `--memory "],
    );
}
