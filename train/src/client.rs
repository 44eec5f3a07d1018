//! The client of a run whose supervisor and workers are processes: launches them, launches anew those that die, shows what goes on,
//! and collects the result.

mod processes;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use manifests::digest::digest;
use reporting::interrupt::{self, Stopped};
use schemas::message::{Address, Envelope, Message, Party};
use schemas::records::{Finished, Outcome};

use crate::Watch;
use crate::checkpoints::Checkpoints;
use crate::control::{ControlError, ControlPlane, Mailbox};
use crate::display::Display;
use crate::error::{Error, last_error};
use crate::job::Job;
use crate::plan::Plan;
use crate::plan::launch::Processes;
use crate::protocol::{REPEAT, envelope};
use crate::records::Records;
use crate::servers::{Connections, DEADLINE, FIRST_DEADLINE};
use crate::threads::failure;
use processes::{Launcher, Life};

/// What a process is in a run.
#[derive(Clone, Copy, Debug)]
enum Role {
    /// The supervisor of so many workers.
    Supervisor { workers: u32 },
    /// A worker, under the supervisor in that life of it.
    Worker { worker: u32, supervisor: u32 },
}

/// How a process has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Well.
    Done,
    /// By itself, with an error.
    Failed { code: i32, words: String },
    /// From outside, or by a limit.
    Killed(String),
}

/// How often the client looks after its processes.
const POLL: Duration = Duration::from_millis(20);

/// A part that dies so often while the run does not get on will not live.
const DEATHS_MAX: u32 = 8;

/// How long the others have to end in order once the run is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a run has to save its model once it was told to stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Runs supervisor and workers to the end. Gives what is on record, and the state of the model.
///
/// # Errors
/// As [`crate::run`]; a signal, after which the run can be resumed.
pub fn train(plan: &Plan, processes: &Processes, watch: Watch<'_>) -> Result<(Finished, Records, Bytes), Error> {
    let checkpoints = Checkpoints::of(&plan.out)?;
    let session = session(&plan.run);
    // What is wrong with the servers is said once, here, and not by each worker.
    drop(Connections::open(&processes.servers, &session, FIRST_DEADLINE)?.store()?);
    let connections = Connections::open(&processes.servers, &session, DEADLINE)?;
    let launcher = Launcher { processes, out: &plan.out, session: &session };
    launcher.check()?;
    if !processes.resume {
        checkpoints.clear()?;
    }
    plan.job(session.clone(), processes).write(&plan.out)?;
    let rules = plan.rules()?;
    let mut client = Client {
        session: &session,
        launcher,
        connections: &connections,
        display: Display::new(watch.console, watch.progress, rules.metric, rules.holdout_base),
        supervisor: None,
        supervisors: 0,
        heard: Instant::now(),
        workers: BTreeMap::new(),
        incarnations: BTreeMap::new(),
        target: plan.workers,
        wanted: plan.workers,
        deaths: 0,
        stopping: None,
        start: watch.start,
    };
    let outcome = client.run();
    client.end(&outcome);
    // What went wrong before says more than that something is left.
    let cleared = connections.clear();
    let outcome = outcome?;
    cleared?;
    match outcome {
        Outcome::Finished(finished) => {
            let (checkpoint, records, _) = checkpoints.open(0)?;
            let kept = checkpoint.and_then(|checkpoint| checkpoint.kept);
            let kept = kept.ok_or_else(|| Error::Internal("the run has kept no model".to_owned()))?;
            Ok((finished, records, checkpoints.state(&kept)?))
        }
        Outcome::Stopped { steps } => {
            let run = plan.out.to_string();
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
    launcher: Launcher<'a>,
    connections: &'a Connections,
    display: Display<'a>,
    supervisor: Option<Life>,
    /// How many lives the supervisor has had.
    supervisors: u32,
    /// When its present life was last heard of, or began.
    heard: Instant,
    workers: BTreeMap<u32, Life>,
    /// How many lives each worker has had.
    incarnations: BTreeMap<u32, u32>,
    target: u32,
    /// The workers that somebody asked for.
    wanted: u32,
    /// Deaths since the run last got on.
    deaths: u32,
    /// Since when the run is being stopped, and when that was last said.
    stopping: Option<(Instant, Instant)>,
    start: Instant,
}

impl Client<'_> {
    fn run(&mut self) -> Result<Outcome, Error> {
        let mut mailbox = self.connections.control.open(self.me())?;
        self.launch_supervisor()?;
        self.launch_workers()?;
        loop {
            while let Some(message) = self.receive(&mut *mailbox)? {
                if let Some(outcome) = self.hear(message)? {
                    return Ok(outcome);
                }
            }
            self.look_after_supervisor()?;
            self.look_after_workers()?;
            if let Err(stopped) = interrupt::check() {
                self.stop(stopped)?;
            }
        }
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
        match envelope.message {
            Message::Shown { step, rows, evaluations } => {
                let seconds = self.start.elapsed().as_secs_f64();
                evaluations.iter().for_each(|record| self.display.evaluation(record, seconds));
                if let Some(step) = step {
                    if self.display.is_news(step.step) {
                        self.deaths = 0;
                    }
                    self.display.step(&step, rows);
                }
            }
            Message::Launch { n_workers, silent } => {
                if n_workers != self.target {
                    self.display.note(&format!("{n_workers} workers instead of {}", self.target));
                }
                self.target = n_workers;
                if self.wanted != n_workers {
                    self.tell(Message::Scale { n_workers: self.wanted })?;
                }
                // The supervisor does not know of lives that it has never heard of; a young one may be about to speak.
                let grown = self.launcher.processes.worker_timeout / 2;
                for (worker, incarnation) in silent {
                    let dead = |life: &&mut Life| life.incarnation == incarnation || life.age() > grown;
                    if let Some(life) = self.workers.get_mut(&worker).filter(dead) {
                        life.kill("it was not heard of");
                    }
                }
                self.launch_workers()?;
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

    fn launch_supervisor(&mut self) -> Result<(), Error> {
        let role = Role::Supervisor { workers: self.target };
        self.supervisor = Some(self.launcher.launch(role, self.supervisors)?);
        self.supervisors += 1;
        self.heard = Instant::now();
        Ok(())
    }

    /// Launches the workers that there should be and are not.
    fn launch_workers(&mut self) -> Result<(), Error> {
        (0..self.target).try_for_each(|worker| self.launch_worker(worker))
    }

    fn launch_worker(&mut self, worker: u32) -> Result<(), Error> {
        if worker >= self.target || self.workers.contains_key(&worker) {
            return Ok(());
        }
        let incarnation = self.incarnations.entry(worker).or_default();
        let role = Role::Worker { worker, supervisor: self.supervisors.saturating_sub(1) };
        self.workers.insert(worker, self.launcher.launch(role, *incarnation)?);
        *incarnation += 1;
        Ok(())
    }

    fn look_after_supervisor(&mut self) -> Result<(), Error> {
        // It says something several times a second. Workers give up after three times their timeout.
        let silence_max = 2 * self.launcher.processes.worker_timeout;
        if let Some(life) = self.supervisor.as_mut().filter(|_| self.heard.elapsed() > silence_max) {
            life.kill("it was not heard of");
        }
        let Some(end) = self.supervisor.as_mut().and_then(Life::ended) else { return Ok(()) };
        self.supervisor = None;
        match end {
            // Its last message is on its way, or was lost: the next one finds the run at its end.
            End::Done => self.died("the supervisor", "it has ended")?,
            End::Killed(why) => self.died("the supervisor", &why)?,
            End::Failed { code, words } => {
                return Err(Error::Process { part: "the supervisor".to_owned(), code, words });
            }
        }
        self.launch_supervisor()
    }

    fn look_after_workers(&mut self) -> Result<(), Error> {
        let ended: Vec<(u32, End)> =
            self.workers.iter_mut().filter_map(|(&worker, life)| life.ended().map(|end| (worker, end))).collect();
        for (worker, end) in ended {
            self.workers.remove(&worker);
            let why = match end {
                // It was told to go. If it is missed after all, the supervisor says so.
                End::Done => continue,
                End::Killed(why) => why,
                End::Failed { words, .. } => last_error(&words).to_owned(),
            };
            self.died(&format!("worker {worker}"), &why)?;
            self.launch_worker(worker)?;
        }
        Ok(())
    }

    /// A part has died and is going to live anew.
    fn died(&mut self, part: &str, why: &str) -> Result<(), Error> {
        self.deaths += 1;
        if self.deaths > DEATHS_MAX + 2 * self.target {
            return Err(Error::Dying { part: part.to_owned(), why: why.to_owned(), deaths: self.deaths });
        }
        self.display.note(&format!("{part} is launched again: {why}"));
        Ok(())
    }

    /// Has the supervisor save the model and end the run; at once, if it takes too long.
    fn stop(&mut self, stopped: Stopped) -> Result<(), Error> {
        let now = Instant::now();
        let (since, said) = self.stopping.unwrap_or_else(|| {
            self.display.note("stopping: the model is saved first; a second signal ends everything at once");
            (now, now.checked_sub(REPEAT).unwrap_or(now))
        });
        if since.elapsed() > STOP_MAX {
            return Err(stopped.into());
        }
        let due = said.elapsed() >= REPEAT;
        self.stopping = Some((since, if due { now } else { said }));
        if due { self.tell(Message::Stop) } else { Ok(()) }
    }

    fn tell(&self, message: Message) -> Result<(), Error> {
        let to = Party::Supervisor.life(self.supervisors.saturating_sub(1));
        match self.connections.control.send(to, &envelope(self.session, self.me(), message)) {
            Err(ControlError::NoMailbox { .. }) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Leaves nobody and nothing behind.
    fn end(&mut self, outcome: &Result<Outcome, Error>) {
        // Those who are still there know that the run is over, unless it ended by this client's failure.
        let patience = if outcome.is_ok() { FAREWELL } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        self.supervisor.iter_mut().chain(self.workers.values_mut()).for_each(|life| life.end_by(deadline));
        let supervisors = (0..self.supervisors).map(|i| Party::Supervisor.life(i));
        let workers =
            self.incarnations.iter().flat_map(|(&w, &lives)| (0..lives).map(move |i| Party::Worker(w).life(i)));
        let all: Vec<Address> = supervisors.chain(workers).chain([self.me()]).collect();
        if let Err(error) = self.connections.control.delete_all(&all) {
            self.display.note(&format!("what is left in RabbitMQ goes away by itself: {error}"));
        }
    }
}
