//! The tables that turn renumbered users and items back into the source's ids, as Parquet with two `u32` columns.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

/// The table of `ids`, where row `i` says that number `i` stands for `ids[i]`. Columns: `name` and `name_id`.
///
/// # Panics
/// When there are more than `u32::MAX` ids.
#[must_use]
pub fn encode(name: &str, ids: &[u32]) -> Vec<u8> {
    let count = u32::try_from(ids.len()).expect("there are at most u32::MAX ids");
    let fields = [name.to_owned(), format!("{name}_id")].map(|n| Field::new(n, DataType::UInt32, false));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(0..count)),
        Arc::new(UInt32Array::from_iter_values(ids.iter().copied())),
    ];
    let batch =
        RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).expect("the columns fit the schema");
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties())).expect("the schema is writable");
    writer.write(&batch).expect("writing Parquet to memory does not fail");
    writer.close().expect("writing Parquet to memory does not fail");
    bytes
}

/// How small tables are written: the same bytes whichever version of the Parquet library writes them.
#[must_use]
pub fn properties() -> WriterProperties {
    WriterProperties::builder().set_created_by("gristmill".to_owned()).build()
}

/// The source's ids in order of their number.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub fn decode(name: &str, bytes: Bytes) -> Result<Vec<u32>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(|builder| builder.build())
        .map_err(|e| format!("not a readable Parquet file: {e}"))?;
    let mut ids = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        let column = |column: &str| {
            batch
                .column_by_name(column)
                .and_then(|c| c.as_any().downcast_ref::<UInt32Array>())
                .filter(|c| arrow_array::Array::null_count(*c) == 0)
                .ok_or_else(|| format!("there is no complete column `{column}` of type u32"))
        };
        let (numbers, originals) = (column(name)?, column(&format!("{name}_id"))?);
        for (number, original) in numbers.values().iter().zip(originals.values()) {
            if *number as usize != ids.len() {
                return Err(format!("column `{name}` has {number} in row {}", ids.len()));
            }
            ids.push(*original);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        let ids = [1, 7, 193_609, u32::MAX];
        assert_eq!(decode("item", Bytes::from(encode("item", &ids))).unwrap(), ids);
        assert!(decode("user", Bytes::from(encode("item", &ids))).unwrap_err().contains("`user`"));
    }
}
