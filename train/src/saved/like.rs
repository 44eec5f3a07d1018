//! Whether prepared rows are prepared as a model's were. Only what determines the values of cells is compared: rows of another day
//! have other counts and other labels.

use schemas::clicks::{NumericColumn, Sparse};
use schemas::dataset::{Layout, Object, Ratings};
use schemas::preparation::Preparation;

use crate::error::Error;

/// Makes sure that the rows of `layout`, which is that of the file `place`, are prepared as `model` says.
///
/// # Errors
/// [`Error::Unfit`] with the first difference.
pub fn check(model: &Preparation, layout: &Layout, place: &str) -> Result<(), Error> {
    let unfit = |problem, fix: &str| Error::Unfit { place: place.to_owned(), problem, fix: fix.to_owned() };
    let difference = match (&model.layout, layout) {
        (Layout::Ratings(model), Layout::Ratings(found)) => ratings(model, found),
        (Layout::Dense(model), Layout::Dense(found)) => numbers(&model.numeric, &found.numeric, moments),
        (Layout::Sparse(model), Layout::Sparse(found)) => sparse(model, found),
        (model, found) => {
            let problem = format!("its rows are of the kind `{}`, the model's `{}`", found.kind(), model.kind());
            return Err(unfit(problem, "give rows of the model's kind, or the raw text"));
        }
    };
    let fix = match layout {
        Layout::Ratings(_) => "give the raw ratings to `train predict`, which knows the model's ids and mean",
        Layout::Dense(_) | Layout::Sparse(_) => {
            "prepare it with `prep criteo --like DATASET`, where DATASET is what the model's rows come from"
        }
    };
    match difference {
        None => Ok(()),
        Some(difference) => Err(unfit(format!("it is prepared otherwise than the model's rows: {difference}"), fix)),
    }
}

fn ratings(model: &Ratings, found: &Ratings) -> Option<String> {
    if model.mean.to_bits() != found.mean.to_bits() {
        return Some(format!("its mean is {}, the model's {}", found.mean, model.mean));
    }
    let maps = [("users", &model.users, &found.users), ("items", &model.items, &found.items)];
    let (name, model, found) = maps.into_iter().find(|(_, model, found)| model.digest != found.digest)?;
    Some(format!(
        "its map of {} {name} is {}, the model's, of {}, {}",
        found.rows, found.digest, model.rows, model.digest
    ))
}

fn sparse(model: &Sparse, found: &Sparse) -> Option<String> {
    if model.hash != found.hash {
        let shown = |sparse: &Sparse| format!("{} buckets", sparse.hash.buckets);
        return Some(format!("its tokens are hashed to {}, the model's to {}", shown(found), shown(model)));
    }
    numbers(&model.numeric, &found.numeric, range).or_else(|| {
        let shown = |scales: &Option<Object>| match scales {
            Some(table) => format!("scales {}", table.digest),
            None => "no scales".to_owned(),
        };
        let (model, found) = (shown(&model.scales), shown(&found.scales));
        (model != found).then(|| format!("its buckets have {found}, the model's {model}"))
    })
}

/// The first column of which `shown` tells something else.
fn numbers(
    model: &[NumericColumn],
    found: &[NumericColumn],
    shown: impl Fn(&NumericColumn) -> String,
) -> Option<String> {
    let pairs = model.iter().zip(found).map(|(model, found)| (&found.name, shown(model), shown(found)));
    let (name, model, found) = pairs.into_iter().find(|(_, model, found)| model != found)?;
    Some(format!("{name} {found}, the model's {model}"))
}

/// Equal for equal bits: a number is printed so that it can be read back.
fn moments(column: &NumericColumn) -> String {
    format!("has the mean {} and the deviation {}", column.mean, column.sd)
}

fn range(column: &NumericColumn) -> String {
    match (column.min, column.max) {
        (Some(min), Some(max)) => format!("reaches from {min} to {max}"),
        _ => "has no numbers".to_owned(),
    }
}
