//! The operations that representations lower to and backends execute.

use serde::{Deserialize, Serialize};

use crate::{layer::LayerWeights, rows::Rows, tensor::Tensor};

/// A value of a running program: a matrix whose shape is [`SlotShape`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub(crate) usize);

impl Slot {
    /// Its position in [`Program::slots`](crate::Program::slots).
    pub fn index(self) -> usize {
        self.0
    }
}

/// Rows and columns of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotShape {
    /// What one row stands for.
    pub rows: RowsOf,
    /// Values per row.
    pub width: usize,
}

/// What the rows of a slot stand for, which fixes their number once a batch is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsOf {
    /// One row per sample.
    Samples,
    /// One row per id of this sparse feature, in the order of [`Bags::ids`](crate::Bags::ids).
    Ids {
        /// The sparse feature.
        feature: usize,
    },
}

/// How an id picks a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowIndex {
    /// Row `id`.
    Id,
    /// Row `id mod divisor`.
    Remainder {
        /// At least 1.
        divisor: u64,
    },
    /// Row `id div divisor`.
    Quotient {
        /// At least 1.
        divisor: u64,
    },
}

impl RowIndex {
    /// The row that `id` picks.
    #[inline]
    pub fn row(self, id: u64) -> u64 {
        match self {
            Self::Id => id,
            Self::Remainder { divisor } => id % divisor,
            Self::Quotient { divisor } => id / divisor,
        }
    }

    /// Rows that a table needs for ids below `bound`.
    pub fn rows_for(self, bound: u64) -> u64 {
        match self {
            Self::Id => bound,
            Self::Remainder { divisor } => bound.min(divisor),
            Self::Quotient { divisor } => bound.div_ceil(divisor),
        }
    }
}

/// Applied to every value of a layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x · tanh(ln(1 + exp(x)))` (Misra, arXiv 1908.08681)
    Mish,
}

impl Activation {
    /// The activation of one value.
    #[inline]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            // NaN passes through, as it does in PyTorch; `f32::max` would turn it to 0.
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Sigmoid => sigmoid(x),
            // Above 20, `tanh(softplus(x))` is 1 to the last bit and `exp` would overflow.
            Self::Mish => {
                if x > 20.0 {
                    x
                } else {
                    x * x.exp().ln_1p().tanh()
                }
            }
        }
    }
}

/// `1 / (1 + exp(-x))`.
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The position of the largest of `values`, as [`Op::PickLargest`] defines it.
#[inline]
pub fn largest(values: &[f32]) -> usize {
    let mut largest = (0, f32::NEG_INFINITY);
    for (at, &value) in values.iter().enumerate() {
        // False for NaN, and for what is only as large.
        if value > largest.1 {
            largest = (at, value);
        }
    }
    largest.0
}

/// How hash values become inputs of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// `h / (m - 1) · 2 - 1`, in `[-1, 1]`.
    #[default]
    Uniform,
    /// Box–Muller over pairs of `(h + 1) / m`: standard normal values.
    Gaussian,
}

/// How the feature vectors meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Interaction {
    /// The first vector, then the dot products of all pairs below the diagonal, row by row:
    /// (1,0), (2,0), (2,1), … All vectors have one width.
    Dot {
        /// Whether each vector's product with itself is included too.
        #[serde(default)]
        itself: bool,
    },
    /// All vectors, one after the other.
    Cat,
}

impl Interaction {
    /// Width of the result for vectors of these widths, the first being the dense one.
    pub fn width(self, widths: &[usize]) -> usize {
        let vectors = widths.len();
        match self {
            Self::Dot { itself } => {
                widths.first().copied().unwrap_or(0)
                    + vectors * vectors.saturating_sub(1) / 2
                    + if itself { vectors } else { 0 }
            }
            Self::Cat => widths.iter().sum(),
        }
    }
}

/// How two vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combination {
    /// Element by element product.
    Mult,
    /// Element by element sum.
    Add,
    /// One after the other.
    Concat,
}

/// One step of a program. `output` is written, all other slots are read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Op {
    /// Sum of the rows that a bag's ids pick, each times its weight if the batch is weighted. An
    /// empty bag gives zeros. As `torch.nn.EmbeddingBag(mode="sum")`.
    BagSum {
        /// The sparse feature.
        feature: usize,
        /// The rows, at least `index.rows_for(cardinality)` of them.
        rows: Rows,
        /// How an id picks its row.
        index: RowIndex,
        /// `[samples, rows.dim()]`
        output: Slot,
    },
    /// `k` universal hashes of every id, `((a·id + b) mod p) mod m`, transformed to floats.
    HashEncode {
        /// The sparse feature.
        feature: usize,
        /// `[k, 4]`: columns a, b, p, m. See [`HashFamily`](crate::dhe::HashFamily) for their limits.
        family: crate::dhe::HashFamily,
        /// How hash values become floats.
        transform: Transform,
        /// `[ids, k]`
        output: Slot,
    },
    /// `activation(input · weightᵀ + bias)`
    Linear {
        /// `[rows, in]`
        input: Slot,
        /// `[out, in]`
        weight: LayerWeights,
        /// `[out]`
        bias: Tensor<f32>,
        /// Applied element by element.
        activation: Activation,
        /// `[rows, out]`
        output: Slot,
    },
    /// `input · scale + shift`, per column: a batch normalisation folded to what inference needs.
    Affine {
        /// `[rows, width]`
        input: Slot,
        /// `[width]`
        scale: Tensor<f32>,
        /// `[width]`
        shift: Tensor<f32>,
        /// `[rows, width]`
        output: Slot,
    },
    /// The row whose number is the position of the largest element, the lowest of those that are as large. A NaN is
    /// never the largest; where nothing exceeds negative infinity, it is row 0.
    PickLargest {
        /// `[rows, choices]`
        input: Slot,
        /// `[choices, width]`
        choices: Tensor<f32>,
        /// `[rows, width]`
        output: Slot,
    },
    /// Sums the rows of each bag's ids, each times its weight if the batch is weighted.
    BagReduce {
        /// The sparse feature.
        feature: usize,
        /// `[ids, width]`
        input: Slot,
        /// `[samples, width]`
        output: Slot,
    },
    /// Two slots become one.
    Combine {
        /// How.
        combination: Combination,
        /// `[rows, width]`
        left: Slot,
        /// `[rows, width]`
        right: Slot,
        /// `[rows, width]`, for `Concat` the sum of both widths.
        output: Slot,
    },
    /// Feature vectors meet; see [`Interaction`].
    Interact {
        /// How.
        interaction: Interaction,
        /// `[samples, width]` each, the dense one first.
        inputs: Vec<Slot>,
        /// `[samples, interaction.width(…)]`
        output: Slot,
    },
    /// The mean of the inputs, element by element.
    Mean {
        /// `[rows, width]` each, at least one.
        inputs: Vec<Slot>,
        /// `[rows, width]`
        output: Slot,
    },
    /// `1 / (1 + exp(-x))`, element by element.
    Sigmoid {
        /// `[rows, width]`
        input: Slot,
        /// `[rows, width]`
        output: Slot,
    },
}

impl Op {
    /// The slot it writes.
    pub fn output(&self) -> Slot {
        match self {
            Self::BagSum { output, .. }
            | Self::HashEncode { output, .. }
            | Self::Linear { output, .. }
            | Self::Affine { output, .. }
            | Self::PickLargest { output, .. }
            | Self::BagReduce { output, .. }
            | Self::Combine { output, .. }
            | Self::Interact { output, .. }
            | Self::Mean { output, .. }
            | Self::Sigmoid { output, .. } => *output,
        }
    }

    /// The slots it reads.
    pub fn inputs(&self) -> Vec<Slot> {
        match self {
            Self::BagSum { .. } | Self::HashEncode { .. } => Vec::new(),
            Self::Linear { input, .. }
            | Self::Affine { input, .. }
            | Self::PickLargest { input, .. }
            | Self::BagReduce { input, .. }
            | Self::Sigmoid { input, .. } => vec![*input],
            Self::Combine { left, right, .. } => vec![*left, *right],
            Self::Interact { inputs, .. } | Self::Mean { inputs, .. } => inputs.clone(),
        }
    }

    /// Its name, for errors and listings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BagSum { .. } => "bag_sum",
            Self::HashEncode { .. } => "hash_encode",
            Self::Linear { .. } => "linear",
            Self::Affine { .. } => "affine",
            Self::PickLargest { .. } => "pick_largest",
            Self::BagReduce { .. } => "bag_reduce",
            Self::Combine { .. } => "combine",
            Self::Interact { .. } => "interact",
            Self::Mean { .. } => "mean",
            Self::Sigmoid { .. } => "sigmoid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_the_first_of_equals_and_never_a_nan() {
        let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
        for (values, expected) in [
            (&[1.0, 3.0, 2.0][..], 1),
            (&[2.0, 3.0, 3.0], 1),
            (&[-0.0, 0.0], 0),
            (&[nan, -5.0, nan, -4.0], 3),
            (&[low, nan, low], 0),
            (&[nan], 0),
            (&[0.0, f32::INFINITY, f32::INFINITY], 1),
        ] {
            assert_eq!(largest(values), expected, "{values:?}");
        }
    }
}
