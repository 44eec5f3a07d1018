//! The writing end: rows become the buffers of Arrow messages on any thread, and go out in order.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch, UInt32Array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow_ipc::writer::StreamEncoder;
use arrow_schema::SchemaRef;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use schemas::dataset::Descriptor;

use super::{BATCH_ROWS, DESCRIPTOR_KEY, Kind, SORT_KEY, Sort, TABLE_KEY, VERSION, VERSION_KEY};
use crate::clicks::{Cell, ClickRows};
use crate::ratings::RatingRows;

/// Bytes of the buffer that small pieces are collected in.
const BUFFER_BYTES: usize = 1 << 17;
/// The most that the metadata of a message can hold, with some room.
const METADATA_BYTES_MAX: usize = (1 << 30) - (1 << 20);

/// Makes messages of rows. Every thread has its own.
pub struct Encoder {
    schema: SchemaRef,
    encoder: StreamEncoder,
}

/// Rows as they go out.
#[derive(Debug, Default)]
pub struct Encoded {
    rows: u64,
    buffers: Vec<Buffer>,
}

impl Encoder {
    /// One for rows of `kind`.
    ///
    /// # Panics
    /// Never: the columns can be encoded.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let schema = Arc::new(kind.schema(HashMap::new()));
        let mut encoder = StreamEncoder::try_new(&schema).expect("flat columns can be encoded");
        // With the first batch comes the schema, which the writer has sent.
        encoder.encode(&RecordBatch::new_empty(Arc::clone(&schema))).expect("flat columns can be encoded");
        Self { schema, encoder }
    }

    /// Messages of `rows`, whose memory they take.
    ///
    /// # Panics
    /// When the columns do not fit the kind or differ in length.
    pub fn clicks(&mut self, rows: ClickRows) -> Encoded {
        let mut columns: Vec<ArrayRef> = Vec::new();
        let nullable = |column: usize| self.schema.field(column).is_nullable();
        if self.schema.field(0).name() == "label" {
            columns.push(floats(rows.labels, false));
        }
        for numbers in rows.numbers {
            columns.push(floats(numbers, nullable(columns.len())));
        }
        for buckets in rows.buckets {
            if columns.len() < self.schema.fields().len() {
                columns.push(whole(buckets, true));
            }
        }
        self.encode(columns)
    }

    /// Messages of `rows`, whose memory they take.
    ///
    /// # Panics
    /// When the columns do not fit the kind or differ in length.
    pub fn ratings(&mut self, rows: RatingRows) -> Encoded {
        self.encode(vec![whole(rows.users, false), whole(rows.items, false), floats(rows.ratings, false)])
    }

    fn encode(&mut self, columns: Vec<ArrayRef>) -> Encoded {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("the columns fit the kind");
        let mut encoded = Encoded { rows: batch.num_rows() as u64, buffers: Vec::new() };
        for first in (0..batch.num_rows()).step_by(BATCH_ROWS) {
            let piece = batch.slice(first, BATCH_ROWS.min(batch.num_rows() - first));
            encoded.buffers.extend(self.encoder.encode(&piece).expect("flat columns can be encoded"));
        }
        encoded
    }
}

fn nulls<C: Cell>(cells: &[C], nullable: bool) -> Option<NullBuffer> {
    let present = || NullBuffer::new(BooleanBuffer::collect_bool(cells.len(), |i| !cells[i].is_missing()));
    nullable.then(present).filter(|nulls| nulls.null_count() > 0)
}

fn floats(cells: Vec<f32>, nullable: bool) -> ArrayRef {
    let nulls = nulls(&cells, nullable);
    Arc::new(Float32Array::new(ScalarBuffer::from(cells), nulls))
}

fn whole(cells: Vec<u32>, nullable: bool) -> ArrayRef {
    let nulls = nulls(&cells, nullable);
    Arc::new(UInt32Array::new(ScalarBuffer::from(cells), nulls))
}

/// Writes a dataset to a pipe.
pub struct StreamWriter<W: Write> {
    out: io::BufWriter<W>,
    kind: Kind,
    /// Rows that are still to come, of each sort.
    left: [u64; 2],
    sort: Sort,
    written: u64,
}

impl<W: Write> StreamWriter<W> {
    /// Begins with what `descriptor` says, and the `tables` that its layout names, in the order of
    /// [`schemas::dataset::Layout::tables`].
    ///
    /// # Errors
    /// When the pipe cannot be written to, or the tables are too large for it ([`io::ErrorKind::FileTooLarge`]).
    ///
    /// # Panics
    /// When there are not as many tables as the layout names.
    pub fn begin(out: W, descriptor: &Descriptor, tables: &[Bytes]) -> io::Result<Self> {
        let names = descriptor.layout.tables();
        assert_eq!(names.len(), tables.len(), "there are the tables that the layout names");
        let json = serde_json::to_string(descriptor).expect("a descriptor is JSON");
        let mut metadata = HashMap::from([(DESCRIPTOR_KEY.to_owned(), json)]);
        for ((name, _), table) in names.into_iter().zip(tables) {
            metadata.insert(format!("{TABLE_KEY}{name}"), STANDARD.encode(table));
        }
        if metadata.values().map(String::len).sum::<usize>() > METADATA_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let left = [descriptor.rows.train, descriptor.rows.holdout];
        let out = io::BufWriter::with_capacity(BUFFER_BYTES, out);
        let mut writer = Self { out, kind: Kind::of(&descriptor.layout), left, sort: Sort::Train, written: 0 };
        writer.open(Sort::Train, metadata)?;
        Ok(writer)
    }

    fn open(&mut self, sort: Sort, mut metadata: HashMap<String, String>) -> io::Result<()> {
        self.sort = sort;
        metadata.insert(VERSION_KEY.to_owned(), VERSION.to_owned());
        metadata.insert(SORT_KEY.to_owned(), sort.name().to_owned());
        let schema = Arc::new(self.kind.schema(metadata));
        let mut encoder = StreamEncoder::try_new(&schema).expect("flat columns can be encoded");
        // The schema comes before the first batch: this one has no rows.
        let buffers = encoder.encode(&RecordBatch::new_empty(schema)).expect("flat columns can be encoded");
        self.put(&buffers)
    }

    fn put(&mut self, buffers: &[Buffer]) -> io::Result<()> {
        buffers.iter().try_for_each(|buffer| self.out.write_all(buffer))
    }

    /// Writes the next rows.
    ///
    /// # Errors
    /// When the pipe cannot be written to.
    ///
    /// # Panics
    /// When there are more rows than were announced.
    pub fn write(&mut self, rows: &Encoded) -> io::Result<()> {
        let left = &mut self.left[self.sort as usize];
        *left = left.checked_sub(rows.rows).expect("as many rows come as were announced");
        self.put(&rows.buffers)?;
        self.written += rows.rows;
        Ok(())
    }

    /// Rows that were written, of both sorts.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Ends the training rows: held-out ones come next.
    ///
    /// # Errors
    /// When the pipe cannot be written to.
    ///
    /// # Panics
    /// When training rows are missing, or no rows are held out.
    pub fn begin_holdout(&mut self) -> io::Result<()> {
        assert!(self.sort == Sort::Train && self.left[0] == 0 && self.left[1] > 0, "it is time for held-out rows");
        self.end()?;
        self.open(Sort::Holdout, HashMap::new())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])
    }

    /// Says that this is all. Without it the reader takes what it has got for the beginning of something.
    ///
    /// # Errors
    /// When the pipe cannot be written to.
    ///
    /// # Panics
    /// When rows are missing.
    pub fn finish(mut self) -> io::Result<W> {
        assert_eq!(self.left, [0, 0], "as many rows came as were announced");
        self.end()?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
