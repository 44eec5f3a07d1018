//! Addresses of Redis servers as they are typed. What is shown of one never has user and password in it.

use std::fmt;

use crate::service::ServiceError;
use schemas::exit::ErrorKind;

/// The port of a URL without one.
const PORT: u16 = 6379;

const FIX: &str = "write redis://[user:password@]host[:port][/database], rediss:// for TLS, or redis-cluster:// and \
                   rediss-cluster:// with a server of a cluster; write %40 for an @ in a password, %2F for a /";

/// Where a server is and how to log in there.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) tls: bool,
    pub(super) cluster: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: i64,
}

impl RedisUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// `Config`, when it is not `redis`, `rediss`, `redis-cluster` or `rediss-cluster`, `://`, and
    /// `[[user]:password@]host[:port][/database]`. The message does not show the URL, which may have a password in it.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        Self::split(text).map_err(|problem| ServiceError {
            place: "the URL of a Redis server".to_owned(),
            problem,
            kind: ErrorKind::Config,
            fix: FIX.to_owned(),
        })
    }

    fn split(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no `://`")?;
        let (tls, cluster) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis-cluster" => (false, true),
            "rediss-cluster" => (true, true),
            _ => return Err("its scheme is none of redis, rediss, redis-cluster and rediss-cluster".to_owned()),
        };
        if rest.contains(['?', '#']) {
            return Err("it has a `?` or `#`, of which none is understood".to_owned());
        }
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            None => (None, None),
            Some((user, password)) => (decoded(user)?, decoded(password)?),
        };
        if user.is_some() && password.is_none() {
            return Err("it has a user without a password".to_owned());
        }
        let (address, database) = address.split_once('/').unwrap_or((address, ""));
        let database = match database {
            "" => 0,
            number => number.parse().ok().filter(|n| *n >= 0).ok_or("its database is not a number from 0")?,
        };
        if cluster && database != 0 {
            return Err("it has a database, and a cluster has database 0 only".to_owned());
        }
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, Some("")),
            },
        };
        let port = match port {
            Some("") => PORT,
            Some(port) => {
                port.parse().ok().filter(|port| *port != 0).ok_or("its port is not a number from 1 to 65535")?
            }
            None => return Err("something other than a port follows its host".to_owned()),
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("it has no host".to_owned());
        }
        Ok(Self { tls, cluster, user, password, host: host.to_owned(), port, database })
    }

    /// What the scheme would be of the same server with, or without, TLS and a cluster.
    pub(super) fn scheme(tls: bool, cluster: bool) -> &'static str {
        match (tls, cluster) {
            (false, false) => "redis",
            (true, false) => "rediss",
            (false, true) => "redis-cluster",
            (true, true) => "rediss-cluster",
        }
    }
}

/// Text with `%` and two digits for what a URL has no other way to write; `None` when it is empty.
fn decoded(text: &str) -> Result<Option<String>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("user or password has a `%` without two hexadecimal digits")?);
        rest = &after[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| "user or password is not UTF-8")?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

impl fmt::Display for RedisUrl {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, cluster, host, port, database, .. } = self;
        let scheme = Self::scheme(*tls, *cluster);
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}")?,
            false => write!(f, "{scheme}://{host}:{port}")?,
        }
        if *database != 0 { write!(f, "/{database}") } else { Ok(()) }
    }
}

impl fmt::Debug for RedisUrl {
    /// As it is displayed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl std::str::FromStr for RedisUrl {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_shown_without_secrets() {
        let cases = [
            ("redis://localhost", "redis://localhost:6379", None, None),
            ("redis://h:7/3", "redis://h:7/3", None, None),
            ("rediss://:geheim@h:7", "rediss://h:7", None, Some("geheim")),
            ("rediss://me:ge%40h%2Feim%25@h", "rediss://h:6379", Some("me"), Some("ge@h/eim%")),
            ("redis://me:ge@heim:x@h/", "redis://h:6379", Some("me"), Some("ge@heim:x")),
            ("redis-cluster://10.0.0.1:7000", "redis-cluster://10.0.0.1:7000", None, None),
            ("rediss-cluster://u:geheim@[::1]:7000", "rediss-cluster://[::1]:7000", Some("u"), Some("geheim")),
            ("redis://[2001:db8::1]", "redis://[2001:db8::1]:6379", None, None),
        ];
        for (text, shown, user, password) in cases {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!((url.user.as_deref(), url.password.as_deref()), (user, password), "{text}");
            assert!(!format!("{url:?}").contains("ge"), "{url:?}");
        }
    }

    #[test]
    fn other_texts_are_refused_without_showing_them() {
        let cases = [
            ("", "no `://`"),
            ("localhost:6379", "no `://`"),
            ("http://u:geheim@h", "scheme"),
            ("redis://", "no host"),
            ("redis://u:geheim@", "no host"),
            ("redis://geheim@h", "user without a password"),
            ("redis://u:geheim@h:0", "port"),
            ("redis://u:geheim@h:70000", "port"),
            ("redis://u:geheim@h:x", "port"),
            ("redis://[::1]x", "follows its host"),
            ("redis://u:geheim@h/x", "database"),
            ("redis://u:geheim@h/-1", "database"),
            ("redis-cluster://u:geheim@h/1", "database"),
            ("redis://u:geheim%4@h", "%"),
            ("redis://u:geheim%+1@h", "%"),
            ("redis://u:geheim%ff@h", "UTF-8"),
            ("redis://u:geheim@h?protocol=resp3", "`?`"),
        ];
        for (text, rule) in cases {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(error.problem.contains(rule), "{text}: {error}");
            assert_eq!(error.kind, ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("geheim"), "{error:?}");
        }
    }
}
