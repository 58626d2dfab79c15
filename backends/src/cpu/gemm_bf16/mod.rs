//! A layer of weights that are upper halves of floats (bfloat16): inputs are rounded to as many bits, products and
//! sums are those of 32-bit floats.
//!
//! [`LayerWeights::apply`](mprec_representations::LayerWeights::apply) is the definition, and as sums are taken in
//! any order, kernels are held to a tolerance. `vdpbf16ps` also takes denormal floats for zeros. Machines without
//! AVX-512 widen the weights once, and save no memory: they give the same answers, and that is all they are for.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
#[cfg(test)]
mod tests;
mod widened;

pub use pack::PackedBf16;

use super::{
    gemm,
    level::Level,
    matrix::{Matrix, MatrixMut},
};

/// Writes the layer's output for every row of the input. `codes` is memory to work in, aligned for floats.
///
/// Panics if the widths are not the layer's, the rows differ in number, or `codes` is shorter than
/// [`PackedBf16::scratch`].
pub type Multiply =
    fn(input: Matrix<'_>, layer: &PackedBf16, codes: &mut [u8], output: MatrixMut<'_>);

/// A kernel, and the form in which it wants its weights.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The instructions it needs; its name in logs and benchmarks.
    pub level: Level,
    /// Bytes of an input while the kernel works on it.
    pub code_bytes: usize,
    /// What multiplies widened weights, where there is no kernel for pairs of halves.
    pub widened: Option<gemm::Kernel>,
    /// The kernel. It takes layers packed for it and no others.
    pub multiply: Multiply,
}

/// Every kernel this machine can run, fastest first. The last is always the scalar one.
pub fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if Level::Avx512Bf16.is_available() {
            kernels.push(Kernel {
                level: Level::Avx512Bf16,
                code_bytes: 2,
                widened: None,
                // SAFETY: AVX-512 with BF16 was detected above, and a running process keeps it.
                multiply: |input, layer, codes, output| unsafe {
                    avx512::multiply_halves(input, layer, codes, output);
                },
            });
        }
        if Level::Avx512.is_available() {
            kernels.push(Kernel {
                level: Level::Avx512,
                code_bytes: 4,
                widened: None,
                // SAFETY: AVX-512 was detected above, and a running process does not lose it.
                multiply: |input, layer, codes, output| unsafe {
                    avx512::multiply_widened(input, layer, codes, output);
                },
            });
        }
    }
    let others = gemm::available().into_iter().filter(|kernel| kernel.level < Level::Avx512);
    kernels.extend(others.map(|kernel| Kernel {
        level: kernel.level,
        code_bytes: 4,
        widened: Some(kernel),
        multiply: widened::multiply,
    }));
    kernels
}

/// Panics unless the shapes fit. Kernels rely on it.
fn check(input: &Matrix<'_>, layer: &PackedBf16, codes: &[u8], output: &MatrixMut<'_>) {
    assert_eq!(input.width(), layer.inputs(), "inputs of the layer");
    assert_eq!(output.width(), layer.outputs(), "outputs of the layer");
    assert_eq!(input.rows(), output.rows(), "rows");
    assert!(codes.len() >= layer.scratch(input.rows()), "scratch of {} bytes", codes.len());
}
