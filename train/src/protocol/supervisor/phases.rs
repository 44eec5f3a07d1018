//! What the workers are at, as far as the supervisor knows it from their messages.

use std::time::Duration;

use schemas::live::{Lane, Phase, Shares};
use schemas::message::Task;

use super::{Member, Supervisor};

/// In a turn that is younger than this, who has reported and who has not changes faster than anybody looks.
const LONG: Duration = Duration::from_secs(1);

impl Supervisor {
    /// One lane for each worker that there should be, or that still has work.
    #[must_use]
    pub fn lanes(&self, now: Duration) -> Vec<Lane> {
        let n = self.target.max(self.directive.n_workers);
        let lane = |(worker, member): (u32, &Member)| Lane {
            worker,
            incarnation: member.incarnation,
            phase: self.phase(worker, member, now),
            silence: u32::try_from(now.saturating_sub(member.heard.unwrap_or_default()).as_secs()).unwrap_or(u32::MAX),
            shares: Shares::default(),
            bytes: 0,
        };
        (0..n).zip(&self.members).map(lane).collect()
    }

    fn phase(&self, worker: u32, member: &Member, now: Duration) -> Phase {
        if member.heard.is_none() {
            return Phase::Starting;
        }
        if member.leaves_by.is_some_and(|end| now < end) {
            return Phase::Leaving;
        }
        if worker >= self.directive.n_workers {
            return Phase::CatchingUp;
        }
        if self.pending.iter().any(|p| p.save.worker == worker && p.stored.is_none()) {
            return Phase::Storing;
        }
        let reported = member.reported == self.directive.turn;
        match self.directive.task {
            _ if now.saturating_sub(self.turn_began) < LONG => Phase::Stepping,
            _ if reported => Phase::Waiting,
            Task::Step => Phase::Computing,
            Task::Evaluate { .. } => Phase::Evaluating,
            Task::End { .. } => Phase::Ending,
        }
    }
}
