//! From a raw file to a trained model, through the libraries of the three tools.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod guides;
mod recipes;

use std::path::{Path, PathBuf};

use clap::Parser;
use manifests::clicks::{ClickRows, Form, decode};
use manifests::load;
use manifests::place::Place;
use reporting::Console;
use schemas::dataset::{BaselineRmse, Layout, Object};
use schemas::manifest::Batch;
use schemas::report::{PrepReport, ShardReport, TrainReport, Trained};
use serde_json::{Value, json};

/// Runs `prep` as it is typed.
fn prep(arguments: &str) -> prep::Report {
    let cli = prep::cli::Cli::try_parse_from(format!("prep {arguments}").split_whitespace()).unwrap();
    let plan = prep::plan::Plan::resolve(cli).unwrap();
    prep::run(&plan, &Console::silent()).unwrap()
}

fn prepare(arguments: &str) -> PrepReport {
    match prep(arguments) {
        prep::Report::Dataset(report) => report,
        other => panic!("{arguments}: {other:?}"),
    }
}

/// Runs `shard` as it is typed.
fn shard(arguments: &str) -> ShardReport {
    let cli = shard::cli::Cli::try_parse_from(format!("shard {arguments}").split_whitespace()).unwrap();
    let plan = shard::plan::Plan::resolve(&cli).unwrap();
    shard::run(&plan, &Console::silent()).unwrap()
}

/// Runs `train` as it is typed.
fn train(arguments: &str) -> TrainReport {
    let cli = train::cli::Cli::try_parse_from(format!("train {arguments}").split_whitespace()).unwrap();
    let plan = train::plan::Plan::resolve(&cli.train).unwrap();
    train::run(&plan, &Console::silent()).unwrap()
}

/// What the three tools said, in one folder.
struct Run {
    prepared: PrepReport,
    sharded: ShardReport,
    trained: TrainReport,
}

/// The whole way from `raw` into `folder`.
fn pipeline(raw: &Path, folder: &Path, [prep, shard_, train_]: [&str; 3]) -> Run {
    let (raw, folder) = (raw.display(), folder.display());
    let prepared = prepare(&format!("movielens {raw} --holdout 0.1 --name set -o {folder}/prepared {prep}"));
    let sharded = shard(&format!("{folder}/prepared -o {folder}/shards --manifest {folder}/set.json {shard_}"));
    let trained = train(&format!("--manifest {folder}/set.json -o {folder}/run {train_}"));
    Run { prepared, sharded, trained }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// Checks `value` against the JSON Schema in the repository.
fn validate(schema: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/json").join(format!("{schema}.schema.json"));
    let schema = jsonschema::validator_for(&json_of(&path)).unwrap();
    let problems: Vec<String> = schema.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:?}");
}

/// 20,000 ratings by 300 users of 500 movies.
fn generated(folder: &Path) -> PathBuf {
    let file = folder.join("ratings.csv");
    prep(&format!("generate movielens --ratings 20000 --users 300 --movies 500 --seed 5 -o {}", file.display()));
    file
}

/// Held-out RMSE and the baselines of a matrix factorisation.
fn measured(report: &TrainReport) -> (f64, BaselineRmse) {
    let Trained::Pmf { holdout_rmse: Some(rmse), baselines, .. } = report.trained else { panic!("{report:?}") };
    (rmse, baselines)
}

const SETTINGS: [&str; 3] = [
    "--threads 1",
    "--batch 500 --threads 1",
    "--biases --l2 0.08 --step-batches 2 --max-epochs 60 --patience 10 --workers 1",
];

#[test]
fn a_raw_file_becomes_a_model_that_beats_user_and_movie_effects() {
    let folder = tempfile::tempdir().unwrap();
    let raw = generated(folder.path());
    let run = pipeline(&raw, folder.path(), SETTINGS);
    assert_eq!(run.prepared.rows.read, 20_000);
    assert_eq!((run.sharded.rows, run.sharded.holdout_rows), (run.prepared.rows.train, run.prepared.rows.holdout));
    assert_eq!(run.sharded.batches, run.sharded.rows.div_ceil(500));
    let (rmse, baselines) = measured(&run.trained);
    assert!(rmse < baselines.effects && baselines.effects < baselines.mean, "{rmse}, {baselines:?}");

    // Everything that is written keeps to the schemas in the repository, and so do the report lines.
    let in_folder = |name: &str| json_of(&folder.path().join(name));
    validate("dataset", &in_folder("prepared/dataset.json"));
    validate("manifest", &in_folder("set.json"));
    validate("train-report", &in_folder("run/report.json"));
    validate("prep-report", &serde_json::to_value(&run.prepared).unwrap());
    validate("shard-report", &serde_json::to_value(&run.sharded).unwrap());
    validate("train-report", &serde_json::to_value(&run.trained).unwrap());

    // The numbers agree from file to file.
    let (dataset, manifest, report) =
        (in_folder("prepared/dataset.json"), in_folder("set.json"), in_folder("run/report.json"));
    assert_eq!(manifest["source"], dataset["source"]);
    assert_eq!(manifest["holdout"], dataset["holdout"]);
    assert_eq!(manifest["layout"]["baselines"], dataset["layout"]["baselines"]);
    assert_eq!(report["baselines"], manifest["layout"]["baselines"]["holdout"]);
    assert_eq!(report["manifest_digest"], json!(run.sharded.manifest_digest));

    // The second time nothing is done.
    let again = pipeline(&raw, folder.path(), SETTINGS);
    assert!(again.prepared.unchanged && again.sharded.unchanged && again.trained.unchanged);
}

/// How mini-batches are stored does not matter for what is learnt: each as an object, packed, listed, and with an index.
#[test]
fn packed_and_unpacked_batches_make_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let raw = generated(folder.path());
    let root = folder.path().display();
    prepare(&format!("movielens {} --holdout 0.1 --name set -o {root}/prepared", raw.display()));
    for batch in [500, 15] {
        let runs = ["", "--rows-per-object 2000", "--rows-per-object 999999999"].map(|packing| {
            let name = format!("{batch}-{}", packing.len());
            let out = format!("-o {root}/{name} --manifest {root}/{name}.json");
            let sharded = shard(&format!("{root}/prepared --batch {batch} {packing} {out}"));
            validate("manifest", &json_of(&folder.path().join(format!("{name}.json"))));
            let settings = "--biases --step-batches 4 --max-epochs 2 --workers 3";
            let trained = train(&format!("--manifest {root}/{name}.json -o {root}/run-{name} {settings}"));
            assert!(shard(&format!("{root}/prepared --batch {batch} {packing} {out}")).unchanged);
            // In front of the numbers the file says which manifest they were learnt from.
            let model = std::fs::read(folder.path().join(format!("run-{name}/model.safetensors"))).unwrap();
            let header = u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
            (sharded.batches, model[8 + header..].to_vec(), trained.history_digest)
        });
        assert_eq!(runs[0].0 > 1000, batch == 15, "more than are listed one by one");
        assert!(runs.iter().all(|run| *run == runs[0]), "{batch}");
    }
}

/// A validator that accepts everything would make the test above worthless.
#[test]
fn the_schemas_refuse_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    pipeline(&generated(folder.path()), folder.path(), ["", "--batch 500", "--max-epochs 1"]);
    for (schema, file, pointer) in [
        ("dataset", "prepared/dataset.json", "/rows/train"),
        ("dataset", "prepared/dataset.json", "/parts/0/digest"),
        ("manifest", "set.json", "/batches/0/digest"),
        ("manifest", "set.json", "/layout/kind"),
        ("train-report", "run/report.json", "/stopped_by"),
    ] {
        let mut value = json_of(&folder.path().join(file));
        *value.pointer_mut(pointer).unwrap() = json!("wrong");
        let result = std::panic::catch_unwind(|| validate(schema, &value));
        assert!(result.is_err(), "{schema} {pointer}");
    }
}

#[test]
fn the_same_ratings_make_the_same_bits_in_another_folder_with_other_threads() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let raw = generated(folders[0].path());
    let one = pipeline(&raw, folders[0].path(), SETTINGS);
    let settings = ["--threads 3", "--batch 500 --threads 2", &SETTINGS[2].replace("--workers 1", "--workers 3")];
    let other = pipeline(&raw, folders[1].path(), settings);
    assert_eq!(other.sharded.manifest_digest, one.sharded.manifest_digest);
    assert_eq!(other.trained.identity, one.trained.identity);
    assert_eq!(other.trained.model_digest, one.trained.model_digest);
    assert_eq!(other.trained.history_digest, one.trained.history_digest);
    for file in ["prepared/dataset.json", "set.json", "run/model.safetensors", "run/users.parquet", "run/items.parquet"]
    {
        let [a, b] = folders.each_ref().map(|folder| std::fs::read(folder.path().join(file)).unwrap());
        assert!(a == b, "{file}");
    }
}

/// The cells of all rows of `objects`, a row as its bits, sorted.
fn cells(place: &Place, layout: &Layout, objects: impl IntoIterator<Item = Batch>) -> Vec<Vec<u32>> {
    let form = Form::of(layout).unwrap();
    let (mut all, mut rows) = (Vec::new(), ClickRows::default());
    for object in objects {
        decode(form, load::batch(place, &object, "test").unwrap(), &mut rows).unwrap();
        let label = |row: usize| rows.labels.get(row).map(|label| label.to_bits());
        all.extend((0..rows.len).map(|row| {
            let numbers = rows.numbers.iter().map(|column| column[row].to_bits());
            let buckets = rows.buckets.iter().filter_map(|column| column.get(row).copied());
            label(row).into_iter().chain(numbers).chain(buckets).collect::<Vec<u32>>()
        }));
    }
    all.sort_unstable();
    all
}

#[test]
fn a_click_log_becomes_mini_batches_with_every_value_in_place_and_a_model() {
    for features in ["sparse", "dense"] {
        let folders = [(tempfile::tempdir().unwrap(), 1), (tempfile::tempdir().unwrap(), 7)];
        for (folder, threads) in &folders {
            let at = folder.path().display();
            prep(&format!("generate criteo --rows 150000 --seed 5 -o {at}/train.txt --threads {threads}"));
            let prepared = prepare(&format!(
                "criteo {at}/train.txt --features {features} --hash-buckets 20000 --holdout 0.1 -o {at}/prepared --threads {threads}"
            ));
            let sharded = shard(&format!(
                "{at}/prepared --batch 6250 -o {at}/shards --manifest {at}/set.json --threads {threads}"
            ));
            assert_eq!((prepared.kind.as_str(), sharded.kind.as_str()), (features, features));
            assert_eq!((sharded.rows, sharded.holdout_rows), (prepared.rows.train, prepared.rows.holdout));
            validate("dataset", &json_of(&folder.path().join("prepared/dataset.json")));
            validate("manifest", &json_of(&folder.path().join("set.json")));
            let (recipe, gain) = match features {
                "sparse" => ("--learning-rate 0.01 --l2 0.00003 --lr-decay sqrt-epoch --max-epochs 4", 0.03),
                _ => ("--learning-rate 0.02 --max-epochs 20", 0.001),
            };
            let trained =
                train(&format!("--manifest {at}/set.json --workers {threads} --step-batches 1 {recipe} -o {at}/run"));
            let (loss, base) = (trained.trained.holdout_loss().unwrap(), trained.trained.base_loss());
            assert!(loss < base - gain, "{features}: {loss}, always the share of clicks {base}");
            validate("train-report", &json_of(&folder.path().join("run/report.json")));
            validate("preparation", &json_of(&folder.path().join("run/preparation.json")));
        }
        let [one, other] = folders.each_ref().map(|(folder, _)| folder.path());
        for file in ["train.txt", "prepared/dataset.json", "set.json", "run/model.safetensors", "run/weights.parquet"] {
            assert!(std::fs::read(one.join(file)).unwrap() == std::fs::read(other.join(file)).unwrap(), "{file}");
        }
        let dataset = load::dataset(&Place::parse(one.join("prepared").to_str().unwrap()).unwrap()).unwrap();
        let shards = load::shards(one.join("set.json").to_str().unwrap()).unwrap();
        let (from, to) = (&dataset.descriptor, &shards.manifest);
        let whole = |parts: &[Object]| parts.iter().cloned().map(Batch::from).collect::<Vec<_>>();
        for (parts, batches) in [(&from.parts, &shards.batches), (&from.holdout_parts, &shards.holdout_batches)] {
            assert!(
                cells(&dataset.place, &from.layout, whole(parts)) == cells(&shards.place, &to.layout, batches.iter())
            );
        }
        let scales = |layout: &Layout| layout.tables().into_iter().map(|(_, t)| t.digest.clone()).collect::<Vec<_>>();
        assert_eq!(scales(&from.layout), scales(&to.layout));
        assert_eq!(scales(&to.layout).len(), usize::from(features == "sparse"));
    }
}

/// The folder `ml-latest-small` of real ratings, which are not part of the repository.
fn real_ratings() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let named = std::env::var_os("GRISTMILL_SHARED").map(PathBuf::from);
    let found = [Some(beside), named].into_iter().flatten().map(|shared| shared.join("data/ml-latest-small"));
    found.into_iter().find(|folder| folder.join("ratings.csv").exists())
}

#[test]
fn real_ratings_are_learnt_better_than_by_user_and_movie_effects() {
    let Some(raw) = real_ratings() else {
        eprintln!("skipped: ml-latest-small is neither at ../shared/data nor under GRISTMILL_SHARED");
        return;
    };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let recipe = "--biases --l2 0.08 --step-batches 2 --max-epochs 60 --patience 5";
    let run = pipeline(&raw, folders[0].path(), ["--threads 1", "--batch 1000 --threads 1", recipe]);
    // Counted in the file: 100,836 lines after the header.
    assert_eq!(run.prepared.rows.read, 100_836);
    let manifest = json_of(&folders[0].path().join("set.json"));
    assert_eq!((&manifest["layout"]["n_users"], &manifest["layout"]["n_items"]), (&json!(610), &json!(9724)));
    let (rmse, baselines) = measured(&run.trained);
    assert!(rmse < 0.85 && rmse < baselines.effects, "{rmse}, {baselines:?}");

    let other = pipeline(&raw, folders[1].path(), ["--threads 2", "--batch 1000 --threads 2", "--max-epochs 1"]);
    assert_eq!(other.sharded.manifest_digest, run.sharded.manifest_digest);
    let manifests = folders.each_ref().map(|folder| std::fs::read(folder.path().join("set.json")).unwrap());
    assert!(manifests[0] == manifests[1]);
}
