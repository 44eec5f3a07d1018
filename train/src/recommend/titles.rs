//! Titles of movies from MovieLens' `movies.csv`: `movieId,title,genres`, with quotes where a title has a comma.

use std::collections::HashMap;
use std::path::Path;

use csv_core::{ReadRecordResult, Reader};
use raw::clicks::rules::shortened;

use crate::error::Error;

/// Columns of the file.
const HEADER: [&[u8]; 3] = [b"movieid", b"title", b"genres"];
/// The longest row, without quotes.
const ROW_BYTES_MAX: usize = 1 << 16;
/// Fields that are told apart; a row with more is bad in any case.
const FIELDS_MAX: usize = 16;

/// The titles in the file `path`, by the movie's id.
pub(super) fn read(path: &Path) -> Result<HashMap<u32, String>, Error> {
    let place = path.display().to_string();
    let text = std::fs::read(path).map_err(|source| Error::File { place: place.clone(), done: "read", source })?;
    parse(&text).map_err(|(line, problem)| Error::Titles { place, line, problem })
}

/// The titles in `text`, or the line that is wrong and what is wrong with it.
fn parse(text: &[u8]) -> Result<HashMap<u32, String>, (u64, String)> {
    let mut text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader::new();
    let (mut record, mut ends) = (vec![0; ROW_BYTES_MAX], [0; FIELDS_MAX]);
    let (mut filled, mut n_fields) = (0, 0);
    let mut titles = HashMap::new();
    let (mut line, mut header) = (1, true);
    loop {
        let (result, read, written, found) = reader.read_record(text, &mut record[filled..], &mut ends[n_fields..]);
        text = &text[read..];
        (filled, n_fields) = (filled + written, n_fields + found);
        match result {
            // The text is whole: empty input is its end.
            ReadRecordResult::InputEmpty => continue,
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                return Err((line, "the row is too long, expected movieId,title,genres".to_owned()));
            }
            ReadRecordResult::End => break,
            ReadRecordResult::Record => {}
        }
        let field = |i: usize| &record[if i == 0 { 0 } else { ends[i - 1] }..ends[i]];
        if header {
            if n_fields != HEADER.len() || (0..n_fields).any(|i| field(i).to_ascii_lowercase() != HEADER[i]) {
                let found = shortened(&(0..n_fields).map(field).collect::<Vec<_>>().join(&b','));
                return Err((line, format!("the header `{found}` is not movieId,title,genres")));
            }
        } else {
            if n_fields != HEADER.len() {
                return Err((line, format!("{n_fields} fields, expected 3: movieId,title,genres")));
            }
            let id = str::from_utf8(field(0)).ok().and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| (line, format!("movieId `{}` is not a whole number", shortened(field(0)))))?;
            titles.insert(id, String::from_utf8_lossy(field(1)).into_owned());
        }
        header = false;
        (filled, n_fields) = (0, 0);
        line = reader.line();
    }
    if header {
        return Err((1, "it is empty, expected the header movieId,title,genres".to_owned()));
    }
    Ok(titles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_may_have_commas_quotes_and_any_line_ends() {
        let text = "movieId,title,genres\r\n1,Toy Story (1995),Adventure|Comedy\r\n11,\"American President, The (1995)\",Drama\n\
                    3,\"The \"\"Best\"\", Again\nand Again\",(no genres listed)\n4,Caf\u{e9},x";
        for text in [text.to_owned(), format!("\u{feff}{text}\n")] {
            let titles = parse(text.as_bytes()).unwrap();
            let expected = [
                (1, "Toy Story (1995)"),
                (11, "American President, The (1995)"),
                (3, "The \"Best\", Again\nand Again"),
                (4, "Caf\u{e9}"),
            ];
            assert_eq!(titles.len(), expected.len());
            for (id, title) in expected {
                assert_eq!(titles[&id], title);
            }
        }
        assert!(parse(b"movieId,title,genres\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let long = format!("movieId,title,genres\n1,{},x\n", "a".repeat(1 << 17));
        for (text, expected_line, expected) in [
            ("", 1, "it is empty, expected the header"),
            ("userId,movieId,rating\n", 1, "the header `userId,movieId,rating` is not movieId,title,genres"),
            ("movieId,title\n1,x\n", 1, "the header `movieId,title` is not"),
            ("movieId,title,genres\n1,x,y\ntwo,x,y\n", 3, "movieId `two` is not a whole number"),
            ("movieId,title,genres\n1,x\n", 2, "2 fields, expected 3"),
            ("movieId,title,genres\n1,American President, The,y\n", 2, "4 fields, expected 3"),
            (&long, 2, "the row is too long"),
        ] {
            let (line, problem) = parse(text.as_bytes()).unwrap_err();
            assert!(line == expected_line && problem.contains(expected), "{line}: {problem}");
        }
    }
}
