//! What the failures of a Redis server mean: whether to try again, and what to tell.

use std::io;

use schemas::exit::ErrorKind;

use super::url::RedisUrl;
use crate::service::ServiceError;

/// Longest text of a server that is passed on.
const SHOWN: usize = 200;

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Somebody has to do something.
    None,
    /// It may pass.
    Wait,
    /// It may be gone with another connection.
    Reconnect,
}

/// When it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// While a connection was made.
    Connecting,
    /// After that.
    Asking,
}

/// A failure as the client tells of it.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// The server answered with an error: its code and the rest.
    Answer {
        /// First word.
        code: String,
        /// What follows it.
        detail: String,
    },
    /// Password or user are wrong.
    Login,
    /// The connection.
    Io {
        /// What the system calls it.
        kind: io::ErrorKind,
        /// In words.
        text: String,
    },
    /// The connection was closed while it was made, and a TLS server is there.
    SpeaksTls,
    /// There was no answer to TLS, and one without.
    SpeaksPlain,
    /// The system's certificates cannot be read.
    Certificates(String),
    /// What came is not Redis' protocol.
    Protocol(String),
    /// The time is up, and no answer was there.
    Silence,
}

/// A failure and what it means.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What can be done.
    pub(super) remedy: Remedy,
    problem: String,
    kind: ErrorKind,
    fix: String,
}

impl Failure {
    /// What `cause` means for the server at `url`, on which the keys begin with `prefix`.
    pub(super) fn new(cause: Cause, stage: Stage, url: &RedisUrl, prefix: &str) -> Self {
        use ErrorKind::{Config, Unavailable};
        let (remedy, kind, problem, fix): (_, _, String, String) = match cause {
            Cause::Answer { code, detail } => return Self::of_answer(&code, &detail, url, prefix),
            Cause::Login => {
                let fix = "correct user and password in its URL; an @, / or % in them is written %40, %2F, %25";
                (Remedy::None, Config, "it refuses user or password".into(), fix.into())
            }
            Cause::SpeaksTls => {
                let fix = format!("write {}:// for it", RedisUrl::scheme(true, url.cluster));
                (Remedy::None, Config, "it takes connections with TLS only".into(), fix)
            }
            Cause::SpeaksPlain => {
                let fix = format!("write {}:// for it", RedisUrl::scheme(false, url.cluster));
                (Remedy::None, Config, "it takes connections without TLS only".into(), fix)
            }
            Cause::Certificates(text) => {
                let fix =
                    "correct SSL_CERT_FILE or SSL_CERT_DIR, or install the system's certificates (ca-certificates)";
                (Remedy::None, Config, format!("trusted certificates cannot be read: {}", shown(&text)), fix.into())
            }
            Cause::Io { kind: io::ErrorKind::InvalidData, text } if url.tls && stage == Stage::Connecting => {
                let fix = if text.contains("certificate") {
                    "set SSL_CERT_FILE to the certificate of the authority that signed the server's, and name the server as \
                     its certificate does"
                        .to_owned()
                } else {
                    format!("write {}:// if it does not speak TLS", RedisUrl::scheme(false, url.cluster))
                };
                (Remedy::None, Config, format!("no TLS connection: {}", shown(&text)), fix)
            }
            Cause::Io { kind, text } => {
                let (problem, fix) = match kind {
                    io::ErrorKind::ConnectionRefused => {
                        ("nothing takes connections there".to_owned(), "start the server, or correct host and port")
                    }
                    _ if text.contains("lookup") => (shown(&text), "correct the host in its URL"),
                    _ => (shown(&text), "see that the server runs and its network can be reached"),
                };
                (Remedy::Reconnect, Unavailable, problem, fix.into())
            }
            Cause::Protocol(text) if stage == Stage::Connecting => {
                let problem = format!("it does not answer as Redis does: {}", shown(&text));
                (Remedy::None, Config, problem, "correct host and port".into())
            }
            Cause::Protocol(text) => {
                let fix = "see whether the server or something on the way to it is faulty";
                (Remedy::Reconnect, Unavailable, format!("not an answer of Redis: {}", shown(&text)), fix.into())
            }
            Cause::Silence => {
                let fix = "see that the server runs and is not overloaded, and its network can be reached";
                (Remedy::Reconnect, Unavailable, "no answer".into(), fix.into())
            }
        };
        Self { remedy, problem, kind, fix }
    }

    fn of_answer(code: &str, detail: &str, url: &RedisUrl, prefix: &str) -> Self {
        use ErrorKind::{Config, Unavailable};
        let scheme = |cluster| RedisUrl::scheme(url.tls, cluster);
        let (remedy, kind, fix) = match code {
            "LOADING" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "NOREPLICAS" | "BUSY" => {
                (Remedy::Wait, Unavailable, "wait until the server is ready".to_owned())
            }
            "MOVED" | "ASK" if url.cluster => {
                (Remedy::Wait, Unavailable, "wait until the cluster has moved its keys".to_owned())
            }
            "MOVED" | "ASK" | "CROSSSLOT" => {
                (Remedy::None, Config, format!("it belongs to a cluster: write {}:// for it", scheme(true)))
            }
            "READONLY" => {
                let fix = "name the primary server, not one of its replicas";
                (Remedy::Reconnect, Unavailable, fix.to_owned())
            }
            "MISCONF" => {
                let fix = "make room on the server's disk, or turn its saving off (save \"\"): nothing here needs it";
                (Remedy::None, Unavailable, fix.to_owned())
            }
            "OOM" => {
                let fix =
                    "give the server more memory (maxmemory), use several servers, or share this one with fewer others";
                (Remedy::None, Unavailable, fix.to_owned())
            }
            "NOAUTH" => {
                let fix = format!("put user and password into its URL: {}://user:password@host", scheme(url.cluster));
                (Remedy::None, Config, fix)
            }
            "WRONGPASS" => (Remedy::None, Config, "correct user and password in its URL".to_owned()),
            "NOPERM" => {
                let further = if url.cluster { " +cluster|slots" } else { "" };
                let fix = format!("allow the user what is needed on its keys: ~{prefix}/* +get +set +unlink{further}");
                (Remedy::None, Config, fix)
            }
            "ERR" if detail.contains("max number of clients") => {
                let fix = "let the server take more connections (maxclients), or use fewer workers";
                (Remedy::Reconnect, Unavailable, fix.to_owned())
            }
            "ERR" if detail.contains("cluster support disabled") => {
                (Remedy::None, Config, format!("it is no cluster: write {}:// for it", scheme(false)))
            }
            _ => {
                let fix =
                    "see that it is Redis 6 or newer, or the same in other words, and has the database of its URL";
                (Remedy::None, Config, fix.to_owned())
            }
        };
        let problem = format!("it refuses: {}", shown(&format!("{code} {detail}")));
        Self { remedy, problem, kind, fix }
    }

    /// What to tell of it after the server at `url` was given `deadline`.
    pub(super) fn told(&self, url: &RedisUrl, deadline: std::time::Duration) -> ServiceError {
        let tried = match self.remedy {
            Remedy::None => String::new(),
            Remedy::Wait | Remedy::Reconnect => format!(" (tried for {:.1} s)", deadline.as_secs_f64()),
        };
        let problem = format!("{}{tried}", self.problem);
        ServiceError { place: url.to_string(), problem, kind: self.kind, fix: self.fix.clone() }
    }
}

/// A server's text for a line of ours.
fn shown(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let printable = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut cut: String = printable.take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        cut.push_str("...");
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answer(text: &str, url: &str) -> (Remedy, ServiceError) {
        let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
        let cause = Cause::Answer { code: code.to_owned(), detail: detail.to_owned() };
        let url = RedisUrl::parse(url).unwrap();
        let failure = Failure::new(cause, Stage::Asking, &url, "run-1");
        (failure.remedy, failure.told(&url, Duration::from_secs(5)))
    }

    #[test]
    fn answers_of_servers_have_their_kind_and_remedy() {
        use ErrorKind::{Config, Unavailable};
        let (one, cluster) = ("redis://h", "redis-cluster://h");
        let cases = [
            ("LOADING Redis is loading the dataset in memory", one, Remedy::Wait, Unavailable, "wait"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", cluster, Remedy::Wait, Unavailable, "wait"),
            ("CLUSTERDOWN Hash slot not served", cluster, Remedy::Wait, Unavailable, "wait"),
            ("MOVED 3999 127.0.0.1:6381", cluster, Remedy::Wait, Unavailable, "moved its keys"),
            ("MOVED 3999 127.0.0.1:6381", one, Remedy::None, Config, "redis-cluster://"),
            ("ASK 3999 127.0.0.1:6381", "rediss://h", Remedy::None, Config, "rediss-cluster://"),
            ("READONLY You can't write against a read only replica.", one, Remedy::Reconnect, Unavailable, "primary"),
            ("MISCONF Redis is configured to save RDB snapshots", one, Remedy::None, Unavailable, "disk"),
            ("OOM command not allowed when used memory > 'maxmemory'.", one, Remedy::None, Unavailable, "maxmemory"),
            ("NOAUTH Authentication required.", one, Remedy::None, Config, "user:password@"),
            ("WRONGPASS invalid username-password pair", one, Remedy::None, Config, "password"),
            ("NOPERM this user has no permissions", one, Remedy::None, Config, "~run-1/* +get +set +unlink"),
            ("ERR max number of clients reached", one, Remedy::Reconnect, Unavailable, "maxclients"),
            ("ERR This instance has cluster support disabled", cluster, Remedy::None, Config, "redis://"),
            ("ERR DB index is out of range", one, Remedy::None, Config, "database"),
            ("WRONGTYPE Operation against a key", one, Remedy::None, Config, "Redis"),
        ];
        for (text, url, remedy, kind, fix) in cases {
            let (found, error) = answer(text, url);
            assert_eq!((found, error.kind), (remedy, kind), "{text}");
            assert!(error.fix.contains(fix), "{text}: {}", error.fix);
            assert!(error.problem.contains(text.split(' ').next().unwrap()), "{error}");
            assert!(!error.problem.ends_with('.'), "{error}");
        }
    }

    #[test]
    fn failures_of_connections_have_their_kind_and_remedy() {
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, InvalidData, Other};
        let io = |kind, text: &str| Cause::Io { kind, text: text.to_owned() };
        let cases = [
            (io(ConnectionRefused, "x"), Stage::Connecting, Remedy::Reconnect, ErrorKind::Unavailable, "start"),
            (io(BrokenPipe, "x"), Stage::Asking, Remedy::Reconnect, ErrorKind::Unavailable, "network"),
            (
                io(Other, "failed to lookup address"),
                Stage::Connecting,
                Remedy::Reconnect,
                ErrorKind::Unavailable,
                "host",
            ),
            (io(InvalidData, "InvalidContentType"), Stage::Connecting, Remedy::None, ErrorKind::Config, "redis://"),
            (
                io(InvalidData, "certificate: UnknownIssuer"),
                Stage::Connecting,
                Remedy::None,
                ErrorKind::Config,
                "SSL_CERT_FILE",
            ),
            (io(InvalidData, "x"), Stage::Asking, Remedy::Reconnect, ErrorKind::Unavailable, "network"),
            (Cause::Login, Stage::Connecting, Remedy::None, ErrorKind::Config, "password"),
            (Cause::SpeaksTls, Stage::Connecting, Remedy::None, ErrorKind::Config, "rediss://"),
            (Cause::SpeaksPlain, Stage::Connecting, Remedy::None, ErrorKind::Config, "redis://"),
            (Cause::Certificates("x".into()), Stage::Connecting, Remedy::None, ErrorKind::Config, "SSL_CERT_FILE"),
            (Cause::Protocol("x".into()), Stage::Connecting, Remedy::None, ErrorKind::Config, "port"),
            (Cause::Protocol("x".into()), Stage::Asking, Remedy::Reconnect, ErrorKind::Unavailable, "faulty"),
            (Cause::Silence, Stage::Asking, Remedy::Reconnect, ErrorKind::Unavailable, "overloaded"),
        ];
        let url = RedisUrl::parse("rediss://me:geheim@h").unwrap();
        for (cause, stage, remedy, kind, fix) in cases {
            let failure = Failure::new(cause.clone(), stage, &url, "run-1");
            let error = failure.told(&url, Duration::from_secs(5));
            assert_eq!((failure.remedy, error.kind), (remedy, kind), "{cause:?}");
            assert!(error.fix.contains(fix), "{cause:?}: {}", error.fix);
            assert_eq!(error.problem.ends_with(" (tried for 5.0 s)"), remedy != Remedy::None, "{error}");
            assert_eq!(error.place, "rediss://h:6379");
        }
    }

    #[test]
    fn texts_of_servers_are_cut_and_made_printable() {
        assert_eq!(shown("a\r\nb. "), "a??b");
        assert_eq!(shown(&"\u{e4}".repeat(500)), format!("{}...", "\u{e4}".repeat(SHOWN)));
    }
}
