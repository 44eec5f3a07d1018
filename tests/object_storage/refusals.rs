//! Credentials and buckets that are not as they should be: what each tool says, and that it does not say the secret.

use std::sync::atomic::{AtomicUsize, Ordering};

use services::{Fault, FaultProxy, SeaweedFs};

use super::{Env, TOKEN, WRONG, World};

/// A call of every tool that reads and one that writes, in `bucket`.
fn calls(bucket: &str) -> [(String, bool); 6] {
    [
        (format!("prep criteo s3://{bucket}/raw/raw.tsv.gz -o new/prepared -v"), false),
        (format!("shard s3://{bucket}/prepared --batch 500 -o new/shards -v"), false),
        (format!("train --manifest s3://{bucket}/shards/criteo.json -o new/run -v"), false),
        (format!("shard verify s3://{bucket}/shards/criteo.json -v"), false),
        (format!("prep criteo raw.tsv.gz -o s3://{bucket}/new/prepared -v"), true),
        (format!("shard prepared --batch 500 -o s3://{bucket}/new/shards -v"), true),
    ]
}

#[test]
fn each_tool_says_what_was_refused() {
    let world = World::with_clicks(2_000);
    world.place("s3://data/raw").put("raw.tsv.gz", std::fs::read(world.path().join("raw.tsv.gz")).unwrap()).unwrap();
    world.done("prep criteo raw.tsv.gz -o s3://data/prepared");
    world.done("shard prepared --batch 500 -o s3://data/shards");
    let before = world.objects("s3://data/");
    let url = world.server.url();
    let wrong = SeaweedFs::env_of(&url, (SeaweedFs::ADMIN.0, WRONG));
    let unknown = SeaweedFs::env_of(&url, ("AKIDNOBODY", WRONG));
    let refusing = FaultProxy::start(world.server.port(), |_| Fault::Answer {
        status: 403,
        code: "ExpiredToken",
        retry_after: None,
    });
    let mut expired = SeaweedFs::env_of(&refusing.url(), SeaweedFs::ADMIN);
    expired.push(("AWS_SESSION_TOKEN", TOKEN.to_owned()));
    let cases: [(&Env, &[&str]); 3] = [
        (&wrong, &["does not accept the credentials (SignatureDoesNotMatch)", "fix: check AWS_ACCESS_KEY_ID"]),
        (&unknown, &["does not accept the credentials (InvalidAccessKeyId)", "fix: check AWS_ACCESS_KEY_ID"]),
        (&expired, &["expired", "fix: get new credentials"]),
    ];
    for (env, words) in cases {
        for (line, _) in calls("data") {
            let said = world.run(&line, env);
            said.failed(4, words);
            said.failed(4, &["error: s3://data/"]);
            assert!(said.seconds < 20.0, "{said:#?}");
        }
    }
    let reader = SeaweedFs::env_of(&url, SeaweedFs::READER);
    for (line, _) in calls("data").into_iter().filter(|(_, writes)| *writes) {
        world
            .run(&line, &reader)
            .failed(4, &["do not allow it (AccessDenied)", "fix: give these credentials the right"]);
    }
    world.run("shard verify s3://data/shards/criteo.json", &reader).report();

    let missing = FaultProxy::start(world.server.port(), |_| Fault::Answer {
        status: 404,
        code: "NoSuchBucket",
        retry_after: None,
    });
    for (line, writes) in calls("nowhere") {
        // The server makes a bucket of an administrator that writes to it, as Amazon's does not.
        let env = if writes { world.through(&missing) } else { world.env() };
        world.run(&line, &env).failed(2, &["the bucket `nowhere` does not exist", "fix: check the bucket's name"]);
    }
    assert!(world.objects("s3://data/") == before, "nothing was written");
    world.holds_no_secret();
}

/// The session ends after some uploads. With a new one the same command goes on from there.
#[test]
fn credentials_that_expire_on_the_way_lose_nothing() {
    let world = World::with_clicks(20_000);
    let line = "shard prepared --batch 100 -o s3://data/shards -v";
    let puts = AtomicUsize::new(0);
    let proxy = FaultProxy::start(world.server.port(), move |request| {
        let is_late = request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) >= 30;
        if is_late { Fault::Answer { status: 400, code: "ExpiredToken", retry_after: None } } else { Fault::Pass }
    });
    let said = world.run(line, &world.through(&proxy));
    said.failed(4, &["error: s3://data/shards/gen-", "fix: get new credentials", "goes on from there"]);
    let report = world.done(line);
    assert!(report["objects_kept"].as_u64().unwrap() >= 20, "{report}");
    world.done("shard verify s3://data/shards/criteo.json");
    world.holds_no_secret();
}
