//! Eight hashes at a time in double precision, sixteen codes at a time in single.

use std::arch::x86_64::{
    __m512, __m512d, _CMP_GE_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEG_INF, _mm256_castps_pd,
    _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps256_ps512, _mm512_cmp_pd_mask,
    _mm512_cvtpd_ps, _mm512_fmadd_pd, _mm512_fmadd_round_pd, _mm512_fnmadd_pd, _mm512_insertf64x4,
    _mm512_loadu_pd, _mm512_mask_storeu_ps, _mm512_mask_sub_pd, _mm512_mul_pd, _mm512_mul_ps,
    _mm512_set1_pd, _mm512_set1_ps, _mm512_sub_pd, _mm512_sub_ps,
};

use mprec_representations::Transform;

use super::{Encoder, Shared, check, gaussian, scalar};
use crate::cpu::matrix::MatrixMut;

const LANES: usize = 16;

/// See [`Encode`](super::Encode).
#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
fn hashes(shared: &Shared, residue: f64, scale: Option<f64>, codes: &mut [f32]) {
    let padded = codes.len().next_multiple_of(LANES);
    assert!(shared.a.len() >= padded && shared.b.len() >= padded);
    for at in (0..codes.len()).step_by(LANES) {
        // SAFETY: `at + LANES <= padded`, and both columns are that long.
        let (low, high) = unsafe { (half(shared, residue, at), half(shared, residue, at + 8)) };
        let code = match scale {
            Some(scale) => {
                // In the definition's order. Doubling is exact, so only the quotient and the subtraction round, as
                // there; see [`Shared::scale`].
                let scale = _mm512_set1_pd(scale);
                let code = join(_mm512_mul_pd(low, scale), _mm512_mul_pd(high, scale));
                _mm512_sub_ps(_mm512_mul_ps(code, _mm512_set1_ps(2.0)), _mm512_set1_ps(1.0))
            }
            None => join(low, high),
        };
        let left = codes.len() - at;
        let mask = if left >= LANES { u16::MAX } else { (1 << left) - 1 };
        // SAFETY: the mask has no lane beyond the end of `codes`.
        unsafe { _mm512_mask_storeu_ps(codes.as_mut_ptr().add(at), mask, code) };
    }
}

/// Hashes `at..at + 8` of a residue.
///
/// # Safety
///
/// Both columns of `shared` must hold that many.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn half(shared: &Shared, residue: f64, at: usize) -> __m512d {
    // SAFETY: the caller says so.
    let (a, b) = unsafe {
        (_mm512_loadu_pd(shared.a.as_ptr().add(at)), _mm512_loadu_pd(shared.b.as_ptr().add(at)))
    };
    let sum = _mm512_fmadd_pd(a, _mm512_set1_pd(residue), b);
    let hash = remainder(sum, shared.p as f64, shared.p_reciprocal);
    match shared.m_reciprocal {
        Some(reciprocal) => remainder(hash, shared.m, reciprocal),
        None => reduce(hash, shared.m),
    }
}

/// `value mod modulus`, exactly: the quotient is right or one too small, see [`Shared::of`].
#[target_feature(enable = "avx512f")]
#[inline]
fn remainder(value: __m512d, modulus: f64, reciprocal: f64) -> __m512d {
    // Beside 2^52, doubles are whole numbers: one addition that rounds down is a floor.
    let whole = _mm512_set1_pd((1_u64 << 52) as f64);
    const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    let shifted = _mm512_fmadd_round_pd::<DOWN>(value, _mm512_set1_pd(reciprocal), whole);
    let quotient = _mm512_sub_pd(shifted, whole);
    reduce(_mm512_fnmadd_pd(quotient, _mm512_set1_pd(modulus), value), modulus)
}

/// `value mod modulus` for values below twice the modulus.
#[target_feature(enable = "avx512f")]
#[inline]
fn reduce(value: __m512d, modulus: f64) -> __m512d {
    let modulus = _mm512_set1_pd(modulus);
    let over = _mm512_cmp_pd_mask::<_CMP_GE_OQ>(value, modulus);
    _mm512_mask_sub_pd(value, over, value, modulus)
}

/// Sixteen doubles as floats.
#[target_feature(enable = "avx512f")]
#[inline]
fn join(low: __m512d, high: __m512d) -> __m512 {
    let (low, high) = (_mm512_cvtpd_ps(low), _mm512_cvtpd_ps(high));
    let low = _mm512_castps_pd(_mm512_castps256_ps512(low));
    _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, _mm256_castps_pd(high)))
}
