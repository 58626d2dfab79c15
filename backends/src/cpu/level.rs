//! Which instructions the kernels may use.

use std::fmt;

/// A set of kernels, by the instructions they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Plain loops: the definition that the other levels are tested against.
    Scalar,
    /// Plain loops, with matrix products by the `gemm` crate: for machines that we have no
    /// kernels for.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 (F, VL, BW and DQ).
    Avx512,
    /// AVX-512 with VNNI, the products of bytes.
    Avx512Vnni,
    /// AVX-512 with VNNI and BF16, the products of halves of floats.
    Avx512Bf16,
}

impl Level {
    /// The fastest level that this machine can run.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Every level that this machine can run, fastest first.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq");
            let vnni = avx512 && is_x86_feature_detected!("avx512vnni");
            if vnni && is_x86_feature_detected!("avx512bf16") {
                levels.push(Self::Avx512Bf16);
            }
            if vnni {
                levels.push(Self::Avx512Vnni);
            }
            if avx512 {
                levels.push(Self::Avx512);
            }
            if avx2 {
                levels.push(Self::Avx2);
            }
        }
        levels.extend([Self::Portable, Self::Scalar]);
        levels
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        Self::available().contains(&self)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512_vnni",
            Self::Avx512Bf16 => "avx512_bf16",
        })
    }
}
