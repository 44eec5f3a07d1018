//! How a run ends: stop rules, divergence, signals.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use schemas::report::StopReason;

use crate::sandbox::Sandbox;
use crate::shards::{NO_HOLDOUT, SMALL};

#[test]
fn by_the_rule_that_comes_first() {
    let sandbox = Sandbox::with(SMALL);
    let first = sandbox.train("--step-batches 8 --max-epochs 1 -o first").report();
    let reached = first.trained.holdout_loss().unwrap();
    assert_eq!((first.stopped_by, first.steps, first.epochs), (StopReason::MaxEpochs, 6, 1));

    // Every step is at a target above the start: ten in a row end the run within the second epoch.
    let (by, rate) = (&["--step-batches 8 --max-epochs 50 --patience 50"][0], "--learning-rate 1e-9");
    let table = [
        (format!("{by} --max-time 0s"), StopReason::MaxTime, 1, 0),
        (format!("{by} --max-time 1ns"), StopReason::MaxTime, 1, 0),
        (format!("{by} --target-holdout-loss {reached}"), StopReason::TargetHoldoutLoss, 6, 1),
        (format!("{by} --target-loss 100"), StopReason::TargetLoss, 10, 1),
        (format!("{by} --target-loss 100 --max-time 0s"), StopReason::MaxTime, 1, 0),
        // A model that hardly moves: the second evaluation is no better than the first, or by a hair.
        (format!("--step-batches 8 --max-epochs 3 --patience 50 {rate}"), StopReason::MaxEpochs, 18, 3),
    ];
    for (args, reason, steps, epochs) in table {
        let report = sandbox.train(&format!("{args} -o out --replace")).report();
        assert_eq!((report.stopped_by, report.steps, report.epochs), (reason, steps, epochs), "{args}");
        assert!(report.trained.holdout_loss().is_some(), "{args}: evaluated at the end, whatever ended it");
        assert_eq!(report.trained.train_loss().is_some(), epochs > 0, "{args}");
        let history = sandbox.history("out");
        assert_eq!(history.len() as u64, steps, "{args}");
        assert!(!history.last().unwrap()[3].is_empty(), "{args}");
    }
}

#[test]
fn by_patience_with_the_best_model() {
    let sandbox = Sandbox::with(SMALL);
    // 20 factors for 4003 ratings without a penalty: the held-out loss soon rises.
    for (flag, patience) in [("", 3), ("--patience 1", 1), ("--patience 4", 4)] {
        let args = format!("--biases --momentum 0.9 --step-batches 2 --max-epochs 1000 {flag} -o out --replace");
        let report = sandbox.train(&args).report();
        assert_eq!(report.stopped_by, StopReason::Patience, "{flag}");
        let losses: Vec<f64> = sandbox.history("out").iter().filter_map(|row| row[3].parse().ok()).collect();
        assert_eq!(losses.len() as u64, report.epochs);
        let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!(report.trained.holdout_loss(), Some(best), "{losses:?}");
        assert_eq!(report.model_epoch, Some(report.epochs - 1 - patience), "{losses:?}");
        assert_eq!(losses[report.model_epoch.unwrap() as usize], best);
    }
}

#[test]
fn targets_that_make_no_sense_are_told() {
    let sandbox = Sandbox::with(SMALL);
    for flag in ["--target-loss", "--target-holdout-loss"] {
        let ran = sandbox.train(&format!("{flag} 100 --max-epochs 1 -o {}", &flag[2..]));
        ran.report();
        let warning = format!("warning: {flag} 100 is no better than always predicting the mean (");
        assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
        let ran = sandbox.train(&format!("{flag} 0.4 --max-epochs 1 -o {}-good", &flag[2..]));
        ran.report();
        assert!(!ran.stderr.contains("warning: --"), "{}", ran.stderr);
        for value in ["0", "-1", "NaN", "inf"] {
            let message = format!("{flag} {} is not a positive number", value.parse::<f64>().unwrap());
            sandbox.train(&format!("{flag}={value}")).failed(2, &[&message, "\n  fix: "]);
        }
    }
    let sandbox = Sandbox::with(NO_HOLDOUT);
    for flag in ["--target-holdout-loss", "--patience"] {
        let message = format!("{flag} needs held-out rows, and `ml20m.json` has none");
        sandbox.train(&format!("{flag} 1")).failed(2, &[&message, "\n  fix: prepare the data with `--holdout 0.1`"]);
    }
}

#[test]
fn a_model_that_loses_to_something_simple_says_what_to_try() {
    let sandbox = Sandbox::with(SMALL);
    let bad = "--learning-rate 1e-3 --step-batches 8 --max-epochs 2";
    for (flags, words) in [
        ("", "try more epochs or time; else `--biases --l2 0.05`\n"),
        ("--l2 0.1", "try more epochs or time; else `--biases`\n"),
        ("--biases", "try more epochs or time; else `--l2 0.05`\n"),
        ("--biases --l2 0.1", "try more epochs or time; else another `--l2`, or a smaller `--learning-rate`\n"),
    ] {
        let ran = sandbox.train(&format!("{bad} {flags} -o out --replace"));
        let (loss, effects) = (ran.report().trained.holdout_loss().unwrap(), 0.95 * ran.report().trained.base_loss());
        assert!(loss > effects, "{loss} {effects}");
        let warning = format!(
            "warning: on the held-out rows the model ({loss:.4}) is no better than user and movie effects ({effects:.4}): {words}"
        );
        assert!(ran.stderr.ends_with(&warning), "{warning}: {}", ran.stderr);
        let again = sandbox.train(&format!("{bad} {flags} -o out"));
        assert!(again.report().unchanged && again.stderr.ends_with(&warning), "{}", again.stderr);
    }
    // A good model, and one that nothing is known of.
    let good = sandbox.train("--biases --l2 0.05 --step-batches 8 --max-epochs 60 -o good");
    assert!(good.report().trained.holdout_loss() < Some(0.7 * good.report().trained.base_loss()));
    assert!(!good.stderr.contains("warning"), "{}", good.stderr);
    let sandbox = Sandbox::with(NO_HOLDOUT);
    let ran = sandbox.train(&format!("{bad} -o out"));
    assert!(ran.code == Some(0) && !ran.stderr.contains("warning"), "{}", ran.stderr);
}

#[test]
fn a_run_that_diverges_says_when_why_and_what_helps() {
    let sandbox = Sandbox::with(SMALL);
    for args in ["--workers 1", "--workers 3", "--workers 3 --biases", "--workers 2 --learning-rate 300"] {
        let rate = if args.contains("rate") { "" } else { "--learning-rate 1e4" };
        let ran = sandbox.train(&format!("{args} {rate} --step-batches 8 -o out"));
        let safe = ["fix: lower the learning rate, for example `--learning-rate 0.4`"];
        ran.failed(6, &safe);
        let rate = if args.contains("rate") { "300" } else { "10000" };
        let settings = format!("(learning rate {rate} x 8 batches a step, momentum 0.8)");
        ran.failed(6, &["error: training diverged at step 1: the RMSE is ", " stars, it was ", &settings]);
        assert!(!sandbox.path("out/report.json").exists());
    }
    // The remedy is one.
    sandbox.train("--learning-rate 0.4 --step-batches 8 -o out").report();
}

#[test]
fn a_model_that_diverged_with_the_last_step_is_not_saved() {
    let sandbox = Sandbox::with(SMALL);
    for rate in ["1e4", "1e6"] {
        let ran = sandbox.train(&format!("--learning-rate {rate} --step-batches 41 --max-epochs 1 -o out"));
        ran.failed(6, &["error: training diverged at step 0: ", "fix: lower the learning rate"]);
        assert!(!sandbox.path("out/report.json").exists());
    }
}

#[test]
fn a_signal_ends_it_without_a_report() {
    let sandbox = Sandbox::with(NO_HOLDOUT);
    for (signal, code, word) in [("TERM", 143, "terminated"), ("INT", 130, "interrupted")] {
        let mut command = sandbox.command("--manifest ml20m.json --max-epochs 1000000 --workers 3 -o out");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The second line comes right before the first step.
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        for _ in 0..2 {
            lines.read_line(&mut String::new()).unwrap();
        }
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let mut stderr = String::new();
        lines.read_to_string(&mut stderr).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(output.stdout.is_empty());
        let told = format!(
            "error: {word}, and nothing of the run is kept: its workers are threads\n  fix: run the same command again; `--max-time` "
        );
        assert!(stderr.contains(&told), "{stderr}");
        assert!(!sandbox.path("out/report.json").exists());
    }
}
