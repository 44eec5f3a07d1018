//! The plans of what is done with a trained model.

use std::path::{Path, PathBuf};

use manifests::load;
use manifests::place::Place;
use raw::source;
use reporting::standard_input_is_given;
use schemas::dataset::DESCRIPTOR_KEY;
use schemas::report::Split;

use super::usage;
use crate::cli;
use crate::error::Error;
use crate::saved;

/// `train predict`
#[derive(Clone, Debug)]
pub struct Predict {
    /// The run whose model is used.
    pub run: Place,
    /// The rows.
    pub input: Input,
    /// Where the predictions go: a file, or standard output.
    pub out: Option<PathBuf>,
    /// How they are written.
    pub format: Format,
    /// Overwrite a file that is there.
    pub replace: bool,
    /// Threads that decode and score.
    pub threads: usize,
}

/// The rows that are scored.
#[derive(Clone, Debug)]
pub enum Input {
    /// Raw text.
    Text(source::Input),
    /// A dataset.
    Dataset {
        /// Where it lies.
        place: Place,
        /// Whether its training rows are scored.
        train: bool,
        /// Whether its held-out rows are scored.
        holdout: bool,
    },
}

/// How predictions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text with a header.
    Csv,
    /// Parquet.
    Parquet,
}

impl Predict {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When flags do not fit each other, or there is no input.
    pub fn resolve(args: &cli::Predict) -> Result<Self, Error> {
        let format = match (args.format, &args.out) {
            (Some(cli::FormatArg::Csv), _) => Format::Csv,
            (Some(cli::FormatArg::Parquet), Some(_)) => Format::Parquet,
            (Some(cli::FormatArg::Parquet), None) => {
                return Err(usage("Parquet does not go to standard output", "name a file with `-o FILE.parquet`"));
            }
            (None, None) => Format::Csv,
            (None, Some(out)) => format_of(out)?,
        };
        Ok(Self {
            run: saved::named(&args.model)?,
            input: input(args.input.as_deref(), args.rows)?,
            out: args.out.clone(),
            format,
            replace: args.replace,
            threads: threads(args.threads),
        })
    }
}

fn format_of(out: &Path) -> Result<Format, Error> {
    match out.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("parquet") => Ok(Format::Parquet),
        _ => {
            let problem = format!("`{}` ends neither in .csv nor in .parquet", out.display());
            Err(usage(problem, "say how to write it with `--format csv` or `--format parquet`"))
        }
    }
}

fn input(named: Option<&str>, rows: Option<cli::RowsArg>) -> Result<Input, Error> {
    let text = match named {
        None if !standard_input_is_given() => {
            let problem = "no input: no INPUT is given, and standard input is neither a pipe nor a file";
            return Err(usage(problem, "name a file or dataset, or pipe rows in"));
        }
        None | Some("-") => source::Input::Standard,
        Some(named) => {
            let path = Path::new(named);
            if path.file_name().is_some_and(|name| name == DESCRIPTOR_KEY) || path.join(DESCRIPTOR_KEY).is_file() {
                return Ok(dataset(load::named_dataset(named)?, rows));
            }
            if path.extension().is_some_and(|extension| extension == "json") {
                let problem = format!("`{named}` is neither raw text nor the dataset.json of a dataset");
                return Err(usage(problem, "give the rows; on a manifest, a model is measured with `train evaluate`"));
            }
            match source::Input::named(path)? {
                source::Input::Object { .. } if is_dataset(named)? => {
                    return Ok(dataset(load::named_dataset(named)?, rows));
                }
                text => text,
            }
        }
    };
    if rows.is_some() {
        return Err(usage("--rows has no meaning for raw text", "leave it out, or give a dataset that `prep` made"));
    }
    Ok(Input::Text(text))
}

/// Whether there is a descriptor at the place `named`.
fn is_dataset(named: &str) -> Result<bool, Error> {
    Ok(load::named_dataset(named)?.size(DESCRIPTOR_KEY)?.is_some())
}

/// The `rows` of the dataset at `place`.
fn dataset(place: Place, rows: Option<cli::RowsArg>) -> Input {
    let (train, holdout) = match rows.unwrap_or(cli::RowsArg::All) {
        cli::RowsArg::All => (true, true),
        cli::RowsArg::Train => (true, false),
        cli::RowsArg::Holdout => (false, true),
    };
    Input::Dataset { place, train, holdout }
}

fn threads(given: Option<u32>) -> usize {
    match given {
        Some(threads) => threads as usize,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// `train evaluate`
#[derive(Clone, Debug)]
pub struct Evaluate {
    /// The run whose model is measured.
    pub run: Place,
    /// The manifest.
    pub manifest: String,
    /// Which of its rows.
    pub split: Split,
    /// Threads that decode and score.
    pub threads: usize,
}

impl Evaluate {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When the run is no place.
    pub fn resolve(args: &cli::Evaluate) -> Result<Self, Error> {
        Ok(Self {
            run: saved::named(&args.model)?,
            manifest: args.manifest.clone(),
            split: match args.rows {
                cli::SplitArg::Holdout => Split::Holdout,
                cli::SplitArg::Train => Split::Train,
            },
            threads: threads(args.threads),
        })
    }
}

/// `train recommend`
#[derive(Clone, Debug)]
pub struct Recommend {
    /// The run whose model is used.
    pub run: Place,
    /// The user, by the source's id.
    pub user: u32,
    /// How many items, at most.
    pub top: usize,
    /// The file with the titles.
    pub titles: Option<PathBuf>,
    /// What becomes of items that the user has rated.
    pub rated: Rated,
    /// Threads that read mini-batches.
    pub threads: usize,
}

/// What becomes of items that the user has rated.
#[derive(Clone, Debug)]
pub enum Rated {
    /// They are as good as any.
    Included,
    /// They are left out; the manifest tells which they are. Without a name, it is where the run found it.
    LeftOut(Option<String>),
}

impl Recommend {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When the run is no place.
    pub fn resolve(args: &cli::Recommend) -> Result<Self, Error> {
        Ok(Self {
            run: saved::named(&args.model)?,
            user: args.user,
            top: args.top as usize,
            titles: args.titles.clone(),
            rated: if args.include_rated { Rated::Included } else { Rated::LeftOut(args.manifest.clone()) },
            threads: threads(args.threads),
        })
    }
}
