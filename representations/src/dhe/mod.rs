//! Deep hash embedding: a vector computed from the id instead of stored for it (Kang et al. 2021,
//! arXiv 2010.10784).
//!
//! 1. **Encode.** `k` universal hashes `((a·id + b) mod p) mod m`, each scaled to `[-1, 1]`.
//! 2. **Decode.** A small MLP, ReLU between its layers, turns those `k` values into `dim` values.
//!
//! The encoder is integer arithmetic and matches bit for bit on every backend; the decoder may
//! reorder its sums, and is held to a relative tolerance. Ids that agree modulo p get the same
//! vector, so p should exceed the largest id.

mod encode;
mod replace;

pub use encode::{HashFamily, MAX_PRIME, MAX_RANGE};
pub(crate) use replace::replace_dhes;
use serde::{Deserialize, Serialize};

use crate::{
    error::ProgramError,
    layer::LayerWeights,
    op::{Activation, Transform},
    program::ProgramBuilder,
    representation::{Cost, Representation, Vectors},
    tensor::Tensor,
    weights::{TensorSpec, Weights, WeightsError},
};

/// A DHE without its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DheSpec {
    /// Number of hashes, k.
    pub hashes: usize,
    /// How hash values become floats.
    #[serde(default)]
    pub transform: Transform,
    /// Widths of the decoder's layers between the code and the vector.
    pub hidden: Vec<usize>,
    /// Width of the vector.
    pub dim: usize,
    /// After the last layer. Between layers it is always ReLU.
    #[serde(default = "sigmoid")]
    pub activation: Activation,
    /// Whether a folded batch normalisation (scale and shift) follows the last activation. One
    /// before an activation needs no flag: it folds into the layer's own weight and bias.
    #[serde(default)]
    pub normalised: bool,
}

/// MP-Rec's artifact ends its decoders with a sigmoid unless told otherwise.
fn sigmoid() -> Activation {
    Activation::Sigmoid
}

impl DheSpec {
    /// Widths of all layers, from the code to the vector.
    pub fn layers(&self) -> Vec<usize> {
        let mut layers = vec![self.hashes];
        layers.extend(&self.hidden);
        layers.push(self.dim);
        layers
    }

    pub(crate) fn tensors(&self, feature: usize) -> Vec<TensorSpec> {
        let mut tensors = vec![HashFamily::tensor(feature, self.hashes)];
        for (at, pair) in self.layers().windows(2).enumerate() {
            let name = format!("dhe_l.dhe_mlps.{feature}.{}", 2 * at);
            tensors.extend(TensorSpec::layer(&name, pair[1], pair[0]));
        }
        if self.normalised {
            for part in ["scale", "shift"] {
                let name = format!("dhe_l.dhe_norms.{feature}.{part}");
                tensors.push(TensorSpec::f32(name, &[self.dim]));
            }
        }
        tensors
    }
}

/// A DHE with its parameters.
#[derive(Debug)]
pub struct Dhe {
    /// The encoder.
    pub family: HashFamily,
    /// Its transform.
    pub transform: Transform,
    /// Weight `[out, in]` and bias `[out]` of every decoder layer.
    pub decoder: Vec<(LayerWeights, Tensor<f32>)>,
    /// After the last layer.
    pub activation: Activation,
    /// Scale and shift after the last activation.
    pub norm: Option<(Tensor<f32>, Tensor<f32>)>,
}

impl Dhe {
    pub(crate) fn load(
        feature: usize,
        spec: &DheSpec,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        let tensors = spec.tensors(feature);
        let family = HashFamily::load(feature, spec.hashes, weights)?;
        let (decoder, norm) = tensors[1..].split_at(2 * (spec.hidden.len() + 1));
        let decoder = decoder
            .chunks_exact(2)
            .map(|pair| Ok((weights.layer(&pair[0])?, weights.f32(&pair[1])?)))
            .collect::<Result<_, WeightsError>>()?;
        let norm = match norm {
            [scale, shift] => Some((weights.f32(scale)?, weights.f32(shift)?)),
            _ => None,
        };
        Ok(Self { family, transform: spec.transform, decoder, activation: spec.activation, norm })
    }
}

impl Representation for Dhe {
    fn name(&self) -> &'static str {
        "dhe"
    }

    fn cost(&self) -> Cost {
        let encoder = self.family.cost(self.transform);
        self.decoder.iter().fold(encoder, |cost, (weight, bias)| {
            cost + Cost {
                bytes: weight.bytes() + bias.bytes(),
                flops_per_id: 2 * weight.outputs() * weight.inputs(),
            }
        })
    }

    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError> {
        let mut slot = program.hash_encode(feature, self.family.clone(), self.transform)?;
        for (at, (weight, bias)) in self.decoder.iter().enumerate() {
            let last = at + 1 == self.decoder.len();
            let activation = if last { self.activation } else { Activation::Relu };
            slot = program.linear(slot, weight.clone(), bias.clone(), activation)?;
        }
        if let Some((scale, shift)) = &self.norm {
            slot = program.affine(slot, scale.clone(), shift.clone())?;
        }
        Ok(Vectors { stored: None, computed: Some(program.bag_reduce(slot)?) })
    }
}

/// A batch normalisation as the scale and shift that remain of it at inference:
/// `scale = γ / √(σ² + ε)`, `shift = β - μ · scale`.
///
/// # Panics
///
/// If the lengths differ.
pub fn fold_batch_norm(
    gamma: &[f32],
    beta: &[f32],
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
) -> (Tensor<f32>, Tensor<f32>) {
    let width = gamma.len();
    for other in [beta, mean, variance] {
        assert_eq!(other.len(), width, "one value per column");
    }
    let scale: Vec<f32> = gamma
        .iter()
        .zip(variance)
        .map(|(gamma, variance)| gamma / (variance + epsilon).sqrt())
        .collect();
    let shift = (0..width).map(|at| beta[at] - mean[at] * scale[at]).collect();
    (Tensor::new(&[width], scale), Tensor::new(&[width], shift))
}
