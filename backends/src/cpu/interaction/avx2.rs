//! Eight pairs at a time, for eight vectors against eight others in registers.

use std::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
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
    let stride = count.next_multiple_of(LINE);
    for sample in 0..vectors.rows() {
        let row = vectors.row(sample);
        for (index, vector) in row.chunks_exact(dim).enumerate() {
            for (at, &value) in vector.iter().enumerate() {
                scratch[at * stride + index] = value;
            }
        }
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
    for column in (0..most).step_by(LANES) {
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
            let products = &mut products[pairs.row_start(start + index)..][..length];
            if let Some(whole) = products[column..].first_chunk_mut::<LANES>() {
                // SAFETY: `whole` holds one vector.
                unsafe { _mm256_storeu_ps(whole.as_mut_ptr(), sum) };
            } else {
                let mut values = [0.0; LANES];
                // SAFETY: `values` holds one vector.
                unsafe { _mm256_storeu_ps(values.as_mut_ptr(), sum) };
                products[column..].copy_from_slice(&values[..length - column]);
            }
        }
    }
}
