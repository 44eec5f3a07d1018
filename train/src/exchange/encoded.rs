//! The exchange between workers that are processes: gradients as bytes in a [`Store`].
//!
//! *All to all*: every worker writes the gradients of its slots and reads those of all others.
//!
//! *Reduce and scatter*: a gradient is written in slices, one for each slot of a full step. Worker `slice mod workers` reads its slices
//! of all slots, reduces each to one and writes it; everybody reads the reduced slices. What a worker reduces is the same whoever
//! does it, so a slice that is not reduced for long is reduced by everyone who waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::message::Sizes;
use train_core::order::worker_of_slot;
use train_core::wire::Slice;

use super::store::{Name, Store};
use super::writer::Writer;
use super::{Collected, ExchangeError, Traffic, UpdateExchange};
use crate::model::Model;
use crate::protocol::worker::Collect;

/// How long to wait for what is missing before looking again, at least and at most: a quarter of the time that it was waited for.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// After this long without a reduced slice, everybody reduces it.
const TAKE_OVER: Duration = Duration::from_secs(2);

/// Steps whose pieces are kept by who wrote them, to write them again.
const KEPT_STEPS: usize = 2;

/// Who catches up reads about so many bytes of the steps to come at once, so that it takes few round trips.
const CATCH_UP_BYTES: u64 = 16 << 20;

/// And so many steps at most.
const CATCH_UP_STEPS: u64 = 32;

/// One worker's end of the exchange.
pub struct EncodedExchange<'a, M: Model> {
    worker: u32,
    n_slices: u32,
    model: &'a M,
    store: Arc<dyn Store>,
    writer: Writer,
    state: Mutex<State<M>>,
}

struct State<M: Model> {
    /// Gradients of this worker's own slots, of the last steps.
    own: VecDeque<(u64, u32, Arc<M::Gradient>)>,
    /// What this worker has written in the last steps.
    recent: VecDeque<(Name, Bytes)>,
    /// Names of all that it has written and not released.
    written: VecDeque<Name>,
    present: Option<Present<M::Gradient>>,
    /// Read before it is needed, of steps that are past.
    ahead: HashMap<Name, Bytes>,
    /// Bytes of a step that was read whole.
    step_bytes: u64,
    scratch: M::Scratch,
    spare: Vec<Arc<M::Gradient>>,
    traffic: Traffic,
    slot_bytes: u64,
    sizes: Option<Sizes>,
}

/// A step that is being collected.
struct Present<G> {
    collect: Collect,
    since: Instant,
    parts: Parts<G>,
    /// Whether it was looked for.
    looked: bool,
    /// Bytes that were read of it.
    read: u64,
}

enum Parts<G> {
    Slots(Vec<Option<Arc<G>>>),
    Slices(Vec<SliceParts<G>>),
}

/// Decoded gradients by their names.
type Pieces<G> = Vec<(Name, Arc<G>)>;

/// What there is of one slice.
struct SliceParts<G> {
    /// Slices of slots, where this worker reduces them.
    slots: Vec<Option<Arc<G>>>,
    mine: bool,
    reduced: Option<Arc<G>>,
}

impl<M: Model> State<M> {
    /// Keeps gradients that were read or reduced, for their buffers. Those of own slots are the worker's to use again, which it can only
    /// when nobody else holds them.
    fn set_aside(&mut self, gradients: impl IntoIterator<Item = Arc<M::Gradient>>) {
        let is_own = |gradient: &Arc<_>| self.own.iter().any(|(_, _, own)| Arc::ptr_eq(own, gradient));
        self.spare.extend(gradients.into_iter().filter(|gradient| !is_own(gradient)));
    }
}

impl<'a, M: Model> EncodedExchange<'a, M> {
    /// The end of `worker`. Gradients are cut into `n_slices` where they are cut.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(worker: u32, n_slices: u32, model: &'a M, store: Arc<dyn Store>) -> std::io::Result<Self> {
        let state = State {
            own: VecDeque::new(),
            recent: VecDeque::new(),
            written: VecDeque::new(),
            present: None,
            ahead: HashMap::new(),
            step_bytes: 0,
            scratch: M::Scratch::default(),
            spare: Vec::new(),
            traffic: Traffic::default(),
            slot_bytes: 0,
            sizes: None,
        };
        let writer = Writer::start(Arc::clone(&store))?;
        Ok(Self { worker, n_slices, model, store, writer, state: Mutex::new(state) })
    }

    const fn slice(&self, index: u32) -> Slice {
        Slice { index, n_slices: self.n_slices }
    }

    fn write(&self, state: &mut State<M>, pieces: Vec<(Name, Bytes)>) -> Result<(), ExchangeError> {
        state.traffic.written += pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        state.written.extend(pieces.iter().map(|(name, _)| *name));
        let newest = pieces.iter().map(|(name, _)| name.step()).max().unwrap_or_default();
        state.recent.retain(|(name, _)| name.step() + KEPT_STEPS as u64 > newest);
        state.recent.extend(pieces.iter().cloned());
        Ok(self.writer.put(pieces)?)
    }

    /// Begins to collect, or goes on.
    fn present(&self, state: &mut State<M>, collect: Collect, n_slots: u32) {
        if state.present.as_ref().is_some_and(|p| p.collect == collect) {
            return;
        }
        let own: Vec<_> = (0..n_slots)
            .map(|slot| {
                let mine = state.own.iter().find(|(step, s, _)| (*step, *s) == (collect.step, slot));
                mine.map(|(_, _, gradient)| Arc::clone(gradient))
            })
            .collect();
        let parts = if collect.reduce_scatter {
            let slice = |i| {
                let mine = worker_of_slot(i, collect.n_workers) == self.worker;
                SliceParts { slots: if mine { own.clone() } else { vec![None; own.len()] }, mine, reduced: None }
            };
            Parts::Slices((0..self.n_slices).map(slice).collect())
        } else {
            Parts::Slots(own)
        };
        state.ahead.retain(|name, _| name.step() >= collect.step && collect.is_past());
        state.present = Some(Present { collect, since: Instant::now(), parts, looked: false, read: 0 });
    }

    /// Reads what is missing and there; true when the step is complete.
    fn look(&self, state: &mut State<M>) -> Result<bool, ExchangeError> {
        let Some(mut present) = state.present.take() else { return Ok(false) };
        if !present.looked {
            present.looked = true;
            self.read_ahead(state, &present)?;
        }
        let before = state.traffic.read;
        let done = match &mut present.parts {
            Parts::Slots(slots) => self.look_for_slots(state, present.collect.step, slots),
            Parts::Slices(slices) => self.look_for_slices(state, &present.collect, present.since, slices),
        };
        present.read += state.traffic.read - before;
        state.present = Some(present);
        done
    }

    fn look_for_slots(
        &self,
        state: &mut State<M>,
        step: u64,
        slots: &mut [Option<Arc<M::Gradient>>],
    ) -> Result<bool, ExchangeError> {
        let missing = (0..).zip(&*slots).filter(|(_, slot)| slot.is_none());
        let names: Vec<Name> = missing.map(|(slot, _)| Name::Gradient { step, slot }).collect();
        for (name, gradient) in self.read(state, &names)? {
            if let Name::Gradient { slot, .. } = name {
                slots[slot as usize] = Some(gradient);
            }
        }
        Ok(slots.iter().all(Option::is_some))
    }

    fn look_for_slices(
        &self,
        state: &mut State<M>,
        collect: &Collect,
        since: Instant,
        slices: &mut [SliceParts<M::Gradient>],
    ) -> Result<bool, ExchangeError> {
        let step = collect.step;
        let late = since.elapsed() > TAKE_OVER;
        let mut names = Vec::new();
        for (slice, parts) in (0..).zip(&mut *slices) {
            if parts.reduced.is_some() {
                continue;
            }
            // Of a step that is past somebody has reduced it.
            if !parts.mine || collect.is_past() {
                names.push(Name::Reduced { step, slice });
            }
            if parts.mine && !collect.is_past() || late {
                parts.mine = true;
                let missing = (0..).zip(&parts.slots).filter(|(_, part)| part.is_none());
                names.extend(missing.map(|(slot, _)| Name::Slice { step, slot, slice }));
            }
        }
        for (name, gradient) in self.read(state, &names)? {
            match name {
                Name::Slice { slot, slice, .. } => slices[slice as usize].slots[slot as usize] = Some(gradient),
                Name::Reduced { slice, .. } => slices[slice as usize].reduced = Some(gradient),
                Name::Gradient { .. } => {}
            }
        }
        let mut pieces = Vec::new();
        for (slice, parts) in (0..).zip(&mut *slices) {
            if parts.reduced.is_none() && parts.mine && parts.slots.iter().all(Option::is_some) {
                let gradients: Vec<_> = parts.slots.iter().flatten().cloned().collect();
                let mut reduced = spare(&mut state.spare);
                let out = Arc::get_mut(&mut reduced).expect("a spare gradient is held by nobody else");
                self.model.reduce(&gradients, self.slice(slice), &mut state.scratch, out);
                let mut bytes = Vec::new();
                self.model.encode_gradient(out, self.slice(slice), &mut bytes);
                pieces.push((Name::Reduced { step, slice }, Bytes::from(bytes)));
                parts.reduced = Some(reduced);
            }
        }
        if !pieces.is_empty() {
            self.write(state, pieces)?;
        }
        Ok(slices.iter().all(|parts| parts.reduced.is_some()))
    }

    /// When `present` is past, and not read ahead already: reads it and the steps after it that are past, as many as fit.
    fn read_ahead(&self, state: &mut State<M>, present: &Present<M::Gradient>) -> Result<(), ExchangeError> {
        let Collect { step, present: end, .. } = present.collect;
        if end <= step + 1 || state.step_bytes == 0 || state.ahead.keys().any(|name| name.step() == step) {
            return Ok(());
        }
        let n_steps = (CATCH_UP_BYTES / state.step_bytes).clamp(1, CATCH_UP_STEPS);
        let steps = step..end.min(step + n_steps);
        let names: Vec<Name> = match &present.parts {
            Parts::Slots(slots) => {
                let n_slots = slots.len() as u32;
                steps.flat_map(|step| (0..n_slots).map(move |slot| Name::Gradient { step, slot })).collect()
            }
            Parts::Slices(slices) => {
                let n_slices = slices.len() as u32;
                steps.flat_map(|step| (0..n_slices).map(move |slice| Name::Reduced { step, slice })).collect()
            }
        };
        let there = names.iter().zip(self.store.get(&names)?).filter_map(|(name, bytes)| Some((*name, bytes?)));
        state.ahead.extend(there);
        Ok(())
    }

    /// Those of `names` that are there. What is there but no gradient of this model is an error: it is under this run's own name.
    fn read(&self, state: &mut State<M>, names: &[Name]) -> Result<Pieces<M::Gradient>, ExchangeError> {
        if names.is_empty() {
            return Ok(vec![]);
        }
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for &name in names {
            match state.ahead.remove(&name) {
                Some(bytes) => there.push((name, bytes)),
                None => missing.push(name),
            }
        }
        if !missing.is_empty() {
            let got = self.store.get(&missing)?;
            there.extend(missing.into_iter().zip(got).filter_map(|(name, bytes)| Some((name, bytes?))));
        }
        let mut read = Vec::new();
        for (name, bytes) in there {
            state.traffic.read += bytes.len() as u64;
            let slice = match name {
                Name::Gradient { .. } => Slice::WHOLE,
                Name::Slice { slice, .. } | Name::Reduced { slice, .. } => self.slice(slice),
            };
            if slice == Slice::WHOLE {
                state.slot_bytes = state.slot_bytes.max(bytes.len() as u64);
            }
            let mut gradient = spare(&mut state.spare);
            let out = Arc::get_mut(&mut gradient).expect("a spare gradient is held by nobody else");
            let decoded = self.model.decode_gradient(name.step() as u32, &bytes, slice, &mut state.scratch, out);
            decoded.map_err(|source| ExchangeError::Bytes { name, source })?;
            read.push((name, gradient));
        }
        Ok(read)
    }

    /// What a complete step is handed out as. Measures, once, what reducing it in slices would move.
    fn hand_out(&self, state: &mut State<M>) -> Collected<M::Gradient> {
        let Some(present) = state.present.take() else { return Collected::Missing(vec![]) };
        state.step_bytes = present.read;
        match present.parts {
            Parts::Slots(slots) => {
                let gradients: Vec<_> = slots.into_iter().flatten().collect();
                if state.sizes.is_none() {
                    let mut reduced = M::Gradient::default();
                    self.model.reduce(&gradients, Slice::WHOLE, &mut state.scratch, &mut reduced);
                    let mut bytes = Vec::new();
                    self.model.encode_gradient(&reduced, Slice::WHOLE, &mut bytes);
                    state.sizes = Some(Sizes { slot: state.slot_bytes, reduced: bytes.len() as u64 });
                }
                state.set_aside(gradients.iter().cloned());
                Collected::Slots(gradients)
            }
            Parts::Slices(slices) => {
                let reduced: Vec<_> = slices
                    .into_iter()
                    .filter_map(|parts| {
                        state.set_aside(parts.slots.into_iter().flatten());
                        parts.reduced
                    })
                    .collect();
                state.set_aside(reduced.iter().cloned());
                Collected::Reduced(reduced)
            }
        }
    }
}

impl<M: Model> UpdateExchange<M::Gradient> for EncodedExchange<'_, M> {
    fn publish(
        &self,
        step: u64,
        slot: u32,
        gradient: Arc<M::Gradient>,
        reduce_scatter: bool,
    ) -> Result<(), ExchangeError> {
        let state = &mut *self.locked();
        let mut pieces = Vec::new();
        let mut encode = |name, slice| {
            let mut bytes = Vec::new();
            self.model.encode_gradient(&gradient, slice, &mut bytes);
            pieces.push((name, Bytes::from(bytes)));
        };
        if reduce_scatter {
            (0..self.n_slices).for_each(|slice| encode(Name::Slice { step, slot, slice }, self.slice(slice)));
        } else {
            encode(Name::Gradient { step, slot }, Slice::WHOLE);
            state.slot_bytes = state.slot_bytes.max(pieces[0].1.len() as u64);
        }
        state.own.retain(|(s, k, _)| *s + KEPT_STEPS as u64 > step && (*s, *k) != (step, slot));
        state.own.push_back((step, slot, gradient));
        self.write(state, pieces)
    }

    fn settle(&self, wait: Duration) -> Result<bool, ExchangeError> {
        Ok(self.writer.settle(wait)?)
    }

    fn collect(&self, collect: Collect, n_slots: u32, wait: Duration) -> Result<Collected<M::Gradient>, ExchangeError> {
        let state = &mut *self.locked();
        self.present(state, collect, n_slots);
        let since = state.present.as_ref().map_or_else(Instant::now, |present| present.since);
        let deadline = Instant::now() + wait;
        loop {
            self.writer.check()?;
            if self.look(state)? {
                return Ok(self.hand_out(state));
            }
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Ok(Collected::Missing(missing(state)));
            }
            let pause = ((now - since) / 4).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1).min(left);
            std::thread::sleep(pause);
            state.traffic.waited += pause;
        }
    }

    fn publish_again(&self) -> Result<(), ExchangeError> {
        let pieces: Vec<_> = self.locked().recent.iter().cloned().collect();
        // What is on its way still is not lost.
        if pieces.is_empty() || !self.writer.is_idle() {
            return Ok(self.writer.check()?);
        }
        Ok(self.writer.put(pieces)?)
    }

    fn release(&self, step: u64) -> Result<(), ExchangeError> {
        let state = &mut *self.locked();
        let (gone, kept): (Vec<Name>, Vec<Name>) = state.written.iter().partition(|name| name.step() < step);
        if gone.is_empty() {
            return Ok(());
        }
        state.written = kept.into();
        Ok(self.writer.delete(gone)?)
    }

    fn traffic(&self) -> Traffic {
        std::mem::take(&mut self.locked().traffic)
    }

    fn sizes(&self) -> Option<Sizes> {
        self.locked().sizes
    }
}

impl<M: Model> EncodedExchange<'_, M> {
    fn locked(&self) -> std::sync::MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing<M: Model>(state: &State<M>) -> Vec<u32> {
    let absent = |slots: &[Option<Arc<M::Gradient>>]| -> Vec<u32> {
        (0..).zip(slots).filter(|(_, part)| part.is_none()).map(|(slot, _)| slot).collect()
    };
    match state.present.as_ref().map(|present| &present.parts) {
        Some(Parts::Slots(slots)) => absent(slots),
        Some(Parts::Slices(slices)) => {
            let slice = slices.iter().find(|parts| parts.reduced.is_none());
            slice.map_or_else(Vec::new, |parts| absent(&parts.slots))
        }
        None => vec![],
    }
}

/// A gradient that nobody uses any more, or a new one.
fn spare<G: Default>(spare: &mut Vec<Arc<G>>) -> Arc<G> {
    let free = spare.iter().position(|gradient| Arc::strong_count(gradient) == 1);
    free.map(|i| spare.swap_remove(i)).unwrap_or_default()
}
