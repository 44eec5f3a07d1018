//! The help, its examples, and the completions.

use schemas::exit::EXIT_CODES_HELP;
use train::cli::EXAMPLES;

use crate::sandbox::{Sandbox, TRAIN};
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

#[test]
fn the_examples_run_as_they_are_printed() {
    for example in EXAMPLES {
        let sandbox = Sandbox::with(Spec { rows: 1500, holdout: 150, ..SMALL });
        crate::click_shards::write(&sandbox.path(""), true);
        let path = std::env::var("PATH").unwrap();
        let folder = std::path::Path::new(TRAIN).parent().unwrap().display();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", example]).current_dir(sandbox.path("")).env("PATH", format!("{folder}:{path}"));
        let report = crate::sandbox::Ran::from(shell.output().unwrap()).report();
        assert!(sandbox.path(&report.output).join("model.safetensors").exists(), "{example}");
        if let Some((_, out)) = example.split_once(" -o ") {
            assert_eq!(report.output, out, "{example}");
        }
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
