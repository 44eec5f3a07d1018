//! A run in a simulated world: the real state machines; messages that are lost, late, doubled and out of order; workers and supervisor
//! that crash, stand still and are cut off; an exchange that forgets. Time is counted in milliseconds and costs none.
//!
//! A model is a number: the start, mixed with the gradients of every step, each of which is mixed from the model, the step and the
//! slot. So one gradient of a wrong model, one left out or one applied twice shows in the number at the end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use random::Stream;
use schemas::dataset::{Digest, Object};
use schemas::exit::ErrorKind;
use schemas::message::{Address, Envelope, Message, Party, Stored};
use schemas::records::{BatchLoss, Counted, Outcome, StepTimings};
use train::protocol::course::Rules;
use train::protocol::supervisor::{self, Checkpoint, Members, Supervisor};
use train::protocol::worker::{self, Worker};
use train::protocol::{REPEAT, Refusal, envelope};
use train_core::order::worker_of_slot;

pub(crate) const RUN: &str = "run";
const START: u64 = 0x5eed;
/// Gradients of a past step that are not there for so long are lost.
const ABSENT: u64 = 500;
const POLL: u64 = 10;
const REPEAT_MS: u64 = REPEAT.as_millis() as u64;

/// What may happen in a run.
#[derive(Clone, Debug)]
pub(crate) struct Dangers {
    /// Of a thousand messages, so many are lost.
    pub lost: u64,
    /// Of a thousand messages, so many arrive twice.
    pub doubled: u64,
    /// A message takes up to so many milliseconds, one in sixteen up to fifty times as many.
    pub delay: u64,
    /// Misfortunes: when they happen, in milliseconds, and what.
    pub misfortunes: Vec<(u64, Misfortune)>,
    /// The client can kill a life that it replaces. A function cannot be killed.
    pub can_kill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfortune {
    /// A worker dies.
    Crash(u32),
    /// A worker stands still for so long.
    Pause(u32, u64),
    /// The supervisor dies.
    SupervisorCrash,
    /// The supervisor stands still for so long.
    SupervisorPause(u64),
    /// Worker and supervisor do not hear each other for so long.
    Partition(u32, u64),
    /// Everything that was exchanged is forgotten.
    Forget,
    /// Some of what was exchanged is forgotten.
    ForgetSome,
    /// All messages under way are lost.
    Broker,
    /// Somebody asks for so many workers.
    Scale(u32),
    /// Lives that were replaced, and live on, fail.
    GhostsFail,
    /// The supervisor's time runs out, and a successor is ready.
    SupervisorExpiry,
    /// A worker's time is over so soon, and it says so.
    Expiry(u32, u64),
}

impl Dangers {
    /// The dangers of `seed` for `n_workers`.
    pub(crate) fn of(seed: u64, n_workers: u32) -> Self {
        let mut chance = Stream::new(seed, "dangers");
        let mut one = |of: &[u64]| of[chance.below(of.len() as u64) as usize];
        let (lost, doubled, delay) = (one(&[0, 0, 10, 200]), one(&[0, 30, 300]), one(&[1, 5, 40]));
        let can_kill = one(&[0, 1, 1]) == 1;
        let n = one(&[0, 1, 2, 4, 8]);
        let mut misfortunes = Vec::new();
        for _ in 0..n {
            let at = chance.below(6_000);
            let worker = chance.below(u64::from(n_workers)) as u32;
            let (short, long) = (50 + chance.below(2_000), 500 + chance.below(9_000));
            misfortunes.push((
                at,
                match chance.below(14) {
                    0 | 1 => Misfortune::Crash(worker),
                    2 => Misfortune::Pause(worker, long),
                    3 => Misfortune::SupervisorCrash,
                    4 => Misfortune::SupervisorPause(short),
                    5 => Misfortune::Partition(worker, long),
                    6 => Misfortune::Forget,
                    7 => Misfortune::ForgetSome,
                    8 => Misfortune::Broker,
                    9 => Misfortune::GhostsFail,
                    10 | 11 => Misfortune::Expiry(worker, long),
                    12 => Misfortune::SupervisorExpiry,
                    _ => Misfortune::Scale(1 + chance.below(u64::from(n_workers) + 2) as u32),
                },
            ));
        }
        Self { lost, doubled, delay, misfortunes, can_kill }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub outcome: Outcome,
    /// The model that is its result.
    pub model: u64,
    /// Step and bits of its loss.
    pub steps: Vec<(u64, u64)>,
    /// Epoch and bits of its held-out loss.
    pub evaluations: Vec<(u64, u64)>,
    pub counted: Vec<(u64, Counted)>,
}

fn mix(a: u64, b: u64) -> u64 {
    let x = (a ^ b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

pub(crate) fn gradient(model: u64, step: u64, slot: u32) -> u64 {
    mix(mix(model, step), u64::from(slot) + 1)
}

/// What one step makes of a model.
pub(crate) fn applied(model: u64, step: u64, gradients: impl Iterator<Item = u64>) -> u64 {
    gradients.fold(mix(model, !step), mix)
}

fn loss(model: u64, slot: u32) -> BatchLoss {
    let loss_sum = 10.0 + (mix(model, u64::from(slot)) % 1000) as f64 * 0.01;
    BatchLoss { slot, loss_sum, rows: 10 + u64::from(slot % 2) }
}

fn object(model: u64, who: &str) -> Object {
    Object { key: format!("{model:016x}-{who}"), rows: 0, bytes: 8, digest: Digest::from_xxh3_128(u128::from(model)) }
}

fn model_in(stored: &Stored) -> u64 {
    u64::from_str_radix(&stored.object.key[..16], 16).unwrap()
}

#[derive(Clone, Debug, PartialEq)]
enum Happening {
    Arrival(Address, Envelope),
    /// A life has finished what it was busy with.
    Done {
        worker: u32,
        incarnation: u32,
        event: worker::Event,
    },
    /// A life looks at what it waits for.
    Look {
        worker: u32,
        incarnation: u32,
    },
    Stored {
        worker: u32,
        incarnation: u32,
        stored: Stored,
    },
    Launch(u32),
    /// The time of a life is over then.
    Expiring {
        worker: u32,
        incarnation: u32,
        end: u64,
    },
    SupervisorTick(u32),
    SupervisorLaunch,
    Misfortune(Misfortune),
}

struct Life {
    incarnation: u32,
    protocol: Worker,
    model: u64,
    /// Busy with something during which it takes no messages.
    busy: bool,
    collecting: Option<(worker::Collect, u64)>,
    inbox: VecDeque<Envelope>,
    own: Vec<((u64, u32), u64)>,
    repeated: u64,
    paused_until: u64,
    saving: u64,
}

pub(crate) struct World<'a> {
    rules: &'a Rules,
    members: Members,
    dangers: Dangers,
    chance: Stream,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: HashMap<u64, Happening>,
    supervisor: Option<(u32, Supervisor)>,
    supervisor_paused: u64,
    supervisors: u32,
    lives: BTreeMap<u32, Life>,
    /// Lives that were replaced and could not be killed.
    ghosts: Vec<(u32, Life)>,
    incarnations: BTreeMap<u32, u32>,
    target: u32,
    exchange: HashMap<(u64, u32), u64>,
    committed: Option<(Checkpoint, usize)>,
    /// What was on record when a supervisor handed over, until the next checkpoint.
    tail: Option<Run>,
    partitions: Vec<(u32, u64)>,
    /// Worker and incarnation of lives whose time runs out.
    leaving: Vec<(u32, u32)>,
    /// For each worker the highest incarnation the supervisor has heard.
    known: HashMap<(u32, u32), u32>,
    run: Run,
}

impl<'a> World<'a> {
    pub(crate) fn new(rules: &'a Rules, members: Members, dangers: Dangers, seed: u64) -> Self {
        let target = members.n_workers;
        let outcome = Outcome::Stopped { steps: 0 };
        let mut world = Self {
            rules,
            members,
            chance: Stream::new(seed, "world"),
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            supervisor: None,
            supervisor_paused: 0,
            supervisors: 0,
            lives: BTreeMap::new(),
            ghosts: Vec::new(),
            incarnations: BTreeMap::new(),
            target,
            exchange: HashMap::new(),
            committed: None,
            tail: None,
            partitions: Vec::new(),
            leaving: Vec::new(),
            known: HashMap::new(),
            run: Run { outcome, model: START, steps: vec![], evaluations: vec![], counted: vec![] },
            dangers: Dangers { misfortunes: vec![], ..dangers.clone() },
        };
        for (at, misfortune) in dangers.misfortunes {
            world.at(at, Happening::Misfortune(misfortune));
        }
        world.at(0, Happening::SupervisorLaunch);
        (0..target).for_each(|worker| world.at(1, Happening::Launch(worker)));
        world
    }

    fn at(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    /// Lets the run go on to its end.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(crate) fn run(mut self) -> Result<Run, String> {
        while let Some(Reverse((time, number))) = self.queue.pop() {
            self.now = time;
            if self.now > 600_000 {
                return Err(format!(
                    "the run did not end; {} steps are on record\n{}",
                    self.run.steps.len(),
                    self.state()
                ));
            }
            let Some(happening) = self.happenings.remove(&number) else { continue };
            if self.happen(happening)? {
                return Ok(self.run);
            }
        }
        Err("nothing happens any more".to_owned())
    }

    /// Who is where, for people.
    fn state(&self) -> String {
        let mut text = format!("{:?}\n", self.supervisor.as_ref().map(|s| &s.1));
        for (worker, life) in &self.lives {
            let (until, busy) = (life.paused_until, life.busy);
            text.push_str(&format!("worker {worker}: {:?}, busy {busy}, paused until {until}\n", life.protocol));
        }
        text
    }

    fn happen(&mut self, happening: Happening) -> Result<bool, String> {
        match happening {
            Happening::SupervisorLaunch => return self.launch_supervisor(),
            Happening::SupervisorTick(incarnation) => {
                if self.supervisor.as_ref().is_some_and(|(i, _)| *i == incarnation) {
                    self.at(100, Happening::SupervisorTick(incarnation));
                    return self.tell_supervisor(supervisor::Event::Tick);
                }
            }
            Happening::Arrival(to, envelope) => return self.arrive(to, envelope),
            Happening::Launch(worker) => self.launch(worker),
            Happening::Expiring { worker, incarnation, end } => self.expire(worker, incarnation, end),
            Happening::Misfortune(misfortune) => self.befall(misfortune),
            Happening::Done { worker, incarnation, event } => self.with(worker, incarnation, |world, life| {
                if world.now < life.paused_until {
                    let wait = life.paused_until - world.now;
                    return world.at(wait, Happening::Done { worker, incarnation, event });
                }
                life.busy = false;
                world.feed(worker, life, event);
            }),
            Happening::Stored { worker, incarnation, stored } => self.with(worker, incarnation, |world, life| {
                if world.now < life.paused_until {
                    let wait = life.paused_until - world.now;
                    return world.at(wait, Happening::Stored { worker, incarnation, stored });
                }
                life.saving -= 1;
                world.feed(worker, life, worker::Event::Stored(stored));
            }),
            Happening::Look { worker, incarnation } => self.with(worker, incarnation, |world, life| {
                world.at(POLL, Happening::Look { worker, incarnation });
                world.look(worker, life);
            }),
        }
        Ok(false)
    }

    /// Has a life, if it still lives, do something; later, if it stands still.
    fn with(&mut self, worker: u32, incarnation: u32, act: impl FnOnce(&mut Self, &mut Life)) {
        let present = self.lives.get(&worker).is_some_and(|life| life.incarnation == incarnation);
        let mut life = if present {
            self.lives.remove(&worker).unwrap()
        } else {
            let ghost = self.ghosts.iter().position(|(w, life)| (*w, life.incarnation) == (worker, incarnation));
            let Some(ghost) = ghost else { return };
            self.ghosts.swap_remove(ghost).1
        };
        act(self, &mut life);
        let over = life.protocol.ended() && life.saving == 0;
        if over && present {
            // One that has left is not launched again; one whose run is not over at all is.
            if worker < self.target {
                self.at(20, Happening::Launch(worker));
            }
        } else if present {
            self.lives.insert(worker, life);
        } else if !over {
            self.ghosts.push((worker, life));
        }
    }

    fn launch_supervisor(&mut self) -> Result<bool, String> {
        let incarnation = self.supervisors;
        self.supervisors += 1;
        let strategy = self.members.recovery.map(|r| r.strategy);
        let (base, on_record) = self.committed.clone().unwrap_or((Checkpoint::start(strategy), 0));
        if let Some(tail) = &self.tail {
            self.run = tail.clone();
        }
        self.rollback(base.steps_on_record());
        assert!(self.run.steps.len() == on_record, "what is committed is on record");
        let members = Members { n_workers: self.target, ..self.members.clone() };
        let now = Duration::from_millis(self.now);
        let (supervisor, commands) = Supervisor::new(RUN, incarnation, self.rules.clone(), members, base, now);
        self.supervisor = Some((incarnation, supervisor));
        self.supervisor_paused = 0;
        self.at(100, Happening::SupervisorTick(incarnation));
        self.obey(commands)
    }

    fn tell_supervisor(&mut self, event: supervisor::Event) -> Result<bool, String> {
        if self.now < self.supervisor_paused {
            // It gets to it when it wakes.
            if let supervisor::Event::Received(envelope) = event {
                let to = Party::Supervisor.life(self.supervisor.as_ref().unwrap().0);
                self.at(self.supervisor_paused - self.now, Happening::Arrival(to, envelope));
            }
            return Ok(false);
        }
        let Some((incarnation, supervisor)) = &mut self.supervisor else { return Ok(false) };
        let sender = match &event {
            supervisor::Event::Received(Envelope {
                sender: Address { party: Party::Worker(w), incarnation: i },
                ..
            }) => Some(((*incarnation, *w), *i)),
            _ => None,
        };
        match supervisor.handle(event, Duration::from_millis(self.now)) {
            Ok(commands) => {
                let relieves = |c: &supervisor::Command| matches!(c, supervisor::Command::Send(_, Message::Relieved));
                let waits = |((_, worker), incarnation): &((u32, u32), u32)| {
                    let before = |(w, i): &(u32, u32)| w == worker && i < incarnation;
                    self.leaving.iter().any(before) && !commands.iter().any(relieves)
                };
                // One who succeeds another only follows until the other is relieved.
                if let Some((worker, incarnation)) = sender.filter(|sender| !waits(sender)) {
                    let known = self.known.entry(worker).or_default();
                    if incarnation < *known {
                        return Err("a message of a life that was replaced was taken".to_owned());
                    }
                    *known = incarnation;
                }
                self.obey(commands)
            }
            Err(Refusal::Stale { sender, found, .. }) => {
                let me = Party::Supervisor.life(*incarnation);
                self.send(sender.life(found), envelope(RUN, me, Message::Relieved));
                Ok(false)
            }
            Err(Refusal::Unexpected { .. }) => Ok(false),
            Err(refusal) => Err(format!("refused: {refusal}")),
        }
    }

    fn obey(&mut self, commands: Vec<supervisor::Command>) -> Result<bool, String> {
        let Some(incarnation) = self.supervisor.as_ref().map(|(i, _)| *i) else { return Ok(false) };
        let me = Party::Supervisor.life(incarnation);
        for command in commands {
            match command {
                supervisor::Command::Broadcast(message) => {
                    let lives = self.lives.iter().map(|(w, l)| (*w, l.incarnation));
                    let ghosts = self.ghosts.iter().map(|(w, l)| (*w, l.incarnation));
                    let all: Vec<_> = lives.chain(ghosts).collect();
                    for (worker, life) in all {
                        self.send(Party::Worker(worker).life(life), envelope(RUN, me, message.clone()));
                    }
                }
                supervisor::Command::Send(to, message) => self.send(to, envelope(RUN, me, message)),
                supervisor::Command::Tell(message) => self.send(Party::Client.life(0), envelope(RUN, me, message)),
                supervisor::Command::Step(record, counted) => {
                    if record.step != self.run.steps.len() as u64 {
                        return Err(format!("step {} follows {} steps", record.step, self.run.steps.len()));
                    }
                    self.run.steps.push((record.step, record.loss.to_bits()));
                    self.run.counted.extend(counted.into_iter().map(|counted| (record.step, counted)));
                }
                supervisor::Command::Evaluation(record, _) => {
                    self.run.evaluations.retain(|(epoch, _)| *epoch < record.epoch);
                    self.run.evaluations.push((record.epoch, record.loss.to_bits()));
                }
                supervisor::Command::Started | supervisor::Command::Timings { .. } => {}
                supervisor::Command::Commit(checkpoint) => {
                    self.committed = Some((*checkpoint.clone(), checkpoint.course.steps as usize));
                    self.tail = None;
                }
                supervisor::Command::Rollback { steps } => self.rollback(steps),
                supervisor::Command::HandOver(checkpoint) => {
                    let steps = checkpoint.steps_on_record() as usize;
                    self.committed = Some((*checkpoint, steps));
                    self.tail = Some(self.run.clone());
                    self.supervisor = None;
                    let wait = 1 + self.chance.below(100);
                    self.at(wait, Happening::SupervisorLaunch);
                    return Ok(false);
                }
                supervisor::Command::End(outcome) => {
                    let kept = self.committed.as_ref().and_then(|(c, _)| c.kept.as_ref());
                    self.run.model = kept.map_or(0, model_in);
                    self.run.outcome = outcome;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn rollback(&mut self, steps: u64) {
        self.run.steps.retain(|(step, _)| *step < steps);
        self.run.counted.retain(|(step, _)| *step < steps);
        let last = |epoch: u64| (epoch + 1) * self.rules.schedule.steps_per_epoch();
        self.run.evaluations.retain(|(epoch, _)| last(*epoch) <= steps);
    }

    fn send(&mut self, to: Address, message: Envelope) {
        let cut = |world: &Self, party: Party| match party {
            Party::Worker(w) => world.partitions.iter().any(|(worker, until)| *worker == w && world.now < *until),
            _ => false,
        };
        if cut(self, to.party) || cut(self, message.sender.party) || self.chance.below(1000) < self.dangers.lost {
            return;
        }
        let times = 1 + u64::from(self.chance.below(1000) < self.dangers.doubled);
        for _ in 0..times {
            let far = if self.chance.below(16) == 0 { 50 } else { 1 };
            let delay = 1 + self.chance.below(self.dangers.delay * far + 1);
            self.at(delay, Happening::Arrival(to, message.clone()));
        }
    }

    fn arrive(&mut self, to: Address, message: Envelope) -> Result<bool, String> {
        match to.party {
            Party::Watcher(_) => return Err(format!("{to} is told something, and there is none")),
            Party::Supervisor => {
                if self.supervisor.as_ref().is_some_and(|(i, _)| *i == to.incarnation) {
                    return self.tell_supervisor(supervisor::Event::Received(message));
                }
            }
            Party::Client => {
                if let Message::Succeed { worker, incarnation } = message.message
                    && self.lives.get(&worker).is_some_and(|life| life.incarnation == incarnation)
                {
                    let life = self.lives.remove(&worker).unwrap();
                    self.ghosts.push((worker, life));
                    let cold = 5 + self.chance.below(400);
                    self.at(cold, Happening::Launch(worker));
                }
                if let Message::Launch { n_workers, silent } = message.message {
                    self.target = n_workers;
                    for (worker, incarnation) in silent {
                        if self.lives.get(&worker).is_some_and(|life| life.incarnation == incarnation) {
                            let life = self.lives.remove(&worker).unwrap();
                            if !self.dangers.can_kill {
                                self.ghosts.push((worker, life));
                            }
                        }
                    }
                    (0..n_workers).for_each(|worker| self.at(5, Happening::Launch(worker)));
                }
            }
            Party::Worker(worker) => self.with(worker, to.incarnation, move |world, life| {
                life.inbox.push_back(message);
                world.read(worker, life);
            }),
        }
        Ok(false)
    }

    fn launch(&mut self, worker: u32) {
        if self.lives.contains_key(&worker) || worker >= self.target {
            return;
        }
        let incarnation = self.incarnations.entry(worker).or_default();
        let supervisor = self.supervisors.saturating_sub(1);
        let mut life = Life {
            incarnation: *incarnation,
            protocol: Worker::new(RUN, worker, supervisor, self.rules.schedule, 0),
            model: START,
            busy: false,
            collecting: None,
            inbox: VecDeque::new(),
            own: Vec::new(),
            repeated: self.now,
            paused_until: 0,
            saving: 0,
        };
        *incarnation += 1;
        let incarnation = life.incarnation;
        self.feed(worker, &mut life, worker::Event::Launched);
        self.lives.insert(worker, life);
        self.at(POLL, Happening::Look { worker, incarnation });
    }

    /// A life whose time runs out says so again and again, and then dies, wherever it is.
    fn expire(&mut self, worker: u32, incarnation: u32, end: u64) {
        let present = self.lives.get(&worker).is_some_and(|life| life.incarnation == incarnation);
        let is_it = |(w, life): &(u32, Life)| (*w, life.incarnation) == (worker, incarnation);
        if !present && !self.ghosts.iter().any(is_it) {
            return;
        }
        if self.now < end {
            let stands = |life: &Life| self.now < life.paused_until;
            let still = self.ghosts.iter().find(|ghost| is_it(ghost)).map(|ghost| &ghost.1);
            let still = still.or_else(|| self.lives.get(&worker)).is_some_and(stands);
            if let Some((supervisor, _)) = self.supervisor.as_ref().filter(|_| !still) {
                let message = Message::Leaving { left: Duration::from_millis(end - self.now) };
                let (to, me) = (Party::Supervisor.life(*supervisor), Party::Worker(worker).life(incarnation));
                self.send(to, envelope(RUN, me, message));
            }
            let next = REPEAT_MS.min(end - self.now);
            return self.at(next, Happening::Expiring { worker, incarnation, end });
        }
        if present {
            self.lives.remove(&worker);
            self.at(20, Happening::Launch(worker));
        }
        self.ghosts.retain(|ghost| !is_it(ghost));
    }

    fn befall(&mut self, misfortune: Misfortune) {
        match misfortune {
            Misfortune::Crash(worker) => {
                if self.lives.remove(&worker).is_some() {
                    let delay = 10 + self.chance.below(300);
                    self.at(delay, Happening::Launch(worker));
                }
            }
            Misfortune::Pause(worker, time) => {
                let until = self.now + time;
                if let Some(life) = self.lives.get_mut(&worker) {
                    life.paused_until = until;
                }
            }
            Misfortune::Expiry(worker, left) => {
                if let Some(life) = self.lives.get(&worker) {
                    let (incarnation, end) = (life.incarnation, self.now + left);
                    self.leaving.push((worker, incarnation));
                    self.expire(worker, incarnation, end);
                }
            }
            Misfortune::SupervisorCrash => {
                self.supervisor = None;
                let delay = 10 + self.chance.below(500);
                self.at(delay, Happening::SupervisorLaunch);
            }
            Misfortune::SupervisorExpiry => {
                self.supervisor.iter_mut().for_each(|(_, supervisor)| supervisor.hand_over());
            }
            Misfortune::SupervisorPause(time) => self.supervisor_paused = self.now + time,
            Misfortune::Partition(worker, time) => self.partitions.push((worker, self.now + time)),
            Misfortune::Forget => self.exchange.clear(),
            Misfortune::ForgetSome => {
                let gone: HashSet<(u64, u32)> = self
                    .exchange
                    .keys()
                    .copied()
                    .filter(|(step, slot)| mix(*step, u64::from(*slot)).is_multiple_of(3))
                    .collect();
                self.exchange.retain(|name, _| !gone.contains(name));
            }
            Misfortune::Broker => self.happenings.retain(|_, h| !matches!(h, Happening::Arrival(..))),
            Misfortune::GhostsFail => {
                let Some((supervisor, _)) = &self.supervisor else { return };
                let (to, known) = (Party::Supervisor.life(*supervisor), &self.known);
                let is_known = |w: u32, i: u32| known.get(&(*supervisor, w)).is_some_and(|known| *known > i);
                let ghosts =
                    self.ghosts.iter().map(|(w, life)| (*w, life.incarnation)).filter(|(w, i)| is_known(*w, *i));
                for (worker, incarnation) in ghosts.collect::<Vec<_>>() {
                    let message = Message::Failed { kind: ErrorKind::Unavailable, error: "late".to_owned(), fix: None };
                    self.send(to, envelope(RUN, Party::Worker(worker).life(incarnation), message));
                }
            }
            Misfortune::Scale(n_workers) => {
                if let Some((incarnation, _)) = &self.supervisor {
                    let message = envelope(RUN, Party::Client.life(0), Message::Scale { n_workers });
                    self.send(Party::Supervisor.life(*incarnation), message);
                }
            }
        }
    }

    /// What a free worker does with its messages.
    fn read(&mut self, worker: u32, life: &mut Life) {
        while !life.busy && self.now >= life.paused_until {
            let Some(message) = life.inbox.pop_front() else { return };
            self.feed(worker, life, worker::Event::Received(message));
        }
    }

    /// What a worker does every now and then.
    fn look(&mut self, worker: u32, life: &mut Life) {
        if self.now < life.paused_until || life.protocol.ended() {
            return;
        }
        self.read(worker, life);
        if life.busy {
            return;
        }
        if let Some((collect, since)) = life.collecting {
            let n_slots = self.rules.schedule.n_slots(collect.step);
            let gradients: Option<Vec<u64>> =
                (0..n_slots).map(|slot| self.exchange.get(&(collect.step, slot)).copied()).collect();
            let event = if let Some(gradients) = gradients {
                life.model = applied(life.model, collect.step, gradients.into_iter());
                let timings = StepTimings { step: collect.step, ..StepTimings::default() };
                Some(worker::Event::Applied { timings, sizes: None })
            } else if life.protocol.is_wanted_elsewhere() {
                Some(worker::Event::Interrupted)
            } else if collect.is_past() && self.now - since > ABSENT {
                Some(worker::Event::Absent)
            } else {
                None
            };
            if let Some(event) = event {
                life.collecting = None;
                self.feed(worker, life, event);
                return;
            }
        }
        if self.now - life.repeated > REPEAT_MS {
            life.repeated = self.now;
            self.exchange.extend(life.own.iter().copied());
            self.feed(worker, life, worker::Event::Tick);
        }
    }

    fn feed(&mut self, worker: u32, life: &mut Life, event: worker::Event) {
        let Ok(commands) = life.protocol.handle(event) else { return };
        let me = Party::Worker(worker).life(life.incarnation);
        let incarnation = life.incarnation;
        let done = |world: &mut Self, life: &mut Life, event| {
            life.busy = true;
            let took = 1 + world.chance.below(40);
            world.at(took, Happening::Done { worker, incarnation, event });
        };
        for command in commands {
            match command {
                worker::Command::Send(to, message) => self.send(to, envelope(RUN, me, message)),
                worker::Command::Compute { step, n_workers } => {
                    assert!(life.protocol.steps() == step, "a step is computed with the model before it");
                    let n_slots = self.rules.schedule.n_slots(step);
                    let mine: Vec<u32> = (0..n_slots).filter(|s| worker_of_slot(*s, n_workers) == worker).collect();
                    life.own.retain(|((s, _), _)| s + 2 > step);
                    let own = mine.iter().map(|&slot| ((step, slot), gradient(life.model, step, slot)));
                    life.own.extend(own);
                    self.exchange.extend(life.own.iter().copied());
                    let losses = mine.iter().map(|&slot| loss(life.model, slot)).collect();
                    done(self, life, worker::Event::Computed { losses });
                }
                worker::Command::Collect(collect) => life.collecting = Some((collect, self.now)),
                worker::Command::Evaluate { n_workers } => {
                    let mine = (0..self.rules.n_holdout_batches).filter(|s| worker_of_slot(*s, n_workers) == worker);
                    let losses =
                        mine.map(|slot| loss(life.model, slot + 1000)).map(|l| BatchLoss { slot: l.slot - 1000, ..l });
                    let losses = losses.collect();
                    done(self, life, worker::Event::Evaluated { losses, scores: None });
                }
                worker::Command::Load(stored) => {
                    life.model = stored.as_ref().map_or(START, model_in);
                    done(self, life, worker::Event::Loaded);
                }
                worker::Command::Save { steps, .. } => {
                    let stored = Stored { steps, object: object(life.model, &format!("{worker}.{incarnation}")) };
                    life.saving += 1;
                    let took = 1 + self.chance.below(400);
                    self.at(took, Happening::Stored { worker, incarnation, stored });
                }
                worker::Command::Release { below } => {
                    let mine = |slot: &u32| life.own.iter().any(|((_, own), _)| own == slot);
                    self.exchange.retain(|(step, slot), _| *step >= below || !mine(slot));
                }
                worker::Command::Finish { .. }
                | worker::Command::Leave
                | worker::Command::Rest
                | worker::Command::Dismiss => {}
            }
        }
    }
}

/// The run as it must be, from the definitions of gradient and loss alone.
pub(crate) fn reference(rules: &Rules) -> Run {
    let mut model = START;
    let (mut steps, mut evaluations, mut best) = (Vec::new(), Vec::new(), None::<(f64, u64)>);
    let mean = |losses: &[BatchLoss]| {
        let rows: u64 = losses.iter().map(|l| l.rows).sum();
        (losses.iter().map(|l| l.loss_sum).sum::<f64>() / rows as f64).sqrt()
    };
    for epoch in 0..rules.max_epochs {
        for step in epoch * rules.schedule.steps_per_epoch()..(epoch + 1) * rules.schedule.steps_per_epoch() {
            let slots = 0..rules.schedule.n_slots(step);
            let losses: Vec<_> = slots.clone().map(|slot| loss(model, slot)).collect();
            steps.push((step, mean(&losses).to_bits()));
            model = applied(model, step, slots.map(|slot| gradient(model, step, slot)));
        }
        if rules.n_holdout_batches > 0 {
            let losses: Vec<_> = (0..rules.n_holdout_batches).map(|slot| loss(model, slot + 1000)).collect();
            let losses: Vec<_> = (0..).zip(losses).map(|(slot, l)| BatchLoss { slot, ..l }).collect();
            let held_out = mean(&losses);
            evaluations.push((epoch, held_out.to_bits()));
            if best.is_none_or(|(best, _)| held_out < best) {
                best = Some((held_out, model));
            }
        }
    }
    let outcome = Outcome::Stopped { steps: steps.len() as u64 };
    Run { outcome, model: best.map_or(model, |best| best.1), steps, evaluations, counted: vec![] }
}
