//! A layer: `activation(input · weightᵀ + bias)`, with the weights packed once.
//!
//! `scalar` is the definition. It adds products in the order of the inputs, and the bias last;
//! the other kernels fuse multiplication with addition, or split the sum, and are held to a
//! tolerance that grows with the number of inputs.
//!
//! `portable` hands the product to the `gemm` crate and applies bias and activation afterwards.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
mod pack;
mod portable;
mod scalar;
#[cfg(test)]
pub(super) mod tests;

pub use pack::Packed;

use mprec_representations::Activation;

use super::{
    level::Level,
    matrix::{Matrix, MatrixMut},
};

/// Writes the layer's output for every row of the input.
///
/// Panics if the widths are not the layer's or the rows differ in number.
pub type Multiply = fn(input: Matrix<'_>, layer: &Packed, output: MatrixMut<'_>);

/// A kernel, and the form in which it wants its weights.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The instructions it needs; its name in logs and benchmarks.
    pub level: Level,
    /// Most outputs in one panel of weights.
    pub panel: usize,
    /// Panels are filled up with zeros to a multiple of this many outputs.
    pub lanes: usize,
    /// The kernel. It takes layers packed for it and no others.
    pub multiply: Multiply,
}

/// Every kernel this machine can run, fastest first. The last is always the scalar one.
pub fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if Level::Avx512.is_available() {
            kernels.push(Kernel {
                level: Level::Avx512,
                panel: avx512::PANEL,
                lanes: avx512::LANES,
                // SAFETY: AVX-512 was detected above, and a running process does not lose it.
                multiply: |input, layer, output| unsafe { avx512::multiply(input, layer, output) },
            });
        }
        if Level::Avx2.is_available() {
            kernels.push(Kernel {
                level: Level::Avx2,
                panel: avx2::PANEL,
                lanes: avx2::LANES,
                // SAFETY: AVX2 and FMA were detected above, and a running process keeps them.
                multiply: |input, layer, output| unsafe { avx2::multiply(input, layer, output) },
            });
        }
    }
    kernels.push(Kernel {
        level: Level::Portable,
        panel: usize::MAX,
        lanes: 1,
        multiply: portable::multiply,
    });
    kernels.push(Kernel { level: Level::Scalar, panel: 8, lanes: 1, multiply: scalar::multiply });
    kernels
}

/// Panics unless the shapes fit. Kernels rely on it.
fn check(input: &Matrix<'_>, layer: &Packed, output: &MatrixMut<'_>) {
    assert_eq!(input.width(), layer.inputs(), "inputs of the layer");
    assert_eq!(output.width(), layer.outputs(), "outputs of the layer");
    assert_eq!(input.rows(), output.rows(), "rows");
}

/// Cuts `rows` into blocks of at most `most`, as equal as possible: first row and number of rows.
#[cfg(target_arch = "x86_64")]
pub(super) fn row_blocks(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = rows.div_ceil(most);
    (0..blocks).map(move |block| {
        let first = block * rows / blocks;
        (first, (block + 1) * rows / blocks - first)
    })
}

/// A mask of the lanes at `at..` of `length`, for vectors of sixteen.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn lanes(length: usize, at: usize) -> u16 {
    match length.saturating_sub(at) {
        16.. => u16::MAX,
        left => (1 << left) - 1,
    }
}

/// Applies the activations that kernels do not fuse.
#[cfg(target_arch = "x86_64")]
pub(super) fn finish(activation: Activation, output: &mut MatrixMut<'_>) {
    match activation {
        Activation::None | Activation::Relu => {}
        Activation::Sigmoid | Activation::Mish => {
            for row in 0..output.rows() {
                for value in output.row(row) {
                    *value = activation.apply(*value);
                }
            }
        }
    }
}
