//! Products by the `gemm` crate, which has kernels for more machines than we do.

use gemm::Parallelism;

use super::{Packed, check};
use crate::cpu::matrix::{Matrix, MatrixMut};

/// See [`Multiply`](super::Multiply).
pub(super) fn multiply(input: Matrix<'_>, layer: &Packed, mut output: MatrixMut<'_>) {
    check(&input, layer, &output);
    let (rows, inputs) = (input.rows(), layer.inputs());
    if rows == 0 {
        return;
    }
    for panel in layer.panels() {
        let stride = output.stride() as isize;
        // SAFETY: `input` holds `rows` rows of `inputs` floats and `output` as many of
        // `outputs`, each at its stride, as their constructors prove and `check` compares. A panel
        // holds `inputs` rows of `width` floats, and with one lane `first + width <= outputs`.
        // The output is borrowed mutably, so it overlaps neither input nor weights. `alpha` is
        // ignored because the destination is not read.
        unsafe {
            gemm::gemm(
                rows,
                panel.width,
                inputs,
                output.as_mut_slice().as_mut_ptr().add(panel.first),
                1,
                stride,
                false,
                input.as_slice().as_ptr(),
                1,
                input.stride() as isize,
                panel.weights.as_ptr(),
                1,
                panel.width as isize,
                0.0_f32,
                1.0_f32,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
        for row in 0..rows {
            let output = &mut output.row(row)[panel.first..][..panel.width];
            for (sum, bias) in output.iter_mut().zip(panel.bias) {
                *sum = layer.activation().apply(*sum + bias);
            }
        }
    }
}
