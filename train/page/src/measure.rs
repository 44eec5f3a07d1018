//! How wide text is, by the font that pictures are drawn with. Browsers may take another; layouts leave room for that.

use std::sync::OnceLock;

use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

/// The font that pictures are drawn with, and that layouts are measured by.
pub(crate) const FONT: &[u8] = ttf_noto_sans::REGULAR;
/// Its family.
pub(crate) const FAMILY: &str = "Noto Sans";

/// Width of a text in pixels, at so many pixels a line.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    static OPEN: OnceLock<FontRef<'static>> = OnceLock::new();
    let font = OPEN.get_or_init(|| FontRef::new(FONT).expect("the font is a font"));
    let (characters, metrics) = (font.charmap(), font.glyph_metrics(Size::new(size as f32), LocationRef::default()));
    let advance = |letter: char| characters.map(letter).and_then(|glyph| metrics.advance_width(glyph));
    // A letter that the font lacks is drawn by another, about as wide as high.
    text.chars().map(|letter| advance(letter).map_or(size, f64::from)).sum()
}

/// Words in lines of at most so many pixels; a longer word has a line of its own.
pub(crate) fn wrapped(text: &str, size: f64, width_max: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| width(&format!("{line} {word}"), size) <= width_max) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The text, or as much of it as fits and an ellipsis.
pub(crate) fn cut(text: &str, size: f64, width_max: f64) -> String {
    if width(text, size) <= width_max {
        return text.to_owned();
    }
    let mut short = text.to_owned();
    while short.pop().is_some() {
        let with_dots = format!("{short}…");
        if width(&with_dots, size) <= width_max {
            return with_dots;
        }
    }
    "…".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_measured_wrapped_and_cut() {
        assert_eq!(width("", 12.0), 0.0);
        // Noto Sans has 572 of 1000 units a digit.
        assert!((width("0123456789", 100.0) - 572.0).abs() < 1.0, "{}", width("0123456789", 100.0));
        assert_eq!(wrapped("one two three", 10.0, width("one two", 10.0)), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable", 10.0, 5.0), ["unbreakable"]);
        assert_eq!(cut("worker", 10.0, 1000.0), "worker");
        let short = cut("a very long name of a run", 10.0, 60.0);
        assert!(short.starts_with("a very") && short.ends_with('…') && width(&short, 10.0) <= 60.0, "{short}");
    }
}
