//! Tables of raw rows as DataFusion sees them: conditions on rows, and inputs that other engines wrote.
//!
//! * [`Filter`] is a checked SQL condition; [`Filtered`] gives the rows of a decoder, batch by batch, for which it holds.
//!   [`Answer`] answers any query about them.
//! * [`Files`] reads Parquet and csv files in whatever types and order their columns are.
//! * [`batch`]: decoded rows as columns and back, in the one schema that all of this shares ([`schema`]).
//!
//! Everything here blocks; there is no runtime, and no thread outlives a call. `engine.rs` alone knows DataFusion.
//! What is not here: raw text ([`raw::clicks`]), and what is done with rows.

pub mod batch;
mod convert;
mod csv;
mod engine;
mod error;
mod files;
pub mod schema;

pub use batch::{ClickBatch, ClickBatchBuilder};
pub use engine::{Answer, Filter, Filtered, parquet_answer};
pub use error::Error;
pub use files::{Files, Kind, Rows};
