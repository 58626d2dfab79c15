//! Eight values at a time; the last ones of a row one by one.

use std::arch::x86_64::{
    __m256, _mm_loadu_si128, _mm256_add_ps, _mm256_castsi256_ps, _mm256_cvtepu16_epi32,
    _mm256_cvtph_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_slli_epi32, _mm256_storeu_ps,
};

use super::Halves;
use crate::cpu::matrix::MatrixMut;

const LANES: usize = 8;

/// Values `at..at + LANES` of a row, which must be there.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn load(row: Halves<'_>, at: usize) -> __m256 {
    assert!(at + LANES <= row.len());
    // SAFETY: eight values of two bytes are there.
    unsafe {
        match row {
            Halves::F16(row) => _mm256_cvtph_ps(_mm_loadu_si128(row.as_ptr().add(at).cast())),
            Halves::BF16(row) => {
                let halves = _mm_loadu_si128(row.as_ptr().add(at).cast());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
            }
        }
    }
}

/// See [`GatherRows`](super::GatherRows).
#[target_feature(enable = "avx2,f16c")]
pub(super) fn gather(table: Halves<'_>, rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    for (at, &row) in rows.iter().enumerate() {
        let out = out.row(at);
        let row = table.row(row, out.len());
        let mut chunks = out.chunks_exact_mut(LANES);
        let mut at = 0;
        for out in &mut chunks {
            let value = _mm256_add_ps(_mm256_setzero_ps(), load(row, at));
            // SAFETY: the chunk has eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), value) };
            at += LANES;
        }
        for (within, out) in chunks.into_remainder().iter_mut().enumerate() {
            *out = 0.0 + row.value(at + within);
        }
    }
}

/// See [`SumRows`](super::SumRows).
#[target_feature(enable = "avx2,f16c")]
pub(super) fn sum(table: Halves<'_>, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    for (at, &row) in rows.iter().enumerate() {
        let weight = weights.map_or(1.0, |weights| weights[at]);
        let row = table.row(row, sum.len());
        let mut chunks = sum.chunks_exact_mut(LANES);
        let mut at = 0;
        for sum in &mut chunks {
            let value = _mm256_mul_ps(_mm256_set1_ps(weight), load(row, at));
            // SAFETY: the chunk has eight floats.
            unsafe {
                let total = _mm256_add_ps(_mm256_loadu_ps(sum.as_ptr()), value);
                _mm256_storeu_ps(sum.as_mut_ptr(), total);
            }
            at += LANES;
        }
        for (within, sum) in chunks.into_remainder().iter_mut().enumerate() {
            *sum += weight * row.value(at + within);
        }
    }
}
