//! Which mini-batches make which step: a pure function of the seed, so that every worker knows it without being told.

use std::ops::Range;

use random::Stream;

/// The order of the batches in `epoch`: a permutation of `0..n_batches` that depends on nothing but the arguments.
#[must_use]
pub fn epoch_order(seed: u64, epoch: u64, n_batches: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n_batches).collect();
    Stream::new(seed, "order").at(epoch).shuffle(&mut order);
    order
}

/// How the batches of an epoch are cut into steps. Every batch is in exactly one step of every epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    n_batches: u32,
    step_batches: u32,
}

impl Schedule {
    /// Steps of `step_batches` batches each; the last step of an epoch may be short.
    ///
    /// # Panics
    /// When either number is 0.
    #[must_use]
    pub fn new(n_batches: u32, step_batches: u32) -> Self {
        assert!(n_batches > 0 && step_batches > 0, "an epoch has at least one step of at least one batch");
        Self { n_batches, step_batches }
    }

    /// Batches of an epoch.
    #[must_use]
    pub const fn n_batches(&self) -> u32 {
        self.n_batches
    }

    /// Steps of one epoch.
    #[must_use]
    pub const fn steps_per_epoch(&self) -> u64 {
        self.n_batches.div_ceil(self.step_batches) as u64
    }

    /// The epoch that `step` (counted over the whole run) belongs to.
    #[must_use]
    pub const fn epoch(&self, step: u64) -> u64 {
        step / self.steps_per_epoch()
    }

    /// Where in the epoch's order the batches of `step` stand.
    #[must_use]
    pub fn positions(&self, step: u64) -> Range<usize> {
        let start = (step % self.steps_per_epoch()) * u64::from(self.step_batches);
        let end = (start + u64::from(self.step_batches)).min(u64::from(self.n_batches));
        start as usize..end as usize
    }

    /// How many batches `step` has.
    #[must_use]
    pub fn n_slots(&self, step: u64) -> u32 {
        self.positions(step).len() as u32
    }

    /// Whether `step` is the last of its epoch.
    #[must_use]
    pub const fn ends_epoch(&self, step: u64) -> bool {
        (step + 1).is_multiple_of(self.steps_per_epoch())
    }
}

/// The worker that computes slot `slot` of a step.
#[must_use]
pub const fn worker_of_slot(slot: u32, n_workers: u32) -> u32 {
    slot % n_workers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_is_a_permutation(seed: u64, epoch in 0u64..100, n in 1u32..300) {
            let mut order = epoch_order(seed, epoch, n);
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..n));
        }

        #[test]
        fn every_batch_is_in_exactly_one_step(n in 1u32..200, g in 1u32..40, epoch in 0u64..5) {
            let schedule = Schedule::new(n, g);
            let steps = schedule.steps_per_epoch();
            let mut seen = vec![0; n as usize];
            for step in epoch * steps..(epoch + 1) * steps {
                prop_assert_eq!(schedule.epoch(step), epoch);
                prop_assert_eq!(schedule.ends_epoch(step), step + 1 == (epoch + 1) * steps);
                prop_assert!(schedule.n_slots(step) >= 1 && schedule.n_slots(step) <= g);
                for position in schedule.positions(step) {
                    seen[position] += 1;
                }
            }
            prop_assert!(seen.into_iter().all(|count| count == 1));
        }
    }

    #[test]
    fn epochs_differ_and_the_order_is_pinned() {
        assert_ne!(epoch_order(8, 0, 20), epoch_order(8, 1, 20));
        // Computed by tests/oracle/order.py from the definition alone.
        assert_eq!(epoch_order(8, 3, 8), PINNED_ORDER);
    }
    const PINNED_ORDER: [u32; 8] = [6, 3, 2, 7, 0, 4, 5, 1];
}
