//! Rows that come through a pipe, as `prep` writes them.

use std::io::Write;
use std::process::{Command, Stdio};

use manifests::load;
use manifests::place::Place;
use manifests::ratings::{self, RatingRows};
use manifests::stream::{Encoder, Kind, StreamWriter};
use schemas::dataset::{Descriptor, Object};

use super::{SMALL, done, files, folder_with, stderr};

/// The dataset as `prep` writes it into a pipe, with held-out rows.
fn stream(dataset: &load::Dataset) -> Vec<u8> {
    let kind = Kind::of(&dataset.descriptor.layout);
    let bytes = |object: &Object| load::object(&dataset.place, object, "test").unwrap();
    let descriptor = Descriptor { parts: Vec::new(), holdout_parts: Vec::new(), ..dataset.descriptor.clone() };
    let tables: Vec<_> = descriptor.layout.tables().into_iter().map(|(_, table)| bytes(table)).collect();
    let mut encoder = Encoder::new(kind);
    let mut writer = StreamWriter::begin(Vec::new(), &descriptor, &tables).unwrap();
    let mut write = |writer: &mut StreamWriter<Vec<u8>>, parts: &[Object]| {
        for part in parts {
            let mut rows = RatingRows::default();
            ratings::decode(bytes(part), &mut rows).unwrap();
            writer.write(&encoder.ratings(rows)).unwrap();
        }
    };
    write(&mut writer, &dataset.descriptor.parts);
    writer.begin_holdout().unwrap();
    write(&mut writer, &dataset.descriptor.holdout_parts);
    writer.finish().unwrap()
}

#[test]
fn rows_come_through_a_pipe_too() {
    let folder = folder_with(SMALL);
    done(folder.path(), &["--batch", "10"]);
    let dataset = load::dataset(&Place::parse(folder.path().join("prepared/ml").to_str().unwrap()).unwrap()).unwrap();
    let piped = |stream: &[u8], arguments: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shard"))
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses what comes does not read all of it.
        let _ = child.stdin.take().unwrap().write_all(stream);
        child.wait_with_output().unwrap()
    };
    let stream = stream(&dataset);
    for threads in ["1", "3"] {
        let out = format!("piped-{threads}");
        let output = piped(&stream, &["--batch", "10", "--out", &out, "--threads", threads]);
        assert!(output.status.success(), "{}", stderr(&output));
        let found = files(&folder.path().join(&out));
        let made = files(&folder.path().join("shards/ml"));
        assert!(made.iter().all(|(path, bytes)| found.get(path) == Some(bytes)), "the same objects");
        assert_eq!(found.len(), made.len() + 1);
        let again = piped(&stream, &["-", "--batch", "10", "--out", &out]);
        assert!(String::from_utf8(again.stdout).unwrap().contains("\"unchanged\":true"));
    }
    for (bytes, message) in [
        (&b""[..], "standard input: ended before the first row"),
        (b"user,item\n1,2\n", "standard input: not a stream of rows from `prep`"),
        (&stream[..stream.len() - 9], "standard input: ended after "),
        (&stream[..stream.len() / 2], "standard input: ended "),
    ] {
        let output = piped(bytes, &["--batch", "10", "--out", "refused"]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains(message), "{message}: {}", stderr(&output));
        assert_eq!(files(&folder.path().join("refused")).len(), 0);
    }
}
