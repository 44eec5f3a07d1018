//! `train doctor`: a good set-up passes every check, and of one with a fault exactly the check fails that is for it.

use std::net::TcpListener;

use pipeline_tests::{Running, Said, Secrets, programs, tool};
use serde_json::Value;
use services::{Deployment, Fault, FaultProxy, MiniStack, RabbitMq, SeaweedFs};

use super::functions::Cloud;
use super::{SECRETS, WRONG};

/// Keys of storage, which must not be seen either.
const KEYS: Secrets = Secrets(&[SeaweedFs::ADMIN.1, SeaweedFs::READER.1, MiniStack::ROLE.1]);

/// The function with which nothing is wrong.
const GOOD: &str = "good";

/// All checks, in order.
const CHECKS: [&str; 15] = [
    "credentials",
    "function",
    "limits",
    "concurrency",
    "retries",
    "manifest",
    "run",
    "rabbitmq",
    "program",
    "clock",
    "variables",
    "function-manifest",
    "function-run",
    "function-exchange",
    "function-rabbitmq",
];

/// What is wrong, and what is to come of it.
struct Case<'a> {
    /// What it is.
    what: &'static str,
    /// Its function: the good one, or one that is named as the case.
    function: &'static str,
    /// A change of the good function.
    change: Box<dyn Fn(&mut Deployment) + Send + Sync + 'a>,
    /// Further flags.
    flags: String,
    /// The client's key of storage.
    key: (&'static str, &'static str),
    /// Where the client looks for Lambda, when that is not where it is.
    lambda: Option<String>,
    /// The exit code.
    code: i32,
    /// Checks that are not ok: the outcome.
    not_ok: &'static [(&'static str, &'static str)],
    /// What the first of them says, finding and remedy.
    words: &'static [&'static str],
}

impl Case<'_> {
    fn new(
        what: &'static str,
        code: i32,
        not_ok: &'static [(&'static str, &'static str)],
        words: &'static [&'static str],
    ) -> Self {
        Self {
            what,
            function: GOOD,
            change: Box::new(|_| {}),
            flags: String::new(),
            key: SeaweedFs::ADMIN,
            lambda: None,
            code,
            not_ok,
            words,
        }
    }

    fn flags(self, flags: impl Into<String>) -> Self {
        Self { flags: flags.into(), ..self }
    }
}

impl<'a> Case<'a> {
    fn change(self, change: impl Fn(&mut Deployment) + Send + Sync + 'a) -> Self {
        Self { change: Box::new(change), function: self.what, ..self }
    }

    /// With another value of a variable of the function, or without it.
    fn variable(self, name: &'static str, value: Option<String>) -> Self {
        self.change(move |deployment| {
            deployment.variables.retain(|(n, _)| n != name);
            deployment.variables.extend(value.clone().map(|value| (name.to_owned(), value)));
        })
    }
}

/// Everything that the function itself looks at.
const INSIDE: &[(&str, &str)] = &[
    ("program", "fail"),
    ("clock", "skipped"),
    ("function-manifest", "skipped"),
    ("function-run", "skipped"),
    ("function-exchange", "skipped"),
    ("function-rabbitmq", "skipped"),
];
/// Everything when Lambda does not answer.
const NO_LAMBDA: &[(&str, &str)] = &[
    ("credentials", "fail"),
    ("function", "skipped"),
    ("limits", "skipped"),
    ("concurrency", "skipped"),
    ("retries", "skipped"),
    ("program", "skipped"),
    ("clock", "skipped"),
    ("variables", "skipped"),
    ("function-manifest", "skipped"),
    ("function-run", "skipped"),
    ("function-exchange", "skipped"),
    ("function-rabbitmq", "skipped"),
];
/// Everything when there is no function.
const NO_FUNCTION: &[(&str, &str)] = &[
    ("function", "fail"),
    ("limits", "skipped"),
    ("concurrency", "skipped"),
    ("retries", "skipped"),
    ("program", "skipped"),
    ("clock", "skipped"),
    ("variables", "skipped"),
    ("function-manifest", "skipped"),
    ("function-run", "skipped"),
    ("function-exchange", "skipped"),
    ("function-rabbitmq", "skipped"),
];

#[test]
fn each_fault_is_found_where_it_is() {
    let cloud = Cloud::new();
    let bucket = cloud.storage.bucket();
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let proxy = FaultProxy::start(cloud.storage.port(), |request| match request.method.as_str() {
        "PUT" => Fault::Answer { status: 403, code: "AccessDenied", retry_after: None },
        _ => Fault::Pass,
    });
    let broker = &cloud.world.broker;
    let wrong = RabbitMq::url_of("amqp", (RabbitMq::USER.0, WRONG), broker.port(), "/");
    let elsewhere = broker.vhost();
    let done =
        format!("train --manifest s3://{bucket}/sparse.json --workers 1 --max-epochs 1 -o s3://{bucket}/runs/done");
    cloud.start(&done).wait().report();
    let cases = [
        Case::new(GOOD, 0, &[], &[]),
        Case::new("storage", 0, &[], &[])
            .variable("GRISTMILL_REDIS", None)
            .flags(format!("--exchange s3://{bucket}/exchange")),
        Case::new("nothing", 4, NO_FUNCTION, &["there is no function `nirgends`", "--function"])
            .flags("--function nirgends"),
        Case::new(
            "unpublished",
            4,
            NO_FUNCTION,
            &["no published version", "aws lambda publish-version --function-name"],
        )
        .flags("--function good:$LATEST"),
        Case::new(
            "strange",
            4,
            INSIDE,
            &["strange", "aws lambda publish-version", "aws logs tail /aws/lambda/strange"],
        )
        .change(|deployment| deployment.program = programs().join("prep")),
        Case {
            lambda: Some(format!("http://127.0.0.1:{free}")),
            ..Case::new("unreachable", 75, NO_LAMBDA, &["no answer from Lambda", "try again"])
        },
        Case::new("memory", 2, &[("limits", "fail")], &["has 512 MB", "--memory-size 1024"]).flags("--memory-mb 1024"),
        Case::new("deadline", 2, &[("limits", "fail")], &["ends after 1m", "timeout"]).flags("--worker-deadline 2m"),
        Case::new("short", 0, &[("limits", "warn")], &["512 MB, 20s", "--timeout 900"])
            .change(|deployment| deployment.timeout_seconds = 20),
        Case::new("concurrency", 2, &[("concurrency", "fail")], &["3 times at once, the run needs 4", "--workers"])
            .change(|deployment| deployment.concurrency = Some(3)),
        Case::new("retries", 0, &[("retries", "warn")], &["up to 2 times", "--qualifier 1 --maximum-retry-attempts 0"])
            .change(|deployment| deployment.retries = 2),
        Case::new("manifest", 2, &[("manifest", "fail"), ("function-manifest", "fail")], &["none.json", "path"])
            .flags(format!("--manifest s3://{bucket}/none.json")),
        Case { key: SeaweedFs::READER, ..Case::new("reader", 4, &[("run", "fail")], &["runs/new", "s3:PutObject"]) },
        Case::new("role", 4, &[("function-run", "fail")], &["runs/new", "s3:PutObject"])
            .variable("AWS_ENDPOINT_URL_S3", Some(proxy.url())),
        Case::new("finished", 0, &[("run", "warn")], &["has a finished run", "--replace"])
            .flags(format!("-o s3://{bucket}/runs/done")),
        Case::new("client", 4, &[("rabbitmq", "fail")], &["password", "127.0.0.1"]).flags(format!("--amqp {wrong}")),
        Case::new("password", 4, &[("function-rabbitmq", "fail")], &["password", "127.0.0.1"])
            .variable("GRISTMILL_AMQP", Some(wrong.clone())),
        Case::new("vhost", 4, &[("function-rabbitmq", "fail")], &["the client is not there", "the same RabbitMQ"])
            .variable("GRISTMILL_AMQP", Some(broker.url(&elsewhere))),
        Case::new("redis", 75, &[("function-exchange", "fail")], &["127.0.0.1", "redis"])
            .variable("GRISTMILL_REDIS", Some(format!("redis://127.0.0.1:{free}"))),
        Case::new(
            "variable",
            4,
            &[("variables", "fail"), ("function-exchange", "skipped")],
            &["GRISTMILL_REDIS not set", "aws lambda update-function-configuration --function-name variable"],
        )
        .variable("GRISTMILL_REDIS", None),
    ];
    for case in cases.iter().filter(|case| case.function == case.what) {
        let mut deployment = Deployment { timeout_seconds: 60, retries: 0, ..cloud.deployment() };
        (case.change)(&mut deployment);
        assert_eq!(cloud.lambda.deploy(case.what, &deployment), "1");
    }
    // Those that wait for what does not answer wait side by side.
    std::thread::scope(|scope| {
        for half in cases.chunks(cases.len().div_ceil(3)) {
            let cloud = &cloud;
            scope.spawn(move || half.iter().for_each(|case| examine(cloud, case)));
        }
    });
    assert_eq!(cloud.world.redis.keys(), [""; 0], "left in Redis");
    assert_eq!(cloud.world.queues(), [], "left in RabbitMQ");
    let listed = cloud.world.done(&format!("train doctor --manifest m.json -o {}", cloud.world.run("here")));
    listed.failed(2, &["is on this machine", "s3://"]);
}

/// Calls the doctor, who finds what the case says and nothing else.
fn examine(cloud: &Cloud, case: &Case<'_>) {
    let bucket = cloud.storage.bucket();
    let mut line = format!("train doctor --workers 3 {}", case.flags);
    for (flag, value) in [
        ("--manifest", format!("s3://{bucket}/sparse.json")),
        ("-o", format!("s3://{bucket}/runs/new")),
        ("--function", case.function.to_owned()),
    ] {
        if !case.flags.contains(flag) {
            line.push_str(&format!(" {flag} {value}"));
        }
    }
    let mut command = tool(&line);
    command.envs(SeaweedFs::env_of(&cloud.storage.url(), case.key));
    command
        .env("AWS_ENDPOINT_URL_LAMBDA", case.lambda.clone().unwrap_or_else(|| cloud.lambda.url()))
        .env("GRISTMILL_AMQP", cloud.world.amqp());
    let said = Running::start(&line, command, cloud.world.path(), SECRETS).wait();
    println!("{}: {:?} after {:.1} s\n{}", case.what, said.code, said.seconds, said.stderr);
    let logs = cloud.lambda.logs(case.function);
    for text in [&said.stdout, &said.stderr, &logs] {
        assert!(!KEYS.are_in(text.as_bytes()) && !SECRETS.are_in(text.as_bytes()), "a secret is told: {text}");
    }
    check(case, &said);
    assert!(said.seconds < 30.0, "{said:#?}");
}

#[track_caller]
fn check(case: &Case<'_>, said: &Said) {
    assert_eq!(said.code, Some(case.code), "{}: {said:#?}", case.what);
    let report: Value = serde_json::from_str(said.stdout.trim()).unwrap();
    assert_eq!(report["exit_code"], case.code);
    let schema = schemas::json_schemas().into_iter().find(|(name, _)| *name == "doctor-report.schema.json").unwrap().1;
    assert!(jsonschema::is_valid(&serde_json::from_str(&schema).unwrap(), &report), "{report}");
    let checks = report["checks"].as_array().unwrap();
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = checks.iter().map(|check| text(check, "name")).collect();
    assert_eq!(names, CHECKS, "{}", case.what);
    let not_ok: Vec<(String, String)> = checks
        .iter()
        .map(|check| (text(check, "name"), text(check, "outcome")))
        .filter(|(_, outcome)| outcome != "ok")
        .collect();
    let not_ok: Vec<(&str, &str)> = not_ok.iter().map(|(name, outcome)| (name.as_str(), outcome.as_str())).collect();
    assert_eq!(not_ok, case.not_ok, "{}: {said:#?}", case.what);
    let first = checks.iter().find(|check| text(check, "outcome") != "ok");
    let told =
        first.map_or_else(String::new, |check| format!("{}\n  fix: {}", text(check, "found"), text(check, "fix")));
    for word in case.words {
        assert!(told.contains(word), "{}: `{word}` is not in {told}", case.what);
    }
    assert!(said.stderr.contains(&told), "{}: {told} is not shown: {}", case.what, said.stderr);
}
