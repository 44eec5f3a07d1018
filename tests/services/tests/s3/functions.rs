//! What is relied on in the local Lambda where functions run: that it does as AWS, and that nothing of it is left.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{scope, sleep};
use std::time::Instant;

use serde_json::{Value, json};
use services::{Deployment, MiniStack};

use super::*;

/// A program for functions in `folder`, which says that it is `build`.
fn program(folder: &Path, build: &str) -> PathBuf {
    let path = folder.join(build);
    std::fs::write(&path, include_str!("function.py").replace("BUILD", build)).unwrap();
    path
}

/// A server, and a deployment to it that nothing is set in.
fn lambda() -> (MiniStack, Deployment) {
    let server = MiniStack::start();
    let deployment = Deployment::of(program(server.folder(), "first"));
    (server, deployment)
}

/// Waits for `is_so`, for longer than anything here takes.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        sleep(Duration::from_millis(10));
    }
}

/// The processes that noted themselves in the file `note`, once for each invocation.
fn noted(note: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(note).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn is_gone(process: u32) -> bool {
    // A process that nobody has waited for yet has no command line.
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|command| command.is_empty())
        || !Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn an_event_runs_in_an_environment_of_its_own() {
    let (server, mut deployment) = lambda();
    deployment.variables = vec![("PLACE".to_owned(), "s3://data/ä b".to_owned())];
    deployment.timeout_seconds = 9;
    let version = server.deploy("worker", &deployment);
    assert_eq!(version, "1");
    let note = server.folder().join("note");
    assert_eq!(server.send("worker", &version, &json!({"note": note})), 202);
    until("the event runs", || noted(&note).len() == 1);
    until("its process is free again", || server.logs("worker").contains("REPORT RequestId"));
    let seen = server.call("worker", &version, &json!({"note": note}));
    assert!(seen.status == 200 && !seen.failed, "{seen:?}");
    let environment = seen.body["environment"].as_object().unwrap();
    let of = |name: &str| environment[name].as_str().unwrap();
    let mut names: Vec<&str> = environment.keys().map(String::as_str).filter(|name| *name != "_").collect();
    names.sort_unstable();
    let expected = [
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_DISABLE_HOST_PREFIX_INJECTION",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "LAMBDA_TASK_ROOT",
        "PATH",
        "PLACE",
        "TMPDIR",
        "_HANDLER",
    ];
    assert_eq!(names, expected);
    let values = ["PLACE", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_REGION"].map(of);
    assert_eq!(values, ["s3://data/ä b", "256", "1", "us-east-1"]);
    assert_eq!((of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY")), MiniStack::ROLE);
    let left = seen.body["left"].as_f64().unwrap();
    assert!((5.0..=9.0).contains(&left), "{left} seconds to the deadline");
    assert_eq!(noted(&note)[0], noted(&note)[1], "the second invocation finds the process of the first warm");
    assert_eq!(server.processes(), noted(&note)[1..]);
    let log = server.logs("worker");
    assert!(log.matches("works on {'note'").count() == 2, "{log}");
}

#[test]
fn a_version_stays_what_it_was() {
    let (server, mut deployment) = lambda();
    deployment.variables = vec![("STEP".to_owned(), "1".to_owned())];
    let first = server.deploy("worker", &deployment);
    let before = server.call("worker", &first, &json!({}));
    deployment.variables = vec![("STEP".to_owned(), "2".to_owned())];
    deployment.program = program(server.folder(), "second");
    deployment.memory_mb = 512;
    let second = server.deploy("worker", &deployment);
    assert_eq!([&first, &second], ["1", "2"]);
    let what = |answer: &Value| {
        let environment = &answer["environment"];
        let values = [&environment["STEP"], &environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], &answer["build"]];
        values.map(|value| value.as_str().unwrap().to_owned())
    };
    assert_eq!(what(&before.body), ["1", "256", "first"]);
    assert_eq!(what(&server.call("worker", &first, &json!({})).body), ["1", "256", "first"]);
    assert_eq!(what(&server.call("worker", &second, &json!({})).body), ["2", "512", "second"]);
    assert_eq!(what(&server.call("worker", "$LATEST", &json!({})).body), ["2", "512", "second"]);
    for (function, version) in [("worker", "3"), ("nobody", "1")] {
        let unknown = server.call(function, version, &json!({}));
        assert_eq!(unknown.status, 404, "{unknown:?}");
        assert_eq!(server.send(function, version, &json!({})), 404);
    }
}

#[test]
fn what_takes_too_long_is_killed_and_what_takes_too_much_memory_fails() {
    let (server, mut deployment) = lambda();
    deployment.timeout_seconds = 2;
    let version = server.deploy("worker", &deployment);
    let fits = server.call("worker", &version, &json!({"megabytes": 150}));
    assert_eq!(fits.body["held"], 150 << 20, "{fits:?}");
    let too_much = server.call("worker", &version, &json!({"megabytes": 260}));
    assert!(too_much.status == 200 && too_much.failed, "{too_much:?}");
    assert_eq!(too_much.body["errorType"], "MemoryError");
    let processes = server.processes();
    let begun = Instant::now();
    let too_long = server.call("worker", &version, &json!({"sleep": 60}));
    let took = begun.elapsed().as_secs_f64();
    assert!((2.0..20.0).contains(&took), "{took} seconds");
    assert!(too_long.status == 200 && too_long.failed, "{too_long:?}");
    assert_eq!(too_long.body["errorType"], "Sandbox.Timedout");
    assert!(processes.len() == 1 && is_gone(processes[0]), "{processes:?}");
    assert!(!server.folder().join("told-to-end").exists(), "it is not told that it ends");
    let next = server.call("worker", &version, &json!({}));
    assert_eq!(server.processes(), [next.body["process"].as_u64().unwrap() as u32]);
    assert_ne!(server.processes(), processes);
}

#[test]
fn a_limit_of_concurrency_refuses_calls_and_keeps_events() {
    let (server, mut deployment) = lambda();
    deployment.concurrency = Some(2);
    deployment.retries = 0;
    let version = server.deploy("worker", &deployment);
    let (note, free) = (server.folder().join("note"), server.folder().join("free"));
    let event = json!({"note": note, "until": free});
    for _ in 0..4 {
        assert_eq!(server.send("worker", &version, &event), 202);
    }
    until("two run", || noted(&note).len() == 2);
    for version in [&version, "$LATEST"] {
        let refused = server.call("worker", version, &json!({}));
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.body["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
    }
    // Longer than an event waits before it is tried again.
    sleep(Duration::from_secs(2));
    assert_eq!(noted(&note).len(), 2);
    std::fs::write(&free, "").unwrap();
    until("the others run too", || noted(&note).len() == 4);
    deployment.concurrency = None;
    let unlimited = server.deploy("worker", &deployment);
    std::fs::remove_file(&free).unwrap();
    for _ in 0..3 {
        assert_eq!(server.send("worker", &unlimited, &event), 202);
    }
    until("three run", || noted(&note).len() == 7);
}

#[test]
fn an_event_that_fails_is_tried_again_as_often_as_is_set() {
    let (server, mut deployment) = lambda();
    let cases = [(0, json!({"fail": "on purpose"})), (1, json!({"fail": "on purpose"})), (2, json!({"die": true}))];
    let notes: Vec<(usize, PathBuf)> = cases
        .into_iter()
        .map(|(retries, mut event)| {
            let name = format!("retries-{retries}");
            let note = server.folder().join(&name);
            deployment.retries = retries;
            let version = server.deploy(&name, &deployment);
            // That the next version has other settings changes nothing.
            deployment.retries = 2 - retries;
            server.deploy(&name, &deployment);
            event["note"] = json!(note);
            assert_eq!(server.send(&name, &version, &event), 202);
            (retries as usize + 1, note)
        })
        .collect();
    until("two retries", || noted(&notes[2].1).len() == 3);
    // A further attempt of any would come four seconds after the one before it.
    sleep(Duration::from_secs(5));
    for (attempts, note) in notes {
        assert_eq!(noted(&note).len(), attempts);
    }
}

#[test]
fn a_function_that_is_killed_fails_and_its_event_is_tried_again() {
    let (server, deployment) = lambda();
    let version = server.deploy("worker", &deployment);
    let (note, free) = (server.folder().join("note"), server.folder().join("free"));
    assert_eq!(server.send("worker", &version, &json!({"note": note, "until": free})), 202);
    until("it runs", || noted(&note).len() == 1);
    let running = server.processes();
    assert_eq!(running, noted(&note));
    assert!(Command::new("kill").args(["-9", &running[0].to_string()]).status().unwrap().success());
    std::fs::write(&free, "").unwrap();
    until("it is tried again", || noted(&note).len() == 2);
    let fell = server.call("worker", &version, &json!({"die": true}));
    assert!(fell.status == 200 && fell.failed, "{fell:?}");
    assert_eq!(fell.body["errorType"], "Runtime.ExitError");
}

#[test]
fn twenty_four_run_at_once_each_after_a_cold_start_of_its_own() {
    let (server, mut deployment) = lambda();
    deployment.cold_start = Duration::from_secs(1)..=Duration::from_secs(3);
    let version = server.deploy("worker", &deployment);
    let note = server.folder().join("note");
    let event = json!({"note": note, "together": 24});
    let begun = Instant::now();
    let answers: Vec<(f64, Value)> = scope(|scope| {
        let calls: Vec<_> = (0..24)
            .map(|_| {
                scope.spawn(|| {
                    let asked = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                    (asked.as_secs_f64(), server.call("worker", &version, &event).body)
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    println!("24 functions together after {:.1} s", begun.elapsed().as_secs_f64());
    let starts: Vec<f64> =
        answers.iter().map(|(asked, answer)| answer["started"].as_f64().expect("it answers") - asked).collect();
    assert!(starts.iter().all(|start| *start >= 1.0), "{starts:?}");
    let spread = starts.iter().copied().fold(0.0, f64::max) - starts.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(spread > 0.5, "{starts:?}");
    let mut processes = noted(&note);
    processes.sort_unstable();
    assert_eq!(server.processes(), processes);
    processes.dedup();
    assert_eq!(processes.len(), 24);
    // None of it is taken from the twenty seconds that the function has.
    let most = answers.iter().map(|(_, answer)| answer["left"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(most > 19.0, "{most} seconds to the deadline");
    let warm = server.call("worker", &version, &json!({})).body["process"].as_u64().unwrap();
    assert!(processes.iter().any(|process| u64::from(*process) == warm), "{warm} is none of {processes:?}");
}

/// Processes with `folder` in their environment or command, with the end of the command.
fn of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let read = |path: &Path, name| {
        String::from_utf8_lossy(&std::fs::read(path.join(name)).unwrap_or_default()).replace('\0', " ")
    };
    let found = all.filter(|path| read(path, "environ").contains(folder) || read(path, "cmdline").contains(folder));
    let shown = |command: String| command.chars().skip(command.chars().count().saturating_sub(60)).collect::<String>();
    found.map(|path| format!("{} {}", path.display(), shown(read(&path, "cmdline")))).collect()
}

#[track_caller]
fn ends(folder: &Path) {
    let begun = Instant::now();
    while folder.exists() || !of(folder).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}: {:#?}", folder.exists(), of(folder));
        sleep(Duration::from_millis(10));
    }
}

/// Leaves an event that runs until its process is killed, and another one in its cold start.
fn leave_running(server: &MiniStack, deployment: &Deployment) {
    let version = server.deploy("worker", deployment);
    let cold = Deployment { cold_start: Duration::from_secs(9)..=Duration::from_secs(9), ..deployment.clone() };
    let cold = server.deploy("cold", &cold);
    let note = server.folder().join("note");
    assert_eq!(server.send("cold", &cold, &json!({})), 202);
    assert_eq!(server.send("worker", &version, &json!({"note": note, "sleep": 60})), 202);
    until("both are there", || noted(&note).len() == 1 && server.processes().len() == 2);
    // Server, its watch, two functions, and the second one's cold start.
    until("all are seen", || of(server.folder()).len() >= 5);
}

#[test]
fn nothing_is_left_when_it_is_dropped() {
    let (server, deployment) = lambda();
    leave_running(&server, &deployment);
    let folder = server.folder().to_owned();
    drop(server);
    ends(&folder);
}

#[test]
#[ignore = "another test runs it as a child, and kills it"]
fn holds_a_server_with_running_functions() {
    let (server, deployment) = lambda();
    leave_running(&server, &deployment);
    println!("\nholds {}", server.folder().display());
    sleep(Duration::from_secs(60));
}

#[test]
fn nothing_is_left_when_the_test_is_killed() {
    for with_its_group in [false, true] {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "functions::holds_a_server_with_running_functions", "--ignored", "--nocapture"]);
        let mut test = test.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let said = BufReader::new(test.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut held = said.filter_map(|line| Some(PathBuf::from(line.strip_prefix("holds ")?)));
        let held = held.next().unwrap();
        assert!(of(&held).len() >= 5);
        let whom = format!("{}{}", if with_its_group { "-" } else { "" }, test.id());
        assert!(Command::new("kill").args(["-9", "--", &whom]).status().unwrap().success());
        test.wait().unwrap();
        ends(&held);
    }
}
