//! The sweep that compares recipes, as it stands in the repository, on small data.

use std::path::Path;
use std::process::Command;

use pipeline_tests::{Running, Secrets, programs};

use super::{generated, prepare, shard};

#[test]
fn the_sweep_compares_recipes_and_settings() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, at) = (generated(folder.path()), folder.path().display());
    prepare(&format!("movielens {} --holdout 0.1 --name set -o {at}/prepared", raw.display()));
    shard(&format!("{at}/prepared --batch 500 -o {at}/shards --manifest {at}/set.json"));
    let common = "step-batches = 2\nbiases = true\nmax-epochs = 3\n";
    for (name, rate) in [("good", "1"), ("slow", "0.001"), ("wild", "1000")] {
        std::fs::write(folder.path().join(format!("{name}.toml")), format!("{common}learning-rate = {rate}\n"))
            .unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/recipes/sweep.py");
    let mut command = Command::new("python3");
    command.arg(script).arg("--train").arg(programs().join("train"));
    command.args(
        "set.json slow.toml wild.toml good.toml --grid l2=0,0.05 --seeds 1,2 --max-time 1h --csv runs.csv".split(' '),
    );
    let said = Running::start("sweep.py", command, folder.path(), Secrets(&[])).wait();
    assert_eq!(said.code, Some(0), "{said:#?}");
    let table: Vec<&str> = said.stdout.lines().skip(2).collect();
    let recipes: Vec<&str> = table.iter().filter_map(|line| line.split(" | ").next()).collect();
    assert_eq!(recipes, ["| good", "| good", "| slow", "| slow", "| wild", "| wild"], "{said:#?}");
    assert!(table[0].ends_with(" | max_epochs |") && table[5].ends_with(" | diverged |"), "{said:#?}");
    let csv = std::fs::read_to_string(folder.path().join("runs.csv")).unwrap();
    let cells: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(cells.len(), 12, "three recipes, two points, two seeds: {csv}");
    let points: Vec<[&str; 3]> = cells[..4].iter().map(|row| [row[0], row[1], row[2]]).collect();
    assert_eq!(
        points,
        [["slow", "--l2=0", "1"], ["wild", "--l2=0", "1"], ["good", "--l2=0", "1"], ["slow", "--l2=0.05", "1"],]
    );
    assert!(cells.iter().all(|row| (row[0] == "wild") == row[3].is_empty()), "{csv}");
}
