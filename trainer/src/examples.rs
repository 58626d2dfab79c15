//! Where labelled samples come from.

use std::error::Error;

use mprec_datasets::{Dataset, LabelledBatch, Split};
use mprec_representations::{Batch, BatchError, BatchShape, Schema};

/// Labelled samples in the order of time, any of which can be fetched.
///
/// Training asks for the rows of one step at a time, in an order that stays within a window
/// ([`Order`](crate::Order)), so that a memory-mapped source reads from disk in runs. `Sync`
/// because validation fetches from several threads.
pub trait Examples: Sync {
    /// The features of every sample.
    fn schema(&self) -> &Schema;

    /// Number of samples.
    fn rows(&self) -> usize;

    /// The samples at `rows`, in that order, and their labels, 0 or 1.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    ///
    /// # Panics
    ///
    /// May panic if a row is not below [`Examples::rows`].
    fn gather(&self, rows: &[usize]) -> Result<(Batch, Vec<f32>), ExamplesError>;
}

/// Why samples could not be read: whatever the source says.
pub type ExamplesError = Box<dyn Error + Send + Sync>;

/// The rows of a prepared folder, in the order of time.
impl Examples for Dataset {
    fn schema(&self) -> &Schema {
        Dataset::schema(self)
    }

    fn rows(&self) -> usize {
        Dataset::rows(self, Split::All).len()
    }

    fn gather(&self, rows: &[usize]) -> Result<(Batch, Vec<f32>), ExamplesError> {
        let LabelledBatch { batch, labels } = Dataset::gather(self, rows)?;
        Ok((batch, labels))
    }
}

/// Samples held in memory, one id per feature.
#[derive(Debug, Clone)]
pub struct MemoryExamples {
    schema: Schema,
    shape: BatchShape,
    dense: Vec<f32>,
    ids: Vec<i64>,
    labels: Vec<f32>,
}

impl MemoryExamples {
    /// Samples given row by row: `dense[row * dense_features + at]`, `ids[row * features + at]`.
    ///
    /// # Errors
    ///
    /// When the lengths do not fit the number of labels, a value is not finite, or the schema
    /// refuses an id.
    pub fn new(
        schema: Schema,
        dense: Vec<f32>,
        ids: Vec<i64>,
        labels: Vec<f32>,
    ) -> Result<Self, BatchError> {
        let shape = BatchShape::new(&schema);
        let batch = shape.from_rows(dense.clone(), &ids)?;
        if batch.samples() != labels.len() {
            let expected = labels.len() * shape.features();
            return Err(BatchError::Ids { got: ids.len(), expected });
        }
        Ok(Self { schema, shape, dense, ids, labels })
    }
}

impl Examples for MemoryExamples {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn rows(&self) -> usize {
        self.labels.len()
    }

    fn gather(&self, rows: &[usize]) -> Result<(Batch, Vec<f32>), ExamplesError> {
        let (width, features) = (self.shape.dense_width(), self.shape.features());
        let mut dense = Vec::with_capacity(rows.len() * width);
        let mut ids = Vec::with_capacity(rows.len() * features);
        for &row in rows {
            dense.extend_from_slice(&self.dense[row * width..][..width]);
            ids.extend_from_slice(&self.ids[row * features..][..features]);
        }
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Ok((self.shape.from_rows(dense, &ids)?, labels))
    }
}
