//! What was made from what, and where it lies.
//!
//! * [`place`]: a path or URL as an object store, with blocking calls. The storage port is [`object_store::ObjectStore`].
//! * [`digest`]: content identity.
//! * [`commit`]: how a tool's output appears whole or not at all.
//! * [`load`]: descriptors and manifests, read and checked.
//! * [`ratings`]: rows of ratings to and from Parquet.
//! * [`clicks`]: rows of click logs to and from Parquet.
//! * [`id_map`]: the tables that turn renumbered users and items back into the source's ids.
//! * [`scales`]: the table of buckets that a row may hit more than once.
//!
//! There is no knowledge here of how rows are prepared, shuffled or trained on.

mod bucket;
pub mod clicks;
pub mod commit;
pub mod digest;
mod error;
pub mod id_map;
pub mod load;
mod pairs;
pub mod place;
pub mod ratings;
pub mod scales;

pub use error::Error;
