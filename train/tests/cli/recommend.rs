//! `train recommend`: the best movies of a user.

use std::collections::BTreeSet;

use schemas::report::{RecommendReport, RecommendedItem};
use serde_json::json;

use crate::runs::{self, side, stars};
use crate::sandbox::Sandbox;
use crate::shards::{MEAN, SMALL, edit, original};

/// Ids of what user number `user` has rated, in training and held-out mini-batches.
fn rated(sandbox: &Sandbox, user: u32) -> BTreeSet<u32> {
    let shards = manifests::load::shards(sandbox.path("ml20m.json").to_str().unwrap()).unwrap();
    let mut ids = BTreeSet::new();
    for object in shards.batches.iter().chain(shards.holdout_batches.iter()) {
        let mut rows = manifests::ratings::RatingRows::default();
        manifests::ratings::decode(manifests::load::batch(&shards.place, &object, "test").unwrap(), &mut rows).unwrap();
        let theirs = rows.users.iter().zip(&rows.items).filter(|(found, _)| **found == user);
        ids.extend(theirs.map(|(_, &item)| original(item)));
    }
    ids
}

/// Ids and stars of all items but those in `without`, the best first.
fn ranked(sandbox: &Sandbox, user: u32, without: &BTreeSet<u32>) -> Vec<(u32, f64)> {
    let (users, items) = (side(sandbox, "runs/ratings", "user"), side(sandbox, "runs/ratings", "item"));
    let ids = (0..SMALL.items).map(original).filter(|id| !without.contains(id));
    let mut all: Vec<(u32, f64)> = ids.map(|id| (id, stars(MEAN, &users, &items, original(user), id))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[track_caller]
fn agree(found: &[RecommendedItem], expected: &[(u32, f64)]) {
    assert!(found.len() == expected.len(), "{found:?}, {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.item_id, expected.0);
        assert!((f64::from(found.prediction) - expected.1).abs() < 2e-6, "{found:?}, {expected:?}");
    }
}

#[test]
fn the_best_movies_that_the_user_has_not_rated_are_listed() {
    let (sandbox, trained) = runs::ratings("--biases");
    for user in [0, 77, 149] {
        let seen = rated(&sandbox, user);
        assert!(seen.len() > 10 && seen.len() < 70);
        let id = original(user);
        for (args, top) in [("", 10), ("--top 3 --threads 1", 3), ("--top 1000 --threads 3", 1000)] {
            let ran = sandbox.run(&format!("recommend --model runs/ratings --user {id} {args}"));
            let report: RecommendReport = ran.only_line();
            let expected = ranked(&sandbox, user, &seen);
            agree(&report.items, &expected[..top.min(expected.len())]);
            assert_eq!((report.user, report.rated), (id, Some(seen.len() as u64)));
            assert_eq!((report.model.as_str(), report.model_digest), ("runs/ratings", trained.model_digest.clone()));
            let told = format!("for user {id}, by runs/ratings ({} rated ones left out):", seen.len());
            assert!(ran.stderr.contains(&told), "{}", ran.stderr);
            let line = format!("  {:.2}  {:>7}\n", report.items[0].prediction, report.items[0].item_id);
            assert!(ran.stderr.contains(&line), "{}", ran.stderr);
            assert!(!ran.stdout.contains("title"), "{}", ran.stdout);
        }
        let all: RecommendReport =
            sandbox.run(&format!("recommend --model runs/ratings --user {id} --top 1000 --include-rated")).only_line();
        agree(&all.items, &ranked(&sandbox, user, &BTreeSet::new()));
        assert_eq!(all.rated, None);
    }
}

#[test]
fn equal_predictions_are_listed_by_id() {
    // Nothing moves at such a rate, and without biases a factor of 0 is what all start near.
    let sandbox = Sandbox::with(SMALL);
    sandbox.train("--factors 1 --max-epochs 1 -q -o runs/ratings").report();
    let run = sandbox.path("runs/ratings");
    let mut bytes = std::fs::read(run.join("model.safetensors")).unwrap();
    let n = bytes.len();
    bytes[n - 4 * (SMALL.items + SMALL.users) as usize..].fill(0);
    std::fs::write(run.join("model.safetensors"), &bytes).unwrap();
    edit(&run.join("report.json"), |report| report["model_digest"] = json!(manifests::digest::digest(&bytes)));
    let report: RecommendReport =
        sandbox.run("recommend --model runs/ratings --user 1 --include-rated --top 5").only_line();
    let expected: Vec<(u32, f64)> = (0..5).map(|item| (original(item), MEAN)).collect();
    agree(&report.items, &expected);
}

#[test]
fn titles_are_shown_when_they_are_given() {
    let (sandbox, _) = runs::ratings("");
    let title = |item: u32| format!("Movie, no. {item} (\"The\" Best)");
    let lines =
        (0..SMALL.items / 2).map(|i| format!("{},\"Movie, no. {i} (\"\"The\"\" Best)\",Drama|War\r\n", original(i)));
    std::fs::write(sandbox.path("movies.csv"), "movieId,title,genres\r\n".to_owned() + &lines.collect::<String>())
        .unwrap();
    let line = "recommend --model runs/ratings --user 4 --include-rated --top 80 --titles movies.csv";
    let ran = sandbox.run(line);
    let report: RecommendReport = ran.only_line();
    for item in &report.items {
        let number = (item.item_id - 1) / 3;
        let expected = (number < SMALL.items / 2).then(|| title(number));
        assert_eq!(item.title, expected);
        if let Some(title) = &expected {
            assert!(ran.stderr.contains(&format!("{:>7}  {title}\n", item.item_id)), "{}", ran.stderr);
        }
    }
    for (text, code, message) in [
        (
            "movieId,name\n",
            3,
            "error: movies.csv:1: the header `movieId,name` is not movieId,title,genres\n  fix: give MovieLens' movies.csv",
        ),
        ("movieId,title,genres\n1,a,b\nx,a,b\n", 3, "error: movies.csv:3: movieId `x` is not a whole number"),
    ] {
        std::fs::write(sandbox.path("movies.csv"), text).unwrap();
        sandbox.run(line).failed(code, &[message]);
    }
    std::fs::remove_file(sandbox.path("movies.csv")).unwrap();
    sandbox.run(line).failed(2, &["error: movies.csv: could not be read\n  cause: ", "fix: check the path"]);
}

#[test]
fn who_or_what_is_not_known_is_told() {
    let (sandbox, _) = runs::ratings("");
    let line = "recommend --model runs/ratings --user";
    for user in [0, 2, 449, 4_294_967_295u32] {
        let message =
            format!("error: the model does not know user {user}; it knows 150 users, with ids from 1 to 448\n  fix: ");
        sandbox.run(&format!("{line} {user}")).failed(2, &[&message, "users.parquet"]);
    }
    sandbox.run(&format!("{line} somebody")).failed(2, &["invalid value 'somebody'"]);
    sandbox.run(&format!("{line} 1 --top 0")).failed(2, &["0 is not in 1.."]);
    sandbox.run(&format!("{line} 1 --include-rated --manifest ml20m.json")).failed(2, &["cannot be used with"]);
    let expected: RecommendReport = sandbox.run(&format!("{line} 1")).only_line();

    // The manifest has moved, and another one is in its place.
    std::fs::create_dir(sandbox.path("elsewhere")).unwrap();
    std::fs::rename(sandbox.path("ml20m.json"), sandbox.path("elsewhere/ml20m.json")).unwrap();
    std::fs::rename(sandbox.path("shards"), sandbox.path("elsewhere/shards")).unwrap();
    let fix = "\n  fix: name the manifest that the model was trained on with `--manifest FILE`, or list all movies with `--include-rated`";
    let gone = "what the user has rated is not known: there is no manifest `ml20m.json` (any more)";
    sandbox.run(&format!("{line} 1")).failed(2, &[gone, fix]);
    let found: RecommendReport = sandbox.run(&format!("{line} 1 --manifest elsewhere/ml20m.json")).only_line();
    assert_eq!((found.items, found.rated), (expected.items, expected.rated));
    assert_eq!(sandbox.run(&format!("{line} 1 --include-rated -q")).code, Some(0));
    edit(&sandbox.path("elsewhere/ml20m.json"), |manifest| manifest["tool"] = json!("another"));
    let other = "elsewhere/ml20m.json: this is not the manifest that the model was trained on: it is xxh3-128:";
    sandbox.run(&format!("{line} 1 --manifest elsewhere/ml20m.json")).failed(4, &[other, fix]);
    sandbox.run(&format!("{line} 1 --manifest absent.json")).failed(2, &["absent.json: not found"]);

    let (sandbox, _) = runs::clicks(true, "--max-epochs 1");
    let message = "error: `runs/clicks` is a model of click logs, which recommends nothing\n  fix: give a run that was trained on ratings";
    sandbox.run("recommend --model runs/clicks --user 1").failed(2, &[message]);
}
