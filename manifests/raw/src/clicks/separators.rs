//! Where fields and lines end: 64 bytes at a time, as bits of a word.
//!
//! Source: Langdale and Lemire, *Parsing gigabytes of JSON per second*, VLDB Journal 2019, sections 3.1 and 3.2.

use wide::u8x16;

/// Where all fields of a text end. Positions are those of the separators and line ends themselves.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Where each field ends. Behind `n_fields` is what earlier texts left.
    fields: Vec<u32>,
    n_fields: usize,
    /// How many fields have ended when each line ends, its own included.
    lines: Vec<u32>,
}

/// Ends that are written for every word of bits, however many it has.
const AT_ONCE: usize = 16;

impl Ends {
    /// Where each field ends, in order.
    pub(crate) fn fields(&self) -> &[u32] {
        &self.fields[..self.n_fields]
    }

    /// How many fields have ended when each line ends.
    pub(crate) fn lines(&self) -> &[u32] {
        &self.lines
    }

    /// Finds the ends in `text`, whose fields end at `separator` and at line ends. A last line without an end ends with the
    /// text.
    ///
    /// # Panics
    /// When the text has 2^32 bytes or more.
    pub(crate) fn find(&mut self, text: &[u8], separator: u8) {
        let text_bytes = u32::try_from(text.len()).expect("a block is shorter than 4 GiB");
        self.n_fields = 0;
        self.lines.clear();
        let (words, rest) = text.as_chunks::<64>();
        let mut position = 0;
        for bytes in words {
            self.add(position, masks(bytes, separator));
            position += 64;
        }
        let mut bytes = [0; 64];
        bytes[..rest.len()].copy_from_slice(rest);
        let kept = (1u64 << rest.len()) - 1;
        let (separators, lines) = masks(&bytes, separator);
        self.add(position, (separators & kept, lines & kept));
        if text.last().is_some_and(|&b| b != b'\n') {
            self.add(text_bytes, (0, 1));
        }
    }

    /// Adds the ends at `position` and the bits of the two words: separators and line ends.
    #[inline]
    fn add(&mut self, position: u32, (separators, mut lines): (u64, u64)) {
        let mut bits = separators | lines;
        while lines != 0 {
            let before_and_this = lines ^ (lines - 1);
            self.lines.push(self.n_fields as u32 + (bits & before_and_this).count_ones());
            lines &= lines - 1;
        }
        if self.fields.len() < self.n_fields + 64 {
            self.fields.resize(2 * self.n_fields + 64, 0);
        }
        let count = bits.count_ones() as usize;
        let room: &mut [u32; 64] =
            self.fields[self.n_fields..][..64].as_mut_array().expect("the slice has this length");
        // A fixed number of turns is faster than the exact one, which no processor can foresee.
        let mut next = 0;
        loop {
            for end in &mut room[next..next + AT_ONCE] {
                *end = position + bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
            }
            next += AT_ONCE;
            if next >= count {
                break;
            }
        }
        self.n_fields += count;
    }
}

/// One bit for every byte of `bytes`: set where it is `separator`, and where it is a line end.
#[inline]
fn masks(bytes: &[u8; 64], separator: u8) -> (u64, u64) {
    let (separator, end) = (u8x16::splat(separator), u8x16::splat(b'\n'));
    let (mut separators, mut lines) = (0, 0);
    for (i, part) in bytes.as_chunks::<16>().0.iter().enumerate() {
        let part = u8x16::new(*part);
        separators |= u64::from(part.simd_eq(separator).to_bitmask()) << (16 * i);
        lines |= u64::from(part.simd_eq(end).to_bitmask()) << (16 * i);
    }
    (separators, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ends_are_those_of_a_plain_loop(text in proptest::collection::vec(prop_oneof![
            3 => Just(b'\t'), 1 => Just(b'\n'), 3 => Just(b','), 2 => any::<u8>()
        ], 0..400), comma: bool) {
            let separator = if comma { b',' } else { b'\t' };
            let mut ends = Ends::default();
            ends.find(b"some\ttext,before\n", separator);
            ends.find(&text, separator);
            let (mut fields, mut lines) = (Vec::new(), Vec::new());
            for (i, &byte) in text.iter().enumerate() {
                if byte == separator || byte == b'\n' {
                    fields.push(i as u32);
                }
                if byte == b'\n' {
                    lines.push(fields.len() as u32);
                }
            }
            if text.last().is_some_and(|&b| b != b'\n') {
                fields.push(text.len() as u32);
                lines.push(fields.len() as u32);
            }
            prop_assert_eq!(ends.fields(), &fields);
            prop_assert_eq!(ends.lines(), &lines);
        }
    }
}
