//! In what a run that is there is another one than the plan's.

use manifests::Error;
use schemas::report::{RUN_FORMAT, TrainReport, Trained};
use serde_json::Value;

use crate::plan::{Plan, Task};

/// In what the run of `report`, nothing if it is no report, is not the one of `plan`.
pub(super) fn difference(plan: &Plan, report: Option<&TrainReport>) -> String {
    let Some(report) = report.filter(|report| report.format == RUN_FORMAT) else {
        return "it is not the report of a run".to_owned();
    };
    let (model, old, new) = match (&report.trained, &plan.task) {
        (Trained::Pmf { settings: old, .. }, Task::Pmf(task)) => ("pmf", fields(old), fields(&task.settings)),
        (Trained::Logistic { settings: old, .. }, Task::Logistic(task)) => ("lr", fields(old), fields(&task.settings)),
        (Trained::Pmf { .. }, Task::Logistic(_)) => ("lr", Vec::new(), Vec::new()),
        (Trained::Logistic { .. }, Task::Pmf(_)) => ("pmf", Vec::new(), Vec::new()),
    };
    let old_model = match &report.trained {
        Trained::Pmf { .. } => "pmf",
        Trained::Logistic { .. } => "lr",
    };
    let named = |name: &str, digest: &dyn std::fmt::Display| format!("{name} ({digest})");
    let settings = old.iter().zip(&new).map(|((key, old), (_, new))| (key.as_str(), old.clone(), new.clone()));
    let mut pairs = vec![("model", old_model.to_owned(), model.to_owned())];
    if report.manifest_digest != plan.shards.digest {
        let shards = &plan.shards;
        let old = named(&report.manifest, &report.manifest_digest);
        pairs.push(("manifest", old, named(&shards.name, &shards.digest)));
    }
    pairs.extend(settings);
    Error::difference(&pairs).unwrap_or_else(|| {
        let same = report.identity == plan.identity;
        let other = "its rules to stop are others (--max-epochs, --max-time, --patience or a target)";
        if same { "a file of it is missing or damaged" } else { other }.to_owned()
    })
}

/// Names of settings, as flags have them, with their values.
fn fields(settings: &impl serde::Serialize) -> Vec<(String, String)> {
    let Ok(Value::Object(fields)) = serde_json::to_value(settings) else { return Vec::new() };
    let shown = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fields.into_iter().map(|(key, value)| (key.replace('_', "-"), shown(value))).collect()
}
