//! Quantised rows, picked, decoded and added up.
//!
//! `scalar` is the definition, [`FusedRows::value`]. Every other kernel decodes to the same bits and adds
//! in the same order, each product rounded before it is added.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

use mprec_representations::FusedRows;

use super::{level::Level, matrix::MatrixMut};

/// Writes to row `i` of `out` row `rows[i]` of `table`, decoded, as `0 + x`.
///
/// Panics if `rows` and `out` differ in length or the table has no such row.
pub type GatherRows = fn(table: &FusedRows, rows: &[u64], out: MatrixMut<'_>);

/// Adds to `sum` the decoded rows of `table` named by `rows`, each times its weight. Without weights,
/// a weight is 1.
///
/// Panics if the table has no such row, or weights are given and are fewer than the rows.
pub type SumRows = fn(table: &FusedRows, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]);

/// The two functions at one level.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The instructions it needs; its name in logs and benchmarks.
    pub level: Level,
    /// One row per bag.
    pub gather: GatherRows,
    /// Any number of rows for one bag.
    pub sum: SumRows,
}

/// Every kernel this machine can run, fastest first. The last is always the scalar one.
pub fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if Level::Avx512.is_available() {
            kernels.push(Kernel {
                level: Level::Avx512,
                // SAFETY: AVX-512 was detected above, and a running process does not lose it.
                gather: |table, rows, out| unsafe { avx512::gather(table, rows, out) },
                // SAFETY: as above.
                sum: |table, rows, weights, sum| unsafe { avx512::sum(table, rows, weights, sum) },
            });
        }
        if Level::Avx2.is_available() {
            kernels.push(Kernel {
                level: Level::Avx2,
                // SAFETY: AVX2 and F16C were detected above, and a running process keeps them.
                gather: |table, rows, out| unsafe { avx2::gather(table, rows, out) },
                // SAFETY: as above.
                sum: |table, rows, weights, sum| unsafe { avx2::sum(table, rows, weights, sum) },
            });
        }
    }
    kernels.push(Kernel { level: Level::Scalar, gather: scalar::gather, sum: scalar::sum });
    kernels
}
