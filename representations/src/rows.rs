//! The rows of an embedding table, in the format in which they are stored.

use crate::{quant::FusedRows, tensor::Tensor};

/// An embedding table: rows of one width. Cloning shares the rows.
///
/// A backend matches on the format and says which ones it lacks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Rows {
    /// 32-bit floats, `[rows, dim]`.
    F32(Tensor<f32>),
    /// Codes of few bits, with scale and bias per row.
    Fused(FusedRows),
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(tensor) => tensor.rows(),
            Self::Fused(rows) => rows.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Floats in one decoded row.
    pub fn dim(&self) -> usize {
        match self {
            Self::F32(tensor) => tensor.width(),
            Self::Fused(rows) => rows.dim(),
        }
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(tensor) => tensor.bytes(),
            Self::Fused(rows) => rows.bytes().bytes(),
        }
    }

    /// Adds `weight` times row `at` to `sum`.
    ///
    /// # Panics
    ///
    /// If there is no such row, or `sum` is not of width [`Rows::dim`].
    pub fn add_to(&self, at: usize, weight: f32, sum: &mut [f32]) {
        match self {
            Self::F32(tensor) => {
                let row = tensor.row(at);
                assert_eq!(sum.len(), row.len(), "width of the sum");
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
            Self::Fused(rows) => {
                assert_eq!(sum.len(), rows.dim(), "width of the sum");
                for (column, sum) in sum.iter_mut().enumerate() {
                    *sum += weight * rows.value(at, column);
                }
            }
        }
    }
}
