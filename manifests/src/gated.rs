//! A store for tests: requests wait for each other at a gate, are counted, and fail when told to.

#![cfg(test)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use schemas::manifest::Batch;

use crate::digest::digest;
use crate::place::Place;

/// While the gate is closed, no get of bytes and no put goes on before a number of them are there at once.
#[derive(Debug)]
pub(crate) struct Gated(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: InMemory,
    at_once: usize,
    closed: AtomicBool,
    opened: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    now: AtomicUsize,
    most: AtomicUsize,
    requests: AtomicUsize,
    puts: AtomicUsize,
    /// The put from which on every one fails.
    failing_from: AtomicUsize,
}

impl Gated {
    /// A gate for `at_once` requests.
    pub(crate) fn new(store: InMemory, at_once: usize) -> Self {
        Self(Arc::new(Inner {
            store,
            at_once,
            closed: AtomicBool::new(false),
            opened: AtomicBool::new(false),
            waiting: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            puts: AtomicUsize::new(0),
            failing_from: AtomicUsize::new(usize::MAX),
        }))
    }

    pub(crate) fn place(&self) -> Place {
        Place::in_store(Arc::new(Store(Arc::clone(&self.0))), "p")
    }

    /// From here on requests wait and are counted.
    pub(crate) fn close_gate(&self) {
        self.0.most.store(0, Ordering::SeqCst);
        self.0.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn fail_from_put(&self, number: usize) {
        self.0.puts.store(0, Ordering::SeqCst);
        self.0.failing_from.store(number, Ordering::SeqCst);
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    /// Gets so far.
    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// Puts so far.
    pub(crate) fn puts(&self) -> usize {
        self.0.puts.load(Ordering::SeqCst)
    }

    pub(crate) fn wait_for_requests(&self, count: usize) {
        let start = Instant::now();
        while self.requests() < count {
            assert!(start.elapsed() < Duration::from_secs(60), "{} of {count} requests", self.requests());
            std::thread::yield_now();
        }
    }
}

impl Inner {
    /// Waits until enough requests are here, once.
    async fn pass(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let is_open = || !self.closed.load(Ordering::SeqCst) || self.opened.load(Ordering::SeqCst);
        if !is_open() && now >= self.at_once {
            self.opened.store(true, Ordering::SeqCst);
        }
        std::future::poll_fn(|context| {
            let mut waiting = self.waiting.lock().unwrap();
            if is_open() {
                waiting.drain(..).for_each(Waker::wake);
                return Poll::Ready(());
            }
            waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The store behind the gate.
#[derive(Debug)]
struct Store(Arc<Inner>);

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gated")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let number = self.0.puts.fetch_add(1, Ordering::SeqCst);
        self.0.pass().await;
        let result = if number >= self.0.failing_from.load(Ordering::SeqCst) {
            Err(object_store::Error::Generic { store: "Gated", source: "out of order".into() })
        } else {
            self.0.store.put_opts(location, payload, opts).await
        };
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        result
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        if options.head {
            return self.0.store.get_opts(location, options).await;
        }
        self.0.pass().await;
        let result = self.0.store.get_opts(location, options).await;
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        result
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.store.copy_opts(from, to, options).await
    }
}

/// `count` objects of 10 bytes in `place`.
pub(crate) fn batches(place: &Place, count: usize) -> Vec<Batch> {
    let batch = |i: usize| {
        let (key, bytes) = (format!("k{i}"), format!("{i:010}"));
        place.put(&key, bytes.clone()).unwrap();
        Batch { key, offset: None, rows: 1, bytes: 10, digest: digest(bytes.as_bytes()) }
    };
    (0..count).map(batch).collect()
}
