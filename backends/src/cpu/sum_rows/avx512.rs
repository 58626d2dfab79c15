//! Sixteen floats at a time; the last ones of a row under a mask.

use std::arch::x86_64::{
    _mm512_add_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps,
};

use crate::cpu::{gemm::lanes, matrix::MatrixMut};

const LANES: usize = 16;

/// See [`GatherRows`](super::GatherRows).
#[target_feature(enable = "avx512f")]
pub(super) fn gather(table: &[f32], rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    let dim = out.width();
    for (at, &row) in rows.iter().enumerate() {
        let row = &table[row as usize * dim..][..dim];
        let out = out.row(at);
        assert_eq!(out.len(), dim, "width of the output");
        for at in (0..dim).step_by(LANES) {
            let mask = lanes(dim, at);
            // SAFETY: `row` and `out` hold `dim` floats, and `mask` has no lane beyond them.
            unsafe {
                let value = _mm512_maskz_loadu_ps(mask, row.as_ptr().add(at));
                let value = _mm512_add_ps(_mm512_setzero_ps(), value);
                _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), mask, value);
            }
        }
    }
}

/// See [`SumRows`](super::SumRows).
#[target_feature(enable = "avx512f")]
pub(super) fn sum(table: &[f32], rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    let dim = sum.len();
    for at in (0..dim).step_by(LANES) {
        let mask = lanes(dim, at);
        // SAFETY: `sum` holds `dim` floats, and `mask` has no lane beyond them.
        let mut total = unsafe { _mm512_maskz_loadu_ps(mask, sum.as_ptr().add(at)) };
        for (index, &row) in rows.iter().enumerate() {
            let row = &table[row as usize * dim..][..dim];
            // SAFETY: `row` holds `dim` floats, and `mask` has no lane beyond them.
            let value = unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().add(at)) };
            let weight = weights.map_or(1.0, |weights| weights[index]);
            total = _mm512_add_ps(total, _mm512_mul_ps(_mm512_set1_ps(weight), value));
        }
        // SAFETY: as for the load.
        unsafe { _mm512_mask_storeu_ps(sum.as_mut_ptr().add(at), mask, total) };
    }
}
