//! The suites that every implementation of the exchange and of the control plane must pass, and what holds for every model.
//!
//! Each case runs on a fresh instance that a factory makes. A further implementation adds one line at the bottom.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]
#![expect(clippy::print_stdout, reason = "a case that hangs is named before")]

#[path = "conformance/exchange.rs"]
mod exchange;
#[path = "conformance/model.rs"]
mod model;
#[path = "conformance/store.rs"]
mod store;

use std::time::{Duration, Instant};

use schemas::message::{Envelope, Message, PROTOCOL, Party, Turn, Work};
use train::control::{ControlError, ControlPlane};

const LONG: Duration = Duration::from_secs(20);

fn message(sender: Party, step: u64) -> Envelope {
    let turn = Turn { supervisor: 0, number: step };
    let result = Work::Computed { losses: vec![], timings: None, sizes: None };
    let message = Message::Report { turn, result, stored: vec![] };
    Envelope { protocol: PROTOCOL, run: "run".to_owned(), sender: sender.life(0), message }
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
            let (Party::Worker(w), Message::Report { turn, .. }) = (envelope.sender.party, envelope.message) else {
                panic!()
            };
            assert_eq!(turn.number, next[w as usize]);
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

    pub(super) fn what_is_handed_over_arrives_in_order_and_need_not_arrive(c: &dyn ControlPlane) {
        let mut mailbox = c.open(Party::Supervisor.life(0)).unwrap();
        let sent: Vec<_> = (0..50).map(|step| message(Party::Worker(0), step)).collect();
        for message in &sent {
            c.hand_over(Party::Worker(9).life(0), message).unwrap();
            c.hand_over(Party::Supervisor.life(0), message).unwrap();
            assert_eq!(mailbox.receive(LONG).unwrap().as_ref(), Some(message));
        }
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

/// Applies a macro to the list of the control suite's cases, which is here and nowhere else.
macro_rules! control {
    ($apply:ident!($($arguments:tt)*)) => {
        $apply!(
            $($arguments)*,
            [
                direct_messages_reach_their_receiver_alone,
                broadcasts_reach_every_worker_and_nobody_else,
                messages_of_one_sender_keep_their_order,
                a_wait_ends_by_message_or_by_time,
                a_party_that_never_opened_cannot_be_reached,
                what_is_handed_over_arrives_in_order_and_need_not_arrive,
                what_was_not_received_waits_for_the_next_opening,
            ]
        );
    };
}

/// The cases as values, for those that share a server.
macro_rules! table {
    ($name:ident, [$($case:ident),* $(,)?]) => {
        const $name: &[(&str, fn(&dyn ControlPlane))] = &[$((stringify!($case), control_suite::$case)),*];
    };
}

control!(suite!(control_memory, control_suite, train::control::memory::MemoryControl::default()));
control!(table!(CONTROL_CASES));

#[path = "conformance/rabbitmq.rs"]
mod rabbitmq;
