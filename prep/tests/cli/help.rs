//! Help, examples and completions.

use prep::cli::examples;

use crate::sandbox::{Sandbox, generated, gzip, zip};

/// The inputs that the examples name.
fn sandbox_for_examples() -> Sandbox {
    let sandbox = Sandbox::new();
    let csv = generated(2_000);
    sandbox.write("ratings.csv.gz", gzip(csv.as_bytes()));
    sandbox.write("ml-20m.zip", zip(&[("ml-20m/README.txt", b"read me"), ("ml-20m/ratings.csv", csv.as_bytes())]));
    let dat: Vec<&str> = csv.lines().skip(1).collect();
    sandbox.write("ml-1m/ratings.dat", dat.join("\n").replace(',', "::"));
    let clicks = crate::criteo::text(500);
    sandbox.write("train.txt.gz", gzip(clicks.as_bytes()));
    clicks.split_inclusive('\n').enumerate().for_each(|(day, line)| {
        if day < 12 {
            sandbox.write(&format!("day_{day}"), line);
        }
    });
    sandbox.write("test.txt", clicks.lines().map(|line| format!("{}\n", &line[2..])).collect::<String>());
    sandbox
}

#[test]
fn every_example_runs_as_printed() {
    for (command, examples) in [
        ("", &examples::PREP[..]),
        ("movielens", &examples::MOVIELENS),
        ("criteo", &examples::CRITEO),
        ("generate", &examples::GENERATE),
        ("generate movielens", &examples::GENERATE_MOVIELENS),
        ("generate criteo", &examples::GENERATE_CRITEO),
    ] {
        let sandbox = sandbox_for_examples();
        let help = sandbox.prep(&format!("{command} --help")).stdout;
        for example in examples {
            assert!(help.contains(&format!("\n  {example}\n")), "{example} is not in\n{help}");
            let ran = sandbox.shell(example);
            assert_eq!(ran.code, Some(0), "{example}:\n{}", ran.stderr);
            if !example.contains("completions") {
                assert!(ran.report()["tool"].as_str().unwrap().starts_with("prep "), "{example}");
            }
        }
        assert!(help.contains("Exit codes:"), "{help}");
    }
}

#[test]
fn examples_write_to_the_conventional_places() {
    let sandbox = sandbox_for_examples();
    for (example, place) in examples::MOVIELENS.into_iter().zip(["prepared/ml20m", "prepared/mine", "clean"]) {
        assert_eq!(sandbox.shell(example).report()["output"], place);
        assert_eq!(sandbox.descriptor(place).rows.read, 2_000);
    }
    assert_eq!(sandbox.descriptor("clean").name, "ml1m");
    assert_eq!(sandbox.descriptor("clean").source.format, "movielens-dat");
}

#[test]
fn without_a_command_there_is_help() {
    let ran = Sandbox::new().prep("");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("Usage: prep"), "{}", ran.stderr);
}

#[test]
fn completions_know_every_flag() {
    let sandbox = Sandbox::new();
    let script = sandbox.prep("completions bash").stdout;
    for command in ["movielens", "criteo", "generate movielens", "generate criteo"] {
        let help = sandbox.prep(&format!("{command} --help")).stdout;
        let flags = help.split_whitespace().filter(|w| w.starts_with("--") && w.len() > 2);
        let flags: Vec<&str> = flags.map(|w| w.trim_end_matches([',', '.', ')'])).collect();
        assert!(flags.len() > 8, "{help}");
        for flag in flags {
            assert!(script.contains(flag), "{flag} is not completed");
        }
    }
}
