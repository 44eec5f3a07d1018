//! What would be read and written, and about how much. Nothing is written for it.

use std::time::Instant;

use manifests::commit::generation;
use manifests::disk::free_bytes;
use reporting::{Console, count};
use schemas::report::{DryRunReport, Verdict, WouldRead, WouldWrite};

use crate::plan::{Input, Plan};
use crate::shares::Shares;
use crate::{Error, TOOL, existing, identity};

/// Says what `plan` would do.
///
/// # Errors
/// When there is too little memory or disk for it, or what is there already cannot be read.
pub(crate) fn run(plan: &Plan, console: &Console) -> Result<DryRunReport, Error> {
    let start = Instant::now();
    let verdict = existing::verdict(plan, &generation(&identity(plan)))?;
    let shares = Shares::of(plan)?;
    let descriptor = &plan.descriptor;
    let parts = descriptor.parts.iter().chain(&descriptor.holdout_parts);
    let rows = descriptor.rows.train + descriptor.rows.holdout;
    let bytes = match plan.input {
        // The mini-batches hold the same rows in the same encodings.
        Input::Stored(_) => Some(parts.map(|part| part.bytes).sum::<u64>()),
        Input::Piped(_) => None,
    };
    let writes = match verdict {
        Verdict::Unchanged | Verdict::Conflict => Vec::new(),
        Verdict::New | Verdict::Replace | Verdict::Unknown => {
            shares.check_disk(plan)?;
            let objects = [descriptor.rows.train, descriptor.rows.holdout].map(|rows| objects(plan, rows));
            vec![
                WouldWrite {
                    place: plan.out.to_string(),
                    bytes,
                    rows: Some(rows),
                    objects: Some(objects.iter().sum::<u64>() + descriptor.layout.tables().len() as u64),
                },
                WouldWrite { place: plan.manifest.clone(), bytes: None, rows: None, objects: Some(1) },
            ]
        }
    };
    let report = DryRunReport {
        tool: TOOL.to_owned(),
        dry_run: true,
        verdict,
        output: plan.out.to_string(),
        reads: vec![WouldRead {
            place: plan.named_by.clone(),
            bytes,
            rows: Some(rows),
            format: Some(descriptor.layout.kind().to_owned()),
            compression: None,
        }],
        temporary_bytes: Some(if writes.is_empty() { 0 } else { shares.temporary_bytes }),
        temporary_bytes_free: free_bytes(&plan.temp_dir).ok(),
        memory_bytes: Some(plan.memory),
        writes,
        seconds: start.elapsed().as_secs_f64(),
    };
    say(plan, &report, console);
    Ok(report)
}

/// Objects that `rows` rows would become.
fn objects(plan: &Plan, rows: u64) -> u64 {
    let batches = rows.div_ceil(plan.shuffle.batch_rows);
    let together = plan.rows_per_object.map_or(1, |rows| (rows / plan.shuffle.batch_rows).max(1));
    batches.div_ceil(together)
}

fn say(plan: &Plan, report: &DryRunReport, console: &Console) {
    let bytes = |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| format!(", about {} bytes", count(bytes)));
    for read in &report.reads {
        console.note(format!("would read {}: {} rows{}", read.place, count(read.rows.unwrap_or(0)), bytes(read.bytes)));
    }
    for write in &report.writes {
        let objects = write.objects.unwrap_or(0);
        let noun = if objects == 1 { "object" } else { "objects" };
        console.note(format!("would write {}: {objects} {noun}{}", write.place, bytes(write.bytes)));
    }
    console.note(match report.verdict {
        Verdict::New => "nothing is there yet".to_owned(),
        Verdict::Unchanged => format!("{} says that this is done already; nothing would be written", plan.manifest),
        Verdict::Replace => "something else is there and would be replaced".to_owned(),
        Verdict::Conflict => "something else is there: this would be refused without `--replace`".to_owned(),
        Verdict::Unknown => "what is there cannot be told".to_owned(),
    });
    let temporary = report.temporary_bytes.unwrap_or(0);
    console.note(format!(
        "memory {} bytes at most, temporary data {} bytes in {}",
        count(plan.memory),
        count(temporary),
        plan.temp_dir.display()
    ));
}
