//! Eight codes at a time; the last ones of a row one by one.

use std::arch::x86_64::{
    __m256, _mm_and_si128, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_cvtss_f32,
    _mm_set1_epi8, _mm_srli_epi16, _mm_unpacklo_epi8, _mm256_add_ps, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi32, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps,
};

use mprec_representations::{FusedRows, quant::TAIL};

use crate::cpu::matrix::MatrixMut;

const LANES: usize = 8;

/// See [`GatherRows`](super::GatherRows).
#[target_feature(enable = "avx2,f16c")]
pub(super) fn gather(table: &FusedRows, rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    for (at, &row) in rows.iter().enumerate() {
        let out = out.row(at);
        out.fill(0.0);
        add(table, row, 1.0, out);
    }
}

/// See [`SumRows`](super::SumRows).
#[target_feature(enable = "avx2,f16c")]
pub(super) fn sum(table: &FusedRows, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    for (at, &row) in rows.iter().enumerate() {
        add(table, row, weights.map_or(1.0, |weights| weights[at]), sum);
    }
}

#[target_feature(enable = "avx2,f16c")]
#[inline]
fn add(table: &FusedRows, row: u64, weight: f32, sum: &mut [f32]) {
    assert_eq!(sum.len(), table.dim(), "width of the sum");
    let width = table.bytes().width();
    let codes = &table.bytes().as_slice()[row as usize * width..][..width];
    let (codes, tail) = codes.split_at(width - TAIL);
    let half = |at: usize| {
        let bits = i32::from(u16::from_le_bytes([tail[at], tail[at + 1]]));
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
    };
    let (scale, bias) = (_mm256_set1_ps(half(0)), _mm256_set1_ps(half(2)));
    let whole = sum.len() - sum.len() % LANES;
    for at in (0..whole).step_by(LANES) {
        let value = decode(codes, at, table.bits());
        let value = _mm256_add_ps(_mm256_mul_ps(scale, value), bias);
        let value = _mm256_mul_ps(_mm256_set1_ps(weight), value);
        // SAFETY: `at + LANES <= whole <= sum.len()`.
        unsafe {
            let total = _mm256_add_ps(_mm256_loadu_ps(sum.as_ptr().add(at)), value);
            _mm256_storeu_ps(sum.as_mut_ptr().add(at), total);
        }
    }
    for (column, sum) in sum.iter_mut().enumerate().skip(whole) {
        *sum += weight * table.value(row as usize, column);
    }
}

/// Codes `at..at + LANES` as floats.
#[target_feature(enable = "avx2")]
#[inline]
fn decode(codes: &[u8], at: usize, bits: u32) -> __m256 {
    let codes = if bits == 8 {
        let bytes = codes[at..at + LANES].try_into().expect("the slice has this length");
        _mm_cvtsi64_si128(i64::from_le_bytes(bytes))
    } else {
        // Two codes a byte, the low half first.
        let bytes = codes[at / 2..][..LANES / 2].try_into().expect("the slice has this length");
        let pairs = _mm_cvtsi32_si128(i32::from_le_bytes(bytes));
        let low = _mm_and_si128(pairs, _mm_set1_epi8(15));
        let high = _mm_and_si128(_mm_srli_epi16::<4>(pairs), _mm_set1_epi8(15));
        _mm_unpacklo_epi8(low, high)
    };
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes))
}
