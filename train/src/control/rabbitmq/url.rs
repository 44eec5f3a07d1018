//! Where a RabbitMQ is and who we are to it: an `amqp://` or `amqps://` URL, which is never shown with its user and password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemas::exit::{ErrorKind, Explain};

/// `amqp[s]://[user[:password]@]host[:port][/vhost][?cacertfile=PATH]`, as RabbitMQ's own clients take it.
///
/// Without a user it is `guest` with password `guest`; without a virtual host, or with an empty one, it is `/`. Reserved characters
/// of user, password and virtual host are percent-encoded. `cacertfile` names a file of certificates (PEM) that are trusted beside
/// the system's.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) vhost: String,
    pub(super) authorities: Option<PathBuf>,
}

/// Why a text is no URL of a RabbitMQ. It does not repeat the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmqpUrlError {
    /// Another scheme or none.
    #[error("the URL of a RabbitMQ begins with amqp:// or amqps://")]
    Scheme,
    /// There is no host.
    #[error("the URL of a RabbitMQ names no host")]
    NoHost,
    /// The port is no port.
    #[error("the port in the URL of a RabbitMQ is a number from 1 to 65535")]
    Port,
    /// A percent sign that begins no encoded byte, or bytes that are no text.
    #[error(
        "the {part} in the URL of a RabbitMQ has a % that is not followed by two hexadecimal digits, or is no UTF-8"
    )]
    Escape {
        /// Which part.
        part: &'static str,
    },
    /// AMQP has no room for the name.
    #[error("the virtual host in the URL of a RabbitMQ has at most 255 bytes")]
    LongVhost,
    /// A parameter that is not known.
    #[error("unknown parameter {name} in the URL of a RabbitMQ, only cacertfile is known")]
    Parameter {
        /// Its name.
        name: String,
    },
}

impl Explain for AmqpUrlError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn fix(&self) -> Option<String> {
        Some("write amqp://USER:PASSWORD@HOST:PORT/VHOST with reserved characters percent-encoded".to_owned())
    }
}

impl FromStr for AmqpUrl {
    type Err = AmqpUrlError;

    fn from_str(text: &str) -> Result<Self, AmqpUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(AmqpUrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(AmqpUrlError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) =
            authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decoded(user, "user")?, decoded(password, "password")?),
            None => ("guest".to_owned(), "guest".to_owned()),
        };
        let (host, port) = host_and_port(place)?;
        let port = match port {
            Some(digits) => digits.parse().ok().filter(|&port| port > 0).ok_or(AmqpUrlError::Port)?,
            None if tls => 5671,
            None => 5672,
        };
        let vhost = Some(decoded(vhost, "virtual host")?).filter(|name| !name.is_empty());
        if vhost.as_ref().is_some_and(|name| name.len() > 255) {
            return Err(AmqpUrlError::LongVhost);
        }
        let mut authorities = None;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("cacertfile", path)) => authorities = Some(PathBuf::from(decoded(path, "cacertfile")?)),
                other => {
                    let name = other.map_or(parameter, |(name, _)| name).to_owned();
                    return Err(AmqpUrlError::Parameter { name });
                }
            }
        }
        let vhost = vhost.unwrap_or_else(|| "/".to_owned());
        Ok(Self { tls, host: host.to_owned(), port, user, password, vhost, authorities })
    }
}

/// Both parts of `host:port`; an IPv6 address is in brackets, which are no part of it.
fn host_and_port(place: &str) -> Result<(&str, Option<&str>), AmqpUrlError> {
    let (host, rest) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(AmqpUrlError::NoHost)?,
        None => place.find(':').map_or((place, ""), |colon| place.split_at(colon)),
    };
    if host.is_empty() {
        return Err(AmqpUrlError::NoHost);
    }
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(AmqpUrlError::Port),
    }
}

fn decoded(text: &str, part: &'static str) -> Result<String, AmqpUrlError> {
    let bad = AmqpUrlError::Escape { part };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(bad) };
                (high << 4 | low, tail)
            }
            (b'%', _) => return Err(bad),
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| bad)
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let vhost = self.vhost.replace('%', "%25").replace('/', "%2f");
        write!(f, "{scheme}://{open}{}{close}:{}/{vhost}", self.host, self.port)
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_shown_without_secrets() {
        let cases = [
            ("amqp://h", "amqp://h:5672/%2f", ("guest", "guest", "/")),
            ("amqp://h/", "amqp://h:5672/%2f", ("guest", "guest", "/")),
            ("AMQPS://h/%2f", "amqps://h:5671/%2f", ("guest", "guest", "/")),
            ("amqp://u:p@h:1/v", "amqp://h:1/v", ("u", "p", "v")),
            ("amqp://u@h/a%2Fb", "amqp://h:5672/a%2fb", ("u", "", "a/b")),
            ("amqp://u%40x:p%3a%2f%25@127.0.0.1:65535", "amqp://127.0.0.1:65535/%2f", ("u@x", "p:/%", "/")),
            ("amqp://u:a@b@h/v", "amqp://h:5672/v", ("u", "a@b", "v")),
            ("amqps://u:p@[::1]:5/v", "amqps://[::1]:5/v", ("u", "p", "v")),
        ];
        for (text, shown, (user, password, vhost)) in cases {
            let url: AmqpUrl = text.parse().unwrap();
            assert_eq!(
                (url.user.as_str(), url.password.as_str(), url.vhost.as_str()),
                (user, password, vhost),
                "{text}"
            );
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
            assert_eq!(url.to_string().parse::<AmqpUrl>().unwrap().vhost, vhost);
        }
        let url: AmqpUrl = "amqps://h/v?cacertfile=/etc/own%20ca.pem".parse().unwrap();
        assert_eq!(url.authorities, Some(PathBuf::from("/etc/own ca.pem")));
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        let cases = [
            ("h:5672", AmqpUrlError::Scheme),
            ("redis://u:geheim@h", AmqpUrlError::Scheme),
            ("amqp://", AmqpUrlError::NoHost),
            ("amqp://u:geheim@:5672/", AmqpUrlError::NoHost),
            ("amqp://u:geheim@[::1", AmqpUrlError::NoHost),
            ("amqp://u:geheim@h:0", AmqpUrlError::Port),
            ("amqp://u:geheim@h:65536", AmqpUrlError::Port),
            ("amqp://u:geheim@h:", AmqpUrlError::Port),
            ("amqp://u:geheim@[::1]5", AmqpUrlError::Port),
            ("amqp://u:geheim%2@h", AmqpUrlError::Escape { part: "password" }),
            ("amqp://u%zz:geheim@h", AmqpUrlError::Escape { part: "user" }),
            ("amqp://u:geheim@h/%ff", AmqpUrlError::Escape { part: "virtual host" }),
            ("amqp://u:geheim@h/v?heartbeat=5", AmqpUrlError::Parameter { name: "heartbeat".to_owned() }),
        ];
        let long = format!("amqp://u:geheim@h/{}", "v".repeat(256));
        let cases = cases.into_iter().chain([(long.as_str(), AmqpUrlError::LongVhost)]);
        for (text, expected) in cases {
            let found = text.parse::<AmqpUrl>().unwrap_err();
            assert!(!format!("{found} {found:?}").contains("geheim"));
            assert_eq!(found, expected, "{text}");
        }
    }
}
