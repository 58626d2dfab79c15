//! From a program to calls of shaders: what each reads, and where each value lies.
//!
//! A value that only an interaction reads is written right where the interaction wants it: beside the other vectors.

use std::ops::Range;

use mprec_representations::{
    Activation, Combination, Interaction, LayerWeights, Op, Program, RowIndex, Rows, RowsOf, Slot,
    Transform,
};

use super::{
    batch::{Needs, Picks},
    block::{self, Limits},
    tables,
    types::{Dispatch, Elementwise, Groups, Kernel, Place, Ref, Values, Word},
};
use crate::{error::BackendError, path::BackendKind};

/// What is done for every batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) dispatches: Vec<Dispatch>,
    /// The calls in order, by what they are for: each feature's ids, and the samples at last.
    pub(super) stages: Vec<Stage>,
    pub(super) values: Vec<Values>,
    /// Most rows at a time, of samples and of each feature's ids.
    pub(super) most: block::Most,
    pub(super) needs: Vec<Needs>,
    pub(super) picks: Vec<Picks>,
    pub(super) score: Option<Place>,
}

/// Calls that are made one after the other, for some ids of a feature at a time or for all samples.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) over: RowsOf,
    pub(super) dispatches: Range<usize>,
}

/// Takes the bytes of a parameter and numbers it.
pub(super) type Upload<'a> = dyn FnMut(&[u8]) -> Result<usize, BackendError> + 'a;

struct Planner<'a, 'u> {
    program: &'a Program,
    plan: Plan,
    places: Vec<Option<Place>>,
    /// Of interactions, where their vectors lie side by side, by the slot of their output.
    stacks: Vec<Option<Place>>,
    upload: &'a mut Upload<'u>,
    limits: Limits,
}

impl Plan {
    /// Plans a program, splitting tables and values at their limits.
    pub(super) fn new(
        program: &Program,
        limits: Limits,
        upload: &mut Upload<'_>,
    ) -> Result<Self, BackendError> {
        let plan =
            Self { needs: vec![Needs::default(); program.bounds().len()], ..Self::default() };
        let places = vec![None; program.slots().len()];
        let stacks = places.clone();
        let mut planner = Planner { program, plan, places, stacks, upload, limits };
        planner.place();
        for op in program.ops() {
            planner.op(op)?;
        }
        planner.plan.score = planner.places[program.score().index()];
        planner.plan.most = block::most(&planner.plan.values, program.bounds().len(), limits)?;
        planner.plan.arrange();
        Ok(planner.plan)
    }

    /// Brings the calls for each feature's ids together, before those for samples: they read the batch and each other's
    /// values, and no buffer holds two values, so that nothing else depends on their order.
    fn arrange(&mut self) {
        let rank = |dispatch: &Dispatch| match dispatch.over {
            RowsOf::Ids { feature } => feature,
            RowsOf::Samples => usize::MAX,
        };
        self.dispatches.sort_by_key(rank);
        let mut first = 0;
        for calls in self.dispatches.chunk_by(|one, next| one.over == next.over) {
            let dispatches = first..first + calls.len();
            first = dispatches.end;
            self.stages.push(Stage { over: calls[0].over, dispatches });
        }
    }
}

fn fixed(value: usize) -> Word {
    Word::Fixed(value as u32)
}

fn readers(program: &Program, slot: Slot) -> usize {
    let reads = |op: &Op| match op {
        Op::Linear { input, .. }
        | Op::Affine { input, .. }
        | Op::BagReduce { input, .. }
        | Op::Sigmoid { input, .. } => usize::from(*input == slot),
        Op::Combine { left, right, .. } => usize::from(*left == slot) + usize::from(*right == slot),
        Op::Interact { inputs, .. } | Op::Mean { inputs, .. } => {
            inputs.iter().filter(|&&input| input == slot).count()
        }
        _ => 0,
    };
    program.ops().iter().map(reads).sum::<usize>() + usize::from(program.score() == slot)
}

impl Planner<'_, '_> {
    fn width(&self, slot: Slot) -> usize {
        self.program.slots()[slot.index()].width
    }

    fn rows(&self, slot: Slot) -> RowsOf {
        self.program.slots()[slot.index()].rows
    }

    fn values(&mut self, rows: RowsOf, stride: usize) -> Place {
        self.plan.values.push(Values { rows, stride });
        Place { buffer: Ref::Values(self.plan.values.len() - 1), offset: 0, stride }
    }

    /// Places interactions' inputs, the last first: what it makes may itself be an input of another.
    fn place(&mut self) {
        let dense = self.program.dense();
        let stride = self.width(dense);
        self.places[dense.index()] = Some(Place { buffer: Ref::Batch, offset: 0, stride });
        for op in self.program.ops().iter().rev() {
            let output = self.output(op);
            let Op::Interact { interaction, inputs, .. } = op else { continue };
            let stack = match interaction {
                Interaction::Cat => output,
                Interaction::Dot { .. } => {
                    let width = inputs.iter().map(|&input| self.width(input)).sum();
                    self.values(self.rows(op.output()), width)
                }
            };
            self.stacks[op.output().index()] = Some(stack);
            let mut at = stack.offset;
            for &input in inputs {
                if self.places[input.index()].is_none() && readers(self.program, input) == 1 {
                    self.places[input.index()] = Some(Place { offset: at, ..stack });
                }
                at += self.width(input);
            }
        }
    }

    /// Where the output of an operation lies, in a buffer of its own if nobody wants it elsewhere.
    fn output(&mut self, op: &Op) -> Place {
        let slot = op.output();
        match self.places[slot.index()] {
            Some(place) => place,
            None => {
                let place = self.values(self.rows(slot), self.width(slot));
                self.places[slot.index()] = Some(place);
                place
            }
        }
    }

    fn at(&self, slot: Slot) -> Place {
        self.places[slot.index()].expect("values are made before they are read")
    }

    fn parameter(&mut self, bytes: &[u8]) -> Result<Ref, BackendError> {
        if bytes.len() as u64 > self.limits.binding {
            return Err(BackendError::Memory { backend: BackendKind::Wgpu, bytes: bytes.len() });
        }
        (self.upload)(bytes).map(Ref::Parameter)
    }

    fn op(&mut self, op: &Op) -> Result<(), BackendError> {
        let out = self.output(op);
        let width = self.width(op.output());
        let rows = self.rows(op.output());
        match op {
            Op::BagSum { feature, rows, index, .. } => self.bag_sum(*feature, rows, *index, out)?,
            Op::HashEncode { feature, family, transform, .. } => {
                self.plan.needs[*feature].ids = true;
                let third = self.parameter(&tables::family(family))?;
                let transform = if *transform == Transform::Uniform { 0 } else { 1 };
                let words = vec![
                    Word::Rows(rows),
                    fixed(width),
                    fixed(out.offset),
                    fixed(out.stride),
                    Word::Ids(*feature),
                    fixed(transform),
                ];
                let groups = Groups::Elements { rows, width };
                self.dispatch(Kernel::Hash, [Ref::None, Ref::None, third], out, words, groups);
            }
            Op::Linear { input, weight, bias, activation, .. } => {
                let input = self.at(*input);
                let bias = tables::floats(&[bias]);
                self.linear(input, weight, &bias, *activation, out, rows)?;
            }
            Op::Affine { input, scale, shift, .. } => {
                let third = self.parameter(&tables::floats(&[scale, shift]))?;
                let from = self.at(*input);
                self.elementwise(Elementwise::Affine, from, None, third, out, (rows, width), 1);
            }
            Op::BagReduce { feature, input, .. } => {
                self.plan.needs[*feature].bags = true;
                let from = self.at(*input);
                let words = vec![
                    Word::Rows(rows),
                    fixed(width),
                    fixed(out.offset),
                    fixed(out.stride),
                    Word::Offsets(*feature),
                    fixed(from.offset),
                    fixed(from.stride),
                    Word::Weights(*feature),
                    Word::First,
                    Word::Rows(RowsOf::Ids { feature: *feature }),
                ];
                let refs = [from.buffer, Ref::None, Ref::None];
                let groups = Groups::Elements { rows, width };
                self.dispatch(Kernel::BagReduce, refs, out, words, groups);
                // It sums up what was made of some ids, before the next ones take their place.
                let call = self.plan.dispatches.last_mut().expect("it was just added");
                call.over = RowsOf::Ids { feature: *feature };
            }
            Op::Combine { combination, left, right, .. } => {
                let (from, other) = (self.at(*left), self.at(*right));
                let kind = match combination {
                    Combination::Mult => Elementwise::Product,
                    Combination::Add => Elementwise::Sum,
                    Combination::Concat => {
                        let (first, second) = (self.width(*left), self.width(*right));
                        self.copy(from, out, (rows, first));
                        let out = Place { offset: out.offset + first, ..out };
                        self.copy(other, out, (rows, second));
                        return Ok(());
                    }
                };
                self.elementwise(kind, from, Some(other), Ref::None, out, (rows, width), 1);
            }
            Op::Interact { interaction, inputs, .. } => {
                let stack = self.stacks[op.output().index()].expect("interactions were placed");
                self.interact(*interaction, inputs, stack, out, (rows, width));
            }
            Op::Mean { inputs, .. } => {
                self.copy(self.at(inputs[0]), out, (rows, width));
                for &input in &inputs[1..] {
                    let from = self.at(input);
                    let kind = Elementwise::AddTo;
                    self.elementwise(kind, from, None, Ref::None, out, (rows, width), 1);
                }
                // It reads a value that it does not use: it must be another buffer than the result.
                let from = self.at(inputs[0]);
                let kind = Elementwise::Divide;
                self.elementwise(kind, from, None, Ref::None, out, (rows, width), inputs.len());
            }
            Op::Sigmoid { input, .. } => {
                let from = self.at(*input);
                let kind = Elementwise::Sigmoid;
                self.elementwise(kind, from, None, Ref::None, out, (rows, width), 1);
            }
            other => {
                let what = other.name();
                return Err(BackendError::Unsupported { backend: BackendKind::Wgpu, what });
            }
        }
        Ok(())
    }

    fn bag_sum(
        &mut self,
        feature: usize,
        rows: &Rows,
        index: RowIndex,
        out: Place,
    ) -> Result<(), BackendError> {
        let unsupported =
            BackendError::Unsupported { backend: BackendKind::Wgpu, what: "rows of this format" };
        let (format, row_bytes) = tables::format(rows).ok_or(unsupported)?;
        self.plan.needs[feature].bags = true;
        let picks = Picks { feature, index };
        let which = match self.plan.picks.iter().position(|known| *known == picks) {
            Some(which) => which,
            None => {
                self.plan.picks.push(picks);
                self.plan.picks.len() - 1
            }
        };
        let bytes = tables::bytes(rows);
        for (first, count) in tables::split(rows.len(), row_bytes, self.limits.table) {
            let part = self.parameter(&bytes[first * row_bytes..][..count * row_bytes])?;
            let words = vec![
                Word::Rows(RowsOf::Samples),
                fixed(rows.dim()),
                fixed(out.offset),
                fixed(out.stride),
                Word::Offsets(feature),
                Word::Picks(which),
                Word::Weights(feature),
                fixed(first),
                fixed(count),
                Word::Fixed(format),
                fixed(row_bytes),
                fixed(usize::from(first > 0)),
            ];
            let groups = Groups::Elements { rows: RowsOf::Samples, width: rows.dim() };
            self.dispatch(Kernel::BagSum, [Ref::None, part, Ref::None], out, words, groups);
        }
        Ok(())
    }

    fn linear(
        &mut self,
        from: Place,
        weight: &LayerWeights,
        bias: &[u8],
        activation: Activation,
        out: Place,
        rows: RowsOf,
    ) -> Result<(), BackendError> {
        let (inputs, outputs) = (weight.inputs(), weight.outputs());
        let activation = match activation {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::Sigmoid => 2,
            Activation::Mish => 3,
        };
        let groups = Groups::Tiles { rows, width: outputs };
        let (bits, bytes): (_, &[u8]) = match weight {
            LayerWeights::F32(weight) => (32, bytemuck::cast_slice(weight.as_slice())),
            LayerWeights::BF16(weight) => (16, bytemuck::cast_slice(weight.as_slice())),
            LayerWeights::Int8(weight) => {
                let codes = self.values(rows, inputs + 1);
                let words = vec![
                    Word::Rows(rows),
                    fixed(inputs),
                    fixed(from.offset),
                    fixed(from.stride),
                    fixed(codes.stride),
                    Word::Fixed(f32::NAN.to_bits()),
                ];
                let refs = [from.buffer, Ref::None, Ref::None];
                self.dispatch(Kernel::Quantise, refs, codes, words, Groups::Rows(rows));
                let second = self.parameter(&tables::codes(weight))?;
                let third = [&tables::floats(&[weight.scale()]), bias].concat();
                let third = self.parameter(&third)?;
                let words = vec![
                    Word::Rows(rows),
                    fixed(inputs),
                    fixed(outputs),
                    fixed(codes.stride),
                    fixed(out.offset),
                    fixed(out.stride),
                    Word::Fixed(activation),
                ];
                let refs = [codes.buffer, second, third];
                self.dispatch(Kernel::LinearInt8, refs, out, words, groups);
                return Ok(());
            }
            _ => {
                let what = "layers of this format";
                return Err(BackendError::Unsupported { backend: BackendKind::Wgpu, what });
            }
        };
        let (second, third) = (self.parameter(bytes)?, self.parameter(bias)?);
        let words = vec![
            Word::Rows(rows),
            fixed(inputs),
            fixed(outputs),
            fixed(from.offset),
            fixed(from.stride),
            fixed(out.offset),
            fixed(out.stride),
            Word::Fixed(activation),
            Word::Fixed(bits),
        ];
        self.dispatch(Kernel::Linear, [from.buffer, second, third], out, words, groups);
        Ok(())
    }

    fn interact(
        &mut self,
        interaction: Interaction,
        inputs: &[Slot],
        stack: Place,
        out: Place,
        (rows, width): (RowsOf, usize),
    ) {
        let dim = self.width(inputs[0]);
        let mut at = stack.offset;
        for &input in inputs {
            let from = self.at(input);
            let to = Place { offset: at, ..stack };
            let there = from.buffer == to.buffer && from.offset == to.offset;
            if !there {
                let width = self.width(input);
                self.copy(from, to, (rows, width));
            }
            at += self.width(input);
        }
        let Interaction::Dot { itself } = interaction else { return };
        let words = vec![
            Word::Rows(rows),
            fixed(inputs.len()),
            fixed(dim),
            fixed(stack.stride),
            fixed(out.offset),
            fixed(out.stride),
            fixed(width),
            fixed(usize::from(itself)),
        ];
        let refs = [stack.buffer, Ref::None, Ref::None];
        self.dispatch(Kernel::Dot, refs, out, words, Groups::Elements { rows, width });
    }

    fn copy(&mut self, from: Place, to: Place, shape: (RowsOf, usize)) {
        self.elementwise(Elementwise::Copy, from, None, Ref::None, to, shape, 1);
    }

    #[expect(clippy::too_many_arguments, reason = "as many as the shader has")]
    fn elementwise(
        &mut self,
        kind: Elementwise,
        from: Place,
        other: Option<Place>,
        third: Ref,
        out: Place,
        (rows, width): (RowsOf, usize),
        count: usize,
    ) {
        let words = vec![
            Word::Rows(rows),
            fixed(width),
            fixed(from.offset),
            fixed(from.stride),
            fixed(out.offset),
            fixed(out.stride),
            Word::Fixed(kind as u32),
            fixed(other.map_or(0, |other| other.offset)),
            fixed(other.map_or(0, |other| other.stride)),
            fixed(count),
        ];
        let refs = [from.buffer, other.map_or(Ref::None, |other| other.buffer), third];
        let groups = Groups::Elements { rows, width };
        self.dispatch(Kernel::Elementwise, refs, out, words, groups);
    }

    fn dispatch(
        &mut self,
        kernel: Kernel,
        [source, second, third]: [Ref; 3],
        out: Place,
        words: Vec<Word>,
        groups: Groups,
    ) {
        let result = out.buffer;
        let over = groups.rows();
        self.plan.dispatches.push(Dispatch {
            kernel,
            over,
            source,
            second,
            third,
            result,
            words,
            groups,
        });
    }
}
