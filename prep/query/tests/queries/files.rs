//! Files of other engines: every type a column may have, and every way in which a file can be wrong.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, DictionaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, NullArray, RecordBatch,
    StringArray, StringViewArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use prep_query::{Error, Files, Filter, Kind};
use schemas::exit::{ErrorKind, Explain};
use tempfile::TempDir;

use crate::contents;

/// The columns of a file with two rows that are the same in every way to write them.
struct Table(Vec<(String, ArrayRef)>);

impl Table {
    fn new() -> Self {
        let label = ("label".to_owned(), Arc::new(Int64Array::from(vec![1, 0])) as ArrayRef);
        let number = |i| (format!("I{i}"), Arc::new(Int64Array::from(vec![Some(i), None])) as ArrayRef);
        let token =
            |i| (format!("C{i}"), Arc::new(StringArray::from(vec![None, Some(format!("token-{i}"))])) as ArrayRef);
        Self([label].into_iter().chain((1..=13).map(number)).chain((1..=26).map(token)).collect())
    }

    fn with(mut self, name: &str, array: impl Array + 'static) -> Self {
        let array: ArrayRef = Arc::new(array);
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some(column) => column.1 = array,
            None => self.0.push((name.to_owned(), array)),
        }
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| n != name);
        self
    }

    fn write(self, path: &Path) {
        let batch = RecordBatch::try_from_iter_with_nullable(self.0.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        // Many row groups and pages.
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1)).build();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

type Row = (u64, raw::clicks::Numbers, Vec<Vec<u8>>);

fn rows(paths: &[PathBuf], kind: Kind, condition: Option<&str>) -> Result<Vec<Row>, Error> {
    let files = Files::open(paths, kind)?;
    let filter = condition.map(|condition| Filter::parse(condition, files.labelled()).unwrap());
    let mut found = Vec::new();
    for batch in files.rows(filter.as_ref())? {
        found.extend(contents(&batch?));
    }
    Ok(found)
}

fn expected() -> Vec<Row> {
    let numbers = |label, present, of: fn(i64) -> i64| raw::clicks::Numbers {
        label,
        present,
        values: std::array::from_fn(|j| of(j as i64 + 1)),
    };
    vec![
        (0, numbers(1, (1 << 13) - 1, |i| i), vec![Vec::new(); 26]),
        (1, numbers(0, 0, |_| 0), (1..=26).map(|i| format!("token-{i}").into_bytes()).collect()),
    ]
}

fn parquet(table: Table) -> Result<Vec<Row>, Error> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rows.parquet");
    table.write(&path);
    rows(&[path], Kind::Parquet, None)
}

#[test]
fn columns_of_every_type_are_understood() {
    let dictionary: DictionaryArray<Int8Type> = vec![None, Some("token-8")].into_iter().collect();
    let numbers = Int64Array::from(vec![Some(9), None]);
    let of_numbers = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![Some(0), None]), Arc::new(numbers));
    let table = Table::new()
        .with("label", BooleanArray::from(vec![true, false]))
        .with("I1", Int8Array::from(vec![Some(1), None]))
        .with("I2", Int16Array::from(vec![Some(2), None]))
        .with("I3", Int32Array::from(vec![Some(3), None]))
        .with("I4", UInt8Array::from(vec![Some(4), None]))
        .with("I5", UInt16Array::from(vec![Some(5), None]))
        .with("I6", UInt32Array::from(vec![Some(6), None]))
        .with("I7", UInt64Array::from(vec![Some(7), None]))
        .with("I8", Float32Array::from(vec![Some(8.0), None]))
        .with("I9", of_numbers)
        .with("I10", Float64Array::from(vec![10.0, f64::NAN]))
        .with("C1", StringArray::from(vec!["", "token-1"]))
        .with("C2", LargeStringArray::from(vec![None, Some("token-2")]))
        .with("C3", StringViewArray::from(vec![Some(""), Some("token-3")]))
        .with("C4", BinaryArray::from(vec![None, Some(&b"token-4"[..])]))
        .with("C5", LargeBinaryArray::from(vec![Some(&b""[..]), Some(b"token-5")]))
        .with("C6", BinaryViewArray::from(vec![None, Some(&b"token-6"[..])]))
        .with("C8", dictionary);
    assert_eq!(parquet(table).unwrap(), expected());
}

#[test]
fn labels_of_every_type_are_understood() {
    let labels: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![1.0, 0.0])),
        Arc::new(Float32Array::from(vec![1.0, 0.0])),
        Arc::new(UInt8Array::from(vec![1, 0])),
        Arc::new(BooleanArray::from(vec![true, false])),
    ];
    for label in labels {
        let mut table = Table::new();
        table.0[0].1 = label;
        assert_eq!(parquet(table).unwrap(), expected());
    }
}

#[test]
fn bytes_that_are_not_utf8_and_columns_of_nothing_are_kept() {
    let table = Table::new().with("C26", BinaryArray::from(vec![&b"\xff\x00"[..], b""])).with("I13", NullArray::new(2));
    let mut rows = parquet(table.with("C1", NullArray::new(2))).unwrap();
    assert_eq!(rows[0].2[25], b"\xff\x00");
    assert_eq!((rows[0].1.values[12], rows[0].1.present), (0, (1 << 12) - 1));
    assert!(rows.remove(1).2[0].is_empty());
}

#[test]
fn columns_are_found_by_name_in_any_case_and_order() {
    let mut table = Table::new();
    table.0.reverse();
    for (i, (name, _)) in table.0.iter_mut().enumerate() {
        if i % 2 == 0 {
            name.make_ascii_lowercase();
        }
    }
    table.0.insert(5, ("day".to_owned(), Arc::new(Int8Array::from(vec![1, 2]))));
    assert_eq!(parquet(table).unwrap(), expected());
    let unlabelled: Vec<Row> = expected()
        .into_iter()
        .map(|mut row| {
            row.1.label = 0;
            row
        })
        .collect();
    assert_eq!(parquet(Table::new().without("label")).unwrap(), unlabelled);
}

#[test]
fn rows_are_numbered_through_all_files_before_they_are_filtered() {
    let folder = TempDir::new().unwrap();
    let names = ["b [1]*?.parquet", "a%20 #.pq", "\u{e9}"];
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
    for (i, path) in paths.iter().enumerate() {
        Table::new().with("I1", Int64Array::from(vec![i as i64, 100])).write(path);
    }
    let all = rows(&paths, Kind::Parquet, None).unwrap();
    let summary = |rows: Vec<Row>| rows.iter().map(|row| (row.0, row.1.values[0])).collect::<Vec<_>>();
    assert_eq!(summary(all), [(0, 0), (1, 100), (2, 1), (3, 100), (4, 2), (5, 100)]);
    assert_eq!(summary(rows(&paths, Kind::Parquet, Some("I1 < 100 AND I2 = 2")).unwrap()), [(0, 0), (2, 1), (4, 2)]);
}

/// The message with the folder cut out.
fn message(result: Result<Vec<Row>, Error>, folder: &Path) -> (String, ErrorKind) {
    let error = result.expect_err("the file is wrong");
    assert!(error.fix().is_some());
    (error.to_string().replace(&format!("{}/", folder.display()), ""), error.kind())
}

#[test]
fn wrong_columns_are_explained() {
    let cases: Vec<(Table, &str)> = vec![
        (Table::new().without("I7"), "f: there is no column `I7`; columns are label, I1, I2, "),
        (Table::new().with("i7", NullArray::new(2)), "f: the columns `I7` and `i7` both mean I7"),
        (
            Table::new().with("I7", StringArray::from(vec!["1", "2"])),
            "f: column `I7` is of the type Utf8View, expected an integer or a float",
        ),
        (
            Table::new().with("C7", Int64Array::from(vec![1, 2])),
            "f: column `C7` is of the type Int64, expected a string or bytes",
        ),
        (
            Table::new().with("I7", BooleanArray::from(vec![true, false])),
            "f: column `I7` is of the type Boolean, expected an integer or a float",
        ),
        (
            Table::new().with("label", StringArray::from(vec!["1", "0"])),
            "f: column `label` is of the type Utf8View, expected an integer, a float or a boolean",
        ),
        (Table::new().with("I7", Float64Array::from(vec![1.0, 260.5])), "f: row 1: I7 `260.5` is not an integer"),
        (Table::new().with("I7", Float64Array::from(vec![f64::INFINITY, 0.0])), "f: row 0: I7 `inf` is not an integer"),
        (
            Table::new().with("I7", Float64Array::from(vec![1.0, 1e16])),
            "f: row 1: I7 `10000000000000000` is so large that a float may have rounded it",
        ),
        (
            Table::new().with("I7", UInt64Array::from(vec![1, u64::MAX])),
            "f: row 1: I7 `18446744073709551615` does not fit 64 bits with a sign",
        ),
        (Table::new().with("label", Int64Array::from(vec![1, 2])), "f: row 1: label `2` is neither 0 nor 1"),
        (Table::new().with("label", Float32Array::from(vec![1.0, 0.5])), "f: row 1: label `0.5` is not an integer"),
        (Table::new().with("label", Int64Array::from(vec![Some(1), None])), "f: row 1: label `` is neither 0 nor 1"),
    ];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    for (table, expected) in cases {
        table.write(&path);
        let (text, kind) = message(rows(std::slice::from_ref(&path), Kind::Parquet, None), folder.path());
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(kind, ErrorKind::Data);
    }
}

#[test]
fn files_that_are_no_parquet_are_explained() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    let read = || message(rows(std::slice::from_ref(&path), Kind::Parquet, None), folder.path());
    assert_eq!(read(), ("f: could not be read".to_owned(), ErrorKind::Usage));
    for text in ["", "no", "this is no Parquet file at all, not even nearly"] {
        std::fs::write(&path, text).unwrap();
        let (text, kind) = read();
        assert!(text.starts_with("f: not a readable Parquet file: "), "{text}");
        assert_eq!(kind, ErrorKind::Data);
    }
    Table::new().write(&path);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    assert!(read().0.starts_with("f: not a readable Parquet file: "));
    assert_eq!(message(rows(&[folder.path().to_owned()], Kind::Parquet, None), Path::new("")).1, ErrorKind::Config);
}

#[test]
fn damage_inside_a_parquet_file_is_told_and_never_a_panic() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    Table::new().write(&path);
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 400) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, damaged).unwrap();
        // Values may have become others; that it ends is what matters.
        if let Err(error) = rows(std::slice::from_ref(&path), Kind::Parquet, None) {
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        }
    }
}

#[test]
fn labels_in_some_files_only_are_refused() {
    let folder = TempDir::new().unwrap();
    let [with, without] = ["with", "without"].map(|name| folder.path().join(name));
    Table::new().write(&with);
    Table::new().without("label").write(&without);
    let read = |paths: &[PathBuf]| message(rows(paths, Kind::Parquet, None), folder.path()).0;
    assert_eq!(read(&[without.clone(), with.clone()]), "with: has a column `label`, which without has not");
    assert!(read(&[with, without]).starts_with("without: there is no column `label`; "));
}

fn csv(text: &[u8], condition: Option<&str>) -> Result<Vec<Row>, Error> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, text).unwrap();
    let result = rows(&[path], Kind::Csv, condition);
    result.map_err(|error| match error {
        Error::Value { column, value, rule, place } => {
            let place = place.rsplit_once('/').unwrap().1.to_owned();
            Error::Value { place, column, value, rule }
        }
        other => other,
    })
}

fn header() -> String {
    let numbers = (1..=13).map(|i| format!("I{i}"));
    ["Id,Label".to_owned()]
        .into_iter()
        .chain(numbers)
        .chain((1..=26).map(|i| format!("C{i}")))
        .collect::<Vec<_>>()
        .join(",")
}

/// The two rows of [`expected`] as they are written: `number` of an integer, `quote` around tokens, `end` after lines.
fn written(number: impl Fn(i64) -> String, quote: &str, end: &str) -> String {
    let numbers: Vec<String> = (1..=13).map(number).collect();
    let tokens: Vec<String> = (1..=26).map(|i| format!("{quote}token-{i}{quote}")).collect();
    let first = format!("10,1,{}{}", numbers.join(","), ",".repeat(26));
    let second = format!("11,0{},{}", ",".repeat(13), tokens.join(","));
    format!("{}{end}{first}{end}{second}{end}", header())
}

#[test]
fn csv_files_are_understood_as_tools_write_them() {
    for text in [
        written(|i| i.to_string(), "", "\n"),
        written(|i| format!("{i}.0"), "", "\r\n"),
        written(|i| format!("\"{i}.00\""), "\"", "\n"),
        written(|i| format!("{i}e0"), "\"", "\n"),
        format!("\u{feff}{}", written(|i| i.to_string(), "\"", "\r\n")),
        written(|i| i.to_string(), "", "\n").trim_end().to_owned(),
        written(|i| i.to_string(), "", "\n").replace("Label", " LABEL").replace("C26", "\"c26\""),
    ] {
        assert_eq!(csv(text.as_bytes(), None).unwrap(), expected(), "{text}");
    }
    let kept = csv(written(|i| i.to_string(), "\"", "\n").as_bytes(), Some("C3 = 'token-3'")).unwrap();
    assert_eq!(kept, expected()[1..]);
    assert_eq!(csv(format!("{}\n", header()).as_bytes(), None).unwrap(), []);
}

#[test]
fn any_bytes_are_a_token_of_a_csv_file() {
    let mut text = written(|i| i.to_string(), "", "\n").into_bytes();
    text.splice(text.len() - 1..text.len() - 1, *b"-\xff\x00");
    assert_eq!(csv(&text, None).unwrap()[1].2[25], b"token-26-\xff\x00");
    let text = written(|i| i.to_string(), "", "\n").replace("token-1,", "\"a, \"\"b\"\"\nc\",");
    assert_eq!(csv(text.as_bytes(), None).unwrap()[1].2[0], b"a, \"b\"\nc");
}

#[test]
fn columns_of_a_csv_file_may_be_in_any_order() {
    let reversed: Vec<String> = written(|i| i.to_string(), "", "\n")
        .lines()
        .map(|line| line.split(',').rev().collect::<Vec<_>>().join(","))
        .collect();
    assert_eq!(csv(reversed.join("\n").as_bytes(), None).unwrap(), expected());
}

#[test]
fn wrong_csv_files_are_explained() {
    let good = written(|i| i.to_string(), "", "\n");
    let crlf = written(|i| i.to_string(), "", "\r\n");
    let cases = [
        (String::new(), "f:1: not a readable csv file: it is empty, expected a header"),
        (good.replace("I5", "J5"), "f:1: there is no column `I5`; columns are Id, Label, I1, "),
        (good.replace("10,1,1,2,", "10,1,1,2.5,"), "f:2: I2 `2.5` is not an integer"),
        (good.replace("10,1,1,2,", "10,1,1,x,"), "f:2: I2 `x` is not an integer"),
        (
            good.replace("10,1,1,2,", "10,1,1,99999999999999999999,"),
            "f:2: I2 `99999999999999999999` does not fit 64 bits",
        ),
        (good.replace("10,1,1,2,", "10,1,1,1e17,"), "f:2: I2 `1e17` is so large that a float may have rounded it"),
        (good.replace("11,0,", "11,2,"), "f:3: Label `2` is neither 0 nor 1"),
        (good.replace("11,0,", "\n\n11,,"), "f:5: Label `` is neither 0 nor 1"),
        (crlf.replace("11,0,", "11,,"), "f:3: Label `` is neither 0 nor 1"),
        (format!("{good}12,1,\n"), "f:4: 3 fields, expected 41 as in the header"),
        (
            format!("{good}\"12,{}", "1\n".repeat(200_000)),
            "f:4: not a readable csv file: the row is longer than 262144 bytes, perhaps because a quote is not closed",
        ),
        (",".repeat(20_000), "f:1: not a readable csv file: the row has more than 10000 fields"),
    ];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    for (text, expected) in cases {
        std::fs::write(&path, text).unwrap();
        let (text, kind) = message(rows(std::slice::from_ref(&path), Kind::Csv, None), folder.path());
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(kind, ErrorKind::Data);
    }
}
