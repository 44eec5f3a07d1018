//! Checks a body against the checksum that the server keeps for the whole object.

use aws_smithy_types::base64;
use crc_fast::{CrcAlgorithm, Digest};

/// Checksums as the server tells them, in base64.
#[derive(Debug, Default)]
pub(crate) struct Checksums {
    pub(crate) crc64nvme: Option<String>,
    pub(crate) crc32c: Option<String>,
    pub(crate) crc32: Option<String>,
}

/// A body's checksum on its way to what it should be.
pub(crate) struct Check {
    name: &'static str,
    expected: u64,
    digest: Digest,
}

impl Check {
    /// The check of a whole body. `None` when the server told nothing to check against: a sum of parts' sums, which has the number
    /// of parts behind a hyphen, says nothing about the body as a whole.
    pub(crate) fn new(told: &Checksums) -> Option<Self> {
        let known = [
            ("CRC64NVME", &told.crc64nvme, CrcAlgorithm::Crc64Nvme),
            ("CRC32C", &told.crc32c, CrcAlgorithm::Crc32Iscsi),
            ("CRC32", &told.crc32, CrcAlgorithm::Crc32IsoHdlc),
        ];
        known.into_iter().find_map(|(name, text, algorithm)| {
            let bytes = base64::decode(text.as_deref()?).ok()?;
            let width = if algorithm == CrcAlgorithm::Crc64Nvme { 8 } else { 4 };
            let fits = bytes.len() == width;
            fits.then(|| Self {
                name,
                expected: bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
                digest: Digest::new(algorithm),
            })
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// `Err` with the checksum's name when the bytes seen are others than the server was given.
    pub(crate) fn finish(&self) -> Result<(), &'static str> {
        if self.digest.finalize() == self.expected { Ok(()) } else { Err(self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of parametrised CRC algorithms, for the bytes `123456789`.
    #[test]
    fn published_check_values_hold() {
        let cases = [
            (Checksums { crc64nvme: Some("rosUhgp5mIk=".to_owned()), ..Checksums::default() }, "CRC64NVME", false),
            (Checksums { crc64nvme: Some("rosUhgp5mIg=".to_owned()), ..Checksums::default() }, "CRC64NVME", true),
            (Checksums { crc32c: Some("4waSgw==".to_owned()), ..Checksums::default() }, "CRC32C", true),
            (Checksums { crc32: Some("y/Q5Jg==".to_owned()), ..Checksums::default() }, "CRC32", true),
            (Checksums { crc32: Some("y/Q5Jw==".to_owned()), ..Checksums::default() }, "CRC32", false),
        ];
        for (told, name, holds) in cases {
            let mut check = Check::new(&told).unwrap();
            check.update(b"1234");
            check.update(b"56789");
            assert_eq!(check.finish(), if holds { Ok(()) } else { Err(name) }, "{told:?}");
        }
    }

    #[test]
    fn sums_of_parts_are_not_checked() {
        for text in ["y/Q5Jg==-3", "", "AAAA"] {
            let told = Checksums { crc32: Some(text.to_owned()), ..Checksums::default() };
            assert!(Check::new(&told).is_none(), "{text}");
        }
        assert!(Check::new(&Checksums::default()).is_none());
    }
}
