//! What functions and servers cost: usage as it is billed, what it comes to, and a budget.
//!
//! Nothing here looks at a clock: times are given, counted from any one beginning. What is known of a function is what the client
//! sees of it. Free tiers, volume discounts, data transfer, storage and logs are not counted.

mod prices;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemas::cost::{Architecture, Cost, Prices, Usage};

pub use prices::{default_table, of_file};

/// MB of a GB: Lambda bills a function of 1,024 MB as one of a GB.
const MB_OF_A_GB: f64 = 1024.0;

/// Milliseconds that a function is billed for which ran for `life`: it is rounded up.
#[must_use]
pub const fn billed_ms(life: Duration) -> u64 {
    life.as_nanos().div_ceil(1_000_000) as u64
}

/// GB-seconds of `ms` billed milliseconds of functions with `memory_mb` MB.
#[must_use]
pub fn gb_seconds(memory_mb: u32, ms: u64) -> f64 {
    f64::from(memory_mb) / MB_OF_A_GB * ms as f64 / 1000.0
}

const fn gb_second(prices: &Prices, architecture: Architecture) -> f64 {
    match architecture {
        Architecture::X86 => prices.lambda_x86_64_gb_second,
        Architecture::Arm => prices.lambda_arm64_gb_second,
    }
}

/// What `usage` comes to.
#[must_use]
pub fn cost(prices: &Prices, usage: &Usage, architecture: Architecture) -> Cost {
    let compute = usage.gb_seconds * gb_second(prices, architecture);
    let requests = usage.requests as f64 / 1e6 * prices.lambda_million_requests;
    let s3_puts = usage.s3_puts as f64 / 1e3 * prices.s3_thousand_puts;
    let s3_gets = usage.s3_gets as f64 / 1e3 * prices.s3_thousand_gets;
    let redis = usage.redis_hours * prices.redis_hour;
    let broker = usage.broker_hours * prices.broker_hour;
    let total = compute + requests + s3_puts + s3_gets + redis + broker;
    Cost { compute, requests, s3_puts, s3_gets, redis, broker, total }
}

/// Servers that are paid for by the hour, of which a run pays the time that it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rented {
    /// Redis servers.
    pub redis: u32,
    /// RabbitMQ brokers.
    pub brokers: u32,
}

/// Counts what a run uses, while it does. `Id` tells the lives of functions apart.
#[derive(Clone, Debug)]
pub struct Meter<Id> {
    memory_mb: u32,
    rented: Rented,
    since: Duration,
    running: BTreeMap<Id, Duration>,
    ended: BTreeSet<Id>,
    ended_ms: u64,
    requests: u64,
    s3_puts: u64,
    s3_gets: u64,
}

impl<Id: Ord> Meter<Id> {
    /// A meter of functions with `memory_mb` MB and of servers that are used from `since` on.
    #[must_use]
    pub const fn new(memory_mb: u32, rented: Rented, since: Duration) -> Self {
        Self {
            memory_mb,
            rented,
            since,
            running: BTreeMap::new(),
            ended: BTreeSet::new(),
            ended_ms: 0,
            requests: 0,
            s3_puts: 0,
            s3_gets: 0,
        }
    }

    /// A function begins, which is a request. One that runs already, or has ended, stays as it was; whether it is a new one.
    pub fn begin(&mut self, id: Id, at: Duration) -> bool {
        if self.ended.contains(&id) {
            return false;
        }
        let std::collections::btree_map::Entry::Vacant(life) = self.running.entry(id) else { return false };
        life.insert(at);
        self.requests += 1;
        true
    }

    /// A function ends. One that does not run has ended before.
    pub fn end(&mut self, id: &Id, at: Duration) {
        if let Some((id, begun)) = self.running.remove_entry(id) {
            self.ended_ms += billed_ms(at.saturating_sub(begun));
            self.ended.insert(id);
        }
    }

    /// Counts requests to S3.
    pub const fn count_s3(&mut self, puts: u64, gets: u64) {
        self.s3_puts += puts;
        self.s3_gets += gets;
    }

    /// What was used until `now`, the functions that run still included.
    #[must_use]
    pub fn usage(&self, now: Duration) -> Usage {
        let running: u64 = self.running.values().map(|begun| billed_ms(now.saturating_sub(*begun))).sum();
        let hours = now.saturating_sub(self.since).as_secs_f64() / 3600.0;
        Usage {
            gb_seconds: gb_seconds(self.memory_mb, self.ended_ms + running),
            requests: self.requests,
            s3_puts: self.s3_puts,
            s3_gets: self.s3_gets,
            redis_hours: f64::from(self.rented.redis) * hours,
            broker_hours: f64::from(self.rented.brokers) * hours,
        }
    }

    /// US dollars a second, as long as the functions that run now go on.
    #[must_use]
    pub fn rate_per_second(&self, prices: &Prices, architecture: Architecture) -> f64 {
        let functions = self.running.len() as f64 * gb_seconds(self.memory_mb, 1000);
        let servers =
            f64::from(self.rented.redis) * prices.redis_hour + f64::from(self.rented.brokers) * prices.broker_hour;
        functions * gb_second(prices, architecture) + servers / 3600.0
    }
}

/// What a run may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// US dollars.
    pub usd: f64,
}

impl Budget {
    /// Whether a run that has cost `cost_now` and costs `rate_per_second` must stop, if that takes `reserve`: once it is over,
    /// the budget shall not be passed. What is no number stops it too.
    #[must_use]
    pub fn must_stop(&self, cost_now: f64, rate_per_second: f64, reserve: Duration) -> bool {
        let stopped_now = cost_now + rate_per_second * reserve.as_secs_f64();
        !matches!(stopped_now.partial_cmp(&self.usd), Some(std::cmp::Ordering::Less))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-12), "{found} is not {expected}");
    }

    /// 24 functions of 2,048 MB for 480 s are 24 x 2 GB x 480 s = 23,040 GB-seconds. By the default table:
    ///
    /// | | | US dollars |
    /// |---|---|---|
    /// | x86_64 | 23,040 x 0.0000166667 | 0.384000768 |
    /// | arm64 | 23,040 x 0.0000133334 | 0.307201536 |
    /// | requests | 24 / 1,000,000 x 0.20 | 0.0000048 |
    /// | S3, writing | 130 / 1,000 x 0.005 | 0.00065 |
    /// | S3, reading | 40,000 / 1,000 x 0.0004 | 0.016 |
    /// | Redis | 2 x 480 / 3,600 h x 0.158 | 0.042133333... |
    /// | RabbitMQ | 480 / 3,600 h x 0.288 | 0.0384 |
    #[test]
    fn a_run_costs_what_it_does_by_hand() {
        let prices = default_table();
        let mut meter = Meter::new(2048, Rented { redis: 2, brokers: 1 }, ms(500));
        (0..24).for_each(|worker| assert!(meter.begin(worker, ms(500))));
        meter.count_s3(130, 40_000);
        // Functions that run and those that have ended are billed alike.
        (0..12).for_each(|worker| meter.end(&worker, ms(480_500)));
        let usage = meter.usage(ms(480_500));
        close(usage.gb_seconds, 23_040.0);
        assert_eq!((usage.requests, usage.s3_puts, usage.s3_gets), (24, 130, 40_000));
        let x86 = cost(&prices, &usage, Architecture::X86);
        close(x86.compute, 0.384_000_768);
        close(x86.requests, 0.000_004_8);
        close(x86.s3_puts, 0.000_65);
        close(x86.s3_gets, 0.016);
        close(x86.redis, 0.126_4 / 3.0);
        close(x86.broker, 0.038_4);
        close(x86.total, 0.384_000_768 + 0.000_004_8 + 0.000_65 + 0.016 + 0.126_4 / 3.0 + 0.038_4);
        close(cost(&prices, &usage, Architecture::Arm).compute, 0.307_201_536);
    }

    /// 1,000.1 ms, 0.001 ms and 250 ms are billed as 1,001 + 1 + 250 ms of 0.125 GB: 0.1565 GB-seconds.
    #[test]
    fn every_life_is_rounded_up_to_a_millisecond() {
        let mut meter = Meter::new(128, Rented::default(), ms(0));
        meter.begin((0, 0), ms(0));
        meter.end(&(0, 0), Duration::from_micros(1_000_100));
        meter.begin((0, 1), ms(2000));
        meter.end(&(0, 1), ms(2000) + Duration::from_micros(1));
        meter.begin((1, 0), ms(0));
        meter.end(&(1, 0), ms(250));
        let usage = meter.usage(ms(9000));
        close(usage.gb_seconds, 0.1565);
        assert_eq!((usage.requests, usage.redis_hours, usage.broker_hours), (3, 0.0, 0.0));
    }

    #[test]
    fn what_is_told_twice_counts_once() {
        let mut meter = Meter::new(1024, Rented::default(), ms(0));
        meter.begin(7, ms(0));
        meter.begin(7, ms(400));
        meter.end(&7, ms(1000));
        meter.end(&7, ms(5000));
        meter.end(&8, ms(5000));
        let usage = meter.usage(ms(9000));
        close(usage.gb_seconds, 1.0);
        assert_eq!(usage.requests, 1);
        // A clock that went back bills nothing rather than centuries.
        meter.begin(9, ms(9000));
        close(meter.usage(ms(8000)).gb_seconds, 1.0);
    }

    /// 3 functions of 0.5 GB at 0.0000166667 and a Redis at 0.158 and a broker at 0.288 an hour:
    /// 0.00002500005 + 0.446 / 3,600 = 0.00002500005 + 0.000123888...
    #[test]
    fn the_rate_is_that_of_what_runs() {
        let prices = default_table();
        let mut meter = Meter::new(512, Rented { redis: 1, brokers: 1 }, ms(0));
        (0..4).for_each(|worker| assert!(meter.begin(worker, ms(0))));
        meter.end(&2, ms(10));
        close(meter.rate_per_second(&prices, Architecture::X86), 0.000_025_000_05 + 0.446 / 3600.0);
        let next = |at| cost(&prices, &meter.usage(at), Architecture::X86).total;
        close(next(ms(61_000)) - next(ms(60_000)), meter.rate_per_second(&prices, Architecture::X86));
    }

    #[test]
    fn a_run_stops_while_stopping_fits_the_budget() {
        let budget = Budget { usd: 1.0 };
        // At 0.01 a second 30 seconds cost 0.30: 0.69 leaves room, 0.71 does not.
        for (cost_now, expected) in [(0.0, false), (0.69, false), (0.71, true), (1.5, true), (f64::NAN, true)] {
            assert_eq!(budget.must_stop(cost_now, 0.01, ms(30_000)), expected, "{cost_now}");
        }
        assert!(!budget.must_stop(0.99, 0.0, ms(30_000)), "nothing runs");
        assert!(budget.must_stop(1.0, 0.0, ms(0)), "the budget is spent");
    }
}
