//! The help, its examples, and the completions.

use schemas::exit::EXIT_CODES_HELP;
use train::cli::{
    BENCH_COMPUTE_EXAMPLES, BENCH_EXCHANGE_EXAMPLES, EVALUATE_EXAMPLES, EXAMPLES, PLAN_EXAMPLES, PREDICT_EXAMPLES,
    RECOMMEND_EXAMPLES, REPORT_EXAMPLES, WATCH_EXAMPLES,
};

use crate::clicks::{rows, text, write_manifest};
use crate::ratings::write_ratings;
use crate::sandbox::{Ran, Sandbox, TRAIN};
use crate::shards::{SMALL, Spec};

#[test]
fn the_help_has_exit_codes_and_examples() {
    let sandbox = Sandbox::with(SMALL);
    let ran = sandbox.run("--help");
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.starts_with("Trains a model from the mini-batches that a manifest names.\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains(EXIT_CODES_HELP), "{}", ran.stdout);
    for example in EXAMPLES {
        assert!(ran.stdout.contains(&format!("\n  {example}\n")), "{example}");
    }
    assert_eq!(sandbox.run("--version").stdout, concat!("train ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// Runs `line` in a shell, in the sandbox.
fn shell(sandbox: &Sandbox, line: &str) -> Ran {
    let path = std::env::var("PATH").unwrap();
    let folder = std::path::Path::new(TRAIN).parent().unwrap().display();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", line]).current_dir(sandbox.path("")).env("PATH", format!("{folder}:{path}"));
    shell.output().unwrap().into()
}

#[test]
fn the_examples_run_as_they_are_printed() {
    for example in EXAMPLES {
        let sandbox = Sandbox::with(Spec { rows: 1500, holdout: 150, ..SMALL });
        write_manifest(&sandbox.path(""), "criteo", true, true);
        let report = shell(&sandbox, example).report();
        assert!(sandbox.path(&report.output).join("model.safetensors").exists(), "{example}");
        let place = example.split(" -o ").nth(1);
        assert!(place.is_none_or(|place| place == report.output), "{example}");
    }
}

#[test]
fn the_examples_of_the_subcommands_run_as_they_are_printed() {
    let sandbox = Sandbox::with(SMALL);
    write_manifest(&sandbox.path(""), "criteo", true, true);
    write_ratings(&sandbox.path(""), "prepared/ml20m", |_| ());
    std::fs::write(sandbox.path("test.txt"), text(&rows("test", 50), false)).unwrap();
    std::fs::write(sandbox.path("movies.csv"), "movieId,title,genres\n1,Toy Story (1995),Comedy\n").unwrap();
    for line in [
        "gzip test.txt",
        "train --manifest criteo.json -o runs/clicks -q",
        "train --manifest criteo.json --learning-rate 0.001 -o runs/slower -q",
        "train --manifest ml20m.json --biases -o runs/biased -q",
    ] {
        assert_eq!(shell(&sandbox, line).code, Some(0), "{line}");
    }
    let mut helps = sandbox.run("--help").stdout;
    for name in ["predict", "evaluate", "recommend", "report", "watch"] {
        assert!(helps.contains(&format!("\n  {name} ")), "{helps}");
    }
    for name in ["predict", "evaluate", "recommend", "report", "watch"] {
        let help = sandbox.run(&format!("{name} --help")).stdout;
        assert!(help.contains(EXIT_CODES_HELP), "{help}");
        helps += &help;
    }
    let examples = PREDICT_EXAMPLES
        .iter()
        .chain(&EVALUATE_EXAMPLES)
        .chain(&RECOMMEND_EXAMPLES)
        .chain(&REPORT_EXAMPLES)
        .chain(&WATCH_EXAMPLES);
    for example in examples {
        assert!(helps.contains(&format!("\n  {example}\n")), "{example}");
        let ran = shell(&sandbox, example);
        assert_eq!(ran.code, Some(0), "{example}: {}", ran.stderr);
        assert_eq!(ran.stdout.lines().count(), usize::from(!example.contains(" > ")), "{example}: {}", ran.stdout);
    }
    assert_eq!(sandbox.csv("holdout.csv", "user_id,item_id,rating,prediction,known,split").len(), 430);
}

/// The one that needs a server has `bench.rs`.
#[test]
fn the_examples_of_measurements_are_in_their_help_and_run() {
    let sandbox = Sandbox::with(SMALL);
    write_manifest(&sandbox.path(""), "criteo", true, true);
    for (name, examples) in [("exchange", BENCH_EXCHANGE_EXAMPLES), ("compute", BENCH_COMPUTE_EXAMPLES)] {
        let help = sandbox.run(&format!("bench {name} --help")).stdout;
        assert!(help.contains(EXIT_CODES_HELP), "{help}");
        for example in examples {
            assert!(help.contains(&format!("\n  {example}\n")), "{example}");
            if example.contains("--seconds") {
                let ran = shell(&sandbox, example);
                assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{example}: {}", ran.stderr);
            }
        }
    }
}

#[test]
fn the_examples_of_plans_run_as_they_are_printed() {
    let sandbox = Sandbox::with(SMALL);
    write_manifest(&sandbox.path(""), "criteo", true, true);
    std::fs::write(sandbox.path("my-prices.json"), include_str!("../../prices/aws-us-east-1.json")).unwrap();
    let help = sandbox.run("plan --help").stdout;
    assert!(help.contains(EXIT_CODES_HELP), "{help}");
    for example in PLAN_EXAMPLES {
        assert!(help.contains(&format!("\n  {example}\n")), "{example}");
        let ran = shell(&sandbox, example);
        assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{example}: {}", ran.stderr);
    }
}

#[test]
fn completions_name_every_flag() {
    let sandbox = Sandbox::with(SMALL);
    let ran = sandbox.run("completions bash");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let flags = [
        "--manifest",
        "--out",
        "--replace",
        "--workers",
        "--step-batches",
        "--reduce",
        "--seed",
        "--factors",
        "--biases",
        "--learning-rate",
        "--momentum",
        "--l2",
        "--max-epochs",
        "--max-time",
        "--target-loss",
        "--target-holdout-loss",
        "--patience",
        "--quiet",
        "--verbose",
        "--progress",
        "--color",
    ];
    for flag in flags {
        assert!(ran.stdout.contains(flag), "{flag}");
    }
    sandbox.run("completions klingon").failed(2, &["invalid value 'klingon'"]);
}

#[test]
fn quiet_says_nothing_and_verbose_no_less() {
    let sandbox = Sandbox::with(SMALL);
    let args = "--max-epochs 1 --step-batches 8";
    let ran = sandbox.train(&format!("{args} -q -o quiet"));
    ran.report();
    assert_eq!(ran.stderr, "");
    let ran = sandbox.train(&format!("{args} -v -o verbose"));
    ran.report();
    for line in ["always the mean ", "user and movie effects ", "this model ", "model    verbose/model.safetensors"] {
        assert!(ran.stderr.contains(line), "{}", ran.stderr);
    }
    assert!(!ran.stderr.contains('\x1b'), "no colour on a pipe: {}", ran.stderr);
}
