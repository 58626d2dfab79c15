//! Weights in the order in which a kernel reads them.

use mprec_representations::{Activation, Int8Weights, Tensor, quant::QuantisedRow};

use super::Kernel;
use crate::{cpu::buffer::Buffer, error::BackendError};

/// Bytes to which a row of codes is filled up: whole vectors, so that it can be written by vectors.
const ROW: usize = 64;

/// A layer's parameters, packed for one kernel.
///
/// Weights `[out, in]` are cut into panels of some outputs. Within a panel, groups of inputs follow one
/// another, and within a group the weights of each output: `panel[group][output][input of the group]`.
/// Inputs and outputs are filled up with zeros.
///
/// The sums of weights are there because `Σ (x - zero) · w = Σ x · w - zero · Σ w`.
#[derive(Debug)]
pub struct PackedInt8 {
    inputs: usize,
    outputs: usize,
    panel: usize,
    group: usize,
    padded_outputs: usize,
    /// Bytes of all weights to one output.
    padded_inputs: usize,
    /// Of one row of codes.
    row_bytes: usize,
    weights: Buffer,
    /// `[padded_outputs]` each: scale, bias, and sum of weights, which are integers.
    scale: Buffer,
    bias: Buffer,
    sums: Buffer,
    activation: Activation,
}

/// Weights of a run of outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    /// Its first output.
    pub(super) first: usize,
    /// Outputs in it, with those filled up.
    pub(super) width: usize,
    /// `[groups, width, group]`, signed.
    pub(super) weights: &'a [u8],
    /// `[width]` each.
    pub(super) scale: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) sums: &'a [i32],
}

impl PackedInt8 {
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
        weight: &Int8Weights,
        bias: &Tensor<f32>,
        activation: Activation,
        kernel: &Kernel,
    ) -> Result<Self, BackendError> {
        let codes = weight.codes();
        let (outputs, inputs) = (codes.rows(), codes.width());
        assert_eq!(bias.shape(), [outputs], "shape of the bias");
        let padded_outputs = outputs.next_multiple_of(kernel.lanes);
        let padded_inputs = inputs.next_multiple_of(kernel.group);
        let bytes = padded_outputs.saturating_mul(padded_inputs);
        let mut packed = Self {
            inputs,
            outputs,
            panel: kernel.panel.min(padded_outputs),
            group: kernel.group,
            padded_outputs,
            padded_inputs,
            row_bytes: (padded_inputs * kernel.code_bytes).next_multiple_of(ROW),
            weights: Buffer::zeroed(bytes.div_ceil(size_of::<f32>()))?,
            scale: Buffer::zeroed(padded_outputs)?,
            bias: Buffer::zeroed(padded_outputs)?,
            sums: Buffer::zeroed(padded_outputs)?,
            activation,
        };
        packed.scale.as_mut_slice()[..outputs].copy_from_slice(weight.scale().as_slice());
        packed.bias.as_mut_slice()[..outputs].copy_from_slice(bias.as_slice());
        let weights: &mut [u8] = bytemuck::cast_slice_mut(packed.weights.as_mut_slice());
        let sums: &mut [i32] = bytemuck::cast_slice_mut(packed.sums.as_mut_slice());
        for (output, sum) in sums[..outputs].iter_mut().enumerate() {
            let row = codes.row(output);
            *sum = row.iter().map(|&code| i32::from(code)).sum();
            let first = output - output % packed.panel;
            let width = packed.panel.min(padded_outputs - first);
            for (input, &code) in row.iter().enumerate() {
                let (group, within) = (input / kernel.group, input % kernel.group);
                let at = first * padded_inputs
                    + (group * width + output - first) * kernel.group
                    + within;
                weights[at] = code as u8;
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

    /// What follows the sums.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        [&self.weights, &self.scale, &self.bias, &self.sums].map(Buffer::bytes).iter().sum()
    }

    /// Bytes that a kernel needs to work in for that many rows.
    pub fn scratch(&self, rows: usize) -> usize {
        rows * self.row_bytes
    }

    /// The output that a sum of products stands for.
    pub(super) fn finish(&self, row: QuantisedRow, sum: i32, panel: &Panel<'_>, at: usize) -> f32 {
        let sum = sum - i32::from(row.zero) * panel.sums[at];
        self.activation.apply(sum as f32 * (row.step * panel.scale[at]) + panel.bias[at])
    }

    /// Bytes from a row of codes to the next.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Groups of inputs, the last of which may be filled up.
    pub(super) fn groups(&self) -> usize {
        self.inputs.div_ceil(self.group)
    }

    /// All panels, from the first output to the last.
    pub(super) fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let weights: &[u8] = bytemuck::cast_slice(self.weights.as_slice());
        let scale = &self.scale.as_slice()[..self.padded_outputs];
        let bias = &self.bias.as_slice()[..self.padded_outputs];
        let sums: &[i32] = &bytemuck::cast_slice(self.sums.as_slice())[..self.padded_outputs];
        (0..self.padded_outputs).step_by(self.panel).map(move |first| {
            let width = self.panel.min(self.padded_outputs - first);
            Panel {
                first,
                width,
                weights: &weights[first * self.padded_inputs..][..width * self.padded_inputs],
                scale: &scale[first..][..width],
                bias: &bias[first..][..width],
                sums: &sums[first..][..width],
            }
        })
    }
}
