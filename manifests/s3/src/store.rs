//! The storage port over the requests.
//!
//! A conditional write carries a token in the object's metadata. When the server says that the condition does not hold, the object
//! that is there is looked at: one with the writer's own token was written by an attempt whose answer was lost, and is a success.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use crate::attributes::Headers;
use crate::body::Transfer;
use crate::checksum::Check;
use crate::runtime::run;
use crate::sdk::{Ask, Body, Bucket, Connection, Described, Listed, Page, Put, Which, Written, content_range};
use crate::upload::{self, Upload};
use crate::{Error, Settings, retry, token};

/// Keys of one request to delete, S3's limit.
const DELETED_AT_ONCE: usize = 1000;

/// One bucket of S3.
#[derive(Clone, Debug)]
pub struct S3Store {
    bucket: Bucket,
}

impl std::fmt::Display for S3Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}", self.bucket.name)
    }
}

impl S3Store {
    /// The bucket as `settings` reach it. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::BadBucket`] or [`Error::BadEndpoint`].
    pub fn connect(bucket: &str, settings: &Settings) -> Result<Self, Error> {
        if let Some(endpoint) = &settings.endpoint {
            let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(char::is_whitespace)) {
                return Err(Error::BadEndpoint { endpoint: endpoint.clone() });
            }
        }
        Self::over(bucket, Arc::new(Connection::new(settings.clone())))
    }

    /// The bucket as the environment says. All such stores of the process share connections and credentials.
    ///
    /// # Errors
    /// As [`S3Store::connect`].
    pub fn of_environment(bucket: &str) -> Result<Self, Error> {
        static CONNECTION: OnceLock<Arc<Connection>> = OnceLock::new();
        let connect = || Self::connect("any", &Settings::from_env()).map(|store| store.bucket.connection);
        let connection = match CONNECTION.get() {
            Some(connection) => connection,
            None => {
                let connection = connect()?;
                CONNECTION.get_or_init(|| connection)
            }
        };
        Self::over(bucket, Arc::clone(connection))
    }

    fn over(bucket: &str, connection: Arc<Connection>) -> Result<Self, Error> {
        let bad = |problem| Error::BadBucket { bucket: bucket.to_owned(), problem };
        // Some servers allow more than S3 does; what cannot be in a URL is told here.
        if !(3..=255).contains(&bucket.len()) {
            return Err(bad("it must have 3 to 63 characters"));
        }
        if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
            return Err(bad("it may have letters, digits, dots and hyphens"));
        }
        Ok(Self { bucket: Bucket { connection, name: bucket.to_owned(), seen: Arc::new(AtomicBool::new(false)) } })
    }

    /// Removes what uploads in parts left that were neither completed nor aborted, of keys that begin with `prefix` and begun at
    /// least `age` ago, and returns how many there were.
    ///
    /// # Errors
    /// As a list of the store.
    pub async fn abort_unfinished(&self, prefix: &str, age: Duration) -> object_store::Result<usize> {
        let (bucket, begins) = (self.bucket.clone(), prefix.to_owned());
        let aborted = run(async move {
            let mut aborted = 0;
            for upload in bucket.unfinished(&begins).await? {
                let is_old = Utc::now().signed_duration_since(upload.begun).to_std().is_ok_and(|old| old >= age);
                // A clock that is ahead of ours must not keep what is to go at once.
                if is_old || age.is_zero() {
                    bucket.abort(upload.key, upload.id).await?;
                    aborted += 1;
                }
            }
            Ok(aborted)
        });
        aborted.await.map_err(|e| e.of(prefix))
    }

    /// Paths of the uploads in parts that are neither completed nor aborted, of keys that begin with `prefix`.
    ///
    /// # Errors
    /// As a list of the store.
    pub async fn unfinished(&self, prefix: &str) -> object_store::Result<Vec<String>> {
        let (bucket, begins) = (self.bucket.clone(), prefix.to_owned());
        let found = run(async move { bucket.unfinished(&begins).await }).await.map_err(|e| e.of(prefix))?;
        Ok(found.into_iter().map(|upload| upload.key).collect())
    }

    async fn page(&self, which: Which) -> object_store::Result<Page> {
        let (bucket, prefix) = (self.bucket.clone(), which.prefix.clone().unwrap_or_default());
        run(async move { bucket.list(which).await }).await.map_err(|e| e.of(&prefix))
    }

    fn pages(&self, which: Which) -> BoxStream<'static, object_store::Result<Page>> {
        let store = self.clone();
        let pages = stream::try_unfold(Some(which), move |which| {
            let store = store.clone();
            async move {
                let Some(which) = which else { return Ok(None) };
                let page = store.page(which.clone()).await?;
                // The token holds where to go on; a second start is refused by some servers.
                let next = page.token.clone().map(|token| Which { token: Some(token), after: None, ..which });
                Ok(Some((page, next)))
            }
        });
        pages.boxed()
    }

    fn objects(&self, which: Which) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let of_page = |page: Page| stream::iter(page.objects.into_iter().filter_map(meta).collect::<Vec<_>>());
        self.pages(which).map_ok(of_page).try_flatten().boxed()
    }
}

/// The prefix of everything below a path: whole segments of it.
fn below(prefix: Option<&Path>) -> Option<String> {
    prefix.map(Path::as_ref).filter(|prefix| !prefix.is_empty()).map(|prefix| format!("{prefix}/"))
}

/// A listed object; `None` for the empty objects that some tools make to stand for folders.
fn meta(listed: Listed) -> Option<object_store::Result<ObjectMeta>> {
    if listed.size == 0 && listed.key.ends_with('/') {
        return None;
    }
    let location = Path::parse(&listed.key)
        .map_err(|problem| Error::BadKey { key: listed.key.clone(), problem: problem.to_string() }.of(&listed.key));
    Some(location.map(|location| ObjectMeta {
        location,
        last_modified: listed.modified,
        size: listed.size,
        e_tag: listed.e_tag,
        version: None,
    }))
}

fn listed(page: Page) -> object_store::Result<ListResult> {
    let common_prefixes = page.prefixes.iter().map(|prefix| {
        Path::parse(prefix)
            .map_err(|problem| Error::BadKey { key: prefix.clone(), problem: problem.to_string() }.of(prefix))
    });
    Ok(ListResult {
        common_prefixes: common_prefixes.collect::<object_store::Result<_>>()?,
        objects: page.objects.into_iter().filter_map(meta).collect::<object_store::Result<_>>()?,
    })
}

/// What is read of an object: the request's header and, when it is known before the answer, where it begins.
fn range_header(range: &GetRange) -> String {
    match range {
        GetRange::Bounded(range) => format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
        GetRange::Offset(start) => format!("bytes={start}-"),
        GetRange::Suffix(len) => format!("bytes=-{len}"),
    }
}

/// Writes, and finds out whether a condition that does not hold was broken by the writer itself.
async fn put(bucket: Bucket, put: Put, writer: Option<String>) -> Result<Written, Error> {
    let key = put.key.clone();
    match (bucket.put(put).await, writer) {
        (Err(broken @ Error::Precondition { .. }), Some(writer)) => {
            let there = bucket.head(Ask { key, ..Ask::default() }).await;
            match there {
                Ok(there) if there.headers.writer() == Some(&writer) => {
                    Ok(Written { e_tag: there.e_tag, version: there.version })
                }
                _ => Err(broken),
            }
        }
        (result, _) => result,
    }
}

/// Deletes `keys`, and those again that the server was too busy for.
async fn delete(bucket: Bucket, keys: Vec<String>) -> Result<Vec<(String, Error)>, Error> {
    if let [key] = keys.as_slice() {
        return bucket.delete(key.clone()).await.map(|()| Vec::new());
    }
    let settings = &bucket.connection.settings;
    let mut failed = bucket.delete_many(&keys).await?;
    for attempt in 1..settings.attempts {
        let (busy, refused): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|(_, error)| matches!(error, Error::Busy { .. }));
        failed = refused;
        if busy.is_empty() {
            break;
        }
        let wait = retry::backoff(attempt, settings.backoff, settings.backoff_max, token::fraction());
        tokio::time::sleep(wait).await;
        let busy: Vec<String> = busy.into_iter().map(|(key, _)| key).collect();
        failed.extend(bucket.delete_many(&busy).await?);
    }
    Ok(failed)
}

impl S3Store {
    /// The result for an answer, with the rest of its body behind it.
    fn result(&self, ask: Ask, described: Described, body: Option<Body>) -> Result<GetResult, Error> {
        let told = described.content_range.as_deref().and_then(content_range);
        let (range, size) = match (told, &ask.range) {
            (Some(told), _) => told,
            (None, None) => (0..described.length, described.length),
            (None, Some(_)) => {
                let cause = "the server does not answer with the range that was asked for".to_owned();
                return Err(Error::Internal { cause });
            }
        };
        let location = Path::from_iter(ask.key.split('/').map(|part| {
            object_store::path::PathPart::parse(part).unwrap_or_else(|_| object_store::path::PathPart::from(part))
        }));
        let check = if range.end - range.start == size { Check::new(&described.checksums) } else { None };
        let meta = ObjectMeta {
            location,
            last_modified: described.modified,
            size,
            e_tag: described.e_tag.clone(),
            version: described.version.clone(),
        };
        let path = ask.key.clone();
        let stream = match body {
            None => stream::empty().boxed(),
            Some(body) => {
                let again =
                    Ask { key: ask.key, if_match: described.e_tag, version: described.version, ..Ask::default() };
                let transfer = Transfer { bucket: self.bucket.clone(), again, range: range.clone(), check };
                transfer.stream(body)?.map_err(move |e| e.of(&path)).boxed()
            }
        };
        let payload = GetResultPayload::Stream(stream);
        Ok(GetResult { payload, meta, range, attributes: described.headers.into() })
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let key = location.to_string();
        let tags = Some(opts.tags.encoded().to_owned()).filter(|tags| !tags.is_empty());
        let mut asked =
            Put { key, body: payload.into(), headers: Headers::from(&opts.attributes), tags, ..Put::default() };
        let mut writer = None;
        if opts.mode != PutMode::Overwrite {
            let token = token::token();
            asked.headers = asked.headers.written_by(&token);
            writer = Some(token);
        }
        match &opts.mode {
            PutMode::Overwrite => {}
            PutMode::Create => asked.if_none_match = Some("*".to_owned()),
            PutMode::Update(version) => {
                let missing = || Error::Internal { cause: "an update needs the ETag of what it replaces".to_owned() };
                let tag = version.e_tag.clone().ok_or_else(|| missing().of(location.as_ref()))?;
                asked.if_match = Some(tag);
            }
        }
        let bucket = self.bucket.clone();
        let written = run(async move { put(bucket, asked, writer).await }).await;
        let written = written.map_err(|error| {
            let source = Box::new(error.clone());
            match (&opts.mode, &error) {
                (PutMode::Create, Error::Precondition { .. }) => {
                    object_store::Error::AlreadyExists { path: location.to_string(), source }
                }
                // The object that was to be replaced is gone.
                (PutMode::Update(_), Error::NotFound { .. }) => {
                    object_store::Error::Precondition { path: location.to_string(), source }
                }
                _ => error.of(location.as_ref()),
            }
        })?;
        Ok(PutResult { e_tag: written.e_tag, version: written.version })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let upload = Upload::begin(self.bucket.clone(), location, opts).await;
        Ok(Box::new(upload.map_err(|e| e.of(location.as_ref()))?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let told = |e: Error| e.of(location.as_ref());
        if let Some(GetRange::Bounded(range)) = &options.range
            && range.start >= range.end
        {
            let cause = format!("the range {}..{} is empty", range.start, range.end);
            return Err(told(Error::Internal { cause }));
        }
        let ask = Ask {
            key: location.to_string(),
            range: options.range.as_ref().map(range_header),
            if_match: options.if_match,
            if_none_match: options.if_none_match,
            if_modified_since: options.if_modified_since,
            if_unmodified_since: options.if_unmodified_since,
            version: options.version,
        };
        let (bucket, asked) = (self.bucket.clone(), ask.clone());
        let (described, body) = if options.head {
            (run(async move { bucket.head(asked).await }).await.map_err(told)?, None)
        } else {
            let (described, body) = run(async move { bucket.get(asked).await }).await.map_err(told)?;
            (described, Some(body))
        };
        self.result(ask, described, body).map_err(told)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let bucket = self.bucket.clone();
        let deleted = locations.chunks(DELETED_AT_ONCE).map(move |batch| {
            let bucket = bucket.clone();
            async move {
                let paths = match batch.into_iter().collect::<object_store::Result<Vec<Path>>>() {
                    Ok(paths) => paths,
                    Err(error) => return vec![Err(error)],
                };
                let keys = paths.iter().map(Path::to_string).collect();
                match run(async move { delete(bucket, keys).await }).await {
                    Ok(failed) => {
                        let failed: std::collections::HashMap<String, Error> = failed.into_iter().collect();
                        let result = |path: Path| match failed.get(path.as_ref()) {
                            Some(error) => Err(error.clone().of(path.as_ref())),
                            None => Ok(path),
                        };
                        paths.into_iter().map(result).collect()
                    }
                    Err(error) => vec![Err(error.of(paths.first().map_or("", Path::as_ref)))],
                }
            }
        });
        deleted.buffered(4).map(stream::iter).flatten().boxed()
    }

    // `list_with_offset` is the port's own, which takes from a whole list what is behind the offset: given `start-after=a`, SeaweedFS
    // leaves out the keys below `a/`.

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects(Which { prefix: below(prefix), ..Which::default() })
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let which = Which { prefix: below(prefix), delimiter: Some("/".to_owned()), ..Which::default() };
        let mut all = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let mut pages = self.pages(which);
        while let Some(page) = pages.try_next().await? {
            let page = listed(page)?;
            all.common_prefixes.extend(page.common_prefixes);
            all.objects.extend(page.objects);
        }
        Ok(all)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        let create = options.mode == CopyMode::Create;
        let (bucket, source, target) = (self.bucket.clone(), from.to_string(), to.to_string());
        let copied = run(async move { bucket.copy(&source, target, create).await }).await;
        copied.map_err(|error| match error {
            Error::Precondition { .. } if create => {
                object_store::Error::AlreadyExists { path: to.to_string(), source: Box::new(error) }
            }
            other => other.of(from.as_ref()),
        })
    }
}

#[async_trait]
impl MultipartStore for S3Store {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        let (bucket, key) = (self.bucket.clone(), path.to_string());
        run(async move { bucket.begin(key, Headers::default(), None).await }).await.map_err(|e| e.of(path.as_ref()))
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        let (bucket, key, id) = (self.bucket.clone(), path.to_string(), id.clone());
        let sent = run(async move { bucket.part(key, id, upload::part_number(part_idx)?, data.into()).await });
        sent.await.map(|content_id| PartId { content_id }).map_err(|e| e.of(path.as_ref()))
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        let (bucket, key, id) = (self.bucket.clone(), path.to_string(), id.clone());
        let tags = parts.into_iter().map(|part| part.content_id).collect();
        let written = run(async move { upload::complete(&bucket, &key, &id, tags).await }).await;
        let written = written.map_err(|e| e.of(path.as_ref()))?;
        Ok(PutResult { e_tag: written.e_tag, version: written.version })
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        let (bucket, key, id) = (self.bucket.clone(), path.to_string(), id.clone());
        run(async move { bucket.abort(key, id).await }).await.map_err(|e| e.of(path.as_ref()))
    }
}

#[async_trait]
impl PaginatedListStore for S3Store {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult> {
        let which = Which {
            prefix: prefix.map(str::to_owned),
            delimiter: opts.delimiter.map(std::borrow::Cow::into_owned),
            after: opts.offset.filter(|_| opts.page_token.is_none()),
            limit: opts.max_keys.map(|keys| i32::try_from(keys).unwrap_or(i32::MAX)),
            token: opts.page_token,
        };
        let page = self.page(which).await?;
        let page_token = page.token.clone();
        Ok(PaginatedListResult { result: listed(page)?, page_token })
    }
}
