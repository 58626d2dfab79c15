//! Weights in the order in which a kernel reads them.

use half::bf16;
use mprec_representations::{Activation, Tensor};

use super::Kernel;
use crate::{
    cpu::{buffer::Buffer, gemm},
    error::BackendError,
};

/// Outputs of a vector, and of a panel of two.
pub(super) const LANES: usize = 16;
const PANEL: usize = 2 * LANES;
/// Inputs whose weights to one output lie side by side.
const PAIR: usize = 2;
/// Bytes to which a row of inputs is filled up: whole vectors, so that it can be written by vectors.
const ROW: usize = 64;

/// A layer's parameters, packed for one kernel.
#[derive(Debug)]
pub struct PackedBf16 {
    inputs: usize,
    outputs: usize,
    /// Of one rounded row of inputs.
    row_bytes: usize,
    activation: Activation,
    weights: Packing,
}

#[derive(Debug)]
enum Packing {
    /// Panels of up to 32 outputs, filled up with zeros to whole vectors; within a panel
    /// `[pair of inputs][output][input of the pair]`.
    Pairs { weights: Buffer, bias: Buffer },
    /// As 32-bit floats, for this kernel.
    Widened { layer: gemm::Packed, kernel: gemm::Kernel },
}

/// Weights of a run of outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    /// Its first output.
    pub(super) first: usize,
    /// `[pairs, width, 2]`, the width being that of the bias.
    pub(super) weights: &'a [bf16],
    /// `[width]`, filled up to whole vectors.
    pub(super) bias: &'a [f32],
}

impl PackedBf16 {
    /// Packs `weight`, `[out, in]`, and `bias`, `[out]`, for `kernel`.
    ///
    /// # Errors
    ///
    /// [`BackendError::Memory`].
    ///
    /// # Panics
    ///
    /// If the shapes do not fit.
    pub fn new(
        weight: &Tensor<bf16>,
        bias: &Tensor<f32>,
        activation: Activation,
        kernel: &Kernel,
    ) -> Result<Self, BackendError> {
        let (outputs, inputs) = (weight.rows(), weight.width());
        assert_eq!(bias.shape(), [outputs], "shape of the bias");
        let row_bytes = (inputs.next_multiple_of(PAIR) * kernel.code_bytes).next_multiple_of(ROW);
        let weights = match kernel.widened {
            Some(kernel) => {
                let layer =
                    gemm::Packed::new(&weight.map(bf16::to_f32), bias, activation, &kernel)?;
                Packing::Widened { layer, kernel }
            }
            None => pairs(weight, bias)?,
        };
        Ok(Self { inputs, outputs, row_bytes, activation, weights })
    }

    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of the layer.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// What follows the sums.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.weights {
            Packing::Pairs { weights, bias } => weights.bytes() + bias.bytes(),
            Packing::Widened { layer, .. } => layer.bytes(),
        }
    }

    /// Bytes that a kernel needs to work in for that many rows.
    pub fn scratch(&self, rows: usize) -> usize {
        rows * self.row_bytes
    }

    /// Bytes from a rounded row to the next.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Pairs of inputs, the last of which may be filled up.
    pub(super) fn pairs(&self) -> usize {
        self.inputs.div_ceil(PAIR)
    }

    /// The layer with widened weights, and its kernel.
    ///
    /// # Panics
    ///
    /// If it was packed as pairs.
    pub(super) fn widened(&self) -> (&gemm::Packed, &gemm::Kernel) {
        match &self.weights {
            Packing::Widened { layer, kernel } => (layer, kernel),
            Packing::Pairs { .. } => panic!("packed for another kernel"),
        }
    }

    /// All panels of pairs, from the first output to the last.
    ///
    /// # Panics
    ///
    /// If the weights were widened.
    pub(super) fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let Packing::Pairs { weights, bias } = &self.weights else {
            panic!("packed for another kernel")
        };
        let weights: &[bf16] = bytemuck::cast_slice(weights.as_slice());
        let padded = self.outputs.next_multiple_of(LANES);
        let output = self.pairs() * PAIR;
        (0..padded).step_by(PANEL).map(move |first| {
            let width = PANEL.min(padded - first);
            Panel {
                first,
                weights: &weights[first * output..][..width * output],
                bias: &bias.as_slice()[first..][..width],
            }
        })
    }
}

fn pairs(weight: &Tensor<bf16>, bias: &Tensor<f32>) -> Result<Packing, BackendError> {
    let (outputs, inputs) = (weight.rows(), weight.width());
    let padded = outputs.next_multiple_of(LANES);
    let output_weights = inputs.next_multiple_of(PAIR);
    let count = padded.saturating_mul(output_weights);
    let mut packed = Buffer::zeroed(count.div_ceil(2))?;
    let mut filled = Buffer::zeroed(padded)?;
    filled.as_mut_slice()[..outputs].copy_from_slice(bias.as_slice());
    let weights: &mut [bf16] = bytemuck::cast_slice_mut(packed.as_mut_slice());
    for output in 0..outputs {
        let first = output - output % PANEL;
        let width = PANEL.min(padded - first);
        for (input, &value) in weight.row(output).iter().enumerate() {
            let (pair, within) = (input / PAIR, input % PAIR);
            let at = first * output_weights + (pair * width + output - first) * PAIR + within;
            weights[at] = value;
        }
    }
    Ok(Packing::Pairs { weights: packed, bias: filled })
}
