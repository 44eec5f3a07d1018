//! The plan of a logistic regression.

use manifests::clicks::Form;
use manifests::load::Shards;
use schemas::clicks::Labels;
use schemas::dataset::Layout;
use schemas::report::{LogisticSettings, LrDecay, Reduce};
use train_core::lanes::Simd;
use train_core::logistic::Space;
use train_core::order::Schedule;

use super::{check_learning_rate, refuse, usage};
use crate::cli::TrainArgs;
use crate::error::Error;
use crate::memory::Memory;
use crate::model::logistic::Replica;

/// What is trained, and how.
#[derive(Clone, Debug)]
pub struct Task {
    /// Columns of the mini-batches.
    pub form: Form,
    /// What is known of the labels.
    pub labels: Labels,
    /// What the result depends on besides the manifest.
    pub settings: LogisticSettings,
}

impl Task {
    /// Training with `settings` on rows of `layout`, if these have labels.
    #[must_use]
    pub fn new(settings: LogisticSettings, layout: &Layout) -> Option<Self> {
        let (form, labels) = (Form::of(layout)?, layout.labels()?);
        Some(Self { form, labels, settings })
    }

    /// Log loss of always predicting the training rows' share of clicks: on the held-out rows, or on the training rows when
    /// none are held out.
    #[must_use]
    pub fn base_log_loss(&self) -> f64 {
        self.labels.holdout_base_log_loss.unwrap_or(self.labels.train_base_log_loss)
    }

    /// Memory for the weights of `space`.
    ///
    /// # Errors
    /// When the system does not give it.
    pub fn memory(&self, space: &Space) -> Result<Memory, Error> {
        Memory::new(Replica::floats(space) * size_of::<f32>())
    }

    /// The model at its start.
    #[must_use]
    pub fn replica<'m>(&self, space: Space, schedule: Schedule, memory: &'m mut Memory) -> Replica<'m> {
        Replica::new(Simd::detect(), self.form, space, self.settings.clone(), schedule, memory.of())
    }
}

/// Adam's learning rate when none is given: that of the thesis (table 4.2).
const LEARNING_RATE: f64 = 0.0075;

pub(super) fn resolve(args: &TrainArgs, step_batches: u32, shards: &Shards) -> Result<Task, Error> {
    let layout = &shards.manifest.layout;
    let given =
        [("--factors", args.factors.is_some()), ("--biases", args.biases), ("--momentum", args.momentum.is_some())];
    refuse(&given, layout.kind())?;
    let (Some(form), Some(labels)) = (Form::of(layout), layout.labels()) else {
        let problem = format!("the rows of `{}` have no labels", shards.name);
        return Err(usage(problem, "train on rows with labels; rows without can be scored with `train predict`"));
    };
    let settings = LogisticSettings {
        seed: args.seed,
        intercept: !args.no_intercept,
        learning_rate: args.learning_rate.unwrap_or(LEARNING_RATE),
        lr_decay: args.lr_decay.map_or(LrDecay::None, LrDecay::from),
        beta1: args.beta1.unwrap_or(0.9),
        beta2: args.beta2.unwrap_or(0.999),
        l2: args.l2,
        step_batches,
        reduce: args.reduce.map_or(Reduce::Mean, Reduce::from),
    };
    check(&settings)?;
    Ok(Task { form, labels, settings })
}

fn check(s: &LogisticSettings) -> Result<(), Error> {
    for (flag, beta, usual) in [("--beta1", s.beta1, 0.9), ("--beta2", s.beta2, 0.999)] {
        if !(0.0..=0.999_999).contains(&beta) {
            let problem = format!("{flag} {beta} is outside 0..=0.999999");
            return Err(usage(problem, &format!("{usual} is the default")));
        }
    }
    check_learning_rate(s.learning_rate, 1e3)?;
    if !(0.0..=1e3).contains(&s.l2) {
        return Err(usage(format!("--l2 {} is outside 0..=1000", s.l2), "0.000001 is a usual weight"));
    }
    Ok(())
}
