//! Servers as processes that do not outlive the test.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Starts "$@" and waits for it. A second process waits for the end of our standard input, which comes when the test ends, also
/// when it is killed, and then ends the server, and the group of processes that it leads if it leads one, and takes its folder away.
/// It is a shell because a death signal for children has no safe interface, and not every system has one.
const WATCH: &str = r#"
folder=$1; shift
exec 3<&0 0</dev/null
"$@" 3<&- & server=$!
echo "$server" >"$folder/pid"
(read -r _ <&3; kill -9 "-$server" "$server"; while kill -0 "$server"; do sleep 0.01; done; rm -rf "$folder") 2>/dev/null &
exec 3<&-
wait "$server"
"#;

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    watch: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts `program`; what it says goes to `log` in `folder`, which is its own and goes with it.
    pub(crate) fn start(program: &Path, arguments: &[String], folder: PathBuf) -> std::io::Result<Self> {
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "watch"]).arg(&folder).arg(program).args(arguments).current_dir(&folder);
        // The identities that a server knows are those of its settings, and it must find no other's files.
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        // What ends the test with its group of processes, as an interrupt does, must not end what clears up after it.
        command.process_group(0);
        command.env("HOME", &folder).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { watch: command.spawn()?, folder })
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.watch.try_wait().ok().flatten()
    }

    /// Waits until `is_ready`, looking again after each `pause`; its log when it ends or takes longer than `limit`.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
        pause: Duration,
        is_ready: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let begun = Instant::now();
        while !is_ready(self) {
            let ended = self.ended();
            if ended.is_some() || begun.elapsed() > limit {
                return Err(format!("{} ({ended:?})", self.log()));
            }
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// The last lines of what it said.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What `attempt` starts, in one of three attempts: a port can be taken between its choice and its use. An attempt that fails gives the
/// log of `what`.
///
/// # Panics
/// When none succeeds, with the last log.
pub(crate) fn start<T>(what: &str, attempt: impl Fn() -> Result<T, String>) -> T {
    let mut said = String::new();
    for _ in 0..3 {
        match attempt() {
            Ok(started) => return started,
            Err(log) => said = log,
        }
    }
    panic!("{what} does not start; it says:\n{said}");
}

/// `N` ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A Python that has pyarrow, polars and DuckDB.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn readers() -> PathBuf {
    find("python3", "GRISTMILL_PYTHON", "readers-1")
}

/// The program `name`: from `variable`, else from where `install` puts it, else from the path.
///
/// # Panics
/// When it is in none of them.
pub(crate) fn find(name: &str, variable: &str, installed: &str) -> PathBuf {
    if let Some(given) = std::env::var_os(variable) {
        return PathBuf::from(given);
    }
    let tools = std::env::var_os("GRISTMILL_TOOLS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/gristmill-tools"));
    let own = tools.or_else(home).map(|tools| tools.join(installed).join("bin").join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = own.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join(OsStr::new(name))));
    let mut found = found.filter(|program| program.is_file());
    found
        .next()
        .unwrap_or_else(|| panic!("`{name}` is not installed: run `tests/services/install` in the project's folder"))
}
