//! `train --recipe`: the same run as with the flags, typed flags that win, files that are wrong, and the recipes of the repository.

use std::path::Path;

use schemas::report::StopReason;

use crate::clicks::write_manifest;
use crate::sandbox::{Sandbox, pmf_settings};
use crate::shards::{NO_HOLDOUT, SMALL};

const RECIPE: &str = r#"# As good as any.
step-batches = 0x8
factors = 6
biases = true
learning-rate = 0.5
l2 = 5e-2
reduce = "sum"
max-epochs = 1_0
max-time = "1h"
patience = 2
"#;

#[test]
fn a_recipe_and_its_flags_give_the_same_run() {
    let sandbox = Sandbox::with(SMALL);
    std::fs::write(sandbox.path("my.toml"), RECIPE).unwrap();
    let ran = sandbox.train("--recipe my.toml -o by-recipe");
    let by_recipe = ran.report();
    let said = "recipe my.toml: step-batches=8, factors=6, biases=true, learning-rate=0.5, l2=5e-2, reduce=sum, max-epochs=10, \
                max-time=1h, patience=2\n";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    let flags = "--step-batches 8 --factors 6 --biases --learning-rate 0.5 --l2 0.05 --reduce sum --max-epochs 10 --max-time 1h \
                 --patience 2";
    let by_flags = sandbox.train(&format!("{flags} --workers 3 -o by-flags")).report();
    assert_eq!(by_recipe.identity, by_flags.identity);
    assert_eq!(by_recipe.model_digest, by_flags.model_digest);
    assert_eq!(by_recipe.history_digest, by_flags.history_digest);
    assert!(sandbox.train(&format!("{flags} -o by-recipe")).report().unchanged);
    assert!(sandbox.train("-o by-flags --recipe my.toml").report().unchanged);
}

#[test]
fn what_is_typed_wins() {
    let sandbox = Sandbox::with(SMALL);
    std::fs::write(sandbox.path("my.toml"), RECIPE).unwrap();
    for line in [
        "--biases=false --factors 4 --max-epochs 1 --manifest ml20m.json --recipe my.toml -o out --replace",
        "--recipe my.toml --manifest ml20m.json --max-epochs=1 -o out --replace --factors=4 --biases=false",
    ] {
        let ran = sandbox.run(line);
        let report = ran.report();
        let settings = pmf_settings(&report);
        assert_eq!((settings.factors, settings.biases, settings.l2, settings.step_batches), (4, false, 0.05, 8));
        assert_eq!((report.epochs, report.stopped_by), (1, StopReason::MaxEpochs));
        assert!(ran.stderr.contains(", patience=2; typed: factors, biases, max-epochs\n"), "{}", ran.stderr);
        assert!(ran.stderr.contains("recipe my.toml: step-batches=8, learning-rate=0.5, "), "{}", ran.stderr);
    }
    let ran = sandbox.train("--recipe my.toml --dry-run -o new");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for words in
        ["recipe my.toml: step-batches=8, ", "6 factors and biases", "l2 0.05", "ends after 10 epochs, after 1h, "]
    {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    // A flag may still be typed once only.
    sandbox.train("--recipe my.toml --l2 0.1 --l2 0.2").failed(2, &["'--l2 <WEIGHT>' cannot be used multiple times"]);
    sandbox.run("--resume out --recipe my.toml").failed(2, &["cannot be used with"]);
}

#[test]
fn a_recipe_that_is_wrong_is_told_with_its_place() {
    let sandbox = Sandbox::with(SMALL);
    let table: [(&str, i32, &str, &str); 21] = [
        ("l2 = 0.1\nlearning_rate = 1\n", 4, "my.toml:2:1: `train` has no flag --learning_rate", "learning-rate"),
        ("\"é\" = 1", 4, "my.toml:1:1: `train` has no flag --é", "`train --help` lists them"),
        ("[model]\nfactors = 3", 4, "my.toml:1:2: `train` has no flag --model", "`train --help` lists them"),
        (
            "manifest = \"x.json\"",
            4,
            "my.toml:1:1: a recipe cannot have `manifest`: it is of one run",
            "--manifest on the",
        ),
        (
            "redis = \"redis://u:secret@h\"",
            4,
            "my.toml:1:1: a recipe cannot have `redis`: it says where",
            "--redis on the",
        ),
        ("quiet = true", 4, "my.toml:1:1: a recipe cannot have `quiet`: it is not about training", "--quiet on the"),
        ("recipe = \"my.toml\"", 4, "my.toml:1:1: a recipe cannot have `recipe`: it is of one run", "--recipe on the"),
        (
            "  max-time = 480",
            4,
            "my.toml:1:14: max-time is of the type integer, not a string, in quotes",
            "train --help",
        ),
        (
            "max-time = \"480\"",
            4,
            "my.toml:1:12: invalid value '480' for '--max-time <TIME>': time unit needed",
            "train --help",
        ),
        ("workers = \"24\"", 4, "my.toml:1:11: workers is of the type string, not an integer", "train --help"),
        ("workers = 24.0", 4, "my.toml:1:11: workers is of the type float, not an integer", "train --help"),
        ("workers = 0", 4, "my.toml:1:11: invalid value '0' for '--workers <N>': 0 is not in 1..=4096", "train --help"),
        ("l2 = true", 4, "my.toml:1:6: l2 is of the type boolean, not a number", "train --help"),
        ("biases = 1", 4, "my.toml:1:10: biases is of the type integer, not true or false", "train --help"),
        ("l2 = [0.1]", 4, "my.toml:1:6: l2 is of the type array, not a number", "train --help"),
        (
            "reduce = \"median\"",
            4,
            "my.toml:1:10: invalid value 'median' for '--reduce <HOW>' [possible values: mean, sum]",
            "train --help",
        ),
        ("l2 = 0.1\nl2 = 0.2", 4, "my.toml:2:1: not TOML: ", "write lines such as"),
        ("l2 = 0.1\nfactors : 3", 4, "my.toml:2:", "write lines such as"),
        ("l2 = 0.1\n# \u{fffd}", 4, "my.toml:2:3: not UTF-8 text", "save the recipe as UTF-8"),
        ("l2 = 0.1\nfactors = 0", 2, "my.toml:2:11: --factors 0 is outside 1..=", "20 is the usual number"),
        ("beta1 = 0.5", 2, "my.toml:1:9: --beta1 has no meaning for a manifest of the kind `ratings`", "leave it out"),
    ];
    for (text, code, message, fix) in table {
        // The character that stands for bytes that are none.
        let bytes: Vec<u8> = match text.split_once('\u{fffd}') {
            Some((before, after)) => [before.as_bytes(), &[0xff], after.as_bytes()].concat(),
            None => text.as_bytes().to_vec(),
        };
        std::fs::write(sandbox.path("my.toml"), bytes).unwrap();
        let ran = sandbox.train("--recipe my.toml -o out");
        ran.failed(code, &[&format!("error: {message}"), "\n  fix: ", fix]);
        assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
        assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    }
    sandbox.train("--recipe none.toml").failed(2, &["error: none.toml: not found"]);
    // What is typed is not the recipe's fault.
    std::fs::write(sandbox.path("my.toml"), "factors = 3").unwrap();
    sandbox.train("--recipe my.toml --factors 0").failed(2, &["error: --factors 0 is outside"]);
    assert!(!sandbox.path("out").exists());
    let without = Sandbox::with(NO_HOLDOUT);
    std::fs::write(without.path("my.toml"), "patience = 2").unwrap();
    without.train("--recipe my.toml").failed(2, &["error: my.toml:1:12: --patience needs held-out rows"]);
}

#[test]
fn the_recipes_of_the_repository_can_be_used() {
    let sandbox = Sandbox::with(SMALL);
    write_manifest(&sandbox.path(""), "dense", false, true);
    write_manifest(&sandbox.path(""), "sparse", true, true);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/recipes");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let manifest = ["dense", "sparse"].into_iter().find(|kind| name.contains(kind)).unwrap_or("ml20m");
        let ran = sandbox.run(&format!("--recipe {} --manifest {manifest}.json --dry-run", path.display()));
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
        let mut words = vec!["mini-batches a step; ", ", after 8m"];
        if name.starts_with("thesis-lr-") {
            words.extend([
                "24 workers, 24 mini-batches a step; Adam on the mean of a step's rows, learning rate 0.0075 / sqrt(epoch)",
                "ends after 1000000 epochs, after 8m, which",
            ]);
        } else if name.starts_with("thesis-") {
            words.extend([
                "24 workers, 24 mini-batches a step; learning rate 8 x 24 = 192 a step, momentum 0.8, l2 0",
                " 20 factors\n",
            ]);
        } else {
            words.push("after 3 epochs without a better held-out loss, whichever comes first\n");
        }
        for words in words {
            assert!(ran.stderr.contains(words), "{name}: {words}: {}", ran.stderr);
        }
        seen.push(name);
    }
    seen.sort();
    let rows = ["lr-dense", "lr-sparse", "pmf-10m", "pmf-20m"];
    for name in rows.iter().map(ToString::to_string).chain(rows.iter().map(|row| format!("thesis-{row}"))) {
        assert!(seen.contains(&name), "{name}: {seen:?}");
    }
}
