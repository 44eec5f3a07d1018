//! The three calls with places in S3: the same bytes as on this machine's disk, by files and by pipes.

use super::{Objects, World, assert_same};

/// What to prepare, how, and what to learn from it.
const KINDS: [[&str; 3]; 2] = [
    ["criteo raw.tsv.gz --hash-buckets 20000", "criteo", "--learning-rate 0.01"],
    ["movielens ratings.csv", "ratings", "--biases"],
];

/// Without the files that tell times and places.
fn lasting(mut objects: Objects) -> Objects {
    objects.retain(|key, _| !matches!(key.as_str(), "report.json" | "report.html" | "history.csv" | "timings.csv"));
    objects
}

/// The whole way, with everything under `root`; twice, of which the second time is to change nothing.
fn pipeline(world: &World, root: &str, raw: &str, packing: &str, [prep, name, train]: [&str; 3]) -> [String; 2] {
    let (format, raw_and_more) = prep.split_once(' ').unwrap();
    let lines = [
        format!("prep {format} {raw}{raw_and_more} --holdout 0.1 --name {name} -o {root}/prepared"),
        format!("shard {root}/prepared --batch 500 {packing} -o {root}/shards"),
        format!("train --manifest {root}/shards/{name}.json {train} --step-batches 2 --max-epochs 2 -o {root}/run"),
    ];
    let mut digests = [String::new(), String::new()];
    for (line, again) in lines.iter().flat_map(|line| [(line, false), (line, true)]) {
        let report = world.done(line);
        assert_eq!(report["unchanged"], again, "{line}: {report}");
        if line.starts_with("train") {
            digests = ["model_digest", "history_digest"].map(|digest| report[digest].as_str().unwrap().to_owned());
        }
    }
    digests
}

#[test]
fn the_three_calls_make_in_s3_what_they_make_on_disk() {
    let world = World::with_clicks(20_000);
    world.done("prep generate movielens --ratings 20000 --users 300 --movies 500 --seed 5 -o ratings.csv");
    let bucket = world.place("s3://data/raw");
    for name in ["raw.tsv.gz", "ratings.csv"] {
        bucket.put(name, std::fs::read(world.path().join(name)).unwrap()).unwrap();
    }
    for (kind, packing) in KINDS.into_iter().flat_map(|kind| [(kind, ""), (kind, "--rows-per-object 2500")]) {
        let name = kind[1];
        let local = format!("local/{name}{}", packing.len());
        let remote = format!("s3://data/{name}{}", packing.len());
        let digests =
            [(&local, ""), (&remote, "s3://data/raw/")].map(|(root, raw)| pipeline(&world, root, raw, packing, kind));
        assert_eq!(digests[0], digests[1], "{name} {packing}");
        for part in ["prepared", "shards", "run"] {
            let [one, other] = [&local, &remote].map(|root| lasting(world.objects(&format!("{root}/{part}"))));
            assert_same(&one, &other, part);
        }
        let manifest = format!("{remote}/shards/{name}.json");
        assert_eq!(world.done(&format!("shard verify {manifest}"))["whole"], true);
        for (file, kind) in [("report.html", "text/html; charset=utf-8"), ("history.csv", "text/csv; charset=utf-8")] {
            let key = format!("{}/run/{file}", remote.trim_start_matches("s3://data/"));
            assert_eq!(world.server.content_type(&key).as_deref(), Some(kind), "{key}");
        }
        let evaluated = [&local, &remote].map(|root| {
            let report = world.done(&format!("train evaluate --model {root}/run {root}/shards/{name}.json"));
            assert!(report["rows"].as_u64().unwrap() > 1500, "{report}");
            report.as_object().unwrap().iter().filter(|(_, v)| v.is_f64() || v.is_object()).fold(
                String::new(),
                |all, (key, value)| if key == "seconds" { all } else { format!("{all} {key} {value}") },
            )
        });
        assert_eq!(evaluated[0], evaluated[1]);
        // A model on one side serves rows on the other.
        world.done(&format!("train evaluate --model {local}/run {manifest}"));
    }
    assert!(world.unfinished().is_empty());
    world.holds_no_secret();
}

#[test]
fn pipes_make_what_files_make() {
    let world = World::with_clicks(20_000);
    world.place("s3://data/raw").put("raw.tsv.gz", std::fs::read(world.path().join("raw.tsv.gz")).unwrap()).unwrap();
    let parts = |mut objects: Objects| {
        objects.retain(|key, _| key.ends_with(".parquet"));
        objects.into_iter().map(|(key, bytes)| (key.rsplit('/').next().unwrap().to_owned(), bytes)).collect()
    };
    world.shell("zcat raw.tsv.gz | prep criteo --hash-buckets 20000 --holdout 0.1 -o s3://data/prepared").report();
    let expected: Objects = parts(world.objects("prepared"));
    assert_same(&parts(world.objects("s3://data/prepared")), &expected, "through zcat");

    world.done("shard prepared --batch 500 -o shards");
    let prep = "prep criteo s3://data/raw/raw.tsv.gz --hash-buckets 20000 --holdout 0.1 -o -";
    let line = format!("{prep} | shard --batch 500 -o s3://data/shards");
    for again in [false, true] {
        assert_eq!(world.shell(&line).report()["unchanged"], again);
    }
    assert_eq!(world.done("shard verify s3://data/shards/criteo.json")["whole"], true);
    let manifest = |place: &str| -> serde_json::Value {
        serde_json::from_slice(&world.place(place).get("criteo.json").unwrap()).unwrap()
    };
    let (ours, theirs) = (manifest("s3://data/shards"), manifest("shards"));
    for field in ["rows", "holdout_rows", "shuffle", "layout"] {
        assert_eq!(ours[field].is_null(), theirs[field].is_null(), "{field}");
    }
    assert_eq!((&ours["rows"], &ours["holdout_rows"]), (&theirs["rows"], &theirs["holdout_rows"]));
    assert_same(&parts(world.objects("s3://data/shards")), &parts(world.objects("shards")), "through the pipe");
    world.holds_no_secret();
}
