//! The weights of a layer, in the format in which they are stored.

use half::bf16;

use crate::{quant::Int8Weights, tensor::Tensor};

/// Weights `[out, in]` of a layer. Cloning shares them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LayerWeights {
    /// 32-bit floats.
    F32(Tensor<f32>),
    /// The upper halves of 32-bit floats, for inputs that are rounded to as many bits. Products and sums are
    /// those of 32-bit floats, in any order.
    BF16(Tensor<bf16>),
    /// 8-bit codes, for inputs that are quantised to 8 bits as well.
    Int8(Int8Weights),
}

impl LayerWeights {
    /// Outputs and inputs, if the weights are a matrix.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(weight) => weight.shape(),
            Self::BF16(weight) => weight.shape(),
            Self::Int8(weight) => weight.codes().shape(),
        }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.shape()[0]
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.shape()[1..].iter().product()
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(weight) => weight.bytes(),
            Self::BF16(weight) => weight.bytes(),
            Self::Int8(weight) => weight.bytes(),
        }
    }

    /// Weighted sums of a row of inputs with the bias added, one per output: the definition.
    ///
    /// # Panics
    ///
    /// If a length is not the layer's.
    pub fn apply(&self, input: &[f32], bias: &[f32], out: &mut [f32]) {
        match self {
            Self::F32(weight) => {
                for (at, out) in out.iter_mut().enumerate() {
                    let product: f32 = input.iter().zip(weight.row(at)).map(|(x, w)| x * w).sum();
                    *out = product + bias[at];
                }
            }
            Self::BF16(weight) => {
                for (at, out) in out.iter_mut().enumerate() {
                    let pairs = input.iter().zip(weight.row(at));
                    let product: f32 =
                        pairs.map(|(&x, w)| bf16::from_f32(x).to_f32() * w.to_f32()).sum();
                    *out = product + bias[at];
                }
            }
            Self::Int8(weight) => weight.apply(input, bias, out),
        }
    }
}

impl From<Tensor<f32>> for LayerWeights {
    fn from(weight: Tensor<f32>) -> Self {
        Self::F32(weight)
    }
}

impl From<Tensor<bf16>> for LayerWeights {
    fn from(weight: Tensor<bf16>) -> Self {
        Self::BF16(weight)
    }
}

impl From<Int8Weights> for LayerWeights {
    fn from(weight: Int8Weights) -> Self {
        Self::Int8(weight)
    }
}
