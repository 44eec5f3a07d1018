//! Which rows are held out, by their number in the source.

use random::Stream;
use schemas::dataset::Holdout;

/// `holdout` in words.
pub(crate) fn shown(holdout: Option<Holdout>) -> String {
    holdout.map_or("none".to_owned(), |holdout| format!("{} (seed {})", holdout.fraction, holdout.seed))
}

/// The rule of a [`Holdout`], or that no row is held out.
#[derive(Clone, Debug)]
pub(crate) struct Rule(Option<(Stream, u64)>);

impl Rule {
    pub(crate) fn new(holdout: Option<Holdout>) -> Self {
        Self(holdout.map(|h| {
            // Exact: scaling by a power of two does not round, and no whole number lies between a number and its ceiling.
            let below = (h.fraction * 2f64.powi(64)).ceil() as u64;
            (Stream::new(h.seed, "holdout"), below)
        }))
    }

    /// Whether any row may be held out.
    pub(crate) const fn holds_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether row number `row` of the source is held out.
    #[inline]
    pub(crate) fn holds(&self, row: u64) -> bool {
        self.0.as_ref().is_some_and(|(stream, below)| stream.word(row) < *below)
    }
}
