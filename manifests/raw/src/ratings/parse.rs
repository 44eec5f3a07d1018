//! From bytes to ratings: the parser that the whole input goes through.
//!
//! There are two. [`parse_line`] takes one line, knows every rule and says what is wrong and where. The kernel in
//! [`parse_block`] takes the well-formed line of usual length without a branch that depends on its digits, and hands
//! everything else to [`parse_line`]; a test holds one against the other. There is no I/O here.

use super::rules::{Column, RATING_MAX, RATING_MIN, Rule};
use crate::blocks::LINE_BYTES_MAX;
use crate::outcome::{self, Outcome};

/// One rating as it stands in the source: user id, item id, stars. [`NO_STARS`] where there is no column for them.
pub type Rating = (u32, u32, f32);

/// Stands for the stars of a row that has only user and item.
pub const NO_STARS: f32 = f32::NAN;

/// A [`Rating`] as 12 bytes, little-endian.
pub type PackedRating = [u8; 12];

/// `rating` as bytes.
#[inline]
#[must_use]
pub fn pack((user, item, rating): Rating) -> PackedRating {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&user.to_le_bytes());
    bytes[4..8].copy_from_slice(&item.to_le_bytes());
    bytes[8..].copy_from_slice(&rating.to_le_bytes());
    bytes
}

/// The rating in `bytes`.
#[inline]
#[must_use]
pub fn unpack(bytes: &PackedRating) -> Rating {
    let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    (u32::from_le_bytes(word(0)), u32::from_le_bytes(word(4)), f32::from_le_bytes(word(8)))
}

/// The rating in `bytes`: user id, item id and, where there is a column for them, stars.
#[inline]
#[must_use]
pub fn unpack_optional(bytes: &PackedRating) -> (u32, u32, Option<f32>) {
    let (user, item, stars) = unpack(bytes);
    (user, item, (!stars.is_nan()).then_some(stars))
}

/// What stands between two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// `,`
    Comma,
    /// `::`
    Colons,
    /// A tab.
    Tab,
}

impl Separator {
    /// Its characters.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Comma => ",",
            Self::Colons => "::",
            Self::Tab => "\t",
        }
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        self.text().as_bytes()
    }
}

/// How lines are made of columns: user, item, when `n_columns` is 3 or 4 a rating, and when it is 4 a timestamp that is not
/// looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// What stands between them.
    pub separator: Separator,
    /// 2 to 4.
    pub n_columns: usize,
}

/// A row that breaks a rule.
pub type BadRow = outcome::BadRow<Rule>;

/// The rows of a block. Every line is a row, good or bad, but for blank ones at the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The good rows in order.
    pub rows: Vec<PackedRating>,
    /// The bad rows in order.
    pub bad: Vec<BadRow>,
    /// Blank lines at the end, which are bad rows only if something follows.
    pub trailing_blanks: usize,
}

impl Parsed {
    /// What the block holds besides good rows, moved out.
    pub fn take_outcome(&mut self) -> Outcome<Rule> {
        let (lines, trailing_blanks) = (self.lines(), self.trailing_blanks);
        Outcome { lines, trailing_blanks, bad: std::mem::take(&mut self.bad) }
    }

    fn lines(&self) -> usize {
        self.rows.len() + self.bad.len()
    }

    fn settle_blanks(&mut self) {
        for _ in 0..std::mem::take(&mut self.trailing_blanks) {
            self.bad.push(BadRow::blank(self.lines()));
        }
    }
}

/// Parses the whole lines `text` into `parsed`, whose buffers are used again. Stops after `bad_max` bad rows.
pub fn parse_block(text: &[u8], columns: Columns, bad_max: usize, parsed: &mut Parsed) {
    parsed.rows.clear();
    parsed.bad.clear();
    parsed.trailing_blanks = 0;
    match (columns.separator, columns.n_columns) {
        (_, 2) => parse(text, columns, bad_max, parsed, |_| None),
        (Separator::Comma, 3) => parse(text, columns, bad_max, parsed, usual_line::<b',', 1, false>),
        (Separator::Comma, _) => parse(text, columns, bad_max, parsed, usual_line::<b',', 1, true>),
        (Separator::Tab, 3) => parse(text, columns, bad_max, parsed, usual_line::<b'\t', 1, false>),
        (Separator::Tab, _) => parse(text, columns, bad_max, parsed, usual_line::<b'\t', 1, true>),
        (Separator::Colons, 3) => parse(text, columns, bad_max, parsed, usual_line::<b':', 2, false>),
        (Separator::Colons, _) => parse(text, columns, bad_max, parsed, usual_line::<b':', 2, true>),
    }
}

/// [`parse_block`] with a kernel for the columns.
fn parse(
    text: &[u8],
    columns: Columns,
    bad_max: usize,
    parsed: &mut Parsed,
    usual_line: impl Fn(&[u8; WINDOW]) -> Option<(Rating, usize)>,
) {
    let mut at = 0;
    while at < text.len() {
        if let Some(window) = text[at..].first_chunk::<WINDOW>()
            && let Some((rating, len)) = usual_line(window)
            && parsed.trailing_blanks == 0
        {
            parsed.rows.push(pack(rating));
            at += len;
            continue;
        }
        let end = text[at..].iter().position(|&b| b == b'\n').map_or(text.len(), |len| at + len);
        let line = text[at..end].strip_suffix(b"\r").unwrap_or(&text[at..end]);
        let range = at..at + line.len();
        at = end + 1;
        if line.is_empty() {
            parsed.trailing_blanks += 1;
            continue;
        }
        parsed.settle_blanks();
        match parse_line(line, columns) {
            Ok(rating) => parsed.rows.push(pack(rating)),
            Err((field, rule)) => parsed.bad.push(BadRow { line: parsed.lines(), text: range, field, rule }),
        }
        if parsed.bad.len() >= bad_max {
            return;
        }
    }
}

/// The rating on `line`, which has no line end.
///
/// # Errors
/// The first field that breaks a rule, and the rule.
pub fn parse_line(line: &[u8], columns: Columns) -> Result<Rating, (std::ops::Range<usize>, Rule)> {
    if line.len() > LINE_BYTES_MAX {
        return Err((0..0, Rule::LineLength));
    }
    let separator = columns.separator.bytes();
    let mut fields: [std::ops::Range<usize>; 5] = std::array::from_fn(|_| line.len()..line.len());
    let (mut found, mut start, mut at) = (0, 0, 0);
    loop {
        let ends = at >= line.len();
        if ends || line[at..].starts_with(separator) {
            if let Some(field) = fields.get_mut(found) {
                *field = start..at.min(line.len());
            }
            found += 1;
            if ends {
                break;
            }
            at += separator.len();
            start = at;
        } else {
            at += 1;
        }
    }
    if found != columns.n_columns {
        let field = fields[columns.n_columns.min(found)].clone();
        return Err((field, Rule::ColumnCount { found }));
    }
    let field = |column: Column| {
        let range = fields[column as usize].clone();
        let text = &line[range.clone()];
        if text.is_empty() { Err((range, Rule::NotEmpty(column))) } else { Ok((range, text)) }
    };
    for column in Column::ALL.into_iter().take(columns.n_columns) {
        field(column)?;
    }
    let id = |column: Column| {
        let (range, text) = field(column)?;
        parse_id(text).map_err(|rule| (range, rule(column)))
    };
    if columns.n_columns == 2 {
        return Ok((id(Column::User)?, id(Column::Item)?, NO_STARS));
    }
    let (range, text) = field(Column::Rating)?;
    Ok((id(Column::User)?, id(Column::Item)?, parse_rating(text).map_err(|rule| (range, rule))?))
}

fn parse_id(text: &[u8]) -> Result<u32, fn(Column) -> Rule> {
    let (negative, digits) = text.strip_prefix(b"-").map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Rule::IdIsWhole);
    }
    if negative {
        return Err(Rule::IdNotNegative);
    }
    let id = digits.iter().try_fold(0u32, |id, d| id.checked_mul(10)?.checked_add(u32::from(d - b'0')));
    id.ok_or(Rule::IdFits)
}

fn parse_rating(text: &[u8]) -> Result<f32, Rule> {
    let rating: f32 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(Rule::RatingIsNumber)?;
    if !rating.is_finite() {
        return Err(Rule::RatingIsFinite);
    }
    if (RATING_MIN..=RATING_MAX).contains(&rating) { Ok(rating) } else { Err(Rule::RatingInRange) }
}

/// Bytes that a line the kernel takes fits into: two ids of at most 7 digits, `d.d`, a timestamp of at most 23 bytes, and
/// the reads past them.
const WINDOW: usize = 64;

/// The rating at the beginning of `window` and the length of its line, when that is as usual lines are.
#[inline(always)]
fn usual_line<const SEPARATOR: u8, const WIDTH: usize, const TIMESTAMP: bool>(
    window: &[u8; WINDOW],
) -> Option<(Rating, usize)> {
    let separated = |at: usize| window[at] == SEPARATOR && (WIDTH == 1 || window[at + 1] == SEPARATOR);
    let (user, digits) = leading_number(word(window, 0))?;
    if !separated(digits) {
        return None;
    }
    let at = digits + WIDTH;
    let (item, digits) = leading_number(word(window, at))?;
    let at = at + digits;
    if !separated(at) {
        return None;
    }
    let at = at + WIDTH;
    let (whole, tenth) = (window[at].wrapping_sub(b'0'), window[at + 2].wrapping_sub(b'0'));
    let pointed = window[at + 1] == b'.';
    if whole > 9 || (pointed && tenth > 9) {
        return None;
    }
    let tenths = if pointed { whole * 10 + tenth } else { whole * 10 };
    let at = if pointed { at + 3 } else { at + 1 };
    // The bounds of the range in tenths of a star.
    if !(5..=50).contains(&tenths) {
        return None;
    }
    // Both are exact, and the quotient is correctly rounded, so this is what parsing the text gives.
    let rating = f32::from(tenths) / 10.0;
    if !TIMESTAMP {
        let at = at + usize::from(window[at] == b'\r');
        return (window[at] == b'\n').then_some(((user, item, rating), at + 1));
    }
    if !separated(at) {
        return None;
    }
    let at = at + WIDTH;
    for at in [at, at + 8, at + 16] {
        let word = word(window, at);
        let special = zero_bytes(word ^ repeated(b'\n')) | zero_bytes(word ^ repeated(SEPARATOR));
        if special != 0 {
            let at = at + (special.trailing_zeros() / 8) as usize;
            return (window[at] == b'\n').then_some(((user, item, rating), at + 1));
        }
    }
    None
}

#[inline(always)]
fn word(window: &[u8; WINDOW], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&window[at..at + 8]);
    u64::from_le_bytes(bytes)
}

const fn repeated(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// The high bit of every byte that is 0; bits above the lowest of them may be wrong.
///
/// Source: Mycroft's test, in Warren, *Hacker's Delight*, section 6-1.
#[inline(always)]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeated(1)) & !word & repeated(0x80)
}

/// The decimal number of 1 to 7 digits that `word` begins with, and how many digits it has.
#[inline(always)]
fn leading_number(word: u64) -> Option<(u32, usize)> {
    let values = word ^ repeated(b'0');
    // A byte over 9 gets its high bit set, by the addition or because it had it. Carries only go upwards.
    let others = (values.wrapping_add(repeated(0x76)) | values) & repeated(0x80);
    let digits = (others.trailing_zeros() / 8) as usize;
    if digits == 0 || digits == 8 {
        return None;
    }
    // The digits move to the end of the word, where zeros before them do not count, and are added up in pairs.
    let v = values << (64 - 8 * digits);
    let v = (v & 0x00ff_00ff_00ff_00ff) * 10 + ((v >> 8) & 0x00ff_00ff_00ff_00ff);
    let v = (v & 0x0000_ffff_0000_ffff) * 100 + ((v >> 16) & 0x0000_ffff_0000_ffff);
    let v = (v & 0xffff_ffff) * 10_000 + (v >> 32);
    Some((v as u32, digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CSV: Columns = Columns { separator: Separator::Comma, n_columns: 4 };
    const DAT: Columns = Columns { separator: Separator::Colons, n_columns: 4 };
    const TAB: Columns = Columns { separator: Separator::Tab, n_columns: 4 };
    const CSV3: Columns = Columns { separator: Separator::Comma, n_columns: 3 };
    const CSV2: Columns = Columns { separator: Separator::Comma, n_columns: 2 };

    /// The readable parser alone, line by line.
    fn parse_simply(text: &[u8], columns: Columns) -> Parsed {
        let mut parsed = Parsed::default();
        let mut start = 0;
        for line in text.split_inclusive(|&b| b == b'\n') {
            let content = line.strip_suffix(b"\n").unwrap_or(line);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            let range = start..start + content.len();
            start += line.len();
            if content.is_empty() {
                parsed.trailing_blanks += 1;
                continue;
            }
            parsed.settle_blanks();
            match parse_line(content, columns) {
                Ok(rating) => parsed.rows.push(pack(rating)),
                Err((field, rule)) => parsed.bad.push(BadRow { line: parsed.lines(), text: range, field, rule }),
            }
        }
        parsed
    }

    fn line() -> impl Strategy<Value = String> {
        let id = prop_oneof![
            (0u64..20_000_000).prop_map(|n| n.to_string()),
            (0u64..6_000_000_000).prop_map(|n| n.to_string()),
            "[0-9]{0,9}",
            "-?[0-9a:,]{0,3}",
        ];
        let rating = prop_oneof!["[0-6](\\.[0-9])?", "[0-9]\\.[0-9]{0,9}", "-?[0-9.eE]{0,4}", Just("NaN".to_owned())];
        let time = prop_oneof!["[0-9]{9,10}", "[0-9:]{0,30}", "http://[a-z/,:]{0,10}"];
        let separator = prop_oneof![8 => Just(","), 4 => Just("::"), 4 => Just("\t"), 1 => Just(":")];
        let end =
            prop_oneof![8 => Just("\n"), 4 => Just("\r\n"), 1 => Just("\n\n"), 1 => Just(",5\n"), 1 => Just("\r\r\n")];
        (id.clone(), separator, id, rating, time, end, 0..10).prop_map(|(user, s, item, rating, time, end, kind)| {
            match kind {
                0 => format!("{user}{s}{item}{s}{rating}{end}"),
                _ => format!("{user}{s}{item}{s}{rating}{s}{time}{end}"),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_kernel_agrees_with_the_readable_parser(lines in proptest::collection::vec(line(), 0..12), cut in 0usize..4) {
            let text = lines.concat();
            let text = &text.as_bytes()[..text.len() - cut.min(text.len())];
            for columns in [CSV, DAT, TAB, CSV3, Columns { n_columns: 3, ..DAT }] {
                let mut parsed = Parsed::default();
                parse_block(text, columns, usize::MAX, &mut parsed);
                prop_assert_eq!(parsed, parse_simply(text, columns));
            }
        }
    }

    #[test]
    fn the_kernel_takes_usual_lines_itself() {
        // Otherwise the comparison above would hold one parser against itself.
        let mut window = [b' '; WINDOW];
        for (line, expected) in [
            ("1,31,2.5,1260759144\n", Some((1, 31, 2.5))),
            ("138493,131262,4.5,1427784002\r\n", Some((138_493, 131_262, 4.5))),
            ("9999999,0,5,1\n", Some((9_999_999, 0, 5.0))),
            ("1,2,4.7,1\n", Some((1, 2, 4.7))),
            ("12345678,1,4.0,1\n", None),
            ("1,2,5.5,1\n", None),
        ] {
            window[..line.len()].copy_from_slice(line.as_bytes());
            let found = usual_line::<b',', 1, true>(&window);
            assert_eq!(found, expected.map(|rating| (rating, line.len())), "{line:?}");
        }
    }

    fn check(line: &str, columns: Columns, expected: &str) {
        let found = match parse_line(line.as_bytes(), columns) {
            Ok((user, item, rating)) => format!("{user} {item} {rating}"),
            Err((field, rule)) => {
                format!("{}: {}", field.start + 1, rule.explain(&line.as_bytes()[field], columns))
            }
        };
        assert_eq!(found, expected, "{line:?}");
    }

    #[test]
    fn every_rule_is_told_with_value_and_column() {
        for (line, expected) in [
            ("1,2,4.0,964982703", "1 2 4"),
            ("0,4294967295,0.5,", "0 4294967295 0.5"),
            ("007,2,5,http://x", "7 2 5"),
            ("1,2,4e0,9", "1 2 4"),
            ("1,2,4.0", "8: 3 columns, expected 4"),
            ("1", "2: 1 column, expected 4"),
            ("1,2,4.0,5,6", "11: 5 columns, expected 4"),
            ("1,2,4.0,5,6,7", "11: 6 columns, expected 4"),
            (",2,4.0,5", "1: userId is empty"),
            ("1,,4.0,5", "3: movieId is empty"),
            ("1,2,,5", "5: rating is empty"),
            ("x,2,4.0,5", "1: userId `x` is not a whole number"),
            ("1,2.0,4.0,5", "3: movieId `2.0` is not a whole number"),
            ("1, 2,4.0,5", "3: movieId ` 2` is not a whole number"),
            ("1,-2,4.0,5", "3: movieId -2 is negative"),
            ("4294967296,2,4.0,5", "1: userId 4294967296 is larger than 4294967295"),
            ("1,99999999999999999999,4.0,5", "3: movieId 99999999999999999999 is larger than 4294967295"),
            ("1,2,good,5", "5: rating `good` is not a number"),
            ("1,2,NaN,5", "5: rating NaN is not a finite number"),
            ("1,2,-inf,5", "5: rating -inf is not a finite number"),
            ("1,2,5.5,5", "5: rating 5.5 is outside 0.5..=5"),
            ("1,2,0,5", "5: rating 0 is outside 0.5..=5"),
            ("1,2,-3.5,5", "5: rating -3.5 is outside 0.5..=5"),
        ] {
            check(line, CSV, expected);
        }
        check("1::2::4::5::6", DAT, "13: 5 columns, expected 4");
        check("1::2::4::5:6", DAT, "1 2 4");
        check("1,2,4.0,5", CSV3, "9: 4 columns, expected 3");
        check("1,2", CSV2, "1 2 NaN");
        check("1::2", Columns { n_columns: 2, ..DAT }, "1 2 NaN");
        check("1", CSV2, "2: 1 column, expected 2");
        check("1,2,4.0", CSV2, "5: 3 columns, expected 2");
        check("1,", CSV2, "3: movieId is empty");
        check("1,-2", CSV2, "3: movieId -2 is negative");
        check("1\t2\t\u{1b}[31m\t5", TAB, "5: rating `\\u{1b}[31m` is not a number");
        let long = format!("1,2,{},5", "9".repeat(LINE_BYTES_MAX));
        check(&long, CSV, &format!("1: the line is longer than {LINE_BYTES_MAX} bytes"));
        let word = "x".repeat(300);
        check(&format!("1,2,{word},5"), CSV, &format!("5: rating `{}...` is not a number", &word[..60]));
    }

    #[test]
    fn rows_of_two_columns_have_no_stars() {
        let mut parsed = Parsed::default();
        parse_block(b"1,2\r\n\n3,x\n5,6\n\n", CSV2, usize::MAX, &mut parsed);
        let rows: Vec<_> = parsed.rows.iter().map(unpack_optional).collect();
        assert_eq!(rows, [(1, 2, None), (5, 6, None)]);
        assert_eq!(unpack_optional(&pack((1, 2, 0.5))), (1, 2, Some(0.5)));
        let outcome = parsed.take_outcome();
        assert_eq!((outcome.lines, outcome.trailing_blanks), (4, 1));
        let bad: Vec<_> = outcome.bad.iter().map(|bad| (bad.line, bad.rule)).collect();
        assert_eq!(bad, [(1, Rule::NotBlank), (2, Rule::IdIsWhole(Column::Item))]);
    }

    #[test]
    fn parsing_stops_after_the_bad_rows_that_are_allowed() {
        let mut parsed = Parsed::default();
        parse_block(b"1,2,3,4\nx\n1,2,3,4\ny\n1,2,3,4\n", CSV, 2, &mut parsed);
        assert_eq!((parsed.rows.len(), parsed.bad.len()), (2, 2));
        assert_eq!(parsed.bad[1].line, 3);
    }
}
