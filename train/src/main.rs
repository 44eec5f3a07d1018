//! The `train` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use reporting::Console;
use train::cli::{Cli, Command};
use train::plan::Plan;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Completions { shell }) = cli.command {
        reporting::print_completions(shell, Cli::command());
        return ExitCode::SUCCESS;
    }
    let console = Console::new(&cli.flags);
    let report = reporting::interrupt::listen()
        .map_err(|e| train::Error::Internal(e.to_string()))
        .and_then(|()| Plan::resolve(&cli.train))
        .and_then(|plan| train::run(&plan, &console));
    console.finish(report)
}
