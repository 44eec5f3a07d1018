//! How the loss fell: over time, over steps, and after each epoch on held-out rows.

use super::{Listed, baselines, keys_of_runs, loss_name, loss_unit};
use crate::look::{Form, Ink, Look};
use crate::number::{Scale, count, figure, seconds, significant, some};
use crate::plot::{Axis, Figure, Key, Mark, Marker, Plot, Room, Table};
use crate::run::Run;
use crate::thin::{Bucket, thin};

/// A line of training losses has so many buckets at most, each with a smallest and a largest value.
const BUCKETS_MAX: usize = 300;

/// The figures of runs of one kind of model.
pub(super) fn figures(runs: &[Listed<'_>]) -> Vec<Figure> {
    let mut figures = vec![losses(runs, By::Time), losses(runs, By::Step)];
    figures.extend(by_epoch(runs));
    figures
}

/// What losses are shown over.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Time,
    Step,
}

impl By {
    /// Where a step ends.
    fn at(self, run: &Run, step: usize) -> f64 {
        match self {
            Self::Time => run.steps[step].seconds,
            Self::Step => step as f64 + 1.0,
        }
    }
}

fn losses(runs: &[Listed<'_>], by: By) -> Figure {
    let trained = &runs[0].run.report.trained;
    let alone = runs[0].of.is_empty();
    let (name, unit) = (loss_name(trained), loss_unit(trained));
    let mut marks = Vec::new();
    let mut lines = Vec::new();
    let mut table = Table::new(&["Steps", "Seconds", "Smallest", "Mean", "Largest", "Held out"]);
    let mut widest = 1;
    for listed in runs {
        let run = listed.run;
        let buckets = thin(run.steps.iter().map(|step| step.loss), BUCKETS_MAX);
        let width = buckets.first().map_or(1, |bucket| bucket.last - bucket.first + 1);
        widest = widest.max(width);
        let x = |bucket: &Bucket| (by.at(run, bucket.first) + by.at(run, bucket.last)) / 2.0;
        let ink = if alone { Ink::Series(6) } else { Ink::Series(listed.place) };
        if width > 1 {
            let band = buckets.iter().map(|bucket| (x(bucket), bucket.min, bucket.max)).collect();
            marks.push(Mark::Area(Look::new(ink, Form::Band), band));
        }
        let look = if alone { Look::new(ink, Form::Thin) } else { listed.look(Form::Faint) };
        lines.push(Mark::Line(look, buckets.iter().map(|bucket| (x(bucket), bucket.mean)).collect()));
        lines.extend(held_out(listed, alone, run.evaluations.iter().map(|e| (by.at(run, e.step as usize), e.loss))));
        rows(listed, &buckets, &mut table);
    }
    marks.extend(levels(runs));
    marks.extend(lines);

    let mut keys = keys_of_runs(runs, Form::Line, true);
    let training = if widest > 1 { "training, mean" } else { "training" };
    if alone {
        let grey = Ink::Series(6);
        keys.push(Key { look: Look::new(grey, Form::Thin), marker: None, text: training.to_owned() });
        if widest > 1 {
            let text = "training, smallest to largest".to_owned();
            keys.push(Key { look: Look::new(grey, Form::Band), marker: None, text });
        }
        if !runs[0].run.evaluations.is_empty() {
            let look = Look::new(Ink::Series(0), Form::Line);
            keys.push(Key { look, marker: Some(Marker::Disc), text: "held out".to_owned() });
        }
    } else {
        let look = Look::new(Ink::Muted, Form::Faint);
        keys.push(Key { look, marker: None, text: training.to_owned() });
    }
    let x = match by {
        By::Time => {
            let ends = runs.iter().filter_map(|listed| listed.run.steps.last()).map(|step| step.seconds);
            Axis::from_zero("time since the start", Scale::Seconds, ends)
        }
        By::Step => Axis::from_zero("steps", Scale::Whole, runs.iter().map(|listed| listed.run.steps.len() as f64)),
    };
    let y = Axis::around(&format!("{name} in {unit}"), marks.iter().flat_map(Mark::heights));
    let over = if by == By::Time { "time" } else { "steps" };
    let mut caption = fell(runs, name, by);
    if widest > 1 {
        caption += &format!(
            " Each point of the training line is {} steps: their mean, and a band from the smallest to the largest.",
            count(widest as u64)
        );
    }
    if y.scale == Scale::Log {
        caption += " The loss is on a logarithmic scale.";
    }
    Figure {
        name: format!("{}-over-{over}", slug(name)),
        title: format!("{} over {over}", capital(name)),
        caption,
        plot: Plot { x, y, marks, keys },
        room: if by == By::Time { Room::Full } else { Room::Half },
        table,
    }
}

/// A line with markers through held-out losses.
fn held_out(listed: &Listed<'_>, alone: bool, points: impl Iterator<Item = (f64, f64)>) -> Vec<Mark> {
    let points: Vec<(f64, f64)> = points.collect();
    let look = if alone { Look::new(Ink::Series(0), Form::Line) } else { listed.look(Form::Line) };
    let marker = if alone { Marker::Disc } else { Marker::nth(listed.place) };
    // Markers are for telling lines apart: some are enough.
    let every = points.len().div_ceil(40).max(1);
    let last = points.len().saturating_sub(1);
    let marked = points.iter().enumerate().filter(|(n, _)| n % every == 0 || *n == last).map(|(_, point)| *point);
    let marked = Mark::Points(Look::new(look.ink, Form::Solid), marker, marked.collect());
    if points.is_empty() { Vec::new() } else { vec![Mark::Line(look, points), marked] }
}

/// The baselines of the runs, each once; with the names of runs where these differ.
fn levels(runs: &[Listed<'_>]) -> Vec<Mark> {
    let mut found: Vec<(&str, f64, Vec<&Listed<'_>>)> = Vec::new();
    for listed in runs {
        for (name, value) in baselines(&listed.run.report.trained) {
            match found.iter_mut().find(|(known, at, _)| *known == name && *at == value) {
                Some((_, _, with)) => with.push(listed),
                None => found.push((name, value, vec![listed])),
            }
        }
    }
    let level = |(name, value, with): (&str, f64, Vec<&Listed<'_>>)| {
        let same = with.len() == runs.len();
        let whose = match &with[..] {
            _ if same => String::new(),
            [one] => format!(", {}", one.run.name),
            [first, others @ ..] => format!(", {} and {} more", first.run.name, others.len()),
            [] => String::new(),
        };
        let ink = if same { Ink::Muted } else { Ink::Series(with[0].place) };
        Mark::Level(Look::new(ink, Form::Thin).dashed(1), value, format!("{name}{whose} {}", figure(value)))
    };
    found.into_iter().map(level).collect()
}

/// The numbers of a run: a row a bucket, with the last evaluation in it.
fn rows(listed: &Listed<'_>, buckets: &[Bucket], table: &mut Table) {
    let run = listed.run;
    if !listed.of.is_empty() && table.head[0] != "Run" {
        table.head.insert(0, "Run".to_owned());
    }
    for bucket in buckets {
        let evaluation =
            run.evaluations.iter().rev().find(|e| (bucket.first as u64..=bucket.last as u64).contains(&e.step));
        let steps = if bucket.first == bucket.last {
            count(bucket.first as u64 + 1)
        } else {
            format!("{} to {}", count(bucket.first as u64 + 1), count(bucket.last as u64 + 1))
        };
        let numbers = [
            steps,
            significant(run.steps[bucket.last].seconds, 5),
            significant(bucket.min, 6),
            significant(bucket.mean, 6),
            significant(bucket.max, 6),
            evaluation.map_or(String::new(), |e| significant(e.loss, 6)),
        ];
        let of = (!listed.of.is_empty()).then(|| listed.cell());
        table.push(of.into_iter().chain(numbers));
    }
}

/// How the loss fell, in words.
fn fell(runs: &[Listed<'_>], name: &str, by: By) -> String {
    let [Listed { run, of: "", .. }] = runs else {
        let over = if by == By::Time { "time" } else { "steps" };
        return format!(
            "The {name} of {} over {over}: lines with marks on held-out rows, thin ones on the training rows \
             of each step, dashed ones across what simple predictors reach.",
            some(runs.len() as u64, "run")
        );
    };
    let place = |step: u64, at: f64| match by {
        By::Time => format!("after {}", seconds(at)),
        By::Step => format!("after step {}", count(step + 1)),
    };
    let best = run.evaluations.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    let mut caption = match (run.evaluations.first(), best) {
        (Some(first), Some(best)) if best.loss < first.loss => format!(
            "The held-out {name} falls from {} {} to {} {}.",
            figure(first.loss),
            place(first.step, first.seconds),
            figure(best.loss),
            place(best.step, best.seconds)
        ),
        (Some(first), _) => {
            format!(
                "The held-out {name} is {} {} and not better later.",
                figure(first.loss),
                place(first.step, first.seconds)
            )
        }
        (None, _) => match (run.steps.first(), run.steps.last()) {
            (Some(first), Some(last)) => format!(
                "No rows are held out. The {name} of a step's training rows goes from {} to {}.",
                figure(first.loss),
                figure(last.loss)
            ),
            _ => "There was no step.".to_owned(),
        },
    };
    caption += match baselines(&run.report.trained).len() {
        1 => " The dashed line across is what the simplest predictor reaches.",
        _ => " Dashed lines across are what simple predictors reach.",
    };
    caption
}

/// The held-out loss after each epoch, and which epoch's model was kept.
fn by_epoch(runs: &[Listed<'_>]) -> Option<Figure> {
    let trained = &runs[0].run.report.trained;
    let alone = runs[0].of.is_empty();
    let name = loss_name(trained);
    let measured: Vec<Listed<'_>> = runs.iter().copied().filter(|listed| !listed.run.evaluations.is_empty()).collect();
    measured.first()?;
    let mut marks = Vec::new();
    let mut table = Table::new(&["Epoch", "Steps", "Seconds", "Held out", "Kept"]);
    if !alone {
        table.head.insert(0, "Run".to_owned());
    }
    let mut kept = Vec::new();
    for listed in &measured {
        let run = listed.run;
        marks.extend(held_out(listed, alone, run.evaluations.iter().map(|e| (e.epoch as f64 + 1.0, e.loss))));
        for e in &run.evaluations {
            let is_kept = run.report.model_epoch == Some(e.epoch);
            kept.extend(is_kept.then_some((e.epoch as f64 + 1.0, e.loss)));
            let numbers = [
                count(e.epoch + 1),
                count(e.step + 1),
                significant(e.seconds, 5),
                significant(e.loss, 6),
                if is_kept { "kept".to_owned() } else { String::new() },
            ];
            table.push((!alone).then(|| listed.cell()).into_iter().chain(numbers));
        }
    }
    let epochs: Vec<f64> = kept.iter().map(|(epoch, _)| *epoch).collect();
    marks.push(Mark::Points(Look::new(Ink::Text, Form::Solid), Marker::Diamond, kept));
    let last = measured.iter().flat_map(|listed| &listed.run.evaluations).map(|e| e.epoch as f64 + 1.0);
    let x = Axis::from_zero("epochs", Scale::Whole, last);
    let y = Axis::around(&format!("{name} in {}", loss_unit(trained)), marks.iter().flat_map(Mark::heights));
    let caption = match (alone, &epochs[..]) {
        (true, [epoch]) => format!(
            "The held-out {name} after each epoch. The model of epoch {} is the best and was kept (the diamond).",
            count(*epoch as u64)
        ),
        _ => format!("The held-out {name} after each epoch; diamonds are the models that were kept."),
    };
    let mut keys = keys_of_runs(&measured, Form::Line, true);
    if alone {
        let look = Look::new(Ink::Series(0), Form::Line);
        keys.push(Key { look, marker: Some(Marker::Disc), text: "held out".to_owned() });
    }
    let look = Look::new(Ink::Text, Form::Solid);
    keys.push(Key { look, marker: Some(Marker::Diamond), text: "the model that was kept".to_owned() });
    Some(Figure {
        name: format!("{}-by-epoch", slug(name)),
        title: format!("Held-out {name} by epoch"),
        caption,
        plot: Plot { x, y, marks, keys },
        room: Room::Half,
        table,
    })
}

/// A name as part of a file's name.
fn slug(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

/// With a capital letter at the beginning.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
