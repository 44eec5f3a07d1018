//! The commit protocol on stores that are slow, fail, and are written to by several at once.

#![cfg(test)]

use super::*;
use crate::gated::Gated;
use object_store::memory::InMemory;
use std::num::NonZeroUsize;
use std::sync::Arc;

#[test]
fn replacing_swaps_generations_and_failing_leaves_the_old_one() {
    let place = Place::in_store(Arc::new(InMemory::new()), "d");
    let first = Staging::new(&place, &place, "index.json", &digest(b"first"));
    let old = first.put("part", &b"old"[..], 1).unwrap();
    first.commit(b"1".to_vec(), false).unwrap();

    let refused = Staging::new(&place, &place, "index.json", &digest(b"second"));
    let new = refused.put("part", &b"new"[..], 1).unwrap();
    assert!(matches!(refused.commit(b"2".to_vec(), false), Err(Error::Conflict { .. })));
    assert_eq!(place.get(&old.key).unwrap(), &b"old"[..]);
    assert_eq!(place.size(&new.key).unwrap(), None, "a refused generation is taken away");

    place.put("gen-notours/x", &b""[..]).unwrap();
    let second = Staging::new(&place, &place, "index.json", &digest(b"second"));
    second.put("part", &b"new"[..], 1).unwrap();
    second.commit(b"2".to_vec(), true).unwrap();
    assert_eq!(place.get(&new.key).unwrap(), &b"new"[..]);
    assert_eq!(place.size(&old.key).unwrap(), None, "a replaced generation is taken away");
    assert_eq!(place.size("gen-notours/x").unwrap(), Some(0), "other people's folders stay");
    assert_eq!(place.get("index.json").unwrap(), &b"2"[..]);
}

#[test]
fn a_commit_sweeps_up_what_a_killed_writer_of_the_same_left() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
    let staging = Staging::new(&place, &place, "index.json", &digest(b"same"));
    let part = staging.put("part", &b"x"[..], 1).unwrap();
    let left = folder.path().join(format!("{}#1", part.key));
    std::fs::write(&left, "half").unwrap();
    staging.commit(b"1".to_vec(), false).unwrap();
    assert!(!left.exists());
    assert_eq!(place.get(&part.key).unwrap(), &b"x"[..]);
    assert_eq!(generations(&place).unwrap(), [generation(&digest(b"same"))]);
}

#[test]
fn of_two_writers_of_the_same_the_loser_leaves_the_winner_whole() {
    let place = Place::in_store(Arc::new(InMemory::new()), "d");
    let writer = || Staging::new(&place, &place, "index.json", &digest(b"same"));
    let (first, second, interrupted) = (writer(), writer(), writer());
    let part = first.put("part", &b"x"[..], 1).unwrap();
    second.put("part", &b"x"[..], 1).unwrap();
    let index = format!("{{\"key\": \"{}\"}}", part.key).into_bytes();
    first.commit(index.clone(), false).unwrap();
    assert!(matches!(second.commit(index, false), Err(Error::Conflict { .. })));
    drop(interrupted);
    assert_eq!(place.get(&part.key).unwrap(), &b"x"[..]);
}

fn limits(in_flight: usize, bytes: u64) -> Limits {
    Limits { in_flight: NonZeroUsize::new(in_flight).unwrap(), bytes }
}

/// Name and bytes of `count` objects.
fn objects(count: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..count).map(|i| (format!("o{i:03}"), vec![i as u8; 100]))
}

fn staging(place: &Place, identity: &[u8], limits: Limits) -> Staging {
    Staging::with_limits(place, place, "index.json", &digest(identity), limits)
}

#[test]
fn as_many_objects_as_allowed_are_on_their_way_at_once() {
    for (in_flight, bytes, expected) in [(8, u64::MAX, 8), (1, u64::MAX, 1), (16, 350, 3), (4, 1, 1)] {
        let store = Gated::new(InMemory::new(), expected);
        let place = store.place();
        store.close_gate();
        let staging = staging(&place, b"many", limits(in_flight, bytes));
        for (name, bytes) in objects(64) {
            let object = staging.put(&name, bytes.clone(), 1).unwrap();
            assert_eq!((object.bytes, object.digest), (100, digest(&bytes)));
        }
        let sent = staging.commit(b"{}".to_vec(), false).unwrap();
        assert_eq!(sent, Sent { objects_kept: 0, bytes_written: 6400 });
        assert_eq!(store.most_at_once(), expected, "{in_flight} in flight, {bytes} bytes");
        assert_eq!(place.list().unwrap().len(), 65);
    }
}

#[test]
fn a_failure_is_told_and_the_next_attempt_sends_only_what_is_not_there() {
    for failing_from in 0..20 {
        let store = Gated::new(InMemory::new(), 1);
        let place = store.place();
        store.fail_from_put(failing_from);
        let first = staging(&place, b"same", limits(1, u64::MAX));
        let put = objects(20).try_for_each(|(name, bytes)| first.put(&name, bytes, 1).map(drop));
        let failure = put.and_then(|()| first.commit(b"{}".to_vec(), false).map(drop)).unwrap_err();
        assert!(failure.to_string().ends_with("could not write it"), "{failure}");
        assert!(std::error::Error::source(&failure).unwrap().to_string().contains("out of order"), "{failure:?}");
        assert_eq!(place.size("index.json").unwrap(), None);
        assert_eq!(place.list().unwrap().len(), failing_from, "what has arrived stays");

        store.fail_from_put(usize::MAX);
        let second = staging(&place, b"same", limits(4, u64::MAX));
        objects(20).for_each(|(name, bytes)| drop(second.put(&name, bytes, 1).unwrap()));
        let sent = second.commit(b"{}".to_vec(), false).unwrap();
        let kept = failing_from as u64;
        assert_eq!(sent, Sent { objects_kept: kept, bytes_written: 100 * (20 - kept) });
        assert_eq!(store.puts(), 20 - failing_from + 1, "and the index");
        assert_eq!(place.list().unwrap().len(), 21);
    }
}

#[test]
fn what_is_there_with_other_bytes_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let local = Place::parse(folder.path().to_str().unwrap()).unwrap();
    for place in [local, Place::in_store(Arc::new(InMemory::new()), "d")] {
        let generation = generation(&digest(b"same"));
        // As a killed writer leaves it: whole, of another size, with other bytes; these were written by somebody else.
        for (name, bytes) in [("o000", vec![0; 100]), ("o001", vec![1; 99]), ("o002", vec![7; 100])] {
            place.put(&format!("{generation}/{name}"), bytes).unwrap();
        }
        let again = staging(&place, b"same", Limits::default());
        objects(4).for_each(|(name, bytes)| drop(again.put(&name, bytes, 1).unwrap()));
        assert_eq!(again.commit(b"{}".to_vec(), false).unwrap(), Sent { objects_kept: 1, bytes_written: 300 });
        for (name, bytes) in objects(4) {
            assert_eq!(place.get(&format!("{generation}/{name}")).unwrap(), bytes, "{place} {name}");
        }
    }
}

#[test]
fn a_killed_replace_leaves_the_old_and_the_next_one_finishes() {
    let place = Place::in_store(Arc::new(InMemory::new()), "d");
    let names = |staging: &Staging| {
        let keys: Vec<String> = objects(5).map(|(name, _)| format!("\"{}\"", staging.key(&name))).collect();
        format!("[{}]", keys.join(",")).into_bytes()
    };
    let whole = || {
        let keys: Vec<String> = serde_json::from_slice(&place.get("index.json").unwrap()).unwrap();
        assert!(keys.iter().all(|key| place.size(key).unwrap() == Some(100)), "{keys:?}");
        let generations: std::collections::BTreeSet<_> = keys.iter().map(|key| key[..16].to_owned()).collect();
        assert_eq!(generations.len(), 1, "old and new are never mixed");
        keys
    };
    let old = staging(&place, b"old", Limits::default());
    objects(5).for_each(|(name, bytes)| drop(old.put(&name, bytes, 1).unwrap()));
    let index = names(&old);
    old.commit(index, false).unwrap();
    let before = whole();
    for arrived in 0..5 {
        let new = staging(&place, b"new", Limits::default());
        objects(arrived).for_each(|(name, bytes)| drop(new.put(&name, bytes, 1).unwrap()));
        drop(new);
        assert_eq!(whole(), before, "{arrived} objects had arrived");
    }
    let new = staging(&place, b"new", Limits::default());
    objects(5).for_each(|(name, bytes)| drop(new.put(&name, bytes, 1).unwrap()));
    let index = names(&new);
    let sent = new.commit(index, true).unwrap();
    assert!(sent.objects_kept <= 4, "{sent:?}");
    assert_ne!(whole(), before);
    assert_eq!(place.list().unwrap().len(), 6, "the old generation is taken away");
}

#[test]
fn of_two_writers_of_different_content_one_wins_and_stays_whole() {
    for round in 0..20 {
        let place = Place::in_store(Arc::new(InMemory::new()), "d");
        let write = |identity: &[u8]| {
            let staging = staging(&place, identity, limits(3, 1000));
            let keys = objects(10).map(|(name, bytes)| staging.put(&name, bytes, 1).map(|object| object.key));
            let keys = keys.collect::<Result<Vec<_>, _>>()?;
            staging.commit(serde_json::to_vec(&keys).unwrap(), false).map(drop)
        };
        let results = std::thread::scope(|scope| {
            let one = scope.spawn(|| write(b"one"));
            [write(b"other"), one.join().unwrap()]
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        let lost = results.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(lost, Error::Conflict { .. }), "{lost}");
        let keys: Vec<String> = serde_json::from_slice(&place.get("index.json").unwrap()).unwrap();
        assert!(keys.iter().all(|key| place.size(key).unwrap() == Some(100)), "round {round}: {keys:?}");
        assert_eq!(place.list().unwrap().len(), 11, "round {round}: the loser leaves nothing");
    }
}

#[test]
fn of_several_who_replace_the_same_exactly_one_wins_and_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for place in
        [Place::parse(folder.path().to_str().unwrap()).unwrap(), Place::in_store(Arc::new(InMemory::new()), "d")]
    {
        let index_of = |name: &str| format!("{{\"key\": \"{}/0\"}}", generation(&digest(name.as_bytes()))).into_bytes();
        place.put("index.json", index_of("old")).unwrap();
        for round in 0..20 {
            let writers: Vec<String> = (0..3).map(|writer| format!("{round} {writer}")).collect();
            let barrier = std::sync::Barrier::new(writers.len());
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let write = |name: &String| {
                    let staging = Staging::new(&place, &place, "index.json", &digest(name.as_bytes()));
                    staging.put("0", name.clone(), 1).unwrap();
                    barrier.wait();
                    for object in 1..20 {
                        staging.put(&object.to_string(), name.clone(), 1).unwrap();
                    }
                    staging.commit(index_of(name), true).map(drop)
                };
                let threads: Vec<_> = writers.iter().map(|name| scope.spawn(move || write(name))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
            let lost = |outcome: &&Result<(), Error>| matches!(outcome, Err(Error::Conflict { .. }));
            assert_eq!(outcomes.iter().filter(lost).count(), 2, "{outcomes:?}");
            let winner = &writers[outcomes.iter().position(Result::is_ok).unwrap()];
            assert_eq!(place.get("index.json").unwrap(), index_of(winner));
            let found = place.join(&generation(&digest(winner.as_bytes()))).unwrap().list().unwrap();
            assert_eq!(found.len(), 20, "the winner is whole");
        }
    }
}
