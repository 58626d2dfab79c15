//! One step of a plan.

use std::ops::Range;

use mprec_representations::{Tensor, op::sigmoid};

use super::{
    chain::Chain, executable::Scratch, gather::Gather, gemm::Packed, gemm_bf16::PackedBf16,
    gemm_int8::PackedInt8, hash_encode::Encoder, input::Input, interaction::Pairs,
    kernels::Kernels, pick_largest::largest, place::Place,
};

/// One step: what to do, from where, to where.
#[derive(Debug)]
pub(crate) enum Step {
    /// All lookups.
    Gather(Gather),
    /// All steps over the ids of a feature.
    Chain(Chain),
    /// Codes of ids.
    Encode { encoder: Encoder, to: Place },
    /// A layer.
    Linear { layer: Packed, from: Place, to: Place },
    /// A layer of 16-bit weights.
    LinearBf16 { layer: PackedBf16, from: Place, to: Place },
    /// A layer of 8-bit weights.
    LinearInt8 { layer: PackedInt8, from: Place, to: Place },
    /// `x · scale + shift`, per column.
    Affine { scale: Tensor<f32>, shift: Tensor<f32>, from: Place, to: Place },
    /// The row of the largest element.
    PickLargest { choices: Tensor<f32>, from: Place, to: Place },
    /// Sums over the bags of a feature, added to what is there.
    Reduce { feature: usize, from: Place, to: Place },
    /// Element by element, `left · right` or `left + right`.
    Combine { product: bool, left: Place, right: Place, to: Place },
    /// A slot to a second place.
    Copy { from: Place, to: Place },
    /// Products of all pairs.
    Dot { pairs: Pairs, from: Place, to: Place },
    /// Element by element.
    Mean { from: Vec<Place>, to: Place },
    /// Element by element.
    Sigmoid { from: Place, to: Place },
}

/// What part of the batch a step works on.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    /// Samples of the batch, or groups where a step works on what those share. Never empty.
    pub(crate) samples: Range<usize>,
    /// Groups of these samples, for a step that leads from those to these.
    pub(crate) groups: Range<usize>,
    /// Rows that a step has: samples, or distinct ids in a chain.
    pub(crate) rows: usize,
    /// In a chain: what the rows stand for.
    pub(crate) ids: Ids<'a>,
}

/// The part of a feature's ids that a chain works on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids<'a> {
    /// Positions among the feature's ids.
    pub(crate) chunk: Range<usize>,
    /// The bag that the first of them is in.
    pub(crate) bag: usize,
    /// The distinct ids: one row each.
    pub(crate) distinct: &'a [u64],
    /// The row of each id.
    pub(crate) rows: &'a [u16],
}

impl Step {
    pub(crate) fn run(
        &self,
        input: Input<'_>,
        now: &Now<'_>,
        kernels: &Kernels,
        scratch: &mut Scratch,
    ) {
        let to = match self {
            Self::Gather(gather) => {
                return gather.run(input, now, kernels, scratch);
            }
            Self::Chain(chain) => return chain.run(input, now, kernels, scratch),
            Self::Copy { from, to } if from.buffer == to.buffer => {
                let data = scratch.buffers[to.target()].as_mut_slice();
                for row in 0..now.rows {
                    let from = row * from.stride + from.offset;
                    data.copy_within(from..from + to.width, row * to.stride + to.offset);
                }
                return;
            }
            Self::Encode { to, .. }
            | Self::Linear { to, .. }
            | Self::LinearBf16 { to, .. }
            | Self::LinearInt8 { to, .. }
            | Self::Affine { to, .. }
            | Self::PickLargest { to, .. }
            | Self::Reduce { to, .. }
            | Self::Combine { to, .. }
            | Self::Copy { to, .. }
            | Self::Dot { to, .. }
            | Self::Mean { to, .. }
            | Self::Sigmoid { to, .. } => *to,
        };
        // The output is taken out, so that the other buffers can be read while it is written.
        let mut taken = std::mem::take(&mut scratch.buffers[to.target()]);
        self.compute(input, now, kernels, scratch, (to, &mut taken));
        scratch.buffers[to.target()] = taken;
    }

    /// Places that it reads. What runs per id reads what it wrote itself, and ids.
    pub(crate) fn inputs(&self) -> Vec<Place> {
        match self {
            Self::Gather(_) | Self::Chain(_) | Self::Encode { .. } | Self::Reduce { .. } => {
                Vec::new()
            }
            Self::Linear { from, .. }
            | Self::LinearBf16 { from, .. }
            | Self::LinearInt8 { from, .. }
            | Self::Affine { from, .. }
            | Self::PickLargest { from, .. }
            | Self::Copy { from, .. }
            | Self::Dot { from, .. }
            | Self::Sigmoid { from, .. } => vec![*from],
            Self::Combine { left, right, .. } => vec![*left, *right],
            Self::Mean { from, .. } => from.clone(),
        }
    }

    /// Places that it writes.
    pub(crate) fn outputs(&self) -> Vec<Place> {
        match self {
            Self::Gather(gather) => gather.lookups.iter().map(|lookup| lookup.to).collect(),
            Self::Chain(chain) => chain.steps.iter().flat_map(Self::outputs).collect(),
            Self::Encode { to, .. }
            | Self::Linear { to, .. }
            | Self::LinearBf16 { to, .. }
            | Self::LinearInt8 { to, .. }
            | Self::Affine { to, .. }
            | Self::PickLargest { to, .. }
            | Self::Reduce { to, .. }
            | Self::Combine { to, .. }
            | Self::Copy { to, .. }
            | Self::Dot { to, .. }
            | Self::Mean { to, .. }
            | Self::Sigmoid { to, .. } => vec![*to],
        }
    }

    fn compute(
        &self,
        input: Input<'_>,
        now: &Now<'_>,
        kernels: &Kernels,
        scratch: &mut Scratch,
        (to, taken): (Place, &mut super::buffer::Buffer),
    ) {
        let Scratch { buffers, transposed, codes, .. } = scratch;
        let dense = input.dense_from(now.samples.start);
        let read = |place: &Place| place.read(buffers, dense, now.rows);
        let out_rows =
            if matches!(self, Self::Reduce { .. }) { now.samples.len() } else { now.rows };
        let mut out = to.write(taken, out_rows);
        match self {
            Self::Gather(_) | Self::Chain(_) => unreachable!("`run` returns before this"),
            Self::Encode { encoder, .. } => {
                (kernels.hash_encode.encode)(encoder, now.ids.distinct, out);
            }
            Self::Linear { layer, from, .. } => {
                (kernels.gemm.multiply)(read(from), layer, out);
            }
            Self::LinearBf16 { layer, from, .. } => {
                let codes = bytemuck::cast_slice_mut(codes.as_mut_slice());
                (kernels.gemm_bf16.multiply)(read(from), layer, codes, out);
            }
            Self::LinearInt8 { layer, from, .. } => {
                let codes = bytemuck::cast_slice_mut(codes.as_mut_slice());
                (kernels.gemm_int8.multiply)(read(from), layer, codes, out);
            }
            Self::Affine { scale, shift, from, .. } => {
                let from = read(from);
                let (scale, shift) = (scale.as_slice(), shift.as_slice());
                for row in 0..now.rows {
                    let (x, out) = (from.row(row), out.row(row));
                    for (at, out) in out.iter_mut().enumerate() {
                        *out = x[at] * scale[at] + shift[at];
                    }
                }
            }
            Self::PickLargest { choices, from, .. } => {
                let from = read(from);
                for row in 0..now.rows {
                    out.row(row).copy_from_slice(choices.row(largest(from.row(row))));
                }
            }
            Self::Reduce { feature, from, .. } => {
                let (from, bags) = (read(from), input.bags(*feature));
                let mut bag = now.ids.bag;
                for (&row, id) in now.ids.rows.iter().zip(now.ids.chunk.clone()) {
                    while bags.range(bag).end <= id {
                        bag += 1;
                    }
                    let weight = bags.weights().map_or(1.0, |weights| weights[id]);
                    let sum = out.row(bag - now.samples.start);
                    for (sum, x) in sum.iter_mut().zip(from.row(usize::from(row))) {
                        *sum += weight * x;
                    }
                }
            }
            Self::Combine { product, left, right, .. } => {
                let (left, right) = (read(left), read(right));
                for row in 0..now.rows {
                    let pairs = left.row(row).iter().zip(right.row(row));
                    for (out, (x, y)) in out.row(row).iter_mut().zip(pairs) {
                        *out = if *product { x * y } else { x + y };
                    }
                }
            }
            Self::Copy { from, .. } => {
                let from = read(from);
                for row in 0..now.rows {
                    out.row(row).copy_from_slice(from.row(row));
                }
            }
            Self::Dot { pairs, from, .. } => {
                (kernels.interaction.dot)(read(from), *pairs, transposed.as_mut_slice(), out);
            }
            Self::Mean { from, .. } => {
                for row in 0..now.rows {
                    let out = out.row(row);
                    out.fill(0.0);
                    for from in from {
                        for (sum, x) in out.iter_mut().zip(read(from).row(row)) {
                            *sum += x;
                        }
                    }
                    for sum in out {
                        *sum /= from.len() as f32;
                    }
                }
            }
            Self::Sigmoid { from, .. } => {
                let from = read(from);
                for row in 0..now.rows {
                    for (out, &x) in out.row(row).iter_mut().zip(from.row(row)) {
                        *out = sigmoid(x);
                    }
                }
            }
        }
    }
}
