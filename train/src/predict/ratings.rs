//! Pairs of users and items to stars.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema};
use manifests::ratings::{RatingRows, decode};
use raw::ratings::format::Needs;
use raw::ratings::parse::{PackedRating, unpack};
use raw::reading::ratings::{ROWS, open, read};
use raw::reading::{Reading, stop};
use raw::source;
use schemas::dataset::DESCRIPTOR_KEY;
use schemas::report::{KnownPairs, Predicted, RatingQuality, Split};

use super::sink::{Columns, Shape, Sink, push_float, push_number};
use super::{Done, Job, Parts, Rows};
use crate::error::Error;
use crate::plan::scoring::Format;
use crate::saved::pmf::Model;
use crate::stored::Objects;

/// Buffers of one thread.
#[derive(Default)]
struct Thread {
    rows: RatingRows,
    users: Vec<u32>,
    items: Vec<u32>,
    outputs: Vec<f32>,
}

/// What the model knows of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Both,
    User,
    Item,
    Neither,
}

impl Known {
    const fn of(user: bool, item: bool) -> Self {
        match (user, item) {
            (true, true) => Self::Both,
            (true, false) => Self::User,
            (false, true) => Self::Item,
            (false, false) => Self::Neither,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::User => "user",
            Self::Item => "item",
            Self::Neither => "neither",
        }
    }
}

/// What a thread makes of a block of rows.
#[derive(Default)]
struct Block {
    user_ids: Vec<u32>,
    item_ids: Vec<u32>,
    /// Empty when there are none.
    ratings: Vec<f32>,
    predictions: Vec<f32>,
    known: Vec<Known>,
    /// The rows as csv, if that is what is written.
    lines: Vec<u8>,
}

pub(super) fn predict(job: &Job<'_>, model: &Model) -> Result<Done, Error> {
    match job.rows()? {
        Rows::Text(input) => predict_text(job, model, input),
        Rows::Parts(parts) => predict_parts(job, model, &parts),
    }
}

fn predict_text(job: &Job<'_>, model: &Model, input: &source::Input) -> Result<Done, Error> {
    let (source, format) = open(input, None, Needs::Pairs)?;
    let rated = format.columns.n_columns > 2;
    let csv = job.plan.format == Format::Csv;
    let take = |thread: &mut Thread, rows: &[PackedRating], block: &mut Block| {
        block.clear();
        thread.users.clear();
        thread.items.clear();
        for row in rows {
            let (user, item, stars) = unpack(row);
            block.user_ids.push(user);
            block.item_ids.push(item);
            if rated {
                block.ratings.push(stars);
            }
            thread.users.push(model.users.number(user));
            thread.items.push(model.items.number(item));
        }
        block.score(model, thread);
        block.write_lines(csv, None);
        Ok(())
    };
    let mut writing = Writing::open(job, Shape { known: rated, n_train: None }, 0)?;
    let progress = job.console.progress("scoring", source.raw_bytes, "bytes");
    let reading = Reading { source: &source, format, threads: job.plan.threads, bad_max: 1, progress: &progress };
    let outcome = read(&reading, Thread::default, take, stop::<Error>, |_, block| writing.keep(block));
    progress.finish();
    if outcome?.0.good == 0 {
        return Err(raw::Error::only_a_header(source.shown, ROWS).into());
    }
    writing.finish(source.shown)
}

fn predict_parts(job: &Job<'_>, model: &Model, parts: &Parts) -> Result<Done, Error> {
    let csv = job.plan.format == Format::Csv;
    let work = |thread: &mut Thread, number: usize, bytes, block: &mut Block| {
        decode(bytes, &mut thread.rows)?;
        model.check(&thread.rows.users, &thread.rows.items)?;
        block.clear();
        block.user_ids.extend(thread.rows.users.iter().map(|&user| model.users.id(user)));
        block.item_ids.extend(thread.rows.items.iter().map(|&item| model.items.id(item)));
        block.ratings.extend(thread.rows.ratings.iter().map(|&centred| stars(model.mean, centred)));
        thread.users.clone_from(&thread.rows.users);
        thread.items.clone_from(&thread.rows.items);
        block.score(model, thread);
        block.write_lines(csv, Some(parts.splits[number]));
        Ok(thread.rows.len())
    };
    let shape = Shape { known: true, n_train: Some(parts.n_train()) };
    let mut writing = Writing::open(job, shape, parts.first_row)?;
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

/// The stars of a stored rating: the tenth of a star that is stored as `centred`, if one is.
fn stars(mean: f64, centred: f32) -> f32 {
    let stars = mean + f64::from(centred);
    let tenth = ((stars * 10.0).round() / 10.0) as f32;
    if (f64::from(tenth) - mean) as f32 == centred { tenth } else { stars as f32 }
}

impl Block {
    /// Scores the pairs of numbers in `thread`.
    fn score(&mut self, model: &Model, thread: &mut Thread) {
        let Thread { users, items, outputs, .. } = thread;
        model.outputs(users, items, outputs);
        self.predictions.extend(outputs.iter().map(|&output| model.stars(output)));
        let (n_users, n_items) = (model.users.count(), model.items.count());
        let pairs = users.iter().zip(&*items);
        self.known.extend(pairs.map(|(&user, &item)| Known::of(user < n_users, item < n_items)));
    }

    /// Writes the rows as csv, if it is wanted.
    fn write_lines(&mut self, wanted: bool, split: Option<Split>) {
        self.lines.clear();
        if !wanted {
            return;
        }
        let text = &mut self.lines;
        for row in 0..self.predictions.len() {
            push_number(text, self.user_ids[row].into());
            text.push(b',');
            push_number(text, self.item_ids[row].into());
            text.push(b',');
            if let Some(&rating) = self.ratings.get(row) {
                push_float(text, rating);
                text.push(b',');
            }
            push_float(text, self.predictions[row]);
            text.push(b',');
            text.extend_from_slice(self.known[row].name().as_bytes());
            if let Some(split) = split {
                text.push(b',');
                text.extend_from_slice(split.name().as_bytes());
            }
            text.push(b'\n');
        }
    }
}

impl Columns for Block {
    fn len(&self) -> usize {
        self.predictions.len()
    }

    fn extend(&mut self, other: &Self, rows: Range<usize>) {
        self.user_ids.extend_from_slice(&other.user_ids[rows.clone()]);
        self.item_ids.extend_from_slice(&other.item_ids[rows.clone()]);
        self.ratings.extend_from_slice(other.ratings.get(rows.clone()).unwrap_or_default());
        self.predictions.extend_from_slice(&other.predictions[rows.clone()]);
        self.known.extend_from_slice(&other.known[rows]);
    }

    fn clear(&mut self) {
        self.user_ids.clear();
        self.item_ids.clear();
        self.ratings.clear();
        self.predictions.clear();
        self.known.clear();
    }

    fn batch(&self, shape: Shape, first_row: u64) -> RecordBatch {
        let mut fields =
            vec![Field::new("user_id", DataType::UInt32, false), Field::new("item_id", DataType::UInt32, false)];
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(self.user_ids.clone())),
            Arc::new(UInt32Array::from(self.item_ids.clone())),
        ];
        if shape.known {
            fields.push(Field::new("rating", DataType::Float32, false));
            columns.push(Arc::new(Float32Array::from(self.ratings.clone())));
        }
        fields.push(Field::new("prediction", DataType::Float32, false));
        columns.push(Arc::new(Float32Array::from(self.predictions.clone())));
        fields.push(Field::new("known", DataType::Utf8, false));
        columns.push(Arc::new(StringArray::from_iter_values(self.known.iter().map(|known| known.name()))));
        if let Some(splits) = shape.splits(first_row, self.len()) {
            fields.push(Field::new("split", DataType::Utf8, false));
            columns.push(Arc::new(StringArray::from_iter_values(splits)));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .expect("the columns are as long as the rows are many")
    }
}

/// Takes blocks in order.
struct Writing<'a> {
    sink: Sink<'a, Block>,
    rated: bool,
    /// Sums of squared and of absolute errors.
    errors: [f64; 2],
    known: KnownPairs,
    rows: u64,
}

impl<'a> Writing<'a> {
    fn open(job: &Job<'a>, shape: Shape, first_row: u64) -> Result<Self, Error> {
        let rating = if shape.known { ",rating" } else { "" };
        let split = if shape.n_train.is_some() { ",split" } else { "" };
        let header = format!("user_id,item_id{rating},prediction,known{split}\n");
        let sink = Sink::open(job.destination, job.plan.format, shape, first_row, &header)?;
        Ok(Self { sink, rated: shape.known, errors: [0.0; 2], known: KnownPairs::default(), rows: 0 })
    }

    fn keep(&mut self, block: &Block) -> Result<(), Error> {
        // Row by row, so that the sums do not depend on where blocks are cut.
        for (&prediction, &rating) in block.predictions.iter().zip(&block.ratings) {
            let error = f64::from(prediction) - f64::from(rating);
            self.errors[0] += error * error;
            self.errors[1] += error.abs();
        }
        for known in &block.known {
            match known {
                Known::Both => self.known.both += 1,
                Known::User => self.known.user += 1,
                Known::Item => self.known.item += 1,
                Known::Neither => self.known.neither += 1,
            }
        }
        self.rows += block.len() as u64;
        self.sink.add(block, |_| &block.lines)
    }

    fn finish(self, input: String) -> Result<Done, Error> {
        self.sink.finish()?;
        let [squared, absolute] = self.errors.map(|sum| sum / self.rows as f64);
        let quality = self.rated.then(|| RatingQuality { rmse: squared.sqrt(), mae: absolute });
        Ok(Done { input, rows: self.rows, predicted: Predicted::Ratings { quality, known: self.known } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_ratings_are_the_stars_they_were() {
        for mean in [3.5, 3.525_529_625_5, 2.999_999, 4.1] {
            for tenths in 5..=50 {
                let rating = tenths as f32 / 10.0;
                assert_eq!(stars(mean, (f64::from(rating) - mean) as f32), rating, "{mean}");
            }
            assert!((stars(mean, 0.123_456_7) - (mean as f32 + 0.123_456_7)).abs() < 1e-6);
        }
    }
}
