//! The rules of the repository, as tests over its files and its dependency graph.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy knows test functions, not what they call")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every text of the repository with its path from the root: what .gitignore names at the root is not of it.
fn texts() -> Vec<(String, String)> {
    let root = root();
    let ignored = std::fs::read_to_string(root.join(".gitignore")).unwrap();
    let mut ignored: BTreeSet<PathBuf> =
        ignored.lines().filter_map(|line| line.strip_prefix('/')).map(|name| root.join(name)).collect();
    ignored.extend([".git", "Cargo.lock"].map(|name| root.join(name)));
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if ignored.contains(&path) || path.ends_with("__pycache__") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                found.push((path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "only {} files were found", found.len());
    found
}

fn rust() -> Vec<(String, String)> {
    let files: Vec<_> = texts().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect();
    assert!(files.len() > 40, "only {} Rust files were found", files.len());
    files
}

/// Fails with every problem at once.
#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).args(["--offline", "--locked"]).current_dir(root()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let files = rust();
    let without = files.iter().filter(|(_, text)| {
        let first = text.lines().find(|line| !line.is_empty()).unwrap_or_default();
        first.strip_prefix("//! ").is_none_or(|sentence| sentence.trim().len() <= 10)
    });
    none(&without.map(|(path, _)| format!("{path}: no `//!` comment at the head")).collect::<Vec<_>>());
}

#[test]
fn nothing_is_called_utils() {
    let banned = ["util", "utils", "helper", "helpers", "common", "misc", "types"];
    let bad = texts()
        .into_iter()
        .filter(|(path, _)| path.split('/').any(|part| banned.contains(&part.split('.').next().unwrap_or_default())));
    none(&bad.map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn binaries_are_thin() {
    let mains: Vec<_> = rust().into_iter().filter(|(path, _)| path.ends_with("src/main.rs")).collect();
    assert!(mains.len() >= 3);
    let long = mains.iter().filter(|(_, text)| text.lines().count() > 30);
    none(&long.map(|(path, text)| format!("{path}: {} lines, at most 30", text.lines().count())).collect::<Vec<_>>());
}

/// Package, kind (`normal`, `dev`, `build`) and dependency, for every dependency of a member.
fn declared() -> Vec<(String, String, String)> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
            edges.push((text(&package["name"]), text(&dependency["kind"]), text(&dependency["name"])));
        }
    }
    assert!(edges.len() > 40, "{edges:?}");
    edges
}

#[test]
fn stages_meet_in_files_only() {
    const STAGES: [&str; 3] = ["prep", "shard", "train"];
    let bad = declared().into_iter().filter(|(package, _, dependency)| {
        let stage = |name: &str| STAGES.iter().any(|s| name == *s || name.starts_with(&format!("{s}-")));
        let same = package.split('-').next() == dependency.split('-').next();
        // What the tools share must not know them either; only the tests of the whole do.
        stage(dependency) && !same && package != "pipeline-tests"
    });
    none(&bad.map(|(package, kind, on)| format!("{package} has the {kind} dependency {on}")).collect::<Vec<_>>());
}

#[test]
fn the_maths_and_the_formats_link_no_io() {
    let heavy = ["tokio", "object_store", "parquet", "arrow", "redis", "lapin", "aws", "datafusion", "rayon", "mio"];
    for package in ["train-core", "schemas", "random"] {
        let tree = cargo(&["tree", "-e", "normal", "-p", package, "--prefix", "none"]);
        assert!(tree.starts_with(&format!("{package} v")), "{tree}");
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        let bad: BTreeSet<&str> =
            names.filter(|name| heavy.iter().any(|h| name == h || name.starts_with(&format!("{h}-")))).collect();
        assert!(bad.is_empty(), "{package} links {bad:?}");
    }
    // A function is a small program.
    let tree = cargo(&["tree", "-e", "normal", "-p", "train-worker", "--prefix", "none"]);
    assert!(tree.contains("lambda_runtime v") && !tree.contains("datafusion"), "{tree}");
    let tree = cargo(&["tree", "-e", "normal", "-p", "manifests", "--prefix", "none"]);
    assert!(tree.lines().any(|line| line.starts_with("object_store v")), "the check sees what is linked");
}

#[test]
fn each_sdk_is_named_in_one_file() {
    // The file that is the adapter, and for the storage port the one that maps its errors.
    let allowed: [(&str, &[&str]); 9] = [
        (
            "object_store::",
            &[
                "manifests/src/place.rs",
                "manifests/src/error.rs",
                "manifests/src/bucket.rs",
                "manifests/s3/src/attributes.rs",
                "manifests/s3/src/error.rs",
                "manifests/s3/src/store.rs",
                "manifests/s3/src/upload.rs",
                "tests/services/tests/s3/faults.rs",
                "tests/services/tests/s3/ports.rs",
                "tests/services/tests/s3/rates.rs",
            ],
        ),
        ("aws_sdk_s3", &["manifests/s3/src/sdk.rs"]),
        ("aws_sdk_lambda", &["train/lambda/src/functions.rs"]),
        ("lambda_runtime", &["train/worker/src/main.rs"]),
        ("redis::", &["train/src/exchange/store/redis.rs"]),
        (
            "lapin::",
            &[
                "train/src/control/rabbitmq.rs",
                "train/src/control/rabbitmq/link.rs",
                "train/src/control/rabbitmq/mailbox.rs",
            ],
        ),
        ("datafusion::", &["prep/query/src/engine.rs"]),
        ("plotters::", &["train/page/src/draw.rs"]),
        ("resvg::", &["train/page/src/charts.rs", "train/page/tests/page/pages.rs"]),
    ];
    let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, text) in rust().into_iter().filter(|(path, _)| path != "tests/tidy.rs") {
        // A test in the same file as what it tests may use an embedded store; documentation may name the port.
        let code = text.split("[cfg(test)]").next().unwrap_or_default();
        for (sdk, _) in &allowed {
            // After a `::` it is a module of ours by the same name.
            let at_start = |line: &str| line.match_indices(sdk).any(|(at, _)| !line[..at].ends_with(':'));
            let names = |line: &str| !line.trim_start().starts_with("//") && at_start(line);
            if code.lines().any(names) {
                named.entry(sdk).or_default().push(path.clone());
            }
        }
    }
    for (sdk, files) in allowed {
        for found in named.get(sdk).into_iter().flatten() {
            assert!(files.contains(&found.as_str()), "{found} names {sdk}, which belongs in {files:?}");
        }
        for file in files {
            let stale = "the table names a file that does not name the SDK";
            assert!(named.get(sdk).is_some_and(|found| found.iter().any(|f| f == file)), "{sdk} {file}: {stale}");
        }
    }
}

/// `words` in any line of `files`, as `path:line: word`.
fn occurrences(files: &[(String, String)], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path != "tests/tidy.rs") {
        for (number, line) in (1..).zip(text.lines()) {
            found.extend(words.iter().filter(|w| line.contains(**w)).map(|w| format!("{path}:{number}: {w}")));
        }
    }
    found
}

#[test]
fn nothing_is_left_to_do() {
    none(&occurrences(&texts(), &["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"]));
}

#[test]
fn no_text_names_a_folder_of_somebody_s_machine() {
    none(&occurrences(&texts(), &["/work/", "/root/", "/tmp/", "/Users/"]));
}

/// Lines of a Markdown text outside of code, from 1, and code in them taken out.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut prose = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push((number, line.split('`').step_by(2).collect()));
        }
    }
    prose
}

/// The anchors of a Markdown text, as GitHub makes them of the headings.
fn anchors(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut anchors: Vec<String> = Vec::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !fenced) else { continue };
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = anchors.iter().filter(|known| **known == anchor).count();
        anchors.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
    }
    anchors
}

#[test]
fn links_lead_somewhere() {
    let texts: BTreeMap<String, String> = texts().into_iter().collect();
    let mut problems = Vec::new();
    let mut followed = 0;
    for (path, text) in texts.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (number, line) in prose(text) {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for target in targets.filter(|target| !target.contains("://")) {
                followed += 1;
                let (file, anchor) = target.split_once('#').map_or((target, None), |(f, a)| (f, Some(a)));
                let mut parts: Vec<&str> = path.split('/').collect();
                if !file.is_empty() {
                    parts.pop();
                }
                for part in file.split('/').filter(|part| !part.is_empty()) {
                    match part {
                        ".." => drop(parts.pop()),
                        part => parts.push(part),
                    }
                }
                let to = parts.join("/");
                let there = match anchor {
                    None => root().join(&to).exists(),
                    Some(anchor) => texts.get(&to).is_some_and(|text| anchors(text).iter().any(|a| a == anchor)),
                };
                if !there {
                    problems.push(format!("{path}:{number}: {target} is not there"));
                }
            }
        }
    }
    assert!(followed > 10, "only {followed} links were found");
    none(&problems);
}

/// Fields of the structs in a `cli.rs`.
fn fields(cli: &str) -> Vec<&str> {
    let field = |line: &str| line.trim().strip_prefix("pub ").is_some_and(|rest| !rest.starts_with("const "));
    let lines = cli.lines().filter(|line| field(line));
    lines.filter_map(|line| line.trim()["pub ".len()..].split_once(": ").map(|(name, _)| name)).collect()
}

/// Whether `code` reads `field`: as `.field` that is no call, or by taking a struct of `cli` apart.
fn reads(code: &str, field: &str) -> bool {
    let whole_word = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '('));
    let member = code.match_indices(&format!(".{field}")).any(|(at, hit)| whole_word(&code[at + hit.len()..]));
    let patterns = code.split("let cli::").skip(1).filter_map(|text| text.split_once('{')?.1.split_once('}'));
    let names = patterns.flat_map(|(names, _)| names.split(','));
    member || names.map(str::trim).any(|name| name == field || name.starts_with(&format!("{field}: ")))
}

#[test]
fn every_flag_is_read() {
    for tool in ["prep", "shard", "train"] {
        let read = |name: &str| std::fs::read_to_string(root().join(tool).join("src").join(name)).unwrap();
        let cli = read("cli.rs");
        let fields = fields(&cli);
        assert!(fields.len() > 8, "{tool}: {fields:?}");
        let of_a_kind = std::fs::read_dir(root().join(tool).join("src/plan")).into_iter().flatten();
        let of_a_kind = of_a_kind.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        let code = ["plan.rs", "main.rs"].map(read).concat() + &of_a_kind.collect::<String>();
        let unread: Vec<&str> = fields.into_iter().filter(|field| !reads(&code, field)).collect();
        assert!(unread.is_empty(), "{tool}: nothing reads the flags {unread:?}");
        assert!(!reads(&code, "no_such_flag"));
    }
}

#[test]
fn the_protocol_and_the_decoders_are_pure() {
    const PURE: [&str; 4] =
        ["train/src/protocol", "train/page/src", "manifests/raw/src/clicks", "manifests/raw/src/ratings"];
    let files: Vec<_> = rust().into_iter().filter(|(path, _)| PURE.iter().any(|pure| path.starts_with(pure))).collect();
    assert!(files.len() >= 12, "{files:?}");
    let impure = ["Instant", "SystemTime", "std::fs", "std::net", "std::thread", "std::io", "std::env", "std::process"];
    none(&occurrences(&files, &impure));
}

#[test]
fn versions_are_in_one_place() {
    // Fuzzing needs another compiler, so it is a workspace of its own.
    let members = texts().into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml") && !path.contains("/fuzz/"));
    let mut problems = Vec::new();
    for (path, text) in members {
        let mut in_dependencies = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.starts_with('[') {
                in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
                if line.contains("dependencies.") {
                    problems.push(format!("{path}:{number}: a table of its own for a dependency"));
                }
            } else if in_dependencies && line.contains('=') {
                let inherited = line.contains(".workspace = true") || line.contains("workspace = true,");
                if !inherited || line.contains("version") || line.contains("path") {
                    problems.push(format!("{path}:{number}: {line}"));
                }
            }
        }
    }
    none(&problems);
}
