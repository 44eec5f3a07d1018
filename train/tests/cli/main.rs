//! The real binary: what it prints, what it leaves behind, and with which exit code.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

mod bad_input;
mod bad_models;
mod bench;
mod click_shards;
mod clicks;
mod ending;
mod evaluate;
mod help;
mod logistic;
mod outputs;
mod pages;
mod plan;
mod predict;
mod ratings;
mod recipes;
mod recommend;
mod runs;
mod same_bits;
mod sandbox;
mod shards;
