//! `timings.csv`, summed up while it is read: there may be millions of lines.

use std::collections::BTreeMap;

use crate::csv::{Lines, Wrong};

/// The parts of a step's time that follow one another, in the order of a step.
pub(crate) const PHASES: [&str; 7] = [
    "waiting for mini-batches",
    "computing gradients",
    "publishing gradients",
    "waiting for gradients",
    "reading gradients",
    "reducing and applying",
    "waiting for the supervisor",
];

/// Time over the steps is shown in so many columns at most.
const SPANS_MAX: u64 = 100;

/// Where the time of a run went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timings {
    /// Steps of a span.
    pub(crate) span: u64,
    /// All workers together, span by span.
    pub(crate) spans: Vec<Spent>,
    /// All steps together, worker by worker.
    pub(crate) workers: BTreeMap<u32, Spent>,
    /// Bytes of gradients that all workers published, step by step.
    pub(crate) written: Vec<u64>,
    /// Bytes of gradients that all workers read, step by step.
    pub(crate) read: Vec<u64>,
}

/// Microseconds that were spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Steps of workers that are counted in it.
    pub(crate) steps: u64,
    /// By phase.
    pub(crate) phases: [u64; PHASES.len()],
    /// Reading mini-batches in the background.
    pub(crate) fetch: u64,
    /// Decoding them in the background.
    pub(crate) decode: u64,
}

impl Spent {
    /// Adds what was spent elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        for (sum, more) in self.phases.iter_mut().zip(other.phases) {
            *sum = sum.saturating_add(more);
        }
        self.fetch = self.fetch.saturating_add(other.fetch);
        self.decode = self.decode.saturating_add(other.decode);
    }

    /// All phases together.
    pub(crate) fn total(&self) -> u64 {
        self.phases.iter().fold(0, |sum, phase| sum.saturating_add(*phase))
    }
}

impl Timings {
    /// Sums up the lines of a run of `n_steps`.
    pub(crate) fn read(csv: &[u8], n_steps: u64) -> Result<Self, Wrong> {
        let header = "worker,step,fetch_us,decode_us,batch_wait_us,compute_us,exchange_write_us,exchange_wait_us,\
                      exchange_read_us,apply_us,decision_us,bytes_written,bytes_read";
        let (lines, _) = Lines::open("timings.csv", csv, &[header])?;
        let span = n_steps.div_ceil(SPANS_MAX).max(1);
        let mut timings = Self {
            span,
            spans: vec![Spent::default(); n_steps.div_ceil(span) as usize],
            workers: BTreeMap::new(),
            written: vec![0; n_steps as usize],
            read: vec![0; n_steps as usize],
        };
        for mut line in lines {
            let (worker, step) = (line.small("worker")?, line.whole("step")?);
            if step >= n_steps {
                return Err(line.wrong(format!("`step` is {step}, must be below {n_steps}, the steps of history.csv")));
            }
            let (fetch, decode) = (line.whole("fetch_us")?, line.whole("decode_us")?);
            let mut spent = Spent { steps: 1, fetch, decode, ..Spent::default() };
            let columns = [
                "batch_wait_us",
                "compute_us",
                "exchange_write_us",
                "exchange_wait_us",
                "exchange_read_us",
                "apply_us",
                "decision_us",
            ];
            for (phase, column) in spent.phases.iter_mut().zip(columns) {
                *phase = line.whole(column)?;
            }
            let (written, read) = (line.whole("bytes_written")?, line.whole("bytes_read")?);
            line.end()?;
            timings.spans[(step / span) as usize].add(&spent);
            timings.workers.entry(worker).or_default().add(&spent);
            for (sum, bytes) in [(&mut timings.written, written), (&mut timings.read, read)] {
                sum[step as usize] = sum[step as usize].saturating_add(bytes);
            }
        }
        Ok(timings)
    }

    /// All workers and steps together.
    pub(crate) fn total(&self) -> Spent {
        let mut total = Spent::default();
        self.workers.values().for_each(|spent| total.add(spent));
        total
    }
}
