//! The charts of a page: which there are for some runs, and in what order.

mod lives;
mod loss;
mod quality;
mod time;

use schemas::report::{TrainReport, Trained};

use crate::look::{Form, Ink, Look};
use crate::number::figure;
use crate::plot::{Figure, Key, Section};
use crate::run::Run;

/// A run and its place in the list, by which it is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Listed<'a> {
    /// The place.
    pub(crate) place: usize,
    /// The run.
    pub(crate) run: &'a Run,
    /// What it is called: nothing where it is the only one.
    pub(crate) of: &'a str,
}

impl Listed<'_> {
    /// The look of what is drawn of it.
    pub(crate) fn look(self, form: Form) -> Look {
        Look::new(Ink::Series(self.place), form).dashed((self.place / 8) as u8)
    }

    /// The name of a figure about this run alone.
    pub(crate) fn name(self, figure: &str) -> String {
        if self.of.is_empty() { figure.to_owned() } else { format!("{figure}-{}", self.place + 1) }
    }

    /// The heading of a figure about this run alone.
    pub(crate) fn title(self, title: &str) -> String {
        if self.of.is_empty() { title.to_owned() } else { format!("{title}: {}", self.of) }
    }

    /// What a cell says that names the run.
    pub(crate) fn cell(self) -> String {
        self.run.name.clone()
    }
}

/// All figures about some runs.
pub(crate) fn of(runs: &[Run]) -> Vec<Section> {
    let alone = runs.len() == 1;
    let listed: Vec<Listed<'_>> = (0..)
        .zip(runs)
        .map(|(place, run)| Listed { place, run, of: if alone { "" } else { run.name.as_str() } })
        .collect();
    let of_kind = |is: fn(&Trained) -> bool| -> Vec<Listed<'_>> {
        listed.iter().copied().filter(|listed| is(&listed.run.report.trained)).collect()
    };
    let kinds = [of_kind(|t| matches!(t, Trained::Pmf { .. })), of_kind(|t| matches!(t, Trained::Logistic { .. }))];
    let of_kinds = |make: fn(&[Listed<'_>]) -> Vec<Figure>| -> Vec<Figure> {
        kinds.iter().filter(|runs| !runs.is_empty()).flat_map(|runs| make(runs)).collect()
    };
    let sections = [
        ("loss", "Loss", of_kinds(loss::figures)),
        ("held-out-rows", "On held-out rows", of_kinds(quality::figures)),
        ("time", "Where time went", time::figures(&listed)),
        ("workers", "Workers", lives::figures(&listed)),
    ];
    let sections = sections.into_iter().filter(|(_, _, figures)| !figures.is_empty());
    sections.map(|(name, title, figures)| Section { name: name.to_owned(), title: title.to_owned(), figures }).collect()
}

/// Keys of several runs: none for one alone.
fn keys_of_runs(runs: &[Listed<'_>], form: Form, marked: bool) -> Vec<Key> {
    let many = runs.iter().filter(|listed| !listed.of.is_empty());
    let marker = |listed: &Listed<'_>| marked.then_some(crate::plot::Marker::nth(listed.place));
    let key =
        |listed: &Listed<'_>| Key { look: listed.look(form), marker: marker(listed), text: listed.run.name.clone() };
    many.map(key).collect()
}

/// What the loss of a kind of model is.
pub(crate) const fn loss_name(trained: &Trained) -> &'static str {
    match trained {
        Trained::Pmf { .. } => "RMSE",
        Trained::Logistic { .. } => "log loss",
    }
}

/// Its unit.
pub(crate) const fn loss_unit(trained: &Trained) -> &'static str {
    match trained {
        Trained::Pmf { .. } => "stars",
        Trained::Logistic { .. } => "nats",
    }
}

/// Predictors that a model must beat, and their loss.
pub(crate) fn baselines(trained: &Trained) -> Vec<(&'static str, f64)> {
    match trained {
        Trained::Pmf { baselines, .. } => {
            vec![("always the mean", baselines.mean), ("user and movie effects", baselines.effects)]
        }
        Trained::Logistic { base_log_loss, .. } => vec![("always the share of clicks", *base_log_loss)],
    }
}

/// How good a model is, in words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// What the loss is of: `Held-out RMSE`.
    pub(crate) of: String,
    /// The loss.
    pub(crate) loss: f64,
    /// How it compares with the best baseline.
    pub(crate) words: String,
    /// Whether it is better than that.
    pub(crate) better: bool,
}

/// How good the model of a run is; nothing when no loss is known.
pub(crate) fn verdict(report: &TrainReport) -> Option<Verdict> {
    let trained = &report.trained;
    let held_out = trained.holdout_loss().map(|loss| (loss, format!("Held-out {}", loss_name(trained))));
    let on_training =
        || trained.train_loss().map(|loss| (loss, format!("Training {}, none held out", loss_name(trained))));
    let (loss, of) = held_out.or_else(on_training)?;
    let (name, base) = baselines(trained).into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let share = ((base - loss) / base).abs();
    let better = loss < base;
    let words = match () {
        () if better => format!("{} better than {name} ({})", crate::number::percent(share), figure(base)),
        () if loss == base => format!("NO BETTER than {name} ({})", figure(base)),
        () => format!("{} WORSE than {name} ({})", crate::number::percent(share), figure(base)),
    };
    Some(Verdict { of, loss, words, better })
}
