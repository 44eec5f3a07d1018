//! The tables that turn renumbered users and items back into the source's ids, as Parquet with two `u32` columns.

use bytes::Bytes;
use parquet::file::properties::WriterProperties;

use crate::pairs;

/// The table of `ids`, where row `i` says that number `i` stands for `ids[i]`. Columns: `name` and `name_id`.
///
/// # Panics
/// When there are more than `u32::MAX` ids.
#[must_use]
pub fn encode(name: &str, ids: &[u32]) -> Vec<u8> {
    let count = u32::try_from(ids.len()).expect("there are at most u32::MAX ids");
    pairs::encode([name, &format!("{name}_id")], [(0..count).collect(), ids.to_vec()])
}

/// How small tables are written: the same bytes whichever version of the Parquet library writes them.
#[must_use]
pub fn properties() -> WriterProperties {
    WriterProperties::builder().set_created_by("gristmill".to_owned()).build()
}

/// The source's ids in order of their number.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub fn decode(name: &str, bytes: Bytes) -> Result<Vec<u32>, String> {
    let mut ids = Vec::new();
    pairs::decode([name, &format!("{name}_id")], bytes, |number, original| {
        if number as usize != ids.len() {
            return Err(format!("column `{name}` has {number} in row {}", ids.len()));
        }
        ids.push(original);
        Ok(())
    })?;
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        let ids = [1, 7, 193_609, u32::MAX];
        assert_eq!(decode("item", Bytes::from(encode("item", &ids))).unwrap(), ids);
        assert!(decode("user", Bytes::from(encode("item", &ids))).unwrap_err().contains("`user`"));
    }
}
