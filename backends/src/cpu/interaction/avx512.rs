//! Sixteen pairs at a time, for eight vectors against sixteen others in registers.

use std::arch::x86_64::{
    __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_ps,
    _mm512_unpacklo_ps,
};
use std::arch::x86_64::{
    _mm512_castpd_ps, _mm512_castps_pd, _mm512_unpackhi_pd, _mm512_unpacklo_pd,
};

use super::{Pairs, check};
use crate::cpu::{
    gemm::lanes,
    matrix::{Matrix, MatrixMut},
};

const LANES: usize = 16;

/// Vectors whose products are under way at once.
const ROWS: usize = 8;

/// See [`Dot`](super::Dot).
#[target_feature(enable = "avx512f")]
pub(super) fn dot(vectors: Matrix<'_>, pairs: Pairs, scratch: &mut [f32], mut out: MatrixMut<'_>) {
    check(&vectors, pairs, scratch, &out);
    let Pairs { count, dim, .. } = pairs;
    for sample in 0..vectors.rows() {
        let row = vectors.row(sample);
        transpose(row, pairs, scratch);
        let (first, products) = out.row(sample).split_at_mut(dim);
        first.copy_from_slice(&row[..dim]);
        for start in (0..count).step_by(ROWS) {
            match (count - start).min(ROWS) {
                1 => rows::<1>(row, start, pairs, scratch, products),
                2 => rows::<2>(row, start, pairs, scratch, products),
                3 => rows::<3>(row, start, pairs, scratch, products),
                4 => rows::<4>(row, start, pairs, scratch, products),
                5 => rows::<5>(row, start, pairs, scratch, products),
                6 => rows::<6>(row, start, pairs, scratch, products),
                7 => rows::<7>(row, start, pairs, scratch, products),
                _ => rows::<ROWS>(row, start, pairs, scratch, products),
            }
        }
    }
}

/// Products of vectors `start..start + R` with those before them.
#[target_feature(enable = "avx512f")]
fn rows<const R: usize>(
    row: &[f32],
    start: usize,
    pairs: Pairs,
    transposed: &[f32],
    products: &mut [f32],
) {
    let Pairs { count, dim, .. } = pairs;
    let stride = count.next_multiple_of(LANES);
    assert!(start + R <= count && row.len() >= count * dim);
    assert!(transposed.len() >= dim * stride);
    let left = &row[start * dim..];
    let most = pairs.row_length(start + R - 1);
    for column in (0..most).step_by(LANES) {
        let mut sums = [_mm512_setzero_ps(); R];
        for at in 0..dim {
            // SAFETY: `column < most <= count`, so `column + LANES <= stride`; and `at < dim`.
            let others = unsafe { _mm512_loadu_ps(transposed.as_ptr().add(at * stride + column)) };
            for (index, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `left` holds at least `R` vectors of `dim` floats.
                let x = _mm512_set1_ps(unsafe { *left.get_unchecked(index * dim + at) });
                *sum = _mm512_fmadd_ps(x, others, *sum);
            }
        }
        for (index, sum) in sums.into_iter().enumerate() {
            let length = pairs.row_length(start + index);
            if column < length {
                let products = &mut products[pairs.row_start(start + index)..][..length];
                let mask = lanes(length, column);
                // SAFETY: the mask has no lane beyond the end of `products`.
                unsafe { _mm512_mask_storeu_ps(products.as_mut_ptr().add(column), mask, sum) };
            }
        }
    }
}

/// Writes value `at` of vector `index` to `transposed[at * stride + index]`.
#[target_feature(enable = "avx512f")]
fn transpose(row: &[f32], pairs: Pairs, transposed: &mut [f32]) {
    let Pairs { count, dim, .. } = pairs;
    let stride = count.next_multiple_of(LANES);
    assert!(row.len() >= count * dim && transposed.len() >= dim * stride);
    for first in (0..count).step_by(LANES) {
        for at in (0..dim).step_by(LANES) {
            let mut block = [_mm512_setzero_ps(); LANES];
            let mask = lanes(dim, at);
            for (index, vector) in block.iter_mut().take(count - first).enumerate() {
                let start = (first + index) * dim + at;
                // SAFETY: `first + index < count`, and the mask has no lane beyond the vector.
                *vector = unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().add(start)) };
            }
            let block = transpose_block(block);
            for (index, vector) in block.into_iter().take(dim - at).enumerate() {
                let start = (at + index) * stride + first;
                // SAFETY: `at + index < dim` and `first + LANES <= stride`.
                unsafe { _mm512_storeu_ps(transposed.as_mut_ptr().add(start), vector) };
            }
        }
    }
}

/// Sixteen by sixteen: pairs of rows are interleaved by single floats, then by twos, then by quarters
/// of a vector.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose_block(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut singles = rows;
    for pair in 0..8 {
        let (a, b) = (rows[2 * pair], rows[2 * pair + 1]);
        singles[2 * pair] = _mm512_unpacklo_ps(a, b);
        singles[2 * pair + 1] = _mm512_unpackhi_ps(a, b);
    }
    // `twos[4 * group + column]` holds, in quarter q, column `4 * q + column` of four rows.
    let mut twos = singles;
    for group in 0..4 {
        for half in 0..2 {
            let a = _mm512_castps_pd(singles[4 * group + half]);
            let b = _mm512_castps_pd(singles[4 * group + 2 + half]);
            twos[4 * group + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            twos[4 * group + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    let mut columns = twos;
    for column in 0..4 {
        let [a, b, c, d] = [twos[column], twos[4 + column], twos[8 + column], twos[12 + column]];
        // Quarters 0 and 2, or 1 and 3, of two vectors.
        let (even_ab, odd_ab) =
            (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) =
            (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        columns[column] = _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd);
        columns[4 + column] = _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd);
        columns[8 + column] = _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd);
        columns[12 + column] = _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd);
    }
    columns
}
