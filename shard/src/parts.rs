//! A set of rows as the dataset has it: parts, in row order.

use manifests::load;
use manifests::place::Place;
use reporting::interrupt;
use schemas::dataset::Object;

use crate::Error;
use crate::kind::Kind;

/// A set of rows of one kind.
#[derive(Debug)]
pub(crate) struct Set<'a, K> {
    /// What they are.
    pub(crate) kind: K,
    /// Where the parts lie.
    pub(crate) place: &'a Place,
    /// What names them.
    pub(crate) named_by: &'a str,
    /// The parts.
    pub(crate) parts: &'a [Object],
}

impl<K: Kind> Set<'_, K> {
    /// How many rows there are.
    pub(crate) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Decodes `part`.
    ///
    /// # Errors
    /// When it is missing or damaged, or a signal came.
    pub(crate) fn read(&self, part: &Object, columns: &mut K::Columns) -> Result<(), Error> {
        interrupt::check()?;
        let corrupt = |problem| manifests::Error::Corrupt { place: self.place.show(&part.key), problem };
        let bytes = load::object(self.place, part, self.named_by)?;
        let rows = self.kind.decode(bytes, columns).map_err(corrupt)?;
        if rows as u64 != part.rows {
            return Err(corrupt(format!("it has {rows} rows, `{}` says {}", self.named_by, part.rows)).into());
        }
        Ok(())
    }
}
