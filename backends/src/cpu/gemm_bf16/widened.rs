//! The definition, by a kernel of floats: weights were widened when packed, inputs are rounded here.

use half::bf16;

use super::{PackedBf16, check};
use crate::cpu::matrix::{Matrix, MatrixMut};

/// See [`Multiply`](super::Multiply).
pub(super) fn multiply(
    input: Matrix<'_>,
    layer: &PackedBf16,
    codes: &mut [u8],
    output: MatrixMut<'_>,
) {
    check(&input, layer, codes, &output);
    let (packed, kernel) = layer.widened();
    let stride = layer.row_bytes() / size_of::<f32>();
    let rounded: &mut [f32] = bytemuck::cast_slice_mut(&mut codes[..layer.scratch(input.rows())]);
    for (row, rounded) in rounded.chunks_exact_mut(stride).enumerate() {
        for (rounded, &x) in rounded.iter_mut().zip(input.row(row)) {
            *rounded = bf16::from_f32(x).to_f32();
        }
    }
    (kernel.multiply)(Matrix::new(rounded, input.rows(), input.width(), stride), packed, output);
}
