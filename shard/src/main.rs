//! The `shard` program: parse, run, exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use reporting::{Console, interrupt};
use shard::cli::{Cli, Command};
use shard::plan::{Plan, VerifyPlan};
use shard::verify;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::new(&cli.messages);
    let listening = interrupt::listen().map_err(shard::Error::from);
    match &cli.command {
        Some(Command::Completions { shell }) => {
            reporting::print_completions(*shell, Cli::command());
            ExitCode::SUCCESS
        }
        Some(Command::Verify(args)) => {
            let plan = listening.and_then(|()| VerifyPlan::resolve(args));
            console.finish_checked(plan.and_then(|plan| verify::run(&plan, &console)), |report| report.whole)
        }
        None => {
            let plan = listening.and_then(|()| Plan::resolve(&cli));
            console.finish(plan.and_then(|plan| shard::carry_out(&plan, &console)))
        }
    }
}
