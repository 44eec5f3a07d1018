//! How Gristmill's tools talk to people and to schedulers.
//!
//! Standard error is for people: progress, notes and errors. Standard output is for machines: its last line is the report,
//! one line of JSON. One [`Console`] decides about colour, progress and how much is said, from the flags in [`Flags`].
//! Nothing here knows what the tools do.

pub mod interrupt;
pub mod live;
mod progress;

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use schemas::exit::{ErrorKind, Explain};

pub use progress::{Progress, count, counted, duration};

/// The flags that every tool has.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Messages")]
pub struct Flags {
    /// Say nothing but errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show progress: bars on a terminal, else a plain line every few seconds.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub progress: When,
    /// Use colour (NO_COLOR and CLICOLOR_FORCE are honoured by `auto`).
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
}

/// When to do something that depends on being on a terminal.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Let the terminal decide.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where progress, notes and errors go.
#[derive(Clone, Debug)]
pub struct Console {
    quiet: bool,
    verbose: bool,
    color: bool,
    progress: progress::Style,
}

impl Console {
    /// The console that `flags` ask for on this process's standard error.
    #[must_use]
    pub fn new(flags: &Flags) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let color = match flags.color {
            When::Always => true,
            When::Never => false,
            When::Auto => !set("NO_COLOR") && (terminal || set("CLICOLOR_FORCE")),
        };
        let progress = match flags.progress {
            _ if flags.quiet => progress::Style::Hidden,
            When::Never => progress::Style::Hidden,
            When::Always | When::Auto if terminal => progress::Style::Bar { color },
            When::Always | When::Auto => progress::Style::Lines,
        };
        Self { quiet: flags.quiet, verbose: flags.verbose, color, progress }
    }

    /// A console that says nothing, for tests and for use as a library.
    #[must_use]
    pub const fn silent() -> Self {
        Self { quiet: true, verbose: false, color: false, progress: progress::Style::Hidden }
    }

    /// Says one line, unless `--quiet`.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.line(text.as_ref());
        }
    }

    /// Says one line when `--verbose`.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.verbose {
            self.line(text.as_ref());
        }
    }

    /// Whether details are said.
    #[must_use]
    pub const fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Says one line of warning, unless `--quiet`.
    pub fn warn(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let label = self.paint("warning:", "33;1");
            self.line(&format!("{label} {}", text.as_ref()));
        }
    }

    /// Starts to show progress on `task`, counted in `unit`; without a `total` only the rate is shown.
    #[must_use]
    pub fn progress(&self, task: &str, total: Option<u64>, unit: &'static str) -> Progress {
        Progress::start(self.progress, task, total, unit)
    }

    /// Starts to show long work, in rows that are drawn by the caller.
    #[must_use]
    pub fn live(&self) -> live::Live {
        live::Live::start(self.progress)
    }

    /// Prints the report line or the error, and gives the exit code.
    ///
    /// # Panics
    /// When the report is no JSON, which no type in `schemas` is.
    pub fn finish<E: Explain>(&self, result: Result<impl serde::Serialize, E>) -> ExitCode {
        match result {
            Ok(report) => {
                let line = serde_json::to_string(&report).expect("a report is JSON");
                // A reader that has gone away does not make the work undone.
                let _ = writeln!(std::io::stdout(), "{line}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                self.error(&error);
                ExitCode::from(error.kind().exit_code())
            }
        }
    }

    /// As [`Console::finish`], for a report on something: when that is not `good`, the exit code is that of bad data.
    pub fn finish_checked<R: serde::Serialize, E: Explain>(
        &self,
        result: Result<R, E>,
        good: impl FnOnce(&R) -> bool,
    ) -> ExitCode {
        let bad = result.as_ref().is_ok_and(|report| !good(report));
        let code = self.finish(result);
        if bad { ExitCode::from(ErrorKind::Data.exit_code()) } else { code }
    }

    fn error(&self, error: &dyn Explain) {
        let mut text = format!("{} {error}", self.paint("error:", "31;1"));
        let mut cause = error.source();
        while let Some(source) = cause {
            text.push_str(&format!("\n  cause: {source}"));
            cause = source.source();
        }
        if let Some(fix) = error.fix() {
            text.push_str(&format!("\n  {} {fix}", self.paint("fix:", "32;1")));
        }
        if error.kind() == ErrorKind::Internal {
            text.push_str("\n  this is a bug in Gristmill: please report it with the command that led here");
        }
        self.line(&text);
    }

    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn paint(&self, text: &str, style: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Prints the completion script for `shell`.
pub fn print_completions(shell: Shell, mut command: clap::Command) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let _ = std::io::stdout().write_all(&script);
}

pub use clap_complete::Shell;

/// Whether standard input is something to read from: a pipe, a socket or a file, rather than a terminal or nothing.
#[must_use]
pub fn standard_input_is_given() -> bool {
    let file = std::io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    file.and_then(|f| f.metadata()).is_ok_and(|m| {
        let kind = m.file_type();
        kind.is_fifo() || kind.is_socket() || kind.is_file()
    })
}
