//! What training would read and write. Nothing is written for it.

use std::time::Instant;

use reporting::{Console, count, counted};
use schemas::report::{DryRunReport, Verdict, WouldRead, WouldWrite};

use crate::error::Error;
use crate::output::{self, REPORT};
use crate::plan::Plan;
use crate::{TOOL, output::announce};

/// Says what `plan` would do.
///
/// # Errors
/// When what is there already cannot be read.
pub fn run(plan: &Plan, console: &Console) -> Result<DryRunReport, Error> {
    let start = Instant::now();
    plan.recipe.iter().for_each(|words| console.note(words));
    plan.warnings.iter().for_each(|warning| console.warn(warning));
    let verdict = match output::existing(plan) {
        Ok(Some(_)) => Verdict::Unchanged,
        Ok(None) if plan.out.size(REPORT)?.is_some() => Verdict::Replace,
        Ok(None) => Verdict::New,
        Err(Error::Stored(manifests::Error::Differs { .. })) => Verdict::Conflict,
        Err(failure) => return Err(failure),
    };
    let shards = &plan.shards;
    let (rows, held_out) = (shards.manifest.rows, shards.manifest.holdout_rows);
    let bytes = (shards.batches.bytes() + shards.holdout_batches.bytes()) as u64;
    announce(plan, console);
    console.note(format!(
        "would read {}: {} bytes in each of at most {}",
        shards.name,
        count(bytes),
        counted(plan.limits.max_epochs, "epoch")
    ));
    console.note(format!("ends {}, whichever comes first", ends(plan).join(", ")));
    console.note(match verdict {
        Verdict::New => format!("would write {}, where no run is yet", plan.out),
        Verdict::Unchanged => format!("would write nothing: {} holds this run already", plan.out),
        Verdict::Replace => format!("would replace the run in {}", plan.out),
        Verdict::Conflict => format!("would be refused: {} holds another run", plan.out),
        Verdict::Unknown => format!("what is in {} cannot be told", plan.out),
    });
    let writes = match verdict {
        Verdict::Unchanged | Verdict::Conflict => Vec::new(),
        _ => vec![WouldWrite { place: plan.out.to_string(), bytes: None, rows: None, objects: None }],
    };
    Ok(DryRunReport {
        tool: TOOL.to_owned(),
        dry_run: true,
        verdict,
        output: plan.out.to_string(),
        reads: vec![WouldRead {
            place: shards.name.clone(),
            bytes: Some(bytes),
            rows: Some(rows + held_out),
            format: Some(shards.manifest.layout.kind().to_owned()),
            compression: None,
        }],
        writes,
        temporary_bytes: Some(0),
        temporary_bytes_free: None,
        memory_bytes: None,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What ends a run, whichever comes first, for people.
fn ends(plan: &Plan) -> Vec<String> {
    let limits = &plan.limits;
    let mut ends = vec![format!("after {}", counted(limits.max_epochs, "epoch"))];
    ends.extend(limits.max_time.map(|time| format!("after {}", humantime::format_duration(time))));
    ends.extend(limits.target_loss.map(|loss| format!("at a training loss of {loss}")));
    ends.extend(limits.target_holdout_loss.map(|loss| format!("at a held-out loss of {loss}")));
    ends.extend(limits.patience.map(|n| format!("after {} without a better held-out loss", counted(n, "epoch"))));
    ends
}
