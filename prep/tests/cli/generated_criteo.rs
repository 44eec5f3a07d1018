//! Generated click logs: alike whatever the threads, shaped like the real ones, with labels that can be learnt.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use manifests::digest::digest;

use crate::sandbox::Sandbox;

/// Missing rate and 0, 25, 50, 75, 90, 99, 100 % quantiles of the real log's first 10,000 rows.
const NUMERIC: [(f64, [i64; 7]); 13] = [
    (0.448, [0, 0, 1, 3, 8, 44, 214]),
    (0.000, [-2, 0, 3, 38, 192, 2223, 18522]),
    (0.204, [0, 2, 7, 21, 52, 303, 65535]),
    (0.198, [0, 2, 4, 10, 20, 44, 280]),
    (0.049, [0, 272, 2491, 10493, 32451, 312517, 1618112]),
    (0.251, [0, 9, 40, 129, 335, 1737, 12167]),
    (0.049, [0, 0, 3, 10, 30, 190, 1658]),
    (0.001, [0, 2, 7, 20, 35, 48, 682]),
    (0.049, [0, 10, 41, 123, 308, 1229, 7335]),
    (0.448, [0, 0, 0, 1, 1, 3, 6]),
    (0.049, [0, 0, 1, 2, 5, 22, 79]),
    (0.773, [0, 0, 0, 1, 2, 14, 98]),
    (0.198, [0, 2, 5, 13, 27, 74, 770]),
];

/// Missing rate, different tokens in 10,000 rows, and shares of the three most frequent (of the values present).
const CATEGORICAL: [(f64, usize, [f64; 3]); 26] = [
    (0.000, 175, [0.500, 0.172, 0.084]),
    (0.000, 386, [0.123, 0.065, 0.047]),
    (0.036, 5520, [0.049, 0.034, 0.028]),
    (0.036, 4032, [0.076, 0.064, 0.035]),
    (0.000, 56, [0.666, 0.154, 0.064]),
    (0.133, 7, [0.530, 0.224, 0.142]),
    (0.000, 3184, [0.011, 0.009, 0.008]),
    (0.000, 93, [0.589, 0.170, 0.077]),
    (0.000, 3, [0.887, 0.113, 0.000]),
    (0.000, 2986, [0.276, 0.011, 0.010]),
    (0.000, 2084, [0.020, 0.020, 0.013]),
    (0.036, 5283, [0.049, 0.034, 0.028]),
    (0.000, 1725, [0.022, 0.020, 0.015]),
    (0.000, 24, [0.363, 0.346, 0.160]),
    (0.000, 2035, [0.019, 0.015, 0.012]),
    (0.036, 4723, [0.049, 0.034, 0.028]),
    (0.000, 9, [0.430, 0.133, 0.127]),
    (0.000, 1149, [0.051, 0.029, 0.022]),
    (0.450, 546, [0.601, 0.037, 0.022]),
    (0.450, 3, [0.362, 0.322, 0.316]),
    (0.036, 5036, [0.049, 0.034, 0.028]),
    (0.818, 7, [0.526, 0.384, 0.037]),
    (0.000, 12, [0.452, 0.202, 0.104]),
    (0.036, 2524, [0.078, 0.077, 0.071]),
    (0.450, 39, [0.328, 0.199, 0.113]),
    (0.450, 1938, [0.082, 0.033, 0.027]),
];

/// Checks that the share `hits / n` is `expected`, within five standard errors and the rounding of the expected figure.
#[track_caller]
fn near(hits: usize, n: usize, expected: f64, what: &str) {
    let share = hits as f64 / n as f64;
    let tolerance = 5.0 * (expected * (1.0 - expected) / n as f64).sqrt() + 0.0006;
    assert!((share - expected).abs() < tolerance, "{what}: {share} instead of {expected}");
}

fn generated(rows: usize) -> String {
    let ran = Sandbox::new().prep(&format!("generate criteo --rows {rows}"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), rows);
    ran.stdout
}

/// The fields of column `number` of every row: 0 is the label, then come the numbers, then the tokens.
fn column(rows: &[Vec<&'static str>], number: usize) -> Vec<&'static str> {
    rows.iter().map(|row| row[number]).collect()
}

fn rows_of(text: String) -> Vec<Vec<&'static str>> {
    let text: &'static str = text.leak();
    assert!(text.ends_with('\n') && !text.contains('\r'));
    text.lines().map(|line| line.split('\t').collect()).collect()
}

#[test]
fn rows_are_shaped_like_real_ones() {
    let n = 150_000;
    let rows = rows_of(generated(n));
    assert!(rows.iter().all(|row| row.len() == 40 && matches!(row[0], "0" | "1")));
    let is_missing = |number: usize| column(&rows, number).iter().map(|field| field.is_empty()).collect::<Vec<_>>();
    for (number, (missing, quantiles)) in (1..).zip(NUMERIC) {
        let mut values: Vec<i64> =
            column(&rows, number).into_iter().filter(|field| !field.is_empty()).map(|f| f.parse().unwrap()).collect();
        near(n - values.len(), n, missing, &format!("I{number} missing"));
        values.sort_unstable();
        let [min, .., max] = quantiles;
        assert!(values[0] == min && *values.last().unwrap() <= max, "I{number}");
        for (share, quantile) in [0.25, 0.5, 0.75, 0.9, 0.99].into_iter().zip(&quantiles[1..6]) {
            let tolerance = 5.0 * (share * (1.0 - share) / values.len() as f64).sqrt();
            let below = values.partition_point(|value| value < quantile) as f64 / values.len() as f64;
            let up_to = values.partition_point(|value| value <= quantile) as f64 / values.len() as f64;
            let is_quantile = below <= share + tolerance && up_to >= share - tolerance;
            assert!(is_quantile, "I{number}: {quantile} is at {below} to {up_to} instead of {share}");
        }
    }
    for (number, (missing, distinct, top)) in (1..).zip(CATEGORICAL) {
        let fields = column(&rows, 13 + number);
        let mut counts = BTreeMap::new();
        for token in fields.iter().filter(|field| !field.is_empty()) {
            assert!(token.len() == 8 && token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{token}");
            *counts.entry(token).or_insert(0) += 1;
        }
        let present = counts.values().sum();
        near(n - present, n, missing, &format!("C{number} missing"));
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        for (count, share) in counts.into_iter().zip(top) {
            near(count, present, share, &format!("C{number} top share"));
        }
        let seen: BTreeSet<_> = fields[..10_000].iter().filter(|field| !field.is_empty()).collect();
        // What is expected is within 2 % or 3 of it; the rest is what one sample differs from another by.
        let tolerance = (0.1 * distinct as f64).max(4.0);
        let off = seen.len() as f64 - distinct as f64;
        assert!(off.abs() < tolerance, "C{number}: {} different tokens instead of {distinct}", seen.len());
    }
    for together in [&[3, 4, 12, 16, 21, 24][..], &[19, 20, 25, 26]] {
        assert!(together.windows(2).all(|pair| is_missing(13 + pair[0]) == is_missing(13 + pair[1])));
    }
    assert!(is_missing(13 + 3) != is_missing(13 + 19) && is_missing(13 + 6) != is_missing(13 + 22));
    near(rows.iter().filter(|row| row[39].is_empty()).count(), n, 0.45, "rows that end in an empty field");
    assert!(rows.iter().filter(|row| row.contains(&"")).count() as f64 > 0.98 * n as f64);
    // A token of one column is another feature in another column.
    let frequent = |number: usize| rows.iter().filter(|row| row[13 + number] == "95a6ef8e").count();
    assert!(frequent(1) > n / 3 && frequent(14) > n / 3);
}

#[test]
fn a_quarter_of_the_rows_clicks() {
    let mut child = Sandbox::new().command("generate criteo").stdout(Stdio::piped()).spawn().unwrap();
    let (mut rows, mut clicks) = (0, 0);
    let mut lines = BufReader::with_capacity(1 << 20, child.stdout.take().unwrap());
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).unwrap() > 0 {
        rows += 1;
        clicks += u32::from(line[0] == b'1');
        line.clear();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(rows, 1_000_000);
    let share = f64::from(clicks) / 1e6;
    assert!((share - 0.2562).abs() < 0.002, "{share}");
}

/// Logistic regression on hashed tokens, one pass of AdaGrad over the first nine tenths; its log loss on the last tenth.
fn learnt_log_loss(rows: &[Vec<&str>]) -> f64 {
    const BUCKETS: usize = 1 << 18;
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let (mut weights, mut squares) = (vec![0.0f64; BUCKETS + 1], vec![1.0f64; BUCKETS + 1]);
    let (training, held_out) = rows.split_at(rows.len() / 10 * 9);
    let features = |row: &[&str]| {
        let tokens = (14..40).filter(|&column| !row[column].is_empty());
        let buckets = tokens.map(|column| hasher.hash_one((column, row[column])) as usize % BUCKETS);
        buckets.chain([BUCKETS]).collect::<Vec<_>>()
    };
    let logit = |weights: &[f64], features: &[usize]| features.iter().map(|&feature| weights[feature]).sum::<f64>();
    for row in training {
        let features = features(row);
        let error = 1.0 / (1.0 + (-logit(&weights, &features)).exp()) - f64::from(u8::from(row[0] == "1"));
        for feature in features {
            squares[feature] += error * error;
            weights[feature] -= 0.1 * error / squares[feature].sqrt();
        }
    }
    let loss = |row: &Vec<&str>| {
        let logit = logit(&weights, &features(row));
        (1.0 + (if row[0] == "1" { -logit } else { logit }).exp()).ln()
    };
    held_out.iter().map(loss).sum::<f64>() / held_out.len() as f64
}

#[test]
fn labels_can_be_learnt_down_to_the_loss_that_is_told() {
    let sandbox = Sandbox::new();
    let ran = sandbox.prep("generate criteo --rows 200000 -o c.tsv");
    let log_loss = &ran.report()["log_loss"];
    let (best, base_rate) = (log_loss["best"].as_f64().unwrap(), log_loss["base_rate"].as_f64().unwrap());
    assert!((0.45..0.47).contains(&best) && (0.564..0.574).contains(&base_rate), "{log_loss}");
    assert!(ran.stderr.contains(&format!("log loss: {best:.4} is the best possible, {base_rate:.4} the base rate's")));
    assert!(ran.stderr.contains("next: prep criteo c.tsv --holdout 0.1"), "{}", ran.stderr);
    let rows = rows_of(std::fs::read_to_string(sandbox.path("c.tsv")).unwrap());
    let clicks = rows.iter().filter(|row| row[0] == "1").count() as f64 / rows.len() as f64;
    let entropy = -clicks * clicks.ln() - (1.0 - clicks) * (1.0 - clicks).ln();
    assert!((entropy - base_rate).abs() < 1e-12, "{entropy} is not {base_rate}");
    let learnt = learnt_log_loss(&rows);
    let reached = (base_rate - learnt) / (base_rate - best);
    assert!((0.5..1.0).contains(&reached), "{learnt} is {reached} of the way from {base_rate} to {best}");
}

#[test]
fn the_bytes_depend_on_rows_and_seed_alone() {
    let sandbox = Sandbox::new();
    let args = "generate criteo --rows 9000";
    let told = |stderr: &str| stderr.lines().find(|line| line.contains("log loss: ")).unwrap().to_owned();
    let first = sandbox.prep(&format!("{args} --threads 1"));
    for threads in [2, 7] {
        let ran = sandbox.prep(&format!("{args} --threads {threads}"));
        assert!(ran.stdout == first.stdout, "{threads} threads");
        assert_eq!(told(&ran.stderr), told(&first.stderr));
        let path = format!("{threads}.tsv");
        let report = sandbox.prep(&format!("{args} --threads {threads} -o {path}")).report();
        let again = sandbox.prep(&format!("{args} --threads 1 -o {path}"));
        assert_eq!(again.report()["log_loss"], report["log_loss"], "to the last bit");
        assert!(again.stderr.contains(&format!("unchanged: {path} holds these rows already")), "{}", again.stderr);
    }
    for rows in [1, 1024, 1025, 5000] {
        let fewer = sandbox.prep(&format!("generate criteo --rows {rows}")).stdout;
        assert!(fewer.lines().count() == rows && first.stdout.starts_with(&fewer), "{rows} rows");
    }
    assert_ne!(sandbox.prep(&format!("{args} --seed 9")).stdout, first.stdout);
    for (name, unpack) in [
        ("c.tsv", (|bytes| bytes) as fn(Vec<u8>) -> Vec<u8>),
        ("c.tsv.gz", |bytes| {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
            text
        }),
        ("c.tsv.zst", |bytes| zstd::decode_all(&bytes[..]).unwrap()),
    ] {
        let report = sandbox.prep(&format!("{args} -o {name}")).report();
        let bytes = std::fs::read(sandbox.path(name)).unwrap();
        assert_eq!((&report["rows"], &report["bytes_written"]), (&9000.into(), &bytes.len().into()));
        assert!(unpack(bytes) == first.stdout.as_bytes(), "{name}");
    }
}

#[test]
fn seeds_draw_from_one_world() {
    let shares = |seed: u32| {
        let ran = Sandbox::new().prep(&format!("generate criteo --rows 20000 --seed {seed}"));
        let mut clicks = HashMap::new();
        for line in ran.stdout.lines() {
            let (label, token) = (&line[..1], line.split('\t').nth(14).unwrap());
            let (n, clicked) = clicks.entry(token.to_owned()).or_insert((0.0f64, 0.0f64));
            *n += 1.0;
            *clicked += f64::from(u8::from(label == "1"));
        }
        clicks.into_iter().filter(|(_, (n, _))| *n > 1500.0).collect::<BTreeMap<_, _>>()
    };
    let (a, b) = (shares(8), shares(9));
    assert!(a.len() == 3 && a.keys().eq(b.keys()));
    for ((n_a, a), (n_b, b)) in a.values().zip(b.values()) {
        assert!((a / n_a - b / n_b).abs() < 5.0 * (0.25 / n_a + 0.25 / n_b).sqrt());
    }
}

#[test]
fn what_is_pinned_stays() {
    // A change of the generator changes what a seed stands for, and every figure that was measured on its rows.
    let text = Sandbox::new().prep("generate criteo --rows 3000").stdout;
    assert_eq!(text.lines().next(), Some(PINNED_ROW));
    assert_eq!(digest(text.as_bytes()).to_string(), PINNED_DIGEST);
}

const PINNED_ROW: &str = "0\t\t25\t3\t2\t29556\t233\t6\t7\t34\t\t1\t0\t9\t95a6ef8e\t5c3b23b2\t780bf34b\tb086d621\t0f676778\t7654c409\t6d764e74\t97fc1221\t583a2e37\t1a21a54e\t6666a296\tfaf3038d\t6edf58cd\t080f0d70\td5e65162\t82eecaa1\t43d5280f\tf2c58e0d\t5134575b\t41215276\te4018517\t\t2aa32034\t10d57bd2\t17f9d22b\tf5ea8fb0";
const PINNED_DIGEST: &str = "xxh3-128:5df4c4bbd243821c0182b3b86ffa10d5";
