//! Memory for a model: one mapping, on huge pages where the system has them. A step touches rows all over the model, so with
//! ordinary pages it waits for address translation too (measured on MovieLens-20M shapes: a tenth of the time).

use memmap2::MmapMut;
use train_core::factors::Line;

use crate::error::Error;

/// Zeroed lines.
#[derive(Debug)]
pub struct Memory {
    mapping: MmapMut,
}

impl Memory {
    /// Room for `n` lines.
    ///
    /// # Errors
    /// When the system does not give that much memory.
    pub fn new(n: usize) -> Result<Self, Error> {
        let bytes = n * size_of::<Line>();
        let mapping = MmapMut::map_anon(bytes).map_err(|source| Error::Memory { bytes, source })?;
        // Only speed depends on it: a system without huge pages refuses, and is used as it is.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        Ok(Self { mapping })
    }

    /// The lines.
    #[must_use]
    pub fn lines(&mut self) -> &mut [Line] {
        bytemuck::cast_slice_mut(&mut self.mapping)
    }
}
