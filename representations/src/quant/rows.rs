//! Rows of 8-bit or 4-bit codes, each with its own scale and bias.
//!
//! A row of `d` values in `b` bits is `⌈d·b/8⌉` bytes of codes, then scale and bias as 16-bit floats: the
//! bytes of FBGEMM's fused n-bit row-wise format with half-precision scale and bias. Code `j` lies in byte
//! `⌊j·b/8⌋`, low bits first.
//!
//! `bias = f16(min)`, `scale = f16((max - bias) / (2^b - 1))`, `code = round((x - bias) / scale)`, and
//! `x ≈ scale · code + bias`. Rounding is to even.

use half::f16;

use crate::tensor::Tensor;

/// Bytes of scale and bias after a row's codes.
pub const TAIL: usize = 4;

/// A table whose rows carry their scale and bias. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct FusedRows {
    bytes: Tensor<u8>,
    dim: usize,
    bits: u32,
}

impl FusedRows {
    /// Bytes of a row of `dim` codes of `bits` bits.
    pub fn row_bytes(dim: usize, bits: u32) -> usize {
        // Saturating: the width may come from a hostile manifest and is checked later.
        dim.saturating_mul(bits as usize).div_ceil(8).saturating_add(TAIL)
    }

    /// Rows as they lie in a file: `bytes` is `[rows, row_bytes]`.
    ///
    /// # Panics
    ///
    /// If `bits` is neither 4 nor 8, or the rows are of another width.
    pub fn new(bytes: Tensor<u8>, dim: usize, bits: u32) -> Self {
        assert!(bits == 4 || bits == 8, "codes of {bits} bits");
        assert_eq!(bytes.width(), Self::row_bytes(dim, bits), "bytes of a row");
        Self { bytes, dim, bits }
    }

    /// Quantises the rows of a matrix.
    ///
    /// # Panics
    ///
    /// If `bits` is neither 4 nor 8.
    pub fn quantise(rows: &Tensor<f32>, bits: u32) -> Self {
        let (count, dim) = (rows.rows(), rows.width());
        let width = Self::row_bytes(dim, bits);
        let mut bytes = vec![0; count * width];
        for (at, row) in bytes.chunks_exact_mut(width).enumerate() {
            quantise_row(rows.row(at), bits, row);
        }
        Self::new(Tensor::new(&[count, width], bytes), dim, bits)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.bytes.rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bits of a code: 4 or 8.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// `[rows, row_bytes]`
    pub fn bytes(&self) -> &Tensor<u8> {
        &self.bytes
    }

    /// Scale and bias of row `at`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn scale_and_bias(&self, at: usize) -> (f32, f32) {
        let row = self.bytes.row(at);
        let half = |at: usize| f16::from_le_bytes([row[at], row[at + 1]]).to_f32();
        (half(row.len() - TAIL), half(row.len() - 2))
    }

    /// Value `column` of row `at`: product and sum are rounded one after the other.
    ///
    /// # Panics
    ///
    /// If there is no such value.
    pub fn value(&self, at: usize, column: usize) -> f32 {
        assert!(column < self.dim, "column {column} of {}", self.dim);
        let row = self.bytes.row(at);
        let code = match self.bits {
            8 => row[column],
            _ => row[column / 2] >> (column % 2 * 4) & 15,
        };
        let (scale, bias) = self.scale_and_bias(at);
        scale * f32::from(code) + bias
    }

    /// All rows in full precision, `[rows, dim]`.
    pub fn decode(&self) -> Tensor<f32> {
        let values = (0..self.len())
            .flat_map(|at| (0..self.dim).map(move |column| self.value(at, column)))
            .collect();
        Tensor::new(&[self.len(), self.dim], values)
    }
}

fn quantise_row(row: &[f32], bits: u32, out: &mut [u8]) {
    let most = ((1_u32 << bits) - 1) as f32;
    let min = row.iter().copied().fold(f32::INFINITY, f32::min);
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let bias = f16::from_f32(min);
    let range = max - bias.to_f32();
    let mut scale = if range == 0.0 { f16::ONE } else { f16::from_f32(range / most) };
    // Too small a range underflows to a scale of zero, or its inverse overflows.
    let mut inverse = 1.0 / scale.to_f32();
    if !inverse.is_finite() {
        (scale, inverse) = (f16::ONE, 1.0);
    }
    let codes = out.len() - TAIL;
    out[codes..codes + 2].copy_from_slice(&scale.to_le_bytes());
    out[codes + 2..].copy_from_slice(&bias.to_le_bytes());
    for (column, &x) in row.iter().enumerate() {
        let code = ((x - bias.to_f32()) * inverse).round_ties_even().clamp(0.0, most) as u8;
        match bits {
            8 => out[column] = code,
            _ => out[column / 2] |= code << (column % 2 * 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_those_of_the_fused_format() {
        // Worked by hand for FBGEMM's format; its own tests use these rows.
        let rows = Tensor::new(&[2, 4], vec![1.0, 1.0, 1.0, 1.0, -64.0, -2.75, 61.625, 191.0]);
        let int8 = FusedRows::quantise(&rows, 8);
        assert_eq!(int8.bytes().row(0), [0, 0, 0, 0, 0x00, 0x3c, 0x00, 0x3c]);
        assert_eq!(int8.bytes().row(1), [0x00, 0x3d, 0x7e, 0xff, 0x00, 0x3c, 0x00, 0xd4]);
        let int4 = FusedRows::quantise(&rows, 4);
        assert_eq!(int4.bytes().row(0), [0, 0, 0x00, 0x3c, 0x00, 0x3c]);
        assert_eq!(int4.bytes().row(1), [0x40, 0xf7, 0x40, 0x4c, 0x00, 0xd4]);
    }

    proptest! {
        #[test]
        fn a_value_is_off_by_half_a_step_at_most(
            row in prop::collection::vec(-100.0_f32..100.0, 1..70),
            bits in prop::sample::select(vec![4_u32, 8]),
        ) {
            let rows = Tensor::new(&[1, row.len()], row.clone());
            let quantised = FusedRows::quantise(&rows, bits);
            let (scale, bias) = quantised.scale_and_bias(0);
            // Half a step, what the 16-bit bias lost, and what the 16-bit scale lost over all steps.
            let loss = f16::EPSILON.to_f32();
            let bound = scale / 2.0 + bias.abs() * loss + 255.0 * scale * loss;
            for (column, &x) in row.iter().enumerate() {
                let off = (quantised.value(0, column) - x).abs();
                prop_assert!(off <= bound, "{x} is off by {off}, step {scale}");
            }
        }
    }
}
