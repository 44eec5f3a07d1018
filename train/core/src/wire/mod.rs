//! What travels between workers and what a checkpoint holds, as bytes: gradients and the state of a replica.
//!
//! All numbers are little-endian; floats are their bits. Nothing is aligned. Both begin and end alike:
//!
//! | bytes | type | |
//! |---|---|---|
//! | 4 | | `GMgr` for a gradient, `GMre` for one as its residuals, `GMst` for a state |
//! | 1 | u8 | version of the format, 1 |
//! | 1 | u8 | model: 1 logistic regression, 2 matrix factorisation |
//! | 1 | u8 | factors; 0 for logistic regression |
//! | 1 | u8 | 1 if the model has an intercept or biases, else 0 |
//! | | | see [`logistic`] and [`pmf`] |
//! | 8 | u64 | XXH3-64 of all bytes before it |
//!
//! A gradient is that of a slot or a reduced one, whole or its part in one [`Slice`]; the name under which it is kept says which, of
//! which step. It goes on with
//!
//! | bytes | type | |
//! |---|---|---|
//! | 4 | u32 | rows of the mini-batch |
//! | 8 | f64 | sum of their losses |
//! | 17 or 34 | | the list of parameters, or those of users and of items |
//! | | | the ids of each list |
//! | | | the values of each list |
//!
//! or as [`pmf`] says if it is its residuals. A list is
//!
//! | bytes | type | |
//! |---|---|---|
//! | 4 | u32 | parameters, users or items of the model |
//! | 4 | u32 | first id of the slice |
//! | 4 | u32 | ids in the slice, `n` |
//! | 4 | u32 | ids that the gradient has, `k` |
//! | 1 | u8 | form of the ids |
//!
//! and ids stand, relative to the first of the slice, in that of these forms which takes fewest bytes:
//!
//! | form | bits | |
//! |---|---|---|
//! | 0..=31 | `k l`, `k + ((n - 1) >> l)` | the lower `l` (the form) bits of each id; then bit `(id >> l) + i` is 1 for the `i`-th id |
//! | 32 | `n` | bit `id` is 1 |
//! | 33 | 0 | every id of the slice |
//!
//! Bits fill bytes from the lowest up; both parts of the first form begin with a byte. That form is by Elias, *J. ACM* 21(2), 1974, and
//! Fano, 1971: about half a bit an id above the information in the set.

mod ids;
pub mod logistic;
pub mod pmf;
mod residuals;

#[cfg(test)]
mod tests;

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

/// Version of the formats.
const VERSION: u8 = 1;

/// Bytes of the head.
const HEAD: usize = 8;

/// Bytes of the digest.
const DIGEST: usize = 8;

/// One of the parts into which the parameters are cut, so that each worker reduces one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Which of them, from 0 and below `n_slices`.
    pub index: u32,
    /// How many there are, at least one.
    pub n_slices: u32,
}

impl Slice {
    /// All parameters.
    pub const WHOLE: Self = Self { index: 0, n_slices: 1 };

    /// The ids of this slice among `n` that are as likely as each other. Slices differ by at most one; there are empty ones if there are more slices than ids.
    ///
    /// # Panics
    /// When there are no slices.
    #[must_use]
    pub fn of(self, n: u32) -> Range<u32> {
        let bound = |i: u32| (u64::from(n) * u64::from(i) / u64::from(self.n_slices)) as u32;
        bound(self.index)..bound(self.index + 1)
    }
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Too few bytes, or too many.
    #[error("{found} bytes; {needed} are needed")]
    Length {
        /// Bytes there are.
        found: u64,
        /// Bytes there must be, or at least.
        needed: u64,
    },
    /// Other bytes altogether.
    #[error("begins with {found:?}, which no {what} does")]
    Magic {
        /// `gradient` or `state`.
        what: &'static str,
        /// The first bytes.
        found: [u8; 4],
    },
    /// A version that this program does not know.
    #[error("{what} of version {found}; this program reads version {VERSION}")]
    Version {
        /// `gradient` or `state`.
        what: &'static str,
        /// The version.
        found: u8,
    },
    /// Bytes that were changed on their way.
    #[error("the digest is not that of the bytes, so some were changed on their way")]
    Digest,
    /// Made for another model.
    #[error("{what}: {found}; this model has {expected}")]
    Shape {
        /// What differs.
        what: &'static str,
        /// What the bytes have.
        found: u64,
        /// What the model has.
        expected: u64,
    },
    /// A form of ids that does not exist, or more ids than fit.
    #[error("{count} {what} of {len} in form {form}, which cannot be")]
    Form {
        /// `parameters`, `users` or `items`.
        what: &'static str,
        /// How many there are said to be.
        count: u32,
        /// Of how many.
        len: u32,
        /// The form.
        form: u8,
    },
    /// Ids that are not ascending, not in the slice, or not as many as was said.
    #[error("{what}, entry {entry}: the ids must ascend within their slice and be as many as are announced")]
    Ids {
        /// `parameters`, `users` or `items`.
        what: &'static str,
        /// The first entry that is wrong.
        entry: u32,
    },
    /// A row that has seen more steps than the model.
    #[error("{what}, row {row}: after {stamp} steps; the state is after {steps}")]
    Stamp {
        /// `users` or `items`.
        what: &'static str,
        /// The row.
        row: u32,
        /// Its steps.
        stamp: u32,
        /// Those of the state.
        steps: u32,
    },
}

/// What bytes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Gradient,
    Residuals,
    State,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Gradient | Self::Residuals => "gradient",
            Self::State => "state",
        }
    }

    const fn magic(self) -> [u8; 4] {
        match self {
            Self::Gradient => *b"GMgr",
            Self::Residuals => *b"GMre",
            Self::State => *b"GMst",
        }
    }
}

/// What the head says of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    model: u8,
    n_factors: u8,
    flag: bool,
}

impl Head {
    /// Appends it; gives where it begins.
    fn write(self, what: What, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&what.magic());
        out.extend_from_slice(&[VERSION, self.model, self.n_factors, u8::from(self.flag)]);
        start
    }

    /// What lies between head and digest, if both are right.
    fn open(self, what: What, bytes: &[u8]) -> Result<Reader<'_>, WireError> {
        let mut reader = Reader { bytes };
        let found = reader.take()?;
        if found != what.magic() {
            return Err(WireError::Magic { what: what.name(), found });
        }
        let [version, model, n_factors, flag] = reader.take()?;
        if version != VERSION {
            return Err(WireError::Version { what: what.name(), found: version });
        }
        let Some((content, digest)) = bytes.split_last_chunk::<DIGEST>().filter(|_| reader.bytes.len() >= DIGEST)
        else {
            return Err(WireError::Length { found: bytes.len() as u64, needed: (HEAD + DIGEST) as u64 });
        };
        if xxh3_64(content) != u64::from_le_bytes(*digest) {
            return Err(WireError::Digest);
        }
        same("kind of model", model, self.model)?;
        same("factors", n_factors, self.n_factors)?;
        same("intercept or biases", flag, u8::from(self.flag))?;
        Ok(Reader { bytes: &content[HEAD..] })
    }
}

/// Appends the digest of what was written since `start`.
fn close(start: usize, out: &mut Vec<u8>) {
    let digest = xxh3_64(&out[start..]);
    out.extend_from_slice(&digest.to_le_bytes());
}

/// Refuses a model that differs in `what`.
fn same<T: Into<u64>>(what: &'static str, found: T, expected: T) -> Result<(), WireError> {
    let (found, expected) = (found.into(), expected.into());
    if found == expected { Ok(()) } else { Err(WireError::Shape { what, found, expected }) }
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let needed = WireError::Length { found: self.bytes.len() as u64, needed: N as u64 };
        let (first, rest) = self.bytes.split_first_chunk().ok_or(needed)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.take().map(u64::from_le_bytes)
    }

    /// As many bytes as [`Reader::expect`] has found to be there.
    fn slice(&mut self, len: u64) -> &'a [u8] {
        let (first, rest) = self.bytes.split_at((len as usize).min(self.bytes.len()));
        self.bytes = rest;
        first
    }

    /// Refuses anything but `needed` bytes.
    fn expect(&self, needed: u64) -> Result<(), WireError> {
        let found = self.bytes.len() as u64;
        if found == needed { Ok(()) } else { Err(WireError::Length { found, needed }) }
    }
}

/// Appends four bytes for each word.
fn put_words<T: Copy>(words: &[T], bytes: impl Fn(T) -> [u8; 4], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + words.len() * 4, 0);
    copy_words(words, bytes, &mut out[start..]);
}

/// The bytes of `words` into `out`.
#[inline(always)]
fn copy_words<T: Copy>(words: &[T], bytes: impl Fn(T) -> [u8; 4], out: &mut [u8]) {
    for (out, &word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *out = bytes(word);
    }
}

/// The words in `bytes` into `out`.
#[inline(always)]
fn read_words<T>(bytes: &[u8], word: impl Fn([u8; 4]) -> T, out: &mut [T]) {
    for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *out = word(bytes);
    }
}
