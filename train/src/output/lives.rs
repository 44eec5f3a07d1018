//! The lives of the workers of a run: `lives.csv`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::records::Records;

/// The file.
pub const LIVES: &str = "lives.csv";

/// Why a life of a worker began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeganBy {
    /// The run began, or went on.
    Start,
    /// The life before ran out of time and handed over.
    Handover,
    /// The life before died.
    Relaunch,
    /// There were to be more workers.
    Added,
}

impl BeganBy {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Handover => "handover",
            Self::Relaunch => "relaunch",
            Self::Added => "added",
        }
    }
}

/// Why each life began, by worker and incarnation.
pub type Begun = BTreeMap<(u32, u32), BeganBy>;

/// Steps in a row that gradients of one life counted in.
struct Stretch {
    incarnation: u32,
    first: u64,
    last: u64,
}

/// One line a life: those of which some gradient counted, and those that were `begun` but left nothing.
pub(super) fn lives(records: &Records, begun: &Begun) -> String {
    let mut workers: BTreeMap<u32, Vec<Stretch>> = begun.keys().map(|&(worker, _)| (worker, Vec::new())).collect();
    for &(step, counted) in &records.counted {
        let stretches = workers.entry(counted.worker).or_default();
        match stretches.last_mut().filter(|s| s.incarnation == counted.incarnation) {
            Some(stretch) => stretch.last = step,
            None => stretches.push(Stretch { incarnation: counted.incarnation, first: step, last: step }),
        }
    }
    let mut csv = "worker,incarnation,began_by,first_step,last_step\n".to_owned();
    for (worker, stretches) in &workers {
        // Each session counts lives from 0, so what comes before a lower or equal number was in an earlier one.
        let begins = (1..stretches.len()).rev().find(|&i| stretches[i].incarnation <= stretches[i - 1].incarnation);
        let (earlier, present) = stretches.split_at(begins.unwrap_or(0));
        for Stretch { incarnation, first, last } in earlier {
            let _ = writeln!(csv, "{worker},{incarnation},earlier_session,{first},{last}");
        }
        let mut present = present.iter().peekable();
        let silent = begun.range((*worker, 0)..=(*worker, u32::MAX)).map(|((_, incarnation), by)| (*incarnation, *by));
        for (incarnation, by) in silent {
            let stretch = present.next_if(|s| s.incarnation == incarnation);
            let steps = stretch.map_or(",".to_owned(), |s| format!("{},{}", s.first, s.last));
            let _ = writeln!(csv, "{worker},{incarnation},{},{steps}", by.name());
        }
        for Stretch { incarnation, first, last } in present {
            let _ = writeln!(csv, "{worker},{incarnation},{},{first},{last}", BeganBy::Start.name());
        }
    }
    csv
}

#[cfg(test)]
mod tests {
    use schemas::records::Counted;

    use super::*;

    fn records(counted: &[(u64, u32, u32)]) -> Records {
        let counted = counted
            .iter()
            .map(|&(step, worker, incarnation)| (step, Counted { slot: worker, worker, incarnation }))
            .collect();
        Records { counted, ..Records::default() }
    }

    #[test]
    fn each_life_has_its_steps_and_the_reason_for_it() {
        let records =
            records(&[(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 0, 1), (2, 1, 2), (3, 0, 1), (3, 1, 2)]);
        let begun = Begun::from([
            ((0, 0), BeganBy::Start),
            ((0, 1), BeganBy::Handover),
            ((1, 0), BeganBy::Start),
            ((1, 1), BeganBy::Relaunch),
            ((1, 2), BeganBy::Relaunch),
            ((2, 0), BeganBy::Added),
        ]);
        let lines = "0,0,start,0,1\n0,1,handover,2,3\n1,0,start,0,1\n1,1,relaunch,,\n1,2,relaunch,2,3\n2,0,added,,\n";
        assert_eq!(lives(&records, &begun).split_once('\n').unwrap().1, lines);
    }

    /// Threads have one life each, and nobody launches them.
    #[test]
    fn without_a_client_all_began_with_the_run() {
        let lines = lives(&records(&[(0, 0, 0), (0, 1, 0), (1, 0, 0)]), &Begun::new());
        assert_eq!(lines.split_once('\n').unwrap().1, "0,0,start,0,1\n1,0,start,0,0\n");
    }

    #[test]
    fn a_resumed_run_tells_its_sessions_apart() {
        let begun = Begun::from([((0, 0), BeganBy::Start), ((0, 1), BeganBy::Handover)]);
        let lines = lives(&records(&[(0, 0, 0), (1, 0, 1), (2, 0, 0), (3, 0, 1)]), &begun);
        let expected = "0,0,earlier_session,0,0\n0,1,earlier_session,1,1\n0,0,start,2,2\n0,1,handover,3,3\n";
        assert_eq!(lines.split_once('\n').unwrap().1, expected);
    }
}
