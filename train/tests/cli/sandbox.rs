//! A folder of its own for each test, in which the binary runs.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use schemas::report::{PmfSettings, TrainReport, Trained};

use crate::shards::{self, Spec};

/// The binary under test.
pub(crate) const TRAIN: &str = env!("CARGO_BIN_EXE_train");

/// A temporary folder.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The report on the last line of standard output, after an exit with 0.
    #[track_caller]
    pub(crate) fn report(&self) -> TrainReport {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(self.stdout.lines().last().expect("there is a report")).unwrap()
    }

    /// Checks the exit code, that nothing is on standard output, and that all of `messages` are on standard error.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, messages: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        for message in messages {
            assert!(self.stderr.contains(message), "expected {message:?} in:\n{}", self.stderr);
        }
    }
}

impl Sandbox {
    /// A folder with nothing in it.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder with the manifest and mini-batches of `spec`.
    pub(crate) fn with(spec: Spec) -> Self {
        let sandbox = Self::empty();
        shards::write(sandbox.folder.path(), spec);
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// The binary, to be run in the folder.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(TRAIN);
        command.args(args.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command
    }

    /// Runs the binary with `args` as they are.
    pub(crate) fn run(&self, args: &str) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Trains on the manifest of `shards::SMALL` with `args` besides.
    pub(crate) fn train(&self, args: &str) -> Ran {
        self.run(&format!("--manifest ml20m.json {args}"))
    }

    /// The lines of a CSV file of the run `out`, cut into cells, without the header, which must be `header`.
    #[track_caller]
    pub(crate) fn csv(&self, name: &str, header: &str) -> Vec<Vec<String>> {
        let text = self.text(name);
        let (first, rest) = text.split_once('\n').expect("there is a header");
        assert_eq!(first, header);
        rest.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    /// The history of the run `out` without the column of seconds: step, epoch, loss, held-out loss.
    #[track_caller]
    pub(crate) fn history(&self, out: &str) -> Vec<[String; 4]> {
        let rows = self.csv(&format!("{out}/history.csv"), "step,epoch,seconds,loss,holdout_loss");
        rows.into_iter()
            .map(|row| {
                let [step, epoch, seconds, loss, holdout] = <[String; 5]>::try_from(row).unwrap();
                assert!(seconds.parse::<f64>().unwrap() >= 0.0);
                [step, epoch, loss, holdout]
            })
            .collect()
    }
}

/// The settings of a matrix factorisation.
pub(crate) fn pmf_settings(report: &TrainReport) -> &PmfSettings {
    let Trained::Pmf { settings, .. } = &report.trained else { panic!("{report:?}") };
    settings
}
