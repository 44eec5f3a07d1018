//! What is already there: the same shards, others, or none.

use manifests::commit::generations;
use manifests::load::{self, Shards};
use reporting::Console;
use schemas::report::Verdict;

use crate::plan::Plan;
use crate::{Error, verify};

/// The shards that `plan` would make, when they are already there and whole; `None` when they are to be made.
///
/// # Errors
/// [`Error::Differs`] or [`Error::Occupied`] when something else is there and may not be replaced.
pub(crate) fn find(plan: &Plan, generation: &str) -> Result<Option<Shards>, Error> {
    if plan.manifest_place.size(&plan.manifest_key)?.is_none() {
        return vacant(plan, generation).map(|()| None);
    }
    let difference = match load::shards(&plan.manifest) {
        Ok(found) => match difference(plan, &found).map_or_else(|| damage(&found), |text| Ok(Some(text)))? {
            None => return Ok(Some(found)),
            Some(difference) => difference,
        },
        Err(manifests::Error::Invalid { problem, .. }) => problem,
        Err(other) => return Err(other.into()),
    };
    if plan.replace { Ok(None) } else { Err(Error::Differs { manifest: plan.manifest.clone(), difference }) }
}

/// What would become of what is there, as far as its manifest tells: no object is read.
///
/// # Errors
/// When the place or the manifest cannot be read.
pub(crate) fn verdict(plan: &Plan, generation: &str) -> Result<Verdict, Error> {
    let other = if plan.replace { Verdict::Replace } else { Verdict::Conflict };
    if plan.manifest_place.size(&plan.manifest_key)?.is_none() {
        return match vacant(plan, generation) {
            Ok(()) => Ok(Verdict::New),
            Err(Error::Occupied { .. }) => Ok(Verdict::Conflict),
            Err(failure) => Err(failure),
        };
    }
    match load::shards(&plan.manifest) {
        Ok(found) if difference(plan, &found).is_none() => Ok(Verdict::Unchanged),
        Ok(_) | Err(manifests::Error::Invalid { .. }) => Ok(other),
        Err(failure) => Err(failure.into()),
    }
}

/// A commit takes other generations away. They may be what another manifest names, so that needs `--replace`.
fn vacant(plan: &Plan, generation: &str) -> Result<(), Error> {
    if plan.replace {
        return Ok(());
    }
    match generations(&plan.out)?.into_iter().find(|found| found != generation) {
        None => Ok(()),
        Some(generation) => {
            let (place, manifest) = (plan.out.to_string(), plan.manifest.clone());
            Err(Error::Occupied { place, generation, manifest })
        }
    }
}

/// In what `found` is not what `plan` would make, if in anything.
fn difference(plan: &Plan, found: &Shards) -> Option<String> {
    let (old, new) = (&found.manifest.shuffle, &plan.shuffle);
    let differs = |what: &str, old: &dyn std::fmt::Display, new: &dyn std::fmt::Display| {
        Some(format!("its {what} is {old}, this one's {new}"))
    };
    if found.manifest.dataset_digest != plan.dataset_digest {
        differs("dataset", &found.manifest.dataset_digest, &plan.dataset_digest)
    } else if old.batch_rows != new.batch_rows {
        differs("batch size", &old.batch_rows, &new.batch_rows)
    } else if old.seed != new.seed {
        differs("seed", &old.seed, &new.seed)
    } else if old.sorted_by != new.sorted_by {
        differs("sort order", &old.sorted_by.join(", "), &new.sorted_by.join(", "))
    } else if found.manifest.rows_per_object != plan.rows_per_object {
        let shown = |rows: Option<u64>| rows.map_or("that of one mini-batch".to_owned(), |rows| rows.to_string());
        differs("number of rows per object", &shown(found.manifest.rows_per_object), &shown(plan.rows_per_object))
    } else if found.manifest.base != plan.base {
        differs("base", &found.manifest.base, &plan.base)
    } else {
        None
    }
}

/// What is wrong with the first damaged object that `found` names, if any is. All of them are read.
fn damage(found: &Shards) -> Result<Option<String>, Error> {
    let progress = Console::silent().progress("", None, "");
    let checked = verify::check(found, rayon::current_num_threads(), &progress)?;
    Ok(checked.problems.first().map(ToString::to_string))
}
