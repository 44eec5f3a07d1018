//! What `--dry-run` says, and that it does nothing.

use serde_json::Value;

use crate::criteo::text;
use crate::sandbox::{Ran, Sandbox, generated, gzip, zip};

/// The report of a dry run, which keeps to its schema.
#[track_caller]
fn report(ran: &Ran) -> Value {
    let report = ran.report();
    let schema = schemas::json_schemas().into_iter().find(|s| s.0 == "dry-run-report.schema.json").unwrap().1;
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    assert!(schema.is_valid(&report), "{report}");
    assert_eq!(report["dry_run"], true);
    report
}

#[track_caller]
fn about(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() < 0.15 * expected, "{found} is not about {expected}");
}

#[test]
fn what_would_become_of_the_output_is_told_and_nothing_is_done() {
    let sandbox = Sandbox::new();
    sandbox.write("in.txt", text(5000));
    sandbox.write("ratings.csv", generated(20_000));
    for command in ["criteo in.txt", "movielens ratings.csv"] {
        let dry = |args: &str| report(&sandbox.prep(&format!("{command} -o out {args} --dry-run")))["verdict"].clone();
        let before = sandbox.files(".");
        assert_eq!(dry(""), "new");
        assert_eq!(sandbox.files("."), before);
        sandbox.prep(&format!("{command} -o out")).report();
        let before = sandbox.files(".");
        for (args, verdict) in [
            ("", "unchanged"),
            ("--holdout 0.1", "conflict"),
            ("--holdout 0.1 --replace", "replace"),
            ("--replace", "unchanged"),
        ] {
            assert_eq!(dry(args), verdict, "{command} {args}");
        }
        let (kind, file) = command.split_once(' ').unwrap();
        let bytes = std::fs::read(sandbox.path(file)).unwrap();
        let ran = sandbox.prep_with_input(&format!("{kind} -o out --dry-run"), &bytes);
        assert_eq!(report(&ran)["verdict"], "unknown");
        assert!(ran.stderr.contains("would read standard input: an unknown number of bytes"), "{}", ran.stderr);
        assert_eq!(sandbox.files("."), before);
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    let (ran, bytes) = sandbox.piped("criteo in.txt --dry-run");
    let line: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((ran.code, &line["output"]), (Some(0), &"standard output".into()));
    sandbox.prep("criteo nowhere --dry-run").failed(2, "nowhere: not found");
}

#[test]
fn rows_and_bytes_are_about_right() {
    let sandbox = Sandbox::new();
    let clicks = text(20_000);
    let csv = generated(200_000);
    sandbox.write("day_0", &clicks);
    sandbox.write("day_1", gzip(clicks.as_bytes()));
    sandbox.write("set.zip", zip(&[("ml-x/ratings.csv", csv.as_bytes())]));
    sandbox.write("r.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap());
    let found = report(&sandbox.prep("criteo day_0 day_1 --dry-run"));
    let reads = found["reads"].as_array().unwrap();
    for (read, compression) in reads.iter().zip([Value::Null, "gzip".into()]) {
        about(&read["rows"], 20_000.0);
        assert_eq!((&read["compression"], &read["format"]), (&compression, &"criteo-tsv".into()));
    }
    assert_eq!(reads[0]["bytes"], clicks.len());
    about(&found["temporary_bytes"], 113.0 * 40_000.0);
    about(&found["writes"][0]["rows"], 40_000.0);
    for input in ["set.zip", "r.zst"] {
        let found = report(&sandbox.prep(&format!("movielens {input} --dry-run")));
        about(&found["reads"][0]["rows"], 200_000.0);
        about(&found["temporary_bytes"], 12.0 * 200_000.0);
        let written = sandbox.prep(&format!("movielens {input} -o of-{input}")).report();
        let bytes = written["bytes_written"].as_f64().unwrap();
        let said = found["writes"][0]["bytes"].as_f64().unwrap();
        assert!(said > bytes / 2.0 && said < bytes * 2.0, "{said} of {bytes}");
    }
}
