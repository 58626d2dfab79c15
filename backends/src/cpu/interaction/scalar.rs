//! The definition.

use super::{Pairs, check};
use crate::cpu::matrix::{Matrix, MatrixMut};

/// See [`Dot`](super::Dot).
pub(super) fn dot(vectors: Matrix<'_>, pairs: Pairs, scratch: &mut [f32], mut out: MatrixMut<'_>) {
    check(&vectors, pairs, scratch, &out);
    let dim = pairs.dim;
    for sample in 0..vectors.rows() {
        let row = vectors.row(sample);
        let (first, products) = out.row(sample).split_at_mut(dim);
        first.copy_from_slice(&row[..dim]);
        let mut at = 0;
        for (index, left) in row.chunks_exact(dim).enumerate() {
            for right in row.chunks_exact(dim).take(pairs.row_length(index)) {
                products[at] = left.iter().zip(right).map(|(x, y)| x * y).sum();
                at += 1;
            }
        }
    }
}
