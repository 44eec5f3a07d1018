//! The ledger of a run: which mini-batch counted in which step, and whose gradient of it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use train_core::order::{Schedule, epoch_order};

use crate::error::Error;
use crate::records::Records;

/// The file.
pub const LEDGER: &str = "ledger.parquet";

const COLUMNS: [&str; 6] = ["epoch", "step", "slot", "batch", "worker", "incarnation"];

/// One mini-batch that counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The step, from 0.
    pub step: u64,
    /// The batch's position in the step.
    pub slot: u32,
    /// The batch's position in the manifest.
    pub batch: u32,
    /// The worker.
    pub worker: u32,
    /// Which life of it.
    pub incarnation: u32,
}

/// The entries of `records`, in order, when batches are taken as `seed` and `schedule` say.
pub(super) fn entries(records: &Records, seed: u64, schedule: Schedule) -> Vec<Entry> {
    let mut order = (u64::MAX, Vec::new());
    let mut entries = Vec::with_capacity(records.counted.len());
    for &(step, counted) in &records.counted {
        let epoch = schedule.epoch(step);
        if order.0 != epoch {
            order = (epoch, epoch_order(seed, epoch, schedule.n_batches()));
        }
        let batch = order.1[schedule.positions(step).start + counted.slot as usize];
        let (slot, worker, incarnation) = (counted.slot, counted.worker, counted.incarnation);
        entries.push(Entry { epoch, step, slot, batch, worker, incarnation });
    }
    entries
}

/// The file of `entries`.
pub(super) fn encode(entries: &[Entry]) -> Result<Vec<u8>, Error> {
    let long = |of: fn(&Entry) -> u64| Arc::new(entries.iter().map(of).collect::<UInt64Array>()) as ArrayRef;
    let short = |of: fn(&Entry) -> u32| Arc::new(entries.iter().map(of).collect::<UInt32Array>()) as ArrayRef;
    let columns = vec![
        long(|e| e.epoch),
        long(|e| e.step),
        short(|e| e.slot),
        short(|e| e.batch),
        short(|e| e.worker),
        short(|e| e.incarnation),
    ];
    let fields =
        COLUMNS.iter().zip(&columns).map(|(name, column)| Field::new(*name, column.data_type().clone(), false));
    super::parquet(fields.collect(), columns)
}

/// The entries of a file.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn decode(bytes: Bytes) -> Result<Vec<Entry>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
    let mut entries = Vec::new();
    for batch in reader.map_err(|e| format!("not a readable Parquet file: {e}"))? {
        let batch = batch.map_err(|e| e.to_string())?;
        let column = |name: &str, kind: &DataType| {
            let column = batch.column_by_name(name).filter(|c| c.data_type() == kind && c.null_count() == 0);
            column.ok_or_else(|| format!("it has no column `{name}` of whole numbers"))
        };
        let long =
            |i: usize| column(COLUMNS[i], &DataType::UInt64).map(|c| c.as_primitive::<UInt64Type>().values().clone());
        let short =
            |i: usize| column(COLUMNS[i], &DataType::UInt32).map(|c| c.as_primitive::<UInt32Type>().values().clone());
        let (epochs, steps) = (long(0)?, long(1)?);
        let (slots, batches, workers, incarnations) = (short(2)?, short(3)?, short(4)?, short(5)?);
        entries.extend((0..batch.num_rows()).map(|i| Entry {
            epoch: epochs[i],
            step: steps[i],
            slot: slots[i],
            batch: batches[i],
            worker: workers[i],
            incarnation: incarnations[i],
        }));
    }
    Ok(entries)
}
