//! A layer of 8-bit weights: inputs are quantised row by row, products and sums are those of integers.
//!
//! `scalar` is the definition, [`Int8Weights::apply`](mprec_representations::Int8Weights::apply). Sums of
//! integers are exact in any order and what follows is rounded in the same places, so every kernel is held
//! to the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod scalar;
#[cfg(test)]
mod tests;

pub use pack::PackedInt8;

use super::{
    level::Level,
    matrix::{Matrix, MatrixMut},
};

/// Writes the layer's output for every row of the input. `codes` is memory to work in.
///
/// Panics if the widths are not the layer's, the rows differ in number, or `codes` is shorter than
/// [`PackedInt8::scratch`].
pub type Multiply =
    fn(input: Matrix<'_>, layer: &PackedInt8, codes: &mut [u8], output: MatrixMut<'_>);

/// A kernel, and the form in which it wants its weights.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The instructions it needs; its name in logs and benchmarks.
    pub level: Level,
    /// Outputs in one panel of weights.
    pub panel: usize,
    /// Panels are filled up with zeros to a multiple of this many outputs.
    pub lanes: usize,
    /// Inputs whose weights to one output lie side by side.
    pub group: usize,
    /// Bytes of a code while the kernel works on it.
    pub code_bytes: usize,
    /// The kernel. It takes layers packed for it and no others.
    pub multiply: Multiply,
}

/// Every kernel this machine can run, fastest first. The last is always the scalar one.
pub fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if Level::Avx512Vnni.is_available() {
            kernels.push(Kernel {
                level: Level::Avx512Vnni,
                panel: avx512::PANEL,
                lanes: avx512::LANES,
                group: avx512::GROUP,
                code_bytes: 1,
                // SAFETY: AVX-512 with VNNI was detected above, and a running process keeps it.
                multiply: |input, layer, codes, output| unsafe {
                    avx512::multiply(input, layer, codes, output);
                },
            });
        }
        if Level::Avx2.is_available() {
            kernels.push(Kernel {
                level: Level::Avx2,
                panel: avx2::PANEL,
                lanes: avx2::LANES,
                group: avx2::GROUP,
                code_bytes: 2,
                // SAFETY: AVX2 was detected above, and a running process does not lose it.
                multiply: |input, layer, codes, output| unsafe {
                    avx2::multiply(input, layer, codes, output);
                },
            });
        }
    }
    kernels.push(Kernel {
        level: Level::Scalar,
        panel: 1,
        lanes: 1,
        group: 1,
        code_bytes: 1,
        multiply: scalar::multiply,
    });
    kernels
}

/// Panics unless the shapes fit. Kernels rely on it.
fn check(input: &Matrix<'_>, layer: &PackedInt8, codes: &[u8], output: &MatrixMut<'_>) {
    assert_eq!(input.width(), layer.inputs(), "inputs of the layer");
    assert_eq!(output.width(), layer.outputs(), "outputs of the layer");
    assert_eq!(input.rows(), output.rows(), "rows");
    assert!(codes.len() >= layer.scratch(input.rows()), "scratch of {} bytes", codes.len());
}
