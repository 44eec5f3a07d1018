//! What is shown of long work while it goes on: some rows at the end of the terminal's text that are written again and again, or a plain
//! line every few seconds elsewhere.
//!
//! The rows stay below everything else that is said, and where they are when the work is over. The cursor is always visible, in the row
//! below them, so a process that is killed leaves nothing to mend.

use std::io::Write;
use std::time::{Duration, Instant};

use ::console::Term;

use crate::progress::{LINE_INTERVAL, Style};

/// Time between two frames.
const FRAME_INTERVAL: Duration = Duration::from_millis(150);

/// A row of a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The text, with its colours.
    pub text: String,
    /// Columns that it takes.
    pub columns: u16,
}

/// What there is to show something on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Rows of a terminal.
    Rows {
        /// Columns that may be written to.
        columns: u16,
        /// Rows that may be written to.
        rows: u16,
        /// Whether colour is wanted.
        color: bool,
    },
    /// One line, which ends with a line feed.
    Line,
}

/// Shows long work.
#[derive(Debug)]
pub struct Live {
    style: Style,
    region: Region,
    next_frame: Instant,
    next_line: Instant,
}

impl Live {
    pub(crate) fn start(style: Style) -> Self {
        let now = Instant::now();
        Self { style, region: Region::default(), next_frame: now, next_line: now + LINE_INTERVAL }
    }

    /// What to show something on, if it is time to. On a terminal it is also when that is `urgent`.
    pub fn due(&mut self, urgent: bool) -> Option<Surface> {
        let now = Instant::now();
        match self.style {
            Style::Hidden => None,
            Style::Lines => {
                let due = now >= self.next_line;
                if due {
                    self.next_line = now + LINE_INTERVAL;
                }
                due.then_some(Surface::Line)
            }
            Style::Bar { color } => {
                if now < self.next_frame && !urgent {
                    return None;
                }
                self.next_frame = now + FRAME_INTERVAL;
                let (rows, columns) = size();
                // What ends in the last column may or may not have begun the next row; the cursor needs a row too.
                Some(Surface::Rows { columns: columns.saturating_sub(1), rows: rows.saturating_sub(1), color })
            }
        }
    }

    /// Shows `rows` in place of those that were shown before.
    pub fn show(&mut self, rows: Vec<Row>) {
        let text = self.region.replace(rows, size());
        say(&text);
    }

    /// Has `say` say something above what is shown.
    pub fn aside(&mut self, speak: impl FnOnce()) {
        let rows = std::mem::take(&mut self.region.rows);
        if !rows.is_empty() {
            say(&Region::erase(&rows, size()));
        }
        speak();
        if !rows.is_empty() {
            self.show(rows);
        }
    }
}

impl Drop for Live {
    /// What comes next begins in a row of its own, also when a key was pressed.
    fn drop(&mut self) {
        if !self.region.rows.is_empty() {
            say("\r\x1b[K");
        }
    }
}

/// Rows and columns of the terminal.
fn size() -> (u16, u16) {
    Term::stderr().size()
}

fn say(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// What was written last, above the cursor.
#[derive(Debug, Default)]
struct Region {
    rows: Vec<Row>,
    columns: u16,
}

impl Region {
    /// How many rows of a terminal of this size `rows` take: one that became narrower has broken them.
    fn height(rows: &[Row], (height, columns): (u16, u16)) -> u32 {
        let broken = |row: &Row| u32::from(row.columns.max(1)).div_ceil(u32::from(columns.max(1)));
        rows.iter().map(broken).sum::<u32>().min(u32::from(height.saturating_sub(1)))
    }

    /// Takes `rows` away, and goes to where they began.
    fn erase(rows: &[Row], size: (u16, u16)) -> String {
        let height = Self::height(rows, size);
        // Row by row: some terminals keep what was on the screen when all of it is cleared at once.
        up(height) + &"\x1b[2K\x1b[1B".repeat(height as usize) + "\x1b[2K" + &up(height)
    }

    /// Writes `rows` over those that are there. Rows that are the same are passed over, so that nothing flickers.
    fn replace(&mut self, rows: Vec<Row>, size: (u16, u16)) -> String {
        let before = std::mem::take(&mut self.rows);
        let resized = self.columns != size.1;
        self.columns = size.1;
        let mut text = if resized { Self::erase(&before, size) } else { up(Self::height(&before, size)) };
        for (at, row) in rows.iter().enumerate() {
            if resized || before.get(at) != Some(row) {
                text += &row.text;
                text += "\x1b[K";
            }
            text += "\n";
        }
        // Also what somebody typed.
        text += "\x1b[J";
        self.rows = rows;
        text
    }
}

/// To the beginning of the row that is so many rows above.
fn up(rows: u32) -> String {
    if rows == 0 { "\r".to_owned() } else { format!("\r\x1b[{rows}A") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&str]) -> Vec<Row> {
        let row = |text: &&str| Row { text: (*text).to_owned(), columns: u16::try_from(text.len()).unwrap() };
        texts.iter().map(row).collect()
    }

    #[test]
    fn only_what_changes_is_written() {
        let mut region = Region { columns: 80, ..Region::default() };
        let size = (24, 80);
        assert_eq!(region.replace(rows(&["a", "b"]), size), "\ra\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(region.replace(rows(&["a", "c"]), size), "\r\x1b[2A\nc\x1b[K\n\x1b[J");
        assert_eq!(region.replace(rows(&["a"]), size), "\r\x1b[2A\n\x1b[J");
        assert_eq!(Region::erase(&region.rows, size), "\r\x1b[1A\x1b[2K\x1b[1B\x1b[2K\r\x1b[1A");
    }

    #[test]
    fn rows_that_a_narrower_terminal_broke_are_gone_back_over() {
        let mut region = Region::default();
        region.replace(rows(&["0123456789", "", "01234"]), (24, 80));
        let narrower = region.replace(rows(&["x"]), (24, 5));
        let cleared = "\x1b[2K\x1b[1B".repeat(4);
        assert_eq!(narrower, format!("\r\x1b[4A{cleared}\x1b[2K\r\x1b[4Ax\x1b[K\n\x1b[J"));
        region.replace(rows(&["x"; 30]), (24, 5));
        assert!(region.replace(rows(&["x"]), (10, 5)).starts_with("\r\x1b[9A"), "no further than the terminal goes");
    }
}
