//! The same bits as on threads, wherever the gradients go, and nothing left behind.

use std::sync::Arc;

use manifests::place::Place;
use pipeline_tests::Running;
use s3::{Credentials, S3Store, Settings};
use services::{Redis, RedisCluster, SeaweedFs};

use super::{World, start};

/// How much is trained: seconds for all cases together. Object storage takes a tenth of a second for a step.
fn epochs(place: &str) -> u32 {
    if place == "s3" { 2 } else { 8 }
}

/// Kind, mini-batches a step, workers, further flags, and where gradients go. Each value of each occurs with some of the others.
const CASES: [(&str, u32, u32, &str, &str); 13] = [
    ("ratings", 8, 1, "", "redis"),
    ("ratings", 8, 3, "--strategy all-to-all", "two"),
    ("ratings", 8, 8, "--strategy reduce-scatter", "redis"),
    ("ratings", 24, 24, "", "cluster"),
    ("ratings", 8, 3, "--strategy reduce-scatter", "s3"),
    ("sparse", 8, 1, "--strategy reduce-scatter", "two"),
    ("sparse", 8, 3, "--strategy reduce-scatter", "cluster"),
    ("sparse", 8, 8, "--checkpoint-every 7", "redis"),
    ("sparse", 24, 24, "--strategy reduce-scatter", "redis"),
    ("sparse", 8, 3, "--strategy all-to-all", "folder"),
    ("dense", 8, 8, "", "s3"),
    ("dense", 24, 24, "--strategy all-to-all", "two"),
    ("dense", 8, 3, "--strategy reduce-scatter", "folder"),
];

struct Places {
    world: World,
    second: Redis,
    cluster: RedisCluster,
    bucket: SeaweedFs,
}

impl Places {
    fn new() -> Self {
        std::thread::scope(|scope| {
            let world = scope.spawn(World::new);
            let (second, cluster, bucket) = (Redis::start(), RedisCluster::start(), SeaweedFs::start());
            Self { world: world.join().unwrap(), second, cluster, bucket }
        })
    }

    fn start(&self, run: &str, arguments: &str, place: &str) -> Running {
        let world = &self.world;
        let redis = match place {
            "two" => format!("{},{}", world.redis.url(), self.second.url()),
            "cluster" => self.cluster.url(),
            _ => world.redis.url(),
        };
        let exchange = match place {
            "folder" => "--exchange exchange",
            "s3" => "--exchange s3://data/exchange",
            _ => "",
        };
        let mut env = vec![("GRISTMILL_AMQP", world.amqp()), ("GRISTMILL_REDIS", redis)];
        env.extend(self.bucket.env());
        start(world.path(), &format!("train {arguments} {exchange} -o {}", world.run(run)), &env)
    }

    #[track_caller]
    fn nothing_is_left(&self, run: &str, what: &str) {
        self.world.nothing_is_left(run, what);
        assert_eq!([self.second.keys(), self.cluster.keys()].concat(), [""; 0], "{what}: left in Redis");
        let folder = std::fs::read_dir(self.world.path().join("exchange"));
        let left: Vec<_> = folder.into_iter().flatten().collect();
        assert!(left.is_empty(), "{what}: {left:?} are left");
        let (key, secret) = SeaweedFs::ADMIN;
        let settings = Settings {
            endpoint: Some(self.bucket.url()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(Credentials { key: key.to_owned(), secret: secret.to_owned(), token: None }),
            ..Settings::default()
        };
        let store = S3Store::connect(self.bucket.bucket(), &settings).unwrap();
        assert_eq!(Place::in_store(Arc::new(store), "exchange").list().unwrap(), [], "{what}: left in the bucket");
    }
}

#[test]
fn the_same_bits_wherever_the_gradients_go_and_nothing_left() {
    let places = Places::new();
    let world = &places.world;
    let settings = |kind: &str, batches: u32, place: &str| {
        format!("--manifest {kind}.json --step-batches {batches} --max-epochs {} --patience 100", epochs(place))
    };
    for (number, (kind, batches, workers, flags, place)) in CASES.into_iter().enumerate() {
        let what = format!("{kind}, {workers} workers, {flags}, through {place}");
        let expected = world.expected(&settings(kind, batches, place));
        let run = format!("run{number}");
        let arguments = format!("{} --launch process --workers {workers} {flags}", settings(kind, batches, place));
        let said = world.end(&mut places.start(&run, &arguments, place), &run, &what);
        assert_eq!(said.digests(), expected, "{what}: {said:#?}");
        println!("{what}: {:.1} s", said.seconds);
        world.is_whole(&run, &what);
        places.nothing_is_left(&run, &what);
        assert_eq!(world.verified(&run)["workers"], workers.min(batches), "{what}");
    }
    diverges(&places);
    assert_eq!(world.queues(), [], "left in RabbitMQ");
}

/// A run that fails leaves as little on the servers as one that succeeds.
fn diverges(places: &Places) {
    let world = &places.world;
    for (run, place) in [("diverged-in-redis", "redis"), ("diverged-in-a-folder", "folder")] {
        let settings = "--manifest ratings.json --step-batches 8 --learning-rate 1e6 --launch process --workers 3";
        let said = world.end(&mut places.start(run, settings, place), run, run);
        said.failed(6, &["training diverged", "--learning-rate"]);
        places.nothing_is_left(run, run);
    }
}
