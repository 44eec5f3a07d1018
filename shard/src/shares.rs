//! Whether memory and disks have room for the work, before it begins.

use std::path::Path;

use manifests::clicks::Form;
use manifests::disk::free_bytes;

use crate::Error;
use crate::kind::{Clicks, Kind, RatingKind};
use crate::memory::{Needs, Share, Where};
use crate::plan::{Input, Plan};
use crate::sets::origins;
use crate::shuffle::{BUCKET_ROWS, Buckets};
use crate::spill::spilled_bytes;

/// Bytes on their way from a remote place, and as many to one, at most.
const TRANSFER_BYTES: u64 = 64 << 20;

/// What the client of a remote place takes besides: connections, and copies on their way into them.
const CLIENT_BYTES: u64 = 40 << 20;

/// How the memory is shared while each of the two sets is dealt with.
#[derive(Debug)]
pub(crate) struct Shares {
    /// For the training rows.
    pub(crate) train: Share,
    /// For the held-out rows.
    pub(crate) holdout: Share,
    /// What the temporary file takes.
    pub(crate) temporary_bytes: u64,
}

impl Shares {
    /// The shares for `plan`.
    ///
    /// # Errors
    /// [`Error::TooLittleMemory`].
    pub(crate) fn of(plan: &Plan) -> Result<Self, Error> {
        let layout = &plan.descriptor.layout;
        let width = Form::of(layout).map_or_else(RatingKind::width, |form| Clicks(form).width());
        let row_bytes = 4 * width as u64;
        let [train, holdout] = origins(plan).map(|origin| Needs {
            row_bytes,
            rows: origin.rows(),
            part_rows: origin.part_rows(),
            part_bytes: origin.part_bytes(row_bytes),
            batch_rows: plan.shuffle.batch_rows,
            threads: plan.threads as u64,
        });
        let (client, transfer) = if is_remote(plan) { (CLIENT_BYTES, 2 * transfer_bytes(plan)) } else { (0, 0) };
        let fixed = client.saturating_add(packing_bytes(plan, row_bytes));
        let taken = fixed.saturating_add(transfer);
        let too_little = |least: u64| {
            let least = least.saturating_add(fixed);
            // Of a little memory a quarter is for what is on its way.
            let on_the_way = if transfer > 0 { (least / 3).min(2 * TRANSFER_BYTES) } else { 0 };
            Error::TooLittleMemory { memory: plan.memory, least: least.saturating_add(on_the_way) }
        };
        let memory = plan.memory.saturating_sub(taken);
        let buckets = Buckets::new(plan.shuffle.seed, train.rows, BUCKET_ROWS);
        let (rows, train) = (train.rows, Share::of_shuffle(&train, &buckets, memory).map_err(too_little)?);
        let temporary_bytes = match train.shuffled {
            Some(Where::File { .. }) => rows.saturating_mul(spilled_bytes(row_bytes)),
            Some(Where::Memory) | None => 0,
        };
        Ok(Self { train, holdout: Share::of_copy(&holdout, memory).map_err(too_little)?, temporary_bytes })
    }

    /// Whether the disks have room for temporary data and for the mini-batches, which take about what the parts take.
    ///
    /// # Errors
    /// [`Error::TooLittleDisk`].
    pub(crate) fn check_disk(&self, plan: &Plan) -> Result<(), Error> {
        if self.temporary_bytes > 0 {
            check(&plan.temp_dir, "temporary data", self.temporary_bytes)?;
        }
        let descriptor = &plan.descriptor;
        let written = descriptor.parts.iter().chain(&descriptor.holdout_parts).map(|part| part.bytes).sum();
        plan.out.local_path().map_or(Ok(()), |folder| check(&folder, "the mini-batches", written))
    }
}

fn check(folder: &Path, what: &'static str, needed: u64) -> Result<(), Error> {
    let shown = || folder.display().to_string();
    let failed = |source| Error::Temporary { folder: shown(), action: "measure the room for", source };
    let free = free_bytes(folder).map_err(failed)?;
    if needed > free { Err(Error::TooLittleDisk { folder: shown(), what, needed, free }) } else { Ok(()) }
}

fn is_remote(plan: &Plan) -> bool {
    let input = match &plan.input {
        Input::Stored(place) => !place.is_local(),
        Input::Piped(_) => false,
    };
    input || !plan.out.is_local()
}

/// Bytes of objects that are put together: two of which some mini-batches are there, and one that is whole.
fn packing_bytes(plan: &Plan, row_bytes: u64) -> u64 {
    let descriptor = &plan.descriptor;
    let stored: u64 = descriptor.parts.iter().map(|part| part.bytes).sum();
    // Mini-batches take about what the parts take.
    let encoded = if stored == 0 { row_bytes } else { row_bytes.min(stored / descriptor.rows.train.max(1) + 1) };
    plan.rows_per_object.map_or(0, |rows| 3u64.saturating_mul(rows.min(descriptor.rows.train)).saturating_mul(encoded))
}

/// Bytes that may be on their way in one direction.
pub(crate) fn transfer_bytes(plan: &Plan) -> u64 {
    TRANSFER_BYTES.min(plan.memory / 8)
}
