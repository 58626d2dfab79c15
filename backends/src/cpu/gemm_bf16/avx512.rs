//! Blocks of up to twelve rows by thirty-two outputs, two inputs per instruction and output; see
//! [`products`](crate::cpu::products).

use std::arch::x86_64::{
    __m512i, _CMP_UNORD_Q, _mm256_storeu_si256, _mm512_add_epi32, _mm512_and_si512,
    _mm512_castps_si512, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi16, _mm512_mask_or_epi32,
    _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_srli_epi32, _mm512_storeu_si512,
};

use mprec_representations::Activation;

use super::{PackedBf16, check, pack::LANES};
use crate::cpu::{
    gemm::{avx512::store, finish, lanes},
    matrix::{Matrix, MatrixMut},
    products::{BF16, BF16_WIDENED, Block, Multiply, SIZES, Sums, row_blocks},
};

/// See [`Multiply`](super::Multiply).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn multiply_halves(
    input: Matrix<'_>,
    layer: &PackedBf16,
    codes: &mut [u8],
    output: MatrixMut<'_>,
) {
    // SAFETY: these loops need AVX512-BF16, which is enabled here, and take inputs of two bytes.
    unsafe { multiply::<2>(&BF16, input, layer, codes, output) };
}

/// See [`Multiply`](super::Multiply).
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn multiply_widened(
    input: Matrix<'_>,
    layer: &PackedBf16,
    codes: &mut [u8],
    output: MatrixMut<'_>,
) {
    // SAFETY: these loops need AVX-512, which is enabled here, and take inputs of four bytes.
    unsafe { multiply::<4>(&BF16_WIDENED, input, layer, codes, output) };
}

/// # Safety
///
/// The machine must have the instructions of the loops, which take inputs of `BYTES` bytes, 2 or 4.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply<const BYTES: usize>(
    loops: &[[Multiply; 2]; SIZES.len()],
    input: Matrix<'_>,
    layer: &PackedBf16,
    codes: &mut [u8],
    mut output: MatrixMut<'_>,
) {
    check(&input, layer, codes, &output);
    let row_bytes = layer.row_bytes();
    assert!(row_bytes >= 2 * layer.pairs() * BYTES, "bytes of a row");
    for (row, codes) in codes.chunks_exact_mut(row_bytes).take(input.rows()).enumerate() {
        round::<BYTES>(input.row(row), codes);
    }
    let relu = layer.activation() == Activation::Relu;
    let mut sums = Sums::new();
    for panel in layer.panels() {
        let vectors = panel.bias.len() / LANES;
        assert!((1..=2).contains(&vectors), "panel's width");
        assert_eq!(panel.weights.len(), 2 * layer.pairs() * panel.bias.len(), "weights");
        for (row, size, at) in row_blocks(input.rows()) {
            let block = Block {
                from: codes[row * row_bytes..][..size * row_bytes].as_ptr(),
                stride: row_bytes,
                weights: panel.weights.as_ptr().cast(),
                inputs: layer.pairs(),
            };
            // SAFETY: the codes are those of as many rows, each with that many pairs, the panel holds as many vectors
            // of pairs of weights for every pair, and the caller says that the instructions are there.
            unsafe { loops[at][vectors - 1](block, &mut sums) };
            store(&sums, (size, panel.first), panel.bias, relu, (row, &mut output));
        }
    }
    finish(layer.activation(), &mut output);
}

/// Rounds a row to upper halves of floats, to even, in two bytes or four. Codes beyond the row are zeros.
#[target_feature(enable = "avx512f,avx512bw")]
fn round<const BYTES: usize>(input: &[f32], codes: &mut [u8]) {
    assert!(codes.len().is_multiple_of(64) && codes.len() >= input.len() * BYTES);
    for (at, codes) in codes.chunks_exact_mut(LANES * BYTES).enumerate() {
        let start = at * LANES;
        let from = input.as_ptr().wrapping_add(start);
        // SAFETY: the mask has no lane beyond the end of the row.
        let x = unsafe { _mm512_maskz_loadu_ps(lanes(input.len(), start), from) };
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        // Adding could make an infinity or a number of a NaN, which stays one, made quiet, instead.
        let rounded = _mm512_mask_or_epi32(
            _mm512_add_epi32(bits, half),
            _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x),
            bits,
            _mm512_set1_epi32(1 << 22),
        );
        // SAFETY: there are as many bytes as sixteen codes take.
        unsafe { write::<BYTES>(rounded, codes.as_mut_ptr()) };
    }
}

/// # Safety
///
/// `to` must have room for sixteen codes of `BYTES` bytes.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn write<const BYTES: usize>(rounded: __m512i, to: *mut u8) {
    // SAFETY: as the caller says.
    unsafe {
        if BYTES == 2 {
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            _mm256_storeu_si256(to.cast(), halves);
        } else {
            let upper = _mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            _mm512_storeu_si512(to.cast(), upper);
        }
    }
}
