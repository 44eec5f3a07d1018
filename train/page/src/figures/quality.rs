//! The kept model on the held-out rows: measures by epoch, calibration and ROC curve of click models, errors by rating of the others.

use super::{Listed, keys_of_runs};
use crate::look::{Form, Ink, Look};
use crate::number::{Scale, count, figure, significant};
use crate::plot::{Axis, Figure, Key, Mark, Marker, Plot, Room, Table};
use crate::run::{Bin, Scores, Star};
use schemas::report::Trained;

/// A reliability diagram has so many points at most, of about equally many rows.
const GROUPS_MAX: usize = 20;

/// The figures of runs of one kind of model.
pub(super) fn figures(runs: &[Listed<'_>]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let is_scored = |listed: &Listed<'_>| match &listed.run.scores {
        Some(Scores::Clicks(bins)) => !bins.is_empty(),
        Some(Scores::Stars(stars)) => !stars.is_empty(),
        None => false,
    };
    let scored: Vec<Listed<'_>> = runs.iter().copied().filter(is_scored).collect();
    match scored.first().map(|listed| &listed.run.report.trained) {
        Some(Trained::Logistic { .. }) => figures.extend([calibration(&scored), roc(&scored)]),
        Some(Trained::Pmf { .. }) => figures.push(by_rating(&scored)),
        None => {}
    }
    figures.extend(MEASURES.iter().filter_map(|measure| by_epoch(runs, measure)));
    figures
}

/// A measure of click models after each epoch.
struct Measure {
    place: usize,
    name: &'static str,
    title: &'static str,
    means: &'static str,
    level: Option<(f64, &'static str)>,
}

const MEASURES: [Measure; 3] = [
    Measure {
        place: 0,
        name: "auc-by-epoch",
        title: "AUC by epoch",
        means: "The chance that a click scores higher than another row: 0.5 is guessing, 1 is perfect.",
        level: None,
    },
    Measure {
        place: 1,
        name: "normalised-entropy-by-epoch",
        title: "Normalised entropy by epoch",
        means: "Log loss divided by that of always predicting the held-out share of clicks: below 1 something was learnt.",
        level: None,
    },
    Measure {
        place: 2,
        name: "calibration-by-epoch",
        title: "Calibration by epoch",
        means: "Mean predicted probability divided by the share of clicks: 1 is right, above 1 too many clicks are predicted.",
        level: Some((1.0, "as many as there are")),
    },
];

fn by_epoch(runs: &[Listed<'_>], measure: &Measure) -> Option<Figure> {
    let alone = runs[0].of.is_empty();
    let mut marks: Vec<Mark> = Vec::new();
    let mut table = Table::new(&["Epoch", "Value"]);
    if !alone {
        table.head.insert(0, "Run".to_owned());
    }
    let mut measured = Vec::new();
    for listed in runs {
        let values =
            listed.run.evaluations.iter().filter_map(|e| Some((e.epoch as f64 + 1.0, e.quality[measure.place]?)));
        let points: Vec<(f64, f64)> = values.collect();
        if points.is_empty() {
            continue;
        }
        for (epoch, value) in &points {
            let row = [count(*epoch as u64), significant(*value, 6)];
            table.push((!alone).then(|| listed.cell()).into_iter().chain(row));
        }
        marks.push(Mark::Line(listed.look(Form::Line), points.clone()));
        marks.push(Mark::Points(listed.look(Form::Solid), Marker::nth(listed.place), points));
        measured.push(*listed);
    }
    measured.first()?;
    if let Some((value, text)) = measure.level {
        marks.insert(0, Mark::Level(Look::new(Ink::Muted, Form::Thin).dashed(1), value, text.to_owned()));
    }
    let last = measured.iter().flat_map(|listed| &listed.run.evaluations).map(|e| e.epoch as f64 + 1.0);
    let plot = Plot {
        x: Axis::from_zero("epochs", Scale::Whole, last),
        y: Axis::around("", marks.iter().flat_map(Mark::heights)),
        marks,
        keys: keys_of_runs(&measured, Form::Line, true),
    };
    let now = measured.first().filter(|_| alone).and_then(|listed| {
        let kept = listed.run.evaluations.iter().find(|e| listed.run.report.model_epoch == Some(e.epoch))?;
        Some(format!(" The kept model has {}.", figure(kept.quality[measure.place]?)))
    });
    Some(Figure {
        name: measure.name.to_owned(),
        title: measure.title.to_owned(),
        caption: format!("{}{}", measure.means, now.unwrap_or_default()),
        plot,
        room: Room::Half,
        table,
    })
}

/// Neighbouring bins together, so that at most `n_max` groups have about equally many rows.
fn groups(bins: &[Bin], n_max: usize) -> Vec<Bin> {
    let all: u64 = bins.iter().fold(0, |sum, bin| sum.saturating_add(bin.rows));
    let mut groups: Vec<Bin> = Vec::new();
    let mut before = 0_u64;
    let mut group_of_last = None;
    for bin in bins {
        // The group is that of the bin's middle row.
        let middle = before as f64 + bin.rows as f64 / 2.0;
        let group = (middle / all as f64 * n_max as f64) as usize;
        before = before.saturating_add(bin.rows);
        match groups.last_mut().filter(|_| group_of_last == Some(group)) {
            Some(last) => {
                let rows = last.rows.saturating_add(bin.rows);
                last.predicted += (bin.predicted - last.predicted) * (bin.rows as f64 / rows as f64);
                last.rows = rows;
                last.clicks = last.clicks.saturating_add(bin.clicks);
            }
            None => groups.push(*bin),
        }
        group_of_last = Some(group);
    }
    groups
}

/// The share of clicks, and where it lies with 95 % confidence (Wilson's interval).
fn share(bin: &Bin) -> (f64, f64, f64) {
    let (n, p) = (bin.rows as f64, bin.clicks as f64 / bin.rows as f64);
    let z2 = 1.96_f64.powi(2);
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = 1.96 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    (p, (middle - half).clamp(0.0, p), (middle + half).clamp(p, 1.0))
}

fn bins_of<'a>(listed: &Listed<'a>) -> &'a [Bin] {
    match &listed.run.scores {
        Some(Scores::Clicks(bins)) => bins,
        _ => &[],
    }
}

fn calibration(runs: &[Listed<'_>]) -> Figure {
    let alone = runs[0].of.is_empty();
    let mut marks = Vec::new();
    let mut table = Table::new(&["Rows", "Predicted", "Clicked", "From", "To"]);
    if !alone {
        table.head.insert(0, "Run".to_owned());
    }
    let mut most: f64 = 0.0;
    let mut together = 1;
    for listed in runs {
        let bins = bins_of(listed);
        let groups = groups(bins, GROUPS_MAX);
        together = together.max(bins.len().div_ceil(groups.len().max(1)));
        let line: Vec<(f64, f64)> = groups.iter().map(|group| (group.predicted, share(group).0)).collect();
        for group in &groups {
            let (clicked, from, to) = share(group);
            most = most.max(group.predicted).max(to);
            let bar = vec![(group.predicted, from), (group.predicted, to)];
            marks.push(Mark::Line(Look::new(listed.look(Form::Thin).ink, Form::Thin), bar));
            let numbers = [group.predicted, clicked, from, to].map(|value| significant(value, 4));
            let row = std::iter::once(count(group.rows)).chain(numbers);
            table.push((!alone).then(|| listed.cell()).into_iter().chain(row));
        }
        if !alone {
            marks.push(Mark::Line(listed.look(Form::Line), line.clone()));
        }
        marks.push(Mark::Points(Look::new(listed.look(Form::Solid).ink, Form::Solid), Marker::nth(listed.place), line));
    }
    let axis = |label: &str| Axis::from_zero(label, Scale::Plain, std::iter::once((most * 1.04).min(1.0)));
    let (x, y) = (axis("predicted probability"), axis("share that was clicked"));
    marks.insert(0, Mark::Line(Look::new(Ink::Muted, Form::Thin).dashed(1), vec![(0.0, 0.0), (x.to, x.to)]));
    let mut keys = keys_of_runs(runs, Form::Line, true);
    if alone {
        let look = Look::new(Ink::Series(0), Form::Solid);
        keys.push(Key { look, marker: Some(Marker::Disc), text: "held-out rows".to_owned() });
    }
    let look = Look::new(Ink::Muted, Form::Thin).dashed(1);
    keys.push(Key { look, marker: None, text: "as predicted".to_owned() });
    let caption = format!(
        "Held-out rows in groups of similar scores: what was predicted of them, and what share was clicked, with the range that \
         holds it 95 times in 100. Points on the diagonal are as predicted; below it, too many clicks are predicted. A point is \
         about {} of {} bins of scores.",
        together,
        count(runs.iter().map(|listed| bins_of(listed).len()).max().unwrap_or_default() as u64)
    );
    Figure {
        name: "reliability".to_owned(),
        title: "Predicted and real clicks".to_owned(),
        caption,
        plot: Plot { x, y, marks, keys },
        room: Room::Square,
        table,
    }
}

/// Shares of other rows and of clicks above each score, from the highest on.
fn curve(bins: &[Bin]) -> Vec<(f64, f64)> {
    let clicks: f64 = bins.iter().map(|bin| bin.clicks as f64).sum();
    let others: f64 = bins.iter().map(|bin| (bin.rows - bin.clicks) as f64).sum();
    let (mut above, mut clicked) = (0.0, 0.0);
    let mut curve = vec![(0.0, 0.0)];
    for bin in bins.iter().rev() {
        clicked += bin.clicks as f64;
        above += (bin.rows - bin.clicks) as f64;
        curve.push((above / others.max(1.0), clicked / clicks.max(1.0)));
    }
    curve
}

fn roc(runs: &[Listed<'_>]) -> Figure {
    let alone = runs[0].of.is_empty();
    let mut table = Table::new(&["Other rows above", "Clicks above"]);
    if !alone {
        table.head.insert(0, "Run".to_owned());
    }
    let mut marks = vec![Mark::Line(Look::new(Ink::Muted, Form::Thin).dashed(1), vec![(0.0, 0.0), (1.0, 1.0)])];
    let mut keys = Vec::new();
    let mut areas = Vec::new();
    for listed in runs {
        let curve = curve(bins_of(listed));
        // A score's bins are fine; a table of a hundred rows says as much.
        let every = curve.len().div_ceil(100).max(1);
        let last = curve.len() - 1;
        for (_, (others, clicks)) in curve.iter().enumerate().filter(|(n, _)| n % every == 0 || *n == last) {
            let row = [others, clicks].map(|share| significant(*share, 4));
            table.push((!alone).then(|| listed.cell()).into_iter().chain(row));
        }
        let auc = match &listed.run.report.trained {
            Trained::Logistic { holdout, .. } => holdout.and_then(|quality| quality.auc),
            Trained::Pmf { .. } => None,
        };
        let area = auc.map_or("no AUC".to_owned(), |auc| format!("AUC {}", figure(auc)));
        let text = if alone { area.clone() } else { format!("{}, {area}", listed.run.name) };
        keys.push(Key { look: listed.look(Form::Line), marker: None, text });
        areas.push(area);
        marks.push(Mark::Line(listed.look(Form::Line), curve));
    }
    let look = Look::new(Ink::Muted, Form::Thin).dashed(1);
    keys.push(Key { look, marker: None, text: "guessing, AUC 0.5".to_owned() });
    let axis = |label: &str| Axis::from_zero(label, Scale::Plain, std::iter::once(1.0));
    let with = if alone { format!(" The area below the curve is the {}.", areas[0]) } else { String::new() };
    Figure {
        name: "roc".to_owned(),
        title: "ROC curve".to_owned(),
        caption: format!(
            "The share of clicks that score above a threshold, against the share of other held-out rows that do, for every \
             threshold.{with}"
        ),
        plot: Plot { x: axis("share of other rows above"), y: axis("share of clicks above"), marks, keys },
        room: Room::Square,
        table,
    }
}

fn stars_of<'a>(listed: &Listed<'a>) -> &'a [Star] {
    match &listed.run.scores {
        Some(Scores::Stars(stars)) => stars,
        _ => &[],
    }
}

fn by_rating(runs: &[Listed<'_>]) -> Figure {
    let alone = runs[0].of.is_empty();
    let mut marks = vec![Mark::Line(Look::new(Ink::Muted, Form::Hair), Vec::new())];
    let mut table = Table::new(&["Rating", "Rows", "Mean error", "RMSE"]);
    if !alone {
        table.head.insert(0, "Run".to_owned());
    }
    let mut keys = keys_of_runs(runs, Form::Line, true);
    let second = if alone { Ink::Series(1) } else { Ink::Muted };
    for listed in runs {
        let stars = stars_of(listed);
        for star in stars {
            let row = [
                significant(star.stars, 3),
                count(star.rows),
                significant(star.mean_error, 4),
                significant(star.rmse, 4),
            ];
            table.push((!alone).then(|| listed.cell()).into_iter().chain(row));
        }
        let line =
            |of: fn(&Star) -> f64| -> Vec<(f64, f64)> { stars.iter().map(|star| (star.stars, of(star))).collect() };
        let marker = Marker::nth(listed.place);
        let mean =
            if alone { Look::new(second, Form::Line) } else { Look::new(listed.look(Form::Line).ink, Form::Line) };
        for (look, marker, points) in [
            (listed.look(Form::Line), marker, line(|star| star.rmse)),
            (mean.dashed(1), if alone { Marker::Square } else { marker }, line(|star| star.mean_error)),
        ] {
            marks.push(Mark::Line(look, points.clone()));
            marks.push(Mark::Points(Look::new(look.ink, Form::Solid), marker, points));
        }
    }
    let ratings: Vec<f64> = runs.iter().flat_map(|listed| stars_of(listed)).map(|star| star.stars).collect();
    let mut x = Axis::around("rating in stars", ratings.iter().copied());
    x.scale = Scale::Plain;
    marks[0] = Mark::Line(Look::new(Ink::Muted, Form::Hair), vec![(x.from, 0.0), (x.to, 0.0)]);
    let y = Axis { scale: Scale::Plain, ..Axis::around("error in stars", marks.iter().flat_map(Mark::heights)) };
    let leans = |stars: &[Star]| {
        stars.first().is_some_and(|star| star.mean_error > 0.0)
            && stars.last().is_some_and(|star| star.mean_error < 0.0)
    };
    let leaning = runs.iter().all(|listed| leans(stars_of(listed)));
    let first = if alone { Ink::Series(0) } else { Ink::Muted };
    let marker = |marker| alone.then_some(marker);
    keys.push(Key { look: Look::new(first, Form::Line), marker: marker(Marker::Disc), text: "RMSE".to_owned() });
    let look = Look::new(second, Form::Line).dashed(1);
    keys.push(Key { look, marker: marker(Marker::Square), text: "mean error".to_owned() });
    Figure {
        name: "error-by-rating".to_owned(),
        title: "Error by rating".to_owned(),
        caption: format!(
            "How far predictions are off on held-out rows of each rating: RMSE, and the mean of prediction minus rating, which is \
             above zero where too many stars are predicted.{}",
            if leaning {
                " Predictions lean to the middle: the lowest ratings are predicted too high, the highest too low."
            } else {
                ""
            }
        ),
        plot: Plot { x, y, marks, keys },
        room: Room::Full,
        table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(rows: u64, clicks: u64, predicted: f64) -> Bin {
        Bin { rows, clicks, predicted }
    }

    #[test]
    fn groups_have_equally_many_rows() {
        let bins = [bin(1, 0, 0.1), bin(1, 0, 0.2), bin(2, 1, 0.3), bin(4, 4, 0.9)];
        let found = groups(&bins, 2);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].rows, found[0].clicks, found[1]), (4, 1, bin(4, 4, 0.9)));
        assert!((found[0].predicted - 0.225).abs() < 1e-12);
        assert_eq!(groups(&bins[..1], 20), bins[..1]);
    }

    /// 1 of 10: Wilson's interval by R's `binom::binom.confint(1, 10, methods = "wilson")` is 0.0179 to 0.4042.
    #[test]
    fn intervals_are_wilson_s() {
        let (p, from, to) = share(&bin(10, 1, 0.5));
        assert!((p - 0.1).abs() < 1e-12 && (from - 0.0179).abs() < 1e-3 && (to - 0.4042).abs() < 1e-3, "{from} {to}");
        assert_eq!(share(&bin(5, 0, 0.5)).1, 0.0);
        assert_eq!(share(&bin(5, 5, 0.5)).2, 1.0);
    }

    /// Scores 0.9 (click), 0.8 (none), 0.4 (click), 0.1 (none): three of the four pairs are in order, so the area is 0.75.
    #[test]
    fn the_curve_goes_from_the_highest_score_on() {
        let curve = curve(&[bin(1, 0, 0.1), bin(1, 1, 0.4), bin(1, 0, 0.8), bin(1, 1, 0.9)]);
        assert_eq!(curve, [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        let area: f64 = curve.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
        assert_eq!(area, 0.75);
    }
}
