//! Everything that can happen to a run, at random moments: in the end the bits are those of a run that was left in peace.
//!
//! `GRISTMILL_FAULT_SEEDS` says how many seeds there are; `make test-faults` runs a hundred and shows the table.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline_tests::{Running, Said};
use random::Stream;

use super::parts::{Part, parts_of, signal};
use super::tally::{Tally, seeds, story};
use super::{KINDS, World};

/// Seeds of the two tests together: each fault once.
const SEEDS: u64 = FAULTS.len() as u64;
const WORKERS: u64 = 4;
const EPOCHS: [u32; 3] = [100, 60, 80];
const STRATEGIES: [&str; 3] = ["auto", "all-to-all", "reduce-scatter"];
/// Steps from one checkpoint to the next; of the last there is none.
const CHECKPOINTS: [u32; 3] = [10, 60, 100_000];
/// Workers are taken to be lost after three seconds, or after fifteen where the broker is away for a while.
const LONG_PAUSE: Duration = Duration::from_millis(4500);

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    KillSupervisor,
    KillThreeWorkers,
    KillClient,
    PauseWorker,
    PauseSupervisor,
    RedisEmptied,
    RedisCut,
    BrokerStopped,
    BrokerKilled,
    BrokerCut,
    Scale,
    TimeLimit,
    /// Lets the process with this number go on.
    Continue(u32),
}

const FAULTS: [Fault; 13] = [
    Fault::KillWorker,
    Fault::KillSupervisor,
    Fault::BrokerStopped,
    Fault::KillThreeWorkers,
    Fault::RedisEmptied,
    Fault::BrokerKilled,
    Fault::PauseWorker,
    Fault::KillClient,
    Fault::Scale,
    Fault::TimeLimit,
    Fault::BrokerCut,
    Fault::RedisCut,
    Fault::PauseSupervisor,
];

/// A run and what is done to it.
#[derive(Debug)]
struct Trial {
    seed: u64,
    kind: usize,
    strategy: &'static str,
    checkpoint_every: u32,
    /// In the order in which they happen.
    agenda: Vec<(Duration, Fault)>,
    stream: Stream,
}

/// A run that was left in peace.
struct Peace {
    digests: [String; 2],
    seconds: f64,
}

/// What came of a trial.
struct Result {
    faults: Vec<(Fault, bool)>,
    /// Why it had to be.
    resumed: Option<String>,
    relaunched: usize,
    seconds: f64,
}

impl Trial {
    fn new(seed: u64, peace: &[Peace]) -> Self {
        let mut stream = Stream::new(seed, "faults");
        let kind = stream.below(KINDS.len() as u64) as usize;
        let strategy = STRATEGIES[stream.below(3) as usize];
        let checkpoint_every = CHECKPOINTS[stream.below(3) as usize];
        let mut faults = vec![FAULTS[(seed % SEEDS) as usize]];
        // Half of the runs have further trouble.
        while stream.below(2) == 0 && faults.len() < 4 {
            faults.push(FAULTS[stream.below(SEEDS) as usize]);
        }
        let moment = |fault| {
            let moment = if fault == Fault::TimeLimit { 0.0 } else { stream.unit() * peace[kind].seconds };
            (Duration::from_secs_f64(moment), fault)
        };
        let mut agenda: Vec<_> = faults.into_iter().map(moment).collect();
        agenda.sort_unstable();
        Self { seed, kind, strategy, checkpoint_every, agenda, stream }
    }

    /// The settings that the result depends on.
    fn settings(kind: usize) -> String {
        let (name, epochs) = (KINDS[kind], EPOCHS[kind]);
        format!("--manifest {name}.json --step-batches 8 --max-epochs {epochs} --patience 1000")
    }

    fn arguments(&self) -> String {
        let without_broker = [Fault::BrokerStopped, Fault::BrokerKilled];
        // A broker takes six seconds to start, and while there is none nobody hears of anybody.
        let timeout = if self.agenda.iter().any(|(_, fault)| without_broker.contains(fault)) { "15s" } else { "3s" };
        let limit = self.agenda.iter().any(|(_, fault)| *fault == Fault::TimeLimit);
        format!(
            "{} --launch process --workers {WORKERS} --strategy {} --checkpoint-every {} --worker-timeout {timeout} {}",
            Self::settings(self.kind),
            self.strategy,
            self.checkpoint_every,
            if limit { "--time-limit 3s" } else { "" },
        )
    }

    /// Runs it, does everything to it that is to be done, and looks at what came of it.
    fn carry_out(mut self, world: &mut World, peace: &Peace) -> Result {
        let run = format!("seed{}", self.seed);
        let what = format!("{self:?}");
        let mut running = world.train(&run, &self.arguments());
        let mut done = Vec::new();
        while !self.agenda.is_empty() {
            let (moment, fault) = self.agenda.remove(0);
            while running.ended().is_none() && running.elapsed() < moment {
                std::thread::sleep(Duration::from_millis(2));
            }
            let alive = running.ended().is_none();
            let struck = alive && self.strike(world, &mut running, &run, fault);
            if !matches!(fault, Fault::Continue(_)) {
                done.push((fault, struck));
            }
        }
        let said = world.end(&mut running, &run, &what);
        world.nobody_is_left(&run, &what);
        let mut seconds = said.seconds;
        let relaunched = said.stderr.matches("is launched again").count();
        let mut resumed = None;
        let mut last = said;
        if last.code != Some(0) {
            let error = last.stderr.lines().find(|line| line.contains("error:"));
            resumed = Some(error.unwrap_or("the client was killed").to_owned());
            if last.code.is_some() {
                last.failed_in_order();
            }
            let mut again = world.start(&format!("train --resume {} --workers 3", world.run(&run)));
            let earlier = last.stderr;
            last = world.end(&mut again, &run, &format!("resumed after {what}: {earlier}"));
            seconds += last.seconds;
            assert_eq!(last.code, Some(0), "{what}: {earlier}\nresumed: {last:#?}");
        }
        self.check(world, &run, &last, peace, &what);
        Result { faults: done, resumed, relaunched, seconds }
    }

    fn check(&self, world: &World, run: &str, said: &Said, peace: &Peace, what: &str) {
        assert_eq!(said.digests(), peace.digests, "{what}: {said:#?}");
        world.verified(run);
        world.is_whole(run, what);
        world.nobody_is_left(run, what);
        assert_eq!(world.redis.keys_for_ever(), [""; 0], "{what}: left for ever");
        let _ = world.redis.command(&["flushall"]);
        std::fs::remove_dir_all(world.run(run)).unwrap();
    }

    /// Does it; whether there was anything to do it to.
    fn strike(&mut self, world: &mut World, running: &mut Running, run: &str, fault: Fault) -> bool {
        let parts = parts_of(&world.run(run));
        if let Fault::Continue(pid) = fault {
            parts.iter().filter(|part| part.pid == pid).for_each(|part| signal(part.pid, "CONT"));
            return true;
        }
        let (supervisors, mut workers): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|p| p.worker.is_none());
        self.stream.shuffle(&mut workers);
        match fault {
            Fault::KillWorker => workers.truncate(1),
            Fault::KillThreeWorkers => workers.truncate(3),
            Fault::KillSupervisor | Fault::PauseSupervisor => workers = supervisors,
            Fault::PauseWorker => workers.truncate(1),
            _ => {}
        }
        match fault {
            Fault::KillWorker | Fault::KillThreeWorkers | Fault::KillSupervisor => {
                workers.iter().for_each(|part| signal(part.pid, "KILL"));
                return !workers.is_empty();
            }
            Fault::PauseWorker | Fault::PauseSupervisor => {
                for part in &workers {
                    signal(part.pid, "STOP");
                    // Or for ever.
                    if self.stream.below(2) == 0 {
                        self.agenda.push((running.elapsed() + LONG_PAUSE, Fault::Continue(part.pid)));
                    }
                }
                self.agenda.sort_unstable();
                return !workers.is_empty();
            }
            Fault::KillClient => signal(running.id(), "KILL"),
            Fault::RedisEmptied => world.redis.kill_and_restart_empty(),
            Fault::RedisCut => drop(world.redis.command(&["client", "kill", "type", "normal"])),
            Fault::BrokerStopped => {
                world.broker.stop();
                world.broker.start_again();
            }
            Fault::BrokerKilled => {
                world.broker.kill();
                world.broker.start_again();
            }
            Fault::BrokerCut => drop(world.broker.control(&["close_all_connections", "cut"])),
            Fault::Scale => {
                let workers = [2, 3, 5, 7][self.stream.below(4) as usize];
                let said = world.done(&format!("train scale {} --workers {workers}", world.run(run)));
                // The run may be over, or not have begun.
                if said.code != Some(0) {
                    said.failed_in_order();
                    return false;
                }
            }
            Fault::TimeLimit | Fault::Continue(_) => {}
        }
        true
    }
}

/// All seeds of one parity, on servers of their own.
fn tried(parity: u64) {
    let mut world = World::new();
    let peace: Vec<Peace> = (0..KINDS.len())
        .map(|kind| {
            let digests = world.expected(&Trial::settings(kind));
            let run = format!("peace{kind}");
            let arguments = format!("{} --launch process --workers {WORKERS}", Trial::settings(kind));
            let said = world.end(&mut world.train(&run, &arguments), &run, &run);
            assert_eq!(said.digests(), digests);
            Peace { digests, seconds: said.seconds }
        })
        .collect();
    let seconds: Vec<String> = peace.iter().map(|p| format!("{:.1} s", p.seconds)).collect();
    println!("in peace: {}", seconds.join(", "));
    let mut tally = Tally::new();
    let (mut resumed, mut relaunched, mut slowest) = (0, 0, (0.0, 0));
    for seed in seeds(SEEDS, parity) {
        let trial = Trial::new(seed, &peace);
        let kind = trial.kind;
        let what = format!("{seed:4}  {:8} {:15} {:6}", KINDS[kind], trial.strategy, trial.checkpoint_every);
        let agenda = trial.agenda.clone();
        let result = trial.carry_out(&mut world, &peace[kind]);
        println!(
            "{what}  {:5.1} s  {:2} launched again  {}",
            result.seconds,
            result.relaunched,
            story(&agenda, result.resumed.as_ref()),
        );
        tally.add(result.faults);
        resumed += usize::from(result.resumed.is_some());
        relaunched += result.relaunched;
        if result.seconds > slowest.0 {
            slowest = (result.seconds, seed);
        }
    }
    tally.show();
    println!(
        "{relaunched} launched again, {resumed} resumed, the slowest took {:.1} s (seed {})",
        slowest.0, slowest.1
    );
    tally.most_have_struck();
    what_is_left(&world, tally.struck(Fault::KillClient));
}

/// Only so many sessions leave queues, and those go away. The exchange goes with the last queue that is bound to it.
pub(super) fn what_is_left(world: &World, sessions_max: usize) {
    let queues = world.queues();
    let party = |name: &str| [".client.", ".supervisor.", ".worker."].iter().find_map(|party| name.find(party));
    let sessions: BTreeSet<&str> = queues.iter().map(|(name, _)| &name[..party(name).unwrap_or(name.len())]).collect();
    assert!(
        sessions.len() <= sessions_max,
        "{sessions:?} are left in RabbitMQ, and {sessions_max} clients were killed"
    );
    assert!(queues.iter().all(|(name, expiry)| *expiry > 0 || party(name).is_none()), "{queues:?}");
}

#[test]
fn the_same_bits_whatever_happens_even() {
    tried(0);
}

#[test]
fn the_same_bits_whatever_happens_odd() {
    tried(1);
}
