//! A terminal as people have it: tmux with a server of its own, and a shell in each of its panes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Server, find, start};

/// How long a server has until it answers.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// A terminal with one or more panes.
#[derive(Debug)]
pub struct Terminal {
    program: PathBuf,
    folder: PathBuf,
    /// Of who opens a pane tmux takes the search path.
    env: Vec<(String, String)>,
    _server: Server,
}

/// One pane: a window of its own, in which a shell runs.
#[derive(Debug)]
pub struct Pane<'a> {
    terminal: &'a Terminal,
    name: String,
}

impl Terminal {
    /// Starts a terminal whose programs have `env` besides.
    ///
    /// # Panics
    /// When tmux is not installed or does not start.
    #[must_use]
    pub fn start(env: &[(&str, String)]) -> Self {
        let program = find("tmux", "GRISTMILL_TMUX", "tmux");
        let terminal = start("tmux", || {
            let folder = tempfile::tempdir().map_err(|error| error.to_string())?.keep();
            let arguments = ["-D", "-u", "-f", "/dev/null", "-S", "socket"].map(str::to_owned);
            let mut server = Server::start(&program, &arguments, folder.clone()).map_err(|e| e.to_string())?;
            server.wait(READY_LIMIT, PAUSE, |_| folder.join("socket").exists())?;
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            Ok(Self { program: program.clone(), folder, env, _server: server })
        });
        // UTF-8 whatever the language here is, and nobody's profile.
        for (name, value) in [("LC_ALL", "C.UTF-8"), ("ENV", "")] {
            terminal.tmux(&["set-environment", "-g", name, value]);
        }
        for (name, value) in env {
            terminal.tmux(&["set-environment", "-g", name, value]);
        }
        terminal
    }

    /// Opens a pane of so many columns and rows, in which a shell waits in `folder`.
    ///
    /// # Panics
    /// When tmux refuses.
    #[must_use]
    pub fn open(&self, name: &str, columns: u16, rows: u16, folder: &Path) -> Pane<'_> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let folder = folder.to_str().expect("folders of tests have names in UTF-8");
        self.tmux(&["new-session", "-d", "-s", name, "-x", &columns, "-y", &rows, "-c", folder, "sh -i"]);
        self.tmux(&["set-option", "-t", name, "status", "off"]);
        let pane = Pane { terminal: self, name: name.to_owned() };
        pane.resize(columns.parse().unwrap_or(80), rows.parse().unwrap_or(24));
        pane.wait("a prompt", READY_LIMIT, |shown| shown.trim_end().ends_with(['$', '#']));
        // The same for everybody.
        pane.enter("PS1='$ '; clear");
        pane.wait("an empty pane", READY_LIMIT, |shown| shown.trim_end() == "$");
        pane
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.args(["-u", "-S", "socket"]).args(arguments).current_dir(&self.folder);
        command.envs(self.env.iter().cloned()).env("LC_ALL", "C.UTF-8");
        let output = command.output().expect("tmux is there");
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it is asked for UTF-8")
    }
}

impl Pane<'_> {
    /// Types `line` and the key that ends it.
    pub fn enter(&self, line: &str) {
        self.terminal.tmux(&["send-keys", "-t", &self.name, "-l", line]);
        self.key("Enter");
    }

    /// Presses a key, by tmux's name of it.
    pub fn key(&self, key: &str) {
        self.terminal.tmux(&["send-keys", "-t", &self.name, key]);
    }

    /// What it shows, one line a row.
    #[must_use]
    pub fn shown(&self) -> String {
        self.terminal.tmux(&["capture-pane", "-p", "-t", &self.name])
    }

    /// What it shows with the codes for colours.
    #[must_use]
    pub fn shown_with_colors(&self) -> String {
        self.terminal.tmux(&["capture-pane", "-p", "-e", "-t", &self.name])
    }

    /// What it shows, and everything above that.
    #[must_use]
    pub fn everything(&self) -> String {
        self.terminal.tmux(&["capture-pane", "-p", "-S", "-", "-t", &self.name])
    }

    /// Makes it larger or smaller.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.terminal.tmux(&["resize-window", "-t", &self.name, "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Whether the cursor can be seen.
    #[must_use]
    pub fn has_cursor(&self) -> bool {
        self.terminal.tmux(&["display-message", "-p", "-t", &self.name, "#{cursor_flag}"]).trim() == "1"
    }

    /// The number of the shell's process.
    ///
    /// # Panics
    /// When tmux does not tell.
    #[must_use]
    pub fn shell(&self) -> u32 {
        let said = self.terminal.tmux(&["display-message", "-p", "-t", &self.name, "#{pane_pid}"]);
        said.trim().parse().expect("a process has a number")
    }

    /// Waits until what it shows `is_it`, and gives that.
    ///
    /// # Panics
    /// When that takes longer than `limit`, with what it shows instead of `what`.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, is_it: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            if is_it(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < limit, "no {what} after {limit:?}:\n{}", self.everything());
            std::thread::sleep(PAUSE);
        }
    }
}
