//! `train recommend`: the items that a user would like most, by a matrix factorisation.

mod titles;

use std::time::Instant;

use manifests::load::{self, Shards};
use manifests::ratings::{self, RatingRows};
use reporting::{Console, count};
use schemas::report::{RecommendReport, RecommendedItem};

use crate::TOOL;
use crate::error::Error;
use crate::evaluate::objects_of;
use crate::plan::scoring::{Rated, Recommend};
use crate::saved::{Model, Run, like, pmf};

/// Finds the items of `plan`.
///
/// # Errors
/// When the run, the manifest or the titles cannot be used, the model does not know the user, or a signal comes.
pub fn run(plan: &Recommend, console: &Console) -> Result<RecommendReport, Error> {
    let start = Instant::now();
    let run = Run::open(&plan.run)?;
    let Model::Ratings(model) = run.model()? else {
        let problem = format!("`{}` is a model of click logs, which recommends nothing", run.place);
        let fix = "give a run that was trained on ratings; click logs are scored with `train predict`";
        return Err(Error::Usage { problem, fix: fix.to_owned() });
    };
    let user = model.users.number(plan.user);
    if user == model.users.count() {
        return Err(unknown(&model, plan.user));
    }
    let titles = plan.titles.as_deref().map(titles::read).transpose()?;
    let rated = match &plan.rated {
        Rated::Included => None,
        Rated::LeftOut(named) => Some(rated(plan, &run, named.as_deref(), (&model, user), console)?),
    };
    let items = best(&model, user, rated.as_deref(), plan.top)
        .into_iter()
        .map(|(item_id, prediction)| {
            let title = titles.as_ref().and_then(|titles| titles.get(&item_id)).cloned();
            RecommendedItem { item_id, title, prediction }
        })
        .collect();
    let report = RecommendReport {
        tool: TOOL.to_owned(),
        model: run.place.to_string(),
        model_digest: run.report.model_digest.clone(),
        user: plan.user,
        rated: rated.map(|rated| rated.iter().filter(|&&rated| rated).count() as u64),
        items,
        seconds: start.elapsed().as_secs_f64(),
    };
    table(&report, console);
    Ok(report)
}

fn unknown(model: &pmf::Model, user: u32) -> Error {
    let n_users = model.users.count();
    let (first, last) = (model.users.id(0), model.users.id(n_users - 1));
    Error::Usage {
        problem: format!(
            "the model does not know user {user}; it knows {n_users} users, with ids from {first} to {last}"
        ),
        fix: "choose one of them (users.parquet of the run lists them), or train again on ratings by this user"
            .to_owned(),
    }
}

/// For each item whether the user has rated it, in training or in held-out rows of the manifest.
fn rated(
    plan: &Recommend,
    run: &Run,
    named: Option<&str>,
    (model, user): (&pmf::Model, u32),
    console: &Console,
) -> Result<Vec<bool>, Error> {
    let shards = manifest(run, named)?;
    like::check(&run.preparation, &shards.manifest.layout, &shards.name)?;
    let m = &shards.manifest;
    let progress = console.progress("reading what was rated", Some(m.rows + m.holdout_rows), "ratings");
    let batches = shards.batches.iter().chain(shards.holdout_batches.iter());
    let n_batches = shards.batches.len() + shards.holdout_batches.len();
    let objects = objects_of(&shards, batches, n_batches, plan.threads, &progress);
    let work = |rows: &mut RatingRows, _, bytes, items: &mut Vec<u32>| {
        ratings::decode(bytes, rows)?;
        model.check(&rows.users, &rows.items)?;
        items.clear();
        let theirs = rows.users.iter().zip(&rows.items).filter(|(other, _)| **other == user);
        items.extend(theirs.map(|(_, &item)| item));
        Ok(rows.len())
    };
    let mut rated = vec![false; model.items.count() as usize];
    let outcome = objects.each(work, |items, _| {
        items.iter().for_each(|&item| rated[item as usize] = true);
        Ok(())
    });
    progress.finish();
    outcome.map(|()| rated)
}

/// The manifest that the model was trained on.
fn manifest(run: &Run, named: Option<&str>) -> Result<Shards, Error> {
    let path = named.unwrap_or(&run.report.manifest);
    let fix = "name the manifest that the model was trained on with `--manifest FILE`, or list all movies with \
               `--include-rated`";
    let shards = match load::shards(path) {
        Err(manifests::Error::NotFound { .. }) if named.is_none() => {
            let problem = format!("what the user has rated is not known: there is no manifest `{path}` (any more)");
            return Err(Error::Usage { problem, fix: fix.to_owned() });
        }
        shards => shards?,
    };
    let (found, expected) = (&shards.digest, &run.report.manifest_digest);
    if found != expected {
        let problem =
            format!("this is not the manifest that the model was trained on: it is {found}, that was {expected}");
        return Err(Error::Unfit { place: shards.name.clone(), problem, fix: fix.to_owned() });
    }
    Ok(shards)
}

/// Ids and predictions of the best items, the best one first; of equal ones, that with the smaller id.
fn best(model: &pmf::Model, user: u32, rated: Option<&[bool]>, top: usize) -> Vec<(u32, f32)> {
    let is_rated = |item: u32| rated.is_some_and(|rated| rated[item as usize]);
    let items: Vec<u32> = (0..model.items.count()).filter(|&item| !is_rated(item)).collect();
    let mut outputs = Vec::new();
    model.outputs(&vec![user; items.len()], &items, &mut outputs);
    let mut best: Vec<(u32, f32)> =
        items.iter().zip(outputs).map(|(&item, output)| (model.items.id(item), model.stars(output))).collect();
    best.sort_unstable_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
    best.truncate(top);
    best
}

fn table(report: &RecommendReport, console: &Console) {
    let left_out = report.rated.map_or(String::new(), |rated| format!(" ({} rated ones left out)", count(rated)));
    console.note(format!("for user {}, by {}{left_out}:", report.user, report.model));
    for RecommendedItem { item_id, title, prediction } in &report.items {
        let title = title.as_deref().map_or(String::new(), |title| format!("  {title}"));
        console.note(format!("  {prediction:.2}  {item_id:>7}{title}"));
    }
    if report.items.is_empty() {
        console.note("  nothing is left");
    }
}
