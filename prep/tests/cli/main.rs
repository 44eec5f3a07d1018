//! The real binary: what it prints, what it leaves behind, and with which exit code.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod criteo;
mod criteo_queries;
mod criteo_values;
mod datasets;
mod dry_run;
mod failures;
mod generated;
mod generated_criteo;
mod help;
mod inspect;
mod piped;
mod prepared;
mod sandbox;
