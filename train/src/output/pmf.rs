//! A matrix factorisation as files and in words.

use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, UInt32Array};
use arrow_schema::{DataType, Field};
use manifests::id_map;
use reporting::count;
use schemas::dataset::BaselineRmse;
use train_core::pmf::factors::Matrix;

use super::{Files, MODEL, Tables, Tensor, parquet, safetensors, times};
use crate::error::Error;
use crate::model::pmf::Factors;
use crate::plan::Plan;
use crate::plan::pmf::Task;

/// The factors of every user and of every item with the source's id, for people and other engines.
pub const TABLES: [&str; 2] = ["users.parquet", "items.parquet"];

/// The source's ids, in order of their number in the model.
#[derive(Clone, Debug)]
pub struct Ids {
    users: Vec<u32>,
    items: Vec<u32>,
}

impl Ids {
    /// The ids in `tables`.
    ///
    /// # Errors
    /// When an id map is wrong.
    pub fn new(plan: &Plan, tables: &Tables) -> Result<Self, Error> {
        let ids = |name, table| {
            let (object, bytes) = tables.get(table).ok_or_else(|| Error::Internal(format!("there is no {table}")))?;
            let wrong = |problem| Error::Batch { place: plan.shards.place.show(&object.key), problem };
            let ids = id_map::decode(name, bytes).map_err(wrong)?;
            if ids.len() as u64 != object.rows {
                return Err(wrong(format!("it has {} rows, the manifest says {}", ids.len(), object.rows)));
            }
            Ok(ids)
        };
        Ok(Self { users: ids("user", "users.parquet")?, items: ids("item", "items.parquet")? })
    }
}

/// The model and the settings in words.
pub(super) fn announced(task: &Task, n_batches: usize) -> (String, String) {
    let settings = &task.settings;
    let times = times(settings.reduce, settings.step_batches, n_batches);
    let model = format!(
        "{} users x {} items, {} factors{}",
        count(task.ratings.n_users.into()),
        count(task.ratings.n_items.into()),
        settings.factors,
        if settings.biases { " and biases" } else { "" },
    );
    let settings = format!(
        "learning rate {} x {times} = {} a step, momentum {}, l2 {}",
        settings.learning_rate,
        settings.learning_rate * times,
        settings.momentum,
        settings.l2,
    );
    (model, settings)
}

/// How good the model is, in words.
pub(super) fn summary(
    train_rmse: Option<f64>,
    holdout_rmse: Option<f64>,
    baselines: &BaselineRmse,
    epoch: &str,
) -> Vec<String> {
    let (rows, model) = match holdout_rmse {
        Some(rmse) => ("held-out", Some(rmse)),
        None => ("training", train_rmse),
    };
    let mut lines = vec![
        format!("RMSE in stars on the {rows} ratings"),
        format!("  always the mean         {:.4}", baselines.mean),
        format!("  user and movie effects  {:.4}", baselines.effects),
    ];
    lines.extend(model.map(|rmse| format!("  this model              {rmse:.4}{epoch}")));
    lines
}

/// Saves the model.
///
/// # Errors
/// When a file cannot be written.
pub fn save(plan: &Plan, task: &Task, factors: &Factors, ids: Ids, files: &mut Files<'_>) -> Result<(), Error> {
    files.put(MODEL, model(plan, task, factors)?)?;
    files.put(TABLES[0], table(task, "user", ids.users, &factors.users)?)?;
    files.put(TABLES[1], table(task, "item", ids.items, &factors.items)?)
}

/// The model as safetensors: `user_factors`, `item_factors` and, with biases, `user_biases`, `item_biases`, all f32.
fn model(plan: &Plan, task: &Task, factors: &Factors) -> Result<Vec<u8>, Error> {
    let n_factors = task.settings.factors as usize;
    let mut tensors = Vec::new();
    for (name, matrix) in [("user", &factors.users), ("item", &factors.items)] {
        let shape = vec![matrix.factors.len() / n_factors, n_factors];
        tensors.push(Tensor::new(&format!("{name}_factors"), shape, &matrix.factors));
        if task.settings.biases {
            tensors.push(Tensor::new(&format!("{name}_biases"), vec![matrix.biases.len()], &matrix.biases));
        }
    }
    let about = serde_json::json!({
        "format": "gristmill.pmf",
        "version": 1,
        "manifest": plan.shards.digest,
        "mean": task.ratings.mean,
        "stars": "mean + user_factors[u] . item_factors[i] + user_biases[u] + item_biases[i]",
    });
    safetensors(&tensors, &about)
}

/// One matrix as Parquet: the model's number, the source's id, the bias if there is one, the factors.
fn table(task: &Task, name: &str, ids: Vec<u32>, matrix: &Matrix) -> Result<Vec<u8>, Error> {
    let n_factors = task.settings.factors as usize;
    let entry = Arc::new(Field::new("item", DataType::Float32, false));
    let list = DataType::FixedSizeList(Arc::clone(&entry), n_factors as i32);
    let mut fields =
        vec![Field::new(name, DataType::UInt32, false), Field::new(format!("{name}_id"), DataType::UInt32, false)];
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(UInt32Array::from_iter_values(0..ids.len() as u32)), Arc::new(UInt32Array::from(ids))];
    if task.settings.biases {
        fields.push(Field::new("bias", DataType::Float32, false));
        columns.push(Arc::new(Float32Array::from(matrix.biases.clone())));
    }
    fields.push(Field::new("factors", list, false));
    let values = Arc::new(Float32Array::from(matrix.factors.clone()));
    columns.push(Arc::new(FixedSizeListArray::new(entry, n_factors as i32, values, None)));
    parquet(fields, columns)
}
