//! The definition, and the kernel of machines without a faster one.

use mprec_representations::FusedRows;

use crate::cpu::matrix::MatrixMut;

/// See [`GatherRows`](super::GatherRows).
pub(super) fn gather(table: &FusedRows, rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    for (at, &row) in rows.iter().enumerate() {
        let out = out.row(at);
        out.fill(0.0);
        add(table, row, 1.0, out);
    }
}

/// See [`SumRows`](super::SumRows).
pub(super) fn sum(table: &FusedRows, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    for (at, &row) in rows.iter().enumerate() {
        add(table, row, weights.map_or(1.0, |weights| weights[at]), sum);
    }
}

fn add(table: &FusedRows, row: u64, weight: f32, sum: &mut [f32]) {
    assert_eq!(sum.len(), table.dim(), "width of the sum");
    for (column, sum) in sum.iter_mut().enumerate() {
        *sum += weight * table.value(row as usize, column);
    }
}
