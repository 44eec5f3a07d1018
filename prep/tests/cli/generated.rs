//! Generated ratings: exact, alike whatever the threads, and shaped like the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::sandbox::Sandbox;

#[test]
fn ratings_are_exact_sorted_and_shaped_like_real_ones() {
    let sandbox = Sandbox::new();
    let report = sandbox.prep("generate movielens --ratings 200000 --users 1500 --movies 2000 -o r.csv").report();
    assert_eq!((&report["rows"], &report["output"]), (&200_000.into(), &"r.csv".into()));
    let text = std::fs::read_to_string(sandbox.path("r.csv")).unwrap();
    assert_eq!(report["bytes_written"], text.len());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("userId,movieId,rating,timestamp"));
    let mut keys = Vec::new();
    let mut stars = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [user, movie, rating, time] = fields[..] else { panic!("{line}") };
        keys.push((user.parse::<u32>().unwrap(), movie.parse::<u32>().unwrap()));
        assert!(matches!(rating.as_bytes(), [b'0'..=b'5', b'.', b'0' | b'5']), "{line}");
        stars.push(rating.parse::<f64>().unwrap());
        assert!((789_652_009..1_427_784_002 + 86_400).contains(&time.parse::<u32>().unwrap()), "{line}");
    }
    assert_eq!(keys.len(), 200_000);
    assert!(keys.is_sorted() && keys.iter().collect::<BTreeSet<_>>().len() == keys.len());
    let n = stars.len() as f64;
    let mean = stars.iter().sum::<f64>() / n;
    let sd = (stars.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!((3.4..3.7).contains(&mean) && (0.95..1.15).contains(&sd), "mean {mean}, sd {sd}");
    let (mut users, mut movies) = (BTreeMap::new(), BTreeMap::new());
    for (user, movie) in keys {
        *users.entry(user).or_insert(0u32) += 1;
        *movies.entry(movie).or_insert(0u32) += 1;
    }
    assert!(users.keys().copied().eq(1..=1500));
    let (least, most) = (users.values().min().unwrap(), users.values().max().unwrap());
    assert!(*least >= 20 && *most > 500 && *most <= 700, "{least} to {most} ratings a user");
    assert!(movies.len() > 1_800 && *movies.keys().last().unwrap() > 2 * movies.len() as u32);
    let mut popularity: Vec<u32> = movies.into_values().collect();
    popularity.sort_unstable();
    // In the 20M set the most popular tenth of the movies has 86 % of the ratings; with fewer movies the tail is shorter.
    let top: u32 = popularity.iter().rev().take(200).sum();
    assert!((80_000..150_000).contains(&top), "{top}");
}

#[test]
fn the_bytes_depend_on_the_settings_alone() {
    let sandbox = Sandbox::new();
    let args = "generate movielens --ratings 50000 --users 900 --movies 700";
    let expected = sandbox.prep(&format!("{args} --threads 1")).stdout;
    assert_eq!(sandbox.prep(&format!("{args} --threads 7")).stdout, expected);
    assert_ne!(sandbox.prep(&format!("{args} --seed 9")).stdout, expected);
    for (name, unpack) in [
        ("r.csv", (|bytes| bytes) as fn(Vec<u8>) -> Vec<u8>),
        ("r.csv.gz", |bytes| {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
            text
        }),
        ("r.csv.zst", |bytes| zstd::decode_all(&bytes[..]).unwrap()),
    ] {
        sandbox.prep(&format!("{args} --threads 3 -o {name}")).report();
        assert!(unpack(std::fs::read(sandbox.path(name)).unwrap()) == expected.as_bytes(), "{name}");
    }
}

#[test]
fn what_is_pinned_stays() {
    // A change of the generator changes what a seed stands for, and every figure that was measured on its ratings.
    let text = Sandbox::new().prep("generate movielens --ratings 4 --users 2 --movies 9").stdout;
    assert_eq!(text, PINNED);
}

const PINNED: &str = "\
userId,movieId,rating,timestamp
1,32,4.0,1120136872
1,40,3.5,1120138706
2,32,3.0,959022237
2,45,3.0,959075650
";

#[test]
fn a_file_is_kept_or_replaced_never_lost() {
    let sandbox = Sandbox::new();
    let args = "generate movielens --ratings 5000 --users 90 --movies 300 -o r.csv";
    sandbox.prep(args).report();
    let first = sandbox.files(".");
    let again = sandbox.prep(args);
    again.report();
    assert!(again.stderr.contains("unchanged: r.csv"), "{}", again.stderr);
    sandbox.prep(&format!("{args} --seed 1")).failed(5, "r.csv: already exists with different content");
    assert_eq!(sandbox.files("."), first);
    sandbox.prep(&format!("{args} --seed 1 --replace")).report();
    let second = sandbox.files(".");
    assert!(second.len() == 1 && second != first);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for kind in ["movielens", "criteo"] {
        let ran = Sandbox::new().shell(&format!("{{ prep generate {kind}; echo $? >&2; }} | head -n 2"));
        assert_eq!(ran.stdout.lines().count(), 2);
        assert!(ran.stderr.ends_with("0\n"), "{}", ran.stderr);
    }
}
