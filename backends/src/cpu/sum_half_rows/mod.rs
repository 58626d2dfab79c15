//! Rows of 16-bit floats, picked and added up in 32 bits.
//!
//! `scalar` is the definition. Widening is exact, and every other kernel adds the same values in the same order,
//! each product rounded before it is added: it is held to the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

use half::{bf16, f16};

use super::{level::Level, matrix::MatrixMut};

/// A table's values, row after row.
#[derive(Debug, Clone, Copy)]
pub enum Halves<'a> {
    /// IEEE 754's.
    F16(&'a [f16]),
    /// Upper halves of 32-bit floats.
    BF16(&'a [bf16]),
}

/// As [`GatherRows`](super::sum_rows::GatherRows).
pub type GatherRows = fn(table: Halves<'_>, rows: &[u64], out: MatrixMut<'_>);

/// As [`SumRows`](super::sum_rows::SumRows).
pub type SumRows = fn(table: Halves<'_>, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]);

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

impl<'a> Halves<'a> {
    /// Row `row` of a table whose rows have `dim` values. Panics if there is none.
    #[inline]
    fn row(self, row: u64, dim: usize) -> Self {
        match self {
            Self::F16(table) => Self::F16(&table[row as usize * dim..][..dim]),
            Self::BF16(table) => Self::BF16(&table[row as usize * dim..][..dim]),
        }
    }

    #[inline]
    fn value(self, at: usize) -> f32 {
        match self {
            Self::F16(row) => row[at].to_f32(),
            Self::BF16(row) => row[at].to_f32(),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn len(self) -> usize {
        match self {
            Self::F16(row) => row.len(),
            Self::BF16(row) => row.len(),
        }
    }
}
