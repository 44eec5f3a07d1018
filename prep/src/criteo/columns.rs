//! Decoded rows column by column: what a block of text becomes before it goes to the temporary file.

use prep_decode::hash::{Hasher, MISSING};
use prep_decode::{Numbers, Rows, Tokens};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

/// The bit of a row's flags that holds the label. Bit `j` below says whether `I(j + 1)` is there.
pub(super) const LABEL: u16 = 1 << 15;

/// Rows of one block.
pub(super) struct Columns {
    /// For the buckets of sparse rows; none for dense ones.
    hasher: Option<Hasher>,
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
    /// Bit `j` is set when `I(j + 1)` takes 64 bits a value, else it takes 32.
    pub wide: u16,
    /// Whether each row's line is kept, because some lines are missing.
    pub gaps: bool,
    /// Values that are there, of numbers and of tokens.
    pub entries: u64,
}

impl Columns {
    pub(super) fn new(n_buckets: Option<u32>) -> Self {
        Self {
            hasher: n_buckets.map(Hasher::new),
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
            if values.iter().fold(true, |fits, &x| fits & (i64::from(x as i32) == x)) {
                let column = append::<i32>(words, rows);
                column.iter_mut().zip(values).for_each(|(narrow, &x)| *narrow = x as i32);
            } else {
                packed.wide |= 1 << column;
                append::<i64>(words, rows).copy_from_slice(values);
            }
        }
        if self.hasher.is_some() {
            for column in 0..N_CATEGORICAL {
                let values = &self.buckets[column * self.stride..][..rows];
                packed.entries += values.iter().map(|&b| u32::from(b != MISSING)).sum::<u32>() as u64;
                append::<u32>(words, rows).copy_from_slice(values);
            }
        }
        let flags = &self.flags[..rows];
        packed.entries += flags.iter().map(|flags| u64::from((flags & !LABEL).count_ones())).sum::<u64>();
        append::<u16>(words, rows).copy_from_slice(flags);
        packed.gaps = rows > 0 && self.lines[rows - 1] as usize != rows - 1;
        if packed.gaps {
            append::<u32>(words, rows).copy_from_slice(&self.lines[..rows]);
        }
        packed
    }
}

/// Room for `rows` values at the end of `words`.
fn append<T: bytemuck::Pod>(words: &mut Vec<u64>, rows: usize) -> &mut [T] {
    let start = words.len();
    words.resize(start + words_of::<T>(rows), 0);
    &mut bytemuck::cast_slice_mut(&mut words[start..])[..rows]
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
        let row = self.len;
        self.flags[row] = numbers.present | if numbers.label == 1 { LABEL } else { 0 };
        self.lines[row] = line as u32;
        for (column, &value) in numbers.values.iter().enumerate() {
            self.numbers[column * self.stride + row] = value;
        }
        if let Some(hasher) = &self.hasher {
            for column in 0..N_CATEGORICAL {
                self.buckets[column * self.stride + row] = hasher.bucket(column, tokens.get(column));
            }
        }
        self.len += 1;
    }
}
