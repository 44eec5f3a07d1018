//! Gradients and state of a matrix factorisation as bytes.
//!
//! The gradient of a whole mini-batch travels as its residuals where these are fewer bytes, which they nearly always are: after the head
//! (`GMre`)
//!
//! | bytes | type | |
//! |---|---|---|
//! | 4 | u32 | rows of the mini-batch, `r` |
//! | 34 | | the lists of users and of items, `m`, as in a gradient |
//! | | | the ids of each list |
//! | `r` bits | | bit `i` is 1 if row `i` is the first of its user |
//! | `b r` bits | | for each row the place of its item in the list; `b` is the length of `m - 1` in bits |
//! | 4 `r` | f32 | for each row output minus target |
//!
//! All rows of the gradient follow from these and the model, which whoever applies it has; with 20 factors they are a fifteenth of the
//! bytes. Slices and reduced gradients travel as rows.
//!
//! A row travels as its factors and, if the model has biases, its bias: what else is in a row is constant. A gradient has two lists,
//! of users and of items, and these rows of f32 for each id. A state goes on after its head with
//!
//! | bytes | type | |
//! |---|---|---|
//! | 4 | u32 | steps |
//! | 4 | u32 | users, `n` |
//! | 4 | u32 | items, `m` |
//! | 4 n | u32 | steps that each user's row has seen |
//! | 4 m | u32 | steps that each item's row has seen |
//! | | f32 | for each user the row and its velocities |
//! | | f32 | for each item the row and its velocities |

use std::ops::Range;

use super::ids::List;
use super::{Head, Reader, Slice, What, WireError, close, copy_words, put_words, read_words, residuals, same};
use crate::lanes::{LANES, Lane};
use crate::pmf::factors::{Block, Shape, Side};
use crate::pmf::gradient::{Gradient, RowGradients};

const MODEL: u8 = 2;

/// The rows of a model that its messages are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Shape of a row.
    pub shape: Shape,
    /// Rows of users.
    pub n_users: u32,
    /// Rows of items.
    pub n_items: u32,
}

impl Size {
    /// The users in `slice`: as many in each.
    #[must_use]
    pub fn users_in(&self, slice: Slice) -> Range<u32> {
        slice.of(self.n_users)
    }

    /// The items in `slice`: three times as many in the last as in the first. MovieLens numbers films as they came, and a mini-batch
    /// has two thirds of the oldest but a fifth of the newest; so the slices of a gradient differ by a tenth, not by a fifth or more.
    ///
    /// # Panics
    /// When there are no slices.
    #[must_use]
    pub fn items_in(&self, Slice { index, n_slices }: Slice) -> Range<u32> {
        let bound = |i: u32| {
            let (n, i, k) = (u128::from(self.n_items), u128::from(i), u128::from(n_slices));
            (n * i * (k + i) / (2 * k * k)) as u32
        };
        bound(index)..bound(index + 1)
    }

    pub(super) const fn head(&self) -> Head {
        Head { model: MODEL, n_factors: self.shape.n_factors as u8, flag: self.shape.biases }
    }

    const fn row(&self, side: Side) -> Row {
        let Shape { n_factors, biases } = self.shape;
        Row { n_factors, bias: if biases { Some(self.shape.bias_place(side)) } else { None } }
    }
}

/// Which floats of a row travel.
#[derive(Clone, Copy, Debug)]
struct Row {
    n_factors: usize,
    /// Where the bias is.
    bias: Option<usize>,
}

impl Row {
    /// Bytes of a row.
    const fn bytes(self) -> usize {
        (self.n_factors + self.bias.is_some() as usize) * 4
    }

    #[inline(always)]
    fn write(self, row: &[f32], out: &mut [u8]) {
        let (factors, rest) = out.split_at_mut(self.n_factors * 4);
        copy_words(&row[..self.n_factors], f32::to_le_bytes, factors);
        if let Some(bias) = self.bias {
            copy_words(&row[bias..=bias], f32::to_le_bytes, rest);
        }
    }

    /// Leaves what does not travel as it is.
    #[inline(always)]
    fn read(self, bytes: &[u8], row: &mut [f32]) {
        let (factors, rest) = bytes.split_at(self.n_factors * 4);
        read_words(factors, f32::from_le_bytes, &mut row[..self.n_factors]);
        if let Some(bias) = self.bias {
            read_words(rest, f32::from_le_bytes, &mut row[bias..=bias]);
        }
    }
}

/// As what a gradient has travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travelled {
    /// As its rows.
    Rows,
    /// As its residuals: ids and residuals are there, and [`from_residuals`](crate::pmf::gradient::from_residuals) computes the rest.
    Residuals,
}

/// Appends to `out` what is in `slice` of `gradient`, whose rows are those of a model of `size`: the same slice of the users and of the
/// items.
///
/// # Panics
/// When there are not as many rows of values as ids.
pub fn encode(size: Size, gradient: &Gradient, slice: Slice, out: &mut Vec<u8>) {
    let Gradient { users, items, squared_error, rows, .. } = gradient;
    let (users, items) = (
        Part::of("users", size, Side::User, &size.users_in(slice), users),
        Part::of("items", size, Side::Item, &size.items_in(slice), items),
    );
    if slice == Slice::WHOLE
        && residuals::bytes(gradient).is_some_and(|bytes| bytes < users.row_bytes() + items.row_bytes())
    {
        return residuals::encode(size, gradient, out);
    }
    let start = size.head().write(What::Gradient, out);
    out.extend_from_slice(&rows.to_le_bytes());
    out.extend_from_slice(&squared_error.to_le_bytes());
    users.list.write_head(size.n_users, out);
    items.list.write_head(size.n_items, out);
    users.list.write(users.ids, out);
    items.list.write(items.ids, out);
    users.write_rows(out);
    items.write_rows(out);
    close(start, out);
}

/// What a slice has of the rows of one side.
struct Part<'a> {
    list: List,
    row: Row,
    lanes: usize,
    ids: &'a [u32],
    values: &'a [Lane],
}

impl<'a> Part<'a> {
    fn of(what: &'static str, size: Size, side: Side, range: &Range<u32>, gradients: &'a RowGradients) -> Self {
        let RowGradients { ids, values } = gradients;
        let lanes = size.shape.lanes();
        assert!(ids.len() * lanes == values.len(), "there is a row of values for each id");
        let inside = ids.partition_point(|&id| id < range.start)..ids.partition_point(|&id| id < range.end);
        let values = &values[inside.start * lanes..inside.end * lanes];
        let ids = &ids[inside];
        Self { list: List::new(what, range, ids.len()), row: size.row(side), lanes, ids, values }
    }

    const fn row_bytes(&self) -> u64 {
        (self.ids.len() * self.row.bytes()) as u64
    }

    fn write_rows(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let bytes = self.row.bytes();
        out.resize(start + self.ids.len() * bytes, 0);
        let rows = self.values.as_flattened().chunks_exact(self.lanes * LANES);
        for (row, out) in rows.zip(out[start..].chunks_exact_mut(bytes)) {
            self.row.write(row, out);
        }
    }
}

/// Reads what [`encode`] made of `slice` of a gradient of a model of `size` into `out`, whose buffers are used again.
///
/// # Errors
/// When the bytes are anything else; `out` is then of no use. No more memory is taken than fits the bytes.
pub fn decode(size: Size, bytes: &[u8], slice: Slice, out: &mut Gradient) -> Result<Travelled, WireError> {
    if slice == Slice::WHOLE && bytes.starts_with(&What::Residuals.magic()) {
        return residuals::decode(size, bytes, out).map(|()| Travelled::Residuals);
    }
    out.residuals.clear();
    let mut reader = size.head().open(What::Gradient, bytes)?;
    out.rows = reader.u32()?;
    out.squared_error = reader.take().map(f64::from_le_bytes)?;
    let users = List::read_head("users", size.n_users, &size.users_in(slice), &mut reader)?;
    let items = List::read_head("items", size.n_items, &size.items_in(slice), &mut reader)?;
    let (user, item) = (size.row(Side::User), size.row(Side::Item));
    let rows = |list: &List, row: Row| u64::from(list.count) * row.bytes() as u64;
    reader.expect(users.bytes() + items.bytes() + rows(&users, user) + rows(&items, item))?;
    users.read(reader.slice(users.bytes()), &mut out.users.ids)?;
    items.read(reader.slice(items.bytes()), &mut out.items.ids)?;
    let lanes = size.shape.lanes();
    read_rows(user, lanes, reader.slice(rows(&users, user)), &mut out.users.values);
    read_rows(item, lanes, reader.slice(rows(&items, item)), &mut out.items.values);
    Ok(Travelled::Rows)
}

fn read_rows(row: Row, lanes: usize, bytes: &[u8], out: &mut Vec<Lane>) {
    let bytes = bytes.chunks_exact(row.bytes());
    out.clear();
    out.resize(bytes.len() * lanes, [0.0; LANES]);
    for (bytes, values) in bytes.zip(out.as_flattened_mut().chunks_exact_mut(lanes * LANES)) {
        row.read(bytes, values);
    }
}

/// The state of a model of `size` after `steps` steps, whose rows stand in `blocks`: users, then items.
///
/// # Panics
/// When a block is not at that step.
#[must_use]
pub fn write_state(size: Size, steps: u32, blocks: &[&Block<'_>]) -> Vec<u8> {
    assert!(blocks.iter().all(|b| b.steps == steps), "every block is after {steps} steps");
    let mut out = Vec::with_capacity(state_bytes(size) as usize + 64);
    size.head().write(What::State, &mut out);
    for word in [steps, size.n_users, size.n_items] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    blocks.iter().for_each(|block| put_words(&block.stamps, u32::to_le_bytes, &mut out));
    blocks.iter().for_each(|block| write_rows(size, block, &mut out));
    close(0, &mut out);
    out
}

/// Bytes of stamps and rows.
const fn state_bytes(size: Size) -> u64 {
    let row = 4 + 2 * size.row(Side::User).bytes() as u64;
    (size.n_users as u64 + size.n_items as u64) * row
}

fn write_rows(size: Size, block: &Block<'_>, out: &mut Vec<u8>) {
    let (row, lanes) = (size.row(block.side), size.shape.lanes());
    let start = out.len();
    let (bytes, n_rows) = (row.bytes(), block.stamps.len());
    out.resize(start + 2 * bytes * n_rows, 0);
    let (mut values, mut velocities) = (vec![[0.0; LANES]; lanes], vec![[0.0; LANES]; lanes]);
    for (lines, out) in block.lines.chunks_exact(lanes).zip(out[start..].chunks_exact_mut(2 * bytes)) {
        for ((line, value), velocity) in lines.iter().zip(&mut values).zip(&mut velocities) {
            (*value, *velocity) = (line.value, line.velocity);
        }
        let (first, second) = out.split_at_mut(bytes);
        row.write(values.as_flattened(), first);
        row.write(velocities.as_flattened(), second);
    }
}

/// Sets `blocks`, those of the users and then of the items of a model of `size`, to what [`write_state`] wrote of an equal one, and
/// gives the steps it is after.
///
/// # Errors
/// When the bytes are anything else; the blocks are then as they were.
pub fn read_state(size: Size, bytes: &[u8], blocks: &mut [&mut Block<'_>]) -> Result<u32, WireError> {
    let mut reader = size.head().open(What::State, bytes)?;
    let steps = reader.u32()?;
    same("users", reader.u32()?, size.n_users)?;
    same("items", reader.u32()?, size.n_items)?;
    reader.expect(state_bytes(size))?;
    let stamps = reader.slice((u64::from(size.n_users) + u64::from(size.n_items)) * 4);
    check_stamps(size, stamps, steps)?;
    let mut stamps = Reader { bytes: stamps };
    for block in blocks {
        let n_rows = block.stamps.len();
        read_words(stamps.slice(n_rows as u64 * 4), u32::from_le_bytes, &mut block.stamps);
        let bytes = 2 * size.row(block.side).bytes() * n_rows;
        restore_rows(size, reader.slice(bytes as u64), block);
        block.steps = steps;
    }
    Ok(steps)
}

/// A row cannot have seen more steps than the model.
fn check_stamps(size: Size, stamps: &[u8], steps: u32) -> Result<(), WireError> {
    let stamps = stamps.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes));
    match (0..).zip(stamps).find(|&(_, stamp)| stamp > steps) {
        None => Ok(()),
        Some((row, stamp)) if row < size.n_users => Err(WireError::Stamp { what: "users", row, stamp, steps }),
        Some((row, stamp)) => Err(WireError::Stamp { what: "items", row: row - size.n_users, stamp, steps }),
    }
}

fn restore_rows(size: Size, bytes: &[u8], block: &mut Block<'_>) {
    let (row, lanes) = (size.row(block.side), size.shape.lanes());
    let (mut values, mut velocities) = (vec![[0.0; LANES]; lanes], vec![[0.0; LANES]; lanes]);
    if size.shape.biases {
        values.as_flattened_mut()[size.shape.constant_place(block.side)] = 1.0;
    }
    for (lines, bytes) in block.lines.chunks_exact_mut(lanes).zip(bytes.chunks_exact(2 * row.bytes())) {
        let (first, second) = bytes.split_at(row.bytes());
        row.read(first, values.as_flattened_mut());
        row.read(second, velocities.as_flattened_mut());
        for ((line, value), velocity) in lines.iter_mut().zip(&values).zip(&velocities) {
            (line.value, line.velocity) = (*value, *velocity);
        }
    }
}
