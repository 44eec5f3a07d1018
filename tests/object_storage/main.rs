//! The three tools as they are typed, each in a process of its own, against a real S3 server.
//!
//! Everything that they say is looked through for the secrets they were given, and so is what they write.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod faults;
mod kills;
mod places;
mod refusals;
mod writers;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use manifests::place::Place;
use s3::{Credentials, S3Store, Settings};
use serde_json::Value;
use services::{FaultProxy, SeaweedFs};

/// No call in these tests takes longer, whatever is done to it.
const LIMIT: Duration = Duration::from_secs(120);
/// A secret key that the server does not know.
const WRONG: &str = "ein-falsches-geheimnis";
/// A session token.
const TOKEN: &str = "ein-kennwort-auf-zeit";
const SECRETS: [&str; 4] = [SeaweedFs::ADMIN.1, SeaweedFs::READER.1, WRONG, TOKEN];

type Env = Vec<(&'static str, String)>;
/// Keys below some place, and bytes.
type Objects = BTreeMap<String, Vec<u8>>;

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

    /// Of a process that failed with `code`, and said `words`.
    #[track_caller]
    fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not said: {self:#?}");
        }
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

    fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.wait()
    }

    fn wait(mut self) -> Said {
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if self.begun.elapsed() > LIMIT {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                let said = self.said();
                panic!("`{}` does not end; it says {said:?}", self.line);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        let [stdout, stderr] = self.said();
        for text in [&stdout, &stderr] {
            assert!(!has_secret(text.as_bytes()), "`{}` tells a secret: {text}", self.line);
        }
        Said { line: self.line.clone(), code: status.code(), stdout, stderr, seconds }
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

/// A server and a folder to work in.
struct World {
    server: SeaweedFs,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { server: SeaweedFs::start(), folder: tempfile::tempdir().unwrap() }
    }

    /// With the raw click log `raw.tsv.gz` of so many rows, and the dataset `prepared` made of it.
    fn with_clicks(rows: u32) -> Self {
        let world = Self::with_dataset(rows);
        world.shell("gzip -1n raw.tsv && echo {}").report();
        world
    }

    /// With the dataset `prepared` of so many rows of a click log.
    fn with_dataset(rows: u32) -> Self {
        let world = Self::new();
        world.done(&format!("prep generate criteo --rows {rows} --seed 5 -o raw.tsv"));
        world.done("prep criteo raw.tsv --hash-buckets 20000 --holdout 0.1 -o prepared");
        world
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn env(&self) -> Env {
        self.server.env()
    }

    fn through(&self, proxy: &FaultProxy) -> Env {
        SeaweedFs::env_of(&proxy.url(), SeaweedFs::ADMIN)
    }

    fn spawn(&self, line: &str, mut command: Command, env: &Env) -> Running {
        let said = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"] {
            command.env_remove(name);
        }
        let [stdout, stderr] = said.each_ref().map(|file| Stdio::from(file.try_clone().unwrap()));
        command.envs(env.iter().cloned()).current_dir(self.path()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let begun = Instant::now();
        Running { line: line.to_owned(), child: command.spawn().unwrap(), said, begun }
    }

    fn start(&self, line: &str, env: &Env) -> Running {
        let mut words = line.split_whitespace();
        let mut command = Command::new(programs().join(words.next().unwrap()));
        command.args(words);
        self.spawn(line, command, env)
    }

    fn run(&self, line: &str, env: &Env) -> Said {
        self.start(line, env).wait()
    }

    /// Runs a line of a shell.
    fn shell(&self, line: &str) -> Said {
        let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", path);
        self.spawn(line, command, &self.env()).wait()
    }

    /// Runs what must succeed.
    #[track_caller]
    fn done(&self, line: &str) -> Value {
        self.run(line, &self.env()).report()
    }

    fn store(&self) -> S3Store {
        let (key, secret) = SeaweedFs::ADMIN;
        let settings = Settings {
            endpoint: Some(self.server.url()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(Credentials { key: key.to_owned(), secret: secret.to_owned(), token: None }),
            ..Settings::default()
        };
        S3Store::connect(self.server.bucket(), &settings).unwrap()
    }

    /// A folder of this machine, or one of the bucket.
    fn place(&self, name: &str) -> Place {
        match name.strip_prefix("s3://data/") {
            Some(prefix) => Place::in_store(Arc::new(self.store()), prefix),
            None => Place::parse(self.path().join(name).to_str().unwrap()).unwrap(),
        }
    }

    fn objects(&self, name: &str) -> Objects {
        let place = self.place(name);
        let listed = place.list().unwrap().into_iter();
        listed.map(|(key, _)| (key.clone(), place.get(&key).unwrap().to_vec())).collect()
    }

    /// Keys of the uploads in parts that nobody has finished.
    fn unfinished(&self) -> Vec<String> {
        block_on(self.store().unfinished("")).unwrap()
    }

    /// Looks through the whole bucket.
    fn holds_no_secret(&self) {
        let objects = self.objects("s3://data/");
        assert!(!objects.is_empty());
        let telling: Vec<_> = objects.iter().filter(|(_, bytes)| has_secret(bytes)).map(|(key, _)| key).collect();
        assert!(telling.is_empty(), "{telling:?}");
    }
}

/// The same keys with the same bytes.
#[track_caller]
fn assert_same(one: &Objects, other: &Objects, what: &str) {
    let keys = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(one), keys(other), "{what}");
    assert!(!one.is_empty(), "{what}");
    let differing: Vec<_> = one.iter().filter(|(key, bytes)| other[*key] != **bytes).map(|(key, _)| key).collect();
    assert!(differing.is_empty(), "{what}: {differing:?}");
}

/// A search that finds nothing would make the tests above it worthless.
#[test]
fn a_secret_is_found() {
    assert!(has_secret(format!("key={} ", SeaweedFs::ADMIN.1).as_bytes()));
    assert!(has_secret(TOKEN.as_bytes()));
    assert!(!has_secret(b"geheim"));
}
