//! What Gristmill's data looks like: every file that one tool writes and another reads, and every message between workers.
//!
//! | format | type | written by | read by |
//! |---|---|---|---|
//! | `gristmill.dataset` 1 | [`dataset::Descriptor`] | `prep` | `shard` |
//! | `gristmill.manifest` 2 | [`manifest::Manifest`] | `shard` | `train` |
//! | `gristmill.preparation` 1 | [`preparation::Preparation`] | `train` | `train` |
//! | `gristmill.run` 1 | [`report::TrainReport`] | `train` | people, schedulers |
//! | `gristmill.prices` 1 | [`cost::Prices`] | people | `train` |
//! | report lines | [`report`] | every tool, last line of standard output | schedulers |
//! | `gristmill.live` 1 | [`live::Seen`] | `train` | `train watch` |
//! | protocol 4 | [`message::Envelope`] | client, supervisor and workers | each other |
//!
//! **Compatibility.** Every file carries its format and version. A reader accepts every version that was released and
//! refuses a newer one by name. New optional fields and new kinds keep the version; anything else raises it. The JSON Schemas in `json/`
//! are generated from these types and a test fails when they are stale.
//!
//! There is no I/O here, no clock, and no SDK.

pub mod clicks;
pub mod cost;
pub mod dataset;
pub mod exit;
pub mod live;
pub mod manifest;
pub mod message;
pub mod preparation;
pub mod records;
pub mod report;

/// The JSON Schema of each file format, as `(file name, pretty-printed schema)`.
///
/// # Panics
/// Never: the schemas are made from types that always serialise.
#[must_use]
pub fn json_schemas() -> Vec<(&'static str, String)> {
    fn pretty(schema: schemars::Schema) -> String {
        let mut text = serde_json::to_string_pretty(&schema).expect("a JSON Schema is JSON");
        text.push('\n');
        text
    }
    vec![
        ("dataset.schema.json", pretty(schemars::schema_for!(dataset::Descriptor))),
        ("manifest.schema.json", pretty(schemars::schema_for!(manifest::Manifest))),
        ("prep-report.schema.json", pretty(schemars::schema_for!(report::PrepReport))),
        ("generate-report.schema.json", pretty(schemars::schema_for!(report::GenerateReport))),
        ("inspect-report.schema.json", pretty(schemars::schema_for!(report::InspectReport))),
        ("shard-report.schema.json", pretty(schemars::schema_for!(report::ShardReport))),
        ("verify-report.schema.json", pretty(schemars::schema_for!(report::VerifyReport))),
        ("preparation.schema.json", pretty(schemars::schema_for!(preparation::Preparation))),
        ("train-report.schema.json", pretty(schemars::schema_for!(report::TrainReport))),
        ("predict-report.schema.json", pretty(schemars::schema_for!(report::PredictReport))),
        ("evaluate-report.schema.json", pretty(schemars::schema_for!(report::EvaluateReport))),
        ("recommend-report.schema.json", pretty(schemars::schema_for!(report::RecommendReport))),
        ("scale-report.schema.json", pretty(schemars::schema_for!(report::ScaleReport))),
        ("page-report.schema.json", pretty(schemars::schema_for!(report::PageReport))),
        ("run-verify-report.schema.json", pretty(schemars::schema_for!(report::RunVerifyReport))),
        ("exchange-bench-report.schema.json", pretty(schemars::schema_for!(report::ExchangeBenchReport))),
        ("compute-bench-report.schema.json", pretty(schemars::schema_for!(report::ComputeBenchReport))),
        ("prices.schema.json", pretty(schemars::schema_for!(cost::Prices))),
        ("plan-report.schema.json", pretty(schemars::schema_for!(cost::Prediction))),
        ("doctor-report.schema.json", pretty(schemars::schema_for!(report::DoctorReport))),
        ("dry-run-report.schema.json", pretty(schemars::schema_for!(report::DryRunReport))),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Set `GRISTMILL_UPDATE_SCHEMAS=1` to write the files anew after a change of the types.
    #[test]
    fn generated_schemas_are_up_to_date() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
        for (name, expected) in super::json_schemas() {
            let path = folder.join(name);
            if std::env::var_os("GRISTMILL_UPDATE_SCHEMAS").is_some() {
                std::fs::create_dir_all(&folder).expect("schemas/json can be made");
                std::fs::write(&path, &expected).expect("schemas/json can be written");
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == expected, "{name} is stale: run the tests with GRISTMILL_UPDATE_SCHEMAS=1");
        }
    }
}
