//! The control plane between threads of one process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use schemas::message::{Address, Envelope, Party};

use super::{ControlError, ControlPlane, Mailbox};

/// Queues in this process's memory.
#[derive(Debug, Default)]
pub struct MemoryControl {
    queues: Mutex<BTreeMap<Address, Arc<Queue>>>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: Mutex<VecDeque<Envelope>>,
    arrived: Condvar,
}

const LOCK: &str = "no holder of this lock panics";

impl Queue {
    fn push(&self, envelope: &Envelope) {
        self.messages.lock().expect(LOCK).push_back(envelope.clone());
        self.arrived.notify_one();
    }
}

impl ControlPlane for MemoryControl {
    fn open(&self, address: Address) -> Result<Box<dyn Mailbox>, ControlError> {
        let queue = Arc::clone(self.queues.lock().expect(LOCK).entry(address).or_default());
        Ok(Box::new(MemoryMailbox { queue }))
    }

    fn send(&self, to: Address, envelope: &Envelope) -> Result<(), ControlError> {
        let queues = self.queues.lock().expect(LOCK);
        queues.get(&to).ok_or(ControlError::NoMailbox { address: to })?.push(envelope);
        Ok(())
    }

    fn hand_over(&self, to: Address, envelope: &Envelope) -> Result<(), ControlError> {
        match self.send(to, envelope) {
            Err(ControlError::NoMailbox { .. }) => Ok(()),
            sent => sent,
        }
    }

    fn broadcast(&self, envelope: &Envelope) -> Result<(), ControlError> {
        let queues = self.queues.lock().expect(LOCK);
        for (_, queue) in queues.iter().filter(|(address, _)| matches!(address.party, Party::Worker(_))) {
            queue.push(envelope);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryMailbox {
    queue: Arc<Queue>,
}

impl Mailbox for MemoryMailbox {
    fn receive(&mut self, wait: Duration) -> Result<Option<Envelope>, ControlError> {
        let deadline = Instant::now() + wait;
        let mut messages = self.queue.messages.lock().expect(LOCK);
        loop {
            if let Some(envelope) = messages.pop_front() {
                return Ok(Some(envelope));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            messages = self.queue.arrived.wait_timeout(messages, left).expect(LOCK).0;
        }
    }
}
