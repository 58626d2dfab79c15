//! What this machine could do at most, measured: the measure of every other figure.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use super::Level;

/// Arithmetic whose peak rate is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Multiply-add of 32-bit floats.
    F32,
    /// Multiply-add of 16-bit floats (bfloat16).
    BF16,
    /// Multiply-add of bytes.
    Int8,
}

/// Instructions in one turn of a loop: enough to hide the latency of each.
const CHAINS: usize = 12;

/// Operations per second of one core on data in registers, a multiplication and an addition counting two; the
/// best of several tries within `duration`. Nothing where this machine lacks the instructions of our kernels.
pub fn peak_rate(arithmetic: Arithmetic, duration: Duration) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let (turns, lanes): (fn(u64), usize) = match arithmetic {
            Arithmetic::F32 if Level::Avx512.is_available() => {
                // SAFETY: AVX-512 is there, as the guard says.
                (|turns| unsafe { x86::f32_512(turns) }, 16)
            }
            Arithmetic::F32 if Level::Avx2.is_available() => {
                // SAFETY: AVX2 and FMA are there, as the guard says.
                (|turns| unsafe { x86::f32_256(turns) }, 8)
            }
            // Without products of halves they are widened, and multiplied as floats.
            Arithmetic::BF16 if !Level::Avx512Bf16.is_available() => {
                return peak_rate(Arithmetic::F32, duration);
            }
            Arithmetic::BF16 => {
                // SAFETY: AVX-512 with BF16 is there, as the arm above says.
                (|turns| unsafe { x86::bf16_512(turns) }, 32)
            }
            Arithmetic::Int8 if Level::Avx512Vnni.is_available() => {
                // SAFETY: AVX-512 with VNNI is there, as the guard says.
                (|turns| unsafe { x86::int8_512(turns) }, 64)
            }
            // Bytes are widened, and pairs of products added in a second instruction.
            Arithmetic::Int8 if Level::Avx2.is_available() => {
                // SAFETY: AVX2 is there, as the guard says.
                (|turns| unsafe { x86::int8_256(turns) }, 16)
            }
            _ => return None,
        };
        const TURNS: u64 = 200_000;
        let end = Instant::now() + duration;
        let mut best = f64::INFINITY;
        while best.is_infinite() || Instant::now() < end {
            let start = Instant::now();
            turns(black_box(TURNS));
            best = best.min(start.elapsed().as_secs_f64());
        }
        Some((TURNS as usize * CHAINS * lanes * 2) as f64 / best)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (arithmetic, duration, CHAINS, Level::Scalar);
        None
    }
}

/// Bytes per second that one core reads from memory beyond all caches; the best of several passes within
/// `duration`.
pub fn read_bandwidth(duration: Duration) -> f64 {
    const WORDS: usize = 16 << 20;
    let data = vec![1_u64; WORDS];
    let end = Instant::now() + duration;
    let mut best = f64::INFINITY;
    while best.is_infinite() || Instant::now() < end {
        let start = Instant::now();
        // Sixteen sums, so that the additions do not wait for each other.
        let mut sums = [0_u64; 16];
        for words in black_box(&data[..]).chunks_exact(16) {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums);
        best = best.min(start.elapsed().as_secs_f64());
    }
    (WORDS * size_of::<u64>()) as f64 / best
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    /// Writes a function that runs `turns` turns of twelve independent instructions, each after `$before` if that is given.
    macro_rules! chains {
        ($name:ident, $feature:literal, $($before:literal,)? [$instruction:literal, $register:literal], $($chain:tt)+) => {
            chains!(@ $name, $feature, concat!($($before)?), $instruction, $register, $($chain)+);
        };
        (@ $name:ident, $feature:literal, $before:expr, $instruction:literal, $register:literal, $($chain:literal)+) => {
            #[target_feature(enable = $feature)]
            pub(super) fn $name(turns: u64) {
                // SAFETY: registers are named as clobbered and no memory is touched.
                unsafe {
                    asm!(
                        $(concat!("vxorps ", $register, $chain, ", ", $register, $chain, ", ", $register, $chain),)+
                        concat!("vxorps ", $register, "12, ", $register, "12, ", $register, "12"),
                        "2:",
                        $($before, concat!($instruction, " ", $register, $chain, ", ", $register, "12, ", $register, "12"),)+
                        "dec {turns}",
                        "jnz 2b",
                        turns = inout(reg) turns => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                        out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                        out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
                        options(nostack, nomem),
                    );
                }
            }
        };
    }

    chains!(f32_512, "avx512f,avx512dq", ["vfmadd231ps", "zmm"], "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    chains!(f32_256, "avx2,fma", ["vfmadd231ps", "ymm"], "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    chains!(int8_256, "avx2", "vpmaddwd ymm12, ymm13, ymm13", ["vpaddd", "ymm"], "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    chains!(bf16_512, "avx512f,avx512dq,avx512bf16", ["vdpbf16ps", "zmm"], "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    chains!(int8_512, "avx512f,avx512dq,avx512vnni", ["vpdpbusd", "zmm"], "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_a_rate() {
        let moment = Duration::from_millis(1);
        assert!(read_bandwidth(moment) > 1e6);
        for arithmetic in [Arithmetic::F32, Arithmetic::BF16, Arithmetic::Int8] {
            assert!(peak_rate(arithmetic, moment).is_none_or(|rate| rate > 1e6));
        }
    }
}
