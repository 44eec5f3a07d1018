//! The protocol: what the supervisor decides and whom it listens to, and whole runs in a simulated world.
//!
//! `GRISTMILL_SEED=N` runs one seed of the simulation and says more.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]
#![expect(clippy::print_stdout, reason = "one seed says what it is")]

mod decisions;
mod simulation;
mod world;
