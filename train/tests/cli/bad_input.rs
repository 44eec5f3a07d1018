//! Input and settings that are wrong: one error with place and remedy, the right exit code, no report.

use std::path::Path;

use serde_json::json;

use crate::sandbox::{Sandbox, pmf_settings};
use crate::shards::{SMALL, change_rows, edit, stored};

#[test]
fn settings_out_of_range_are_told() {
    let sandbox = Sandbox::with(SMALL);
    let table = [
        ("--factors 0", "--factors 0 is outside 1..="),
        ("--factors 1000", "--factors 1000 is outside 1..="),
        ("--momentum 1", "--momentum 1 is outside 0..=0.9999"),
        ("--momentum=-0.1", "--momentum -0.1 is outside 0..=0.9999"),
        ("--momentum NaN", "--momentum NaN is outside 0..=0.9999"),
        ("--learning-rate 0", "--learning-rate 0 is not above 0 and at most 1e6"),
        ("--learning-rate NaN", "--learning-rate NaN is not above 0 and at most 1e6"),
        ("--l2=-1", "--l2 -1 is outside 0..=1000"),
        ("--l2 inf", "--l2 inf is outside 0..=1000"),
    ];
    for (args, message) in table {
        sandbox.train(&format!("{args} -o out")).failed(2, &[&format!("error: {message}"), "\n  fix: "]);
    }
    let by_clap = [
        ("--workers 0", "0 is not in 1..=4096"),
        ("--step-batches 0", "0 is not in 1..=65536"),
        ("--max-epochs 0", "0 is not in 1..=1000000"),
        ("--patience=-1", "invalid value '-1' for '--patience <EPOCHS>'"),
        ("--max-time 8", "time unit needed"),
        ("--reduce median", "[possible values: mean, sum]"),
        ("--no-such-flag", "unexpected argument '--no-such-flag'"),
    ];
    for (args, message) in by_clap {
        sandbox.train(&format!("{args} -o out")).failed(2, &[message]);
    }
    sandbox.run("").failed(2, &["--manifest <FILE>"]);
    assert!(!sandbox.path("out").exists());
}

#[test]
fn the_largest_number_of_factors_works() {
    let sandbox = Sandbox::with(SMALL);
    let most = train_core::pmf::factors::FACTORS_MAX;
    let report = sandbox.train(&format!("--factors {most} --biases --max-epochs 1 -o out")).report();
    assert_eq!(pmf_settings(&report).factors as usize, most);
    sandbox.train(&format!("--factors {} -o out2", most + 1)).failed(2, &["is outside 1..="]);
}

#[test]
fn a_manifest_that_cannot_be_used_is_told() {
    type Break = fn(&Path);
    let table: [(Break, i32, &str); 9] = [
        (|m| std::fs::remove_file(m).unwrap(), 2, "error: ml20m.json: not found\n  fix: check the path"),
        (|m| std::fs::write(m, "rating\n").unwrap(), 4, "ml20m.json: not a gristmill.manifest file: "),
        (|m| std::fs::write(m, "").unwrap(), 4, "ml20m.json: not a gristmill.manifest file: "),
        (
            |m| edit(m, |v| v["version"] = json!(3)),
            4,
            "ml20m.json: version 3 of gristmill.manifest is unknown; this build reads versions up to 2\n  fix: use a newer",
        ),
        (
            |m| edit(m, |v| v["format"] = json!("gristmill.dataset")),
            4,
            "ml20m.json: its format is `gristmill.dataset`, not `gristmill.manifest`\n  fix: this is what `prep` made: run `shard ml20m.json --batch 1000`",
        ),
        (|m| edit(m, |v| v["rows"] = json!(4004)), 4, "ml20m.json: batches have 4003 rows together, not 4004"),
        (|m| edit(m, |v| v["layout"]["kind"] = json!("pixels")), 4, "unknown variant `pixels`"),
        (|m| edit(m, |v| v["base"] = json!("gs://bucket/ml20m")), 2, "`gs://` is not supported"),
        (
            |m| {
                edit(m, |v| {
                    v["rows"] = json!(0);
                    v["batches"] = json!([]);
                });
            },
            2,
            "error: the manifest has no training rows\n  fix: ",
        ),
    ];
    for (damage, code, message) in table {
        let sandbox = Sandbox::with(SMALL);
        damage(&sandbox.path("ml20m.json"));
        sandbox.train("-o out").failed(code, &[message, "\n  fix: "]);
        assert!(!sandbox.path("out").exists(), "{message}");
    }
}

#[test]
fn a_mini_batch_that_cannot_be_used_is_told() {
    type Break = fn(&Path);
    let table: [(&str, Break, &[&str]); 9] = [
        (
            "/batches/7",
            |f| std::fs::remove_file(stored(f, "/batches/7")).unwrap(),
            &[
                "batch-000007.parquet: missing, though `ml20m.json` names it\n  fix: if `ml20m.json` was moved, move it back or the data too: ",
                "; else restore it, or make `ml20m.json` anew with `--replace`\n",
            ],
        ),
        (
            "/batches/0",
            |f| flip(&stored(f, "/batches/0")),
            &[
                "batch-000000.parquet: its digest is xxh3-128:",
                "`ml20m.json` says xxh3-128:",
                "fix: restore the object",
            ],
        ),
        (
            "/batches/40",
            |f| {
                let path = stored(f, "/batches/40");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            },
            &["batch-000040.parquet: it has ", " bytes, `ml20m.json` says "],
        ),
        (
            "/batches/3",
            |f| change_rows(f, "/batches/3", |rows| rows.ratings[41] = f32::NAN),
            &["batch-000003.parquet: row 41: the rating NaN is not a finite number", "`shard --replace`"],
        ),
        (
            "/batches/3",
            |f| change_rows(f, "/batches/3", |rows| *rows.users.last_mut().unwrap() = 150),
            &["batch-000003.parquet: row 9", "150", "`shard --replace`"],
        ),
        (
            "/batches/3",
            |f| change_rows(f, "/batches/3", |rows| rows.items[5] = u32::MAX),
            &["batch-000003.parquet: row 5", "4294967295", "`shard --replace`"],
        ),
        (
            "/batches/3",
            |f| change_rows(f, "/batches/3", |rows| rows.push(149, 79, 0.5)),
            &["batch-000003.parquet: it has ", " rows, the manifest says ", "`shard --replace`"],
        ),
        (
            "/holdout_batches/4",
            |f| flip(&stored(f, "/holdout_batches/4")),
            &["holdout-000004.parquet: its digest is xxh3-128:"],
        ),
        (
            "/holdout_batches/4",
            |f| std::fs::remove_file(stored(f, "/holdout_batches/4")).unwrap(),
            &["holdout-000004.parquet: missing, though `ml20m.json` names it"],
        ),
    ];
    for (pointer, damage, messages) in table {
        for workers in [1, 3] {
            let sandbox = Sandbox::with(SMALL);
            damage(&sandbox.path(""));
            let ran = sandbox.train(&format!("--workers {workers} --step-batches 8 -o out"));
            ran.failed(3, messages);
            ran.failed(3, &["error: shards/ml20m/gen-", "\n  fix: "]);
            assert_eq!(ran.stderr.matches("error:").count(), 1, "{pointer}: {}", ran.stderr);
            assert!(!sandbox.path("out/report.json").exists(), "{pointer}");
        }
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// What is needed only to save the model is looked at before hours are spent on it.
#[test]
fn what_would_keep_the_model_from_being_saved_is_told_before_training() {
    for name in ["users", "items"] {
        for damage in [(|path: &Path| std::fs::remove_file(path).unwrap()) as fn(&Path), flip] {
            let sandbox = Sandbox::with(SMALL);
            damage(&stored(&sandbox.path(""), &format!("/layout/{name}")));
            let ran = sandbox.train("-o out");
            ran.failed(3, &[&format!("{}.parquet: ", name.trim_end_matches('s')), "\n  fix: "]);
            assert!(!ran.stderr.contains("training on"), "{}", ran.stderr);
        }
    }
    let sandbox = Sandbox::with(SMALL);
    std::fs::write(sandbox.path("file"), "").unwrap();
    // The system's folder refuses everybody, the superuser too.
    for (out, code, message) in [
        ("file", 2, "`file/report.json` is not a place: a file is where a folder should be"),
        ("/sys/run", 4, "permission denied"),
        ("/proc/run", 2, "`/proc/run/probe.tmp` is not a place: no folder can be made there"),
    ] {
        let ran = sandbox.train(&format!("-o {out}"));
        ran.failed(code, &[message, "\n  fix: "]);
        assert!(!ran.stderr.contains("training on"), "{}", ran.stderr);
    }
    sandbox.train("-o ftp://host/x").failed(2, &["`ftp://host/x` is not a place: `ftp://` is not supported"]);
}

/// As on a full disk, but nothing is mounted for it: no file may pass 1024 bytes.
#[test]
fn a_disk_that_fills_up_leaves_no_report() {
    let sandbox = Sandbox::with(SMALL);
    let line = "trap '' XFSZ; ulimit -f 2; exec \"$0\" --manifest ml20m.json --max-epochs 1 -o out";
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", line, crate::sandbox::TRAIN]).current_dir(sandbox.path("")).output().unwrap();
    let ran = crate::sandbox::Ran::from(output);
    ran.failed(75, &["error: out/model.safetensors: ", "\n  fix: "]);
    assert!(!sandbox.path("out/report.json").exists());
    assert!(!sandbox.path("out/model.safetensors").exists());
    assert!(!sandbox.train("--max-epochs 1 -o out").report().unchanged);
}
