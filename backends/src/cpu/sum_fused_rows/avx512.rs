//! Sixteen codes at a time; the last ones of a row under a mask.

use std::arch::x86_64::{
    __m512, _mm_and_si128, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_maskz_loadu_epi8,
    _mm_set1_epi8, _mm_srli_epi16, _mm_unpacklo_epi8, _mm512_add_ps, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps,
    _mm512_set1_ps, _mm512_setzero_ps,
};

use mprec_representations::{FusedRows, quant::TAIL};

use crate::cpu::{gemm::lanes, matrix::MatrixMut};

const LANES: usize = 16;

/// See [`GatherRows`](super::GatherRows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) fn gather(table: &FusedRows, rows: &[u64], mut out: MatrixMut<'_>) {
    assert_eq!(rows.len(), out.rows(), "one row each");
    let dim = table.dim();
    for (at, &row) in rows.iter().enumerate() {
        let row = Row::of(table, row);
        let out = out.row(at);
        assert_eq!(out.len(), dim, "width of the output");
        for at in (0..dim).step_by(LANES) {
            let value = _mm512_add_ps(_mm512_setzero_ps(), row.decode(at));
            // SAFETY: the mask has no lane beyond the end of `out`.
            unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), lanes(dim, at), value) };
        }
    }
}

/// See [`SumRows`](super::SumRows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) fn sum(table: &FusedRows, rows: &[u64], weights: Option<&[f32]>, sum: &mut [f32]) {
    let dim = table.dim();
    assert_eq!(sum.len(), dim, "width of the sum");
    for at in (0..dim).step_by(LANES) {
        let mask = lanes(dim, at);
        // SAFETY: the mask has no lane beyond the end of `sum`.
        let mut total = unsafe { _mm512_maskz_loadu_ps(mask, sum.as_ptr().add(at)) };
        for (index, &row) in rows.iter().enumerate() {
            let value = Row::of(table, row).decode(at);
            let weight = weights.map_or(1.0, |weights| weights[index]);
            total = _mm512_add_ps(total, _mm512_mul_ps(_mm512_set1_ps(weight), value));
        }
        // SAFETY: as for the load.
        unsafe { _mm512_mask_storeu_ps(sum.as_mut_ptr().add(at), mask, total) };
    }
}

/// A row's codes, and its scale and bias in every lane.
#[derive(Clone, Copy)]
struct Row<'a> {
    codes: &'a [u8],
    bits: u32,
    scale: __m512,
    bias: __m512,
}

impl<'a> Row<'a> {
    #[target_feature(enable = "avx512f,f16c")]
    #[inline]
    fn of(table: &'a FusedRows, row: u64) -> Self {
        let width = table.bytes().width();
        let row = &table.bytes().as_slice()[row as usize * width..][..width];
        let (codes, tail) = row.split_at(width - TAIL);
        let half = |at: usize| {
            let bits = i32::from(u16::from_le_bytes([tail[at], tail[at + 1]]));
            _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
        };
        let (scale, bias) = (_mm512_set1_ps(half(0)), _mm512_set1_ps(half(2)));
        Self { codes, bits: table.bits(), scale, bias }
    }

    /// Values `at..at + LANES`, as many as there are.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    fn decode(self, at: usize) -> __m512 {
        let codes = if self.bits == 8 {
            let mask = lanes(self.codes.len(), at);
            // SAFETY: the mask has no byte beyond the end of the codes.
            unsafe { _mm_maskz_loadu_epi8(mask, self.codes.as_ptr().add(at).cast()) }
        } else {
            // Two codes a byte, the low half first.
            let mask = lanes(self.codes.len(), at / 2) & 0xff;
            // SAFETY: as above.
            let pairs =
                unsafe { _mm_maskz_loadu_epi8(mask, self.codes.as_ptr().add(at / 2).cast()) };
            let low = _mm_and_si128(pairs, _mm_set1_epi8(15));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(pairs), _mm_set1_epi8(15));
            _mm_unpacklo_epi8(low, high)
        };
        let codes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
        _mm512_add_ps(_mm512_mul_ps(self.scale, codes), self.bias)
    }
}
