//! `shard` killed at any moment: there is nothing or something whole, and the same command again ends with what an undisturbed
//! run makes.

use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

use random::Stream;
use serde_json::Value;
use services::{Fault, FaultProxy, SeaweedFs};

use super::{Env, Objects, World, assert_same};

/// How mini-batches are packed, by the number of the seed.
const PACKINGS: [&str; 3] = ["", "--rows-per-object 1000", "--rows-per-object 999999999"];
const MANIFEST: &str = "criteo.json";

/// What came of all the kills.
#[derive(Debug, Default)]
struct Tally {
    /// Processes that were killed before they ended by themselves.
    killed: usize,
    /// Of these, those that had committed.
    committed: usize,
    /// Second runs that found something of the first.
    resumed: usize,
    /// Kills that left an upload in parts unfinished.
    unfinished: usize,
}

/// An undisturbed run, into a folder of its own: what it makes, and how long it takes when everything is warm.
fn undisturbed(world: &World, env: &Env, root: &str, options: &str) -> (Objects, f64) {
    let place = format!("{root}/undisturbed{}", options.len());
    let line = format!("shard prepared --batch 100 {options} -o {place}");
    let first = world.run(&line, env);
    first.report();
    let made = world.objects(&place);
    world.place(&place).clear().unwrap();
    let second = world.run(&line, env);
    assert_eq!(second.report()["unchanged"], false, "{line}");
    assert_same(&world.objects(&place), &made, &line);
    (made, first.seconds.min(second.seconds))
}

/// Waits until any moment of `seconds`, by `seed`.
fn any_moment(seed: u64, seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(Stream::new(seed, "kill").unit() * seconds));
}

/// What `shard verify` says of a manifest all of whose objects must be there.
#[track_caller]
fn verified(world: &World, manifest: &str) -> Value {
    let said = world.run(&format!("shard verify {manifest}"), &world.env());
    let report: Value = serde_json::from_str(said.stdout.lines().last().unwrap_or_default()).unwrap_or_default();
    assert!(report["missing"]["count"] == 0 && report["damaged"]["count"] == 0, "{said:#?}");
    assert_eq!(said.code == Some(0), report["foreign"]["count"] == 0, "{said:#?}");
    report
}

/// Kills and repeats, for every seed in a folder of its own below `root`; `env` is what the killed process gets. `moment` waits
/// until it is time to kill, by the seed and the seconds that an undisturbed run takes.
fn tried(
    world: &World,
    env: &Env,
    root: &str,
    packings: &[&str],
    seeds: Range<u64>,
    moment: impl Fn(u64, f64),
) -> Tally {
    let whole: Vec<_> = packings.iter().map(|options| undisturbed(world, env, root, options)).collect();
    let mut tally = Tally::default();
    for seed in seeds {
        let number = seed as usize % packings.len();
        let (expected, seconds) = &whole[number];
        let place = format!("{root}/{seed}");
        let line = format!("shard prepared --batch 100 {} -o {place}", packings[number]);
        let running = world.start(&line, env);
        moment(seed, *seconds);
        let was_killed = running.kill().code.is_none();
        let committed = world.place(&place).size(MANIFEST).unwrap().is_some();
        if committed {
            assert_eq!(verified(world, &format!("{place}/{MANIFEST}"))["whole"], true, "seed {seed}");
        }
        tally.killed += usize::from(was_killed);
        tally.committed += usize::from(was_killed && committed);
        tally.unfinished += usize::from(!world.unfinished().is_empty());

        let report = world.done(&line);
        assert_eq!(report["unchanged"], committed, "seed {seed}: {report}");
        tally.resumed += usize::from(report["objects_kept"].as_u64().unwrap() > 0);
        assert_same(&world.objects(&place), expected, &format!("seed {seed}"));
        assert_eq!(world.unfinished(), [""; 0], "seed {seed}");
        world.place(&place).clear().unwrap();
    }
    tally
}

#[test]
fn on_disk() {
    let world = World::with_dataset(20_000);
    let tally = tried(&world, &world.env(), "local", &PACKINGS, 0..46, any_moment);
    assert!(tally.killed >= 20, "{tally:?}");
}

#[test]
fn among_uploads() {
    let world = World::with_dataset(20_000);
    let tally = tried(&world, &world.env(), "s3://data/k", &PACKINGS, 46..96, any_moment);
    assert!(tally.killed >= 20 && tally.resumed >= 5, "{tally:?}");
    world.holds_no_secret();
}

#[test]
fn among_the_parts_of_an_object() {
    let world = World::with_dataset(400_000);
    // The first seed's second part is held for so long that its run is killed meanwhile.
    let (arrived, second_part) = mpsc::channel();
    let slow = FaultProxy::start(world.server.port(), move |request| {
        let held = request.target.contains("/96/") && request.target.contains("partNumber=2");
        if held {
            // A part that is sent again finds nobody waiting.
            let _ = arrived.send(());
        }
        if request.target.contains("partNumber=") {
            std::thread::sleep(Duration::from_millis(if held { 3000 } else { 100 }));
        }
        Fault::Pass
    });
    let moment = |seed, seconds| match seed {
        96 => second_part.recv_timeout(Duration::from_secs(60)).expect("an object of two parts"),
        _ => any_moment(seed, seconds),
    };
    let env = SeaweedFs::env_of(&slow.url(), SeaweedFs::ADMIN);
    let tally = tried(&world, &env, "s3://data/p", &PACKINGS[2..], 96..100, moment);
    assert!(tally.unfinished >= 1, "{tally:?}");
}

#[test]
fn while_other_content_is_replaced() {
    let world = World::with_dataset(20_000);
    for (root, seeds) in [("local", 0..10u64), ("s3://data/r", 10..24)] {
        let place = format!("{root}/shards");
        let line = |which: usize| format!("shard prepared --batch 100 --seed {} -o {place} --replace", [8, 9][which]);
        let made = [0, 1].map(|which| {
            let said = world.run(&line(which), &world.env());
            said.report();
            (world.objects(&place), said.seconds)
        });
        let manifests = made.each_ref().map(|(objects, _)| objects[MANIFEST].clone());
        assert!(manifests[0] != manifests[1]);
        let (mut was_old, mut was_new) = (0, 0);
        for seed in seeds {
            // What is there is the other one.
            let which = seed as usize % 2;
            let seconds = made[which].1;
            let running = world.start(&line(which), &world.env());
            any_moment(seed, seconds);
            drop(running.kill());
            let found = world.place(&place).get(MANIFEST).unwrap();
            let is_new = found == manifests[which];
            assert!(is_new || found == manifests[1 - which], "seed {seed}: neither the old nor the new one");
            was_new += usize::from(is_new);
            was_old += usize::from(!is_new);
            verified(&world, &format!("{place}/{MANIFEST}"));

            world.done(&line(which));
            assert_same(&world.objects(&place), &made[which].0, &format!("{root}, seed {seed}, new: {is_new}"));
        }
        eprintln!("{root}: {was_old} times the old one, {was_new} times the new one");
        assert!(was_old > 0, "{root}");
    }
    assert_eq!(world.unfinished(), [""; 0]);
}
