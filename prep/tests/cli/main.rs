//! The real binary: what it prints, what it leaves behind, and with which exit code.

mod datasets;
mod failures;
mod generated;
mod help;
mod sandbox;
