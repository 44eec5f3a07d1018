//! Fetching in order from stores that answer late and out of order.

#![cfg(test)]

use std::sync::Arc;

use super::*;
use crate::digest::digest;
use crate::gated::{Gated, batches};
use object_store::memory::InMemory;

fn ahead(in_flight: usize, bytes: u64) -> Ahead {
    Ahead { in_flight: NonZeroUsize::new(in_flight).unwrap(), bytes, at_first: NonZeroUsize::MAX }
}

#[test]
fn as_many_requests_as_allowed_are_under_way_at_once_and_come_back_in_order() {
    for (in_flight, bytes, expected) in [(8, u64::MAX, 8), (1, u64::MAX, 1), (64, u64::MAX, 64), (16, 30, 3), (5, 1, 1)]
    {
        // 64 objects of 10 bytes; no request is answered before `expected` of them are there.
        let store = Gated::new(InMemory::new(), expected);
        let place = store.place();
        let wanted = batches(&place, 64);
        store.close_gate();
        let fetch = Fetch::ahead(&place, wanted.clone().into_iter(), ahead(in_flight, bytes)).unwrap();
        for (number, batch) in wanted.iter().enumerate() {
            let fetched = fetch.next_within(Duration::from_secs(60)).unwrap().unwrap();
            assert_eq!((fetched.number, &fetched.batch), (number as u64, batch));
            assert_eq!(digest(&fetched.checked(&place, "test").unwrap()), batch.digest);
        }
        assert!(fetch.next().is_none());
        assert_eq!(store.most_at_once(), expected, "{in_flight} in flight, {bytes} bytes");
    }
}

#[test]
fn what_is_not_used_is_not_followed_by_more() {
    let store = Gated::new(InMemory::new(), 1);
    let place = store.place();
    let wanted = batches(&place, 64);
    let fetch = Fetch::ahead(&place, wanted.into_iter(), ahead(4, 200)).unwrap();
    assert_eq!(fetch.next().unwrap().number, 0);
    store.wait_for_requests(21);
    assert_eq!(store.requests(), 21, "one is used, 200 bytes wait");
    drop(fetch);
}

#[test]
fn there_are_twice_as_many_each_time_somebody_waits() {
    // No request is answered before six are there.
    let store = Gated::new(InMemory::new(), 6);
    let place = store.place();
    let wanted = batches(&place, 64);
    store.close_gate();
    let few = Ahead { at_first: NonZeroUsize::new(3).unwrap(), ..ahead(16, u64::MAX) };
    let fetch = Fetch::ahead(&place, wanted.into_iter(), few).unwrap();
    store.wait_for_requests(3);
    assert_eq!((fetch.next_within(Duration::ZERO).unwrap_err(), store.requests()), (Late, 3), "looking is not waiting");
    assert_eq!(fetch.next().unwrap().number, 0);
    store.wait_for_requests(7);
    assert_eq!(store.requests(), 7, "six at once, of which one is used");
}

#[test]
fn failures_come_in_their_place_and_the_rest_after_them() {
    let place = Place::in_store(Arc::new(InMemory::new()), "p");
    let mut wanted = batches(&place, 3);
    place.put("k1", &b"other bytes"[..]).unwrap();
    wanted.insert(0, Batch { key: "none".to_owned(), ..wanted[0].clone() });
    wanted.push(Batch { offset: Some(5), ..wanted[1].clone() });
    wanted.push(Batch { offset: Some(50), ..wanted[1].clone() });
    for of in [Fetch::ahead, Fetch::shared] {
        let fetch = of(&place, wanted.clone().into_iter(), Ahead::default()).unwrap();
        let found: Vec<_> = std::iter::from_fn(|| fetch.next()).map(|f| f.checked(&place, "m.json")).collect();
        let error = |i: usize| found[i].as_ref().unwrap_err().to_string();
        assert_eq!(error(0), "p/none: missing, though `m.json` names it");
        assert!(found[1].is_ok() && found[3].is_ok());
        assert_eq!(error(2), "p/k1: it has 11 bytes, `m.json` says 10");
        assert_eq!(error(4), "p/k0: it has 10 bytes, `m.json` says 15 or more");
        assert_eq!(error(5), "p/k0: it has 10 bytes, `m.json` says 60 or more");
    }
}

#[test]
fn local_files_are_read_by_those_who_ask_or_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
    let wanted = batches(&place, 200);
    let shared = Fetch::shared(&place, wanted.clone().into_iter(), Ahead::default()).unwrap();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let take =
            || std::iter::from_fn(|| shared.next()).map(|f| (f.number, f.checked(&place, "t").unwrap())).collect();
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .flat_map(|t| {
                let all: Vec<(u64, Bytes)> = t.join().unwrap();
                all
            })
            .map(|(n, _)| n)
            .collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    let fetch = Fetch::ahead(&place, wanted.into_iter(), ahead(4, 25)).unwrap();
    let numbers: Vec<u64> = std::iter::from_fn(|| fetch.next()).map(|f| f.number).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "no such batch")]
fn a_panic_of_the_order_is_passed_on() {
    let place = Place::in_store(Arc::new(InMemory::new()), "p");
    let order = (0..1).map(|_| -> Batch { panic!("no such batch") });
    let _ = Fetch::ahead(&place, order, Ahead::default()).unwrap().next();
}
