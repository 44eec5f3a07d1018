//! A line being written: fields of digits, each followed by a tab, in a few instructions and without branches on what is missing.

/// No line is longer: label, 13 numbers of at most 8 characters and 26 tokens of 8, each with its tab or line end.
const BYTES_MAX: usize = 2 + 13 * 9 + 26 * 9;
/// Bytes that are written past the end of a field and overwritten by the next.
const SLACK: usize = 8;

/// ASCII digits of the numbers below 1000, the first one in the lowest byte, and above them how many there are.
const DIGITS: [u32; 1000] = digits(false);
/// The same with leading zeros: always three.
const PADDED: [u32; 1000] = digits(true);
/// The bits of the digits in an entry, below their number.
const DIGIT_BITS: u32 = 24;

const fn digits(padded: bool) -> [u32; 1000] {
    let mut table = [0; 1000];
    let mut n = 0;
    while n < 1000 {
        let all = ['0' as u32 + n / 100, '0' as u32 + n / 10 % 10, '0' as u32 + n % 10];
        let skipped = if padded || n >= 100 {
            0
        } else if n >= 10 {
            1
        } else {
            2
        };
        let text = (all[0] | all[1] << 8 | all[2] << 16) >> (8 * skipped);
        table[n as usize] = text | (3 - skipped) << DIGIT_BITS;
        n += 1;
    }
    table
}

/// The digits of a number below 10^8, the first one in the lowest byte, and how many there are.
#[inline]
fn decimal(value: u32) -> (u64, u32) {
    let below_1000 = |value: u32| {
        let entry = DIGITS[value as usize];
        (u64::from(entry & ((1 << DIGIT_BITS) - 1)), entry >> DIGIT_BITS)
    };
    let then = |(text, n): (u64, u32), three: u32| {
        (text | u64::from(PADDED[three as usize] & ((1 << DIGIT_BITS) - 1)) << (8 * n), n + 3)
    };
    let (high, low) = (value / 1000, value % 1000);
    match high {
        0 => below_1000(low),
        1..1000 => then(below_1000(high), low),
        _ => then(then(below_1000(high / 1000), high % 1000), low),
    }
}

/// The bytes of a line.
pub(super) struct Line {
    bytes: [u8; BYTES_MAX + SLACK],
    len: usize,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; BYTES_MAX + SLACK], len: 0 }
    }

    /// Begins a line whose label is not known yet.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.bytes[1] = b'\t';
        self.len = 2;
    }

    /// Adds a number of at most eight characters, or nothing, and a tab.
    #[inline]
    pub(super) fn number(&mut self, value: i32, is_present: bool) {
        let (text, n) = decimal(value.unsigned_abs());
        let sign = u32::from(value < 0);
        let text = text << (8 * sign) | u64::from(sign * u32::from(b'-'));
        self.field(text.to_le_bytes(), (n + sign) as usize, is_present);
    }

    /// Adds a token of eight hexadecimal digits, or nothing, and a tab.
    #[inline]
    pub(super) fn token(&mut self, token: u32, is_present: bool) {
        self.field(hex(token), 8, is_present);
    }

    /// Puts the label in its place and ends the line, which becomes the answer.
    #[inline]
    pub(super) fn finish(&mut self, label: bool) -> &[u8] {
        self.bytes[0] = b'0' + u8::from(label);
        self.bytes[self.len - 1] = b'\n';
        &self.bytes[..self.len]
    }

    /// Adds the first `n` of `bytes`, or nothing, and a tab. All of `bytes` are written, to be overwritten by what follows.
    #[inline]
    fn field(&mut self, bytes: [u8; SLACK], n: usize, is_present: bool) {
        let start = self.len;
        let end = start + n * usize::from(is_present);
        self.bytes[start..start + SLACK].copy_from_slice(&bytes);
        self.bytes[end] = b'\t';
        self.len = end + 1;
    }
}

/// Eight lower-case hexadecimal digits.
#[inline]
fn hex(x: u32) -> [u8; 8] {
    // The eight half-bytes, one to a byte, the highest first in memory.
    let mut spread = u64::from(x);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // A half-byte of 10 or more carries into bit 4 when 6 is added.
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(label: bool, numbers: &[Option<i32>], tokens: &[Option<u32>]) {
        let mut line = Line::new();
        line.begin();
        let mut expected = u8::from(label).to_string();
        for number in numbers {
            line.number(number.unwrap_or(7), number.is_some());
            expected += "\t";
            expected += &number.map_or_else(String::new, |number| number.to_string());
        }
        for token in tokens {
            line.token(token.unwrap_or(7), token.is_some());
            expected += "\t";
            expected += &token.map_or_else(String::new, |token| format!("{token:08x}"));
        }
        expected += "\n";
        assert_eq!(std::str::from_utf8(line.finish(label)), Ok(expected.as_str()));
    }

    #[test]
    fn the_longest_line_has_room() {
        check(true, &[Some(-9_999_999); 13], &[Some(u32::MAX); 26]);
        check(false, &[None; 13], &[None; 26]);
    }

    proptest! {
        #[test]
        fn lines_are_what_the_formatter_makes(
            label: bool,
            numbers in proptest::collection::vec(proptest::option::of(prop_oneof![-9_999_999..99_999_999, -1100..1100]), 13),
            tokens in proptest::collection::vec(proptest::option::of(any::<u32>()), 26),
        ) {
            check(label, &numbers, &tokens);
        }
    }
}
