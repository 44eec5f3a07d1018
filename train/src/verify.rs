//! Proves, from a run's ledger and the manifest, that every mini-batch counted exactly once in every epoch.

use std::collections::BTreeSet;
use std::time::Instant;

use manifests::load;
use reporting::{Console, count, counted};
use schemas::report::{RunVerifyReport, Trained};
use train_core::order::{Schedule, epoch_order};

use crate::TOOL;
use crate::error::Error;
use crate::output::ledger::{Entry, LEDGER, decode};
use crate::plan::launch::Verify;
use crate::saved::Run;

/// Checks the ledger of a finished run.
///
/// # Errors
/// When the run or its manifest cannot be read, or a mini-batch was left out, counted twice, or out of its turn.
pub fn run(verify: &Verify, console: &Console) -> Result<RunVerifyReport, Error> {
    let start = Instant::now();
    let run = Run::open(&verify.run)?;
    let shards = load::shards(verify.manifest.as_deref().unwrap_or(&run.report.manifest))?;
    if shards.digest != run.report.manifest_digest {
        return Err(Error::Unfit {
            place: shards.name.clone(),
            problem: format!(
                "it is another manifest ({}) than the run's ({})",
                shards.digest, run.report.manifest_digest
            ),
            fix: "give the run's own manifest with `--manifest`".to_owned(),
        });
    }
    let (seed, step_batches) = match &run.report.trained {
        Trained::Pmf { settings, .. } => (settings.seed, settings.step_batches),
        Trained::Logistic { settings, .. } => (settings.seed, settings.step_batches),
    };
    let n_batches = u32::try_from(shards.batches.len()).map_err(Error::internal)?;
    let schedule = Schedule::new(n_batches, step_batches);
    let place = run.place.show(LEDGER);
    let bytes = run.place.get(LEDGER).map_err(|e| e.named_by("the run"))?;
    let wrong = |problem: String| Error::Ledger { place: place.clone(), problem };
    let entries = decode(bytes).map_err(wrong)?;
    check(&entries, run.report.steps, seed, schedule).map_err(wrong)?;
    let rows = entries.iter().map(|entry| shards.batches.get(entry.batch as usize).rows).sum();
    let lives: BTreeSet<(u32, u32)> = entries.iter().map(|entry| (entry.worker, entry.incarnation)).collect();
    let workers: BTreeSet<u32> = lives.iter().map(|life| life.0).collect();
    console.note(format!(
        "{}: {} ({} rows) in {} of {}, each exactly once an epoch, by {} in {}",
        run.place,
        counted(entries.len() as u64, "mini-batch"),
        count(rows),
        counted(run.report.steps, "step"),
        counted(run.report.epochs, "epoch"),
        counted(workers.len() as u64, "worker"),
        counted(lives.len() as u64, "life"),
    ));
    Ok(RunVerifyReport {
        tool: TOOL.to_owned(),
        run: run.place.to_string(),
        manifest: shards.name,
        manifest_digest: shards.digest,
        whole: true,
        steps: run.report.steps,
        epochs: run.report.epochs,
        batches: entries.len() as u64,
        rows,
        workers: workers.len() as u64,
        lives: lives.len() as u64,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Whether `entries` are those of `steps` steps.
///
/// # Errors
/// A sentence that says where they are not.
fn check(entries: &[Entry], steps: u64, seed: u64, schedule: Schedule) -> Result<(), String> {
    let mut entries = entries.iter();
    let mut times = vec![0u32; schedule.n_batches() as usize];
    let mut order = Vec::new();
    for step in 0..steps {
        let epoch = schedule.epoch(step);
        if step % schedule.steps_per_epoch() == 0 {
            order = epoch_order(seed, epoch, schedule.n_batches());
            times.fill(0);
        }
        for (slot, position) in (0..).zip(schedule.positions(step)) {
            let expected = (epoch, step, slot, order[position]);
            let Some(found) = entries.next() else {
                return Err(format!("step {step}, slot {slot}: mini-batch {} did not count", expected.3));
            };
            if (found.epoch, found.step, found.slot, found.batch) != expected {
                return Err(format!(
                    "step {step}, slot {slot}: mini-batch {} is due, and mini-batch {} of step {}, slot {} is on record",
                    expected.3, found.batch, found.step, found.slot
                ));
            }
            times[found.batch as usize] += 1;
        }
        if schedule.ends_epoch(step)
            && let Some((batch, times)) = times.iter().enumerate().find(|(_, times)| **times != 1)
        {
            return Err(format!("epoch {epoch}: mini-batch {batch} counted {times} times"));
        }
    }
    entries.next().map_or(Ok(()), |more| Err(format!("step {}: it is after the last of {steps} steps", more.step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 3;

    fn ledger(steps: u64, schedule: Schedule) -> Vec<Entry> {
        let mut entries = Vec::new();
        for step in 0..steps {
            let epoch = schedule.epoch(step);
            let order = epoch_order(SEED, epoch, schedule.n_batches());
            for (slot, position) in (0..).zip(schedule.positions(step)) {
                entries.push(Entry { epoch, step, slot, batch: order[position], worker: slot, incarnation: 0 });
            }
        }
        entries
    }

    #[test]
    fn a_batch_that_is_left_out_counted_twice_or_out_of_turn_is_found() {
        let schedule = Schedule::new(7, 3);
        let good = ledger(8, schedule);
        assert_eq!(check(&good, 8, SEED, schedule), Ok(()));
        let mut missing = good.clone();
        missing.remove(5);
        let mut twice = good.clone();
        twice.insert(5, good[4]);
        let mut swapped = good.clone();
        (swapped[0].batch, swapped[1].batch) = (good[1].batch, good[0].batch);
        for (bad, steps) in [(missing, 8), (twice, 8), (swapped, 8), (good.clone(), 7), (good, 9)] {
            check(&bad, steps, SEED, schedule).unwrap_err();
        }
    }
}
