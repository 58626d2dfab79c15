//! Rows of a table, picked and added up.
//!
//! `scalar` is the definition. Every other kernel adds the same values in the same order, each
//! product rounded before it is added, and is therefore held to the same bits.
//!
//! Random rows of a table larger than the cache are bound by memory latency, not by arithmetic:
//! [`prefetch`] asks for many rows before the first of them is added.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

use super::{level::Level, matrix::MatrixMut};

/// Writes to row `i` of `out` row `rows[i]` of `table`, whose rows are as wide as `out`'s.
///
/// Written as `0 + x`, the sum of one row, so that a negative zero becomes positive as in any sum.
///
/// Panics if `rows` and `out` differ in length or the table has no such row.
pub type GatherRows = fn(table: &[f32], rows: &[u64], out: MatrixMut<'_>);

/// Adds to `sum` the rows of `table` named by `rows`, each times its weight. Without weights, a
/// weight is 1.
///
/// Panics if the table has no such row, or weights are given and are fewer than the rows.
pub type SumRows = fn(table: &[f32], rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]);

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
                // SAFETY: AVX2 was detected above, and a running process does not lose it.
                gather: |table, rows, out| unsafe { avx2::gather(table, rows, out) },
                // SAFETY: as above.
                sum: |table, rows, weights, sum| unsafe { avx2::sum(table, rows, weights, sum) },
            });
        }
    }
    kernels.push(Kernel { level: Level::Scalar, gather: scalar::gather, sum: scalar::sum });
    kernels
}

/// Asks for `rows` of `width` elements, so that they are on their way from memory before they are read.
#[inline]
pub fn prefetch<E>(table: &[E], width: usize, rows: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        const LINE: usize = 64;
        let bytes = width * size_of::<E>();
        let ask = |at: *const i8| {
            // SAFETY: a prefetch reads nothing that the program can see and ignores bad addresses.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
        };
        for &row in rows {
            let start = table.as_ptr().cast::<i8>().wrapping_add(row as usize * bytes);
            for at in (0..bytes).step_by(LINE) {
                ask(start.wrapping_add(at));
            }
            // A row that does not begin with a line ends in one more.
            if !start.addr().is_multiple_of(LINE) {
                ask(start.wrapping_add(bytes - 1));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (table, width, rows);
}
