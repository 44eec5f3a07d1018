//! The whole program on a dataset of the shape of ML-20M, which it makes first.
//!
//! `cargo bench --workspace --bench twenty_million`; with `-- --make FOLDER` it only makes the dataset there.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and ends where it cannot go on")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// 20,000,263 ratings by 138,493 users of 26,744 movies.
const SHAPE: support::Spec =
    support::Spec { name: "ml20m", users: 138_493, items: 26_744, rows: 20_000_263, holdout: 0, part_rows: 1 << 20 };
const RUNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--make", folder] => support::prepare(Path::new(folder), SHAPE),
        // Run as a test, a benchmark has nothing to show.
        _ if !arguments.iter().any(|a| a == "--bench") => {}
        _ => measure(),
    }
}

fn measure() {
    let folder = tempfile::tempdir().unwrap();
    support::prepare(&folder.path().join("prepared/ml20m"), SHAPE);
    for threads in ["1", "2"] {
        for run in 0..RUNS {
            // Nothing is removed until the end: for minutes after a removal ext4 is slow to make new files.
            let out = format!("shards/{threads}-{run}");
            let start = Instant::now();
            let output = Command::new(env!("CARGO_BIN_EXE_shard"))
                .args(["--batch", "12000", "--quiet", "--threads", threads, "--out", &out])
                .current_dir(folder.path())
                .output()
                .unwrap();
            let seconds = start.elapsed().as_secs_f64();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let rate = SHAPE.rows as f64 / seconds / 1e6;
            println!("threads {threads}: {seconds:.3} s, {rate:.1} M rows/s");
        }
    }
}
