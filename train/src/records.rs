//! What a run leaves on record, step by step.

use std::time::Duration;

use schemas::records::{Counted, EvaluationRecord, HeldOut, StepRecord, StepTimings};
use serde::{Deserialize, Serialize};

/// The records of some steps, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Records {
    /// One entry a step.
    pub steps: Vec<StepRecord>,
    /// One entry an evaluation.
    pub evaluations: Vec<EvaluationRecord>,
    /// After which step, and what the model makes of the held-out rows, for each evaluation that was the best so far.
    pub held_out: Vec<(u64, HeldOut)>,
    /// One entry a worker and step.
    pub timings: Vec<(u32, StepTimings)>,
    /// Whose gradients counted: one entry a step and slot.
    pub counted: Vec<(u64, Counted)>,
    /// Time from the first step to the last, evaluations excluded.
    pub stepping: Duration,
}

/// How much of some records is written down elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// All steps before this one are.
    step: u64,
    /// The evaluations after all steps before this one are.
    evaluated: u64,
    /// So many timings are.
    timings: usize,
}

impl Records {
    /// The first step that is not on record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.step + 1)
    }

    /// Rows of all steps.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.steps.iter().map(|step| step.rows).sum()
    }

    /// Forgets `step` and all after it.
    pub fn truncate(&mut self, step: u64) {
        self.steps.retain(|s| s.step < step);
        self.evaluations.retain(|e| e.step < step);
        self.held_out.retain(|(s, _)| *s < step);
        self.timings.retain(|(_, t)| t.step < step);
        self.counted.retain(|(s, _)| *s < step);
    }

    /// Marks the steps before `step`, and all that is on record of them.
    #[must_use]
    pub fn mark(&self, step: u64) -> Mark {
        let evaluated = self.evaluations.iter().filter(|e| e.step < step).map(|e| e.step + 1).max();
        Mark { step, evaluated: evaluated.unwrap_or_default(), timings: self.timings.len() }
    }

    /// What is on record of the steps from `mark` on and before `end`. Timings come late and are told when they are there.
    #[must_use]
    pub fn between(&self, mark: Mark, end: u64) -> Self {
        Self {
            steps: self.steps.iter().filter(|s| (mark.step..end).contains(&s.step)).copied().collect(),
            evaluations: self.evaluations.iter().filter(|e| (mark.evaluated..end).contains(&e.step)).copied().collect(),
            held_out: self.held_out.iter().filter(|(s, _)| (mark.evaluated..end).contains(s)).cloned().collect(),
            timings: self.timings.iter().skip(mark.timings).copied().collect(),
            counted: self.counted.iter().filter(|(s, _)| (mark.step..end).contains(s)).copied().collect(),
            stepping: self.stepping,
        }
    }

    /// Adds what follows. Steps that are done again take the place of those that they were.
    pub fn extend(&mut self, next: Self) {
        if let Some(first) = next.steps.first() {
            self.steps.retain(|s| s.step < first.step);
            self.counted.retain(|(s, _)| *s < first.step);
            self.evaluations.retain(|e| e.step < first.step);
            self.held_out.retain(|(step, _)| *step < first.step);
        }
        if let Some(first) = next.evaluations.first() {
            self.evaluations.retain(|e| e.step < first.step);
            self.held_out.retain(|(step, _)| *step < first.step);
        }
        self.steps.extend(next.steps);
        self.evaluations.extend(next.evaluations);
        self.held_out.extend(next.held_out);
        self.timings.extend(next.timings);
        self.counted.extend(next.counted);
        self.stepping = next.stepping;
    }
}

#[cfg(test)]
mod tests {
    use schemas::records::{Counted, EvaluationRecord, HeldOut, StepRecord};

    use super::*;

    /// Steps of two slots each, with an evaluation after every third.
    fn records(steps: std::ops::Range<u64>) -> Records {
        let mut records = Records::default();
        for step in steps {
            records.steps.push(StepRecord {
                step,
                epoch: step / 3,
                time: Duration::ZERO,
                loss: 1.0,
                loss_sum: 1.0,
                rows: 1,
            });
            records.counted.extend([0, 1].map(|slot| (step, Counted { slot, worker: slot, incarnation: 0 })));
            if step % 3 == 2 {
                records.evaluations.push(EvaluationRecord {
                    epoch: step / 3,
                    step,
                    loss: 1.0,
                    clicks: None,
                    best: true,
                });
                records.held_out.push((step, HeldOut::Ratings(vec![(0.5, step, 0.0, 1.0)])));
            }
        }
        records
    }

    /// A checkpoint becomes valid some steps later, and the run may die then or end: whatever goes on from it repeats those steps.
    #[test]
    fn pieces_up_to_checkpoints_make_the_whole() {
        for (checkpoint, on_record, died) in [(4, 4, 5), (4, 6, 8), (3, 5, 5), (6, 9, 9)] {
            let mut pieces = vec![records(0..on_record).between(Mark::default(), checkpoint)];
            pieces.push(records(0..died).between(records(0..on_record).mark(checkpoint), u64::MAX));
            let mut again = Records::default();
            pieces.iter().for_each(|piece| again.extend(piece.clone()));
            assert_eq!(again, records(0..died), "the run ends at {died}");
            again.truncate(checkpoint);
            let mark = again.mark(checkpoint);
            again.extend(records(checkpoint..12));
            assert_eq!(again, records(0..12));
            pieces.push(again.between(mark, u64::MAX));
            let mut whole = Records::default();
            pieces.into_iter().for_each(|piece| whole.extend(piece));
            assert_eq!(whole, records(0..12), "{checkpoint} {on_record} {died}");
        }
    }

    /// A run that is stopped between an epoch's last step and its evaluation.
    #[test]
    fn an_evaluation_may_follow_its_step_in_the_next_piece() {
        let mut stopped = records(0..6);
        stopped.evaluations.truncate(1);
        stopped.held_out.truncate(1);
        let mut whole = stopped.between(Mark::default(), 6);
        whole.extend(records(0..9).between(stopped.mark(6), 9));
        assert_eq!(whole, records(0..9));
    }
}
