//! Pages and charts of made-up runs: read, looked through as documents, and opened in a browser.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod browser;
mod made;
mod pages;
mod reading;
mod sizes;
