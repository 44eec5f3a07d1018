//! The tables of a run, read byte by byte: plain numbers and words between commas, as `train` writes them. Quotes do not occur.

use schemas::exit::{ErrorKind, Explain};
use thiserror::Error;

/// What is wrong with a file of a run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {problem}")]
pub struct Wrong {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The value, and the rule that it breaks.
    pub problem: String,
}

impl Explain for Wrong {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }

    fn fix(&self) -> Option<String> {
        Some("restore the file as `train` wrote it, or train again with --replace".to_owned())
    }
}

/// A file, line by line.
pub(crate) struct Lines<'a> {
    file: &'static str,
    rest: &'a [u8],
    line: u64,
}

impl<'a> Lines<'a> {
    /// Reads the header, and tells which of `headers` it is.
    pub(crate) fn open(file: &'static str, bytes: &'a [u8], headers: &[&str]) -> Result<(Self, usize), Wrong> {
        let mut lines = Self { file, rest: bytes, line: 0 };
        let header = lines.next().unwrap_or(Line { file, line: 1, rest: Some(&[]) });
        let text = header.rest.unwrap_or_default();
        match headers.iter().position(|known| known.as_bytes() == text) {
            Some(which) => Ok((lines, which)),
            None => Err(header.wrong(format!("the header is `{}`, must be `{}`", shown(text), headers.join("` or `")))),
        }
    }

    /// An error about the line that was read last.
    pub(crate) fn wrong(&self, problem: String) -> Wrong {
        Wrong { file: self.file.to_owned(), line: self.line, problem }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = end.map_or((self.rest, &self.rest[..0]), |end| (&self.rest[..end], &self.rest[end + 1..]));
        self.rest = rest;
        self.line += 1;
        Some(Line { file: self.file, line: self.line, rest: Some(line) })
    }
}

/// One line, whose fields are taken one after the other.
pub(crate) struct Line<'a> {
    file: &'static str,
    line: u64,
    /// What is left of it; nothing after the last field.
    rest: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    /// An error about this line.
    pub(crate) fn wrong(&self, problem: String) -> Wrong {
        Wrong { file: self.file.to_owned(), line: self.line, problem }
    }

    /// The next field.
    pub(crate) fn text(&mut self, column: &str) -> Result<&'a [u8], Wrong> {
        let rest = self.rest.ok_or_else(|| self.wrong(format!("there is no `{column}`, the line ends before it")))?;
        let end = rest.iter().position(|byte| *byte == b',');
        self.rest = end.map(|end| &rest[end + 1..]);
        Ok(&rest[..end.unwrap_or(rest.len())])
    }

    /// The next field, a whole number.
    pub(crate) fn whole(&mut self, column: &str) -> Result<u64, Wrong> {
        let text = self.text(column)?;
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let value = text
            .iter()
            .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))));
        value
            .filter(|_| digits)
            .ok_or_else(|| self.wrong(format!("`{column}` is `{}`, must be a whole number below 2^64", shown(text))))
    }

    /// The next field, a whole number below 2^32.
    pub(crate) fn small(&mut self, column: &str) -> Result<u32, Wrong> {
        let value = self.whole(column)?;
        u32::try_from(value).map_err(|_| self.wrong(format!("`{column}` is {value}, must be below 2^32")))
    }

    /// The next field, a finite number.
    pub(crate) fn number(&mut self, column: &str) -> Result<f64, Wrong> {
        let text = self.text(column)?;
        let value =
            str::from_utf8(text).ok().and_then(|text| text.parse().ok()).filter(|value: &f64| value.is_finite());
        value.ok_or_else(|| self.wrong(format!("`{column}` is `{}`, must be a finite number", shown(text))))
    }

    /// The next field, a finite number that is not negative.
    pub(crate) fn amount(&mut self, column: &str) -> Result<f64, Wrong> {
        let value = self.number(column)?;
        if value < 0.0 {
            return Err(self.wrong(format!("`{column}` is {value}, must not be negative")));
        }
        Ok(value)
    }

    /// What `read` makes of the next field, or nothing when it is empty.
    pub(crate) fn optional<T>(
        &mut self,
        column: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        if matches!(self.rest, Some([] | [b',', ..])) {
            return self.text(column).map(|_| None);
        }
        read(self, column).map(Some)
    }

    /// Makes sure that there is no further field.
    pub(crate) fn end(&self) -> Result<(), Wrong> {
        self.rest.map_or(Ok(()), |rest| Err(self.wrong(format!("`{}` is beyond the last column", shown(rest)))))
    }
}

/// The beginning of a field as it is shown in an error.
pub(crate) fn shown(text: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(text).chars().take(60).collect();
    shown.escape_debug().to_string()
}
