//! What can go wrong with a request, told apart by what the person must do about it.

use std::time::Duration;

/// Whether a failed request may succeed when it is sent again as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Lambda asks for a pause, of this length if it says so.
    Throttled(Option<Duration>),
    /// It may pass by itself.
    Transient,
    /// Somebody must do something.
    Permanent,
}

/// A failed request to Lambda.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Too many requests, or too many of the function's environments are in use.
    #[error("Lambda refuses more invocations for now ({code})")]
    Throttled {
        /// Lambda's code, with its reason if it gives one.
        code: String,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// The service is broken, or the function is being prepared.
    #[error("Lambda could not do it for now ({code})")]
    Busy {
        /// Lambda's code.
        code: String,
    },
    /// The service could not be reached.
    #[error("no answer from Lambda: {cause}")]
    Unreachable {
        /// What the network said.
        cause: String,
    },
    /// No such function or version.
    #[error("there is no function `{function}`")]
    NoFunction {
        /// What was asked for.
        function: String,
    },
    /// A function without a published version.
    #[error("the function `{function}` has no published version")]
    NoVersion {
        /// Its name.
        function: String,
    },
    /// A function that cannot be invoked as it is.
    #[error("version {version} of the function `{function}` is {state}, not active")]
    NotActive {
        /// Its name.
        function: String,
        /// The version.
        version: String,
        /// Its state in Lambda's words.
        state: String,
    },
    /// No source gave credentials or region.
    #[error("the request could not be made: {cause}")]
    NoCredentials {
        /// What is missing.
        cause: String,
    },
    /// The service does not accept the credentials, or they were good once.
    #[error("Lambda does not accept the credentials ({code})")]
    Rejected {
        /// Lambda's code.
        code: String,
    },
    /// The credentials are good, but not for this.
    #[error("the credentials do not allow {action} ({code})")]
    Denied {
        /// The right that is needed.
        action: &'static str,
        /// Lambda's code.
        code: String,
    },
    /// A payload above Lambda's limit for asynchronous invocations.
    #[error("the payload has {bytes} bytes; an asynchronous invocation takes {limit} at most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Lambda refused for another reason.
    #[error("Lambda refused: {code}, {message}")]
    Refused {
        /// Lambda's code.
        code: String,
        /// Its words, in part.
        message: String,
    },
    /// What this crate or the SDK could not do.
    #[error("{cause}")]
    Internal {
        /// What is wrong.
        cause: String,
    },
}

/// What the service said when it refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal<'a> {
    pub(crate) status: u16,
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    /// The header `Retry-After`.
    pub(crate) retry_after: Option<&'a str>,
}

impl Error {
    /// Bytes of Lambda's words that are repeated.
    const WORDS_MAX: usize = 300;

    /// What a refusal of `action` on `function` means.
    pub(crate) fn refused(action: &'static str, function: &str, refusal: &Refusal<'_>) -> Self {
        let Refusal { status, code, message, retry_after } = *refusal;
        let named = || if code.is_empty() { status.to_string() } else { code.to_owned() };
        let wait = retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        match (code, status) {
            (
                "TooManyRequestsException"
                | "EC2ThrottledException"
                | "ThrottlingException"
                | "Throttling"
                | "ENILimitReachedException"
                | "SubnetIPAddressLimitReachedException",
                _,
            )
            | (_, 429) => Self::Throttled { code: named(), wait },
            ("ResourceNotFoundException", _) => Self::NoFunction { function: function.to_owned() },
            (
                "ResourceConflictException" | "ResourceNotReadyException" | "ServiceException" | "ENINotReadyException",
                _,
            )
            | (_, 500..) => Self::Busy { code: named() },
            (
                "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "ExpiredTokenException"
                | "ExpiredToken"
                | "InvalidClientTokenId"
                | "IncompleteSignatureException"
                | "MissingAuthenticationTokenException",
                _,
            )
            | (_, 401) => Self::Rejected { code: named() },
            ("AccessDeniedException" | "AccessDenied", _) | (_, 403) => Self::Denied { action, code: named() },
            _ => {
                let message = message.chars().take(Self::WORDS_MAX).collect();
                Self::Refused { code: named(), message }
            }
        }
    }

    /// Whether it may pass.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Throttled { wait, .. } => Remedy::Throttled(*wait),
            Self::Busy { .. } | Self::Unreachable { .. } => Remedy::Transient,
            _ => Remedy::Permanent,
        }
    }

    /// What the person can do about it, as one sentence.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Throttled { .. } => {
                "raise the function's reserved or the account's concurrency, or give fewer --workers".to_owned()
            }
            Self::Busy { .. } | Self::Unreachable { .. } => {
                "try again; see whether Lambda works in this region".to_owned()
            }
            Self::NoFunction { function } => {
                format!("deploy it, give its name by --function or its region by --region; `{function}` was looked for")
            }
            Self::NoVersion { function } => {
                format!("publish one: aws lambda publish-version --function-name {function}")
            }
            Self::NotActive { .. } => "wait until Lambda has prepared it, or see why it cannot".to_owned(),
            Self::NoCredentials { .. } | Self::Rejected { .. } => {
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION".to_owned()
            }
            Self::Denied { action, .. } => format!("allow {action} on the function to whoever starts runs"),
            Self::TooLarge { .. } | Self::Internal { .. } => "please report it".to_owned(),
            Self::Refused { .. } => "see Lambda's documentation of this code".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_one_kind() {
        let code = |code: &str| code.to_owned();
        let denied = Error::Denied { action: "lambda:InvokeFunction", code: code("AccessDeniedException") };
        let throttled = |wait| Error::Throttled { code: code("TooManyRequestsException"), wait };
        let cases = [
            (429, "TooManyRequestsException", None, throttled(None)),
            (429, "TooManyRequestsException", Some("3"), throttled(Some(Duration::from_secs(3)))),
            (429, "TooManyRequestsException", Some("Wed, 21 Oct 2015 07:28:00 GMT"), throttled(None)),
            (429, "", None, Error::Throttled { code: code("429"), wait: None }),
            (502, "EC2ThrottledException", None, Error::Throttled { code: code("EC2ThrottledException"), wait: None }),
            (404, "ResourceNotFoundException", None, Error::NoFunction { function: code("f:7") }),
            (409, "ResourceConflictException", None, Error::Busy { code: code("ResourceConflictException") }),
            (500, "ServiceException", None, Error::Busy { code: code("ServiceException") }),
            (503, "", None, Error::Busy { code: code("503") }),
            (403, "AccessDeniedException", None, denied),
            (403, "UnrecognizedClientException", None, Error::Rejected { code: code("UnrecognizedClientException") }),
            (403, "ExpiredTokenException", None, Error::Rejected { code: code("ExpiredTokenException") }),
            (
                400,
                "InvalidParameterValueException",
                None,
                Error::Refused { code: code("InvalidParameterValueException"), message: code("words") },
            ),
        ];
        for (status, code, retry_after, expected) in cases {
            let refusal = Refusal { status, code, message: "words", retry_after };
            assert_eq!(Error::refused("lambda:InvokeFunction", "f:7", &refusal), expected, "{status} {code}");
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let busy = Error::Busy { code: String::new() };
        let denied = Error::Denied { action: "a", code: String::new() };
        let throttled = Error::Throttled { code: String::new(), wait: Some(Duration::from_secs(2)) };
        assert_eq!(busy.remedy(), Remedy::Transient);
        assert_eq!(denied.remedy(), Remedy::Permanent);
        assert_eq!(throttled.remedy(), Remedy::Throttled(Some(Duration::from_secs(2))));
    }
}
