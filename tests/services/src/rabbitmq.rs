//! RabbitMQ as a private broker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Certificates;
use crate::process::{Server, free_ports, start};

/// Ready after six seconds on an idle machine; a busy one gets two minutes.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// A broker takes some seconds to end in order, and must not take a test with it when it does not.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A running broker with two users and some virtual hosts, with a listener for TLS beside the plain one.
///
/// It has an Erlang port mapper of its own, which ends after it.
#[derive(Debug)]
pub struct RabbitMq {
    broker: Option<Server>,
    _epmd: Server,
    /// What outlives a restart: settings, cookie and database.
    folder: PathBuf,
    programs: PathBuf,
    ports: [u16; 4],
    runs: usize,
    vhosts: AtomicUsize,
    certificates: Certificates,
}

impl RabbitMq {
    /// The user that may do everything in every virtual host.
    pub const USER: (&str, &str) = ("gristmill", "geheim/des@tests");
    /// A user that may enter no virtual host.
    pub const STRANGER: (&str, &str) = ("stranger", "geheim-des-fremden");
    const VHOSTS: usize = 4;

    /// Starts a broker and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, ends, or is not ready in time; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        start("RabbitMQ", Self::attempt)
    }

    fn attempt() -> Result<Self, String> {
        // The programs in the path are Debian's, which drop the environment and run as another user.
        let programs = std::env::var_os("GRISTMILL_RABBITMQ").unwrap_or_else(|| "/usr/lib/rabbitmq/bin".into()).into();
        let ports = free_ports::<4>().map_err(|e| e.to_string())?;
        let folder = tempfile::Builder::new().prefix("rabbitmq-").tempdir().map_err(|e| e.to_string())?.keep();
        let certificates = Certificates::generate();
        let files = [
            ("rabbitmq.conf", settings(ports, &folder, &certificates)),
            ("definitions.json", definitions()),
            ("enabled_plugins", "[].".to_owned()),
        ];
        for (name, text) in files {
            std::fs::write(folder.join(name), text).map_err(|e| e.to_string())?;
        }
        let mapper = ["-port", &ports[3].to_string(), "-address", "127.0.0.1"].map(str::to_owned);
        let epmd = Server::start(Path::new("epmd"), &mapper, folder.clone()).map_err(|e| e.to_string())?;
        let vhosts = AtomicUsize::new(0);
        let mut started = Self { broker: None, _epmd: epmd, folder, programs, ports, runs: 0, vhosts, certificates };
        started.launch().map(|()| started)
    }

    /// What the broker and its tools find their instance by.
    fn environment(&self) -> Vec<String> {
        let [plain, _, distribution, epmd] = self.ports;
        let file = |name: &str| self.folder.join(name).display().to_string();
        [
            ("HOME", self.folder.display().to_string()),
            ("ERL_EPMD_PORT", epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", format!("rmq{plain}@localhost")),
            ("RABBITMQ_DIST_PORT", distribution.to_string()),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_MNESIA_BASE", file("mnesia")),
            ("RABBITMQ_LOG_BASE", file("mnesia")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_PID_FILE", file("rabbit.pid")),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none".to_owned(),
            ),
            // The start script then becomes the broker, so that its process number is the broker's.
            ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
        ]
        .map(|(name, value)| format!("{name}={value}"))
        .to_vec()
    }

    fn launch(&mut self) -> Result<(), String> {
        self.runs += 1;
        let own = self.folder.join(format!("run-{}", self.runs));
        std::fs::create_dir(&own).map_err(|e| e.to_string())?;
        let mut arguments = self.environment();
        arguments.extend([self.programs.join("rabbitmq-server").display().to_string(), "-noinput".to_owned()]);
        let mut broker = Server::start(Path::new("env"), &arguments, own).map_err(|e| e.to_string())?;
        broker.wait(READY_LIMIT, Duration::from_millis(50), |_| {
            self.ports[..2].iter().all(|&port| listens(port)) && speaks_amqp(self.ports[0])
        })?;
        self.broker = Some(broker);
        Ok(())
    }

    /// The port of plain AMQP on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The port of AMQP over TLS.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.ports[1]
    }

    /// URL for [`RabbitMq::USER`] in `vhost`.
    #[must_use]
    pub fn url(&self, vhost: &str) -> String {
        Self::url_of("amqp", Self::USER, self.port(), vhost)
    }

    /// URL for [`RabbitMq::USER`] in `vhost` over TLS, which names the authority that is to be trusted.
    #[must_use]
    pub fn tls_url(&self, vhost: &str) -> String {
        let url = Self::url_of("amqps", Self::USER, self.tls_port(), vhost);
        format!("{url}?cacertfile={}", self.certificates.authority().display())
    }

    /// URL for `user` on `port`, of a proxy perhaps.
    #[must_use]
    pub fn url_of(scheme: &str, user: (&str, &str), port: u16, vhost: &str) -> String {
        let escaped = |text: &str| text.replace('%', "%25").replace('/', "%2F").replace('@', "%40");
        format!("{scheme}://{}:{}@127.0.0.1:{port}/{}", escaped(user.0), escaped(user.1), escaped(vhost))
    }

    /// An empty virtual host. They are made with the broker, which is cheaper than one at a time.
    ///
    /// # Panics
    /// When there is no further one.
    #[must_use]
    pub fn vhost(&self) -> String {
        let number = self.vhosts.fetch_add(1, Ordering::Relaxed);
        assert!(number < Self::VHOSTS, "the broker has {} virtual hosts", Self::VHOSTS);
        format!("v{number}")
    }

    /// Ends the broker in order. Clients are told; what is not durable is lost.
    ///
    /// # Panics
    /// When it does not run or does not end.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let begun = Instant::now();
        while self.broker.as_mut().is_some_and(|broker| broker.ended().is_none()) {
            assert!(begun.elapsed() < STOP_LIMIT, "the broker does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.broker = None;
    }

    /// Ends the broker at once, as a crash would.
    pub fn kill(&mut self) {
        self.broker = None;
    }

    /// Starts the broker again, on the same ports.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub fn start_again(&mut self) {
        assert!(self.broker.is_none(), "the broker runs");
        if let Err(log) = self.launch() {
            panic!("RabbitMQ does not start again; it says:\n{log}");
        }
    }

    /// Stops the broker's process where it is: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets a paused broker go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(self.broker.is_some(), "the broker does not run");
        let process = std::fs::read_to_string(self.folder.join(format!("run-{}/pid", self.runs)));
        let process = process.expect("the process number is written before the broker is ready");
        let sent = Command::new("kill").args(["-s", signal, process.trim()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -s {signal} {process}");
    }

    /// Runs `rabbitmqctl` with `arguments`; what it prints. Takes about a second.
    ///
    /// # Panics
    /// When it fails.
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("env");
        command.args(self.environment()).arg(self.programs.join("rabbitmqctl")).args(["-q", "-s"]).args(arguments);
        let output = command.current_dir(&self.folder).output().expect("rabbitmqctl starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {said}{problem}");
        said
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // Before its port mapper, and before the folder that both are in.
        self.broker = None;
    }
}

fn settings(ports: [u16; 4], folder: &Path, certificates: &Certificates) -> String {
    let [plain, tls, ..] = ports;
    format!(
        "listeners.tcp.1 = 127.0.0.1:{plain}\n\
         listeners.ssl.1 = 127.0.0.1:{tls}\n\
         ssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\n\
         ssl_options.verify = verify_none\n\
         load_definitions = {}\n\
         disk_free_limit.absolute = 50MB\n\
         vm_memory_high_watermark.absolute = 1GB\n\
         log.console = true\n\
         log.file = false\n",
        certificates.authority().display(),
        certificates.certificate().display(),
        certificates.key().display(),
        folder.join("definitions.json").display(),
    )
}

fn definitions() -> String {
    let user = |(name, password): (&str, &str), tags: &str| {
        format!(r#"{{"name": "{name}", "password": "{password}", "tags": "{tags}"}}"#)
    };
    let vhosts: Vec<String> =
        std::iter::once("/".to_owned()).chain((0..RabbitMq::VHOSTS).map(|number| format!("v{number}"))).collect();
    let vhost = |name: &String| format!(r#"{{"name": "{name}"}}"#);
    let permission = |name: &String| {
        let user = RabbitMq::USER.0;
        format!(r#"{{"user": "{user}", "vhost": "{name}", "configure": ".*", "write": ".*", "read": ".*"}}"#)
    };
    format!(
        r#"{{"users": [{}, {}], "vhosts": [{}], "permissions": [{}]}}"#,
        user(RabbitMq::USER, "administrator"),
        user(RabbitMq::STRANGER, ""),
        vhosts.iter().map(vhost).collect::<Vec<_>>().join(", "),
        vhosts.iter().map(permission).collect::<Vec<_>>().join(", "),
    )
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Whether a broker answers the header of the protocol with its first frame.
fn speaks_amqp(port: u16) -> bool {
    let answer = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"AMQP\0\0\x09\x01")?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(first[0])
    };
    answer().is_ok_and(|first| first == 1)
}
