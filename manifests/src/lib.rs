//! What was made from what, and where it lies.
//!
//! * [`place`]: a path or URL as an object store, with blocking calls. The storage port is [`object_store::ObjectStore`].
//! * [`digest`]: content identity.
//! * [`commit`]: how a tool's output appears whole or not at all.
//! * [`batches`]: the mini-batches of a manifest, by number. [`index`]: many of them as one Parquet object beside it.
//! * [`packed`]: several mini-batches in one object, and how they are written.
//! * [`fetch`]: objects in order, several under way at once.
//! * [`load`]: descriptors and manifests, read and checked.
//! * [`ratings`]: rows of ratings to and from Parquet.
//! * [`clicks`]: rows of click logs to and from Parquet.
//! * [`id_map`]: the tables that turn renumbered users and items back into the source's ids.
//! * [`scales`]: the table of buckets that a row may hit more than once.
//! * [`stream`]: a dataset on its way through a pipe.
//! * [`disk`]: how much room there is.
//!
//! There is no knowledge here of how rows are prepared, shuffled or trained on.

pub mod batches;
mod bucket;
pub mod clicks;
pub mod commit;
pub mod digest;
pub mod disk;
mod error;
pub mod fetch;
mod gated;
pub mod id_map;
pub mod index;
pub mod load;
pub mod packed;
mod pairs;
pub mod place;
pub mod ratings;
pub mod scales;
pub mod stream;
mod turn;
mod uploads;

pub use error::Error;
