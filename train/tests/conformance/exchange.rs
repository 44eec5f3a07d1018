//! The suite that every implementation of the exchange of gradients must pass. A case is given the ends of three workers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use manifests::clicks::Form;
use schemas::exit::ErrorKind;
use schemas::report::{LogisticSettings, LrDecay, Reduce};
use train::exchange::encoded::EncodedExchange;
use train::exchange::memory::MemoryExchange;
use train::exchange::store::memory::MemoryStore;
use train::exchange::store::{Name, Store};
use train::exchange::{Collected, ExchangeError, UpdateExchange};
use train::model::{Model, logistic};
use train::protocol::worker::Collect;
use train::service::ServiceError;
use train_core::lanes::Simd;
use train_core::logistic::{Space, gradient::Gradient};
use train_core::order::Schedule;
use train_core::wire::Slice;

use super::LONG;

const SLICES: u32 = 5;

static MODEL: LazyLock<logistic::Replica<'static>> = LazyLock::new(|| {
    let space = Space::new(100, true, &[]);
    let settings = LogisticSettings {
        seed: 8,
        intercept: true,
        learning_rate: 0.1,
        lr_decay: LrDecay::None,
        beta1: 0.9,
        beta2: 0.999,
        l2: 0.0,
        step_batches: SLICES,
        reduce: Reduce::Mean,
    };
    let memory = Box::leak(vec![0.0; logistic::Replica::floats(&space)].into_boxed_slice());
    let form = Form { labelled: true, n_buckets: Some(100) };
    logistic::Replica::new(Simd::detect(), form, space, settings, Schedule::new(20, SLICES), memory)
});

fn gradient(mark: u32) -> Arc<Gradient> {
    let ids: Vec<u32> = (0..114).filter(|id| (id + mark) % 7 < 2).collect();
    let values = ids.iter().map(|&id| (id * 31 + mark) as f32 / 17.0).collect();
    Arc::new(Gradient { ids, values, loss_sum: f64::from(mark), rows: mark + 1 })
}

/// Three workers' ends, and whether gradients are reduced in slices.
struct Ends<'a> {
    ends: [Box<dyn UpdateExchange<Gradient> + 'a>; 3],
    reduce_scatter: bool,
}

impl Ends<'_> {
    fn publish(&self, worker: usize, step: u64, slot: u32, gradient: Arc<Gradient>) -> Result<(), ExchangeError> {
        self.ends[worker].publish(step, slot, gradient, self.reduce_scatter)
    }

    const fn step(&self, step: u64) -> Collect {
        Collect { step, present: step, reduce_scatter: self.reduce_scatter, n_workers: 3 }
    }

    /// All three collect `step`, and get what `expected` come to.
    fn check(&self, step: u64, expected: &[Arc<Gradient>]) {
        std::thread::scope(|scope| {
            for end in &self.ends {
                scope.spawn(move || check(&**end, self.step(step), expected));
            }
        });
    }

    /// What worker 0 misses, once what is on its way has arrived.
    #[track_caller]
    fn missing(&self, step: u64, n_slots: u32, expected: &[u32]) {
        soon(|| {
            let missing = match self.ends[0].collect(self.step(step), n_slots, Duration::ZERO).unwrap() {
                Collected::Missing(slots) => slots,
                _ => vec![],
            };
            missing == expected
        });
    }
}

/// `end` collects what `expected` come to.
fn check(end: &dyn UpdateExchange<Gradient>, collect: Collect, expected: &[Arc<Gradient>]) {
    match end.collect(collect, expected.len() as u32, LONG).unwrap() {
        Collected::Missing(slots) => panic!("{slots:?} are missing"),
        Collected::Slots(found) => assert!(found == expected),
        Collected::Reduced(found) => {
            for (index, found) in (0..).zip(found) {
                let slice = Slice { index, n_slices: SLICES };
                let (mut reduced, mut sent, mut travelled) = <(Gradient, Vec<u8>, Gradient)>::default();
                MODEL.reduce(expected, slice, &mut logistic::Scratch::default(), &mut reduced);
                MODEL.encode_gradient(&reduced, slice, &mut sent);
                let mut scratch = logistic::Scratch::default();
                MODEL.decode_gradient(0, &sent, slice, &mut scratch, &mut travelled).unwrap();
                assert!(travelled == *found || reduced == *found, "slice {index}");
            }
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
fn soon(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn what_is_published_is_had_by_all_in_the_order_of_the_slots(ends: &Ends<'_>) {
    for (worker, slot) in [(2, 2), (0, 0), (1, 1), (0, 3)] {
        ends.publish(worker, 7, slot, gradient(slot)).unwrap();
    }
    ends.check(7, &[gradient(0), gradient(1), gradient(2), gradient(3)]);
}

fn an_empty_gradient_is_one_too(ends: &Ends<'_>) {
    ends.publish(1, 0, 0, Arc::default()).unwrap();
    ends.check(0, &[Arc::default()]);
}

fn publishing_again_is_one_update(ends: &Ends<'_>) {
    (0..2).for_each(|_| ends.publish(0, 1, 0, gradient(4)).unwrap());
    ends.publish(1, 1, 1, gradient(5)).unwrap();
    ends.ends.iter().for_each(|end| end.publish_again().unwrap());
    ends.check(1, &[gradient(4), gradient(5)]);
}

fn a_wait_that_ends_names_the_missing_slots(ends: &Ends<'_>) {
    ends.publish(1, 3, 1, gradient(1)).unwrap();
    let start = Instant::now();
    let found = ends.ends[0].collect(ends.step(3), 4, Duration::from_millis(30)).unwrap();
    assert!(matches!(found, Collected::Missing(_)), "{found:?}");
    assert!(start.elapsed() >= Duration::from_millis(30));
    ends.missing(3, 4, &[0, 2, 3]);
    ends.publish(2, 3, 2, gradient(2)).unwrap();
    // It goes on where it left off.
    ends.missing(3, 4, &[0, 3]);
    ends.publish(0, 3, 0, gradient(0)).unwrap();
    ends.publish(0, 3, 3, gradient(3)).unwrap();
    ends.check(3, &[gradient(0), gradient(1), gradient(2), gradient(3)]);
}

fn a_wait_ends_when_the_last_slot_comes(ends: &Ends<'_>) {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ends.ends[2].collect(ends.step(3), 2, LONG).unwrap());
        ends.publish(0, 3, 0, gradient(0)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        ends.publish(1, 3, 1, gradient(1)).unwrap();
        assert!(!matches!(waiting.join().unwrap(), Collected::Missing(_)));
    });
}

fn steps_do_not_mix(ends: &Ends<'_>) {
    for step in [1, 2] {
        ends.publish(0, step, 0, gradient(step as u32)).unwrap();
    }
    ends.check(1, &[gradient(1)]);
    ends.check(2, &[gradient(2)]);
}

fn who_goes_back_collects_what_is_past(ends: &Ends<'_>) {
    let gradients = |step| [gradient(step), gradient(step + 1)];
    for step in 0..6 {
        for (slot, gradient) in (0..).zip(gradients(step)) {
            ends.publish(slot as usize + 1, step.into(), slot, gradient).unwrap();
        }
        ends.check(step.into(), &gradients(step));
    }
    for step in 2..6 {
        check(&*ends.ends[0], Collect { present: 6, ..ends.step(step.into()) }, &gradients(step));
    }
    ends.publish(0, 6, 0, gradient(3)).unwrap();
    ends.check(6, &[gradient(3)]);
}

fn released_steps_are_gone_and_the_others_are_not(ends: &Ends<'_>) {
    for step in 0..4 {
        ends.publish(1, step, 0, gradient(9)).unwrap();
    }
    ends.ends[1].release(2).unwrap();
    ends.ends[1].release(1).unwrap();
    ends.missing(1, 1, &[0]);
    ends.check(2, &[gradient(9)]);
    ends.check(3, &[gradient(9)]);
}

macro_rules! exchange {
    ($name:ident, $with:expr) => {
        exchange!($name, $with, [
            what_is_published_is_had_by_all_in_the_order_of_the_slots,
            an_empty_gradient_is_one_too,
            publishing_again_is_one_update,
            a_wait_that_ends_names_the_missing_slots,
            a_wait_ends_when_the_last_slot_comes,
            steps_do_not_mix,
            who_goes_back_collects_what_is_past,
            released_steps_are_gone_and_the_others_are_not,
        ]);
    };
    ($name:ident, $with:expr, [$($case:ident),* $(,)?]) => {
        mod $name {
            $(#[test] fn $case() { ($with)(&super::$case); })*
        }
    };
}

type Case<'c> = &'c dyn Fn(&Ends<'_>);

/// One exchange that all three share.
fn in_memory(case: Case<'_>) {
    struct Shared(Arc<MemoryExchange<Gradient>>);
    impl UpdateExchange<Gradient> for Shared {
        fn publish(&self, step: u64, slot: u32, gradient: Arc<Gradient>, slices: bool) -> Result<(), ExchangeError> {
            self.0.publish(step, slot, gradient, slices)
        }
        fn settle(&self, wait: Duration) -> Result<bool, ExchangeError> {
            self.0.settle(wait)
        }
        fn collect(&self, collect: Collect, n: u32, wait: Duration) -> Result<Collected<Gradient>, ExchangeError> {
            self.0.collect(collect, n, wait)
        }
        fn publish_again(&self) -> Result<(), ExchangeError> {
            self.0.publish_again()
        }
        fn release(&self, step: u64) -> Result<(), ExchangeError> {
            self.0.release(step)
        }
        fn traffic(&self) -> train::exchange::Traffic {
            self.0.traffic()
        }
        fn sizes(&self) -> Option<schemas::message::Sizes> {
            self.0.sizes()
        }
    }
    let shared = Arc::new(MemoryExchange::default());
    let ends = [(); 3].map(|()| Box::new(Shared(Arc::clone(&shared))) as Box<dyn UpdateExchange<Gradient>>);
    case(&Ends { ends, reduce_scatter: false });
}

fn encoded(store: &Arc<MemoryStore>, reduce_scatter: bool, case: Case<'_>) {
    let end = |worker| -> Box<dyn UpdateExchange<Gradient>> {
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        Box::new(EncodedExchange::new(worker, SLICES, &*MODEL, store).unwrap())
    };
    case(&Ends { ends: [0, 1, 2].map(end), reduce_scatter });
}

exchange!(memory, super::in_memory);
exchange!(all_to_all, |case| super::encoded(&super::Arc::default(), false, case));
exchange!(reduce_scatter, |case| super::encoded(&super::Arc::default(), true, case));

#[test]
fn another_gradient_for_a_slot_is_refused() {
    let exchange = MemoryExchange::default();
    exchange.publish(1, 0, gradient(4), false).unwrap();
    let refused = exchange.publish(1, 0, gradient(5), false);
    assert_eq!(refused, Err(ExchangeError::Contradiction { step: 1, slot: 0 }));
}

#[test]
fn what_was_lost_is_published_again() {
    for reduce_scatter in [false, true] {
        let store = Arc::<MemoryStore>::default();
        encoded(&store, reduce_scatter, &|ends| {
            ends.publish(1, 5, 0, gradient(1)).unwrap();
            assert!(ends.ends[1].settle(LONG).unwrap());
            assert_eq!(store.n_pieces(), if reduce_scatter { SLICES as usize } else { 1 });
            store.lose();
            ends.missing(5, 1, &[0]);
            ends.ends[1].publish_again().unwrap();
            ends.check(5, &[gradient(1)]);
        });
    }
}

#[test]
fn a_published_gradient_is_let_go_of_after_a_few_steps() {
    for reduce_scatter in [false, true] {
        encoded(&Arc::default(), reduce_scatter, &|ends| {
            let published: Vec<_> = (0..5).map(gradient).collect();
            for (step, gradient) in (0..).zip(&published) {
                ends.publish(1, step, 0, Arc::clone(gradient)).unwrap();
                ends.ends[1].collect(ends.step(step), 1, LONG).unwrap();
            }
            assert!(published[..3].iter().all(|gradient| Arc::strong_count(gradient) == 1));
        });
    }
}

#[test]
fn a_slice_whose_worker_is_gone_is_reduced_by_others() {
    let store = Arc::<MemoryStore>::default();
    encoded(&store, true, &|ends| {
        ends.publish(1, 5, 0, gradient(1)).unwrap();
        // Workers 1 and 2, which slices belong to as well, never collect.
        let found = ends.ends[0].collect(ends.step(5), 1, LONG).unwrap();
        assert!(matches!(found, Collected::Reduced(_)), "{found:?}");
    });
}

/// Counts how often something is read.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    reads: AtomicUsize,
}

impl Store for Counting {
    fn put(&self, pieces: &[(Name, Bytes)]) -> Result<(), ServiceError> {
        self.store.put(pieces)
    }
    fn get(&self, names: &[Name]) -> Result<Vec<Option<Bytes>>, ServiceError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.get(names)
    }
    fn delete(&self, names: &[Name]) -> Result<(), ServiceError> {
        self.store.delete(names)
    }
}

#[test]
fn who_catches_up_reads_many_steps_at_once() {
    let store = Arc::<Counting>::default();
    let end = |worker| EncodedExchange::new(worker, SLICES, &*MODEL, Arc::clone(&store) as _).unwrap();
    let (before, behind) = (end(1), end(0));
    (0..20).for_each(|step| before.publish(step, 0, gradient(step as u32), false).unwrap());
    assert!(before.settle(LONG).unwrap());
    // One that was lost, and is written again when somebody asks for it.
    let lost = Name::Gradient { step: 12, slot: 0 };
    let bytes = store.get(&[lost]).unwrap();
    store.delete(&[lost]).unwrap();
    store.reads.store(0, Ordering::Relaxed);
    let step = |step| Collect { step, present: 20, reduce_scatter: false, n_workers: 2 };
    for past in 0..20 {
        if past == 12 {
            assert_eq!(
                store.reads.load(Ordering::Relaxed),
                2,
                "the first step, whose size is not known, and the others"
            );
            let found = behind.collect(step(past), 1, Duration::ZERO).unwrap();
            assert!(matches!(found, Collected::Missing(_)), "{found:?}");
            store.put(&[(lost, bytes[0].clone().unwrap())]).unwrap();
        }
        check(&behind, step(past), &[gradient(past as u32)]);
    }
}

/// A server that cannot be reached any more.
struct Broken;

impl Store for Broken {
    fn put(&self, _: &[(Name, Bytes)]) -> Result<(), ServiceError> {
        let [place, problem, fix] = ["there", "no answer in time", "start it"].map(str::to_owned);
        Err(ServiceError { place, problem, kind: ErrorKind::Unavailable, fix })
    }
    fn get(&self, names: &[Name]) -> Result<Vec<Option<Bytes>>, ServiceError> {
        Ok(vec![None; names.len()])
    }
    fn delete(&self, _: &[Name]) -> Result<(), ServiceError> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_is_told_to_who_waits() {
    let exchange = EncodedExchange::new(0, SLICES, &*MODEL, Arc::new(Broken)).unwrap();
    exchange.publish(0, 0, gradient(1), false).unwrap();
    assert_eq!(exchange.settle(LONG).unwrap_err().to_string(), "there: no answer in time");
    let collect = Collect { step: 0, present: 0, reduce_scatter: false, n_workers: 2 };
    let told = exchange.collect(collect, 2, LONG).unwrap_err();
    assert_eq!(told.to_string(), "there: no answer in time");
    assert_eq!(exchange.publish(1, 0, gradient(1), false), Err(told));
}

#[test]
fn bytes_that_are_no_gradient_are_told_by_their_name() {
    let store = Arc::<MemoryStore>::default();
    encoded(&store, false, &|ends| {
        let name = Name::Gradient { step: 5, slot: 0 };
        store.put(&[(name, Bytes::from_static(b"GMgrxxxxxxxxxxxxxxxxxxxxxxxxxxxx"))]).unwrap();
        let error = ends.ends[0].collect(ends.step(5), 1, LONG).unwrap_err();
        assert!(error.to_string().starts_with("5/g0: "), "{error}");
    });
}

#[test]
fn traffic_and_sizes_are_counted() {
    let store = Arc::<MemoryStore>::default();
    encoded(&store, false, &|ends| {
        ends.publish(1, 0, 0, gradient(1)).unwrap();
        let mut sent = Vec::new();
        MODEL.encode_gradient(&gradient(1), Slice::WHOLE, &mut sent);
        assert_eq!(ends.ends[1].traffic().written, sent.len() as u64);
        ends.check(0, &[gradient(1)]);
        assert_eq!(ends.ends[0].traffic().read, sent.len() as u64);
        assert_eq!(ends.ends[1].traffic().read, 0, "its own it has");
        assert_eq!(ends.ends[0].sizes().map(|s| s.slot), Some(sent.len() as u64));
    });
}
