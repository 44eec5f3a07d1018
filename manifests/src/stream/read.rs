//! The reading end. Messages are taken off the pipe by one thread; what is in them is decoded and checked by whoever has them.

use std::collections::HashMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use schemas::dataset::Descriptor;

use super::{DESCRIPTOR_KEY, Kind, MAGIC, SORT_KEY, STANDARD_INPUT, Sort, TABLE_KEY, VERSION, VERSION_KEY};
use crate::Error;
use crate::clicks::{Cell, ClickRows};
use crate::load;
use crate::ratings::RatingRows;

/// The largest body of a message: what is larger was not written by [`super::StreamWriter`], nor with batches of a sensible size.
const BODY_BYTES_MAX: u64 = 1 << 31;
/// Memory that is taken for a message before any of it has come.
const TRUSTED_BYTES: u64 = 1 << 26;

/// A dataset that comes through a pipe.
#[derive(Debug)]
pub struct StreamReader<R> {
    input: R,
    kind: Kind,
    schema: SchemaRef,
    descriptor: Descriptor,
    tables: Vec<Bytes>,
    sort: Sort,
    /// Rows of the present sort that have come.
    seen: u64,
    over: bool,
}

/// Rows as they come, not yet decoded. It may go to another thread.
#[derive(Debug)]
pub struct Batch {
    /// Which rows they are.
    pub sort: Sort,
    /// Rows of this sort before them.
    pub first_row: u64,
    /// How many they are.
    pub rows: usize,
    kind: Kind,
    schema: SchemaRef,
    metadata: Vec<u8>,
    body: Buffer,
}

/// What comes off the pipe.
enum Message {
    /// Metadata and body.
    Whole(Vec<u8>, Buffer),
    /// The mark of an end.
    End,
    /// The pipe is closed, between two messages or within one.
    Closed,
}

fn refused(problem: impl Into<String>) -> Error {
    Error::Stream { place: STANDARD_INPUT.to_owned(), problem: problem.into() }
}

fn not_a_stream(problem: impl std::fmt::Display) -> Error {
    refused(format!("not a stream of rows from `prep`: {problem}"))
}

impl<R: Read> StreamReader<R> {
    /// Reads what comes before the first row. Reads are of the size that is needed, so `input` is to be buffered.
    ///
    /// # Errors
    /// [`Error::Stream`] when it is no stream that `prep` writes, or ends early; [`Error::Invalid`] when its descriptor breaks a
    /// rule, [`Error::Corrupt`] when a table is damaged, [`Error::Storage`] when reading fails.
    pub fn open(mut input: R) -> Result<Self, Error> {
        let schema = match message(&mut input)? {
            Message::Whole(metadata, _) => schema_in(&metadata)?,
            Message::Closed => return Err(refused("ended before the first row")),
            Message::End => return Err(not_a_stream("it has no schema")),
        };
        let found = |key: &str| schema.metadata().get(key).map(String::as_str);
        match found(VERSION_KEY) {
            Some(VERSION) => {}
            Some(version) => {
                return Err(refused(format!(
                    "version {version} of {VERSION_KEY} is unknown; this build reads version {VERSION}"
                )));
            }
            None => return Err(not_a_stream(format!("its schema has no `{VERSION_KEY}`"))),
        }
        if found(SORT_KEY) != Some(Sort::Train.name()) {
            return Err(not_a_stream("it does not begin with training rows"));
        }
        let json = found(DESCRIPTOR_KEY).ok_or_else(|| not_a_stream(format!("there is no `{DESCRIPTOR_KEY}`")))?;
        let descriptor = load::streamed(&format!("{STANDARD_INPUT}, {DESCRIPTOR_KEY}"), json.as_bytes())?;
        let mut tables = Vec::new();
        for (name, object) in descriptor.layout.tables() {
            let key = format!("{TABLE_KEY}{name}");
            let text = found(&key).ok_or_else(|| not_a_stream(format!("there is no `{key}`")))?;
            let table = STANDARD.decode(text).map_err(|error| not_a_stream(format!("`{key}`: {error}")))?;
            let shown = || format!("{STANDARD_INPUT}, {name}");
            tables.push(load::equal(shown, object, table.into(), DESCRIPTOR_KEY)?);
        }
        let kind = Kind::of(&descriptor.layout);
        let schema = checked_schema(kind, &schema)?;
        Ok(Self { input, kind, schema, descriptor, tables, sort: Sort::Train, seen: 0, over: false })
    }

    /// What the rows are. It names no parts.
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The tables that the descriptor's layout names, in the order of [`schemas::dataset::Layout::tables`], checked against it.
    pub fn tables(&self) -> &[Bytes] {
        &self.tables
    }

    /// What the rows look like.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The next rows: all training rows, then all held-out ones, each in the order of the source. `None` when all that the
    /// descriptor promises have come and the writer has said that it is done.
    ///
    /// # Errors
    /// [`Error::Stream`] when the stream ends early or there are more rows; [`Error::Storage`] when reading fails.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        if self.over {
            return Ok(None);
        }
        let outcome = self.advance();
        self.over = !matches!(outcome, Ok(Some(_)));
        outcome
    }

    fn advance(&mut self) -> Result<Option<Batch>, Error> {
        loop {
            match message(&mut self.input)? {
                Message::Closed => return Err(self.ended()),
                Message::End if self.seen < self.expected() => {
                    let (seen, expected, name) = (self.seen, self.expected(), self.sort.name());
                    return Err(refused(format!("has {seen} {name} rows, its descriptor says {expected}")));
                }
                Message::End if self.sort == Sort::Train && self.descriptor.rows.holdout > 0 => self.open_holdout()?,
                Message::End => return self.closed().map(|()| None),
                Message::Whole(metadata, body) => {
                    if let Some(batch) = self.batch(metadata, body)? {
                        return Ok(Some(batch));
                    }
                }
            }
        }
    }

    const fn expected(&self) -> u64 {
        match self.sort {
            Sort::Train => self.descriptor.rows.train,
            Sort::Holdout => self.descriptor.rows.holdout,
        }
    }

    fn ended(&self) -> Error {
        let rows = self.descriptor.rows;
        let before = if self.sort == Sort::Holdout { rows.train } else { 0 };
        refused(format!(
            "ended after {} of {} rows",
            before + self.seen,
            u128::from(rows.train) + u128::from(rows.holdout)
        ))
    }

    fn open_holdout(&mut self) -> Result<(), Error> {
        let schema = match message(&mut self.input)? {
            Message::Whole(metadata, _) => schema_in(&metadata)?,
            Message::Closed => return Err(self.ended()),
            Message::End => return Err(not_a_stream("there is no schema of the held-out rows")),
        };
        if schema.metadata().get(SORT_KEY).map(String::as_str) != Some(Sort::Holdout.name()) {
            return Err(not_a_stream("what follows the training rows are no held-out rows"));
        }
        self.schema = checked_schema(self.kind, &schema)?;
        (self.sort, self.seen) = (Sort::Holdout, 0);
        Ok(())
    }

    fn closed(&mut self) -> Result<(), Error> {
        match fill(&mut self.input, 1)?.is_empty() {
            true => Ok(()),
            false => Err(not_a_stream("something follows the last row")),
        }
    }

    /// The rows of a message, if there are any.
    fn batch(&mut self, metadata: Vec<u8>, body: Buffer) -> Result<Option<Batch>, Error> {
        let message = root_as_message(&metadata).map_err(not_a_stream)?;
        let Some(header) = message.header_as_record_batch() else {
            let name = message.header_type().variant_name().unwrap_or("unknown");
            return Err(not_a_stream(format!("there is a message of the type {name}")));
        };
        let rows = u64::try_from(header.length()).map_err(not_a_stream)?;
        let first_row = self.seen;
        let left = self.expected() - first_row;
        if rows > left {
            let (name, expected) = (self.sort.name(), self.expected());
            return Err(refused(format!("has more than the {expected} {name} rows of its descriptor")));
        }
        self.seen += rows;
        let rows = usize::try_from(rows).map_err(not_a_stream)?;
        let (sort, kind, schema) = (self.sort, self.kind, Arc::clone(&self.schema));
        Ok((rows > 0).then_some(Batch { sort, first_row, rows, kind, schema, metadata, body }))
    }
}

impl Batch {
    /// Decodes and checks the rows of a click log into `rows`, whose memory is used again.
    ///
    /// # Errors
    /// [`Error::Stream`] when columns contradict the message, or a value breaks a rule, with its row.
    ///
    /// # Panics
    /// When the rows are ratings.
    pub fn clicks(&self, rows: &mut ClickRows) -> Result<(), Error> {
        let Kind::Clicks(form) = self.kind else { panic!("these rows are ratings") };
        let batch = self.decode()?;
        rows.clear();
        rows.len = self.rows;
        let mut columns = 0..batch.num_columns();
        let mut next = || columns.next().expect("the columns were checked");
        if form.labelled {
            let is_label = |x: f32| x == 0.0 || x == 1.0;
            self.floats(&batch, next(), &mut rows.labels, is_label, |x| format!("{x}, neither 0 nor 1"))?;
        }
        for numbers in &mut rows.numbers {
            self.floats(&batch, next(), numbers, f32::is_finite, |x| format!("{x}, not a finite number"))?;
        }
        for buckets in rows.buckets.iter_mut().take(form.categorical()) {
            self.whole(&batch, next(), buckets, |b| form.has(b), |b| form.beyond(b))?;
        }
        Ok(())
    }

    /// Decodes and checks ratings into `rows`, whose memory is used again.
    ///
    /// # Errors
    /// As [`Batch::clicks`].
    ///
    /// # Panics
    /// When the rows are of a click log.
    pub fn ratings(&self, rows: &mut RatingRows) -> Result<(), Error> {
        let Kind::Ratings { n_users, n_items } = self.kind else { panic!("these rows are of a click log") };
        let batch = self.decode()?;
        let below = |n: u32, what: &'static str| move |id: u32| format!("{id}, not below the number of {what}, {n}");
        self.whole(&batch, 0, &mut rows.users, |id| id < n_users, below(n_users, "users"))?;
        self.whole(&batch, 1, &mut rows.items, |id| id < n_items, below(n_items, "items"))?;
        self.floats(&batch, 2, &mut rows.ratings, f32::is_finite, |x| format!("{x}, not a finite number"))
    }

    fn decode(&self) -> Result<RecordBatch, Error> {
        let decode = || {
            let message = root_as_message(&self.metadata).map_err(|e| ArrowError::IpcError(e.to_string()))?;
            let header = message.header_as_record_batch().expect("this was checked when it came");
            let (schema, none) = (Arc::clone(&self.schema), HashMap::new());
            read_record_batch(&self.body, header, schema, &none, None, &message.version())
        };
        // Parts of the message may contradict each other in ways that its reader does not expect.
        let decoded = catch_unwind(AssertUnwindSafe(decode)).map_err(|_| "a message contradicts itself".to_owned());
        decoded.and_then(|batch| batch.map_err(|e| e.to_string())).map_err(not_a_stream)
    }

    fn floats(
        &self,
        batch: &RecordBatch,
        column: usize,
        out: &mut Vec<f32>,
        allowed: impl Fn(f32) -> bool,
        problem: impl Fn(f32) -> String,
    ) -> Result<(), Error> {
        let array = batch.column(column).as_primitive::<Float32Type>();
        self.cells(column, array.values(), array.nulls(), out, allowed, problem)
    }

    fn whole(
        &self,
        batch: &RecordBatch,
        column: usize,
        out: &mut Vec<u32>,
        allowed: impl Fn(u32) -> bool,
        problem: impl Fn(u32) -> String,
    ) -> Result<(), Error> {
        let array = batch.column(column).as_primitive::<UInt32Type>();
        self.cells(column, array.values(), array.nulls(), out, allowed, problem)
    }

    /// Copies a column and puts marks where nothing is. Values must be `allowed`; `problem` says why one is not.
    fn cells<C: Cell>(
        &self,
        column: usize,
        values: &[C],
        nulls: Option<&NullBuffer>,
        out: &mut Vec<C>,
        allowed: impl Fn(C) -> bool,
        problem: impl Fn(C) -> String,
    ) -> Result<(), Error> {
        out.clear();
        out.extend_from_slice(values);
        // Without an early way out, so that it is done many values at a time; which one it is matters only if there is one.
        let fine = match nulls.map(|nulls| nulls.inner().sliced()) {
            None => out.iter().fold(true, |all, &cell| all & allowed(cell)),
            Some(present) => out.chunks_mut(8).zip(present.iter()).fold(true, |all, (cells, &byte)| {
                cells.iter_mut().enumerate().fold(all, |all, (i, cell)| {
                    let there = byte & (1 << i) != 0;
                    let fine = !there | allowed(*cell);
                    *cell = if there { *cell } else { C::MISSING };
                    all & fine
                })
            }),
        };
        if fine {
            return Ok(());
        }
        let there = |i: usize| nulls.is_none_or(|nulls| nulls.is_valid(i));
        let found = values.iter().enumerate().find(|(i, value)| there(*i) && !allowed(**value));
        let (i, &value) = found.expect("one is not allowed");
        let (row, sort, name) = (self.first_row + i as u64, self.sort.name(), self.schema.field(column).name());
        Err(refused(format!("{sort} row {row}: {name} is {}", problem(value))))
    }
}

/// The next `len` bytes, or as many as there are.
fn fill(input: &mut impl Read, len: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(len.min(TRUSTED_BYTES) as usize);
    let outcome = input.take(len).read_to_end(&mut bytes);
    outcome.map_err(|source| Error::Storage {
        place: STANDARD_INPUT.to_owned(),
        action: "read it",
        source: source.into(),
    })?;
    Ok(bytes)
}

fn message(input: &mut impl Read) -> Result<Message, Error> {
    let mut head = [0; 8];
    let found = fill_exact(input, &mut head)?;
    if found < 4 || (head[..4] == MAGIC && found < head.len()) {
        return Ok(Message::Closed);
    }
    if head[..4] != MAGIC {
        return Err(not_a_stream("it is no Arrow IPC stream"));
    }
    let len = i32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let len = u64::try_from(len).map_err(not_a_stream)?;
    if len == 0 {
        return Ok(Message::End);
    }
    let metadata = fill(input, len)?;
    if (metadata.len() as u64) < len {
        return Ok(Message::Closed);
    }
    let header = root_as_message(&metadata).map_err(not_a_stream)?;
    let len = u64::try_from(header.bodyLength()).map_err(not_a_stream)?;
    if len > BODY_BYTES_MAX {
        return Err(not_a_stream(format!("a message has {len} bytes, more than {BODY_BYTES_MAX}")));
    }
    let body = fill(input, len)?;
    if (body.len() as u64) < len {
        return Ok(Message::Closed);
    }
    Ok(Message::Whole(metadata, Buffer::from_vec(body)))
}

/// Reads as much as there is into `out`.
fn fill_exact(input: &mut impl Read, out: &mut [u8]) -> Result<usize, Error> {
    let bytes = fill(input, out.len() as u64)?;
    out[..bytes.len()].copy_from_slice(&bytes);
    Ok(bytes.len())
}

fn schema_in(metadata: &[u8]) -> Result<Schema, Error> {
    let message = root_as_message(metadata).map_err(not_a_stream)?;
    if message.header_type() != MessageHeader::Schema {
        return Err(not_a_stream("rows come before their schema"));
    }
    let schema = message.header_as_schema().ok_or_else(|| not_a_stream("it has no schema"))?;
    // Nobody writes schemas that the conversion does not expect, but anything may be in a pipe.
    catch_unwind(AssertUnwindSafe(|| fb_to_schema(schema))).map_err(|_| not_a_stream("its schema contradicts itself"))
}

/// The columns of `kind`, if those of `found` are the same.
fn checked_schema(kind: Kind, found: &Schema) -> Result<SchemaRef, Error> {
    let expected = kind.fields();
    let same = |(found, expected): (&Arc<arrow_schema::Field>, &arrow_schema::Field)| {
        found.name() == expected.name()
            && found.data_type() == expected.data_type()
            && found.is_nullable() == expected.is_nullable()
    };
    if found.fields().len() != expected.len() || !found.fields().iter().zip(&expected).all(same) {
        let names: Vec<String> = found.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
        return Err(not_a_stream(format!("its columns, {}, are not those of its descriptor", names.join(", "))));
    }
    Ok(Arc::new(Schema::new(expected)))
}
