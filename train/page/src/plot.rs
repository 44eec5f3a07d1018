//! What a chart shows, before it is drawn: axes, marks on them, and what the marks mean.

use crate::look::Look;
use crate::number::Scale;

/// Axes end here. A number beyond it is nonsense, and drawn at the edge.
const LARGEST: f64 = 1e15;

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// What it counts, in words.
    pub(crate) label: String,
    /// How.
    pub(crate) scale: Scale,
    /// Where it begins.
    pub(crate) from: f64,
    /// Where it ends; above `from`.
    pub(crate) to: f64,
}

impl Axis {
    /// An axis for all `values`, from 0 on.
    pub(crate) fn from_zero(label: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).min(LARGEST);
        Self { label: label.to_owned(), scale, from: 0.0, to: if most > 1.0 / LARGEST { most } else { 1.0 } }
    }

    /// An axis with some room around all `values`: logarithmic when all are positive and the largest is far above the smallest.
    pub(crate) fn around(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), v| (l.min(v), m.max(v)));
        let (least, most) = (least.max(-LARGEST), most.min(LARGEST));
        let label = label.to_owned();
        if least > most {
            return Self { label, scale: Scale::Plain, from: 0.0, to: 1.0 };
        }
        if least > 1.0 / LARGEST && most / least > 30.0 {
            return Self { label, scale: Scale::Log, from: least / 1.1, to: most * 1.1 };
        }
        // Numbers that differ in their last digits only are shown as equal.
        let apart = most - least > most.abs() * 1e-9 + 1.0 / LARGEST;
        let room = if apart { (most - least) * 0.06 } else { least.abs().max(1e-6) * 0.1 };
        Self { label, scale: Scale::Plain, from: least - room, to: most + room }
    }

    /// An axis of rows with names, the first at the top.
    pub(crate) fn of_names(names: Vec<String>) -> Self {
        let to = names.len().max(1) as f64 - 0.5;
        Self { label: String::new(), scale: Scale::Names(names), from: -0.5, to }
    }

    /// Where a value lies: from 0, at the left or the bottom, to 1.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Log => (value / self.from).max(f64::MIN_POSITIVE).ln() / (self.to / self.from).ln(),
            Scale::Names(_) => (self.to - value) / (self.to - self.from),
            _ => (value - self.from) / (self.to - self.from),
        };
        share.clamp(0.0, 1.0)
    }
}

/// The shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// A disc.
    Disc,
    /// A square.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A square on its tip.
    Diamond,
    /// Two crossed strokes.
    Cross,
}

impl Marker {
    /// Those that are told apart, in turn.
    pub(crate) const fn nth(n: usize) -> Self {
        [Self::Disc, Self::Square, Self::Triangle, Self::Diamond, Self::Cross][n % 5]
    }
}

/// Something on the axes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    /// A line through points.
    Line(Look, Vec<(f64, f64)>),
    /// What lies between two lines: x, lower and upper value.
    Area(Look, Vec<(f64, f64, f64)>),
    /// A rectangle between two corners.
    Bar(Look, (f64, f64), (f64, f64)),
    /// Points.
    Points(Look, Marker, Vec<(f64, f64)>),
    /// A line across the chart at a height, with what it means written on it.
    Level(Look, f64, String),
}

impl Mark {
    /// All y values of it.
    pub(crate) fn heights(&self) -> Vec<f64> {
        match self {
            Self::Line(_, points) | Self::Points(_, _, points) => points.iter().map(|(_, y)| *y).collect(),
            Self::Area(_, points) => points.iter().flat_map(|(_, lower, upper)| [*lower, *upper]).collect(),
            Self::Bar(_, from, to) => vec![from.1, to.1],
            Self::Level(_, y, _) => vec![*y],
        }
    }
}

/// What a look means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    /// The look.
    pub(crate) look: Look,
    /// The points on the line, or alone.
    pub(crate) marker: Option<Marker>,
    /// What it means.
    pub(crate) text: String,
}

/// Axes, marks and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plot {
    /// From left to right.
    pub(crate) x: Axis,
    /// From bottom to top.
    pub(crate) y: Axis,
    /// What is on them, from back to front.
    pub(crate) marks: Vec<Mark>,
    /// What the marks mean.
    pub(crate) keys: Vec<Key>,
}

/// How much room a chart takes on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The width of the page.
    Full,
    /// Half of it.
    Half,
    /// Half of it, as high as wide.
    Square,
}

/// Numbers in rows and columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// The columns.
    pub(crate) head: Vec<String>,
    /// The rows, as long as the head.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|text| (*text).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }
}

/// A chart with all that is said about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// A name for a file, unlike that of any other figure.
    pub(crate) name: String,
    /// The heading.
    pub(crate) title: String,
    /// What is seen, in a sentence or two.
    pub(crate) caption: String,
    /// The chart.
    pub(crate) plot: Plot,
    /// How large it is.
    pub(crate) room: Room,
    /// Its numbers.
    pub(crate) table: Table,
}

/// Figures about one question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Section {
    /// A name for links.
    pub(crate) name: String,
    /// The heading.
    pub(crate) title: String,
    /// Its figures.
    pub(crate) figures: Vec<Figure>,
}
