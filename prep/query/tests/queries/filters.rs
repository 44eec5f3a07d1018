//! What conditions keep, and what is said of wrong ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use prep_query::{Answer, Error, Filter, Filtered};
use schemas::exit::{ErrorKind, Explain};

use crate::{ROWS, batch, batches, contents, line};

fn kept(condition: &str, labelled: bool) -> Vec<u64> {
    let filter = Filter::parse(condition, labelled).unwrap_or_else(|e| panic!("{condition}: {e}"));
    let rows = Filtered::new(&filter, batches(labelled).into_iter().map(Ok::<_, Error>)).unwrap();
    let kept: Vec<_> = rows.flat_map(|batch| contents(&batch.unwrap())).collect();
    let all: Vec<_> = batches(labelled).iter().flat_map(contents).collect();
    assert!(kept.iter().all(|row| all.contains(row)), "{condition} changes rows");
    kept.into_iter().map(|row| row.0).collect()
}

#[test]
fn conditions_keep_the_rows_they_are_true_for() {
    let cases: &[(&str, &[u64])] = &[
        ("label = 1", &[0, 2, 4]),
        ("label = 1 AND I2 >= 0", &[0, 2, 4]),
        ("label = 1 AND I2 > 0", &[2, 4]),
        ("LABEL=0 and i2<0", &[1]),
        ("\"I2\" = 5 or `i2` = -2", &[1, 2]),
        ("NOT (label = 1)", &[1, 3]),
        ("I2 IS NULL", &[3]),
        ("I2 <> 5", &[0, 1, 4]),
        ("I1 IS DISTINCT FROM 260", &[0, 1, 3, 4]),
        ("I1 BETWEEN 0 AND 7", &[0, 3, 4]),
        ("I1 IN (0, 260)", &[2, 3]),
        ("I1 = 1.0", &[0]),
        ("I1 + I2 > 200", &[2]),
        ("I1 = 9223372036854775807 OR I2 = -2", &[1]),
        ("coalesce(I2, 0) = 0", &[0, 3]),
        ("I1 / nullif(I2, 0) >= 52", &[2]),
        ("CASE WHEN I2 > 0 THEN I1 / I2 >= 52 ELSE false END", &[2]),
        ("CAST(I1 AS DOUBLE) / 2 = 0.5", &[0]),
        ("I3 IS NOT NULL", &[]),
        ("true", &[0, 1, 2, 3, 4]),
        ("row < 2", &[0, 1]),
        ("row % 2 = 0", &[0, 2, 4]),
        ("C1 = '68fd1e64'", &[0, 2]),
        ("'68fd1e64' = c1", &[0, 2]),
        ("C1 <> '68fd1e64'", &[1, 4]),
        ("C1 = 'it''s'", &[4]),
        ("C2 = 'long-token-over-twelve-bytes'", &[3]),
        ("C2 = 'long-token-over-twelve-bytez'", &[]),
        ("C1 < '1'", &[1]),
        ("C1 BETWEEN '0' AND '6'", &[1]),
        ("C1 IN ('68fd1e64', '05db9164')", &[0, 1, 2]),
        ("C1 NOT IN ('68fd1e64')", &[1, 4]),
        ("C1 = C2", &[]),
        ("C1 <> C2", &[0, 2, 4]),
        ("C1 IS NULL OR C2 IS NULL", &[1, 3]),
        ("C1 LIKE '68%'", &[0, 2]),
        ("C2 LIKE '%twelve%'", &[3]),
        ("C2 NOT LIKE 'a%'", &[2, 3, 4]),
        ("C2 ILIKE '68fd%'", &[4]),
        ("C1 ~ '^[0-9]'", &[0, 1, 2]),
        ("coalesce(C1, 'none') = 'none'", &[3]),
        ("C1 || C2 = '68fd1e64aaaa'", &[0]),
        ("CASE C1 WHEN '68fd1e64' THEN true ELSE false END", &[0, 2]),
        ("label = 1\n  AND I2 > 0 -- and so on", &[2, 4]),
    ];
    for (condition, expected) in cases {
        assert_eq!(kept(condition, true), *expected, "{condition}");
    }
    assert_eq!(kept("I2 > 0", false), [2, 4]);
}

#[test]
fn a_long_condition_is_no_problem() {
    let many: Vec<String> = (0..101).map(|i| format!("I2 = {i}")).collect();
    assert_eq!(kept(&many.join(" OR "), true), [0, 2, 4]);
    assert_eq!(kept(&format!("true{}", " AND true".repeat(249)), true), [0, 1, 2, 3, 4]);
    for (term, column) in [(" OR I2 = 1", 1667), (" - 1", 2000)] {
        let error = Filter::parse(&format!("I2{}", term.repeat(100_000)), true).unwrap_err();
        assert!(matches!(error, Error::Syntax { column: found, .. } if found == column), "{error:.99}");
        assert!(error.to_string().contains("more than 500 names and operators"));
    }
    let many: Vec<String> = (0..10_000).map(|i| format!("'{i:08x}'")).collect();
    assert_eq!(kept(&format!("C1 IN ({}, '05db9164')", many.join(", ")), true), [1]);
    let deep = format!("{}label = 1{}", "(".repeat(200), ")".repeat(200));
    let error = Filter::parse(&deep, true).unwrap_err().to_string();
    assert!(error.ends_with("column 1: brackets are nested too deeply"), "{error}");
}

#[test]
fn a_condition_has_a_normal_form() {
    for (condition, normal) in [
        ("label=1 and i2>=0", "label = 1 AND I2 >= 0"),
        ("  \"LABEL\" = 1\nAND `I2` >= 0 -- so", "label = 1 AND I2 >= 0"),
        ("c1 in('a','B')", "C1 IN ('a', 'B')"),
        ("COALESCE(i2,0)=0", "coalesce(I2, 0) = 0"),
    ] {
        let filter = Filter::parse(condition, true).unwrap();
        assert_eq!(filter.text(), normal);
        assert_eq!(Filter::parse(normal, true).unwrap().text(), normal);
    }
}

#[test]
fn wrong_conditions_are_explained() {
    let columns = "row, label, I1 to I13, C1 to C26";
    let unlabelled = "row, I1 to I13, C1 to C26";
    let cases = [
        ("", true, ", column 1: expected an expression, found the end".to_owned()),
        ("I2 >=", true, ", column 6: expected an expression, found the end".to_owned()),
        ("I2 >= >= 3", true, ", column 7: expected an expression, found >=".to_owned()),
        ("label = 1 I2 = 0", true, ", column 11: expected AND, OR or the end, found I2".to_owned()),
        ("label = 1; DROP TABLE rows", true, ", column 10: expected AND, OR or the end, found ;".to_owned()),
        ("C1 = 'a", true, ", column 6: Unterminated string literal".to_owned()),
        ("label = 1 AND I14 = 2", true, format!(", column 15: there is no column `I14`, only {columns}")),
        ("C1 = \"68fd1e64\"", true, format!(", column 6: there is no column `68fd1e64`, only {columns}")),
        ("rows.I2 = 2", true, format!(", column 1: there is no column `rows.I2`, only {columns}")),
        ("clicks = 1", false, format!(", column 1: there is no column `clicks`, only {unlabelled}")),
        ("I2 > 0 AND Label = 1", false, ", column 12: the input has no labels".to_owned()),
        ("I2 IN (SELECT 1)", true, " has a query in it, and it can be about one row only".to_owned()),
        ("EXISTS (SELECT x FROM t)", true, " has a query in it, and it can be about one row only".to_owned()),
        ("I2 > avg(I2)", true, " has a function of many rows in it, and it can be about one row only".to_owned()),
        (
            "I2 > max(I2) OVER ()",
            true,
            " has a function of many rows in it, and it can be about one row only".to_owned(),
        ),
        ("I2 = $1", true, " has a variable in it, and it can be about one row only".to_owned()),
        ("I2", true, " is a value of the type Int64, not true or false".to_owned()),
        ("I2 + 1", true, " is a value of the type Int64, not true or false".to_owned()),
        ("'yes'", true, " is a value of the type Utf8, not true or false".to_owned()),
        ("C1", true, " is a value of the type Utf8View, not true or false".to_owned()),
        ("C1 = 5", true, ": a token is compared with `Int64(5)`, which is of the type Int64".to_owned()),
        ("C1 IN ('a', 5)", true, ": a token is compared with `Int64(5)`, which is of the type Int64".to_owned()),
        ("C1 = I2", true, ": a token is compared with `I2`, which is of the type Int64".to_owned()),
        ("I2 = 'abc'", true, ": Cannot cast string 'abc' to value of Int64 type".to_owned()),
        ("label = 1 / 0", true, ": Divide by zero error".to_owned()),
        ("nosuch(I2) = 1", true, ": Invalid function 'nosuch'".to_owned()),
        ("NOT I2", true, ": ".to_owned()),
    ];
    for (condition, labelled, expected) in cases {
        let error = Filter::parse(condition, labelled).expect_err(condition);
        let expected = format!("the condition `{condition}`{expected}");
        assert!(error.to_string().starts_with(&expected), "\n{error}\n{expected}");
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.fix().is_some());
    }
}

#[test]
fn a_row_that_a_condition_fails_on_is_an_error() {
    for (condition, problem) in
        [("I1 / I2 > 1", "Divide by zero"), ("CAST(C1 AS BIGINT) > 1", "Cannot cast string '68fd1e64'")]
    {
        let filter = Filter::parse(condition, true).unwrap();
        let mut rows = Filtered::new(&filter, batches(true).into_iter().map(Ok::<_, Error>)).unwrap();
        let error = rows.next().unwrap().unwrap_err();
        assert!(matches!(&error, Error::Evaluation { problem: found, .. } if found.contains(problem)), "{error}");
        assert_eq!(error.to_string().matches('\n').count(), 0);
        assert!(rows.next().is_none());
    }
}

#[derive(Debug, PartialEq)]
enum Failure {
    Caller(&'static str),
    Query(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Query(error.to_string())
    }
}

#[test]
fn errors_of_the_rows_come_back_as_they_were() {
    let filter = Filter::parse("label = 1", true).unwrap();
    let source = [Ok(batches(true).remove(2)), Err(Failure::Caller("cut off")), Ok(batches(true).remove(0))];
    let mut rows = Filtered::new(&filter, source.into_iter()).unwrap();
    // What was filtered before and not given out is not needed any more.
    assert_eq!(rows.next().unwrap().unwrap_err(), Failure::Caller("cut off"));
    assert!(rows.next().is_none());
}

#[test]
fn batches_are_taken_as_they_are_needed_and_the_order_is_kept() {
    const ROWS_OF_BATCH: u64 = 5000;
    let taken = Arc::new(AtomicUsize::new(0));
    let text = ROWS.iter().flat_map(|row| line(true, *row)).collect::<Vec<u8>>().repeat(1000);
    let count = Arc::clone(&taken);
    let source = (0..40).map(move |i| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Error>(batch(&text, true, i * ROWS_OF_BATCH))
    });
    let filter = Filter::parse("label = 1", true).unwrap();
    let rows = Filtered::new(&filter, source).unwrap();
    assert_eq!(taken.load(Ordering::Relaxed), 0);
    let (mut numbers, mut out) = (Vec::new(), 0);
    for batch in rows {
        out += 1;
        numbers.extend(contents(&batch.unwrap()).into_iter().map(|row| row.0));
        let ahead = taken.load(Ordering::Relaxed) as u64 * ROWS_OF_BATCH - numbers.len() as u64 * 5 / 3;
        assert!(ahead <= 3 * ROWS_OF_BATCH, "{ahead} rows ahead");
    }
    assert!(out > 5, "{out} batches");
    let expected: Vec<u64> = (0..40 * ROWS_OF_BATCH).filter(|n| matches!(n % 5, 0 | 2 | 4)).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn queries_are_answered() {
    let query = "SELECT count(*) AS n, min(I2) AS least, count(DISTINCT C1) AS tokens, sum(label) AS clicks FROM rows";
    let answer = Answer::new(query, true, batches(true).into_iter().map(Ok::<_, Error>)).unwrap();
    let answer: Vec<RecordBatch> = answer.map(Result::unwrap).collect();
    assert_eq!(answer.len(), 1);
    let value = |column: usize| answer[0].column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!([value(0), value(1), value(2), value(3)], [5, -2, 3, 3]);
    let wrong = Answer::new("SELECT I99 FROM rows", true, batches(true).into_iter().map(Ok::<_, Error>));
    let error = wrong.err().unwrap().to_string();
    assert!(error.starts_with("the query `SELECT I99 FROM rows`: No field named"), "{error}");
}
