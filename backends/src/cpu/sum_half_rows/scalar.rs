//! The definition, and the kernel of machines without a faster one.

use super::Halves;
use crate::cpu::matrix::MatrixMut;

/// See [`GatherRows`](super::GatherRows).
pub(super) fn gather(table: Halves<'_>, rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    for (at, &row) in rows.iter().enumerate() {
        let out = out.row(at);
        let row = table.row(row, out.len());
        for (at, out) in out.iter_mut().enumerate() {
            *out = 0.0 + row.value(at);
        }
    }
}

/// See [`SumRows`](super::SumRows).
pub(super) fn sum(table: Halves<'_>, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    for (at, &row) in rows.iter().enumerate() {
        let weight = weights.map_or(1.0, |weights| weights[at]);
        let row = table.row(row, sum.len());
        for (at, sum) in sum.iter_mut().enumerate() {
            *sum += weight * row.value(at);
        }
    }
}
