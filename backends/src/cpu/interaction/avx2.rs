//! Eight pairs at a time, for eight vectors against eight others in registers.

use std::arch::x86_64::{
    __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::{Pairs, check};
use crate::cpu::{
    buffer::LINE,
    matrix::{Matrix, MatrixMut},
};

const LANES: usize = 8;

/// Vectors whose products are under way at once.
const ROWS: usize = 8;

/// See [`Dot`](super::Dot).
#[target_feature(enable = "avx2,fma")]
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
///
/// The last vector of a row of products is stored whole and so reaches into the rows behind, whose first products are all
/// written later: columns are taken from the last one to the first, rows from the first to the last.
#[target_feature(enable = "avx2,fma")]
fn rows<const R: usize>(
    row: &[f32],
    start: usize,
    pairs: Pairs,
    transposed: &[f32],
    products: &mut [f32],
) {
    let Pairs { count, dim, .. } = pairs;
    let stride = count.next_multiple_of(LINE);
    assert!(start + R <= count && row.len() >= count * dim);
    assert!(transposed.len() >= dim * stride);
    let left = &row[start * dim..];
    let most = pairs.row_length(start + R - 1);
    for column in (0..most).step_by(LANES).rev() {
        let mut sums = [_mm256_setzero_ps(); R];
        for at in 0..dim {
            // SAFETY: `column < most <= count`, so `column + LANES <= stride`; and `at < dim`.
            let others = unsafe { _mm256_loadu_ps(transposed.as_ptr().add(at * stride + column)) };
            for (index, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `left` holds at least `R` vectors of `dim` floats.
                let x = _mm256_set1_ps(unsafe { *left.get_unchecked(index * dim + at) });
                *sum = _mm256_fmadd_ps(x, others, *sum);
            }
        }
        for (index, sum) in sums.into_iter().enumerate() {
            let length = pairs.row_length(start + index);
            if column >= length {
                continue;
            }
            let products = &mut products[pairs.row_start(start + index) + column..];
            if let Some(whole) = products.first_chunk_mut::<LANES>() {
                // SAFETY: `whole` holds one vector.
                unsafe { _mm256_storeu_ps(whole.as_mut_ptr(), sum) };
            } else {
                let mut values = [0.0; LANES];
                // SAFETY: `values` holds one vector.
                unsafe { _mm256_storeu_ps(values.as_mut_ptr(), sum) };
                products[..length - column].copy_from_slice(&values[..length - column]);
            }
        }
    }
}

/// Writes value `at` of vector `index` to `transposed[at * stride + index]`.
#[target_feature(enable = "avx2")]
fn transpose(row: &[f32], pairs: Pairs, transposed: &mut [f32]) {
    let Pairs { count, dim, .. } = pairs;
    let stride = count.next_multiple_of(LINE);
    assert!(row.len() >= count * dim && transposed.len() >= dim * stride);
    let whole = dim - dim % LANES;
    for first in (0..count).step_by(LANES) {
        for at in (0..whole).step_by(LANES) {
            let mut block = [_mm256_setzero_ps(); LANES];
            for (index, vector) in block.iter_mut().enumerate() {
                // The last vector stands for those that are not there: nobody reads what comes of them.
                let start = (first + index).min(count - 1) * dim + at;
                // SAFETY: `at + LANES <= dim`, and the row holds `count` vectors of `dim` floats.
                *vector = unsafe { _mm256_loadu_ps(row.as_ptr().add(start)) };
            }
            for (index, vector) in transpose_block(block).into_iter().enumerate() {
                let start = (at + index) * stride + first;
                // SAFETY: `at + index < dim` and `first + LANES <= stride`.
                unsafe { _mm256_storeu_ps(transposed.as_mut_ptr().add(start), vector) };
            }
        }
    }
    for at in whole..dim {
        for index in 0..count {
            transposed[at * stride + index] = row[index * dim + at];
        }
    }
}

/// Eight by eight: pairs of rows are interleaved by single floats, then by twos, then by halves of a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose_block(rows: [__m256; LANES]) -> [__m256; LANES] {
    let mut columns = rows;
    for half in 0..2 {
        let [a, b, c, d] =
            [rows[4 * half], rows[4 * half + 1], rows[4 * half + 2], rows[4 * half + 3]];
        let (low_ab, high_ab) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (low_cd, high_cd) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        // Of four rows: columns 0 and 4, 1 and 5, 2 and 6, 3 and 7.
        columns[4 * half] = _mm256_shuffle_ps::<0b01_00_01_00>(low_ab, low_cd);
        columns[4 * half + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(low_ab, low_cd);
        columns[4 * half + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(high_ab, high_cd);
        columns[4 * half + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(high_ab, high_cd);
    }
    for column in 0..4 {
        let (upper, lower) = (columns[column], columns[4 + column]);
        columns[column] = _mm256_permute2f128_ps::<0x20>(upper, lower);
        columns[4 + column] = _mm256_permute2f128_ps::<0x31>(upper, lower);
    }
    columns
}
