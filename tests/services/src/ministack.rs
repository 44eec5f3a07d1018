//! MiniStack as a private AWS Lambda, which runs functions as processes of this machine.
//!
//! What it does not do as AWS does is done around it: `ministack.py` starts and mends it, `bootstrap.sh` starts a function.

use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::process::{Server, find, free_ports, start};

/// Ready after half a second on an idle machine; a busy one gets a minute.
const READY_LIMIT: Duration = Duration::from_secs(60);

const START: &str = include_str!("ministack.py");
const BOOTSTRAP: &str = include_str!("bootstrap.sh");

const FUNCTIONS: &str = "/2015-03-31/functions";

/// A running Lambda without functions. It accepts every key.
#[derive(Debug)]
pub struct MiniStack {
    server: Server,
    folder: PathBuf,
    port: u16,
}

/// A function as it is deployed.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Speaks the runtime API.
    pub program: PathBuf,
    /// What its environment has beside what every function's has.
    pub variables: Vec<(String, String)>,
    /// More than this is refused to it.
    pub memory_mb: u32,
    /// After this an invocation is ended, and its process.
    pub timeout_seconds: u32,
    /// What a process waits before the program starts. It must be under the ten seconds that AWS gives for that.
    pub cold_start: RangeInclusive<Duration>,
    /// How often an event is tried again that failed.
    pub retries: u32,
    /// The most invocations at once, of all versions.
    pub concurrency: Option<u32>,
}

impl Deployment {
    /// `program` with 256 MB, 20 seconds, no cold start and AWS's own two retries.
    #[must_use]
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            variables: Vec::new(),
            memory_mb: 256,
            timeout_seconds: 20,
            cold_start: Duration::ZERO..=Duration::ZERO,
            retries: 2,
            concurrency: None,
        }
    }

    /// The package as AWS takes it.
    fn package(&self) -> Vec<u8> {
        let (least, most) = (self.cold_start.start().as_millis(), self.cold_start.end().as_millis());
        let span = most.checked_sub(least).expect("a range of cold starts") + 1;
        let bootstrap = BOOTSTRAP.replace("LEAST", &least.to_string()).replace("SPAN", &span.to_string());
        let worker = std::fs::read(&self.program).unwrap_or_else(|e| panic!("{}: {e}", self.program.display()));
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let mut package = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in [("bootstrap", bootstrap.as_bytes()), ("worker", &worker)] {
            package.start_file(name, options.unix_permissions(0o755)).expect("a name of a file");
            package.write_all(bytes).expect("memory takes it");
        }
        package.finish().expect("memory takes it").into_inner()
    }

    fn configuration(&self) -> Value {
        let variables = self.variables.iter().map(|(name, value)| (name.clone(), json!(value)));
        json!({
            "Runtime": "provided.al2023",
            "Handler": "bootstrap",
            "Role": "arn:aws:iam::000000000000:role/worker",
            "MemorySize": self.memory_mb,
            "Timeout": self.timeout_seconds,
            "Environment": {"Variables": Value::Object(variables.collect())},
        })
    }
}

/// What came of an invocation that was waited for.
#[derive(Debug)]
pub struct Invocation {
    /// 200 also when the function failed.
    pub status: u16,
    /// Whether the function failed.
    pub failed: bool,
    /// What it returned, or how it failed.
    pub body: Value,
}

impl MiniStack {
    /// The key that functions have, which stands for their execution role.
    pub const ROLE: (&str, &str) = ("000000000000", "geheim-der-funktion");

    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, ends, or is not ready in time; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        start("MiniStack", Self::attempt)
    }

    fn attempt() -> Result<Self, String> {
        // Its venv's Python runs it: the first line of its own program names the folder that the venv was made in.
        let program = find("ministack", "GRISTMILL_MINISTACK", "ministack-1.5.33");
        let program = program.canonicalize().map_err(|e| format!("{}: {e}", program.display()))?;
        let python = program.with_file_name("python3");
        let programs = python.parent().unwrap_or(&python).display();
        let folder = tempfile::Builder::new().prefix("ministack-").tempdir().map_err(|e| e.to_string())?.keep();
        let [port] = free_ports::<1>().map_err(|e| e.to_string())?;
        let mut arguments = vec!["-i".to_owned()];
        arguments.extend(
            [
                ("PATH", format!("{programs}:/usr/local/bin:/usr/bin:/bin")),
                ("HOME", folder.display().to_string()),
                ("TMPDIR", folder.display().to_string()),
                ("BIND_HOST", "127.0.0.1".to_owned()),
                ("GATEWAY_PORT", port.to_string()),
                ("MINISTACK_HOST", "127.0.0.1".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", Self::ROLE.1.to_owned()),
                ("LAMBDA_ASYNC_RETRY_BASE_SECONDS", "1".to_owned()),
                // Otherwise it reckons a number from the machine's memory.
                ("LAMBDA_ACCOUNT_CONCURRENCY", "1500".to_owned()),
                // Otherwise it removes containers of other instances, and listens on a fixed port.
                ("DOCKER_HOST", "unix:///nonexistent".to_owned()),
                ("IOT_MTLS_ENABLED", "0".to_owned()),
            ]
            .map(|(name, value)| format!("{name}={value}")),
        );
        arguments.extend([python.display().to_string(), "-c".to_owned(), START.to_owned()]);
        let server = Server::start("env".as_ref(), &arguments, folder.clone()).map_err(|e| e.to_string())?;
        let mut started = Self { server, folder, port };
        let health = |_: &Server| request(port, "GET", "/_ministack/health", &[], "").is_ok_and(|(head, _)| ok(&head));
        started.server.wait(READY_LIMIT, Duration::from_millis(20), health)?;
        Ok(started)
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Variables for a child process that is to call functions; those of `SeaweedFs::env` may be given with them.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        Self::env_of(&self.url())
    }

    /// Variables for a child process that is to use `url`, a proxy before a server.
    #[must_use]
    pub fn env_of(url: &str) -> Vec<(&'static str, String)> {
        let mut variables = crate::SeaweedFs::env_of(url, crate::SeaweedFs::ADMIN);
        variables.retain(|(name, _)| *name != "AWS_ENDPOINT_URL_S3");
        variables.push(("AWS_ENDPOINT_URL_LAMBDA", url.to_owned()));
        variables
    }

    /// Makes the function `name`, or changes it, and publishes what it now is; the version. Takes about a second.
    ///
    /// # Panics
    /// When the server refuses it or its program cannot be read.
    pub fn deploy(&self, name: &str, deployment: &Deployment) -> String {
        let function = format!("{FUNCTIONS}/{name}");
        let mut settings = deployment.configuration();
        let package = STANDARD.encode(deployment.package());
        if ok(&self.request("GET", &format!("{function}/configuration"), &[], "").0) {
            self.demand("PUT", &format!("{function}/code"), &json!({"ZipFile": package}));
            self.wait_until_active(name);
            self.demand("PUT", &format!("{function}/configuration"), &settings);
        } else {
            settings["FunctionName"] = json!(name);
            settings["Code"] = json!({"ZipFile": package});
            self.demand("POST", FUNCTIONS, &settings);
        }
        self.wait_until_active(name);
        let published = self.demand("POST", &format!("{function}/versions"), &json!({}));
        let version = published["Version"].as_str().expect("a version").to_owned();
        let concurrency = format!("/2017-10-31/functions/{name}/concurrency");
        match deployment.concurrency {
            Some(most) => self.demand("PUT", &concurrency, &json!({"ReservedConcurrentExecutions": most})),
            None => self.demand("DELETE", &concurrency, &Value::Null),
        };
        let events = format!("/2019-09-25/functions/{name}/event-invoke-config");
        for events in [events.clone(), format!("{events}?Qualifier={version}")] {
            self.demand("PUT", &events, &json!({"MaximumRetryAttempts": deployment.retries}));
        }
        version
    }

    fn wait_until_active(&self, name: &str) {
        let begun = Instant::now();
        loop {
            let now = self.demand("GET", &format!("{FUNCTIONS}/{name}/configuration"), &Value::Null);
            if now["State"] == "Active" && now["LastUpdateStatus"] == "Successful" {
                return;
            }
            assert!(begun.elapsed() < READY_LIMIT, "the function is not active: {now}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Invokes a version of a function and waits for what it returns.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn call(&self, function: &str, version: &str, payload: &Value) -> Invocation {
        let (head, body) = self.invoke(function, version, payload, "RequestResponse");
        let failed = head.to_ascii_lowercase().contains("\r\nx-amz-function-error:");
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Invocation { status: status(&head), failed, body }
    }

    /// Leaves a version of a function an event; the status, 202 when it was accepted.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn send(&self, function: &str, version: &str, payload: &Value) -> u16 {
        status(&self.invoke(function, version, payload, "Event").0)
    }

    fn invoke(&self, function: &str, version: &str, payload: &Value, kind: &str) -> (String, String) {
        let path = format!("{FUNCTIONS}/{function}/invocations?Qualifier={version}");
        self.request("POST", &path, &[("X-Amz-Invocation-Type", kind)], &payload.to_string())
    }

    /// The processes of functions that are there, at work or warm, in the order of their numbers.
    ///
    /// # Panics
    /// When the system does not tell of its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let code = format!("{}/ministack-provided-code-{}/", self.folder.display(), self.port);
        let of_a_function = |process: &u32| {
            let command = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(&code)
        };
        let all = std::fs::read_dir("/proc").expect("processes are listed");
        let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut found: Vec<u32> = numbers.filter(of_a_function).collect();
        found.sort_unstable();
        found
    }

    /// What invocations of `function` said that have ended, with AWS's lines about each.
    #[must_use]
    pub fn logs(&self, function: &str) -> String {
        let headers =
            [("X-Amz-Target", "Logs_20140328.FilterLogEvents"), ("Content-Type", "application/x-amz-json-1.1")];
        let group = json!({"logGroupName": format!("/aws/lambda/{function}")});
        let (_, body) = self.request("POST", "/", &headers, &group.to_string());
        let found: Value = serde_json::from_str(&body).unwrap_or_default();
        let lines = found["events"].as_array().into_iter().flatten().filter_map(|event| event["message"].as_str());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The end of what the server itself said.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The folder of everything that it and its functions write, in the environment of each of them as `TMPDIR`.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// The answer to a request that must succeed.
    fn demand(&self, method: &str, path: &str, body: &Value) -> Value {
        let sent = if body.is_null() { String::new() } else { body.to_string() };
        let (head, answer) = self.request(method, path, &[("Content-Type", "application/json")], &sent);
        assert!(ok(&head), "{method} {path}: {head}\n{answer}");
        serde_json::from_str(&answer).unwrap_or_default()
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
        match request(self.port, method, path, headers, body) {
            Ok(answer) => answer,
            Err(error) => panic!("MiniStack does not answer: {error}; it says:\n{}", self.log()),
        }
    }
}

/// Head and body of the answer. It is asked as by an older client, so that the body comes in one piece.
fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head.to_owned() + "\r\n", body.to_owned()))
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

fn ok(head: &str) -> bool {
    (200..300).contains(&status(head))
}
