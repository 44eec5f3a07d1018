//! The columns of a table of raw rows: `row: u64`, `label: i64` (when there are labels), `I1..I13: i64 null`,
//! `C1..C26: binary view null`.
//!
//! `row` is the number of the row in the input, from 0, whether or not rows before it are kept. A token is any bytes.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use schemas::clicks::{N_CATEGORICAL, N_NUMERIC};

static SCHEMAS: LazyLock<[SchemaRef; 2]> = LazyLock::new(|| [false, true].map(build));

fn build(labelled: bool) -> SchemaRef {
    let row = Field::new("row", DataType::UInt64, false);
    let columns = names(labelled).map(|name| {
        let is_token = name.starts_with('C');
        Field::new(name, if is_token { DataType::BinaryView } else { DataType::Int64 }, true)
    });
    Arc::new(Schema::new([row].into_iter().chain(columns).collect::<Vec<_>>()))
}

/// The schema of rows with or without labels.
#[must_use]
pub fn schema(labelled: bool) -> SchemaRef {
    Arc::clone(&SCHEMAS[usize::from(labelled)])
}

/// Names of the columns of an input, in the order of the schema: all but `row`.
pub fn names(labelled: bool) -> impl Iterator<Item = String> {
    let label = labelled.then(|| "label".to_owned());
    let numbers = (1..=N_NUMERIC).map(|i| format!("I{i}"));
    label.into_iter().chain(numbers).chain((1..=N_CATEGORICAL).map(|i| format!("C{i}")))
}

/// The columns in words.
#[must_use]
pub fn in_words(labelled: bool) -> String {
    let label = if labelled { "label, " } else { "" };
    format!("row, {label}I1 to I{N_NUMERIC}, C1 to C{N_CATEGORICAL}")
}
