//! What can go wrong between us and a broker, which of it may pass by itself, and what the operator is told.

use schemas::exit::ErrorKind;

use super::url::AmqpUrl;
use crate::service::ServiceError;

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The broker refused, with AMQP's code.
    Refused { code: u16, text: String },
    /// The name of the host is not known.
    Lookup(String),
    /// No connection.
    Connect(String),
    /// No TLS on the connection: with a reason that will not pass, or for now.
    Tls { problem: String, lasting: bool },
    /// What answers does not speak AMQP.
    Foreign(String),
    /// The connection ended before the broker said anything.
    Closed(String),
    /// An existing connection ended.
    Lost(String),
    /// Nothing came within the time there was.
    Silent,
    /// The broker takes no messages at present, with its reason.
    Blocked(String),
    /// A broker that could not take a message.
    Declined,
}

/// AMQP's codes that say something about us.
const CONTENT_TOO_LARGE: u16 = 311;
const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// What the broker says of a queue that another consumer has for itself.
pub(super) const IN_USE: &str = "in exclusive use";

impl Failure {
    /// Whether trying again cannot help.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Refused { text, .. } if text.contains(IN_USE) => false,
            Self::Refused { code, .. } => {
                matches!(*code, ACCESS_REFUSED | RESOURCE_LOCKED | PRECONDITION_FAILED | NOT_ALLOWED)
            }
            Self::Tls { lasting, .. } => *lasting,
            Self::Foreign(_) => true,
            _ => false,
        }
    }

    /// Whether the connection is as good as before: the broker closed no more than a channel.
    pub(super) fn spares_the_connection(&self) -> bool {
        const CHANNEL: [u16; 5] = [CONTENT_TOO_LARGE, ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED];
        matches!(self, Self::Refused { code, .. } if CHANNEL.contains(code)) || matches!(self, Self::Declined)
    }

    /// The error for the operator.
    pub(super) fn explain(&self, url: &AmqpUrl) -> ServiceError {
        let kind = if self.is_lasting() { ErrorKind::Config } else { ErrorKind::Unavailable };
        let problem = match self {
            // The broker names the user in some of its sentences.
            Self::Refused { text, .. } => text.replace(&format!("user '{}'", url.user), "this user"),
            Self::Lookup(problem) => format!("the host is not known: {problem}"),
            Self::Connect(problem) => format!("cannot connect: {problem}"),
            Self::Tls { problem, .. } => format!("no TLS connection: {problem}"),
            Self::Foreign(problem) => format!("what answers does not speak AMQP 0-9-1: {problem}"),
            Self::Closed(problem) => format!("the connection was closed during AMQP's handshake: {problem}"),
            Self::Lost(problem) => format!("the connection was lost: {problem}"),
            Self::Silent => "no answer in time".to_owned(),
            Self::Blocked(reason) if reason.is_empty() => "the broker takes no messages".to_owned(),
            Self::Blocked(reason) => format!("the broker takes no messages: {reason}"),
            Self::Declined => "the broker could not take a message".to_owned(),
        };
        ServiceError { place: url.to_string(), problem, kind, fix: self.fix(url) }
    }

    fn fix(&self, url: &AmqpUrl) -> String {
        let text = match self {
            Self::Refused { code: ACCESS_REFUSED, text } if text.contains("Login") => {
                "check user and password in the URL; reserved characters in them are percent-encoded"
            }
            Self::Refused { code: ACCESS_REFUSED, .. } => {
                "give the user permission to configure, write and read `gristmill.*` in this virtual host"
            }
            Self::Refused { code: NOT_ALLOWED, .. } => {
                "check the virtual host at the end of the URL, and that the user may enter it"
            }
            Self::Refused { code: PRECONDITION_FAILED, .. } => {
                "delete the queue or exchange that the broker names, or give the run another name: it was made with other settings"
            }
            Self::Refused { code: RESOURCE_LOCKED, .. } => {
                "somebody else holds the queue that the broker names for himself: give the run another name"
            }
            Self::Lookup(_) => "check the host in the URL",
            Self::Tls { lasting: true, .. } => {
                "check that the port is the one for TLS and that the certificate names this host; add the authority of a private \
                 certificate to the URL with ?cacertfile=PATH"
            }
            Self::Foreign(_) | Self::Closed(_) if !url.tls => {
                "check the port; if it is one for TLS, begin the URL with amqps://"
            }
            Self::Tls { .. } | Self::Foreign(_) | Self::Closed(_) => {
                "check that RabbitMQ runs and that the port is the one for TLS"
            }
            Self::Blocked(_) => "free memory or disk on the broker's machine, or raise its limits",
            Self::Refused { .. } | Self::Connect(_) | Self::Lost(_) | Self::Silent | Self::Declined => {
                "check that RabbitMQ runs and can be reached at this address"
            }
        };
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_kind_and_a_remedy_and_no_secret() {
        let url: AmqpUrl = "amqp://anna:geheim@h/v".parse().unwrap();
        let refused = |code, text: &str| Failure::Refused { code, text: text.to_owned() };
        let cases = [
            (refused(403, "ACCESS_REFUSED - Login was refused"), ErrorKind::Config, "password"),
            (refused(403, "ACCESS_REFUSED - access to queue 'q' refused"), ErrorKind::Config, "permission"),
            (
                refused(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'anna'"),
                ErrorKind::Config,
                "virtual host",
            ),
            (refused(406, "PRECONDITION_FAILED - inequivalent arg"), ErrorKind::Config, "delete the queue"),
            (refused(405, "RESOURCE_LOCKED"), ErrorKind::Config, "another name"),
            (refused(320, "CONNECTION_FORCED - broker forced connection closure"), ErrorKind::Unavailable, "runs"),
            (refused(541, "INTERNAL_ERROR"), ErrorKind::Unavailable, "runs"),
            (refused(404, "NOT_FOUND"), ErrorKind::Unavailable, "runs"),
            (Failure::Lookup("no".to_owned()), ErrorKind::Unavailable, "host"),
            (Failure::Connect("refused".to_owned()), ErrorKind::Unavailable, "runs"),
            (Failure::Tls { problem: "expired".to_owned(), lasting: true }, ErrorKind::Config, "cacertfile"),
            (Failure::Tls { problem: "eof".to_owned(), lasting: false }, ErrorKind::Unavailable, "TLS"),
            (Failure::Foreign("x".to_owned()), ErrorKind::Config, "amqps://"),
            (Failure::Closed("x".to_owned()), ErrorKind::Unavailable, "amqps://"),
            (Failure::Lost("x".to_owned()), ErrorKind::Unavailable, "runs"),
            (Failure::Silent, ErrorKind::Unavailable, "runs"),
            (Failure::Blocked("low on memory".to_owned()), ErrorKind::Unavailable, "memory"),
            (Failure::Declined, ErrorKind::Unavailable, "runs"),
        ];
        for (failure, kind, remedy) in cases {
            let error = failure.explain(&url);
            assert_eq!(error.kind, kind, "{failure:?}");
            assert!(error.fix.contains(remedy), "{failure:?}: {}", error.fix);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("amqp://h:5672/v: "), "{shown}");
            assert!(!shown.contains("geheim") && !shown.contains("anna"), "{shown}");
        }
    }

    #[test]
    fn only_what_closes_a_channel_spares_the_connection() {
        let refused = |code| Failure::Refused { code, text: String::new() };
        for (failure, spared) in
            [(refused(404), true), (refused(406), true), (refused(320), false), (Failure::Silent, false)]
        {
            assert_eq!(failure.spares_the_connection(), spared, "{failure:?}");
        }
    }
}
