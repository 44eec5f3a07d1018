//! The lives of workers over time: who took over from whom, and who died.

use super::Listed;
use crate::look::{Form, Ink, Look};
use crate::number::{Scale, count, significant, some};
use crate::plot::{Axis, Figure, Key, Mark, Marker, Plot, Room, Table};
use crate::run::{Began, Life, Run};

/// A figure for each run whose lives are known.
pub(super) fn figures(runs: &[Listed<'_>]) -> Vec<Figure> {
    runs.iter().filter_map(|listed| timeline(*listed, listed.run.lives.as_deref().filter(|l| !l.is_empty())?)).collect()
}

/// The mark at the beginning of a life.
const fn mark(began: Began) -> (Marker, usize) {
    match began {
        Began::Start => (Marker::Disc, 0),
        Began::Handover => (Marker::Triangle, 2),
        Began::Relaunch => (Marker::Cross, 1),
        Began::Added => (Marker::Diamond, 4),
        Began::EarlierSession => (Marker::Square, 6),
    }
}

/// When a life's first step began and its last one ended, in seconds.
fn span(run: &Run, (first, last): (u64, u64)) -> (f64, f64) {
    let end = |step: u64| run.steps.get(step as usize).map_or(0.0, |step| step.seconds);
    (first.checked_sub(1).map_or(0.0, end), end(last))
}

fn timeline(listed: Listed<'_>, lives: &[Life]) -> Option<Figure> {
    let run = listed.run;
    let mut workers: Vec<u32> = lives.iter().map(|life| life.worker).collect();
    workers.dedup();
    let mut bars = Vec::new();
    let mut begins: Vec<(Began, Vec<(f64, f64)>)> = Began::ALL.map(|began| (began, Vec::new())).into();
    let mut table = Table::new(&["Worker", "Life", "Began by", "First step", "Last step", "From, s", "To, s"]);
    for life in lives {
        let row = workers.binary_search(&life.worker).ok()? as f64;
        let mut cells = vec![life.worker.to_string(), life.incarnation.to_string(), life.began.shown().to_owned()];
        match life.steps {
            Some((first, last)) => {
                let (from, to) = span(run, (first, last));
                let grey = Look::new(Ink::Series(6), Form::Solid);
                bars.push(Mark::Bar(grey, (from, row - 0.09), (to, row + 0.09)));
                begins.iter_mut().filter(|(began, _)| *began == life.began).for_each(|(_, at)| at.push((from, row)));
                cells.extend([count(first + 1), count(last + 1), significant(from, 5), significant(to, 5)]);
            }
            None => cells.extend(["", "", "", ""].map(str::to_owned)),
        }
        table.push(cells);
    }
    begins.retain(|(_, at)| !at.is_empty());
    let mut keys = Vec::new();
    for (began, at) in begins {
        let (marker, ink) = mark(began);
        let look = Look::new(Ink::Series(ink), Form::Solid);
        keys.push(Key { look, marker: Some(marker), text: began.shown().to_owned() });
        bars.push(Mark::Points(look, marker, at));
    }
    let number = |began: Began| lives.iter().filter(|life| life.began == began).count();
    let idle = lives.iter().filter(|life| life.steps.is_none()).count();
    let mut caption = format!(
        "{} lives of {}, each from the first to the last step for which a gradient of it counted: {} begun by a hand-over, \
         {} relaunched after a death, {} added.",
        count(lives.len() as u64),
        some(workers.len() as u64, "worker"),
        number(Began::Handover),
        number(Began::Relaunch),
        number(Began::Added)
    );
    if idle > 0 {
        caption += &format!(" Without a bar, as no gradient counted: {idle}.");
    }
    let end = run.steps.last().map(|step| step.seconds);
    Some(Figure {
        name: listed.name("timeline"),
        title: listed.title("Lives of the workers"),
        caption,
        plot: Plot {
            x: Axis::from_zero("time since the start", Scale::Seconds, end.into_iter()),
            y: Axis::of_names(workers.iter().map(u32::to_string).collect()),
            marks: bars,
            keys,
        },
        room: Room::Full,
        table,
    })
}
