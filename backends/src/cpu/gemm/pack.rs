//! Weights in the order in which a kernel reads them.

use mprec_representations::{Activation, Tensor};

use super::Kernel;
use crate::{cpu::buffer::Buffer, error::BackendError};

/// A layer's parameters, packed for one kernel.
///
/// Weights `[out, in]` are cut into panels of some outputs. Within a panel, the weights that one
/// input has to all its outputs lie side by side: `panel[input][output]`, so that a kernel reads
/// memory strictly forward. Every panel but the last is [`Kernel::panel`] wide; the last one is
/// filled up with zeros to a multiple of [`Kernel::lanes`]. The bias is filled up likewise.
///
/// A single output is a dot product, which wants its weights side by side: it is never filled up.
#[derive(Debug)]
pub struct Packed {
    inputs: usize,
    outputs: usize,
    panel: usize,
    lanes: usize,
    weights: Buffer,
    bias: Buffer,
    activation: Activation,
}

/// Weights of a run of outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    /// Its first output.
    pub(super) first: usize,
    /// Outputs in it, with those filled up.
    pub(super) width: usize,
    /// `[inputs, width]`
    pub(super) weights: &'a [f32],
    /// `[width]`
    pub(super) bias: &'a [f32],
}

impl Packed {
    /// Packs `weight`, `[out, in]`, and `bias`, `[out]`, for `kernel`.
    ///
    /// # Errors
    ///
    /// [`BackendError::Memory`].
    ///
    /// # Panics
    ///
    /// If the shapes are others.
    pub fn new(
        weight: &Tensor<f32>,
        bias: &Tensor<f32>,
        activation: Activation,
        kernel: &Kernel,
    ) -> Result<Self, BackendError> {
        let (outputs, inputs) = (weight.rows(), weight.width());
        assert_eq!(bias.shape(), [outputs], "shape of the bias");
        let lanes = if outputs == 1 { 1 } else { kernel.lanes };
        let padded = outputs.next_multiple_of(lanes);
        let mut packed = Self {
            inputs,
            outputs,
            panel: kernel.panel.min(padded),
            lanes,
            weights: Buffer::zeroed(padded.saturating_mul(inputs))?,
            bias: Buffer::zeroed(padded)?,
            activation,
        };
        packed.bias.as_mut_slice()[..outputs].copy_from_slice(bias.as_slice());
        for output in 0..outputs {
            let first = output - output % packed.panel;
            let width = packed.panel.min(padded - first);
            let panel = &mut packed.weights.as_mut_slice()[first * inputs..][..width * inputs];
            for (input, &weight) in weight.row(output).iter().enumerate() {
                panel[input * width + output - first] = weight;
            }
        }
        Ok(packed)
    }

    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of the layer.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The weights of the only output.
    ///
    /// # Panics
    ///
    /// If there are more.
    pub(super) fn only_row(&self) -> &[f32] {
        assert_eq!(self.outputs, 1, "outputs");
        &self.weights.as_slice()[..self.inputs]
    }

    /// The bias, filled up to whole vectors.
    pub(super) fn bias(&self) -> &[f32] {
        self.bias.as_slice()
    }

    /// What follows the sums.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.weights.bytes() + self.bias.bytes()
    }

    /// All panels, from the first output to the last.
    pub(super) fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let padded = self.outputs.next_multiple_of(self.lanes);
        (0..padded).step_by(self.panel).map(move |first| {
            let width = self.panel.min(padded - first);
            Panel {
                first,
                width,
                weights: &self.weights.as_slice()[first * self.inputs..][..width * self.inputs],
                bias: &self.bias.as_slice()[first..][..width],
            }
        })
    }
}
