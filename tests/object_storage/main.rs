//! The three tools as they are typed, each in a process of its own, against a real S3 server.
//!
//! Everything that they say is looked through for the secrets they were given, and so is what they write.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod faults;
mod kills;
mod places;
mod readme;
mod refusals;
mod writers;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures::executor::block_on;
use manifests::place::Place;
use pipeline_tests::{Running, Said, Secrets, programs, tool};
use s3::{Credentials, S3Store, Settings};
use serde_json::Value;
use services::{FaultProxy, SeaweedFs};

/// A secret key that the server does not know.
const WRONG: &str = "ein-falsches-geheimnis";
/// A session token.
const TOKEN: &str = "ein-kennwort-auf-zeit";
const SECRETS: Secrets = Secrets(&[SeaweedFs::ADMIN.1, SeaweedFs::READER.1, WRONG, TOKEN]);

type Env = Vec<(&'static str, String)>;
/// Keys below some place, and bytes.
type Objects = BTreeMap<String, Vec<u8>>;

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
        command.envs(env.iter().cloned());
        Running::start(line, command, self.path(), SECRETS)
    }

    fn start(&self, line: &str, env: &Env) -> Running {
        self.spawn(line, tool(line), env)
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
        let telling: Vec<_> = objects.iter().filter(|(_, bytes)| SECRETS.are_in(bytes)).map(|(key, _)| key).collect();
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
    assert!(SECRETS.are_in(format!("key={} ", SeaweedFs::ADMIN.1).as_bytes()));
    assert!(SECRETS.are_in(TOKEN.as_bytes()));
    assert!(!SECRETS.are_in(b"geheim"));
}
