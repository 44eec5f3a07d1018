//! Bad input, bad places and signals: one clear error, the right exit code, and no dataset left behind.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use crate::sandbox::{Sandbox, generated, gzip, zip, zstd};

const HEADER: &str = "userId,movieId,rating,timestamp\n";

/// Runs `prep movielens` on a file `input` with `bytes`, which must fail with `message` and leave nothing at the output.
#[track_caller]
fn check(input: &str, bytes: impl AsRef<[u8]>, args: &str, code: i32, message: &str) {
    let sandbox = Sandbox::new();
    sandbox.write(input, bytes);
    let ran = sandbox.prep(&format!("movielens {input} -o out --temp-dir . {args}"));
    ran.failed(code, message);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    let left: Vec<String> = sandbox.files(".").into_keys().collect();
    assert_eq!(left, [input], "something is left behind");
}

fn check_row(row: &str, message: &str) {
    let text = format!("{HEADER}1,31,2.5,1260759144\n{row}\n1,1029,3.0,1260759179\n");
    check("ratings.csv", &text, "", 3, &format!("ratings.csv:3:{message}"));
    let text = text.replace('\n', "\r\n");
    check("ratings.csv", &text, "", 3, &format!("ratings.csv:3:{message}"));
}

#[test]
fn bad_rows_stop_the_work_with_line_and_column() {
    check_row("1,1029,3.0", "11: 3 columns, expected 4");
    check_row("1,1029,3.0,1260759179,7", "23: 5 columns, expected 4");
    check_row("1,1029,good,1260759179", "8: rating `good` is not a number");
    check_row("1,1029,NaN,1260759179", "8: rating NaN is not a finite number");
    check_row("1,1029,inf,1260759179", "8: rating inf is not a finite number");
    check_row("1,1029,5.5,1260759179", "8: rating 5.5 is outside 0.5..=5");
    check_row("1,1029,0.0,1260759179", "8: rating 0.0 is outside 0.5..=5");
    check_row("-1,1029,3.0,1260759179", "1: userId -1 is negative");
    check_row("1,4294967296,3.0,1260759179", "3: movieId 4294967296 is larger than 4294967295");
    check_row("1,,3.0,1260759179", "3: movieId is empty");
    check_row("1,tt0113277,3.0,1260759179", "3: movieId `tt0113277` is not a whole number");
    check_row("", "1: the line is empty");
    check_row("1::1029::3.0::1260759179", "25: 1 column, expected 4");
}

#[test]
fn ratings_on_another_scale_are_told_what_to_do() {
    let sandbox = Sandbox::new();
    sandbox.write("r.csv", format!("{HEADER}1,1,9.5,978300760\n"));
    let ran = sandbox.prep("movielens r.csv -o out");
    ran.failed(3, "r.csv:2:5: rating 9.5 is outside 0.5..=5");
    let fix = "correct the row, or set bad rows aside with `--bad-rows quarantine`; bring ratings on another scale to 0.5 to 5 first";
    assert!(ran.stderr.ends_with(&format!("\n  fix: {fix}\n")), "{}", ran.stderr);
    sandbox.write("r.csv", format!("{HEADER}1,1,x,978300760\n"));
    let ran = sandbox.prep("movielens r.csv -o out");
    assert!(ran.stderr.ends_with("aside with `--bad-rows quarantine`\n"), "{}", ran.stderr);
}

#[test]
fn a_click_log_is_told_to_be_one() {
    let sandbox = Sandbox::new();
    sandbox.prep("generate criteo --rows 10 -o train.txt").report();
    for flags in ["", "--format tab", "--bad-rows quarantine"] {
        let ran = sandbox.prep(&format!("movielens train.txt -o out {flags}"));
        ran.failed(3, "train.txt:1:1: 40 columns, expected 4: this looks like a click log");
        assert!(ran.stderr.ends_with("\n  fix: prepare click logs with `prep criteo`\n"), "{}", ran.stderr);
    }
}

#[test]
fn the_first_bad_row_is_told_wherever_it_is() {
    let good = "1234567,1234567,3.5,1260759179\n".repeat(150_000);
    let text = format!("{HEADER}{good}1,2,9,4\n{good}1,2,8,4\n");
    for args in ["--threads 1", "--threads 4"] {
        check("ratings.csv", &text, args, 3, "ratings.csv:150002:5: rating 9 is outside 0.5..=5");
        check("r.gz", gzip(text.as_bytes()), args, 3, "r.gz:150002:5: rating 9 is outside 0.5..=5");
    }
}

#[test]
fn inputs_without_ratings_are_refused() {
    check("ratings.csv", "", "", 3, "ratings.csv: no ratings: it is empty");
    check("ratings.csv.gz", gzip(b""), "", 3, "ratings.csv.gz: no ratings: it is empty");
    check("ratings.csv", HEADER, "", 3, "ratings.csv: no ratings: there is nothing but a header");
    check("ratings.csv", HEADER.trim(), "", 3, "ratings.csv: no ratings: there is nothing but a header");
    check("ratings.csv", "\n\r\n", "", 3, "ratings.csv: no ratings: there is nothing but empty lines");
    let rejected = "ratings.csv: no ratings: all 2 rows were set aside, the first in line 2";
    check("ratings.csv", format!("{HEADER}x,1,2,3\n1,2,3\n"), "--bad-rows quarantine", 3, rejected);
    let held = "ratings.csv: no training rows are left: all 2 rows are held out by `--holdout 0.999999`";
    check("ratings.csv", format!("{HEADER}1,1,2,3\n1,2,3,4\n"), "--holdout 0.999999", 3, held);
    let unknown = "notes.txt:1:1: the first line, `hello`, has no columns separated by a comma, `::` or a tab";
    check("notes.txt", "hello\n", "", 3, unknown);
    let header = "movies.csv:1:1: the header `movieId,title,genres` is not userId, movieId, rating, timestamp";
    check("movies.csv", "movieId,title,genres\n1,Toy Story (1995),Animation\n", "", 3, header);
    check("ratings.csv", "1,2,3,4\n", "--format dat", 3, "ratings.csv:1:8: 1 column, expected 4");
    let long = format!("{HEADER}1,2,3,4\n1,2,3,{}\n", "x".repeat(3 << 20));
    check("ratings.csv", &long, "", 3, "ratings.csv:3:1: the line is longer than 262144 bytes");
    check("r.gz", gzip(long.as_bytes()), "--bad-rows quarantine", 3, "r.gz:3:1: the line is longer than 262144 bytes");
}

#[test]
fn damaged_archives_are_told_with_how_far_they_could_be_read() {
    let csv = generated(60_000);
    let mut gz = gzip(csv.as_bytes());
    gz.truncate(gz.len() * 2 / 3);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&gz[..]).read_to_end(&mut text).unwrap_err();
    let lines = text.iter().filter(|&&b| b == b'\n').count() + 1;
    let message =
        format!("r.csv.gz: the gzip data end too early, after {} bytes of text (in line {lines})", text.len());
    check("r.csv.gz", gz, "", 3, &message);

    let mut zst = zstd(csv.as_bytes());
    zst.truncate(zst.len() - 9);
    let sandbox = Sandbox::new();
    sandbox.write("r.zst", &zst);
    let ran = sandbox.prep("movielens r.zst -o out");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("error: r.zst: the zstd data end too early, after "), "{}", ran.stderr);
    // Past the frame's header, where no kind of block begins like this.
    zst[6..16].fill(0xff);
    sandbox.write("r.zst", &zst);
    let ran = sandbox.prep("movielens r.zst -o out");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("error: r.zst: the zstd data are damaged, after "), "{}", ran.stderr);

    let text = format!("{HEADER}{}", "1,2,3.0,4\n".repeat(200));
    let mut stored = gzip(text.as_bytes());
    let crc = stored.len() - 8;
    stored[crc] ^= 1;
    let message = format!("r.gz: the gzip data are damaged, after {} bytes of text (in line 202)", text.len());
    check("r.gz", stored, "", 3, &message);
}

#[test]
fn damaged_and_useless_zips_are_told() {
    let text = format!("{HEADER}1,2,3.0,4\n");
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("ml-1m/ratings.csv", stored).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    let at = bytes.windows(3).position(|w| w == b"3.0").unwrap();
    bytes[at] = b'4';
    let message = format!(
        "ml-1m.zip/ml-1m/ratings.csv: the zip data are damaged, after {} bytes of text (in line 3)",
        text.len()
    );
    check("ml-1m.zip", &bytes, "", 3, &message);
    bytes.truncate(bytes.len() - 30);
    check("ml-1m.zip", &bytes, "", 3, "ml-1m.zip: the zip data are damaged, after 0 bytes of text (in line 1)");
    let none = "x.zip: holds none of ratings.csv, ratings.dat, u.data";
    check("x.zip", zip(&[("ml-1m/README", b"hello")]), "", 2, none);
    let ran = Sandbox::new().prep_with_input("movielens", &zip(&[("ratings.csv", text.as_bytes())]));
    ran.failed(2, "standard input: a zip archive cannot be read from a pipe");
}

#[test]
fn quarantine_sets_bad_rows_aside() {
    let sandbox = Sandbox::new();
    let text = format!("{HEADER}1,2,9,4\n1,2,3.5,4\n\n1,3,4.5,4\n\"1\",2,3,4\n2,2,1.5,4\n\n");
    sandbox.write("ratings.csv", &text);
    let ran = sandbox.prep("movielens ratings.csv --bad-rows quarantine -o out");
    let report = ran.report();
    assert_eq!(report["rows"], serde_json::json!({"read": 6, "train": 3, "holdout": 0, "rejected": 3}));
    assert!(ran.stderr.contains("3 bad rows set aside in out/gen-"), "{}", ran.stderr);
    let expected = "line,column,reason,row\n\
        2,5,\"rating 9 is outside 0.5..=5\",\"1,2,9,4\"\n\
        4,1,\"the line is empty\",\"\"\n\
        6,1,\"userId `\\\"\"1\\\"\"` is not a whole number\",\"\"\"1\"\",2,3,4\"\n";
    assert_eq!(String::from_utf8_lossy(&sandbox.objects("out")["rejects.csv"]), expected);
    assert_eq!(sandbox.descriptor("out").rejects.unwrap().rows, 3);
    assert_eq!(sandbox.prep("movielens ratings.csv --bad-rows quarantine:3 -o out").report()["unchanged"], true);
    sandbox.prep("movielens ratings.csv -o out").failed(3, "ratings.csv:2:5: rating 9 is outside 0.5..=5");
    let too_many = "ratings.csv:6:1: userId `\\\"1\\\"` is not a whole number, \
        and 2 rows were set aside before it, as many as allowed";
    sandbox.prep("movielens ratings.csv --bad-rows quarantine:2 -o new").failed(3, too_many);
    assert!(!sandbox.path("new").exists());
}

#[test]
fn too_large_a_quarantine_is_refused() {
    let sandbox = Sandbox::new();
    // Ten lines of the largest length make more than the limit only after a while, so that the text stays small when packed.
    let line = format!("{}\n", "x".repeat(200_000));
    let text = format!("1,2,3,4\n{}", line.repeat(1_400));
    sandbox.write("r.zst", zstd(text.as_bytes()));
    let ran = sandbox.prep("movielens r.zst --bad-rows quarantine -o out");
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("the rows set aside up to here take more than 268435456 bytes"), "{}", ran.stderr);
}

#[test]
fn wrong_usage_is_told_with_the_rule() {
    let sandbox = Sandbox::new();
    sandbox.write("ratings.csv", format!("{HEADER}1,2,3.0,4\n"));
    sandbox.write("empty/x", "");
    for (args, message) in [
        ("movielens", "no input: no INPUT is given, and standard input is neither a pipe nor a file"),
        ("movielens nowhere.csv", "nowhere.csv: not found"),
        ("movielens empty", "empty: holds none of ratings.csv, ratings.dat, u.data"),
        ("movielens ratings.csv --holdout 1", "--holdout: 1 is not between 0 and 1"),
        ("movielens ratings.csv --holdout 0", "--holdout: 0 is not between 0 and 1"),
        ("movielens ratings.csv --holdout NaN", "--holdout: NaN is not between 0 and 1"),
        ("movielens ratings.csv --threads 0", "--threads: 0 is not in 1..=1024"),
        ("movielens ratings.csv --bad-rows drop", "--bad-rows: `drop` is none of `fail`, `quarantine`, `quarantine:N`"),
        (
            "movielens ratings.csv --bad-rows quarantine:x",
            "--bad-rows: `quarantine:x` is none of `fail`, `quarantine`, `quarantine:N`",
        ),
        (
            "movielens ratings.csv --name a/b",
            "--name: `a/b` is not made of letters, digits, `-`, `_` and `.`, or begins with `.`",
        ),
        ("movielens ratings.csv -o ftp://x/y", "`ftp://x/y` is not a place: `ftp://` is not supported"),
        (
            "generate movielens --ratings 5 --users 6 --movies 7",
            "--ratings: 5 is less than --users, 6, and every user has at least one rating",
        ),
        (
            "generate movielens --ratings 43 --users 6 --movies 7",
            "--ratings: 43 is more than --users times --movies, 42, and no pair is rated twice",
        ),
        ("generate movielens --users 0", "--users: 0 is not in 1..=100000000"),
        ("generate criteo --rows 0", "--rows: 0 is not in 1..=10000000000"),
        ("generate criteo --rows 10000000001", "--rows: 10000000001 is not in 1..=10000000000"),
        ("generate criteo --threads 0", "--threads: 0 is not in 1..=1024"),
    ] {
        sandbox.prep(args).failed(2, message);
    }
}

#[test]
fn places_that_cannot_be_written_are_told() {
    let sandbox = Sandbox::new();
    sandbox.write("ratings.csv", format!("{HEADER}1,2,3.0,4\n"));
    let ran = sandbox.prep("movielens ratings.csv -o ratings.csv/out");
    ran.failed(2, "`ratings.csv/out/dataset.json` is not a place: a file is where a folder should be");
    sandbox.prep("movielens ratings.csv/x -o out").failed(4, "ratings.csv/x: could not be read");
    let ran = sandbox.prep("movielens ratings.csv -o out --temp-dir nowhere");
    ran.failed(4, "nowhere: could not write temporary data");
    assert!(!sandbox.path("out").exists());
    let ran = sandbox.prep("generate movielens -o nowhere/ratings.csv");
    ran.failed(4, "nowhere/ratings.csv: could not be written");
}

/// Needs the right to mount; a namespace of its own keeps the mount from everybody else.
#[test]
fn a_disk_that_fills_up_leaves_no_dataset() {
    let sandbox = Sandbox::new();
    sandbox.write("ratings.csv", generated(60_000));
    std::fs::create_dir(sandbox.path("disk")).unwrap();
    let small_disk = |line: &str| {
        let mount = "mount -t tmpfs -o size=200k tmpfs disk || exit 99";
        let script = format!("{mount}; {line}; code=$?; find disk -type f >&2; exit $code");
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script]).current_dir(sandbox.path(".")).stdin(Stdio::null());
        command.output()
    };
    let prep = crate::sandbox::PREP;
    for (args, message) in [
        ("movielens ratings.csv -o disk/out", "no space left to write"),
        (
            "movielens ratings.csv -o out --temp-dir disk",
            "error: disk: has 204800 bytes free, and temporary data will take about ",
        ),
        ("generate movielens -o disk/ratings.csv", "error: disk/ratings.csv: could not be written"),
        ("generate criteo -o disk/clicks.tsv", "error: disk/clicks.tsv: could not be written"),
    ] {
        let ran = match small_disk(&format!("{prep} {args}")) {
            Ok(ran) if ran.status.code() != Some(99) => ran,
            _ => {
                println!("skipped: no right to mount a small disk");
                return;
            }
        };
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(75), "{args}: {stderr}");
        assert!(stderr.contains(message), "{args}: {stderr}");
        assert!(!stderr.lines().any(|line| line.starts_with("disk/")), "{args} leaves something: {stderr}");
        assert!(!sandbox.path("out").exists());
    }
}

fn terminate(child: Child) -> (Option<i32>, String) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_signal_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("movielens -o out --temp-dir .");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than pipe and read-ahead hold, so that work has begun once this is written. The pipe stays open.
    input.write_all(HEADER.as_bytes()).unwrap();
    input.write_all("1,2,3.0,4\n".repeat(2_000_000).as_bytes()).unwrap();
    let (code, stderr) = terminate(child);
    drop(input);
    assert_eq!(code, Some(143), "{stderr}");
    assert!(stderr.contains("error: terminated"), "{stderr}");
    assert!(sandbox.files(".").is_empty());

    let args = "generate movielens --ratings 100000000 --users 1000000 -o ratings.csv";
    let child = sandbox.command(args).stderr(Stdio::piped()).spawn().unwrap();
    while sandbox.files(".").values().all(Vec::is_empty) {
        std::thread::yield_now();
    }
    let (code, stderr) = terminate(child);
    assert_eq!(code, Some(143), "{stderr}");
    assert!(sandbox.files(".").is_empty());
}

#[test]
fn a_bad_row_is_told_though_the_pipe_stays_open() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("movielens -o out");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all("1,2,9,4\n".repeat(1_000_000).as_bytes());
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input:1:5: rating 9 is outside 0.5..=5"));
}
