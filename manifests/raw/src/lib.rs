//! Raw files: found, opened, decompressed, cut into blocks of whole lines, decoded, and made what models see.
//!
//! * [`source`] finds, opens and decompresses text; [`blocks`] cuts it into blocks of whole lines and works on them in
//!   parallel, in order. Both know nothing of what a row is.
//! * [`clicks`] and [`ratings`] say what the rows of the two kinds of text are. There is no I/O in them.
//! * [`reading`] goes from a source to rows in order, with line and row numbers; [`outcome`] is what it is told of each block.
//!
//! Whatever looks at raw text comes here, so that it means the same everywhere. What becomes of bad rows, which rows are kept and
//! where they go is not decided here.

pub mod blocks;
pub mod clicks;
pub mod error;
pub mod outcome;
pub mod ratings;
pub mod reading;
mod remote;
pub mod source;

pub use error::Error;

/// How a text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextFormat<Columns> {
    /// Its columns.
    pub columns: Columns,
    /// Bytes before the first row: a byte order mark and a header.
    pub skipped_bytes: usize,
    /// Lines before the first row.
    pub skipped_lines: u64,
}
