//! The `shard` program: parse, run, exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use reporting::{Console, interrupt};
use shard::cli::{Cli, Command};
use shard::plan::Plan;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Completions { shell }) = cli.command {
        reporting::print_completions(shell, Cli::command());
        return ExitCode::SUCCESS;
    }
    let console = Console::new(&cli.messages);
    let result = interrupt::listen()
        .map_err(shard::Error::from)
        .and_then(|()| Plan::resolve(&cli))
        .and_then(|plan| shard::run(&plan, &console));
    console.finish(result)
}
