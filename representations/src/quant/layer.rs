//! Layers of 8-bit weights and 8-bit inputs.
//!
//! A weight of output `o` is `scale[o] · code`, `code` in −127..=127. A row of inputs is quantised when
//! it arrives, to `step · (code - zero)` with codes in 0..=255, where zero is itself representable: most inputs
//! follow a ReLU, so most rows spend all their codes on positive values. The sum of products is one of
//! integers and therefore exact:
//!
//! `y[o] = (Σ (code_x - zero) · code_w) · (step · scale[o]) + bias[o]`
//!
//! Conversion to float, both products and the sum are each rounded to 32-bit floats, in this order.
//!
//! A row with a value that is not finite, or a range that is not, has no step: its outputs are NaN.

use crate::tensor::Tensor;

/// Most inputs of a layer: more could overflow the 32-bit sum.
pub const MAX_INPUTS: usize = 1 << 16;

/// Quantised weights of a layer. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Int8Weights {
    codes: Tensor<i8>,
    scale: Tensor<f32>,
}

/// What a row of inputs becomes, beside its codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantisedRow {
    /// What one code stands for. NaN for a row that cannot be quantised.
    pub step: f32,
    /// The code of zero.
    pub zero: u8,
}

impl Int8Weights {
    /// Weights as they lie in a file: `codes` is `[out, in]`, `scale` is `[out]`.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit.
    pub fn new(codes: Tensor<i8>, scale: Tensor<f32>) -> Self {
        assert_eq!(scale.shape(), [codes.rows()], "one scale per output");
        Self { codes, scale }
    }

    /// Quantises weights `[out, in]`: the largest of an output's weights becomes code ±127.
    pub fn quantise(weight: &Tensor<f32>) -> Self {
        let (outputs, inputs) = (weight.rows(), weight.width());
        let mut codes = Vec::with_capacity(outputs * inputs);
        let mut scale = Vec::with_capacity(outputs);
        for output in 0..outputs {
            let row = weight.row(output);
            let most = row.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let inverse = 127.0 / most;
            if !inverse.is_finite() {
                // All zeros, or too small to tell from zeros.
                scale.push(0.0);
                codes.resize(codes.len() + inputs, 0);
                continue;
            }
            scale.push(most / 127.0);
            codes.extend(row.iter().map(|x| (x * inverse).round_ties_even() as i8));
        }
        Self::new(Tensor::new(&[outputs, inputs], codes), Tensor::new(&[outputs], scale))
    }

    /// `[out, in]`, each in −127..=127 as made here; −128 is read as it stands.
    pub fn codes(&self) -> &Tensor<i8> {
        &self.codes
    }

    /// `[out]`
    pub fn scale(&self) -> &Tensor<f32> {
        &self.scale
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.scale.bytes()
    }

    /// Weighted sums of a row of inputs with the bias added, one per output.
    ///
    /// # Panics
    ///
    /// If a length is not the layer's.
    pub fn apply(&self, input: &[f32], bias: &[f32], out: &mut [f32]) {
        assert_eq!(input.len(), self.codes.width(), "inputs");
        assert_eq!((bias.len(), out.len()), (self.codes.rows(), self.codes.rows()), "outputs");
        let mut codes = vec![0; input.len()];
        let row = QuantisedRow::quantise(input, &mut codes);
        for (output, out) in out.iter_mut().enumerate() {
            let sum: i32 = codes
                .iter()
                .zip(self.codes.row(output))
                .map(|(&x, &w)| (i32::from(x) - i32::from(row.zero)) * i32::from(w))
                .sum();
            *out = sum as f32 * (row.step * self.scale.as_slice()[output]) + bias[output];
        }
    }
}

impl QuantisedRow {
    /// Quantises a row of inputs.
    ///
    /// # Panics
    ///
    /// If `codes` is not as long as `input`.
    pub fn quantise(input: &[f32], codes: &mut [u8]) -> Self {
        assert_eq!(input.len(), codes.len(), "a code per input");
        let low = input.iter().copied().fold(0.0_f32, f32::min);
        let high = input.iter().copied().fold(0.0_f32, f32::max);
        let finite = input.iter().all(|x| x.is_finite());
        let Some((row, inverse)) = Self::of_range(low, high, finite) else {
            codes.fill(0);
            return Self { step: f32::NAN, zero: 0 };
        };
        for (code, x) in codes.iter_mut().zip(input) {
            let shifted = (x * inverse).round_ties_even() as i32 + i32::from(row.zero);
            *code = shifted.clamp(0, 255) as u8;
        }
        row
    }

    /// Step and zero of a row whose values lie in `low..=high`, which holds 0, and the factor that makes
    /// codes of values. Nothing for a row that cannot be quantised.
    pub fn of_range(low: f32, high: f32, finite: bool) -> Option<(Self, f32)> {
        let range = high - low;
        if !finite || !range.is_finite() {
            return None;
        }
        let step = range / 255.0;
        if step < f32::MIN_POSITIVE {
            // All zeros, or too small to tell from zeros.
            return Some((Self { step: 0.0, zero: 0 }, 0.0));
        }
        let inverse = 1.0 / step;
        let zero = (-low * inverse).round_ties_even().clamp(0.0, 255.0) as u8;
        Some((Self { step, zero }, inverse))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(weights: &[f32], inputs: usize, input: &[f32]) -> Vec<f32> {
        let outputs = weights.len() / inputs;
        let weights = Int8Weights::quantise(&Tensor::new(&[outputs, inputs], weights.to_vec()));
        let mut out = vec![f32::NAN; outputs];
        weights.apply(input, &vec![0.0; outputs], &mut out);
        out
    }

    #[test]
    fn a_row_that_is_not_finite_gives_nan_and_zeros_give_the_bias() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(apply(&[1.0, 1.0], 2, &[bad, 0.0])[0].is_nan());
        }
        assert!(apply(&[1.0, 1.0], 2, &[f32::MAX, f32::MIN])[0].is_nan());
        assert_eq!(apply(&[1.0, 1.0], 2, &[0.0, 0.0]), [0.0]);
        assert_eq!(apply(&[0.0, 0.0], 2, &[1.0, 2.0]), [0.0]);
        assert_eq!(apply(&[1e-45, 0.0], 2, &[1e-40, 0.0]), [0.0]);
    }

    proptest! {
        #[test]
        fn sums_are_off_by_half_a_step_per_factor_at_most(
            (weights, input) in (1..40_usize).prop_flat_map(|inputs| (
                prop::collection::vec(-1.0_f32..1.0, inputs * 3),
                prop::collection::vec(-4.0_f32..4.0, inputs),
            )),
        ) {
            let inputs = input.len();
            let got = apply(&weights, inputs, &input);
            let step = (input.iter().fold(0.0_f32, |a, &x| a.max(x))
                - input.iter().fold(0.0_f32, |a, &x| a.min(x))) / 255.0;
            for (row, got) in weights.chunks_exact(inputs).zip(got) {
                let exact: f64 = row.iter().zip(&input).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                let most = row.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
                let weight_step = most / 127.0;
                // |w·x - w'·x'| <= |w| · step / 2 + |x'| · weight_step / 2; zero is rounded too, which
                // can cost another half step at the ends of the range.
                let bound: f64 = row.iter().zip(&input).map(|(w, x)| f64::from(
                    w.abs() * step + (x.abs() + step) * weight_step / 2.0)).sum();
                prop_assert!((f64::from(got) - exact).abs() <= bound * 1.001 + 1e-6, "{got} {exact} {bound}");
            }
        }
    }
}
