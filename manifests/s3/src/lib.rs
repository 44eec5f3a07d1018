//! S3 as an object store, through the AWS SDK.
//!
//! [`S3Store`] is an [`object_store::ObjectStore`] for one bucket of any S3-compatible server. What it adds to the SDK's requests:
//!
//! * Any thread and any executor may drive its futures: requests and bodies live on two threads of the crate's own.
//! * A body that is cut short, reset or stalled is asked for again from where it stopped; whole objects are checked against
//!   the checksum that the server keeps.
//! * Of several creators of a key exactly one wins, and one whose answer was lost does not mistake itself for another.
//! * Failures say which of bucket, object, credentials, rights, region and server is at fault ([`Error`]), without secrets.
//!
//! There is no knowledge here of what objects hold, and no cache of their bytes.

mod attributes;
mod body;
mod checksum;
mod error;
mod retry;
mod runtime;
mod sdk;
mod settings;
mod store;
mod token;
mod upload;

pub use error::Error;
pub use settings::{Credentials, Settings};
pub use store::S3Store;
