//! Decoded rows column by column: what a block of text becomes before it goes to the temporary file.

use raw::clicks::hash::{Hasher, MISSING};
use raw::clicks::{Numbers, Rows, Tokens};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

/// The bit of a row's flags that holds the label. Bit `j` below says whether `I(j + 1)` is there.
pub(super) const LABEL: u16 = 1 << 15;

/// Rows of one block.
pub(super) struct Columns {
    /// For the buckets of sparse rows; none for dense ones.
    hasher: Option<Hasher>,
    bucket_width: BucketWidth,
    len: usize,
    /// Room of each column.
    stride: usize,
    flags: Vec<u16>,
    lines: Vec<u32>,
    numbers: Vec<i64>,
    buckets: Vec<u32>,
}

/// What a packed block is like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packed {
    pub rows: usize,
    /// How many bytes a value of each numeric column takes.
    pub widths: [Width; N_NUMERIC],
    /// Whether each row's line is kept, because some lines are missing.
    pub gaps: bool,
    /// Values that are there, of numbers and of tokens.
    pub entries: u64,
}

/// Bytes of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Width {
    #[default]
    Two,
    Four,
    Eight,
}

/// How buckets are packed: with three bytes each, the upper one apart, where that is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BucketWidth {
    None,
    Three,
    Four,
}

impl BucketWidth {
    /// What a bucket that is not there becomes in three bytes.
    pub(super) const MISSING: u32 = 0xff_ffff;

    pub(super) const fn of(n_buckets: Option<u32>) -> Self {
        match n_buckets {
            None => Self::None,
            Some(0..=Self::MISSING) => Self::Three,
            Some(_) => Self::Four,
        }
    }
}

impl Columns {
    pub(super) fn new(n_buckets: Option<u32>) -> Self {
        Self {
            hasher: n_buckets.map(Hasher::new),
            bucket_width: BucketWidth::of(n_buckets),
            len: 0,
            stride: 0,
            flags: Vec::new(),
            lines: Vec::new(),
            numbers: Vec::new(),
            buckets: Vec::new(),
        }
    }

    /// Puts the rows into `words` as [`super::spill`] reads them: numbers, buckets, flags, lines, each column at the beginning
    /// of a word.
    pub(super) fn pack(&self, words: &mut Vec<u64>) -> Packed {
        let rows = self.len;
        let mut packed = Packed { rows, ..Packed::default() };
        words.clear();
        for column in 0..N_NUMERIC {
            let values = &self.numbers[column * self.stride..][..rows];
            let bits = values.iter().fold(0, |bits, &x| bits | (x ^ (x >> 63)));
            packed.widths[column] = match i64::BITS - bits.leading_zeros() {
                0..=15 => Width::Two,
                16..=31 => Width::Four,
                _ => Width::Eight,
            };
            match packed.widths[column] {
                Width::Two => append(words, values, |x| x as i16),
                Width::Four => append(words, values, |x| x as i32),
                Width::Eight => append(words, values, |x| x),
            }
        }
        for column in 0..if self.hasher.is_some() { N_CATEGORICAL } else { 0 } {
            let values = &self.buckets[column * self.stride..][..rows];
            packed.entries += u64::from(values.iter().map(|&b| u32::from(b != MISSING)).sum::<u32>());
            if self.bucket_width == BucketWidth::Three {
                append(words, values, |b| b as u16);
                append(words, values, |b| (b >> 16) as u8);
            } else {
                append(words, values, |b| b);
            }
        }
        let flags = &self.flags[..rows];
        packed.entries += flags.iter().map(|flags| u64::from((flags & !LABEL).count_ones())).sum::<u64>();
        append(words, flags, |flags| flags);
        packed.gaps = rows > 0 && self.lines[rows - 1] as usize != rows - 1;
        if packed.gaps {
            append(words, &self.lines[..rows], |line| line);
        }
        packed
    }
}

/// Puts `values`, as `pack` makes them, at the end of `words`.
fn append<T: Copy, P: bytemuck::Pod>(words: &mut Vec<u64>, values: &[T], pack: impl Fn(T) -> P) {
    let start = words.len();
    words.resize(start + words_of::<P>(values.len()), 0);
    let packed: &mut [P] = bytemuck::cast_slice_mut(&mut words[start..]);
    packed.iter_mut().zip(values).for_each(|(packed, &value)| *packed = pack(value));
}

/// Words that a column of `rows` values takes.
pub(super) const fn words_of<T>(rows: usize) -> usize {
    (rows * size_of::<T>()).div_ceil(size_of::<u64>())
}

impl Rows for Columns {
    fn reserve(&mut self, rows: usize) {
        self.len = 0;
        if self.stride < rows {
            // An odd number of cache lines, so that the columns do not compete for the same places in the cache.
            self.stride = (rows.div_ceil(16) | 1) * 16;
            self.flags.resize(self.stride, 0);
            self.lines.resize(self.stride, 0);
            self.numbers.resize(N_NUMERIC * self.stride, 0);
            if self.hasher.is_some() {
                self.buckets.resize(N_CATEGORICAL * self.stride, 0);
            }
        }
    }

    #[inline]
    fn push(&mut self, line: usize, numbers: &Numbers, tokens: Tokens<'_>) {
        self.add(line as u32, numbers, |column| tokens.get(column));
    }
}

impl Columns {
    /// Removes all rows and makes room for `rows`.
    pub(super) fn clear(&mut self, rows: usize) {
        Rows::reserve(self, rows);
    }

    /// Adds the row in line `line`, for which there is room.
    #[inline]
    pub(super) fn add<'a>(&mut self, line: u32, numbers: &Numbers, token: impl Fn(usize) -> &'a [u8]) {
        let row = self.len;
        self.flags[row] = numbers.present | if numbers.label == 1 { LABEL } else { 0 };
        self.lines[row] = line;
        for (column, &value) in numbers.values.iter().enumerate() {
            self.numbers[column * self.stride + row] = value;
        }
        if let Some(hasher) = &self.hasher {
            for column in 0..N_CATEGORICAL {
                self.buckets[column * self.stride + row] = hasher.bucket(column, token(column));
            }
        }
        self.len += 1;
    }
}
