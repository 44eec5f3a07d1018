//! Rows of click logs to probabilities.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use manifests::clicks::{ClickRows, CodedRows, Form, decode_coded};
use raw::clicks::prepare::Preparation;
use raw::reading::clicks::{ROWS, Undecoded, open, read};
use raw::reading::{Reading, stop};
use raw::source;
use schemas::dataset::DESCRIPTOR_KEY;
use schemas::report::{ClickQuality, Predicted, Split};
use train_core::lanes::Simd;
use train_core::logistic::gradient::loss;
use train_core::quality::Tally;

use super::sink::{Columns, Shape, Sink, push_float, push_number};
use super::{Done, Job, Parts, Rows};
use crate::error::Error;
use crate::model::click_quality;
use crate::plan::scoring::Format;
use crate::saved::logistic::{Model, Scores, Scratch};
use crate::stored::Objects;

/// Rows whose losses are added up at a time: always the same ones, wherever the blocks are cut.
const LOSS_ROWS: usize = 1 << 12;

/// Buffers of one thread.
#[derive(Default)]
struct Thread {
    rows: ClickRows,
    coded: CodedRows,
    scratch: Scratch,
}

/// What a thread makes of a block of rows.
#[derive(Default)]
struct Block {
    labels: Vec<f32>,
    scores: Scores,
    /// For csv, what follows the number of each row.
    tails: Vec<u8>,
    /// Where each tail ends.
    ends: Vec<u32>,
}

pub(super) fn predict(job: &Job<'_>, model: &Model) -> Result<Done, Error> {
    match job.rows()? {
        Rows::Text(input) => predict_text(job, model, input),
        Rows::Parts(parts) => predict_parts(job, model, &parts),
    }
}

fn predict_text(job: &Job<'_>, model: &Model, input: &source::Input) -> Result<Done, Error> {
    let (source, format) = open(input)?;
    let labelled = format.columns.label;
    let preparation = Preparation::of(&job.run.preparation.layout, labelled);
    let preparation = preparation.ok_or_else(|| Error::internal("a model of click logs has their preparation"))?;
    let csv = job.plan.format == Format::Csv;
    let take = |thread: &mut Thread, undecoded: Undecoded<'_>, block: &mut Block| {
        let Thread { rows, scratch, .. } = thread;
        let outcome = undecoded.decode(&mut preparation.fill(rows));
        model.score(rows, scratch, &mut block.scores);
        block.labels.clone_from(&rows.labels);
        block.write_tails(csv, None);
        Ok(outcome)
    };
    let mut writing = Writing::open(job, model, Shape { known: labelled, n_train: None }, 0)?;
    let progress = job.console.progress("scoring", source.raw_bytes, "bytes");
    let reading = Reading { source: &source, format, threads: job.plan.threads, bad_max: 1, progress: &progress };
    let outcome = read(&reading, Thread::default, take, stop::<Error>, |block, _| writing.keep(block));
    progress.finish();
    if outcome?.good == 0 {
        return Err(raw::Error::only_a_header(source.shown, ROWS).into());
    }
    writing.finish(source.shown)
}

fn predict_parts(job: &Job<'_>, model: &Model, parts: &Parts) -> Result<Done, Error> {
    let form = Form::of(&parts.dataset.descriptor.layout);
    let form = form.ok_or_else(|| Error::internal("the kinds of model and rows were compared"))?;
    let csv = job.plan.format == Format::Csv;
    let work = |thread: &mut Thread, number: usize, bytes, block: &mut Block| {
        decode_coded(form, bytes, &mut thread.coded)?;
        model.score_coded(form, &thread.coded, &mut thread.scratch, &mut block.scores);
        block.labels.clone_from(&thread.coded.labels);
        block.write_tails(csv, Some(parts.splits[number]));
        Ok(thread.coded.len)
    };
    let shape = Shape { known: form.labelled, n_train: Some(parts.n_train()) };
    let mut writing = Writing::open(job, model, shape, parts.first_row)?;
    let progress = job.console.progress("scoring", Some(parts.rows), ROWS);
    let objects = Objects {
        place: &parts.dataset.place,
        named_by: &parts.descriptor,
        count: parts.objects().len(),
        objects: Box::new(parts.objects().into_iter()),
        threads: job.plan.threads,
        progress: &progress,
    };
    let outcome = objects.each(work, |block, _| writing.keep(block));
    progress.finish();
    outcome?;
    writing.finish(parts.dataset.place.show(DESCRIPTOR_KEY))
}

impl Block {
    /// Writes what follows the number of each row, if it is wanted.
    fn write_tails(&mut self, wanted: bool, split: Option<Split>) {
        self.tails.clear();
        self.ends.clear();
        if !wanted {
            return;
        }
        for (row, &probability) in self.scores.probabilities.iter().enumerate() {
            if let Some(&label) = self.labels.get(row) {
                self.tails.extend_from_slice(if label == 0.0 { b",0" } else { b",1" });
            }
            self.tails.push(b',');
            push_float(&mut self.tails, probability);
            if let Some(split) = split {
                self.tails.push(b',');
                self.tails.extend_from_slice(split.name().as_bytes());
            }
            self.tails.push(b'\n');
            self.ends.push(self.tails.len() as u32);
        }
    }

    /// Makes the lines whose first row has the number `first_row`.
    fn write_lines(&self, first_row: u64, lines: &mut Vec<u8>) {
        lines.clear();
        let mut start = 0;
        for (row, &end) in (first_row..).zip(&self.ends) {
            push_number(lines, row);
            lines.extend_from_slice(&self.tails[start..end as usize]);
            start = end as usize;
        }
    }
}

/// Takes blocks in order.
struct Writing<'a> {
    sink: Sink<'a, Block>,
    lines: Vec<u8>,
    measured: Option<Measured>,
    rows: u64,
}

impl<'a> Writing<'a> {
    fn open(job: &Job<'a>, model: &Model, shape: Shape, first_row: u64) -> Result<Self, Error> {
        let label = if shape.known { ",label" } else { "" };
        let split = if shape.n_train.is_some() { ",split" } else { "" };
        let header = format!("row{label},probability{split}\n");
        let sink = Sink::open(job.destination, job.plan.format, shape, first_row, &header)?;
        let measured = shape.known.then(|| Measured::new(model.simd()));
        Ok(Self { sink, lines: Vec::new(), measured, rows: 0 })
    }

    fn keep(&mut self, block: &Block) -> Result<(), Error> {
        let Self { sink, lines, measured, rows } = self;
        if let Some(measured) = measured {
            measured.add(&block.scores, &block.labels);
        }
        *rows += block.len() as u64;
        sink.add(block, |first_row| {
            block.write_lines(first_row, lines);
            lines
        })
    }

    fn finish(self, input: String) -> Result<Done, Error> {
        self.sink.finish()?;
        let quality = self.measured.map(Measured::finish);
        Ok(Done { input, rows: self.rows, predicted: Predicted::Clicks { quality } })
    }
}

impl Columns for Block {
    fn len(&self) -> usize {
        self.scores.probabilities.len()
    }

    fn extend(&mut self, other: &Self, rows: Range<usize>) {
        self.scores.probabilities.extend_from_slice(&other.scores.probabilities[rows.clone()]);
        self.labels.extend_from_slice(other.labels.get(rows).unwrap_or_default());
    }

    fn clear(&mut self) {
        self.scores.probabilities.clear();
        self.labels.clear();
    }

    fn batch(&self, shape: Shape, first_row: u64) -> RecordBatch {
        let numbers = UInt64Array::from_iter_values(first_row..first_row + self.len() as u64);
        let mut fields = vec![Field::new("row", DataType::UInt64, false)];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(numbers)];
        if shape.known {
            fields.push(Field::new("label", DataType::Float32, false));
            columns.push(Arc::new(Float32Array::from(self.labels.clone())));
        }
        fields.push(Field::new("probability", DataType::Float32, false));
        columns.push(Arc::new(Float32Array::from(self.scores.probabilities.clone())));
        if let Some(splits) = shape.splits(first_row, self.len()) {
            fields.push(Field::new("split", DataType::Utf8, false));
            columns.push(Arc::new(StringArray::from_iter_values(splits)));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .expect("the columns are as long as the rows are many")
    }
}

/// How good the predictions are so far.
struct Measured {
    simd: Simd,
    tally: Tally,
    /// Rows whose losses are not added up yet.
    outputs: Vec<f32>,
    labels: Vec<f32>,
    loss_sum: f64,
    rows: u64,
}

impl Measured {
    fn new(simd: Simd) -> Self {
        Self { simd, tally: Tally::default(), outputs: Vec::new(), labels: Vec::new(), loss_sum: 0.0, rows: 0 }
    }

    fn add(&mut self, scores: &Scores, labels: &[f32]) {
        self.tally.add(&scores.outputs, &scores.probabilities, labels);
        self.rows += labels.len() as u64;
        let (mut outputs, mut labels) = (&scores.outputs[..], labels);
        while !outputs.is_empty() {
            let more = (LOSS_ROWS - self.outputs.len()).min(outputs.len());
            self.outputs.extend_from_slice(&outputs[..more]);
            self.labels.extend_from_slice(&labels[..more]);
            (outputs, labels) = (&outputs[more..], &labels[more..]);
            if self.outputs.len() == LOSS_ROWS {
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        self.loss_sum += loss(self.simd, &self.outputs, &self.labels);
        self.outputs.clear();
        self.labels.clear();
    }

    fn finish(mut self) -> ClickQuality {
        self.settle();
        click_quality(&self.tally, self.loss_sum, self.rows)
    }
}
