//! Cells as text with the terminal's codes for colours.

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use ratatui::text::Span;
use reporting::live::Row;

/// The rows of `buffer`, without blanks at their ends.
#[must_use]
pub fn rows(buffer: &Buffer, color: bool) -> Vec<Row> {
    let area = buffer.area;
    (area.top()..area.bottom())
        .map(|y| row((area.left()..area.right()).filter_map(|x| buffer.cell((x, y))), color))
        .collect()
}

fn row<'a>(cells: impl Iterator<Item = &'a Cell>, color: bool) -> Row {
    let (mut whole, mut row) = (Row::default(), Row::default());
    let (mut codes, mut covered) = (String::new(), 0);
    for cell in cells {
        // A sign of two columns covers the next cell.
        if covered > 0 {
            covered -= 1;
            continue;
        }
        let wanted = if color { style(cell) } else { String::new() };
        if wanted != codes {
            row.text += "\x1b[0m";
            row.text += &wanted;
            codes = wanted;
        }
        let columns = u16::try_from(Span::raw(cell.symbol()).width()).unwrap_or(1).max(1);
        covered = columns - 1;
        row.text += cell.symbol();
        row.columns += columns;
        if cell.symbol() != " " {
            whole = row.clone();
            if !codes.is_empty() {
                whole.text += "\x1b[0m";
            }
        }
    }
    whole
}

/// The codes for the style of a cell; none for the usual one.
fn style(cell: &Cell) -> String {
    let foreground = match cell.fg {
        Color::Yellow => "\x1b[33m",
        Color::Green => "\x1b[32m",
        Color::Blue => "\x1b[34m",
        Color::Magenta => "\x1b[35m",
        Color::Cyan => "\x1b[36m",
        _ => "",
    };
    let bold = if cell.modifier.contains(Modifier::BOLD) { "\x1b[1m" } else { "" };
    let dim = if cell.modifier.contains(Modifier::DIM) { "\x1b[2m" } else { "" };
    format!("{foreground}{bold}{dim}")
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Stylize;
    use ratatui::text::Line;

    use super::*;

    #[test]
    fn colours_are_codes_if_they_are_wanted() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 2));
        buffer.set_line(0, 0, &Line::from(vec!["a".into(), "b".cyan(), " c".into()]), 8);
        buffer.set_line(0, 1, &Line::from("\u{4f60}d".bold()), 8);
        let texts = |color| rows(&buffer, color).into_iter().map(|row| (row.text, row.columns)).collect::<Vec<_>>();
        assert_eq!(texts(false), [("ab c".to_owned(), 4), ("\u{4f60}d".to_owned(), 3)]);
        let bold = "\x1b[0m\x1b[1m\u{4f60}d\x1b[0m".to_owned();
        assert_eq!(texts(true), [("a\x1b[0m\x1b[36mb\x1b[0m c".to_owned(), 4), (bold, 3)]);
    }
}
