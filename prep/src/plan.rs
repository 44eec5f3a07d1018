//! What the flags mean: checked, with defaults filled in. Nothing is read or written here beyond asking what standard input and
//! standard output are and how many cores there are.

use std::path::{Path, PathBuf};

use raw::source::Input;
use reporting::standard_input_is_given;
use schemas::clicks::N_NUMERIC;
use schemas::dataset::Holdout;

use crate::cli::{self, Cli, ClickFormat, Command, FeatureKind, Format};
use crate::error::Error;
use crate::pipe;

/// A command with checked settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// `prep movielens`
    Movielens(MovielensPlan),
    /// `prep criteo`
    Criteo(CriteoPlan),
    /// `prep inspect`
    Inspect(InspectPlan),
    /// `prep generate`
    Generate(GeneratePlan),
}

/// Settings of `prep movielens`.
#[derive(Clone, Debug, PartialEq)]
pub struct MovielensPlan {
    /// What to read.
    pub input: Input,
    /// Where to write.
    pub out: Out,
    /// Name of the dataset.
    pub name: String,
    /// How columns are separated.
    pub format: Format,
    /// Rows to hold out.
    pub holdout: Option<Holdout>,
    /// What to do with bad rows.
    pub bad_rows: BadRows,
    /// Whether a dataset with other content may be overwritten.
    pub replace: bool,
    /// Threads, at least 1.
    pub threads: usize,
    /// Folder for temporary data.
    pub temp_dir: PathBuf,
    /// Whether nothing is done, but what would be done is said.
    pub dry_run: bool,
}

/// Settings of `prep criteo`.
#[derive(Clone, Debug, PartialEq)]
pub struct CriteoPlan {
    /// Files, folders and patterns to read; none for standard input.
    pub inputs: Vec<PathBuf>,
    /// Where to write.
    pub out: Out,
    /// Name of the dataset.
    pub name: String,
    /// What the inputs are.
    pub format: ClickFormat,
    /// The SQL condition that rows must meet.
    pub condition: Option<String>,
    /// What becomes of the columns.
    pub features: Features,
    /// The dataset whose statistics are used.
    pub like: Option<String>,
    /// Rows to hold out.
    pub holdout: Option<Holdout>,
    /// What to do with bad rows.
    pub bad_rows: BadRows,
    /// Whether a dataset with other content may be overwritten.
    pub replace: bool,
    /// Threads, at least 1.
    pub threads: usize,
    /// Folder for temporary data.
    pub temp_dir: PathBuf,
    /// Whether nothing is done, but what would be done is said.
    pub dry_run: bool,
}

/// What becomes of the columns of a click log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Features {
    /// 13 standardised numbers.
    Dense,
    /// 13 numbers and 26 tokens in a hashed space.
    Sparse {
        /// Buckets of the tokens.
        n_buckets: u32,
    },
}

impl Features {
    /// Buckets of the tokens, if they are kept.
    #[must_use]
    pub const fn n_buckets(self) -> Option<u32> {
        match self {
            Self::Dense => None,
            Self::Sparse { n_buckets } => Some(n_buckets),
        }
    }
}

impl std::fmt::Display for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dense => f.write_str("dense rows"),
            Self::Sparse { n_buckets } => write!(f, "sparse rows with {n_buckets} buckets"),
        }
    }
}

/// Where a dataset goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// To a folder.
    Place(String),
    /// To standard output, as a stream.
    Pipe {
        /// Where it would go if standard output were no pipe.
        instead: String,
    },
}

/// What to do with rows that break a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRows {
    /// Stop at the first.
    Fail,
    /// Set them aside.
    Quarantine {
        /// Stop when there are more.
        rejected_max: u64,
    },
}

impl BadRows {
    /// How many bad rows may be set aside.
    #[must_use]
    pub const fn rejected_max(self) -> u64 {
        match self {
            Self::Fail => 0,
            Self::Quarantine { rejected_max } => rejected_max,
        }
    }

    /// After how many bad rows there is no point in reading on.
    pub(crate) fn bad_max(self) -> usize {
        usize::try_from(self.rejected_max().saturating_add(1)).unwrap_or(usize::MAX)
    }
}

/// Settings of `prep inspect`.
#[derive(Clone, Debug, PartialEq)]
pub struct InspectPlan {
    /// The dataset's folder or descriptor; `None` for the only dataset there is.
    pub dataset: Option<String>,
    /// Whether JSON is printed instead of a table.
    pub json: bool,
    /// Threads, at least 1.
    pub threads: usize,
}

/// Settings of `prep generate`.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratePlan {
    /// What to generate.
    pub kind: GenerateKind,
    /// Seed of everything random.
    pub seed: u64,
    /// File to write; `None` for standard output.
    pub out: Option<PathBuf>,
    /// Whether a file with other content may be overwritten.
    pub replace: bool,
    /// Threads, at least 1.
    pub threads: usize,
}

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerateKind {
    /// Ratings.
    Movielens {
        /// Ratings.
        ratings: u64,
        /// Users.
        users: u32,
        /// Movies to choose from.
        movies: u32,
    },
    /// A click log.
    Criteo {
        /// Rows.
        rows: u64,
    },
}

impl Plan {
    /// What `cli` asks for.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::NoInput`].
    ///
    /// # Panics
    /// For `prep completions`, which needs no plan.
    pub fn resolve(cli: Cli) -> Result<Self, Error> {
        match cli.command {
            Command::Movielens(flags) => MovielensPlan::resolve(flags).map(Self::Movielens),
            Command::Criteo(flags) => CriteoPlan::resolve(flags).map(Self::Criteo),
            Command::Inspect(flags) => InspectPlan::resolve(flags).map(Self::Inspect),
            Command::Generate { kind: cli::Generate::Movielens(flags) } => {
                GeneratePlan::movielens(flags).map(Self::Generate)
            }
            Command::Generate { kind: cli::Generate::Criteo(flags) } => GeneratePlan::criteo(flags).map(Self::Generate),
            Command::Completions { .. } => unreachable!("completions are printed without a plan"),
        }
    }
}

impl MovielensPlan {
    fn resolve(flags: cli::Movielens) -> Result<Self, Error> {
        let input = match flags.input {
            Some(path) => Input::named(&path)?,
            None if standard_input_is_given() => Input::Standard,
            None => {
                let example = "`prep movielens ml-20m.zip` or `zcat ratings.csv.gz | prep movielens`";
                return Err(Error::NoInput { example });
            }
        };
        let name = match flags.name {
            Some(name) => checked_name(name)?,
            None => default_name(&input),
        };
        Ok(Self {
            input,
            out: out(flags.out, &name)?,
            name,
            format: flags.format,
            holdout: holdout(flags.holdout, flags.seed)?,
            bad_rows: bad_rows(&flags.bad_rows)?,
            replace: flags.replace,
            threads: threads(flags.threads)?,
            temp_dir: flags.temp_dir.unwrap_or_else(std::env::temp_dir),
            dry_run: flags.dry_run,
        })
    }
}

impl CriteoPlan {
    fn resolve(flags: cli::Criteo) -> Result<Self, Error> {
        if flags.inputs.is_empty() && !standard_input_is_given() {
            let example = "`prep criteo train.txt.gz` or `zcat train.txt.gz | prep criteo`";
            return Err(Error::NoInput { example });
        }
        let name = checked_name(flags.name)?;
        Ok(Self {
            inputs: flags.inputs,
            format: flags.format,
            condition: flags.condition,
            out: out(flags.out, &name)?,
            name,
            features: features(flags.features, flags.hash_buckets)?,
            like: flags.like,
            holdout: holdout(flags.holdout, flags.seed)?,
            bad_rows: bad_rows(&flags.bad_rows)?,
            replace: flags.replace,
            threads: threads(flags.threads)?,
            temp_dir: flags.temp_dir.unwrap_or_else(std::env::temp_dir),
            dry_run: flags.dry_run,
        })
    }
}

/// Where the dataset `name` goes: to the place that is `asked` for, else into a pipe if there is one.
fn out(asked: Option<String>, name: &str) -> Result<Out, Error> {
    use std::io::IsTerminal;
    let instead = format!("prepared/{name}");
    match asked.as_deref() {
        Some("-") if std::io::stdout().is_terminal() => {
            let problem = "standard output is a terminal".to_owned();
            Err(setting("--out", problem, "pipe the output to `shard`, or leave `--out` out"))
        }
        None | Some("-") if pipe::standard_output_is_one() && pipe::standard_error_is_the_same() => {
            let problem =
                "rows for `shard` would go into the pipe that standard error goes into, and mix with words".to_owned();
            let fix =
                format!("for a dataset name its folder: `--out {instead}`; to pipe rows to `shard`, leave out `2>&1`");
            Err(setting("--out", problem, &fix))
        }
        Some("-") => Ok(Out::Pipe { instead }),
        None if pipe::standard_output_is_one() => Ok(Out::Pipe { instead }),
        None => Ok(Out::Place(instead)),
        Some(place) => Ok(Out::Place(place.to_owned())),
    }
}

fn features(kind: FeatureKind, buckets: u32) -> Result<Features, Error> {
    // All features are numbered in 32 bits, and one number of these stands for a missing bucket.
    const BUCKETS_MAX: u32 = u32::MAX - N_NUMERIC as u32;
    let flag = "--hash-buckets";
    match (kind, buckets) {
        (FeatureKind::Dense, 1..=BUCKETS_MAX) => Ok(Features::Dense),
        (FeatureKind::Sparse, n_buckets @ 1..=BUCKETS_MAX) => Ok(Features::Sparse { n_buckets }),
        (_, n) => Err(setting(flag, format!("{n} is not in 1..={BUCKETS_MAX}"), "choose a number in this range")),
    }
}

fn holdout(fraction: Option<f64>, seed: u64) -> Result<Option<Holdout>, Error> {
    match fraction {
        None => Ok(None),
        Some(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(Some(Holdout { fraction, seed })),
        Some(fraction) => {
            Err(setting("--holdout", format!("{fraction} is not between 0 and 1"), "give a share, as in 0.1"))
        }
    }
}

impl InspectPlan {
    fn resolve(flags: cli::Inspect) -> Result<Self, Error> {
        Ok(Self { dataset: flags.dataset, json: flags.json, threads: threads(flags.threads)? })
    }
}

impl GeneratePlan {
    fn movielens(flags: cli::GenerateMovielens) -> Result<Self, Error> {
        let cli::GenerateMovielens { ratings, users, movies, destination } = flags;
        const IDS_MAX: u32 = 100_000_000;
        for (flag, value) in [("--users", users), ("--movies", movies)] {
            if value == 0 || value > IDS_MAX {
                return Err(setting(flag, format!("{value} is not in 1..={IDS_MAX}"), "choose a number in this range"));
            }
        }
        let pairs = u64::from(users) * u64::from(movies);
        if ratings < u64::from(users) {
            let problem = format!("{ratings} is less than --users, {users}, and every user has at least one rating");
            return Err(setting("--ratings", problem, "ask for more ratings or fewer users"));
        }
        if ratings > pairs {
            let problem = format!("{ratings} is more than --users times --movies, {pairs}, and no pair is rated twice");
            return Err(setting("--ratings", problem, "ask for fewer ratings, or for more users or movies"));
        }
        Self::new(GenerateKind::Movielens { ratings, users, movies }, destination, "ratings.csv")
    }

    fn criteo(flags: cli::GenerateCriteo) -> Result<Self, Error> {
        let cli::GenerateCriteo { rows, destination } = flags;
        const ROWS_MAX: u64 = 10_000_000_000;
        if rows == 0 || rows > ROWS_MAX {
            let problem = format!("{rows} is not in 1..={ROWS_MAX}");
            return Err(setting("--rows", problem, "choose a number in this range"));
        }
        Self::new(GenerateKind::Criteo { rows }, destination, "criteo.tsv")
    }

    fn new(kind: GenerateKind, destination: cli::Destination, example: &str) -> Result<Self, Error> {
        use std::io::IsTerminal;
        let cli::Destination { seed, out, replace, threads: n_threads } = destination;
        if out.is_none() && std::io::stdout().is_terminal() {
            let problem = "standard output is a terminal".to_owned();
            let fix = format!("name a file with `-o {example}`, or pipe the output");
            return Err(setting("--out", problem, &fix));
        }
        Ok(Self { kind, seed, out, replace, threads: threads(n_threads)? })
    }
}

fn setting(flag: &'static str, problem: String, fix: &str) -> Error {
    Error::Setting { flag, problem, fix: fix.to_owned() }
}

fn threads(asked: Option<usize>) -> Result<usize, Error> {
    const THREADS_MAX: usize = 1024;
    match asked {
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        Some(n) if (1..=THREADS_MAX).contains(&n) => Ok(n),
        Some(n) => {
            Err(setting("--threads", format!("{n} is not in 1..={THREADS_MAX}"), "leave it out to use all cores"))
        }
    }
}

fn bad_rows(text: &str) -> Result<BadRows, Error> {
    let (word, number) = text.split_once(':').map_or((text, None), |(word, number)| (word, Some(number)));
    match (word, number.map(str::parse)) {
        ("fail", None) => Ok(BadRows::Fail),
        ("quarantine", None) => Ok(BadRows::Quarantine { rejected_max: u64::MAX }),
        ("quarantine", Some(Ok(rejected_max))) => Ok(BadRows::Quarantine { rejected_max }),
        _ => {
            let problem = format!("`{text}` is none of `fail`, `quarantine`, `quarantine:N`");
            Err(setting("--bad-rows", problem, "choose one of them, as in `--bad-rows quarantine:100`"))
        }
    }
}

fn checked_name(name: String) -> Result<String, Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        let problem = format!("`{name}` is not made of letters, digits, `-`, `_` and `.`, or begins with `.`");
        return Err(setting("--name", problem, "choose a plain name, as in `--name mine`"));
    }
    Ok(name)
}

/// The name of a GroupLens set when the file, the archive or the folder is called like one; else the file's own, unless that says
/// only that it holds ratings.
fn default_name(input: &Input) -> String {
    let name = match input {
        Input::Standard => None,
        Input::Path(_) | Input::Object { .. } => {
            let path = PathBuf::from(input.shown());
            let path = if matches!(input, Input::Path(_)) { std::path::absolute(&path).unwrap_or(path) } else { path };
            let own = path.file_stem().and_then(|name| set_name(&name.to_string_lossy()));
            let folder = path.parent().and_then(Path::file_name);
            own.or_else(|| folder.and_then(|name| set_name(&name.to_string_lossy()))).or_else(|| own_name(&path))
        }
    };
    name.unwrap_or_else(|| "movielens".to_owned())
}

/// `shop` for `shop.csv.gz`; nothing for `ratings.csv`, `u.data` and what is no plain name.
fn own_name(path: &Path) -> Option<String> {
    const ENDINGS: [&str; 9] = [".gz", ".zst", ".zip", ".csv", ".dat", ".data", ".tab", ".tsv", ".txt"];
    let mut name = path.file_name()?.to_str()?.to_ascii_lowercase();
    while let Some(ending) = ENDINGS.iter().find(|ending| name.ends_with(**ending)) {
        name.truncate(name.len() - ending.len());
    }
    checked_name(name).ok().filter(|name| !matches!(name.as_str(), "ratings" | "u"))
}

/// `ml20m` for `ml-20m`, `ml10m` for `ml-10M100K`, `ml-latest-small` as it is.
fn set_name(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let set = text.strip_prefix("ml-")?;
    if matches!(set, "latest" | "latest-small") {
        return Some(text);
    }
    let size = if set == "10m100k" { "10m" } else { set };
    let digits = size.strip_suffix(['k', 'm'])?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| format!("ml{size}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_input() {
        for (path, expected) in [
            ("ml-20m.zip", "ml20m"),
            ("/data/ml-100k", "ml100k"),
            ("/data/ml-20m/ratings.csv", "ml20m"),
            ("/data/ml-10M100K/ratings.dat.gz", "ml10m"),
            ("/data/ml-latest-small/ratings.csv", "ml-latest-small"),
            ("/data/ml-latest.zip", "ml-latest"),
            ("/data/ml-m/ratings.csv", "movielens"),
            ("/data/ratings.csv", "movielens"),
            ("/data/ratings.dat.gz", "movielens"),
            ("/data/u.data", "movielens"),
            ("/data/Shop.csv.gz", "shop"),
            ("/data/ml-20m/shop.csv", "ml20m"),
            ("/data/shop-2.1.txt", "shop-2.1"),
            ("/data/the shop.csv", "movielens"),
            ("/data/.csv", "movielens"),
        ] {
            assert_eq!(default_name(&Input::Path(path.into())), expected, "{path}");
        }
        assert_eq!(default_name(&Input::Standard), "movielens");
    }
}
