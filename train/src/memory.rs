//! Memory for a model: one mapping, on huge pages where the system has them. A step touches rows all over the model, so with
//! ordinary pages it waits for address translation too (measured on MovieLens-20M shapes: a tenth of the time).

use bytemuck::AnyBitPattern;
use memmap2::MmapMut;

use crate::error::Error;

/// Zeroed memory.
#[derive(Debug)]
pub struct Memory {
    mapping: MmapMut,
}

impl Memory {
    /// Room for `bytes`, at least one.
    ///
    /// # Errors
    /// When the system does not give that much memory.
    pub fn new(bytes: usize) -> Result<Self, Error> {
        let mapping = MmapMut::map_anon(bytes).map_err(|source| Error::Memory { bytes, source })?;
        // Only speed depends on it: a system without huge pages refuses, and is used as it is.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        Ok(Self { mapping })
    }

    /// The memory, as so many `T`.
    ///
    /// # Panics
    /// When its size is not a multiple of theirs.
    #[must_use]
    pub fn of<T: AnyBitPattern + bytemuck::NoUninit>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.mapping)
    }
}
