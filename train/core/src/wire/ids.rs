//! Ascending ids of a range in as few bytes as is quick: the table of forms is in [`super`].

use std::ops::Range;

use super::{Reader, WireError};

/// How the ids of a list stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The lower bits, so many, and a bit for each id among those of the higher parts.
    Split(u8),
    /// A bit for each id of the range.
    Bitmap,
    /// Nothing: every id of the range is there.
    All,
}

const BITMAP: u8 = 32;
const ALL: u8 = 33;

impl Form {
    /// The one that takes fewest bytes for `count` ids among `len`.
    pub(super) fn smallest(len: u32, count: u32) -> Self {
        if len == count {
            return Self::All;
        }
        let forms = std::iter::once(Self::Bitmap).chain((0..BITMAP).map(Self::Split));
        forms.min_by_key(|form| form.bytes(len, count)).unwrap_or(Self::Bitmap)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Split(low) => low,
            Self::Bitmap => BITMAP,
            Self::All => ALL,
        }
    }

    /// Bytes that `count` ids among `len` take.
    pub(super) fn bytes(self, len: u32, count: u32) -> u64 {
        let (low, high) = self.parts(len, count);
        low + high
    }

    /// Bytes of the lower bits, and of the rest.
    fn parts(self, len: u32, count: u32) -> (u64, u64) {
        let k = u64::from(count);
        match self {
            Self::Split(low) => {
                let high = k + u64::from(len.saturating_sub(1) >> low);
                ((k * u64::from(low)).div_ceil(8), high.div_ceil(8))
            }
            Self::Bitmap => (0, u64::from(len).div_ceil(8)),
            Self::All => (0, 0),
        }
    }
}

/// What stands of a list in the head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    /// `parameters`, `users` or `items`.
    pub(super) what: &'static str,
    pub(super) first: u32,
    pub(super) len: u32,
    /// How many ids there are.
    pub(super) count: u32,
    pub(super) form: Form,
}

impl List {
    /// The list of `count` ids in `range`.
    pub(super) fn new(what: &'static str, range: &Range<u32>, count: usize) -> Self {
        let (len, count) = (range.end - range.start, count as u32);
        Self { what, first: range.start, len, count, form: Form::smallest(len, count) }
    }

    /// Appends the list's place in the head. The model has ids up to `n`.
    pub(super) fn write_head(&self, n: u32, out: &mut Vec<u8>) {
        for word in [n, self.first, self.len, self.count] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.push(self.form.code());
    }

    /// Reads what [`List::write_head`] wrote of a list in `range`.
    pub(super) fn read_head(
        what: &'static str,
        n: u32,
        range: &Range<u32>,
        reader: &mut Reader<'_>,
    ) -> Result<Self, WireError> {
        super::same(what, reader.u32()?, n)?;
        let (first, len, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let [form] = reader.take()?;
        super::same("first id of the slice", first, range.start)?;
        super::same("ids of the slice", len, range.end - range.start)?;
        let wrong = WireError::Form { what, count, len, form };
        let form = match form {
            BITMAP => Form::Bitmap,
            ALL if len == count => Form::All,
            low @ 0..=31 => Form::Split(low),
            _ => return Err(wrong),
        };
        if count > len { Err(wrong) } else { Ok(Self { what, first, len, count, form }) }
    }

    /// Bytes of the ids.
    pub(super) fn bytes(&self) -> u64 {
        self.form.bytes(self.len, self.count)
    }

    /// Appends `ids`.
    pub(super) fn write(&self, ids: &[u32], out: &mut Vec<u8>) {
        let start = out.len();
        let (low_bytes, high_bytes) = self.form.parts(self.len, self.count);
        out.resize(start + (low_bytes + high_bytes) as usize, 0);
        let (low, high) = out[start..].split_at_mut(low_bytes as usize);
        let relative = ids.iter().map(|&id| id - self.first);
        match self.form {
            Form::Split(bits) => {
                pack(bits, relative.clone(), low);
                set(relative.enumerate().map(|(i, id)| (id >> bits) as usize + i), high);
            }
            Form::Bitmap => set(relative.map(|id| id as usize), high),
            Form::All => {}
        }
    }

    /// Reads the ids from `bytes`, which are as many as [`List::bytes`] says.
    pub(super) fn read(&self, bytes: &[u8], ids: &mut Vec<u32>) -> Result<(), WireError> {
        ids.clear();
        let (low_bytes, _) = self.form.parts(self.len, self.count);
        let (low, high) = bytes.split_at((low_bytes as usize).min(bytes.len()));
        if self.form == Form::All {
            ids.extend(self.first..self.first + self.len);
            return Ok(());
        }
        ids.resize(self.count as usize, 0);
        let read = match self.form {
            Form::Split(bits) => self.unpack(bits, low, high, ids),
            Form::Bitmap | Form::All => self.positions(high, ids),
        };
        read.map_err(|entry| WireError::Ids { what: self.what, entry: entry as u32 })
    }

    /// The ids whose bits are 1, or the entry that is wrong.
    fn positions(&self, bits: &[u8], ids: &mut [u32]) -> Result<(), usize> {
        let mut entries = ids.iter_mut().enumerate();
        for position in ones(bits) {
            match entries.next() {
                Some((_, id)) if position < u64::from(self.len) => *id = self.first + position as u32,
                Some((entry, _)) => return Err(entry),
                None => return Err(self.count as usize),
            }
        }
        entries.next().map_or(Ok(()), |(entry, _)| Err(entry))
    }

    /// The ids that are split into `bits` lower bits and the rest, or the entry that is wrong.
    fn unpack(&self, bits: u8, low: &[u8], high: &[u8], ids: &mut [u32]) -> Result<(), usize> {
        let mask = (1u64 << bits) - 1;
        let (mut entry, mut next) = (0, 0u64);
        for position in ones(high) {
            let Some(id) = ids.get_mut(entry) else { return Err(entry) };
            let at = entry * usize::from(bits);
            let relative = (position - entry as u64) << bits | (word(low, at / 8) >> (at % 8)) & mask;
            if relative < next || relative >= u64::from(self.len) {
                return Err(entry);
            }
            *id = self.first + relative as u32;
            next = relative + 1;
            entry += 1;
        }
        if entry == ids.len() { Ok(()) } else { Err(entry) }
    }
}

/// Packs the lower `bits` of each of `ids` into `out`, which has room for them.
pub(super) fn pack(bits: u8, ids: impl Iterator<Item = u32>, out: &mut [u8]) {
    let mask = (1u32 << bits) - 1;
    let (mut word, mut filled, mut at) = (0u64, 0, 0);
    for id in ids {
        word |= u64::from(id & mask) << filled;
        filled += u32::from(bits);
        if filled >= 32 {
            out[at..at + 4].copy_from_slice(&(word as u32).to_le_bytes());
            (word, filled, at) = (word >> 32, filled - 32, at + 4);
        }
    }
    let rest = filled.div_ceil(8) as usize;
    out[at..at + rest].copy_from_slice(&word.to_le_bytes()[..rest]);
}

/// Sets the bits of `out`, which are all 0, at ascending `positions`.
pub(super) fn set(positions: impl Iterator<Item = usize>, out: &mut [u8]) {
    let (mut word, mut at) = (0u64, 0);
    let mut flush = |word: u64, at: usize| {
        let rest = &mut out[at..];
        let len = rest.len().min(8);
        rest[..len].copy_from_slice(&word.to_le_bytes()[..len]);
    };
    for position in positions {
        let here = position / 64 * 8;
        if here != at {
            flush(word, at);
            (word, at) = (0, here);
        }
        word |= 1 << (position % 64);
    }
    flush(word, at);
}

/// Positions of the bits that are 1, ascending.
#[inline(always)]
pub(super) fn ones(bits: &[u8]) -> impl Iterator<Item = u64> {
    let words = (0..bits.len()).step_by(8).map(|at| (at as u64 * 8, word(bits, at)));
    words.flat_map(|(start, mut word)| {
        std::iter::from_fn(move || {
            let position = (word != 0).then(|| start + u64::from(word.trailing_zeros()));
            word &= word.wrapping_sub(1);
            position
        })
    })
}

/// Eight bytes from `at` on, 0 beyond the end.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(eight) = rest.first_chunk() {
        return u64::from_le_bytes(*eight);
    }
    let mut eight = [0; 8];
    eight[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(eight)
}
