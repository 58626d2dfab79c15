//! Four rows by sixteen outputs at a time, two inputs per instruction and output.
//!
//! Codes and weights are 16-bit integers here: the instruction for bytes saturates its pairs of
//! products, and the sum would not be exact.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_cvtepi32_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_max_ps, _mm256_mul_ps, _mm256_mullo_epi32,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps,
    _mm256_sub_epi32,
};

use mprec_representations::{Activation, quant::QuantisedRow};

use super::{PackedInt8, check, pack::Panel};
use crate::cpu::{
    gemm::{finish, row_blocks},
    matrix::{Matrix, MatrixMut},
};

pub(super) const LANES: usize = 8;
pub(super) const PANEL: usize = 2 * LANES;
/// Codes that one instruction multiplies per output.
pub(super) const GROUP: usize = 2;

/// Rows in a block.
const ROWS: usize = 4;

/// See [`Multiply`](super::Multiply).
#[target_feature(enable = "avx2")]
pub(super) fn multiply(
    input: Matrix<'_>,
    layer: &PackedInt8,
    codes: &mut [u8],
    mut output: MatrixMut<'_>,
) {
    check(&input, layer, codes, &output);
    let stride = layer.row_bytes() / size_of::<i16>();
    let codes: &mut [i16] = bytemuck::cast_slice_mut(codes);
    for (first, count) in row_blocks(input.rows(), ROWS) {
        let mut rows = [QuantisedRow { step: 0.0, zero: 0 }; ROWS];
        for (at, row) in rows[..count].iter_mut().enumerate() {
            *row = quantise(input.row(first + at), &mut codes[at * stride..][..stride]);
        }
        let block = Block { codes, rows: &rows[..count], first, layer };
        for panel in layer.panels() {
            match (count, panel.width) {
                (1, PANEL) => block.run::<1, 2>(&panel, &mut output),
                (2, PANEL) => block.run::<2, 2>(&panel, &mut output),
                (3, PANEL) => block.run::<3, 2>(&panel, &mut output),
                (4, PANEL) => block.run::<4, 2>(&panel, &mut output),
                (1, _) => block.run::<1, 1>(&panel, &mut output),
                (2, _) => block.run::<2, 1>(&panel, &mut output),
                (3, _) => block.run::<3, 1>(&panel, &mut output),
                (4, _) => block.run::<4, 1>(&panel, &mut output),
                _ => unreachable!("blocks have 1 to {ROWS} rows"),
            }
        }
    }
    finish(layer.activation(), &mut output);
}

/// Quantises a row as [`QuantisedRow::quantise`] does, to 16-bit codes. Plain code: the compiler vectorises
/// it well enough for this kernel.
#[target_feature(enable = "avx2")]
fn quantise(input: &[f32], codes: &mut [i16]) -> QuantisedRow {
    let (mut low, mut high, mut poison) = (0.0_f32, 0.0_f32, 0.0_f32);
    for &x in input {
        low = low.min(x);
        high = high.max(x);
        poison += x * 0.0;
    }
    let Some((row, inverse)) = QuantisedRow::of_range(low, high, poison == 0.0) else {
        codes.fill(0);
        return QuantisedRow { step: f32::NAN, zero: 0 };
    };
    for (code, x) in codes.iter_mut().zip(input) {
        let shifted = (x * inverse).round_ties_even() as i32 + i32::from(row.zero);
        *code = shifted.clamp(0, 255) as i16;
    }
    row
}

/// Rows that [`Block::run`] multiplies.
#[derive(Clone, Copy)]
struct Block<'a> {
    codes: &'a [i16],
    rows: &'a [QuantisedRow],
    /// First row of the output.
    first: usize,
    layer: &'a PackedInt8,
}

impl Block<'_> {
    /// `R` rows by `V` vectors of outputs.
    #[target_feature(enable = "avx2")]
    fn run<const R: usize, const V: usize>(self, panel: &Panel<'_>, output: &mut MatrixMut<'_>) {
        let groups = self.layer.groups();
        let stride = self.layer.row_bytes() / size_of::<i16>();
        let weights: &[i16] = bytemuck::cast_slice(panel.weights);
        assert_eq!(panel.width, V * LANES, "width of the panel");
        assert_eq!(weights.len(), groups * V * LANES * GROUP, "weights of the panel");
        assert!(groups * GROUP <= stride && self.codes.len() >= R * stride);

        let mut sums = [[_mm256_setzero_si256(); V]; R];
        for at in 0..groups {
            let mut vectors = [_mm256_setzero_si256(); V];
            for (lane, vector) in vectors.iter_mut().enumerate() {
                let start = (at * V + lane) * LANES * GROUP;
                // SAFETY: `at < groups`, and the weights hold `groups * V` vectors.
                *vector = unsafe { _mm256_loadu_si256(weights.as_ptr().add(start).cast()) };
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let start = row * stride + at * GROUP;
                // SAFETY: `at * GROUP + GROUP <= stride`, and there are codes of `R` rows.
                let x = unsafe { self.codes.as_ptr().add(start).cast::<i32>().read_unaligned() };
                add_products(sums, _mm256_set1_epi32(x), vectors);
            }
        }

        assert!([panel.scale.len(), panel.bias.len(), panel.sums.len()] == [V * LANES; 3]);
        for (row, sums) in sums.iter().enumerate() {
            let QuantisedRow { step, zero } = self.rows[row];
            let (step, zero) = (_mm256_set1_ps(step), _mm256_set1_epi32(i32::from(zero)));
            let output = &mut output.row(self.first + row)[panel.first..];
            for (vector, &sum) in sums.iter().enumerate() {
                let at = vector * LANES;
                // SAFETY: all three hold `V * LANES` values of 32 bits.
                let (scale, bias, weight_sum) = unsafe {
                    (
                        _mm256_loadu_ps(panel.scale.as_ptr().add(at)),
                        _mm256_loadu_ps(panel.bias.as_ptr().add(at)),
                        _mm256_loadu_si256(panel.sums.as_ptr().add(at).cast()),
                    )
                };
                let sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(zero, weight_sum));
                // Not fused: the definition rounds the product.
                let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(step, scale));
                let mut value = _mm256_add_ps(value, bias);
                if self.layer.activation() == Activation::Relu {
                    // The second operand is the result when either is NaN or both are zeros, which
                    // is what the definition gives.
                    value = _mm256_max_ps(_mm256_setzero_ps(), value);
                }
                let mut values = [0.0; LANES];
                // SAFETY: `values` holds one vector.
                unsafe { _mm256_storeu_ps(values.as_mut_ptr(), value) };
                // A panel that was filled up ends beyond the outputs.
                for (output, value) in output.iter_mut().skip(at).zip(values) {
                    *output = value;
                }
            }
        }
    }
}

/// Adds the products of one row's pair of codes to its sums.
#[target_feature(enable = "avx2")]
#[inline]
fn add_products<const V: usize>(sums: &mut [__m256i; V], x: __m256i, weights: [__m256i; V]) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, weight));
    }
}
