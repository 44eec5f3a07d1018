//! The whole program on sparse click rows, which it makes first.
//!
//! `cargo bench --workspace --bench click_rows`; with `-- --make FOLDER ROWS` it only makes such a dataset there.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and ends where it cannot go on")]

#[path = "../tests/support/clicks.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use manifests::clicks::Form;

const SHAPE: support::Spec = support::Spec {
    name: "criteo",
    form: Form { labelled: true, n_buckets: Some(1_000_000) },
    rows: 3_000_000,
    holdout: 0,
    part_rows: 1 << 17,
};
const RUNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--make", folder, rows, ..] => {
            support::prepare(Path::new(folder), support::Spec { rows: rows.parse().unwrap(), ..SHAPE });
        }
        // Run as a test, a benchmark has nothing to show.
        _ if !arguments.iter().any(|a| a == "--bench") => {}
        _ => measure(),
    }
}

fn measure() {
    let folder = tempfile::tempdir().unwrap();
    support::prepare(&folder.path().join("prepared/criteo"), SHAPE);
    for threads in ["1", "2"] {
        for run in 0..RUNS {
            // Nothing is removed until the end: for minutes after a removal ext4 is slow to make new files.
            let out = format!("shards/{threads}-{run}");
            let start = Instant::now();
            let output = Command::new(env!("CARGO_BIN_EXE_shard"))
                .args(["--batch", "6250", "--quiet", "--threads", threads, "--out", &out])
                .current_dir(folder.path())
                .output()
                .unwrap();
            let seconds = start.elapsed().as_secs_f64();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            println!("threads {threads}: {seconds:.3} s, {:.2} M rows/s", SHAPE.rows as f64 / seconds / 1e6);
        }
    }
}
