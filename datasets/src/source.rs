//! Where batches come from, one after the other.

use mprec_representations::Schema;

use crate::{dataset::LabelledBatch, error::DatasetError};

/// Labelled samples in time order, read once.
///
/// Implementors hold what they need to go on; they never go back, and never change the order. A
/// caller that got an error may ask again, and gets the same error or what follows.
pub trait Source {
    /// The features that every batch has.
    fn schema(&self) -> &Schema;

    /// What every output calls the data.
    fn label(&self) -> String;

    /// Rows yet to come, if that is known.
    fn rows_left(&self) -> Option<u64>;

    /// The next `samples` rows, or the fewer that are left, or none at the end and for 0.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when the rows cannot be read.
    fn next_batch(&mut self, samples: usize) -> Result<Option<LabelledBatch>, DatasetError>;
}
