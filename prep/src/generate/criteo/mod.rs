//! A click log shaped like Criteo's: missing values, heavy tails and vocabularies of the real one, and labels that depend on them.
//!
//! A row clicks with probability `1 / (1 + exp(-z))`, where `z` is a constant, plus a term for each number present, straight in
//! its logarithm, plus a weight for each token present, which is fixed by column and token. So logistic regression on tokens has
//! something to learn, and the entropy of these probabilities is the least log loss that any model can reach.
//!
//! The world (what tokens there are and what they weigh) is the same for every seed; the seed draws the rows. Everything about a
//! row comes from a stream of its own. There is no I/O here.

mod columns;
mod draw;
mod line;

use random::Stream;

use self::columns::{ABSENCES, CATEGORICAL, NUMERIC};
use self::draw::{Numbers, Tokens};
use self::line::Line;
use super::{Pieces, Tally};

/// Rows that are made at a time, by one thread. The sum of their entropies is rounded once for each piece, so this is part of
/// what is printed.
const ROWS_AT_A_TIME: u64 = 1024;
/// The constant of the logit: 25.6 % of the rows click.
const INTERCEPT: f32 = -1.403;

/// Everything that is fixed before the rows.
pub(super) struct World {
    rows: u64,
    streams: Stream,
    /// A value is missing when its word is below.
    absent_below: [u64; ABSENCES.len()],
    numbers: Vec<Numbers>,
    tokens: Vec<Tokens>,
}

impl World {
    /// The world with the rows that `seed` draws.
    pub(super) fn new(seed: u64, rows: u64) -> Self {
        Self {
            rows,
            streams: Stream::new(seed, "criteo"),
            absent_below: ABSENCES.map(|share| (share * 2f64.powi(64)) as u64),
            numbers: NUMERIC.iter().map(Numbers::new).collect(),
            tokens: (1..).zip(&CATEGORICAL).map(|(column, shape)| Tokens::new(shape, column)).collect(),
        }
    }

    /// Puts row `row` in `line`; the logit of its click and a word to draw the label with.
    #[inline]
    fn features(&self, row: u64, line: &mut Line) -> (f64, f64) {
        let mut stream = self.streams.at(row);
        let luck = stream.unit();
        let is_present = self.absent_below.map(|below| stream.next_u64() >= below);
        let mut logit = INTERCEPT;
        line.begin();
        for (numbers, shape) in self.numbers.iter().zip(&NUMERIC) {
            let (value, term) = numbers.draw((stream.next_u64() >> 32) as u32);
            let is_present = is_present[shape.absence];
            line.number(value, is_present);
            logit += term * f32::from(u8::from(is_present));
        }
        for (tokens, shape) in self.tokens.iter().zip(&CATEGORICAL) {
            let (token, weight) = tokens.draw(stream.next_u64());
            let is_present = is_present[shape.absence];
            line.token(token, is_present);
            logit += weight * f32::from(u8::from(is_present));
        }
        (logit.into(), luck)
    }
}

impl Pieces for World {
    type Scratch = ();

    const HEADER: &'static [u8] = b"";

    fn scratch(&self) {}

    fn write(&self, number: u64, (): &mut (), text: &mut Vec<u8>) -> Option<Tally> {
        let first = number.checked_mul(ROWS_AT_A_TIME).filter(|&first| first < self.rows)?;
        let mut tally = Tally { rows: ROWS_AT_A_TIME.min(self.rows - first), ..Tally::default() };
        let mut line = Line::new();
        for row in first..first + tally.rows {
            let (logit, luck) = self.features(row, &mut line);
            let (probability, entropy) = click(logit);
            let label = luck < probability;
            text.extend_from_slice(line.finish(label));
            tally.clicks += u64::from(label);
            tally.entropy += entropy;
        }
        Some(tally)
    }
}

/// The probability of a click and its entropy in nats.
#[inline]
fn click(logit: f64) -> (f64, f64) {
    // With a = |z|: the rarer outcome has probability 1 / (1 + e^a), and the entropy is ln(1 + e^-a) + a / (1 + e^a).
    let size = logit.abs();
    let odds = libm::exp(-size);
    let rarer = odds / (1.0 + odds);
    (if logit < 0.0 { rarer } else { 1.0 - rarer }, libm::log1p(odds) + size * rarer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probability_and_entropy_are_those_of_a_coin() {
        // By hand: p = 1/2, 1/4 (z = -ln 3), 9/10 (z = ln 9); H = ln 2, 0.25 ln 4 + 0.75 ln(4/3), 0.9 ln(10/9) + 0.1 ln 10.
        for (logit, probability, entropy) in [
            (0.0, 0.5, std::f64::consts::LN_2),
            (-(3f64.ln()), 0.25, 0.562_335_144_618_808_3),
            (9f64.ln(), 0.9, 0.325_082_973_391_448_2),
            (-800.0, 0.0, 0.0),
            (800.0, 1.0, 0.0),
        ] {
            let (p, h) = click(logit);
            assert!((p - probability).abs() < 1e-15 && (h - entropy).abs() < 1e-15, "{logit}: {p} {h}");
        }
    }
}
