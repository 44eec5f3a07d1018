//! What a tool would do, as `--dry-run` reports it. Nothing is written for it, and sizes that are not known exactly are estimates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a command would read and write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DryRunReport {
    /// The tool and its version.
    pub tool: String,
    /// Always true: nothing was written.
    pub dry_run: bool,
    /// What would become of the output.
    pub verdict: Verdict,
    /// Where the output would lie.
    pub output: String,
    /// What would be read, in this order.
    pub reads: Vec<WouldRead>,
    /// What would be written.
    pub writes: Vec<WouldWrite>,
    /// Temporary disk space that would be taken, about; nothing when that cannot be told beforehand.
    pub temporary_bytes: Option<u64>,
    /// Free space where temporary data would lie.
    pub temporary_bytes_free: Option<u64>,
    /// Memory that would be taken, at most, by tools that have a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// What would become of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is there yet: it would be made.
    New,
    /// The same is there already: nothing would be written.
    Unchanged,
    /// Something else is there and would be overwritten, as `--replace` asks for.
    Replace,
    /// Something else is there: the command would be refused.
    Conflict,
    /// Something is there, and whether it is the same shows only when all of the input is read, which can be read once.
    Unknown,
}

/// Something that would be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WouldRead {
    /// Where it lies.
    pub place: String,
    /// Its size as it is stored, if that is known.
    pub bytes: Option<u64>,
    /// Its rows, or about as many.
    pub rows: Option<u64>,
    /// What it was recognised as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// How it is compressed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
}

/// Something that would be written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WouldWrite {
    /// Where it would lie.
    pub place: String,
    /// Its size, about.
    pub bytes: Option<u64>,
    /// Its rows, about.
    pub rows: Option<u64>,
    /// How many objects it would be, about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
}
