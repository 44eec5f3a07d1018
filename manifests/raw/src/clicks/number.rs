//! Integers in text: an optional minus and digits.

/// What a numeric field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Nothing is there.
    Missing,
    /// An integer.
    Value(i64),
    /// Anything else.
    Bad(Problem),
}

/// Why a field is no integer of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not made of digits.
    NotWhole,
    /// It is a number with a decimal point or an exponent.
    Decimal,
    /// It is too large or too small.
    TooLarge,
}

/// Reads `field`.
#[must_use]
pub fn parse(field: &[u8]) -> Number {
    if field.is_empty() {
        return Number::Missing;
    }
    let (negative, digits) = match field.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, field),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        let number = str::from_utf8(field)
            .ok()
            .filter(|text| text.bytes().all(|b| !b.is_ascii_alphabetic() || b == b'e' || b == b'E'));
        let is_decimal = number.is_some_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite));
        return Number::Bad(if is_decimal { Problem::Decimal } else { Problem::NotWhole });
    }
    // Down from zero, because there is one more negative number than there are positive ones.
    let negated =
        digits.iter().try_fold(0i64, |value, digit| value.checked_mul(10)?.checked_sub(i64::from(digit - b'0')));
    match negated.and_then(|value| if negative { Some(value) } else { value.checked_neg() }) {
        Some(value) => Number::Value(value),
        None => Number::Bad(Problem::TooLarge),
    }
}

/// Digits, or a minus and digits, of at most eight bytes in all: the value and 1, or 0 and 0 for an empty field. `None` is for
/// [`parse`]. `word` has the field in its first `len` bytes, and anything behind it.
///
/// Eight digits are worth three multiplications: pairs, then fours, then all, each in its own lane of the word.
#[inline]
#[must_use]
pub fn parse_short(word: u64, len: usize) -> Option<(i64, u16)> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    if len > 8 {
        return None;
    }
    let negative = word as u8 == b'-' && len > 0;
    let word = if negative { word >> 8 } else { word };
    let len = len as u32 - u32::from(negative);
    // The digits go to the top, zeros before them. Two shifts each, because they may be by all 64 bits.
    let (up, down) = (32 - 4 * len, 4 * len);
    let digits = (word << up << up) | (ZEROS >> down >> down);
    // A byte is a digit when its upper half is 3, also with 6 added.
    let upper = |word: u64| word & 0xf0f0_f0f0_f0f0_f0f0;
    let are_digits =
        (upper(digits) | (upper(digits.wrapping_add(0x0606_0606_0606_0606)) >> 4)) == 0x3333_3333_3333_3333;
    if !are_digits || (negative && len == 0) {
        return None;
    }
    let digits = digits & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits.wrapping_mul(2561) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(6_553_601) >> 16) & 0x0000_ffff_0000_ffff;
    let value = (fours.wrapping_mul(42_949_672_960_001) >> 32) as i64;
    Some((if negative { -value } else { value }, u16::from(len > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn short(field: &[u8], behind: u64) -> Option<(i64, u16)> {
        let mut word = behind.to_le_bytes();
        let kept = field.len().min(8);
        word[..kept].copy_from_slice(&field[..kept]);
        parse_short(u64::from_le_bytes(word), field.len())
    }

    #[track_caller]
    fn agree(field: &[u8], behind: u64) {
        match (short(field, behind), parse(field)) {
            (Some((0, 0)), Number::Missing) => {}
            (Some((value, 1)), Number::Value(expected)) if value == expected => {}
            (None, Number::Bad(_)) => {}
            (None, Number::Value(_)) if field.len() > 8 => {}
            other => panic!("{field:?}: {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn both_parsers_agree(value: i64, shift in 0u32..64, behind: u64, cut in 0usize..20) {
            let text = (value >> shift).to_string();
            prop_assert_eq!(parse(text.as_bytes()), Number::Value(value >> shift));
            agree(text.as_bytes(), behind);
            agree(&text.as_bytes()[..cut.min(text.len())], behind);
        }

        #[test]
        fn any_bytes_are_understood_alike(field in proptest::collection::vec(prop_oneof![b'-'..=b':', any::<u8>()], 0..10), behind: u64) {
            agree(&field, behind);
        }
    }

    #[test]
    fn every_byte_that_is_no_digit_is_refused_everywhere() {
        for byte in 0..=u8::MAX {
            for position in 0..8 {
                let mut field = *b"12345678";
                field[position] = byte;
                agree(&field, 0);
                agree(&field[..=position], u64::MAX);
            }
        }
    }

    #[test]
    fn problems_are_told_apart() {
        use Problem::{Decimal, NotWhole, TooLarge};
        let table: [(&str, Number); 18] = [
            ("", Number::Missing),
            ("0", Number::Value(0)),
            ("-0", Number::Value(0)),
            ("007", Number::Value(7)),
            ("-3", Number::Value(-3)),
            ("9223372036854775807", Number::Value(i64::MAX)),
            ("-9223372036854775808", Number::Value(i64::MIN)),
            ("9223372036854775808", Number::Bad(TooLarge)),
            ("-9223372036854775809", Number::Bad(TooLarge)),
            ("00000000000000000000000000001", Number::Value(1)),
            ("260.0", Number::Bad(Decimal)),
            ("-2.5", Number::Bad(Decimal)),
            ("1e3", Number::Bad(Decimal)),
            ("+5", Number::Bad(Decimal)),
            ("-", Number::Bad(NotWhole)),
            ("12a", Number::Bad(NotWhole)),
            (" 1", Number::Bad(NotWhole)),
            ("nan", Number::Bad(NotWhole)),
        ];
        for (field, expected) in table {
            assert_eq!(parse(field.as_bytes()), expected, "{field:?}");
        }
    }
}
