//! The AWS SDK: its client as the settings ask for it, and the requests that a store is made of.
//!
//! This is the one file that names the SDK of S3. Everything here must run on the crate's own threads.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete, MetadataDirective, ObjectIdentifier, StorageClass,
};
use aws_smithy_http_client::tls;
use bytes::Bytes;
use chrono::Utc;
use tokio::sync::OnceCell;

use crate::attributes::Headers;
use crate::checksum::Checksums;
use crate::error::Refusal;
use crate::retry::Classifier;
use crate::{Error, Settings};

/// Longest time for all sources of credentials together. A machine that has none waits a second of it for the role of a cloud
/// machine, of which there is no answer elsewhere.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(5);

/// The way to one server, shared by all buckets there: its connections, and the credentials once they are known.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) settings: Settings,
    client: OnceCell<Client>,
}

impl Connection {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, client: OnceCell::new() }
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| client(&self.settings)).await
    }
}

async fn client(settings: &Settings) -> Client {
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(endpoint) = &settings.endpoint {
        // A server of one's own has no machine role to ask for a region.
        use aws_config::{environment, meta::region::RegionProviderChain, profile};
        let chain = RegionProviderChain::first_try(settings.region.clone().map(Region::new))
            .or_else(environment::EnvironmentVariableRegionProvider::new())
            .or_else(profile::ProfileFileRegionProvider::new())
            .or_else(Region::new("us-east-1"));
        loader = loader.region(chain).endpoint_url(endpoint);
    } else if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(given) = &settings.credentials {
        let (key, secret, token) = (given.key.clone(), given.secret.clone(), given.token.clone());
        loader =
            loader.credentials_provider(aws_sdk_s3::config::Credentials::new(key, secret, token, None, "settings"));
    }
    let loaded = loader.load().await;
    let own = settings.endpoint.is_some() || loaded.endpoint_url().is_some();
    let retries = RetryConfig::standard()
        .with_max_attempts(settings.attempts)
        .with_initial_backoff(settings.backoff)
        .with_max_backoff(settings.backoff_max);
    let mut config = aws_sdk_s3::config::Builder::from(&loaded);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    if loaded.region().is_none() {
        // A bucket elsewhere answers with its region, which the error tells.
        config = config.region(Region::new("us-east-1"));
    }
    let config = config
        .retry_config(retries)
        // The SDK's quota is shared by all requests: many under way would use it up and fail at their first 503.
        .retry_partition(RetryPartition::custom("gristmill").token_bucket(TokenBucket::unlimited()).build())
        .retry_classifier(Classifier)
        .timeout_config(timeouts(settings, 0))
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(settings.read_timeout).build())
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_LIMIT).build())
        .force_path_style(settings.path_style.unwrap_or(own))
        .build();
    Client::from_conf(config)
}

/// The limits of a request whose body has `len` bytes.
fn timeouts(settings: &Settings, len: u64) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.attempt_limit(len))
        .operation_timeout(settings.limit(len))
        .build()
}

/// Adds the limits that a body of `$len` bytes needs.
macro_rules! send_body {
    ($bucket:expr, $request:expr, $len:expr) => {{
        let timeouts = timeouts(&$bucket.connection.settings, $len);
        $request.customize().config_override(aws_sdk_s3::config::Builder::new().timeout_config(timeouts)).send()
    }};
}

/// What is asked of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) key: String,
    /// Value of the `Range` header.
    pub(crate) range: Option<String>,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) if_modified_since: Option<chrono::DateTime<Utc>>,
    pub(crate) if_unmodified_since: Option<chrono::DateTime<Utc>>,
    pub(crate) version: Option<String>,
}

/// An object as the server describes it.
#[derive(Debug)]
pub(crate) struct Described {
    /// Length of this answer's body.
    pub(crate) length: u64,
    /// First byte, and size of the object, when the answer is a range of it.
    pub(crate) content_range: Option<String>,
    pub(crate) e_tag: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) modified: chrono::DateTime<Utc>,
    pub(crate) headers: Headers,
    pub(crate) checksums: Checksums,
}

macro_rules! described {
    ($output:expr) => {
        Described {
            length: $output.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
            content_range: $output.content_range().map(str::to_owned),
            e_tag: $output.e_tag().map(str::to_owned),
            version: $output.version_id().filter(|version| *version != "null").map(str::to_owned),
            modified: date($output.last_modified()),
            checksums: Checksums {
                crc64nvme: $output.checksum_crc64_nvme().map(str::to_owned),
                crc32c: $output.checksum_crc32_c().map(str::to_owned),
                crc32: $output.checksum_crc32().map(str::to_owned),
            },
            headers: Headers {
                cache_control: $output.cache_control().map(str::to_owned),
                content_disposition: $output.content_disposition().map(str::to_owned),
                content_encoding: $output.content_encoding().map(str::to_owned),
                content_language: $output.content_language().map(str::to_owned),
                content_type: $output.content_type().map(str::to_owned),
                storage_class: $output.storage_class().map(|class| class.as_str().to_owned()),
                metadata: $output.metadata().cloned(),
            },
        }
    };
}

macro_rules! with_conditions {
    ($request:expr, $bucket:expr, $ask:expr) => {
        $request
            .bucket(&$bucket.name)
            .key($ask.key)
            .set_range($ask.range)
            .set_if_match($ask.if_match)
            .set_if_none_match($ask.if_none_match)
            .set_if_modified_since($ask.if_modified_since.map(|date| DateTime::from_secs(date.timestamp())))
            .set_if_unmodified_since($ask.if_unmodified_since.map(|date| DateTime::from_secs(date.timestamp())))
            .set_version_id($ask.version)
            .checksum_mode(ChecksumMode::Enabled)
    };
}

macro_rules! with_headers {
    ($request:expr, $headers:expr) => {
        $request
            .set_cache_control($headers.cache_control)
            .set_content_disposition($headers.content_disposition)
            .set_content_encoding($headers.content_encoding)
            .set_content_language($headers.content_language)
            .set_content_type($headers.content_type)
            .set_storage_class($headers.storage_class.as_deref().map(StorageClass::from))
            .set_metadata($headers.metadata)
    };
}

/// The bytes of an answer as they arrive.
pub(crate) struct Body(ByteStream);

impl Body {
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        Some(self.0.next().await?.map_err(|e| cause(&e)))
    }
}

/// An object to be written.
#[derive(Debug, Default)]
pub(crate) struct Put {
    pub(crate) key: String,
    pub(crate) body: Bytes,
    pub(crate) headers: Headers,
    /// Encoded as a query string.
    pub(crate) tags: Option<String>,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
}

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) e_tag: Option<String>,
    pub(crate) version: Option<String>,
}

/// Which keys are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    pub(crate) prefix: Option<String>,
    pub(crate) delimiter: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) limit: Option<i32>,
    pub(crate) token: Option<String>,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Listed>,
    pub(crate) prefixes: Vec<String>,
    pub(crate) token: Option<String>,
}

/// An object in a list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) e_tag: Option<String>,
    pub(crate) modified: chrono::DateTime<Utc>,
}

/// An upload in parts that was neither completed nor aborted.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) begun: chrono::DateTime<Utc>,
}

/// The requests to one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) connection: Arc<Connection>,
    pub(crate) name: String,
    /// Whether an answer has shown that the bucket exists.
    pub(crate) seen: Arc<AtomicBool>,
}

impl Bucket {
    async fn client(&self) -> &Client {
        self.connection.client().await
    }

    pub(crate) async fn get(&self, ask: Ask) -> Result<(Described, Body), Error> {
        let request = with_conditions!(self.client().await.get_object(), self, ask);
        let output = request.send().await.map_err(|e| self.error(e))?;
        Ok((described!(output), Body(output.body)))
    }

    pub(crate) async fn head(&self, ask: Ask) -> Result<Described, Error> {
        let request = with_conditions!(self.client().await.head_object(), self, ask.clone());
        match request.send().await.map_err(|e| self.error(e)) {
            Ok(output) => Ok(described!(output)),
            Err(error) => Err(self.explained(error, ask).await),
        }
    }

    /// The answer to a HEAD request carries no code, so what it leaves open is asked again.
    async fn explained(&self, error: Error, ask: Ask) -> Error {
        match error {
            Error::NotFound { .. } if !self.seen.load(Ordering::Relaxed) => {
                let page = self.list(Which { limit: Some(1), ..Which::default() }).await;
                page.err().filter(|found| matches!(found, Error::NoBucket { .. })).unwrap_or(error)
            }
            Error::Denied { .. } | Error::Region { .. } => {
                let first = Ask { key: ask.key, range: Some("bytes=0-0".to_owned()), ..Ask::default() };
                self.get(first).await.err().unwrap_or(error)
            }
            other => other,
        }
    }

    pub(crate) async fn put(&self, put: Put) -> Result<Written, Error> {
        let len = put.body.len() as u64;
        let request = with_headers!(self.client().await.put_object(), put.headers)
            .bucket(&self.name)
            .key(put.key)
            .set_tagging(put.tags)
            .set_if_match(put.if_match)
            .set_if_none_match(put.if_none_match)
            .body(ByteStream::from(put.body));
        let output = send_body!(self, request, len).await.map_err(|e| self.error(e))?;
        Ok(Written { e_tag: output.e_tag, version: output.version_id })
    }

    pub(crate) async fn copy(&self, from: &str, to: String, create: bool) -> Result<(), Error> {
        let request = self.client().await.copy_object();
        let request = request.bucket(&self.name).key(to).metadata_directive(MetadataDirective::Copy);
        let request = request.copy_source(encoded(&format!("{}/{from}", self.name)));
        let request = request.set_if_none_match(create.then(|| "*".to_owned()));
        request.send().await.map(drop).map_err(|e| self.error(e))
    }

    pub(crate) async fn delete(&self, key: String) -> Result<(), Error> {
        let request = self.client().await.delete_object().bucket(&self.name).key(key);
        request.send().await.map(drop).map_err(|e| self.error(e))
    }

    /// Deletes up to 1000 keys, and returns those that the server did not delete.
    pub(crate) async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, Error)>, Error> {
        let internal = |cause: String| Error::Internal { cause };
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
        let objects = objects.collect::<Result<_, _>>().map_err(|e| internal(e.to_string()))?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
        let delete = delete.map_err(|e| internal(e.to_string()))?;
        let request = self.client().await.delete_objects().bucket(&self.name).delete(delete);
        let output = request.send().await.map_err(|e| self.error(e))?;
        let failed = output.errors().iter().map(|failed| {
            let refusal = Refusal { code: failed.code(), message: failed.message(), ..Refusal::default() };
            (failed.key().unwrap_or_default().to_owned(), Error::refused(&self.name, &refusal))
        });
        Ok(failed.collect())
    }

    pub(crate) async fn list(&self, which: Which) -> Result<Page, Error> {
        let request = self.client().await.list_objects_v2().bucket(&self.name);
        let request = request
            .set_prefix(which.prefix)
            .set_delimiter(which.delimiter)
            .set_start_after(which.after)
            .set_max_keys(which.limit)
            .set_continuation_token(which.token);
        let output = request.send().await.map_err(|e| self.error(e))?;
        self.seen.store(true, Ordering::Relaxed);
        let objects = output.contents().iter().map(|object| Listed {
            key: object.key().unwrap_or_default().to_owned(),
            size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            e_tag: object.e_tag().map(str::to_owned),
            modified: date(object.last_modified()),
        });
        let prefixes = output.common_prefixes().iter().filter_map(|prefix| prefix.prefix().map(str::to_owned));
        let more = output.is_truncated().unwrap_or(false);
        Ok(Page {
            objects: objects.collect(),
            prefixes: prefixes.collect(),
            token: output.next_continuation_token().filter(|_| more).map(str::to_owned),
        })
    }

    pub(crate) async fn begin(&self, key: String, headers: Headers, tags: Option<String>) -> Result<String, Error> {
        let request = with_headers!(self.client().await.create_multipart_upload(), headers);
        let request = request.bucket(&self.name).key(key).set_tagging(tags);
        let output = request.send().await.map_err(|e| self.error(e))?;
        output.upload_id.ok_or_else(|| Error::Internal { cause: "the server gave an upload no id".to_owned() })
    }

    /// Sends part `number`, counted from 1, and returns its tag.
    pub(crate) async fn part(&self, key: String, id: String, number: i32, body: Bytes) -> Result<String, Error> {
        let len = body.len() as u64;
        let request = self.client().await.upload_part().bucket(&self.name).key(key).upload_id(id);
        let request = request.part_number(number).body(ByteStream::from(body));
        let output = send_body!(self, request, len).await.map_err(|e| self.error(e))?;
        output.e_tag.ok_or_else(|| Error::Internal { cause: "the server gave a part no tag".to_owned() })
    }

    /// Makes an object of the parts with these tags.
    pub(crate) async fn complete(&self, key: String, id: String, tags: Vec<String>) -> Result<Written, Error> {
        let parts =
            (1..).zip(tags).map(|(number, tag)| CompletedPart::builder().part_number(number).e_tag(tag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let request = self.client().await.complete_multipart_upload().bucket(&self.name).key(key).upload_id(id);
        let output = request.multipart_upload(parts).send().await.map_err(|e| self.error(e))?;
        Ok(Written { e_tag: output.e_tag, version: output.version_id })
    }

    pub(crate) async fn abort(&self, key: String, id: String) -> Result<(), Error> {
        let request = self.client().await.abort_multipart_upload().bucket(&self.name).key(key).upload_id(id);
        match request.send().await.map_err(|e| self.error(e)) {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Uploads under way for keys that begin with `prefix`.
    pub(crate) async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, Error> {
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self.client().await.list_multipart_uploads().bucket(&self.name).prefix(prefix);
            let request = request.set_key_marker(key_marker).set_upload_id_marker(id_marker);
            let output = request.send().await.map_err(|e| self.error(e))?;
            found.extend(output.uploads().iter().filter_map(|upload| {
                let (key, id) = (upload.key()?.to_owned(), upload.upload_id()?.to_owned());
                key.starts_with(prefix).then(|| Unfinished { key, id, begun: date(upload.initiated()) })
            }));
            (key_marker, id_marker) = (output.next_key_marker, output.next_upload_id_marker);
            if !output.is_truncated.unwrap_or(false) || key_marker.is_none() {
                return Ok(found);
            }
        }
    }

    /// What a failed request means.
    fn error<E: ProvideErrorMetadata + std::error::Error + 'static>(&self, error: SdkError<E>) -> Error {
        if let SdkError::ServiceError(refused) = &error {
            let (raw, meta) = (refused.raw(), refused.err().meta());
            let region = raw.headers().get("x-amz-bucket-region");
            let refusal = Refusal { status: raw.status().as_u16(), code: meta.code(), message: meta.message(), region };
            return Error::refused(&self.name, &refusal);
        }
        if let Some(problem) = credentials(&error) {
            return problem;
        }
        let unreachable = |cause: String| Error::Unreachable {
            server: self.connection.settings.endpoint.clone().unwrap_or_else(|| "S3".to_owned()),
            cause,
        };
        match &error {
            SdkError::TimeoutError(_) => unreachable("it took too long".to_owned()),
            SdkError::DispatchFailure(_) => unreachable(cause(&error)),
            SdkError::ResponseError(_) => unreachable(format!("an answer that is not S3's, {}", cause(&error))),
            _ => Error::Internal { cause: cause(&error) },
        }
    }
}

/// Whether a failure is that there are no credentials, found among its causes.
fn credentials(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(at) = next {
        match at.downcast_ref::<CredentialsError>() {
            Some(CredentialsError::CredentialsNotLoaded(_)) => {
                return Some(Error::NoCredentials { detail: String::new() });
            }
            Some(other) => return Some(Error::NoCredentials { detail: format!("; {}", cause(other)) }),
            None => next = at.source(),
        }
    }
    None
}

/// The last of the causes, which names what happened; those before it name layers of the SDK.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn date(date: Option<&DateTime>) -> chrono::DateTime<Utc> {
    date.and_then(|date| chrono::DateTime::from_timestamp(date.secs(), date.subsec_nanos())).unwrap_or_default()
}

/// `text` as the value of a header that holds a path.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// First byte and end of the range that a `Content-Range` header tells, and the size of the object.
pub(crate) fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some((first..last.checked_add(1)?, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_keys_are_written_as_http_writes_them() {
        assert_eq!(content_range("bytes 2-5/10"), Some((2..6, 10)));
        for bad in ["bytes */10", "bytes 2-5", "2-5/10", "bytes x-5/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
        assert_eq!(encoded("b/a b+c%/ü"), "b/a%20b%2Bc%25/%C3%BC");
    }
}
