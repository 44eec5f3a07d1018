//! Credentials, rights, buckets and servers that are not as they should be, and what the person is told.

use std::time::Instant;

use services::{MiniStack, SeaweedFs};

use super::places::run;

const SECRET: &str = "ein-falsches-geheimnis";

/// The error of doing `task`: exit code, message, remedy and details.
#[track_caller]
fn told(task: &str, env: &[(&'static str, String)]) -> String {
    let said = run(task, env);
    for secret in [SECRET, SeaweedFs::ADMIN.1, SeaweedFs::READER.1, MiniStack::ROLE.1] {
        assert!(!said.contains(secret), "{said}");
    }
    said.lines().find_map(|line| Some(line.split_once("told: ")?.1.to_owned())).unwrap()
}

#[test]
fn each_refusal_is_told_as_what_it_is() {
    let server = SeaweedFs::start();
    let (url, admin) = (server.url(), SeaweedFs::ADMIN);
    let wrong = SeaweedFs::env_of(&url, (admin.0, SECRET));
    let unknown = SeaweedFs::env_of(&url, ("AKIDNOBODY", SECRET));
    let reader = SeaweedFs::env_of(&url, SeaweedFs::READER);
    let cases = [
        (
            "read s3://data/x",
            &wrong,
            "4 | s3://data/x/missing: the server does not accept the credentials (SignatureDoesNotMatch) | Some(\"check AWS_ACCESS_KEY_ID",
        ),
        (
            "write s3://data/x",
            &wrong,
            "4 | s3://data/x/new: the server does not accept the credentials (SignatureDoesNotMatch) | ",
        ),
        (
            "read s3://data/x",
            &unknown,
            "4 | s3://data/x/missing: the server does not accept the credentials (InvalidAccessKeyId) | ",
        ),
        (
            "write s3://data/x",
            &unknown,
            "4 | s3://data/x/new: the server does not accept the credentials (InvalidAccessKeyId) | ",
        ),
        ("read s3://data/x", &reader, "2 | s3://data/x/missing: not found | "),
        (
            "write s3://data/x",
            &reader,
            "4 | s3://data/x/new: the credentials do not allow it (AccessDenied) | Some(\"give these credentials the right",
        ),
        // This server makes a bucket of an administrator that writes to it, so that is not asked here.
        (
            "read s3://nowhere/x",
            &server.env(),
            "2 | s3://nowhere/x/missing: the bucket `nowhere` does not exist | Some(\"check the bucket's name",
        ),
        ("look s3://nowhere/x", &server.env(), "2 | s3://nowhere/x/missing: the bucket `nowhere` does not exist | "),
        ("list s3://nowhere/x", &server.env(), "2 | s3://nowhere/x: the bucket `nowhere` does not exist | "),
        (
            "look s3://data/x",
            &wrong,
            "4 | s3://data/x/missing: the server does not accept the credentials (SignatureDoesNotMatch) | ",
        ),
    ];
    for (task, env, expected) in cases {
        let told = told(task, env);
        assert!(told.starts_with(expected), "{told}\nis not\n{expected}");
    }
}

#[test]
fn the_role_of_functions_may_use_the_bucket_and_nothing_else() {
    let server = SeaweedFs::start();
    let role = SeaweedFs::env_of(&server.url(), MiniStack::ROLE);
    run("suite s3://data", &role);
    let told = told("write s3://other/x", &role);
    assert!(told.starts_with("4 | s3://other/x/new: the credentials do not allow it (AccessDenied) | "), "{told}");
}

#[test]
fn a_server_that_is_not_there_is_told_in_time() {
    // Nothing listens at the port of the multiplexer, and no server of another test is given it.
    let port = 1;
    let env = SeaweedFs::env_of(&format!("http://127.0.0.1:{port}"), SeaweedFs::ADMIN);
    let begun = Instant::now();
    for action in ["read", "write"] {
        let told = told(&format!("{action} s3://data/x"), &env);
        assert!(told.starts_with("75 | s3://data/x/") && told.contains(&format!("could not {action} it")), "{told}");
        assert!(told.contains(&format!("http://127.0.0.1:{port}")) && told.contains("refused"), "{told}");
    }
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
}

#[test]
fn without_credentials_the_sources_are_told() {
    let nobody: Vec<_> = SeaweedFs::env_of("http://127.0.0.1:9", SeaweedFs::ADMIN)
        .into_iter()
        .filter(|(name, _)| !name.starts_with("AWS_ACCESS") && !name.starts_with("AWS_SECRET"))
        .collect();
    // With and without a machine role to ask for, which is not there.
    let asked: Vec<_> = nobody.iter().filter(|(name, _)| *name != "AWS_EC2_METADATA_DISABLED").cloned().collect();
    for env in [nobody, asked] {
        let begun = Instant::now();
        for task in ["read s3://data/x", "write s3://data/x"] {
            let told = told(task, &env);
            assert!(
                told.starts_with("4 | s3://data/x/") && told.contains(": no credentials: the environment"),
                "{told}"
            );
            assert!(told.contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{told}");
        }
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
