//! Sixteen values at a time; the last ones of a row under a mask.

use std::arch::x86_64::{
    __m512, _mm256_maskz_loadu_epi16, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtph_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_slli_epi32,
};

use super::Halves;
use crate::cpu::{gemm::lanes, matrix::MatrixMut};

const LANES: usize = 16;

/// Up to sixteen values of a row from `at` on, and zeros beyond its end.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn load(row: Halves<'_>, at: usize) -> __m512 {
    let mask = lanes(row.len(), at);
    // SAFETY: the mask has no lane beyond the end of the row.
    unsafe {
        match row {
            Halves::F16(row) => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(
                mask,
                row.as_ptr().wrapping_add(at).cast(),
            )),
            Halves::BF16(row) => {
                let halves = _mm256_maskz_loadu_epi16(mask, row.as_ptr().wrapping_add(at).cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
            }
        }
    }
}

/// See [`GatherRows`](super::GatherRows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn gather(table: Halves<'_>, rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    let dim = out.width();
    for (at, &row) in rows.iter().enumerate() {
        let row = table.row(row, dim);
        let out = out.row(at);
        assert_eq!(out.len(), dim, "width of the output");
        for at in (0..dim).step_by(LANES) {
            let value = _mm512_add_ps(_mm512_setzero_ps(), load(row, at));
            // SAFETY: `out` holds `dim` floats, and the mask has no lane beyond them.
            unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), lanes(dim, at), value) };
        }
    }
}

/// See [`SumRows`](super::SumRows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn sum(table: Halves<'_>, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    let dim = sum.len();
    for at in (0..dim).step_by(LANES) {
        let mask = lanes(dim, at);
        // SAFETY: `sum` holds `dim` floats, and `mask` has no lane beyond them.
        let mut total = unsafe { _mm512_maskz_loadu_ps(mask, sum.as_ptr().add(at)) };
        for (index, &row) in rows.iter().enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[index]);
            let value = load(table.row(row, dim), at);
            total = _mm512_add_ps(total, _mm512_mul_ps(_mm512_set1_ps(weight), value));
        }
        // SAFETY: as for the load.
        unsafe { _mm512_mask_storeu_ps(sum.as_mut_ptr().add(at), mask, total) };
    }
}
