//! What can go wrong with a request, told apart by what the person must do about it.

/// A failed request to S3. No variant holds a secret, nor a server's text about a refused signature.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text after `s3://` names no bucket.
    #[error("`{bucket}` is not the name of a bucket: {problem}")]
    BadBucket {
        /// What was given.
        bucket: String,
        /// The broken rule.
        problem: &'static str,
    },
    /// The endpoint cannot be used.
    #[error("`{endpoint}` is not an endpoint: it must begin with http:// or https://")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
    },
    /// There is no such bucket.
    #[error("the bucket `{bucket}` does not exist")]
    NoBucket {
        /// Its name.
        bucket: String,
    },
    /// There is no such object, upload or version.
    #[error("not found ({code})")]
    NotFound {
        /// S3's code.
        code: String,
    },
    /// A condition of a write or a read does not hold.
    #[error("a condition does not hold ({code})")]
    Precondition {
        /// S3's code.
        code: String,
    },
    /// The object is as the caller knows it.
    #[error("not modified")]
    NotModified,
    /// No source gave credentials.
    #[error(
        "no credentials: the environment (AWS_ACCESS_KEY_ID), the profile, web identity, the container's and the machine's role were tried{detail}"
    )]
    NoCredentials {
        /// What the last source said, with a separator before it; may be empty.
        detail: String,
    },
    /// The credentials were good once.
    #[error("the credentials have expired ({code})")]
    Expired {
        /// S3's code.
        code: String,
    },
    /// The server does not know the key, or the secret is another.
    #[error("the server does not accept the credentials ({code})")]
    Rejected {
        /// S3's code.
        code: String,
    },
    /// The credentials are good, but not for this.
    #[error("the credentials do not allow it ({code})")]
    Denied {
        /// S3's code.
        code: String,
    },
    /// The bucket is in another region than the one asked.
    #[error("the bucket is in {}", match region { Some(region) => format!("the region {region}"), None => "another region".to_owned() })]
    Region {
        /// The bucket's region, when the server told it.
        region: Option<String>,
    },
    /// The server could not be reached, or fell silent.
    #[error("no answer from {server}: {cause}")]
    Unreachable {
        /// The endpoint, or `S3`.
        server: String,
        /// What the network said.
        cause: String,
    },
    /// The server is overloaded or broken, and was so at each attempt.
    #[error("the server failed at every attempt ({code})")]
    Busy {
        /// S3's code or the HTTP status.
        code: String,
    },
    /// A body ended early again and again.
    #[error("the server broke off after {received} of {length} bytes: {cause}")]
    Truncated {
        /// Bytes that arrived.
        received: u64,
        /// Bytes that were announced.
        length: u64,
        /// How it broke off.
        cause: String,
    },
    /// Bytes that are not those whose checksum the server keeps. Reading them again may help.
    #[error("bytes arrived that do not match the object's {algorithm}")]
    Mismatch {
        /// The checksum's name.
        algorithm: &'static str,
    },
    /// The server refused for another reason.
    #[error("the server refused: {code}, {message}")]
    Refused {
        /// S3's code or the HTTP status.
        code: String,
        /// The server's words, in part.
        message: String,
    },
    /// A listed key that is no path.
    #[error("the key `{key}` is not a path: {problem}")]
    BadKey {
        /// The key.
        key: String,
        /// The broken rule.
        problem: String,
    },
    /// A request that this crate or the SDK could not make.
    #[error("{cause}")]
    Internal {
        /// What is wrong with it.
        cause: String,
    },
}

/// What a server said when it refused.
#[derive(Debug, Default)]
pub(crate) struct Refusal<'a> {
    pub(crate) status: u16,
    pub(crate) code: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
    /// The region that the bucket is in.
    pub(crate) region: Option<&'a str>,
}

impl Error {
    /// What a refusal means. Without a code, as in the answer to a HEAD request, the status decides.
    pub(crate) fn refused(bucket: &str, refusal: &Refusal<'_>) -> Self {
        let code = refusal.code.unwrap_or_default().to_owned();
        let named = |fallback: &str| if code.is_empty() { fallback.to_owned() } else { code.clone() };
        match (code.as_str(), refusal.status) {
            ("NoSuchBucket", _) => Self::NoBucket { bucket: bucket.to_owned() },
            ("NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" | "NotFound", _) => Self::NotFound { code },
            ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired", _) => {
                Self::Expired { code }
            }
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "InvalidSecurity"
                | "AuthFailure"
                | "UnrecognizedClientException"
                | "RequestTimeTooSkewed",
                _,
            ) => Self::Rejected { code },
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301) => Self::Region { region: refusal.region.map(str::to_owned) },
            (_, 304) => Self::NotModified,
            (_, 401) => Self::Rejected { code: named("Unauthorized") },
            (_, 403) => Self::Denied { code: named("Forbidden") },
            (_, 404) => Self::NotFound { code: named("404") },
            (_, 409) if crate::retry::is_transient(&code, 409) => Self::Precondition { code },
            (_, 412) => Self::Precondition { code: named("PreconditionFailed") },
            (_, status) if crate::retry::is_transient(&code, status) => Self::Busy { code: named(&status.to_string()) },
            (_, status) => Self::Refused {
                code: named(&status.to_string()),
                message: refusal.message.unwrap_or("no reason is given").chars().take(200).collect(),
            },
        }
    }

    /// The same failure as the storage port tells it; callers find this error as its source.
    pub(crate) fn of(self, path: &str) -> object_store::Error {
        let (path, source) = (path.to_owned(), Box::new(self.clone()));
        match self {
            Self::NoBucket { .. } | Self::NotFound { .. } => object_store::Error::NotFound { path, source },
            Self::Precondition { .. } => object_store::Error::Precondition { path, source },
            Self::NotModified => object_store::Error::NotModified { path, source },
            Self::NoCredentials { .. } | Self::Expired { .. } | Self::Rejected { .. } => {
                object_store::Error::Unauthenticated { path, source }
            }
            Self::Denied { .. } => object_store::Error::PermissionDenied { path, source },
            _ => object_store::Error::Generic { store: "S3", source: Box::new(At { path, source: *source }) },
        }
    }
}

/// A failure with the object it happened at, for the variant of the port that has no room for it.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct At {
    path: String,
    source: Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        let code = |code: &str| code.to_owned();
        let cases = [
            (404, Some("NoSuchBucket"), Error::NoBucket { bucket: code("b") }),
            (404, Some("NoSuchKey"), Error::NotFound { code: code("NoSuchKey") }),
            (404, None, Error::NotFound { code: code("404") }),
            (400, Some("ExpiredToken"), Error::Expired { code: code("ExpiredToken") }),
            (403, Some("ExpiredToken"), Error::Expired { code: code("ExpiredToken") }),
            (403, Some("InvalidAccessKeyId"), Error::Rejected { code: code("InvalidAccessKeyId") }),
            (403, Some("SignatureDoesNotMatch"), Error::Rejected { code: code("SignatureDoesNotMatch") }),
            (403, Some("AccessDenied"), Error::Denied { code: code("AccessDenied") }),
            (403, None, Error::Denied { code: code("Forbidden") }),
            (301, Some("PermanentRedirect"), Error::Region { region: Some(code("eu-west-1")) }),
            (301, None, Error::Region { region: Some(code("eu-west-1")) }),
            (304, None, Error::NotModified),
            (409, Some("ConditionalRequestConflict"), Error::Precondition { code: code("ConditionalRequestConflict") }),
            (412, None, Error::Precondition { code: code("PreconditionFailed") }),
            (503, Some("SlowDown"), Error::Busy { code: code("SlowDown") }),
            (500, None, Error::Busy { code: code("500") }),
            (400, Some("MalformedXML"), Error::Refused { code: code("MalformedXML"), message: code("words") }),
        ];
        for (status, code, expected) in cases {
            let refusal = Refusal { status, code, message: Some("words"), region: Some("eu-west-1") };
            assert_eq!(Error::refused("b", &refusal), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn the_port_s_error_leads_to_this_one() {
        let error = Error::Truncated { received: 1, length: 2, cause: "reset".to_owned() };
        let told = error.clone().of("a/b");
        assert_eq!(told.to_string(), "Generic S3 error: a/b: the server broke off after 1 of 2 bytes: reset");
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&told);
        while let Some(source) = cause {
            if source.downcast_ref::<Error>() == Some(&error) {
                return;
            }
            cause = source.source();
        }
        panic!("{told:?}");
    }
}
