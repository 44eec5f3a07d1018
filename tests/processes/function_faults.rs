//! Everything that can happen to functions, at random moments: in the end the bits are those of a run on threads, or there is one
//! error and a run that can be resumed to them.
//!
//! `GRISTMILL_FAULT_SEEDS` says how many seeds there are, `GRISTMILL_SEED` that there is only this one; `make test-faults` runs a hundred and
//! shows the table.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_tests::Running;
use random::Stream;
use services::{Deployment, Fault as Answered, FaultProxy, MiniStack, Request};

use super::faults::what_is_left;
use super::functions::Cloud;
use super::parts::signal;
use super::tally::{Tally, seeds, story};

const SEEDS: u64 = FAULTS.len() as u64;
const SETTINGS: [&str; 2] = [
    "sparse.json --step-batches 8 --max-epochs 40 --patience 1000",
    "ratings.json --step-batches 8 --max-epochs 50 --patience 1000",
];
/// Functions, and seconds that they may live. Of the first none hands over, of the second everybody does.
const FUNCTIONS: [(&str, u32); 2] = [("long", 120), ("short", 7)];

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The process that was started last: in its cold start, while it joins, or while it waits for the one that it succeeds.
    KillYoungest,
    /// The process that was started first: it works, or hands over.
    KillOldest,
    KillAny,
    KillThree,
    /// For longer than it takes to be given up; it may go on afterwards.
    Pause,
    /// Lambda answers 429 to the next invocations, whether the first ones or those of successors.
    Throttled,
    /// Lambda accepts the next events, and its answer is lost, so that they are sent again.
    Duplicated,
    /// Lambda accepts the next event, and nothing comes of it.
    NeverStarts,
    KillClient,
    RedisEmptied,
    BrokerCut,
    /// Lets the process with this number go on.
    Continue(u32),
}

const FAULTS: [Fault; 11] = [
    Fault::Throttled,
    Fault::KillOldest,
    Fault::Duplicated,
    Fault::KillYoungest,
    Fault::NeverStarts,
    Fault::Pause,
    Fault::KillAny,
    Fault::KillThree,
    Fault::RedisEmptied,
    Fault::KillClient,
    Fault::BrokerCut,
];

/// What Lambda answers to the next invocations, and to how many.
type Trouble = Arc<Mutex<(u64, Option<Answered>)>>;

/// Servers, and a way to Lambda on which there may be trouble.
struct Place {
    cloud: Cloud,
    proxy: FaultProxy,
    trouble: Trouble,
}

impl Place {
    fn new() -> Self {
        let cloud = Cloud::new();
        let trouble = Trouble::default();
        let proxy = FaultProxy::start(cloud.lambda.port(), {
            let trouble = Arc::clone(&trouble);
            move |request: &Request| {
                let mut trouble = trouble.lock().unwrap();
                if trouble.0 == 0 || !request.target.contains("/invocations") {
                    return Answered::Pass;
                }
                trouble.0 -= 1;
                trouble.1.clone().unwrap()
            }
        });
        let cold_start = Duration::from_millis(300)..=Duration::from_millis(900);
        for (name, seconds) in FUNCTIONS {
            let deployment =
                Deployment { timeout_seconds: seconds, cold_start: cold_start.clone(), ..cloud.deployment() };
            cloud.lambda.deploy(name, &deployment);
        }
        Self { cloud, proxy, trouble }
    }

    fn troubled(&self, invocations: u64, answer: Answered) {
        *self.trouble.lock().unwrap() = (invocations, Some(answer));
    }

    fn run(&self, run: &str) -> String {
        format!("s3://{}/runs/{run}", self.cloud.storage.bucket())
    }

    fn start(&self, line: &str) -> Running {
        self.cloud.start_by(line, MiniStack::env_of(&self.proxy.url()))
    }
}

/// A run and what is done to it.
#[derive(Debug)]
struct Trial {
    seed: u64,
    kind: usize,
    function: &'static str,
    supervisor: &'static str,
    /// In the order in which they happen.
    agenda: Vec<(Duration, Fault)>,
    stream: Stream,
}

/// What came of a trial.
struct Outcome {
    faults: Vec<(Fault, bool)>,
    /// Why it had to be.
    resumed: Option<String>,
    seconds: f64,
    handovers: u64,
    relaunches: u64,
}

impl Trial {
    fn new(seed: u64, seconds: [f64; 2]) -> Self {
        let mut stream = Stream::new(seed, "function faults");
        let kind = stream.below(2) as usize;
        let function = FUNCTIONS[stream.below(2) as usize].0;
        let supervisor = ["function", "function", "client"][stream.below(3) as usize];
        let mut faults = vec![FAULTS[(seed % SEEDS) as usize]];
        // Half of the runs have further trouble.
        while stream.below(2) == 0 && faults.len() < 4 {
            faults.push(FAULTS[stream.below(SEEDS) as usize]);
        }
        let of_launching = [Fault::Throttled, Fault::Duplicated, Fault::NeverStarts];
        let moment = |fault| {
            // Where nobody hands over, functions are launched in the beginning alone.
            let from_the_start = of_launching.contains(&fault) && (function == "long" || stream.below(2) == 0);
            (Duration::from_secs_f64(if from_the_start { 0.0 } else { stream.unit() * seconds[kind] }), fault)
        };
        let mut agenda: Vec<_> = faults.into_iter().map(moment).collect();
        agenda.sort_unstable();
        Self { seed, kind, function, supervisor, agenda, stream }
    }

    fn carry_out(mut self, place: &mut Place, expected: &[String; 2]) -> Outcome {
        let what = format!("{self:?}");
        let run = place.run(&format!("seed{}", self.seed));
        let bucket = place.cloud.storage.bucket();
        while self.agenda.first().is_some_and(|(moment, _)| moment.is_zero()) {
            let (_, fault) = self.agenda.remove(0);
            assert!(self.invocations_meet(place, fault), "{what}: only trouble with launching is there from the start");
            self.agenda.push((Duration::MAX, fault));
        }
        let mut running = place.start(&format!(
            "train --manifest s3://{bucket}/{} --launch lambda --function {} --supervisor {} --workers 3 \
             --worker-timeout 3s -o {run}",
            SETTINGS[self.kind], self.function, self.supervisor
        ));
        let mut done = Vec::new();
        while !self.agenda.is_empty() {
            let (moment, fault) = self.agenda.remove(0);
            if moment == Duration::MAX {
                done.push((fault, true));
                continue;
            }
            while running.ended().is_none() && running.elapsed() < moment {
                std::thread::sleep(Duration::from_millis(2));
            }
            let struck = running.ended().is_none() && self.strike(place, &running, fault);
            if !matches!(fault, Fault::Continue(_)) {
                done.push((fault, struck));
            }
        }
        let mut last = running.within_limit().unwrap_or_else(|| panic!("{what}: it hangs: {:#?}", running.said()));
        place.troubled(0, Answered::Pass);
        let (mut seconds, mut resumed) = (last.seconds, None);
        if last.code != Some(0) {
            let error = last.stderr.lines().find(|line| line.contains("error:"));
            resumed = Some(error.unwrap_or("the client was killed").to_owned());
            if last.code.is_some() {
                last.failed_in_order();
            }
            let line = format!("train --resume {run} --launch lambda --function {}", self.function);
            let mut again = place.start(&line);
            let earlier = last.stderr;
            last = again.within_limit().unwrap_or_else(|| panic!("{what}: resumed, it hangs: {:#?}", again.said()));
            seconds += last.seconds;
            assert_eq!(last.code, Some(0), "{what}: {earlier}\nresumed: {last:#?}");
        }
        assert_eq!(&last.digests(), expected, "{what}: {last:#?}");
        let verified = place.cloud.start(&format!("train verify {run}")).wait();
        assert_eq!(verified.report()["whole"], true, "{what}");
        let functions = &last.report()["functions"];
        let count = |name: &str| functions[name].as_u64().unwrap();
        Outcome { faults: done, resumed, seconds, handovers: count("handovers"), relaunches: count("relaunches") }
    }

    /// Whether `fault` is one of launching, which then meets the next invocations.
    fn invocations_meet(&mut self, place: &Place, fault: Fault) -> bool {
        let error = |status, code| Answered::Answer { status, code, retry_after: None };
        match fault {
            Fault::Throttled => place.troubled(3 + self.stream.below(15), error(429, "TooManyRequestsException")),
            Fault::Duplicated => place.troubled(1 + self.stream.below(4), Answered::LoseAnswer),
            Fault::NeverStarts => place.troubled(1, error(202, "")),
            _ => return false,
        }
        true
    }

    /// Does it; whether there was anything to do it to.
    fn strike(&mut self, place: &mut Place, running: &Running, fault: Fault) -> bool {
        if self.invocations_meet(place, fault) {
            return true;
        }
        let mut processes = place.cloud.lambda.processes();
        match fault {
            Fault::Continue(pid) => processes.retain(|process| *process == pid),
            Fault::KillYoungest => drop(processes.drain(..processes.len().saturating_sub(1))),
            Fault::KillOldest => processes.truncate(1),
            Fault::KillAny | Fault::KillThree | Fault::Pause => {
                self.stream.shuffle(&mut processes);
                processes.truncate(if fault == Fault::KillThree { 3 } else { 1 });
            }
            Fault::KillClient => {
                signal(running.id(), "KILL");
                return true;
            }
            Fault::RedisEmptied => {
                place.cloud.world.redis.kill_and_restart_empty();
                return true;
            }
            Fault::BrokerCut => {
                let _ = place.cloud.world.broker.control(&["close_all_connections", "cut"]);
                return true;
            }
            Fault::Throttled | Fault::Duplicated | Fault::NeverStarts => {}
        }
        for &process in &processes {
            match fault {
                Fault::Pause => {
                    signal(process, "STOP");
                    // Or until Lambda ends it.
                    if self.stream.below(2) == 0 {
                        self.agenda.push((running.elapsed() + Duration::from_millis(4500), Fault::Continue(process)));
                        self.agenda.sort_unstable();
                    }
                }
                Fault::Continue(_) => signal(process, "CONT"),
                _ => signal(process, "KILL"),
            }
        }
        !processes.is_empty()
    }
}

/// All seeds of one parity, on servers of their own.
fn tried(parity: u64) {
    let mut place = Place::new();
    let expected = SETTINGS.map(|settings| place.cloud.expected(settings));
    let bucket = place.cloud.storage.bucket();
    let seconds = [0, 1].map(|kind| {
        let run = place.run(&format!("peace{kind}"));
        let line = format!("train --manifest s3://{bucket}/{} --launch lambda --function long", SETTINGS[kind]);
        let said = place.start(&format!("{line} --workers 3 -o {run}")).wait();
        assert_eq!(said.digests(), expected[kind]);
        said.seconds
    });
    println!("in peace: {:.1} s, {:.1} s", seconds[0], seconds[1]);
    let mut tally = Tally::new();
    let (mut handovers, mut relaunches, mut resumed) = (0, 0, 0);
    for seed in seeds(SEEDS, parity) {
        let trial = Trial::new(seed, seconds);
        let kind = trial.kind;
        let what = format!("{seed:4}  {:7} {:5} {:8}", ["sparse", "ratings"][kind], trial.function, trial.supervisor);
        let agenda = trial.agenda.clone();
        let outcome = trial.carry_out(&mut place, &expected[kind]);
        println!(
            "{what} {:5.1} s  {:2} handed over  {:2} launched again  {}",
            outcome.seconds,
            outcome.handovers,
            outcome.relaunches,
            story(&agenda, outcome.resumed.as_ref()),
        );
        tally.add(outcome.faults);
        handovers += outcome.handovers;
        relaunches += outcome.relaunches;
        resumed += usize::from(outcome.resumed.is_some());
    }
    tally.show();
    println!("{handovers} handed over, {relaunches} launched again, {resumed} resumed");
    tally.most_have_struck();
    // A function that begins after the end leaves its queue too.
    what_is_left(&place.cloud.world, usize::MAX);
}

#[test]
fn functions_give_the_same_bits_whatever_happens_even() {
    tried(0);
}

#[test]
fn functions_give_the_same_bits_whatever_happens_odd() {
    tried(1);
}
