//! `prep criteo --where`, and tables of other engines as inputs.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};

use crate::criteo::{read, rows};
use crate::sandbox::{Sandbox, gzip};

/// A name, a condition, and whether it holds for the fields of a row.
type Case<'a> = (&'a str, String, &'a dyn Fn(&[&str]) -> bool);

/// The rows of `lines` for which `keep` holds, given their fields.
fn kept(lines: &[String], keep: impl Fn(&[&str]) -> bool) -> Vec<String> {
    lines.iter().filter(|line| keep(&line.split('\t').collect::<Vec<_>>())).cloned().collect()
}

/// What `prep criteo` makes of `lines`, as objects by name.
fn objects_of(sandbox: &Sandbox, name: &str, lines: &[String], flags: &str) -> Vec<Vec<u8>> {
    sandbox.write(name, lines.join("\n"));
    sandbox.prep(&format!("criteo {name} -o out-{name} {flags}")).report();
    sandbox.objects(&format!("out-{name}")).into_values().collect()
}

#[test]
fn a_condition_keeps_the_rows_that_meet_it_in_their_order() {
    let sandbox = Sandbox::new();
    let lines = rows(20_000, "\t");
    sandbox.write("in", lines.join("\n"));
    sandbox.write("in.gz", gzip(lines.join("\n").as_bytes()));
    let number = |field: &str| field.parse::<i64>().ok();
    let token = lines.iter().find_map(|line| line.split('\t').nth(14).filter(|token| !token.is_empty())).unwrap();
    let conditions: [Case<'_>; 4] = [
        ("a", "label = 1 and i2 >= 0".to_owned(), &|f| f[0] == "1" && number(f[2]).is_some_and(|x| x >= 0)),
        ("b", "I2 <> 5".to_owned(), &|f| number(f[2]).is_some_and(|x| x != 5)),
        ("c", format!("C1 = '{token}' OR C26 IS NULL"), &|f| f[14] == token || f[39].is_empty()),
        ("d", "true".to_owned(), &|_| true),
    ];
    for (name, condition, keep) in conditions {
        let expected = kept(&lines, keep);
        let wanted = objects_of(&sandbox, name, &expected, "--hash-buckets 999");
        for input in ["in", "in.gz"] {
            for threads in [1, 5] {
                let out = format!("{name}-{input}-{threads}");
                let line = format!(
                    "prep criteo {input} -o {out} --hash-buckets 999 --threads {threads} --where \"{condition}\""
                );
                let report = sandbox.shell(&line).report();
                assert_eq!(report["rows"]["train"], expected.len(), "{condition}");
                assert_eq!(report["rows"]["filtered"].as_u64().unwrap_or(0), (20_000 - expected.len()) as u64);
                assert_eq!(sandbox.objects(&out).into_values().collect::<Vec<_>>(), wanted, "{condition}");
                assert_eq!(sandbox.shell(&line).report()["unchanged"], true);
            }
        }
    }
    let line = "cat in | prep criteo -o piped --hash-buckets 999 --where 'LABEL = 1 AND I2 >= 0'";
    assert_eq!(sandbox.shell(line).report()["unchanged"], false);
    assert_eq!(sandbox.objects("piped"), sandbox.objects("a-in-1"));
    assert_eq!(sandbox.descriptor("piped").filter.unwrap(), "label = 1 AND I2 >= 0");
    let difference = "its --where is label = 1 AND I2 >= 0, this one's label = 1 AND I2 < 0";
    sandbox
        .shell(&line.replace(">=", "<"))
        .failed(5, &format!("piped/dataset.json: already exists and differs: {difference}"));
}

#[test]
fn rows_keep_their_numbers_under_a_condition() {
    let sandbox = Sandbox::new();
    let mut lines = rows(9000, "\t");
    lines[4] = "bad".to_owned();
    sandbox.write("in", lines.join("\n"));
    let flags = "--holdout 0.3 --bad-rows quarantine";
    sandbox.prep(&format!("criteo in -o all {flags}")).report();
    sandbox.shell(&format!("prep criteo in -o some {flags} --where 'label = 1'")).report();
    let (all, some) = (sandbox.descriptor("all"), sandbox.descriptor("some"));
    assert_eq!((all.rows.rejected, some.rows.rejected, some.rows.read), (1, 1, 9000));
    let (all, some) =
        (read(&sandbox, "all", &all, &all.holdout_parts), read(&sandbox, "some", &some, &some.holdout_parts));
    let clicks: Vec<usize> = (0..all.len).filter(|&row| all.labels[row] == 1.0).collect();
    assert_eq!(some.len, clicks.len());
    for (all, some) in all.buckets.iter().zip(&some.buckets) {
        assert!(clicks.iter().map(|&row| all[row]).eq(some.iter().copied()));
    }
}

#[test]
fn wrong_conditions_are_told_before_anything_is_written() {
    let sandbox = Sandbox::new();
    let lines = rows(20, "\t");
    sandbox.write("in", lines.join("\n"));
    sandbox.write("test", lines.iter().map(|line| &line[2..]).collect::<Vec<_>>().join("\n"));
    let run =
        |input: &str, condition: &str| sandbox.shell(&format!("prep criteo {input} -o out --where \"{condition}\""));
    let ran = run("in", "clicks = 1");
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("there is no column `clicks`, only row, label, I1 to I13, C1 to C26"),
        "{}",
        ran.stderr
    );
    let ran = run("in", "label = ");
    assert!(
        ran.code == Some(2) && ran.stderr.contains("error: the condition `label = `, column 9: "),
        "{}",
        ran.stderr
    );
    let ran = run("test", "label = 1");
    assert!(ran.code == Some(2) && ran.stderr.contains("the input has no labels"), "{}", ran.stderr);
    run("in", "I1 < -5").failed(3, "in: no rows are left: all 20 do not meet the condition");
    sandbox.write("damaged", format!("{}\nbad", lines.join("\n")));
    run("damaged", "label = 1").failed(3, "damaged:21:1: 1 field, expected 40: label, I1 to I13, C1 to C26");
    assert!(sandbox.files("out").is_empty());
}

/// `lines` as a Parquet file of 32-bit integers and strings, its columns from the last to the first and with other names' case.
fn parquet(lines: &[String]) -> Vec<u8> {
    let fields: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let (mut schema, mut columns): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for column in (0..40).rev() {
        let values = || fields.iter().map(|row| Some(row[column]).filter(|field| !field.is_empty()));
        let name = match column {
            0 => "Label".to_owned(),
            1..14 => format!("i{column}"),
            _ => format!("C{}", column - 13),
        };
        if column < 14 {
            columns.push(Arc::new(values().map(|v| v.map(|v| v.parse().unwrap())).collect::<Int32Array>()));
            schema.push(Field::new(name, DataType::Int32, true));
        } else {
            columns.push(Arc::new(values().collect::<StringArray>()));
            schema.push(Field::new(name, DataType::Utf8, true));
        }
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(schema)), columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn tables_of_other_engines_give_the_same_rows() {
    let sandbox = Sandbox::new();
    let lines = rows(3000, "\t");
    let wanted = objects_of(&sandbox, "text", &lines, "--holdout 0.2");
    let some = objects_of(&sandbox, "some", &kept(&lines, |f| f[0] == "1"), "");
    sandbox.write("one.parquet", parquet(&lines[..1000]));
    sandbox.write("two.parquet", parquet(&lines[1000..]));
    // As pandas writes what has missing values: floats, and the columns in an order of its own.
    let header: Vec<String> = (1..=26)
        .map(|i| format!("\"C{i}\""))
        .chain((1..=13).map(|i| format!("I{i}")))
        .chain(["label".to_owned()])
        .collect();
    let csv = lines.iter().map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let float = |field: &&str| if field.is_empty() { String::new() } else { format!("{field}.0") };
        let tokens = fields[14..].iter().map(|token| (*token).to_owned());
        tokens.chain(fields[1..14].iter().map(float)).chain([fields[0].to_owned()]).collect::<Vec<_>>().join(",")
    });
    let csv: Vec<String> = [header.join(",")].into_iter().chain(csv).collect();
    sandbox.write("saved.csv", csv.join("\r\n"));
    for input in
        ["one.parquet two.parquet", "saved.csv", "saved.csv --format csv", "one.parquet two.parquet --format parquet"]
    {
        let out = format!("out-{}", input.replace(' ', "_"));
        let line = format!("criteo {input} -o {out} --holdout 0.2");
        assert_eq!(sandbox.prep(&line).report()["rows"]["read"], 3000, "{input}");
        assert_eq!(sandbox.objects(&out).into_values().collect::<Vec<_>>(), wanted, "{input}");
        assert_eq!(sandbox.prep(&line).report()["unchanged"], true, "{input}");
        let line = format!("prep criteo {input} -o clicks-{out} --where 'label = 1'");
        sandbox.shell(&line).report();
        assert_eq!(sandbox.objects(&format!("clicks-{out}")).into_values().collect::<Vec<_>>(), some, "{input}");
    }
    assert_eq!(sandbox.descriptor("out-saved.csv").source.format, "csv");
    assert_eq!(sandbox.descriptor("out-one.parquet_two.parquet").source.files.len(), 2);
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("a.parquet", parquet(&rows(5, "\t")));
    sandbox.write("text", rows(5, "\t").join("\n"));
    let ran = sandbox.prep("criteo text a.parquet -o out");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("a.parquet:1:1: this is a Parquet file"), "{}", ran.stderr);
    let ran = sandbox.prep("criteo a.parquet text -o out");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("text: not a readable Parquet file"), "{}", ran.stderr);
    sandbox.write("half.csv", "label,I1,I2\n1,2,3\n");
    let ran = sandbox.prep("criteo half.csv --format csv -o out");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("half.csv:1: there is no column `I3`"), "{}", ran.stderr);
    let table = "standard input: Parquet and csv files of other engines cannot be read from a pipe";
    sandbox.shell("cat half.csv | prep criteo --format csv -o out").failed(2, table);
    assert!(sandbox.files("out").is_empty());
}
