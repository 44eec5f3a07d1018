//! How many updates workers make that exchange nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reporting::{Console, count, interrupt};
use schemas::report::{ComputeBenchReport, ComputeRates};
use train_core::order::epoch_order;

use super::{Gate, span, together, write_csv};
use crate::error::Error;
use crate::model::{Model, Share};
use crate::plan::bench::Compute;
use crate::plan::{Plan, Task};
use crate::reader::{BatchDecoder, ReadAhead, Set};
use crate::{TOOL, WAIT_MAX, output};

/// Mini-batches that are fetched ahead of their use.
const READ_AHEAD: usize = 4;

/// Updates before the clock starts: the first touch memory that the system has to give yet.
const WARM_UP: u32 = 3;

const CSV: &str = "workers,updates,seconds,updates_per_second,rows_per_second,share_of_ideal";

/// What one worker has computed.
struct Computed {
    begun: Instant,
    ended: Instant,
    updates: u64,
    rows: u64,
}

/// Measures as `plan` says.
///
/// # Errors
/// When something stored is missing or wrong, there is no memory for the replicas; a signal; when the table cannot be written.
pub fn run(plan: &Compute, console: &Console) -> Result<ComputeBenchReport, Error> {
    let start = Instant::now();
    let training = &*plan.training;
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let unit = training.task.rows();
    console.note(format!("{}: {:?} for each number of workers", training.shards.name, plan.each));
    console.note(format!("{:>7} {:>12} {:>16} {:>14}", "workers", "updates/s", format!("{unit}/s"), "of the ideal"));
    let mut rows: Vec<ComputeRates> = Vec::new();
    for &workers in &plan.workers {
        let computed = measure(training, workers, plan.each)?;
        let seconds = span(computed.iter().map(|c| (c.begun, c.ended)));
        let updates: u64 = computed.iter().map(|c| c.updates).sum();
        let n_rows: u64 = computed.iter().map(|c| c.rows).sum();
        let rate = updates as f64 / seconds;
        let (first_rate, first_workers) = rows.first().map_or((rate, workers), |r| (r.updates_per_second, r.workers));
        let row = ComputeRates {
            workers,
            updates,
            seconds,
            updates_per_second: rate,
            rows_per_second: n_rows as f64 / seconds,
            share_of_ideal: share_of_ideal(rate / f64::from(workers), first_rate / f64::from(first_workers)),
        };
        let share = 100.0 * row.share_of_ideal;
        console.note(format!("{workers:>7} {rate:>12.1} {:>16} {share:>12.1} %", count(row.rows_per_second as u64)));
        rows.push(row);
    }
    if let Some(most) = plan.workers.iter().max().filter(|most| **most > processors) {
        console.note(format!("{most} workers share {processors} processors"));
    }
    let lines: Vec<String> = rows.iter().map(line).collect();
    write_csv(plan.csv.as_deref(), CSV, &lines)?;
    let shards = &training.shards;
    Ok(ComputeBenchReport {
        tool: TOOL.to_owned(),
        manifest: shards.name.clone(),
        manifest_digest: shards.digest.clone(),
        kind: shards.manifest.layout.kind().to_owned(),
        processors,
        rows,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The updates of a worker as a share of those of a worker of the first number.
fn share_of_ideal(rate: f64, first: f64) -> f64 {
    if first > 0.0 { rate / first } else { 0.0 }
}

/// So many workers at once, each with a replica of its own.
fn measure(plan: &Plan, n_workers: u32, each: Duration) -> Result<Vec<Computed>, Error> {
    match &plan.task {
        Task::Pmf(task) => together(n_workers, |worker, gate| {
            let mut memory = task.memory()?;
            turn(plan, &task.replica(&mut memory), worker, each, gate)
        }),
        Task::Logistic(task) => {
            let (space, schedule) = (output::logistic::space(plan, task, &output::tables(plan)?)?, plan.schedule()?);
            together(n_workers, |worker, gate| {
                let mut memory = task.memory(&space)?;
                turn(plan, &task.replica(space.clone(), schedule, &mut memory), worker, each, gate)
            })
        }
    }
}

/// What one worker does.
fn turn<M: Model>(plan: &Plan, model: &M, worker: u32, each: Duration, gate: &Gate) -> Result<Computed, Error> {
    let shards = Arc::new(plan.shards.clone());
    let n_batches = u32::try_from(shards.batches.len()).map_err(Error::internal)?;
    // An order of its own for each, so that they do not read the same files at the same time.
    let seed = plan.task.common().seed.wrapping_add(u64::from(worker));
    let wanted = (0..u64::MAX).flat_map(move |epoch| epoch_order(seed, epoch, n_batches));
    let batches = ReadAhead::start(Arc::clone(&shards), Set::Train, wanted, READ_AHEAD)?;
    let mut decoder = BatchDecoder::new(shards, model);
    let (mut scratch, mut gradients) = (M::Scratch::default(), [Arc::new(M::Gradient::default())]);
    let mut step = 0;
    let mut update = || -> Result<u64, Error> {
        interrupt::check()?;
        decoder.decode(batches.next(WAIT_MAX)?)?;
        let gradient = Arc::get_mut(&mut gradients[0]).expect("nobody else holds a worker's own gradient");
        let loss = model.gradient(step, decoder.batch(), &mut scratch, gradient);
        model.apply(step, &gradients, Share { worker: 0, n_workers: 1 }, &mut scratch);
        step += 1;
        Ok(loss.rows)
    };
    for _ in 0..WARM_UP {
        update()?;
    }
    gate.begin(1)?;
    let begun = Instant::now();
    let (mut updates, mut rows, mut ended) = (0, 0, begun);
    while updates == 0 || ended.duration_since(begun) < each {
        rows += update()?;
        updates += 1;
        ended = Instant::now();
    }
    Ok(Computed { begun, ended, updates, rows })
}

fn line(row: &ComputeRates) -> String {
    let ComputeRates { workers, updates, seconds, updates_per_second, rows_per_second, share_of_ideal } = row;
    format!("{workers},{updates},{seconds:.6},{updates_per_second:.3},{rows_per_second:.1},{share_of_ideal:.6}\n")
}
