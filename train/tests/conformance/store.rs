//! The suite that every store of pieces must pass, on memory, Redis in all its kinds and object storage, and what a store in Redis
//! does when its server does not do as it should.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manifests::place::Place;
use schemas::exit::ErrorKind;
use services::{Certificates, Redis, RedisCluster, RedisOptions, SeaweedFs};
use tokio::runtime::{Builder, Runtime};
use train::exchange::store::memory::MemoryStore;
use train::exchange::store::object::ObjectStorageStore;
use train::exchange::store::redis::{RedisStore, RedisUrl};
use train::exchange::store::{Name, Store};
use train::service::ServiceError;

const PASSWORD: &str = "ein-geheimes-wort";
const EXPIRY: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(10);
/// Of calls that are to fail by time.
const SHORT: Duration = Duration::from_millis(600);
/// What a call may take longer than its deadline on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);
/// Variables that tell a child its task and the place or server of it.
const TASK: &str = "GRISTMILL_TEST_TASK";

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Opens stores whose keys begin with a prefix.
trait Stores {
    fn open(&self, prefix: &str) -> Box<dyn Store + '_>;
}

/// Each prefix is a store of its own in memory.
struct InMemory;

impl Stores for InMemory {
    fn open(&self, _: &str) -> Box<dyn Store> {
        Box::new(MemoryStore::default())
    }
}

/// Redis by URLs; `servers` are kept running.
struct InRedis<S> {
    #[expect(dead_code, reason = "they run as long as it lives")]
    servers: S,
    urls: Vec<String>,
    runtime: Runtime,
}

impl<S> InRedis<S> {
    fn new(servers: S, urls: Vec<String>) -> Self {
        Self { servers, urls, runtime: runtime() }
    }

    fn connect(&self, prefix: &str) -> RedisStore {
        connect(&self.runtime, &self.urls, prefix, EXPIRY, DEADLINE).unwrap()
    }
}

impl<S> Stores for InRedis<S> {
    fn open(&self, prefix: &str) -> Box<dyn Store> {
        Box::new(self.connect(prefix))
    }
}

fn connect(
    runtime: &Runtime,
    urls: &[impl AsRef<str>],
    prefix: &str,
    expiry: Duration,
    deadline: Duration,
) -> Result<RedisStore, ServiceError> {
    let urls: Vec<RedisUrl> = urls.iter().map(|url| url.as_ref().parse().unwrap()).collect();
    RedisStore::connect(runtime.handle().clone(), &urls, prefix, expiry, deadline)
}

fn one_redis(options: &RedisOptions) -> InRedis<Redis> {
    let server = Redis::with(options);
    let urls = vec![server.url()];
    InRedis::new(server, urls)
}

fn with_password() -> RedisOptions {
    RedisOptions { password: Some(PASSWORD), ..RedisOptions::default() }
}

fn with_user() -> RedisOptions {
    RedisOptions { user: Some("worker"), ..with_password() }
}

fn two_redis() -> InRedis<[Redis; 2]> {
    let servers = [Redis::start(), Redis::with(&with_password())];
    let urls = servers.iter().map(Redis::url).collect();
    InRedis::new(servers, urls)
}

/// Object storage; a folder is kept as long as this lives.
struct InPlace {
    place: Place,
    _folder: Option<tempfile::TempDir>,
}

impl InPlace {
    fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { place: Place::parse(folder.path().to_str().unwrap()).unwrap(), _folder: Some(folder) }
    }
}

impl Stores for InPlace {
    fn open(&self, prefix: &str) -> Box<dyn Store> {
        Box::new(ObjectStorageStore::new(&self.place, prefix).unwrap())
    }
}

fn piece(slot: u32, len: usize) -> (Name, Bytes) {
    let bytes: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ slot as u8).collect();
    (Name::Gradient { step: 7, slot }, bytes.into())
}

fn names(pieces: &[(Name, Bytes)]) -> Vec<Name> {
    pieces.iter().map(|(name, _)| *name).collect()
}

/// What a store gives for pieces that are all there.
fn there(pieces: &[(Name, Bytes)]) -> Vec<Option<Bytes>> {
    pieces.iter().map(|(_, bytes)| Some(bytes.clone())).collect()
}

mod suite {
    use super::*;

    pub(super) fn what_is_put_is_got_in_the_order_of_the_names(stores: &dyn Stores) {
        let store = stores.open("order");
        let mut pieces: Vec<_> = (0..20).map(|slot| piece(slot, 100 + slot as usize)).collect();
        pieces.push((Name::Slice { step: 7, slot: 3, slice: 1 }, Bytes::from_static(b"slice")));
        pieces.push((Name::Reduced { step: 7, slice: 1 }, Bytes::from_static(b"reduced")));
        store.put(&pieces).unwrap();
        pieces.reverse();
        assert_eq!(store.get(&names(&pieces)).unwrap(), there(&pieces));
    }

    pub(super) fn what_is_not_there_is_none(stores: &dyn Stores) {
        let store = stores.open("missing");
        let (a, b) = (piece(0, 10), piece(1, 10));
        store.put(std::slice::from_ref(&b)).unwrap();
        assert_eq!(store.get(&[a.0, b.0, a.0]).unwrap(), [None, Some(b.1), None]);
        assert_eq!(store.get(&[]).unwrap(), []);
        store.put(&[]).unwrap();
        store.delete(&[]).unwrap();
    }

    pub(super) fn putting_again_changes_nothing(stores: &dyn Stores) {
        let store = stores.open("again");
        let pieces = [piece(0, 1000), piece(1, 10)];
        for _ in 0..3 {
            store.put(&pieces).unwrap();
        }
        store.put(&pieces[..1]).unwrap();
        assert_eq!(store.get(&names(&pieces)).unwrap(), there(&pieces));
    }

    pub(super) fn deleting_is_of_what_is_named_and_may_be_repeated(stores: &dyn Stores) {
        let store = stores.open("delete");
        let pieces = [piece(0, 10), piece(1, 10), piece(2, 10)];
        store.put(&pieces).unwrap();
        for _ in 0..2 {
            store.delete(&names(&pieces[..2])).unwrap();
            assert_eq!(store.get(&names(&pieces)).unwrap(), [None, None, Some(pieces[2].1.clone())]);
        }
        store.put(&pieces[..1]).unwrap();
        assert_eq!(store.get(&names(&pieces[..1])).unwrap(), there(&pieces[..1]));
    }

    pub(super) fn large_and_empty_pieces_are_as_good_as_others(stores: &dyn Stores) {
        let store = stores.open("sizes");
        let pieces = [piece(0, 5_000_000), piece(1, 0), piece(2, 1), piece(3, 4 << 20)];
        store.put(&pieces).unwrap();
        assert!(store.get(&names(&pieces)).unwrap() == there(&pieces));
    }

    pub(super) fn many_pieces_fit_in_a_call(stores: &dyn Stores) {
        let store = stores.open("many");
        let pieces: Vec<_> = (0..600).map(|slot| piece(slot, 2000)).collect();
        store.put(&pieces).unwrap();
        assert!(store.get(&names(&pieces)).unwrap() == there(&pieces));
        store.delete(&names(&pieces)).unwrap();
        assert!(store.get(&names(&pieces)).unwrap().iter().all(Option::is_none));
    }

    pub(super) fn writers_and_readers_work_at_once(stores: &dyn Stores) {
        let store = stores.open("parallel");
        let store = &*store;
        let of = |writer: u32| (0..20).map(move |i| piece(100 * writer + i, 3000)).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || of(writer).chunks(5).for_each(|pieces| store.put(pieces).unwrap()));
                scope.spawn(move || {
                    let pieces = of(writer);
                    let begun = Instant::now();
                    // A piece that is there is whole.
                    loop {
                        let found = store.get(&names(&pieces)).unwrap();
                        let whole = there(&pieces);
                        assert!(found.iter().zip(&whole).all(|(found, whole)| found.is_none() || found == whole));
                        if found == whole {
                            break;
                        }
                        assert!(begun.elapsed() < DEADLINE);
                    }
                });
            }
        });
    }

    pub(super) fn prefixes_do_not_see_each_other(stores: &dyn Stores) {
        let (a, b) = (stores.open("a"), stores.open("b"));
        let pieces = [piece(0, 10)];
        a.put(&pieces).unwrap();
        assert_eq!(b.get(&names(&pieces)).unwrap(), [None]);
        b.delete(&names(&pieces)).unwrap();
        assert_eq!(a.get(&names(&pieces)).unwrap(), there(&pieces));
    }
}

/// Gives the list of all cases to another macro.
macro_rules! cases {
    ($then:ident $($arguments:tt)*) => {
        $then! {
            [
                what_is_put_is_got_in_the_order_of_the_names,
                what_is_not_there_is_none,
                putting_again_changes_nothing,
                deleting_is_of_what_is_named_and_may_be_repeated,
                large_and_empty_pieces_are_as_good_as_others,
                many_pieces_fit_in_a_call,
                writers_and_readers_work_at_once,
                prefixes_do_not_see_each_other,
            ]
            $($arguments)*
        }
    };
}

/// Each case a test, on stores of its own.
macro_rules! tests {
    ([$($case:ident),* $(,)?] $module:ident $stores:expr) => {
        mod $module {
            use super::*;

            $(#[test] fn $case() { suite::$case(&$stores); })*
        }
    };
}

macro_rules! all {
    ([$($case:ident),* $(,)?] $stores:ident) => {
        $(suite::$case($stores);)*
    };
}

/// All cases on stores that take their time to start.
fn whole(stores: &dyn Stores) {
    cases!(all stores);
}

cases!(tests in_memory InMemory);
cases!(tests in_redis one_redis(&RedisOptions::default()));
cases!(tests in_two_redis two_redis());
cases!(tests in_files InPlace::local());

#[test]
fn redis_with_a_password() {
    whole(&one_redis(&with_password()));
}

#[test]
fn redis_with_a_user() {
    whole(&one_redis(&with_user()));
}

#[test]
fn redis_cluster() {
    let cluster = RedisCluster::start();
    let urls = vec![cluster.url()];
    let stores = InRedis::new((), urls);
    whole(&stores);
    let keys = |server: &Redis| server.keys().len();
    assert!(cluster.servers().iter().all(|server| keys(server) > 10), "the keys are on all servers");
    let wrong = connect(&stores.runtime, &[cluster.url().replace("-cluster", "")], "order", EXPIRY, DEADLINE);
    let told = wrong.map(|store| store.get(&(0..20).map(|slot| piece(slot, 0).0).collect::<Vec<_>>()));
    let told = told.and_then(|got| got).unwrap_err();
    assert!(told.kind == ErrorKind::Config && told.fix.contains("redis-cluster://"), "{told:?}");
}

/// This test again as a child that does `task`.
fn child(task: &str, env: &[(&str, String)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "store::does_what_its_parent_says", "--ignored", "--nocapture"]).env(TASK, task);
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "SSL_CERT_DIR"] {
        child.env_remove(name);
    }
    let output = child.envs(env.iter().map(|(name, value)| (name, value))).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{task}: {said}\n{wrong}");
    said.into_owned()
}

#[test]
#[ignore = "other tests run it as a child"]
fn does_what_its_parent_says() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, place) = task.split_once(' ').unwrap();
    match task {
        "objects" => {
            whole(&InPlace { place: Place::parse(place).unwrap(), _folder: None });
            let store = ObjectStorageStore::new(&Place::parse(place).unwrap(), "order").unwrap();
            store.clear().unwrap();
            assert_eq!(store.get(&[piece(0, 0).0]).unwrap(), [None]);
        }
        "redis" => whole(&InRedis::new((), vec![place.to_owned()])),
        "refused" => println!("{}", tell(&connect(&runtime(), &[place], "run", EXPIRY, SHORT).unwrap_err())),
        other => panic!("{other}"),
    }
}

/// All that a log could show of an error.
fn tell(error: &ServiceError) -> String {
    format!("told: {error} | {:?} | {error:?}", error.kind)
}

#[test]
fn objects_in_s3() {
    let server = SeaweedFs::start();
    child(&format!("objects s3://{}/exchange", server.bucket()), &server.env());
}

fn with_tls(certificates: &Certificates) -> RedisOptions {
    let files = [certificates.authority(), certificates.certificate(), certificates.key()];
    RedisOptions { tls: Some(files), ..with_user() }
}

fn trust(file: PathBuf) -> [(&'static str, String); 1] {
    [("SSL_CERT_FILE", file.to_str().unwrap().to_owned())]
}

#[test]
fn redis_over_tls() {
    let certificates = Certificates::generate();
    let server = Redis::with(&with_tls(&certificates));
    child(&format!("redis {}", server.url()), &trust(certificates.authority()));
}

#[test]
fn tls_that_does_not_fit_is_told() {
    let (certificates, other) = (Certificates::generate(), Certificates::generate());
    let (tls, plain) = (Redis::with(&with_tls(&certificates)), Redis::with(&with_user()));
    // Without a password nothing is said before the first command.
    let open = Redis::with(&RedisOptions { user: None, password: None, ..with_tls(&certificates) });
    let missing = certificates.authority().with_file_name("missing.pem");
    let swapped = |server: &Redis, from: &str, to: &str| server.url().replacen(from, to, 1);
    let cases = [
        (swapped(&tls, "rediss:", "redis:"), certificates.authority(), "write rediss://"),
        (swapped(&open, "rediss:", "redis:"), certificates.authority(), "write rediss://"),
        (swapped(&tls, "rediss:", "redis-cluster:"), certificates.authority(), "write rediss-cluster://"),
        (swapped(&plain, "redis:", "rediss:"), certificates.authority(), "write redis://"),
        (tls.url(), other.authority(), "set SSL_CERT_FILE"),
        (tls.url(), missing, "correct SSL_CERT_FILE"),
    ];
    for (url, trusted, fix) in cases {
        let told = child(&format!("refused {url}"), &trust(trusted));
        assert!(told.contains("| Config |") && told.contains(fix), "{url}: {told}");
        assert!(!told.contains(PASSWORD), "{told}");
    }
}

/// What `call` gives, which must end within `deadline`.
#[track_caller]
fn timed<T>(deadline: Duration, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let given = call();
    assert!(begun.elapsed() < deadline + SLACK, "{:?}", begun.elapsed());
    given
}

#[test]
fn a_server_that_was_started_again_is_used_by_the_same_store() {
    let runtime = runtime();
    let mut servers = [Redis::start(), Redis::start()];
    let urls: Vec<String> = servers.iter().map(Redis::url).collect();
    let store = connect(&runtime, &urls, "run", EXPIRY, DEADLINE).unwrap();
    let pieces: Vec<_> = (0..40).map(|slot| piece(slot, 5000)).collect();
    let calls: [&dyn Fn() -> Option<usize>; 3] = [
        &|| store.put(&pieces).ok().map(|()| 40),
        &|| Some(store.get(&names(&pieces)).ok()?.into_iter().flatten().count()),
        &|| store.delete(&names(&pieces)).ok().map(|()| 40),
    ];
    for (turn, call) in calls.iter().enumerate() {
        store.put(&pieces).unwrap();
        let kept = servers[1].keys().len();
        assert!((5..35).contains(&kept), "{kept}");
        servers[0].kill_and_restart_empty();
        assert_eq!(call(), Some([40, kept, 40][turn]));
    }
    // Also one that comes back while the call waits.
    servers[0].kill();
    std::thread::scope(|scope| {
        let put = scope.spawn(|| store.put(&pieces));
        std::thread::sleep(Duration::from_millis(100));
        servers[0].restart();
        put.join().unwrap().unwrap();
    });
    assert_eq!(store.get(&names(&pieces)).unwrap(), there(&pieces));
}

#[test]
fn calls_to_a_server_that_is_stopped_end_by_time_and_go_on_with_it() {
    let runtime = runtime();
    let server = Redis::start();
    let store = connect(&runtime, &[server.url()], "run", EXPIRY, SHORT).unwrap();
    let pieces = [piece(0, 100), piece(1, 3_000_000)];
    store.put(&pieces).unwrap();
    server.stop();
    let calls: [&dyn Fn() -> Option<ServiceError>; 4] = [
        &|| store.get(&names(&pieces)).err(),
        &|| store.put(&pieces).err(),
        &|| store.delete(&names(&pieces)).err(),
        &|| connect(&runtime, &[server.url()], "run", EXPIRY, SHORT).err(),
    ];
    for call in calls {
        let error = timed(SHORT, call).unwrap();
        assert!(
            error.kind == ErrorKind::Unavailable && error.problem.contains("no answer (tried for 0.6 s)"),
            "{error:?}"
        );
    }
    server.cont();
    store.put(&pieces).unwrap();
    assert_eq!(store.get(&names(&pieces)).unwrap(), there(&pieces));
}

#[test]
fn a_cluster_that_lost_a_server_fails_by_time() {
    let cluster = RedisCluster::start();
    let runtime = runtime();
    let deadline = Duration::from_secs(1);
    let store = connect(&runtime, &[cluster.url()], "run", EXPIRY, deadline).unwrap();
    let pieces: Vec<_> = (0..60).map(|slot| piece(slot, 100)).collect();
    store.put(&pieces).unwrap();
    cluster.servers()[2].stop();
    let error = timed(deadline, || store.get(&names(&pieces))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    cluster.servers()[2].cont();
    let begun = Instant::now();
    // The cluster takes a moment to agree that it is whole.
    while store.get(&names(&pieces)).ok() != Some(there(&pieces)) {
        assert!(begun.elapsed() < DEADLINE);
    }
}

#[test]
fn servers_that_cannot_be_reached_are_told_in_time() {
    let runtime = runtime();
    let mut server = Redis::start();
    let closed = server.url();
    server.kill();
    let cases = [(closed, "nothing takes connections there"), ("redis://no-such-host.invalid".to_owned(), "lookup")];
    for (url, problem) in cases {
        let error = timed(SHORT, || connect(&runtime, &[url], "run", EXPIRY, SHORT)).unwrap_err();
        assert!(error.kind == ErrorKind::Unavailable && error.problem.contains(problem), "{error:?}");
    }
}

#[test]
fn a_full_server_refuses_and_says_what_to_do() {
    let lines = ["maxmemory 3mb".to_owned(), "maxmemory-policy noeviction".to_owned()].to_vec();
    let server = Redis::with(&RedisOptions { lines, ..RedisOptions::default() });
    let runtime = runtime();
    let store = connect(&runtime, &[server.url()], "run", EXPIRY, DEADLINE).unwrap();
    let pieces: Vec<_> = (0..40).map(|slot| piece(slot, 200_000)).collect();
    let error = timed(SHORT, || store.put(&pieces)).unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.problem.contains("OOM"), "{error:?}");
    assert!(error.fix.contains("maxmemory"), "{error:?}");
    // What is there can be read and deleted, and then there is room again.
    store.get(&names(&pieces)).unwrap();
    store.delete(&names(&pieces)).unwrap();
    store.put(&pieces[..1]).unwrap();
}

#[test]
fn logins_and_rights_that_do_not_fit_are_told_without_the_password() {
    let plain = Redis::start();
    let word = Redis::with(&with_password());
    let may_little = "user reader on >ein-geheimes-wort ~* +get".to_owned();
    let user = Redis::with(&RedisOptions { lines: vec![may_little], ..with_user() });
    let port = |server: &Redis| server.port();
    let cases = [
        (format!("redis://127.0.0.1:{}", port(&word)), "user:password@"),
        (format!("redis://:{PASSWORD}x@127.0.0.1:{}", port(&word)), "correct user and password"),
        (format!("redis://wrong:{PASSWORD}@127.0.0.1:{}", port(&user)), "correct user and password"),
        (format!("redis://:{PASSWORD}@127.0.0.1:{}", port(&plain)), "correct user and password"),
        (format!("redis-cluster://:{PASSWORD}x@127.0.0.1:{}", port(&word)), "correct user and password"),
        (format!("redis://127.0.0.1:{}/99", port(&plain)), "database"),
        (format!("redis-cluster://127.0.0.1:{}", port(&plain)), "write redis://"),
        (format!("redis://reader:{PASSWORD}@127.0.0.1:{}", port(&user)), "~run/* +get +set +unlink"),
    ];
    let runtime = runtime();
    for (url, fix) in cases {
        let store = connect(&runtime, &[&url], "run", EXPIRY, DEADLINE);
        let put = timed(SHORT, || store.and_then(|store| store.put(&[piece(0, 10)])));
        let error = put.unwrap_err();
        assert!(error.kind == ErrorKind::Config && error.fix.contains(fix), "{error:?}");
        assert!(!tell(&error).contains(PASSWORD), "{error:?}");
    }
}

#[test]
fn lists_of_servers_that_make_no_sense_are_refused() {
    let runtime = runtime();
    let none: [&str; 0] = [];
    assert_eq!(connect(&runtime, &none, "run", EXPIRY, SHORT).unwrap_err().kind, ErrorKind::Config);
    let mixed = connect(&runtime, &["redis-cluster://a", "redis://b"], "run", EXPIRY, SHORT).unwrap_err();
    assert!(mixed.kind == ErrorKind::Config && mixed.problem.contains("mixed"), "{mixed:?}");
    let server = Redis::start();
    let twice = [server.url(), server.url()];
    let store = connect(&runtime, &twice, "run", EXPIRY, DEADLINE).unwrap();
    store.put(&[piece(0, 10)]).unwrap();
    assert_eq!(server.command(&["client", "list"]).len(), 2, "one connection and that of the question");
    assert!(!format!("{store:?}").contains(PASSWORD));
}

#[test]
fn every_key_has_the_prefix_and_expires() {
    let server = Redis::start();
    let runtime = runtime();
    let expiry = Duration::from_millis(400);
    let store = connect(&runtime, &[server.url()], "gristmill/run-1", expiry, DEADLINE).unwrap();
    let lasting = connect(&runtime, &[server.url()], "gristmill/run-2", EXPIRY, DEADLINE).unwrap();
    let pieces: Vec<_> = (0..30).map(|slot| piece(slot, 10)).collect();
    store.put(&pieces).unwrap();
    lasting.put(&pieces).unwrap();
    let keys = server.keys();
    assert_eq!(keys.len(), 60, "{keys:?}");
    for key in keys {
        // -1 would be a key that never expires; -2 is one that is gone.
        let left: i64 = server.command(&["pttl", &key])[0].parse().unwrap();
        let left_of = if key.starts_with("gristmill/run-1/7/g") { -2..=400 } else { 0..=60_000 };
        assert!(key.starts_with("gristmill/run-") && left != -1 && left_of.contains(&left), "{key}: {left}");
    }
    let begun = Instant::now();
    while store.get(&names(&pieces)).unwrap().iter().any(Option::is_some) {
        assert!(begun.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lasting.get(&names(&pieces)).unwrap(), there(&pieces));
}

#[test]
fn what_a_local_store_leaves_is_taken_away_as_a_whole() {
    let folder = InPlace::local();
    let store = ObjectStorageStore::new(&folder.place, "run-1").unwrap();
    store.put(&[piece(0, 10), piece(1, 10)]).unwrap();
    assert_eq!(folder.place.list().unwrap().len(), 2);
    store.clear().unwrap();
    assert_eq!(folder.place.list().unwrap(), []);
}
