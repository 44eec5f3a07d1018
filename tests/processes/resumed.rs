//! Runs that are stopped or whose client dies, and go on later; and workers that are killed by a limit.

use std::time::{Duration, Instant};

use pipeline_tests::Running;
use random::Stream;

use super::parts::{self, parts_of};
use super::{World, gone};

const SETTINGS: &str = "--manifest sparse.json --step-batches 8 --max-epochs 100 --patience 1000";
const LAUNCH: &str = "--launch process --workers 4";

/// Waits until everybody is there, and so much longer.
fn wait_for(world: &World, running: &mut Running, run: &str, then: Duration) {
    while parts_of(&world.run(run)).len() < 5 {
        assert!(running.ended().is_none() && running.elapsed() < Duration::from_secs(30), "{:?}", running.said());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(then);
}

/// Goes on with `run` and looks at what it has become.
#[track_caller]
fn goes_on(world: &World, run: &str, flags: &str, expected: &[String; 2]) {
    let mut running = world.start(&format!("train --resume {} {flags}", world.run(run)));
    let said = world.end(&mut running, run, run);
    assert_eq!(said.digests(), *expected, "{run}: {said:#?}");
    world.verified(run);
    world.is_whole(run, run);
    world.nobody_is_left(run, run);
}

#[test]
fn a_run_that_was_stopped_or_has_lost_its_client_goes_on() {
    let world = World::new();
    let expected = world.expected(SETTINGS);
    let in_peace = world.end(&mut world.train("peace", &format!("{SETTINGS} {LAUNCH}")), "peace", "peace");
    assert_eq!(in_peace.digests(), expected);
    println!("in peace {:.1} s", in_peace.seconds);

    // Everything is done in the first two seconds of a run, which takes longer.
    let mut stream = Stream::new(6, "resumed");
    // The last one is killed before its first checkpoint.
    for (number, (every, workers, at)) in [(10, 3, 1.4), (25, 1, 0.8), (100_000, 2, 0.3)].into_iter().enumerate() {
        let run = format!("killed{number}");
        let mut running = world.train(&run, &format!("{SETTINGS} {LAUNCH} --checkpoint-every {every}"));
        let then = Duration::from_secs_f64(stream.unit() * at);
        wait_for(&world, &mut running, &run, then);
        parts::signal(running.id(), "KILL");
        assert!(running.within_limit().is_some());
        println!("{run} after {then:?}: all gone after {:?}", gone(&world.run(&run), &run));
        what_is_left_goes_away(&world, &run, number == 0);
        goes_on(&world, &run, &format!("--workers {workers}"), &expected);
    }

    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let run = format!("stopped-by-{signal}");
        let mut running = world.train(&run, &format!("{SETTINGS} {LAUNCH}"));
        wait_for(&world, &mut running, &run, Duration::from_millis(1000));
        parts::signal(running.id(), signal);
        let signalled = Instant::now();
        let said = world.end(&mut running, &run, &run);
        println!("{run}: {:?} later: {}", signalled.elapsed(), said.stderr.lines().last().unwrap());
        said.failed(code, &[&format!("train --resume {}", world.run(&run))]);
        let keys = world.redis.keys();
        assert!(keys.iter().all(|key| !key.contains("stopped")), "{run}: {keys:?}");
        world.nobody_is_left(&run, &run);
        goes_on(&world, &run, "--workers 5", &expected);
    }
    not_to_be_resumed(&world);
    limits(&world, &expected);
}

/// After the death of a client, what is on the servers has an expiry.
fn what_is_left_goes_away(world: &World, run: &str, queues_too: bool) {
    assert_eq!(world.redis.keys_for_ever(), [""; 0], "{run}: left for ever");
    println!("{run}: {} keys are left for a while", world.redis.keys().len());
    if queues_too {
        // The exchange goes with the last queue that is bound to it.
        let queues: Vec<_> = world.queues().into_iter().filter(|(name, _)| name.matches('.').count() > 2).collect();
        assert!(queues.iter().any(|(name, _)| name.contains(".worker.3.")), "{queues:?}");
        assert!(queues.iter().all(|(_, expiry)| *expiry > 0), "{queues:?}");
    }
    let _ = world.redis.command(&["flushall"]);
}

fn not_to_be_resumed(world: &World) {
    std::fs::create_dir(world.path().join("nothing")).unwrap();
    for run in ["peace", "nothing", "no-such-folder"] {
        let said = world.done(&format!("train --resume {}", world.run(run)));
        said.failed(4, &["there is no unfinished run", run]);
        assert!(said.seconds < 10.0, "{said:#?}");
    }
    // The same settings again find the run, and launch nobody.
    let said = world.done(&format!("train {SETTINGS} {LAUNCH} -o {}", world.run("peace")));
    assert_eq!(said.report()["unchanged"], true);
}

/// Workers are functions: they hand over before their time is over, and are killed when they pass a limit.
fn limits(world: &World, expected: &[String; 2]) {
    let run = "short-lived";
    // Long enough for several limits, however fast the machine is.
    let settings = SETTINGS.replace("--max-epochs 100", "--max-epochs 300");
    let arguments = format!("{settings} {LAUNCH} --checkpoint-every 20 --time-limit 2s");
    let said = world.end(&mut world.train(run, &arguments), run, run);
    assert_eq!(said.digests(), world.expected(&settings), "{said:#?}");
    // Four that did not would be launched again every two seconds. On a busy machine one may not find the time.
    let (again, turns) = (said.stderr.matches("launched again").count(), (said.seconds / 2.0) as usize);
    assert!(turns >= 2 && again < 2 * turns, "{again} times in {turns} turns: {said:#?}");
    println!("{run}: {:.1} s, {again} launched again", said.seconds);
    world.verified(run);

    let run = "small";
    let said = world.end(&mut world.train(run, &format!("{SETTINGS} {LAUNCH} --memory-limit 20MiB")), run, run);
    said.failed(75, &["20.0 MiB", "--memory-limit"]);
    println!("{run}: {:.1} s: {}", said.seconds, said.stderr);
    world.nobody_is_left(run, run);
    goes_on(world, run, "--workers 2", expected);
}
