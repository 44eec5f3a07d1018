//! What is wrong with flags and servers: one error that names the place and the remedy, soon, without a password, and no hang.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use pipeline_tests::Said;
use services::{RabbitMq, Redis, RedisOptions};

use super::{SECRETS, WRONG, World, start};

const TRAIN: &str = "train --manifest ratings.json --step-batches 8 --max-epochs 5";

/// Flags in place of servers: `{redis}` and `{amqp}` are the good ones.
const FLAGS: [(&str, &str, &[&str]); 9] = [
    ("--redis {redis}", "--redis is for workers that are processes", &["--launch process"]),
    ("--amqp {amqp}", "--amqp is for workers that are processes", &["--launch process"]),
    ("--worker-timeout 3s", "--worker-timeout is for workers that are processes", &["--launch process"]),
    ("--launch process", "need RabbitMQ", &["--amqp", "GRISTMILL_AMQP"]),
    ("--launch process --amqp {amqp}", "need Redis", &["--redis", "GRISTMILL_REDIS", "--exchange"]),
    ("--launch process --amqp http://host --redis {redis}", "amqp", &["amqp://"]),
    ("--launch process --amqp {amqp} --redis ftp://host", "redis", &["redis://"]),
    ("--launch process --amqp {amqp} --redis {redis} --time-limit 10ms", "--time-limit", &["second"]),
    ("--launch process --amqp {amqp} --redis {redis} --exchange there", "--redis", &["--exchange"]),
];

#[test]
fn what_is_wrong_is_said_once_and_soon() {
    let world = World::new();
    let good = |flags: &str| flags.replace("{redis}", &world.redis.url()).replace("{amqp}", &world.amqp());
    for (number, (flags, problem, fix)) in FLAGS.into_iter().enumerate() {
        let said = refused(&world, &format!("flags{number}"), &good(flags));
        said.failed(2, &[problem]);
        said.failed(2, fix);
        assert!(said.seconds < 5.0, "{said:#?}");
    }
    servers(&world);
    assert_eq!(world.queues(), [], "left in RabbitMQ");
}

/// A run with these flags, and no servers in its environment.
fn refused(world: &World, run: &str, flags: &str) -> Said {
    let mut running = start(world.path(), &format!("{TRAIN} {flags} -o {}", world.run(run)), &[]);
    let said = world.end(&mut running, run, flags);
    world.nobody_is_left(run, run);
    assert!(!tells_a_secret(&world.path().join(run)), "{flags}");
    said
}

fn tells_a_secret(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path());
    files
        .into_iter()
        .any(|path| if path.is_dir() { tells_a_secret(&path) } else { SECRETS.are_in(&fs::read(&path).unwrap()) })
}

fn servers(world: &World) {
    let (redis, amqp) = (world.redis.url(), world.amqp());
    let (user, stranger) = (RabbitMq::USER, RabbitMq::STRANGER);
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let (redis_port, plain, tls) = (world.redis.port(), world.broker.port(), world.broker.tls_port());
    let redis_at = |scheme: &str, word: &str, port: u16| format!("{scheme}://:{word}@127.0.0.1:{port}");
    let password = super::REDIS_PASSWORD;
    let cases = [
        ("redis: wrong password", redis_at("redis", WRONG, redis_port), amqp.clone(), 4, "password"),
        ("redis: no password", format!("redis://127.0.0.1:{redis_port}"), amqp.clone(), 4, "password"),
        ("redis: TLS to plain", redis_at("rediss", password, redis_port), amqp.clone(), 4, "redis://"),
        ("redis: refused port", redis_at("redis", password, free), amqp.clone(), 75, "redis"),
        ("redis: it is RabbitMQ", redis_at("redis", password, plain), amqp.clone(), 4, "redis"),
        ("amqp: wrong password", redis.clone(), RabbitMq::url_of("amqp", (user.0, WRONG), plain, "/"), 4, "password"),
        ("amqp: no vhost", redis.clone(), RabbitMq::url_of("amqp", user, plain, "nirgends"), 4, "virtual host"),
        ("amqp: no permission", redis.clone(), RabbitMq::url_of("amqp", stranger, plain, "/"), 4, "virtual host"),
        ("amqp: TLS to plain", redis.clone(), RabbitMq::url_of("amqps", user, plain, "/"), 4, "TLS"),
        ("amqp: plain to TLS", redis.clone(), RabbitMq::url_of("amqp", user, tls, "/"), 4, "amqps://"),
        ("amqp: refused port", redis.clone(), RabbitMq::url_of("amqp", user, free, "/"), 75, "reached"),
    ];
    // Those that are tried again until a deadline wait for it side by side.
    std::thread::scope(|scope| {
        scope.spawn(|| full(world));
        for (number, (what, redis, amqp, code, word)) in cases.into_iter().enumerate() {
            let flags = format!("--launch process --workers 2 --redis {redis} --amqp {amqp}");
            scope.spawn(move || {
                let said = refused(world, &format!("server{number}"), &flags);
                let words = said.stderr.lines().rev().take(3).collect::<Vec<_>>();
                println!("{what}: {:?} after {:.1} s: {words:?}", said.code, said.seconds);
                said.failed(code, &["127.0.0.1:", word]);
                assert!(said.stderr.contains("fix:") && said.seconds < 40.0, "{what}: {said:#?}");
            });
        }
    });
}

/// A Redis that has no memory for gradients.
fn full(world: &World) {
    let lines = ["maxmemory 1mb", "maxmemory-policy noeviction"].map(str::to_owned).to_vec();
    let small = Redis::with(&RedisOptions { lines, ..RedisOptions::default() });
    let flags = format!("--launch process --workers 2 --redis {} --amqp {}", small.url(), world.amqp());
    let said = refused(world, "full", &flags);
    println!("full: {:?} after {:.1} s: {}", said.code, said.seconds, said.stderr);
    said.failed(75, &["maxmemory", &format!("127.0.0.1:{}", small.port())]);
    assert!(said.seconds < 60.0, "{said:#?}");
}
