//! What is worth another attempt, and how long to wait before it.
//!
//! The SDK sends requests again; its rules are extended here by what servers other than Amazon's answer, by `Retry-After`, and by
//! checksums that did not match on arrival. Bodies of answers, which the SDK does not ask for again, use [`backoff`].

use std::time::Duration;

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority};
use aws_smithy_types::retry::ErrorKind;

/// Whether a request that failed with this code or status may succeed when it is sent again as it is.
pub(crate) fn is_transient(code: &str, status: u16) -> bool {
    const CODES: [&str; 15] = [
        "BadDigest",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
        "InvalidChecksum",
    ];
    CODES.contains(&code) || matches!(status, 429 | 500 | 502 | 503 | 504)
}

/// The wait before attempt `attempt + 1`; `fraction` from 0 to 1 is the jitter.
pub(crate) fn backoff(attempt: u32, first: Duration, longest: Duration, fraction: f64) -> Duration {
    first.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(longest).mul_f64(fraction)
}

/// The seconds of a `Retry-After` header; its other form, a date, is left to the backoff.
fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The text of `<Code>` in the body of a refusal.
fn code(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// The rules above as the SDK asks for them.
#[derive(Debug)]
pub(crate) struct Classifier;

impl ClassifyRetry for Classifier {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(response) = context.response() else { return RetryAction::NoActionIndicated };
        let status = response.status().as_u16();
        let code = response.body().bytes().and_then(code).unwrap_or_default();
        // A body of an answer that is in memory may be an object that quotes a refusal.
        if status < 300 || !is_transient(code, status) {
            return RetryAction::NoActionIndicated;
        }
        let kind = match (code, status) {
            ("SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests", _) | (_, 429 | 503) => {
                ErrorKind::ThrottlingError
            }
            _ => ErrorKind::TransientError,
        };
        match response.headers().get("retry-after").and_then(retry_after) {
            Some(delay) => RetryAction::retryable_error_with_explicit_delay(kind, delay),
            None => RetryAction::retryable_error(kind),
        }
    }

    fn name(&self) -> &'static str {
        "s3"
    }

    /// The last word: the SDK's own rules run before it, and do not know of `Retry-After`.
    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_by_itself_is_sent_again() {
        let cases = [
            ("SlowDown", 503, true),
            ("", 503, true),
            ("", 500, true),
            ("BadDigest", 400, true),
            ("XAmzContentSHA256Mismatch", 400, true),
            ("ConditionalRequestConflict", 409, true),
            ("BucketAlreadyExists", 409, false),
            ("NoSuchKey", 404, false),
            ("AccessDenied", 403, false),
            ("ExpiredToken", 400, false),
            ("PermanentRedirect", 301, false),
            ("PreconditionFailed", 412, false),
            ("", 501, false),
        ];
        for (code, status, transient) in cases {
            assert_eq!(is_transient(code, status), transient, "{code} {status}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let wait = |attempt, fraction| {
            backoff(attempt, Duration::from_millis(250), Duration::from_secs(10), fraction).as_millis()
        };
        assert_eq!([1, 2, 3, 6, 7, 99].map(|attempt| wait(attempt, 1.0)), [250, 500, 1000, 8000, 10_000, 10_000]);
        assert_eq!([0.0, 0.5].map(|fraction| wait(2, fraction)), [0, 250]);
    }

    #[test]
    fn a_refusal_is_read() {
        assert_eq!(code(b"<?xml?><Error><Code>SlowDown</Code><Message/></Error>"), Some("SlowDown"));
        assert_eq!(code(b"<html>"), None);
        assert_eq!(code(b"\xff<Code>x</Code>"), None);
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }
}
