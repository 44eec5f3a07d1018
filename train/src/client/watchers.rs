//! Who watches the run from elsewhere. A watcher says so every second and is sent the run as it is; one that says nothing is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemas::exit::ErrorKind;
use schemas::message::{Address, Message};

/// Watchers, at most.
const WATCHERS_MAX: usize = 8;

/// A watcher that has said nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How often watchers are shown the run.
const INTERVAL: Duration = Duration::from_millis(500);

/// The watchers of a run.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    heard: BTreeMap<Address, Instant>,
    shown: Option<Instant>,
}

impl Watchers {
    /// `watcher` wants to see the run. What it is told when it cannot.
    pub(super) fn hear(&mut self, watcher: Address, now: Instant) -> Option<Message> {
        self.forget(now);
        if self.heard.len() >= WATCHERS_MAX && !self.heard.contains_key(&watcher) {
            return Some(Message::Failed {
                kind: ErrorKind::Unavailable,
                error: format!("{WATCHERS_MAX} others watch the run, as many as can"),
                fix: Some("try again when one of them has ended".to_owned()),
            });
        }
        self.heard.insert(watcher, now);
        None
    }

    fn forget(&mut self, now: Instant) {
        self.heard.retain(|_, heard| now.saturating_duration_since(*heard) <= SILENCE_MAX);
    }

    /// Those who are to be shown the run now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Address> {
        if self.heard.is_empty() || self.shown.is_some_and(|shown| now < shown + INTERVAL) {
            return vec![];
        }
        self.shown = Some(now);
        self.forget(now);
        self.all()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Address> {
        self.heard.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use schemas::message::Party;

    use super::*;

    #[test]
    fn watchers_are_bounded_and_forgotten_when_they_are_silent() {
        let mut watchers = Watchers::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let watcher = |number| Party::Watcher(number).life(0);
        assert_eq!(watchers.due(at(0)), []);
        for number in 0..8 {
            assert_eq!(watchers.hear(watcher(number), at(100)), None);
        }
        assert!(matches!(watchers.hear(watcher(8), at(200)), Some(Message::Failed { .. })));
        assert_eq!(watchers.hear(watcher(7), at(4000)), None);
        assert_eq!(watchers.due(at(4000)).len(), 8);
        assert_eq!(watchers.due(at(4400)), [], "they were shown it a moment ago");
        assert_eq!(watchers.due(at(5200)), [watcher(7)]);
        assert_eq!(watchers.hear(watcher(8), at(5300)), None);
    }
}
