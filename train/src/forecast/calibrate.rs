//! Measures what a mini-batch, a gradient and a step take one worker in one thread, and how large gradients are.
//!
//! The worker trains: a step of eight mini-batches, of which it takes all but one for those of others; one of eight that it reduces in
//! slices; and one of a single mini-batch, by which the time of a step is told from that of its gradients. Times are medians, so that
//! what else the machine does now and then does not count. Waiting for storage does not count either: functions are nearer to it, or
//! further from it, than this machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reporting::interrupt;
use schemas::cost::{Calibration, ReducedBytes};
use train_core::order::epoch_order;
use train_core::wire::Slice;

use crate::error::Error;
use crate::model::{Model, Share};
use crate::plan::{Plan, Task};
use crate::reader::{BatchDecoder, Fetched, ReadAhead, Set};
use crate::{WAIT_MAX, output};

/// Mini-batches of the larger steps, and slices of their gradients.
const SLOTS: u32 = 8;
/// Gradients, at most, that are reduced to see how large the result is.
const REDUCED_MAX: u32 = 64;
/// Held-out mini-batches that are measured, at most.
const HOLDOUT_MAX: usize = 16;
/// Mini-batches that are fetched ahead of their use.
const READ_AHEAD: usize = 4;
/// Between two looks whether a mini-batch has come.
const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// The only worker.
const ALONE: Share = Share { worker: 0, n_workers: 1 };

/// Measures training as `plan` says for about `each`; it is to be known how large up to `slots_max` gradients are when reduced.
///
/// # Errors
/// When something stored is missing or wrong, there is no memory for a replica; a signal.
pub fn calibrate(plan: &Plan, each: Duration, slots_max: u32) -> Result<Calibration, Error> {
    match &plan.task {
        Task::Pmf(task) => measure(plan, &task.replica(&mut task.memory()?).with_residuals(), each, slots_max),
        Task::Logistic(task) => {
            let space = output::logistic::space(plan, task, &output::tables(plan)?)?;
            let mut memory = task.memory(&space)?;
            measure(plan, &task.replica(space, plan.schedule()?, &mut memory), each, slots_max)
        }
    }
}

fn measure<M: Model>(plan: &Plan, model: &M, each: Duration, slots_max: u32) -> Result<Calibration, Error> {
    let begun = Instant::now();
    let mut worker = Worker::new(plan, model)?;
    let reduced = worker.reduced_sizes(each, slots_max)?;
    // The first steps touch memory that the system has to give yet.
    worker.cycle()?;
    worker.times = Times::default();
    let started = Instant::now();
    let mut cycles = 0_u64;
    while cycles == 0 || started.elapsed() < each {
        worker.cycle()?;
        cycles += 1;
    }
    let holdout_seconds = worker.holdout(plan)?;
    let times = worker.times;
    let (small, large) = (median(times.apply_one), median(times.apply_all));
    let apply_gradient_seconds = ((large - small) / f64::from(SLOTS - 1)).max(0.0);
    let mean = |bytes: u64| bytes / times.n_gradients.max(1);
    Ok(Calibration {
        batches: times.batch.len() as u64,
        batch_seconds: median(times.batch),
        holdout_seconds,
        decode_seconds: median(times.decode),
        apply_seconds: (small - apply_gradient_seconds).max(0.0),
        apply_gradient_seconds,
        slice_seconds: median(times.slices) / f64::from(SLOTS),
        reduced_seconds: median(times.reduced),
        reduced_slots: SLOTS,
        slot_bytes: mean(times.slot_bytes),
        sliced_bytes: mean(times.sliced_bytes),
        reduced,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// The middle one; 0 of none.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
}

/// Seconds of each occurrence, and sums of bytes.
#[derive(Default)]
struct Times {
    batch: Vec<f64>,
    decode: Vec<f64>,
    apply_one: Vec<f64>,
    apply_all: Vec<f64>,
    slices: Vec<f64>,
    reduced: Vec<f64>,
    /// Gradients that were encoded both ways.
    n_gradients: u64,
    slot_bytes: u64,
    sliced_bytes: u64,
}

struct Worker<'a, M: Model> {
    model: &'a M,
    batches: ReadAhead,
    decoder: BatchDecoder<'a, M>,
    scratch: M::Scratch,
    step: u32,
    own: Vec<Arc<M::Gradient>>,
    foreign: Vec<Arc<M::Gradient>>,
    reduced: M::Gradient,
    times: Times,
}

fn gradients<G: Default>(n: u32) -> Vec<Arc<G>> {
    (0..n).map(|_| Arc::default()).collect()
}

/// A gradient to be written: between two uses nobody else holds it.
fn writable<G>(gradient: &mut Arc<G>) -> &mut G {
    Arc::get_mut(gradient).expect("nobody else holds a gradient of this worker")
}

const fn slice(index: u32) -> Slice {
    Slice { index, n_slices: SLOTS }
}

fn wire(error: train_core::wire::WireError) -> Error {
    Error::internal(error)
}

impl<'a, M: Model> Worker<'a, M> {
    fn new(plan: &Plan, model: &'a M) -> Result<Self, Error> {
        let shards = Arc::new(plan.shards.clone());
        let n_batches = u32::try_from(shards.batches.len()).map_err(Error::internal)?;
        let seed = plan.task.common().seed;
        let wanted = (0..u64::MAX).flat_map(move |epoch| epoch_order(seed, epoch, n_batches));
        Ok(Self {
            model,
            batches: ReadAhead::start(Arc::clone(&shards), Set::Train, wanted, READ_AHEAD)?,
            decoder: BatchDecoder::new(shards, model),
            scratch: M::Scratch::default(),
            step: 0,
            own: gradients(SLOTS),
            foreign: gradients(SLOTS),
            reduced: M::Gradient::default(),
            times: Times::default(),
        })
    }

    /// Computes the gradient of the next mini-batch; how it is encoded, and in how many seconds from the moment its bytes were there.
    fn compute(&mut self, gradient: &mut M::Gradient) -> Result<(Vec<u8>, f64), Error> {
        interrupt::check()?;
        let (fetched, seconds) = next(&self.batches)?;
        let begun = Instant::now();
        self.decoder.decode(fetched)?;
        self.model.gradient(self.step, self.decoder.batch(), &mut self.scratch, gradient);
        let mut bytes = Vec::new();
        self.model.encode_gradient(gradient, Slice::WHOLE, &mut bytes);
        Ok((bytes, seconds + begun.elapsed().as_secs_f64()))
    }

    /// How large 1, 2, 4, ... gradients are when reduced, as far as there is time.
    fn reduced_sizes(&mut self, time: Duration, slots_max: u32) -> Result<Vec<ReducedBytes>, Error> {
        let (begun, mut parts, mut sizes) = (Instant::now(), Vec::new(), Vec::new());
        let most = slots_max.clamp(2, REDUCED_MAX).next_power_of_two();
        for slots in 1..=most {
            if slots > 2 && begun.elapsed() > time {
                break;
            }
            let mut gradient = M::Gradient::default();
            self.compute(&mut gradient)?;
            parts.push(Arc::new(gradient));
            if slots.is_power_of_two() {
                self.model.reduce(&parts, Slice::WHOLE, &mut self.scratch, &mut self.reduced);
                let bytes = self.encoded(&self.reduced, Slice::WHOLE).len() as u64;
                sizes.push(ReducedBytes { slots, bytes });
            }
        }
        Ok(sizes)
    }

    /// The three steps.
    fn cycle(&mut self) -> Result<(), Error> {
        let encoded = self.compute_all(SLOTS)?;
        self.decode_all(&encoded)?;
        let applied = self.apply(SLOTS as usize);
        self.times.apply_all.push(applied);
        self.compute_all(SLOTS)?;
        self.in_slices()?;
        self.compute_all(1)?;
        let applied = self.apply(1);
        self.times.apply_one.push(applied);
        Ok(())
    }

    /// The gradients of so many mini-batches, encoded.
    fn compute_all(&mut self, slots: u32) -> Result<Vec<Vec<u8>>, Error> {
        let mut own = std::mem::take(&mut self.own);
        let mut encoded = Vec::new();
        for gradient in own.iter_mut().take(slots as usize) {
            let (bytes, seconds) = self.compute(writable(gradient))?;
            self.times.batch.push(seconds);
            encoded.push(bytes);
        }
        self.own = own;
        Ok(encoded)
    }

    /// Decodes gradients as if they were those of others.
    fn decode_all(&mut self, encoded: &[Vec<u8>]) -> Result<(), Error> {
        for (bytes, gradient) in encoded.iter().zip(&mut self.foreign) {
            let begun = Instant::now();
            let gradient = writable(gradient);
            self.model.decode_gradient(self.step, bytes, Slice::WHOLE, &mut self.scratch, gradient).map_err(wire)?;
            self.times.decode.push(begun.elapsed().as_secs_f64());
            self.times.slot_bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Applies so many gradients as a step; the seconds.
    fn apply(&mut self, slots: usize) -> f64 {
        let gradients = if slots == 1 { &self.own } else { &self.foreign };
        let begun = Instant::now();
        self.model.apply(self.step, &gradients[..slots], ALONE, &mut self.scratch);
        self.step += 1;
        begun.elapsed().as_secs_f64()
    }

    /// Reduces the step in slices and applies these.
    fn in_slices(&mut self) -> Result<(), Error> {
        let (mut seconds, mut encoded) = (0.0, Vec::new());
        for index in 0..SLOTS {
            let pieces: Vec<Vec<u8>> = self.own.iter().map(|own| self.encoded(own, slice(index))).collect();
            let begun = Instant::now();
            for (bytes, gradient) in pieces.iter().zip(&mut self.foreign) {
                let gradient = writable(gradient);
                self.model
                    .decode_gradient(self.step, bytes, slice(index), &mut self.scratch, gradient)
                    .map_err(wire)?;
            }
            self.model.reduce(&self.foreign, slice(index), &mut self.scratch, &mut self.reduced);
            encoded.push(self.encoded(&self.reduced, slice(index)));
            seconds += begun.elapsed().as_secs_f64();
            self.times.sliced_bytes += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        }
        self.times.n_gradients += u64::from(SLOTS);
        self.times.slices.push(seconds);
        let begun = Instant::now();
        for ((index, bytes), gradient) in (0..).zip(&encoded).zip(&mut self.foreign) {
            let gradient = writable(gradient);
            self.model.decode_gradient(self.step, bytes, slice(index), &mut self.scratch, gradient).map_err(wire)?;
        }
        self.model.apply_reduced(self.step, &self.foreign, ALONE, &mut self.scratch);
        self.step += 1;
        self.times.reduced.push(begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn encoded(&self, gradient: &M::Gradient, slice: Slice) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.model.encode_gradient(gradient, slice, &mut bytes);
        bytes
    }

    /// Seconds of a held-out mini-batch; 0 when there are none.
    fn holdout(&mut self, plan: &Plan) -> Result<f64, Error> {
        let n_batches = plan.shards.holdout_batches.len().min(HOLDOUT_MAX);
        let batches = ReadAhead::start(self.decoder.shards(), Set::Holdout, 0..n_batches as u32, READ_AHEAD)?;
        let mut times = Vec::new();
        for _ in 0..n_batches {
            interrupt::check()?;
            let (fetched, seconds) = next(&batches)?;
            let begun = Instant::now();
            self.decoder.decode(fetched)?;
            self.model.measure(self.step, self.decoder.batch(), &mut self.scratch);
            times.push(seconds + begun.elapsed().as_secs_f64());
        }
        Ok(median(times))
    }
}

/// The next mini-batch, and the seconds it took to take and check it once it was there.
fn next(batches: &ReadAhead) -> Result<(Fetched, f64), Error> {
    let waiting = Instant::now();
    loop {
        let begun = Instant::now();
        if let Some(fetched) = batches.next_if_there() {
            return Ok((fetched?, begun.elapsed().as_secs_f64()));
        }
        if waiting.elapsed() > WAIT_MAX {
            return Err(Error::Slow { seconds: WAIT_MAX.as_secs() });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![5.0, 900.0, 1.0]), 5.0);
        assert_eq!(median(vec![2.0, 1.0]), 2.0);
    }
}
