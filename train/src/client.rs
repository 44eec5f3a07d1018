//! The client of a run whose supervisor and workers are processes: launches them, launches anew those that die, shows what goes on,
//! and collects the result.

mod bill;
pub(crate) mod functions;
mod launcher;
mod processes;
mod watchers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use manifests::digest::digest;
use reporting::interrupt;
use schemas::exit::{ErrorKind, Explain};
use schemas::message::{Address, Envelope, Failure, Message, Party};
use schemas::records::{Finished, Outcome};

use crate::Watch;
use crate::checkpoints::{Checkpoints, Known};
use crate::control::{ControlError, ControlPlane, Mailbox};
use crate::display::{Display, News};
use crate::error::{Error, last_error};
use crate::job::Job;
use crate::output::Launched;
use crate::output::lives::{BeganBy, Begun};
use crate::plan::Plan;
use crate::plan::launch::{Processes, Workers};
use crate::protocol::{REPEAT, envelope};
use crate::records::Records;
use crate::servers::{Connections, DEADLINE, FIRST_DEADLINE};
use crate::threads::failure;
use bill::Bill;
use launcher::{End, Launcher, Life, Role};
use watchers::Watchers;

/// How often the client looks after its processes.
const POLL: Duration = Duration::from_millis(20);

/// A part that dies so often while the run does not get on will not live.
const DEATHS_MAX: u32 = 8;

/// How long the others have to end in order once the run is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a run has to save its model once it was told to stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What became of a run.
pub struct Trained {
    /// How it ended.
    pub finished: Finished,
    /// What is on record.
    pub records: Records,
    /// The state of the model.
    pub state: Bytes,
    /// What is known of those that were launched.
    pub launched: Launched,
}

/// Runs supervisor and workers to the end.
///
/// # Errors
/// As [`crate::run`]; a signal, after which the run can be resumed.
pub fn train(plan: &Plan, processes: &Processes, watch: Watch<'_>) -> Result<Trained, Error> {
    let checkpoints = Checkpoints::of(&plan.out)?;
    let session = session(&plan.run);
    // What is wrong with the servers is said once, here, and not by each worker.
    let first = Connections::open(&processes.servers, &session, FIRST_DEADLINE)?;
    if !matches!(processes.workers, Workers::Functions(_)) {
        drop(first.store()?);
    }
    drop(first);
    let connections = Connections::open(&processes.servers, &session, DEADLINE)?;
    let here = processes::Launcher { processes, out: &plan.out, session: &session };
    here.check()?;
    let functions = match &processes.workers {
        Workers::Functions(functions) => Some(functions::Launcher::new(functions, plan, &session)?),
        _ => None,
    };
    let (supervisors_by, workers_by, bill): (&dyn Launcher, &dyn Launcher, _) = match (&functions, &processes.workers) {
        (Some(launcher), Workers::Functions(settings)) => {
            launcher.announce(watch.console);
            let bill = Bill::new(settings, &launcher.version, plan, processes.checkpoint_every);
            (if settings.supervisor { launcher } else { &here }, launcher, Some(bill))
        }
        _ => (&here, &here, None),
    };
    if !processes.resume {
        checkpoints.clear()?;
    }
    plan.job(session.clone(), processes).write(&plan.out)?;
    let budget = match &processes.workers {
        Workers::Functions(settings) => settings.budget.map(|budget| budget.usd),
        _ => None,
    };
    let mut client = Client {
        session: &session,
        worker_timeout: processes.worker_timeout,
        supervisors_by,
        workers_by,
        connections: &connections,
        display: Display::new(plan, budget, watch)?,
        watchers: Watchers::default(),
        supervisor: None,
        supervisors: 0,
        leads: 0,
        heard: Instant::now(),
        workers: BTreeMap::new(),
        leaving: Vec::new(),
        incarnations: BTreeMap::new(),
        begun: Begun::new(),
        target: plan.workers,
        wanted: plan.workers,
        deaths: 0,
        stopping: None,
        bill,
        overspent: None,
        start: watch.start,
    };
    let mut mailbox = client.connections.control.open(client.me())?;
    let outcome = client.run(&mut *mailbox);
    client.end(mailbox, &outcome);
    client.display.draw(watch.start.elapsed().as_secs_f64(), true);
    let result = client.result(plan, processes, &checkpoints, outcome);
    client.tell_watchers(&result);
    result
}

/// Removes what only an unfinished run needs.
///
/// # Errors
/// When it cannot be removed.
pub fn tidy(plan: &Plan) -> Result<(), Error> {
    Checkpoints::of(&plan.out)?.clear()?;
    Job::remove(&plan.out)
}

/// A name for one session of `run`, which no other has.
pub(crate) fn session(run: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let unique = digest(format!("{run} {now} {}", std::process::id()).as_bytes());
    format!("{run}.{}", &unique.hex()[..12])
}

struct Client<'a> {
    session: &'a str,
    worker_timeout: Duration,
    supervisors_by: &'a dyn Launcher,
    workers_by: &'a dyn Launcher,
    connections: &'a Connections,
    display: Display<'a>,
    watchers: Watchers,
    supervisor: Option<Box<dyn Life>>,
    /// How many lives the supervisor has had.
    supervisors: u32,
    /// Which of its lives leads, as far as is known: a successor that waits to lead does not yet.
    leads: u32,
    /// When its present life was last heard of, or began.
    heard: Instant,
    workers: BTreeMap<u32, Box<dyn Life>>,
    /// Lives that have a successor, or are taken for ended, and may live on: who they are, and what is known of them.
    leaving: Vec<(Party, Box<dyn Life>)>,
    /// How many lives each worker has had.
    incarnations: BTreeMap<u32, u32>,
    /// Why their lives began.
    begun: Begun,
    target: u32,
    /// The workers that somebody asked for.
    wanted: u32,
    /// Deaths since the run last got on.
    deaths: u32,
    /// Since when the run is being stopped, and when that was last said.
    stopping: Option<(Instant, Instant)>,
    bill: Option<Bill<'a>>,
    /// The budget that made the run stop.
    overspent: Option<f64>,
    start: Instant,
}

impl Client<'_> {
    fn run(&mut self, mailbox: &mut dyn Mailbox) -> Result<Outcome, Error> {
        self.launch_supervisor(None)?;
        self.launch_workers(BeganBy::Start)?;
        loop {
            while let Some(message) = self.receive(mailbox)? {
                if let Some(outcome) = self.hear(message)? {
                    return Ok(outcome);
                }
            }
            self.look_after_supervisor()?;
            self.look_after_workers()?;
            self.reckon();
            match interrupt::check() {
                Err(stopped) => self.stop(stopped.into(), "stopping")?,
                Ok(()) if self.overspent.is_some() => {
                    let spent = self.bill.as_ref().map_or(0.0, |bill| bill.cost().total);
                    let late = Error::Internal("the run could not be stopped for its budget".to_owned());
                    self.stop(late, &format!("stopping for the budget, of which ${spent:.4} are spent"))?;
                }
                Ok(()) => {}
            }
            self.show()?;
        }
    }

    /// Shows the run here, and to those who watch it from elsewhere.
    fn show(&mut self) -> Result<(), Error> {
        let lives = self.incarnations.iter().filter(|(worker, _)| **worker < self.target);
        self.display.launched(lives.map(|(&worker, &lives)| (worker, lives.saturating_sub(1))));
        let seconds = self.start.elapsed().as_secs_f64();
        self.display.draw(seconds, false);
        for watcher in self.watchers.due(Instant::now()) {
            let seen = Box::new(self.display.at(seconds).clone());
            self.hand_over(watcher, Message::Seen(seen))?;
        }
        Ok(())
    }

    /// A life has a successor before its time is over.
    fn handed_over(&mut self) {
        self.bill.iter_mut().for_each(|bill| bill.succeeded(true));
        self.display.besides().handovers += 1;
    }

    const fn me(&self) -> Address {
        Party::Client.life(0)
    }

    fn receive(&self, mailbox: &mut dyn Mailbox) -> Result<Option<Envelope>, Error> {
        Ok(mailbox.receive(POLL)?.filter(|message| message.run == self.session))
    }

    /// What the supervisor says. A dead one's last words are as good as any.
    fn hear(&mut self, envelope: Envelope) -> Result<Option<Outcome>, Error> {
        if envelope.sender == Party::Supervisor.life(self.supervisors.saturating_sub(1)) {
            self.heard = Instant::now();
        }
        // One that waits to lead says nothing but that it is there.
        if let Address { party: Party::Supervisor, incarnation } = envelope.sender
            && !matches!(envelope.message, Message::Hello | Message::Gone { .. })
        {
            self.leads = self.leads.max(incarnation);
        }
        match envelope.message {
            Message::Shown { step, rows, losses, evaluations, lanes } => {
                if let Some(bill) = &mut self.bill {
                    bill.step(step.as_ref().map_or(0, |step| step.step), evaluations.len());
                }
                if step.is_some_and(|step| self.display.is_news(step.step)) {
                    self.deaths = 0;
                }
                let seconds = self.start.elapsed().as_secs_f64();
                self.display.hear(News { step, rows, losses, evaluations, lanes }, seconds);
            }
            Message::Watch => {
                if let Some(refusal) = self.watchers.hear(envelope.sender, Instant::now()) {
                    self.hand_over(envelope.sender, refusal)?;
                }
            }
            Message::Launch { n_workers, silent } => {
                let by = if n_workers > self.target { BeganBy::Added } else { BeganBy::Relaunch };
                if n_workers != self.target {
                    self.display.note(&format!("{n_workers} workers instead of {}", self.target));
                }
                self.target = n_workers;
                if self.wanted != n_workers {
                    self.tell(Message::Scale { n_workers: self.wanted })?;
                }
                // The supervisor does not know of lives that it has never heard of; a young one may be about to speak.
                let grown = self.worker_timeout / 2;
                for (worker, incarnation) in silent {
                    let dead = |life: &&mut Box<dyn Life>| life.incarnation() == incarnation || life.age() > grown;
                    if let Some(life) = self.workers.get_mut(&worker).filter(dead) {
                        life.kill("it was not heard of");
                    }
                }
                self.launch_workers(by)?;
            }
            Message::Succeed { worker, incarnation } => {
                if self.workers.get(&worker).is_some_and(|life| life.incarnation() == incarnation)
                    && let Some(life) = self.workers.remove(&worker)
                {
                    self.leaving.push((Party::Worker(worker), life));
                    self.launch_worker(worker, BeganBy::Handover)?;
                    self.handed_over();
                }
            }
            // Of the supervisor: its successor begins early, and waits for it.
            Message::Leaving { left } if envelope.sender == Party::Supervisor.life(self.supervisors - 1) => {
                self.leaving.extend(self.supervisor.take().map(|life| (Party::Supervisor, life)));
                self.launch_supervisor(Some(left))?;
                self.handed_over();
            }
            Message::Gone { failure } => {
                let end = failure.map_or(End::Done, |f| End::Told { kind: f.kind, error: f.error, fix: f.fix });
                if let Some(life) = self.life(envelope.sender) {
                    life.told(end);
                }
            }
            // From `train scale`. It is told to every supervisor until there are as many.
            Message::Scale { n_workers } => {
                self.wanted = n_workers;
                self.tell(Message::Scale { n_workers })?;
            }
            Message::Ended(outcome) => return Ok(Some(outcome)),
            _ => {}
        }
        Ok(None)
    }

    fn launch_supervisor(&mut self, waits: Option<Duration>) -> Result<(), Error> {
        let role = Role::Supervisor { workers: self.target, waits };
        if waits.is_none() {
            self.leads = self.supervisors;
        }
        self.supervisor = Some(self.supervisors_by.launch(role, self.supervisors)?);
        self.supervisors += 1;
        self.heard = Instant::now();
        Ok(())
    }

    /// Launches the workers that there should be and are not.
    fn launch_workers(&mut self, by: BeganBy) -> Result<(), Error> {
        (0..self.target).try_for_each(|worker| self.launch_worker(worker, by))
    }

    fn launch_worker(&mut self, worker: u32, by: BeganBy) -> Result<(), Error> {
        if worker >= self.target || self.workers.contains_key(&worker) {
            return Ok(());
        }
        let incarnation = self.incarnations.entry(worker).or_default();
        let role = Role::Worker { worker, supervisor: self.leads };
        self.workers.insert(worker, self.workers_by.launch(role, *incarnation)?);
        self.begun.insert((worker, *incarnation), by);
        *incarnation += 1;
        Ok(())
    }

    fn look_after_supervisor(&mut self) -> Result<(), Error> {
        // It says something several times a second. Workers give up after three times their timeout.
        let silence_max = 2 * self.worker_timeout;
        if let Some(life) = self.supervisor.as_mut().filter(|_| self.heard.elapsed() > silence_max) {
            life.kill("it was not heard of");
        }
        let Some(end) = self.supervisor.as_mut().and_then(|life| life.ended()) else { return Ok(()) };
        self.leaving.extend(self.supervisor.take().map(|life| (Party::Supervisor, life)));
        match end {
            // Its last message is on its way, or was lost: the next one finds the run at its end.
            End::Done => self.died("the supervisor", "it has ended")?,
            End::Killed(why) => self.died("the supervisor", &why)?,
            End::Failed { code, words } => {
                return Err(Error::Process { part: "the supervisor".to_owned(), code, words });
            }
            End::Told { kind, error, fix } => {
                return Err(Error::Part { part: "the supervisor".to_owned(), kind, error, fix });
            }
        }
        self.launch_supervisor(None)
    }

    fn look_after_workers(&mut self) -> Result<(), Error> {
        let ended: Vec<(u32, End)> =
            self.workers.iter_mut().filter_map(|(&worker, life)| life.ended().map(|end| (worker, end))).collect();
        for (worker, end) in ended {
            self.leaving.extend(self.workers.remove(&worker).map(|life| (Party::Worker(worker), life)));
            let why = match end {
                // It was told to go. If it is missed after all, the supervisor says so.
                End::Done => continue,
                End::Killed(why) => why,
                End::Failed { words, .. } => last_error(&words).to_owned(),
                // What may pass is tried again.
                End::Told { kind: ErrorKind::Unavailable, error, .. } => error,
                End::Told { kind, error, fix } => {
                    return Err(Error::Part { part: format!("worker {worker}"), kind, error, fix });
                }
            };
            self.died(&format!("worker {worker}"), &why)?;
            self.launch_worker(worker, BeganBy::Relaunch)?;
        }
        // Also those that have a successor are ended when they pass a limit.
        self.reckon();
        self.leaving.retain_mut(|(_, life)| life.ended().is_none() || !life.is_over());
        Ok(())
    }

    /// The life at `address`, if it was launched here.
    fn life(&mut self, Address { party, incarnation }: Address) -> Option<&mut Box<dyn Life>> {
        let present = match party {
            Party::Supervisor => self.supervisor.as_mut(),
            Party::Worker(worker) => self.workers.get_mut(&worker),
            Party::Client | Party::Watcher(_) => None,
        };
        let leaving = self.leaving.iter_mut().filter(|(p, _)| *p == party).map(|(_, life)| life);
        present.into_iter().chain(leaving).find(|life| life.incarnation() == incarnation)
    }

    /// A part has died and is going to live anew.
    fn died(&mut self, part: &str, why: &str) -> Result<(), Error> {
        self.deaths += 1;
        if self.deaths > DEATHS_MAX + 2 * self.target {
            return Err(Error::Dying { part: part.to_owned(), why: why.to_owned(), deaths: self.deaths });
        }
        self.bill.iter_mut().for_each(|bill| bill.succeeded(false));
        self.display.besides().relaunches += 1;
        self.display.note(&format!("{part} is launched again: {why}"));
        Ok(())
    }

    /// Looks at what the lives cost.
    fn reckon(&mut self) {
        let Some(bill) = &mut self.bill else { return };
        let supervisor = self.supervisor.iter_mut().map(|life| (Party::Supervisor, life));
        let workers = self.workers.iter_mut().map(|(&worker, life)| (Party::Worker(worker), life));
        let leaving = self.leaving.iter_mut().map(|(party, life)| (*party, life));
        for (party, life) in supervisor.chain(workers).chain(leaving) {
            bill.see(party.life(life.incarnation()), &mut **life);
        }
        self.display.besides().usd = Some(bill.cost().total);
        self.overspent = self.overspent.or_else(|| bill.spent());
    }

    /// Has the supervisor save the model and end the run; at once, if it takes too long.
    fn stop(&mut self, too_late: Error, why: &str) -> Result<(), Error> {
        let now = Instant::now();
        let (since, said) = self.stopping.unwrap_or_else(|| {
            self.display.note(&format!("{why}: the model is saved first; a second signal ends everything at once"));
            self.display.besides().trouble = Some("stopping".to_owned());
            (now, now.checked_sub(REPEAT).unwrap_or(now))
        });
        if since.elapsed() > STOP_MAX {
            return Err(too_late);
        }
        let due = said.elapsed() >= REPEAT;
        self.stopping = Some((since, if due { now } else { said }));
        if due { self.tell(Message::Stop) } else { Ok(()) }
    }

    fn tell(&self, message: Message) -> Result<(), Error> {
        let to = Party::Supervisor.life(self.leads);
        match self.connections.control.send(to, &envelope(self.session, self.me(), message)) {
            Err(ControlError::NoMailbox { .. }) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Says something that may be lost.
    fn hand_over(&self, to: Address, message: Message) -> Result<(), Error> {
        Ok(self.connections.control.hand_over(to, &envelope(self.session, self.me(), message))?)
    }

    /// Those who watch are told how the run ended.
    fn tell_watchers(&mut self, result: &Result<Trained, Error>) {
        let failure = result.as_ref().err().map(|e| Failure { kind: e.kind(), error: e.to_string(), fix: e.fix() });
        for watcher in self.watchers.all() {
            if let Err(error) = self.hand_over(watcher, Message::Gone { failure: failure.clone() }) {
                self.display.note(&format!("a watcher could not be told of the end: {error}"));
            }
        }
    }

    /// What became of the run.
    fn result(
        &mut self,
        plan: &Plan,
        processes: &Processes,
        checkpoints: &Checkpoints,
        outcome: Result<Outcome, Error>,
    ) -> Result<Trained, Error> {
        let functions = self.bill.as_ref().map(|bill| bill.report(plan.workers));
        // What went wrong before says more than that something is left.
        let cleared = self.connections.clear();
        let outcome = outcome?;
        cleared?;
        match outcome {
            Outcome::Finished(finished) => {
                let (checkpoint, records, _) = checkpoints.open(self.session, 0, Known::default())?;
                let kept = checkpoint.and_then(|checkpoint| checkpoint.kept);
                let kept = kept.ok_or_else(|| Error::Internal("the run has kept no model".to_owned()))?;
                let launched = Launched { begun: std::mem::take(&mut self.begun), functions };
                Ok(Trained { finished, records, state: checkpoints.state(&kept)?, launched })
            }
            Outcome::Stopped { steps } => {
                let run = format!("{}{}", plan.out, processes.workers.flags());
                if let (Some(budget), Some(functions)) = (self.overspent, &functions) {
                    return Err(Error::Budget { budget, spent: functions.cost.total, steps, run });
                }
                Err(interrupt::check().map_or_else(
                    |stopped| Error::Paused { stopped, steps, run: run.clone() },
                    |()| Error::Internal("the run was stopped by nobody".to_owned()),
                ))
            }
            outcome => {
                // A run that has diverged would do so again.
                if matches!(outcome, Outcome::Diverged { .. }) {
                    tidy(plan)?;
                }
                Err(failure(plan, outcome))
            }
        }
    }

    /// Leaves nobody and nothing behind.
    fn end(&mut self, mut mailbox: Box<dyn Mailbox>, outcome: &Result<Outcome, Error>) {
        let mut lives: Vec<(Party, Box<dyn Life>)> = std::mem::take(&mut self.leaving);
        lives.extend(self.supervisor.take().map(|life| (Party::Supervisor, life)));
        lives.extend(std::mem::take(&mut self.workers).into_iter().map(|(w, life)| (Party::Worker(w), life)));
        self.leaving = lives;
        // Those who are still there know that the run is over, unless it ended by this client's failure.
        let patience = if outcome.is_ok() { FAREWELL } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && !self.leaving.iter_mut().all(|(_, life)| life.is_over()) {
            match self.receive(&mut *mailbox) {
                Ok(Some(Envelope { sender, message: Message::Gone { .. }, .. })) => {
                    if let Some(life) = self.life(sender) {
                        life.told(End::Done);
                    }
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(POLL),
            }
        }
        self.reckon();
        self.leaving.iter_mut().for_each(|(_, life)| life.end());
        let supervisors = (0..self.supervisors).map(|i| Party::Supervisor.life(i));
        let workers =
            self.incarnations.iter().flat_map(|(&w, &lives)| (0..lives).map(move |i| Party::Worker(w).life(i)));
        let all: Vec<Address> = supervisors.chain(workers).chain([self.me()]).collect();
        if let Err(error) = self.connections.control.delete_all(&all) {
            self.display.note(&format!("what is left in RabbitMQ goes away by itself: {error}"));
        }
    }
}
