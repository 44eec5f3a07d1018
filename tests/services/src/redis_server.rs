//! Redis as private servers that keep nothing on disk, alone or three as a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::process::{Server, find, free_ports, start};

/// Ready after a few hundredths of a second on an idle machine, a cluster after three seconds; a busy one gets half a minute.
const READY_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// What a server is to be like.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// The only user who may log in; without a name it is the default user's password alone that is asked for.
    pub user: Option<&'static str>,
    /// Its password.
    pub password: Option<&'static str>,
    /// Files of the authority, the certificate and the key, of a server that speaks TLS only.
    pub tls: Option<[PathBuf; 3]>,
    /// Further lines of its configuration.
    pub lines: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub struct Redis {
    /// Absent only while another takes its place.
    server: Option<Server>,
    folder: PathBuf,
    port: u16,
    options: RedisOptions,
}

impl Redis {
    /// Starts a server without users and TLS.
    ///
    /// # Panics
    /// As [`Redis::with`].
    #[must_use]
    pub fn start() -> Self {
        Self::with(&RedisOptions::default())
    }

    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, ends, or is not ready in time; with the end of its log.
    #[must_use]
    pub fn with(options: &RedisOptions) -> Self {
        start("redis-server", || {
            let port = free_ports::<1>().expect("a free port")[0];
            let (server, folder) = attempt(port, options)?;
            Ok(Self { server: Some(server), folder, port, options: options.clone() })
        })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "rediss" } else { "redis" };
        let login = self.options.password.map(|word| format!("{}:{word}@", self.options.user.unwrap_or_default()));
        format!("{scheme}://{}127.0.0.1:{}", login.unwrap_or_default(), self.port)
    }

    /// Kills it and starts another on the same port, which knows nothing.
    ///
    /// # Panics
    /// When the other does not start.
    pub fn kill_and_restart_empty(&mut self) {
        self.kill();
        self.restart();
    }

    /// Kills it. Nothing listens on its port then.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same port after [`Redis::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let (server, folder) = attempt(self.port, &self.options).expect("the port was free a moment ago");
        (self.server, self.folder) = (Some(server), folder);
    }

    /// Stops it: it takes connections and says nothing more.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&self) {
        signal(&self.folder, "-STOP");
    }

    /// Lets it go on after [`Redis::stop`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn cont(&self) {
        signal(&self.folder, "-CONT");
    }

    /// The answer to a command, lines as they come.
    ///
    /// # Panics
    /// When the server refuses it.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Vec<String> {
        let mut cli = Command::new(find("redis-cli", "GRISTMILL_REDIS_CLI", "redis"));
        cli.args(["--raw", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some([authority, ..]) = &self.options.tls {
            cli.arg("--tls").arg("--cacert").arg(authority);
        }
        if let Some(password) = self.options.password {
            cli.args(["--no-auth-warning", "--user", self.options.user.unwrap_or("default"), "--pass", password]);
        }
        let Output { status, stdout, stderr } = cli.arg("-e").args(words).output().expect("redis-cli runs");
        let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{words:?}: {said}{wrong}");
        said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// All keys, sorted.
    ///
    /// # Panics
    /// As [`Redis::command`].
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self.command(&["keys", "*"]);
        keys.sort_unstable();
        keys
    }

    /// The keys that never expire. One request, however many there are.
    ///
    /// # Panics
    /// As [`Redis::command`].
    #[must_use]
    pub fn keys_for_ever(&self) -> Vec<String> {
        let script = "local found = {} for _, key in ipairs(redis.call('keys', '*')) do \
            if redis.call('pttl', key) == -1 then table.insert(found, key) end end return found";
        self.command(&["eval", script, "0"])
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(folder: &Path, name: &str) {
    let pid = std::fs::read_to_string(folder.join("pid")).expect("the number of a running server");
    let status = Command::new("kill").args([name, pid.trim()]).status().expect("kill runs");
    assert!(status.success(), "kill {name} {pid}");
}

fn attempt(port: u16, options: &RedisOptions) -> Result<(Server, PathBuf), String> {
    let program = find("redis-server", "GRISTMILL_REDIS_SERVER", "redis");
    let folder = tempfile::Builder::new().prefix("redis-").tempdir().map_err(|e| e.to_string())?.keep();
    let mut lines = vec!["bind 127.0.0.1".to_owned(), "save \"\"".to_owned(), "appendonly no".to_owned()];
    match &options.tls {
        None => lines.push(format!("port {port}")),
        Some([authority, certificate, key]) => lines.extend([
            "port 0".to_owned(),
            format!("tls-port {port}"),
            format!("tls-ca-cert-file \"{}\"", authority.display()),
            format!("tls-cert-file \"{}\"", certificate.display()),
            format!("tls-key-file \"{}\"", key.display()),
            "tls-auth-clients no".to_owned(),
        ]),
    }
    match (options.user, options.password) {
        (None, None) => {}
        (None, Some(password)) => lines.push(format!("requirepass {password}")),
        (Some(user), password) => {
            let password = password.map_or_else(|| "nopass".to_owned(), |password| format!(">{password}"));
            lines.extend(["user default off".to_owned(), format!("user {user} on {password} ~* &* +@all")]);
        }
    }
    lines.extend(options.lines.iter().cloned());
    std::fs::write(folder.join("redis.conf"), lines.join("\n") + "\n").map_err(|e| e.to_string())?;
    let mut server = Server::start(&program, &["redis.conf".to_owned()], folder.clone()).map_err(|e| e.to_string())?;
    server.wait(READY_LIMIT, PAUSE, |server| server.log().contains("Ready to accept connections"))?;
    Ok((server, folder))
}

/// Three servers that share the keys.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<Redis>,
}

impl RedisCluster {
    /// Starts the servers, joins them, and waits until each of them knows of all.
    ///
    /// # Panics
    /// When they do not start, or do not join in time.
    #[must_use]
    pub fn start() -> Self {
        let servers: Vec<Redis> = (0..3).map(|_| Self::node()).collect();
        let slots = ["0 5460", "5461 10922", "10923 16383"];
        for ((epoch, server), range) in (1..).zip(&servers).zip(slots) {
            let (first, last) = range.split_once(' ').expect("two numbers");
            let _ = server.command(&["cluster", "set-config-epoch", &epoch.to_string()]);
            let _ = server.command(&["cluster", "addslotsrange", first, last]);
        }
        let ports = |server: &Redis| (server.port.to_string(), server.bus().to_string());
        for server in &servers[1..] {
            let (port, bus) = ports(server);
            let _ = servers[0].command(&["cluster", "meet", "127.0.0.1", &port, &bus]);
        }
        let begun = Instant::now();
        let knows_all = |server: &Redis| {
            let info = server.command(&["cluster", "info"]);
            let has = |line: &str| info.iter().any(|found| found.trim_end() == line);
            has("cluster_state:ok") && has("cluster_known_nodes:3") && has("cluster_slots_ok:16384")
        };
        while !servers.iter().all(knows_all) {
            assert!(begun.elapsed() < READY_LIMIT, "the servers of a cluster do not join");
            std::thread::sleep(4 * PAUSE);
        }
        Self { servers }
    }

    fn node() -> Redis {
        // The port for the other servers is chosen here, for that of the default may be out of range.
        let bus = free_ports::<1>().expect("a free port")[0];
        let lines = ["cluster-enabled yes".to_owned(), format!("cluster-port {bus}")];
        Redis::with(&RedisOptions { lines: lines.to_vec(), ..RedisOptions::default() })
    }

    /// URL of the cluster by one of its servers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.servers[0].port)
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// All keys, sorted.
    ///
    /// # Panics
    /// As [`Redis::command`].
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.servers.iter().flat_map(Redis::keys).collect();
        keys.sort_unstable();
        keys
    }
}

impl Redis {
    /// The port that the other servers of its cluster use.
    fn bus(&self) -> u16 {
        let lines = self.options.lines.iter();
        lines.filter_map(|line| line.strip_prefix("cluster-port ")?.parse().ok()).next().unwrap_or_default()
    }
}
