//! Shows a run that was begun elsewhere, until it is over, and ends as the run does.
//!
//! Of a run of processes the client says how it is, through RabbitMQ; a run on threads writes it into its place. A run that is over has
//! its report there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use manifests::digest::digest;
use manifests::load;
use manifests::place::Place;
use reporting::{Console, interrupt};
use schemas::live::Seen;
use schemas::message::{Address, Failure, Message, Party};
use schemas::report::TrainReport;

use crate::client::session;
use crate::control::{ControlError, ControlPlane, Mailbox};
use crate::display::Screen;
use crate::display::published::{FORMAT, File, KEY};
use crate::error::Error;
use crate::job::{self, Job};
use crate::output::{self, REPORT};
use crate::plan::launch::{ExchangeAt, Servers, Watch, amqp};
use crate::protocol::{REPEAT, envelope};
use crate::servers::{Connections, DEADLINE, FIRST_DEADLINE};
use crate::{TOOL, WAIT_MAX};

/// How often a watcher looks whether there is something to show.
const POLL: Duration = Duration::from_millis(100);

/// After this long the person is told that nothing comes.
const QUIET: Duration = Duration::from_secs(5);

/// A run that was not heard of for so long is not watched any more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A client that has ended may still be about to write the report.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often a watcher looks whether the report is there.
const REPORT_POLL: Duration = Duration::from_millis(500);

/// Shows the run until it is over, and gives its report.
///
/// # Errors
/// That of the run, when it ended with one. When there is no such run, or it is not heard of.
pub fn run(watch: &Watch, console: &Console) -> Result<TrainReport, Error> {
    let out = &watch.run;
    // A run that takes the place of another has that one's report in its place until it is over.
    let watcher =
        Watcher { out, before: report(out)?, screen: Screen::new(console), latest: None, heard: Instant::now() };
    let finished = if out.size(job::KEY)?.is_some() {
        watcher.through_client(&Job::read(out)?, watch)?
    } else if out.size(KEY)?.is_some() {
        watcher.through_file()?
    } else {
        let problem = format!("`{out}` is no run: it has none of {}, {KEY} and {REPORT}", job::KEY);
        let fix = "give the folder that `train` was told by -o, or that it printed".to_owned();
        watcher.before.ok_or(Error::Usage { problem, fix })?;
        load::report(out, REPORT)?
    };
    console.note(format!("{out} is over"));
    output::summarise(out, &finished, console);
    Ok(TrainReport { output: out.to_string(), ..finished })
}

/// The report's bytes, if it is there.
fn report(out: &Place) -> Result<Option<Bytes>, Error> {
    Ok(out.find(REPORT)?)
}

struct Watcher<'a> {
    out: &'a Place,
    /// The report that was there at the beginning, which is another run's.
    before: Option<Bytes>,
    screen: Screen<'a>,
    latest: Option<Seen>,
    heard: Instant,
}

impl Watcher<'_> {
    /// Watches a run of processes.
    fn through_client(mut self, job: &Job, watch: &Watch) -> Result<TrainReport, Error> {
        // Gradients are no matter of this command.
        let exchange = ExchangeAt::Storage(self.out.to_string());
        let servers = Servers { amqp: amqp(watch.amqp.as_deref())?, exchange };
        // Who has just typed where RabbitMQ is learns soon that it is not there; later it may be away for a while.
        drop(Connections::open(&servers, &job.session, FIRST_DEADLINE)?);
        let connections = Connections::open(&servers, &job.session, DEADLINE)?;
        let me = myself(&job.session)?;
        let mut mailbox = connections.control.open(me)?;
        let (mut asked, mut missing): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            interrupt::check()?;
            if asked.is_none_or(|asked| asked.elapsed() >= REPEAT) {
                asked = Some(Instant::now());
                let wish = envelope(&job.session, me, Message::Watch);
                match connections.control.send(Party::Client.life(0), &wish) {
                    // Those who watch are told of the end after the client has taken leave of its workers.
                    Err(ControlError::NoMailbox { .. }) => drop(missing.get_or_insert(Instant::now())),
                    sent => sent?,
                }
            }
            let patience = if self.latest.is_some() { SILENCE_MAX } else { FAREWELL };
            if missing.is_some_and(|missing| missing.elapsed() >= patience) {
                return self.ended(Duration::ZERO);
            }
            match next(&mut *mailbox, &job.session)? {
                Some(Message::Seen(seen)) => self.see(*seen),
                Some(Message::Gone { failure: None }) => return self.ended(WAIT_MAX),
                Some(
                    Message::Gone { failure: Some(Failure { kind, error, fix }) }
                    | Message::Failed { kind, error, fix },
                ) => return Err(Error::Ended { kind, error, fix }),
                Some(_) | None => {}
            }
            self.draw()?;
        }
    }

    /// Watches a run on threads.
    fn through_file(mut self) -> Result<TrainReport, Error> {
        let interval = if self.out.is_local() { Duration::from_millis(500) } else { Duration::from_secs(5) };
        let (mut bytes, mut looked): (Option<Bytes>, Option<Instant>) = (None, None);
        loop {
            interrupt::check()?;
            if looked.is_none_or(|looked| looked.elapsed() >= interval) {
                looked = Some(Instant::now());
                let Some(found) = self.out.find(KEY)? else { return self.ended(Duration::ZERO) };
                if bytes.as_ref() != Some(&found) {
                    self.see(parse(&self.out.show(KEY), &found)?);
                    bytes = Some(found);
                }
            }
            self.draw()?;
            std::thread::sleep(POLL);
        }
    }

    fn see(&mut self, seen: Seen) {
        self.latest = Some(seen);
        self.heard = Instant::now();
    }

    fn draw(&mut self) -> Result<(), Error> {
        let silence = self.heard.elapsed();
        if silence > SILENCE_MAX {
            return Err(Error::Silent { place: self.out.to_string(), seconds: silence.as_secs() });
        }
        if let Some(seen) = &mut self.latest {
            if silence > QUIET {
                seen.trouble = Some(format!("not heard of for {}s", silence.as_secs()));
            }
            self.screen.draw(false, || seen);
        }
        Ok(())
    }

    /// The run has ended: its report, which may come a while after.
    fn ended(mut self, wait: Duration) -> Result<TrainReport, Error> {
        if let Some(seen) = &self.latest {
            self.screen.draw(true, || seen);
        }
        let began = Instant::now();
        loop {
            interrupt::check()?;
            if report(self.out)?.is_some_and(|report| self.before.as_ref() != Some(&report)) {
                return Ok(load::report(self.out, REPORT)?);
            }
            if began.elapsed() >= wait {
                return Err(Error::Ended {
                    kind: schemas::exit::ErrorKind::Unavailable,
                    error: format!("{}: the run does not go on, and has no report", self.out),
                    fix: Some(
                        "look where it was begun: it was interrupted, killed or has failed; a run of processes goes on with `train --resume`"
                            .to_owned(),
                    ),
                });
            }
            std::thread::sleep(REPORT_POLL);
        }
    }
}

/// The next message of the run, if one comes soon.
fn next(mailbox: &mut dyn Mailbox, session: &str) -> Result<Option<Message>, Error> {
    let envelope = mailbox.receive(POLL)?;
    Ok(envelope.filter(|e| e.run == session && e.sender.party == Party::Client).map(|e| e.message))
}

/// An address that no other watcher of the run has.
fn myself(of: &str) -> Result<Address, Error> {
    let unique = digest(session(of).as_bytes());
    let number = u32::from_str_radix(&unique.hex()[..8], 16).map_err(Error::internal)?;
    Ok(Party::Watcher(number).life(0))
}

fn parse(place: &str, bytes: &[u8]) -> Result<Seen, Error> {
    let unfit = |problem: String| Error::Unfit {
        place: place.to_owned(),
        problem,
        fix: format!("watch it with the `train` that writes it; this is {TOOL}"),
    };
    let file: File = serde_json::from_slice(bytes).map_err(|e| unfit(e.to_string()))?;
    let (format, version) = &file.format;
    if (format.as_str(), *version) != FORMAT {
        return Err(unfit(format!("it is `{format}` {version}, not `{}` {}", FORMAT.0, FORMAT.1)));
    }
    Ok(file.seen)
}
