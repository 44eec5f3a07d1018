//! How the rows of a click log are written, by the lines it begins with.

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::Format;
use super::rules::shortened;
use crate::ratings::format::looks_like_ratings;
use crate::{Error, TextFormat};

/// What a Parquet file begins with.
pub const PARQUET: &[u8] = b"PAR1";

/// Names of the numbers and tokens, in lower case.
pub fn column_names() -> impl Iterator<Item = String> {
    (1..=N_NUMERIC).map(|i| format!("i{i}")).chain((1..=N_CATEGORICAL).map(|i| format!("c{i}")))
}

/// The name of the format in the descriptor.
#[must_use]
pub const fn name(columns: Format) -> &'static str {
    match columns.separator {
        b',' => "criteo-csv",
        _ => "criteo-tsv",
    }
}

/// The format of the text that begins with `head`; `None` when there is nothing but blank lines.
///
/// # Errors
/// [`Error::NotClicks`] or [`Error::RatingsInstead`] at `place`.
pub fn recognise(head: &[u8], place: &str) -> Result<Option<TextFormat<Format>>, Error> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    if let Some(kind) = binary(head) {
        return Err(Error::NotClicks { place: place.to_owned(), problem: format!("this is {kind}, not text") });
    }
    let mark_bytes = if head.starts_with(MARK) { MARK.len() } else { 0 };
    let text = &head[mark_bytes..];
    if text.iter().all(|b| matches!(b, b'\r' | b'\n')) {
        return Ok(None);
    }
    let end = text.iter().position(|&b| b == b'\n');
    let first = trimmed(&text[..end.unwrap_or(text.len())]);
    let refused = |problem: String| match looks_like_ratings(first) {
        true => Error::RatingsInstead { place: place.to_owned(), problem },
        false => Error::NotClicks { place: place.to_owned(), problem },
    };
    let separator = if first.contains(&b'\t') { b'\t' } else { b',' };
    // No row begins with a letter: labels, row numbers and numbers come first.
    if first.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'"') {
        let columns = header(first, separator).ok_or_else(|| {
            refused(format!("the header `{}` is not [Id], [Label], I1 to I13, C1 to C26", shortened(first)))
        })?;
        let skipped_bytes = mark_bytes + end.map_or(text.len(), |end| end + 1);
        return Ok(Some(TextFormat { columns, skipped_bytes, skipped_lines: 1 }));
    }
    let columns = by_count(text, separator).ok_or_else(|| {
        let fields = first.iter().filter(|&&b| b == separator).count() + 1;
        let plural = if fields == 1 { "" } else { "s" };
        refused(format!("the first line, `{}`, has {fields} field{plural}, not 40 or 39", shortened(first)))
    })?;
    Ok(Some(TextFormat { columns, skipped_bytes: mark_bytes, skipped_lines: 0 }))
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What a file is that is certainly no text.
fn binary(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(PARQUET) {
        Some("a Parquet file, which is read by itself or among others of its kind")
    } else if head.get(257..262) == Some(b"ustar") {
        Some("a tar archive (try `tar -xOf ARCHIVE train.txt | prep criteo`)")
    } else {
        None
    }
}

/// The columns that the header `line` names, if they are those of a click log.
fn header(line: &[u8], separator: u8) -> Option<Format> {
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let mut names = line.split(char::from(separator)).map(|name| name.trim_matches('"')).peekable();
    let id = names.next_if_eq(&"id").is_some();
    let label = names.next_if_eq(&"label").is_some();
    names.eq(column_names()).then_some(Format { separator, id, label })
}

/// The format by the number of fields that most of the first lines have.
fn by_count(text: &[u8], separator: u8) -> Option<Format> {
    let last_end = text.iter().rposition(|&b| b == b'\n').unwrap_or(text.len());
    let fields = |line: &[u8]| line.iter().filter(|&&b| b == separator).count() + 1;
    let labelled = Format { separator, id: false, label: true };
    let unlabelled = Format { label: false, ..labelled };
    let count =
        |format: Format| text[..last_end].split(|&b| b == b'\n').filter(|l| fields(l) == format.n_fields()).count();
    let (with, without) = (count(labelled), count(unlabelled));
    match with.max(without) {
        0 => None,
        _ if with >= without => Some(labelled),
        _ => Some(unlabelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(head: &str) -> String {
        match recognise(head.as_bytes(), "f") {
            Ok(Some(f)) => {
                let (id, label) = (if f.columns.id { "id " } else { "" }, if f.columns.label { "label " } else { "" });
                format!("{} {id}{label}{} {}", name(f.columns), f.skipped_bytes, f.skipped_lines)
            }
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_first_lines_tell_the_format() {
        let row = |fields: usize, separator: &str| format!("{}\n", vec!["0"; fields].join(separator));
        let names: Vec<String> = (1..=13).map(|i| format!("I{i}")).chain((1..=26).map(|i| format!("C{i}"))).collect();
        let names = names.join(",");
        assert_eq!(found(&row(40, "\t")), "criteo-tsv label 0 0");
        assert_eq!(found(&row(39, "\t")), "criteo-tsv 0 0");
        assert_eq!(found(&row(40, ",")), "criteo-csv label 0 0");
        assert_eq!(found(row(40, "\t").trim_end()), "criteo-tsv label 0 0");
        assert_eq!(found(&format!("{}{}{}", row(37, "\t"), row(40, "\t"), row(39, "\t"))), "criteo-tsv label 0 0");
        assert_eq!(found(&format!("{}{}{}", row(40, "\t"), row(39, "\t"), row(39, "\t"))), "criteo-tsv 0 0");
        assert_eq!(found(&format!("Id,Label,{names}\r\n1,0")), format!("criteo-csv id label {} 1", names.len() + 11));
        assert_eq!(found(&format!("\u{feff}Id,{names}\n")), format!("criteo-csv id {} 1", names.len() + 7));
        assert_eq!(found(&format!("label,{names}")), format!("criteo-csv label {} 1", names.len() + 6));
        assert_eq!(found(&names.replace(',', "\t").to_lowercase()), format!("criteo-tsv {} 1", names.len()));
        assert_eq!(found(""), "nothing");
        assert_eq!(found("\u{feff}\r\n\n"), "nothing");
        assert_eq!(found("hello\n"), "f:1:1: the header `hello` is not [Id], [Label], I1 to I13, C1 to C26");
        assert_eq!(
            found("1,2,3.5,4\n"),
            "f:1:1: the first line, `1,2,3.5,4`, has 4 fields, not 40 or 39: this looks like ratings"
        );
        assert_eq!(found("1\n"), "f:1:1: the first line, `1`, has 1 field, not 40 or 39");
        let swapped = names.replace("I1,I2", "I2,I1");
        assert!(found(&swapped).starts_with("f:1:1: the header `I2,I1,"));
        let mut tar = "train.txt".to_owned() + &"\0".repeat(248);
        tar.push_str("ustar\0");
        assert!(found(&tar).starts_with("f:1:1: this is a tar archive"));
    }
}
