//! The exchange between workers that are threads of one process: gradients change hands without being copied.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use schemas::message::Sizes;

use super::{Collected, ExchangeError, Traffic, UpdateExchange};
use crate::protocol::worker::Collect;

/// Gradients in this process's memory.
#[derive(Debug)]
pub struct MemoryExchange<G> {
    state: Mutex<State<G>>,
    published: Condvar,
}

#[derive(Debug)]
struct State<G> {
    steps: BTreeMap<u64, BTreeMap<u32, Arc<G>>>,
    released_below: u64,
}

const LOCK: &str = "no holder of this lock panics";

impl<G> Default for MemoryExchange<G> {
    fn default() -> Self {
        let state = State { steps: BTreeMap::new(), released_below: 0 };
        Self { state: Mutex::new(state), published: Condvar::new() }
    }
}

impl<G: PartialEq + Send + Sync> UpdateExchange<G> for MemoryExchange<G> {
    fn publish(&self, step: u64, slot: u32, gradient: Arc<G>, _: bool) -> Result<(), ExchangeError> {
        let mut state = self.state.lock().expect(LOCK);
        if step < state.released_below {
            return Ok(());
        }
        let slots = state.steps.entry(step).or_default();
        if let Some(present) = slots.get(&slot) {
            let equal = Arc::ptr_eq(present, &gradient) || **present == *gradient;
            return if equal { Ok(()) } else { Err(ExchangeError::Contradiction { step, slot }) };
        }
        slots.insert(slot, gradient);
        drop(state);
        self.published.notify_all();
        Ok(())
    }

    fn settle(&self, _: Duration) -> Result<bool, ExchangeError> {
        Ok(true)
    }

    fn collect(&self, collect: Collect, n_slots: u32, wait: Duration) -> Result<Collected<G>, ExchangeError> {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock().expect(LOCK);
        loop {
            let slots = state.steps.get(&collect.step);
            let found: Vec<_> = (0..n_slots).map(|slot| slots.and_then(|s| s.get(&slot)).cloned()).collect();
            if found.iter().all(Option::is_some) {
                return Ok(Collected::Slots(found.into_iter().flatten().collect()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let missing = (0..).zip(&found).filter(|(_, gradient)| gradient.is_none()).map(|(slot, _)| slot);
                return Ok(Collected::Missing(missing.collect()));
            }
            state = self.published.wait_timeout(state, left).expect(LOCK).0;
        }
    }

    fn publish_again(&self) -> Result<(), ExchangeError> {
        Ok(())
    }

    fn release(&self, step: u64) -> Result<(), ExchangeError> {
        let mut state = self.state.lock().expect(LOCK);
        state.released_below = state.released_below.max(step);
        let kept = state.steps.split_off(&step);
        let gone = std::mem::replace(&mut state.steps, kept);
        drop(state);
        drop(gone);
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    fn sizes(&self) -> Option<Sizes> {
        None
    }
}
