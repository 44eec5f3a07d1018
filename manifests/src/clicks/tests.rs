//! What was encoded comes back, from Parquet's own reader too; what Parquet's own writer writes can be read; what is damaged is
//! told.

use super::*;
use parquet::basic::Encoding;
use parquet::column::reader::ColumnReader;
use parquet::file::properties::WriterVersion;
use proptest::prelude::*;

/// Equal to the bit, so that the mark of a missing number equals itself.
fn bits(rows: &ClickRows) -> (usize, Vec<Vec<u32>>) {
    let floats = |column: &Vec<f32>| column.iter().map(|x| x.to_bits()).collect();
    let numbers = rows.numbers.iter().map(floats);
    (rows.len, [floats(&rows.labels)].into_iter().chain(numbers).chain(rows.buckets.iter().cloned()).collect())
}

/// Rows made of `cells`, 40 a row; one in four is missing where it may be.
fn rows(form: Form, cells: &[u32]) -> ClickRows {
    let mut rows = ClickRows::default();
    for cells in cells.chunks_exact(40) {
        rows.len += 1;
        if form.labelled {
            rows.labels.push((cells[0] % 2) as f32);
        }
        let missing = |cell: u32| form.is_sparse() && cell.is_multiple_of(4);
        for (column, &cell) in rows.numbers.iter_mut().zip(&cells[1..14]) {
            column.push(if missing(cell) { MISSING_NUMBER } else { cell.cast_signed() as f32 / 1e3 });
        }
        if let Some(n) = form.n_buckets {
            for (column, &cell) in rows.buckets.iter_mut().zip(&cells[14..]) {
                column.push(if missing(cell) { MISSING_BUCKET } else { cell % n });
            }
        }
    }
    rows
}

fn forms() -> impl Iterator<Item = Form> {
    let n_buckets = [None, Some(7), Some(u32::MAX)];
    n_buckets.into_iter().flat_map(|n_buckets| [false, true].map(|labelled| Form { labelled, n_buckets }))
}

/// The same from the form for training.
fn coded_bits(rows: &CodedRows) -> (usize, Vec<Vec<u32>>) {
    let bucket = |column: &BucketColumn, code: u16| column.dictionary.get(usize::from(code)).copied();
    let buckets = rows.buckets.each_ref().map(|column| {
        assert!(column.codes.is_empty() || column.buckets.is_empty());
        let of_codes = column.codes.iter().map(|&code| bucket(column, code).unwrap_or(MISSING_BUCKET));
        column.buckets.iter().copied().chain(of_codes).collect()
    });
    bits(&ClickRows { len: rows.len, labels: rows.labels.clone(), numbers: rows.numbers.clone(), buckets })
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(cells in proptest::collection::vec(any::<u32>(), 0..4000)) {
        for form in forms() {
            let rows = rows(form, &cells);
            let bytes = encode(form, &rows);
            prop_assert_eq!(&bytes, &encode(form, &rows));
            let mut found = tests::rows(form, &[1; 120]);
            decode(form, Bytes::from(bytes.clone()), &mut found).unwrap();
            prop_assert_eq!(bits(&found), bits(&rows));
            let mut coded = CodedRows::default();
            for _ in 0..2 {
                decode_coded(form, Bytes::from(bytes.clone()), &mut coded).unwrap();
                prop_assert_eq!(coded_bits(&coded), bits(&rows));
            }
        }
    }
}

#[test]
fn columns_with_many_values_come_back() {
    let cells: Vec<u32> = (0..40 * 20_000u32).map(|i| i.wrapping_mul(0x9E37_79B9).rotate_left(13)).collect();
    let form = Form { labelled: true, n_buckets: Some(1_000_000) };
    let rows = rows(form, &cells);
    let mut found = ClickRows::default();
    decode(form, Bytes::from(encode(form, &rows)), &mut found).unwrap();
    assert_eq!(bits(&found), bits(&rows));
    let mut coded = CodedRows::default();
    decode_coded(form, Bytes::from(encode(form, &rows)), &mut coded).unwrap();
    assert_eq!(coded_bits(&coded), bits(&rows));
    assert!(coded.buckets.iter().all(|column| column.codes.is_empty()), "these do not pay for a dictionary");
}

#[test]
fn columns_with_few_values_keep_their_dictionary() {
    let cells: Vec<u32> = (0..40 * 3000u32).map(|i| i.wrapping_mul(0x9E37_79B9) >> 24).collect();
    let form = Form { labelled: true, n_buckets: Some(1_000_000) };
    let rows = rows(form, &cells);
    let mut coded = CodedRows::default();
    decode_coded(form, Bytes::from(encode(form, &rows)), &mut coded).unwrap();
    assert_eq!(coded_bits(&coded), bits(&rows));
    assert!(coded.buckets.iter().all(|column| column.codes.len() == 3000 && column.dictionary.len() <= 256));
}

#[test]
fn what_breaks_a_rule_is_refused_with_row_and_rule() {
    let form = Form { labelled: true, n_buckets: Some(10) };
    let cells: Vec<u32> = (0..400).collect();
    let refused = |change: &dyn Fn(&mut ClickRows)| {
        let mut rows = rows(form, &cells);
        change(&mut rows);
        decode(form, Bytes::from(encode(form, &rows)), &mut ClickRows::default()).unwrap_err()
    };
    assert_eq!(refused(&|rows| rows.labels[3] = 0.5), "row 3: the label 0.5 is neither 0 nor 1");
    assert_eq!(refused(&|rows| rows.labels[9] = f32::NAN), "row 9: label is NaN, not a finite number");
    assert_eq!(refused(&|rows| rows.numbers[12][7] = f32::INFINITY), "row 7: I13 is inf, not a finite number");
    assert_eq!(refused(&|rows| rows.buckets[25][9] = 10), "row 9: C26 is 10, not below the number of buckets, 10");
    let found = decode(form, Bytes::from_static(b"PAR1"), &mut ClickRows::default()).unwrap_err();
    assert!(found.starts_with("not a readable Parquet file: "), "{found}");
    let bytes = Bytes::from(encode(form, &rows(form, &cells)));
    let read_as = |other: Form| decode(other, bytes.clone(), &mut ClickRows::default()).unwrap_err();
    assert_eq!(
        read_as(Form { labelled: false, ..form }),
        "column 1 is `label: FLOAT`, not the required `I1: FLOAT optional`"
    );
    assert_eq!(
        read_as(Form { n_buckets: None, ..form }),
        "column 2 is `I1: FLOAT optional`, not the required `I1: FLOAT`"
    );
    let dense = Form { labelled: true, n_buckets: None };
    let bytes = Bytes::from(encode(dense, &rows(dense, &cells)));
    let found = decode(Form { labelled: true, n_buckets: None }, bytes.clone(), &mut ClickRows::default());
    assert_eq!(found, Ok(()));
}

#[test]
fn a_null_between_damaged_values_does_not_shift_the_row() {
    let form = Form { labelled: false, n_buckets: Some(10) };
    let mut rows = rows(form, &(1..=400).collect::<Vec<_>>());
    rows.numbers[0] = vec![MISSING_NUMBER; 10];
    rows.numbers[0][8] = f32::NEG_INFINITY;
    let found = decode(form, Bytes::from(encode(form, &rows)), &mut ClickRows::default()).unwrap_err();
    assert_eq!(found, "row 8: I1 is -inf, not a finite number");
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    let form = Form { labelled: true, n_buckets: Some(10) };
    let whole = encode(form, &rows(form, &(0..200).collect::<Vec<_>>()));
    for position in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] ^= flip;
            let bytes = Bytes::from(bytes);
            let mut coded = CodedRows::default();
            if decode_coded(form, bytes.clone(), &mut coded).is_ok() {
                let mut rows = ClickRows::default();
                decode(form, bytes, &mut rows).unwrap();
                assert!(coded_bits(&coded) == bits(&rows), "byte {position} with {flip}");
            } else {
                let _ = decode(form, bytes, &mut ClickRows::default());
            }
        }
        let cut = decode(form, Bytes::copy_from_slice(&whole[..position]), &mut ClickRows::default());
        assert!(cut.unwrap_err().starts_with("not a readable Parquet file"));
    }
}

/// A column of a few, of many, and of only distinct values, with and without missing ones.
fn varied(form: Form, n: usize) -> ClickRows {
    let cell = |row: usize, column: usize| (row * (column + 1)).wrapping_mul(0x9E37_79B9) as u32 >> 3;
    let kept = |row: usize, column: usize| match column % 6 {
        0 => true,
        1 => row != n / 2,
        2 => row.is_multiple_of(3),
        3 => row > n / 4,
        4 => false,
        _ => row % 64 < 50,
    };
    let distinct = |column: usize| [1, 2, 3, 100, 1500, 3000, u32::MAX][column % 7];
    let mut rows = ClickRows { len: n, ..ClickRows::default() };
    if form.labelled {
        rows.labels = (0..n).map(|row| (cell(row, 3) % 2) as f32).collect();
    }
    for (i, column) in rows.numbers.iter_mut().enumerate() {
        let number = |row| (cell(row, i) % distinct(i)) as f32 / 7.0;
        *column =
            (0..n).map(|row| if kept(row, i) || !form.is_sparse() { number(row) } else { MISSING_NUMBER }).collect();
    }
    if let Some(n_buckets) = form.n_buckets {
        for (i, column) in rows.buckets.iter_mut().enumerate() {
            let bucket = |row| cell(row, i + 20) % distinct(i) % n_buckets;
            *column = (0..n).map(|row| if kept(row, i) { bucket(row) } else { MISSING_BUCKET }).collect();
        }
    }
    rows
}

#[test]
fn the_library_s_own_reader_finds_the_same() {
    for form in [Some(1_000_000), Some(u32::MAX), Some(2), None].map(|n_buckets| Form { labelled: true, n_buckets }) {
        for n in [1, 2, 7, 8, 9, 33, 128, 129, 130, 6250, 40_000] {
            let rows = varied(form, n);
            let bytes = Bytes::from(encode(form, &rows));
            let file = SerializedFileReader::new(bytes.clone()).unwrap();
            let group = file.get_row_group(0).unwrap();
            let mut found = Vec::new();
            let mut kinds = std::collections::BTreeSet::new();
            for c in 0..group.num_columns() {
                kinds.extend(group.metadata().column(c).encodings().map(|e| e.to_string()));
                let (mut levels, mut cells) = (Vec::new(), Vec::new());
                let is_float = match group.get_column_reader(c).unwrap() {
                    ColumnReader::FloatColumnReader(mut reader) => {
                        let mut values: Vec<f32> = Vec::new();
                        reader.read_records(n, Some(&mut levels), None, &mut values).unwrap();
                        cells.extend(values.iter().map(|x| x.to_bits()));
                        true
                    }
                    ColumnReader::Int32ColumnReader(mut reader) => {
                        let mut values: Vec<i32> = Vec::new();
                        reader.read_records(n, Some(&mut levels), None, &mut values).unwrap();
                        cells.extend(values.iter().map(|x| x.cast_unsigned()));
                        false
                    }
                    _ => panic!("another type"),
                };
                let missing = if is_float { MISSING_NUMBER.to_bits() } else { MISSING_BUCKET };
                let mut values = cells.into_iter();
                let whole = levels.is_empty();
                let spread = |level: &i16| if *level == 0 { missing } else { values.next().unwrap() };
                found.push(if whole { values.collect() } else { levels.iter().map(spread).collect::<Vec<u32>>() });
            }
            found.resize(40, Vec::new());
            assert!(found == bits(&rows).1, "{form:?}, {n} rows");
            if form.n_buckets == Some(1_000_000) && n == 6250 {
                assert!(["PLAIN", "RLE_DICTIONARY", "DELTA_BINARY_PACKED"].iter().all(|kind| kinds.contains(*kind)));
            }
            let mut found = ClickRows::default();
            decode(form, bytes, &mut found).unwrap();
            assert!(bits(&found) == bits(&rows), "{form:?}, {n} rows");
        }
    }
}

#[test]
fn what_the_library_writes_is_read_in_every_encoding() {
    let form = Form { labelled: true, n_buckets: Some(1_000_000) };
    let encodings = [Some(Encoding::PLAIN), Some(Encoding::DELTA_BINARY_PACKED), None];
    for n in [0, 1, 130, 6250, 40_000] {
        let rows = varied(form, n);
        for encoding in encodings {
            let mut properties = WriterProperties::builder().set_writer_version(WriterVersion::PARQUET_1_0);
            properties = properties.set_dictionary_enabled(encoding.is_none()).set_dictionary_page_size_limit(4096);
            for i in (1..=26).filter(|_| encoding.is_some()) {
                properties = properties.set_column_encoding(format!("C{i}").into(), encoding.unwrap());
            }
            let mut found = ClickRows::default();
            let bytes = Bytes::from(encode_with(form, &rows, Arc::new(properties.build())));
            decode(form, bytes.clone(), &mut found).unwrap();
            assert!(bits(&found) == bits(&rows), "{encoding:?}, {n} rows");
            let mut coded = CodedRows::default();
            decode_coded(form, bytes, &mut coded).unwrap();
            assert!(coded_bits(&coded) == bits(&rows), "{encoding:?}, {n} rows");
        }
    }
    let properties = WriterProperties::builder().set_writer_version(WriterVersion::PARQUET_2_0).build();
    let bytes = encode_with(form, &varied(form, 100), Arc::new(properties));
    let found = decode(form, Bytes::from(bytes), &mut ClickRows::default()).unwrap_err();
    assert_eq!(found, "its data pages are of version 2, not 1");
}

#[test]
fn a_dictionary_is_used_where_it_is_smaller() {
    let form = Form { labelled: false, n_buckets: Some(1_000_000) };
    let size = |distinct: u32, n: u32| {
        let column: Vec<u32> =
            (0..n).map(|row| row.wrapping_mul(0x9E37_79B9) % distinct * (1_000_000 / distinct)).collect();
        let mut rows = ClickRows { len: n as usize, ..ClickRows::default() };
        rows.numbers.iter_mut().for_each(|numbers| *numbers = vec![0.5; n as usize]);
        rows.buckets.iter_mut().for_each(|buckets| *buckets = vec![7; n as usize]);
        let without = encode(form, &rows).len();
        rows.buckets[0] = column;
        encode(form, &rows).len() - without
    };
    // 2 bits a row; 10 bits a row and 4 bytes a value; differences of 21 bits a row.
    assert!((1500..1800).contains(&size(3, 6250)), "{}", size(3, 6250));
    assert!((11_800..12_100).contains(&size(1000, 6250)), "{}", size(1000, 6250));
    assert!((15_900..17_200).contains(&size(5000, 6250)), "{}", size(5000, 6250));
}
