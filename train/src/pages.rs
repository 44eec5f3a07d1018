//! Runs for people to look at: `report.html` beside each run, and pages and charts of several runs together.

use std::time::Instant;

use manifests::place::Place;
use page::Files;
use reporting::Console;
use schemas::report::PageReport;

use crate::TOOL;
use crate::error::Error;
use crate::output::lives::LIVES;
use crate::output::{HISTORY, REPORT, SCORES, TIMINGS};
use crate::plan::pages::Pages;

/// A run's page, in its folder.
pub const PAGE: &str = "report.html";

/// Makes the page of the run at `place`, unless it is there.
///
/// # Errors
/// When a file of the run cannot be read, or the page cannot be written.
pub fn ensure(place: &Place) -> Result<(), Error> {
    if place.size(PAGE)?.is_none() {
        let run = read(place)?;
        place.put(PAGE, page::html(&[run]))?;
    }
    Ok(())
}

/// Makes one page of some runs, and their charts.
///
/// # Errors
/// When a file of a run cannot be read, or there is something else where the page or a chart goes.
pub fn run(pages: &Pages, console: &Console) -> Result<PageReport, Error> {
    let start = Instant::now();
    let runs = pages.runs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut made = vec![(pages.page.clone(), page::html(&runs).into_bytes())];
    if let Some(place) = &pages.charts {
        for chart in page::charts(&runs) {
            made.push(((place.clone(), format!("{}.png", chart.name)), chart.png()));
            made.push(((place.clone(), format!("{}.svg", chart.name)), chart.svg.into_bytes()));
        }
    }
    let mut bytes_written = 0;
    for ((place, key), bytes) in &made {
        if !pages.replace && place.size(key)?.is_some() {
            // The same files give the same page.
            if place.get(key)? == bytes.as_slice() {
                continue;
            }
            return Err(manifests::Error::Conflict { place: place.show(key) }.into());
        }
        place.put(key, bytes.clone())?;
        bytes_written += bytes.len() as u64;
    }
    let names: Vec<String> = made.iter().map(|((place, key), _)| place.show(key)).collect();
    let (page, charts) = names.split_first().ok_or_else(|| Error::Internal("there is a page".to_owned()))?;
    console.note(format!("page     {page}"));
    if let (Some(place), [_, ..]) = (&pages.charts, charts) {
        console.note(format!("charts   {place}: {} files", charts.len()));
    }
    Ok(PageReport {
        tool: TOOL.to_owned(),
        runs: pages.runs.iter().map(Place::to_string).collect(),
        output: page.clone(),
        charts: charts.to_vec(),
        bytes_written,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn read(place: &Place) -> Result<page::Run, Error> {
    let report = place.find(REPORT)?.ok_or_else(|| Error::Usage {
        problem: format!("`{place}` is not a finished run: it has no {REPORT}"),
        fix: "give folders that `train` wrote, for example `train report runs/NAME`".to_owned(),
    })?;
    let table = |key: &str| place.get(key).map(Vec::from).map_err(|e| e.named_by("the run"));
    let files = Files {
        name: place.to_string(),
        report: report.into(),
        history: table(HISTORY)?,
        timings: table(TIMINGS)?,
        lives: place.find(LIVES)?.map(Vec::from),
        scores: place.find(SCORES)?.map(Vec::from),
    };
    page::read(files).map_err(|wrong| Error::Page { place: place.to_string(), wrong })
}
