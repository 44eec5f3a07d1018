//! SVG as a backend of the drawing library: shapes with classes instead of colours, so that a page's style decides what they look
//! like, and paths of few bytes. A unit is a tenth of a pixel, because the library draws in whole units.

use std::fmt::{self, Write as _};

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
};

use crate::html::escape;
use crate::look::Look;
use crate::measure;

/// Pixels of a heading.
pub(crate) const TITLE: f64 = 17.0;
/// Units of a pixel.
pub(crate) const UNIT: f64 = 10.0;

/// An SVG under way.
pub(crate) struct Svg<'a> {
    /// Where it goes.
    pub(crate) text: &'a mut String,
    /// Width and height in units.
    pub(crate) size: (u32, u32),
    /// What its ids begin with.
    pub(crate) id: &'a str,
}

type Drawn = Result<(), DrawingErrorKind<fmt::Error>>;

impl Svg<'_> {
    fn put(&mut self, shape: fmt::Arguments<'_>) -> Drawn {
        self.text.write_fmt(shape).map_err(DrawingErrorKind::DrawingError)
    }

    /// An area, and the pattern over it.
    fn area<S: BackendStyle>(&mut self, style: &S, shape: &str) -> Drawn {
        let (form, classes) = Look::classes(style.color().rgb);
        self.put(format_args!("<{shape} class=\"{classes}\"/>"))?;
        match form.pattern() {
            Some(pattern) => {
                let id = self.id;
                self.put(format_args!("<{shape} fill=\"url(#{id}-{pattern})\"/>"))
            }
            None => Ok(()),
        }
    }
}

/// The `d` of a path through points, without those that repeat the one before.
fn path(points: impl IntoIterator<Item = BackendCoord>) -> String {
    let mut d = String::new();
    let mut last: Option<BackendCoord> = None;
    for point in points {
        let written = match last {
            None => write!(d, "M{} {}l", point.0, point.1),
            Some(last) if last == point => Ok(()),
            Some(last) => {
                let (dx, dy) = (point.0 - last.0, point.1 - last.1);
                let space = if d.ends_with('l') || dx < 0 { "" } else { " " };
                write!(d, "{space}{dx}{}{dy}", if dy < 0 { "" } else { " " })
            }
        };
        written.expect("a string takes all text");
        last = Some(point);
    }
    // A path that goes nowhere is a dot.
    if d.ends_with('l') {
        d.push_str("0 0");
    }
    d
}

impl DrawingBackend for Svg<'_> {
    type ErrorType = fmt::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        let (_, classes) = Look::classes(color.rgb);
        self.put(format_args!("<path class=\"{classes}\" d=\"M{x} {y}h1\"/>"))
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, _fill: bool) -> Drawn {
        let (width, height) = ((to.0 - from.0).abs(), (to.1 - from.1).abs());
        let (x, y) = (from.0.min(to.0), from.1.min(to.1));
        self.area(style, &format!("path d=\"M{x} {y}h{width}v{height}h-{width}z\""))
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, points: I, style: &S) -> Drawn {
        // So the library is told that there is no line.
        if style.color().alpha == 0.0 {
            return Ok(());
        }
        let (_, classes) = Look::classes(style.color().rgb);
        self.put(format_args!("<path class=\"{classes}\" d=\"{}\"/>", path(points)))
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, _fill: bool) -> Drawn {
        self.area(style, &format!("circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\""))
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, points: I, style: &S) -> Drawn {
        self.area(style, &format!("path d=\"{}z\"", path(points)))
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, (x, y): BackendCoord) -> Drawn {
        let size = style.size();
        let anchor = match style.anchor().h_pos {
            HPos::Left => "",
            HPos::Center => " text-anchor=\"middle\"",
            HPos::Right => " text-anchor=\"end\"",
        };
        let baseline = match style.anchor().v_pos {
            VPos::Top => 0.95,
            VPos::Center => 0.35,
            VPos::Bottom => -0.25,
        };
        let y = y + (size * baseline) as i32;
        let (ink, _, _) = style.color().rgb;
        // Bold is how the library is told that a text lies over marks.
        let halo = if matches!(style.style(), FontStyle::Bold) { " halo" } else { "" };
        let title = if size > TITLE * UNIT - 1.0 { " title" } else { "" };
        let text = escape(text);
        self.put(format_args!("<text class=\"i{ink}{halo}{title}\" x=\"{x}\" y=\"{y}\"{anchor}>{text}</text>"))
    }

    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        text: &str,
        style: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<fmt::Error>> {
        let size = style.size();
        Ok((measure::width(text, size) as u32, (size * 1.2) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_short() {
        assert_eq!(path([(0, 0), (10, 5), (10, 5), (0, -5)]), "M0 0l10 5-10-10");
        assert_eq!(path([(3, 4)]), "M3 4l0 0");
        assert_eq!(path([(1, 1), (2, 2), (3, 1)]), "M1 1l1 1 1-1");
        assert_eq!(path([]), "");
    }
}
