//! Twelve rows by thirty-two outputs at a time, in registers.
//!
//! Per input, two vectors of weights are loaded and every row's value is broadcast from memory:
//! 24 products for 14 loads, so that the multipliers and not the loads are the limit. With few rows
//! the sum over inputs is split into several, because one product must not wait for the last.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use mprec_representations::Activation;

use super::{Packed, check, finish, lanes, pack::Panel, row_blocks};
use crate::cpu::matrix::{Matrix, MatrixMut};

pub(super) const LANES: usize = 16;
pub(super) const PANEL: usize = 2 * LANES;

/// Rows in a block.
const ROWS: usize = 12;

/// See [`Multiply`](super::Multiply).
#[target_feature(enable = "avx512f")]
pub(super) fn multiply(input: Matrix<'_>, layer: &Packed, mut output: MatrixMut<'_>) {
    check(&input, layer, &output);
    if layer.outputs() == 1 {
        one_output(input, layer, &mut output);
    } else {
        for panel in layer.panels() {
            for (row, rows) in row_blocks(input.rows(), ROWS) {
                let block =
                    Block { input, row, panel, relu: layer.activation() == Activation::Relu };
                if panel.width == PANEL {
                    block.dispatch::<2>(rows, &mut output);
                } else {
                    block.dispatch::<1>(rows, &mut output);
                }
            }
        }
    }
    finish(layer.activation(), &mut output);
}

/// What one call of [`Block::run`] computes.
#[derive(Clone, Copy)]
struct Block<'a> {
    input: Matrix<'a>,
    /// First row.
    row: usize,
    panel: Panel<'a>,
    relu: bool,
}

impl Block<'_> {
    /// Runs the block with its number of rows as a constant, and with enough split sums to keep the
    /// multipliers busy: eight products must be under way at any time.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn dispatch<const VECTORS: usize>(self, rows: usize, output: &mut MatrixMut<'_>) {
        match (rows, VECTORS) {
            (1, 1) => self.run::<1, VECTORS, 8>(output),
            (1, _) => self.run::<1, VECTORS, 4>(output),
            (2, 1) => self.run::<2, VECTORS, 4>(output),
            (2, _) => self.run::<2, VECTORS, 2>(output),
            (3, _) => self.run::<3, VECTORS, 2>(output),
            (4, 1) => self.run::<4, VECTORS, 2>(output),
            (4, _) => self.run::<4, VECTORS, 1>(output),
            (5, _) => self.run::<5, VECTORS, 1>(output),
            (6, _) => self.run::<6, VECTORS, 1>(output),
            (7, _) => self.run::<7, VECTORS, 1>(output),
            (8, _) => self.run::<8, VECTORS, 1>(output),
            (9, _) => self.run::<9, VECTORS, 1>(output),
            (10, _) => self.run::<10, VECTORS, 1>(output),
            (11, _) => self.run::<11, VECTORS, 1>(output),
            (12, _) => self.run::<12, VECTORS, 1>(output),
            _ => unreachable!("blocks have 1 to {ROWS} rows"),
        }
    }

    /// `R` rows by `V` vectors of outputs, the sum over inputs split into `S`.
    #[target_feature(enable = "avx512f")]
    fn run<const R: usize, const V: usize, const S: usize>(self, output: &mut MatrixMut<'_>) {
        let inputs = self.input.width();
        let weights = self.panel.weights;
        assert_eq!(self.panel.width, V * LANES, "width of the panel");
        assert_eq!(weights.len(), inputs * V * LANES, "weights of the panel");
        assert_eq!(self.panel.bias.len(), V * LANES, "bias of the panel");
        let mut from = [std::ptr::null(); R];
        for (row, from) in from.iter_mut().enumerate() {
            *from = self.input.row(self.row + row).as_ptr();
        }

        let mut sums = [[[_mm512_setzero_ps(); V]; R]; S];
        let split = inputs - inputs % S;
        for start in (0..split).step_by(S) {
            for (part, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `start + part < split <= inputs`.
                unsafe { step(&from, weights, start + part, sums) };
            }
        }
        for at in split..inputs {
            // SAFETY: `at < inputs`.
            unsafe { step(&from, weights, at, &mut sums[0]) };
        }

        let zero = _mm512_setzero_ps();
        for row in 0..R {
            let output = &mut output.row(self.row + row)[self.panel.first..];
            for vector in 0..V {
                let mut sum = sums[0][row][vector];
                for part in &sums[1..] {
                    sum = _mm512_add_ps(sum, part[row][vector]);
                }
                let at = vector * LANES;
                // SAFETY: `bias` holds `V * LANES` floats.
                let bias = unsafe { _mm512_loadu_ps(self.panel.bias.as_ptr().add(at)) };
                let mut value = _mm512_add_ps(sum, bias);
                if self.relu {
                    // The second operand is the result when either is NaN or both are zeros, which
                    // is what the definition gives.
                    value = _mm512_max_ps(zero, value);
                }
                let mask = lanes(output.len(), at);
                // SAFETY: the mask has no lane beyond the end of `output`.
                unsafe { _mm512_mask_storeu_ps(output.as_mut_ptr().add(at), mask, value) };
            }
        }
    }
}

/// Adds the products of input `at` to the sums of all rows.
///
/// # Safety
///
/// `from` must point to more than `at` floats each, and `weights` hold more than `at` rows of
/// `V * LANES`.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn step<const R: usize, const V: usize>(
    from: &[*const f32; R],
    weights: &[f32],
    at: usize,
    sums: &mut [[__m512; V]; R],
) {
    let mut vectors = [_mm512_setzero_ps(); V];
    for (lane, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: the caller says that row `at` of the weights is there.
        *vector = unsafe { _mm512_loadu_ps(weights.as_ptr().add((at * V + lane) * LANES)) };
    }
    for (from, sums) in from.iter().zip(sums) {
        // SAFETY: the caller says that input `at` is there.
        let x = _mm512_set1_ps(unsafe { *from.add(at) });
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = _mm512_fmadd_ps(x, vector, *sum);
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
