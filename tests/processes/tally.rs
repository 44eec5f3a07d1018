//! What is counted and shown of runs to which everything was done, whether their workers are processes or functions.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

/// The seeds of one parity: `GRISTMILL_FAULT_SEEDS` says how many there are, `GRISTMILL_SEED` that there is only this one.
pub(super) fn seeds(default: u64, parity: u64) -> impl Iterator<Item = u64> {
    let seeds = match (number("GRISTMILL_SEED"), number("GRISTMILL_FAULT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(default),
    };
    seeds.filter(move |seed| seed % 2 == parity)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

/// What was to happen when, and why the run had to be resumed, if it had.
pub(super) fn story<F: Debug>(agenda: &[(Duration, F)], resumed: Option<&String>) -> String {
    let agenda: Vec<String> = agenda.iter().map(|(at, fault)| format!("{fault:?} {:.1} s", at.as_secs_f64())).collect();
    agenda.join(", ") + &resumed.map(|why| format!("; resumed after: {why}")).unwrap_or_default()
}

/// How often each fault struck, and how often it came too early or late.
pub(super) struct Tally<F>(BTreeMap<F, [usize; 2]>);

impl<F: Ord + Copy + Debug> Tally<F> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, faults: Vec<(F, bool)>) {
        for (fault, struck) in faults {
            self.0.entry(fault).or_default()[usize::from(!struck)] += 1;
        }
    }

    pub(super) fn show(&self) {
        println!("fault              struck  too early or late");
        self.0.iter().for_each(|(fault, [struck, not])| println!("{:18} {struck:6}  {not:6}", format!("{fault:?}")));
    }

    /// Most must have hit a run that went on. Of a single seed that is not asked.
    #[track_caller]
    pub(super) fn most_have_struck(&self) {
        let sum = |i: usize| self.0.values().map(|counts| counts[i]).sum::<usize>();
        assert!(sum(0) > sum(1) || number("GRISTMILL_SEED").is_some(), "most faults must hit a run that goes on");
    }

    pub(super) fn struck(&self, fault: F) -> usize {
        self.0.get(&fault).map_or(0, |[struck, _]| *struck)
    }
}
