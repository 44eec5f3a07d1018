//! A small HTTP/1.1 proxy that does to requests and answers what networks and overloaded servers do.
//!
//! It passes the `Host` header on as it came, so that signatures hold. One thread a connection: tests have few.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to a request or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// The proxy answers in the server's place.
    Answer {
        /// HTTP status.
        status: u16,
        /// S3's or Lambda's code.
        code: &'static str,
        /// Seconds of a `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// The connection is reset after so many bytes of the request's body; the server sees nothing of it.
    ResetRequest {
        /// Bytes.
        after: u64,
    },
    /// The server acts, and the connection is cut before its answer.
    LoseAnswer,
    /// The connection is reset after so many bytes of the answer's body.
    ResetAnswer {
        /// Bytes.
        after: u64,
    },
    /// The connection is closed in order after so many bytes of the answer's body.
    TruncateAnswer {
        /// Bytes.
        after: u64,
    },
    /// The answer's body comes slowly.
    SlowAnswer {
        /// Bytes that come at once.
        chunk: usize,
        /// Time between them.
        pause: Duration,
    },
    /// The answer's body stops after so many bytes; the connection stays open.
    StallAnswer {
        /// Bytes.
        after: u64,
        /// How long it stays open.
        pause: Duration,
    },
    /// A bit of this byte of the request's body is flipped.
    FlipRequest {
        /// Position.
        at: u64,
    },
    /// A bit of this byte of the answer's body is flipped.
    FlipAnswer {
        /// Position.
        at: u64,
    },
}

/// A request as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// How many came before it.
    pub number: usize,
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body, by its header.
    pub length: u64,
    /// Bytes of the answer's body that were passed on.
    pub answered: u64,
}

impl Request {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

type Choice = dyn Fn(&Request) -> Fault + Send + Sync;

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl FaultProxy {
    /// Starts a proxy before the server at `port` of this machine; `choose` says what happens to each request.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(port: u16, choose: impl Fn(&Request) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (seen, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let choose: Arc<Choice> = Arc::new(choose);
        std::thread::spawn({
            let (seen, stopped) = (Arc::clone(&seen), Arc::clone(&stopped));
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    let (seen, choose) = (Arc::clone(&seen), Arc::clone(&choose));
                    // A connection ends with an error whenever a fault or the client ends it.
                    std::thread::spawn(move || drop(connection(client, port, &seen, &*choose)));
                }
            }
        });
        Self { address, seen, stopped }
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that came so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests of a method came so far.
    #[must_use]
    pub fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|request| request.method == method).count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is to stop.
        let _ = TcpStream::connect(self.address);
    }
}

/// The first line and the headers of a message, as they came.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
    raw: Vec<u8>,
}

impl Head {
    fn read(from: &mut impl BufRead) -> Result<Self> {
        let mut raw = Vec::new();
        let mut lines = Vec::new();
        loop {
            let start = raw.len();
            if from.read_until(b'\n', &mut raw)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&raw[start..]).trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let header = |line: &String| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
        let headers = lines.iter().skip(1).filter_map(header).collect();
        Ok(Self { first: lines.into_iter().next().unwrap_or_default(), headers, raw })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked"))
    }
}

/// What is done to a body on its way.
struct Way<'a> {
    to: &'a mut TcpStream,
    passed: u64,
    flip: Option<u64>,
    stop: Option<(u64, Duration)>,
    slow: Option<(usize, Duration)>,
}

impl Way<'_> {
    fn pass(&mut self, bytes: &mut [u8]) -> Result<()> {
        if let Some(at) = self.flip.and_then(|at| at.checked_sub(self.passed))
            && let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at))
        {
            *byte ^= 1;
        }
        let mut end = bytes.len();
        if let Some((after, _)) = self.stop {
            end = end.min(usize::try_from(after - self.passed).unwrap_or(end));
        }
        for chunk in bytes[..end].chunks(self.slow.map_or(usize::MAX, |(chunk, _)| chunk)) {
            self.to.write_all(chunk)?;
            self.passed += chunk.len() as u64;
            if let Some((_, pause)) = self.slow {
                std::thread::sleep(pause);
            }
        }
        match self.stop {
            Some((after, pause)) if self.passed >= after => {
                std::thread::sleep(pause);
                Err(Error::other("the fault that was chosen"))
            }
            _ => Ok(()),
        }
    }

    fn pass_exactly(&mut self, from: &mut impl Read, mut left: u64) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        // Also where there is no body, a stop after no byte is one.
        self.pass(&mut [])?;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = from.read(&mut buffer[..most])?;
            if got == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            left -= got as u64;
            self.pass(&mut buffer[..got])?;
        }
        Ok(())
    }

    /// Chunks with their lengths; faults are of answers whose length is known, which those with objects are.
    fn pass_chunked(&mut self, from: &mut impl BufRead) -> Result<()> {
        loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            let text = String::from_utf8_lossy(&line);
            let size = u64::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
            self.to.write_all(&line)?;
            self.pass_exactly(from, size + 2)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

/// Ends a connection with a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn connection(client: TcpStream, port: u16, seen: &Mutex<Vec<Request>>, choose: &Choice) -> Result<()> {
    client.set_nodelay(true)?;
    let mut from_client = BufReader::with_capacity(64 << 10, client.try_clone()?);
    let mut to_client = client;
    let mut to_server = TcpStream::connect(("127.0.0.1", port))?;
    to_server.set_nodelay(true)?;
    let mut from_server = BufReader::with_capacity(64 << 10, to_server.try_clone()?);
    loop {
        let head = Head::read(&mut from_client)?;
        let mut words = head.first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let length = head.length().unwrap_or(0);
        let (fault, number) = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let request = Request {
                number: seen.len(),
                method: method.to_owned(),
                target: target.to_owned(),
                headers: head.headers.clone(),
                length,
                answered: 0,
            };
            let fault = choose(&request);
            seen.push(request);
            (fault, seen.len() - 1)
        };
        if let Fault::Answer { status, code, retry_after } = fault {
            std::io::copy(&mut (&mut from_client).take(length), &mut std::io::sink())?;
            let of_lambda = target.contains("/functions/");
            answer(&mut to_client, status, code, retry_after, method == "HEAD", of_lambda)?;
            continue;
        }
        let flip = if let Fault::FlipRequest { at } = fault { Some(at) } else { None };
        let stop = if let Fault::ResetRequest { after } = fault { Some((after, Duration::ZERO)) } else { None };
        if stop.is_some() {
            reset(&to_client);
        }
        to_server.write_all(&head.raw)?;
        let mut way = Way { to: &mut to_server, passed: 0, flip, stop, slow: None };
        if head.is_chunked() {
            way.pass_chunked(&mut from_client)?;
        } else {
            way.pass_exactly(&mut from_client, length)?;
        }

        let mut head = Head::read(&mut from_server)?;
        while head.first.split(' ').nth(1).is_some_and(|status| status.starts_with('1')) {
            head = Head::read(&mut from_server)?;
        }
        let status = head.first.split(' ').nth(1).unwrap_or_default();
        let bodyless = method == "HEAD" || status == "204" || status == "304";
        if fault == Fault::LoseAnswer {
            return Ok(());
        }
        if matches!(fault, Fault::ResetAnswer { .. }) {
            reset(&to_client);
        }
        to_client.write_all(&head.raw)?;
        let stop = match fault {
            Fault::ResetAnswer { after } | Fault::TruncateAnswer { after } => Some((after, Duration::ZERO)),
            Fault::StallAnswer { after, pause } => Some((after, pause)),
            _ => None,
        };
        let flip = if let Fault::FlipAnswer { at } = fault { Some(at) } else { None };
        let slow = if let Fault::SlowAnswer { chunk, pause } = fault { Some((chunk, pause)) } else { None };
        let mut way = Way { to: &mut to_client, passed: 0, flip, stop, slow };
        let passed = match (bodyless, head.is_chunked(), head.length()) {
            (true, _, _) => Ok(()),
            (false, true, _) => way.pass_chunked(&mut from_server),
            (false, false, length) => way.pass_exactly(&mut from_server, length.unwrap_or(0)),
        };
        let answered = way.passed;
        seen.lock().unwrap_or_else(PoisonError::into_inner)[number].answered = answered;
        passed?;
    }
}

fn answer(
    to: &mut TcpStream,
    status: u16,
    code: &str,
    retry_after: Option<u32>,
    is_head: bool,
    of_lambda: bool,
) -> Result<()> {
    let (kind, body) = if of_lambda {
        let kind = format!("application/json\r\nX-Amzn-ErrorType: {code}");
        (kind, r#"{"Type": "User", "message": "the proxy says so"}"#.to_owned())
    } else {
        let body = format!("<Error><Code>{code}</Code><Message>the proxy says so</Message></Error>");
        ("application/xml".to_owned(), body)
    };
    let after = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    let length = body.len();
    let body = if is_head { "" } else { &body };
    write!(to, "HTTP/1.1 {status} Fault\r\nContent-Type: {kind}\r\n{after}Content-Length: {length}\r\n\r\n{body}")
}
