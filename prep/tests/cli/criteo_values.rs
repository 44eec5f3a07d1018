//! `prep criteo`: every value of a file that needs care, by another program's reckoning.

use std::path::{Path, PathBuf};

use manifests::clicks::{ClickRows, Form, MISSING_BUCKET, decode};
use manifests::{load, place::Place, scales};
use schemas::clicks::{Labels, NumericColumn};
use schemas::dataset::{Descriptor, Layout, Object};
use serde_json::Value;

use crate::sandbox::Sandbox;

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(oracle("criteo.json")).unwrap()).unwrap()
}

/// The cells of the rows in `lines`, those held out and the others.
fn cells<'a>(lines: &'a Value, held_out: &str) -> [Vec<Vec<&'a str>>; 2] {
    let rows: Vec<Vec<&str>> =
        lines.as_array().unwrap().iter().map(|l| l.as_str().unwrap().split(' ').collect()).collect();
    assert_eq!(rows.len(), held_out.len());
    [b'0', b'1']
        .map(|sort| rows.iter().zip(held_out.bytes()).filter(|(_, h)| *h == sort).map(|(r, _)| r.clone()).collect())
}

/// All rows of `parts`, in order.
fn read(place: &Place, form: Form, parts: &[Object]) -> ClickRows {
    let (mut rows, mut part) = (ClickRows::default(), ClickRows::default());
    for object in parts {
        decode(form, load::object(place, object, "the descriptor").unwrap(), &mut part).unwrap();
        rows.len += part.len;
        rows.labels.append(&mut part.labels);
        rows.numbers.iter_mut().zip(&mut part.numbers).for_each(|(all, some)| all.append(some));
        rows.buckets.iter_mut().zip(&mut part.buckets).for_each(|(all, some)| all.append(some));
    }
    rows
}

#[track_caller]
fn close(found: f64, expected: &Value, scale: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    let allowed = 1e-9 * expected.abs().max(scale);
    assert!((found - expected).abs() <= allowed, "{what}: {found} is not {expected}");
}

#[track_caller]
fn labels_equal(found: Option<Labels>, expected: &Value) {
    let found = found.unwrap();
    assert_eq!(found.train_positives, expected["train_positives"].as_u64().unwrap());
    assert_eq!(found.holdout_positives, expected["holdout_positives"].as_u64().unwrap());
    close(found.train_base_log_loss, &expected["train_base_log_loss"], 0.0, "train_base_log_loss");
    match found.holdout_base_log_loss {
        Some(loss) => close(loss, &expected["holdout_base_log_loss"], 0.0, "holdout_base_log_loss"),
        None => assert!(expected["holdout_base_log_loss"].is_null()),
    }
}

/// Checks what is known of a column but mean and standard deviation, which `fitted` has.
#[track_caller]
fn numeric_equal(found: &[NumericColumn], columns: &Value, fitted: &Value) {
    assert_eq!(found.len(), 13);
    for (j, found) in found.iter().enumerate() {
        let (name, column, fitted) = (&found.name, &columns[j], &fitted[j]);
        assert_eq!(*name, format!("I{}", j + 1));
        assert_eq!(found.present, column["present"].as_u64().unwrap(), "{name}");
        assert_eq!((found.min, found.max), (column["min"].as_i64(), column["max"].as_i64()), "{name}");
        // A mean may be small beside the values it is of, and then has the error of their sum.
        close(found.mean, &fitted["mean"], fitted["sd"].as_f64().unwrap(), name);
        close(found.sd, &fitted["sd"], 0.0, name);
    }
}

#[track_caller]
fn labels_of_rows_equal(found: &ClickRows, expected: &Value, held_out: &str, sort: char) {
    let labels = expected["labels"].as_str().unwrap().chars().zip(held_out.chars());
    let labels: Vec<f32> = labels.filter(|(_, h)| *h == sort).map(|(l, _)| f32::from(u8::from(l == '1'))).collect();
    assert_eq!(found.labels, labels);
}

/// Runs `prep criteo` on `input` and gives the descriptor and its place.
fn prepared(sandbox: &Sandbox, input: &Path, args: &str, out: &str) -> (Descriptor, Place) {
    sandbox.prep(&format!("criteo {} {args} -q -o {out}", input.display())).report();
    (sandbox.descriptor(out), Place::parse(sandbox.path(out).to_str().unwrap()).unwrap())
}

#[test]
fn every_sparse_value_equals_that_of_an_independent_program() {
    let sandbox = Sandbox::new();
    let expected = expected();
    for (v, variant) in expected["variants"].as_array().unwrap().iter().enumerate() {
        for n_buckets in [1000u32, 1_000_000] {
            let (args, held_out) = (variant["args"].as_str().unwrap(), variant["held_out"].as_str().unwrap());
            let args = format!("--features sparse --hash-buckets {n_buckets} {args}");
            let (d, place) = prepared(&sandbox, &oracle("criteo.tsv"), &args, &format!("out-{v}-{n_buckets}"));
            let Layout::Sparse(sparse) = &d.layout else { panic!("{} rows", d.layout.kind()) };
            assert_eq!((sparse.hash.buckets, sparse.n_features), (n_buckets, 13 + n_buckets));
            labels_equal(sparse.labels, &variant["labels"]);
            numeric_equal(&sparse.numeric, &variant["numeric"], &variant["numeric"]);
            for (j, column) in sparse.categorical.iter().enumerate() {
                assert_eq!(column.present, variant["categorical"][j].as_u64().unwrap(), "{}", column.name);
            }
            assert_eq!(sparse.entries, expected["entries"].as_u64().unwrap());
            let key = n_buckets.to_string();
            assert_eq!(sparse.rows_with_collisions, variant["rows_with_collisions"][&key].as_u64().unwrap());
            let object = sparse.scales.as_ref().unwrap();
            let table = scales::decode(n_buckets, load::object(&place, object, "the descriptor").unwrap()).unwrap();
            assert_eq!(serde_json::to_value(&table).unwrap(), variant["scales"][&key], "{args}");

            let form = Form::of(&d.layout).unwrap();
            let numbers = cells(&variant["scaled"], held_out);
            let buckets = cells(&expected["buckets"], held_out);
            for (sort, (parts, (numbers, buckets))) in
                ['0', '1'].into_iter().zip([&d.parts, &d.holdout_parts].into_iter().zip(numbers.iter().zip(&buckets)))
            {
                let rows = read(&place, form, parts);
                assert_eq!(rows.len, numbers.len());
                labels_of_rows_equal(&rows, &expected, held_out, sort);
                for i in 0..rows.len {
                    for (j, column) in rows.numbers.iter().enumerate() {
                        let bits = format!("{:08x}", column[i].to_bits());
                        let found = if column[i].is_nan() { "-" } else { &bits };
                        assert_eq!(found, numbers[i][j], "{args}, row {i} of sort {sort}, I{}", j + 1);
                    }
                    for (j, column) in rows.buckets.iter().enumerate() {
                        let bucket = match buckets[i][j] {
                            "-" => MISSING_BUCKET,
                            bucket => bucket.parse::<u32>().unwrap() % n_buckets,
                        };
                        assert_eq!(column[i], bucket, "{args}, row {i} of sort {sort}, C{}", j + 1);
                    }
                }
            }
        }
    }
}

#[test]
fn every_dense_value_equals_that_of_scikit_learn() {
    let sandbox = Sandbox::new();
    let expected = expected();
    for (v, variant) in expected["variants"].as_array().unwrap().iter().enumerate() {
        let (args, held_out) = (variant["args"].as_str().unwrap(), variant["held_out"].as_str().unwrap());
        let (d, place) =
            prepared(&sandbox, &oracle("criteo.tsv"), &format!("--features dense {args}"), &format!("out-{v}"));
        let Layout::Dense(dense) = &d.layout else { panic!("{} rows", d.layout.kind()) };
        labels_equal(dense.labels, &variant["labels"]);
        numeric_equal(&dense.numeric, &variant["numeric"], &variant["dense"]);
        let numbers = cells(&variant["standardised"], held_out);
        for (sort, (parts, numbers)) in
            ['0', '1'].into_iter().zip([&d.parts, &d.holdout_parts].into_iter().zip(&numbers))
        {
            let rows = read(&place, Form::of(&d.layout).unwrap(), parts);
            assert_eq!(rows.len, numbers.len());
            labels_of_rows_equal(&rows, &expected, held_out, sort);
            for i in 0..rows.len {
                for (j, column) in rows.numbers.iter().enumerate() {
                    let (found, value) = (f64::from(column[i]), numbers[i][j].parse::<f64>().unwrap());
                    let near = (found - value).abs() <= 1e-6 * value.abs() + 1e-9;
                    assert!(near, "{args}, row {i} of sort {sort}, I{}: {found} is not {value}", j + 1);
                }
            }
        }
    }
}

#[test]
fn without_labels_the_features_are_the_same() {
    let sandbox = Sandbox::new();
    let labelled = std::fs::read(oracle("criteo.tsv")).unwrap();
    let unlabelled: Vec<u8> = labelled.split_inclusive(|&b| b == b'\n').flat_map(|line| &line[2..]).copied().collect();
    sandbox.write("test.txt", unlabelled);
    for features in ["sparse", "dense"] {
        let args = format!("--features {features} --hash-buckets 1000");
        let (with, place_with) = prepared(&sandbox, &oracle("criteo.tsv"), &args, &format!("with-{features}"));
        let (without, place) = prepared(&sandbox, Path::new("test.txt"), &args, &format!("without-{features}"));
        let (form_with, form) = (Form::of(&with.layout).unwrap(), Form::of(&without.layout).unwrap());
        assert_eq!((form_with.labelled, form.labelled), (true, false));
        let (with, without) = (read(&place_with, form_with, &with.parts), read(&place, form, &without.parts));
        let bits = |rows: &ClickRows| -> Vec<u32> { rows.numbers.iter().flatten().map(|x| x.to_bits()).collect() };
        assert!(bits(&with) == bits(&without) && with.buckets == without.buckets, "{features}");
        assert_eq!((with.len, without.labels.len()), (400, 0));
    }
}
