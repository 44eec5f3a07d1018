//! Draws from a list of values in constant time, each as often as its weight says.
//!
//! Source: Walker's alias method in the form of Vose, *A linear algorithm for generating random numbers with a given
//! distribution*, IEEE TSE 1991.

/// Values with their weights, ready to be drawn.
pub(super) struct Alias {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Probability of `own`, in multiples of 2^-32.
    keep_below: u32,
    own: u32,
    other: u32,
}

impl Alias {
    /// As many values as weights, which are positive or zero, and not all zero.
    pub(super) fn new(values: &[u32], weights: &[f64]) -> Self {
        let n = values.len();
        let sum: f64 = weights.iter().sum();
        let mut scaled: Vec<f64> = weights.iter().map(|w| w * n as f64 / sum).collect();
        let mut slots: Vec<Slot> =
            values.iter().map(|&value| Slot { keep_below: u32::MAX, own: value, other: value }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&slot| scaled[slot] < 1.0);
        while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
            small.pop();
            slots[less].keep_below = (scaled[less] * 2f64.powi(32)) as u32;
            slots[less].other = values[more];
            scaled[more] -= 1.0 - scaled[less];
            if scaled[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Self { slots }
    }

    /// Slots to choose from, as many as values.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A value, from a uniform `slot` in `0..len` and a uniform word.
    #[inline]
    pub(super) fn draw(&self, slot: usize, luck: u32) -> u32 {
        let Slot { keep_below, own, other } = self.slots[slot];
        if luck < keep_below { own } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use random::Stream;

    #[test]
    fn values_are_drawn_as_often_as_they_should() {
        let n = 50;
        let values: Vec<u32> = (0..n).map(|value| 1000 - value).collect();
        let weights: Vec<f64> = (0..n).map(|rank| (f64::from(rank) + 60.0).powf(-1.35)).collect();
        let sum: f64 = weights.iter().sum();
        let alias = Alias::new(&values, &weights);
        let draws = 400_000;
        let mut counts = vec![0u32; values.len()];
        let mut stream = Stream::new(2, "draws");
        for _ in 0..draws {
            let slot = stream.below(alias.len() as u64) as usize;
            counts[1000 - alias.draw(slot, stream.next_u64() as u32) as usize] += 1;
        }
        let chi2: f64 = weights
            .iter()
            .zip(counts)
            .map(|(weight, count)| {
                let expected = weight / sum * f64::from(draws);
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        // 99.99th percentile of chi-square with 49 degrees of freedom.
        assert!(chi2 < 94.0, "{chi2}");
    }
}
