//! The `train` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use reporting::Console;
use train::Report;
use train::cli::{Cli, Command};
use train::plan::recipe;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Completions { shell }) = cli.command {
        reporting::print_completions(shell, Cli::command());
        return ExitCode::SUCCESS;
    }
    let console = Console::new(&cli.flags);
    let outcome = reporting::interrupt::listen()
        .map_err(|e| train::Error::Internal(e.to_string()))
        .and_then(|()| recipe::resolve(&cli, std::env::args_os()))
        .and_then(|work| train::carry_out(&work, &console));
    match outcome {
        Ok(Report::Streamed) => ExitCode::SUCCESS,
        Ok(Report::Examined(report)) => {
            console.finish(Ok::<_, train::Error>(&report));
            ExitCode::from(report.exit_code)
        }
        outcome => console.finish(outcome),
    }
}
