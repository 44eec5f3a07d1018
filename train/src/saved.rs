//! A finished run, read and checked: its report, how rows are prepared for its model, and the model.

pub mod like;
pub mod logistic;
pub mod pmf;

use std::path::Path;

use bytes::Bytes;
use manifests::digest::digest;
use manifests::load;
use manifests::place::Place;
use safetensors::{Dtype, SafeTensors};
use schemas::dataset::{Layout, Object};
use schemas::preparation::{PREPARATION_KEY, Preparation};
use schemas::report::{TrainReport, Trained};

use crate::error::Error;
use crate::output::{MODEL, REPORT};

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where it lies.
    pub place: Place,
    /// What `train` said of it.
    pub report: TrainReport,
    /// How rows are prepared for its model.
    pub preparation: Preparation,
}

/// A run with its model.
pub enum Model {
    /// A matrix factorisation, of ratings.
    Ratings(pmf::Model),
    /// A logistic regression, of click logs.
    Clicks(logistic::Model),
}

/// The place of the run that `text` names: its folder, its report or its model.
///
/// # Errors
/// As [`Place::parse`].
pub fn named(text: &str) -> Result<Place, Error> {
    if Path::new(text).file_name().is_some_and(|name| name == REPORT || name == MODEL) {
        return Ok(Place::parse_file(text)?.0);
    }
    Ok(Place::parse(text)?)
}

impl Run {
    /// The run at `place`.
    ///
    /// # Errors
    /// When there is none, or its files do not belong together.
    pub fn open(place: &Place) -> Result<Self, Error> {
        let report = match load::report(place, REPORT) {
            Err(manifests::Error::NotFound { .. }) => {
                return Err(Error::Usage {
                    problem: format!("`{place}` is not a finished run: it has no {REPORT}"),
                    fix: "give the folder that `train` wrote, for example `--model runs/NAME`".to_owned(),
                });
            }
            report => report?,
        };
        let unfit = |problem: String| Error::Unfit {
            place: place.show(PREPARATION_KEY),
            problem,
            fix: "train the model again, with `--replace`".to_owned(),
        };
        let preparation = match load::preparation(place) {
            Err(manifests::Error::NotFound { .. }) => {
                return Err(unfit("not found, and without it no rows can be prepared for the model".to_owned()));
            }
            preparation => preparation?,
        };
        if preparation.manifest_digest != report.manifest_digest {
            let (found, expected) = (&preparation.manifest_digest, &report.manifest_digest);
            return Err(unfit(format!("it is of the manifest {found}, the model of {expected}")));
        }
        let fits = match report.trained {
            Trained::Pmf { .. } => matches!(preparation.layout, Layout::Ratings(_)),
            Trained::Logistic { .. } => !matches!(preparation.layout, Layout::Ratings(_)),
        };
        if !fits {
            return Err(unfit(format!("it is of rows of the kind `{}`, the model is not", preparation.layout.kind())));
        }
        Ok(Self { place: place.clone(), report, preparation })
    }

    /// The run's model.
    ///
    /// # Errors
    /// When a file of it is missing, damaged, or not what a model of these settings is.
    pub fn model(&self) -> Result<Model, Error> {
        match (&self.report.trained, &self.preparation.layout) {
            (Trained::Pmf { settings, .. }, Layout::Ratings(ratings)) => {
                pmf::Model::load(self, settings, ratings).map(Model::Ratings)
            }
            (Trained::Logistic { settings, .. }, layout) => {
                logistic::Model::load(self, settings, layout).map(Model::Clicks)
            }
            (Trained::Pmf { .. }, _) => Err(Error::internal("the kinds of model and rows were compared")),
        }
    }

    /// The bytes of the model.
    fn model_bytes(&self) -> Result<Bytes, Error> {
        let named_by = self.place.show(REPORT);
        let bytes = self.place.get(MODEL).map_err(|e| e.named_by(&named_by))?;
        let (found, expected) = (digest(&bytes), &self.report.model_digest);
        if found != *expected {
            return Err(self.corrupt(MODEL, format!("its digest is {found}, `{named_by}` says {expected}")));
        }
        Ok(bytes)
    }

    /// The table `object` of the preparation.
    fn table(&self, object: &Object) -> Result<Bytes, Error> {
        Ok(load::object(&self.place, object, &self.place.show(PREPARATION_KEY))?)
    }

    fn corrupt(&self, key: &str, problem: String) -> Error {
        manifests::Error::Corrupt { place: self.place.show(key), problem }.into()
    }
}

/// The tensors in a model's file.
struct Tensors<'a> {
    run: &'a Run,
    tensors: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    fn new(run: &'a Run, bytes: &'a [u8]) -> Result<Self, Error> {
        let damaged = |e| run.corrupt(MODEL, format!("not a readable safetensors file: {e}"));
        Ok(Self { run, tensors: SafeTensors::deserialize(bytes).map_err(damaged)? })
    }

    /// The finite numbers of the tensor `name`, whose shape must be `shape`.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let wrong = |problem: String| self.run.corrupt(MODEL, problem);
        let tensor = self.tensors.tensor(name).map_err(|_| wrong(format!("it has no tensor `{name}`")))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let found = format!("{:?} of the shape {:?}", tensor.dtype(), tensor.shape());
            return Err(wrong(format!("the tensor `{name}` is {found}, not F32 of the shape {shape:?}")));
        }
        let numbers: Vec<f32> = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        match numbers.iter().position(|x| !x.is_finite()) {
            Some(i) => Err(wrong(format!("the tensor `{name}`: number {i} is {}, not a finite number", numbers[i]))),
            None => Ok(numbers),
        }
    }
}
