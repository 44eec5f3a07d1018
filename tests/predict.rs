//! Trained models on rows they have not seen, through the libraries of the three tools: a model sees raw text as it sees what
//! `prep` and `shard` make of it.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser;
use reporting::Console;
use schemas::report::{EvaluateReport, Evaluated, KnownPairs, PredictReport, Predicted, RecommendReport};
use serde_json::Value;

fn prep(arguments: &str) {
    let cli = prep::cli::Cli::try_parse_from(format!("prep {arguments}").split_whitespace()).unwrap();
    prep::run(&prep::plan::Plan::resolve(cli).unwrap(), &Console::silent()).unwrap();
}

fn shard(arguments: &str) {
    let cli = shard::cli::Cli::try_parse_from(format!("shard {arguments}").split_whitespace()).unwrap();
    shard::run(&shard::plan::Plan::resolve(&cli).unwrap(), &Console::silent()).unwrap();
}

/// Runs `train` as it is typed.
fn try_train(arguments: &str) -> Result<train::Report, train::Error> {
    let cli = train::cli::Cli::try_parse_from(format!("train {arguments}").split_whitespace()).unwrap();
    train::plan::Work::resolve(&cli).and_then(|work| train::carry_out(&work, &Console::silent()))
}

fn train(arguments: &str) -> train::Report {
    try_train(arguments).unwrap_or_else(|e| panic!("{arguments}: {e}"))
}

fn predict(arguments: &str) -> PredictReport {
    match train(&format!("predict {arguments}")) {
        train::Report::Predicted(report) => {
            validate("predict-report", &report);
            *report
        }
        other => panic!("{arguments}: {other:?}"),
    }
}

fn evaluate(arguments: &str) -> EvaluateReport {
    match train(&format!("evaluate {arguments}")) {
        train::Report::Evaluated(report) => {
            validate("evaluate-report", &report);
            *report
        }
        other => panic!("{arguments}: {other:?}"),
    }
}

fn recommend(arguments: &str) -> RecommendReport {
    match train(&format!("recommend {arguments}")) {
        train::Report::Recommended(report) => {
            validate("recommend-report", &report);
            *report
        }
        other => panic!("{arguments}: {other:?}"),
    }
}

/// Checks a report against the JSON Schema in the repository.
fn validate(schema: &str, report: &impl serde::Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/json").join(format!("{schema}.schema.json"));
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let value = serde_json::to_value(report).unwrap();
    let problems: Vec<String> = schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Some columns of a csv file.
fn columns(path: &Path, names: &[&str]) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let place = |name: &&str| header.split(',').position(|found| found == *name).unwrap();
    let places: Vec<usize> = names.iter().map(place).collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        places.iter().map(|&place| cells[place].to_owned()).collect()
    };
    rest.lines().map(row).collect()
}

#[test]
fn raw_clicks_are_seen_as_prepared_ones() {
    for features in ["sparse", "dense"] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        // The same world, two days; compressed ones too.
        prep(&format!("generate criteo --rows 20000 --seed 5 -o {at}/train.txt"));
        for name in ["new.txt", "new.txt.gz", "new.txt.zst"] {
            prep(&format!("generate criteo --rows 12000 --seed 6 -o {at}/{name}"));
        }
        let flags = format!("--features {features} --hash-buckets 5000");
        prep(&format!("criteo {at}/train.txt {flags} --holdout 0.1 -o {at}/prepared"));
        shard(&format!("{at}/prepared --batch 1000 -o {at}/shards --manifest {at}/set.json"));
        train(&format!("--manifest {at}/set.json --max-epochs 2 -o {at}/run"));
        prep(&format!("criteo {at}/new.txt {flags} --like {at}/prepared -o {at}/like"));

        let text = predict(&format!("--model {at}/run {at}/new.txt -o {at}/text.csv --threads 2"));
        let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        for packed in ["new.txt.gz", "new.txt.zst"] {
            let report = predict(&format!("--model {at}/run {at}/{packed} -o {at}/packed.csv --replace"));
            assert!(file("packed.csv") == file("text.csv") && report.predicted == text.predicted, "{packed}");
        }
        let like = predict(&format!("--model {at}/run {at}/like -o {at}/like.csv"));
        assert_eq!((text.rows, like.rows), (12_000, 12_000));
        assert_eq!(text.predicted, like.predicted);
        let names = ["row", "label", "probability"];
        let [of_text, of_like] = ["text.csv", "like.csv"].map(|name| columns(&folder.path().join(name), &names));
        assert!(of_text == of_like, "{features}: text and what `prep --like` makes of it");
        let probabilities: BTreeSet<&String> = of_text.iter().map(|row| &row[2]).collect();
        assert!(probabilities.len() > 10_000, "rows differ: {}", probabilities.len());

        // Mini-batches of the same rows, in any order.
        shard(&format!("{at}/like --batch 1000 -o {at}/more --manifest {at}/more.json"));
        let evaluated = evaluate(&format!("--model {at}/run {at}/more.json --rows train"));
        let (Evaluated::Clicks { quality: found, .. }, Predicted::Clicks { quality: Some(expected) }) =
            (&evaluated.evaluated, &text.predicted)
        else {
            panic!("{evaluated:?}, {text:?}")
        };
        assert_eq!((found.auc, found.calibration), (expected.auc, expected.calibration));
        assert!((found.log_loss - expected.log_loss).abs() < 1e-9, "{found:?}, {expected:?}");

        // The same rows prepared by their own statistics are not the model's.
        prep(&format!("criteo {at}/new.txt {flags} -o {at}/own"));
        let error = try_train(&format!("predict --model {at}/run {at}/own -o {at}/own.csv")).unwrap_err().to_string();
        assert!(error.contains("own/dataset.json: it is prepared otherwise than the model's rows: "), "{error}");
    }
}

/// The folder `ml-latest-small` of real ratings, which are not part of the repository.
fn real_ratings() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let named = std::env::var_os("GRISTMILL_SHARED").map(PathBuf::from);
    let found = [Some(beside), named].into_iter().flatten().map(|shared| shared.join("data/ml-latest-small"));
    found.into_iter().find(|folder| folder.join("ratings.csv").exists() && folder.join("movies.csv").exists())
}

#[test]
fn real_users_get_movies_that_they_have_not_rated() {
    let Some(real) = real_ratings() else {
        eprintln!("skipped: ml-latest-small is neither at ../shared/data nor under GRISTMILL_SHARED");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (at, real) = (folder.path().display(), real.display());
    prep(&format!("movielens {real} --holdout 0.1 -o {at}/prepared --name set"));
    shard(&format!("{at}/prepared --batch 1000 -o {at}/shards --manifest {at}/set.json"));
    train(&format!("--manifest {at}/set.json --biases --l2 0.08 --step-batches 2 --max-epochs 20 -o {at}/run"));
    let titles: BTreeMap<u32, String> = std::fs::read_to_string(format!("{real}/movies.csv"))
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| {
            let (id, rest) = line.split_once(',').unwrap();
            let title = rest.rsplit_once(',').unwrap().0;
            let title = title.strip_prefix('"').and_then(|title| title.strip_suffix('"')).unwrap_or(title);
            (id.parse().unwrap(), title.replace("\"\"", "\""))
        })
        .collect();
    let ratings = columns(Path::new(&format!("{real}/ratings.csv")), &["userId", "movieId"]);
    for user in ["1", "414", "610"] {
        let seen: BTreeSet<u32> =
            ratings.iter().filter(|row| row[0] == user).map(|row| row[1].parse().unwrap()).collect();
        let report = recommend(&format!("--model {at}/run --user {user} --top 20 --titles {real}/movies.csv"));
        assert_eq!((report.items.len(), report.rated), (20, Some(seen.len() as u64)));
        assert!(report.items.is_sorted_by(|a, b| a.prediction >= b.prediction));
        for item in &report.items {
            assert!(!seen.contains(&item.item_id), "{item:?}");
            assert_eq!(item.title.as_ref(), Some(&titles[&item.item_id]));
            assert!((3.0..6.0).contains(&item.prediction), "{item:?}");
        }
    }

    // All ratings as text, and as they were prepared.
    let text = predict(&format!("--model {at}/run {real}/ratings.csv -o {at}/text.csv"));
    let known = KnownPairs { both: 100_836, ..KnownPairs::default() };
    let Predicted::Ratings { quality: Some(quality), known: found } = text.predicted else { panic!("{text:?}") };
    assert!(found == known && quality.rmse < 0.9 && quality.mae < 0.7, "{found:?} {quality:?}");
    let prepared = predict(&format!("--model {at}/run {at}/prepared -o {at}/prepared.csv"));
    assert_eq!(prepared.rows, 100_836);
    let names = ["user_id", "item_id", "rating", "prediction"];
    let [mut text, mut prepared] = ["text.csv", "prepared.csv"].map(|name| columns(&folder.path().join(name), &names));
    text.sort();
    prepared.sort();
    assert!(text == prepared, "the same pairs have the same stars");
    let holdout = predict(&format!("--model {at}/run {at}/prepared --rows holdout -o {at}/holdout.csv"));
    let evaluated = evaluate(&format!("--model {at}/run {at}/set.json"));
    let (Predicted::Ratings { quality: Some(a), .. }, Evaluated::Ratings { quality: b, baselines: Some(baselines) }) =
        (holdout.predicted, evaluated.evaluated)
    else {
        panic!("ratings have a quality")
    };
    assert!((a.rmse - b.rmse).abs() < 1e-6 && (a.mae - b.mae).abs() < 1e-6 && b.rmse < baselines.mean, "{a:?} {b:?}");

    // A user of tomorrow, and a movie of tomorrow.
    std::fs::write(folder.path().join("new.csv"), "userId,movieId\n1,1\n1,999999\n99999,1\n99999,999999\n").unwrap();
    predict(&format!("--model {at}/run {at}/new.csv -o {at}/new-stars.csv"));
    let found = columns(&folder.path().join("new-stars.csv"), &["known", "prediction"]);
    assert!(found.iter().map(|row| &row[0][..]).eq(["both", "user", "item", "neither"]), "{found:?}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(folder.path().join("set.json")).unwrap()).unwrap();
    let mean = manifest["layout"]["mean"].as_f64().unwrap();
    assert_eq!(found[3][1], (mean as f32).to_string(), "nothing is known but the mean");
}
