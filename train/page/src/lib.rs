//! Runs as a page of HTML, and as charts in files of their own: what ran, how good it became, where its time and money went, for
//! one run or for several laid over each other. Files come in as bytes and pages go out as text: there is no I/O here.

mod charts;
mod csv;
mod draw;
mod figures;
mod html;
mod look;
mod measure;
mod number;
mod plot;
mod run;
mod svg;
mod thin;
mod timings;

pub use charts::{Chart, charts};
pub use csv::Wrong;
pub use html::html;
pub use run::{Files, Run, read};
