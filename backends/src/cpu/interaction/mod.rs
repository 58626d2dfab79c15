//! The dot interaction: products of all pairs of a sample's vectors.
//!
//! A sample's `count` vectors lie side by side in one row, the dense one first. Only the products
//! below the diagonal are computed, up to the vector width.
//!
//! The vector kernels transpose a sample's vectors first, so that one instruction then works on as
//! many pairs as it has lanes and no sum has to be gathered across lanes. They fuse multiplication
//! with addition but keep the order of the terms.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

use super::{
    buffer::LINE,
    level::Level,
    matrix::{Matrix, MatrixMut},
};

/// How a sample's vectors lie in its row, and which products are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairs {
    /// Vectors in a row.
    pub count: usize,
    /// Floats in a vector.
    pub dim: usize,
    /// Whether each vector's product with itself is wanted too.
    pub itself: bool,
}

impl Pairs {
    /// Floats that one sample's vectors take.
    pub fn width(self) -> usize {
        self.count * self.dim
    }

    /// Floats of one sample's result.
    pub fn output_width(self) -> usize {
        self.dim + self.row_start(self.count)
    }

    /// Floats of memory that a kernel needs to work in.
    pub fn scratch(self) -> usize {
        self.dim * self.count.next_multiple_of(LINE)
    }

    /// How many products come before those of vector `at`.
    fn row_start(self, at: usize) -> usize {
        at * at.saturating_sub(1) / 2 + if self.itself { at } else { 0 }
    }

    /// How many products vector `at` has.
    fn row_length(self, at: usize) -> usize {
        at + usize::from(self.itself)
    }
}

/// Writes for every sample its first vector, then the products of each vector with those before
/// it. As [`Interaction::Dot`](mprec_representations::Interaction::Dot).
///
/// Panics if a width does not follow from `pairs`, the rows differ in number, or `scratch` is
/// shorter than [`Pairs::scratch`].
pub type Dot = fn(vectors: Matrix<'_>, pairs: Pairs, scratch: &mut [f32], out: MatrixMut<'_>);

/// A kernel.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The instructions it needs; its name in logs and benchmarks.
    pub level: Level,
    /// The kernel.
    pub dot: Dot,
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
                dot: |vectors, pairs, scratch, out| unsafe {
                    avx512::dot(vectors, pairs, scratch, out);
                },
            });
        }
        if Level::Avx2.is_available() {
            kernels.push(Kernel {
                level: Level::Avx2,
                // SAFETY: AVX2 and FMA were detected above, and a running process keeps them.
                dot: |vectors, pairs, scratch, out| unsafe {
                    avx2::dot(vectors, pairs, scratch, out);
                },
            });
        }
    }
    kernels.push(Kernel { level: Level::Scalar, dot: scalar::dot });
    kernels
}

/// Panics unless the shapes fit. Kernels rely on it.
fn check(vectors: &Matrix<'_>, pairs: Pairs, scratch: &[f32], out: &MatrixMut<'_>) {
    assert_eq!(vectors.width(), pairs.width(), "width of the vectors");
    assert_eq!(out.width(), pairs.output_width(), "width of the output");
    assert_eq!(vectors.rows(), out.rows(), "samples");
    assert!(scratch.len() >= pairs.scratch(), "scratch of {} floats", scratch.len());
}
