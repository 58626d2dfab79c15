//! Six rows by sixteen outputs at a time, in registers. See `avx512` for the idea.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_max_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use mprec_representations::Activation;

use super::{Packed, check, finish, pack::Panel, row_blocks};
use crate::cpu::matrix::{Matrix, MatrixMut};

pub(super) const LANES: usize = 8;
pub(super) const PANEL: usize = 2 * LANES;

/// Rows in a block.
const ROWS: usize = 6;

/// Rows before the last block from which on it fetches the next panel. With fewer, reading strictly forward is faster.
const MANY: usize = 2 * ROWS;

/// See [`Multiply`](super::Multiply).
#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply(input: Matrix<'_>, layer: &Packed, mut output: MatrixMut<'_>) {
    check(&input, layer, &output);
    if layer.outputs() == 1 {
        one_output(input, layer, &mut output);
    } else {
        for panel in layer.panels() {
            for (row, rows) in row_blocks(input.rows(), ROWS) {
                let block =
                    Block { input, row, panel, relu: layer.activation() == Activation::Relu };
                let fetches = row >= MANY && row + rows == input.rows();
                match (panel.width, fetches) {
                    (PANEL, true) => block.dispatch::<2, true>(rows, &mut output),
                    (PANEL, false) => block.dispatch::<2, false>(rows, &mut output),
                    _ => block.dispatch::<1, false>(rows, &mut output),
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
    /// Runs the block with its number of rows as a constant. With `FETCH`, asks for the next panel meanwhile.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn dispatch<const VECTORS: usize, const FETCH: bool>(
        self,
        rows: usize,
        output: &mut MatrixMut<'_>,
    ) {
        match rows {
            1 => self.run::<1, VECTORS, 4, FETCH>(output),
            2 => self.run::<2, VECTORS, 2, FETCH>(output),
            3 => self.run::<3, VECTORS, 1, FETCH>(output),
            4 => self.run::<4, VECTORS, 1, FETCH>(output),
            5 => self.run::<5, VECTORS, 1, FETCH>(output),
            6 => self.run::<6, VECTORS, 1, FETCH>(output),
            _ => unreachable!("blocks have 1 to {ROWS} rows"),
        }
    }

    /// `R` rows by `V` vectors of outputs, the sum over inputs split into `S`.
    #[target_feature(enable = "avx2,fma")]
    fn run<const R: usize, const V: usize, const S: usize, const FETCH: bool>(
        self,
        output: &mut MatrixMut<'_>,
    ) {
        let inputs = self.input.width();
        let weights = self.panel.weights;
        assert_eq!(self.panel.width, V * LANES, "width of the panel");
        assert_eq!(weights.len(), inputs * V * LANES, "weights of the panel");
        assert_eq!(self.panel.bias.len(), V * LANES, "bias of the panel");
        let mut from = [std::ptr::null(); R];
        for (row, from) in from.iter_mut().enumerate() {
            *from = self.input.row(self.row + row).as_ptr();
        }

        let mut sums = [[[_mm256_setzero_ps(); V]; R]; S];
        let split = inputs - inputs % S;
        for start in (0..split).step_by(S) {
            for (part, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `start + part < split <= inputs`.
                unsafe { step::<R, V, FETCH>(&from, weights, start + part, sums) };
            }
        }
        for at in split..inputs {
            // SAFETY: `at < inputs`.
            unsafe { step::<R, V, FETCH>(&from, weights, at, &mut sums[0]) };
        }

        let zero = _mm256_setzero_ps();
        for row in 0..R {
            let output = &mut output.row(self.row + row)[self.panel.first..];
            for vector in 0..V {
                let mut sum = sums[0][row][vector];
                for part in &sums[1..] {
                    sum = _mm256_add_ps(sum, part[row][vector]);
                }
                let at = vector * LANES;
                // SAFETY: `bias` holds `V * LANES` floats.
                let bias = unsafe { _mm256_loadu_ps(self.panel.bias.as_ptr().add(at)) };
                let mut value = _mm256_add_ps(sum, bias);
                if self.relu {
                    // The second operand is the result when either is NaN or both are zeros, which
                    // is what the definition gives.
                    value = _mm256_max_ps(zero, value);
                }
                // SAFETY: whole vectors end within `output`, and the mask has no lane beyond it.
                unsafe {
                    if at + LANES <= output.len() {
                        _mm256_storeu_ps(output.as_mut_ptr().add(at), value);
                    } else {
                        let mask = lanes(output.len() - at);
                        _mm256_maskstore_ps(output.as_mut_ptr().add(at), mask, value);
                    }
                }
            }
        }
    }
}

/// Adds the products of input `at` to the sums of all rows. With `FETCH`, asks for the weights that the input has in a next
/// panel of the same size.
///
/// # Safety
///
/// `from` must point to more than `at` floats each, and `weights` hold more than `at` rows of
/// `V * LANES`.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn step<const R: usize, const V: usize, const FETCH: bool>(
    from: &[*const f32; R],
    weights: &[f32],
    at: usize,
    sums: &mut [[__m256; V]; R],
) {
    if FETCH {
        // Beyond the last panel nothing is read: a prefetch is a hint.
        let next = weights.as_ptr().wrapping_add(weights.len() + at * V * LANES);
        _mm_prefetch::<_MM_HINT_T1>(next.cast());
    }
    let mut vectors = [_mm256_setzero_ps(); V];
    for (lane, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: the caller says that row `at` of the weights is there.
        *vector = unsafe { _mm256_loadu_ps(weights.as_ptr().add((at * V + lane) * LANES)) };
    }
    for (from, sums) in from.iter().zip(sums) {
        // SAFETY: the caller says that input `at` is there.
        let x = _mm256_set1_ps(unsafe { *from.add(at) });
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = _mm256_fmadd_ps(x, vector, *sum);
        }
    }
}

/// A layer with one output: a dot product per row.
#[target_feature(enable = "avx2,fma")]
fn one_output(input: Matrix<'_>, layer: &Packed, output: &mut MatrixMut<'_>) {
    let weights = layer.only_row();
    assert_eq!(weights.len(), input.width(), "weights of the only output");
    let bias = layer.bias()[0];
    for row in 0..input.rows() {
        let x = input.row(row);
        let mut sums = [_mm256_setzero_ps(); 4];
        let whole = x.len() - x.len() % (4 * LANES);
        for start in (0..whole).step_by(4 * LANES) {
            for (part, sum) in sums.iter_mut().enumerate() {
                let at = start + part * LANES;
                // SAFETY: `at + LANES <= whole`, and `x` and `weights` are at least that long.
                *sum = unsafe {
                    let x = _mm256_loadu_ps(x.as_ptr().add(at));
                    _mm256_fmadd_ps(x, _mm256_loadu_ps(weights.as_ptr().add(at)), *sum)
                };
            }
        }
        for at in (whole..x.len()).step_by(LANES) {
            let mask = lanes(x.len() - at);
            // SAFETY: `x` and `weights` are equally long, and the mask has no lane beyond them.
            sums[0] = unsafe {
                let x = _mm256_maskload_ps(x.as_ptr().add(at), mask);
                let weight = _mm256_maskload_ps(weights.as_ptr().add(at), mask);
                _mm256_fmadd_ps(x, weight, sums[0])
            };
        }
        let [a, b, c, d] = sums;
        let sum = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
        let mut parts = [0.0; LANES];
        // SAFETY: `parts` holds one vector.
        unsafe { _mm256_storeu_ps(parts.as_mut_ptr(), sum) };
        let value = parts.iter().sum::<f32>() + bias;
        let relu = layer.activation() == Activation::Relu;
        output.row(row)[0] = if relu { Activation::Relu.apply(value) } else { value };
    }
}

/// A mask of the first `count` lanes, or of all.
#[target_feature(enable = "avx2")]
#[inline]
fn lanes(count: usize) -> __m256i {
    const MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let start = LANES - count.min(LANES);
    // SAFETY: `start + LANES <= 2 * LANES`.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(start).cast()) }
}
