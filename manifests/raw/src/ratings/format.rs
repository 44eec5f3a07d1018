//! Which of the MovieLens formats a text is in, by its first line. The rows are not looked at here.

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::parse::{Columns, Separator};
use crate::clicks::rules::shortened;
use crate::{Error, TextFormat};

/// Columns of a click log: the label, numbers and tokens.
const N_CLICK_COLUMNS: usize = 1 + N_NUMERIC + N_CATEGORICAL;

/// Which columns a text must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Users, items and ratings.
    Ratings,
    /// Users and items. Ratings may be there.
    Pairs,
}

/// The name of the format in the descriptor.
#[must_use]
pub const fn name(separator: Separator) -> &'static str {
    match separator {
        Separator::Comma => "movielens-csv",
        Separator::Colons => "movielens-dat",
        Separator::Tab => "movielens-tab",
    }
}

/// The format of the text that begins with `head`, with this separator if one is asked for; `None` when there is nothing but
/// blank lines.
///
/// # Errors
/// [`Error::UnknownFormat`], [`Error::UnknownHeader`] or [`Error::ClicksInstead`] at `place`.
pub fn recognise(
    head: &[u8],
    asked: Option<Separator>,
    needs: Needs,
    place: &str,
) -> Result<Option<TextFormat<Columns>>, Error> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let mark_bytes = if head.starts_with(MARK) { MARK.len() } else { 0 };
    let text = &head[mark_bytes..];
    if text.iter().all(|b| matches!(b, b'\r' | b'\n')) {
        return Ok(None);
    }
    let end = text.iter().position(|&b| b == b'\n');
    let line = &text[..end.unwrap_or(text.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    for separator in [b'\t', b','] {
        let n_columns = line.iter().filter(|&&b| b == separator).count() + 1;
        // With the number of the row in front, or without a label.
        if (N_CLICK_COLUMNS - 1..=N_CLICK_COLUMNS + 1).contains(&n_columns) {
            return Err(Error::ClicksInstead { place: place.to_owned(), n_columns });
        }
    }
    let separator = match asked {
        Some(separator) => separator,
        None => {
            most_columns(line).ok_or_else(|| Error::UnknownFormat { place: place.to_owned(), line: shortened(line) })?
        }
    };
    let fields: Vec<String> = String::from_utf8_lossy(line)
        .split(separator.text())
        .map(|field| field.to_ascii_lowercase().replace([' ', '_'], ""))
        .collect();
    let n_columns = match (needs, fields.len()) {
        (Needs::Pairs, 2) => 2,
        (_, 3) => 3,
        _ => 4,
    };
    let columns = Columns { separator, n_columns };
    // Every row begins with a digit, or with the sign of a negative id. Anything else at the start is a header.
    if !line.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'"') {
        return Ok(Some(TextFormat { columns, skipped_bytes: mark_bytes, skipped_lines: 0 }));
    }
    let known = |(found, names): (&String, &[&str])| names.contains(&found.as_str());
    let names: [&[&str]; 4] = [&["userid"], &["movieid", "itemid"], &["rating"], &["timestamp"]];
    if fields.len() != n_columns || !fields.iter().zip(names).all(known) {
        return Err(Error::UnknownHeader { place: place.to_owned(), line: 1, header: shortened(line) });
    }
    let skipped_bytes = mark_bytes + end.map_or(text.len(), |end| end + 1);
    Ok(Some(TextFormat { columns, skipped_bytes, skipped_lines: 1 }))
}

/// Whether a text with this first line looks like ratings.
#[must_use]
pub fn looks_like_ratings(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    [Separator::Comma, Separator::Tab, Separator::Colons].iter().any(|separator| {
        let fields: Vec<&str> = line.split(separator.text()).collect();
        match fields[..] {
            ["userid", "movieid" | "itemid", "rating"] | ["userid", "movieid" | "itemid", "rating", _] => true,
            [user, item, rating] | [user, item, rating, _] => {
                user.parse::<u32>().is_ok() && item.parse::<u32>().is_ok() && rating.parse::<f32>().is_ok()
            }
            _ => false,
        }
    })
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

    fn check(head: &str, asked: Option<Separator>, expected: &str) {
        check_for(Needs::Ratings, head, asked, expected);
    }

    fn check_for(needs: Needs, head: &str, asked: Option<Separator>, expected: &str) {
        let found = match recognise(head.as_bytes(), asked, needs, "f") {
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
        check("userId,movieId,rating,timestamp\n1,2,3.0,4\n", None, "movielens-csv 4 32 1");
        check("\u{feff}userid,MOVIEID,rating,timestamp\r\n1,2,3.0,4\r\n", None, "movielens-csv 4 36 1");
        check("userId,movieId,rating\n", None, "movielens-csv 3 22 1");
        check("user id\titem id\trating\ttimestamp\n", None, "movielens-tab 4 33 1");
        check("userId,movieId,rating,timestamp", None, "movielens-csv 4 31 1");
        check("1,2,3.0,4\n", None, "movielens-csv 4 0 0");
        check("1::2::3::4\n", None, "movielens-dat 4 0 0");
        check("196\t242\t3\t881250949\n", None, "movielens-tab 4 0 0");
        check("1::2::3::4,5\n", None, "movielens-dat 4 0 0");
        check("1,2,3.0,http://a::b\n", None, "movielens-csv 4 0 0");
        check("-1,2,3.0,4\n", None, "movielens-csv 4 0 0");
        check("1,2\n", None, "movielens-csv 4 0 0");
        check("1,2,3\n", Some(Separator::Colons), "movielens-dat 4 0 0");
        check("", None, "nothing");
        check("\u{feff}\r\n\n", Some(Separator::Comma), "nothing");
        let unknown = "f:1:1: the first line, `hello`, has no columns separated by a comma, `::` or a tab";
        check("hello\nworld\n", None, unknown);
        for (n_columns, separator) in [(40, "\t"), (39, "\t"), (41, ","), (40, ",")] {
            let clicks = format!("f:1:1: {n_columns} columns, expected 4: this looks like a click log");
            check(&vec!["0"; n_columns].join(separator), None, &clicks);
            check(&vec!["0"; n_columns].join(separator), Some(Separator::Comma), &clicks);
        }
        check(&["0"; 38].join("\t"), None, "movielens-tab 4 0 0");
        let header = "f:1:1: the header `movieId,userId,rating,timestamp` is not userId, movieId, rating, timestamp";
        check("movieId,userId,rating,timestamp\n", None, header);
    }

    #[test]
    fn ratings_may_be_absent_where_they_are_not_needed() {
        let table = [
            ("userId,movieId\n1,2\n", None, "movielens-csv 2 15 1"),
            ("userId,movieId,rating\n", None, "movielens-csv 3 22 1"),
            ("userId,movieId,rating,timestamp\n", None, "movielens-csv 4 32 1"),
            ("\u{feff}user id\titem id\r\n", None, "movielens-tab 2 20 1"),
            ("1,2\n", None, "movielens-csv 2 0 0"),
            ("1::2\n", None, "movielens-dat 2 0 0"),
            ("196\t242\n", None, "movielens-tab 2 0 0"),
            ("196\t242\t3\t881250949\n", None, "movielens-tab 4 0 0"),
            ("1,2\n", Some(Separator::Colons), "movielens-dat 4 0 0"),
            ("userId,rating\n", None, "f:1:1: the header `userId,rating` is not userId, movieId, rating, timestamp"),
            (
                "userId\n",
                Some(Separator::Comma),
                "f:1:1: the header `userId` is not userId, movieId, rating, timestamp",
            ),
        ];
        for (head, asked, expected) in table {
            check_for(Needs::Pairs, head, asked, expected);
        }
        let header = "f:1:1: the header `userId,movieId` is not userId, movieId, rating, timestamp";
        check("userId,movieId\n", None, header);
    }
}
