//! Rows into a pipe: the same as in a folder, and no dataset but a whole one.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use manifests::clicks::ClickRows;
use manifests::load;
use manifests::place::Place;
use manifests::ratings::{RatingRows, decode};
use manifests::stream::StreamReader;
use schemas::dataset::{Descriptor, Object};

use crate::criteo::{read, text};
use crate::sandbox::{Sandbox, generated};

/// `descriptor` as it goes through a pipe.
fn without_objects(descriptor: &Descriptor) -> Descriptor {
    let mut descriptor = descriptor.clone();
    descriptor.parts.clear();
    descriptor.holdout_parts.clear();
    let tables =
        descriptor.layout.tables().into_iter().map(|(name, table)| Object { key: name.to_owned(), ..table.clone() });
    let tables = tables.collect();
    descriptor.layout = descriptor.layout.clone().with_tables(tables);
    descriptor
}

fn bits(rows: &ClickRows) -> Vec<Vec<u32>> {
    let floats = std::iter::once(&rows.labels).chain(&rows.numbers);
    let floats = floats.map(|column| column.iter().map(|x| x.to_bits()).collect());
    floats.chain(rows.buckets.iter().cloned()).collect()
}

/// Rows of both sorts in a stream of a click log.
fn clicks(bytes: &[u8]) -> [Vec<Vec<u32>>; 2] {
    let mut reader = StreamReader::open(bytes).unwrap();
    let mut all = [ClickRows::default(), ClickRows::default()];
    let mut rows = ClickRows::default();
    while let Some(batch) = reader.next_batch().unwrap() {
        batch.clicks(&mut rows).unwrap();
        let all = &mut all[batch.sort as usize];
        all.labels.extend(&rows.labels);
        all.numbers.iter_mut().zip(&rows.numbers).for_each(|(all, column)| all.extend(column));
        all.buckets.iter_mut().zip(&rows.buckets).for_each(|(all, column)| all.extend(column));
    }
    all.map(|rows| bits(&rows))
}

/// Checks head and tables of a stream against the dataset in the folder `name`.
#[track_caller]
fn check_head(sandbox: &Sandbox, name: &str, bytes: &[u8]) -> Descriptor {
    let written = sandbox.descriptor(name);
    let reader = StreamReader::open(bytes).unwrap();
    assert_eq!(*reader.descriptor(), without_objects(&written));
    let place = Place::parse(sandbox.path(name).to_str().unwrap()).unwrap();
    let tables = written.layout.tables().into_iter().map(|(_, table)| load::object(&place, table, "it").unwrap());
    assert!(tables.eq(reader.tables().iter().cloned()));
    written
}

#[test]
fn click_logs_in_a_pipe_are_those_in_a_folder() {
    let sandbox = Sandbox::new();
    sandbox.write("in.txt", text(9000));
    for args in ["--features dense", "--holdout 0.2", "--hash-buckets 50 --where I1>1"] {
        let args = format!("criteo in.txt --name same {args}");
        sandbox.prep(&format!("{args} -o out --replace")).report();
        let (ran, bytes) = sandbox.piped(&args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let note = "no report follows; for a folder give `--out prepared/same`\n";
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
        let written = check_head(&sandbox, "out", &bytes);
        let [train, holdout] = clicks(&bytes);
        assert!(train == bits(&read(&sandbox, "out", &written, &written.parts)), "{args}");
        assert!(holdout == bits(&read(&sandbox, "out", &written, &written.holdout_parts)), "{args}");
        for more in ["--threads 1", "--threads 5", "--out -"] {
            assert!(sandbox.piped(&format!("{args} {more}")).1 == bytes, "{args} {more}");
        }
    }
    sandbox.shell("prep criteo in.txt --out - > stream.arrow");
    assert!(std::fs::read(sandbox.path("stream.arrow")).unwrap() == sandbox.piped("criteo in.txt").1);
    assert!(!sandbox.path("prepared").exists(), "nothing is written to a folder");
    assert_eq!(sandbox.prep("criteo in.txt").report()["output"], "prepared/criteo");
}

#[test]
fn words_and_rows_do_not_go_into_one_pipe() {
    let sandbox = Sandbox::new();
    sandbox.write("in.txt", text(100));
    sandbox.write("ratings.csv", generated(1000));
    for (line, name) in [("criteo in.txt", "criteo"), ("movielens ratings.csv --out -", "movielens")] {
        let ran = sandbox.shell(&format!("{{ prep {line}; echo \"code $?\"; }} 2>&1 | tail -n 5"));
        let expected = format!(
            "error: --out: rows for `shard` would go into the pipe that standard error goes into, and mix with words\n  \
             fix: for a dataset name its folder: `--out prepared/{name}`; to pipe rows to `shard`, leave out `2>&1`\ncode 2\n"
        );
        assert_eq!(ran.stdout, expected, "{line}");
    }
    let ran = sandbox.shell("prep criteo in.txt --out prepared/criteo 2>&1 | tail -n 1");
    assert!(ran.stdout.contains("\"output\":\"prepared/criteo\""), "{}", ran.stdout);
    let ran = sandbox.shell("prep criteo in.txt | cat > rows");
    assert!(
        ran.stderr.contains("\nwrote all rows to standard output, and no dataset to a folder, in "),
        "{}",
        ran.stderr
    );
}

#[test]
fn ratings_in_a_pipe_are_those_in_a_folder() {
    let sandbox = Sandbox::new();
    sandbox.write("ratings.csv", generated(30_000));
    for args in ["", "--holdout 0.1"] {
        let args = format!("movielens ratings.csv --name same {args}");
        sandbox.prep(&format!("{args} -o out --replace")).report();
        let (ran, bytes) = sandbox.piped(&args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let written = check_head(&sandbox, "out", &bytes);
        let mut reader = StreamReader::open(&bytes[..]).unwrap();
        let (mut found, mut rows) = ([RatingRows::default(), RatingRows::default()], RatingRows::default());
        while let Some(batch) = reader.next_batch().unwrap() {
            batch.ratings(&mut rows).unwrap();
            let all = &mut found[batch.sort as usize];
            all.users.extend(&rows.users);
            all.items.extend(&rows.items);
            all.ratings.extend(&rows.ratings);
        }
        for (found, parts) in found.iter().zip([&written.parts, &written.holdout_parts]) {
            let mut expected = RatingRows::default();
            for part in parts {
                let bytes = Bytes::from(std::fs::read(sandbox.path("out").join(&part.key)).unwrap());
                decode(bytes, &mut rows).unwrap();
                expected.users.extend(&rows.users);
                expected.items.extend(&rows.items);
                expected.ratings.extend(&rows.ratings);
            }
            assert!(*found == expected, "{args}");
        }
        assert!(sandbox.piped(&format!("{args} --threads 3")).1 == bytes);
    }
}

#[test]
fn a_reader_that_goes_away_is_told_and_a_signal_is_heard() {
    let sandbox = Sandbox::new();
    sandbox.write("in.txt", text(9000));
    let spawn = || {
        let mut command = sandbox.command("criteo in.txt");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = spawn();
    let mut first = [0; 1000];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("error: standard output: its reader went away after 0 of 9000 rows\n  fix: "), "{stderr}");

    // A reader that does not read, but stays: more than a pipe holds is under way.
    let mut child = spawn();
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().unwrap();
                panic!("the signal was not heard");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert_eq!(status.code(), Some(143));
    let mut rest = first.to_vec();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    let mut reader = StreamReader::open(&rest[..]).unwrap();
    let error = std::iter::from_fn(|| Some(reader.next_batch())).find_map(Result::err).unwrap();
    assert_eq!(error.to_string(), "standard input: ended after 0 of 9000 rows");
}

#[test]
fn rows_that_are_set_aside_do_not_go_through_the_pipe() {
    let sandbox = Sandbox::new();
    sandbox.write("in.txt", format!("{}bad\n", text(100)));
    let (ran, bytes) = sandbox.piped("criteo in.txt --bad-rows quarantine");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let place = "prepared/criteo.rejects.csv";
    assert!(ran.stderr.contains(&format!("warning: 1 bad row set aside in {place}")), "{}", ran.stderr);
    assert!(std::fs::read_to_string(sandbox.path(place)).unwrap().contains("101,"));
    let reader = StreamReader::open(&bytes[..]).unwrap();
    assert_eq!((reader.descriptor().rows.rejected, &reader.descriptor().rejects), (1, &None));
    let (ran, bytes) = sandbox.piped("criteo in.txt");
    assert_eq!((ran.code, bytes.len()), (Some(3), 0), "{}", ran.stderr);
}
