//! What `raw` makes of a text for a model that is there already: the very rows that `prep criteo` writes.

use manifests::clicks::{ClickRows, Form};
use raw::Error;
use raw::clicks::prepare::Preparation;
use raw::reading::clicks::{Undecoded, open};
use raw::reading::{Reading, stop};
use raw::source::Input;
use reporting::Console;
use schemas::dataset::Layout;

use crate::criteo::{read, rows};
use crate::sandbox::Sandbox;

/// The rows of the text in `file`, prepared as those of `layout` were.
fn prepared(sandbox: &Sandbox, file: &str, layout: &Layout, threads: usize) -> Result<(Form, ClickRows), Error> {
    let (source, format) = open(&Input::Path(sandbox.path(file)))?;
    let preparation = Preparation::of(layout, format.columns.label).unwrap();
    let progress = Console::silent().progress("reading", source.raw_bytes, "bytes");
    let reading = Reading { source: &source, format, threads, bad_max: 1, progress: &progress };
    let mut all = ClickRows::default();
    let take = |(): &mut (), block: Undecoded<'_>, rows: &mut ClickRows| Ok(block.decode(&mut preparation.fill(rows)));
    let keep = |rows: &ClickRows, first_row: u64| {
        assert_eq!(first_row, all.len as u64);
        all.len += rows.len;
        all.labels.extend(&rows.labels);
        all.numbers.iter_mut().zip(&rows.numbers).for_each(|(all, column)| all.extend(column));
        all.buckets.iter_mut().zip(&rows.buckets).for_each(|(all, column)| all.extend(column));
        Ok::<_, Error>(())
    };
    let read = raw::reading::clicks::read(&reading, || (), take, stop, keep)?;
    assert_eq!((read.rows, read.good), (all.len as u64, all.len as u64));
    Ok((preparation.form(), all))
}

/// All cells as bits.
fn bits(rows: &ClickRows) -> Vec<Vec<u32>> {
    let floats = std::iter::once(&rows.labels).chain(&rows.numbers);
    let floats = floats.map(|column| column.iter().map(|x| x.to_bits()).collect());
    floats.chain(rows.buckets.iter().cloned()).collect()
}

/// Rows as they come, and rows of extremes: nothing there, the ends of 64 bits, tokens of other lengths.
fn lines() -> Vec<String> {
    let mut lines = rows(12_000, "\t");
    let row =
        |number: &str, token: &str| format!("1{}{}", format!("\t{number}").repeat(13), format!("\t{token}").repeat(26));
    let (largest, smallest) = (i64::MAX.to_string(), i64::MIN.to_string());
    for (number, token) in [
        ("", ""),
        (&largest[..], "a"),
        (&smallest, "abcdefg"),
        ("9007199254740993", "abcdefghi"),
        ("-4503599627370497", "a token of some length"),
        ("-0", "00000000"),
    ] {
        lines.insert(lines.len() / 2, row(number, token));
    }
    lines
}

#[test]
fn prepared_rows_are_those_that_are_written() {
    let sandbox = Sandbox::new();
    let lines = lines();
    let (fitted, other) = lines.split_at(3000);
    let without_labels: Vec<&str> = other.iter().map(|line| &line[2..]).collect();
    sandbox.write("fitted.txt", fitted.join("\n"));
    sandbox.write("other.txt", other.join("\n") + "\n\n");
    sandbox.write("unlabelled.txt", without_labels.join("\r\n"));
    assert!(other.join("\n").len() > 1 << 20, "there are several blocks");
    for (name, features) in [
        ("dense", "--features dense"),
        ("sparse", "--features sparse"),
        ("few", "--features sparse --hash-buckets 1000"),
        ("many", "--features sparse --hash-buckets 4000000000"),
    ] {
        let ran = sandbox.prep(&format!("criteo fitted.txt {features} -o {name}"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let layout = sandbox.descriptor(name).layout;
        for (text, labelled) in [("fitted", true), ("other", true), ("unlabelled", false)] {
            let out = format!("{name}-{text}");
            let ran = sandbox.prep(&format!("criteo {text}.txt {features} --like {name} -o {out}"));
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            let written = sandbox.descriptor(&out);
            let expected = bits(&read(&sandbox, &out, &written, &written.parts));
            for threads in [1, 3] {
                let (form, found) = prepared(&sandbox, &format!("{text}.txt"), &layout, threads).unwrap();
                assert_eq!((form, form.labelled), (Form::of(&written.layout).unwrap(), labelled));
                assert_eq!((found.len as u64, found.labels.is_empty()), (written.rows.train, !labelled));
                assert!(bits(&found) == expected, "{out} on {threads} threads");
            }
        }
    }
}

#[test]
fn the_first_bad_row_is_told_as_prep_tells_it() {
    let sandbox = Sandbox::new();
    sandbox.write("good.txt", rows(100, "\t").join("\n"));
    assert_eq!(sandbox.prep("criteo good.txt --features dense -o good").code, Some(0));
    let layout = sandbox.descriptor("good").layout;
    let mut lines = rows(9000, "\t");
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    for (at, field, text) in [(8500, 0, "2"), (8000, 3, "4.5"), (8200, 39, "a\tb")] {
        let mut row = fields(&lines[at]);
        row[field] = text.to_owned();
        lines[at] = row.join("\t");
    }
    for first in [8000, 8200, 8500] {
        sandbox.write("bad.txt", lines.join("\n"));
        let ran = sandbox.prep("criteo bad.txt --features dense -o bad");
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        let told = prepared(&sandbox, "bad.txt", &layout, 2).unwrap_err().to_string();
        let place = sandbox.path("").display().to_string();
        let told = told.strip_prefix(place.as_str()).unwrap();
        assert!(told.starts_with(&format!("bad.txt:{}:", first + 1)), "{told}");
        assert!(ran.stderr.contains(&format!("error: {told}\n")), "{told}\n{}", ran.stderr);
        lines[first] = rows(1, "\t").remove(0);
    }
}
