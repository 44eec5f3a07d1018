//! What a run on functions costs while it goes on, and whether it may.

use std::time::{Duration, Instant};

use lambda::Version;
use schemas::cost::{Architecture, Cost};
use schemas::message::Address;
use schemas::report::FunctionsReport;

use super::launcher::Life;
use crate::cost::{Meter, Rented, cost};
use crate::forecast::{GETS_OF_A_LIFE, PUTS_OF_A_CHECKPOINT, PUTS_OF_A_RUN};
use crate::plan::Plan;
use crate::plan::launch::Functions;

/// What saving the model and ending the run take, at most, as a rule.
const RESERVE: Duration = Duration::from_secs(10);

/// Counts what is used by what the client sees.
pub(super) struct Bill<'a> {
    settings: &'a Functions,
    version: &'a Version,
    meter: Meter<Address>,
    since: Instant,
    step_batches: u64,
    checkpoint_every: u64,
    n_holdout_batches: u64,
    /// Requests to S3 of steps and evaluations that are counted.
    counted: (u64, u64),
    evaluations: u64,
    handovers: u64,
    relaunches: u64,
}

impl<'a> Bill<'a> {
    pub(super) fn new(settings: &'a Functions, version: &'a Version, plan: &Plan, checkpoint_every: u64) -> Self {
        let mut meter = Meter::new(version.memory_mb, Rented { redis: 1, brokers: 1 }, Duration::ZERO);
        meter.count_s3(PUTS_OF_A_RUN, 0);
        Self {
            settings,
            version,
            meter,
            since: Instant::now(),
            step_batches: plan.task.common().step_batches.into(),
            checkpoint_every,
            n_holdout_batches: plan.shards.holdout_batches.len() as u64,
            counted: (0, 0),
            evaluations: 0,
            handovers: 0,
            relaunches: 0,
        }
    }

    fn architecture(&self) -> Architecture {
        if self.version.architecture == "arm64" { Architecture::Arm } else { Architecture::X86 }
    }

    /// A life that took over in order, or because another died.
    pub(super) const fn succeeded(&mut self, in_order: bool) {
        if in_order { self.handovers += 1 } else { self.relaunches += 1 }
    }

    /// The run has come to `step`, with so many more evaluations.
    pub(super) fn step(&mut self, step: u64, evaluations: usize) {
        self.evaluations += evaluations as u64;
        let gets = (step + 1) * self.step_batches + self.evaluations * self.n_holdout_batches;
        let puts = step / self.checkpoint_every * PUTS_OF_A_CHECKPOINT;
        let (before_puts, before_gets) = self.counted;
        self.meter.count_s3(puts.saturating_sub(before_puts), gets.saturating_sub(before_gets));
        self.counted = (puts.max(before_puts), gets.max(before_gets));
    }

    /// Looks at a life.
    pub(super) fn see(&mut self, address: Address, life: &mut dyn Life) {
        let Some((began, ended)) = life.billed() else { return };
        let at = |instant: Instant| instant.saturating_duration_since(self.since);
        let (began, ended) = (at(began), ended.map(at));
        if self.meter.begin(address, began) {
            self.meter.count_s3(0, GETS_OF_A_LIFE);
        }
        if let Some(ended) = ended {
            self.meter.end(&address, ended);
        }
    }

    /// What it has cost so far.
    pub(super) fn cost(&self) -> Cost {
        cost(&self.settings.prices, &self.meter.usage(self.since.elapsed()), self.architecture())
    }

    /// The budget, if it is about to be spent.
    pub(super) fn spent(&self) -> Option<f64> {
        let budget = self.settings.budget?;
        let rate = self.meter.rate_per_second(&self.settings.prices, self.architecture());
        budget.must_stop(self.cost().total, rate, RESERVE).then_some(budget.usd)
    }

    /// What it came to.
    pub(super) fn report(&self, workers: u32) -> FunctionsReport {
        let prediction = self.settings.prediction.as_ref();
        let predicted = prediction.and_then(|p| p.runs.iter().find(|run| run.workers == workers));
        FunctionsReport {
            function: self.version.function.clone(),
            version: self.version.version.clone(),
            memory_mb: self.version.memory_mb,
            architecture: self.architecture(),
            handovers: self.handovers,
            relaunches: self.relaunches,
            usage: self.meter.usage(self.since.elapsed()),
            cost: self.cost(),
            prices_of: self.settings.prices.date.clone(),
            predicted: predicted.cloned(),
        }
    }
}
