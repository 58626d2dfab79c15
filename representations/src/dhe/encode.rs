//! The hash family of an encoder, and its transform to floats.

use std::f32::consts::TAU;

use crate::{
    error::ProgramError,
    op::Transform,
    representation::Cost,
    tensor::Tensor,
    weights::{TensorSpec, Weights, WeightsError},
};

/// Largest modulus p. Products of two residues then stay below 2^62, so 64-bit arithmetic is exact.
pub const MAX_PRIME: i64 = 1 << 31;

/// Largest range m. Hash values below it are exact as 32-bit floats.
pub const MAX_RANGE: i64 = 1 << 24;

/// `k` universal hashes `h(x) = ((a·x + b) mod p) mod m` (Carter and Wegman 1979), proved to be
/// within the limits that make 64-bit arithmetic exact. Cloning shares the parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct HashFamily {
    parameters: Tensor<i64>,
}

impl HashFamily {
    /// A family from its parameters `[k, 4]`, columns a, b, p, m.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Shape`] or [`ProgramError::Hash`] when the parameters are outside
    /// `1 ≤ a < p`, `0 ≤ b < p`, `2 ≤ p ≤ 2^31`, `2 ≤ m ≤ 2^24`.
    pub fn new(parameters: Tensor<i64>) -> Result<Self, ProgramError> {
        let shape = parameters.shape();
        if shape.len() != 2 || shape[1] != 4 || shape[0] == 0 {
            return Err(ProgramError::Shape {
                op: "hash_encode",
                expected: "parameters [k, 4]".into(),
                got: shape.to_vec(),
            });
        }
        for at in 0..parameters.rows() {
            let [a, b, p, m] = *parameters.row(at) else { unreachable!("rows have four columns") };
            let fits = (2..=MAX_PRIME).contains(&p)
                && (1..p).contains(&a)
                && (0..p).contains(&b)
                && (2..=MAX_RANGE).contains(&m);
            if !fits {
                return Err(ProgramError::Hash { at, a, b, p, m });
            }
        }
        Ok(Self { parameters })
    }

    /// The tensor of the parameters for `feature`.
    pub(crate) fn tensor(feature: usize, hashes: usize) -> TensorSpec {
        TensorSpec::new::<i64>(format!("dhe_l.hash_params.{feature}"), &[hashes, 4])
    }

    pub(crate) fn load(
        feature: usize,
        hashes: usize,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        let tensor = Self::tensor(feature, hashes);
        Self::new(weights.typed(&tensor)?).map_err(|source| WeightsError::Hashes {
            tensor: tensor.name,
            source: Box::new(source),
        })
    }

    /// Refuses a transform that these hashes cannot have.
    pub(crate) fn check(&self, feature: usize, transform: Transform) -> Result<(), ProgramError> {
        if transform == Transform::Gaussian && !self.len().is_multiple_of(2) {
            return Err(ProgramError::OddHashes { feature, hashes: self.len() });
        }
        Ok(())
    }

    /// What it costs to encode.
    pub(crate) fn cost(&self, transform: Transform) -> Cost {
        let per_hash = match transform {
            Transform::Uniform => 8,
            Transform::Gaussian => 14,
        };
        Cost { bytes: self.bytes(), flops_per_id: self.len() * per_hash }
    }

    /// Number of hashes, k.
    pub fn len(&self) -> usize {
        self.parameters.rows()
    }

    /// Always false: a family has at least one hash.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The parameters, `[k, 4]`: columns a, b, p, m.
    pub fn parameters(&self) -> &Tensor<i64> {
        &self.parameters
    }

    /// Size of the parameters.
    pub fn bytes(&self) -> usize {
        self.parameters.bytes()
    }

    /// Hash `at` of `id`, in `0..m`.
    #[inline]
    pub fn hash(&self, at: usize, id: u64) -> u64 {
        let row = self.parameters.row(at);
        let [a, b, p, m] = [row[0] as u64, row[1] as u64, row[2] as u64, row[3] as u64];
        // (a·x + b) mod p is the same for x and x mod p, and only the latter cannot overflow.
        (a * (id % p) + b) % p % m
    }

    /// The code of `id`: all hashes, transformed.
    ///
    /// The operations are single-precision and in PyTorch's order, so that codes match it: uniform
    /// `h / (m - 1) · 2 - 1`; Gaussian, for `v = (h + 1) / m` in pairs `(i, i + 1)`,
    /// `√(-2 ln vᵢ) · cos(2π vᵢ₊₁)` and `… · sin(2π vᵢ₊₁)` (Box and Muller 1958).
    ///
    /// # Panics
    ///
    /// If `codes` does not hold one value per hash, or the transform is Gaussian and `k` is odd.
    pub fn encode(&self, id: u64, transform: Transform, codes: &mut [f32]) {
        assert_eq!(codes.len(), self.len(), "one value per hash");
        let range = |at: usize| self.parameters.row(at)[3];
        match transform {
            Transform::Uniform => {
                for (at, code) in codes.iter_mut().enumerate() {
                    *code = self.hash(at, id) as f32 / (range(at) - 1) as f32 * 2.0 - 1.0;
                }
            }
            Transform::Gaussian => {
                assert!(codes.len().is_multiple_of(2), "pairs of hashes");
                let value = |at| (self.hash(at, id) + 1) as f32 / range(at) as f32;
                for (pair, code) in codes.chunks_exact_mut(2).enumerate() {
                    let radius = (-2.0 * value(2 * pair).ln()).sqrt();
                    let angle = TAU * value(2 * pair + 1);
                    code[0] = radius * angle.cos();
                    code[1] = radius * angle.sin();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn family(rows: &[[i64; 4]]) -> Result<HashFamily, ProgramError> {
        HashFamily::new(Tensor::new(&[rows.len(), 4], rows.concat()))
    }

    #[test]
    fn parameters_outside_the_exact_range_are_refused() {
        assert!(family(&[[1, 0, 1_000_003, 1_000_000]]).is_ok());
        for bad in [
            [0, 0, 7, 5],
            [7, 0, 7, 5],
            [1, 7, 7, 5],
            [1, -1, 7, 5],
            [1, 0, MAX_PRIME + 1, 5],
            [1, 0, 7, 1],
            [1, 0, 7, MAX_RANGE + 1],
        ] {
            assert!(matches!(family(&[bad]), Err(ProgramError::Hash { at: 0, .. })), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn hashes_match_wide_arithmetic(
            (p, a, b) in (2..=MAX_PRIME).prop_flat_map(|p| (Just(p), 1..p, 0..p)),
            m in 2..=MAX_RANGE,
            id in any::<u64>(),
        ) {
            let wide = (a as u128 * u128::from(id) + b as u128) % p as u128 % m as u128;
            prop_assert_eq!(u128::from(family(&[[a, b, p, m]]).unwrap().hash(0, id)), wide);
        }

        #[test]
        fn uniform_codes_lie_in_minus_one_to_one(id in any::<u64>()) {
            let family = family(&[[123_457, 77, 1_000_003, 1_000_000]]).unwrap();
            let mut code = [0.0];
            family.encode(id, Transform::Uniform, &mut code);
            prop_assert!((-1.0..=1.0).contains(&code[0]));
        }
    }
}
