//! Which of the MovieLens formats a text is in, by its first line. The rows are not looked at here.

use prep_decode::rules::shortened;

use super::parse::{Columns, Separator};
use crate::cli::Format;
use crate::error::Error;

/// How the text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextFormat {
    /// Its columns.
    pub columns: Columns,
    /// Bytes before the first row: a byte order mark and a header.
    pub skipped_bytes: usize,
    /// Lines before the first row.
    pub skipped_lines: u64,
}

/// The name of the format in the descriptor.
pub(super) const fn name(separator: Separator) -> &'static str {
    match separator {
        Separator::Comma => "movielens-csv",
        Separator::Colons => "movielens-dat",
        Separator::Tab => "movielens-tab",
    }
}

/// The separator that is asked for, if any.
pub(super) const fn asked(format: Format) -> Option<Separator> {
    match format {
        Format::Auto => None,
        Format::Csv => Some(Separator::Comma),
        Format::Dat => Some(Separator::Colons),
        Format::Tab => Some(Separator::Tab),
    }
}

/// The format of the text that begins with `head`; `None` when there is nothing but blank lines.
pub(super) fn recognise(head: &[u8], format: Format, place: &str) -> Result<Option<TextFormat>, Error> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let mark_bytes = if head.starts_with(MARK) { MARK.len() } else { 0 };
    let text = &head[mark_bytes..];
    if text.iter().all(|b| matches!(b, b'\r' | b'\n')) {
        return Ok(None);
    }
    let end = text.iter().position(|&b| b == b'\n');
    let line = &text[..end.unwrap_or(text.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let separator = match asked(format) {
        Some(separator) => separator,
        None => {
            most_columns(line).ok_or_else(|| Error::UnknownFormat { place: place.to_owned(), line: shortened(line) })?
        }
    };
    let fields: Vec<String> = String::from_utf8_lossy(line)
        .split(std::str::from_utf8(separator.bytes()).expect("separators are ASCII"))
        .map(|field| field.to_ascii_lowercase().replace([' ', '_'], ""))
        .collect();
    let columns = Columns { separator, n_columns: if fields.len() == 3 { 3 } else { 4 } };
    // Every row begins with a digit, or with the sign of a negative id. Anything else at the start is a header.
    if !line.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'"') {
        return Ok(Some(TextFormat { columns, skipped_bytes: mark_bytes, skipped_lines: 0 }));
    }
    let known = |(found, names): (&String, &[&str])| names.contains(&found.as_str());
    let names: [&[&str]; 4] = [&["userid"], &["movieid", "itemid"], &["rating"], &["timestamp"]];
    if !matches!(fields.len(), 3 | 4) || !fields.iter().zip(names).all(known) {
        return Err(Error::UnknownHeader { place: place.to_owned(), line: 1, header: shortened(line) });
    }
    let skipped_bytes = mark_bytes + end.map_or(text.len(), |end| end + 1);
    Ok(Some(TextFormat { columns, skipped_bytes, skipped_lines: 1 }))
}

/// The separator that cuts `line` into the most columns, if any cuts it at all.
fn most_columns(line: &[u8]) -> Option<Separator> {
    let count = |separator: Separator| {
        let width = separator.bytes().len();
        line.windows(width).filter(|w| *w == separator.bytes()).count()
    };
    [Separator::Comma, Separator::Tab, Separator::Colons]
        .into_iter()
        .filter(|&s| count(s) > 0)
        .max_by_key(|&s| count(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, format: Format, expected: &str) {
        let found = match recognise(head.as_bytes(), format, "f") {
            Ok(Some(f)) => {
                format!("{} {} {} {}", name(f.columns.separator), f.columns.n_columns, f.skipped_bytes, f.skipped_lines)
            }
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{head:?}");
    }

    #[test]
    fn the_first_line_tells_the_format() {
        use Format::{Auto, Csv, Dat};
        check("userId,movieId,rating,timestamp\n1,2,3.0,4\n", Auto, "movielens-csv 4 32 1");
        check("\u{feff}userid,MOVIEID,rating,timestamp\r\n1,2,3.0,4\r\n", Auto, "movielens-csv 4 36 1");
        check("userId,movieId,rating\n", Auto, "movielens-csv 3 22 1");
        check("user id\titem id\trating\ttimestamp\n", Auto, "movielens-tab 4 33 1");
        check("userId,movieId,rating,timestamp", Auto, "movielens-csv 4 31 1");
        check("1,2,3.0,4\n", Auto, "movielens-csv 4 0 0");
        check("1::2::3::4\n", Auto, "movielens-dat 4 0 0");
        check("196\t242\t3\t881250949\n", Auto, "movielens-tab 4 0 0");
        check("1::2::3::4,5\n", Auto, "movielens-dat 4 0 0");
        check("1,2,3.0,http://a::b\n", Auto, "movielens-csv 4 0 0");
        check("-1,2,3.0,4\n", Auto, "movielens-csv 4 0 0");
        check("1,2\n", Auto, "movielens-csv 4 0 0");
        check("1,2,3\n", Dat, "movielens-dat 4 0 0");
        check("", Auto, "nothing");
        check("\u{feff}\r\n\n", Csv, "nothing");
        let unknown = "f:1:1: the first line, `hello`, has no columns separated by a comma, `::` or a tab";
        check("hello\nworld\n", Auto, unknown);
        let header = "f:1:1: the header `movieId,userId,rating,timestamp` is not userId, movieId, rating, timestamp";
        check("movieId,userId,rating,timestamp\n", Auto, header);
    }
}
