//! The names of a run's exchange and queues. Whoever looks into the broker sees by them what belongs to whom.

use schemas::message::{Address, Party};

/// Names within a run.
#[derive(Clone, Debug)]
pub(super) struct Names {
    run: String,
}

impl Names {
    /// AMQP's names have at most 255 bytes; the rest is for the party.
    pub(super) const RUN_MAX: usize = 200;

    /// Names of `run`, if it can have any.
    pub(super) fn of(run: &str) -> Option<Self> {
        (1..=Self::RUN_MAX).contains(&run.len()).then(|| Self { run: run.to_owned() })
    }

    /// The fanout exchange that all worker queues are bound to.
    pub(super) fn exchange(&self) -> String {
        format!("gristmill.{}", self.run)
    }

    /// The queue of a party's life.
    pub(super) fn queue(&self, address: Address) -> String {
        let (run, Address { party, incarnation }) = (&self.run, address);
        match party {
            Party::Client => format!("gristmill.{run}.client.{incarnation}"),
            Party::Supervisor => format!("gristmill.{run}.supervisor.{incarnation}"),
            Party::Worker(number) => format!("gristmill.{run}.worker.{number}.{incarnation}"),
            Party::Watcher(number) => format!("gristmill.{run}.watcher.{number}.{incarnation}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        assert!(Names::of("").is_none());
        assert!(Names::of(&"r".repeat(201)).is_none());
        let names = Names::of(&"r".repeat(200)).unwrap();
        for party in [Party::Worker(u32::MAX), Party::Watcher(u32::MAX)] {
            assert!(names.queue(party.life(u32::MAX)).len() <= 255);
        }
        let names = Names::of("otter").unwrap();
        for (address, queue) in [
            (Party::Client.life(0), "gristmill.otter.client.0"),
            (Party::Supervisor.life(2), "gristmill.otter.supervisor.2"),
            (Party::Worker(12).life(3), "gristmill.otter.worker.12.3"),
            (Party::Watcher(7).life(0), "gristmill.otter.watcher.7.0"),
        ] {
            assert_eq!(names.queue(address), queue);
        }
        assert_eq!(names.exchange(), "gristmill.otter");
    }
}
