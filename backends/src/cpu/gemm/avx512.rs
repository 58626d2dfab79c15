//! Blocks of up to twelve rows by thirty-two outputs; see [`products`](crate::cpu::products).

use std::arch::x86_64::{
    _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_reduce_add_ps, _mm512_setzero_ps,
};

use mprec_representations::Activation;

use super::{Packed, check, finish, lanes};
use crate::cpu::{
    matrix::{Matrix, MatrixMut},
    products::{Block, F32, Sums, row_blocks},
};

pub(super) const LANES: usize = 16;
pub(super) const PANEL: usize = 2 * LANES;

/// See [`Multiply`](super::Multiply).
#[target_feature(enable = "avx512f")]
pub(super) fn multiply(input: Matrix<'_>, layer: &Packed, mut output: MatrixMut<'_>) {
    check(&input, layer, &output);
    if layer.outputs() == 1 {
        one_output(input, layer, &mut output);
    } else {
        let relu = layer.activation() == Activation::Relu;
        let mut sums = Sums::new();
        for panel in layer.panels() {
            let vectors = panel.width / LANES;
            assert!(panel.width == vectors * LANES && (1..=2).contains(&vectors), "panel's width");
            assert_eq!(panel.weights.len(), layer.inputs() * panel.width, "weights of the panel");
            for (first, size, at) in row_blocks(input.rows()) {
                let block = Block {
                    from: input.row(first).as_ptr().cast(),
                    stride: input.stride() * size_of::<f32>(),
                    weights: panel.weights.as_ptr().cast(),
                    inputs: layer.inputs(),
                };
                // SAFETY: the input holds rows `first..first + size` at its stride, the panel as many
                // vectors of weights for every input, and AVX-512 is enabled here.
                unsafe { F32[at][vectors - 1](block, &mut sums) };
                store(&sums, (size, panel.first), panel.bias, relu, (first, &mut output));
            }
        }
    }
    finish(layer.activation(), &mut output);
}

/// Writes the sums of a block of `size` rows from row `first` and output `from` on, with bias, `[vectors, LANES]`, and
/// activation.
#[target_feature(enable = "avx512f")]
#[inline]
pub(in crate::cpu) fn store(
    sums: &Sums,
    (size, from): (usize, usize),
    bias: &[f32],
    relu: bool,
    (first, output): (usize, &mut MatrixMut<'_>),
) {
    let vectors = bias.len() / LANES;
    let (left, stride) = (output.width() - from, output.stride());
    assert!(first + size <= output.rows());
    let to = output.as_mut_slice()[first * stride + from..].as_mut_ptr();
    for (vector, bias) in bias.chunks_exact(LANES).enumerate() {
        // SAFETY: one vector of bias is there.
        let bias = unsafe { _mm512_loadu_ps(bias.as_ptr()) };
        let at = vector * LANES;
        let mask = lanes(left, at);
        for row in 0..size {
            // SAFETY: a block of so many vectors holds this one for each of its rows.
            let sum = unsafe { _mm512_load_ps(sums.row(row, vectors).add(at).cast()) };
            let mut value = _mm512_add_ps(sum, bias);
            if relu {
                // The second operand is the result when either is NaN or both are zeros, which is
                // what the definition gives.
                value = _mm512_max_ps(_mm512_setzero_ps(), value);
            }
            // SAFETY: the output has these rows, and the mask no lane beyond the end of one.
            unsafe { _mm512_mask_storeu_ps(to.wrapping_add(row * stride + at), mask, value) };
        }
    }
}

/// A layer with one output: a dot product per row.
#[target_feature(enable = "avx512f")]
fn one_output(input: Matrix<'_>, layer: &Packed, output: &mut MatrixMut<'_>) {
    let weights = layer.only_row();
    assert_eq!(weights.len(), input.width(), "weights of the only output");
    let bias = layer.bias()[0];
    for row in 0..input.rows() {
        let x = input.row(row);
        let mut sums = [_mm512_setzero_ps(); 4];
        let whole = x.len() - x.len() % (4 * LANES);
        for start in (0..whole).step_by(4 * LANES) {
            for (part, sum) in sums.iter_mut().enumerate() {
                let at = start + part * LANES;
                // SAFETY: `at + LANES <= whole`, and `x` and `weights` are at least that long.
                *sum = unsafe {
                    let x = _mm512_loadu_ps(x.as_ptr().add(at));
                    _mm512_fmadd_ps(x, _mm512_loadu_ps(weights.as_ptr().add(at)), *sum)
                };
            }
        }
        for at in (whole..x.len()).step_by(LANES) {
            let mask = lanes(x.len(), at);
            // SAFETY: `x` and `weights` are equally long, and the mask has no lane beyond them.
            sums[0] = unsafe {
                let x = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(at));
                let weight = _mm512_maskz_loadu_ps(mask, weights.as_ptr().add(at));
                _mm512_fmadd_ps(x, weight, sums[0])
            };
        }
        let [a, b, c, d] = sums;
        let sum = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
        let value = _mm512_reduce_add_ps(sum) + bias;
        let relu = layer.activation() == Activation::Relu;
        output.row(row)[0] = if relu { Activation::Relu.apply(value) } else { value };
    }
}
