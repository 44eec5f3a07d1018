//! The real binary: what it prints, what it leaves behind, and with which exit code.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod bad_input;
mod click_shards;
mod ending;
mod help;
mod logistic;
mod outputs;
mod same_bits;
mod sandbox;
mod shards;
