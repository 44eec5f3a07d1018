//! The `prep` command: what was typed becomes a plan, the plan is run, the outcome becomes an exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use prep::cli::{Cli, Command};
use prep::error::Error;
use prep::plan::Plan;
use prep::{Report, run};
use reporting::{Console, interrupt, print_completions};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Completions { shell } = cli.command {
        print_completions(shell, Cli::command());
        return ExitCode::SUCCESS;
    }
    let console = Console::new(&cli.messages);
    let outcome = interrupt::listen()
        .map_err(Error::Signals)
        .and_then(|()| Plan::resolve(cli))
        .and_then(|plan| run(&plan, &console));
    match outcome {
        Ok(Report::Streamed) => ExitCode::SUCCESS,
        outcome => console.finish(outcome),
    }
}
