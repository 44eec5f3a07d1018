//! Where time went: by phase, over the steps and worker by worker; and what the workers sent each other.

use super::Listed;
use crate::look::{Form, Ink, Look};
use crate::number::{Scale, bytes, count, percent, seconds, significant, some};
use crate::plot::{Axis, Figure, Key, Mark, Plot, Room, Table};
use crate::run::Run;
use crate::thin::thin;
use crate::timings::{PHASES, Spent};

/// A line of bytes has so many buckets at most.
const BUCKETS_MAX: usize = 300;

/// The colour and form of each phase: neighbours differ in both.
const LOOKS: [(usize, Form); PHASES.len()] = [
    (6, Form::Dotted),
    (0, Form::Solid),
    (4, Form::Rising),
    (1, Form::Falling),
    (3, Form::Rising),
    (2, Form::Solid),
    (5, Form::Dotted),
];

/// The figures of all runs.
pub(super) fn figures(runs: &[Listed<'_>]) -> Vec<Figure> {
    let timed: Vec<Listed<'_>> = runs.iter().copied().filter(|listed| !listed.run.timings.workers.is_empty()).collect();
    let mut figures = Vec::new();
    if timed.len() > 1 {
        figures.push(by_run(&timed));
    }
    for listed in &timed {
        figures.push(over_steps(*listed));
        figures.push(by_worker(*listed));
    }
    figures.extend(traffic(&timed));
    figures
}

fn look(phase: usize) -> Look {
    let (ink, form) = LOOKS[phase];
    Look::new(Ink::Series(ink), form)
}

/// Keys of the phases that took any time.
fn keys(total: &Spent) -> Vec<Key> {
    let taken = (0..PHASES.len()).filter(|phase| total.phases[*phase] > 0);
    taken.map(|phase| Key { look: look(phase), marker: None, text: PHASES[phase].to_owned() }).collect()
}

/// The two phases that took most, as shares of all.
fn most(spent: &Spent) -> String {
    let mut phases: Vec<(u64, &str)> = spent.phases.into_iter().zip(PHASES).collect();
    phases.sort_by_key(|(us, _)| std::cmp::Reverse(*us));
    let total = spent.total().max(1) as f64;
    let part = |(us, name): (u64, &str)| format!("{} for {name}", percent(us as f64 / total));
    if phases[1].0 == 0 { part(phases[0]) } else { format!("{} and {}", part(phases[0]), part(phases[1])) }
}

/// Microseconds as seconds.
fn from_us(us: u64) -> f64 {
    us as f64 / 1e6
}

/// A row's numbers: seconds of each phase, and of what happens in the background.
fn columns(spent: &Spent) -> Vec<String> {
    let all = spent.phases.into_iter().chain([spent.fetch, spent.decode]);
    all.map(|us| significant(from_us(us), 4)).collect()
}

/// The head of a table with [`columns`].
fn head(first: &[&str]) -> Table {
    let mut table = Table::new(first);
    table.head.extend(PHASES.map(|phase| format!("{phase}, s")));
    table.head.extend(["reading ahead, s", "decoding ahead, s"].map(str::to_owned));
    table
}

/// Bars one below the other, each of the phases one after the other.
fn bars(rows: &[(String, Spent)]) -> (Vec<Mark>, Axis, Axis) {
    let mut marks = Vec::new();
    for (place, (_, spent)) in rows.iter().enumerate() {
        let mut from = 0.0;
        for (phase, us) in spent.phases.into_iter().enumerate().filter(|(_, us)| *us > 0) {
            let to = from + from_us(us);
            marks.push(Mark::Bar(look(phase), (from, place as f64 - 0.36), (to, place as f64 + 0.36)));
            from = to;
        }
    }
    let ends = rows.iter().map(|(_, spent)| from_us(spent.total()));
    let x = Axis::from_zero("time", Scale::Seconds, ends);
    (marks, x, Axis::of_names(rows.iter().map(|(name, _)| name.clone()).collect()))
}

/// A bar for each run: the mean of its workers.
fn by_run(runs: &[Listed<'_>]) -> Figure {
    let mean = |listed: &Listed<'_>| {
        let (mut spent, n) = (listed.run.timings.total(), listed.run.timings.workers.len() as u64);
        spent.phases = spent.phases.map(|us| us / n);
        (spent.fetch, spent.decode) = (spent.fetch / n, spent.decode / n);
        (listed.run.name.clone(), spent)
    };
    let rows: Vec<(String, Spent)> = runs.iter().map(mean).collect();
    let mut total = Spent::default();
    let mut table = head(&["Run", "Workers"]);
    for (listed, (name, spent)) in runs.iter().zip(&rows) {
        total.add(spent);
        let workers = count(listed.run.timings.workers.len() as u64);
        table.push([name.clone(), workers].into_iter().chain(columns(spent)));
    }
    let (marks, x, y) = bars(&rows);
    Figure {
        name: "time-by-run".to_owned(),
        title: "Time of a worker, by run".to_owned(),
        caption: "Where the time of the steps went in each run, as the mean of its workers. Mini-batches are read and decoded in \
                  the background, which is not part of the bars."
            .to_owned(),
        plot: Plot { x, y, marks, keys: keys(&total) },
        room: Room::Full,
        table,
    }
}

/// The mean step of a worker over the course of the run.
fn over_steps(listed: Listed<'_>) -> Figure {
    let timings = &listed.run.timings;
    let total = timings.total();
    let n_steps = listed.run.steps.len() as u64;
    let mut table = head(&["Steps", "Step, s"]);
    let mut tops = vec![0.0; timings.spans.len()];
    let mut marks = Vec::new();
    let ends = |span: usize| {
        let from = span as u64 * timings.span;
        (from as f64, (from + timings.span).min(n_steps) as f64)
    };
    for phase in 0..PHASES.len() {
        let mut area = Vec::new();
        for (n, span) in timings.spans.iter().enumerate() {
            let (lower, (from, to)) = (tops[n], ends(n));
            tops[n] += from_us(span.phases[phase]) / span.steps.max(1) as f64;
            area.extend([(from, lower, tops[n]), (to, lower, tops[n])]);
        }
        if total.phases[phase] > 0 {
            marks.push(Mark::Area(look(phase), area));
        }
    }
    for (n, span) in timings.spans.iter().enumerate() {
        let (from, to) = ends(n);
        let steps = if to - from < 1.5 {
            count(to as u64)
        } else {
            format!("{} to {}", count(from as u64 + 1), count(to as u64))
        };
        let all = span.phases.into_iter().chain([span.fetch, span.decode]);
        let row = all.map(|us| significant(from_us(us) / span.steps.max(1) as f64, 4));
        table.push([steps, significant(tops[n], 4)].into_iter().chain(row));
    }
    let span = if timings.span == 1 {
        String::new()
    } else {
        format!(" Each column is the mean of {} steps.", count(timings.span))
    };
    Figure {
        name: listed.name("time-over-steps"),
        title: listed.title("Time of a step"),
        caption: format!(
            "Where the time of a worker's step went over the course of the run, as the mean of all workers: {}.{span} \
             Reading and decoding mini-batches is not part of it, because it happens in the background.",
            most(&total)
        ),
        plot: Plot {
            x: Axis::from_zero("steps", Scale::Whole, std::iter::once(n_steps as f64)),
            y: Axis::from_zero("time of a step", Scale::Seconds, tops.into_iter()),
            marks,
            keys: keys(&total),
        },
        room: Room::Full,
        table,
    }
}

/// A bar for each worker.
fn by_worker(listed: Listed<'_>) -> Figure {
    let workers = &listed.run.timings.workers;
    let total = listed.run.timings.total();
    let rows: Vec<(String, Spent)> = workers.iter().map(|(worker, spent)| (worker.to_string(), *spent)).collect();
    let mut table = head(&["Worker", "Steps"]);
    for (name, spent) in &rows {
        table.push([name.clone(), count(spent.steps)].into_iter().chain(columns(spent)));
    }
    let (marks, x, y) = bars(&rows);
    let background = from_us(total.fetch.saturating_add(total.decode)) / workers.len().max(1) as f64;
    Figure {
        name: listed.name("time-by-worker"),
        title: listed.title("Time by worker"),
        caption: format!(
            "What the steps of each of {} were spent on, all steps together: {}. A worker also read and decoded \
             mini-batches for {} on average, in the background, which is not part of the bars.",
            some(workers.len() as u64, "worker"),
            most(&total),
            seconds(background)
        ),
        plot: Plot { x, y, marks, keys: keys(&total) },
        room: Room::Full,
        table,
    }
}

/// Bytes of gradients step by step; nothing where all workers share one memory.
fn traffic(runs: &[Listed<'_>]) -> Option<Figure> {
    let moved = |run: &Run| run.timings.written.iter().chain(&run.timings.read).any(|bytes| *bytes > 0);
    let sent: Vec<Listed<'_>> = runs.iter().copied().filter(|listed| moved(listed.run)).collect();
    let first = sent.first()?;
    let alone = first.of.is_empty();
    let mut table = Table::new(&["Steps", "Direction", "Smallest", "Mean", "Largest"]);
    if !alone {
        table.head.insert(0, "Run".to_owned());
    }
    let (mut marks, mut lines, mut widest) = (Vec::new(), Vec::new(), 1);
    let inks =
        |listed: &Listed<'_>| if alone { [Ink::Series(4), Ink::Series(3)] } else { [Ink::Series(listed.place); 2] };
    for listed in &sent {
        let timings = &listed.run.timings;
        let directions = [("published", &timings.written, 0), ("read", &timings.read, 1)];
        for ((direction, values, dash), ink) in directions.into_iter().zip(inks(listed)) {
            let buckets = thin(values.iter().map(|bytes| *bytes as f64), BUCKETS_MAX);
            let width = buckets.first().map_or(1, |bucket| bucket.last - bucket.first + 1);
            widest = widest.max(width);
            let x = |first: usize, last: usize| (first + last) as f64 / 2.0 + 1.0;
            if width > 1 {
                let band = buckets.iter().map(|b| (x(b.first, b.last), b.min, b.max)).collect();
                marks.push(Mark::Area(Look::new(ink, Form::Band), band));
            }
            let line = buckets.iter().map(|b| (x(b.first, b.last), b.mean)).collect();
            lines.push(Mark::Line(Look::new(ink, Form::Line).dashed(dash), line));
            for b in &buckets {
                let steps = if b.first == b.last {
                    count(b.first as u64 + 1)
                } else {
                    format!("{} to {}", count(b.first as u64 + 1), count(b.last as u64 + 1))
                };
                let row = [steps, direction.to_owned(), bytes(b.min), bytes(b.mean), bytes(b.max)];
                table.push((!alone).then(|| listed.cell()).into_iter().chain(row));
            }
        }
    }
    marks.extend(lines);
    let mut keys = super::keys_of_runs(&sent, Form::Line, false);
    let both = if alone { inks(first) } else { [Ink::Muted; 2] };
    for ((text, dash), ink) in [("published", 0), ("read", 1)].into_iter().zip(both) {
        keys.push(Key { look: Look::new(ink, Form::Line).dashed(dash), marker: None, text: text.to_owned() });
    }
    let total = |values: &[u64]| values.iter().map(|bytes| *bytes as f64).sum::<f64>();
    let mut caption = if alone {
        let timings = &first.run.timings;
        format!(
            "Bytes of gradients that all workers together published and read in each step: {} and {} in the whole run.",
            bytes(total(&timings.written)),
            bytes(total(&timings.read))
        )
    } else {
        "Bytes of gradients that all workers of a run together published and read in each step.".to_owned()
    };
    if widest > 1 {
        let width = count(widest as u64);
        caption += &format!(" Each point is {width} steps: their mean, and a band from the smallest to the largest.");
    }
    let most = sent.iter().map(|listed| listed.run.steps.len() as f64);
    let heights = marks.iter().flat_map(Mark::heights);
    Some(Figure {
        name: "bytes-per-step".to_owned(),
        title: "Bytes per step".to_owned(),
        caption,
        plot: Plot {
            x: Axis::from_zero("steps", Scale::Whole, most),
            y: Axis::from_zero("of all workers", Scale::Bytes, heights),
            marks,
            keys,
        },
        room: Room::Full,
        table,
    })
}
