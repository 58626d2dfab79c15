//! The kernels that a plan was made for.

use super::{
    gemm, gemm_bf16, gemm_int8, hash_encode, interaction, level::Level, sum_fused_rows,
    sum_half_rows, sum_rows,
};

/// One kernel of each kind, chosen once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels {
    pub(crate) sum_rows: sum_rows::Kernel,
    pub(crate) sum_half_rows: sum_half_rows::Kernel,
    pub(crate) sum_fused_rows: sum_fused_rows::Kernel,
    pub(crate) gemm: gemm::Kernel,
    pub(crate) gemm_bf16: gemm_bf16::Kernel,
    pub(crate) gemm_int8: gemm_int8::Kernel,
    pub(crate) interaction: interaction::Kernel,
    pub(crate) hash_encode: hash_encode::Kernel,
}

impl Kernels {
    /// The fastest kernels that need no more than `level`.
    pub(crate) fn at(level: Level) -> Self {
        macro_rules! pick {
            ($family:ident) => {
                $family::available()
                    .into_iter()
                    .find(|kernel| kernel.level <= level)
                    .expect("scalar kernels are always there and need no more than any level")
            };
        }
        Self {
            sum_rows: pick!(sum_rows),
            sum_half_rows: pick!(sum_half_rows),
            sum_fused_rows: pick!(sum_fused_rows),
            gemm: pick!(gemm),
            gemm_bf16: pick!(gemm_bf16),
            gemm_int8: pick!(gemm_int8),
            interaction: pick!(interaction),
            hash_encode: pick!(hash_encode),
        }
    }
}
