//! The table of buckets that a row may hit more than once, as Parquet with two `u32` columns, `bucket` and `scale`.

use bytes::Bytes;

use crate::pairs;

const COLUMNS: [&str; 2] = ["bucket", "scale"];

/// The table of `scales`: bucket and scale, in ascending order of the bucket.
///
/// # Panics
/// When the buckets do not ascend or a scale is less than 2.
#[must_use]
pub fn encode(scales: &[(u32, u32)]) -> Vec<u8> {
    assert!(scales.is_sorted_by(|a, b| a.0 < b.0), "the buckets ascend");
    assert!(scales.iter().all(|s| s.1 >= 2), "only scales other than 1 are kept");
    pairs::encode(COLUMNS, [scales.iter().map(|s| s.0).collect(), scales.iter().map(|s| s.1).collect()])
}

/// The table, whose buckets must ascend below `n_buckets` and whose scales must be at least 2.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub fn decode(n_buckets: u32, bytes: Bytes) -> Result<Vec<(u32, u32)>, String> {
    let mut scales: Vec<(u32, u32)> = Vec::new();
    pairs::decode(COLUMNS, bytes, |bucket, scale| {
        let row = scales.len();
        if bucket >= n_buckets || scales.last().is_some_and(|last| last.0 >= bucket) {
            return Err(format!("row {row}: bucket {bucket} is not in ascending order below {n_buckets}"));
        }
        if scale < 2 {
            return Err(format!("row {row}: the scale {scale} is less than 2"));
        }
        scales.push((bucket, scale));
        Ok(())
    })?;
    Ok(scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_come_back_and_are_checked() {
        let scales = [(0, 2), (7, 26), (999, 3)];
        let bytes = Bytes::from(encode(&scales));
        assert_eq!(decode(1000, bytes.clone()).unwrap(), scales);
        assert_eq!(decode(1, Bytes::from(encode(&[]))).unwrap(), []);
        assert_eq!(decode(999, bytes).unwrap_err(), "row 2: bucket 999 is not in ascending order below 999");
        let other = Bytes::from(crate::id_map::encode("bucket", &[1]));
        assert_eq!(decode(5, other).unwrap_err(), "there is no complete column `scale` of type u32");
    }
}
