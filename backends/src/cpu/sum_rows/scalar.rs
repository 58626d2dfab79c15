//! The definition, and the kernel of machines without a faster one.

use crate::cpu::matrix::MatrixMut;

/// See [`GatherRows`](super::GatherRows).
pub(super) fn gather(table: &[f32], rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    let dim = out.width();
    for (at, &row) in rows.iter().enumerate() {
        let row = &table[row as usize * dim..][..dim];
        for (out, value) in out.row(at).iter_mut().zip(row) {
            *out = 0.0 + value;
        }
    }
}

/// See [`SumRows`](super::SumRows).
pub(super) fn sum(table: &[f32], rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    let dim = sum.len();
    for (at, &row) in rows.iter().enumerate() {
        let weight = weights.map_or(1.0, |weights| weights[at]);
        let row = &table[row as usize * dim..][..dim];
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += weight * value;
        }
    }
}
