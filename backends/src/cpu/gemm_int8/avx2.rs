//! Blocks of up to six rows by sixteen outputs, two inputs per instruction and output.
//!
//! Codes are 16-bit integers here, and weights are widened to them as they are read: the instruction for bytes saturates its
//! pairs of products, and the sum would not be exact.
//!
//! A part of the rows is quantised, then a panel of weights at a time meets all of them: the panel stays in the first level
//! of the cache and the codes in the second, where all weights of a layer would not fit.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_cvtss_f32, _mm_loadu_si128, _mm_max_ps, _mm_min_ps,
    _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_epi32, _mm256_add_ps, _mm256_castps256_ps128,
    _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_extractf128_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_max_epi16, _mm256_max_ps,
    _mm256_min_epi16, _mm256_min_ps, _mm256_mul_ps, _mm256_mullo_epi32, _mm256_packs_epi32,
    _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_storeu_si256,
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

/// Rows in a block: with two vectors of sums each, their weights and a code they take fifteen of sixteen registers.
const ROWS: usize = 6;

/// Rows that are quantised before they are multiplied.
const PART: usize = 96;

/// Codes that are written at a time.
const CODES: usize = 2 * LANES;

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
    let mut rows = [QuantisedRow { step: 0.0, zero: 0 }; PART];
    for first in (0..input.rows()).step_by(PART) {
        let count = PART.min(input.rows() - first);
        for (at, row) in rows[..count].iter_mut().enumerate() {
            *row = quantise(input.row(first + at), &mut codes[at * stride..][..stride]);
        }
        for panel in layer.panels() {
            for (at, size) in row_blocks(count, ROWS) {
                let codes = &codes[at * stride..][..size * stride];
                let block = Block { codes, rows: &rows[at..][..size], first: first + at, layer };
                match (size, panel.width) {
                    (1, PANEL) => block.run::<1, 2>(&panel, &mut output),
                    (2, PANEL) => block.run::<2, 2>(&panel, &mut output),
                    (3, PANEL) => block.run::<3, 2>(&panel, &mut output),
                    (4, PANEL) => block.run::<4, 2>(&panel, &mut output),
                    (5, PANEL) => block.run::<5, 2>(&panel, &mut output),
                    (6, PANEL) => block.run::<6, 2>(&panel, &mut output),
                    (1, _) => block.run::<1, 1>(&panel, &mut output),
                    (2, _) => block.run::<2, 1>(&panel, &mut output),
                    (3, _) => block.run::<3, 1>(&panel, &mut output),
                    (4, _) => block.run::<4, 1>(&panel, &mut output),
                    (5, _) => block.run::<5, 1>(&panel, &mut output),
                    (6, _) => block.run::<6, 1>(&panel, &mut output),
                    _ => unreachable!("blocks have 1 to {ROWS} rows"),
                }
            }
        }
    }
    finish(layer.activation(), &mut output);
}

/// Quantises a row as [`QuantisedRow::quantise`] does, to 16-bit codes. Codes beyond the row meet weights of zero.
#[target_feature(enable = "avx2")]
fn quantise(input: &[f32], codes: &mut [i16]) -> QuantisedRow {
    assert!(codes.len() >= input.len() && codes.len().is_multiple_of(CODES));
    let zero = _mm256_setzero_ps();
    let (vectors, rest) = input.as_chunks::<LANES>();
    // Zeros beyond the end change neither the range nor whether all is finite.
    let mut last = [0.0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let (mut low, mut high, mut poison) = (zero, zero, zero);
    for x in vectors.iter().chain([&last]) {
        // SAFETY: one vector is there.
        let x = unsafe { _mm256_loadu_ps(x.as_ptr()) };
        // The second operand is the result where the first is NaN.
        low = _mm256_min_ps(x, low);
        high = _mm256_max_ps(x, high);
        // Zero times what is not finite is NaN, and stays.
        poison = _mm256_add_ps(poison, _mm256_mul_ps(x, zero));
    }
    let (low, high) = (reduce(low, Fold::Min), reduce(high, Fold::Max));
    let finite = reduce(poison, Fold::Add) == 0.0;
    let Some((row, inverse)) = QuantisedRow::of_range(low, high, finite) else {
        codes.fill(0);
        return QuantisedRow { step: f32::NAN, zero: 0 };
    };

    let inverse = _mm256_set1_ps(inverse);
    let shift = _mm256_set1_epi32(i32::from(row.zero));
    let (whole, rest) = input.as_chunks::<CODES>();
    let mut last = [0.0; CODES];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (x, codes) in whole.iter().chain(last).zip(codes.as_chunks_mut::<CODES>().0) {
        let half = |at: usize| {
            // SAFETY: two vectors are there.
            let x = unsafe { _mm256_loadu_ps(x.as_ptr().add(at * LANES)) };
            _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)), shift)
        };
        // Packing saturates, and works within halves of a vector: the middle quarters change places.
        let packed =
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(half(0), half(1)));
        let clamped = _mm256_min_epi16(packed, _mm256_set1_epi16(255));
        let clamped = _mm256_max_epi16(clamped, _mm256_setzero_si256());
        // SAFETY: sixteen codes are one vector.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), clamped) };
    }
    row
}

/// What [`reduce`] does to two lanes.
#[derive(Clone, Copy)]
enum Fold {
    Min,
    Max,
    Add,
}

/// All lanes folded into one value.
#[target_feature(enable = "avx2")]
fn reduce(vector: __m256, fold: Fold) -> f32 {
    let both = |one, other| match fold {
        Fold::Min => _mm_min_ps(one, other),
        Fold::Max => _mm_max_ps(one, other),
        Fold::Add => _mm_add_ps(one, other),
    };
    let four = both(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
    let two = both(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(both(two, _mm_shuffle_ps::<1>(two, two)))
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
        assert_eq!(panel.width, V * LANES, "width of the panel");
        assert_eq!(panel.weights.len(), groups * V * LANES * GROUP, "weights of the panel");
        assert!(groups * GROUP <= stride && self.codes.len() >= R * stride);

        let mut sums = [[_mm256_setzero_si256(); V]; R];
        for at in 0..groups {
            let mut vectors = [_mm256_setzero_si256(); V];
            for (lane, vector) in vectors.iter_mut().enumerate() {
                let start = (at * V + lane) * LANES * GROUP;
                // SAFETY: `at < groups`, and the weights hold `groups * V` times sixteen bytes.
                let bytes = unsafe { _mm_loadu_si128(panel.weights.as_ptr().add(start).cast()) };
                *vector = _mm256_cvtepi8_epi16(bytes);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let start = row * stride + at * GROUP;
                // SAFETY: `at * GROUP + GROUP <= stride`, and there are codes of `R` rows.
                let x = unsafe { self.codes.as_ptr().add(start).cast::<i32>().read_unaligned() };
                add_products(sums, _mm256_set1_epi32(x), vectors);
            }
        }
        self.store(&sums, panel, output);
    }

    /// Writes sums as outputs, with bias and activation.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn store<const R: usize, const V: usize>(
        self,
        sums: &[[__m256i; V]; R],
        panel: &Panel<'_>,
        output: &mut MatrixMut<'_>,
    ) {
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
                match output.get_mut(at..at + LANES) {
                    Some(whole) => whole.copy_from_slice(&values),
                    None => {
                        for (output, value) in output.iter_mut().skip(at).zip(values) {
                            *output = value;
                        }
                    }
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
