//! How long a run on functions takes and what it costs, from what a mini-batch takes here: arithmetic, so that a finished run can be
//! held against it. [`calibrate`] measures, [`table`] shows.
//!
//! In a step of `g` mini-batches (of `G`, when it is a full one) that `W` workers share, the worker with the most has `o = ceil(g / W)`.
//! A worker computes in one thread, and a function has the share `s = min(1, MB / 1769)` of a processor for it: AWS says in "Configure
//! Lambda function memory" that at 1,769 MB a function has the equivalent of one vCPU, in proportion to its memory. With `b` bytes
//! a second of a function, `R` of Redis and `l` seconds from a request to its answer:
//!
//! * compute: `max(o batch / s, o batch_bytes / b)`; mini-batches are read ahead, so the slower of both counts.
//! * all to all, a worker writes `o slot` bytes and reads `(g - o) slot`; Redis moves `W g slot`. It takes the longer of
//!   `g slot / b` and `W g slot / R`, and `2 l` (`l` if there is one worker). Then
//!   `((g - o) decode + apply + g apply_gradient) / s`.
//! * reduced in slices, of which the worker with the most has the share `f = ceil(G / W) / G`, it writes `o sliced + f reduced(g)` bytes
//!   and reads `f (g - o) sliced + (1 - f) reduced(g)`; Redis moves `g sliced (2 - 1 / W) + W reduced(g)`. It takes the longer of both
//!   and `4 l`. Then `(f g slice + reduced_seconds reduced(g) / reduced(k)) / s`, `k` being the gradients that were reduced in the
//!   calibration.
//! * Which of the two it is, is decided as a run does, by [`reduce_scatter_pays`].
//! * an epoch: its steps, the last of which may be short, and `ceil(H / W)` held-out mini-batches and `l`.
//! * the run: the start of the functions, and the epochs. A function lives for so long at most; its successor starts beside it, so
//!   starts cost money but no time. There are `W + 1` functions: the supervisor is one.
//!
//! Not in it: stragglers, the supervisor's own work and its messages (which go beside the exchange), failures, stop rules other than
//! the epochs.

pub mod calibrate;
pub mod table;

use std::time::Duration;

use schemas::cost::{Assumptions, Calibration, PredictedExchange, PredictedRun, Prices, Usage, Workload};
use schemas::message::Sizes;

use crate::cost::{billed_ms, cost, gb_seconds};
use crate::exchange::reduce_scatter_pays;

/// MB of a function that has the equivalent of one processor.
const PROCESSOR_MB: f64 = 1769.0;

/// What a checkpoint writes: the model, the records, and which of these belong together.
pub const PUTS_OF_A_CHECKPOINT: u64 = 3;
/// What a run writes besides: the job, the model, its tables, history, timings, ledger and report.
pub const PUTS_OF_A_RUN: u64 = 12;
/// What a function reads before it begins, the job, the manifest, its tables, the checkpoint and its model; and mini-batches that
/// it has read ahead when it ends.
pub const GETS_OF_A_LIFE: u64 = 6 + 8;

/// The share of a processor that a function of `memory_mb` MB has for one thread.
#[must_use]
pub fn cpu_share(memory_mb: u32) -> f64 {
    (f64::from(memory_mb) / PROCESSOR_MB).min(1.0)
}

/// What a step takes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Step {
    compute: f64,
    exchange: f64,
    apply: f64,
}

impl Step {
    fn seconds(self) -> f64 {
        self.compute + self.exchange + self.apply
    }
}

/// What the steps of a run have in common.
struct Steps<'a> {
    calibration: &'a Calibration,
    assumptions: &'a Assumptions,
    batch_bytes: f64,
    workers: u32,
    full: u32,
    exchange: PredictedExchange,
}

impl Steps<'_> {
    /// The step of `slots` mini-batches.
    fn step(&self, slots: u32) -> Step {
        let Self { calibration: c, assumptions: a, .. } = self;
        let own = f64::from(slots.div_ceil(self.workers));
        let (g, workers) = (f64::from(slots), f64::from(self.workers));
        let compute = (own * c.batch_seconds / a.cpu_share).max(own * self.batch_bytes / a.bandwidth);
        let (moved, through_redis, rounds, cpu) = match self.exchange {
            PredictedExchange::AllToAll => {
                let slot = c.slot_bytes as f64;
                let rounds = if self.workers > 1 { 2.0 } else { 1.0 };
                let cpu = (g - own) * c.decode_seconds + c.apply_seconds + g * c.apply_gradient_seconds;
                // What it writes is its own, what it reads is the rest.
                let moved = if self.workers > 1 { g } else { own } * slot;
                (moved, workers * g * slot, rounds, cpu)
            }
            PredictedExchange::ReduceScatter => {
                let (sliced, reduced) = (c.sliced_bytes as f64, reduced_bytes(c, slots));
                let share = f64::from(self.full.div_ceil(self.workers)) / f64::from(self.full);
                let written = own * sliced + share * reduced;
                let read = share * (g - own) * sliced + (1.0 - share) * reduced;
                let through_redis = g * sliced * (2.0 - 1.0 / workers) + workers * reduced;
                let growth = reduced / reduced_bytes(c, c.reduced_slots).max(1.0);
                (written + read, through_redis, 4.0, share * g * c.slice_seconds + c.reduced_seconds * growth)
            }
        };
        let exchange = (moved / a.bandwidth).max(through_redis / a.redis_bandwidth) + rounds * a.latency_seconds;
        Step { compute, exchange, apply: cpu / a.cpu_share }
    }
}

/// Bytes of what `slots` gradients reduce to: between two measured numbers, and beyond the last, by a power of the number.
fn reduced_bytes(calibration: &Calibration, slots: u32) -> f64 {
    let points = &calibration.reduced;
    let point = |i: usize| (f64::from(points[i].slots).ln(), (points[i].bytes.max(1) as f64).ln());
    match points.len() {
        0 => calibration.sliced_bytes as f64 * f64::from(slots),
        1 => points[0].bytes as f64,
        n => {
            let above = points.iter().position(|p| p.slots >= slots).unwrap_or(n - 1).max(1);
            let ((x0, y0), (x1, y1)) = (point(above - 1), point(above));
            (y0 + (y1 - y0) * (f64::from(slots).ln() - x0) / (x1 - x0)).exp()
        }
    }
}

/// What a run of `workload` takes and costs with so many workers and mini-batches a step.
///
/// # Panics
/// When there are no workers, no mini-batches, or none a step.
#[must_use]
pub fn forecast(
    calibration: &Calibration,
    assumptions: &Assumptions,
    workload: &Workload,
    prices: &Prices,
    workers: u32,
    step_batches: u32,
) -> PredictedRun {
    assert!(workers > 0 && step_batches > 0 && workload.batches > 0, "somebody computes something");
    let full = step_batches.min(workload.batches);
    let sizes = Sizes { slot: calibration.slot_bytes, reduced: reduced_bytes(calibration, full) as u64 };
    let exchange = match reduce_scatter_pays(sizes, workers, full) {
        true => PredictedExchange::ReduceScatter,
        false => PredictedExchange::AllToAll,
    };
    let batch_bytes = workload.batch_bytes as f64;
    let steps = Steps { calibration, assumptions, batch_bytes, workers, full, exchange };
    let steps_per_epoch = u64::from(workload.batches.div_ceil(full));
    let step = steps.step(full);
    let last = match workload.batches % full {
        0 => step,
        short => steps.step(short),
    };
    let evaluation = match workload.holdout_batches {
        0 => 0.0,
        batches => {
            let one = (calibration.holdout_seconds / assumptions.cpu_share).max(batch_bytes / assumptions.bandwidth);
            f64::from(batches.div_ceil(workers)) * one + assumptions.latency_seconds
        }
    };
    let epoch_seconds = (steps_per_epoch - 1) as f64 * step.seconds() + last.seconds() + evaluation;
    let training = workload.epochs as f64 * epoch_seconds;
    let run_seconds = assumptions.start_seconds + training;
    let lives = lives(assumptions, training);
    let usage = usage(assumptions, workload, workers, steps_per_epoch, training, lives);
    PredictedRun {
        workers,
        step_batches,
        exchange,
        step_seconds: step.seconds(),
        compute_seconds: step.compute,
        exchange_seconds: step.exchange,
        apply_seconds: step.apply,
        steps_per_epoch,
        epoch_seconds,
        rows_per_second: workload.rows as f64 / epoch_seconds,
        run_seconds,
        lives,
        usage,
        cost: cost(prices, &usage, assumptions.architecture),
    }
}

/// Seconds of a life that are not its start.
fn working(assumptions: &Assumptions) -> f64 {
    (assumptions.life_seconds - assumptions.start_seconds).max(1.0)
}

/// Lives that each function needs for so many seconds of training.
fn lives(assumptions: &Assumptions, training: f64) -> u64 {
    ((training / working(assumptions)).ceil() as u64).max(1)
}

fn usage(
    assumptions: &Assumptions,
    workload: &Workload,
    workers: u32,
    steps_per_epoch: u64,
    training: f64,
    lives: u64,
) -> Usage {
    let functions = u64::from(workers) + 1;
    let ms = |seconds: f64| billed_ms(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    let last = training - (lives - 1) as f64 * working(assumptions) + assumptions.start_seconds;
    let ms_of_a_function = (lives - 1) * ms(working(assumptions) + assumptions.start_seconds) + ms(last);
    let hours = (assumptions.start_seconds + training) / 3600.0;
    let evaluations = if workload.holdout_batches > 0 { workload.epochs } else { 0 };
    let checkpoints = workload.epochs * steps_per_epoch / assumptions.checkpoint_every.max(1) + evaluations;
    let batches = u64::from(workload.batches) + u64::from(workload.holdout_batches);
    Usage {
        gb_seconds: functions as f64 * gb_seconds(assumptions.memory_mb, ms_of_a_function),
        requests: functions * lives,
        s3_puts: PUTS_OF_A_CHECKPOINT * checkpoints + PUTS_OF_A_RUN,
        s3_gets: workload.epochs * batches + GETS_OF_A_LIFE * functions * lives,
        redis_hours: hours,
        broker_hours: hours,
    }
}

#[cfg(test)]
mod tests {
    use schemas::cost::{Architecture, ReducedBytes};

    use super::*;
    use crate::cost::default_table;

    fn calibration() -> Calibration {
        let reduced = [(1, 100_000), (2, 150_000), (8, 400_000)];
        Calibration {
            batches: 1,
            batch_seconds: 0.010,
            holdout_seconds: 0.003,
            decode_seconds: 0.001,
            apply_seconds: 0.004,
            apply_gradient_seconds: 0.000_5,
            slice_seconds: 0.004,
            reduced_seconds: 0.02,
            reduced_slots: 8,
            slot_bytes: 100_000,
            sliced_bytes: 110_000,
            reduced: reduced.map(|(slots, bytes)| ReducedBytes { slots, bytes }).to_vec(),
            seconds: 1.0,
        }
    }

    const ASSUMPTIONS: Assumptions = Assumptions {
        memory_mb: 2048,
        architecture: Architecture::X86,
        cpu_share: 1.0,
        bandwidth: 50e6,
        redis_bandwidth: 1e9,
        latency_seconds: 0.002,
        start_seconds: 2.0,
        life_seconds: 900.0,
        checkpoint_every: 100,
    };

    const WORKLOAD: Workload =
        Workload { rows: 1_000_000, batches: 100, batch_bytes: 250_000, holdout_batches: 10, epochs: 10 };

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} is not {expected}");
    }

    /// 8 workers, 8 mini-batches a step. All to all: 8 x 8 x 100 kB = 6.4 MB, less than the 2 x 8 x 100 kB + 8 x 400 kB + 8 x 256 KiB =
    /// 6.9 MB that slices would have to save.
    ///
    /// * compute: 1 x 10 ms; reading 250 kB at 50 MB/s takes 5 ms.
    /// * exchange: 8 x 100 kB at 50 MB/s are 16 ms; Redis needs 6.4 ms for 6.4 MB; and 2 x 2 ms: 20 ms.
    /// * apply: 7 x 1 ms + 4 ms + 8 x 0.5 ms = 15 ms.
    ///
    /// A step takes 45 ms. 100 mini-batches are 12 such steps and one of 4: 10 + (4 x 100 kB / 50 MB/s + 4) + (3 + 4 + 2) = 10 + 12 + 9
    /// = 31 ms. 2 held-out mini-batches each, at 5 ms for reading, and 2 ms: 12 ms. An epoch takes 12 x 45 + 31 + 12 = 583 ms, 10 take
    /// 5.83 s, the run 7.83 s: 9 functions x 2 GB x 7.83 s = 140.94 GB-seconds.
    ///
    /// 130 steps have 1 checkpoint, 10 evaluations another 10, of 3 objects each, and there are 12 more: 45. Read are 10 x 110
    /// mini-batches and 6 objects by each of 9 functions: 1,154.
    #[test]
    fn all_to_all_by_hand() {
        let run = forecast(&calibration(), &ASSUMPTIONS, &WORKLOAD, &default_table(), 8, 8);
        assert_eq!((run.exchange, run.steps_per_epoch, run.lives), (PredictedExchange::AllToAll, 13, 1));
        close(run.compute_seconds, 0.010);
        close(run.exchange_seconds, 0.020);
        close(run.apply_seconds, 0.015);
        close(run.step_seconds, 0.045);
        close(run.epoch_seconds, 0.583);
        close(run.rows_per_second, 1e6 / 0.583);
        close(run.run_seconds, 7.83);
        close(run.usage.gb_seconds, 140.94);
        assert_eq!((run.usage.requests, run.usage.s3_puts, run.usage.s3_gets), (9, 45, 1226));
        close(run.usage.redis_hours, 7.83 / 3600.0);
        close(run.cost.compute, 140.94 * 0.000_016_666_7);
        close(run.cost.broker, 7.83 / 3600.0 * 0.288);
    }

    /// Half a processor doubles what is computed, and nothing else: 20 + 20 + 30 ms.
    #[test]
    fn a_smaller_function_computes_more_slowly() {
        let half = Assumptions { cpu_share: 0.5, ..ASSUMPTIONS };
        let run = forecast(&calibration(), &half, &WORKLOAD, &default_table(), 8, 8);
        close(run.step_seconds, 0.070);
        assert_eq!((cpu_share(2048), cpu_share(1769)), (1.0, 1.0));
        close(cpu_share(512), 512.0 / 1769.0);
    }

    /// 4 workers, 8 mini-batches of 10 MB a step (11 MB in slices) that reduce to 20 MB. All to all: 4 x 8 x 10 = 320 MB; in slices
    /// 2 x 8 x 10 + 4 x 20 = 240 MB, and 1 MiB. A worker has 2 mini-batches and a quarter of the slices.
    ///
    /// * compute: 2 x 10 ms.
    /// * it writes 2 x 11 + 20 / 4 = 27 MB and reads 6 x 11 / 4 + 3 x 20 / 4 = 31.5 MB: at 50 MB/s 1.17 s. Redis moves
    ///   8 x 11 x 1.75 + 4 x 20 = 234 MB in 0.234 s. With 4 x 2 ms: 1.178 s.
    /// * apply: 8 / 4 x 4 ms + 20 ms = 28 ms.
    #[test]
    fn reduced_in_slices_by_hand() {
        let reduced = vec![ReducedBytes { slots: 8, bytes: 20_000_000 }];
        let large = Calibration { slot_bytes: 10_000_000, sliced_bytes: 11_000_000, reduced, ..calibration() };
        let run = forecast(&large, &ASSUMPTIONS, &WORKLOAD, &default_table(), 4, 8);
        assert_eq!(run.exchange, PredictedExchange::ReduceScatter);
        close(run.compute_seconds, 0.020);
        close(run.exchange_seconds, 1.178);
        close(run.apply_seconds, 0.028);
    }

    /// Redis moves 100 x 100 x 100 kB = 1 GB in a second; a function would have 10 MB in 0.2 s.
    #[test]
    fn redis_can_be_what_everybody_waits_for() {
        let flat = Calibration { reduced: vec![ReducedBytes { slots: 1, bytes: 10_000_000 }], ..calibration() };
        let run = forecast(&flat, &ASSUMPTIONS, &WORKLOAD, &default_table(), 100, 100);
        assert_eq!((run.exchange, run.steps_per_epoch), (PredictedExchange::AllToAll, 1));
        close(run.exchange_seconds, 1.004);
    }

    /// One worker writes its gradient and reads none: 100 kB at 50 MB/s and 2 ms; it applies in 4 + 0.5 ms.
    #[test]
    fn one_worker_waits_for_nobody() {
        let run = forecast(&calibration(), &ASSUMPTIONS, &WORKLOAD, &default_table(), 1, 1);
        close(run.exchange_seconds, 0.004);
        close(run.apply_seconds, 0.004_5);
        assert_eq!(run.usage.requests, 2);
    }

    /// 4,000 epochs of 583 ms are 2,332 s: 898 + 898 + 536 s of work, each life after 2 s of start. A function is billed for
    /// 900 + 900 + 538 = 2,338 s; 9 of them, of 2 GB, for 42,084 GB-seconds and 27 requests.
    #[test]
    fn long_runs_take_several_lives_of_a_function() {
        let long = Workload { epochs: 4000, ..WORKLOAD };
        let run = forecast(&calibration(), &ASSUMPTIONS, &long, &default_table(), 8, 8);
        close(run.run_seconds, 2334.0);
        assert_eq!((run.lives, run.usage.requests), (3, 27));
        assert!((run.usage.gb_seconds - 42_084.0).abs() < 0.1, "{}", run.usage.gb_seconds);
    }

    /// From 2 to 8 gradients 150 kB become 400 kB; 4 are in the middle of that on both scales: sqrt(150 x 400) = 245 kB. 32 are as far
    /// beyond 8: 400 x 400 / 150 = 1,067 kB.
    #[test]
    fn sizes_grow_by_a_power_of_the_number() {
        let c = calibration();
        close(reduced_bytes(&c, 1), 100_000.0);
        close(reduced_bytes(&c, 8), 400_000.0);
        close(reduced_bytes(&c, 4), (150_000.0_f64 * 400_000.0).sqrt());
        close(reduced_bytes(&c, 32), 400_000.0 * 400.0 / 150.0);
        close(reduced_bytes(&Calibration { reduced: vec![], ..c }, 3), 330_000.0);
    }

    #[test]
    fn more_mini_batches_a_step_than_there_are_make_one_step() {
        let run = forecast(&calibration(), &ASSUMPTIONS, &WORKLOAD, &default_table(), 3, 500);
        assert_eq!((run.step_batches, run.steps_per_epoch), (500, 1));
        // The worker with the most has 34 mini-batches.
        close(run.compute_seconds, 0.34);
    }
}
