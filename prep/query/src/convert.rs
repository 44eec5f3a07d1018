//! Columns of other engines' types, as the columns of a table of raw rows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BinaryViewArray, Int64Array, RecordBatch, UInt64Array};
use arrow_buffer::NullBuffer;
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{DataType, Schema};
use raw::clicks::rules::shortened;

use crate::error::Error;
use crate::schema;

/// Which columns of a file are the columns of a row.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Whether there is a label.
    pub(crate) labelled: bool,
    /// The names that the file has for them, in the order of [`schema::names`].
    pub(crate) names: Vec<String>,
    /// Their positions in the file.
    pub(crate) positions: Vec<usize>,
}

impl Selection {
    /// Finds the columns among `found`. Whether there must be labels is known, or shows.
    pub(crate) fn of(place: &str, found: impl Iterator<Item = String>, labelled: Option<bool>) -> Result<Self, Error> {
        let found: Vec<String> = found.collect();
        let position = |column: &str| {
            let mut same = (0..found.len()).filter(|&i| found[i].eq_ignore_ascii_case(column));
            match (same.next(), same.next()) {
                (Some(first), Some(second)) => {
                    let (first, second) = (found[first].clone(), found[second].clone());
                    Err(Error::AmbiguousColumn { place: place.to_owned(), column: column.to_owned(), first, second })
                }
                (first, _) => Ok(first),
            }
        };
        let has_label = position("label")?.is_some();
        // A file with labels where there should be none is the caller's to refuse, who knows why.
        let labelled = has_label || labelled.unwrap_or(false);
        let mut positions = Vec::new();
        for column in schema::names(labelled) {
            positions.push(position(&column)?.ok_or_else(|| {
                let found = shortened(found.join(", ").as_bytes());
                Error::MissingColumn { place: place.to_owned(), column, found }
            })?);
        }
        let names = positions.iter().map(|&i| found[i].clone()).collect();
        Ok(Self { labelled, names, positions })
    }
}

/// The largest integer below which floats of a type have every integer.
fn exact_below(float: &DataType) -> f64 {
    match float {
        DataType::Float16 => 2048.0,
        DataType::Float32 => 16_777_216.0,
        _ => 9_007_199_254_740_992.0,
    }
}

/// An integer for a whole number, or the rule that it breaks.
pub(crate) fn whole(value: f64, exact_below: f64) -> Result<i64, &'static str> {
    match value {
        _ if value.fract() != 0.0 || !value.is_finite() => Err("is not an integer"),
        _ if value.abs() > exact_below => Err("is so large that a float may have rounded it"),
        _ => Ok(value as i64),
    }
}

/// The rule for labels.
pub(crate) const LABEL_RULE: &str = "is neither 0 nor 1";

/// Makes canonical batches of a file's batches.
#[derive(Debug)]
pub(crate) struct Converter {
    place: String,
    labelled: bool,
    names: Vec<String>,
    /// Rows of the file so far.
    row: u64,
}

impl Converter {
    /// Checks the types of the selected columns of a file.
    pub(crate) fn new(place: &str, selection: &Selection, schema: &Schema) -> Result<Self, Error> {
        for (column, &position) in schema::names(selection.labelled).zip(&selection.positions) {
            let field = schema.field(position);
            let (fits, expected) = match column.as_bytes()[0] {
                b'C' => (is_token(field.data_type()), "a string or bytes"),
                b'l' => (
                    is_number(field.data_type()) || is_of(field.data_type(), &DataType::Boolean),
                    "an integer, a float or a boolean",
                ),
                _ => (is_number(field.data_type()), "an integer or a float"),
            };
            if !fits {
                return Err(Error::ColumnType {
                    place: place.to_owned(),
                    column: field.name().clone(),
                    found: field.data_type().to_string(),
                    expected,
                });
            }
        }
        Ok(Self { place: place.to_owned(), labelled: selection.labelled, names: selection.names.clone(), row: 0 })
    }

    /// The next batch, whose first row is row `first_row` of the input.
    pub(crate) fn convert(&mut self, batch: &RecordBatch, first_row: u64) -> Result<RecordBatch, Error> {
        let rows = batch.num_rows() as u64;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from_iter_values(first_row..first_row + rows))];
        for (column, (name, array)) in schema::names(self.labelled).zip(self.names.iter().zip(batch.columns())) {
            let value = |i: usize, value: String, rule| Error::Value {
                place: format!("{}: row {}", self.place, self.row + i as u64),
                column: name.clone(),
                value: shortened(value.as_bytes()),
                rule,
            };
            columns.push(match column.as_bytes()[0] {
                b'C' => Arc::new(tokens(array)),
                first => {
                    let numbers = numbers(array).map_err(|(i, text, rule)| value(i, text, rule))?;
                    if first == b'l' {
                        check_labels(&numbers).map_err(|(i, text)| value(i, text, LABEL_RULE))?;
                    }
                    Arc::new(numbers)
                }
            });
        }
        self.row += rows;
        Ok(RecordBatch::try_new(schema::schema(self.labelled), columns).expect("the columns are those of the schema"))
    }
}

/// What a column holds, whether or not as a dictionary.
fn values(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        plain => plain,
    }
}

fn is_of(found: &DataType, expected: &DataType) -> bool {
    values(found) == expected || *found == DataType::Null
}

fn is_number(data_type: &DataType) -> bool {
    let values = values(data_type);
    values.is_integer() || values.is_floating() || values.is_null()
}

fn is_token(data_type: &DataType) -> bool {
    let values = values(data_type);
    values.is_string() || values.is_binary() || values.is_null()
}

/// `array` as `to`; null where there is no such value.
fn cast(array: &ArrayRef, to: &DataType) -> ArrayRef {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    cast_with_options(array, to, &options).expect("the type of the column was checked")
}

/// An array that is no dictionary.
fn plain(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values),
        _ => Arc::clone(array),
    }
}

/// Integers; or where there is none, the value and the rule it breaks.
fn numbers(array: &ArrayRef) -> Result<Int64Array, (usize, String, &'static str)> {
    let array = plain(array);
    match array.data_type() {
        DataType::Int64 => Ok(array.as_primitive::<Int64Type>().clone()),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            let whole = |i: usize| {
                i64::try_from(values.value(i))
                    .map_err(|_| (i, values.value(i).to_string(), "does not fit 64 bits with a sign"))
            };
            collect(array.as_ref(), whole)
        }
        float if float.is_floating() => {
            let (values, exact_below) = (cast(&array, &DataType::Float64), exact_below(float));
            let values = values.as_primitive::<Float64Type>();
            let number =
                |i: usize| whole(values.value(i), exact_below).map_err(|rule| (i, values.value(i).to_string(), rule));
            let missing =
                NullBuffer::from_iter((0..values.len()).map(|i| values.is_valid(i) && !values.value(i).is_nan()));
            collect(&Int64Array::new(vec![0; values.len()].into(), Some(missing)), number)
        }
        _ => Ok(cast(&array, &DataType::Int64).as_primitive::<Int64Type>().clone()),
    }
}

/// `value(i)` wherever `like` has one.
fn collect<E>(like: &dyn Array, value: impl Fn(usize) -> Result<i64, E>) -> Result<Int64Array, E> {
    let value = |i| if like.is_valid(i) { value(i) } else { Ok(0) };
    let values = (0..like.len()).map(value).collect::<Result<Vec<i64>, E>>()?;
    Ok(Int64Array::new(values.into(), like.logical_nulls()))
}

/// Tokens, of which empty ones are missing.
fn tokens(array: &ArrayRef) -> BinaryViewArray {
    let mut array = plain(array);
    if !can_cast_types(array.data_type(), &DataType::BinaryView) {
        array = cast(&array, &DataType::Binary);
    }
    let array = cast(&array, &DataType::BinaryView);
    let tokens = array.as_binary_view();
    // The low half of a view's first word is the length.
    let present = |i: usize| tokens.is_valid(i) && tokens.views()[i] as u32 != 0;
    let nulls = NullBuffer::new(arrow_buffer::BooleanBuffer::collect_bool(tokens.len(), present));
    if nulls.null_count() == tokens.null_count() {
        return tokens.clone();
    }
    BinaryViewArray::try_new(tokens.views().clone(), tokens.data_buffers().to_vec(), Some(nulls))
        .expect("the views are those of the column")
}

fn check_labels(labels: &Int64Array) -> Result<(), (usize, String)> {
    match labels.iter().position(|label| !matches!(label, Some(0 | 1))) {
        Some(i) => Err((i, if labels.is_valid(i) { labels.value(i).to_string() } else { String::new() })),
        None => Ok(()),
    }
}
