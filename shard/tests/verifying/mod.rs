//! Mini-batches packed into objects and listed by an index, and `shard verify` on all forms, whole and spoilt.

use std::path::{Path, PathBuf};

use manifests::batches::Batches;
use manifests::load;
use schemas::manifest::Listing;
use schemas::report::VerifyReport;
use serde_json::json;

use super::{SMALL, all, done, edit_manifest, files, folder_with, refused, rows, shard, shards, stderr, validate};
use crate::support::Spec;

/// What `verify` says, with its exit code and what it says to people.
fn verify(folder: &Path, arguments: &[&str]) -> (VerifyReport, i32, String) {
    let output = shard(folder, &[&["verify", "ml.json"], arguments].concat());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_else(|| panic!("no report: {}", stderr(&output)));
    validate("verify-report.schema.json", &serde_json::from_str(last).unwrap());
    (serde_json::from_str(last).unwrap(), output.status.code().unwrap(), stderr(&output))
}

/// The same rows in every form: each mini-batch an object, packed, and so many that there is an index.
const FORMS: [&[&str]; 4] = [
    &["--batch", "100"],
    &["--batch", "100", "--rows-per-object", "300"],
    &["--batch", "1"],
    &["--batch", "1", "--rows-per-object", "100"],
];

#[test]
fn packed_batches_are_the_same_batches_in_fewer_objects() {
    for [plain, packed] in [[FORMS[0], FORMS[1]], [FORMS[2], FORMS[3]]] {
        let (one, other) = (folder_with(SMALL), folder_with(SMALL));
        let (first, second) = (done(one.path(), plain), done(other.path(), packed));
        assert_eq!((first.rows, first.batches), (second.rows, second.batches));
        let (a, b) = (shards(one.path(), "ml.json"), shards(other.path(), "ml.json"));
        let per_object = if packed[1] == "1" { 100 } else { 3 };
        for (a, b) in [(&a.batches, &b.batches), (&a.holdout_batches, &b.holdout_batches)] {
            assert_eq!((a.n_objects(), b.n_objects()), (a.len(), a.len().div_ceil(per_object)));
            let what = |batches: &Batches| batches.iter().map(|b| (b.rows, b.bytes, b.digest)).collect::<Vec<_>>();
            assert_eq!(what(a), what(b), "digests are those of the mini-batches by themselves");
        }
        assert!(rows(&a.place, &all(&a.batches)) == rows(&b.place, &all(&b.batches)));
        assert_eq!(matches!(b.manifest.batches, Listing::Index(_)), per_object == 100, "1003 are too many to list");
        assert!(matches!(b.manifest.holdout_batches, Listing::Each(_)));
        // The whole object is a Parquet file with all its rows in order.
        let object = b.place.get(b.batches.key(0)).unwrap();
        let mut whole = manifests::ratings::RatingRows::default();
        manifests::ratings::decode(object, &mut whole).unwrap();
        let expected = rows(&b.place, &all(&b.batches)[..per_object]).concat();
        assert!(whole.users.iter().eq(expected.iter().map(|(user, ..)| user)));

        for threads in ["1", "2", "7"] {
            let again = folder_with(SMALL);
            done(again.path(), &[packed, &["--threads", threads]].concat());
            assert!(files(&again.path().join("shards")) == files(&other.path().join("shards")), "{threads} threads");
        }
        assert!(done(other.path(), packed).unchanged);
        refused(other.path(), plain, 5, &["its number of rows per object is "]);
        refused(one.path(), packed, 5, &["its number of rows per object is that of one mini-batch, this one's "]);
        assert!(!done(other.path(), &[plain, &["--replace"]].concat()).unchanged);
        let (found, expected) = (files(&other.path().join("shards")), files(&one.path().join("shards")));
        assert!(found == expected, "nothing of the old packing is left");
    }
    let folder = folder_with(SMALL);
    let output = shard(folder.path(), FORMS[1]);
    let notes = stderr(&output);
    for line in ["1003 rows in 11 batches of 91 to 92, in 4 objects", "57 held-out rows in 1 batch of 57"] {
        assert!(notes.contains(line), "`{line}` is not in: {notes}");
    }
}

#[test]
fn what_is_whole_is_verified() {
    for form in FORMS {
        let folder = folder_with(SMALL);
        let made = done(folder.path(), form);
        let before = files(folder.path());
        let (report, code, notes) = verify(folder.path(), &["--threads", "3"]);
        assert_eq!((report.whole, code), (true, 0), "{notes}");
        assert_eq!((report.rows, report.batches), (1060, made.batches + made.holdout_batches));
        let stored = files(&folder.path().join("shards"));
        assert_eq!(report.objects, stored.len() as u64);
        assert_eq!(report.bytes, stored.values().map(|bytes| bytes.len() as u64).sum::<u64>(), "every byte is read");
        assert_eq!(report.manifest_digest, made.manifest_digest);
        assert!(notes.contains("all there and undamaged") && notes.contains("MB/s"), "{notes}");
        assert!(files(folder.path()) == before, "nothing was touched");
        let output = shard(folder.path(), &["verify", "ml.json", "-q"]);
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

/// A file of the shards by the end of its name.
fn stored(folder: &Path, end: &str) -> PathBuf {
    let mut found: Vec<PathBuf> =
        files(folder).into_keys().filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{end}: {found:?}");
    folder.join(found.remove(0))
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    type Spoil = fn(&Path);
    let cases: [(usize, &str, Spoil, &str, &str); 13] = [
        (0, "batch-000003.parquet", |f| std::fs::remove_file(f).unwrap(), "missing", "batch-000003.parquet"),
        (0, "holdout-000000.parquet", |f| flip(f, |n| n / 2), "damaged", "its digest is xxh3-128:"),
        (
            0,
            "batch-000010.parquet",
            |f| std::fs::write(f, "short").unwrap(),
            "damaged",
            "it has 5 bytes, `ml.json` says ",
        ),
        (0, "users.parquet", |f| flip(f, |n| n - 1), "damaged", "users.parquet: its digest is xxh3-128:"),
        (0, "items.parquet", |f| std::fs::remove_file(f).unwrap(), "missing", "items.parquet"),
        (1, "batch-000000-000002.parquet", |f| flip(f, |_| 100), "damaged", "its digest, of bytes 0 to "),
        (
            1,
            "batch-000000-000002.parquet",
            |f| flip(f, |n| n - 1),
            "damaged",
            "the footer behind its mini-batches is not theirs",
        ),
        (
            1,
            "batch-000000-000002.parquet",
            |f| flip(f, |n| n - 60),
            "damaged",
            "the footer behind its mini-batches is not theirs",
        ),
        (
            1,
            "batch-000003-000005.parquet",
            |f| std::fs::remove_file(f).unwrap(),
            "missing",
            "batch-000003-000005.parquet",
        ),
        (
            1,
            "batch-000003-000005.parquet",
            |f| std::fs::write(f, "short").unwrap(),
            "damaged",
            "it has 5 bytes, `ml.json` says ",
        ),
        (3, "batch-001000-001002.parquet", |f| flip(f, |_| 9), "damaged", "its digest, of bytes 0 to "),
        (3, "batch-000100-000199.parquet", |f| truncate(f, 3000), "damaged", "it has 3000 bytes, `ml.json` says "),
        (1, "batch-000003-000005.parquet", cut_footer, "damaged", "there is no footer behind its mini-batches"),
    ];
    for (form, end, spoil, list, text) in cases {
        let folder = folder_with(SMALL);
        done(folder.path(), FORMS[form]);
        spoil(&stored(folder.path(), end));
        let (report, code, notes) = verify(folder.path(), &[]);
        assert_eq!((report.whole, code), (false, 3), "{form} {end}: {notes}");
        let [named, other] = match list {
            "missing" => [&report.missing, &report.damaged],
            _ => [&report.damaged, &report.missing],
        };
        assert_eq!(
            (named.count, named.first.len(), other.count, report.foreign.count),
            (1, 1, 0, 0),
            "{end} {report:?}"
        );
        assert!(named.first[0].starts_with("shards/ml/gen-") && named.first[0].contains(text), "{end}: {named:?}");
        assert!(notes.contains(&format!("warning: {list}: {}", named.first[0])), "{notes}");
        // To make it again is to repair it.
        assert!(!done(folder.path(), &[FORMS[form], &["--replace"]].concat()).unchanged, "{end}");
        assert_eq!(verify(folder.path(), &[]).1, 0, "{form} {end}");
    }
}

fn truncate(file: &Path, size: u64) {
    std::fs::File::options().write(true).open(file).unwrap().set_len(size).unwrap();
}

/// Leaves only the mini-batches of an object.
fn cut_footer(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    let folder = file.ancestors().nth(4).unwrap();
    let made = shards(folder, "ml.json");
    let end =
        all(&made.batches).into_iter().filter(|b| file.ends_with(&b.key)).map(|b| b.offset.unwrap() + b.bytes).max();
    truncate(file, end.unwrap());
    assert!(bytes.len() as u64 > end.unwrap());
}

#[test]
fn many_problems_are_counted_and_twenty_of_each_named() {
    let folder = folder_with(Spec { holdout: 0, ..SMALL });
    done(folder.path(), &["--batch", "10"]);
    let made = shards(folder.path(), "ml.json");
    let path = |i: usize| folder.path().join("shards/ml").join(made.batches.key(i));
    (0..25).for_each(|i| std::fs::remove_file(path(i)).unwrap());
    (30..55).for_each(|i| std::fs::write(path(i), "x").unwrap());
    let generation = path(0).parent().unwrap().to_owned();
    (0..22).for_each(|i| std::fs::write(generation.join(format!("other-{i:02}")), "x").unwrap());
    let another = folder.path().join("shards/ml/gen-0123456789ab");
    std::fs::create_dir(&another).unwrap();
    std::fs::write(another.join("batch-000000.parquet"), "x").unwrap();
    std::fs::write(folder.path().join("shards/ml/README"), "not of a generation").unwrap();
    for threads in ["1", "2", "7"] {
        let (report, code, notes) = verify(folder.path(), &["-t", threads]);
        assert_eq!(code, 3);
        for (found, count) in [(&report.missing, 25), (&report.damaged, 25), (&report.foreign, 23)] {
            assert_eq!((found.count, found.first.len()), (count, 20), "{found:?}");
            assert!(found.first.is_sorted(), "in the order of the manifest: {found:?}");
        }
        assert!(report.missing.first[0].ends_with("/batch-000000.parquet"), "{report:?}");
        assert!(report.damaged.first[0].contains("/batch-000030.parquet: it has 1 bytes"), "{report:?}");
        assert!(report.foreign.first[0].ends_with("/gen-0123456789ab/batch-000000.parquet"), "{report:?}");
        for line in ["missing: 5 more", "damaged: 5 more", "foreign: 3 more", "25 missing, 25 damaged, 23 foreign"] {
            assert!(notes.contains(line), "`{line}` is not in: {notes}");
        }
    }
}

#[test]
fn rows_that_are_not_what_the_manifest_says_are_told() {
    let folder = folder_with(SMALL);
    done(folder.path(), &["--batch", "100"]);
    // 1003 rows in 11 batches: the first two have 92 rows, the last nine 91.
    edit_manifest(folder.path(), |m| {
        m["batches"][0]["rows"] = json!(91);
        m["batches"][10]["rows"] = json!(92);
    });
    let (report, code, _) = verify(folder.path(), &[]);
    assert_eq!((code, report.damaged.count), (3, 2));
    assert!(report.damaged.first[0].ends_with("batch-000000.parquet: it has 92 rows, `ml.json` says 91"), "{report:?}");
}

#[test]
fn a_manifest_that_cannot_be_read_is_refused_as_everywhere() {
    let folder = folder_with(SMALL);
    refused(folder.path(), &["verify", "none.json"], 2, &["none.json: not found"]);
    refused(folder.path(), &["verify"], 2, &["<MANIFEST>"]);
    done(folder.path(), FORMS[2]);
    std::fs::remove_file(stored(folder.path(), "index-batches.parquet")).unwrap();
    refused(folder.path(), &["verify", "ml.json"], 3, &["index-batches.parquet: missing, though `ml.json` names it"]);
    edit_manifest(folder.path(), |m| m["version"] = json!(99));
    refused(folder.path(), &["verify", "ml.json"], 4, &["version 99 of gristmill.manifest is unknown"]);
    let help = String::from_utf8(shard(folder.path(), &["verify", "--help"]).stdout).unwrap();
    for text in ["shard verify criteo.json", "Exit codes:", "3    bad input data"] {
        assert!(help.contains(text), "`{text}` is not in: {help}");
    }
}

#[test]
fn a_run_that_was_killed_is_gone_on_with() {
    let folder = folder_with(SMALL);
    let report = done(folder.path(), &["--batch", "100"]);
    assert_eq!(report.objects_kept, 0);
    std::fs::remove_file(folder.path().join("ml.json")).unwrap();
    std::fs::remove_file(stored(folder.path(), "batch-000004.parquet")).unwrap();
    std::fs::write(stored(folder.path(), "batch-000005.parquet"), "half").unwrap();
    let output = shard(folder.path(), &["--batch", "100"]);
    assert!(stderr(&output).contains("12 objects of a run that did not end kept"), "{}", stderr(&output));
    let again: schemas::report::ShardReport = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((again.objects_kept, again.manifest_digest), (12, report.manifest_digest));
    assert!(again.bytes_written < report.bytes_written);
    assert_eq!(verify(folder.path(), &[]).1, 0);
    let batch = shards(folder.path(), "ml.json").batches.get(5);
    assert!(load::batch(&shards(folder.path(), "ml.json").place, &batch, "test").is_ok());
}
