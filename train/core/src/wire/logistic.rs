//! Gradients and state of a logistic regression as bytes.
//!
//! A gradient has one list, of the parameters as [`Space`] numbers them, and an f32 for each id. A state goes on after its head with
//!
//! | bytes | type | |
//! |---|---|---|
//! | 4 | u32 | steps |
//! | 4 | u32 | parameters, `n` |
//! | 8 | u64 | XXH3-64 of the scaled buckets: for each its number (u32) and what a hit is worth (f32) |
//! | 4 n | f32 | parameters |
//! | 4 n | f32 | first moments |
//! | 4 n | f32 | second moments |

use xxhash_rust::xxh3::xxh3_64;

use super::ids::List;
use super::{Head, Slice, What, WireError, close, put_words, read_words, same};
use crate::logistic::Space;
use crate::logistic::gradient::Gradient;
use crate::logistic::weights::Block;

const MODEL: u8 = 1;

const fn head(space: &Space) -> Head {
    Head { model: MODEL, n_factors: 0, flag: space.intercept() }
}

/// Appends to `out` what is in `slice` of `gradient`, whose ids are parameters of `space`.
///
/// # Panics
/// When there are not as many values as ids.
pub fn encode(space: &Space, gradient: &Gradient, slice: Slice, out: &mut Vec<u8>) {
    let Gradient { ids, values, loss_sum, rows } = gradient;
    assert!(ids.len() == values.len(), "there is a value for each id");
    let range = slice.of(space.n_parameters());
    let inside = ids.partition_point(|&id| id < range.start)..ids.partition_point(|&id| id < range.end);
    let (ids, values) = (&ids[inside.clone()], &values[inside]);
    let list = List::new("parameters", &range, ids.len());
    let start = head(space).write(What::Gradient, out);
    out.extend_from_slice(&rows.to_le_bytes());
    out.extend_from_slice(&loss_sum.to_le_bytes());
    list.write_head(space.n_parameters(), out);
    list.write(ids, out);
    put_words(values, f32::to_le_bytes, out);
    close(start, out);
}

/// Reads what [`encode`] made of `slice` of a gradient of an equal space into `out`, whose buffers are used again.
///
/// # Errors
/// When the bytes are anything else; `out` is then of no use. No more memory is taken than fits the bytes.
pub fn decode(space: &Space, bytes: &[u8], slice: Slice, out: &mut Gradient) -> Result<(), WireError> {
    let n = space.n_parameters();
    let mut reader = head(space).open(What::Gradient, bytes)?;
    out.rows = reader.u32()?;
    out.loss_sum = reader.take().map(f64::from_le_bytes)?;
    let list = List::read_head("parameters", n, &slice.of(n), &mut reader)?;
    reader.expect(list.bytes() + u64::from(list.count) * 4)?;
    list.read(reader.slice(list.bytes()), &mut out.ids)?;
    out.values.resize(list.count as usize, 0.0);
    read_words(reader.bytes, f32::from_le_bytes, &mut out.values);
    Ok(())
}

/// A digest of the buckets whose hits are worth less than 1.
fn digest_of_scales(space: &Space) -> u64 {
    let mut bytes = Vec::with_capacity(space.scales().len() * 8);
    for (bucket, value) in space.scales() {
        bytes.extend_from_slice(&bucket.to_le_bytes());
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    xxh3_64(&bytes)
}

/// The state of the parameters of `space` that stand in `blocks`, after `steps` steps.
///
/// # Panics
/// When a block is not at that step.
#[must_use]
pub fn write_state(space: &Space, steps: u32, blocks: &[&Block<'_>]) -> Vec<u8> {
    assert!(blocks.iter().all(|b| b.steps == steps), "every block is after {steps} steps");
    let n = space.n_parameters();
    let mut out = Vec::with_capacity(n as usize * 12 + 64);
    head(space).write(What::State, &mut out);
    out.extend_from_slice(&steps.to_le_bytes());
    out.extend_from_slice(&n.to_le_bytes());
    out.extend_from_slice(&digest_of_scales(space).to_le_bytes());
    for block in blocks {
        let start = out.len();
        put_words(&block.effects[..block.len], f32::to_le_bytes, &mut out);
        for scaled in &block.scaled {
            let at = start + scaled.at * 4;
            out[at..at + 4].copy_from_slice(&scaled.weight.to_le_bytes());
        }
    }
    blocks.iter().for_each(|block| put_words(&block.means[..block.len], f32::to_le_bytes, &mut out));
    blocks.iter().for_each(|block| put_words(&block.squares[..block.len], f32::to_le_bytes, &mut out));
    close(0, &mut out);
    out
}

/// Sets `blocks`, those of `space` in order, to what [`write_state`] wrote of an equal space, and gives the steps it is after.
///
/// # Errors
/// When the bytes are anything else; the blocks are then as they were.
pub fn read_state(space: &Space, bytes: &[u8], blocks: &mut [&mut Block<'_>]) -> Result<u32, WireError> {
    let n = space.n_parameters();
    let mut reader = head(space).open(What::State, bytes)?;
    let steps = reader.u32()?;
    same("parameters", reader.u32()?, n)?;
    same("digest of the scaled buckets", reader.u64()?, digest_of_scales(space))?;
    reader.expect(u64::from(n) * 12)?;
    for block in &mut *blocks {
        read_words(reader.slice(block.len as u64 * 4), f32::from_le_bytes, &mut block.effects[..block.len]);
        for scaled in &mut block.scaled {
            scaled.weight = block.effects[scaled.at];
            block.effects[scaled.at] = scaled.weight * scaled.value;
        }
        block.steps = steps;
    }
    for block in &mut *blocks {
        read_words(reader.slice(block.len as u64 * 4), f32::from_le_bytes, &mut block.means[..block.len]);
    }
    for block in &mut *blocks {
        read_words(reader.slice(block.len as u64 * 4), f32::from_le_bytes, &mut block.squares[..block.len]);
    }
    Ok(steps)
}
