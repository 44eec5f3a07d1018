//! The decoder: a block of lines to rows.

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::number::{self, Number};
use super::rules::{BadRow, Rule};
use super::separators::Ends;
use super::{Format, Numbers, Rows, Tokens};
use crate::outcome;

/// What a decoder gives up at.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many bad rows nothing more is read.
    pub bad_max: usize,
    /// The longest line, its end not counted. Nothing is read behind a longer one.
    pub line_bytes_max: usize,
}

/// What a block holds besides good rows.
pub type Outcome = outcome::Outcome<Rule>;

/// Takes blocks of lines apart, with the same buffers.
#[derive(Debug, Default)]
pub struct Decoder {
    ends: Ends,
}

impl Decoder {
    /// Gives the good rows of `text` to `rows`, in order. Lines end with `\n` or `\r\n`; a last one without an end counts.
    pub fn decode(&mut self, text: &[u8], format: Format, limits: Limits, rows: &mut impl Rows) -> Outcome {
        self.ends.find(text, format.separator);
        let (fields, lines) = (self.ends.fields(), self.ends.lines());
        rows.reserve(lines.len());
        let mut outcome = Outcome::default();
        let (mut first, mut start) = (0, 0);
        for (line, &next) in lines.iter().enumerate() {
            let ends = &fields[first..next as usize];
            let end = ends[ends.len() - 1] as usize;
            let row = Line { text, start, ends, end: end - usize::from(text[start..end].last() == Some(&b'\r')) };
            (first, start) = (next as usize, end + 1);
            if row.start == row.end {
                outcome.trailing_blanks += 1;
                continue;
            }
            if outcome.trailing_blanks > 0 {
                outcome.reject_blanks(line);
            }
            let result = match row.end - row.start <= limits.line_bytes_max {
                true => row.read(format, line, rows),
                false => Err((0, Rule::LineLength)),
            };
            outcome.lines += 1;
            if let Err((field, rule)) = result {
                outcome.bad.push(row.bad(line, field, rule));
            }
            if outcome.bad.len() >= limits.bad_max || matches!(result, Err((_, Rule::LineLength))) {
                break;
            }
        }
        outcome
    }
}

impl Outcome {
    /// Makes the blank lines before line number `line` bad rows.
    #[cold]
    fn reject_blanks(&mut self, line: usize) {
        let blanks = line - std::mem::take(&mut self.trailing_blanks)..line;
        self.lines += blanks.len();
        self.bad.extend(blanks.map(BadRow::blank));
    }
}

/// One line of a block.
struct Line<'a> {
    text: &'a [u8],
    start: usize,
    /// Where its fields end, a carriage return of the last one included.
    ends: &'a [u32],
    /// Where it ends without the carriage return.
    end: usize,
}

impl Line<'_> {
    /// Gives the row to `rows`, or says which field, from 0, breaks which rule.
    #[inline]
    fn read(&self, format: Format, line: usize, rows: &mut impl Rows) -> Result<(), (usize, Rule)> {
        if self.ends.len() != format.n_fields() {
            return Err((0, Rule::FieldCount { found: self.ends.len() }));
        }
        if format.separator == b',' {
            self.check_quotes()?;
        }
        let mut numbers = Numbers::default();
        if format.label {
            let field = usize::from(format.id);
            numbers.label = match self.field(field) {
                b"0" => 0,
                b"1" => 1,
                _ => return Err((field, Rule::LabelIsBit)),
            };
        }
        let first = format.first_number();
        // The last three are the fields before `I1`, the numbers, and the end of every token but the last.
        let (ends, _) = self.ends[first..].split_first_chunk::<N_NUMERIC>().expect("the number of fields is right");
        let mut start = if first == 0 { self.start } else { self.ends[first - 1] as usize + 1 };
        for (column, (value, &end)) in numbers.values.iter_mut().zip(ends).enumerate() {
            let field = start..end as usize;
            start = end as usize + 1;
            // At least the ends of 26 tokens follow a number, so there are eight bytes to read.
            let word = self
                .text
                .get(field.start..field.start + 8)
                .map_or([0; 8], |word| word.try_into().expect("the slice has eight bytes"));
            let (number, present) = match number::parse_short(u64::from_le_bytes(word), field.len()) {
                Some(number) => number,
                None => long(&self.text[field], column).map_err(|rule| (first + column, rule))?,
            };
            *value = number;
            numbers.present |= present << column;
        }
        let ends = self.ends[first + N_NUMERIC - 1..].first_chunk::<N_CATEGORICAL>();
        let ends = ends.expect("the number of fields is right");
        rows.push(line, &numbers, Tokens { text: self.text, ends, last: self.end });
        Ok(())
    }

    #[cold]
    fn check_quotes(&self) -> Result<(), (usize, Rule)> {
        match (0..self.ends.len()).find(|&field| self.field(field).starts_with(b"\"")) {
            Some(field) => Err((field, Rule::NotQuoted)),
            None => Ok(()),
        }
    }

    fn field_start(&self, field: usize) -> usize {
        if field == 0 { self.start } else { self.ends[field - 1] as usize + 1 }
    }

    fn field(&self, field: usize) -> &[u8] {
        let end = if field + 1 == self.ends.len() { self.end } else { self.ends[field] as usize };
        &self.text[self.field_start(field)..end]
    }

    #[cold]
    fn bad(&self, line: usize, field: usize, rule: Rule) -> BadRow {
        let whole = matches!(rule, Rule::FieldCount { .. } | Rule::LineLength);
        let start = self.field_start(field) - self.start;
        let field = if whole { 0..0 } else { start..start + self.field(field).len() };
        BadRow { line, text: self.start..self.end, field, rule }
    }
}

/// A number that is not short.
#[cold]
fn long(field: &[u8], column: usize) -> Result<(i64, u16), Rule> {
    match number::parse(field) {
        Number::Missing => Ok((0, 0)),
        Number::Value(value) => Ok((value, 1)),
        Number::Bad(problem) => Err(Rule::NumberIsWhole(column, problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clicks::reference;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { bad_max: usize::MAX, line_bytes_max: 400 };

    fn fast(text: &[u8], format: Format, limits: Limits) -> (Vec<reference::Row>, Outcome) {
        let mut rows = reference::Collected::default();
        let mut decoder = Decoder::default();
        decoder.decode(b"left\tover\n\n", format, limits, &mut rows);
        rows = reference::Collected::default();
        let outcome = decoder.decode(text, format, limits, &mut rows);
        (rows.0, outcome)
    }

    #[track_caller]
    fn agree(text: &[u8], format: Format, limits: Limits) {
        let (expected_rows, expected) = reference::decode(text, format, limits);
        let (rows, outcome) = fast(text, format, limits);
        assert_eq!(outcome, expected);
        assert_eq!(rows, expected_rows);
    }

    fn formats() -> impl Iterator<Item = Format> {
        let separators = [(b'\t', false), (b',', true), (b',', false)];
        let of = |(separator, id)| [true, false].map(|label| Format { separator, id, label });
        separators.into_iter().flat_map(of)
    }

    /// Mostly good rows: fields of every sort, often the right number of them.
    fn text(format: Format) -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![
            3 => Just(String::new()), 6 => (-3i64..100_000).prop_map(|n| n.to_string()), 1 => any::<i64>().prop_map(|n| n.to_string()),
        ];
        let token = prop_oneof![4 => "[0-9a-f]{8}", 1 => Just(String::new()), 1 => "[ -!#-+\\-~]{0,20}"];
        let label = prop_oneof![20 => "[01]", 1 => "[2a]?"];
        let row = (label, proptest::collection::vec(number, 13), proptest::collection::vec(token, 26));
        let row = row.prop_map(move |(label, numbers, tokens)| {
            let head = [format.id.then(|| "10000007".to_owned()), format.label.then_some(label)];
            let fields: Vec<String> = head.into_iter().flatten().chain(numbers).chain(tokens).collect();
            fields.join(std::str::from_utf8(&[format.separator]).unwrap())
        });
        let end = prop_oneof![6 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\n\n"), 1 => Just("\t\n"), 1 => Just("")];
        let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        let lines = proptest::collection::vec((row, end), 0..6);
        (lines, damage).prop_map(|(lines, damage)| {
            let mut text: Vec<u8> = lines.into_iter().map(|(row, end)| row + end).collect::<String>().into_bytes();
            for (at, byte) in damage.into_iter().filter(|_| !text.is_empty()).collect::<Vec<_>>() {
                let at = at.index(text.len());
                text[at] = byte;
            }
            text
        })
    }

    proptest! {
        #[test]
        fn rows_and_problems_are_those_of_the_readable_decoder(
            (format, text) in proptest::sample::select(formats().collect::<Vec<_>>())
                .prop_flat_map(|format| (Just(format), text(format))),
            bad_max in 1usize..4,
        ) {
            agree(&text, format, LIMITS);
            agree(&text, format, Limits { bad_max, ..LIMITS });
        }

        #[test]
        fn any_bytes_are_understood_alike(text in proptest::collection::vec(prop_oneof![
            4 => Just(b'\t'), 1 => Just(b'\n'), 1 => Just(b'\r'), 2 => b'0'..=b'9', 1 => any::<u8>()
        ], 0..500)) {
            formats().for_each(|format| agree(&text, format, LIMITS));
        }
    }

    fn kaggle() -> Format {
        Format { separator: b'\t', id: false, label: true }
    }

    #[test]
    fn a_row_of_the_real_shape_is_read() {
        let text = b"0\t1\t\t-1\t99999999\t123456789\t-9223372036854775808\t7\t8\t9\t10\t11\t12\t\t68fd1e64\t80e26c9b\tfb936136\t            7b4723c4\t25c83c98\t7e0ccccf\tde7995b8\t1f89b562\ta73ee510\ta8cd5504\tb2cb9c98\t37c9c164\t2824a5f6\t1adce6ef\t            8ba8b39a\t891b62e7\te5ba7672\tf54016b9\t21ddcdc9\tb1252a9d\t07b5194c\t\t3a171ecb\tc5c50484\te8b83407\t\r\n";
        let (rows, outcome) = fast(text, kaggle(), LIMITS);
        assert_eq!(outcome, Outcome { lines: 1, ..Outcome::default() });
        let [row] = &rows[..] else { panic!("{rows:?}") };
        let values = [1, 0, -1, 99_999_999, 123_456_789, i64::MIN, 7, 8, 9, 10, 11, 12, 0];
        assert_eq!(row.numbers, Numbers { label: 0, present: 0b0_1111_1111_1101, values });
        assert_eq!((row.line, &row.tokens[0][..], &row.tokens[24][..]), (0, &b"68fd1e64"[..], &b"e8b83407"[..]));
        assert_eq!((row.tokens[21].len(), row.tokens[25].len()), (0, 0), "empty, also at the end of the row");
    }

    #[test]
    fn bad_rows_are_told_with_field_and_rule() {
        let good = |label: &str, first: &str| format!("{label}\t{first}{}", "\t".repeat(38));
        let table: [(String, &str, &str); 9] = [
            (good("2", ""), "2", "the label `2` is neither 0 nor 1"),
            (good("", ""), "", "the label is empty, expected 0 or 1"),
            (good("1", "12x"), "12x", "I1 `12x` is not an integer"),
            (
                good("1", "99999999999999999999"),
                "99999999999999999999",
                "I1 `99999999999999999999` does not fit 64 bits",
            ),
            (
                good("1", "260.0"),
                "260.0",
                "I1 `260.0` is a decimal number, expected an integer; the file seems to have been written anew by a tool that \
                 turns columns with missing values into floats (`--format csv` reads such csv files)",
            ),
            (good("1", "\0"), "\0", "I1 `\\0` is not an integer"),
            ("1\t".repeat(38), "", "39 fields, expected 40: label, I1 to I13, C1 to C26"),
            ("1\t".repeat(40), "", "41 fields, expected 40: label, I1 to I13, C1 to C26"),
            ("x".repeat(401), "", "the line is longer than 400 bytes"),
        ];
        for (text, field, problem) in table {
            let text = format!("{}\n{text}\n", good("1", "5"));
            let (rows, outcome) = fast(text.as_bytes(), kaggle(), LIMITS);
            let [bad] = &outcome.bad[..] else { panic!("{outcome:?}") };
            let row = &text.as_bytes()[bad.text.clone()];
            assert_eq!((rows.len(), bad.line, &row[bad.field.clone()]), (1, 1, field.as_bytes()), "{text:?}");
            assert_eq!(bad.rule.explain(field.as_bytes(), kaggle(), 400), problem);
        }
    }

    #[test]
    fn blank_lines_are_bad_rows_only_before_a_row() {
        let row = format!("1{}", "\t".repeat(39));
        let (rows, outcome) = fast(format!("{row}\n\n\r\n{row}\n\n\n").as_bytes(), kaggle(), LIMITS);
        let bad: Vec<_> = outcome.bad.iter().map(|bad| (bad.line, bad.rule)).collect();
        assert_eq!(bad, [(1, Rule::NotBlank), (2, Rule::NotBlank)]);
        assert_eq!((rows.len(), rows[1].line, outcome.lines, outcome.trailing_blanks), (2, 3, 4, 2));
    }

    #[test]
    fn quotes_are_tokens_in_tab_files_and_bad_rows_in_csv_files() {
        let row = |separator: &str| format!("1{}\"68fd1e64\"", separator.repeat(39));
        assert_eq!(fast(row("\t").as_bytes(), kaggle(), LIMITS).0[0].tokens[25], b"\"68fd1e64\"");
        let csv = Format { separator: b',', ..kaggle() };
        let bad = &fast(row(",").as_bytes(), csv, LIMITS).1.bad[0];
        assert_eq!((bad.rule, bad.field.clone()), (Rule::NotQuoted, 40..50));
    }
}
