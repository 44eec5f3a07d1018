//! Runs, datasets and texts that a model cannot be used with: one error with place, rule and remedy.

use std::path::Path;

use manifests::digest::digest;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use schemas::dataset::Layout;
use serde_json::json;

use crate::clicks::{change_part, rows, text, write_dataset, write_manifest};
use crate::ratings::write_ratings;
use crate::runs;
use crate::shards::{SMALL, edit};

const CLICKS: &str = "predict --model runs/clicks new.txt";

/// A tensor: its name, type, shape and bytes.
type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// Changes the tensors of the model of `run`, with the digest in its report to match.
fn change_model(run: &Path, change: impl FnOnce(&mut Vec<Tensor>)) {
    let path = run.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<Tensor> = tensors
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, t.dtype(), t.shape().to_vec(), t.data().to_vec()))
        .collect();
    change(&mut all);
    let views =
        all.iter().map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    write_model(run, &safetensors::serialize(views, None).unwrap());
}

fn write_model(run: &Path, bytes: &[u8]) {
    std::fs::write(run.join("model.safetensors"), bytes).unwrap();
    edit(&run.join("report.json"), |report| report["model_digest"] = json!(digest(bytes)));
}

fn tensor<'t>(all: &'t mut [Tensor], name: &str) -> &'t mut Tensor {
    all.iter_mut().find(|tensor| tensor.0 == name).unwrap()
}

#[test]
fn a_run_that_cannot_be_used_is_told() {
    type Break = fn(&Path);
    let again = "fix: train the model again, with `--replace`";
    let restore = "fix: restore the object, or make the data anew with the tool that wrote it and `--replace`";
    let table: [(Break, i32, &[&str]); 16] = [
        (
            |run| std::fs::remove_file(run.join("report.json")).unwrap(),
            2,
            &[
                "error: `runs/clicks` is not a finished run: it has no report.json\n  fix: give the folder that `train` wrote",
            ],
        ),
        (
            |run| std::fs::write(run.join("report.json"), "{}").unwrap(),
            4,
            &["runs/clicks/report.json: not a gristmill.run file"],
        ),
        (
            |run| edit(&run.join("report.json"), |r| r["version"] = json!(2)),
            4,
            &["runs/clicks/report.json: version 2 of gristmill.run is unknown"],
        ),
        (
            |run| std::fs::remove_file(run.join("preparation.json")).unwrap(),
            4,
            &["error: runs/clicks/preparation.json: not found, and without it no rows can be prepared", again],
        ),
        (
            |run| edit(&run.join("preparation.json"), |p| p["manifest_digest"] = json!(digest(b"another"))),
            4,
            &[
                "error: runs/clicks/preparation.json: it is of the manifest xxh3-128:",
                ", the model of xxh3-128:",
                again,
            ],
        ),
        (
            |run| std::fs::remove_file(run.join("model.safetensors")).unwrap(),
            3,
            &["error: runs/clicks/model.safetensors: missing, though `runs/clicks/report.json` names it"],
        ),
        (
            |run| {
                let bytes = std::fs::read(run.join("model.safetensors")).unwrap();
                std::fs::write(run.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
            },
            3,
            &[
                "error: runs/clicks/model.safetensors: its digest is xxh3-128:",
                "`runs/clicks/report.json` says xxh3-128:",
                restore,
            ],
        ),
        (
            |run| {
                let bytes = std::fs::read(run.join("model.safetensors")).unwrap();
                write_model(run, &bytes[..bytes.len() / 2]);
            },
            3,
            &["error: runs/clicks/model.safetensors: not a readable safetensors file: ", restore],
        ),
        (
            |run| change_model(run, |all| all.retain(|tensor| tensor.0 != "weights")),
            3,
            &["error: runs/clicks/model.safetensors: it has no tensor `weights`", restore],
        ),
        (
            |run| change_model(run, |all| all.retain(|tensor| tensor.0 != "intercept")),
            3,
            &["error: runs/clicks/model.safetensors: it has no tensor `intercept`"],
        ),
        (
            |run| {
                change_model(run, |all| {
                    let weights = tensor(all, "weights");
                    weights.2 = vec![312];
                    weights.3.truncate(4 * 312);
                });
            },
            3,
            &["model.safetensors: the tensor `weights` is F32 of the shape [312], not F32 of the shape [313]"],
        ),
        (
            |run| change_model(run, |all| tensor(all, "weights").1 = Dtype::I32),
            3,
            &["model.safetensors: the tensor `weights` is I32 of the shape [313], not F32 of the shape [313]"],
        ),
        (
            |run| {
                change_model(run, |all| tensor(all, "weights").3[4 * 7..4 * 8].copy_from_slice(&f32::NAN.to_le_bytes()))
            },
            3,
            &["model.safetensors: the tensor `weights`: number 7 is NaN, not a finite number", restore],
        ),
        (
            |run| std::fs::remove_file(run.join("preparation/scales.parquet")).unwrap(),
            3,
            &["runs/clicks/preparation/scales.parquet: missing, though `runs/clicks/preparation.json` names it"],
        ),
        (
            |run| {
                let path = run.join("preparation/scales.parquet");
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[20] ^= 1;
                std::fs::write(path, bytes).unwrap();
            },
            3,
            &["runs/clicks/preparation/scales.parquet: its digest is "],
        ),
        (|run| std::fs::remove_dir_all(run).unwrap(), 2, &["`runs/clicks` is not a finished run"]),
    ];
    for (damage, code, messages) in table {
        let (sandbox, _) = runs::clicks(true, "--max-epochs 1");
        std::fs::write(sandbox.path("new.txt"), text(&rows("tomorrow", 5), true)).unwrap();
        damage(&sandbox.path("runs/clicks"));
        for command in [format!("{CLICKS} -o out.csv"), "evaluate --model runs/clicks criteo.json".to_owned()] {
            let ran = sandbox.run(&command);
            ran.failed(code, messages);
            assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
        }
        assert!(!sandbox.path("out.csv").exists());
    }
}

#[test]
fn a_model_of_ratings_that_cannot_be_used_is_told() {
    let (sandbox, _) = runs::ratings("--biases");
    let run = sandbox.path("runs/ratings");
    std::fs::write(sandbox.path("new.csv"), "1,4\n").unwrap();
    let model = std::fs::read(run.join("model.safetensors")).unwrap();
    type Break = fn(&mut Vec<Tensor>);
    let table: [(Break, &str); 4] = [
        (|all| all.retain(|t| t.0 != "item_biases"), "it has no tensor `item_biases`"),
        (
            |all| tensor(all, "user_factors").2 = vec![6, 150],
            "the tensor `user_factors` is F32 of the shape [6, 150], not F32 of the shape [150, 6]",
        ),
        (
            |all| tensor(all, "user_biases").3[..4].copy_from_slice(&f32::INFINITY.to_le_bytes()),
            "the tensor `user_biases`: number 0 is inf, not a finite number",
        ),
        (|all| tensor(all, "item_factors").1 = Dtype::U32, "the tensor `item_factors` is U32"),
    ];
    for (damage, message) in table {
        write_model(&run, &model);
        change_model(&run, damage);
        for command in ["predict new.csv", "evaluate ml20m.json", "recommend --user 1"] {
            sandbox.run(&format!("{command} --model runs/ratings")).failed(3, &[message]);
        }
    }
}

#[test]
fn rows_of_another_kind_or_preparation_are_told() {
    type Change = fn(&mut Layout);
    let like =
        "\n  fix: prepare it with `prep criteo --like DATASET`, where DATASET is what the model's rows come from";
    let sparse: [(Change, &str); 4] = [
        (
            |layout| sparse_of(layout).numeric[2].max = Some(99),
            "I3 reaches from -3 to 99, the model's reaches from -3 to 38",
        ),
        (
            |layout| (sparse_of(layout).numeric[12].min, sparse_of(layout).numeric[12].max) = (None, None),
            "I13 has no numbers, the model's reaches from -3 to 48",
        ),
        (
            |layout| {
                sparse_of(layout).hash.buckets = 400;
                sparse_of(layout).n_features = 413;
            },
            "its tokens are hashed to 400 buckets, the model's to 300 buckets",
        ),
        (|layout| sparse_of(layout).scales = None, "its buckets have no scales, the model's scales xxh3-128:"),
    ];
    let dense: [(Change, &str); 2] = [
        (
            |layout| dense_of(layout).numeric[0].mean = 15.5,
            "I1 has the mean 15.5 and the deviation 11.5, the model's has the mean 15.25",
        ),
        (|layout| dense_of(layout).numeric[6].sd = 12.0, "I7 has the mean 17.25 and the deviation 12, the model's has"),
    ];
    for (is_sparse, changes) in [(true, &sparse[..]), (false, &dense[..])] {
        let (sandbox, _) = runs::clicks(is_sparse, "--max-epochs 1");
        for (change, message) in changes {
            write_dataset(&sandbox.path(""), "other", is_sparse, |d| change(&mut d.layout));
            let start = "error: other/dataset.json: it is prepared otherwise than the model's rows: ";
            let ran = sandbox.run("predict --model runs/clicks other -o out.csv");
            ran.failed(4, &[&format!("{start}{message}"), like]);
        }
        // Counts and labels are the rows' own affair.
        write_dataset(&sandbox.path(""), "same", is_sparse, |d| match &mut d.layout {
            Layout::Dense(layout) => (layout.numeric[0].present, layout.numeric[0].max) = (77, Some(999)),
            Layout::Sparse(layout) => {
                (layout.numeric[0].present, layout.numeric[0].mean, layout.entries) = (77, 1.5, 8)
            }
            Layout::Ratings(_) => panic!("{}", d.name),
        });
        assert_eq!(sandbox.run("predict --model runs/clicks same -q -o out.csv").code, Some(0));
        // A manifest is looked at in the same way.
        write_manifest(&sandbox.path(""), "another", !is_sparse, true);
        let kinds = if is_sparse {
            "of the kind `dense`, the model's `sparse`"
        } else {
            "of the kind `sparse`, the model's `dense`"
        };
        let message = format!("error: another.json: its rows are {kinds}\n  fix: give rows of the model's kind");
        sandbox.run("evaluate --model runs/clicks another.json").failed(4, &[&message]);
        let ratings = "error: ml20m.json: its rows are of the kind `ratings`, the model's";
        sandbox.run("evaluate --model runs/clicks ml20m.json").failed(4, &[ratings]);
    }
    let (sandbox, _) = runs::ratings("");
    write_ratings(&sandbox.path(""), "mean", |d| ratings_of(&mut d.layout).mean = 3.25);
    write_ratings(&sandbox.path(""), "map", |d| ratings_of(&mut d.layout).items.digest = digest(b"others"));
    for (name, message) in [("mean", "its mean is 3.25, the model's 3.5"), ("map", "its map of 80 items is xxh3-128:")]
    {
        let message = format!("error: {name}/dataset.json: it is prepared otherwise than the model's rows: {message}");
        let fix = "\n  fix: give the raw ratings to `train predict`, which knows the model's ids and mean";
        sandbox.run(&format!("predict --model runs/ratings {name}")).failed(4, &[&message, fix]);
    }
}

fn sparse_of(layout: &mut Layout) -> &mut schemas::clicks::Sparse {
    let Layout::Sparse(sparse) = layout else { panic!("{layout:?}") };
    sparse
}

fn dense_of(layout: &mut Layout) -> &mut schemas::clicks::Dense {
    let Layout::Dense(dense) = layout else { panic!("{layout:?}") };
    dense
}

fn ratings_of(layout: &mut Layout) -> &mut schemas::dataset::Ratings {
    let Layout::Ratings(ratings) = layout else { panic!("{layout:?}") };
    ratings
}

#[test]
fn damaged_rows_of_a_dataset_are_told() {
    let (sandbox, _) = runs::clicks(true, "--max-epochs 1");
    type Change = fn(&mut manifests::clicks::ClickRows);
    let table: [(Change, &[&str]); 4] = [
        (|rows| rows.numbers[3][41] = f32::INFINITY, &["train-001.parquet: row 41: I4 is inf, not a finite number"]),
        (
            |rows| rows.buckets[25][5] = 300,
            &["train-001.parquet: row 5: C26 is 300, not below the number of buckets, 300"],
        ),
        (|rows| rows.labels[7] = 2.0, &["train-001.parquet: row 7: the label 2 is neither 0 nor 1"]),
        (
            |rows| {
                rows.len -= 1;
                rows.labels.pop();
                rows.numbers.iter_mut().for_each(|column| column.truncate(rows.len));
                rows.buckets.iter_mut().for_each(|column| column.truncate(rows.len));
            },
            &["train-001.parquet: it has 666 rows, `prepared/dataset.json` says 667"],
        ),
    ];
    for (change, messages) in table {
        for threads in [1, 3] {
            write_dataset(&sandbox.path(""), "prepared", true, |_| ());
            change_part(&sandbox.path("prepared"), 1, true, change);
            let ran = sandbox.run(&format!("predict --model runs/clicks prepared --threads {threads} -o out.csv"));
            ran.failed(3, messages);
            ran.failed(3, &["error: prepared/gen-", "\n  fix: restore the object"]);
            assert!(!sandbox.path("out.csv").exists());
        }
    }
    // A number that is not there is null in sparse rows; in dense ones each is a number.
    let (sandbox, _) = runs::clicks(false, "--max-epochs 1");
    write_dataset(&sandbox.path(""), "prepared", false, |_| ());
    change_part(&sandbox.path("prepared"), 2, false, |rows| rows.numbers[0][9] = f32::NAN);
    let ran = sandbox.run("predict --model runs/clicks prepared -o out.csv");
    ran.failed(3, &["train-002.parquet: row 9: I1 is NaN, not a finite number"]);
    // Ratings of nobody.
    let (sandbox, _) = runs::ratings("");
    let numbers = [("users", [150, 0]), ("items", [0, 80])];
    for (name, [user, item]) in numbers {
        write_ratings(&sandbox.path(""), "prepared", |d| {
            let mut rows = manifests::ratings::RatingRows::default();
            (0..d.parts[0].rows)
                .for_each(|row| rows.push(if row == 3 { user } else { 1 }, if row == 3 { item } else { 1 }, 0.5));
            let bytes = manifests::ratings::encode(&rows);
            let part = &mut d.parts[0];
            (part.bytes, part.digest) = (bytes.len() as u64, digest(&bytes));
            std::fs::write(sandbox.path("prepared").join(&part.key), bytes).unwrap();
        });
        let name = name.trim_end_matches('s');
        let message =
            format!("train-000.parquet: row 3: the {name} {} is not below their number, {}", user + item, user + item);
        sandbox.run("predict --model runs/ratings prepared -o out.csv").failed(3, &[&message]);
    }
}

#[test]
fn text_that_is_not_of_the_model_s_kind_is_told() {
    let (sandbox, _) = runs::clicks(true, "--max-epochs 1");
    let good = rows("tomorrow", 4);
    let line = good[0].line(true);
    let (missing, header) = (line.rsplit_once('\t').unwrap().0, line.split_once('\t').unwrap().1);
    let table = [
        (
            "userId,movieId,rating\n1,2,3\n".to_owned(),
            3,
            ":1:1: the header `userId,movieId,rating` is not [Id], [Label], I1 to I13",
        ),
        (missing[..missing.rfind('\t').unwrap()].to_owned() + "\n", 3, ":1:1: the first line, `"),
        (format!("{}{missing}", text(&good, true)), 3, ":5:1: 39 fields, expected 40: label, I1 to I13, C1 to C26"),
        (format!("{}7\t{header}", text(&good, true)), 3, ":5:1: the label `7` is neither 0 nor 1"),
        (text(&good, true).replacen("\t", "\tx", 3), 3, ":1:3: I1 `x"),
        (String::new(), 3, ": no rows: it is empty"),
    ];
    for (content, code, message) in table {
        std::fs::write(sandbox.path("bad.txt"), content).unwrap();
        let ran = sandbox.run("predict --model runs/clicks bad.txt -o out.csv");
        ran.failed(code, &[&format!("error: bad.txt{message}"), "\n  fix: "]);
    }
    sandbox
        .run("predict --model runs/clicks absent.txt")
        .failed(2, &["error: absent.txt: not found\n  fix: check the path"]);
    let message = "error: `criteo.json` is neither raw text nor the dataset.json of a dataset\n  fix: give the rows; on a manifest";
    sandbox.run("predict --model runs/clicks criteo.json").failed(2, &[message]);
    let model = sandbox.run("predict new.txt");
    model.failed(2, &["--model <RUN>"]);

    let (sandbox, _) = runs::ratings("");
    assert_eq!(SMALL.users, 150);
    let table = [
        ("userId,movieId,rating,timestamp\n1,2,3,4\n1,2\n", ":3:4: 2 columns, expected 4"),
        ("userId,movieId\n1,x\n", ":2:3: movieId `x` is not a whole number"),
        ("userId,movieId,rating\n1,2,9\n", ":2:5: rating 9 is outside 0.5..=5"),
        ("userId,movieId\n", ": no ratings: there is nothing but a header"),
        ("hello\n", ":1:1: the first line, `hello`, has no columns"),
    ];
    for (content, message) in table {
        std::fs::write(sandbox.path("bad.csv"), content).unwrap();
        for out in ["-o out.csv", ""] {
            let ran = sandbox.run(&format!("predict --model runs/ratings bad.csv {out}"));
            ran.failed(3, &[&format!("error: bad.csv{message}"), "\n  fix: "]);
        }
    }
}
