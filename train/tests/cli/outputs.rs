//! What a run leaves behind, and what happens where one already is.

use std::path::Path;

use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use manifests::digest::digest;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::{Dtype, SafeTensors};
use schemas::report::{RUN_FORMAT, StopReason};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::shards::{MEAN, NO_HOLDOUT, SMALL, original};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The only batch of a Parquet file.
fn table(path: &Path) -> RecordBatch {
    let file = std::fs::File::open(path).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batch = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    batch
}

fn column<T: Clone + 'static>(table: &RecordBatch, name: &str) -> T {
    table.column_by_name(name).unwrap_or_else(|| panic!("{name}")).as_any().downcast_ref::<T>().unwrap().clone()
}

#[test]
fn the_model_is_clearly_better_than_the_mean() {
    let sandbox = Sandbox::with(SMALL);
    for args in ["", "--biases", "--biases --l2 0.05", "--reduce mean --learning-rate 3"] {
        let report = sandbox.train(&format!("{args} --step-batches 8 --max-epochs 60 -o out --replace")).report();
        let (rmse, mean) = (report.trained.holdout_loss().unwrap(), report.trained.base_loss());
        assert!(rmse < 0.7 * mean, "{args}: held-out RMSE {rmse}, the mean's {mean}");
        assert!(report.trained.train_loss().unwrap() < 0.6 * mean, "{args}: {report:?}");
    }
}

#[test]
fn the_files_of_a_run_agree() {
    let sandbox = Sandbox::with(SMALL);
    for (flag, biases) in [("--biases", true), ("", false)] {
        let args = format!("{flag} --factors 6 --workers 3 --step-batches 8 --max-epochs 5 -o out --replace");
        let ran = sandbox.train(&args);
        let report = ran.report();
        let model = sandbox.read("out/model.safetensors");
        assert_eq!(report.model_digest, digest(&model));
        let tensors = SafeTensors::deserialize(&model).unwrap();
        let mut names = tensors.names();
        names.sort_unstable();
        let expected: &[&str] = if biases {
            &["item_biases", "item_factors", "user_biases", "user_factors"]
        } else {
            &["item_factors", "user_factors"]
        };
        assert_eq!(names, expected);
        for (name, count) in [("user", SMALL.users), ("item", SMALL.items)] {
            let factors = tensors.tensor(&format!("{name}_factors")).unwrap();
            assert_eq!((factors.dtype(), factors.shape()), (Dtype::F32, &[count as usize, 6][..]));
            let table = table(&sandbox.path(&format!("out/{name}s.parquet")));
            let numbers: UInt32Array = column(&table, name);
            let ids: UInt32Array = column(&table, &format!("{name}_id"));
            assert!(numbers.values().iter().copied().eq(0..count));
            assert!(ids.values().iter().copied().eq((0..count).map(original)), "the source's ids");
            let lists: FixedSizeListArray = column(&table, "factors");
            let values = lists.values().as_any().downcast_ref::<Float32Array>().unwrap();
            assert_eq!((lists.value_length(), values.values().as_ref()), (6, &floats(factors.data())[..]));
            assert_eq!(table.column_by_name("bias").is_some(), biases);
            if biases {
                let tensor = tensors.tensor(&format!("{name}_biases")).unwrap();
                assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, &[count as usize][..]));
                let bias: Float32Array = column(&table, "bias");
                assert_eq!(bias.values().as_ref(), &floats(tensor.data())[..]);
            }
        }
        let (_, metadata) = SafeTensors::read_metadata(&model).unwrap();
        let about: Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["gristmill"]).unwrap();
        assert_eq!(about["format"], json!("gristmill.pmf"));
        assert_eq!(about["version"], json!(1));
        assert_eq!(about["mean"], json!(MEAN));
        assert_eq!(about["manifest"], json!(digest(&sandbox.read("ml20m.json"))));
    }
}

/// Predicts the held-out rows from the files alone, as the metadata of the model says.
#[test]
fn the_held_out_loss_can_be_reckoned_from_the_files() {
    let sandbox = Sandbox::with(SMALL);
    let report = sandbox.train("--biases --factors 6 --step-batches 8 --max-epochs 30 -o out").report();
    let model = sandbox.read("out/model.safetensors");
    let tensors = SafeTensors::deserialize(&model).unwrap();
    let [users, items, user_biases, item_biases] = ["user_factors", "item_factors", "user_biases", "item_biases"]
        .map(|name| floats(tensors.tensor(name).unwrap().data()));
    let shards = manifests::load::shards(sandbox.path("ml20m.json").to_str().unwrap()).unwrap();
    let (mut sum, mut n) = (0.0, 0);
    for object in shards.holdout_batches.iter() {
        let mut rows = manifests::ratings::RatingRows::default();
        let bytes = manifests::load::batch(&shards.place, &object, "test").unwrap();
        manifests::ratings::decode(bytes, &mut rows).unwrap();
        for ((&user, &item), &rating) in rows.users.iter().zip(&rows.items).zip(&rows.ratings) {
            let (user, item) = (user as usize, item as usize);
            let dot: f64 = (0..6).map(|f| f64::from(users[user * 6 + f]) * f64::from(items[item * 6 + f])).sum();
            let centred = dot + f64::from(user_biases[user]) + f64::from(item_biases[item]);
            sum += (centred - f64::from(rating)).powi(2);
            n += 1;
        }
    }
    assert_eq!(n, SMALL.holdout);
    let rmse = (sum / n as f64).sqrt();
    assert!(
        (rmse - report.trained.holdout_loss().unwrap()).abs() < 1e-5,
        "{rmse}, reported {:?}",
        report.trained.holdout_loss()
    );
}

#[test]
fn history_timings_and_report_are_complete() {
    let sandbox = Sandbox::with(SMALL);
    let ran = sandbox.train("--workers 3 --step-batches 8 --max-epochs 5 --patience 9 -o out");
    let report = ran.report();
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    let written: Value = serde_json::from_slice(&sandbox.read("out/report.json")).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(&ran.stdout).unwrap());
    assert_eq!((report.format.as_str(), report.version, report.output.as_str()), (RUN_FORMAT, 1, "out"));
    assert_eq!(report.manifest, "ml20m.json");
    assert_eq!(serde_json::to_value(&report).unwrap()["model"], json!("pmf"));
    assert_eq!(report.manifest_digest, digest(&sandbox.read("ml20m.json")));
    assert_eq!((report.stopped_by, report.steps, report.epochs), (StopReason::MaxEpochs, 30, 5));
    assert!(report.rows_per_second > 0.0 && report.seconds > 0.0);
    for line in ["training on ml20m.json: 4003 ratings in 41 mini-batches, 430 held out", "3 workers, 8 mini-batches"] {
        assert!(ran.stderr.contains(line), "{}", ran.stderr);
    }

    let history = sandbox.history("out");
    assert_eq!(history.len(), 30);
    let mut timeless = String::new();
    for (step, [number, epoch, loss, holdout]) in history.iter().enumerate() {
        assert_eq!((number, epoch), (&step.to_string(), &(step / 6).to_string()));
        assert!(loss.parse::<f64>().unwrap() > 0.0);
        assert_eq!(holdout.is_empty(), step % 6 != 5, "held-out loss of step {step}: `{holdout}`");
        timeless.push_str(&format!("{number},{epoch},{loss},{holdout}\n"));
    }
    assert_eq!(report.history_digest, digest(timeless.as_bytes()));
    let evaluations: Vec<f64> = history.iter().filter_map(|row| row[3].parse().ok()).collect();
    let best = (0..5).min_by(|&a, &b| evaluations[a].total_cmp(&evaluations[b])).unwrap();
    assert_eq!((report.trained.holdout_loss(), report.model_epoch), (Some(evaluations[best]), Some(best as u64)));
    // The mean over the rows of the last epoch: five steps of 8 batches and one of 1, nearly all of the same size.
    let squares = |row: &[String; 4]| row[2].parse::<f64>().unwrap().powi(2);
    let full: f64 = history[24..29].iter().map(squares).sum::<f64>() * 8.0;
    let expected = ((full + squares(&history[29])) / 41.0).sqrt();
    assert!((report.trained.train_loss().unwrap() - expected).abs() < 1e-2 * expected, "{expected}: {report:?}");

    let header = "worker,step,fetch_us,decode_us,batch_wait_us,compute_us,exchange_write_us,exchange_wait_us,\
                  exchange_read_us,apply_us,decision_us,bytes_written,bytes_read";
    let timings = sandbox.csv("out/timings.csv", header);
    let numbers: Vec<Vec<u64>> =
        timings.iter().map(|row| row.iter().map(|cell| cell.parse().unwrap()).collect()).collect();
    let mut found: Vec<(u64, u64)> = numbers.iter().map(|row| (row[0], row[1])).collect();
    found.sort_unstable();
    let all: Vec<(u64, u64)> = (0..3).flat_map(|worker| (0..30).map(move |step| (worker, step))).collect();
    assert_eq!(found, all, "one line a worker and step");
    assert!(numbers.iter().all(|row| row.len() == 13));
    let spent = |column: usize| numbers.iter().map(|row| row[column]).sum::<u64>();
    for column in [2, 3, 5] {
        assert!(spent(column) > 0, "reading, decoding and computing take time");
    }
    // Of the kept model, by rating: together the held-out loss, and the same whoever counted it.
    let scores = sandbox.csv("out/scores.csv", "stars,rows,mean_error,rmse");
    let scores: Vec<Vec<f64>> =
        scores.iter().map(|row| row.iter().map(|cell| cell.parse().unwrap()).collect()).collect();
    assert!(scores.len() < 80 && scores.windows(2).all(|pair| pair[0][0] < pair[1][0]), "{}", scores.len());
    let rows: f64 = scores.iter().map(|row| row[1]).sum();
    let squares: f64 = scores.iter().map(|row| row[1] * row[3] * row[3]).sum();
    assert_eq!(rows, 430.0);
    assert!(((squares / rows).sqrt() - evaluations[best]).abs() < 1e-5, "{scores:?}");
    assert!(scores.iter().all(|row| row[2].abs() <= row[3] + 1e-6), "a mean is at most the root of the mean square");
    sandbox.train("--step-batches 8 --max-epochs 5 --workers 1 -o alone").report();
    assert_eq!(sandbox.read("alone/scores.csv"), sandbox.read("out/scores.csv"));
    let lives = sandbox.csv("out/lives.csv", "worker,incarnation,began_by,first_step,last_step");
    // The last step of an epoch has one mini-batch.
    let expected = [["0", "29"], ["1", "28"], ["2", "28"]];
    assert_eq!(lives, expected.map(|[worker, last]| [worker, "0", "start", "0", last].map(str::to_owned).to_vec()));

    let seconds: f64 = sandbox.csv("out/history.csv", "step,epoch,seconds,loss,holdout_loss")[29][2].parse().unwrap();
    assert!(spent(5) as f64 / 3e6 < seconds + 1.0, "no worker computes for longer than the run takes");
}

#[test]
fn without_held_out_rows_there_is_no_held_out_loss() {
    let sandbox = Sandbox::with(NO_HOLDOUT);
    let report = sandbox.train("--step-batches 8 --max-epochs 4 -o out").report();
    assert_eq!(
        (report.stopped_by, report.trained.holdout_loss(), report.model_epoch),
        (StopReason::MaxEpochs, None, Some(3))
    );
    assert!(sandbox.history("out").iter().all(|row| row[3].is_empty()));
    assert!(report.trained.train_loss().unwrap() < report.trained.base_loss());
}

#[test]
fn the_same_again_is_verified_and_something_else_is_refused() {
    let sandbox = Sandbox::with(SMALL);
    let args = "--step-batches 8 --max-epochs 2 -o out";
    let first = sandbox.train(args).report();
    let before = sandbox.read("out/report.json");
    for again in [args.to_owned(), format!("{args} --workers 3"), format!("{args} --replace")] {
        let ran = sandbox.train(&again);
        let report = ran.report();
        assert!(report.unchanged && ran.stdout.contains("\"unchanged\":true"), "{again}");
        assert_eq!((report.model_digest, report.workers), (first.model_digest.clone(), first.workers), "{again}");
        assert!(ran.stderr.contains("out is already there, unchanged"), "{}", ran.stderr);
    }
    for (other, difference) in [
        ("--seed 9", "its seed is 8, this one's 9"),
        ("--factors 10", "its factors is 20, this one's 10"),
        ("--biases", "its biases is false, this one's true"),
        ("--max-time 1h", "its rules to stop are others (--max-epochs, --max-time, "),
        ("--step-batches 7", "its step-batches is 8, this one's 7"),
    ] {
        let base = if other.starts_with("--step") { "--max-epochs 2 -o out" } else { args };
        let told = format!("out/report.json: already exists and differs: {difference}");
        let messages = [&told, "\n  fix: ", "`--replace`"];
        sandbox.train(&format!("{base} {other}")).failed(5, &messages);
    }
    assert_eq!(sandbox.read("out/report.json"), before, "nothing was touched");
    assert!(!sandbox.train(&format!("{args} --seed 9 --replace")).report().unchanged);
    assert!(sandbox.train(&format!("{args} --seed 9")).report().unchanged);

    // A run whose model was damaged is not taken for whole.
    let mut model = sandbox.read("out/model.safetensors");
    *model.last_mut().unwrap() ^= 1;
    std::fs::write(sandbox.path("out/model.safetensors"), &model).unwrap();
    sandbox.train(&format!("{args} --seed 9")).failed(5, &["differs: a file of it is missing or damaged"]);
    let repaired = sandbox.train(&format!("{args} --seed 9 --replace")).report();
    assert_eq!((repaired.unchanged, repaired.model_digest), (false, digest(&sandbox.read("out/model.safetensors"))));
}

#[test]
fn the_default_place_is_named_after_manifest_and_settings() {
    let sandbox = Sandbox::with(SMALL);
    let places = ["--seed 1", "--seed 2"].map(|seed| {
        let report = sandbox.train(&format!("{seed} --step-batches 8 --max-epochs 1")).report();
        assert_eq!(report.output, format!("runs/ml20m-pmf-{}", &report.identity.hex()[..8]));
        assert!(sandbox.path(&report.output).join("report.json").exists());
        report.output
    });
    assert_ne!(places[0], places[1]);
}

#[test]
fn a_run_that_was_to_be_replaced_stays_when_the_new_one_fails() {
    let sandbox = Sandbox::with(SMALL);
    let first = sandbox.train("--step-batches 8 --max-epochs 2 -o out").report();
    sandbox.train("--step-batches 8 --learning-rate 1e4 -o out --replace").failed(6, &["training diverged"]);
    let again = sandbox.train("--step-batches 8 --max-epochs 2 -o out").report();
    assert_eq!((again.unchanged, again.model_digest), (true, first.model_digest));
    let mut names: Vec<_> = std::fs::read_dir(sandbox.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let files = "history.csv items.parquet ledger.parquet lives.csv model.safetensors preparation preparation.json report.html report.json scores.csv timings.csv users.parquet";
    assert!(names.iter().map(|name| name.to_str().unwrap()).eq(files.split(' ')), "{names:?}");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let sandbox = Sandbox::with(SMALL);
    let verdict = |args: &str| {
        let ran = sandbox.train(&format!("{args} --max-epochs 2 -o out --dry-run"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let report: schemas::report::DryRunReport = serde_json::from_str(ran.stdout.trim_end()).unwrap();
        assert!(report.dry_run && report.reads[0].bytes.unwrap() > 0);
        serde_json::to_value(report.verdict).unwrap()
    };
    assert_eq!(verdict(""), json!("new"));
    assert!(!sandbox.path("out").exists());
    sandbox.train("--max-epochs 2 -o out").report();
    let before = sandbox.read("out/report.json");
    assert_eq!(verdict(""), json!("unchanged"));
    assert_eq!(verdict("--seed 3"), json!("conflict"));
    assert_eq!(verdict("--seed 3 --replace"), json!("replace"));
    assert_eq!(sandbox.read("out/report.json"), before);
}
