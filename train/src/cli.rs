//! The command line as it is typed.

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use reporting::{Flags, Shell};
use schemas::exit::EXIT_CODES_HELP;
use schemas::report::Reduce;

/// Examples of the long help, each of which is run by a test.
pub const EXAMPLES: [&str; 3] = [
    "train --manifest ml20m.json",
    "train --manifest ml20m.json --biases --l2 0.02 --max-epochs 30 --patience 3 -o runs/biased",
    "train --manifest ml20m.json --workers 8 --step-batches 8 --max-time 480s --target-holdout-loss 0.9",
];

fn after_help() -> String {
    format!("Examples:\n  {}\n\n{EXIT_CODES_HELP}", EXAMPLES.join("\n  "))
}

/// Trains a model from the mini-batches that a manifest names.
///
/// The manifest's kind picks the model: ratings train a probabilistic matrix factorisation. The result depends on the
/// manifest, the seed, the settings of the model and `--step-batches` only, to the bit: not on the number of workers.
#[derive(Parser, Clone, Debug)]
#[command(name = "train", version, after_long_help = after_help(), args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// What else there is to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to train.
    #[command(flatten)]
    pub train: TrainArgs,
    /// What to say.
    #[command(flatten)]
    pub flags: Flags,
}

/// What else there is to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// How to train.
#[derive(clap::Args, Clone, Debug)]
pub struct TrainArgs {
    /// The manifest that `shard` wrote.
    #[arg(long, value_name = "FILE", required = true)]
    pub manifest: Option<String>,
    /// Where the run goes [default: runs/ and a name made of the manifest's name and the settings].
    #[arg(short, long, value_name = "PLACE")]
    pub out: Option<String>,
    /// Overwrite a run that is there with other settings.
    #[arg(long)]
    pub replace: bool,
    /// Worker threads [default: one a processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: Option<u32>,

    /// Mini-batches of a step [default: the number of workers].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Model")]
    pub step_batches: Option<u32>,
    /// How the gradients of a step's mini-batches make one.
    #[arg(long, value_enum, default_value_t = ReduceArg::Sum, value_name = "HOW", help_heading = "Model")]
    pub reduce: ReduceArg,
    /// Root seed of the start and of the order.
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Model")]
    pub seed: u64,
    /// Factors of a user or item.
    #[arg(long, default_value_t = 20, value_name = "N", help_heading = "Model")]
    pub factors: u32,
    /// Learn a bias for every user and item too.
    #[arg(long, help_heading = "Model")]
    pub biases: bool,
    /// Learning rate of one mini-batch's mean gradient [default: 8 with momentum 0.8; less on small data or batches].
    #[arg(long, value_name = "RATE", help_heading = "Model")]
    pub learning_rate: Option<f64>,
    /// Nesterov momentum.
    #[arg(long, default_value_t = 0.8, value_name = "MU", help_heading = "Model")]
    pub momentum: f64,
    /// Weight of the squared norm of a rating's two rows, added to its squared error.
    #[arg(long, default_value_t = 0.0, value_name = "WEIGHT", help_heading = "Model")]
    pub l2: f64,

    /// End after this many epochs.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000), help_heading = "End")]
    pub max_epochs: u64,
    /// End after this much time, for example 480s or 2h.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "End")]
    pub max_time: Option<Duration>,
    /// End once the training RMSE, in stars, was at or below this for ten steps in a row.
    #[arg(long, value_name = "RMSE", help_heading = "End")]
    pub target_loss: Option<f64>,
    /// End once the held-out RMSE, in stars, is at or below this.
    #[arg(long, value_name = "RMSE", help_heading = "End")]
    pub target_holdout_loss: Option<f64>,
    /// End once the held-out RMSE has not improved for this many epochs [default: 3 when rows are held out].
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "End")]
    pub patience: Option<u64>,
}

/// How the gradients of a step's mini-batches make one.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceArg {
    /// Sum over the rows, divided by the rows of the step.
    Mean,
    /// Sum of the mini-batches' mean gradients: a step is worth as many updates.
    Sum,
}

impl From<ReduceArg> for Reduce {
    fn from(arg: ReduceArg) -> Self {
        match arg {
            ReduceArg::Mean => Self::Mean,
            ReduceArg::Sum => Self::Sum,
        }
    }
}
