//! Networks and servers that fail in the middle: the operation succeeds after all, or ends with the error that is true.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use services::{Fault, FaultProxy, Request};

use super::*;

const SIZE: usize = 3_000_001;

/// Says which requests are meant.
type Which = fn(&Request) -> bool;

/// The first `times` requests that `which` chooses meet `fault`.
fn faulty(server: &SeaweedFs, times: usize, fault: Fault, which: Which) -> (FaultProxy, S3Store) {
    let met = AtomicUsize::new(0);
    let proxy = FaultProxy::start(server.port(), move |request| {
        let is_met = which(request) && met.fetch_add(1, Ordering::SeqCst) < times;
        if is_met { fault.clone() } else { Fault::Pass }
    });
    let store = S3Store::connect(server.bucket(), &settings(&proxy.url(), SeaweedFs::ADMIN)).unwrap();
    (proxy, store)
}

const GET: Which = |request| request.method == "GET";
const PUT: Which = |request| request.method == "PUT";
const PART: Which = |request| request.target.contains("partNumber=2");
const COMPLETE: Which = |request| request.method == "POST" && request.target.contains("uploadId=");
const ALWAYS: usize = usize::MAX;

fn busy(status: u16, code: &'static str, retry_after: Option<u32>) -> Fault {
    Fault::Answer { status, code, retry_after }
}

/// What was read.
fn get(store: &S3Store, path: &Path) -> object_store::Result<Bytes> {
    block_on(async { store.get(path).await?.bytes().await })
}

fn put(store: &S3Store, path: &Path, mode: PutMode, body: &[u8]) -> object_store::Result<()> {
    block_on(store.put_opts(path, body.to_vec().into(), PutOptions::from(mode))).map(drop)
}

/// The adapter's error at the bottom.
#[track_caller]
fn cause<T: std::fmt::Debug>(result: object_store::Result<T>) -> s3::Error {
    let error = result.unwrap_err();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = next {
        if let Some(found) = at.downcast_ref::<s3::Error>() {
            return found.clone();
        }
        next = at.source();
    }
    panic!("{error:?}");
}

#[test]
fn reads_survive() {
    let server = SeaweedFs::start();
    let (path, body) = (Path::from("object"), bytes(SIZE, 1));
    put(&store(&server), &path, PutMode::Overwrite, &body).unwrap();
    let quarter = SIZE as u64 / 4;
    let cases = [
        (3, busy(503, "SlowDown", None), 4),
        (2, busy(500, "InternalError", None), 3),
        (1, busy(502, "", None), 2),
        (1, Fault::LoseAnswer, 2),
        (1, Fault::ResetAnswer { after: quarter }, 2),
        (3, Fault::ResetAnswer { after: quarter }, 4),
        (1, Fault::ResetAnswer { after: 0 }, 2),
        (1, Fault::TruncateAnswer { after: quarter }, 2),
        (1, Fault::TruncateAnswer { after: SIZE as u64 - 1 }, 2),
        (1, Fault::StallAnswer { after: quarter, pause: Duration::from_secs(4) }, 2),
        (1, Fault::SlowAnswer { chunk: SIZE / 10, pause: Duration::from_millis(50) }, 1),
    ];
    for (times, fault, requests) in cases {
        let (proxy, store) = faulty(&server, times, fault.clone(), GET);
        assert!(get(&store, &path).unwrap() == body, "{fault:?}");
        assert_eq!(proxy.count("GET"), requests, "{fault:?}");
        let range = 1_000_000..2_500_000;
        let (_proxy, store) = faulty(&server, times, fault.clone(), GET);
        let part = block_on(store.get_range(&path, range.start as u64..range.end as u64)).unwrap();
        assert!(part == body[range], "{fault:?}");
    }
    // What was had is not asked for again.
    let (proxy, store) = faulty(&server, 1, Fault::ResetAnswer { after: quarter }, GET);
    get(&store, &path).unwrap();
    let asked = proxy.requests()[1].header("range").unwrap().to_owned();
    let start: u64 = asked.strip_prefix("bytes=").unwrap().split('-').next().unwrap().parse().unwrap();
    assert!(start > 0 && start <= quarter, "{asked}");
    assert!(proxy.requests()[1].header("if-match").is_some());

    let (_proxy, store) = faulty(&server, 1, busy(503, "SlowDown", Some(1)), GET);
    let begun = Instant::now();
    assert!(get(&store, &path).unwrap() == body);
    assert!(begun.elapsed() > Duration::from_millis(150), "the server's wait is kept, up to the longest of ours");
}

#[test]
fn reads_end_with_the_error_that_is_true() {
    let server = SeaweedFs::start();
    let (path, body) = (Path::from("object"), bytes(SIZE, 1));
    let direct = store(&server);
    put(&direct, &path, PutMode::Overwrite, &body).unwrap();
    let expired = busy(403, "ExpiredToken", None);
    let cases = [
        (busy(503, "SlowDown", None), 5, s3::Error::Busy { code: "SlowDown".to_owned() }),
        (expired.clone(), 1, s3::Error::Expired { code: "ExpiredToken".to_owned() }),
        (busy(403, "AccessDenied", None), 1, s3::Error::Denied { code: "AccessDenied".to_owned() }),
        (busy(301, "PermanentRedirect", None), 1, s3::Error::Region { region: None }),
    ];
    for (fault, requests, expected) in cases {
        let (proxy, store) = faulty(&server, ALWAYS, fault.clone(), GET);
        assert_eq!(cause(get(&store, &path)), expected);
        assert_eq!(proxy.count("GET"), requests, "{fault:?}");
    }
    for fault in [Fault::TruncateAnswer { after: 100 }, Fault::ResetAnswer { after: 100 }] {
        let (proxy, store) = faulty(&server, ALWAYS, fault.clone(), GET);
        let told = cause(get(&store, &path));
        assert!(matches!(told, s3::Error::Truncated { received: 0..=500, length: 3_000_001, .. }), "{told:?}");
        assert_eq!(proxy.count("GET"), 5, "{fault:?}");
    }
    // An object that is replaced while it is read is never a mixture.
    let (other, replaced) = (bytes(SIZE, 2), path.clone());
    let proxy = FaultProxy::start(server.port(), move |request| match request.number {
        0 => Fault::ResetAnswer { after: SIZE as u64 / 4 },
        _ => {
            put(&direct, &replaced, PutMode::Overwrite, &other).unwrap();
            Fault::Pass
        }
    });
    let store = S3Store::connect(server.bucket(), &settings(&proxy.url(), SeaweedFs::ADMIN)).unwrap();
    let told = cause(get(&store, &path).map(|body| body.len()));
    assert!(matches!(told, s3::Error::Precondition { .. }), "{told:?}");
    assert_eq!(proxy.count("GET"), 2);
}

#[test]
fn altered_bytes_are_noticed() {
    let server = SeaweedFs::start();
    let (path, body) = (Path::from("object"), bytes(SIZE, 1));
    let flip = Fault::FlipRequest { at: 1_234_567 };
    for mode in [PutMode::Overwrite, PutMode::Create] {
        let (proxy, store) = faulty(&server, 1, flip.clone(), PUT);
        block_on(store.delete(&path)).unwrap();
        put(&store, &path, mode, &body).unwrap();
        assert_eq!(proxy.count("PUT"), 2);
        assert!(get(&store, &path).unwrap() == body);
    }
    let (_proxy, altering) = faulty(&server, ALWAYS, flip, PUT);
    assert!(put(&altering, &Path::from("other"), PutMode::Overwrite, &body).is_err());
    assert!(matches!(get(&store(&server), &Path::from("other")), Err(object_store::Error::NotFound { .. })));

    let (_proxy, altering) = faulty(&server, 1, Fault::FlipAnswer { at: 1_234_567 }, GET);
    assert_eq!(cause(get(&altering, &path)), s3::Error::Mismatch { algorithm: "CRC32" });
    assert!(get(&altering, &path).unwrap() == body);
}

#[test]
fn writes_survive() {
    let server = SeaweedFs::start();
    let body = bytes(SIZE, 1);
    let cases = [
        (3, busy(503, "SlowDown", None)),
        (2, busy(500, "InternalError", None)),
        (2, Fault::ResetRequest { after: 1_000_000 }),
        (1, Fault::LoseAnswer),
    ];
    for (number, (times, fault)) in cases.into_iter().enumerate() {
        let path = Path::from(format!("object-{number}"));
        let (proxy, store) = faulty(&server, times, fault.clone(), PUT);
        put(&store, &path, PutMode::Overwrite, &body).unwrap();
        assert_eq!(proxy.count("PUT"), times + 1, "{fault:?}");
        assert!(get(&store, &path).unwrap() == body, "{fault:?}");

        let path = Path::from(format!("created-{number}"));
        let (proxy, store) = faulty(&server, times, fault.clone(), PUT);
        put(&store, &path, PutMode::Create, &body).unwrap();
        assert_eq!(proxy.count("PUT"), times + 1, "{fault:?}");
        assert!(get(&store, &path).unwrap() == body, "{fault:?}");

        // Somebody else's object is not taken for one's own, whatever was lost before.
        let (_proxy, store) = faulty(&server, times, fault.clone(), PUT);
        let result = put(&store, &path, PutMode::Create, &body);
        assert!(matches!(result, Err(object_store::Error::AlreadyExists { .. })), "{fault:?} {result:?}");
    }
    let path = Path::from("updated");
    let direct = store(&server);
    let first = block_on(direct.put(&path, "1".into())).unwrap();
    let (_proxy, store) = faulty(&server, 1, Fault::LoseAnswer, PUT);
    put(&store, &path, PutMode::Update(first.clone().into()), b"2").unwrap();
    let result = put(&store, &path, PutMode::Update(first.into()), b"3");
    assert!(matches!(result, Err(object_store::Error::Precondition { .. })), "{result:?}");
    assert_eq!(get(&direct, &path).unwrap(), &b"2"[..]);
}

/// Three parts of 5 MiB.
fn upload(store: &S3Store, path: &Path) -> (Vec<u8>, object_store::Result<()>) {
    let body = bytes(15 << 20, 7);
    let sent = block_on(async {
        let mut upload = store.put_multipart(path).await?;
        let parts: Vec<_> = body.chunks(5 << 20).map(|part| upload.put_part(part.to_vec().into())).collect();
        let sent = futures::stream::iter(parts).buffer_unordered(3).try_collect::<Vec<()>>().await;
        match sent {
            Ok(_) => upload.complete().await.map(drop),
            // What is dropped is aborted.
            Err(error) => Err(error),
        }
    });
    (body, sent)
}

#[test]
fn uploads_in_parts_are_whole_or_leave_nothing() {
    let server = SeaweedFs::start();
    let direct = store(&server);
    let path = Path::from("parts");
    let cases: [(usize, Fault, Which); 6] = [
        (2, busy(503, "SlowDown", None), PART),
        (2, Fault::ResetRequest { after: 2_000_000 }, PART),
        (1, Fault::LoseAnswer, PART),
        (1, Fault::FlipRequest { at: 100 }, PART),
        (2, busy(500, "InternalError", None), COMPLETE),
        (1, Fault::LoseAnswer, COMPLETE),
    ];
    for (times, fault, which) in cases {
        let (_proxy, store) = faulty(&server, times, fault.clone(), which);
        let (body, sent) = upload(&store, &path);
        sent.unwrap_or_else(|e| panic!("{fault:?}: {e:?}"));
        assert!(get(&store, &path).unwrap() == body, "{fault:?}");
        assert!(block_on(direct.unfinished("")).unwrap().is_empty(), "{fault:?}");
        block_on(direct.delete(&path)).unwrap();
    }
    let cases: [(Fault, Which); 3] = [
        (busy(403, "ExpiredToken", None), PART),
        (Fault::ResetRequest { after: 2_000_000 }, PART),
        (busy(500, "InternalError", None), COMPLETE),
    ];
    for (fault, which) in cases {
        let (_proxy, store) = faulty(&server, ALWAYS, fault.clone(), which);
        upload(&store, &path).1.unwrap_err();
        assert!(matches!(get(&direct, &path), Err(object_store::Error::NotFound { .. })), "{fault:?}");
        // The abort of a dropped upload is under way.
        let begun = Instant::now();
        while !block_on(direct.unfinished("")).unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(5), "{fault:?}: an upload is left");
        }
    }
}

#[test]
fn a_large_object_comes_back_and_a_range_costs_a_range() {
    let server = SeaweedFs::start();
    let (path, body) = (Path::from("large"), bytes(64 << 20, 5));
    let (proxy, store) = faulty(&server, 0, Fault::Pass, GET);
    put(&store, &path, PutMode::Create, &body).unwrap();
    assert!(get(&store, &path).unwrap() == body);
    let range = 33_000_000..33_100_000;
    let part = block_on(store.get_range(&path, range.start as u64..range.end as u64)).unwrap();
    assert!(part == body[range]);
    let tail = block_on(store.get_ranges(&path, &[0..10, 67_108_000..67_108_864])).unwrap();
    assert_eq!([&tail[0], &tail[1]], [&body[..10], &body[67_108_000..]]);
    let mut answered: Vec<u64> = proxy.requests().iter().filter(|r| r.method == "GET").map(|r| r.answered).collect();
    answered.sort_unstable();
    assert_eq!(answered, [10, 864, 100_000, 64 << 20]);
}
