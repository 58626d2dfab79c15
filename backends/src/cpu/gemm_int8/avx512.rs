//! Twelve rows by thirty-two outputs at a time, four inputs per instruction and output.
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to a 32-bit sum and does not
//! saturate, so sums are exact. Per group of inputs, two vectors of weights are loaded and every row's four
//! codes are broadcast from memory.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_mullo_epi32, _mm512_packs_epi32, _mm512_packus_epi16, _mm512_permutexvar_epi32,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_reduce_min_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_sub_epi32,
};

use mprec_representations::{Activation, quant::QuantisedRow};

use super::{PackedInt8, check, pack::Panel};
use crate::cpu::{
    gemm::{finish, lanes, row_blocks},
    matrix::{Matrix, MatrixMut},
};

pub(super) const LANES: usize = 16;
pub(super) const PANEL: usize = 2 * LANES;
/// Codes that one instruction multiplies per output.
pub(super) const GROUP: usize = 4;

/// Rows in a block.
const ROWS: usize = 12;
/// Rows that are quantised before they are multiplied.
const PART: usize = 192;

/// See [`Multiply`](super::Multiply).
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply(
    input: Matrix<'_>,
    layer: &PackedInt8,
    codes: &mut [u8],
    mut output: MatrixMut<'_>,
) {
    check(&input, layer, codes, &output);
    let row_bytes = layer.row_bytes();
    let mut rows = [QuantisedRow { step: 0.0, zero: 0 }; PART];
    for first in (0..input.rows()).step_by(PART) {
        let count = PART.min(input.rows() - first);
        for (at, row) in rows[..count].iter_mut().enumerate() {
            *row = quantise(input.row(first + at), &mut codes[at * row_bytes..][..row_bytes]);
        }
        for panel in layer.panels() {
            for (row, size) in row_blocks(count, ROWS) {
                let block = Block {
                    codes: &codes[row * row_bytes..][..size * row_bytes],
                    rows: &rows[row..][..size],
                    first: first + row,
                    panel,
                    layer,
                };
                if panel.width == PANEL {
                    block.dispatch::<2>(&mut output);
                } else {
                    block.dispatch::<1>(&mut output);
                }
            }
        }
    }
    finish(layer.activation(), &mut output);
}

/// Quantises a row as [`QuantisedRow::quantise`] does. Codes beyond the row meet weights of zero.
#[target_feature(enable = "avx512f,avx512bw")]
fn quantise(input: &[f32], codes: &mut [u8]) -> QuantisedRow {
    let length = input.len();
    assert!(codes.len() >= length && codes.len().is_multiple_of(4 * LANES));
    let zero = _mm512_setzero_ps();
    let (mut low, mut high, mut poison) = (zero, zero, zero);
    for at in (0..length).step_by(LANES) {
        // SAFETY: the mask has no lane beyond the end of `input`.
        let x = unsafe { _mm512_maskz_loadu_ps(lanes(length, at), input.as_ptr().add(at)) };
        // The second operand is the result where the first is NaN.
        low = _mm512_min_ps(x, low);
        high = _mm512_max_ps(x, high);
        // Zero times what is not finite is NaN, and stays.
        poison = _mm512_fmadd_ps(x, zero, poison);
    }
    let (low, high) = (_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high));
    let finite = _mm512_reduce_add_ps(poison) == 0.0;
    let Some((row, inverse)) = QuantisedRow::of_range(low, high, finite) else {
        codes.fill(0);
        return QuantisedRow { step: f32::NAN, zero: 0 };
    };

    let inverse = _mm512_set1_ps(inverse);
    let shift = _mm512_set1_epi32(i32::from(row.zero));
    // Packing works within quarters of a vector; this puts the quarters' parts in order.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for start in (0..length).step_by(4 * LANES) {
        let mut parts = [_mm512_setzero_si512(); 4];
        for (part, codes) in parts.iter_mut().enumerate() {
            let at = start + part * LANES;
            // SAFETY: as above; a mask beyond the end is empty.
            let x = unsafe {
                _mm512_maskz_loadu_ps(lanes(length, at), input.as_ptr().wrapping_add(at))
            };
            *codes = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)), shift);
        }
        // Both steps saturate, which is the clamp to 0..=255.
        let low = _mm512_packs_epi32(parts[0], parts[1]);
        let high = _mm512_packs_epi32(parts[2], parts[3]);
        let packed = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
        // SAFETY: `codes` is a multiple of 64 bytes long and not shorter than `length`.
        unsafe { _mm512_storeu_si512(codes.as_mut_ptr().add(start).cast(), packed) };
    }
    row
}

/// What one call of [`Block::run`] computes.
#[derive(Clone, Copy)]
struct Block<'a> {
    /// Codes of its rows.
    codes: &'a [u8],
    rows: &'a [QuantisedRow],
    /// First row of the output.
    first: usize,
    panel: Panel<'a>,
    layer: &'a PackedInt8,
}

impl Block<'_> {
    /// Runs the block with its number of rows as a constant, and with enough split sums to keep the
    /// multipliers busy: ten products must be under way at any time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn dispatch<const VECTORS: usize>(self, output: &mut MatrixMut<'_>) {
        match (self.rows.len(), VECTORS) {
            (1, 1) => self.run::<1, VECTORS, 8>(output),
            (1, _) => self.run::<1, VECTORS, 4>(output),
            (2, 1) => self.run::<2, VECTORS, 4>(output),
            (2, _) => self.run::<2, VECTORS, 3>(output),
            (3, _) => self.run::<3, VECTORS, 2>(output),
            (4, _) => self.run::<4, VECTORS, 2>(output),
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

    /// `R` rows by `V` vectors of outputs, the sum over groups of inputs split into `S`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn run<const R: usize, const V: usize, const S: usize>(self, output: &mut MatrixMut<'_>) {
        let (groups, row_bytes) = (self.layer.groups(), self.layer.row_bytes());
        let weights = self.panel.weights;
        assert_eq!(self.panel.width, V * LANES, "width of the panel");
        assert_eq!(weights.len(), groups * V * LANES * GROUP, "weights of the panel");
        assert!(groups * GROUP <= row_bytes && self.codes.len() == R * row_bytes);
        let (weights, codes) = (weights.as_ptr(), self.codes.as_ptr());

        let mut sums = [[[_mm512_setzero_si512(); V]; R]; S];
        let split = groups - groups % S;
        for start in (0..split).step_by(S) {
            for (part, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `start + part < split <= groups`, and the asserts above.
                unsafe { step(codes, row_bytes, weights, start + part, sums) };
            }
        }
        for at in split..groups {
            // SAFETY: `at < groups`, and the asserts above.
            unsafe { step(codes, row_bytes, weights, at, &mut sums[0]) };
        }

        let Panel { first, scale, bias, sums: weight_sums, .. } = self.panel;
        assert!([scale.len(), bias.len(), weight_sums.len()] == [V * LANES; 3]);
        for row in 0..R {
            let QuantisedRow { step, zero } = self.rows[row];
            let (step, zero) = (_mm512_set1_ps(step), _mm512_set1_epi32(i32::from(zero)));
            let output = &mut output.row(self.first + row)[first..];
            for vector in 0..V {
                let mut sum = sums[0][row][vector];
                for part in &sums[1..] {
                    sum = _mm512_add_epi32(sum, part[row][vector]);
                }
                let at = vector * LANES;
                // SAFETY: all three hold `V * LANES` values of 32 bits.
                let (scale, bias, weight_sum) = unsafe {
                    (
                        _mm512_loadu_ps(scale.as_ptr().add(at)),
                        _mm512_loadu_ps(bias.as_ptr().add(at)),
                        _mm512_loadu_si512(weight_sums.as_ptr().add(at).cast()),
                    )
                };
                sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, weight_sum));
                // Not fused: the definition rounds the product.
                let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(step, scale));
                let mut value = _mm512_add_ps(value, bias);
                if self.layer.activation() == Activation::Relu {
                    // The second operand is the result when either is NaN or both are zeros, which
                    // is what the definition gives.
                    value = _mm512_max_ps(_mm512_setzero_ps(), value);
                }
                let mask = lanes(output.len(), at);
                // SAFETY: the mask has no lane beyond the end of `output`.
                unsafe { _mm512_mask_storeu_ps(output.as_mut_ptr().add(at), mask, value) };
            }
        }
    }
}

/// Adds the products of group `at` of the inputs to the sums of all rows.
///
/// # Safety
///
/// There must be more than `at` groups in each of the `R` rows of codes, and in the weights.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn step<const R: usize, const V: usize>(
    codes: *const u8,
    row_bytes: usize,
    weights: *const u8,
    at: usize,
    sums: &mut [[__m512i; V]; R],
) {
    let mut vectors = [_mm512_setzero_si512(); V];
    for (lane, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: the caller says that group `at` of the weights is there.
        *vector =
            unsafe { _mm512_loadu_si512(weights.add((at * V + lane) * LANES * GROUP).cast()) };
    }
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller says that group `at` of the row is there.
        let x = unsafe { codes.add(row * row_bytes + at * GROUP).cast::<i32>().read_unaligned() };
        let x = _mm512_set1_epi32(x);
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = _mm512_dpbusd_epi32(*sum, x, vector);
        }
    }
}
