//! `train --launch process` against real servers: supervisor and workers are processes, and everything is done to them.
//!
//! What counts is what is left in the end: the bits of the run on threads, or one error and a run that can be resumed to them.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]
#![expect(
    clippy::print_stdout,
    reason = "what was done and how long it took is shown for a test that fails, and in the table"
)]

mod bits;
mod faults;
mod parts;
mod refusals;
mod resumed;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use parts::{parts_of, signal};
use serde_json::Value;
use services::{RabbitMq, Redis, RedisOptions};

/// No run in these tests takes longer, whatever is done to it.
const LIMIT: Duration = Duration::from_secs(120);
const REDIS_PASSWORD: &str = "geheim-der-gradienten";
/// A password that no server knows.
const WRONG: &str = "ein-falsches-geheimnis";
/// What must never be seen: passwords, also as they stand in a URL.
const SECRETS: [&str; 5] = [REDIS_PASSWORD, WRONG, RabbitMq::USER.1, "geheim%2Fdes%40tests", RabbitMq::STRANGER.1];

/// Where the tools are built to: beside the folder of the tests.
fn programs() -> PathBuf {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    for name in ["prep", "shard", "train"] {
        let missing = "is not built: run `cargo build --release --workspace` first, as `make test` does";
        assert!(folder.join(name).is_file(), "{} {missing}", folder.join(name).display());
    }
    folder
}

/// What a process did.
#[derive(Debug)]
struct Said {
    #[expect(dead_code, reason = "what fails is shown whole")]
    line: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
    seconds: f64,
}

impl Said {
    /// The report, of a process that succeeded.
    #[track_caller]
    fn report(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        let last = self.stdout.lines().last();
        last.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("no report: {self:#?}"))
    }

    /// Model and history, of a run that succeeded.
    #[track_caller]
    fn digests(&self) -> [String; 2] {
        let report = self.report();
        ["model_digest", "history_digest"].map(|digest| report[digest].as_str().unwrap().to_owned())
    }

    /// Of a process that failed with one error that is no bug's.
    #[track_caller]
    fn failed_in_order(&self) {
        assert!(matches!(self.code, Some(3 | 4 | 6 | 75 | 130 | 143)), "{self:#?}");
        self.says_one_error();
    }

    /// Of a process that failed with `code`, and said `words`.
    #[track_caller]
    fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.says_one_error();
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not said: {self:#?}");
        }
    }

    #[track_caller]
    fn says_one_error(&self) {
        assert_eq!(self.stdout, "", "{self:#?}");
        assert_eq!(self.stderr.lines().filter(|line| line.contains("error:")).count(), 1, "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
    }
}

/// A process at work. What it says goes to files, so that it never waits for a reader.
struct Running {
    line: String,
    child: Child,
    said: [File; 2],
    begun: Instant,
}

impl Running {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// What it did, once it has ended; nothing when it does not end in time.
    fn wait(&mut self) -> Option<Said> {
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if self.begun.elapsed() > LIMIT {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        let [stdout, stderr] = self.said();
        for text in [&stdout, &stderr] {
            assert!(!has_secret(text.as_bytes()), "`{}` tells a secret: {text}", self.line);
        }
        Some(Said { line: self.line.clone(), code: status.code(), stdout, stderr, seconds })
    }

    fn said(&mut self) -> [String; 2] {
        self.said.each_mut().map(|file| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_secret(bytes: &[u8]) -> bool {
    SECRETS.iter().any(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
}

/// A Redis, a RabbitMQ, and a folder with mini-batches of every kind.
struct World {
    redis: Redis,
    broker: RabbitMq,
    folder: tempfile::TempDir,
}

/// A kind of model: its manifest, and how it is trained.
const KINDS: [&str; 3] = ["ratings", "sparse", "dense"];

impl World {
    fn new() -> Self {
        std::thread::scope(|scope| {
            let broker = scope.spawn(RabbitMq::start);
            let options = RedisOptions { password: Some(REDIS_PASSWORD), ..RedisOptions::default() };
            let redis = Redis::with(&options);
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("temporary")).unwrap();
            let tool = |line: &str| start(folder.path(), line, &[]).wait().unwrap().report();
            tool("prep generate movielens --ratings 30000 --users 600 --movies 400 --seed 5 -o ratings.csv");
            tool("prep generate criteo --rows 20000 --seed 5 -o raw.tsv");
            tool("prep movielens ratings.csv --holdout 0.1 --name ratings -o prepared/ratings");
            tool("prep criteo raw.tsv --hash-buckets 100000 --holdout 0.1 --name sparse -o prepared/sparse");
            tool("prep criteo raw.tsv --features dense --holdout 0.1 --name dense -o prepared/dense");
            for (kind, rows) in KINDS.into_iter().zip([675, 450, 450]) {
                tool(&format!("shard prepared/{kind} --batch {rows} -o shards/{kind} --manifest {kind}.json"));
            }
            Self { redis, broker: broker.join().unwrap(), folder }
        })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn amqp(&self) -> String {
        self.broker.url("/")
    }

    /// Starts `train` with the URLs of the servers in its environment; the run goes to the folder `run`.
    fn train(&self, run: &str, arguments: &str) -> Running {
        self.start(&format!("train {arguments} -o {}", self.run(run)))
    }

    fn start(&self, line: &str) -> Running {
        start(self.path(), line, &[("GRISTMILL_AMQP", self.amqp()), ("GRISTMILL_REDIS", self.redis.url())])
    }

    /// Runs what must come to an end.
    #[track_caller]
    fn done(&self, line: &str) -> Said {
        let mut running = self.start(line);
        running.wait().unwrap_or_else(|| panic!("`{line}` hangs; it says {:?}", running.said()))
    }

    /// The folder of the run `name`.
    fn run(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// What a run must have in the end, by training on threads.
    #[track_caller]
    fn expected(&self, arguments: &str) -> [String; 2] {
        let run = tempfile::tempdir_in(self.path()).unwrap();
        self.done(&format!("train {arguments} -o {}", run.path().join("run").display())).digests()
    }

    /// Proves that each mini-batch of `run` counted once an epoch.
    #[track_caller]
    fn verified(&self, run: &str) -> Value {
        self.done(&format!("train verify {}", self.run(run))).report()
    }

    /// Waits for the end of a run, whatever was done to it.
    fn end(&self, running: &mut Running, run: &str, what: &str) -> Said {
        running.wait().unwrap_or_else(|| panic!("{what}: it hangs.\n{}", self.whereabouts(running, run)))
    }

    /// Where everybody is, for a run that hangs.
    fn whereabouts(&self, running: &mut Running, run: &str) -> String {
        let folder = std::fs::read_dir(self.run(run)).into_iter().flatten();
        let files: Vec<String> = folder.map(|file| file.unwrap().file_name().display().to_string()).collect();
        let queues = self.broker.control(&["list_queues", "name", "messages", "consumers"]);
        let keys = self.redis.keys();
        format!(
            "processes: {:#?}\nfiles: {files:?}\nqueues:\n{queues}\n{} keys, of which the last are {:?}\nit says {:#?}",
            parts_of(&self.run(run)),
            keys.len(),
            &keys[keys.len().saturating_sub(5)..],
            running.said(),
        )
    }

    /// After a run that has cleaned up after itself.
    #[track_caller]
    fn nothing_is_left(&self, run: &str, what: &str) {
        assert_eq!(self.redis.keys(), [""; 0], "{what}: left in Redis");
        self.nobody_is_left(run, what);
    }

    /// No process of the run, and nothing where temporary files go.
    #[track_caller]
    fn nobody_is_left(&self, run: &str, what: &str) {
        gone(&self.run(run), what);
        let files: Vec<_> = std::fs::read_dir(self.path().join("temporary")).unwrap().collect();
        assert!(files.is_empty(), "{what}: {files:?} are left");
    }

    /// The folder of a run that is over holds the run and nothing that only its processes need.
    #[track_caller]
    fn is_whole(&self, run: &str, what: &str) {
        let folder = std::fs::read_dir(self.run(run)).unwrap();
        let mut files: Vec<String> = folder.map(|file| file.unwrap().file_name().display().to_string()).collect();
        files.sort_unstable();
        assert!(files.iter().any(|file| file == "report.json"), "{what}: {files:?}");
        let more: Vec<_> = files.iter().filter(|file| ["checkpoints", "job.json"].contains(&file.as_str())).collect();
        assert!(more.is_empty(), "{what}: {more:?} are left");
    }

    /// Queues and exchanges of ours that the broker has, and after how long without use they go, in milliseconds; 0 for never.
    fn queues(&self) -> Vec<(String, u64)> {
        let all =
            "[{element(4, amqqueue:get_name(Q)), amqqueue:get_arguments(Q)} || Q <- rabbit_amqqueue:list(<<\"/\">>)]";
        let show = "io_lib:format(\"~s ~p~n\", [N, case lists:keyfind(<<\"x-expires\">>, 1, A) of false -> 0; T -> element(3, T) end])";
        let queues = format!("io:put_chars([{show} || {{N, A}} <- {all}]).");
        let exchanges =
            "io:put_chars([[element(4, element(2, X)), \" 0\\n\"] || X <- rabbit_exchange:list(<<\"/\">>)]).";
        let said = [queues.as_str(), exchanges].map(|code| self.broker.control(&["eval", code]));
        let lines = said.iter().flat_map(|said| said.lines()).filter(|line| line.contains("gristmill."));
        lines
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, ms)| (name.to_owned(), ms.parse().unwrap()))
            .collect()
    }
}

/// Waits until no process of a run is left, which does not take long even when its client was killed.
#[track_caller]
fn gone(run: &str, what: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let left = parts_of(run);
        if left.is_empty() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{what}: {left:?} are left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a tool in `folder`.
fn start(folder: &Path, line: &str, env: &[(&str, String)]) -> Running {
    let said = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let mut words = line.split_whitespace();
    let mut command = Command::new(programs().join(words.next().unwrap()));
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"] {
        command.env_remove(name);
    }
    let [stdout, stderr] = said.each_ref().map(|file| Stdio::from(file.try_clone().unwrap()));
    command.args(words).current_dir(folder).env("TMPDIR", folder.join("temporary"));
    command.envs(env.iter().cloned()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let begun = Instant::now();
    Running { line: line.to_owned(), child: command.spawn().unwrap(), said, begun }
}

/// A search that finds nothing would make the tests above it worthless.
#[test]
fn a_secret_is_found() {
    assert!(has_secret(format!("redis://:{REDIS_PASSWORD}@host").as_bytes()));
    assert!(has_secret(RabbitMq::url_of("amqp", RabbitMq::USER, 1, "/").as_bytes()));
    assert!(!has_secret(b"geheim"));
}
