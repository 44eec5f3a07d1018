//! Datasets: the same whatever the packing, the line ends and the threads, and right by another program's reckoning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::id_map;
use schemas::dataset::{BaselineRmse, Descriptor};

use crate::sandbox::{Sandbox, generated, gzip, ratings, zip, zstd};

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name)
}

/// Enough rows for several blocks and two chunks would be slow to make here; one chunk of several blocks does.
const ROWS: u64 = 120_000;

#[test]
fn packing_does_not_show() {
    let sandbox = Sandbox::new();
    let csv = generated(ROWS);
    let csv = csv.as_bytes();
    sandbox.write("plain/ratings.csv", csv);
    sandbox.write("gz/ratings.csv.gz", gzip(csv));
    let (a, b) = csv.split_at(csv.len() / 3);
    sandbox.write("members/ratings.csv.gz", [gzip(a), gzip(b)].concat());
    sandbox.write("zst/ratings.csv.zst", zstd(csv));
    sandbox.write("frames/ratings.csv.zst", [zstd(a), zstd(b)].concat());
    let other: (&str, &[u8]) = ("ml-x/movies.csv", b"movieId,title,genres\n");
    sandbox.write("set.zip", zip(&[("__MACOSX/ratings.csv", b"x"), other, ("ml-x/ratings.csv", csv)]));
    sandbox.write("misnamed/ratings.csv", gzip(csv));
    let args = "--holdout 0.1 --name same -q";
    sandbox.prep(&format!("movielens plain {args} -o out/plain")).report();
    let expected = sandbox.files("out/plain");
    for input in [
        "plain/ratings.csv",
        "gz",
        "members/ratings.csv.gz",
        "zst/ratings.csv.zst",
        "frames",
        "set.zip",
        "misnamed/ratings.csv",
    ] {
        let out = format!("out/{}", input.replace('/', "-"));
        sandbox.prep(&format!("movielens {input} {args} -o {out}")).report();
        assert_eq!(sandbox.files(&out), expected, "{input}");
    }
    for (out, bytes) in [("out/pipe", csv.to_vec()), ("out/pipe-gz", gzip(csv)), ("out/pipe-zst", zstd(csv))] {
        sandbox.prep_with_input(&format!("movielens {args} -o {out}"), &bytes).report();
        let mut found = sandbox.files(out);
        let descriptor = String::from_utf8(found.remove("dataset.json").unwrap()).unwrap();
        let named = descriptor.replace(r#""name": "standard input""#, r#""name": "ratings.csv""#);
        found.insert("dataset.json".to_owned(), named.into_bytes());
        assert_eq!(found, expected, "{out}");
    }
    let through_pipe = format!("gzip -c plain/ratings.csv | prep movielens /dev/stdin {args} -o out/device");
    for again in [false, true] {
        assert_eq!(sandbox.shell(&through_pipe).report()["unchanged"], again);
    }
    assert!(sandbox.objects("out/device") == sandbox.objects("out/plain"));
    let ran = sandbox.shell(&format!("prep movielens {args} -o out/redirected < plain/ratings.csv"));
    assert_eq!(ran.report()["rows"]["read"], ROWS);
}

#[test]
fn line_ends_headers_and_separators_do_not_show() {
    let sandbox = Sandbox::new();
    let csv = generated(20_000);
    let rows = csv.split_once('\n').unwrap().1;
    let parts_of = |out: &str| {
        let parts: BTreeMap<_, _> = sandbox.objects(out);
        assert_eq!(
            parts.keys().collect::<Vec<_>>(),
            ["holdout-00000.parquet", "items.parquet", "train-00000.parquet", "users.parquet"]
        );
        parts
    };
    sandbox.prep_with_input("movielens --holdout 0.2 -o expected", csv.as_bytes()).report();
    let expected = parts_of("expected");
    let whole = rows.replace(".0,", ",");
    for (out, text) in [
        ("mark", format!("\u{feff}{csv}")),
        ("crlf", csv.replace('\n', "\r\n")),
        ("open", csv.trim_end().to_owned()),
        ("open-crlf", csv.replace('\n', "\r\n").trim_end().to_owned()),
        ("blanks", format!("{csv}\n\r\n\n")),
        ("lower", csv.to_lowercase()),
        ("no-header", rows.to_owned()),
        ("marked-rows", format!("\u{feff}{rows}")),
        ("whole-stars", whole.clone()),
        ("dat", rows.replace(',', "::")),
        ("dat-whole", whole.replace(',', "::")),
        ("tab", rows.replace(',', "\t")),
        ("tab-crlf", whole.replace(',', "\t").replace('\n', "\r\n")),
        ("odd-times", rows.replace("9\n", "9 http://x\n")),
    ] {
        let ran = sandbox.prep_with_input(&format!("movielens --holdout 0.2 -o {out}"), text.as_bytes());
        assert_eq!(ran.report()["rows"]["read"], 20_000, "{out}");
        assert!(parts_of(out) == expected, "{out} differs");
    }
    let three: String = rows.lines().map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0)).collect();
    let ran = sandbox.prep_with_input("movielens --holdout 0.2 -o three", three.as_bytes());
    assert!(ran.stderr.contains("standard input: three columns, so there are no timestamps"), "{}", ran.stderr);
    ran.report();
    assert!(parts_of("three") == expected, "three columns differ");
}

#[test]
fn the_number_of_threads_does_not_show() {
    let sandbox = Sandbox::new();
    // More than one chunk of 1,048,576 rows.
    sandbox.prep("generate movielens --ratings 1300000 --users 9000 --movies 3000 -o ratings.csv -q").report();
    sandbox.write("ratings.csv.gz", gzip(&std::fs::read(sandbox.path("ratings.csv")).unwrap()));
    sandbox.prep("movielens ratings.csv --holdout 0.1 --threads 1 -o t1 -q").report();
    let expected = sandbox.files("t1");
    assert_eq!(sandbox.descriptor("t1").parts.len(), 2);
    for (input, threads) in [("ratings.csv", 2), ("ratings.csv", 7), ("ratings.csv.gz", 1), ("ratings.csv.gz", 7)] {
        sandbox.prep(&format!("movielens {input} --holdout 0.1 --threads {threads} -o out -q --replace")).report();
        assert!(sandbox.files("out") == expected, "{input} with {threads} threads differs");
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

fn close(found: f64, expected: &serde_json::Value) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

/// Compares with what `tests/oracle/statistics.py` printed.
#[track_caller]
fn equals_the_oracle(descriptor: &Descriptor, expected: &serde_json::Value) {
    let found = ratings(descriptor);
    assert_eq!(serde_json::to_value(descriptor.rows).unwrap(), expected["rows"]);
    for (found, name) in [
        (u64::from(found.n_users), "n_users"),
        (found.n_items.into(), "n_items"),
        (found.user_rows_max, "user_rows_max"),
        (found.item_rows_max, "item_rows_max"),
        (found.repeated_pairs, "repeated_pairs"),
    ] {
        assert_eq!(found, expected[name].as_u64().unwrap(), "{name}");
    }
    close(found.mean, &expected["mean"]);
    close(found.rating_min.into(), &expected["rating_min"]);
    close(found.rating_max.into(), &expected["rating_max"]);
    let rmse = |found: BaselineRmse, expected: &serde_json::Value| {
        close(found.mean, &expected["mean"]);
        close(found.effects, &expected["effects"]);
    };
    rmse(found.baselines.train, &expected["train"]);
    match found.baselines.holdout {
        Some(found) => rmse(found, &expected["holdout"]),
        None => assert!(expected["holdout"].is_null()),
    }
}

#[test]
fn statistics_equal_those_of_an_independent_program() {
    let sandbox = Sandbox::new();
    let input = oracle("ratings.csv");
    for (args, expected) in [("", "expected.json"), ("--holdout 0.2 --seed 3", "expected-holdout.json")] {
        let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(oracle(expected)).unwrap()).unwrap();
        let args = format!("movielens {} --bad-rows quarantine --replace -o out {args}", input.display());
        let ran = sandbox.prep(&args);
        ran.report();
        let descriptor = sandbox.descriptor("out");
        equals_the_oracle(&descriptor, &expected);
        assert!(ran.stderr.contains("144 rows with a (user, movie) pair that is there already"), "{}", ran.stderr);
        for (name, object) in [("user", &ratings(&descriptor).users), ("item", &ratings(&descriptor).items)] {
            let bytes = std::fs::read(sandbox.path("out").join(&object.key)).unwrap();
            let ids = serde_json::to_value(id_map::decode(name, bytes.into()).unwrap()).unwrap();
            assert_eq!(ids, expected[format!("{name}_ids")]);
        }
    }
}

#[test]
fn rows_come_back_in_order_with_their_ids_and_stars() {
    let sandbox = Sandbox::new();
    let text = "userId,movieId,rating,timestamp\n9,30,4.0,1\n2,10,3.5,1\n9,10,0.5,1\n4000000000,30,5,1\n";
    sandbox.prep_with_input("movielens -o out", text.as_bytes()).report();
    let descriptor = sandbox.descriptor("out");
    let bytes = std::fs::read(sandbox.path("out").join(&descriptor.parts[0].key)).unwrap();
    let mut rows = manifests::ratings::RatingRows::default();
    manifests::ratings::decode(bytes.into(), &mut rows).unwrap();
    // (4 + 3.5 + 0.5 + 5) / 4 = 3.25
    assert_eq!(ratings(&descriptor).mean, 3.25);
    assert_eq!((rows.users, rows.items), (vec![1, 0, 1, 2], vec![1, 0, 0, 1]));
    assert_eq!(rows.ratings, [0.75, 0.25, -2.75, 1.75]);
}

#[test]
fn the_real_small_set_has_its_known_counts() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("GRISTMILL_SHARED").map(PathBuf::from);
    let folder = [Some(beside), shared].into_iter().flatten().map(|s| s.join("data/ml-latest-small"));
    let Some(folder) = folder.into_iter().find(|folder| folder.join("ratings.csv").is_file()) else {
        println!("skipped: ml-latest-small is not there");
        return;
    };
    let sandbox = Sandbox::new();
    let report = sandbox.prep(&format!("movielens {}", folder.display())).report();
    assert_eq!(report["output"], "prepared/ml-latest-small");
    let descriptor = sandbox.descriptor("prepared/ml-latest-small");
    let found = ratings(&descriptor);
    // Its README.txt: 100836 ratings, 610 users, and 9742 movies of which 9724 are rated.
    assert_eq!((descriptor.rows.train, found.n_users, found.n_items), (100_836, 610, 9_724));
    assert_eq!(found.repeated_pairs, 0);
}

#[test]
fn the_same_again_is_unchanged_and_anything_else_is_a_conflict() {
    let sandbox = Sandbox::new();
    let csv = generated(2_000);
    sandbox.write("ratings.csv", &csv);
    sandbox.write("ratings.csv.gz", gzip(csv.as_bytes()));
    sandbox.write("other.csv", csv.replace(",4.0,", ",4.5,"));
    assert_eq!(sandbox.prep("movielens ratings.csv --holdout 0.1 -o out").report()["unchanged"], false);
    let before = sandbox.files("out");
    for args in ["ratings.csv", "ratings.csv.gz", "ratings.csv --replace", "ratings.csv --format csv --threads 3"] {
        let report = sandbox.prep(&format!("movielens {args} --holdout 0.1 -o out")).report();
        assert_eq!((&report["unchanged"], &report["rows"]["read"]), (&true.into(), &2_000.into()), "{args}");
    }
    let ran = sandbox.prep_with_input("movielens --holdout 0.1 -o out", csv.as_bytes());
    assert_eq!(ran.report()["unchanged"], true);
    for (args, difference) in [
        ("ratings.csv", "its holdout is 0.1 (seed 8), this one's none"),
        ("ratings.csv --holdout 0.2", "its holdout is 0.1 (seed 8), this one's 0.2 (seed 8)"),
        ("ratings.csv --holdout 0.1 --seed 9", "its holdout is 0.1 (seed 8), this one's 0.1 (seed 9)"),
        ("ratings.csv --holdout 0.1 --name else", "its name is movielens, this one's else"),
        ("other.csv --holdout 0.1 --name movielens", "its source is xxh3-128:"),
    ] {
        let ran = sandbox.prep(&format!("movielens {args} -o out"));
        ran.failed_as(5, &format!("out/dataset.json: already exists and differs: {difference}"));
        assert!(ran.stderr.contains("--replace"), "{}", ran.stderr);
    }
    sandbox.prep_with_input("movielens --holdout 0.2 -o out", csv.as_bytes()).failed(
        5,
        "out/dataset.json: already exists and differs: its holdout is 0.1 (seed 8), this one's 0.2 (seed 8)",
    );
    assert_eq!(sandbox.files("out"), before);
    sandbox.prep("movielens other.csv -o out --replace").report();
    assert_eq!(sandbox.descriptor("out").rows.holdout, 0);
    assert_eq!(sandbox.files("out").len(), 4, "nothing of the old dataset is left");
}

#[test]
fn damage_is_found_and_mended() {
    let sandbox = Sandbox::new();
    sandbox.write("ratings.csv", generated(2_000));
    sandbox.prep("movielens ratings.csv -o out").report();
    let before = sandbox.files("out");
    let part = sandbox.path("out").join(&sandbox.descriptor("out").parts[0].key);
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let ran = sandbox.prep("movielens ratings.csv -o out");
    ran.failed(5, "out/dataset.json: already exists and differs: a file of it is missing or damaged");
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("its digest is"), "{}", ran.stderr);
    assert_eq!(sandbox.prep("movielens ratings.csv -o out --replace").report()["unchanged"], false);
    assert_eq!(sandbox.files("out"), before);
    sandbox.write("out/dataset.json", "{}");
    sandbox
        .prep("movielens ratings.csv -o out")
        .failed_as(5, "out/dataset.json: already exists and differs: not a gristmill.dataset file");
    sandbox.prep("movielens ratings.csv -o out --replace").report();
    assert_eq!(sandbox.files("out"), before);
}
