//! Charts as SVG, through the drawing library: it maps values to places, draws axes, grid and marks; what they look like is said by
//! classes.

use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::{
    ChartBuilder, ChartContext, Color as _, DrawingArea, FontDesc, FontFamily, FontStyle, IntoDrawingArea as _,
    LabelAreaPosition, PathElement, Polygon, RGBColor, Rectangle, ShapeStyle, TRANSPARENT, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendCoord, DrawingBackend, DrawingErrorKind};

use crate::html::escape;
use crate::look::{Form, Ink, Look, patterns};
use crate::measure;
use crate::number::{Scale, ticks};
use crate::plot::{Axis, Figure, Key, Mark, Marker, Plot, Room};
use crate::svg::{Svg, TITLE, UNIT};

/// Pixels of a line of text.
const TEXT: f64 = 12.5;
/// Pixels from one line of text to the next.
const LINE: f64 = 19.0;
/// Pixels of a key's sample.
const SAMPLE: f64 = 26.0;

/// Where a chart is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// On a wide page.
    Wide,
    /// On a narrow page.
    Narrow,
    /// In a file of its own, with heading and caption.
    File,
}

impl Medium {
    /// Pixels of the whole width.
    const fn width(self, room: Room) -> u32 {
        match (self, room) {
            (Self::Narrow, _) => 340,
            (Self::Wide, Room::Full) => 900,
            (Self::Wide, _) => 438,
            (Self::File, Room::Full) => 900,
            (Self::File, _) => 600,
        }
    }

    /// Pixels of the height between the axes.
    fn height(self, room: Room, width: f64, rows: Option<usize>) -> f64 {
        match (rows, room) {
            (Some(rows), _) => rows as f64 * (600.0 / rows.max(1) as f64).clamp(4.0, 22.0),
            (None, Room::Square) => width,
            (None, _) => {
                if self == Self::Narrow {
                    190.0
                } else {
                    240.0
                }
            }
        }
    }
}

/// The whole `<svg>` element of a figure. Its ids begin with `id`.
pub(crate) fn svg(figure: &Figure, medium: Medium, id: &str) -> String {
    let width = f64::from(medium.width(figure.room));
    let layout = Layout::new(figure, medium, width);
    let size = ((width * UNIT) as u32, (layout.height * UNIT) as u32);
    let (title, caption) = (escape(&figure.title), escape(&figure.caption));
    let mut text = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{title}\" aria-describedby=\"{id}-desc\"",
        size.0, size.1
    );
    if medium == Medium::File {
        let size = format!("width=\"{width}\" height=\"{}\"", layout.height.round());
        let style = crate::look::of_a_file();
        let _ = write!(text, " xmlns=\"http://www.w3.org/2000/svg\" {size}><style>{style}</style>");
    } else {
        text.push('>');
    }
    let _ = write!(text, "<title>{title}</title><desc id=\"{id}-desc\">{caption}</desc>{}", patterns(id));
    if medium == Medium::File {
        text.push_str("<path fill=\"#ffffff\" d=\"M0 0h99999v99999h-99999z\"/>");
    }
    layout.draw(&figure.plot, Svg { text: &mut text, size, id });
    text.push_str("</svg>");
    text
}

/// Where things are, in pixels.
struct Layout {
    heading: Vec<(f64, String, Ink)>,
    keys: Vec<(f64, f64, Key)>,
    margin: f64,
    y_label: Option<f64>,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    height: f64,
    x_ticks: Vec<(f64, String)>,
    y_ticks: Vec<(f64, String)>,
}

type Chart<'a, 'b> = ChartContext<'b, Svg<'a>, Cartesian2d<Ticked, Ticked>>;

/// An axis with its ticks, as the drawing library knows it.
struct Ticked {
    axis: Axis,
    ticks: Vec<(f64, String)>,
}

impl Ranged for Ticked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.axis.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.iter().map(|(tick, _)| *tick).collect() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.axis.from..self.axis.to
    }
}

impl ValueFormatter<f64> for Ticked {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == value).map_or(String::new(), |(_, text)| text.clone())
    }
}

impl Layout {
    fn new(figure: &Figure, medium: Medium, width: f64) -> Self {
        let plot = &figure.plot;
        let mut y = 4.0;
        let mut heading = Vec::new();
        let margin = if medium == Medium::File { 20.0 } else { 1.0 };
        if medium == Medium::File {
            y = 20.0;
            heading.push((y, figure.title.clone(), Ink::Text));
            y += 28.0;
            for line in measure::wrapped(&figure.caption, TEXT * 1.04, width - 2.0 * margin) {
                heading.push((y, line, Ink::Muted));
                y += LINE;
            }
            y += 10.0;
        }
        let keys = keys(&plot.keys, &mut y, margin, width - margin);
        let y_label = (!plot.y.label.is_empty()).then(|| {
            y += LINE + 2.0;
            y - LINE
        });
        let top = y + 8.0;

        let room_for_names = width * 0.3;
        let rows = match &plot.y.scale {
            Scale::Names(names) => Some(names.len()),
            _ => None,
        };
        let inner_height = |width: f64| medium.height(figure.room, width, rows);
        let n_y = |height: f64| if rows.is_some() { height / 15.0 } else { (height / 34.0).min(8.0) };
        let mut y_ticks = ticks(&plot.y.scale, plot.y.from, plot.y.to, n_y(inner_height(width * 0.8)) as usize);
        for (_, text) in &mut y_ticks {
            *text = measure::cut(text, TEXT, room_for_names);
        }
        let widest = y_ticks.iter().map(|(_, text)| measure::width(text, TEXT)).fold(0.0, f64::max);
        // Fonts of browsers may be wider than ours.
        let left = margin + (widest * 1.06 + 10.0).ceil();
        let n_x = ((width - left) / 62.0) as usize;
        let x_ticks = ticks(&plot.x.scale, plot.x.from, plot.x.to, n_x);
        let last = x_ticks.last().map_or(0.0, |(_, text)| measure::width(text, TEXT) * 0.55);
        let right = width - margin - last.max(6.0).ceil();
        let bottom = top + inner_height(right - left);
        let height = bottom + 24.0 + LINE + margin;
        Self { heading, keys, margin, y_label, left, right, top, bottom, height, x_ticks, y_ticks }
    }

    fn draw(&self, plot: &Plot, svg: Svg<'_>) {
        let root = svg.into_drawing_area();
        for (y, line, ink) in &self.heading {
            let size = if *ink == Ink::Text { TITLE } else { TEXT };
            let style = font(*ink, size, FontStyle::Normal).pos(Pos::new(HPos::Left, VPos::Top));
            root.draw_text(line, &style, (units(20.0), units(*y))).expect(IN_MEMORY);
        }
        for (x, y, key) in &self.keys {
            sample(&root, *x, *y + LINE / 2.0, key);
            label(&root, (x + SAMPLE + 7.0, y + LINE / 2.0), &key.text, Ink::Text, (HPos::Left, VPos::Center));
        }
        if let Some(y) = self.y_label {
            label(&root, (self.margin, y), &plot.y.label, Ink::Muted, (HPos::Left, VPos::Top));
        }
        let middle = (self.left + self.right) / 2.0;
        label(&root, (middle, self.bottom + 25.0), &plot.x.label, Ink::Muted, (HPos::Center, VPos::Top));

        let (width, _) = root.dim_in_pixel();
        let area = root.clone().shrink((0, units(self.top)), (width, units(self.bottom - self.top + 24.0)));
        let ticked = |axis: &Axis, ticks: &[(f64, String)]| Ticked { axis: axis.clone(), ticks: ticks.to_vec() };
        let (x, y) = (ticked(&plot.x, &self.x_ticks), ticked(&plot.y, &self.y_ticks));
        let mut chart = ChartBuilder::on(&area)
            .set_label_area_size(LabelAreaPosition::Left, units(self.left))
            .set_label_area_size(LabelAreaPosition::Bottom, units(24.0))
            .margin_right(width as i32 - units(self.right))
            .build_cartesian_2d(x, y)
            .expect(IN_MEMORY);
        Self::axes(plot, &mut chart);
        marks(plot, &chart);
        self.levels(plot, &root);
    }

    /// The axis at the bottom with its ticks, then the lines across and what stands left of them; there is no line on the left.
    fn axes(plot: &Plot, chart: &mut Chart<'_, '_>) {
        let line = style(Look::new(Ink::Muted, Form::Hair));
        let mut bottom = chart.configure_mesh();
        bottom.disable_mesh().disable_y_axis().axis_style(line).label_style(text_style(Ink::Muted));
        bottom.set_all_tick_mark_size(units(4.0)).draw().expect(IN_MEMORY);

        let mut left = chart.configure_mesh();
        left.disable_x_mesh().disable_x_axis().axis_style(TRANSPARENT).label_style(text_style(Ink::Muted));
        if matches!(plot.y.scale, Scale::Names(_)) {
            left.disable_y_mesh();
        }
        left.bold_line_style(style(Look::new(Ink::Grid, Form::Hair)));
        left.set_all_tick_mark_size(units(4.0)).draw().expect(IN_MEMORY);
    }

    /// Lines across, with their texts: above the line, or below it where another text is in the way.
    fn levels(&self, plot: &Plot, root: &DrawingArea<Svg<'_>, Shift>) {
        let mut taken: Vec<f64> = Vec::new();
        for mark in &plot.marks {
            let Mark::Level(look, value, text) = mark else { continue };
            let y = self.bottom - plot.y.share(*value) * (self.bottom - self.top);
            path(root, *look, &[(self.left, y), (self.right, y)]);
            let free = |y: &f64| *y > self.top && *y < self.bottom && taken.iter().all(|t| (t - y).abs() > TEXT + 3.0);
            let middle = [y - 9.0, y + 10.0].into_iter().find(free).unwrap_or(y - 9.0);
            taken.push(middle);
            let text = measure::cut(text, TEXT, self.right - self.left - 10.0);
            let style = halo(look.ink).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw_text(&text, &style, (units(self.right - 4.0), units(middle))).expect(IN_MEMORY);
        }
    }
}

const IN_MEMORY: &str = "what is drawn on is text in memory";

/// Keys one after the other, in as many rows as they need; moves `y` below them.
fn keys(keys: &[Key], y: &mut f64, left: f64, right: f64) -> Vec<(f64, f64, Key)> {
    let mut placed = Vec::new();
    let mut x = left;
    for key in keys {
        let text = measure::cut(&key.text, TEXT, (right - left - SAMPLE - 7.0) / 1.06);
        let width = SAMPLE + 7.0 + measure::width(&text, TEXT) * 1.06;
        if x > left && x + width > right {
            (x, *y) = (left, *y + LINE);
        }
        placed.push((x, *y, Key { text, ..key.clone() }));
        x += width + 18.0;
    }
    if !placed.is_empty() {
        *y += LINE + 7.0;
    }
    placed
}

fn marks(plot: &Plot, chart: &Chart<'_, '_>) {
    let area = chart.plotting_area();
    for mark in &plot.marks {
        let drawn = match mark {
            Mark::Line(look, points) => area.draw(&PathElement::new(points.clone(), style(*look))),
            Mark::Area(look, points) => {
                let upper = points.iter().map(|(x, _, upper)| (*x, *upper));
                let lower = points.iter().rev().map(|(x, lower, _)| (*x, *lower));
                area.draw(&Polygon::new(upper.chain(lower).collect::<Vec<_>>(), style(*look)))
            }
            Mark::Bar(look, from, to) => area.draw(&Rectangle::new([*from, *to], style(*look).filled())),
            Mark::Points(look, marker, points) => {
                points.iter().try_for_each(|point| area.draw(&Point { place: *point, marker: *marker, look: *look }))
            }
            // Those need to know of each other.
            Mark::Level(..) => Ok(()),
        };
        drawn.expect(IN_MEMORY);
    }
}

/// Corners of a marker around its middle, in pixels; nothing for a disc.
fn corners(marker: Marker) -> Vec<(i32, i32)> {
    let corners: &[(f64, f64)] = match marker {
        Marker::Disc => &[],
        Marker::Square => &[(-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)],
        Marker::Triangle => &[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)],
        Marker::Diamond => &[(0.0, -4.6), (4.6, 0.0), (0.0, 4.6), (-4.6, 0.0)],
        Marker::Cross => &[
            (-4.4, -2.8),
            (-2.8, -4.4),
            (0.0, -1.6),
            (2.8, -4.4),
            (4.4, -2.8),
            (1.6, 0.0),
            (4.4, 2.8),
            (2.8, 4.4),
            (0.0, 1.6),
            (-2.8, 4.4),
            (-4.4, 2.8),
            (-1.6, 0.0),
        ],
    };
    corners.iter().map(|(x, y)| (units(*x), units(*y))).collect()
}

/// A marker at a place of any coordinates.
struct Point<C> {
    place: C,
    marker: Marker,
    look: Look,
}

impl<'a, C> PointCollection<'a, C> for &'a Point<C> {
    type Point = &'a C;
    type IntoIter = std::iter::Once<&'a C>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.place)
    }
}

impl<C, B: DrawingBackend> Drawable<B> for Point<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut places: I,
        backend: &mut B,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        let Some((x, y)) = places.next() else { return Ok(()) };
        let style = style(self.look).filled();
        match self.marker {
            Marker::Disc => backend.draw_circle((x, y), units(3.6) as u32, &style, true),
            marker => backend.fill_polygon(corners(marker).into_iter().map(|(dx, dy)| (x + dx, y + dy)), &style),
        }
    }
}

/// What stands for a key, with its middle at `y`.
fn sample(root: &DrawingArea<Svg<'_>, Shift>, x: f64, y: f64, key: &Key) {
    match key.look.form {
        Form::Line | Form::Thin | Form::Faint | Form::Hair => {
            path(root, key.look, &[(x + 1.0, y), (x + SAMPLE - 1.0, y)]);
        }
        _ if key.marker.is_none() => {
            let corners = [(units(x + 2.0), units(y - 6.0)), (units(x + SAMPLE - 2.0), units(y + 6.0))];
            root.draw(&Rectangle::new(corners, style(key.look).filled())).expect(IN_MEMORY);
        }
        _ => {}
    }
    if let Some(marker) = key.marker {
        let look = Look::new(key.look.ink, Form::Solid);
        root.draw(&Point { place: (units(x + SAMPLE / 2.0), units(y)), marker, look }).expect(IN_MEMORY);
    }
}

/// A text at a place in pixels.
fn label(root: &DrawingArea<Svg<'_>, Shift>, (x, y): (f64, f64), text: &str, ink: Ink, (h, v): (HPos, VPos)) {
    let style = text_style(ink).pos(Pos::new(h, v));
    root.draw_text(text, &style, (units(x), units(y))).expect(IN_MEMORY);
}

/// A line through places in pixels.
fn path(root: &DrawingArea<Svg<'_>, Shift>, look: Look, points: &[(f64, f64)]) {
    let points: Vec<_> = points.iter().map(|(x, y)| (units(*x), units(*y))).collect();
    root.draw(&PathElement::new(points, style(look))).expect(IN_MEMORY);
}

fn units(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

fn style(look: Look) -> ShapeStyle {
    let (ink, form, dash) = look.code();
    ShapeStyle::from(&RGBColor(ink, form, dash))
}

fn text_style(ink: Ink) -> TextStyle<'static> {
    font(ink, TEXT, FontStyle::Normal)
}

/// For text that lies over marks.
fn halo(ink: Ink) -> TextStyle<'static> {
    font(ink, TEXT, FontStyle::Bold)
}

fn font(ink: Ink, size: f64, style: FontStyle) -> TextStyle<'static> {
    let (ink, _, _) = Look::new(ink, Form::Solid).code();
    let font = FontDesc::new(FontFamily::SansSerif, size * UNIT, style);
    let mut style = TextStyle::from(font);
    style.color = RGBColor(ink, 0, 0).to_backend_color();
    style
}
