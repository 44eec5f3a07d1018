//! Small tables of two `u32` columns as Parquet, for what goes with a dataset besides its rows.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::id_map::properties;

/// The table of `columns`, called `names`.
pub(crate) fn encode(names: [&str; 2], columns: [Vec<u32>; 2]) -> Vec<u8> {
    let schema = Schema::new(names.map(|name| Field::new(name, DataType::UInt32, false)).to_vec());
    let columns = columns.map(|values| Arc::new(UInt32Array::from(values)) as ArrayRef).to_vec();
    let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("the columns fit the schema");
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties())).expect("the schema is writable");
    writer.write(&batch).expect("writing Parquet to memory does not fail");
    writer.close().expect("writing Parquet to memory does not fail");
    bytes
}

/// Shows the rows of the table in order.
///
/// # Errors
/// A sentence that says what is wrong with the file, or what `see` says.
pub(crate) fn decode(
    names: [&str; 2],
    bytes: Bytes,
    mut see: impl FnMut(u32, u32) -> Result<(), String>,
) -> Result<(), String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(|builder| builder.build())
        .map_err(|e| format!("not a readable Parquet file: {e}"))?;
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .and_then(|c| c.as_any().downcast_ref::<UInt32Array>())
                .filter(|c| c.null_count() == 0)
                .ok_or_else(|| format!("there is no complete column `{name}` of type u32"))
        };
        let (first, second) = (column(names[0])?, column(names[1])?);
        first.values().iter().zip(second.values()).try_for_each(|(&a, &b)| see(a, b))?;
    }
    Ok(())
}
