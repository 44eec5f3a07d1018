//! The launcher of processes: of this program on this machine, each with the limits that a function would have, or by a line of a shell
//! that launches a worker elsewhere and lasts as long as it.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use manifests::place::Place;
use rustix::process::{Pid, Signal};

use super::launcher::{self, End, Role};
use crate::error::Error;
use crate::plan::launch::{AMQP, ExchangeAt, JOIN, Processes, REDIS, Workers};
use crate::plan::usage;

/// Most of what a process says that is kept, in bytes: the end of it.
const SAID_MAX: usize = 8 << 10;

/// Launches processes of this program.
#[derive(Debug)]
pub(super) struct Launcher<'a> {
    pub(super) processes: &'a Processes,
    pub(super) out: &'a Place,
    pub(super) session: &'a str,
}

impl launcher::Launcher for Launcher<'_> {
    fn launch(&self, role: Role, incarnation: u32) -> Result<Box<dyn launcher::Life>, Error> {
        Ok(Box::new(self.begin(role, incarnation)?))
    }
}

impl Launcher<'_> {
    /// The arguments by which `role` takes part.
    fn join(&self, role: Role, incarnation: u32) -> Vec<String> {
        let out = self.out.local_path().map_or_else(|| self.out.to_string(), |path| path.display().to_string());
        let mut words = vec!["join".to_owned(), out, "--quiet".to_owned()];
        let mut flag = |name: &str, value: &dyn std::fmt::Display| words.extend([name.to_owned(), value.to_string()]);
        flag("--session", &self.session);
        flag("--incarnation", &incarnation);
        match role {
            // Its time is not limited, so none waits for another.
            Role::Supervisor { workers, .. } => flag("--workers", &workers),
            Role::Worker { worker, supervisor } => {
                flag("--worker", &worker);
                flag("--supervisor", &supervisor);
                if let Some(limit) = self.processes.time_limit {
                    flag("--time-limit", &format!("{}ms", limit.as_millis()));
                }
            }
        }
        words
    }

    /// Whether a shell leaves the arguments as they are.
    ///
    /// # Errors
    /// When it would take them for something else.
    pub(super) fn check(&self) -> Result<(), Error> {
        let words = self.join(Role::Worker { worker: 0, supervisor: 0 }, 0);
        match words.into_iter().find(|word| word.contains(is_special)) {
            Some(word) if matches!(self.processes.workers, Workers::Command(_)) => Err(usage(
                format!("`{word}` has a character that the shell of --command would not leave as it is"),
                "name another place for the run by -o: letters, digits and /._-:=@%+,~ are left alone",
            )),
            _ => Ok(()),
        }
    }

    /// Begins the life number `incarnation` of `role`.
    ///
    /// # Errors
    /// When the system refuses a process.
    fn begin(&self, role: Role, incarnation: u32) -> Result<Life, Error> {
        let words = self.join(role, incarnation);
        let mut command = match (role, &self.processes.workers) {
            (Role::Worker { worker, .. }, Workers::Command(line)) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", line]).env(JOIN, words.join(" "));
                command.env("GRISTMILL_WORKER", worker.to_string());
                command.env("GRISTMILL_INCARNATION", incarnation.to_string());
                command
            }
            _ => {
                let mut command = Command::new(std::env::current_exe().map_err(Error::internal)?);
                command.args(&words);
                command
            }
        };
        // The URLs may hold passwords, and what is on the command line everybody on the machine can read.
        command.env(AMQP, &self.processes.servers.amqp);
        if let ExchangeAt::Redis(urls) = &self.processes.servers.exchange {
            command.env(REDIS, urls);
        }
        // A signal from the terminal is for the client, which then has the others end in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| Error::Internal(format!("no process could be launched: {e}")))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        if let Some(mut words) = child.stderr.take() {
            let said = Arc::clone(&said);
            let listen = move || {
                let mut piece = [0; 1024];
                while let Ok(n @ 1..) = words.read(&mut piece) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    said.extend_from_slice(&piece[..n]);
                    let beyond = said.len().saturating_sub(SAID_MAX);
                    said.drain(..beyond);
                }
            };
            std::thread::Builder::new().name("listen".to_owned()).spawn(listen).map_err(Error::internal)?;
        }
        let limited = matches!(role, Role::Worker { .. });
        Ok(Life {
            incarnation,
            child,
            began: Instant::now(),
            said,
            time_limit: self.processes.time_limit.filter(|_| limited),
            memory_limit: match self.processes.workers {
                Workers::Here { memory_limit } => memory_limit.filter(|_| limited),
                _ => None,
            },
            killed: None,
        })
    }
}

/// What a shell takes for anything else than a part of a word.
fn is_special(c: char) -> bool {
    !c.is_ascii_alphanumeric() && !"/._-:=@%+,~".contains(c)
}

/// One life of a supervisor or worker.
#[derive(Debug)]
struct Life {
    incarnation: u32,
    child: Child,
    began: Instant,
    /// The end of what it has said.
    said: Arc<Mutex<Vec<u8>>>,
    time_limit: Option<Duration>,
    memory_limit: Option<u64>,
    /// Why it was killed.
    killed: Option<String>,
}

impl launcher::Life for Life {
    fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// One that has passed a limit is killed.
    fn ended(&mut self) -> Option<End> {
        if let Ok(Some(status)) = self.child.try_wait() {
            let words = String::from_utf8_lossy(&self.said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
            return Some(match (status.code(), self.killed.take()) {
                (Some(0), _) => End::Done,
                (_, Some(why)) => End::Killed(why),
                (Some(code), None) => End::Failed { code, words },
                (None, None) => End::Killed(format!("it was ended by signal {}", status.signal().unwrap_or_default())),
            });
        }
        if self.killed.is_none() {
            if let Some(limit) = self.time_limit.filter(|limit| self.began.elapsed() > *limit) {
                self.kill(&format!("it ran for longer than {}", humantime::format_duration(limit)));
            } else if let Some(limit) = self.memory_limit.filter(|limit| self.peak_memory() > *limit) {
                self.kill(&format!("it used more than {} of memory", ByteSize(limit)));
            }
        }
        None
    }

    fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// What for is said when it has ended.
    fn kill(&mut self, why: &str) {
        self.killed.get_or_insert_with(|| why.to_owned());
        self.kill_group();
    }

    fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn end(&mut self) {
        if !self.is_over() {
            self.kill("the run is over");
            let _ = self.child.wait();
        }
    }
}

impl Life {
    /// Ends it and what a shell has launched for it. One that has ended by itself meanwhile is fine.
    fn kill_group(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
    }

    /// Most memory that it has had in use, in bytes; 0 where the system does not say.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.and_then(|peak| peak.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill_group();
        let _ = self.child.wait();
    }
}
