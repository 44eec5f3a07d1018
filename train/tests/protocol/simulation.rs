//! Thousands of runs, each with its own misfortunes. Whatever happens, the history, the model and the ledger are those of a run in
//! which nothing happens.

use std::time::Duration;

use random::Stream;
use schemas::records::{Finished, Outcome};
use schemas::report::StopReason;
use train::model::Metric;
use train::protocol::course::Rules;
use train::protocol::supervisor::{Members, Recovery, Strategy};
use train_core::order::Schedule;

use crate::world::{Dangers, Misfortune, World, reference};

/// Seeds of one test; there are four of these.
const SEEDS: u64 = 3_000;

fn rules(seed: u64) -> (Rules, Members) {
    let mut chance = Stream::new(seed, "rules");
    let mut between = |low: u64, high: u64| low + chance.below(high - low + 1);
    let n_workers = between(1, 6) as u32;
    let rules = Rules {
        schedule: Schedule::new(between(1, 24) as u32, between(1, 8) as u32),
        n_holdout_batches: if between(0, 1) == 0 { 0 } else { between(1, 5) as u32 },
        metric: Metric::Rmse,
        holdout_base: 10.0,
        max_epochs: between(1, 4),
        max_time: None,
        target_loss: None,
        target_holdout_loss: None,
        patience: None,
    };
    let recovery = Recovery { checkpoint_every: between(1, 9), strategy: Strategy::AllToAll, replay_bytes: u64::MAX };
    (rules, Members { n_workers, silence_max: Duration::from_secs(3), recovery: Some(recovery) })
}

/// What is wrong with the run of `seed`, if anything.
fn check(seed: u64) -> Result<(), String> {
    let (rules, members) = rules(seed);
    let dangers = Dangers::of(seed, members.n_workers);
    as_if_nothing_had_happened(&rules, members, dangers, seed)
}

/// What is wrong with the run under these `dangers`, if anything.
fn as_if_nothing_had_happened(rules: &Rules, members: Members, dangers: Dangers, seed: u64) -> Result<(), String> {
    let run = World::new(rules, members, dangers, seed).run()?;
    let expected = reference(rules);
    let n_steps = expected.steps.len() as u64;
    match &run.outcome {
        Outcome::Finished(Finished { reason: StopReason::MaxEpochs, steps, .. }) if *steps == n_steps => {}
        other => return Err(format!("it ended as {other:?} after {n_steps} steps")),
    }
    if run.steps != expected.steps {
        let differs = run.steps.iter().zip(&expected.steps).position(|(a, b)| a != b);
        return Err(format!("the history differs from entry {differs:?} on"));
    }
    if run.evaluations != expected.evaluations {
        return Err(format!("evaluations are {:?}, not {:?}", run.evaluations, expected.evaluations));
    }
    if run.model != expected.model {
        return Err("the model differs".to_owned());
    }
    let counted = run.counted.iter().map(|(step, counted)| (*step, counted.slot));
    let due = (0..n_steps).flat_map(|step| (0..rules.schedule.n_slots(step)).map(move |slot| (step, slot)));
    if counted.eq(due) { Ok(()) } else { Err("a mini-batch did not count exactly once".to_owned()) }
}

fn check_all(first: u64) {
    let seeds = match std::env::var("GRISTMILL_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("GRISTMILL_SEED is a number");
            let (rules, members) = rules(seed);
            println!("{rules:?}\n{members:?}\n{:?}", Dangers::of(seed, members.n_workers));
            seed..seed + 1
        }
        Err(_) => first..first + SEEDS,
    };
    for seed in seeds {
        let checked = std::panic::catch_unwind(|| check(seed));
        if let Err(mut problem) = checked.unwrap_or_else(|_| Err("it panicked, see above".to_owned())) {
            if std::env::var_os("GRISTMILL_SEED").is_none() {
                problem.truncate(300);
            }
            panic!(
                "seed {seed}: {problem}\nagain by: GRISTMILL_SEED={seed} cargo test --release -p train --test protocol"
            );
        }
    }
}

#[test]
fn seeds_0_to_3000_end_as_if_nothing_had_happened() {
    check_all(0);
}

#[test]
fn seeds_3000_to_6000_end_as_if_nothing_had_happened() {
    check_all(SEEDS);
}

#[test]
fn seeds_6000_to_9000_end_as_if_nothing_had_happened() {
    check_all(2 * SEEDS);
}

#[test]
fn seeds_9000_to_12000_end_as_if_nothing_had_happened() {
    check_all(3 * SEEDS);
}

/// A thousand workers, of which fifty die and two hundred hand over, and a supervisor that hands over.
#[test]
fn a_thousand_workers_end_as_if_nothing_had_happened() {
    const WORKERS: u32 = 1000;
    let (rules, members) = rules(1);
    let rules = Rules { schedule: Schedule::new(4 * WORKERS, WORKERS), n_holdout_batches: 300, max_epochs: 3, ..rules };
    let recovery = Recovery { checkpoint_every: 5, strategy: Strategy::AllToAll, replay_bytes: u64::MAX };
    let members = Members { n_workers: WORKERS, recovery: Some(recovery), ..members };
    let mut chance = Stream::new(1, "a thousand");
    let mut misfortunes = vec![(1500, Misfortune::SupervisorExpiry)];
    for i in 0..250 {
        let (at, worker) = (chance.below(4000), chance.below(u64::from(WORKERS)) as u32);
        let left = 1000 + chance.below(3000);
        misfortunes.push((at, if i < 50 { Misfortune::Crash(worker) } else { Misfortune::Expiry(worker, left) }));
    }
    let dangers = Dangers { lost: 1, doubled: 10, delay: 40, misfortunes, can_kill: false };
    as_if_nothing_had_happened(&rules, members, dangers, 1).unwrap();
}
