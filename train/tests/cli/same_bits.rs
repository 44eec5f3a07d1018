//! One manifest, seed and number of batches a step: the same bits whatever the number of workers.

use schemas::report::TrainReport;

use crate::sandbox::{Sandbox, pmf_settings};
use crate::shards::{SMALL, Spec};

const FILES: [&str; 3] = ["model.safetensors", "users.parquet", "items.parquet"];

/// Everything of a run that must not depend on the number of workers.
#[derive(Debug, PartialEq)]
struct Bits {
    files: [Vec<u8>; 3],
    history: Vec<[String; 4]>,
    history_digest: String,
    model_digest: String,
    losses: [Option<u64>; 2],
    steps: u64,
}

fn train(sandbox: &Sandbox, workers: u32, args: &str) -> (Bits, TrainReport) {
    let out = format!("out-{workers}");
    let report = sandbox.train(&format!("--workers {workers} --patience 99 {args} -q --replace -o {out}")).report();
    assert_eq!((report.workers, report.unchanged), (workers, false));
    let bits = Bits {
        files: FILES.map(|file| sandbox.read(&format!("{out}/{file}"))),
        history: sandbox.history(&out),
        history_digest: report.history_digest.to_string(),
        model_digest: report.model_digest.to_string(),
        losses: [report.trained.train_loss(), report.trained.holdout_loss()].map(|loss| loss.map(f64::to_bits)),
        steps: report.steps,
    };
    (bits, report)
}

#[test]
fn of_any_number_of_workers() {
    let sandbox = Sandbox::with(SMALL);
    // 41 batches: 6 steps an epoch with 8 a step, the last one with a single batch.
    for (args, steps) in [
        ("--step-batches 8 --max-epochs 4", 24),
        ("--step-batches 8 --max-epochs 4 --biases --l2 0.05", 24),
        ("--step-batches 8 --max-epochs 4 --reduce mean", 24),
        ("--step-batches 8 --max-epochs 4 --biases --reduce mean --momentum 0 --factors 7 --seed 3", 24),
        ("--step-batches 3 --max-epochs 3", 42),
        ("--step-batches 1 --max-epochs 2 --biases", 82),
        ("--step-batches 41 --max-epochs 4", 4),
        ("--step-batches 64 --max-epochs 4", 4),
    ] {
        let (one, report) = train(&sandbox, 1, args);
        assert_eq!((report.steps, one.history.len() as u64), (steps, steps), "{args}");
        for workers in [2, 3, 8] {
            let (bits, _) = train(&sandbox, workers, args);
            assert!(bits == one, "{workers} workers, {args}");
        }
    }
}

#[test]
fn of_more_workers_than_mini_batches() {
    let sandbox = Sandbox::with(Spec { rows: 250, holdout: 90, ..SMALL });
    // Three batches; by default as many a step as there are workers.
    for args in ["--step-batches 8", "--step-batches 2"] {
        let (one, _) = train(&sandbox, 1, &format!("{args} --max-epochs 3"));
        let (eight, _) = train(&sandbox, 8, &format!("{args} --max-epochs 3"));
        assert!(eight == one, "{args}");
    }
    let (_, report) = train(&sandbox, 8, "--max-epochs 3");
    assert_eq!((pmf_settings(&report).step_batches, report.steps), (8, 3));
}

#[test]
fn but_not_of_another_seed_step_or_setting() {
    let sandbox = Sandbox::with(SMALL);
    let all = ["--seed 8", "--seed 9", "--step-batches 4", "--reduce mean", "--biases", "--l2 0.01", "--momentum 0.7"];
    let digests: Vec<String> = all
        .iter()
        .map(|args| {
            let step = if args.contains("step") { "" } else { "--step-batches 8" };
            train(&sandbox, 2, &format!("{step} {args} --max-epochs 2")).0.model_digest
        })
        .collect();
    let mut distinct = digests.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), all.len(), "{digests:?}");
}
