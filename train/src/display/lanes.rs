//! Where the time of each worker's last steps went.

use std::collections::BTreeMap;

use schemas::live::{Lane, Shares};
use schemas::records::StepTimings;

/// Sums over the timings of each worker that have come since they were last asked for.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    sums: BTreeMap<u32, Sum>,
}

/// Sums over some steps of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    steps: u64,
    compute_us: u64,
    exchange_us: u64,
    wait_us: u64,
    read_us: u64,
    bytes: u64,
    /// It was asked for: the next timings begin anew.
    old: bool,
}

impl Timings {
    /// A step of `worker`.
    pub fn add(&mut self, worker: u32, timings: &StepTimings) {
        let sum = self.sums.entry(worker).or_default();
        if sum.old {
            *sum = Sum::default();
        }
        sum.steps += 1;
        sum.compute_us += timings.decode_us + timings.compute_us + timings.apply_us;
        sum.exchange_us += timings.exchange_write_us + timings.exchange_read_us;
        sum.wait_us += timings.exchange_wait_us + timings.decision_us;
        sum.read_us += timings.batch_wait_us;
        sum.bytes += timings.bytes_written + timings.bytes_read;
    }

    /// Writes into `lanes` what is known; of a worker of which nothing new came, what was known before.
    pub fn fill(&mut self, lanes: &mut [Lane]) {
        for lane in lanes {
            let Some(sum) = self.sums.get_mut(&lane.worker) else { continue };
            (lane.shares, lane.bytes) = (sum.shares(), sum.bytes / sum.steps.max(1));
            sum.old = true;
        }
    }
}

impl Sum {
    /// Percent, which are rounded down but for the largest, so that they make a hundred.
    fn shares(&self) -> Shares {
        let us = [self.compute_us, self.exchange_us, self.wait_us, self.read_us];
        let all: u64 = us.iter().sum();
        if all == 0 {
            return Shares::default();
        }
        let mut percent = us.map(|us| u8::try_from(100 * us / all).unwrap_or(100));
        let rest = 100 - percent.iter().sum::<u8>();
        if let Some(largest) = percent.iter_mut().max() {
            *largest += rest;
        }
        let [compute, exchange, wait, read] = percent;
        Shares { compute, exchange, wait, read }
    }
}

#[cfg(test)]
mod tests {
    use schemas::live::Phase;

    use super::*;

    fn step(compute_us: u64, exchange_wait_us: u64, bytes_written: u64) -> StepTimings {
        StepTimings { compute_us, exchange_wait_us, bytes_written, ..StepTimings::default() }
    }

    #[test]
    fn shares_are_of_the_steps_since_the_last_time() {
        let lane = |worker| Lane {
            worker,
            incarnation: 0,
            phase: Phase::Stepping,
            silence: 0,
            shares: Shares::default(),
            bytes: 0,
        };
        let mut timings = Timings::default();
        timings.add(1, &step(10, 50, 100));
        timings.add(1, &step(10, 20, 300));
        let shown = |timings: &mut Timings| {
            let mut lanes = [lane(0), lane(1)];
            timings.fill(&mut lanes);
            assert_eq!((lanes[0].shares, lanes[0].bytes), (Shares::default(), 0), "of worker 0 nothing is known");
            (lanes[1].shares, lanes[1].bytes)
        };
        let mixed = Shares { compute: 22, wait: 78, ..Shares::default() };
        assert_eq!(shown(&mut timings), (mixed, 200));
        assert_eq!(shown(&mut timings), (mixed, 200), "nothing new");
        timings.add(1, &step(5, 0, 7));
        assert_eq!(shown(&mut timings), (Shares { compute: 100, ..Shares::default() }, 7));
    }

    #[test]
    fn shares_make_a_hundred() {
        let sum = Sum { compute_us: 1, exchange_us: 1, wait_us: 1, ..Sum::default() };
        let Shares { compute, exchange, wait, read } = sum.shares();
        assert_eq!(compute + exchange + wait + read, 100);
    }
}
