//! A folder of its own for each test, in which the binary runs, and ways to pack text.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use manifests::load;
use manifests::place::Place;
use schemas::dataset::{Descriptor, Ratings};

/// The binary under test.
pub(crate) const PREP: &str = env!("CARGO_BIN_EXE_prep");

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

/// Runs `command` and gives it `input`, if it is to have any. Standard output is a file: into a pipe would go rows.
fn printed(mut command: Command, input: &[u8]) -> Ran {
    let mut stdout = tempfile::tempfile().unwrap();
    let mut child = command.stdout(stdout.try_clone().unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails early does not read everything.
        let _ = stdin.write_all(input);
    }
    let mut output = child.wait_with_output().unwrap();
    stdout.rewind().unwrap();
    stdout.read_to_end(&mut output.stdout).unwrap();
    output.into()
}

impl Ran {
    /// The report on the last line of standard output, after an exit with 0.
    #[track_caller]
    pub(crate) fn report(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(self.stdout.lines().last().expect("there is a report")).unwrap()
    }

    /// Checks the exit code, that nothing is on standard output, and the first lines on standard error.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, message: &str) {
        self.failed_as(code, &format!("{message}\n"));
    }

    /// As [`Ran::failed`], of a message that begins with `message`.
    #[track_caller]
    pub(crate) fn failed_as(&self, code: i32, message: &str) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        assert!(self.stderr.contains(&format!("error: {message}")), "expected {message:?} in:\n{}", self.stderr);
        assert!(self.stderr.contains("\n  fix: "), "{}", self.stderr);
    }
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The binary, to be run in the folder with nothing on standard input.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(PREP);
        command.args(args.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command
    }

    pub(crate) fn prep(&self, args: &str) -> Ran {
        printed(self.command(args), b"")
    }

    /// Runs the binary with standard output a pipe, and gives what comes out of it.
    pub(crate) fn piped(&self, args: &str) -> (Ran, Vec<u8>) {
        let output = self.command(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (Ran { code: output.status.code(), stdout: String::new(), stderr }, output.stdout)
    }

    pub(crate) fn prep_with_input(&self, args: &str, input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        printed(command, input)
    }

    /// A line of shell in which the binary is called `prep`.
    pub(crate) fn shell(&self, line: &str) -> Ran {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", Path::new(PREP).parent().unwrap().display());
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.folder.path()).env("PATH", path).stdin(Stdio::null());
        printed(command, b"")
    }

    /// The descriptor in the folder `name`, checked as `shard` checks it, with every object it names.
    #[track_caller]
    pub(crate) fn descriptor(&self, name: &str) -> Descriptor {
        let place = Place::parse(self.path(name).to_str().unwrap()).unwrap();
        let descriptor = load::dataset(&place).unwrap().descriptor;
        let objects = descriptor.parts.iter().chain(&descriptor.holdout_parts).chain(&descriptor.rejects);
        for object in objects.chain(descriptor.layout.tables().into_iter().map(|(_, table)| table)) {
            load::object(&place, object, "the descriptor").unwrap();
        }
        descriptor
    }

    /// Path and content of every file below the folder `name`.
    pub(crate) fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
                if path.is_dir() {
                    walk(&path, &format!("{name}/"), files);
                } else {
                    files.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&self.path(name), "", &mut files);
        files
    }

    /// As [`Sandbox::files`], for the objects of a dataset alone, by their names.
    pub(crate) fn objects(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let objects = self.files(name).into_iter().filter_map(|(path, bytes)| {
            let (generation, name) = path.split_once('/')?;
            assert!(generation.starts_with("gen-"), "{path}");
            Some((name.to_owned(), bytes))
        });
        objects.collect()
    }
}

pub(crate) fn ratings(descriptor: &Descriptor) -> &Ratings {
    descriptor.layout.ratings().unwrap()
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}

/// An archive of `members`.
pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A file of ratings with `rows` rows, as `prep generate` makes it.
pub(crate) fn generated(rows: u64) -> String {
    let sandbox = Sandbox::new();
    let (users, movies) = ((rows / 40).max(1), (rows / 20).max(40));
    let ran = sandbox.prep(&format!("generate movielens --ratings {rows} --users {users} --movies {movies}"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}
