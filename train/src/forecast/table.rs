//! `train plan`: calibrates, and shows what runs of several numbers of workers would take and cost.

use std::time::Instant;

use reporting::{Console, count};
use schemas::cost::{Assumptions, Calibration, PredictedExchange, PredictedRun, Prediction};

use super::calibrate::calibrate;
use super::forecast;
use crate::TOOL;
use crate::bench::write_csv;
use crate::error::Error;
use crate::plan::planning::Planning;

const CSV: &str = "workers,step_batches,exchange,step_seconds,compute_seconds,exchange_seconds,apply_seconds,steps_per_epoch,\
epoch_seconds,rows_per_second,run_seconds,lives,gb_seconds,requests,s3_puts,s3_gets,redis_hours,broker_hours,\
compute_usd,requests_usd,s3_puts_usd,s3_gets_usd,redis_usd,broker_usd,total_usd";

/// Predicts as `planning` says.
///
/// # Errors
/// When something stored is missing or wrong, there is no memory for a replica; a signal; when the table cannot be written.
pub fn run(planning: &Planning, console: &Console) -> Result<Prediction, Error> {
    let start = Instant::now();
    let Planning { training, workload, assumptions, prices, .. } = planning;
    let shards = &training.shards;
    console.note(format!("{}: one worker computes here for {:?}", shards.name, planning.each));
    let slots_max = planning.workers.iter().map(|workers| planning.step_batches(*workers)).max().unwrap_or(1);
    let calibration = calibrate(training, planning.each, slots_max.min(workload.batches))?;
    said(&calibration, assumptions).iter().for_each(|line| console.note(line));
    console.note(format!(
        "{:>7} {:>11} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>12} {:>9} {:>10} {:>10} {:>10}  {}",
        "workers",
        "batches",
        "step ms",
        "compute",
        "exchange",
        "apply",
        "epoch s",
        "run s",
        "GB-s",
        "requests",
        "Lambda $",
        "servers $",
        "total $",
        "gradients"
    ));
    let one = |&workers: &u32| {
        let run = forecast(&calibration, assumptions, workload, prices, workers, planning.step_batches(workers));
        console.note(row(&run));
        run
    };
    let runs: Vec<PredictedRun> = planning.workers.iter().map(one).collect();
    console.note(format!(
        "{} epochs, US dollars by the prices of {} of {}; not in it: free tiers, data transfer, storage, logs, whole hours of servers",
        workload.epochs, prices.region, prices.date
    ));
    write_csv(planning.csv.as_deref(), CSV, &runs.iter().map(line).collect::<Vec<_>>())?;
    Ok(Prediction {
        tool: TOOL.to_owned(),
        manifest: shards.name.clone(),
        manifest_digest: shards.digest.clone(),
        kind: shards.manifest.layout.kind().to_owned(),
        workload: *workload,
        calibration,
        assumptions: *assumptions,
        prices: prices.clone(),
        runs,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What was measured and what is assumed, in words.
fn said(c: &Calibration, a: &Assumptions) -> [String; 3] {
    let ms = |seconds: f64| format!("{:.3} ms", 1e3 * seconds);
    let measured = format!(
        "here a mini-batch takes {}, another's gradient {} to decode, a step {} and {} a gradient to apply; a gradient has {} bytes",
        ms(c.batch_seconds),
        ms(c.decode_seconds),
        ms(c.apply_seconds),
        ms(c.apply_gradient_seconds),
        count(c.slot_bytes),
    );
    let function = format!(
        "assumed: functions of {} MB ({}) with {:.0} % of a processor like this one's, {} MB/s each, {} from request to answer",
        a.memory_mb,
        a.architecture.name(),
        100.0 * a.cpu_share,
        a.bandwidth / 1e6,
        ms(a.latency_seconds),
    );
    let run = format!(
        "assumed: Redis of {} MB/s, a start of {} s, lives of {} s, the supervisor a function too, a checkpoint every {} steps",
        a.redis_bandwidth / 1e6,
        a.start_seconds,
        a.life_seconds,
        a.checkpoint_every,
    );
    [measured, function, run]
}

const fn exchange(run: &PredictedRun) -> &'static str {
    match run.exchange {
        PredictedExchange::AllToAll => "all-to-all",
        PredictedExchange::ReduceScatter => "reduce-scatter",
    }
}

fn row(run: &PredictedRun) -> String {
    let ms = |seconds: f64| format!("{:.2}", 1e3 * seconds);
    let PredictedRun { workers, step_batches, cost, usage, .. } = run;
    let lambda = cost.compute + cost.requests;
    format!(
        "{workers:>7} {step_batches:>11} {:>9} {:>9} {:>9} {:>9} {:>10.3} {:>10.1} {:>12.1} {:>9} {lambda:>10.5} {:>10.5} {:>10.5}  {}",
        ms(run.step_seconds),
        ms(run.compute_seconds),
        ms(run.exchange_seconds),
        ms(run.apply_seconds),
        run.epoch_seconds,
        run.run_seconds,
        usage.gb_seconds,
        usage.requests,
        cost.redis + cost.broker,
        cost.total,
        exchange(run),
    )
}

fn line(run: &PredictedRun) -> String {
    let PredictedRun { usage: u, cost: c, .. } = run;
    let by = exchange(run);
    let times =
        [run.step_seconds, run.compute_seconds, run.exchange_seconds, run.apply_seconds].map(|s| format!("{s:.9}"));
    let costs =
        [c.compute, c.requests, c.s3_puts, c.s3_gets, c.redis, c.broker, c.total].map(|usd| format!("{usd:.9}"));
    format!(
        "{},{},{by},{},{},{:.6},{:.1},{:.6},{},{:.6},{},{},{},{:.9},{:.9},{}\n",
        run.workers,
        run.step_batches,
        times.join(","),
        run.steps_per_epoch,
        run.epoch_seconds,
        run.rows_per_second,
        run.run_seconds,
        run.lives,
        u.gb_seconds,
        u.requests,
        u.s3_puts,
        u.s3_gets,
        u.redis_hours,
        u.broker_hours,
        costs.join(","),
    )
}
