//! Places in S3, each in a process of its own that learns of the server by its environment, as the tools do.

use std::process::{Child, Command, Stdio};

use futures::executor::block_on;
use manifests::Error;
use manifests::place::Place;
use schemas::exit::Explain;
use services::{Fault, FaultProxy};

use super::*;

#[path = "../../../../manifests/src/place_suite.rs"]
mod suite;

/// Variable that says what the child is to do, and with which place.
const TASK: &str = "GRISTMILL_TEST_TASK";

/// Bytes of the object that a child is killed at.
const LARGE: usize = 64 << 20;

/// This test again, as a child of it that does `task` with the server that `env` leads to.
fn child(task: &str, env: &[(&'static str, String)]) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "places::does_what_its_parent_says", "--ignored", "--nocapture"]).env(TASK, task);
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"] {
        child.env_remove(name);
    }
    child.envs(env.iter().cloned());
    child
}

/// What the child printed, which must succeed.
#[track_caller]
pub(crate) fn run(task: &str, env: &[(&'static str, String)]) -> String {
    let output = child(task, env).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{task}: {said}\n{wrong}");
    said.into_owned()
}

#[test]
#[ignore = "other tests run it as a child"]
fn does_what_its_parent_says() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, place) = task.split_once(' ').unwrap();
    let place = Place::parse(place).unwrap();
    match task {
        "suite" => suite::suite(&place),
        "put" => place.put("large", bytes(LARGE, 3)).unwrap(),
        "clear" => place.clear().unwrap(),
        "races" => {
            let created = std::thread::scope(|scope| {
                let creators: Vec<_> = (0..8u8)
                    .map(|i| {
                        scope.spawn({
                            let place = &place;
                            move || place.create("race", vec![i; 1000])
                        })
                    })
                    .collect();
                creators.into_iter().map(|creator| creator.join().unwrap()).collect::<Vec<_>>()
            });
            let won = created.iter().filter(|result| result.is_ok()).count();
            assert_eq!(won, 1, "{created:?}");
            assert!(created.iter().all(|result| matches!(result, Ok(()) | Err(Error::Conflict { .. }))), "{created:?}");
        }
        "read" => println!("{}", tell(&place.get("missing").unwrap_err())),
        "look" => println!("{}", tell(&place.size("missing").unwrap_err())),
        "list" => println!("{}", tell(&place.list().unwrap_err())),
        "write" => println!("{}", tell(&place.put("new", &b"x"[..]).unwrap_err())),
        other => panic!("{other}"),
    }
}

/// What a tool would show of `error`, and all that a log could.
fn tell(error: &Error) -> String {
    format!("told: {} | {error} | {:?} | {error:?}", error.kind().exit_code(), error.fix())
}

#[test]
fn a_bucket_is_a_place() {
    let server = SeaweedFs::start();
    let env = server.env();
    run("suite s3://data", &env);
    run("suite s3://data/some/where", &env);
    for race in 0..5 {
        run(&format!("races s3://data/{race}"), &env);
    }
    assert_eq!(block_on(store(&server).abort_unfinished("", Duration::ZERO)).unwrap(), 0);
}

/// Kills `child` once the proxy has seen its third part.
fn kill_among_parts(mut child: Child, proxy: &FaultProxy) {
    let begun = std::time::Instant::now();
    while proxy.requests().iter().filter(|r| r.target.contains("partNumber=")).count() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(30), "no third part came");
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_a_killed_writer_left_is_removed() {
    let server = SeaweedFs::start();
    let store = store(&server);
    for by_clearing in [false, true] {
        // Answers to parts are slow, so that the child is found among them.
        let proxy = FaultProxy::start(server.port(), |request| {
            if request.target.contains("partNumber=") {
                std::thread::sleep(Duration::from_millis(200))
            }
            Fault::Pass
        });
        let through = SeaweedFs::env_of(&proxy.url(), SeaweedFs::ADMIN);
        let killed = child("put s3://data/a/b", &through).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill_among_parts(killed, &proxy);
        if by_clearing {
            run("clear s3://data/a", &server.env());
        } else {
            assert_eq!(block_on(store.abort_unfinished("a/b/", Duration::from_secs(3600))).unwrap(), 0, "it is young");
            assert_eq!(block_on(store.abort_unfinished("c/", Duration::ZERO)).unwrap(), 0, "it is elsewhere");
            assert_eq!(block_on(store.abort_unfinished("a/b/", Duration::ZERO)).unwrap(), 1);
        }
        assert_eq!(block_on(store.abort_unfinished("", Duration::ZERO)).unwrap(), 0);
    }
    run("put s3://data/a/b", &server.env());
}
