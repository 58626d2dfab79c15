//! Four hashes at a time in double precision, eight codes at a time in single.

use std::arch::x86_64::{
    __m256, __m256d, _CMP_GE_OQ, _mm256_and_pd, _mm256_cmp_pd, _mm256_cvtpd_ps, _mm256_floor_pd,
    _mm256_fmadd_pd, _mm256_fnmadd_pd, _mm256_loadu_pd, _mm256_mul_pd, _mm256_mul_ps,
    _mm256_set_m128, _mm256_set1_pd, _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_pd,
    _mm256_sub_ps,
};

use mprec_representations::Transform;

use super::{Encoder, Shared, check, gaussian, scalar};
use crate::cpu::matrix::MatrixMut;

const LANES: usize = 8;

/// See [`Encode`](super::Encode).
#[target_feature(enable = "avx2,fma")]
pub(super) fn encode(encoder: &Encoder, ids: &[u64], mut codes: MatrixMut<'_>) {
    let Some(shared) = &encoder.shared else { return scalar::encode(encoder, ids, codes) };
    check(encoder, ids, &codes);
    let scale = match encoder.transform {
        Transform::Uniform => Some(shared.scale()),
        Transform::Gaussian => None,
    };
    for (row, &id) in ids.iter().enumerate() {
        let codes = codes.row(row);
        hashes(shared, (id % shared.p) as f64, scale, codes);
        if encoder.transform == Transform::Gaussian {
            gaussian(shared.m as f32, codes);
        }
    }
}

/// Writes the hashes of a residue as floats or, with a scale, their uniform transform.
#[target_feature(enable = "avx2,fma")]
fn hashes(shared: &Shared, residue: f64, scale: Option<f64>, codes: &mut [f32]) {
    let padded = codes.len().next_multiple_of(LANES);
    assert!(shared.a.len() >= padded && shared.b.len() >= padded);
    for at in (0..codes.len()).step_by(LANES) {
        // SAFETY: `at + LANES <= padded`, and both columns are that long.
        let (low, high) = unsafe { (half(shared, residue, at), half(shared, residue, at + 4)) };
        let code: __m256 = match scale {
            Some(scale) => {
                // In the definition's order. Doubling is exact, so only the quotient and the subtraction round, as
                // there; see [`Shared::scale`].
                let scale = _mm256_set1_pd(scale);
                let code = join(_mm256_mul_pd(low, scale), _mm256_mul_pd(high, scale));
                _mm256_sub_ps(_mm256_mul_ps(code, _mm256_set1_ps(2.0)), _mm256_set1_ps(1.0))
            }
            None => join(low, high),
        };
        if let Some(whole) = codes[at..].first_chunk_mut::<LANES>() {
            // SAFETY: `whole` holds one vector.
            unsafe { _mm256_storeu_ps(whole.as_mut_ptr(), code) };
        } else {
            let mut values = [0.0; LANES];
            // SAFETY: `values` holds one vector.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr(), code) };
            let left = codes.len() - at;
            codes[at..].copy_from_slice(&values[..left]);
        }
    }
}

/// Hashes `at..at + 4` of a residue.
///
/// # Safety
///
/// Both columns of `shared` must hold that many.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn half(shared: &Shared, residue: f64, at: usize) -> __m256d {
    // SAFETY: the caller says so.
    let (a, b) = unsafe {
        (_mm256_loadu_pd(shared.a.as_ptr().add(at)), _mm256_loadu_pd(shared.b.as_ptr().add(at)))
    };
    let sum = _mm256_fmadd_pd(a, _mm256_set1_pd(residue), b);
    let hash = remainder(sum, shared.p as f64, shared.p_reciprocal);
    match shared.m_reciprocal {
        Some(reciprocal) => remainder(hash, shared.m, reciprocal),
        None => reduce(hash, shared.m),
    }
}

/// Eight doubles as floats.
#[target_feature(enable = "avx2")]
#[inline]
fn join(low: __m256d, high: __m256d) -> __m256 {
    _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low))
}

/// `value mod modulus`, exactly: the quotient is right or one too small, see [`Shared::of`].
#[target_feature(enable = "avx2,fma")]
#[inline]
fn remainder(value: __m256d, modulus: f64, reciprocal: f64) -> __m256d {
    let quotient = _mm256_floor_pd(_mm256_mul_pd(value, _mm256_set1_pd(reciprocal)));
    reduce(_mm256_fnmadd_pd(quotient, _mm256_set1_pd(modulus), value), modulus)
}

/// `value mod modulus` for values below twice the modulus.
#[target_feature(enable = "avx2")]
#[inline]
fn reduce(value: __m256d, modulus: f64) -> __m256d {
    let modulus = _mm256_set1_pd(modulus);
    let over = _mm256_cmp_pd::<_CMP_GE_OQ>(value, modulus);
    _mm256_sub_pd(value, _mm256_and_pd(over, modulus))
}
