//! The plan of a page of runs.

use manifests::place::Place;

use crate::cli;
use crate::error::Error;
use crate::saved;

/// `train report`
#[derive(Clone, Debug)]
pub struct Pages {
    /// The runs.
    pub runs: Vec<Place>,
    /// Where the page goes, and its name there.
    pub page: (Place, String),
    /// Where the charts go, if they are wanted.
    pub charts: Option<Place>,
    /// Overwrite what is there.
    pub replace: bool,
}

impl Pages {
    /// Resolves `args`.
    ///
    /// # Errors
    /// When a run, the page or the charts have no place.
    pub fn resolve(args: &cli::Pages) -> Result<Self, Error> {
        Ok(Self {
            runs: args.runs.iter().map(|run| saved::named(run)).collect::<Result<_, _>>()?,
            page: Place::parse_file(&args.out)?,
            charts: args.charts.as_deref().map(Place::parse).transpose()?,
            replace: args.replace,
        })
    }
}
