//! `train plan`: what it predicts, by which prices, and what it refuses.

use schemas::cost::{Architecture, PredictedRun, Prediction, Prices};
use train::cost::{cost, default_table};
use train::forecast::forecast;

use crate::clicks::write_manifest;
use crate::sandbox::{Ran, Sandbox};
use crate::shards::{NO_HOLDOUT, SMALL};

const CSV: &str = "workers,step_batches,exchange,step_seconds,compute_seconds,exchange_seconds,apply_seconds,steps_per_epoch,\
                   epoch_seconds,rows_per_second,run_seconds,lives,gb_seconds,requests,s3_puts,s3_gets,redis_hours,broker_hours,\
                   compute_usd,requests_usd,s3_puts_usd,s3_gets_usd,redis_usd,broker_usd,total_usd";

#[track_caller]
fn planned(ran: &Ran) -> Prediction {
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
}

/// What holds of a run whatever was measured: the parts make the whole, and it is billed by time, memory and price.
#[track_caller]
fn consistent(plan: &Prediction, run: &PredictedRun) {
    close(run.step_seconds, run.compute_seconds + run.exchange_seconds + run.apply_seconds);
    assert!(run.compute_seconds > 0.0 && run.exchange_seconds > 0.0 && run.apply_seconds > 0.0, "{run:?}");
    assert!(run.epoch_seconds > (run.steps_per_epoch - 1) as f64 * run.step_seconds);
    close(run.run_seconds, plan.assumptions.start_seconds + plan.workload.epochs as f64 * run.epoch_seconds);
    close(run.rows_per_second, plan.workload.rows as f64 / run.epoch_seconds);
    close(run.usage.broker_hours, run.run_seconds / 3600.0);
    assert_eq!((run.lives, run.usage.requests), (1, u64::from(run.workers) + 1));
    let functions = f64::from(run.workers + 1) * f64::from(plan.assumptions.memory_mb) / 1024.0;
    // Every function is billed for up to a millisecond more.
    let more = run.usage.gb_seconds / functions - run.run_seconds;
    assert!((-1e-6..0.001_001).contains(&more), "{more}");
    assert_eq!(run.cost, cost(&plan.prices, &run.usage, plan.assumptions.architecture));
}

#[test]
fn runs_of_both_models_are_predicted() {
    let sandbox = Sandbox::with(SMALL);
    write_manifest(&sandbox.path(""), "criteo", true, true);
    for (manifest, kind) in [("ml20m.json", "ratings"), ("criteo.json", "sparse")] {
        let args = format!("plan --manifest {manifest} --workers 1,4,100 --seconds 0.1 --csv {kind}.csv");
        let ran = sandbox.run(&args);
        let plan = planned(&ran);
        assert_eq!((plan.kind.as_str(), &plan.prices), (kind, &default_table()));
        let c = &plan.calibration;
        for (name, seconds) in [
            ("batch", c.batch_seconds),
            ("holdout", c.holdout_seconds),
            ("decode", c.decode_seconds),
            ("slice", c.slice_seconds),
            ("reduced", c.reduced_seconds),
            ("apply", c.apply_seconds + c.apply_gradient_seconds),
        ] {
            assert!(seconds > 0.0 && seconds < 1.0, "{name}: {seconds}");
        }
        assert!(c.batches >= 17 && c.seconds >= 0.1, "{c:?}");
        assert!(c.slot_bytes > 0 && c.sliced_bytes > 0, "{c:?}");
        let slots: Vec<u32> = c.reduced.iter().map(|r| r.slots).collect();
        assert_eq!(slots[..2], [1, 2]);
        assert!(c.reduced[1..].is_sorted_by_key(|r| r.bytes) && c.reduced[0].bytes > 0, "{:?}", c.reduced);
        assert_eq!(
            plan.runs.iter().map(|r| (r.workers, r.step_batches)).collect::<Vec<_>>(),
            [(1, 1), (4, 4), (100, 100)]
        );
        for run in &plan.runs {
            consistent(&plan, run);
            let again = forecast(c, &plan.assumptions, &plan.workload, &plan.prices, run.workers, run.step_batches);
            assert_eq!(&again, run, "the report says all that the prediction is made of");
        }
        let table = sandbox.csv(&format!("{kind}.csv"), CSV);
        assert_eq!(table.len(), 3);
        assert_eq!((&*table[1][0], &*table[1][2], &*table[1][11]), ("4", "all-to-all", "1"));
        assert_eq!(table[2][24], format!("{:.9}", plan.runs[2].cost.total));
        // Columns stand below each other, and what is assumed is said.
        let rows: Vec<&str> = ran.stderr.lines().skip(4).take(4).collect();
        let ends: Vec<usize> = rows.iter().map(|row| row.rfind("  ").unwrap()).collect();
        assert!(rows[0].contains("GB-s") && ends.iter().all(|end| *end == ends[0]), "{}", ran.stderr);
        assert!(ran.stderr.contains("2048 MB (x86_64) with 100 % of a processor"), "{}", ran.stderr);
        assert!(ran.stderr.contains("by the prices of us-east-1 of "), "{}", ran.stderr);
    }
    assert!(!sandbox.path("runs").exists(), "no run is written");
}

#[test]
fn every_flag_counts() {
    let sandbox = Sandbox::with(NO_HOLDOUT);
    let mine =
        Prices { date: "2026-01-02".to_owned(), lambda_arm64_gb_second: 0.001, redis_hour: 0.0, ..default_table() };
    std::fs::write(sandbox.path("mine.json"), serde_json::to_vec(&mine).unwrap()).unwrap();
    let args = "plan --manifest ml20m.json --workers 8 --step-batches 20 --epochs 3 --memory-mb 512 --architecture arm64 \
                --bandwidth 2MB/s --redis-bandwidth 500kB/s --latency 1s --prices mine.json --seconds 0.05";
    let ran = sandbox.run(args);
    let plan = planned(&ran);
    let (a, run) = (&plan.assumptions, &plan.runs[0]);
    assert_eq!((a.memory_mb, a.architecture, a.bandwidth, a.redis_bandwidth), (512, Architecture::Arm, 2e6, 5e5));
    close(a.cpu_share, 512.0 / 1769.0);
    assert_eq!((a.latency_seconds, plan.workload.epochs, plan.workload.holdout_batches), (1.0, 3, 0));
    assert_eq!((run.step_batches, run.steps_per_epoch), (20, 3));
    // Three of 20 mini-batches are computed one after the other, with less than a third of a processor.
    let compute = 3.0 * plan.calibration.batch_seconds / a.cpu_share;
    close(run.compute_seconds, compute.max(3.0 * plan.workload.batch_bytes as f64 / 2e6));
    assert!(run.exchange_seconds > 2.0, "two answers of a second each");
    assert_eq!((&plan.prices, run.cost.redis), (&mine, 0.0));
    close(run.cost.compute, run.usage.gb_seconds * 0.001);
    consistent(&plan, run);
    assert!(ran.stderr.contains("512 MB (arm64) with 29 % of a processor"), "{}", ran.stderr);
    assert!(ran.stderr.contains("us-east-1 of 2026-01-02"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let sandbox = Sandbox::with(SMALL);
    std::fs::write(sandbox.path("there.csv"), "").unwrap();
    std::fs::write(sandbox.path("text.json"), "prices").unwrap();
    let negative = Prices { broker_hour: -1.0, ..default_table() };
    std::fs::write(sandbox.path("negative.json"), serde_json::to_vec(&negative).unwrap()).unwrap();
    for (args, code, said) in [
        ("--prices negative.json", 4, "negative.json: broker_hour: -1 is outside 0..=100 US dollars"),
        ("--prices text.json", 4, "text.json:1:1: expected value"),
        ("--prices none.json", 2, "none.json: could not be read"),
        ("--bandwidth slow", 2, "--bandwidth slow is not a number of bytes a second"),
        ("--redis-bandwidth 1B/s", 2, "--redis-bandwidth 1B/s is outside 1kB/s..=1TB/s"),
        ("--latency 1h", 2, "--latency 3600s is more than 10s"),
        ("--memory-mb 64", 2, "64 is not in 128..=10240"),
        ("--workers 0", 2, "0 is not in 1..=4096"),
        ("--epochs 0", 2, "0 is not in 1..=1000000"),
        ("--seconds -1", 2, "unexpected argument"),
        ("--seconds 1000", 2, "--seconds 1000 is outside"),
        ("--csv there.csv", 2, "`there.csv` is there already"),
        ("--architecture riscv", 2, "invalid value 'riscv'"),
    ] {
        sandbox.run(&format!("plan --manifest ml20m.json {args}")).failed(code, &[said]);
    }
    sandbox.run("plan --manifest none.json").failed(2, &["none.json"]);
    sandbox.run("plan").failed(2, &["--manifest"]);
}
