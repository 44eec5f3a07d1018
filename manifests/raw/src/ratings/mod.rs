//! Raw ratings: lines of user, item, stars and a timestamp that is not looked at.
//!
//! * [`format`]: columns and header from the first line. [`parse`]: the kernel and the readable parser. [`rules`]: what a row
//!   must keep, and what is said when it does not.
//!
//! There is no I/O here, no thread and no clock.

pub mod format;
pub mod parse;
pub mod rules;
