//! `train predict`: what is predicted, and how it is written.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use schemas::report::{ClickQuality, KnownPairs, PredictReport, Predicted};

use crate::clicks::{rows, text, world, write_dataset};
use crate::ratings::write_ratings;
use crate::runs::{self, Weights, cells, side, stars};
use crate::sandbox::{Ran, Sandbox};
use crate::shards::{MEAN, SMALL, original};

const CLICKS: &str = "predict --model runs/clicks";
const RATINGS: &str = "predict --model runs/ratings";

/// Runs the binary with `input` on standard input.
fn piped(sandbox: &Sandbox, args: &str, input: &[u8]) -> Ran {
    let mut command = sandbox.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap().into()
    })
}

/// Names in the sandbox's folder, to see that nothing is left behind.
fn names(sandbox: &Sandbox) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path("")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn quality(report: &PredictReport) -> ClickQuality {
    let Predicted::Clicks { quality: Some(quality) } = report.predicted else { panic!("{report:?}") };
    quality
}

#[test]
fn probabilities_are_what_the_weights_say() {
    for (sparse, args) in [(true, ""), (false, ""), (true, "--no-intercept")] {
        let (sandbox, trained) = runs::clicks(sparse, args);
        let fresh = rows("tomorrow", 400);
        std::fs::write(sandbox.path("new.txt"), text(&fresh, true)).unwrap();
        let report: PredictReport = sandbox.run(&format!("{CLICKS} new.txt -o new.csv")).only_line();
        assert_eq!((report.rows, report.output.as_str(), report.model.as_str()), (400, "new.csv", "runs/clicks"));
        assert_eq!((report.model_digest.clone(), report.input.as_str()), (trained.model_digest, "new.txt"));
        assert_eq!(report.bytes_written, sandbox.read("new.csv").len() as u64);
        let weights = Weights::of(&sandbox, "runs/clicks", sparse);
        let (mut loss, mut predicted, mut scored) = (0.0, 0.0, Vec::new());
        for (i, (row, cells)) in fresh.iter().zip(sandbox.csv("new.csv", "row,label,probability")).enumerate() {
            let expected = weights.probability(row);
            let found: f64 = cells[2].parse().unwrap();
            assert!((found - expected).abs() < 1e-6, "row {i}: {found}, expected {expected}");
            assert_eq!((&cells[0], &cells[1]), (&i.to_string(), &row.label.to_string()));
            loss -= if row.label == 1 { expected.ln() } else { (1.0 - expected).ln() };
            predicted += expected;
            scored.push((expected, row.label));
        }
        assert_eq!(scored.len(), 400);
        let clicks = scored.iter().filter(|(_, label)| *label == 1).count() as f64;
        let pairs = scored
            .iter()
            .filter(|s| s.1 == 1)
            .flat_map(|s| scored.iter().filter(|o| o.1 == 0).map(move |o| (s.0, o.0)));
        let above = pairs.map(|(click, other)| if click > other { 1.0 } else { 0.0 }).sum::<f64>();
        let found = quality(&report);
        assert!((found.log_loss - loss / 400.0).abs() < 1e-6, "{found:?}, {}", loss / 400.0);
        assert!((found.calibration.unwrap() - predicted / clicks).abs() < 1e-5, "{found:?}");
        assert!((found.auc.unwrap() - above / clicks / (400.0 - clicks)).abs() < 1e-3, "{found:?}");
        assert!(found.auc.unwrap() > 0.6, "the model has learnt something: {found:?}");

        // The same as Parquet, and without labels.
        let parquet: PredictReport = sandbox.run(&format!("{CLICKS} new.txt -o new.parquet")).only_line();
        assert_eq!(quality(&parquet), found);
        std::fs::write(sandbox.path("bare.txt"), text(&fresh, false)).unwrap();
        let bare: PredictReport = sandbox.run(&format!("{CLICKS} bare.txt -o bare.csv")).only_line();
        assert_eq!(bare.predicted, Predicted::Clicks { quality: None });
        let lines = sandbox.csv("new.csv", "row,label,probability");
        let column = |i: usize| lines.iter().map(|cells| cells[i].clone()).collect::<Vec<_>>();
        for (i, name) in ["row", "label", "probability"].into_iter().enumerate() {
            assert_eq!(cells(&sandbox, "new.parquet", name), column(i), "{name}");
        }
        let unlabelled: Vec<String> =
            sandbox.csv("bare.csv", "row,probability").into_iter().map(|cells| cells[1].clone()).collect();
        assert_eq!(unlabelled, column(2));
    }
}

#[test]
fn bytes_do_not_depend_on_threads_packing_or_format_of_the_input() {
    let (sandbox, _) = runs::clicks(true, "");
    // Several blocks of a MiB, and more than one row group.
    let some = text(&rows("many", 14_000), true);
    let many = some.repeat(10);
    assert!(many.len() > 20 << 20);
    std::fs::write(sandbox.path("many.txt"), &many).unwrap();
    let zip = Command::new("gzip").args(["-k", "-1", "many.txt"]).current_dir(sandbox.path("")).status();
    assert!(zip.unwrap().success());
    for format in ["csv", "parquet"] {
        let one: PredictReport = sandbox.run(&format!("{CLICKS} many.txt --threads 1 -o one.{format}")).only_line();
        let bytes = sandbox.read(&format!("one.{format}"));
        assert_eq!(one.rows, 140_000);
        for (input, threads) in [("many.txt", 2), ("many.txt", 3), ("many.txt.gz", 2), ("-", 2), ("", 1)] {
            let args = format!("{CLICKS} {input} --threads {threads} -o again.{format} --replace");
            let ran =
                if input.starts_with("many") { sandbox.run(&args) } else { piped(&sandbox, &args, many.as_bytes()) };
            let report: PredictReport = ran.only_line();
            assert!(sandbox.read(&format!("again.{format}")) == bytes, "{args}");
            assert_eq!(report.predicted, one.predicted, "{args}");
        }
    }
    assert!(cells(&sandbox, "one.parquet", "row").into_iter().eq((0..140_000).map(|row: u32| row.to_string())));
    assert_eq!(
        runs::batches(&sandbox, "one.parquet").iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(),
        140_000
    );
}

#[test]
fn a_dataset_gets_what_its_text_gets() {
    for sparse in [true, false] {
        let (sandbox, trained) = runs::clicks(sparse, "");
        write_dataset(&sandbox.path("prepared"), "clicks", sparse, |_| ());
        let (train, holdout) = world();
        std::fs::write(sandbox.path("world.txt"), text(&[train.clone(), holdout.clone()].concat(), true)).unwrap();
        sandbox.run(&format!("{CLICKS} world.txt -o text.csv")).only_line::<PredictReport>();
        let expected = sandbox.csv("text.csv", "row,label,probability");
        for (rows, range) in
            [("", 0..2310), ("--rows all", 0..2310), ("--rows train", 0..2000), ("--rows holdout", 2000..2310)]
        {
            for (input, threads) in [("prepared/clicks", 1), ("prepared/clicks/dataset.json", 3)] {
                let args = format!("{CLICKS} {input} {rows} --threads {threads} -o rows.csv --replace");
                let report: PredictReport = sandbox.run(&args).only_line();
                let found = sandbox.csv("rows.csv", "row,label,probability,split");
                let split = |row: usize| if row < 2000 { "train" } else { "holdout" };
                let expected: Vec<Vec<String>> =
                    range.clone().map(|row| [expected[row].clone(), vec![split(row).to_owned()]].concat()).collect();
                assert!(found == expected, "{args}");
                assert_eq!((report.rows, report.input.as_str()), (range.len() as u64, "prepared/clicks/dataset.json"));
                if rows == "--rows holdout" {
                    let expected = trained.trained.holdout_loss().unwrap();
                    assert!((quality(&report).log_loss - expected).abs() < 1e-12, "{report:?}, {expected}");
                }
            }
        }
        sandbox.run(&format!("{CLICKS} prepared/clicks -o all.parquet")).only_line::<PredictReport>();
        let splits = cells(&sandbox, "all.parquet", "split");
        assert!(
            splits.iter().enumerate().all(|(row, split)| (split == "train") == (row < 2000)) && splits.len() == 2310
        );
    }
}

/// Pairs of which some sides are unknown: id 2 is nobody's, ids beyond the last neither.
fn pairs() -> Vec<(u32, u32, f32)> {
    let id = |i: u32, n: u32| {
        if i.is_multiple_of(9) {
            2
        } else if i.is_multiple_of(31) {
            u32::MAX - i
        } else {
            original(i % n)
        }
    };
    (0..700).map(|i| (id(i * 7 + 1, SMALL.users), id(i * 5 + 2, SMALL.items), 0.5 + (i % 10) as f32 / 2.0)).collect()
}

#[test]
fn stars_are_what_the_factors_say_and_unknown_sides_add_nothing() {
    for args in ["", "--biases"] {
        let (sandbox, _) = runs::ratings(args);
        let (users, items) = (side(&sandbox, "runs/ratings", "user"), side(&sandbox, "runs/ratings", "item"));
        let line = |sep: &str, (u, i, r): &(u32, u32, f32)| format!("{u}{sep}{i}{sep}{r}{sep}964982703\n");
        let rated = |sep: &str| pairs().iter().map(|pair| line(sep, pair)).collect::<String>();
        let bare: String = pairs().iter().map(|(u, i, _)| format!("{u},{i}\n")).collect();
        let files = [
            ("ratings.csv", format!("userId,movieId,rating,timestamp\n{}", rated(","))),
            ("ratings.dat", rated("::")),
            ("u.data", rated("\t")),
            ("pairs.csv", format!("userId,movieId\n{bare}")),
            ("bare.csv", bare.clone()),
        ];
        for (name, text) in files {
            std::fs::write(sandbox.path(name), text).unwrap();
            let report: PredictReport = sandbox.run(&format!("{RATINGS} {name} -o stars.csv --replace")).only_line();
            let rated = !["pairs.csv", "bare.csv"].contains(&name);
            let header =
                if rated { "user_id,item_id,rating,prediction,known" } else { "user_id,item_id,prediction,known" };
            let found = sandbox.csv("stars.csv", header);
            assert_eq!((report.rows, found.len()), (700, 700));
            let mut counts = KnownPairs::default();
            let (mut squares, mut absolute) = (0.0, 0.0);
            for ((user, item, rating), cells) in pairs().into_iter().zip(&found) {
                let expected = stars(MEAN, &users, &items, user, item);
                let prediction: f64 = cells[cells.len() - 2].parse().unwrap();
                assert!((prediction - expected).abs() < 2e-6, "{user} {item}: {prediction}, expected {expected}");
                let (known, count) = match (users.contains_key(&user), items.contains_key(&item)) {
                    (true, true) => ("both", &mut counts.both),
                    (true, false) => ("user", &mut counts.user),
                    (false, true) => ("item", &mut counts.item),
                    (false, false) => ("neither", &mut counts.neither),
                };
                *count += 1;
                if known == "neither" || (known != "both" && args.is_empty()) {
                    assert_eq!(prediction, MEAN);
                }
                assert_eq!(
                    (&cells[0], &cells[1], &cells[cells.len() - 1][..]),
                    (&user.to_string(), &item.to_string(), known)
                );
                if rated {
                    assert_eq!(cells[2], rating.to_string());
                    squares += (prediction - f64::from(rating)).powi(2);
                    absolute += (prediction - f64::from(rating)).abs();
                }
            }
            assert!(counts.user > 15 && counts.item > 15 && counts.neither > 0, "{counts:?}");
            let Predicted::Ratings { quality, known } = report.predicted else { panic!("{report:?}") };
            assert_eq!((known, quality.is_some()), (counts, rated));
            if let Some(quality) = quality {
                assert!((quality.rmse - (squares / 700.0).sqrt()).abs() < 1e-9, "{quality:?}");
                assert!((quality.mae - absolute / 700.0).abs() < 1e-9, "{quality:?}");
            }
            // Parquet holds the same.
            sandbox.run(&format!("{RATINGS} {name} -o stars.parquet --replace")).only_line::<PredictReport>();
            for (i, column) in header.split(',').enumerate() {
                let expected: Vec<&String> = found.iter().map(|row| &row[i]).collect();
                assert!(cells(&sandbox, "stars.parquet", column).iter().eq(expected), "{column}");
            }
        }
    }
}

#[test]
fn prepared_ratings_come_back_with_ids_and_stars() {
    let (sandbox, trained) = runs::ratings("--biases");
    write_ratings(&sandbox.path(""), "prepared/ml20m", |_| ());
    let (users, items) = (side(&sandbox, "runs/ratings", "user"), side(&sandbox, "runs/ratings", "item"));
    let mut files = Vec::new();
    for (rows, count) in [("", 4433), ("--rows train", 4003), ("--rows holdout", 430)] {
        for threads in [1, 3] {
            let args = format!("{RATINGS} prepared/ml20m {rows} --threads {threads} -o stars.csv --replace");
            let report: PredictReport = sandbox.run(&args).only_line();
            assert_eq!(report.rows, count);
            files.push(sandbox.text("stars.csv"));
            let Predicted::Ratings { quality: Some(quality), known } = report.predicted else { panic!("{report:?}") };
            assert_eq!(known, KnownPairs { both: count, ..KnownPairs::default() });
            if rows == "--rows holdout" {
                let expected = trained.trained.holdout_loss().unwrap();
                assert!((quality.rmse - expected).abs() < 1e-6, "{quality:?}, {expected}");
            }
        }
        let header = "user_id,item_id,rating,prediction,known,split";
        for cells in sandbox.csv("stars.csv", header) {
            let id = |i: usize| cells[i].parse::<u32>().unwrap();
            let expected = stars(MEAN, &users, &items, id(0), id(1));
            assert!((cells[3].parse::<f64>().unwrap() - expected).abs() < 2e-6, "{cells:?}, {expected}");
        }
        assert!(files[files.len() - 1] == files[files.len() - 2], "{rows}: on any number of threads");
    }
    let (all, train, holdout) = (&files[0], &files[2], &files[4]);
    let body = |file: &str| file.split_once('\n').unwrap().1.to_owned();
    assert_eq!(body(all), body(train) + &body(holdout));
    assert!(body(train).lines().all(|line| line.ends_with(",both,train")));
    assert!(body(holdout).lines().all(|line| line.ends_with(",both,holdout")));
}

#[test]
fn standard_output_gets_csv_and_no_report() {
    let (sandbox, _) = runs::clicks(true, "");
    let fresh = text(&rows("tomorrow", 6000), true);
    std::fs::write(sandbox.path("new.txt"), &fresh).unwrap();
    sandbox.run(&format!("{CLICKS} new.txt -o new.csv")).only_line::<PredictReport>();
    let ran = sandbox.run(&format!("{CLICKS} new.txt"));
    assert_eq!((ran.code, ran.stdout == sandbox.text("new.csv")), (Some(0), true), "{}", ran.stderr);
    assert!(ran.stderr.contains("log loss 0.") && ran.stderr.contains("AUC 0."), "{}", ran.stderr);
    let ran = piped(&sandbox, &format!("{CLICKS} --format csv -q"), fresh.as_bytes());
    assert_eq!((ran.code, ran.stderr.as_str(), ran.stdout == sandbox.text("new.csv")), (Some(0), "", true));

    // Whoever reads a little is no failure.
    let mut child =
        sandbox.command(&format!("{CLICKS} new.txt -q")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 3];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((&first, ended.status.code(), ended.stderr.as_slice()), (b"row", Some(0), &b""[..]));
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let (sandbox, _) = runs::clicks(true, "");
    let fresh = rows("tomorrow", 9000);
    std::fs::write(sandbox.path("new.txt"), text(&fresh, true)).unwrap();
    let bad = text(&fresh, true).replacen(&fresh[8000].line(true), "1\tx\n", 1);
    std::fs::write(sandbox.path("bad.txt"), &bad).unwrap();
    let line = bad.lines().position(|line| line == "1\tx").unwrap() + 1;
    let before = names(&sandbox);
    for out in ["out.csv", "out.parquet"] {
        let message = format!(
            "error: bad.txt:{line}:1: 2 fields, expected 40: label, I1 to I13, C1 to C26\n  fix: correct the row"
        );
        sandbox.run(&format!("{CLICKS} bad.txt -o {out}")).failed(3, &[&message]);
        assert_eq!(names(&sandbox), before, "nothing is left behind");
    }
    std::fs::write(sandbox.path("there.csv"), "mine").unwrap();
    sandbox.run(&format!("{CLICKS} new.txt -o there.csv")).failed(
        5,
        &["error: there.csv: already exists with different content\n  fix: choose another `--out`, or overwrite it with `--replace`"],
    );
    sandbox.run(&format!("{CLICKS} bad.txt -o there.csv --replace")).failed(3, &["bad.txt:"]);
    assert_eq!(sandbox.text("there.csv"), "mine");
    let report: PredictReport = sandbox.run(&format!("{CLICKS} new.txt -o there.csv --replace")).only_line();
    assert_eq!(report.bytes_written, sandbox.read("there.csv").len() as u64);

    for (args, code, messages) in [
        ("-o out.txt", 2, ["`out.txt` ends neither in .csv nor in .parquet", "`--format csv`"]),
        ("--format parquet", 2, ["Parquet does not go to standard output", "`-o FILE.parquet`"]),
        ("-o absent/out.csv", 4, ["absent/out.csv: could not be written", "check that the folder exists"]),
        ("--rows train -o out.csv", 2, ["--rows has no meaning for raw text", "\n  fix: "]),
    ] {
        sandbox.run(&format!("{CLICKS} new.txt {args}")).failed(code, &messages);
    }
    sandbox.run(&format!("{CLICKS} -o out.csv")).failed(2, &["no input: no INPUT is given", "\n  fix: name a file"]);
    let report: PredictReport = sandbox.run(&format!("{CLICKS} new.txt -o out.txt --format csv")).only_line();
    assert_eq!((report.rows, sandbox.text("out.txt") == sandbox.text("there.csv")), (9000, true));
}

#[test]
fn a_signal_ends_it_without_a_file() {
    let (sandbox, _) = runs::clicks(true, "");
    let before = names(&sandbox);
    for (signal, code, word) in [("TERM", 143, "terminated"), ("INT", 130, "interrupted")] {
        let mut command = sandbox.command(&format!("{CLICKS} -o out.parquet"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The pipe stays open, so that there is always more to come.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text(&rows("tomorrow", 9000), true).as_bytes()).unwrap();
        while names(&sandbox) == before {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        Ran::from(child.wait_with_output().unwrap())
            .failed(code, &[&format!("error: {word}\n  fix: run the same command again")]);
        drop(stdin);
        assert_eq!(names(&sandbox), before, "nothing is left behind");
    }
}
