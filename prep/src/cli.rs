//! What can be typed. Nothing is checked here beyond its form; [`crate::plan`] says what it means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use reporting::Shell;
use schemas::clicks::HASH_BUCKETS;
use schemas::exit::EXIT_CODES_HELP;

/// The examples of each `--help`. The tests run every one of them as it stands here.
pub mod examples {
    /// Of `prep`.
    pub const PREP: [&str; 5] = [
        "prep generate movielens -o ratings.csv",
        "prep movielens ratings.csv --holdout 0.1",
        "prep generate criteo --rows 20000 -o criteo.tsv",
        "prep criteo criteo.tsv --hash-buckets 1000000 --holdout 0.1",
        "prep completions bash > prep.bash",
    ];
    /// Of `prep movielens`.
    pub const MOVIELENS: [&str; 3] = [
        "prep movielens ml-20m.zip --holdout 0.1",
        "zcat ratings.csv.gz | prep movielens --name mine",
        "prep movielens ml-1m --bad-rows quarantine:100 -o clean",
    ];
    /// Of `prep criteo`.
    pub const CRITEO: [&str; 6] = [
        "prep criteo train.txt.gz --hash-buckets 1000000 --holdout 0.1",
        "prep criteo 'day_*' --name terabyte --bad-rows quarantine:100",
        "zcat train.txt.gz | prep criteo --features dense --name dense",
        "prep criteo train.txt.gz --where 'I2 >= 0 AND C6 IS NOT NULL' --name some",
        "prep criteo test.txt --like prepared/criteo --name test",
        "prep criteo 'day_*' --name terabyte --dry-run",
    ];
    /// Of `prep inspect`.
    pub const INSPECT: [&str; 2] = ["prep inspect", "prep inspect prepared/mine --json"];
    /// Of `prep generate`.
    pub const GENERATE: [&str; 2] =
        ["prep generate movielens -o ratings.csv", "prep generate criteo --rows 20000 -o criteo.tsv"];
    /// Of `prep generate movielens`.
    pub const GENERATE_MOVIELENS: [&str; 3] = [
        "prep generate movielens -o ratings.csv",
        "prep generate movielens --ratings 20000 --users 300 --movies 500 --seed 1 -o small.csv.zst",
        "prep generate movielens --ratings 20000 --users 300 --movies 500 | prep movielens --name small",
    ];
    /// Of `prep generate criteo`.
    pub const GENERATE_CRITEO: [&str; 3] = [
        "prep generate criteo --rows 20000 -o criteo.tsv",
        "prep generate criteo --rows 20000 --seed 9 -o another-day.tsv.zst",
        "prep generate criteo --rows 20000 | prep criteo --name small",
    ];
}

fn after_help(examples: &[&str]) -> String {
    format!("Examples:\n  {}\n\n{EXIT_CODES_HELP}", examples.join("\n  "))
}

/// Turn raw ratings and click logs into clean columnar data for `shard`.
#[derive(Parser, Clone, Debug)]
#[command(name = "prep", version, arg_required_else_help = true, after_long_help = after_help(&examples::PREP))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to talk about it.
    #[command(flatten)]
    pub messages: reporting::Flags,
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Read MovieLens ratings and write a dataset: Parquet parts and a descriptor.
    #[command(after_long_help = after_help(&examples::MOVIELENS))]
    Movielens(Movielens),
    /// Read Criteo click logs and write a dataset: Parquet parts and a descriptor.
    #[command(after_long_help = after_help(&examples::CRITEO))]
    Criteo(Criteo),
    /// Show what is in a dataset, and check all of it against its descriptor.
    #[command(after_long_help = after_help(&examples::INSPECT))]
    Inspect(Inspect),
    /// Write realistic raw data, for trials and benchmarks.
    #[command(after_long_help = after_help(&examples::GENERATE))]
    Generate {
        /// The kind of data.
        #[command(subcommand)]
        kind: Generate,
    },
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Flags of `prep movielens`.
#[derive(Args, Clone, Debug)]
pub struct Movielens {
    /// Ratings: a file (plain, gzip, zstd or GroupLens' zip) or a folder with ratings.csv, ratings.dat or u.data, on this machine or
    /// at s3://BUCKET/KEY. Without it, standard input is read.
    pub input: Option<PathBuf>,
    /// Columns: `csv` (userId,movieId,rating,timestamp), `dat` (separated by ::) or `tab`.
    #[arg(long, value_enum, default_value_t, help_heading = "Reading")]
    pub format: Format,
    /// What to do with rows that break a rule: stop at the first, or set them aside, at most N.
    #[arg(long, default_value = "fail", value_name = "fail|quarantine[:N]", help_heading = "Reading")]
    pub bad_rows: String,
    /// Share of the rows to keep from training, between 0 and 1.
    #[arg(long, value_name = "F", help_heading = "Rows")]
    pub holdout: Option<f64>,
    /// Seed of the choice of held-out rows.
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Rows")]
    pub seed: u64,
    /// Where to write the dataset, `-` for standard output [default: standard output when it is a pipe, else prepared/NAME].
    ///
    /// Into a pipe goes an Arrow stream for `shard`, and no report. Where something captures what is printed (`| tail`, `$(...)`,
    /// schedulers such as Airflow), name the place.
    #[arg(short, long, value_name = "PLACE", help_heading = "Writing")]
    pub out: Option<String>,
    /// Name of the dataset [default: from the input: ml20m for ml-20m.zip, shop for shop.csv; movielens for ratings.csv and pipes].
    #[arg(long, help_heading = "Writing")]
    pub name: Option<String>,
    /// Overwrite a dataset with other content.
    #[arg(long, help_heading = "Writing")]
    pub replace: bool,
    /// Do nothing, but say what would be read and written, and about how much.
    #[arg(long, help_heading = "Writing")]
    pub dry_run: bool,
    /// Threads [default: one for each core].
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub threads: Option<usize>,
    /// Folder for temporary data, about 12 bytes for each rating [default: the system's].
    #[arg(long, value_name = "FOLDER", help_heading = "Machine")]
    pub temp_dir: Option<PathBuf>,
}

/// Flags of `prep criteo`.
#[derive(Args, Clone, Debug)]
pub struct Criteo {
    /// Click logs: files (plain, gzip or zstd; or Parquet or csv), folders, or quoted patterns such as 'day_*', read in this order as one dataset.
    /// Text is also read from s3://BUCKET/KEY, folder or pattern. Without any, standard input is read.
    pub inputs: Vec<PathBuf>,
    /// What becomes of the columns: all 39 in a hashed space, or the 13 numbers standardised.
    #[arg(long, value_enum, default_value_t, help_heading = "Features")]
    pub features: FeatureKind,
    /// Buckets that the 26 categorical columns of sparse rows are hashed to.
    #[arg(long, default_value_t = HASH_BUCKETS, value_name = "N", help_heading = "Features")]
    pub hash_buckets: u32,
    /// Scale by the statistics of this dataset instead of the rows' own: for the rows a trained model is to predict.
    #[arg(long, value_name = "DATASET", help_heading = "Features")]
    pub like: Option<String>,
    /// What the inputs are.
    #[arg(long, value_enum, default_value_t, help_heading = "Reading")]
    pub format: ClickFormat,
    /// What to do with rows of raw text that break a rule: stop at the first, or set them aside, at most N.
    #[arg(long, default_value = "fail", value_name = "fail|quarantine[:N]", help_heading = "Reading")]
    pub bad_rows: String,
    /// Keep the rows for which this SQL condition is true. Columns are label, I1 to I13, C1 to C26, and row, the number of the row
    /// in the input; what is missing is null.
    #[arg(long = "where", value_name = "CONDITION", help_heading = "Rows")]
    pub condition: Option<String>,
    /// Share of the rows to keep from training, between 0 and 1.
    #[arg(long, value_name = "F", help_heading = "Rows")]
    pub holdout: Option<f64>,
    /// Seed of the choice of held-out rows.
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Rows")]
    pub seed: u64,
    /// Where to write the dataset, `-` for standard output [default: standard output when it is a pipe, else prepared/NAME].
    ///
    /// Into a pipe goes an Arrow stream for `shard`, and no report. Where something captures what is printed (`| tail`, `$(...)`,
    /// schedulers such as Airflow), name the place.
    #[arg(short, long, value_name = "PLACE", help_heading = "Writing")]
    pub out: Option<String>,
    /// Name of the dataset.
    #[arg(long, default_value = "criteo", help_heading = "Writing")]
    pub name: String,
    /// Overwrite a dataset with other content.
    #[arg(long, help_heading = "Writing")]
    pub replace: bool,
    /// Do nothing, but say what would be read and written, and about how much.
    #[arg(long, help_heading = "Writing")]
    pub dry_run: bool,
    /// Threads [default: one for each core].
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub threads: Option<usize>,
    /// Folder for temporary data, about 110 bytes for each row [default: the system's].
    #[arg(long, value_name = "FOLDER", help_heading = "Machine")]
    pub temp_dir: Option<PathBuf>,
}

/// What the inputs of `prep criteo` are.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClickFormat {
    /// Look at the first file.
    #[default]
    Auto,
    /// Raw text as Criteo and Kaggle publish it, plain or compressed.
    Log,
    /// Csv of another engine: columns by name in any order, quotes, whole numbers also as 260.0.
    Csv,
    /// Parquet: columns by name in any order and type.
    Parquet,
}

/// What becomes of the columns of a click log.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeatureKind {
    /// 13 numbers scaled to 0..1 and 26 tokens hashed to buckets.
    #[default]
    Sparse,
    /// 13 standardised numbers.
    Dense,
}

/// How the columns of ratings are written.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Look at the first line.
    #[default]
    Auto,
    /// Separated by commas, as in ratings.csv.
    Csv,
    /// Separated by two colons, as in ratings.dat.
    Dat,
    /// Separated by tabs, as in u.data.
    Tab,
}

/// Flags of `prep inspect`.
#[derive(Args, Clone, Debug)]
pub struct Inspect {
    /// The folder of a dataset, or its dataset.json [default: the only dataset in prepared/].
    pub dataset: Option<String>,
    /// Print one line of JSON instead of a table.
    #[arg(long, help_heading = "Writing")]
    pub json: bool,
    /// Threads [default: one for each core].
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub threads: Option<usize>,
}

/// The kinds of data that can be generated.
#[derive(Subcommand, Clone, Debug)]
pub enum Generate {
    /// Write ratings like MovieLens' ratings.csv; the bytes depend on these settings only.
    #[command(after_long_help = after_help(&examples::GENERATE_MOVIELENS))]
    Movielens(GenerateMovielens),
    /// Write a click log like Criteo's train.txt; the bytes depend on rows and seed only, and fewer rows are the first of more.
    ///
    /// Every seed draws other rows from the same world: a model learnt from one seed's labels can be tried on another's.
    #[command(after_long_help = after_help(&examples::GENERATE_CRITEO))]
    Criteo(GenerateCriteo),
}

/// Flags of `prep generate movielens`.
#[derive(Args, Clone, Debug)]
pub struct GenerateMovielens {
    /// Ratings, exactly.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", help_heading = "Data")]
    pub ratings: u64,
    /// Users, every one with at least one rating.
    #[arg(long, default_value_t = 6_000, value_name = "N", help_heading = "Data")]
    pub users: u32,
    /// Movies to choose from.
    #[arg(long, default_value_t = 4_000, value_name = "N", help_heading = "Data")]
    pub movies: u32,
    /// Seed, file and threads.
    #[command(flatten)]
    pub destination: Destination,
}

/// Flags of `prep generate criteo`.
#[derive(Args, Clone, Debug)]
pub struct GenerateCriteo {
    /// Rows, about 240 bytes each.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", help_heading = "Data")]
    pub rows: u64,
    /// Seed, file and threads.
    #[command(flatten)]
    pub destination: Destination,
}

/// Flags of every kind of generated data.
#[derive(Args, Clone, Debug)]
pub struct Destination {
    /// Seed of everything random.
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Data")]
    pub seed: u64,
    /// File to write, compressed when it ends in .gz or .zst [default: standard output when it is piped].
    #[arg(short, long, value_name = "FILE", help_heading = "Writing")]
    pub out: Option<PathBuf>,
    /// Overwrite a file with other content.
    #[arg(long, requires = "out", help_heading = "Writing")]
    pub replace: bool,
    /// Threads [default: one for each core].
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub threads: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
