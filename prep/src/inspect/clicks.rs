//! What is in a click log: clicks, numbers, buckets, and the values that are there at all.

use manifests::clicks::{self, ClickRows, Form, MISSING_BUCKET};
use schemas::clicks::{Dense, Labels, N_NUMERIC, NumericColumn, Sparse};
use schemas::dataset::Object;
use schemas::report::{
    InspectedBuckets, InspectedCategory, InspectedClicks, InspectedEntries, InspectedLabels, InspectedNumber,
};

use crate::error::Error;

use super::buckets::{Counts, expected_tokens, rows_with_collisions};
use super::moments::Moments;
use super::parts::Parts;
use super::{Contradictions, share};

/// What was counted in some parts.
#[derive(Default)]
struct Tally {
    clicks: u64,
    entries: u64,
    numbers: [Moments; N_NUMERIC],
    rows_with_collisions: u64,
}

impl Tally {
    fn add(mut self, other: &Self) -> Self {
        self.clicks += other.clicks;
        self.entries += other.entries;
        self.rows_with_collisions += other.rows_with_collisions;
        self.numbers.iter_mut().zip(&other.numbers).for_each(|(sum, more)| sum.add(more));
        self
    }
}

/// Reads `objects`. Columns are looked at when there are `counts` to add their buckets to.
fn tally(parts: &Parts<'_>, objects: &[Object], form: Form, counts: Option<&Counts>) -> Result<Tally, Error> {
    let tallies = parts.each(objects, |rows: &mut ClickRows, number, bytes| {
        clicks::decode(form, bytes, rows)?;
        let mut tally =
            Tally { clicks: rows.labels.iter().filter(|&&label| label == 1.0).count() as u64, ..Tally::default() };
        let present_numbers: u64 = match counts {
            Some(_) => {
                tally.numbers = std::array::from_fn(|i| Moments::of(&rows.numbers[i]));
                tally.numbers.iter().map(|moments| moments.count).sum()
            }
            None => rows.numbers.iter().map(|column| column.iter().filter(|x| !x.is_nan()).count() as u64).sum(),
        };
        let present_buckets: u64 = match counts {
            Some(counts) if form.is_sparse() => {
                tally.rows_with_collisions = rows_with_collisions(rows.len, &rows.buckets);
                counts.add(number, &rows.buckets).iter().sum()
            }
            _ => rows.buckets.iter().map(|column| column.iter().filter(|&&b| b != MISSING_BUCKET).count() as u64).sum(),
        };
        tally.entries = present_numbers + present_buckets;
        Ok((rows.len, tally))
    })?;
    Ok(tallies.iter().fold(Tally::default(), Tally::add))
}

/// Inspects dense rows.
pub(super) fn inspect_dense(
    parts: &Parts<'_>,
    layout: &Dense,
    contradictions: &mut Contradictions,
) -> Result<InspectedClicks, Error> {
    let d = &parts.dataset.descriptor;
    let form = Form { labelled: layout.labels.is_some(), n_buckets: None };
    let train = tally(parts, &d.parts, form, Some(&Counts::new(0)))?;
    let held_out = tally(parts, &d.holdout_parts, form, None)?;
    // The stored rows do not tell any more which numbers were missing.
    let missing =
        |column: &NumericColumn| layout.fitted_on.is_none().then(|| 1.0 - share(column.present, d.rows.train));
    Ok(InspectedClicks {
        labels: labels(parts, layout.labels, &train, &held_out, contradictions),
        fitted_on: layout.fitted_on.clone(),
        numeric: numbers(&layout.numeric, &train, missing),
        categorical: Vec::new(),
        buckets: None,
        entries: None,
    })
}

/// Inspects sparse rows.
pub(super) fn inspect_sparse(
    parts: &Parts<'_>,
    layout: &Sparse,
    contradictions: &mut Contradictions,
) -> Result<InspectedClicks, Error> {
    let d = &parts.dataset.descriptor;
    let form = Form { labelled: layout.labels.is_some(), n_buckets: Some(layout.hash.buckets) };
    let counts = Counts::new(layout.hash.buckets);
    let train = tally(parts, &d.parts, form, Some(&counts))?;
    let held_out = tally(parts, &d.holdout_parts, form, None)?;
    let (columns, used) = counts.finish();
    let after = train.entries + held_out.entries;
    contradictions.check("values before scaling and after it", layout.entries, after);
    // What was fitted on other rows cannot be held against these.
    if layout.fitted_on.is_none() {
        for (column, found) in layout.numeric.iter().zip(&train.numbers) {
            contradictions.check(format_args!("rows with {}", column.name), column.present, found.count);
        }
        for (column, found) in layout.categorical.iter().zip(&columns) {
            contradictions.check(format_args!("rows with {}", column.name), column.present, found.present);
        }
        contradictions.check("rows with collisions", layout.rows_with_collisions, train.rows_with_collisions);
    }
    let missing = |present: u64| 1.0 - share(present, d.rows.train);
    let categorical = layout.categorical.iter().zip(&columns).map(|(column, found)| InspectedCategory {
        name: column.name.clone(),
        missing: missing(found.present),
        buckets: found.distinct,
        top_bucket: found.top.map(|(bucket, _)| bucket),
        top_share: found.top.map_or(0.0, |(_, count)| share(count, d.rows.train)),
    });
    let n_buckets = layout.hash.buckets;
    let mut numeric = numbers(&layout.numeric, &train, |_| None);
    for (column, found) in numeric.iter_mut().zip(&train.numbers) {
        column.missing = Some(missing(found.count));
    }
    Ok(InspectedClicks {
        labels: labels(parts, layout.labels, &train, &held_out, contradictions),
        fitted_on: layout.fitted_on.clone(),
        numeric,
        categorical: categorical.collect(),
        buckets: Some(InspectedBuckets {
            buckets: n_buckets,
            used,
            rows_with_collisions: train.rows_with_collisions,
            share_with_collisions: share(train.rows_with_collisions, d.rows.train),
            tokens_per_bucket: expected_tokens(used, n_buckets).map(|tokens| tokens / f64::from(n_buckets)),
        }),
        entries: Some(InspectedEntries {
            before: layout.entries,
            after,
            surviving: if layout.entries == after { 1.0 } else { share(after, layout.entries) },
        }),
    })
}

fn labels(
    parts: &Parts<'_>,
    labels: Option<Labels>,
    train: &Tally,
    held_out: &Tally,
    contradictions: &mut Contradictions,
) -> Option<InspectedLabels> {
    let labels = labels?;
    let rows = parts.dataset.descriptor.rows;
    contradictions.check("training rows with label 1", labels.train_positives, train.clicks);
    contradictions.check("held-out rows with label 1", labels.holdout_positives, held_out.clicks);
    Some(InspectedLabels {
        train_clicks: share(train.clicks, rows.train),
        holdout_clicks: (rows.holdout > 0).then(|| share(held_out.clicks, rows.holdout)),
        train_base_log_loss: labels.train_base_log_loss,
        holdout_base_log_loss: labels.holdout_base_log_loss,
    })
}

fn numbers(
    columns: &[NumericColumn],
    train: &Tally,
    missing: impl Fn(&NumericColumn) -> Option<f64>,
) -> Vec<InspectedNumber> {
    let columns = columns.iter().zip(&train.numbers).map(|(column, found)| InspectedNumber {
        name: column.name.clone(),
        missing: missing(column),
        raw_min: column.min,
        raw_max: column.max,
        stored: found.values(0.0),
    });
    columns.collect()
}
