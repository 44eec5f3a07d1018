//! The report on a set-up for functions: what was checked, and what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `train doctor` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// `train` and its version.
    pub tool: String,
    /// The function, as it was asked for.
    pub function: String,
    /// Its version that a run would invoke, when there is one.
    pub version: Option<String>,
    /// The manifest.
    pub manifest: String,
    /// The place of the run.
    pub output: String,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// The exit code: 0 when no check failed, else that of the first that did.
    pub exit_code: u8,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was looked at. Names with `function-` in front were looked at by the function.
    pub name: String,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// What was found, in words.
    pub found: String,
    /// What to do about it, in words, when something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// As it should be.
    Ok,
    /// A run works, perhaps not as it should.
    Warn,
    /// A run would not work.
    Fail,
    /// It could not be looked at because of another check that has failed.
    Skipped,
}
