//! `prep inspect`: figures by another program's reckoning and by hand, tables to look at, damage found.

use std::path::Path;

use manifests::clicks::{ClickRows, Form, MISSING_BUCKET, MISSING_NUMBER, encode};
use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::place::Place;
use manifests::ratings::RatingRows;
use schemas::clicks::{CategoricalColumn, Dense, Hash, HashFunction, Labels, NumericColumn, Sparse};
use schemas::dataset::{
    BaselineRmse, Baselines, DESCRIPTOR_KEY, Descriptor, Digest, FORMAT, Holdout, Layout, Ratings, RowCounts, Source,
    VERSION,
};
use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox};

/// Rows by the rules of `tests/oracle/inspect_sparse.py`.
const TRAIN: u64 = 700;
const HOLDOUT: u64 = 200;
const BUCKETS: u32 = 5000;
const FORM: Form = Form { labelled: true, n_buckets: Some(BUCKETS) };

fn cell(i: u64, c: u64) -> u64 {
    (i * 7919 + c * 104_729 + i * i * 31 + i * c * 17) % 1009
}

fn rows(range: std::ops::Range<u64>) -> ClickRows {
    let mut rows = ClickRows { len: range.clone().count(), ..ClickRows::default() };
    for i in range {
        rows.labels.push(if cell(i, 0).is_multiple_of(4) { 1.0 } else { 0.0 });
        for (j, column) in (1..).zip(&mut rows.numbers) {
            column.push(match cell(i, j) {
                v if j == 13 || v.is_multiple_of(j + 1) => MISSING_NUMBER,
                _ if j == 12 => 0.5,
                v => v as f32 / 1009.0,
            });
        }
        for (j, column) in (1..).zip(&mut rows.buckets) {
            column.push(match (j, cell(i, 13 + j)) {
                (26, _) => MISSING_BUCKET,
                (_, v) if v.is_multiple_of(5) => MISSING_BUCKET,
                (1 | 2, v) => (v % 3) as u32,
                (25, _) => 7,
                (j, v) => ((v * v * 37 + v + j * 1009) % u64::from(BUCKETS)) as u32,
            });
        }
    }
    rows
}

fn numeric(present: impl Fn(usize) -> u64) -> Vec<NumericColumn> {
    let column = |i| NumericColumn {
        name: format!("I{}", i + 1),
        present: present(i),
        min: (i < 12).then_some(-3),
        max: (i < 12).then_some(12_345 << i),
        mean: 1.5,
        sd: 2.0,
    };
    (0..13).map(column).collect()
}

/// A descriptor without parts.
fn descriptor(name: &str, layout: Layout) -> Descriptor {
    Descriptor {
        format: FORMAT.to_owned(),
        version: VERSION,
        tool: "by hand".to_owned(),
        name: name.to_owned(),
        source: Source {
            name: "rows.tsv".to_owned(),
            format: "criteo".to_owned(),
            bytes: 0,
            digest: digest(b""),
            files: Vec::new(),
        },
        layout,
        filter: None,
        rows: RowCounts { read: 0, train: 0, holdout: 0, rejected: 0, filtered: 0 },
        holdout: None,
        parts: Vec::new(),
        holdout_parts: Vec::new(),
        rejects: None,
    }
}

/// Writes `descriptor` with `parts` and `holdout_parts`, each its rows and bytes, in the folder `name`.
fn write(
    sandbox: &Sandbox,
    name: &str,
    mut descriptor: Descriptor,
    parts: impl IntoIterator<Item = (usize, Vec<u8>)>,
    holdout_parts: Vec<(usize, Vec<u8>)>,
) {
    let place = Place::parse(sandbox.path(name).to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &place, DESCRIPTOR_KEY, &digest(name.as_bytes()));
    let put = |sort: &str, (i, (rows, bytes)): (usize, (usize, Vec<u8>))| {
        staging.put(&format!("{sort}-{i:05}.parquet"), bytes, rows as u64).unwrap()
    };
    descriptor.parts = parts.into_iter().enumerate().map(|part| put("train", part)).collect();
    descriptor.holdout_parts = holdout_parts.into_iter().enumerate().map(|part| put("holdout", part)).collect();
    let counts = &mut descriptor.rows;
    counts.train = descriptor.parts.iter().map(|part| part.rows).sum();
    counts.holdout = descriptor.holdout_parts.iter().map(|part| part.rows).sum();
    counts.read = counts.train + counts.holdout + counts.rejected + counts.filtered;
    staging.commit(serde_json::to_vec(&descriptor).unwrap(), false).unwrap();
}

fn encoded(rows: &ClickRows) -> (usize, Vec<u8>) {
    (rows.len, encode(FORM, rows))
}

fn expected() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/inspect.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn sparse(expected: &Value) -> Sparse {
    let number = |value: &Value| value.as_u64().unwrap();
    let categorical =
        |i| CategoricalColumn { name: format!("C{}", i + 1), present: number(&expected["categorical"][i]["present"]) };
    Sparse {
        labels: Some(Labels {
            train_positives: number(&expected["labels"]["train_positives"]),
            holdout_positives: number(&expected["labels"]["holdout_positives"]),
            train_base_log_loss: expected["labels"]["train_base_log_loss"].as_f64().unwrap(),
            holdout_base_log_loss: expected["labels"]["holdout_base_log_loss"].as_f64(),
        }),
        numeric: numeric(|i| number(&expected["numeric"][i]["present"])),
        categorical: (0..26).map(categorical).collect(),
        hash: Hash { function: HashFunction::Xxh3, buckets: BUCKETS },
        n_features: 13 + BUCKETS,
        scales: None,
        rows_with_collisions: number(&expected["buckets"]["rows_with_collisions"]),
        entries: number(&expected["entries"]),
        fitted_on: None,
    }
}

/// The rows of the oracle as a dataset, its descriptor as `change` leaves it.
fn write_sparse(sandbox: &Sandbox, name: &str, change: impl FnOnce(&mut Descriptor)) {
    let mut d = descriptor("oracle", Layout::Sparse(sparse(&expected())));
    d.holdout = Some(Holdout { fraction: 0.25, seed: 8 });
    (d.rows.rejected, d.rows.filtered, d.filter) = (3, 4, Some("I1 > 5".to_owned()));
    change(&mut d);
    let parts = [0..1, 1..400, 400..TRAIN].map(|range| encoded(&rows(range)));
    write(sandbox, name, d, parts, vec![encoded(&rows(TRAIN..TRAIN + HOLDOUT))]);
}

fn layout(d: &mut Descriptor) -> &mut Sparse {
    let Layout::Sparse(sparse) = &mut d.layout else { panic!("the rows are sparse") };
    sparse
}

/// Key of the first part of the dataset in the folder `name`.
fn first_part(sandbox: &Sandbox, name: &str) -> String {
    let bytes = std::fs::read(sandbox.path(name).join(DESCRIPTOR_KEY)).unwrap();
    serde_json::from_slice::<Descriptor>(&bytes).unwrap().parts.remove(0).key
}

/// Checks that `found` has what `expected` has; numbers to nine digits.
#[track_caller]
fn has(found: &Value, expected: &Value, at: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected
                .iter()
                .for_each(|(key, value)| has(found.get(key).unwrap_or(&json!("none")), value, &format!("{at}/{key}")));
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{at}");
            found.iter().zip(expected).enumerate().for_each(|(i, (f, e))| has(f, e, &format!("{at}/{i}")));
        }
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{at}: {found} is not {expected}");
        }
        _ => assert_eq!(found, expected, "{at}"),
    }
}

/// The report without what differs from run to run.
fn lasting(ran: &Ran) -> Value {
    let mut report = ran.report();
    assert!(report.as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap() > 0.0);
    report
}

#[test]
fn figures_equal_those_of_an_independent_program_whatever_the_threads() {
    let sandbox = Sandbox::new();
    write_sparse(&sandbox, "prepared/oracle", |_| {});
    let ran = sandbox.prep("inspect --json --threads 1");
    assert_eq!((ran.stderr.as_str(), ran.stdout.lines().count()), ("", 1));
    let report = lasting(&ran);
    let mut expected = expected();
    // The descriptor has these, the report what follows from them.
    for key in ["train_positives", "holdout_positives"] {
        expected["labels"].as_object_mut().unwrap().remove(key);
    }
    for column in ["numeric", "categorical"] {
        for column in expected[column].as_array_mut().unwrap() {
            column.as_object_mut().unwrap().remove("present");
        }
    }
    expected["entries"] = json!({"before": expected["entries"], "after": expected["entries"], "surviving": 1.0});
    has(&report["content"], &expected, "");
    let rows = json!({"read": 907, "train": TRAIN, "holdout": HOLDOUT, "rejected": 3, "filtered": 4});
    assert_eq!((&report["rows"], &report["contradictions"], &report["parts"]), (&rows, &json!([]), &json!(4)));
    assert_eq!(report["content"]["numeric"][0]["raw_max"], 12_345);
    for threads in [2, 3, 7] {
        let again = lasting(&sandbox.prep(&format!("inspect prepared/oracle/dataset.json --json --threads {threads}")));
        assert_eq!(again["content"].to_string(), report["content"].to_string(), "{threads} threads");
    }
    let schema = schemas::json_schemas().into_iter().find(|s| s.0 == "inspect-report.schema.json").unwrap().1;
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    assert!(schema.is_valid(&sandbox.prep("inspect --json").report()));
}

#[test]
fn the_table_for_people_fits_100_columns() {
    let sandbox = Sandbox::new();
    write_sparse(&sandbox, "prepared/oracle", |d| {
        (layout(d).numeric[0].min, layout(d).numeric[0].max) = (Some(i64::MIN), Some(i64::MAX));
    });
    let ran = sandbox.prep("inspect");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for line in ran.stdout.lines() {
        assert!(line.len() <= 100 && line.trim_end() == line, "{line:?}");
    }
    for line in [
        "prepared/oracle: sparse rows `oracle`, made by by hand of rows.tsv",
        "rows read                            907",
        "  for training                       700",
        "  held out                           200  asked for 25.00 %, seed 8",
        "  filtered                             4  I1 > 5",
        "clicks                           26.43 %  24.00 % of the held-out rows",
        "base-rate log loss               0.57749  0.55263 on the held-out rows",
        "values                          100.00 %  26,910 of 26,910 survive scaling",
        "buckets in use                     3,850  77.00 % of 5,000",
        "tokens per bucket                 1.4695  different tokens seen, estimated",
        "rows with collisions                 159  22.71 % of the rows hit a bucket more than once",
        "I1       51.00 %     -9.2234e18      9.2234e18   0.00099108      0.98612      0.50118      0.30069",
        "I13     100.00 %              -              -            -            -            -            -",
    ] {
        assert!(ran.stdout.lines().any(|found| found == line), "{line:?} is not in\n{}", ran.stdout);
    }
    let both = ran.stdout.lines().find(|line| line.starts_with("C12 ")).unwrap();
    assert!(both.contains("    C25 "), "{both}");
}

#[test]
fn dense_rows_are_inspected() {
    let sandbox = Sandbox::new();
    // By hand: of -1, -1, 2 the mean is 0 and the variance 2.
    let form = Form { labelled: false, n_buckets: None };
    let rows = ClickRows { len: 3, numbers: std::array::from_fn(|_| vec![-1.0, -1.0, 2.0]), ..ClickRows::default() };
    let parts = || [(3, encode(form, &rows))];
    for (name, fitted_on) in [("own", None), ("other", Some(digest(b"another dataset")))] {
        let layout = Dense { labels: None, numeric: numeric(|_| 1), fitted_on: fitted_on.clone() };
        write(&sandbox, name, descriptor(name, Layout::Dense(layout)), parts(), Vec::new());
        let report = sandbox.prep(&format!("inspect {name} --json")).report();
        let missing = if fitted_on.is_some() { Value::Null } else { json!(2.0 / 3.0) };
        let stored = json!({"min": -1.0, "max": 2.0, "mean": 0.0, "sd": 2f64.sqrt()});
        has(&report["content"]["numeric"][12], &json!({"name": "I13", "missing": missing, "stored": stored}), name);
        assert_eq!(report["content"]["labels"], Value::Null);
        assert_eq!(report["content"]["fitted_on"], json!(fitted_on.as_ref().map(Digest::as_str)));
        let table = sandbox.prep(&format!("inspect {name}")).stdout;
        assert!(table.contains("\nno labels\n"), "{table}");
        assert_eq!(
            table.contains("\nstatistics of another dataset, raw min and max too: xxh3-128:"),
            fitted_on.is_some(),
            "{table}"
        );
        assert!(table.lines().all(|line| line.len() <= 100), "{table}");
    }
}

#[test]
fn ratings_are_inspected() {
    let sandbox = Sandbox::new();
    let rmse = BaselineRmse { mean: 1.25, effects: 0.75 };
    let map = digest(b"");
    let map = |rows| schemas::dataset::Object { key: "map".to_owned(), rows, bytes: 0, digest: map.clone() };
    let layout = Ratings {
        n_users: 3,
        n_items: 4,
        mean: 3.0,
        rating_min: 1.0,
        rating_max: 5.0,
        user_rows_max: 2,
        item_rows_max: 3,
        repeated_pairs: 1,
        users: map(3),
        items: map(4),
        baselines: Baselines { item_shrinkage: 3.0, user_shrinkage: 4.0, train: rmse, holdout: Some(rmse) },
    };
    let part = |rows: &[(u32, u32, f32)]| {
        let mut columns = RatingRows::default();
        rows.iter().for_each(|&(user, item, rating)| columns.push(user, item, rating));
        (rows.len(), manifests::ratings::encode(&columns))
    };
    let parts = || [part(&[(0, 3, -2.0), (0, 1, 2.0)]), part(&[(1, 3, 0.0), (2, 3, 0.0)])];
    let held_out = || vec![part(&[(2, 3, 1.0), (2, 3, 1.0)])];
    write(&sandbox, "sound", descriptor("sound", Layout::Ratings(layout.clone())), parts(), held_out());
    let report = sandbox.prep("inspect sound --json").report();
    // By hand: of 1, 5, 3, 3 stars the mean is 3 and the variance 2; six of twelve pairs are rated.
    let expected = json!({"kind": "ratings", "users": 3, "items": 4, "density": 0.5, "user_rows_max": 2, "item_rows_max": 3,
        "mean": 3.0, "stars": {"min": 1.0, "max": 5.0, "mean": 3.0, "sd": 2f64.sqrt()}, "repeated_pairs": 1});
    has(&report["content"], &expected, "");
    assert_eq!(report["contradictions"], json!([]));
    let table = sandbox.prep("inspect sound").stdout;
    for line in [
        "users                                  3  at most 2 training rows each",
        "density                          50.00 %  of all pairs have a rating",
        "mean rating                       3.0000  from 1.0000 to 5.0000, sd 1.4142",
        "  user and item effects          0.75000         0.75000",
    ] {
        assert!(table.lines().any(|found| found == line), "{line:?} is not in\n{table}");
    }
    let fewer = Ratings { n_items: 3, item_rows_max: 4, items: map(3), ..layout };
    write(&sandbox, "bad", descriptor("bad", Layout::Ratings(fewer)), parts(), held_out());
    let ran = sandbox.prep("inspect bad");
    let key = first_part(&sandbox, "bad");
    ran.failed(3, &format!("bad/{key}: row 0: item is 3, not below the number of them, 3"));
}

#[test]
fn what_the_parts_do_not_bear_out_is_told() {
    let sandbox = Sandbox::new();
    write_sparse(&sandbox, "wrong", |d| {
        let layout = layout(d);
        layout.entries += 1;
        layout.numeric[2].present -= 1;
        layout.categorical[25].present = 5;
        layout.rows_with_collisions = 0;
        layout.labels.as_mut().unwrap().holdout_positives = 0;
    });
    let ran = sandbox.prep("inspect wrong --json");
    let found = ran.report();
    assert_eq!(
        found["contradictions"],
        json!([
            "wrong/dataset.json: values before scaling and after it: it says 26911, the parts hold 26910",
            "wrong/dataset.json: rows with I3: it says 526, the parts hold 527",
            "wrong/dataset.json: rows with C26: it says 5, the parts hold 0",
            "wrong/dataset.json: rows with collisions: it says 0, the parts hold 159",
            "wrong/dataset.json: held-out rows with label 1: it says 0, the parts hold 48",
        ])
    );
    assert_eq!(ran.stderr.matches("warning: wrong/dataset.json: ").count(), 5, "{}", ran.stderr);
    let table = sandbox.prep("inspect wrong").stdout;
    assert!(table.contains("CONTRADICTS ITS DESCRIPTOR in 5 places"), "{table}");
    assert!(table.contains("> 99.99 %  26,910 of 26,911 survive scaling"), "{table}");
    // Statistics of other rows need not agree, but no entry may be lost.
    write_sparse(&sandbox, "elsewhere", |d| {
        let layout = layout(d);
        layout.fitted_on = Some(digest(b"another dataset"));
        layout.numeric[2].present = 1_000_000;
        layout.rows_with_collisions = 0;
        layout.entries -= 1;
    });
    let found = sandbox.prep("inspect elsewhere --json").report();
    assert_eq!(found["contradictions"].as_array().unwrap().len(), 1, "{found}");
}

#[test]
fn damage_is_told_with_its_place() {
    let sandbox = Sandbox::new();
    write_sparse(&sandbox, "whole", |_| {});
    let d = sandbox.descriptor("whole");
    let path = |i: usize| sandbox.path("whole").join(&d.parts[i].key);
    let whole: Vec<Vec<u8>> = (0..3).map(|i| std::fs::read(path(i)).unwrap()).collect();
    let flip = |i: usize| {
        let mut bytes = whole[i].clone();
        bytes[100] ^= 1;
        std::fs::write(path(i), &bytes).unwrap();
        digest(&bytes)
    };
    flip(2);
    let damaged = flip(1);
    for threads in [1, 3] {
        let ran = sandbox.prep(&format!("inspect whole --threads {threads}"));
        let (key, digest) = (&d.parts[1].key, &d.parts[1].digest);
        ran.failed(3, &format!("whole/{key}: its digest is {damaged}, `whole/dataset.json` says {digest}"));
    }
    std::fs::remove_file(path(0)).unwrap();
    let ran = sandbox.prep("inspect whole");
    ran.failed(3, &format!("whole/{}: missing, though `whole/dataset.json` names it", d.parts[0].key));

    let (bytes, form) = (encode(FORM, &rows(0..5)), descriptor("short", Layout::Sparse(sparse(&expected()))));
    write(&sandbox, "short", form, [(6, bytes)], Vec::new());
    let key = first_part(&sandbox, "short");
    sandbox.prep("inspect short").failed(3, &format!("short/{key}: it has 5 rows, `short/dataset.json` says 6"));
}

#[test]
fn the_dataset_is_found_or_asked_for() {
    let sandbox = Sandbox::new();
    let none = "no dataset was named, and `prepared/*/dataset.json` does not exist";
    sandbox.prep("inspect").failed(2, none);
    sandbox.prep("inspect nowhere").failed(2, "nowhere/dataset.json: not found");
    sandbox.prep("inspect --threads 0").failed(2, "--threads: 0 is not in 1..=1024");
    for name in ["a", "b"] {
        write_sparse(&sandbox, &format!("prepared/{name}"), |_| {});
    }
    let ran = sandbox.prep("inspect");
    ran.failed(2, "no dataset was named, and there are several: prepared/a, prepared/b");
    assert!(ran.stderr.contains("fix: name one of them: `prep inspect prepared/a`"), "{}", ran.stderr);
    assert_eq!(sandbox.prep("inspect prepared/b").code, Some(0));
}

#[test]
fn every_example_runs_as_printed() {
    let sandbox = Sandbox::new();
    write_sparse(&sandbox, "prepared/mine", |_| {});
    let help = sandbox.prep("inspect --help").stdout;
    for example in prep::cli::examples::INSPECT {
        assert!(help.contains(&format!("\n  {example}\n")), "{example} is not in\n{help}");
        let ran = sandbox.shell(example);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{example}");
        assert_eq!(ran.stdout.starts_with('{'), example.ends_with("--json"), "{}", ran.stdout);
    }
    assert!(help.contains("Exit codes:"), "{help}");
    let completions = sandbox.prep("completions bash").stdout;
    assert!(completions.contains("--json"));
}
