//! How fast invocations may begin.
//!
//! Lambda lets a function grow by 1,000 environments every 10 seconds (AWS Lambda developer guide, "Lambda function scaling"); what is
//! beyond that is refused or waits in Lambda's own queue, where nobody sees it.

use std::time::Duration;

/// A token bucket: so many at once, and so many a second after that. Time comes in as an argument.
#[derive(Clone, Debug)]
pub struct Ramp {
    burst: f64,
    per_second: f64,
    tokens: f64,
    seen: Duration,
}

impl Ramp {
    /// Environments that a function can have at once, from none.
    pub const BURST: u32 = 1000;
    /// Environments by which it then grows, a second.
    pub const PER_SECOND: u32 = 100;

    /// One of which nothing was taken.
    #[must_use]
    pub fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst: f64::from(burst),
            per_second: f64::from(per_second),
            tokens: f64::from(burst),
            seen: Duration::ZERO,
        }
    }

    /// Takes one at `now`; how long to wait before using it.
    pub fn take(&mut self, now: Duration) -> Duration {
        self.tokens += now.saturating_sub(self.seen).as_secs_f64() * self.per_second;
        self.tokens = self.tokens.min(self.burst) - 1.0;
        self.seen = self.seen.max(now);
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_thousand_begin_at_once_and_the_next_hundred_within_a_second() {
        let mut ramp = Ramp::new(Ramp::BURST, Ramp::PER_SECOND);
        let waits: Vec<Duration> = (0..1100).map(|_| ramp.take(Duration::ZERO)).collect();
        assert!(waits[..1000].iter().all(Duration::is_zero));
        assert_eq!(waits[1000], Duration::from_millis(10));
        assert_eq!(waits[1099], Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_it_may(
            burst in 1u32..20, per_second in 1u32..50, gaps in proptest::collection::vec(0u64..500, 1..200),
        ) {
            let mut ramp = Ramp::new(burst, per_second);
            let mut now = Duration::ZERO;
            let mut begun = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                begun.push(now + ramp.take(now));
            }
            prop_assert!(begun.is_sorted());
            for (i, first) in begun.iter().enumerate() {
                for (j, last) in begun.iter().enumerate().skip(i) {
                    let allowed = f64::from(burst) + (*last - *first).as_secs_f64() * f64::from(per_second);
                    prop_assert!((j - i + 1) as f64 <= allowed + 1e-6, "{} within {:?}", j - i + 1, *last - *first);
                }
            }
        }
    }
}
