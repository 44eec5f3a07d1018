//! What shuffling has to know of a kind of rows: how a part is decoded, what a row is as words, and how words become a
//! mini-batch.

mod clicks;
mod ratings;
mod sort;

use std::ops::Range;

use bytes::Bytes;
use manifests::stream::Batch;

pub(crate) use clicks::Clicks;
pub(crate) use ratings::RatingKind;

/// Rows whose words stay in the fastest cache while columns are turned into rows, or back.
pub(crate) const TILE_ROWS: usize = 64;

/// A kind of rows. On its way a row is a few words, one behind the other.
pub(crate) trait Kind: Sync {
    /// Rows of a part, column by column.
    type Columns: Default + Send;
    /// What making mini-batches works with.
    type Encoder: Send;

    /// Words of a row.
    fn width(&self) -> usize;

    /// Puts the rows of a part into `columns` and gives their number.
    ///
    /// # Errors
    /// What is wrong with the part.
    fn decode(&self, part: Bytes, columns: &mut Self::Columns) -> Result<usize, String>;

    /// Puts the rows that a pipe brought into `columns`.
    ///
    /// # Errors
    /// What is wrong with them.
    fn receive(&self, batch: &Batch, columns: &mut Self::Columns) -> Result<(), manifests::Error>;

    /// Puts the rows number `range` into `words`.
    fn pack(&self, columns: &Self::Columns, range: Range<usize>, words: &mut [u32]);

    /// What one thread needs to encode.
    fn encoder(&self) -> Self::Encoder;

    /// The mini-batch of the rows in `words`.
    fn encode(&self, words: &[u32], encoder: &mut Self::Encoder) -> Vec<u8>;
}
