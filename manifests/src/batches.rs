//! Mini-batches by their number: one compact table, however the manifest lists them.
//!
//! A million of them take 80 MB: keys lie one behind the other in one text, once for each object, and there is no allocation for
//! a single mini-batch. The rules that a listing must keep are checked while the table is built.

use std::collections::HashSet;
use std::sync::Arc;

use schemas::dataset::Digest;
use schemas::manifest::Batch;

/// Stands for "no offset": the mini-batch is the object.
const WHOLE: u64 = u64::MAX;

/// The mini-batches of one set, in order. A clone is the same table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batches(Arc<Table>);

#[derive(Debug, Default, PartialEq)]
struct Table {
    /// Keys of all objects, in order of their first mini-batch.
    keys: String,
    /// Where each object's key ends.
    key_ends: Vec<u32>,
    /// The object of each mini-batch; nothing when each has its own.
    objects: Vec<u32>,
    /// Where each mini-batch begins, or [`WHOLE`]; nothing when each is an object.
    offsets: Vec<u64>,
    rows: Vec<u64>,
    bytes: Vec<u64>,
    digests: Vec<u128>,
}

impl Table {
    fn object(&self, object: usize) -> &str {
        let start = if object == 0 { 0 } else { self.key_ends[object - 1] };
        &self.keys[start as usize..self.key_ends[object] as usize]
    }
}

impl Batches {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many objects they lie in.
    #[must_use]
    pub fn n_objects(&self) -> usize {
        self.0.key_ends.len()
    }

    /// Mini-batch number `i`.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn get(&self, i: usize) -> Batch {
        let table = &*self.0;
        Batch {
            key: self.key(i).to_owned(),
            offset: table.offsets.get(i).copied().filter(|&offset| offset != WHOLE),
            rows: table.rows[i],
            bytes: table.bytes[i],
            digest: Digest::from_xxh3_128(table.digests[i]),
        }
    }

    /// The object of mini-batch number `i`.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn key(&self, i: usize) -> &str {
        self.0.object(self.0.objects.get(i).map_or(i, |&object| object as usize))
    }

    /// Rows of mini-batch number `i`.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn rows_of(&self, i: usize) -> u64 {
        self.0.rows[i]
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Batch> + Send + use<> {
        let all = self.clone();
        (0..all.len()).map(move |i| all.get(i))
    }

    /// Rows together.
    #[must_use]
    pub fn rows(&self) -> u128 {
        self.0.rows.iter().copied().map(u128::from).sum()
    }

    /// Bytes together, without what an object has beside its mini-batches.
    #[must_use]
    pub fn bytes(&self) -> u128 {
        self.0.bytes.iter().copied().map(u128::from).sum()
    }

    /// The fewest and the most rows that one has; zeros when there are none.
    #[must_use]
    pub fn least_and_most_rows(&self) -> (u64, u64) {
        let rows = self.0.rows.iter().copied();
        (rows.clone().min().unwrap_or(0), rows.max().unwrap_or(0))
    }

    /// A key that both have.
    #[must_use]
    pub fn shared_key<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let (few, many) = if self.n_objects() < other.n_objects() { (self, other) } else { (other, self) };
        let keys = |of: &'a Self| (0..of.n_objects()).map(|object| of.0.object(object));
        let known: HashSet<&str> = keys(few).collect();
        if known.is_empty() { None } else { keys(many).find(|key| known.contains(key)) }
    }
}

/// A table that is being made.
#[derive(Debug, Default)]
pub struct Builder {
    table: Table,
    /// Where the next mini-batch of the last object must begin; nothing when that object cannot have another one.
    end: Option<u64>,
    /// Whether every key was greater than the one before, so that none can have come twice.
    ascending: bool,
}

impl Builder {
    /// A table for about `count` mini-batches.
    #[must_use]
    pub fn for_about(count: usize) -> Self {
        let vector = |count| Vec::with_capacity(count);
        let table =
            Table { rows: vector(count), bytes: vector(count), digests: Vec::with_capacity(count), ..Table::default() };
        Self { table, end: None, ascending: true }
    }

    /// Adds the next mini-batch.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn push(&mut self, key: &str, offset: Option<u64>, rows: u64, bytes: u64, digest: u128) -> Result<(), String> {
        let table = &mut self.table;
        let objects = table.key_ends.len();
        if offset.is_some_and(|start| start.checked_add(bytes).is_none_or(|end| end >= i64::MAX as u64)) {
            return Err(format!("`{key}` has a mini-batch of {bytes} bytes at {}", offset.unwrap_or_default()));
        }
        let same = objects > 0 && table.object(objects - 1) == key;
        match (same, self.end, offset) {
            (true, Some(end), Some(start)) if start == end => {}
            (true, Some(end), Some(start)) => {
                return Err(format!("in `{key}` a mini-batch ends at byte {end} and the next begins at {start}"));
            }
            (true, ..) => return Err(format!("the key `{key}` is named twice")),
            (false, _, None | Some(0)) => self.open(key)?,
            (false, _, Some(start)) => return Err(format!("the first mini-batch in `{key}` begins at byte {start}")),
        }
        let table = &mut self.table;
        let (number, object) = (table.rows.len(), table.key_ends.len() - 1);
        if offset.is_some() && table.offsets.is_empty() {
            table.offsets = vec![WHOLE; number];
            table.objects = (0..).take(number).collect();
        }
        if offset.is_some() || !table.offsets.is_empty() {
            table.offsets.push(offset.unwrap_or(WHOLE));
            table.objects.push(object as u32);
        }
        self.end = offset.map(|start| start + bytes);
        table.rows.push(rows);
        table.bytes.push(bytes);
        table.digests.push(digest);
        Ok(())
    }

    /// Begins another object.
    fn open(&mut self, key: &str) -> Result<(), String> {
        check_key(key)?;
        let table = &mut self.table;
        self.ascending &= table.key_ends.is_empty() || table.object(table.key_ends.len() - 1) < key;
        table.keys.push_str(key);
        let end = u32::try_from(table.keys.len()).map_err(|_| "the keys are longer than 4 GiB together".to_owned())?;
        table.key_ends.push(end);
        Ok(())
    }

    /// Adds the next mini-batch.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn push_batch(&mut self, batch: &Batch) -> Result<(), String> {
        let Batch { key, offset, rows, bytes, digest } = batch;
        let bits = digest.xxh3_128();
        let bits = bits.ok_or_else(|| format!("`{digest}` is not `xxh3-128:` and 32 hexadecimal digits"))?;
        self.push(key, *offset, *rows, *bytes, bits)
    }

    /// The table.
    ///
    /// # Errors
    /// When an object is named twice.
    pub fn finish(self) -> Result<Batches, String> {
        let Self { mut table, ascending, .. } = self;
        if !ascending {
            let mut seen = HashSet::with_capacity(table.key_ends.len());
            let mut keys = (0..table.key_ends.len()).map(|object| table.object(object));
            if let Some(twice) = keys.find(|key| !seen.insert(*key)) {
                return Err(format!("the key `{twice}` is named twice"));
            }
        }
        table.keys.shrink_to_fit();
        Ok(Batches(Arc::new(table)))
    }
}

/// # Errors
/// When `key` could lead out of its place.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.starts_with('/') || key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("the key `{key}` is not a plain relative path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(batches: &[Batch]) -> Result<Batches, String> {
        let mut table = Builder::for_about(batches.len());
        batches.iter().try_for_each(|batch| table.push_batch(batch))?;
        table.finish()
    }

    fn batch(key: &str, offset: Option<u64>, bytes: u64) -> Batch {
        Batch { key: key.to_owned(), offset, rows: bytes + 1, bytes, digest: Digest::from_xxh3_128(bytes.into()) }
    }

    #[test]
    fn rules_of_places_in_objects() {
        let table_of = |list: &[(&str, Option<u64>, u64)]| {
            table(&list.iter().map(|&(key, offset, bytes)| batch(key, offset, bytes)).collect::<Vec<_>>())
        };
        for (list, objects) in [
            (&[][..], 0),
            (&[("a", None, 1), ("b", None, 2)], 2),
            (&[("a", Some(0), 1), ("a", Some(1), 2), ("b", Some(0), 9)], 2),
            (&[("b", None, 1), ("a", Some(0), 2), ("a", Some(2), 2), ("c", None, 1)], 3),
        ] {
            assert_eq!(table_of(list).unwrap().n_objects(), objects, "{list:?}");
        }
        for (list, rule) in [
            (&[("a", None, 1), ("a", None, 1)][..], "the key `a` is named twice"),
            (&[("a", None, 1), ("b", None, 1), ("a", None, 1)], "the key `a` is named twice"),
            (&[("a", None, 1), ("a", Some(0), 1)], "the key `a` is named twice"),
            (&[("a", Some(0), 5), ("a", None, 1)], "the key `a` is named twice"),
            (&[("a", Some(0), 1), ("b", Some(0), 1), ("a", Some(0), 1)], "the key `a` is named twice"),
            (&[("a", Some(0), 5), ("a", Some(4), 1)], "in `a` a mini-batch ends at byte 5 and the next begins at 4"),
            (&[("a", Some(0), 5), ("a", Some(6), 1)], "in `a` a mini-batch ends at byte 5 and the next begins at 6"),
            (&[("a", Some(1), 5)], "the first mini-batch in `a` begins at byte 1"),
            (&[("a", Some(u64::MAX), 5)], "`a` has a mini-batch of 5 bytes at 18446744073709551615"),
            (&[("a", Some(0), 1 << 63)], "`a` has a mini-batch of 9223372036854775808 bytes at 0"),
            (&[("a/../b", None, 1)], "the key `a/../b` is not a plain relative path"),
        ] {
            assert_eq!(table_of(list).unwrap_err(), rule, "{list:?}");
        }
        let of = |keys: &[&str]| table_of(&keys.iter().map(|key| (*key, None, 1)).collect::<Vec<_>>()).unwrap();
        assert_eq!(of(&["a", "b"]).shared_key(&of(&["c"])), None);
        assert_eq!(of(&["a", "b"]).shared_key(&of(&["c", "d", "b"])), Some("b"));
        let Err(rule) = table(&[Batch { digest: digest_of("md5:12"), ..batch("a", None, 1) }]) else { panic!() };
        assert_eq!(rule, "`md5:12` is not `xxh3-128:` and 32 hexadecimal digits");
    }

    fn digest_of(text: &str) -> Digest {
        serde_json::from_value(text.into()).unwrap()
    }

    proptest! {
        /// Objects with no mini-batch in them do not occur, else any mixture of whole and shared ones does.
        #[test]
        fn what_goes_in_comes_out(objects in prop::collection::vec(prop::option::of(prop::collection::vec(0u64..1000, 1..5)), 0..20)) {
            let mut batches = Vec::new();
            for (i, sizes) in objects.iter().enumerate() {
                let key = format!("gen/{}", i * 7919 % 23);
                match sizes {
                    None => batches.push(batch(&key, None, i as u64)),
                    Some(sizes) => {
                        let mut offset = 0;
                        for &bytes in sizes {
                            batches.push(batch(&key, Some(offset), bytes));
                            offset += bytes;
                        }
                    }
                }
            }
            let table = table(&batches).unwrap();
            prop_assert_eq!(table.n_objects(), objects.len());
            prop_assert_eq!(table.iter().collect::<Vec<_>>(), batches);
        }
    }
}
