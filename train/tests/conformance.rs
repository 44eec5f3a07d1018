//! The suites that every implementation of the exchange and of the control plane must pass.
//!
//! Each case runs on a fresh instance that a factory makes. A further implementation adds one line at the bottom.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use schemas::message::{Envelope, Message, PROTOCOL, Party};
use train::control::{ControlError, ControlPlane};
use train::exchange::{ExchangeError, UpdateExchange};
use train_core::pmf::gradient::{Gradient, RowGradients};

const LONG: Duration = Duration::from_secs(20);

fn gradient(mark: u32) -> Arc<Gradient> {
    let rows = |id| RowGradients { ids: vec![id, id + 5], values: vec![[mark as f32; 8]; 2] };
    Arc::new(Gradient { users: rows(mark), items: rows(mark + 1), squared_error: f64::from(mark), rows: mark })
}

fn message(sender: Party, step: u64) -> Envelope {
    let message = Message::Computed { step, losses: vec![], timings: None };
    Envelope { protocol: PROTOCOL, run: "run".to_owned(), sender, incarnation: 0, message }
}

mod exchange_suite {
    use super::*;

    pub(super) fn what_is_published_is_read_by_all_in_slot_order(x: &dyn UpdateExchange<Gradient>) {
        for slot in [2, 0, 1] {
            x.publish(7, slot, gradient(slot)).unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    assert_eq!(x.missing(7, 3, LONG).unwrap(), [] as [u32; 0]);
                    let found = x.read(7, 3).unwrap();
                    assert!((0..).zip(&found).all(|(slot, g)| **g == *gradient(slot)));
                });
            }
        });
    }

    pub(super) fn an_empty_gradient_is_announced_too(x: &dyn UpdateExchange<Gradient>) {
        x.publish(0, 0, Arc::default()).unwrap();
        assert_eq!(x.missing(0, 1, LONG).unwrap(), [] as [u32; 0]);
        assert_eq!(*x.read(0, 1).unwrap()[0], Gradient::default());
    }

    pub(super) fn publishing_again_is_one_update(x: &dyn UpdateExchange<Gradient>) {
        x.publish(1, 0, gradient(4)).unwrap();
        x.publish(1, 0, gradient(4)).unwrap();
        assert_eq!(*x.read(1, 1).unwrap()[0], *gradient(4));
    }

    pub(super) fn another_gradient_for_a_slot_is_refused(x: &dyn UpdateExchange<Gradient>) {
        x.publish(1, 0, gradient(4)).unwrap();
        assert_eq!(x.publish(1, 0, gradient(5)), Err(ExchangeError::Contradiction { step: 1, slot: 0 }));
        assert_eq!(*x.read(1, 1).unwrap()[0], *gradient(4));
    }

    pub(super) fn a_wait_that_ends_names_the_missing_slots(x: &dyn UpdateExchange<Gradient>) {
        x.publish(3, 1, gradient(1)).unwrap();
        let start = Instant::now();
        assert_eq!(x.missing(3, 4, Duration::from_millis(30)).unwrap(), [0, 2, 3]);
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(x.missing(3, 4, Duration::ZERO).unwrap(), [0, 2, 3]);
        assert!(matches!(x.read(3, 4), Err(ExchangeError::Absent { step: 3, .. })));
    }

    pub(super) fn a_wait_ends_when_the_last_slot_comes(x: &dyn UpdateExchange<Gradient>) {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| x.missing(3, 2, LONG).unwrap());
            x.publish(3, 0, gradient(0)).unwrap();
            std::thread::yield_now();
            x.publish(3, 1, gradient(1)).unwrap();
            assert_eq!(waiting.join().unwrap(), [] as [u32; 0]);
        });
    }

    pub(super) fn steps_do_not_mix(x: &dyn UpdateExchange<Gradient>) {
        x.publish(1, 0, gradient(1)).unwrap();
        x.publish(2, 0, gradient(2)).unwrap();
        assert_eq!(*x.read(1, 1).unwrap()[0], *gradient(1));
        assert_eq!(*x.read(2, 1).unwrap()[0], *gradient(2));
    }

    pub(super) fn released_steps_are_gone_and_stay_gone(x: &dyn UpdateExchange<Gradient>) {
        for step in 0..4 {
            x.publish(step, 0, gradient(9)).unwrap();
        }
        x.release(2).unwrap();
        x.release(1).unwrap();
        assert_eq!(x.read(1, 1), Err(ExchangeError::Absent { step: 1, slot: 0 }));
        assert_eq!(x.read(2, 1).unwrap().len(), 1);
        x.publish(1, 0, gradient(9)).unwrap();
        assert_eq!(x.missing(1, 1, Duration::ZERO).unwrap(), [0]);
    }
}

mod control_suite {
    use super::*;

    pub(super) fn direct_messages_reach_their_receiver_alone(c: &dyn ControlPlane) {
        let mut boxes: Vec<_> = (0..3).map(|w| c.open(Party::Worker(w).life(0)).unwrap()).collect();
        let sent = message(Party::Supervisor, 1);
        c.send(Party::Worker(1).life(0), &sent).unwrap();
        assert_eq!(boxes[1].receive(LONG).unwrap(), Some(sent));
        for mailbox in &mut boxes {
            assert_eq!(mailbox.receive(Duration::ZERO).unwrap(), None);
        }
    }

    pub(super) fn broadcasts_reach_every_worker_and_nobody_else(c: &dyn ControlPlane) {
        let mut supervisor = c.open(Party::Supervisor.life(0)).unwrap();
        let mut workers: Vec<_> = (0..3).map(|w| c.open(Party::Worker(w).life(0)).unwrap()).collect();
        let sent = message(Party::Supervisor, 2);
        c.broadcast(&sent).unwrap();
        for worker in &mut workers {
            assert_eq!(worker.receive(LONG).unwrap(), Some(sent.clone()));
        }
        assert_eq!(supervisor.receive(Duration::ZERO).unwrap(), None);
    }

    pub(super) fn messages_of_one_sender_keep_their_order(c: &dyn ControlPlane) {
        let mut mailbox = c.open(Party::Supervisor.life(0)).unwrap();
        std::thread::scope(|scope| {
            for w in 0..4 {
                scope.spawn(move || {
                    (0..50)
                        .for_each(|step| c.send(Party::Supervisor.life(0), &message(Party::Worker(w), step)).unwrap());
                });
            }
        });
        let mut next = [0u64; 4];
        for _ in 0..200 {
            let envelope = mailbox.receive(LONG).unwrap().unwrap();
            let (Party::Worker(w), Message::Computed { step, .. }) = (envelope.sender, envelope.message) else {
                panic!()
            };
            assert_eq!(step, next[w as usize]);
            next[w as usize] += 1;
        }
    }

    pub(super) fn a_wait_ends_by_message_or_by_time(c: &dyn ControlPlane) {
        let mut mailbox = c.open(Party::Supervisor.life(0)).unwrap();
        let start = Instant::now();
        assert_eq!(mailbox.receive(Duration::from_millis(30)).unwrap(), None);
        assert!(start.elapsed() >= Duration::from_millis(30));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| mailbox.receive(LONG).unwrap());
            c.send(Party::Supervisor.life(0), &message(Party::Worker(0), 5)).unwrap();
            assert_eq!(waiting.join().unwrap(), Some(message(Party::Worker(0), 5)));
        });
    }

    pub(super) fn a_party_that_never_opened_cannot_be_reached(c: &dyn ControlPlane) {
        let address = Party::Worker(9).life(0);
        assert_eq!(c.send(address, &message(Party::Supervisor, 0)), Err(ControlError::NoMailbox { address }));
    }

    pub(super) fn what_was_not_received_waits_for_the_next_opening(c: &dyn ControlPlane) {
        drop(c.open(Party::Worker(0).life(0)).unwrap());
        let sent = message(Party::Supervisor, 3);
        c.send(Party::Worker(0).life(0), &sent).unwrap();
        assert_eq!(c.open(Party::Worker(0).life(0)).unwrap().receive(LONG).unwrap(), Some(sent));
    }
}

macro_rules! suite {
    ($name:ident, $suite:ident, $factory:expr, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(#[test] fn $case() { super::$suite::$case(&$factory); })*
        }
    };
}

macro_rules! exchange {
    ($name:ident, $factory:expr) => {
        suite!(
            $name,
            exchange_suite,
            $factory,
            [
                what_is_published_is_read_by_all_in_slot_order,
                an_empty_gradient_is_announced_too,
                publishing_again_is_one_update,
                another_gradient_for_a_slot_is_refused,
                a_wait_that_ends_names_the_missing_slots,
                a_wait_ends_when_the_last_slot_comes,
                steps_do_not_mix,
                released_steps_are_gone_and_stay_gone,
            ]
        );
    };
}

macro_rules! control {
    ($name:ident, $factory:expr) => {
        suite!(
            $name,
            control_suite,
            $factory,
            [
                direct_messages_reach_their_receiver_alone,
                broadcasts_reach_every_worker_and_nobody_else,
                messages_of_one_sender_keep_their_order,
                a_wait_ends_by_message_or_by_time,
                a_party_that_never_opened_cannot_be_reached,
                what_was_not_received_waits_for_the_next_opening,
            ]
        );
    };
}

exchange!(exchange_memory, train::exchange::memory::MemoryExchange::default());
control!(control_memory, train::control::memory::MemoryControl::default());
