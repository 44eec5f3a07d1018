//! AWS Lambda as a launcher: asks for a function's published version, and invokes it asynchronously.
//!
//! * Any thread may call: requests live on a thread of the crate's own.
//! * Invocations are begun as fast as Lambda lets a function grow ([`Ramp`]), and a refusal that may pass is tried again.
//! * Every failure is classified once ([`Error`]): by what the person must do about it, without secrets.
//!
//! There is no knowledge here of runs, workers or payloads.

mod error;
mod functions;
mod ramp;

pub use error::{Error, Remedy};
pub use functions::{Answer, Functions, Invocation, Progress, Version};
pub use ramp::Ramp;
