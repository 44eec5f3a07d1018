//! Workers that are functions of a Lambda on this machine, with shards and runs in an S3 server.

use std::time::Duration;

use pipeline_tests::{Running, Said, programs, tool};
use services::{Deployment, Distance, Fault, FaultProxy, MiniStack, Request, SeaweedFs};

use super::{SECRETS, World};

const SETTINGS: [&str; 2] = [
    "sparse.json --step-batches 8 --max-epochs 40 --patience 1000",
    "ratings.json --step-batches 8 --max-epochs 60 --patience 1000",
];

/// Servers, and a bucket with mini-batches.
pub(super) struct Cloud {
    pub(super) world: World,
    pub(super) storage: SeaweedFs,
    pub(super) lambda: MiniStack,
}

impl Cloud {
    pub(super) fn new() -> Self {
        let (world, storage, lambda) = std::thread::scope(|scope| {
            let storage = scope.spawn(SeaweedFs::start);
            let lambda = scope.spawn(MiniStack::start);
            (World::new(), storage.join().unwrap(), lambda.join().unwrap())
        });
        let cloud = Self { world, storage, lambda };
        for (kind, rows) in [("sparse", 450), ("ratings", 675)] {
            let place = format!("s3://{}", cloud.storage.bucket());
            let line =
                format!("shard prepared/{kind} --batch {rows} -o {place}/shards/{kind} --manifest {place}/{kind}.json");
            cloud.start(&line).wait().report();
        }
        cloud
    }

    /// A function as it would be deployed: where its servers are is in its own variables, and its key is that of its role.
    pub(super) fn deployment(&self) -> Deployment {
        let variables = [
            ("AWS_ENDPOINT_URL_S3", self.storage.url()),
            ("GRISTMILL_AMQP", self.world.amqp()),
            ("GRISTMILL_REDIS", self.world.redis.url()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Deployment { variables, memory_mb: 512, ..Deployment::of(programs().join("worker")) }
    }

    pub(super) fn start(&self, line: &str) -> Running {
        self.start_by(line, self.lambda.env())
    }

    /// With the variables `lambda` for the way to it.
    pub(super) fn start_by(&self, line: &str, lambda: Vec<(&'static str, String)>) -> Running {
        let mut command = tool(line);
        command.env("TMPDIR", self.world.path().join("temporary")).envs(self.storage.env()).envs(lambda);
        command.env("GRISTMILL_AMQP", self.world.amqp());
        Running::start(line, command, self.world.path(), SECRETS)
    }

    fn train(&self, settings: &str, run: &str, arguments: &str) -> Running {
        let bucket = self.storage.bucket();
        self.start(&format!(
            "train --manifest s3://{bucket}/{settings} --launch lambda {arguments} -o s3://{bucket}/runs/{run}"
        ))
    }

    /// Digests of the run on threads of this machine.
    pub(super) fn expected(&self, settings: &str) -> [String; 2] {
        self.world.expected(&format!("--manifest {settings}"))
    }

    #[track_caller]
    fn equals(&self, said: &Said, expected: &[String; 2]) {
        assert_eq!(&said.digests(), expected, "{said:#?}\n{}", self.lambda.logs("gristmill"));
    }
}

#[test]
fn functions_train_as_threads_do() {
    let cloud = Cloud::new();
    // So long that none hands over, however busy the machine is.
    let patient = Deployment { timeout_seconds: 120, ..cloud.deployment() };
    assert_eq!(cloud.lambda.deploy("gristmill", &patient), "1");
    the_same_bits_wherever_the_supervisor_is(&cloud);
    a_budget_stops_a_run_which_goes_on_later(&cloud);
    what_makes_no_sense_is_refused(&cloud);
    a_thousand_are_launched(&cloud);
    a_million_features_fit_in_256_mb(&cloud);
    a_function_that_cannot_do_it_is_told_of(&cloud);
}

fn the_same_bits_wherever_the_supervisor_is(cloud: &Cloud) {
    for (settings, arguments) in SETTINGS.into_iter().zip(["", "--supervisor client"]) {
        let run = settings.split('.').next().unwrap();
        let said = cloud.train(settings, run, &format!("--workers 3 {arguments}")).wait();
        cloud.equals(&said, &cloud.expected(settings));
        let functions = &said.report()["functions"];
        let launched = if arguments.is_empty() { 4 } else { 3 };
        assert_eq!(functions["usage"]["requests"], launched, "{functions}");
        assert_eq!((&functions["version"], &functions["memory_mb"]), (&"1".into(), &512.into()));
        assert_eq!((&functions["handovers"], &functions["relaunches"]), (&0.into(), &0.into()), "{}", said.stderr);
        // 512 MB for as long as the run took, at most.
        let gb_seconds = functions["usage"]["gb_seconds"].as_f64().unwrap();
        let most = f64::from(launched) * 0.5 * said.seconds;
        assert!(gb_seconds > 0.2 * most && gb_seconds < most, "{gb_seconds} of {most}");
        assert!((functions["cost"]["compute"].as_f64().unwrap() / (gb_seconds * 0.000_016_666_7) - 1.0).abs() < 1e-9);
    }
    // Nothing of a run that ended in order is left but the warm processes of Lambda.
    assert_eq!(cloud.world.queues(), []);
}

fn a_budget_stops_a_run_which_goes_on_later(cloud: &Cloud) {
    let settings = SETTINGS[0].replace("40", "200");
    let expected = cloud.expected(&settings);
    let said = cloud.train(&settings, "budget", "--workers 2 --budget-usd 0.003").wait();
    said.failed(4, &["--budget-usd", "stopped after", "train --resume", "runs/budget"]);
    let spent: f64 = said.stderr.split("at $").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(spent <= 0.003, "{}", said.stderr);
    let bucket = cloud.storage.bucket();
    let said = cloud.start(&format!("train --resume s3://{bucket}/runs/budget --launch lambda")).wait();
    cloud.equals(&said, &expected);
}

fn what_makes_no_sense_is_refused(cloud: &Cloud) {
    let bucket = cloud.storage.bucket();
    let manifest = format!("--manifest s3://{bucket}/sparse.json");
    for (line, code, words) in [
        (format!("train {manifest} --launch lambda"), 2, vec!["place", "s3://"]),
        (format!("train {manifest} --launch lambda -o here"), 2, vec!["-o here", "on this machine"]),
        (format!("train --manifest sparse.json --launch lambda -o s3://{bucket}/r"), 2, vec!["--manifest sparse.json"]),
        (format!("train {manifest} --function x -o s3://{bucket}/r"), 2, vec!["--function", "--launch lambda"]),
        (format!("train {manifest} --launch lambda --redis redis://h -o s3://{bucket}/r"), 2, vec!["--redis"]),
        (format!("train {manifest} --launch lambda --memory-mb 1024 -o s3://{bucket}/r"), 2, vec!["512 MB", "1024"]),
        (format!("train {manifest} --launch lambda --worker-deadline 5m -o s3://{bucket}/r"), 2, vec!["5m", "2m"]),
        (format!("train {manifest} --launch lambda --budget-usd 0 -o s3://{bucket}/r"), 2, vec!["--budget-usd"]),
        (format!("train {manifest} --launch lambda --function none -o s3://{bucket}/r"), 4, vec!["no function `none`"]),
        (format!("train {manifest} --launch lambda --function gristmill:9 -o s3://{bucket}/r"), 4, vec!["gristmill:9"]),
        (format!("train {manifest} --launch lambda --workers 2000 -o s3://{bucket}/r"), 2, vec!["1500", "2001"]),
    ] {
        cloud.start(&line).wait().failed(code, &words);
    }
}

/// A thousand workers and their supervisor, each invoked once, although every third invocation is refused for now. None of them begins:
/// a thousand processes are more than this machine has room for.
fn a_thousand_are_launched(cloud: &Cloud) {
    let is_one = |request: &Request| request.target.contains("/invocations");
    let refused = |request: &Request| request.number.is_multiple_of(3);
    let proxy = FaultProxy::start(cloud.lambda.port(), move |request| match is_one(request) {
        true if refused(request) => Fault::Answer { status: 429, code: "TooManyRequestsException", retry_after: None },
        true => Fault::Answer { status: 202, code: "", retry_after: None },
        false => Fault::Pass,
    });
    let bucket = cloud.storage.bucket();
    let line = format!("train --manifest s3://{bucket}/{} --launch lambda --workers 1000", SETTINGS[0]);
    let line = format!("{line} --worker-timeout 60s -o s3://{bucket}/runs/thousand");
    let mut running = cloud.start_by(&line, MiniStack::env_of(&proxy.url()));
    let accepted = || proxy.requests().iter().filter(|request| is_one(request) && !refused(request)).count();
    while accepted() < 1001 {
        assert!(running.ended().is_none() && running.elapsed() < pipeline_tests::LIMIT, "{:?}", running.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("a thousand invocations after {:.1} s", running.elapsed().as_secs_f64());
    for _ in 0..2 {
        super::parts::signal(running.id(), "TERM");
        std::thread::sleep(Duration::from_millis(300));
    }
    let said = running.wait();
    assert_eq!((said.code, accepted()), (Some(143), 1001), "{said:#?}");
}

/// 256 MB for all writable memory of the process; and how long a cold start takes, until the first gradient is in Redis.
fn a_million_features_fit_in_256_mb(cloud: &Cloud) {
    let place = format!("s3://{}", cloud.storage.bucket());
    for line in [
        "prep criteo raw.tsv --hash-buckets 1000000 --holdout 0.1 --name million -o prepared/million".to_owned(),
        format!("shard prepared/million --batch 2000 -o {place}/million --manifest {place}/million.json"),
    ] {
        cloud.start(&line).wait().report();
    }
    cloud.lambda.deploy("small", &Deployment { memory_mb: 256, timeout_seconds: 120, ..cloud.deployment() });
    let _ = cloud.world.redis.command(&["flushall"]);
    let line = "million.json --step-batches 1 --max-epochs 5 --patience 1000";
    let mut running = cloud.train(line, "million", "--workers 1 --function small --supervisor client");
    let ours = |known: &[u32]| cloud.lambda.processes().into_iter().find(|process| !known.contains(process));
    let known = cloud.lambda.processes();
    let (mut first_gradient, mut peak) = (None, 0);
    while running.ended().is_none() {
        let Some(process) = ours(&known) else { continue };
        let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else { continue };
        let peak_kb =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(peak_kb.unwrap_or(0));
        if first_gradient.is_none() && cloud.world.redis.keys().iter().any(|key| key.contains("/g")) {
            first_gradient = super::parts::age(process);
        }
    }
    let said = running.wait();
    said.report();
    println!("cold start: first gradient after {first_gradient:?}; {peak} kB of memory at most");
    assert!((1..256 << 10).contains(&peak), "{peak} kB");
}

/// A wrong password in the function's environment, an event of another version, and a program that is none of ours.
fn a_function_that_cannot_do_it_is_told_of(cloud: &Cloud) {
    let event = serde_json::json!({
        "format": ["gristmill.invitation", 0], "run": "s3://data/runs/x", "session": "x", "worker": 0, "incarnation": 0,
        "supervisor": 0, "workers": 0, "time_limit": null, "waits": null,
    });
    let answer = cloud.lambda.call("gristmill", "1", &event);
    assert!(!answer.failed && answer.body["kind"] == "usage", "{answer:?}");
    assert!(answer.body["error"].as_str().unwrap().contains("gristmill.invitation"), "{answer:?}");

    let mut wrong = cloud.deployment();
    wrong.variables[2].1 = cloud.world.redis.url().replace(super::REDIS_PASSWORD, super::WRONG);
    cloud.lambda.deploy("wrong", &wrong);
    let said = cloud.train(SETTINGS[0], "wrong", "--workers 2 --function wrong").wait();
    said.failed(4, &["worker", "password"]);

    let broken = Deployment { program: "/bin/false".into(), retries: 0, ..cloud.deployment() };
    cloud.lambda.deploy("broken", &broken);
    let said = cloud.train(SETTINGS[0], "broken", "--workers 1 --function broken --worker-timeout 1s").wait();
    said.failed(75, &["died", "--resume"]);
}

#[test]
fn functions_hand_over() {
    let cloud = Cloud::new();
    let limited = Deployment {
        timeout_seconds: 8,
        cold_start: Duration::from_millis(300)..=Duration::from_millis(900),
        retries: 2,
        ..cloud.deployment()
    };
    cloud.lambda.deploy("gristmill", &limited);
    let settings =
        SETTINGS.map(|settings| settings.replace("epochs 40", "epochs 180").replace("epochs 60", "epochs 240"));
    for (seed, settings) in (0..).zip(&settings) {
        let expected = cloud.expected(settings);
        let said = cloud.train(settings, &format!("peace{seed}"), "--workers 3 --worker-timeout 3s").wait();
        cloud.equals(&said, &expected);
        let functions = &said.report()["functions"];
        let [handovers, relaunches] = ["handovers", "relaunches"].map(|lives| functions[lives].as_u64().unwrap());
        assert!(handovers >= 4, "{functions}\n{}", said.stderr);
        // On a busy machine somebody may not be heard of for three seconds; without hand-overs all would be launched again.
        assert!(relaunches <= handovers / 4, "{functions}\n{}", said.stderr);
    }
}

/// 24 functions with a limit of 20 seconds and cold starts of 1 to 3, beside 24 that need not hand over, and what that cost: for
/// people, by `cargo test --release --workspace --test processes twenty_four -- --ignored --nocapture`.
#[test]
#[ignore = "five minutes and a figure to read; the default tests hand over with fewer functions"]
fn twenty_four_functions_lose_little_time() {
    let cloud = Cloud::new();
    // Waiting for Redis stands for the work of functions that have cores of their own.
    let distance = Distance::to(cloud.world.redis.port(), Duration::from_millis(50));
    for (name, timeout_seconds) in [("short", 20), ("long", 600)] {
        let cold_start = Duration::from_secs(1)..=Duration::from_secs(3);
        let mut deployment = Deployment { timeout_seconds, cold_start, ..cloud.deployment() };
        let [near, far] = [cloud.world.redis.port(), distance.port()].map(|port| port.to_string());
        deployment.variables[2].1 = deployment.variables[2].1.replace(&near, &far);
        cloud.lambda.deploy(name, &deployment);
    }
    // Epochs of some length: after each the model may be stored.
    let place = format!("s3://{}", cloud.storage.bucket());
    for (kind, rows) in [("sparse", 45), ("ratings", 68)] {
        let line = format!(
            "shard prepared/{kind} --batch {rows} -o {place}/short/{kind} --manifest {place}/short-{kind}.json"
        );
        cloud.start(&line).wait().report();
        cloud.world.done(&format!("shard prepared/{kind} --batch {rows} -o short/{kind} --manifest short-{kind}.json"));
    }
    for (kind, epochs) in [("sparse", 30), ("ratings", 36)] {
        let settings = format!("short-{kind}.json --step-batches 24 --max-epochs {epochs} --patience 1000");
        let expected = cloud.expected(&settings);
        for name in ["long", "short"] {
            let run = format!("{kind}-{name}");
            let said = cloud.train(&settings, &run, &format!("--workers 24 --function {name}")).wait();
            cloud.equals(&said, &expected);
            let verified = cloud.start(&format!("train verify {place}/runs/{run}")).wait();
            assert_eq!(verified.report()["whole"], true);
            let object = |name| cloud.storage.object(&format!("runs/{run}/{name}.csv"));
            println!("{run}: {:.1} s, {}", said.seconds, said.report()["functions"]);
            println!("  from the first step to the last {:.2} s", between_first_and_last(&object("history")));
            println!("  {}", where_time_went(&object("timings")));
        }
    }
}

/// Seconds between the ends of the first step and the last.
fn between_first_and_last(history: &str) -> f64 {
    let mut lines = history.lines();
    let column = lines.next().unwrap().split(',').position(|column| column == "seconds").unwrap();
    let mut seconds = lines.map(|line| line.split(',').nth(column).unwrap().parse::<f64>().unwrap());
    let first = seconds.next().unwrap();
    seconds.next_back().unwrap() - first
}

/// Seconds that a worker spent on average in each part of a step, and in all steps together.
fn where_time_went(timings: &str) -> String {
    let mut lines = timings.lines().map(|line| line.split(','));
    // Bytes come last, and are no time.
    let columns: Vec<&str> = lines.next().unwrap().take_while(|column| !column.starts_with("bytes")).collect();
    let mut sums = vec![0.0; columns.len()];
    let mut n_workers = 0;
    for line in lines {
        let values: Vec<f64> = line.map(|value| value.parse().unwrap()).collect();
        n_workers = n_workers.max(values[0] as u32 + 1);
        sums.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
    }
    let seconds = |sum: f64| sum / 1e6 / f64::from(n_workers);
    let mut parts: Vec<String> = columns.iter().zip(&sums).map(|(n, s)| format!("{n} {:.2} s", seconds(*s))).collect();
    // Fetching and decoding go on while it computes.
    let all = columns.iter().zip(&sums).skip(4).map(|(_, sum)| seconds(*sum)).sum::<f64>();
    parts.drain(..2);
    format!("{}; together {all:.2} s", parts.join(", "))
}

/// `provided.al2023` has glibc 2.34. Where the system has a newer one, `cargo lambda` builds for the older.
#[test]
fn a_function_needs_no_newer_libc_than_lambda_has() {
    let program = std::fs::read(programs().join("worker")).unwrap();
    let mark = b"GLIBC_2.";
    let needed = program.windows(mark.len() + 2).filter(|window| window.starts_with(mark)).filter_map(|window| {
        let digits: String = window[mark.len()..].iter().map(|&b| b as char).take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    let newest = needed.max().expect("it links the C library");
    assert!((2..=34).contains(&newest), "it needs glibc 2.{newest}");
}
