//! Logistic regression on dense and sparse click rows: the run and its files, the same bits, bad input.

use arrow_array::{Array, Float32Array, RecordBatch, StringArray, UInt32Array};
use manifests::clicks::{ClickRows, MISSING_BUCKET};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::SafeTensors;
use schemas::report::{ClickQuality, StopReason, TrainReport, Trained};
use serde_json::json;

use crate::click_shards::{self, N_BUCKETS, ROWS, SCALES, change_rows, stored_rows};
use crate::sandbox::Sandbox;
use crate::shards::edit;

const KINDS: [(&str, bool); 2] = [("sparse", true), ("dense", false)];

fn sandbox(sparse: bool) -> Sandbox {
    let sandbox = Sandbox::empty();
    click_shards::write(&sandbox.path(""), sparse);
    sandbox
}

fn train(sandbox: &Sandbox, args: &str) -> TrainReport {
    sandbox.run(&format!("--manifest criteo.json {args}")).report()
}

fn holdout(report: &TrainReport) -> ClickQuality {
    let Trained::Logistic { holdout: Some(quality), .. } = report.trained else { panic!("{report:?}") };
    quality
}

#[test]
fn the_same_bits_of_any_number_of_workers() {
    for (kind, sparse) in KINDS {
        let sandbox = sandbox(sparse);
        for args in [
            "--step-batches 8 --max-epochs 3",
            "--step-batches 8 --max-epochs 3 --l2 0.001 --lr-decay sqrt-epoch --no-intercept",
            "--step-batches 3 --max-epochs 2 --reduce sum --beta1 0.8 --beta2 0.99",
            "--step-batches 64 --max-epochs 3",
        ] {
            let mut of_one: Option<(TrainReport, Vec<Vec<u8>>)> = None;
            for workers in [1, 2, 3, 8] {
                let out = format!("out-{workers}");
                let args = format!("{args} --workers {workers} --patience 99 -q --replace -o {out}");
                let report = train(&sandbox, &args);
                let files = ["model.safetensors", "weights.parquet", "preparation.json"];
                let files = files.map(|file| sandbox.read(&format!("{out}/{file}"))).to_vec();
                let (one, one_s_files) = of_one.get_or_insert_with(|| (report.clone(), files.clone()));
                assert_eq!(
                    (&report.history_digest, &report.trained),
                    (&one.history_digest, &one.trained),
                    "{kind} {args}"
                );
                assert!(files == *one_s_files, "{kind} {args}");
            }
        }
    }
}

#[test]
fn every_setting_makes_another_model() {
    let sandbox = sandbox(true);
    let all = [
        "",
        "--seed 9",
        "--learning-rate 0.02",
        "--beta1 0.8",
        "--beta2 0.9",
        "--l2 0.01",
        "--lr-decay sqrt-epoch",
        "--no-intercept",
        "--reduce sum",
    ];
    let model = |args: &&str| {
        let args = format!("{args} --step-batches 4 --max-epochs 2 -q --replace -o out");
        train(&sandbox, &args).model_digest.to_string()
    };
    let mut digests: Vec<String> = all.iter().map(model).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all.len());
}

#[test]
fn the_files_of_a_run_agree() {
    for (kind, sparse) in KINDS {
        let sandbox = sandbox(sparse);
        for flag in ["", "--no-intercept"] {
            let args =
                format!("{flag} --learning-rate 0.05 --step-batches 2 --max-epochs 12 --patience 2 -o out --replace");
            let report = train(&sandbox, &args);
            let n_features = if sparse { 13 + N_BUCKETS as usize } else { 13 };
            let weights = weights(&sandbox, n_features, flag.is_empty());
            let (quality, base) = (holdout(&report), report.trained.base_loss());
            assert!(quality.log_loss < base - 0.03, "{kind}: {quality:?}, always the same gives {base}");

            // The report's figures, from the table of weights and the held-out rows.
            let mut rows = Vec::new();
            for i in 0..ROWS[1].div_ceil(100) {
                let batch = stored_rows(&sandbox.path(""), &format!("/holdout_batches/{i}"));
                rows.extend((0..batch.len).map(|row| (output(&weights, &batch, row), f64::from(batch.labels[row]))));
            }
            assert_eq!(rows.len() as u64, ROWS[1]);
            let close = |found: Option<f64>, expected: f64, tolerance: f64| {
                assert!((found.unwrap() - expected).abs() < tolerance, "{kind} {flag}: {found:?}, not {expected}");
            };
            let n = rows.len() as f64;
            let p = |z: f64| 1.0 / (1.0 + (-z).exp());
            let log_loss =
                rows.iter().map(|(z, y)| -(y * p(*z).ln() + (1.0 - y) * (1.0 - p(*z)).ln())).sum::<f64>() / n;
            close(Some(quality.log_loss), log_loss, 2e-5);
            let share = rows.iter().map(|r| r.1).sum::<f64>() / n;
            let entropy = -(share * share.ln() + (1.0 - share) * (1.0 - share).ln());
            close(quality.normalised_entropy, log_loss / entropy, 2e-5);
            close(quality.calibration, rows.iter().map(|r| p(r.0)).sum::<f64>() / n / share, 2e-5);
            let of = |label: f64| rows.iter().filter(move |row| row.1 == label).map(|row| row.0).collect::<Vec<f64>>();
            let (clicks, others) = (of(1.0), of(0.0));
            let pairs = clicks.iter().flat_map(|c| others.iter().map(move |o| f64::from(u8::from(c > o))));
            let auc = pairs.sum::<f64>() / (clicks.len() * others.len()) as f64;
            // Outputs that differ by less than a thousandth may count as tied.
            close(quality.auc, auc, 1e-3);

            // Neighbouring outputs together, which tell what the whole tells.
            let groups = sandbox.csv("out/scores.csv", "rows,clicks,predicted");
            let groups: Vec<[f64; 3]> = groups.iter().map(|row| [0, 1, 2].map(|i| row[i].parse().unwrap())).collect();
            assert!((100..=200).contains(&groups.len()), "{}", groups.len());
            assert_eq!(groups.iter().map(|g| g[0]).sum::<f64>(), n);
            assert_eq!(groups.iter().map(|g| g[1]).sum::<f64>(), share * n);
            assert!(groups.windows(2).all(|pair| pair[0][2] < pair[1][2]));
            let predicted = groups.iter().map(|g| g[0] * g[2]).sum::<f64>();
            close(Some(predicted / n / share), quality.calibration.unwrap(), 1e-3);
            let mut below = 0.0;
            let pairs = groups.iter().map(|[rows, clicks, _]| {
                let pairs = clicks * (below + (rows - clicks) / 2.0);
                below += rows - clicks;
                pairs
            });
            close(quality.auc, pairs.sum::<f64>() / (clicks.len() * others.len()) as f64, 5e-3);

            // The history has an evaluation an epoch, and the best of them is the report's.
            let history = sandbox.csv(
                "out/history.csv",
                "step,epoch,seconds,loss,holdout_loss,holdout_auc,holdout_normalised_entropy,holdout_calibration",
            );
            let evaluations: Vec<[f64; 4]> = history
                .iter()
                .filter(|row| !row[4].is_empty())
                .map(|row| [4, 5, 6, 7].map(|i| row[i].parse().unwrap()))
                .collect();
            assert_eq!(evaluations.len() as u64, report.epochs);
            let best = evaluations.iter().min_by(|a, b| a[0].total_cmp(&b[0])).unwrap();
            let figures = [Some(quality.log_loss), quality.auc, quality.normalised_entropy, quality.calibration];
            assert_eq!(best.map(Some), figures);
            assert!((history[0][3].parse::<f64>().unwrap() - 2f64.ln()).abs() < 1e-6, "the start is at zero");
        }
    }
}

/// The weights by position, checked between the two files that hold them.
fn weights(sandbox: &Sandbox, n_features: usize, intercept: bool) -> Vec<f64> {
    let file = std::fs::File::open(sandbox.path("out/weights.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let (mut names, mut buckets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for batch in reader {
        let batch: RecordBatch = batch.unwrap();
        let column = |i: usize| batch.column(i).clone();
        let (name, bucket, weight) = (column(0), column(1), column(2));
        let name = name.as_any().downcast_ref::<StringArray>().unwrap();
        let bucket = bucket.as_any().downcast_ref::<UInt32Array>().unwrap();
        let weight = weight.as_any().downcast_ref::<Float32Array>().unwrap();
        names.extend(name.iter().map(|name| name.map(str::to_owned)));
        buckets.extend(bucket.iter());
        weights.extend(weight.values());
    }
    assert_eq!(weights.len(), n_features + usize::from(intercept));
    assert!((1..=13).all(|i| names[i - 1] == Some(format!("I{i}"))));
    assert!((13..n_features).all(|i| names[i].is_none() && buckets[i] == Some(i as u32 - 13)));
    assert_eq!(names.get(n_features), intercept.then(|| Some("intercept".to_owned())).as_ref());
    let bytes = sandbox.read("out/model.safetensors");
    let model = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let tensor = model.tensor(name).unwrap();
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    assert_eq!(model.names().len(), 1 + usize::from(intercept));
    let mut stored = floats("weights");
    if intercept {
        stored.extend(floats("intercept"));
    } else {
        weights.push(0.0);
        stored.push(0.0);
    }
    assert_eq!(stored, weights);
    weights.into_iter().map(f64::from).collect()
}

/// What `weights` make of row `row`, one feature after the other.
fn output(weights: &[f64], rows: &ClickRows, row: usize) -> f64 {
    let mut z = weights[weights.len() - 1];
    for (j, column) in rows.numbers.iter().enumerate().filter(|(_, column)| !column[row].is_nan()) {
        z += weights[j] * f64::from(column[row]);
    }
    for column in rows.buckets.iter().filter(|column| !column.is_empty()) {
        let bucket = column[row];
        if bucket != MISSING_BUCKET {
            let scale = SCALES.iter().find(|s| s.0 == bucket).map_or(1, |s| s.1);
            z += weights[13 + bucket as usize] / f64::from(scale);
        }
    }
    z
}

#[test]
fn a_run_knows_how_its_rows_were_prepared() {
    let sandbox = sandbox(true);
    train(&sandbox, "--max-epochs 1 -o out");
    let preparation: serde_json::Value = serde_json::from_str(&sandbox.text("out/preparation.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&sandbox.text("criteo.json")).unwrap();
    assert_eq!(preparation["layout"]["hash"], manifest["layout"]["hash"]);
    assert_eq!(preparation["layout"]["numeric"], manifest["layout"]["numeric"]);
    assert_eq!(preparation["layout"]["scales"]["key"], json!("preparation/scales.parquet"));
    assert_eq!(preparation["layout"]["scales"]["digest"], manifest["layout"]["scales"]["digest"]);
    let key = manifest["layout"]["scales"]["key"].as_str().unwrap();
    assert_eq!(sandbox.read("out/preparation/scales.parquet"), sandbox.read(&format!("shards/criteo/{key}")));
    assert!(train(&sandbox, "--max-epochs 1 -o out").unchanged);
}

#[test]
fn what_happens_is_said() {
    let sandbox = sandbox(true);
    let ran = sandbox.run("--manifest criteo.json --learning-rate 0.05 --max-epochs 2 --step-batches 2 -o out");
    assert_eq!(ran.report().stopped_by, StopReason::MaxEpochs);
    for line in [
        "training on criteo.json: 4003 rows in 41 mini-batches, 430 held out; 20.0 k features and an intercept",
        "Adam on the mean of a step's rows, learning rate 0.05, betas 0.9 and 0.999, l2 0",
        "epoch 1: held-out log loss 0.",
        " (always the share of clicks 0.",
        "), AUC 0.",
        "epoch 2: held-out log loss 0.",
        "log loss in nats on the held-out rows",
        "  always the share of clicks  0.",
        "  this model                  0.",
        ", normalised entropy ",
        "(for DuckDB or pandas: weights.parquet)",
    ] {
        assert!(ran.stderr.contains(line), "{line:?} in\n{}", ran.stderr);
    }
}

#[test]
fn settings_that_do_not_fit_are_told() {
    let sandbox = sandbox(true);
    let table = [
        ("--momentum 0.9", 2, "error: --momentum has no meaning for a manifest of the kind `sparse`"),
        ("--factors 8", 2, "error: --factors has no meaning"),
        ("--biases", 2, "error: --biases has no meaning"),
        ("--learning-rate 0", 2, "error: --learning-rate 0 is not above 0 and at most 1e3"),
        ("--beta1 1", 2, "error: --beta1 1 is outside 0..=0.999999"),
        ("--beta2=1.5", 2, "error: --beta2 1.5 is outside"),
        ("--l2=-1", 2, "error: --l2 -1 is outside 0..=1000"),
        ("--target-loss nan", 2, "error: --target-loss NaN is not a positive number\n  fix: give a log loss in nats"),
        ("--learning-rate 900 --step-batches 1", 6, "error: training diverged at step "),
    ];
    for (args, code, message) in table {
        sandbox.run(&format!("--manifest criteo.json {args} -o out")).failed(code, &[message, "\n  fix: "]);
    }
    let warned = sandbox.run("--manifest criteo.json --target-loss 0.69 --max-epochs 1 -o warned");
    assert!(warned.stderr.contains("no better than always predicting the share of clicks"), "{}", warned.stderr);
    let ratings = Sandbox::with(crate::shards::SMALL);
    for flag in ["--beta1 0.9", "--beta2 0.9", "--lr-decay none", "--no-intercept"] {
        let name = flag.split(' ').next().unwrap();
        let message = format!("error: {name} has no meaning for a manifest of the kind `ratings`");
        ratings.train(flag).failed(2, &[&message, "\n  fix: "]);
    }
    edit(&sandbox.path("criteo.json"), |manifest| manifest["layout"]["labels"] = json!(null));
    sandbox
        .run("--manifest criteo.json")
        .failed(2, &["error: the rows of `criteo.json` have no labels\n  fix: train on rows"]);
}

#[test]
fn a_mini_batch_that_cannot_be_used_is_told() {
    type Change = fn(&mut ClickRows);
    let table: [(bool, Option<u32>, Change, &str); 6] = [
        (true, Some(N_BUCKETS), |rows| rows.numbers[3][7] = f32::INFINITY, "row 7: I4 is inf, not a finite number"),
        (false, None, |rows| rows.numbers[3][7] = f32::NAN, "row 7: I4 is NaN, not a finite number"),
        // The first column has a dictionary, the last has not.
        (true, Some(N_BUCKETS + 9), |rows| rows.buckets[0][8] = 20_001, "in the dictionary: C1 is 20001, not below"),
        (
            true,
            Some(N_BUCKETS + 9),
            |rows| rows.buckets[25][8] = 20_001,
            "C26 is 20001, not below the number of buckets, 20000",
        ),
        (true, Some(N_BUCKETS), |rows| rows.labels[2] = 0.5, "row 2: the label 0.5 is neither 0 nor 1"),
        (
            false,
            Some(N_BUCKETS),
            |rows| rows.buckets = std::array::from_fn(|_| vec![1; rows.len]),
            "column 2 is `I1: FLOAT optional`",
        ),
    ];
    for (sparse, n_buckets, change, message) in table {
        for pointer in ["/batches/5", "/holdout_batches/1"] {
            let sandbox = sandbox(sparse);
            change_rows(&sandbox.path(""), pointer, n_buckets, change);
            let ran = sandbox.run("--manifest criteo.json --step-batches 8 -o out");
            ran.failed(3, &["error: shards/criteo/gen-", message, "`shard --replace`"]);
            assert!(!sandbox.path("out/report.json").exists(), "{message}");
        }
    }
    // What is known of the scales is looked at before training.
    let sandbox = sandbox(true);
    let manifest: serde_json::Value = serde_json::from_str(&sandbox.text("criteo.json")).unwrap();
    let key = manifest["layout"]["scales"]["key"].as_str().unwrap();
    std::fs::remove_file(sandbox.path(&format!("shards/criteo/{key}"))).unwrap();
    let ran = sandbox.run("--manifest criteo.json -o out");
    ran.failed(3, &["scales.parquet: missing, though `criteo.json` names it", "\n  fix: "]);
    assert!(!ran.stderr.contains("training on"), "{}", ran.stderr);
}
