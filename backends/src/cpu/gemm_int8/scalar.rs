//! The definition, on packed weights.

use mprec_representations::quant::QuantisedRow;

use super::{PackedInt8, check};
use crate::cpu::matrix::{Matrix, MatrixMut};

/// See [`Multiply`](super::Multiply).
pub(super) fn multiply(
    input: Matrix<'_>,
    layer: &PackedInt8,
    codes: &mut [u8],
    mut output: MatrixMut<'_>,
) {
    check(&input, layer, codes, &output);
    for at in 0..input.rows() {
        let codes = &mut codes[..layer.inputs()];
        let row = QuantisedRow::quantise(input.row(at), codes);
        let output = output.row(at);
        for panel in layer.panels() {
            let sum: i32 = codes
                .iter()
                .zip(panel.weights)
                .map(|(&x, &w)| i32::from(x) * i32::from(w as i8))
                .sum();
            output[panel.first] = layer.finish(row, sum, &panel, 0);
        }
    }
}
