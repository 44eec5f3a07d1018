//! Workers that are launched by a line of a shell.

use std::time::Duration;

use pipeline_tests::{Running, programs, tool};

use super::parts::{parts_of, signal};
use super::{SECRETS, World};

const SETTINGS: &str = "--manifest sparse.json --step-batches 8 --max-epochs 20 --patience 1000";

/// Starts a run whose workers `line` launches; there `$TRAIN` is the program.
fn start(world: &World, run: &str, arguments: &str, line: &str) -> Running {
    let typed = format!("train {arguments} -o {}", world.run(run));
    let mut command = tool(&typed);
    command.args(["--command", line]).env("TMPDIR", world.path().join("temporary"));
    command.env("TRAIN", programs().join("train"));
    command.envs([("GRISTMILL_AMQP", world.amqp()), ("GRISTMILL_REDIS", world.redis.url())]);
    Running::start(&typed, command, world.path(), SECRETS)
}

/// The shells and whatever they wait for, by a mark in their lines.
fn marked(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(mark.len()).any(|part| part == mark.as_bytes())).count()
}

#[test]
fn workers_are_launched_by_a_line() {
    let world = World::new();
    the_same_bits_and_again_when_one_dies(&world);
    a_line_that_launches_nobody_is_told(&world);
    lines_that_make_no_sense_are_refused(&world);
}

fn the_same_bits_and_again_when_one_dies(world: &World) {
    let expected = world.expected(SETTINGS);
    let line = r#"echo "$GRISTMILL_WORKER.$GRISTMILL_INCARNATION" >> launched; "$TRAIN" $GRISTMILL_JOIN"#;
    let arguments = format!("{SETTINGS} --launch command --workers 3");
    let mut running = start(world, "launched-run", &arguments, line);
    let worker = loop {
        let parts = parts_of(&world.run("launched-run"));
        if let Some(part) = parts.iter().find(|part| part.worker == Some(1)).filter(|_| parts.len() == 4) {
            break part.pid;
        }
        assert!(running.ended().is_none() && running.elapsed() < Duration::from_secs(30), "{:?}", running.said());
        std::thread::sleep(Duration::from_millis(2));
    };
    signal(worker, "KILL");
    let said = world.end(&mut running, "launched-run", "launched by a line");
    assert_eq!(said.digests(), expected, "{said:#?}");
    assert!(said.stderr.contains("worker 1 is launched again"), "{said:#?}");
    let launched = std::fs::read_to_string(world.path().join("launched")).unwrap();
    let mut launched: Vec<&str> = launched.lines().collect();
    launched.sort_unstable();
    assert_eq!(launched, ["0.0", "1.0", "1.1", "2.0"]);
    assert_eq!(world.verified("launched-run")["whole"], true);
    world.nobody_is_left("launched-run", "launched by a line");
}

fn a_line_that_launches_nobody_is_told(world: &World) {
    let arguments = format!("{SETTINGS} --launch command --workers 2 --worker-timeout 1s");
    let said = start(world, "nobody", &arguments, "echo error: no such host >&2; : $GRISTMILL_JOIN; exit 7").wait();
    said.failed(75, &["worker", "died", "no such host", "--resume"]);
    // One that never begins is taken to be dead, with what it waits for.
    let seconds = format!("86399.{}", std::process::id());
    let mut running = start(world, "never", &arguments, &format!("sleep {seconds}; : $GRISTMILL_JOIN"));
    // The client, two shells and two sleepers.
    while marked(&seconds) < 5 {
        assert!(running.ended().is_none(), "{:?}", running.said());
    }
    running.wait().failed(75, &["worker", "died"]);
    assert_eq!(marked(&seconds), 0);
}

fn lines_that_make_no_sense_are_refused(world: &World) {
    let join = "train $GRISTMILL_JOIN";
    for (arguments, line, said) in [
        ("--launch process", join, "--command is for `--launch command`"),
        ("", join, "--command is for workers that are processes"),
        ("--launch command", "train", "--command does not use $GRISTMILL_JOIN"),
        ("--launch command --memory-limit 1GB", join, "--memory-limit is for processes on this machine"),
    ] {
        start(world, "refused", &format!("{SETTINGS} {arguments}"), line).wait().failed(2, &[said, "fix:"]);
    }
    start(world, "a;b", &format!("{SETTINGS} --launch command"), join)
        .wait()
        .failed(2, &["a character that the shell"]);
    let said = world.done(&format!("train {SETTINGS} --launch command -o {}", world.run("refused")));
    said.failed(2, &["`--launch command` needs a --command"]);
}
