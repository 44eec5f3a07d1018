//! What can be typed. Nothing is read or resolved here.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use reporting::Shell;
use schemas::exit::EXIT_CODES_HELP;

/// Most rows a mini-batch may have.
pub const BATCH_MAX: u32 = 1 << 24;

const EXAMPLES: &str = "\
Examples:
  shard --batch 6250
      Shuffle the dataset under prepared/ into shards/<name>, with the manifest <name>.json
  shard prepared/ml20m --batch 12000 --seed 3 --replace
      Shuffle anew with another seed, over what is there
  shard prepared/ml20m --batch 12000 --out /data/ml20m
      Keep batches and manifest (/data/ml20m/ml20m.json) together in another place
  shard prepared/ml20m --batch 12000 --rows-per-object 1200000 --replace
      Put 100 mini-batches into each object
  shard verify ml20m.json
      Check that everything the manifest names is there and undamaged";

const VERIFY_EXAMPLES: &str = "\
Examples:
  shard verify criteo.json
      Read every object of the manifest; exit code 0 when all is well, 3 when not
  shard verify criteo.json --quiet
      Only the report: how many objects are missing, damaged or foreign, and the first 20 of each";

/// Shuffle a prepared dataset into mini-batches, with a manifest for `train`.
#[derive(Parser, Clone, Debug)]
#[command(name = "shard", version, max_term_width = 110)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES_HELP}"))]
#[command(override_usage = "shard [OPTIONS] --batch <ROWS> [PREPARED]\n       shard <COMMAND>")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Folder of a prepared dataset, or its dataset.json [default: the only dataset under prepared/].
    pub prepared: Option<String>,

    /// Rows of a mini-batch, at most; sizes differ by at most one.
    #[arg(short, long, value_name = "ROWS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(BATCH_MAX)))]
    pub batch: Option<u32>,

    /// Put consecutive mini-batches of about so many rows together into an object [default: each is one].
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub rows_per_object: Option<u64>,

    /// Folder for the mini-batches [default: shards/<name of the dataset>].
    #[arg(short, long, value_name = "PLACE")]
    pub out: Option<String>,

    /// File for the manifest [default: <name>.json, under --out when that is given].
    #[arg(short, long, value_name = "FILE")]
    pub manifest: Option<String>,

    /// Root seed of the shuffle.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub seed: u64,

    /// Overwrite what is there when it differs.
    #[arg(long)]
    pub replace: bool,

    /// Do nothing, but say what would be read and written, and about how much.
    #[arg(long)]
    pub dry_run: bool,

    /// Threads to work with; the result does not depend on it [default: all processors].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Memory that the whole process may take, as in 512MiB or 4GB; the result does not depend on it [default: a quarter of the
    /// machine's]. Rows that do not fit go through a temporary file.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,

    /// Folder for temporary data, at most 164 bytes for each sparse row, 60 for a dense one, 16 for a rating [default: the system's].
    #[arg(long, value_name = "FOLDER")]
    pub temp_dir: Option<PathBuf>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become help text of the whole command")]
    pub messages: reporting::Flags,

    #[command(subcommand)]
    #[expect(missing_docs, reason = "a comment here would become help text of the whole command")]
    pub command: Option<Command>,
}

/// What `shard` does besides sharding.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Check that everything a manifest names is there and as it should be.
    ///
    /// Every object is read: its size, digest and rows must be what the manifest says. Objects beside them that the manifest does not
    /// name are told as well.
    Verify(Verify),
    /// Print a completion script.
    Completions {
        /// The shell it is for.
        shell: Shell,
    },
}

/// What `shard verify` is to do.
#[derive(Args, Clone, Debug)]
#[command(after_help = VERIFY_EXAMPLES, after_long_help = format!("{VERIFY_EXAMPLES}\n\n{EXIT_CODES_HELP}"))]
pub struct Verify {
    /// The manifest.
    #[arg(value_name = "MANIFEST")]
    pub named: String,

    /// Threads that check what was read [default: all processors].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}
