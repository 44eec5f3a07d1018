//! Columns of 32-bit cells from Parquet pages, straight into vectors.
//!
//! Any Parquet writer's pages of the first version in the encodings `PLAIN`, dictionary and `DELTA_BINARY_PACKED` are read,
//! at any compression this build has. Others are refused: nothing here writes them. Lengths are checked before they are
//! believed.

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};

use super::{BucketColumn, Cell};

/// Buffers that one column after the other is decoded with.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    dictionary: Vec<u32>,
    /// One for each cell of a page that is there, zero for one that is not. Empty when all of them are.
    levels: Vec<u8>,
    values: Vec<u32>,
}

/// Appends the cells of a column of `n_rows` rows to `out`.
///
/// # Errors
/// A sentence that says what is wrong. `refused` is the index of a value that must not be, if there is one, and says why.
pub(super) fn column<C: Cell>(
    mut pages: Box<dyn PageReader>,
    optional: bool,
    n_rows: usize,
    scratch: &mut Scratch,
    out: &mut Vec<C>,
    refused: impl Fn(&[u32]) -> Option<(usize, String)>,
) -> Result<(), String> {
    column_of(&mut || pages.get_next_page().map_err(super::unreadable), optional, n_rows, scratch, out, refused)
}

/// As [`column`], of an optional column that may be left in the form of its dictionary, in which a kernel has fewer places to go
/// to. `out` must be empty.
pub(super) fn bucket_column(
    mut pages: Box<dyn PageReader>,
    n_rows: usize,
    scratch: &mut Scratch,
    out: &mut BucketColumn,
    refused: impl Fn(&[u32]) -> Option<(usize, String)>,
) -> Result<(), String> {
    let mut next = || pages.get_next_page().map_err(super::unreadable);
    let (mut first, mut second) = (next()?, None);
    if let Some(Page::DictionaryPage { buf, num_values, .. }) = &first
        && *num_values <= BucketColumn::DICTIONARY_MAX
    {
        plain(buf, *num_values as usize, &mut out.dictionary)?;
        second = next()?;
        if let Some(Page::DataPage { buf, num_values, encoding, def_level_encoding, .. }) = &second
            && *num_values as usize == n_rows
            && matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
        {
            if let Some((_, problem)) = refused(&out.dictionary) {
                return Err(format!("in the dictionary: {problem}"));
            }
            return scratch.read_codes(buf, n_rows, *def_level_encoding, out);
        }
        out.dictionary.clear();
    }
    let mut rest = || first.take().or_else(|| second.take()).map_or_else(&mut next, |page| Ok(Some(page)));
    column_of(&mut rest, true, n_rows, scratch, &mut out.buckets, refused)
}

/// [`column`], of the pages that `next` gives.
fn column_of<C: Cell>(
    next: &mut impl FnMut() -> Result<Option<Page>, String>,
    optional: bool,
    n_rows: usize,
    scratch: &mut Scratch,
    out: &mut Vec<C>,
    refused: impl Fn(&[u32]) -> Option<(usize, String)>,
) -> Result<(), String> {
    let end = out.len() + n_rows;
    let mut has_dictionary = false;
    while out.len() < end {
        let Some(page) = next()? else { return Ok(()) };
        let (body, count, encoding, level_encoding) = match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                scratch.dictionary.clear();
                plain(&buf, num_values as usize, &mut scratch.dictionary)?;
                has_dictionary = true;
                continue;
            }
            Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } => {
                (buf, num_values as usize, encoding, def_level_encoding)
            }
            Page::DataPageV2 { .. } => return Err("its data pages are of version 2, not 1".to_owned()),
        };
        if count > end - out.len() {
            return Err(format!("a page has {count} rows, {} are left", end - out.len()));
        }
        let values = if optional { scratch.read_levels(&body, count, level_encoding)? } else { body };
        let present = if scratch.levels.is_empty() || !optional {
            count
        } else {
            scratch.levels.iter().map(|&level| usize::from(level)).sum()
        };
        scratch.read_values(&values, present, encoding, has_dictionary)?;
        let is_whole = present == count;
        if let Some((value, problem)) = refused(&scratch.values) {
            let row = if is_whole { value } else { row_of(value, &scratch.levels) };
            return Err(format!("row {}: {problem}", out.len() + row));
        }
        if is_whole {
            out.extend(scratch.values.iter().map(|&bits| C::from_bits(bits)));
        } else {
            scratch.values.push(0);
            spread(&scratch.values, &scratch.levels, C::MISSING.to_bits(), C::from_bits, out);
        }
    }
    Ok(())
}

/// The row of value number `value`.
fn row_of(value: usize, levels: &[u8]) -> usize {
    let mut rows = levels.iter().enumerate().filter(|(_, level)| **level != 0).map(|(row, _)| row);
    rows.nth(value).unwrap_or(value)
}

/// Appends the values where their levels, 0 or 1, say, and `missing` between them. One value more must follow, so that there is a
/// next one behind the last too, and no branch on the level, which nobody can foresee: a choice between two values becomes one.
fn spread<C>(values: &[u32], levels: &[u8], missing: u32, cell: impl Fn(u32) -> C, out: &mut Vec<C>) {
    let mut next = 0;
    out.extend(levels.iter().map(|&level| {
        let there = u32::from(level).wrapping_neg();
        let bits = values[next] & there | missing & !there;
        next += usize::from(level);
        cell(bits)
    }));
}

impl Scratch {
    /// Reads which of `count` cells are there and returns what follows.
    fn read_levels(&mut self, body: &Bytes, count: usize, encoding: Encoding) -> Result<Bytes, String> {
        if encoding != Encoding::RLE {
            return Err(format!("its levels are encoded as {encoding}, not {}", Encoding::RLE));
        }
        let size = body.first_chunk().map(|size| u32::from_le_bytes(*size) as usize).ok_or_else(short)?;
        let levels = body.get(4..).and_then(|rest| rest.get(..size)).ok_or_else(short)?;
        self.levels.clear();
        let mut left = count;
        let mut input = levels;
        while left > 0 {
            let header = varint(&mut input)?;
            let length = (header >> 1) as usize;
            if header & 1 == 0 {
                let &level = input.split_off_first().ok_or_else(short)?;
                if level > 1 || length > left {
                    return Err(format!("a run of {length} levels {level}, where {left} of at most 1 are left"));
                }
                if level == 1 && length == count {
                    break;
                }
                self.levels.resize(self.levels.len() + length, level);
                left -= length;
            } else {
                let bytes = input.split_off(..length.min(input.len())).ok_or_else(short)?;
                let taken = left.min(8 * bytes.len());
                if taken == 0 {
                    return Err(short());
                }
                let end = self.levels.len() + taken;
                self.levels.extend(bytes.iter().flat_map(|&byte| bits(byte)));
                self.levels.truncate(end);
                left -= taken;
            }
        }
        Ok(body.slice(4 + size..))
    }

    /// Reads a page of `count` cells as places in `out`'s dictionary.
    fn read_codes(
        &mut self,
        body: &Bytes,
        count: usize,
        level_encoding: Encoding,
        out: &mut BucketColumn,
    ) -> Result<(), String> {
        let input = self.read_levels(body, count, level_encoding)?;
        let present = self.levels.iter().map(|&level| usize::from(level)).sum();
        let missing = out.dictionary.len() as u16;
        let whole = self.levels.is_empty();
        self.values.clear();
        if whole || present > 0 {
            indices(&input, if whole { count } else { present }, &mut self.values)?;
        }
        if !self.values.iter().fold(true, |known, &index| known & (index < u32::from(missing))) {
            return Err(unknown_index());
        }
        if whole {
            out.codes.extend(self.values.iter().map(|&index| index as u16));
        } else {
            self.values.push(0);
            spread(&self.values, &self.levels, u32::from(missing), |index| index as u16, &mut out.codes);
        }
        Ok(())
    }

    /// Reads `count` values.
    fn read_values(
        &mut self,
        mut input: &[u8],
        count: usize,
        encoding: Encoding,
        has_dictionary: bool,
    ) -> Result<(), String> {
        self.values.clear();
        if count == 0 {
            return Ok(());
        }
        match encoding {
            Encoding::PLAIN => plain(input, count, &mut self.values),
            Encoding::DELTA_BINARY_PACKED => differences(&mut input, count, &mut self.values),
            // One encoding with two names.
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if has_dictionary => self.look_up(input, count),
            other => Err(format!("its values are encoded as {other}, which is not expected here")),
        }
    }

    fn look_up(&mut self, input: &[u8], count: usize) -> Result<(), String> {
        indices(input, count, &mut self.values)?;
        let dictionary = &self.dictionary[..];
        let mut unknown = false;
        for value in &mut self.values {
            *value = dictionary.get(*value as usize).copied().unwrap_or_else(|| {
                unknown = true;
                0
            });
        }
        if unknown { Err(unknown_index()) } else { Ok(()) }
    }
}

/// Appends `count` places in a dictionary to `out`, which is empty.
fn indices(mut input: &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), String> {
    let width = u32::from(*input.split_off_first().ok_or_else(short)?);
    if width > u32::BITS {
        return Err(format!("its indices have {width} bits"));
    }
    while out.len() < count {
        let left = count - out.len();
        let header = varint(&mut input)?;
        let length = (header >> 1) as usize;
        if header & 1 == 0 {
            let bytes = input.split_off(..width.div_ceil(8) as usize).ok_or_else(short)?;
            let index = bytes.iter().rev().fold(0, |index, &byte| (index << 8) | u32::from(byte));
            out.resize(out.len() + length.min(left), index);
        } else {
            let size = length.saturating_mul(width as usize).min(input.len());
            let packed = input.split_off(..size).ok_or_else(short)?;
            let held = if width == 0 { left } else { 8 * size / width as usize };
            let taken = left.min(held).min(length.saturating_mul(8));
            if taken == 0 {
                return Err(short());
            }
            unpack(packed, width, taken, out);
        }
    }
    Ok(())
}

fn unknown_index() -> String {
    "an index is not in the dictionary".to_owned()
}

/// The bits of a byte from the least significant one on, a byte each.
#[inline]
fn bits(byte: u8) -> [u8; 8] {
    // Each byte of the word keeps another bit of the eight, and carries it to its highest place.
    let kept = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    (((kept + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101).to_le_bytes()
}

fn short() -> String {
    "a page ends early".to_owned()
}

fn varint(input: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *input.split_off_first().ok_or_else(short)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a number has too many bytes".to_owned())
}

/// The 32 low bits of a signed number: all that differences of 32-bit numbers need.
fn signed(input: &mut &[u8]) -> Result<u32, String> {
    let number = varint(input)?;
    Ok(((number >> 1) ^ (number & 1).wrapping_neg()) as u32)
}

fn plain(input: &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), String> {
    let bytes = count.checked_mul(4).and_then(|size| input.get(..size)).ok_or_else(short)?;
    out.extend(bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
    Ok(())
}

/// Appends `count` numbers of `width` bits, as far as `packed` goes.
fn unpack(packed: &[u8], width: u32, count: usize, out: &mut Vec<u32>) {
    macro_rules! by_width {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_of::<$width>(packed, count, out),)*
                _ => out.resize(out.len() + count, 0),
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

/// [`unpack`] of a width that the compiler knows: eight numbers at a time, which take as many bytes as they have bits.
fn unpack_of<const WIDTH: usize>(packed: &[u8], count: usize, out: &mut Vec<u32>) {
    /// Bytes of eight numbers and of what is read beyond them.
    const WINDOW: usize = 32 + 8;
    let mask = u32::MAX >> (32 - WIDTH);
    let eight = |window: &[u8; WINDOW]| -> [u32; 8] {
        std::array::from_fn(|i| {
            let bit = i * WIDTH;
            let bytes = window[bit / 8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            (bytes >> (bit % 8)) as u32 & mask
        })
    };
    let mut rest = packed;
    let end = out.len() + count;
    out.reserve(count + 8);
    while out.len() < end {
        let numbers = match rest.first_chunk() {
            Some(window) => eight(window),
            None => {
                let mut window = [0; WINDOW];
                window[..rest.len()].copy_from_slice(rest);
                eight(&window)
            }
        };
        out.extend_from_slice(&numbers);
        rest = rest.get(WIDTH..).unwrap_or_default();
    }
    out.truncate(end);
}

/// Appends `count` numbers that are stored as differences.
fn differences(input: &mut &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), String> {
    let block = varint(input)? as usize;
    let n_parts = varint(input)? as usize;
    let found = varint(input)?;
    if found != count as u64 {
        return Err(format!("a page has {found} values, not {count}"));
    }
    let part = block.checked_div(n_parts).unwrap_or(0);
    if part == 0 || !part.is_multiple_of(8) || n_parts > 1 << 16 || part > 1 << 20 {
        return Err(format!("blocks of {block} differences in {n_parts} parts"));
    }
    let mut last = signed(input)?;
    out.push(last);
    while out.len() < count {
        let least = signed(input)?;
        let widths = input.split_off(..n_parts).ok_or_else(short)?;
        for &width in widths {
            if out.len() == count {
                break;
            }
            if u32::from(width) > u32::BITS {
                return Err(format!("its differences have {width} bits"));
            }
            let packed = input.split_off(..part / 8 * usize::from(width)).ok_or_else(short)?;
            let start = out.len();
            unpack(packed, u32::from(width), part.min(count - start), out);
            for number in &mut out[start..] {
                last = last.wrapping_add(least).wrapping_add(*number);
                *number = last;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clicks::write::pack;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_numbers_come_back(width in 0u32..=32, numbers in proptest::collection::vec(any::<u32>(), 0..200)) {
            let numbers: Vec<u32> =
                numbers.into_iter().map(|n| if width == 0 { 0 } else { n >> (32 - width) }).collect();
            let mut packed = Vec::new();
            pack(&numbers, width, numbers.len(), &mut packed);
            prop_assert_eq!(packed.len(), (numbers.len() * width as usize).div_ceil(8));
            let mut found = vec![7];
            unpack(&packed, width, numbers.len(), &mut found);
            prop_assert_eq!(&found[1..], &numbers[..]);
        }

        #[test]
        fn anything_is_read_or_refused(body: Vec<u8>, count in 0usize..300, rle: bool) {
            let mut scratch = Scratch { dictionary: vec![1, 2, 3], ..Scratch::default() };
            let body = Bytes::from(body);
            if scratch.read_levels(&body, count, Encoding::RLE).is_ok() {
                prop_assert!(scratch.levels.is_empty() || scratch.levels.len() == count);
            }
            let encoding = if rle { Encoding::RLE_DICTIONARY } else { Encoding::DELTA_BINARY_PACKED };
            if scratch.read_values(&body, count, encoding, true).is_ok() {
                prop_assert_eq!(scratch.values.len(), count);
            }
        }
    }

    #[test]
    fn runs_need_not_end_with_a_byte() {
        // Three levels 1, eight levels of the bits 10110010 from the least significant one on, two levels 0.
        let runs = [3 << 1, 1, (1 << 1) | 1, 0b1011_0010, 2 << 1, 0];
        let body = [&6u32.to_le_bytes()[..], &runs, b"rest"].concat();
        let mut scratch = Scratch::default();
        let rest = scratch.read_levels(&Bytes::from(body), 13, Encoding::RLE).unwrap();
        assert_eq!(scratch.levels, [1, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0]);
        assert_eq!(rest, b"rest"[..]);

        // Indices of two bits: five times 2, then 3 2 1 0 and padding.
        let indices = [2, 5 << 1, 2, (1 << 1) | 1, 0b00_01_10_11, 0];
        scratch.dictionary = vec![10, 11, 12, 13];
        scratch.read_values(&indices, 9, Encoding::RLE_DICTIONARY, true).unwrap();
        assert_eq!(scratch.values, [12, 12, 12, 12, 12, 13, 12, 11, 10]);
        scratch.dictionary.pop();
        let found = scratch.read_values(&indices, 9, Encoding::RLE_DICTIONARY, true).unwrap_err();
        assert_eq!(found, "an index is not in the dictionary");
    }

    #[test]
    fn differences_are_those_of_the_format() {
        // The example of the format's description: 7 5 3 1 2 3 4 5, differences -2 -2 -2 1 1 1 1, the least is -2.
        let packed = [0b1100_0000, 0b1111_1111, 0, 0, 0, 0, 0, 0];
        let page = [&[0x80, 1, 4, 8, 14, 3, 2, 0, 0, 0][..], &packed].concat();
        let mut found = Vec::new();
        differences(&mut &page[..], 8, &mut found).unwrap();
        assert_eq!(found, [7, 5, 3, 1, 2, 3, 4, 5]);
    }
}
