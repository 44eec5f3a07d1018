//! Rows read from files of every packing by several threads are those of the text as a whole.

use std::io::Write;

use manifests::digest::digest;
use reporting::Console;

use super::*;
use crate::clicks::reference::{self, Collected};
use crate::ratings::format::Needs;
use crate::ratings::parse::{PackedRating, Separator, unpack_optional};
use crate::source::Input;

/// `text` in a file, as it is and compressed.
fn packed(text: &[u8]) -> [(tempfile::NamedTempFile, &'static str); 3] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(text, 1).unwrap();
    [("plain", text), ("gzip", &gzip[..]), ("zstd", &zstd[..])].map(|(name, bytes)| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        (file, name)
    })
}

fn input(file: &tempfile::NamedTempFile) -> Input {
    Input::Path(file.path().to_owned())
}

/// A row that breaks a rule: its number, line and column, what is said of it, and its text.
type Bad = (u64, u64, usize, String, Vec<u8>);

fn noted(bad: Refused<'_>) -> Bad {
    (bad.row, bad.line, bad.column, bad.problem, bad.text.to_vec())
}

/// Rows of a click log with number `i` in `I1` and a token that makes several blocks of them.
fn click(i: usize) -> String {
    format!("{}\t{i}{}\t{}{}", i % 2, "\t7".repeat(12), "x".repeat(700), "\t".repeat(25))
}

fn read_clicks(input: &Input, threads: usize, bad_max: usize) -> (Vec<reference::Row>, Vec<Bad>, Read) {
    let (source, format) = clicks::open(input).unwrap();
    let progress = Console::silent().progress("reading", None, "bytes");
    let reading = Reading { source: &source, format, threads, bad_max, progress: &progress };
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    let take = |(): &mut (), block: clicks::Undecoded<'_>, rows: &mut Collected| {
        rows.0.clear();
        Ok::<_, Error>(block.decode(rows))
    };
    let keep = |block: &Collected, first_row: u64| {
        let numbered = |row: &reference::Row| reference::Row { line: row.line + first_row as usize, ..row.clone() };
        rows.extend(block.0.iter().map(numbered));
        Ok(())
    };
    let refuse = |refused: Refused<'_>| {
        bad.push(noted(refused));
        Ok(())
    };
    let read = clicks::read(&reading, || (), take, refuse, keep).unwrap();
    (rows, bad, read)
}

#[test]
fn click_rows_and_bad_ones_have_their_numbers() {
    let mut lines: Vec<String> = (0..6000).map(click).collect();
    for i in [0, 1499, 5998] {
        lines[i] = click(i).replacen('7', "seven", 1);
    }
    // Blank lines that may or may not be at the end of a block, and some that are the end of the text.
    for i in (1400..1600).chain(3000..3003) {
        lines[i].clear();
    }
    let text = lines.join("\r\n") + "\r\n\r\n\n";
    let (expected, outcome) = reference::decode(
        text.as_bytes(),
        crate::clicks::Format { separator: b'\t', id: false, label: true },
        crate::clicks::lines::Limits { bad_max: usize::MAX, line_bytes_max: LINE_BYTES_MAX },
    );
    assert_eq!((expected.len(), outcome.bad.len(), outcome.trailing_blanks), (6000 - 3 - 202, 205, 2));
    for (file, packing) in packed(text.as_bytes()) {
        for threads in 1..4 {
            let (rows, bad, read) = read_clicks(&input(&file), threads, usize::MAX);
            assert!(rows == expected, "{packing} on {threads} threads");
            let bad_lines: Vec<usize> = bad.iter().map(|bad| bad.0 as usize).collect();
            assert_eq!(bad_lines, outcome.bad.iter().map(|bad| bad.line).collect::<Vec<_>>());
            assert!(bad.iter().all(|bad| bad.1 == bad.0 + 1));
            let (_, line, column, problem, row) = &bad[bad.len() - 1];
            assert_eq!((*line, *column, &problem[..]), (5999, 8, "I2 `seven` is not an integer"));
            assert_eq!(row, lines[5998].as_bytes());
            let digest = digest(text.as_bytes());
            assert_eq!(read, Read { bytes: text.len() as u64, digest, rows: 6000, good: expected.len() as u64 });
        }
    }
}

#[test]
fn reading_stops_at_the_first_bad_row() {
    let mut lines: Vec<String> = (0..6000).map(click).collect();
    lines[4321] = "1\t2".to_owned();
    lines[5000] = "x".to_owned();
    for (file, packing) in packed(lines.join("\n").as_bytes()) {
        let (source, format) = clicks::open(&input(&file)).unwrap();
        let progress = Console::silent().progress("reading", None, "bytes");
        let reading = Reading { source: &source, format, threads: 3, bad_max: 1, progress: &progress };
        let mut kept = 0;
        let take = |(): &mut (), block: clicks::Undecoded<'_>, rows: &mut Collected| {
            rows.0.clear();
            Ok(block.decode(rows))
        };
        let keep = |rows: &Collected, first_row: u64| {
            assert_eq!(first_row, kept);
            kept += rows.0.len() as u64;
            Ok(())
        };
        let outcome = clicks::read(&reading, || (), take, stop::<Error>, keep);
        let problem = "2 fields, expected 40: label, I1 to I13, C1 to C26";
        assert_eq!(outcome.unwrap_err().to_string(), format!("{}:4322:1: {problem}", source.shown), "{packing}");
        assert!(kept > 1000 && kept < 4321, "whole blocks before it were kept: {kept}");
    }
}

fn read_ratings(
    input: &Input,
    asked: Option<Separator>,
    threads: usize,
) -> Result<Vec<(u32, u32, Option<f32>)>, Error> {
    let (source, format) = ratings::open(input, asked, Needs::Pairs)?;
    let progress = Console::silent().progress("reading", None, "bytes");
    let reading = Reading { source: &source, format, threads, bad_max: 1, progress: &progress };
    let mut all = Vec::new();
    let take = |seen: &mut usize, rows: &[PackedRating], made: &mut Vec<(u32, u32, Option<f32>)>| {
        *seen += rows.len();
        made.clear();
        made.extend(rows.iter().map(unpack_optional));
        Ok(())
    };
    let keep = |rows: &[PackedRating], made: &Vec<_>| {
        assert_eq!(rows.len(), made.len());
        all.extend_from_slice(made);
        Ok(())
    };
    let (read, seen) = ratings::read(&reading, || 0, take, stop::<Error>, keep)?;
    assert_eq!((seen.iter().sum::<usize>(), read.good), (all.len(), all.len() as u64));
    Ok(all)
}

#[test]
fn ratings_come_in_order_with_stars_or_without() {
    let expected = |stars: bool| -> Vec<(u32, u32, Option<f32>)> {
        (0..200_000).map(|i| (i / 7, i * 31 % 10_007, stars.then(|| 0.5 + (i % 10) as f32 / 2.0))).collect()
    };
    for (header, separator, stars, behind) in [
        ("userId,movieId\n", ",", false, ""),
        ("userId,movieId,rating\n", ",", true, ""),
        ("userId,movieId,rating,timestamp\n", ",", true, ",964982703"),
        ("", "::", false, ""),
        ("", "::", true, "::978300760"),
        ("", "\t", false, ""),
        ("", "\t", true, "\t881250949"),
    ] {
        let expected = expected(stars);
        let row = |(user, item, stars): &(u32, u32, Option<f32>)| {
            let stars = stars.map_or_else(String::new, |stars| format!("{separator}{stars}"));
            format!("{user}{separator}{item}{stars}{behind}\n")
        };
        let text = header.to_owned() + &expected.iter().map(row).collect::<String>();
        assert!(text.len() > 2 << 20, "there are several blocks");
        for ((file, packing), threads) in packed(text.as_bytes()).into_iter().zip([2, 1, 3]) {
            let found = read_ratings(&input(&file), None, threads).unwrap();
            assert!(found == expected, "{header:?} {separator:?} {packing}");
        }
    }
}

#[test]
fn what_is_wrong_with_pairs_is_told() {
    for (text, asked, expected) in [
        ("", None, ": no ratings: it is empty"),
        ("\r\n\n", None, ": no ratings: there is nothing but empty lines"),
        ("userId,movieId\n1,2\n3\n", None, ":3:2: 1 column, expected 2"),
        ("1,2\n\n3,4\n", None, ":2:1: the line is empty"),
        ("1\t2\n3\tx\n", None, ":2:3: movieId `x` is not a whole number"),
        ("userId,movieId,rating\n1,2,\n", None, ":2:5: rating is empty"),
        ("1 2\n", None, ":1:1: the first line, `1 2`, has no columns separated by a comma, `::` or a tab"),
        ("1,2\n", Some(Separator::Tab), ":1:4: 1 column, expected 4"),
    ] {
        let [(file, _), ..] = packed(text.as_bytes());
        let told = read_ratings(&input(&file), asked, 2).unwrap_err().to_string();
        assert_eq!(told, format!("{}{expected}", file.path().display()), "{text:?}");
    }
    let [(file, _), ..] = packed(b"userId,movieId\n");
    assert_eq!(read_ratings(&input(&file), None, 2).unwrap(), []);
}
