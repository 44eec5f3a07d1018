//! What a store must know before its first request. Credentials are held only when given by hand; the chain is the SDK's.

use std::time::Duration;

/// How a server is reached, and how long to try.
///
/// What is `None` is found as every AWS tool finds it: environment, profile, then the machine's or the container's role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Base URL of a server that is not Amazon's, as `http://localhost:9000`.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` for a server of one's own that names none.
    pub region: Option<String>,
    /// Whether the bucket is in the URL's path instead of its host; by default it is when an endpoint is set.
    pub path_style: Option<bool>,
    /// Credentials given by hand instead of by the chain.
    pub credentials: Option<Credentials>,
    /// How often a request is sent at most, the first time included; also how often a body is asked for again.
    pub attempts: u32,
    /// Wait before the second attempt, half of it on average; it doubles with each further one up to `backoff_max`.
    pub backoff: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// Limit for a request with all its attempts, besides the time that its body takes at [`Settings::SLOWEST`].
    pub deadline: Duration,
    /// Limit for reaching the server.
    pub connect_timeout: Duration,
    /// Longest silence of the server, in an answer or in its body, before an attempt is given up.
    pub read_timeout: Duration,
}

/// An access key that was given by hand.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub key: String,
    /// Secret access key; shown nowhere.
    pub secret: String,
    /// Session token of temporary credentials; shown nowhere.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            credentials: None,
            attempts: 8,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(20),
        }
    }
}

impl Settings {
    /// Bytes a second of the slowest upload that is not given up.
    pub const SLOWEST: u64 = 256 << 10;

    /// The settings of the process. Read here: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` and, by the name that other tools built on
    /// `object_store` give it, `AWS_VIRTUAL_HOSTED_STYLE_REQUEST`. All else (`AWS_REGION`, `AWS_PROFILE`, keys, files) is read by
    /// the SDK at the first request.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let ignored = set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|value| truth(&value) == Some(true));
        let endpoint = set("AWS_ENDPOINT_URL_S3").or_else(|| set("AWS_ENDPOINT_URL")).filter(|_| !ignored);
        let hosted = set("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").and_then(|value| truth(&value));
        Self { endpoint, path_style: hosted.map(|hosted| !hosted), ..Self::default() }
    }

    /// Longest time for one attempt at a request with a body of `len` bytes.
    pub(crate) fn attempt_limit(&self, len: u64) -> Duration {
        self.read_timeout + Duration::from_secs(len / Self::SLOWEST)
    }

    /// Longest time for all attempts at a request with a body of `len` bytes.
    pub(crate) fn limit(&self, len: u64) -> Duration {
        self.deadline + Duration::from_secs(len / Self::SLOWEST)
    }
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_other_tools_read_it() {
        type Case = (&'static [(&'static str, &'static str)], Option<&'static str>, Option<bool>);
        let cases: [Case; 6] = [
            (&[], None, None),
            (&[("AWS_ENDPOINT_URL", "http://a")], Some("http://a"), None),
            (&[("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_S3", "http://b")], Some("http://b"), None),
            (&[("AWS_ENDPOINT_URL", "http://a"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], None, None),
            (&[("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")], None, Some(false)),
            (&[("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "False"), ("AWS_ENDPOINT_URL", "")], None, Some(true)),
        ];
        for (variables, endpoint, path_style) in cases {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            let settings = Settings::from_variables(variable);
            assert_eq!(settings.endpoint.as_deref(), endpoint, "{variables:?}");
            assert_eq!(settings.path_style, path_style, "{variables:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let credentials =
            Credentials { key: "AKID".to_owned(), secret: "geheim".to_owned(), token: Some("kennwort".to_owned()) };
        let shown = format!("{:?}", Settings { credentials: Some(credentials), ..Settings::default() });
        assert!(shown.contains("AKID"), "{shown}");
        assert!(!shown.contains("geheim") && !shown.contains("kennwort"), "{shown}");
    }

    #[test]
    fn a_body_has_time_by_its_size() {
        let settings = Settings::default();
        assert_eq!(settings.attempt_limit(0), Duration::from_secs(20));
        assert_eq!(settings.attempt_limit(16 << 20), Duration::from_secs(84));
        assert_eq!(settings.limit(16 << 20), Duration::from_secs(124));
    }
}
