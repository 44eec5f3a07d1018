//! What tests of the whole share: the tools as processes, and what they said. The tests are beside this folder.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy does not know that this is for tests only")]

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No process of these tests takes longer, whatever is done to it.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Where the tools are built to: beside the folder of the tests.
///
/// # Panics
/// When they are not built.
#[must_use]
pub fn programs() -> PathBuf {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    for name in ["prep", "shard", "train", "worker"] {
        let missing = "is not built: run `cargo build --release --workspace` first, as `make test` does";
        assert!(folder.join(name).is_file(), "{} {missing}", folder.join(name).display());
    }
    folder
}

/// A tool and its arguments, as they are typed.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn tool(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(programs().join(words.next().unwrap()));
    command.args(words);
    command
}

/// What nothing may tell.
#[derive(Clone, Copy, Debug)]
pub struct Secrets(pub &'static [&'static str]);

impl Secrets {
    /// Whether one of them is in `bytes`.
    #[must_use]
    pub fn are_in(self, bytes: &[u8]) -> bool {
        self.0.iter().any(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
    }
}

/// What a process did.
#[derive(Debug)]
pub struct Said {
    /// What was typed.
    pub line: String,
    /// Its exit code; nothing if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub seconds: f64,
}

impl Said {
    /// The report, of a process that succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "it checks that the process succeeded")]
    pub fn report(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        let last = self.stdout.lines().last();
        last.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("no report: {self:#?}"))
    }

    /// Digests of model and history, of a training that succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    #[must_use]
    pub fn digests(&self) -> [String; 2] {
        let report = self.report();
        ["model_digest", "history_digest"].map(|digest| report[digest].as_str().unwrap().to_owned())
    }

    /// Of a process that failed with `code` and one error, and said `words`.
    ///
    /// # Panics
    /// When it did anything else.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.says_one_error();
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not said: {self:#?}");
        }
    }

    /// Of a process that failed with one error that is no bug's.
    ///
    /// # Panics
    /// When it did anything else.
    #[track_caller]
    pub fn failed_in_order(&self) {
        assert!(matches!(self.code, Some(3 | 4 | 6 | 75 | 130 | 143)), "{self:#?}");
        self.says_one_error();
    }

    #[track_caller]
    fn says_one_error(&self) {
        assert_eq!(self.stdout, "", "{self:#?}");
        assert_eq!(self.stderr.lines().filter(|line| line.contains("error:")).count(), 1, "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
    }
}

/// A process at work. What it says goes to files, so that it never waits for a reader. It ends with this value.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    said: [File; 2],
    begun: Instant,
    secrets: Secrets,
}

impl Running {
    /// Starts `command`, known as `line`, in `folder`, without what the environment says of AWS. It must not tell `secrets`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(line: &str, mut command: Command, folder: &Path, secrets: Secrets) -> Self {
        let said = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let given: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"] {
            if !given.iter().any(|given| given == name) {
                command.env_remove(name);
            }
        }
        let [stdout, stderr] = said.each_ref().map(|file| Stdio::from(file.try_clone().unwrap()));
        command.current_dir(folder).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let begun = Instant::now();
        Self { line: line.to_owned(), child: command.spawn().unwrap(), said, begun, secrets }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How long ago it was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When that cannot be known.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it did; nothing when it does not end in time.
    ///
    /// # Panics
    /// When it told a secret.
    pub fn within_limit(&mut self) -> Option<Said> {
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if self.begun.elapsed() > LIMIT {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        let [stdout, stderr] = self.said();
        for text in [&stdout, &stderr] {
            assert!(!self.secrets.are_in(text.as_bytes()), "`{}` tells a secret: {text}", self.line);
        }
        Some(Said { line: self.line.clone(), code: status.code(), stdout, stderr, seconds })
    }

    /// What it did.
    ///
    /// # Panics
    /// When it does not end in time, or told a secret.
    #[track_caller]
    #[must_use]
    pub fn wait(mut self) -> Said {
        self.within_limit().unwrap_or_else(|| {
            let said = self.said();
            panic!("`{}` does not end; it says {said:?}", self.line)
        })
    }

    /// What it did until it was killed.
    ///
    /// # Panics
    /// When it cannot be killed, or told a secret.
    #[track_caller]
    #[must_use]
    pub fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.wait()
    }

    /// What it has said so far, to standard output and to standard error.
    ///
    /// # Panics
    /// When that cannot be read.
    pub fn said(&mut self) -> [String; 2] {
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
