//! Names that no two writers share.

use std::hash::{BuildHasher, RandomState};

/// 128 bits that are new for every call and every process; they are unique, not secret.
pub(crate) fn token() -> String {
    // Keys of `RandomState` come from the system's random source; each new one differs.
    let half = || RandomState::new().hash_one((std::process::id(), std::thread::current().id()));
    format!("{:016x}{:016x}", half(), half())
}

/// A number from 0 up to 1, for jitter.
pub(crate) fn fraction() -> f64 {
    let high = (RandomState::new().hash_one(0) >> 32) as u32;
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        let tokens: std::collections::BTreeSet<String> = (0..1000).map(|_| token()).collect();
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().all(|token| token.len() == 32));
    }

    #[test]
    fn fractions_fill_the_unit_interval() {
        let mut fractions: Vec<f64> = (0..1000).map(|_| fraction()).collect();
        fractions.sort_by(f64::total_cmp);
        assert!(fractions[0] >= 0.0 && fractions[0] < 0.1 && fractions[999] < 1.0 && fractions[999] > 0.9);
    }
}
