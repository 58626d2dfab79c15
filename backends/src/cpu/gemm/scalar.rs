//! The definition.

use super::{Packed, check};
use crate::cpu::matrix::{Matrix, MatrixMut};

/// See [`Multiply`](super::Multiply).
pub(super) fn multiply(input: Matrix<'_>, layer: &Packed, mut output: MatrixMut<'_>) {
    check(&input, layer, &output);
    for panel in layer.panels() {
        for row in 0..input.rows() {
            let output = &mut output.row(row)[panel.first..][..panel.width];
            output.fill(0.0);
            for (x, weights) in input.row(row).iter().zip(panel.weights.chunks_exact(panel.width)) {
                for (sum, weight) in output.iter_mut().zip(weights) {
                    *sum += x * weight;
                }
            }
            for (sum, bias) in output.iter_mut().zip(panel.bias) {
                *sum = layer.activation().apply(*sum + bias);
            }
        }
    }
}
