//! The commands of the guides and of the README's three calls, as they stand there, run in order in a fresh folder. What a guide
//! shows as output must be said. Nothing is downloaded: a block behind `<!-- test: skip ... -->` is left out, and a fixture stands in.

use std::path::Path;
use std::process::Command;

use clap::Parser;
use pipeline_tests::{Running, Secrets, programs, tool};

use super::{json_of, real_ratings};

/// A `sh` block of a document, with the `text` blocks that follow it.
struct Block {
    line: usize,
    script: String,
    shown: Vec<String>,
    skipped: bool,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut skipped = false;
    let mut lines = (1..).zip(document.lines());
    while let Some((line, text)) = lines.next() {
        let Some(language) = text.strip_prefix("```") else {
            skipped = text.starts_with("<!-- test: skip") || (skipped && text.is_empty());
            continue;
        };
        let body = lines.by_ref().map(|(_, text)| text.to_owned()).take_while(|text| text != "```");
        let body: Vec<String> = body.collect();
        match (language, blocks.last_mut()) {
            ("sh", _) => blocks.push(Block { line, script: body.join("\n"), shown: Vec::new(), skipped }),
            ("text", Some(block)) => block.shown.extend(body),
            _ => {}
        }
        skipped = false;
    }
    blocks
}

/// Whether `line` is what is `shown`, where `...` stands for anything.
fn is_shown(shown: &str, line: &str) -> bool {
    let pieces: Vec<&str> = shown.split("...").collect();
    let [first, middle @ .., last] = &pieces[..] else { return line == shown };
    let Some(mut rest) = line.strip_prefix(*first).and_then(|rest| rest.strip_suffix(*last)) else { return false };
    middle.iter().all(|piece| {
        let found = rest.split_once(*piece);
        rest = found.map_or(rest, |(_, behind)| behind);
        found.is_some()
    })
}

/// Runs the commands of `text`, which is called `name`, in `folder`, and gives their number. Their output must have what is
/// shown there, if `exactly`.
fn follow(name: &str, text: &str, folder: &Path, exactly: bool) -> usize {
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([programs()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let blocks: Vec<Block> = blocks(text).into_iter().filter(|block| !block.skipped).collect();
    for block in &blocks {
        let mut command = Command::new("sh");
        command.args(["-euc", &block.script]).env("PATH", &path);
        let said = Running::start(&format!("{name}:{}", block.line), command, folder, Secrets(&[])).wait();
        assert_eq!(said.code, Some(0), "{said:#?}");
        for shown in block.shown.iter().filter(|_| exactly) {
            let mut lines = said.stdout.lines().chain(said.stderr.lines());
            assert!(lines.any(|line| is_shown(shown, line)), "{name} shows `{shown}`, which is not said: {said:#?}");
        }
    }
    blocks.len()
}

/// A text of the repository.
fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

fn run(line: &str, folder: &Path) {
    Running::start(line, tool(line), folder, Secrets(&[])).wait().report();
}

/// Puts a folder `ml-latest-small` into `folder`, and says whether it has the real ratings.
fn ratings(folder: &Path) -> bool {
    let to = folder.join("ml-latest-small");
    std::fs::create_dir(&to).unwrap();
    let real = real_ratings();
    if let Some(real) = &real {
        for name in ["ratings.csv", "movies.csv"] {
            std::fs::copy(real.join(name), to.join(name)).unwrap();
        }
    } else {
        run(
            "prep generate movielens --ratings 100836 --users 610 --movies 9724 -o ml-latest-small/ratings.csv",
            folder,
        );
        std::fs::write(to.join("movies.csv"), "movieId,title,genres\n1,\"One, The (2001)\",Action\n").unwrap();
    }
    real.is_some()
}

#[test]
fn the_guide_to_ratings_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let real = ratings(folder.path());
    if !real {
        eprintln!(
            "the numbers are not compared: ml-latest-small is neither at ../shared/data nor under GRISTMILL_SHARED"
        );
    }
    let name = "manifests/guides/movielens.md";
    assert!(follow(name, &document(name), folder.path(), real) >= 8);
    let report = json_of(&folder.path().join("runs/movies/report.json"));
    let of = |value: &serde_json::Value| value.as_f64().unwrap();
    let (rmse, effects) = (of(&report["holdout_rmse"]), of(&report["baselines"]["effects"]));
    assert!(0.7 < rmse && rmse < effects - 0.01 && effects < 0.9, "{report}");
    for file in ["model.safetensors", "users.parquet", "items.parquet", "history.csv", "timings.csv", "ledger.parquet"]
    {
        assert!(folder.path().join("runs/movies").join(file).is_file(), "{file}");
    }
}

#[test]
fn the_guide_to_click_logs_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let name = "manifests/guides/criteo.md";
    assert!(follow(name, &document(name), folder.path(), true) >= 9);
    let of = |run: &str| {
        let report = json_of(&folder.path().join(run).join("report.json"));
        ["/base_log_loss", "/holdout/log_loss", "/holdout/calibration"]
            .map(|field| report.pointer(field).and_then(serde_json::Value::as_f64).unwrap())
    };
    let [base, sparse, calibration] = of("runs/clicks");
    assert!(0.46 < sparse && sparse < base - 0.08 && (calibration - 1.0).abs() < 0.1, "{sparse} {base} {calibration}");
    let [_, first, _] = of("runs/first");
    let [_, dense, _] = of("runs/dense");
    assert!(sparse < first && first < dense && dense < base, "{sparse} {first} {dense} {base}");
    let predictions = std::fs::read_to_string(folder.path().join("predictions.csv")).unwrap();
    assert_eq!(predictions.lines().count(), 1 + 20_000);
}

#[test]
fn the_three_calls_of_the_readme_can_be_typed() {
    let folder = tempfile::tempdir().unwrap();
    ratings(folder.path());
    // What a file holds is seen from its first bytes, whatever it is called.
    std::fs::copy(folder.path().join("ml-latest-small/ratings.csv"), folder.path().join("ml-latest-small.zip"))
        .unwrap();
    std::fs::copy(folder.path().join("ml-latest-small/movies.csv"), folder.path().join("movies.csv")).unwrap();
    run("prep generate criteo --rows 1000 --seed 9 -o test.txt.gz", folder.path());
    let readme = document("README.md");
    let calls = readme.split_once("\n## The three calls\n").unwrap().1.split_once("\n## ").unwrap().0;
    let ten_million = "--rows 10000000";
    assert!(calls.contains(ten_million));
    assert_eq!(follow("README.md", &calls.replace(ten_million, "--rows 20000"), folder.path(), true), 3);
    for file in ["runs/movies/model.safetensors", "runs/clicks/model.safetensors", "predictions.parquet"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn what_is_shown_may_be_shortened() {
    for (shown, line, same) in [
        ("a b", "a b", true),
        ("a b", "a b c", false),
        ("a ...", "a b c", true),
        ("a ... c", "a b c", true),
        ("a ... c ... e", "a b c d e", true),
        ("a ... x ... e", "a b c d e", false),
        ("ab...ba", "aba", false),
        ("...", "", true),
    ] {
        assert_eq!(is_shown(shown, line), same, "{shown} {line}");
    }
    let text = "```sh\none\n```\n\nwords\n\n```text\n1\n```\n\n```text\n2\n```\n<!-- test: skip, why -->\n\n```sh\ntwo\n```\n```sh\n3\n```\n";
    let found: Vec<_> = blocks(text).into_iter().map(|b| (b.line, b.script, b.shown.concat(), b.skipped)).collect();
    let expected = [(1, "one", "12", false), (16, "two", "", true), (19, "3", "", false)];
    assert!(found.iter().map(|(l, s, t, k)| (*l, &s[..], &t[..], *k)).eq(expected), "{found:?}");
}

/// pyarrow, polars and DuckDB; PyTorch is too large to be installed for every test.
#[test]
fn the_guide_to_reading_mini_batches_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/guides");
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([programs()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new(services::readers());
    command.arg(guides.join("check.py")).arg(guides.join("reading-shards.md")).arg("torch").env("PATH", path);
    let said = Running::start("check.py", command, folder.path(), Secrets(&[])).wait();
    assert!(said.code == Some(0) && said.stdout.contains("blocks of code do what is written there"), "{said:#?}");
}

/// Whatever stands in the README, also what needs an account, servers or hours, is what the tools understand: each block is run with
/// tools that only write down what they are called with, and nothing else on the path.
#[test]
fn every_call_in_the_readme_and_the_guides_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let (path, record) = (folder.path().join("path"), folder.path().join("record"));
    std::fs::create_dir(&path).unwrap();
    let programs = [
        "aws", "awk", "cargo", "cat", "curl", "cut", "head", "jq", "make", "python", "rm", "sed", "tail", "unzip",
        "zcat",
    ];
    for program in programs {
        std::os::unix::fs::symlink("/bin/true", path.join(program)).unwrap();
    }
    let script = |name: &str, body: &str| {
        let file = path.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("mktemp", "echo .");
    for tool in ["prep", "shard", "train"] {
        script(tool, "printf '%s\\0' \"${0##*/}\" \"$@\" END >> \"$RECORD\"");
    }
    let mut counts = [("prep", 0), ("shard", 0), ("train", 0)];
    for name in [
        "README.md",
        "manifests/guides/movielens.md",
        "manifests/guides/criteo.md",
        "manifests/guides/reading-shards.md",
    ] {
        for block in blocks(&document(name)) {
            std::fs::write(&record, "").unwrap();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &block.script]).env("PATH", &path).env("RECORD", &record).current_dir(folder.path());
            assert!(command.output().unwrap().status.success(), "{name}:{}: {}", block.line, block.script);
            let calls = std::fs::read_to_string(&record).unwrap();
            for call in calls.split_terminator("END\0") {
                let words: Vec<&str> = call.split_terminator('\0').collect();
                let parsed = match words[0] {
                    "prep" => prep::cli::Cli::try_parse_from(&words).map(drop),
                    "shard" => shard::cli::Cli::try_parse_from(&words).map(drop),
                    _ => train::cli::Cli::try_parse_from(&words).map(drop),
                };
                parsed.unwrap_or_else(|error| panic!("{name}:{}: {words:?}: {error}", block.line));
                counts.iter_mut().filter(|(tool, _)| *tool == words[0]).for_each(|(_, count)| *count += 1);
            }
        }
    }
    assert!(counts.iter().all(|(_, count)| *count >= 8), "{counts:?}");
}

/// What is typed, the exit code, and words of the message.
const FAILURES: [(&str, i32, &str); 22] = [
    ("shard --batch 10", 2, "no dataset was named, and `prepared/*/dataset.json` does not exist"),
    ("prep movielens some.csv --holdout 0.1 --name movies", 0, ""),
    (
        "prep movielens some.csv --holdout 0.2 --name movies",
        5,
        "already exists and differs: its holdout is 0.1 (seed 8), this one's 0.2 (seed 8)",
    ),
    ("prep movielens some.csv --holdout 10 --name other", 2, "--holdout: 10 is not between 0 and 1"),
    ("prep movielens bad.csv --name bad", 3, "rating 9.5 is outside 0.5..=5"),
    ("prep movielens train.txt --name bad", 3, "40 columns, expected 4"),
    ("prep movielens head.csv --name bad", 3, "is not userId, movieId, rating, timestamp"),
    ("prep criteo short.txt --name bad", 3, "fields, not 40 or 39"),
    ("prep criteo train.txt --where I99>1 --name bad", 2, "there is no column `I99`"),
    ("shard prepared/movies", 2, "--batch: the rows of a mini-batch were not given"),
    (
        "shard prepared/movies --batch 1000 --memory 1MiB",
        4,
        "of memory are too little for this dataset and batch size, which need",
    ),
    ("shard prepared/movies --batch 1000", 0, ""),
    ("shard prepared/movies --batch 500", 5, "already exists and differs: its batch size is 1000, this one's 500"),
    ("prep criteo train.txt --name clicks", 0, ""),
    ("shard --batch 10", 2, "no dataset was named, and there are several: prepared/"),
    ("train --manifest prepared/movies/dataset.json", 4, "its format is `gristmill.dataset`, not `gristmill.manifest`"),
    ("train --manifest movies.json --learning-rate 100 --step-batches 2", 6, "training diverged at step "),
    ("train --manifest movies.json --launch process", 2, "workers that are processes need RabbitMQ"),
    ("train --manifest movies.json --step-batches 2 --max-epochs 1 -o runs/movies", 0, ""),
    ("train recommend --model runs/movies --user 9999", 2, "the model does not know user 9999"),
    ("train recommend --model runs --user 1", 2, "is not a finished run: it has no report.json"),
    ("train predict --model runs/movies prepared/clicks -o x.csv", 4, "its rows are of the kind "),
];

#[test]
fn the_messages_of_troubleshooting_are_those_of_the_tools() {
    let folder = tempfile::tempdir().unwrap();
    // Backticks are how the guide marks all of a message.
    let guide = document("manifests/guides/troubleshooting.md").replace('`', "");
    run("prep generate movielens --ratings 20000 --users 300 --movies 500 -o some.csv", folder.path());
    run("prep generate criteo --rows 2000 -o train.txt", folder.path());
    std::fs::write(folder.path().join("bad.csv"), "userId,movieId,rating,timestamp\n1,1,9.5,978300760\n").unwrap();
    std::fs::write(folder.path().join("head.csv"), "user,movie,score\n1,1,4\n").unwrap();
    std::fs::write(folder.path().join("short.txt"), "1\t2\n").unwrap();
    for (line, code, words) in FAILURES {
        let mut command = tool(line);
        command.env_remove("GRISTMILL_AMQP").env_remove("GRISTMILL_REDIS");
        let said = Running::start(line, command, folder.path(), Secrets(&[])).wait();
        assert!(said.code == Some(code) && said.stderr.contains(words), "{words}: {said:#?}");
        assert!(guide.contains(&words.replace('`', "")), "the guide does not have `{words}`");
    }
}
