//! `prep criteo`: formats, datasets, the same bytes however the text comes, and bad input.

use std::collections::BTreeMap;

use manifests::clicks::{ClickRows, Form, MISSING_BUCKET, decode};
use manifests::load;
use manifests::place::Place;
use random::Stream;
use schemas::clicks::{Dense, Sparse};
use schemas::dataset::{Descriptor, Layout, Object};

use crate::sandbox::{Ran, Sandbox, gzip, zip, zstd};

/// Rows of the real shape, separated by `separator`: numbers with heavy tails, tokens of which few are frequent, gaps.
pub(crate) fn rows(count: u64, separator: &str) -> Vec<String> {
    let mut stream = Stream::new(3, "test");
    let row = |_| {
        let mut fields = vec![if stream.below(4) == 0 { "1".to_owned() } else { "0".to_owned() }];
        for column in 0..13 {
            let bits = stream.below(4 + 2 * column);
            let number = stream.below(1 << bits) as i64 - i64::from(column == 1) * 3;
            fields.push(if stream.below(5) == 0 { String::new() } else { number.to_string() });
        }
        for column in 0..26 {
            let bits = stream.below(1 + column);
            let token = random::mix(stream.below(1 << bits)) >> 32;
            fields.push(if stream.below(4) == 0 { String::new() } else { format!("{token:08x}") });
        }
        fields.join(separator)
    };
    (0..count).map(row).collect()
}

pub(crate) fn text(count: u64) -> String {
    rows(count, "\t").join("\n") + "\n"
}

fn header(names: &[&str]) -> String {
    let names = names.iter().map(|name| (*name).to_owned());
    let numbers = (1..=13).map(|i| format!("I{i}")).chain((1..=26).map(|i| format!("C{i}")));
    names.chain(numbers).collect::<Vec<_>>().join(",")
}

fn sparse(descriptor: &Descriptor) -> &Sparse {
    let Layout::Sparse(sparse) = &descriptor.layout else { panic!("{:?}", descriptor.layout) };
    sparse
}

fn dense(descriptor: &Descriptor) -> &Dense {
    let Layout::Dense(dense) = &descriptor.layout else { panic!("{:?}", descriptor.layout) };
    dense
}

/// All rows of `parts`, one after the other.
pub(crate) fn read(sandbox: &Sandbox, name: &str, descriptor: &Descriptor, parts: &[Object]) -> ClickRows {
    let place = Place::parse(sandbox.path(name).to_str().unwrap()).unwrap();
    let form = Form::of(&descriptor.layout).unwrap();
    let (mut all, mut rows) = (ClickRows::default(), ClickRows::default());
    for part in parts {
        decode(form, load::object(&place, part, "the descriptor").unwrap(), &mut rows).unwrap();
        assert_eq!(rows.len as u64, part.rows);
        all.len += rows.len;
        all.labels.extend(&rows.labels);
        all.numbers.iter_mut().zip(&rows.numbers).for_each(|(all, column)| all.extend(column));
        all.buckets.iter_mut().zip(&rows.buckets).for_each(|(all, column)| all.extend(column));
    }
    all
}

#[test]
fn every_way_to_write_the_rows_gives_the_same_values() {
    let sandbox = Sandbox::new();
    let lines = rows(500, "\t");
    let tsv = lines.join("\n") + "\n";
    let comma = |line: &String| line.replace('\t', ",");
    let with_id: Vec<String> =
        (0..).zip(&lines).map(|(i, line)| format!("{},{}", 10_000_000 + i, comma(line))).collect();
    let csv = format!("{}\r\n{}\r\n", header(&["Id", "Label"]), with_id.join("\r\n"));
    let no_id: Vec<String> = lines.iter().map(comma).collect();
    let ways: [(&str, Vec<u8>); 10] = [
        ("train.txt", tsv.clone().into_bytes()),
        ("train.txt.gz", gzip(tsv.as_bytes())),
        ("train.txt.zst", zstd(tsv.as_bytes())),
        ("no-name-for-compression", gzip(tsv.as_bytes())),
        ("dac.zip", zip(&[("dac/readme.txt", b"read me"), ("dac/train.txt", tsv.as_bytes())])),
        ("windows.txt", tsv.replace('\n', "\r\n").into_bytes()),
        ("no-end.txt", tsv.trim_end_matches('\n').as_bytes().to_vec()),
        ("blank-end.txt", format!("\u{feff}{tsv}\n\n").into_bytes()),
        ("train.csv", csv.into_bytes()),
        ("mine.csv", format!("{}\n{}\n", header(&["label"]), no_id.join("\n")).into_bytes()),
    ];
    let mut expected: Option<BTreeMap<String, Vec<u8>>> = None;
    let mut same = |name: &str, found: BTreeMap<String, Vec<u8>>| {
        assert!(!found.is_empty());
        assert_eq!(*expected.get_or_insert_with(|| found.clone()), found, "{name}");
    };
    for (name, bytes) in &ways {
        sandbox.write(name, bytes);
        let report = sandbox.prep(&format!("criteo {name} -o out-{name} --hash-buckets 500 --holdout 0.2")).report();
        assert_eq!((&report["kind"], &report["rows"]["read"]), (&"sparse".into(), &500.into()), "{name}");
        same(name, sandbox.objects(&format!("out-{name}")));
    }
    let ran = sandbox.prep_with_input("criteo -o piped --hash-buckets 500 --holdout 0.2", &gzip(tsv.as_bytes()));
    assert_eq!(ran.report()["unchanged"], false);
    same("a pipe", sandbox.objects("piped"));
    // Several files are one dataset; their names are sorted by the numbers in them.
    for (i, part) in lines.chunks(40).enumerate() {
        sandbox.write(&format!("days/day_{i}"), part.join("\n"));
    }
    for (i, named) in ["days", "days/day_*", "days/day_? days/day_1?"].into_iter().enumerate() {
        sandbox.prep(&format!("criteo {named} -o days-{i} --hash-buckets 500 --holdout 0.2")).report();
        same(named, sandbox.objects(&format!("days-{i}")));
    }
    let source = sandbox.descriptor("days-0").source;
    assert_eq!((source.name.as_str(), source.files.len(), source.files[9].name.as_str()), ("day_0", 13, "day_9"));
    assert_eq!(source.bytes, source.files.iter().map(|file| file.bytes).sum::<u64>());
    assert_eq!(sandbox.descriptor("out-train.txt").source.files, []);
    assert_eq!(sandbox.descriptor("out-train.txt").source.format, "criteo-tsv");
    assert_eq!(sandbox.descriptor("out-train.csv").source.format, "criteo-csv");
}

#[test]
fn bytes_do_not_depend_on_threads_or_packaging() {
    // More than one chunk of rows and many blocks of text, with bad rows and blank lines in between.
    let mut lines = rows(140_000, "\t");
    lines[77] = "broken".to_owned();
    lines[100_000] = String::new();
    lines[139_000] = "2".to_owned() + &lines[139_000][1..];
    let text = lines.join("\n");
    let sandbox = Sandbox::new();
    sandbox.write("plain", &text);
    sandbox.write("packed", zstd(text.as_bytes()));
    for features in ["sparse", "dense"] {
        let mut expected = None;
        for (input, threads) in [("plain", 1), ("plain", 2), ("plain", 7), ("packed", 1), ("packed", 7)] {
            let out = format!("{features}-{input}-{threads}");
            let flags = format!("--features {features} --holdout 0.3 --bad-rows quarantine --name same");
            let ran = sandbox.prep(&format!("criteo {input} -o {out} --threads {threads} {flags}"));
            let rows = ran.report()["rows"].clone();
            assert_eq!((&rows["read"], &rows["rejected"]), (&140_000.into(), &3.into()));
            let objects = sandbox.objects(&out);
            assert_eq!(objects.keys().filter(|name| name.starts_with("train-")).count(), 2);
            assert_eq!(*expected.get_or_insert_with(|| objects.clone()), objects, "{out}");
            let rejects = String::from_utf8(objects["rejects.csv"].clone()).unwrap();
            let places: Vec<&str> = rejects.lines().skip(1).map(|line| line.split(",\"").next().unwrap()).collect();
            assert_eq!(places, ["78,1", "100001,1", "139001,1"]);
        }
    }
}

#[test]
fn a_held_out_row_is_held_out_by_its_number_in_the_source() {
    let sandbox = Sandbox::new();
    let mut lines = rows(3000, "\t");
    sandbox.write("whole", lines.join("\n"));
    lines[7] = "bad".to_owned();
    sandbox.write("damaged", lines.join("\n"));
    sandbox.prep("criteo whole -o a --holdout 0.3 --seed 5").report();
    sandbox.prep("criteo damaged -o b --holdout 0.3 --seed 5 --bad-rows quarantine:1").report();
    let stream = Stream::new(5, "holdout");
    let held_out = |row: u64| (stream.word(row) as f64) < 0.3 * 2f64.powi(64);
    let expected: Vec<u64> = (0..3000).filter(|&row| held_out(row)).collect();
    let (a, b) = (sandbox.descriptor("a"), sandbox.descriptor("b"));
    assert_eq!(a.rows.holdout, expected.len() as u64);
    assert!(!held_out(7));
    assert_eq!((b.rows.holdout, b.rows.train, b.rows.rejected), (a.rows.holdout, a.rows.train - 1, 1));
    // The held-out rows are the same ones: their labels and buckets are equal (their scaling may not be).
    let (a, b) = (read(&sandbox, "a", &a, &a.holdout_parts), read(&sandbox, "b", &b, &b.holdout_parts));
    assert_eq!((a.labels.len(), &a.labels), (expected.len(), &b.labels));
    assert_eq!(a.buckets, b.buckets);
    let clicks: Vec<bool> = expected.iter().map(|&row| lines[row as usize].starts_with('1')).collect();
    assert_eq!(a.labels.iter().map(|&label| label == 1.0).collect::<Vec<_>>(), clicks);
}

#[test]
fn no_value_is_lost_even_where_every_bucket_collides() {
    let sandbox = Sandbox::new();
    let text = text(2000);
    sandbox.write("in", &text);
    let fields = |line: &str| line.split('\t').skip(1).filter(|field| !field.is_empty()).count() as u64;
    let entries: u64 = text.lines().map(fields).sum();
    for buckets in [1, 7, 1_000_000, 4_294_967_282u32] {
        sandbox.prep(&format!("criteo in -o out --hash-buckets {buckets} --replace")).report();
        let descriptor = sandbox.descriptor("out");
        let layout = sparse(&descriptor);
        let rows = read(&sandbox, "out", &descriptor, &descriptor.parts);
        let there = rows.numbers.iter().flatten().filter(|x| !x.is_nan()).count()
            + rows.buckets.iter().flatten().filter(|&&b| b != MISSING_BUCKET).count();
        assert_eq!((there as u64, layout.entries), (entries, entries), "{buckets}");
        assert_eq!(layout.n_features, 13 + buckets);
        // The scale of a bucket is the most hits in one row, and it is kept where it is more than 1.
        let mut most: BTreeMap<u32, u32> = BTreeMap::new();
        for row in 0..rows.len {
            let mut hits: BTreeMap<u32, u32> = BTreeMap::new();
            for column in &rows.buckets {
                if column[row] != MISSING_BUCKET {
                    *hits.entry(column[row]).or_default() += 1;
                }
            }
            hits.into_iter().for_each(|(bucket, hits)| {
                let most = most.entry(bucket).or_default();
                *most = hits.max(*most);
            });
        }
        most.retain(|_, hits| *hits > 1);
        let place = Place::parse(sandbox.path("out").to_str().unwrap()).unwrap();
        let scales = match &layout.scales {
            Some(table) => manifests::scales::decode(buckets, load::object(&place, table, "d").unwrap()).unwrap(),
            None => Vec::new(),
        };
        assert_eq!(scales, most.into_iter().collect::<Vec<_>>(), "{buckets}");
    }
}

#[test]
fn rows_to_predict_are_scaled_like_those_of_the_training() {
    let sandbox = Sandbox::new();
    let lines = rows(1000, "\t");
    let unlabelled: Vec<&str> = lines.iter().map(|line| &line[2..]).collect();
    sandbox.write("train.txt", lines.join("\n"));
    sandbox.write("test.txt", unlabelled[..100].join("\n"));
    for features in ["sparse", "dense"] {
        let flags = format!("--features {features} --hash-buckets 300");
        sandbox.prep(&format!("criteo train.txt -o train-{features} {flags}")).report();
        let ran = sandbox.prep(&format!("criteo test.txt -o test-{features} --like train-{features} {flags}"));
        assert_eq!(ran.report()["rows"]["train"], 100);
        assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
        let (train, test) = (format!("train-{features}"), format!("test-{features}"));
        let (of_train, of_test) = (sandbox.descriptor(&train), sandbox.descriptor(&test));
        let (a, b) =
            (read(&sandbox, &train, &of_train, &of_train.parts), read(&sandbox, &test, &of_test, &of_test.parts));
        assert_eq!((b.len, b.labels.len()), (100, 0));
        for (a, b) in a.numbers.iter().zip(&b.numbers) {
            let bits = |column: &[f32]| column.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&a[..100]), bits(b));
        }
        if features == "sparse" {
            a.buckets.iter().zip(&b.buckets).for_each(|(a, b)| assert_eq!(a[..100], b[..]));
            assert_eq!(
                sparse(&of_test).scales.as_ref().unwrap().digest,
                sparse(&of_train).scales.as_ref().unwrap().digest
            );
            assert!(sparse(&of_test).fitted_on.is_some() && sparse(&of_test).labels.is_none());
        } else {
            assert!(dense(&of_test).fitted_on.is_some() && dense(&of_test).labels.is_none());
        }
    }
    let ran = sandbox.prep("criteo test.txt -o own");
    ran.report();
    assert!(ran.stderr.contains("warning: these rows have no labels"), "{}", ran.stderr);
    let other = "criteo test.txt -o x --like train-sparse --features";
    let place = "train-sparse/dataset.json: its statistics are of sparse rows with 300 buckets, not of";
    sandbox.prep(&format!("{other} sparse")).failed(2, &format!("{place} sparse rows with 1000000 buckets"));
    sandbox.prep(&format!("{other} dense")).failed(2, &format!("{place} dense rows"));
    let ran = sandbox.prep("criteo test.txt -o x --like absent");
    ran.failed(2, "absent/dataset.json: not found");
}

#[test]
fn the_same_again_is_verified_and_another_is_refused() {
    let sandbox = Sandbox::new();
    let text = text(300);
    sandbox.write("in", &text);
    let again = |flags: &str| sandbox.prep(&format!("criteo in -o out {flags}"));
    assert_eq!(again("").report()["unchanged"], false);
    let before = sandbox.files("out");
    let ran = again("");
    assert_eq!((&ran.report()["unchanged"], &ran.report()["bytes_written"]), (&true.into(), &0.into()));
    let piped = sandbox.prep_with_input("criteo -o out", text.as_bytes());
    assert_eq!(piped.report()["unchanged"], true);
    sandbox.prep("criteo in -o other").report();
    let differences = [
        (
            "--hash-buckets 999",
            "its content is sparse rows with 1000000 buckets, this one's sparse rows with 999 buckets",
        ),
        ("--features dense", "its content is sparse rows with 1000000 buckets, this one's dense rows"),
        ("--holdout 0.1", "its holdout is none, this one's 0.1 (seed 8)"),
        ("--name b", "its name is criteo, this one's b"),
        ("--like other", "its --like is none, this one's xxh3-128:"),
        ("--where I1>1", "its --where is none, this one's I1 > 1"),
    ];
    let others = ["--hash-buckets 999", "--features dense", "--holdout 0.1", "--name b", "--like other"];
    for (flags, difference) in differences {
        again(flags).failed_as(5, &format!("out/dataset.json: already exists and differs: {difference}"));
        assert_eq!(sandbox.files("out"), before, "{flags}");
    }
    for flags in others {
        assert_eq!(again(&format!("{flags} --replace")).report()["unchanged"], false, "{flags}");
        assert_eq!(again(flags).report()["unchanged"], true, "{flags}");
    }
    sandbox.write("in", text.replacen("\n0", "\n1", 1));
    again("--replace").report();
    let part = sandbox.files("out").into_keys().find(|name| name.contains("train-")).unwrap();
    std::fs::write(sandbox.path(&format!("out/{part}")), "x").unwrap();
    let ran = again("");
    ran.failed(5, "out/dataset.json: already exists and differs: a file of it is missing or damaged");
    assert!(ran.stderr.contains("warning: out/gen-"), "{}", ran.stderr);
}

/// Runs `prep criteo` on the file `input`, which must fail and leave nothing.
#[track_caller]
fn check(input: &str, bytes: impl AsRef<[u8]>, args: &str, message: &str) -> Ran {
    let sandbox = Sandbox::new();
    sandbox.write(input, bytes);
    let ran = sandbox.prep(&format!("criteo {input} -o out --temp-dir . {args}"));
    ran.failed(3, message);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    let left: Vec<String> = sandbox.files(".").into_keys().collect();
    assert_eq!(left, [input], "something is left behind");
    ran
}

/// A bad row in the third line of a file of good ones, as the field number `field` with this `value`.
#[track_caller]
fn check_field(field: usize, value: &str, message: &str) {
    let lines = rows(5, "\t");
    let mut fields: Vec<&str> = lines[2].split('\t').collect();
    fields[field] = value;
    let column = fields[..field].iter().map(|f| f.len() + 1).sum::<usize>() + 1;
    let text = [&lines[0], &lines[1], &fields.join("\t"), &lines[3]].map(String::as_str).join("\n");
    let message = format!("train.txt:3:{column}: {message}");
    check("train.txt", &text, "", &message);
    check("train.txt", text.replace('\n', "\r\n"), "", &message);
    let sandbox = Sandbox::new();
    sandbox.write("train.txt", &text);
    let rows = sandbox.prep("criteo train.txt -o out --bad-rows quarantine:1").report()["rows"].clone();
    assert_eq!((&rows["train"], &rows["rejected"]), (&3.into(), &1.into()));
    let rejects = String::from_utf8(sandbox.objects("out")["rejects.csv"].clone()).unwrap();
    assert!(rejects.starts_with(&format!("line,column,reason,row\n3,{column},")), "{rejects}");
}

#[test]
fn bad_rows_are_told_with_place_value_and_rule() {
    const DECIMAL: &str = "is a decimal number, expected an integer; the file seems to have been written anew by a tool that \
                           turns columns with missing values into floats (`--format csv` reads such csv files)";
    check_field(3, "12x", "I3 `12x` is not an integer");
    check_field(3, "0x1f", "I3 `0x1f` is not an integer");
    check_field(1, "9223372036854775808", "I1 `9223372036854775808` does not fit 64 bits");
    check_field(13, "260.0", &format!("I13 `260.0` {DECIMAL}"));
    check_field(2, "1e5", &format!("I2 `1e5` {DECIMAL}"));
    check_field(2, "1\0", "I2 `1\\0` is not an integer");
    check_field(2, " 5", "I2 ` 5` is not an integer");
    check_field(0, "2", "the label `2` is neither 0 nor 1");
    check_field(0, "1.0", "the label `1.0` is neither 0 nor 1");
    check_field(0, "", "the label is empty, expected 0 or 1");
    let lines = rows(3, "\t");
    let short = lines[1].rsplitn(4, '\t').last().unwrap();
    let expected = "expected 40: label, I1 to I13, C1 to C26";
    check("t", format!("{}\n{short}\n{}\n", lines[0], lines[2]), "", &format!("t:2:1: 37 fields, {expected}"));
    check("t", format!("{}\n{}\tx\n", lines[0], lines[1]), "", &format!("t:2:1: 41 fields, {expected}"));
    check("t", format!("{}\n\n{}\n", lines[0], lines[1]), "", "t:2:1: the line is empty");
    check("t", format!("{}\n{}\n", lines[0], "x".repeat(10 << 20)), "", "t:2:1: the line is longer than 262144 bytes");
    let quoted = format!("{}\n10,0,\"5\"{}\n", header(&["Id", "Label"]), ",".repeat(38));
    check("t.csv", quoted, "", "t.csv:2:6: the field `\\\"5\\\"` is in quotes, which Kaggle's csv files do not have");
    let mut invalid = text(3).into_bytes();
    invalid.splice(2..2, *b"\xff\xfe");
    check("t", invalid, "", "t:1:3: I1 `\u{fffd}\u{fffd}1` is not an integer");
}

#[test]
fn any_bytes_are_a_token() {
    let sandbox = Sandbox::new();
    let mut text = Vec::new();
    for token in [
        &b"UPPERCASE"[..],
        b"not hex",
        b"\xff\xfe\x80",
        b"\0",
        b"68fd1e64\0",
        &[b'x'; 5000],
        b"\"quoted\"",
        b"\xe4\xb8\xad",
    ] {
        text.extend_from_slice(b"0\t1");
        text.extend_from_slice(&[b'\t'; 13]);
        text.extend_from_slice(token);
        text.extend_from_slice(&[b'\t'; 25]);
        text.push(b'\n');
    }
    sandbox.write("in", &text);
    sandbox.prep("criteo in -o out").report();
    let descriptor = sandbox.descriptor("out");
    let rows = read(&sandbox, "out", &descriptor, &descriptor.parts);
    // xxhash.xxh3_64_intdigest(token, seed=1) % 1000000 of the Python package xxhash 4.1.0.
    assert_eq!(rows.buckets[0], [588_157, 587_286, 714_206, 8432, 484_104, 594_694, 361_710, 949_865]);
}

#[test]
fn inputs_that_are_no_click_logs_are_refused() {
    check("t", "", "", "t: no rows: it is empty");
    check("t.gz", gzip(b""), "", "t.gz: no rows: it is empty");
    check("t", "\n\r\n", "", "t: no rows: there is nothing but empty lines");
    let header = header(&["Id", "Label"]);
    check("t.csv", &header, "", "t.csv: no rows: there is nothing but a header");
    let swapped = header.replace("I1,I2", "I2,J1");
    let shown: String = swapped.chars().take(60).collect();
    let expected = format!("t.csv:1:1: the header `{shown}...` is not [Id], [Label], I1 to I13, C1 to C26");
    check("t.csv", swapped, "", &expected);
    check(
        "r.csv",
        "1,2,3.5,4\n",
        "",
        "r.csv:1:1: the first line, `1,2,3.5,4`, has 4 fields, not 40 or 39: this looks like ratings",
    );
    check("r.csv", "1,2,x,4\n", "", "r.csv:1:1: the first line, `1,2,x,4`, has 4 fields, not 40 or 39");
    let header = "the header `userId,movieId,rating,timestamp` is not [Id], [Label], I1 to I13, C1 to C26";
    check("h.csv", "userId,movieId,rating,timestamp\n", "", &format!("h.csv:1:1: {header}: this looks like ratings"));
    for (ratings, separator) in [("1::2::3::4", "::"), ("1\t2\t3.5\t4", "\t")] {
        let sandbox = Sandbox::new();
        sandbox.write("ratings", ratings);
        let ran = sandbox.prep("criteo ratings -o out");
        ran.failed_as(3, "ratings:1:1: the first line, `");
        assert!(
            ran.stderr.contains(": this looks like ratings\n  fix: prepare ratings with `prep movielens`\n"),
            "{separator}"
        );
    }
    let bad = text(3).replace("\n0", "\n7").replace("\n1", "\n7");
    let bad = format!("7{}", &bad[1..]);
    check("t", bad, "--bad-rows quarantine", "t: no rows: all 3 rows were set aside, the first in line 1");
    let message = "t: no training rows are left: all 2 rows are held out by `--holdout 0.999999`";
    check("t", text(2), "--holdout 0.999999", message);
    let mut gz = gzip(text(20_000).as_bytes());
    gz.truncate(gz.len() / 2);
    let sandbox = Sandbox::new();
    sandbox.write("t.gz", &gz);
    let ran = sandbox.prep("criteo t.gz -o out");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("error: t.gz: the gzip data end too early, after "), "{}", ran.stderr);
    assert!(sandbox.files("out").is_empty());
}

#[test]
fn several_files_must_have_the_same_columns() {
    let sandbox = Sandbox::new();
    let lines = rows(10, "\t");
    sandbox.write("a", lines.join("\n"));
    sandbox.write("b", lines.iter().map(|line| &line[2..]).collect::<Vec<_>>().join("\n"));
    let message = "b: its rows are I1 to I13, C1 to C26, separated by tabs, those of `a` label, I1 to I13, C1 to C26, separated by tabs";
    sandbox.prep("criteo a b -o out").failed(3, message);
    sandbox.prep("criteo a absent -o out").failed(2, "absent: not found");
    sandbox.prep("criteo day_* -o out").failed(2, "day_*: no file matches");
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    sandbox.prep("criteo empty -o out").failed(2, "empty: the folder holds no files");
    assert!(sandbox.files("out").is_empty());
    // Bad rows are told with the file and its own line.
    sandbox.write("c", format!("{}\nbroken\n", lines[0]));
    let expected = "c:2:1: 1 field, expected 40: label, I1 to I13, C1 to C26";
    sandbox.prep("criteo a c a -o out").failed(3, expected);
    let rows = sandbox.prep("criteo a c a -o out --bad-rows quarantine").report()["rows"].clone();
    assert_eq!((&rows["train"], &rows["rejected"]), (&21.into(), &1.into()));
    let rejects = String::from_utf8(sandbox.objects("out")["rejects.csv"].clone()).unwrap();
    assert!(rejects.starts_with("file,line,column,reason,row\n\"c\",2,1,\"1 field,"), "{rejects}");
}

#[test]
fn wrong_settings_are_usage_errors() {
    let sandbox = Sandbox::new();
    sandbox.write("in", text(3));
    let range = "is not in 1..=4294967282";
    sandbox.prep("criteo in --hash-buckets 0").failed(2, &format!("--hash-buckets: 0 {range}"));
    sandbox.prep("criteo in --hash-buckets 4294967295").failed(2, &format!("--hash-buckets: 4294967295 {range}"));
    sandbox.prep("criteo in --holdout 1").failed(2, "--holdout: 1 is not between 0 and 1");
    let no_input = "no input: no INPUT is given, and standard input is neither a pipe nor a file";
    let ran = sandbox.prep("criteo");
    ran.failed(2, no_input);
    assert!(ran.stderr.contains("`zcat train.txt.gz | prep criteo`"), "{}", ran.stderr);
    sandbox.prep("criteo in --temp-dir nowhere").failed(4, "nowhere: could not write temporary data");
}
