//! The processes of a run, as the system shows them.

use std::process::{Command, Stdio};
use std::time::Duration;

/// A supervisor or worker that lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// Nothing for the supervisor.
    pub(super) worker: Option<u32>,
    pub(super) incarnation: u32,
    pub(super) pid: u32,
    /// As in `/proc/PID/stat`: `S` sleeps, `T` is stopped.
    pub(super) state: String,
}

/// Supervisor and workers of the run in the folder `run`. Nobody's command line has a password in it.
#[track_caller]
pub(super) fn parts_of(run: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        if words.get(1).map(String::as_str) != Some("join") || words.get(2).map(String::as_str) != Some(run) {
            continue;
        }
        assert!(!super::SECRETS.are_in(&line), "{words:?}");
        let number = |flag: &str| words.windows(2).find(|pair| pair[0] == flag).and_then(|pair| pair[1].parse().ok());
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned();
        let incarnation = number("--incarnation").unwrap();
        parts.push(Part { worker: number("--worker"), incarnation, pid, state });
    }
    parts.sort_unstable();
    parts
}

/// Sends a signal; a process that is gone already is fine.
pub(super) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// How long a process has lived, to a hundredth of a second; nothing when it is gone.
pub(super) fn age(pid: u32) -> Option<Duration> {
    let seconds_up = std::fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse::<f64>().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let began = stat.rsplit(") ").next()?.split(' ').nth(19)?.parse::<f64>().ok()?;
    Some(Duration::from_secs_f64((seconds_up - began / 100.0).max(0.0)))
}
