//! The files of a run, read and checked, and what the page needs of them.

use schemas::report::{RUN_FORMAT, RUN_VERSION, TrainReport, Trained};

use crate::csv::{Line, Lines, Wrong, shown};
use crate::timings::Timings;

/// The files of a run, as they lie in its folder.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// What the run is called on the page, as its place.
    pub name: String,
    /// `report.json`.
    pub report: Vec<u8>,
    /// `history.csv`: the loss of every step, and the held-out figures after some.
    pub history: Vec<u8>,
    /// `timings.csv`: where the time of every worker's step went.
    pub timings: Vec<u8>,
    /// `lives.csv`: the lives of the workers.
    pub lives: Option<Vec<u8>>,
    /// `scores.csv`: the kept model on the held-out rows.
    pub scores: Option<Vec<u8>>,
}

/// A run whose files were read and found sound.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it is called.
    pub(crate) name: String,
    /// The report.
    pub(crate) report: TrainReport,
    /// Its steps; the place in the list is the step's number.
    pub(crate) steps: Vec<Step>,
    /// Its evaluations on held-out rows.
    pub(crate) evaluations: Vec<Evaluation>,
    /// Where the time went.
    pub(crate) timings: Timings,
    /// The lives of the workers, if they are known.
    pub(crate) lives: Option<Vec<Life>>,
    /// The kept model on the held-out rows, if it was measured.
    pub(crate) scores: Option<Scores>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// Its epoch, from 0.
    pub(crate) epoch: u64,
    /// Seconds since the start of the run, at its end.
    pub(crate) seconds: f64,
    /// Loss over its rows.
    pub(crate) loss: f64,
}

/// An evaluation on the held-out rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Evaluation {
    /// The last step before it, from 0.
    pub(crate) step: u64,
    /// The epoch that it is after, from 0.
    pub(crate) epoch: u64,
    /// Seconds of that step.
    pub(crate) seconds: f64,
    /// Loss over the held-out rows.
    pub(crate) loss: f64,
    /// AUC, normalised entropy and calibration, of click models.
    pub(crate) quality: [Option<f64>; 3],
}

/// How the life of a worker began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Began {
    /// With the run.
    Start,
    /// It took over from a life whose time ran out.
    Handover,
    /// It took over from a life that died.
    Relaunch,
    /// The worker was added while the run went on.
    Added,
    /// In a session of the run that ended before.
    EarlierSession,
}

impl Began {
    /// All of them, in the order of a legend.
    pub(crate) const ALL: [Self; 5] = [Self::Start, Self::Handover, Self::Relaunch, Self::Added, Self::EarlierSession];

    /// The word for it in `lives.csv`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Handover => "handover",
            Self::Relaunch => "relaunch",
            Self::Added => "added",
            Self::EarlierSession => "earlier_session",
        }
    }

    /// What the page calls it.
    pub(crate) const fn shown(self) -> &'static str {
        match self {
            Self::Start => "begun with the run",
            Self::Handover => "hand-over",
            Self::Relaunch => "relaunch after a death",
            Self::Added => "added",
            Self::EarlierSession => "earlier session",
        }
    }
}

/// A life of a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Life {
    /// The worker.
    pub(crate) worker: u32,
    /// Which life of it.
    pub(crate) incarnation: u32,
    /// How it began.
    pub(crate) began: Began,
    /// The first and the last step for which a gradient of it counted, if any did.
    pub(crate) steps: Option<(u64, u64)>,
}

/// The kept model on the held-out rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scores {
    /// Rows with similar outputs, ascending.
    Clicks(Vec<Bin>),
    /// Rows of one rating each, ascending.
    Stars(Vec<Star>),
}

/// Held-out rows with similar outputs of a click model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bin {
    /// How many.
    pub(crate) rows: u64,
    /// Clicks among them.
    pub(crate) clicks: u64,
    /// Their mean predicted probability.
    pub(crate) predicted: f64,
}

/// Held-out rows of one rating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Star {
    /// The rating.
    pub(crate) stars: f64,
    /// How many rows have it.
    pub(crate) rows: u64,
    /// Mean of prediction minus rating.
    pub(crate) mean_error: f64,
    /// Root of the mean squared error.
    pub(crate) rmse: f64,
}

/// Reads the files of a run.
///
/// # Errors
/// When a file is not as `train` writes it, or the files contradict each other.
pub fn read(files: Files) -> Result<Run, Wrong> {
    let report = report(&files.report)?;
    let (steps, evaluations) = history(&files.history, report.steps)?;
    let timings = Timings::read(&files.timings, steps.len() as u64)?;
    let lives = files.lives.map(|lives| self::lives(&lives, steps.len() as u64)).transpose()?;
    let scores = files.scores.map(|scores| self::scores(&scores, &report.trained)).transpose()?;
    Ok(Run { name: files.name, report, steps, evaluations, timings, lives, scores })
}

fn report(json: &[u8]) -> Result<TrainReport, Wrong> {
    let wrong = |line, problem| Wrong { file: "report.json".to_owned(), line, problem };
    let report: TrainReport =
        serde_json::from_slice(json).map_err(|error| wrong(error.line().max(1) as u64, error.to_string()))?;
    if report.format != RUN_FORMAT || report.version != RUN_VERSION {
        let found = format!("{} {}", report.format, report.version);
        return Err(wrong(1, format!("the format is `{found}`, must be `{RUN_FORMAT} {RUN_VERSION}`")));
    }
    Ok(report)
}

/// The columns of every `history.csv`; those of click models have three more.
const HISTORY: &str = "step,epoch,seconds,loss,holdout_loss";
const CLICK_COLUMNS: [&str; 3] = ["holdout_auc", "holdout_normalised_entropy", "holdout_calibration"];

fn history(csv: &[u8], n_steps: u64) -> Result<(Vec<Step>, Vec<Evaluation>), Wrong> {
    let clicks = format!("{HISTORY},{}", CLICK_COLUMNS.join(","));
    let (mut lines, which) = Lines::open("history.csv", csv, &[HISTORY, &clicks])?;
    let (mut steps, mut evaluations) = (Vec::new(), Vec::new());
    for mut line in lines.by_ref() {
        let (step, epoch) = (line.whole("step")?, line.whole("epoch")?);
        if step != steps.len() as u64 {
            return Err(line.wrong(format!("`step` is {step}, must be {}: there is a line for each", steps.len())));
        }
        let (seconds, loss) = (line.amount("seconds")?, line.number("loss")?);
        steps.push(Step { epoch, seconds, loss });
        let holdout = line.optional("holdout_loss", Line::number)?;
        let mut quality = [None; 3];
        if which == 1 {
            for (figure, column) in quality.iter_mut().zip(CLICK_COLUMNS) {
                *figure = line.optional(column, Line::number)?;
            }
        }
        line.end()?;
        evaluations.extend(holdout.map(|loss| Evaluation { step, epoch, seconds, loss, quality }));
    }
    if steps.len() as u64 != n_steps {
        return Err(lines.wrong(format!("the file ends after {} steps, report.json has {n_steps}", steps.len())));
    }
    Ok((steps, evaluations))
}

fn lives(csv: &[u8], n_steps: u64) -> Result<Vec<Life>, Wrong> {
    let (lines, _) = Lines::open("lives.csv", csv, &["worker,incarnation,began_by,first_step,last_step"])?;
    let mut lives = Vec::new();
    for mut line in lines {
        let (worker, incarnation) = (line.small("worker")?, line.small("incarnation")?);
        let word = line.text("began_by")?;
        let began = Began::ALL.into_iter().find(|began| began.word().as_bytes() == word).ok_or_else(|| {
            let known = Began::ALL.map(Began::word).join("`, `");
            line.wrong(format!("`began_by` is `{}`, must be one of `{known}`", shown(word)))
        })?;
        let first = line.optional("first_step", Line::whole)?;
        let last = line.optional("last_step", Line::whole)?;
        line.end()?;
        let steps = match (first, last) {
            (None, None) => None,
            (Some(first), Some(last)) if first <= last && last < n_steps => Some((first, last)),
            (Some(first), Some(last)) => {
                let rule = format!("must be in order and below {n_steps}, the steps of history.csv");
                return Err(line.wrong(format!("`first_step` and `last_step` are {first} and {last}, {rule}")));
            }
            _ => return Err(line.wrong("`first_step` and `last_step` must both be there or both be empty".to_owned())),
        };
        lives.push(Life { worker, incarnation, began, steps });
    }
    lives.sort_by_key(|life| (life.worker, life.incarnation));
    Ok(lives)
}

fn scores(csv: &[u8], trained: &Trained) -> Result<Scores, Wrong> {
    match trained {
        Trained::Logistic { .. } => clicks(csv).map(Scores::Clicks),
        Trained::Pmf { .. } => stars(csv).map(Scores::Stars),
    }
}

fn clicks(csv: &[u8]) -> Result<Vec<Bin>, Wrong> {
    let (lines, _) = Lines::open("scores.csv", csv, &["rows,clicks,predicted"])?;
    let mut bins: Vec<Bin> = Vec::new();
    for mut line in lines {
        let (rows, clicks, predicted) = (line.whole("rows")?, line.whole("clicks")?, line.amount("predicted")?);
        line.end()?;
        if rows == 0 || clicks > rows {
            return Err(
                line.wrong(format!("`clicks` is {clicks} of {rows} `rows`, must be at most as many, and some rows"))
            );
        }
        if predicted > 1.0 {
            return Err(line.wrong(format!("`predicted` is {predicted}, must be a probability")));
        }
        // Means of neighbouring bins may be rounded past each other.
        if let Some(before) = bins.last().filter(|before| before.predicted > predicted + 1e-6) {
            let rule = format!("must not be less than {} in the line before", before.predicted);
            return Err(line.wrong(format!("`predicted` is {predicted}, {rule}")));
        }
        bins.push(Bin { rows, clicks, predicted });
    }
    Ok(bins)
}

fn stars(csv: &[u8]) -> Result<Vec<Star>, Wrong> {
    let (lines, _) = Lines::open("scores.csv", csv, &["stars,rows,mean_error,rmse"])?;
    let mut stars = Vec::new();
    for mut line in lines {
        let (value, rows) = (line.number("stars")?, line.whole("rows")?);
        let (mean_error, rmse) = (line.number("mean_error")?, line.amount("rmse")?);
        line.end()?;
        stars.push(Star { stars: value, rows, mean_error, rmse });
    }
    stars.sort_by(|a, b| a.stars.total_cmp(&b.stars));
    Ok(stars)
}
