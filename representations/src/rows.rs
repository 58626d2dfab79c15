//! The rows of an embedding table, in the format in which they are stored.

use half::{bf16, f16};

use crate::{
    quant::FusedRows,
    tensor::{Element, Tensor},
};

/// An embedding table: rows of one width. Cloning shares the rows.
///
/// A backend matches on the format and says which ones it lacks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Rows {
    /// 32-bit floats, `[rows, dim]`.
    F32(Tensor<f32>),
    /// 16-bit floats of IEEE 754, `[rows, dim]`.
    F16(Tensor<f16>),
    /// The upper halves of 32-bit floats, `[rows, dim]`.
    BF16(Tensor<bf16>),
    /// Codes of few bits, with scale and bias per row.
    Fused(FusedRows),
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(tensor) => tensor.rows(),
            Self::F16(tensor) => tensor.rows(),
            Self::BF16(tensor) => tensor.rows(),
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
            Self::F16(tensor) => tensor.width(),
            Self::BF16(tensor) => tensor.width(),
            Self::Fused(rows) => rows.dim(),
        }
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(tensor) => tensor.bytes(),
            Self::F16(tensor) => tensor.bytes(),
            Self::BF16(tensor) => tensor.bytes(),
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
            Self::F32(tensor) => add(tensor, at, weight, sum, |value| value),
            Self::F16(tensor) => add(tensor, at, weight, sum, f16::to_f32),
            Self::BF16(tensor) => add(tensor, at, weight, sum, bf16::to_f32),
            Self::Fused(rows) => {
                assert_eq!(sum.len(), rows.dim(), "width of the sum");
                for (column, sum) in sum.iter_mut().enumerate() {
                    *sum += weight * rows.value(at, column);
                }
            }
        }
    }
}

fn add<E: Element>(
    table: &Tensor<E>,
    at: usize,
    weight: f32,
    sum: &mut [f32],
    widen: impl Fn(E) -> f32,
) {
    let row = table.row(at);
    assert_eq!(sum.len(), row.len(), "width of the sum");
    for (sum, &value) in sum.iter_mut().zip(row) {
        *sum += weight * widen(value);
    }
}
