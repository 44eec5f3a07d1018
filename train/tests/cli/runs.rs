//! Finished runs for the commands that use a model, and what their own tables say of rows, reckoned in f64 by plain loops.

use std::collections::{BTreeMap, HashMap};

use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt32Array};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::report::TrainReport;
use serde::de::DeserializeOwned;

use crate::clicks::{self, Row, buckets, most_hits, scaled};
use crate::sandbox::{Ran, Sandbox};
use crate::shards::SMALL;

impl Ran {
    /// The report of any kind on the only line of standard output, after an exit with 0.
    #[track_caller]
    pub(crate) fn only_line<T: DeserializeOwned>(&self) -> T {
        assert_eq!((self.code, self.stdout.lines().count()), (Some(0), 1), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A sandbox with the run `runs/clicks` on `criteo.json`.
pub(crate) fn clicks(sparse: bool, args: &str) -> (Sandbox, TrainReport) {
    let sandbox = Sandbox::with(SMALL);
    clicks::write_manifest(&sandbox.path(""), "criteo", sparse, true);
    let epochs = if args.contains("--max-epochs") { "" } else { "--max-epochs 4" };
    let line = format!("--manifest criteo.json {epochs} --learning-rate 0.03 --workers 2 -q -o runs/clicks {args}");
    let report = sandbox.run(&line).report();
    (sandbox, report)
}

/// A sandbox with the run `runs/ratings` on `ml20m.json`.
pub(crate) fn ratings(args: &str) -> (Sandbox, TrainReport) {
    let sandbox = Sandbox::with(SMALL);
    let report =
        sandbox.train(&format!("--factors 6 --step-batches 8 --max-epochs 9 -q -o runs/ratings {args}")).report();
    (sandbox, report)
}

/// All rows of a Parquet file, batch by batch.
pub(crate) fn batches(sandbox: &Sandbox, name: &str) -> Vec<RecordBatch> {
    let file = std::fs::File::open(sandbox.path(name)).unwrap();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
}

/// A column of a Parquet file, each cell as csv has it.
pub(crate) fn cells(sandbox: &Sandbox, name: &str, column: &str) -> Vec<String> {
    let mut cells = Vec::new();
    for batch in batches(sandbox, name) {
        let array = batch.column_by_name(column).unwrap_or_else(|| panic!("{column} in {:?}", batch.schema())).as_any();
        if let Some(array) = array.downcast_ref::<Float32Array>() {
            cells.extend(array.values().iter().map(ToString::to_string));
        } else if let Some(array) = array.downcast_ref::<UInt32Array>() {
            cells.extend(array.values().iter().map(ToString::to_string));
        } else if let Some(array) = array.downcast_ref::<arrow_array::UInt64Array>() {
            cells.extend(array.values().iter().map(ToString::to_string));
        } else {
            let array = array.downcast_ref::<StringArray>().unwrap();
            cells.extend(array.iter().map(|cell| cell.unwrap().to_owned()));
        }
    }
    cells
}

/// The weights of a run.
pub(crate) struct Weights {
    sparse: bool,
    intercept: f64,
    numbers: Vec<f64>,
    buckets: BTreeMap<u32, f64>,
    scales: BTreeMap<u32, u32>,
}

impl Weights {
    pub(crate) fn of(sandbox: &Sandbox, run: &str, sparse: bool) -> Self {
        let mut weights =
            Self { sparse, intercept: 0.0, numbers: vec![0.0; 13], buckets: BTreeMap::new(), scales: most_hits() };
        for batch in batches(sandbox, &format!("{run}/weights.parquet")) {
            let column = |name: &str| batch.column_by_name(name).unwrap().as_any();
            let names = column("name").downcast_ref::<StringArray>().unwrap();
            let buckets = column("bucket").downcast_ref::<UInt32Array>().unwrap();
            let values = column("weight").downcast_ref::<Float32Array>().unwrap();
            for row in 0..batch.num_rows() {
                let value = f64::from(values.value(row));
                match (names.is_valid(row), names.value(row)) {
                    (false, _) => drop(weights.buckets.insert(buckets.value(row), value)),
                    (true, "intercept") => weights.intercept = value,
                    (true, name) => weights.numbers[name[1..].parse::<usize>().unwrap() - 1] = value,
                }
            }
        }
        weights
    }

    /// The probability of a click.
    pub(crate) fn probability(&self, row: &Row) -> f64 {
        let mut z = self.intercept;
        for (j, &x) in row.numbers.iter().enumerate() {
            z += self.numbers[j] * scaled(self.sparse, j, x).map_or(0.0, f64::from);
        }
        if self.sparse {
            for bucket in buckets(row).into_iter().flatten() {
                z += self.buckets[&bucket] / f64::from(self.scales.get(&bucket).copied().unwrap_or(1));
            }
        }
        1.0 / (1.0 + (-z).exp())
    }
}

/// Factors and bias of every user or item of a run, by the source's id.
pub(crate) type Side = HashMap<u32, (Vec<f64>, f64)>;

/// The table `name`, `user` or `item`, of a run.
pub(crate) fn side(sandbox: &Sandbox, run: &str, name: &str) -> Side {
    let mut side = HashMap::new();
    for batch in batches(sandbox, &format!("{run}/{name}s.parquet")) {
        let ids = batch.column_by_name(&format!("{name}_id")).unwrap().as_any();
        let ids = ids.downcast_ref::<UInt32Array>().unwrap();
        let lists = batch.column_by_name("factors").unwrap().as_any().downcast_ref::<FixedSizeListArray>().unwrap();
        let biases = batch.column_by_name("bias").map(|b| b.as_any().downcast_ref::<Float32Array>().unwrap());
        for row in 0..batch.num_rows() {
            let list = lists.value(row);
            let factors = list.as_any().downcast_ref::<Float32Array>().unwrap().values();
            let bias = biases.map_or(0.0, |biases| biases.value(row).into());
            side.insert(ids.value(row), (factors.iter().copied().map(f64::from).collect(), bias));
        }
    }
    side
}

/// The prediction in stars; a side that is not known adds nothing.
pub(crate) fn stars(mean: f64, users: &Side, items: &Side, user: u32, item: u32) -> f64 {
    let (user, item) = (users.get(&user), items.get(&item));
    let bias = |side: Option<&(Vec<f64>, f64)>| side.map_or(0.0, |(_, bias)| *bias);
    let product = match (user, item) {
        (Some((u, _)), Some((v, _))) => u.iter().zip(v).map(|(u, v)| u * v).sum(),
        _ => 0.0,
    };
    mean + product + bias(user) + bias(item)
}
