//! The decoder in its readable form. [`super::lines`] must say the same of every text; tests and fuzzing hold it to that.

use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

use super::lines::{Limits, Outcome};
use super::number::{self, Number};
use super::rules::{BadRow, Rule};
use super::{Format, Numbers, Rows, Tokens};

/// A row with its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its line in the block, from 0.
    pub line: usize,
    /// Label and numbers.
    pub numbers: Numbers,
    /// `C1` to `C26`, empty where missing.
    pub tokens: Vec<Vec<u8>>,
}

/// Collects rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected(pub Vec<Row>);

impl Rows for Collected {
    fn reserve(&mut self, _: usize) {}

    fn push(&mut self, line: usize, numbers: &Numbers, tokens: Tokens<'_>) {
        let tokens = (0..N_CATEGORICAL).map(|column| tokens.get(column).to_vec()).collect();
        self.0.push(Row { line, numbers: *numbers, tokens });
    }
}

/// The rows of `text`, and what else it holds.
#[must_use]
pub fn decode(text: &[u8], format: Format, limits: Limits) -> (Vec<Row>, Outcome) {
    let (mut rows, mut outcome) = (Vec::new(), Outcome::default());
    let mut start = 0;
    let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    for (number, line) in lines.into_iter().enumerate() {
        let at = start;
        start += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            outcome.trailing_blanks += 1;
            continue;
        }
        for blank in number - outcome.trailing_blanks..number {
            outcome.bad.push(BadRow { line: blank, text: 0..0, field: 0..0, rule: Rule::NotBlank });
            outcome.lines += 1;
        }
        outcome.trailing_blanks = 0;
        outcome.lines += 1;
        let text = at..at + line.len();
        match read(line, number, format, limits) {
            Ok(row) => rows.push(row),
            Err((field, rule)) => outcome.bad.push(BadRow { line: number, text, field, rule }),
        }
        let too_long = outcome.bad.last().is_some_and(|bad| bad.rule == Rule::LineLength);
        if outcome.bad.len() >= limits.bad_max || too_long {
            break;
        }
    }
    (rows, outcome)
}

fn read(line: &[u8], number: usize, format: Format, limits: Limits) -> Result<Row, (std::ops::Range<usize>, Rule)> {
    if line.len() > limits.line_bytes_max {
        return Err((0..0, Rule::LineLength));
    }
    let fields: Vec<&[u8]> = line.split(|&b| b == format.separator).collect();
    if fields.len() != format.n_fields() {
        return Err((0..0, Rule::FieldCount { found: fields.len() }));
    }
    let range = |field: usize| {
        let start = fields[..field].iter().map(|f| f.len() + 1).sum::<usize>();
        start..start + fields[field].len()
    };
    if format.separator == b','
        && let Some(field) = fields.iter().position(|field| field.starts_with(b"\""))
    {
        return Err((range(field), Rule::NotQuoted));
    }
    let mut numbers = Numbers::default();
    if format.label {
        let field = usize::from(format.id);
        numbers.label = match fields[field] {
            b"0" => 0,
            b"1" => 1,
            _ => return Err((range(field), Rule::LabelIsBit)),
        };
    }
    for column in 0..N_NUMERIC {
        let field = format.first_number() + column;
        match number::parse(fields[field]) {
            Number::Missing => {}
            Number::Value(value) => {
                numbers.values[column] = value;
                numbers.present |= 1 << column;
            }
            Number::Bad(problem) => return Err((range(field), Rule::NumberIsWhole(column, problem))),
        }
    }
    let tokens = fields[format.first_number() + N_NUMERIC..].iter().map(|token| token.to_vec()).collect();
    Ok(Row { line: number, numbers, tokens })
}
