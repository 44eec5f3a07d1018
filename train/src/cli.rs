//! The command line as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use reporting::{Flags, Shell};
use schemas::exit::EXIT_CODES_HELP;
use schemas::report::{LrDecay, Reduce};

/// Examples of the long help, each of which is run by a test.
pub const EXAMPLES: [&str; 4] = [
    "train --manifest ml20m.json",
    "train --manifest ml20m.json --biases --l2 0.02 --max-epochs 30 --patience 3 -o runs/biased",
    "train --manifest ml20m.json --workers 8 --step-batches 8 --max-time 480s --target-holdout-loss 0.9",
    "train --manifest criteo.json --learning-rate 0.005 --lr-decay sqrt-epoch -o runs/clicks",
];

/// Examples of `train predict --help`.
pub const PREDICT_EXAMPLES: [&str; 3] = [
    "train predict --model runs/clicks test.txt.gz -o predictions.parquet",
    "zcat test.txt.gz | train predict --model runs/clicks > predictions.csv",
    "train predict --model runs/biased prepared/ml20m --rows holdout -o holdout.csv",
];
/// Examples of `train evaluate --help`.
pub const EVALUATE_EXAMPLES: [&str; 2] =
    ["train evaluate --model runs/biased ml20m.json", "train evaluate --model runs/clicks criteo.json --rows train"];
/// Examples of `train recommend --help`.
pub const RECOMMEND_EXAMPLES: [&str; 2] = [
    "train recommend --model runs/biased --user 7",
    "train recommend --model runs/biased --user 7 --top 20 --titles movies.csv",
];

/// Examples of `train bench exchange --help`.
pub const BENCH_EXCHANGE_EXAMPLES: [&str; 2] = [
    "train bench exchange --redis redis://localhost --csv figure-4.2.csv",
    "train bench exchange --exchange exchange --workers 1,2 --sizes 10KB,1MB --seconds 0.5",
];
/// Examples of `train bench compute --help`.
pub const BENCH_COMPUTE_EXAMPLES: [&str; 2] = [
    "train bench compute --manifest ml20m.json",
    "train bench compute --manifest criteo.json --workers 1,2 --seconds 1 --csv figure-4.1.csv",
];

/// Examples of `train report --help`.
pub const REPORT_EXAMPLES: [&str; 2] =
    ["train report runs/clicks", "train report runs/clicks runs/slower -o both.html --charts charts"];

/// Examples of `train plan --help`.
pub const PLAN_EXAMPLES: [&str; 2] = [
    "train plan --manifest ml20m.json --workers 8,24,100 --csv plan.csv",
    "train plan --manifest criteo.json --workers 24 --memory-mb 1024 --prices my-prices.json",
];

/// Examples of `train watch --help`.
pub const WATCH_EXAMPLES: [&str; 1] = ["train watch runs/biased"];

fn after_help(examples: &[&str]) -> String {
    format!("Examples:\n  {}\n\n{EXIT_CODES_HELP}", examples.join("\n  "))
}

/// Trains a model from the mini-batches that a manifest names.
///
/// The manifest's kind picks the model: ratings train a probabilistic matrix factorisation, click logs (dense and sparse) a
/// logistic regression. The result depends on the manifest, the seed, the settings of the model and `--step-batches` only, to
/// the bit: not on the number of workers.
#[derive(Parser, Clone, Debug)]
#[command(name = "train", version, after_long_help = after_help(&EXAMPLES), args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
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
    /// Score new rows, or those of a dataset, with a trained model.
    ///
    /// Raw rows are prepared exactly as the model's own were: hash, statistics, id maps and mean lie beside the model. Of click
    /// logs the columns are row, label (if there is one) and probability; of ratings user_id, item_id, rating (if there is one),
    /// prediction in stars, and known: whether the model knows `both`, the `user`, the `item` or `neither`. A side that the model
    /// does not know adds nothing, so a pair of unknowns gets the mean of the ratings. Predicted stars are not cut off at the ends of
    /// the scale: some are above 5 or below 0.5. Of datasets there is a column split.
    #[command(after_long_help = after_help(&PREDICT_EXAMPLES))]
    Predict(Predict),
    /// Measure a trained model on the mini-batches of a manifest.
    #[command(after_long_help = after_help(&EVALUATE_EXAMPLES))]
    Evaluate(Evaluate),
    /// List the movies that a user would like most, by a model of ratings.
    ///
    /// Predicted stars are not cut off at the ends of the scale, so that the best movies do not all have 5.
    #[command(after_long_help = after_help(&RECOMMEND_EXAMPLES))]
    Recommend(Recommend),
    /// Change the number of workers of a run that goes on.
    Scale(Scale),
    /// Show a run that was begun elsewhere, until it is over.
    ///
    /// Of a run of processes, or functions, its client says how it is, through RabbitMQ; of a run on threads it lies in the run's place.
    /// Several may watch at once, and none of them disturbs the run. The end is as the run's: its report, or its error and exit code.
    #[command(after_long_help = after_help(&WATCH_EXAMPLES))]
    Watch(Watch),
    /// Prove that every mini-batch of a run counted exactly once in every epoch.
    Verify(Verify),
    /// Make a page to look at, and charts, of one run or of several laid over each other.
    ///
    /// Each run has its own page already: report.html in its folder.
    #[command(after_long_help = after_help(&REPORT_EXAMPLES))]
    Report(Pages),
    /// Predict how long runs on AWS Lambda take and what they cost, by numbers of workers.
    ///
    /// One worker computes here for some seconds in one thread, which says what a mini-batch, a gradient and a step take and how large
    /// gradients are. All else is assumed, and said. The dollars are those of a dated table of prices.
    #[command(after_long_help = after_help(&PLAN_EXAMPLES))]
    Plan(Plan),
    /// Check the set-up of a run on AWS Lambda before it costs money: rights, function, limits, storage, servers, clock.
    ///
    /// Every check is made and shown, each with its remedy when something is wrong. The function is invoked once, and looks at
    /// storage, Redis and RabbitMQ from where it runs.
    #[command(after_long_help = EXIT_CODES_HELP)]
    Doctor(Doctor),
    /// Measure what training is made of.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        what: Bench,
    },
    /// Take part in a run: what `--launch process` launches.
    #[command(hide = true)]
    Join(Join),
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Flags of `train predict`.
#[derive(clap::Args, Clone, Debug)]
pub struct Predict {
    /// The run that `train` wrote: its folder.
    #[arg(long, value_name = "RUN")]
    pub model: String,
    /// Rows: raw text as `prep` reads it (plain, gzip or zstd; labels and ratings may be missing), or a dataset that `prep` made
    /// (its folder or its dataset.json). Without it, or with `-`, raw text from standard input.
    pub input: Option<String>,
    /// The file of the predictions, .csv or .parquet [default: csv on standard output, and no report].
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How they are written [default: as the file's name ends].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<FormatArg>,
    /// Which rows of a dataset [default: all].
    #[arg(long, value_enum, value_name = "ROWS")]
    pub rows: Option<RowsArg>,
    /// Overwrite a file that is there.
    #[arg(long, requires = "out")]
    pub replace: bool,
    /// Threads; the result does not depend on it [default: one a processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
}

/// How predictions are written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatArg {
    /// Text with a header.
    Csv,
    /// Parquet.
    Parquet,
}

/// Which rows of a dataset.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsArg {
    /// Training rows, and then held-out ones.
    All,
    /// Training rows.
    Train,
    /// Held-out rows.
    Holdout,
}

/// Flags of `train evaluate`.
#[derive(clap::Args, Clone, Debug)]
pub struct Evaluate {
    /// The run that `train` wrote: its folder.
    #[arg(long, value_name = "RUN")]
    pub model: String,
    /// The manifest that `shard` wrote.
    pub manifest: String,
    /// Which mini-batches.
    #[arg(long, value_enum, default_value_t = SplitArg::Holdout, value_name = "ROWS")]
    pub rows: SplitArg,
    /// Threads; the result does not depend on it [default: one a processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
}

/// What to measure.
#[derive(Subcommand, Clone, Debug)]
pub enum Bench {
    /// Measure how fast workers write objects to Redis or object storage, and read them, by workers and sizes.
    ///
    /// Workers are threads, each with a connection of its own. In a first phase all write, in a second each reads what another has
    /// written. At any time there are at most 256 MB of objects, or one of each worker if these are more; they are removed at the end.
    /// Readers take as much memory again.
    #[command(after_long_help = after_help(&BENCH_EXCHANGE_EXAMPLES))]
    Exchange(BenchExchange),
    /// Measure how many updates workers make that exchange nothing, by workers.
    ///
    /// Workers are threads, each with a replica and a reader of its own: they read and decode mini-batches, compute gradients and
    /// apply them, each to its own replica. The ideal is that so many workers make so many times the updates of the first number.
    #[command(after_long_help = after_help(&BENCH_COMPUTE_EXAMPLES))]
    Compute(BenchCompute),
}

/// Flags of `train bench exchange`.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchExchange {
    /// Redis, as for `train --launch process`: one or several URLs [default: $GRISTMILL_REDIS].
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// A folder or s3:// instead of Redis.
    #[arg(long, value_name = "PLACE", conflicts_with = "redis")]
    pub exchange: Option<String>,
    /// Numbers of workers.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,5,10,25,50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub workers: Vec<u32>,
    /// Sizes of objects.
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', default_value = "10KB,100KB,1MB,10MB,25MB")]
    pub sizes: Vec<ByteSize>,
    /// How long to write, and how long to read, for each number and size.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub seconds: f64,
    /// Write the table to this file too.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// Flags of `train bench compute`.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchCompute {
    /// The manifest that `shard` wrote.
    #[arg(long, value_name = "FILE")]
    pub manifest: String,
    /// Numbers of workers.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub workers: Vec<u32>,
    /// How long to compute, for each number.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub seconds: f64,
    /// Write the table to this file too.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// Flags of `train plan`.
#[derive(clap::Args, Clone, Debug)]
pub struct Plan {
    /// The manifest that `shard` wrote.
    #[arg(long, value_name = "FILE")]
    pub manifest: String,
    /// Numbers of workers.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "8,24,100", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: Vec<u32>,
    /// Mini-batches of a step [default: the number of workers].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub step_batches: Option<u32>,
    /// Epochs of the run.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub epochs: u64,
    /// Memory of a function, which has processors in proportion: one at 1769.
    #[arg(long, default_value_t = 2048, value_name = "MB", value_parser = clap::value_parser!(u32).range(128..=10240))]
    pub memory_mb: u32,
    /// Processors of the functions, which have their own price; their speed is taken to be that of this machine.
    #[arg(long, value_enum, default_value_t = ArchitectureArg::X86, value_name = "NAME")]
    pub architecture: ArchitectureArg,
    /// Bytes a second between a function and the servers.
    #[arg(long, default_value = "75MB/s", value_name = "RATE")]
    pub bandwidth: String,
    /// Bytes a second that Redis reads and writes for all.
    #[arg(long, default_value = "1GB/s", value_name = "RATE")]
    pub redis_bandwidth: String,
    /// From a request to its answer.
    #[arg(long, default_value = "2ms", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// Prices to use: a JSON file as `prices` of the report, which has those that are used without it.
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// How long to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub seconds: f64,
    /// Write the table to this file too.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// Processors of functions.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchitectureArg {
    /// Intel's and AMD's.
    #[value(name = "x86_64")]
    X86,
    /// Graviton.
    #[value(name = "arm64")]
    Arm,
}

/// Flags of `train doctor`. They mean what they mean for `train --launch lambda`.
#[derive(clap::Args, Clone, Debug)]
pub struct Doctor {
    /// The manifest that `shard` wrote, in S3.
    #[arg(long, value_name = "FILE")]
    pub manifest: String,
    /// Where the run is to go, in S3.
    #[arg(short, long, value_name = "PLACE")]
    pub out: String,
    /// Workers [default: one a processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: Option<u32>,
    /// The function, with a version or an alias after a colon perhaps [default: the newest version of gristmill].
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// The function's region [default: as for every AWS tool].
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// RabbitMQ: amqp:// or amqps://user:password@host[:port]/vhost [default: $GRISTMILL_AMQP].
    #[arg(long, value_name = "URL")]
    pub amqp: Option<String>,
    /// Exchange gradients through s3:// instead of Redis.
    #[arg(long, value_name = "PLACE")]
    pub exchange: Option<String>,
    /// The memory that the function must have.
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(128..=10240))]
    pub memory_mb: Option<u32>,
    /// The time after which a worker is to hand over [default: the function's limit].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub worker_deadline: Option<Duration>,
    /// Where the supervisor is to be [default: function].
    #[arg(long, value_enum, value_name = "WHERE")]
    pub supervisor: Option<SupervisorArg>,
}

/// Flags of `train scale`.
#[derive(clap::Args, Clone, Debug)]
pub struct Scale {
    /// The folder of the run.
    pub run: String,
    /// Workers from now on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: u32,
    /// The run's RabbitMQ [default: $GRISTMILL_AMQP].
    #[arg(long, value_name = "URL")]
    pub amqp: Option<String>,
}

/// Flags of `train watch`.
#[derive(clap::Args, Clone, Debug)]
pub struct Watch {
    /// The place of the run: its folder, or s3://.
    pub run: String,
    /// The run's RabbitMQ, if it has one [default: $GRISTMILL_AMQP].
    #[arg(long, value_name = "URL")]
    pub amqp: Option<String>,
}

/// Flags of `train verify`.
#[derive(clap::Args, Clone, Debug)]
pub struct Verify {
    /// The folder of the run.
    pub run: String,
    /// The manifest that the model was trained on [default: where the run found it].
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<String>,
}

/// Flags of `train report`.
#[derive(clap::Args, Clone, Debug)]
pub struct Pages {
    /// Folders of finished runs.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
    /// The page.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub out: String,
    /// A folder for each chart as SVG and as PNG.
    #[arg(long, value_name = "FOLDER")]
    pub charts: Option<String>,
    /// Overwrite a page and charts that are there.
    #[arg(long)]
    pub replace: bool,
}

/// Flags of `train join`.
#[derive(clap::Args, Clone, Debug)]
pub struct Join {
    /// The folder of the run.
    pub run: String,
    /// The session of the run.
    #[arg(long)]
    pub session: String,
    /// The worker; without it, the supervisor.
    #[arg(long)]
    pub worker: Option<u32>,
    /// Which life of it.
    #[arg(long)]
    pub incarnation: u32,
    /// The supervisor's life at the launch of a worker.
    #[arg(long, default_value_t = 0)]
    pub supervisor: u32,
    /// Workers at the launch of a supervisor.
    #[arg(long, default_value_t = 0)]
    pub workers: u32,
    /// How long a worker has.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub time_limit: Option<Duration>,
}

/// Which rows of a manifest.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitArg {
    /// Held-out rows.
    Holdout,
    /// Training rows.
    Train,
}

/// Flags of `train recommend`.
#[derive(clap::Args, Clone, Debug)]
pub struct Recommend {
    /// The run that `train` wrote: its folder.
    #[arg(long, value_name = "RUN")]
    pub model: String,
    /// The user, by the id in the raw ratings.
    #[arg(long, value_name = "ID")]
    pub user: u32,
    /// How many movies, at most.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// MovieLens' movies.csv, for the titles.
    #[arg(long, value_name = "FILE")]
    pub titles: Option<PathBuf>,
    /// The manifest that the model was trained on, which tells what the user has rated [default: where the run found it].
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<String>,
    /// List movies that the user has rated too; no manifest is needed.
    #[arg(long, conflicts_with = "manifest")]
    pub include_rated: bool,
    /// Threads; the result does not depend on it [default: one a processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
}

/// How to train.
#[derive(clap::Args, Clone, Debug)]
pub struct TrainArgs {
    /// The manifest that `shard` wrote.
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub manifest: Option<String>,
    /// Flags of this command by their long names, in a TOML file: `l2 = 0.05`, `biases = true`, `max-time = "480s"`. A flag that is
    /// typed wins. `manifests/recipes/` has some.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<String>,
    /// Where the run goes [default: runs/ and a name made of the manifest's name and the settings].
    #[arg(short, long, value_name = "PLACE")]
    pub out: Option<String>,
    /// Overwrite a run that is there with other settings.
    #[arg(long)]
    pub replace: bool,
    /// Do nothing, but say what would be read and written.
    #[arg(long)]
    pub dry_run: bool,
    /// Workers [default: one a processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: Option<u32>,

    /// How workers are launched.
    #[arg(long, value_enum, default_value_t = LaunchArg::Thread, value_name = "HOW", help_heading = "Workers")]
    pub launch: LaunchArg,
    /// The line of a shell that launches one worker and lasts as long as it: `train $GRISTMILL_JOIN` somewhere, with $GRISTMILL_AMQP and
    /// $GRISTMILL_REDIS in its environment. $GRISTMILL_WORKER and $GRISTMILL_INCARNATION are its numbers.
    #[arg(long, value_name = "LINE", help_heading = "Workers")]
    pub command: Option<String>,
    /// Redis for the exchange of gradients: redis:// or rediss://[user:password@]host[:port][/db], redis-cluster:// for a cluster;
    /// several, separated by commas, share the load [default: $GRISTMILL_REDIS].
    #[arg(long, value_name = "URL", help_heading = "Workers")]
    pub redis: Option<String>,
    /// RabbitMQ for messages: amqp:// or amqps://user:password@host[:port]/vhost [default: $GRISTMILL_AMQP].
    #[arg(long, value_name = "URL", help_heading = "Workers")]
    pub amqp: Option<String>,
    /// Exchange gradients through a folder or s3:// instead of Redis.
    #[arg(long, value_name = "PLACE", conflicts_with = "redis", help_heading = "Workers")]
    pub exchange: Option<String>,
    /// How gradients are exchanged; the result does not depend on it [default: auto].
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Workers")]
    pub strategy: Option<StrategyArg>,
    /// Steps between two checkpoints, from which a run goes on when something was lost [default: 100].
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Workers")]
    pub checkpoint_every: Option<u64>,
    /// Replace a worker that was not heard of for this long [default: 60s].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Workers")]
    pub worker_timeout: Option<Duration>,
    /// A worker has this long, as a function would: it hands over to a successor before, and is killed then.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Workers")]
    pub time_limit: Option<Duration>,
    /// Kill a worker that has used more memory than this, as a function would be; for example 512MiB.
    #[arg(long, value_name = "SIZE", help_heading = "Workers")]
    pub memory_limit: Option<ByteSize>,
    /// The function of the workers, with a version or an alias after a colon perhaps [default: the newest version of gristmill].
    #[arg(long, value_name = "NAME", help_heading = "Functions")]
    pub function: Option<String>,
    /// The function's region [default: as for every AWS tool].
    #[arg(long, value_name = "REGION", help_heading = "Functions")]
    pub region: Option<String>,
    /// Refuse a function that has not this much memory.
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(128..=10240), help_heading = "Functions")]
    pub memory_mb: Option<u32>,
    /// Have a worker hand over before this much time of its own is over [default: the function's limit].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Functions")]
    pub worker_deadline: Option<Duration>,
    /// Where the supervisor is [default: function].
    #[arg(long, value_enum, value_name = "WHERE", help_heading = "Functions")]
    pub supervisor: Option<SupervisorArg>,
    /// Save the model and stop before the run, as far as this session goes, costs more than this many US dollars.
    #[arg(long, value_name = "USD", help_heading = "Functions")]
    pub budget_usd: Option<f64>,
    /// Prices instead of the dated table of this program; `train plan` writes one into its report, as `prices`.
    #[arg(long, value_name = "FILE", help_heading = "Functions")]
    pub prices: Option<PathBuf>,
    /// What `train plan` has written, to be held against what the run took in its report.
    #[arg(long, value_name = "FILE", help_heading = "Functions")]
    pub prediction: Option<PathBuf>,
    /// Go on with a run that was stopped or has died: its folder. The manifest and the settings are those it was begun with.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["manifest", "recipe", "out", "replace", "dry_run", "step_batches", "reduce", "learning_rate", "factors", "biases", "momentum", "beta1", "beta2", "lr_decay", "no_intercept", "max_time", "target_loss", "target_holdout_loss", "patience", "exchange", "strategy", "checkpoint_every", "worker_timeout"], help_heading = "Workers")]
    pub resume: Option<String>,

    /// Mini-batches of a step [default: the number of workers].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Model")]
    pub step_batches: Option<u32>,
    /// How the gradients of a step's mini-batches make one [default: sum for ratings, mean for click logs].
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Model")]
    pub reduce: Option<ReduceArg>,
    /// Root seed of the start and of the order.
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Model")]
    pub seed: u64,
    /// Learning rate of one mini-batch's mean gradient [default: 0.0075 for click logs; for ratings 8 with momentum 0.8, less on
    /// small data or batches].
    #[arg(long, value_name = "RATE", help_heading = "Model")]
    pub learning_rate: Option<f64>,
    /// Weight of the regulariser: of the squared norm of a rating's two rows, added to its squared error; or of a weight, added
    /// to its gradient, as `weight_decay` of `torch.optim.Adam`, but not of the intercept.
    #[arg(long, default_value_t = 0.0, value_name = "WEIGHT", help_heading = "Model")]
    pub l2: f64,

    /// Factors of a user or item [default: 20].
    #[arg(long, value_name = "N", help_heading = "Matrix factorisation, for ratings")]
    pub factors: Option<u32>,
    /// Learn a bias for every user and item too.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL", help_heading = "Matrix factorisation, for ratings")]
    pub biases: bool,
    /// Nesterov momentum [default: 0.8].
    #[arg(long, value_name = "MU", help_heading = "Matrix factorisation, for ratings")]
    pub momentum: Option<f64>,

    /// Decay of Adam's first moments [default: 0.9].
    #[arg(long, value_name = "BETA", help_heading = "Logistic regression, for click logs")]
    pub beta1: Option<f64>,
    /// Decay of Adam's second moments [default: 0.999].
    #[arg(long, value_name = "BETA", help_heading = "Logistic regression, for click logs")]
    pub beta2: Option<f64>,
    /// How the learning rate changes from epoch to epoch [default: none].
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Logistic regression, for click logs")]
    pub lr_decay: Option<LrDecayArg>,
    /// Do not learn an intercept.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL", help_heading = "Logistic regression, for click logs")]
    pub no_intercept: bool,

    /// End after this many epochs.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000), help_heading = "End")]
    pub max_epochs: u64,
    /// End after this much time, for example 480s or 2h.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "End")]
    pub max_time: Option<Duration>,
    /// End once the training loss (RMSE in stars, log loss in nats) was at or below this for ten steps in a row.
    #[arg(long, value_name = "LOSS", help_heading = "End")]
    pub target_loss: Option<f64>,
    /// End once the held-out loss is at or below this.
    #[arg(long, value_name = "LOSS", help_heading = "End")]
    pub target_holdout_loss: Option<f64>,
    /// End once the held-out loss has not improved for this many epochs; 0 for never [default: 3 when rows are held out].
    #[arg(long, value_name = "EPOCHS", help_heading = "End")]
    pub patience: Option<u64>,
}

/// How workers are launched.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchArg {
    /// As threads of this process; no server is needed.
    Thread,
    /// As processes on this machine, which meet through Redis (or object storage) and RabbitMQ.
    Process,
    /// As AWS Lambda functions.
    Lambda,
    /// As processes anywhere, each launched by `--command`: ssh, a cluster's scheduler, Kubernetes. The supervisor stays here.
    Command,
}

/// Where the supervisor of functions is.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisorArg {
    /// A function too, near the workers.
    Function,
    /// A process on this machine.
    Client,
}

/// How gradients are exchanged.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyArg {
    /// The one that moves fewer bytes, by measurement.
    Auto,
    /// Every worker reads the gradients of all others.
    AllToAll,
    /// Every worker reduces some slices of the parameters, and reads the other slices reduced.
    ReduceScatter,
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

/// How the learning rate changes from epoch to epoch.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrDecayArg {
    /// It does not.
    None,
    /// Divided by the square root of the epoch, counted from 1.
    SqrtEpoch,
}

impl From<LrDecayArg> for LrDecay {
    fn from(arg: LrDecayArg) -> Self {
        match arg {
            LrDecayArg::None => Self::None,
            LrDecayArg::SqrtEpoch => Self::SqrtEpoch,
        }
    }
}
