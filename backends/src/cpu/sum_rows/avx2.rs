//! Eight floats at a time; the last ones of a row one by one.

use std::arch::x86_64::{
    _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_storeu_ps,
};

use crate::cpu::matrix::MatrixMut;

const LANES: usize = 8;

/// See [`GatherRows`](super::GatherRows).
#[target_feature(enable = "avx2")]
pub(super) fn gather(table: &[f32], rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    let dim = out.width();
    let wide = dim - dim % LANES;
    for (at, &row) in rows.iter().enumerate() {
        let row = &table[row as usize * dim..][..dim];
        let out = out.row(at);
        assert_eq!(out.len(), dim, "width of the output");
        for at in (0..wide).step_by(LANES) {
            // SAFETY: `at + LANES <= wide <= dim`, and `row` and `out` hold `dim` floats.
            unsafe {
                let value = _mm256_loadu_ps(row.as_ptr().add(at));
                let value = _mm256_add_ps(_mm256_setzero_ps(), value);
                _mm256_storeu_ps(out.as_mut_ptr().add(at), value);
            }
        }
        for at in wide..dim {
            out[at] = 0.0 + row[at];
        }
    }
}

/// See [`SumRows`](super::SumRows).
#[target_feature(enable = "avx2")]
pub(super) fn sum(table: &[f32], rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    let dim = sum.len();
    let wide = dim - dim % LANES;
    for (index, &row) in rows.iter().enumerate() {
        let row = &table[row as usize * dim..][..dim];
        let weight = weights.map_or(1.0, |weights| weights[index]);
        for at in (0..wide).step_by(LANES) {
            // SAFETY: `at + LANES <= wide <= dim`, and `row` and `sum` hold `dim` floats.
            unsafe {
                let value = _mm256_loadu_ps(row.as_ptr().add(at));
                let value = _mm256_mul_ps(_mm256_set1_ps(weight), value);
                let total = _mm256_add_ps(_mm256_loadu_ps(sum.as_ptr().add(at)), value);
                _mm256_storeu_ps(sum.as_mut_ptr().add(at), total);
            }
        }
        for at in wide..dim {
            sum[at] += weight * row[at];
        }
    }
}
