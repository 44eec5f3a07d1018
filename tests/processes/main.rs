//! `train --launch process` against real servers: supervisor and workers are processes, and everything is done to them.
//!
//! What counts is what is left in the end: the bits of the run on threads, or one error and a run that can be resumed to them.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]
#![expect(
    clippy::print_stdout,
    reason = "what was done and how long it took is shown for a test that fails, and in the table"
)]

mod bits;
mod commands;
mod doctor;
mod faults;
mod function_faults;
mod functions;
mod parts;
mod refusals;
mod resumed;
mod tally;
mod terminal;

use std::path::Path;
use std::time::{Duration, Instant};

use parts::parts_of;
use pipeline_tests::{Running, Said, Secrets, tool};
use serde_json::Value;
use services::{RabbitMq, Redis, RedisOptions};

const REDIS_PASSWORD: &str = "geheim-der-gradienten";
/// A password that no server knows.
const WRONG: &str = "ein-falsches-geheimnis";
/// What must never be seen: passwords, also as they stand in a URL.
const SECRETS: Secrets =
    Secrets(&[REDIS_PASSWORD, WRONG, RabbitMq::USER.1, "geheim%2Fdes%40tests", RabbitMq::STRANGER.1]);

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
            let tool = |line: &str| start(folder.path(), line, &[]).wait().report();
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
        self.start(line).wait()
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
        running.within_limit().unwrap_or_else(|| panic!("{what}: it hangs.\n{}", self.whereabouts(running, run)))
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
    let mut command = tool(line);
    command.env("TMPDIR", folder.join("temporary")).envs(env.iter().cloned());
    Running::start(line, command, folder, SECRETS)
}

/// A search that finds nothing would make the tests above it worthless.
#[test]
fn a_secret_is_found() {
    assert!(SECRETS.are_in(format!("redis://:{REDIS_PASSWORD}@host").as_bytes()));
    assert!(SECRETS.are_in(RabbitMq::url_of("amqp", RabbitMq::USER, 1, "/").as_bytes()));
    assert!(!SECRETS.are_in(b"geheim"));
}
