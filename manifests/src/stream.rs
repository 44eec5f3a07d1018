//! A dataset on its way through a pipe: Arrow IPC streams one behind the other, the training rows and then, if there are any, the
//! held-out rows.
//!
//! Both have the columns of the Parquet parts: `label: f32`, `I1..I13: f32`, `C1..C26: u32`, or `user: u32`, `item: u32`,
//! `rating: f32`; what is missing is null. Rows come in the order of the source, in batches of at most [`BATCH_ROWS`]. The metadata
//! of the first schema say everything before the first row comes:
//!
//! | key | value |
//! |---|---|
//! | `gristmill.stream` | `1`, the version of this format |
//! | `gristmill.rows` | `train`; in the second stream's schema `holdout` |
//! | `gristmill.dataset` | the descriptor as JSON, without parts, since there are none |
//! | `gristmill.table.NAME` | a table that the descriptor's layout names, a Parquet file in Base64 |
//!
//! So whatever reads Arrow streams (`pyarrow.ipc.open_stream`) finds the training rows, and who knows what may follow opens the next
//! stream where that one ends. The number of rows is known beforehand: a stream that ends early, because its writer was
//! killed, is never taken for a smaller dataset.

mod read;
mod write;

use std::collections::HashMap;

use arrow_schema::{DataType, Field, Schema};
use schemas::dataset::Layout;

use crate::clicks::Form;
use crate::ratings::COLUMNS;

pub use read::{Batch, StreamReader};
pub use write::{Encoded, Encoder, StreamWriter};

/// What the stream is called in messages of its reader.
pub const STANDARD_INPUT: &str = "standard input";
/// The first bytes of an Arrow IPC stream.
pub const MAGIC: [u8; 4] = [0xff; 4];
/// Rows of a batch, at most.
pub const BATCH_ROWS: usize = 1 << 16;

const VERSION: &str = "1";
const VERSION_KEY: &str = "gristmill.stream";
const SORT_KEY: &str = "gristmill.rows";
const DESCRIPTOR_KEY: &str = "gristmill.dataset";
const TABLE_KEY: &str = "gristmill.table.";

/// Which rows they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Rows for training.
    Train,
    /// Rows held out.
    Holdout,
}

impl Sort {
    const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Holdout => "holdout",
        }
    }
}

/// What rows of a layout look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of ratings, with so many users and items.
    Ratings {
        /// Users.
        n_users: u32,
        /// Items.
        n_items: u32,
    },
    /// Of click logs.
    Clicks(Form),
}

impl Kind {
    /// The kind of the rows of `layout`.
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        match (layout, Form::of(layout)) {
            (Layout::Ratings(ratings), _) => Self::Ratings { n_users: ratings.n_users, n_items: ratings.n_items },
            (_, Some(form)) => Self::Clicks(form),
            (Layout::Dense(_) | Layout::Sparse(_), None) => unreachable!("click logs have a form"),
        }
    }

    fn fields(self) -> Vec<Field> {
        match self {
            Self::Ratings { .. } => {
                let types = [DataType::UInt32, DataType::UInt32, DataType::Float32];
                COLUMNS.iter().zip(types).map(|(name, kind)| Field::new(*name, kind, false)).collect()
            }
            Self::Clicks(form) => {
                let field = |name: String| {
                    let kind = if name.starts_with('C') { DataType::UInt32 } else { DataType::Float32 };
                    let nullable = form.is_sparse() && name != "label";
                    Field::new(name, kind, nullable)
                };
                form.columns().into_iter().map(field).collect()
            }
        }
    }

    fn schema(self, metadata: HashMap<String, String>) -> Schema {
        Schema::new_with_metadata(self.fields(), metadata)
    }
}

#[cfg(test)]
mod tests;
