//! Blocks of up to twelve rows by thirty-two outputs, four inputs per instruction and output; see
//! [`products`](crate::cpu::products).
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to a 32-bit sum and does not
//! saturate, so sums are exact.

use std::arch::x86_64::{
    _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_fmadd_ps,
    _mm512_load_si512, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_mullo_epi32,
    _mm512_packs_epi32, _mm512_packus_epi16, _mm512_permutexvar_epi32, _mm512_reduce_add_ps,
    _mm512_reduce_max_ps, _mm512_reduce_min_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_sub_epi32,
};

use mprec_representations::{Activation, quant::QuantisedRow};

use super::{PackedInt8, check, pack::Panel};
use crate::cpu::{
    gemm::{finish, lanes},
    matrix::{Matrix, MatrixMut},
    products::{Block, INT8, Sums, row_blocks},
};

pub(super) const LANES: usize = 16;
pub(super) const PANEL: usize = 2 * LANES;
/// Codes that one instruction multiplies per output.
pub(super) const GROUP: usize = 4;

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
    let relu = layer.activation() == Activation::Relu;
    let mut rows = [QuantisedRow { step: 0.0, zero: 0 }; PART];
    let mut sums = Sums::new();
    for first in (0..input.rows()).step_by(PART) {
        let count = PART.min(input.rows() - first);
        for (at, row) in rows[..count].iter_mut().enumerate() {
            *row = quantise(input.row(first + at), &mut codes[at * row_bytes..][..row_bytes]);
        }
        for panel in layer.panels() {
            let vectors = panel.width / LANES;
            assert!(panel.width == vectors * LANES && (1..=2).contains(&vectors), "panel's width");
            assert_eq!(panel.weights.len(), layer.groups() * panel.width * GROUP, "weights");
            for (row, size, at) in row_blocks(count) {
                let block = Block {
                    from: codes[row * row_bytes..][..size * row_bytes].as_ptr(),
                    stride: row_bytes,
                    weights: panel.weights.as_ptr(),
                    inputs: layer.groups(),
                };
                // SAFETY: the codes are those of as many rows, each at least `groups * 4` bytes
                // long, the panel holds as many vectors of weights for every group, and VNNI is enabled.
                unsafe { INT8[at][vectors - 1](block, &mut sums) };
                let rows = &rows[row..][..size];
                store(&sums, rows, &panel, relu, (first + row, &mut output));
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
    let whole = input.chunks_exact(LANES);
    let rest = whole.remainder();
    // SAFETY: the mask has no lane beyond the end of `rest`.
    let last = unsafe { _mm512_maskz_loadu_ps(lanes(rest.len(), 0), rest.as_ptr()) };
    let (mut low, mut high) = (_mm512_min_ps(last, zero), _mm512_max_ps(last, zero));
    let mut poison = _mm512_mul_ps(last, zero);
    for x in whole {
        // SAFETY: one vector is there.
        let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
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
        let all = start + 4 * LANES <= length;
        for (part, codes) in parts.iter_mut().enumerate() {
            let at = start + part * LANES;
            let from = input.as_ptr().wrapping_add(at);
            // SAFETY: all four vectors are there, or the mask has no lane beyond the end.
            let x = unsafe {
                if all {
                    _mm512_loadu_ps(from)
                } else {
                    _mm512_maskz_loadu_ps(lanes(length, at), from)
                }
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

/// Writes a block's sums as outputs from row `first` on, with bias and activation.
#[target_feature(enable = "avx512f")]
#[inline]
fn store(
    sums: &Sums,
    rows: &[QuantisedRow],
    panel: &Panel<'_>,
    relu: bool,
    (first, output): (usize, &mut MatrixMut<'_>),
) {
    let vectors = panel.width / LANES;
    let (left, stride) = (output.width() - panel.first, output.stride());
    assert!(first + rows.len() <= output.rows());
    let to = output.as_mut_slice()[first * stride + panel.first..].as_mut_ptr();
    for (vector, ((scale, bias), weight_sum)) in panel
        .scale
        .chunks_exact(LANES)
        .zip(panel.bias.chunks_exact(LANES))
        .zip(panel.sums.chunks_exact(LANES))
        .enumerate()
    {
        // SAFETY: each is one vector long.
        let (scale, bias, weight_sum) = unsafe {
            (
                _mm512_loadu_ps(scale.as_ptr()),
                _mm512_loadu_ps(bias.as_ptr()),
                _mm512_loadu_si512(weight_sum.as_ptr().cast()),
            )
        };
        let at = vector * LANES;
        let mask = lanes(left, at);
        for (within, row) in rows.iter().enumerate() {
            // SAFETY: a block of so many vectors holds this one for each of its rows.
            let sum = unsafe { _mm512_load_si512(sums.row(within, vectors).add(at).cast()) };
            let zero = _mm512_set1_epi32(i32::from(row.zero));
            let sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, weight_sum));
            let scale = _mm512_mul_ps(_mm512_set1_ps(row.step), scale);
            // Not fused: the definition rounds the product.
            let mut value = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), bias);
            if relu {
                // The second operand is the result when either is NaN or both are zeros, which is
                // what the definition gives.
                value = _mm512_max_ps(_mm512_setzero_ps(), value);
            }
            // SAFETY: the output has these rows, and the mask no lane beyond the end of one.
            unsafe { _mm512_mask_storeu_ps(to.wrapping_add(within * stride + at), mask, value) };
        }
    }
}
