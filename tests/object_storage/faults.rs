//! Networks and servers that fail in the middle of each tool: it goes on, and makes what it makes without them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use services::{Fault, FaultProxy, Request};

use super::{Env, Objects, World, assert_same};

/// What happens to a request.
type Choice = Box<dyn Fn(&Request) -> Fault + Send + Sync>;

fn busy(code: &'static str, status: u16) -> Fault {
    Fault::Answer { status, code, retry_after: None }
}

fn bursts(request: &Request) -> Fault {
    if request.number % 20 < 4 { busy("SlowDown", 503) } else { Fault::Pass }
}

fn resets(request: &Request) -> Fault {
    match (request.method.as_str(), request.number % 5) {
        ("PUT", 1) => Fault::ResetRequest { after: request.length / 2 },
        ("PUT", 3) => Fault::LoseAnswer,
        ("GET", 2) => Fault::ResetAnswer { after: 100 },
        ("HEAD" | "POST" | "DELETE", 1) => Fault::LoseAnswer,
        _ => Fault::Pass,
    }
}

fn truncations(request: &Request) -> Fault {
    match request.number % 6 {
        1 if request.method == "GET" => Fault::TruncateAnswer { after: 64 },
        4 => busy("InternalError", 500),
        _ => Fault::Pass,
    }
}

/// Of what the tools have written, ranges of it too, each is altered at most once on the way back. Lists and raw text have nothing
/// that would tell.
fn flips() -> impl Fn(&Request) -> Fault {
    let altered = Mutex::new(HashSet::new());
    move |request| match (request.method.as_str(), request.number % 3) {
        ("PUT", 1) if request.length > 1000 && request.number % 2 == 0 => Fault::FlipRequest { at: 500 },
        ("GET", 2) if request.target.contains("/gen-") => {
            let what = (request.target.clone(), request.header("range").map(str::to_owned));
            if altered.lock().unwrap().insert(what) { Fault::FlipAnswer { at: 50 } } else { Fault::Pass }
        }
        _ => Fault::Pass,
    }
}

/// Everything that the three tools make from what is at `s3://data/raw`, below `s3://data/{root}`.
fn made(world: &World, env: &Env, root: &str) -> Objects {
    let root = format!("s3://data/{root}");
    let lines = [
        format!("prep criteo s3://data/raw/raw.tsv.gz --hash-buckets 20000 --holdout 0.1 -o {root}/prepared -v"),
        format!("shard {root}/prepared --batch 1000 -o {root}/shards -v"),
        format!("shard {root}/prepared --batch 200 --rows-per-object 6000 -o {root}/packed -v"),
        format!("shard verify {root}/packed/criteo.json -v"),
        format!("train --manifest {root}/packed/criteo.json --step-batches 2 --max-epochs 2 -o {root}/run -v"),
        format!("train evaluate --model {root}/run {root}/shards/criteo.json -v"),
    ];
    for line in lines {
        let said = world.run(&line, env);
        said.report();
    }
    let mut objects = world.objects(&root);
    objects.retain(|key, _| {
        !matches!(key.as_str(), "run/report.json" | "run/report.html" | "run/timings.csv" | "run/history.csv")
    });
    assert!(objects.contains_key("run/model.safetensors"), "{:?}", objects.keys());
    objects
}

#[test]
fn each_tool_goes_on_through_faults() {
    let world = World::with_clicks(20_000);
    world.place("s3://data/raw").put("raw.tsv.gz", std::fs::read(world.path().join("raw.tsv.gz")).unwrap()).unwrap();
    let expected = made(&world, &world.env(), "undisturbed");
    let faults: [(&str, Choice); 4] = [
        ("bursts", Box::new(bursts)),
        ("resets", Box::new(resets)),
        ("truncations", Box::new(truncations)),
        ("flips", Box::new(flips())),
    ];
    std::thread::scope(|scope| {
        for (name, choose) in faults {
            let (world, expected) = (&world, &expected);
            scope.spawn(move || {
                let met = Arc::new(AtomicUsize::new(0));
                let count = Arc::clone(&met);
                let proxy = FaultProxy::start(world.server.port(), move |request| {
                    let fault = choose(request);
                    count.fetch_add(usize::from(fault != Fault::Pass), Ordering::Relaxed);
                    fault
                });
                assert_same(&made(world, &world.through(&proxy), name), expected, name);
                let met = met.load(Ordering::Relaxed);
                assert!(met > 10, "{name}: {met} faults of {} requests", proxy.requests().len());
            });
        }
    });
    assert_eq!(world.unfinished(), [""; 0]);
    world.holds_no_secret();
}

#[test]
fn parts_are_sent_again() {
    let world = World::with_dataset(400_000);
    let line = |place: &str| format!("shard prepared --batch 1000 --rows-per-object 999999999 -o {place} -v");
    world.done(&line("local"));
    let proxy = FaultProxy::start(world.server.port(), |request| {
        match (request.target.contains("partNumber="), request.number % 3) {
            (true, 0) => Fault::ResetRequest { after: 1 << 20 },
            (true, 1) => busy("SlowDown", 503),
            (false, 0) if request.method == "POST" => Fault::LoseAnswer,
            _ => Fault::Pass,
        }
    });
    for round in 0..3 {
        let place = format!("s3://data/parts{round}");
        world.run(&line(&place), &world.through(&proxy)).report();
        assert_same(&world.objects(&place), &world.objects("local"), &place);
    }
    let parts = proxy.requests().iter().filter(|request| request.target.contains("partNumber=")).count();
    assert!(parts > 6, "{parts} parts were sent");
    assert_eq!(world.unfinished(), [""; 0]);
}

/// A server that goes away in the middle and stays away ends each tool, and it goes on when the server is back.
#[test]
fn a_server_that_stays_away_is_told_in_time() {
    let world = World::with_clicks(20_000);
    world.place("s3://data/raw").put("raw.tsv.gz", std::fs::read(world.path().join("raw.tsv.gz")).unwrap()).unwrap();
    world.done("shard prepared --batch 500 -o s3://data/shards");
    world.done("train --manifest s3://data/shards/criteo.json --max-epochs 1 -o s3://data/run");
    let lines = [
        "prep criteo s3://data/raw/raw.tsv.gz --holdout 0.1 -o s3://data/new/prepared -v",
        "shard prepared --batch 100 -o s3://data/new/shards -v",
        "train --manifest s3://data/shards/criteo.json --max-epochs 2 -o s3://data/new/run -v",
        "train evaluate --model s3://data/run s3://data/shards/criteo.json -v",
        "shard verify s3://data/shards/criteo.json -v",
    ];
    // Nothing listens there any more; or somebody does and never has time.
    let gone = services::SeaweedFs::env_of("http://127.0.0.1:9", services::SeaweedFs::ADMIN);
    let leaves = |request: &Request| if request.number < 3 { Fault::Pass } else { Fault::ResetRequest { after: 0 } };
    std::thread::scope(|scope| {
        for line in lines {
            let (world, gone) = (&world, &gone);
            scope.spawn(move || {
                let said = world.run(line, gone);
                said.failed(75, &["error: s3://data/", "http://127.0.0.1:9"]);
                assert!(said.seconds < 90.0, "{said:#?}");
            });
            scope.spawn(move || {
                let proxy = FaultProxy::start(world.server.port(), leaves);
                let said = world.run(line, &world.through(&proxy));
                said.failed(75, &["error: s3://data/"]);
                assert!(said.seconds < 90.0, "{said:#?}");
            });
        }
    });
    assert_eq!(world.place("s3://data/new/shards").size("criteo.json").unwrap(), None);
    for line in lines {
        world.done(line);
    }
    world.holds_no_secret();
    assert_eq!(world.unfinished(), [""; 0]);
}

/// As on a full disk, but nothing is mounted for it: no file may pass 64 KB, which temporary data does first.
#[test]
fn a_full_temporary_disk_leaves_nothing_that_looks_whole() {
    let world = World::with_dataset(400_000);
    std::fs::create_dir(world.path().join("temporary")).unwrap();
    let line = "shard prepared --batch 1000 --memory 150MiB --threads 1 --temp-dir temporary -o s3://data/full";
    let said = world.shell(&format!("trap '' XFSZ; ulimit -f 128; exec {line}"));
    said.failed(75, &["could not write temporary data", "fix: "]);
    assert_eq!(world.place("s3://data/full").size("criteo.json").unwrap(), None);
    world.run("shard verify s3://data/full/criteo.json", &world.env()).failed(2, &["not found"]);
    assert_eq!(world.done(line)["unchanged"], false);
    world.done("shard prepared --batch 1000 -o local");
    assert_same(&world.objects("s3://data/full"), &world.objects("local"), "after a full disk");
    assert_eq!(std::fs::read_dir(world.path().join("temporary")).unwrap().count(), 0);
}
