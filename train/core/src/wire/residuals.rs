//! The gradient of a mini-batch of ratings as its residuals; the table is in [`super::pmf`].

use super::ids::{List, ones, pack, set, word};
use super::pmf::Size;
use super::{Slice, What, WireError, close, put_words, read_words};
use crate::pmf::gradient::{Gradient, Residuals};

/// Bits of the place of an item.
const fn place_bits(items: u32) -> u8 {
    (u32::BITS - items.saturating_sub(1).leading_zeros()) as u8
}

/// Bytes between the ids and the digest.
fn row_bytes(rows: u32, items: u32) -> u64 {
    let (rows, bits) = (u64::from(rows), u64::from(place_bits(items)));
    rows.div_ceil(8) + (rows * bits).div_ceil(8) + 4 * rows
}

fn lists(size: Size, gradient: &Gradient) -> [List; 2] {
    let users = List::new("users", &size.users_in(Slice::WHOLE), gradient.users.ids.len());
    [users, List::new("items", &size.items_in(Slice::WHOLE), gradient.items.ids.len())]
}

/// Bytes of a gradient as residuals, apart from what it also has as rows; nothing if it has none.
pub(super) fn bytes(gradient: &Gradient) -> Option<u64> {
    let Residuals { starts, errors, .. } = &gradient.residuals;
    (!starts.is_empty()).then(|| row_bytes(errors.len() as u32, gradient.items.ids.len() as u32))
}

/// Appends `gradient`, which has residuals.
pub(super) fn encode(size: Size, gradient: &Gradient, out: &mut Vec<u8>) {
    let Gradient { users, items, residuals: Residuals { starts, slots, errors }, .. } = gradient;
    let [user_list, item_list] = lists(size, gradient);
    let start = size.head().write(What::Residuals, out);
    out.extend_from_slice(&(errors.len() as u32).to_le_bytes());
    user_list.write_head(size.n_users, out);
    item_list.write_head(size.n_items, out);
    user_list.write(&users.ids, out);
    item_list.write(&items.ids, out);
    let mut append = |bytes: usize, write: &dyn Fn(&mut [u8])| {
        let start = out.len();
        out.resize(start + bytes, 0);
        write(&mut out[start..]);
    };
    append(errors.len().div_ceil(8), &|out| set(starts[..users.ids.len()].iter().map(|&row| row as usize), out));
    let bits = place_bits(items.ids.len() as u32);
    append((errors.len() * usize::from(bits)).div_ceil(8), &|out| pack(bits, slots.iter().copied(), out));
    put_words(errors, f32::to_le_bytes, out);
    close(start, out);
}

/// Reads the ids and residuals of what [`encode`] wrote; the rest of `out` is of no use then.
pub(super) fn decode(size: Size, bytes: &[u8], out: &mut Gradient) -> Result<(), WireError> {
    let mut reader = size.head().open(What::Residuals, bytes)?;
    let rows = reader.u32()?;
    let user_list = List::read_head("users", size.n_users, &size.users_in(Slice::WHOLE), &mut reader)?;
    let item_list = List::read_head("items", size.n_items, &size.items_in(Slice::WHOLE), &mut reader)?;
    reader.expect(user_list.bytes() + item_list.bytes() + row_bytes(rows, item_list.count))?;
    user_list.read(reader.slice(user_list.bytes()), &mut out.users.ids)?;
    item_list.read(reader.slice(item_list.bytes()), &mut out.items.ids)?;
    let Residuals { starts, slots, errors } = &mut out.residuals;
    starts.clear();
    starts.extend(ones(reader.slice(u64::from(rows).div_ceil(8))).map(|row| row as u32));
    let wrong = |what, entry| WireError::Ids { what, entry };
    // Every user has a row, every row a user, and there are no rows beyond the last.
    if starts.len() != user_list.count as usize {
        return Err(wrong("users", starts.len() as u32));
    }
    if starts.first().is_some_and(|&first| first != 0) || starts.is_empty() != (rows == 0) {
        return Err(wrong("users", 0));
    }
    if starts.last().is_some_and(|&last| last >= rows) {
        return Err(wrong("users", user_list.count));
    }
    starts.push(rows);
    let bits = place_bits(item_list.count);
    let places = reader.slice((u64::from(rows) * u64::from(bits)).div_ceil(8));
    let mask = (1u64 << bits) - 1;
    slots.clear();
    slots.extend((0..rows as usize).map(|row| {
        let at = row * usize::from(bits);
        ((word(places, at / 8) >> (at % 8)) & mask) as u32
    }));
    if let Some((row, _)) = (0..).zip(&*slots).find(|&(_, &slot)| slot >= item_list.count) {
        return Err(wrong("items", row));
    }
    errors.resize(rows as usize, 0.0);
    read_words(reader.slice(4 * u64::from(rows)), f32::from_le_bytes, errors);
    Ok(())
}
