//! The control plane over real RabbitMQs: the suite, and what networks, operators and brokers do.
//!
//! A broker takes six seconds to start, so there is one that is left in peace and one that everything is done to.

use std::time::{Duration, Instant};

use schemas::exit::ErrorKind;
use schemas::message::{Address, Envelope, Party};
use services::RabbitMq;
use tokio::runtime::{Builder, Handle, Runtime};
use train::control::rabbitmq::{AmqpUrl, RabbitControl};
use train::control::{ControlError, ControlPlane, Mailbox};
use train::service::ServiceError;

use super::{CONTROL_CASES, LONG, message};

const EXPIRY: Duration = Duration::from_secs(60);
const WORKER: Address = Party::Worker(0).life(0);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn connect(handle: &Handle, url: &str, run: &str, deadline: Duration) -> Result<RabbitControl, ServiceError> {
    RabbitControl::connect(handle.clone(), &url.parse::<AmqpUrl>().unwrap(), run, EXPIRY, deadline)
}

fn note(step: u64) -> Envelope {
    message(Party::Supervisor, step)
}

/// Threads of lapin in this process.
fn lapin_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lapin")).count()
}

/// Waits until `condition` holds.
#[track_caller]
fn soon(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many queues and exchanges of ours a virtual host has.
fn left(broker: &RabbitMq, vhost: &str) -> usize {
    let exchanges = format!("[element(2, X) || X <- rabbit_exchange:list(<<\"{vhost}\">>)]");
    let all = format!("rabbit_amqqueue:list_names(<<\"{vhost}\">>) ++ {exchanges}");
    broker.control(&["eval", &format!("[N || {{resource, _, _, N}} <- {all}].")]).matches("gristmill.").count()
}

#[test]
fn rabbitmq_in_peace() {
    let (broker, runtime) = (RabbitMq::start(), runtime());
    let handle = runtime.handle();
    for (kind, url) in [("plain", broker.url("/")), ("tls", broker.tls_url("/"))] {
        for (case, check) in CONTROL_CASES {
            println!("{kind}: {case}");
            check(&connect(handle, &url, &format!("{kind}.{case}"), LONG).unwrap());
        }
    }
    refusals(&broker, handle);
    messages_that_are_none(&broker, handle);
    a_life_is_lived_once(&broker, handle);
    nothing_is_left(&broker, handle);
    soon("no thread of lapin is left", || lapin_threads() == 0);
}

/// Everything that is wrong with a URL or a queue is an error of its kind, with a remedy and without secrets.
fn refusals(broker: &RabbitMq, handle: &Handle) {
    let deadline = Duration::from_millis(1500);
    let (user, stranger) = (RabbitMq::USER, RabbitMq::STRANGER);
    let url = |scheme, user, port, vhost| RabbitMq::url_of(scheme, user, port, vhost);
    let (plain, tls) = (broker.port(), broker.tls_port());
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let cases = [
        ("wrong password", url("amqp", (user.0, "falsch"), plain, "/"), ErrorKind::Config, "user and password"),
        ("unknown user", url("amqp", ("niemand", "falsch"), plain, "/"), ErrorKind::Config, "user and password"),
        ("no virtual host", url("amqp", user, plain, "nirgends"), ErrorKind::Config, "virtual host"),
        ("no permission", url("amqp", stranger, plain, "/"), ErrorKind::Config, "virtual host"),
        ("plain to TLS", url("amqp", user, tls, "/"), ErrorKind::Config, "amqps://"),
        ("TLS to plain", url("amqps", user, plain, "/"), ErrorKind::Config, "the one for TLS"),
        ("unknown authority", url("amqps", user, tls, "/"), ErrorKind::Config, "cacertfile"),
        ("no authorities", url("amqps", user, tls, "/") + "?cacertfile=nowhere.pem", ErrorKind::Config, "cacertfile"),
        ("refused port", url("amqp", user, free, "/"), ErrorKind::Unavailable, "can be reached"),
        ("unknown host", "amqp://u:geheim@no-such-host.invalid/v".to_owned(), ErrorKind::Unavailable, "host"),
    ];
    for (what, url, kind, fix) in cases {
        let begun = Instant::now();
        let error = connect(handle, &url, "refused", deadline).unwrap_err();
        println!("{what}: {error}; {}", error.fix);
        assert_eq!(error.kind, kind, "{what}: {error}");
        assert!(error.fix.contains(fix), "{what}: {error}: {}", error.fix);
        assert!(begun.elapsed() < deadline + Duration::from_secs(2), "{what}: {:?}", begun.elapsed());
        let shown = format!("{error} {error:?}");
        assert!(!["falsch", "geheim", "niemand@", user.1].iter().any(|secret| shown.contains(secret)), "{shown}");
    }

    let long = "r".repeat(201);
    assert_eq!(connect(handle, &broker.url("/"), &long, deadline).unwrap_err().kind, ErrorKind::Config);

    let url: AmqpUrl = broker.url("/").parse().unwrap();
    let of_expiry = |expiry| RabbitControl::connect(handle.clone(), &url, "other", expiry, LONG).unwrap();
    let (first, second) = (of_expiry(EXPIRY), of_expiry(EXPIRY * 2));
    let _mailbox = first.open(WORKER).unwrap();
    let Err(ControlError::Service(error)) = second.open(WORKER) else { panic!("the queue has other arguments") };
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.problem.contains("gristmill.other.worker.0.0"), "{error}");
    assert!(error.fix.contains("delete the queue"), "{}", error.fix);
    // The refusal closed a channel and nothing else.
    second.send(WORKER, &note(1)).unwrap();
}

/// What is no message, in a queue by mistake, is dropped and counted.
fn messages_that_are_none(broker: &RabbitMq, handle: &Handle) {
    let control = connect(handle, &broker.url("/"), "garbage", LONG).unwrap();
    let mut mailbox = control.open(WORKER).unwrap();
    control.send(WORKER, &note(1)).unwrap();
    let publish = |body: &str| {
        format!(
            "rabbit_basic:publish({{resource,<<\"/\">>,exchange,<<>>}},<<\"gristmill.garbage.worker.0.0\">>,[],{body})"
        )
    };
    broker.control(&["eval", &format!("{},{}.", publish("<<\"not ours\">>"), publish("<<\"GMST\",1,0>>"))]);
    control.send(WORKER, &note(2)).unwrap();
    for step in [1, 2] {
        assert_eq!(mailbox.receive(LONG).unwrap(), Some(note(step)));
    }
    assert_eq!(mailbox.receive(Duration::ZERO).unwrap(), None);
    assert_eq!(control.refused(), 2);
    // Acknowledged all the same: the next one who opens the mailbox does not get them again.
    drop(mailbox);
    assert_eq!(control.open(WORKER).unwrap().receive(Duration::from_millis(100)).unwrap(), None);
    assert_eq!(control.refused(), 2);
}

/// An orderly end leaves nothing in the broker, and what a party leaves that vanished goes away by itself.
/// Of two processes that live the same life the second is refused, and takes its place once the first is gone.
fn a_life_is_lived_once(broker: &RabbitMq, handle: &Handle) {
    let short = Duration::from_secs(2);
    let [first, second] = [(); 2].map(|()| connect(handle, &broker.url("/"), "once", short).unwrap());
    let mailbox = first.open(WORKER).unwrap();
    assert!(matches!(second.open(WORKER), Err(ControlError::Taken { address: WORKER })));
    drop(mailbox);
    let mut mailbox = second.open(WORKER).unwrap();
    first.send(WORKER, &note(1)).unwrap();
    assert_eq!(mailbox.receive(LONG).unwrap(), Some(note(1)));
    drop(mailbox);
    second.delete_all(&[WORKER]).unwrap();
}

fn nothing_is_left(broker: &RabbitMq, handle: &Handle) {
    let vhost = broker.vhost();
    let addresses = [Party::Client.life(0), Party::Supervisor.life(0), WORKER, Party::Worker(1).life(3)];
    let control = connect(handle, &broker.url(&vhost), "ending", LONG).unwrap();
    let mut open: Vec<Box<dyn Mailbox>> = addresses.iter().map(|&address| control.open(address).unwrap()).collect();
    control.broadcast(&note(1)).unwrap();
    assert_eq!(left(broker, &vhost), addresses.len() + 1);
    // One mailbox is still open and must not come back.
    open.truncate(1);
    control.delete_all(&addresses).unwrap();
    control.delete_all(&addresses).unwrap();
    assert_eq!(open[0].receive(Duration::from_millis(50)).unwrap(), None);
    // With no exchange there is nobody to hear; twice, as the broker closes a channel for it.
    control.broadcast(&note(2)).unwrap();
    control.broadcast(&note(2)).unwrap();
    drop((open, control));
    assert_eq!(left(broker, &vhost), 0);

    let url: AmqpUrl = broker.url(&vhost).parse().unwrap();
    let short = Duration::from_millis(500);
    let control = RabbitControl::connect(handle.clone(), &url, "vanishing", short, LONG).unwrap();
    let mailboxes = addresses.map(|address| control.open(address).unwrap());
    assert_eq!(left(broker, &vhost), addresses.len() + 1, "a queue that is read does not expire");
    drop((mailboxes, control));
    soon("queues and exchange expire", || left(broker, &vhost) == 0);
}

/// A supervisor and a worker, each with its own connection.
struct Pair {
    supervisor: RabbitControl,
    worker: RabbitControl,
    mailbox: Box<dyn Mailbox>,
    step: u64,
}

impl Pair {
    const DEADLINE: Duration = Duration::from_secs(2);

    fn connect(broker: &RabbitMq, handle: &Handle) -> Self {
        let url = broker.url("/");
        let [supervisor, worker] = ["pair"; 2].map(|run| connect(handle, &url, run, Self::DEADLINE).unwrap());
        let mailbox = worker.open(WORKER).unwrap();
        Self { supervisor, worker, mailbox, step: 0 }
    }

    /// Sends until it arrives: both sides find back by themselves. What was sent before may come as well.
    ///
    /// A message may be taken and yet reach nobody: after a restart the queue is there a moment before the exchange knows it.
    fn talk(&mut self) {
        self.step += 1;
        let Self { supervisor, mailbox, step, .. } = self;
        let (direct, to_all) = (note(2 * *step), note(2 * *step + 1));
        let mut arrives = |expected: &Envelope| {
            std::iter::from_fn(|| mailbox.receive(Duration::from_millis(500)).ok()?).any(|message| message == *expected)
        };
        soon("a message arrives", || supervisor.send(WORKER, &direct).is_ok() && arrives(&direct));
        soon("a message to all arrives", || supervisor.broadcast(&to_all).is_ok() && arrives(&to_all));
    }

    /// That a message cannot be sent is known by the deadline. A broker that runs low takes one more of a connection.
    #[track_caller]
    fn cannot_send(&self) -> ServiceError {
        for _ in 0..2 {
            let begun = Instant::now();
            let sent = self.supervisor.send(WORKER, &note(0));
            assert!(begun.elapsed() < Self::DEADLINE + Duration::from_secs(1), "{:?}", begun.elapsed());
            if let Err(ControlError::Service(error)) = sent {
                println!("{:?}: {error}", begun.elapsed());
                assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
                return error;
            }
        }
        panic!("it was sent")
    }
}

#[test]
fn rabbitmq_in_trouble() {
    let (mut broker, runtime) = (RabbitMq::start(), runtime());
    let mut pair = Pair::connect(&broker, runtime.handle());
    pair.talk();

    println!("connections cut");
    broker.control(&["close_all_connections", "a test"]);
    pair.talk();

    println!("no memory");
    broker.control(&["set_vm_memory_high_watermark", "0"]);
    let error = pair.cannot_send();
    assert!(error.problem.contains("takes no messages") && error.fix.contains("memory"), "{error}: {}", error.fix);
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    pair.talk();

    println!("paused");
    broker.pause();
    pair.cannot_send();
    assert_eq!(pair.mailbox.receive(Duration::from_millis(100)).unwrap(), None, "silence is not yet death");
    broker.resume();
    pair.talk();

    println!("stopped");
    broker.stop();
    assert_eq!(pair.mailbox.receive(Duration::ZERO).unwrap(), None, "away for less than the deadline");
    pair.cannot_send();
    let begun = Instant::now();
    let Err(ControlError::Service(error)) = pair.mailbox.receive(LONG) else { panic!("nobody is there") };
    assert!(begun.elapsed() < Pair::DEADLINE + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    broker.start_again();
    pair.talk();

    println!("killed");
    broker.kill();
    let Pair { supervisor, worker, mailbox, .. } = pair;
    let begun = Instant::now();
    drop((supervisor, mailbox, worker));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    soon("no thread of lapin is left", || lapin_threads() == 0);
}
