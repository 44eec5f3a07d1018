//! Loads manifests of a million mini-batches, each an object or packed, and tells time and memory: `cargo bench --bench million`.
//!
//! Each is loaded in a process of its own, because only that has a peak of memory.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic, and prints what it measured")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use manifests::batches::{Batches, Builder};
use manifests::commit::Staging;
use manifests::digest::digest;
use manifests::index;
use manifests::load;
use manifests::place::Place;
use schemas::manifest::{Listing, Manifest};

const COUNT: u64 = 1_000_000;

fn main() {
    if let Some(path) = std::env::args().skip(1).find(|argument| argument.ends_with(".json")) {
        return load(&path);
    }
    // Run as a test, a benchmark has nothing to show.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, per_object) in [("each_an_object", 1), ("packed_by_100", 100)] {
        let path = write(folder.path(), name, per_object);
        for _ in 0..5 {
            let output = Command::new(std::env::current_exe().unwrap()).arg(&path).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            print!("{name}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

fn load(path: &str) {
    let before = peak();
    let start = Instant::now();
    let shards = load::shards(path).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(shards.batches.len() as u64, COUNT);
    println!("{seconds:.3} s ({:.2} s of a processor), {} MB at most, {before} MB before", processor(), peak());
}

/// Seconds that this process has had a processor: on a busy machine they say more.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
    ticks as f64 / 100.0
}

/// Megabytes of memory that this process had at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// A manifest of mini-batches that do not exist, from which only its lists are read.
fn write(folder: &Path, name: &str, per_object: u64) -> String {
    let place = Place::parse(folder.join(name).to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &place, "m.json", &digest(name.as_bytes()));
    let table = |prefix: &str, count: u64| -> Batches {
        let mut table = Builder::for_about(count as usize);
        let mut end = 0;
        for i in 0..count {
            let first = i / per_object * per_object;
            let key = match per_object {
                1 => format!("{prefix}-{i:06}.parquet"),
                n => format!("{prefix}-{first:06}-{:06}.parquet", first + n - 1),
            };
            let bits = digest(&i.to_le_bytes()).xxh3_128().unwrap();
            let bytes = 600_000 + (bits % 3000) as u64;
            end = if i == first { 0 } else { end };
            table.push(&staging.key(&key), (per_object > 1).then_some(end), 6250, bytes, bits).unwrap();
            end += bytes;
        }
        table.finish().unwrap()
    };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1/manifest.json");
    let mut manifest: Manifest = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
    let (batches, holdout) = (table("batch", COUNT), table("holdout", 0));
    manifest.batches = index::listing(&staging, "batches", &batches).unwrap();
    manifest.holdout_batches = index::listing(&staging, "holdout_batches", &holdout).unwrap();
    let Listing::Index(index) = &manifest.batches else { panic!("a million mini-batches are not listed") };
    println!("{name}: an index of {} bytes", index.bytes);
    (manifest.rows, manifest.holdout_rows, manifest.version) = (6250 * COUNT, 0, 2);
    manifest.shuffle.batch_rows = 6250;
    manifest.base = ".".to_owned();
    staging.commit(serde_json::to_vec_pretty(&manifest).unwrap(), false).unwrap();
    folder.join(name).join("m.json").to_str().unwrap().to_owned()
}
