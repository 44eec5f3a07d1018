//! `train bench`: what it measures, leaves behind and refuses.

use schemas::report::{ComputeBenchReport, ExchangeBenchReport, TransferRates};
use serde::de::DeserializeOwned;
use services::Redis;

use crate::clicks::write_manifest;
use crate::sandbox::{Ran, Sandbox};
use crate::shards::SMALL;

const EXCHANGE_CSV: &str =
    "workers,object_bytes,operation,objects,seconds,megabytes_per_second,objects_per_second,p50_ms,p99_ms";
const COMPUTE_CSV: &str = "workers,updates,seconds,updates_per_second,rows_per_second,share_of_ideal";

#[track_caller]
fn report<R: DeserializeOwned>(ran: &Ran) -> R {
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The parts of `rates` fit each other.
#[track_caller]
fn fits(rates: &TransferRates, size: u64, seconds: f64) {
    assert!(rates.objects > 0 && rates.seconds >= seconds, "{rates:?}");
    let per_second = rates.objects as f64 / rates.seconds;
    assert!((rates.objects_per_second / per_second - 1.0).abs() < 1e-9, "{rates:?}");
    assert!((rates.megabytes_per_second / (per_second * size as f64 / 1e6) - 1.0).abs() < 1e-9, "{rates:?}");
    assert!(rates.p50_ms > 0.0 && rates.p50_ms <= rates.p99_ms, "{rates:?}");
}

/// Files below `folder`.
fn files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn exchange_through_redis_is_measured_and_nothing_stays_there() {
    let (redis, sandbox) = (Redis::start(), Sandbox::empty());
    let args = "bench exchange --workers 1,3 --sizes 10KB,1MB --seconds 0.05 --csv table.csv";
    let mut command = sandbox.command(args);
    let ran: Ran = command.env("GRISTMILL_REDIS", redis.url()).output().unwrap().into();
    let measured: ExchangeBenchReport = report(&ran);
    let cells: Vec<_> = measured.rows.iter().map(|row| (row.workers, row.object_bytes)).collect();
    assert_eq!(cells, [(1, 10_000), (1, 1_000_000), (3, 10_000), (3, 1_000_000)]);
    for row in &measured.rows {
        fits(&row.write, row.object_bytes, 0.05);
        fits(&row.read, row.object_bytes, 0.05);
        assert_eq!(row.stored_bytes, 4 * u64::from(row.workers) * row.object_bytes);
    }
    let table = sandbox.csv("table.csv", EXCHANGE_CSV);
    let operations: Vec<[&str; 3]> = table.iter().map(|line| [&*line[0], &*line[1], &*line[2]]).collect();
    assert_eq!(operations[..3], [["1", "10000", "write"], ["1", "10000", "read"], ["1", "1000000", "write"]]);
    assert_eq!(table.len(), 8);
    assert_eq!(table[0][3], measured.rows[0].write.objects.to_string());
    assert_eq!(redis.keys(), Vec::<String>::new());
    // Columns stand below each other.
    let widths: Vec<usize> = ran.stderr.lines().skip(2).map(|line| line.chars().count()).collect();
    assert!(widths.len() == 5 && widths.iter().all(|width| *width == widths[0]), "{}", ran.stderr);
}

#[test]
fn exchange_through_a_folder_is_measured_and_nothing_stays_there() {
    let sandbox = Sandbox::empty();
    let ran = sandbox.run("bench exchange --exchange objects --workers 2 --sizes 10KB --seconds 0.05");
    let measured: ExchangeBenchReport = report(&ran);
    assert_eq!(measured.exchange, "objects");
    fits(&measured.rows[0].write, 10_000, 0.05);
    fits(&measured.rows[0].read, 10_000, 0.05);
    assert_eq!(files(&sandbox.path("")), 0);
}

#[test]
fn updates_without_communication_are_counted() {
    let sandbox = Sandbox::with(SMALL);
    write_manifest(&sandbox.path(""), "criteo", true, true);
    for (manifest, kind) in [("ml20m.json", "ratings"), ("criteo.json", "sparse")] {
        let args = format!("bench compute --manifest {manifest} --workers 1,3 --seconds 0.1 --csv {kind}.csv");
        let measured: ComputeBenchReport = report(&sandbox.run(&args));
        assert_eq!(measured.kind, kind);
        let workers: Vec<u32> = measured.rows.iter().map(|row| row.workers).collect();
        assert_eq!(workers, [1, 3]);
        for row in &measured.rows {
            assert!(row.updates >= u64::from(row.workers) && row.seconds >= 0.1, "{row:?}");
            assert!((row.updates_per_second / (row.updates as f64 / row.seconds) - 1.0).abs() < 1e-9, "{row:?}");
            assert!(row.rows_per_second > row.updates_per_second, "{row:?}");
            let ideal = f64::from(row.workers) * measured.rows[0].updates_per_second;
            assert!((row.share_of_ideal - row.updates_per_second / ideal).abs() < 1e-9, "{row:?}");
        }
        assert_eq!(sandbox.csv(&format!("{kind}.csv"), COMPUTE_CSV).len(), 2);
    }
    assert!(!sandbox.path("runs").exists(), "no run is written");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let sandbox = Sandbox::with(SMALL);
    std::fs::write(sandbox.path("there.csv"), "").unwrap();
    let nowhere = sandbox.command("bench exchange").env_remove("GRISTMILL_REDIS").output().unwrap();
    Ran::from(nowhere).failed(2, &["there is neither Redis nor a place for objects", "set GRISTMILL_REDIS"]);
    for (args, code, said) in [
        ("bench exchange --redis http://localhost", 2, "fix:"),
        ("bench exchange --redis redis://localhost --exchange objects", 2, "cannot be used with"),
        ("bench exchange --exchange objects --sizes 0", 2, "--sizes: 0 bytes is outside 1..=536870912"),
        ("bench exchange --exchange objects --seconds 0", 2, "--seconds 0 is outside 0.01..=120"),
        ("bench exchange --exchange objects --workers 0", 2, "0 is not in 1..=1000"),
        ("bench exchange --exchange objects --csv there.csv", 2, "`there.csv` is there already"),
        ("bench compute --manifest ml20m.json --seconds NaN", 2, "--seconds NaN is outside"),
        ("bench compute --manifest none.json", 2, "none.json"),
    ] {
        sandbox.run(args).failed(code, &[said]);
    }
}

#[test]
fn a_redis_without_memory_is_told() {
    let redis = Redis::start();
    let _ = redis.command(&["CONFIG", "SET", "maxmemory", "3mb"]);
    let ran =
        Sandbox::empty().run(&format!("bench exchange --redis {} --workers 2 --sizes 2MB --seconds 0.05", redis.url()));
    ran.failed(75, &["fix:"]);
    assert_eq!(redis.keys(), Vec::<String>::new());
}
