//! A program readied for this processor.

use mprec_representations::{Combination, Interaction, LayerWeights, Op, Program};

use super::{
    chain::Chain,
    dense::DenseSteps,
    divide::RowPicker,
    gather::{Gather, Lookup, Table},
    gemm::Packed,
    gemm_bf16::PackedBf16,
    gemm_int8::PackedInt8,
    hash_encode::Encoder,
    interaction::Pairs,
    kernels::Kernels,
    layout::{Layout, Limits},
    level::Level,
    place::Place,
    schedule::{Schedule, Stage},
    step::Step,
};
use crate::{error::BackendError, path::BackendKind};

/// Samples in a block, ids in a chunk, and floats of scratch memory.
///
/// A block's activations and one layer's weights should fit the L2 cache together; a block should
/// be large enough for a layer's weights to be read rarely.
const LIMITS: Limits = Limits { block: 128, chunk: 128, floats: 1 << 24 };

/// Everything that a run needs and does not change, shared by all executables of a program.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) kernels: Kernels,
    pub(crate) steps: Vec<Step>,
    pub(crate) score: Place,
    /// What depends on dense values alone.
    pub(crate) dense: DenseSteps,
    /// Samples at once.
    pub(crate) block: usize,
    /// Most ids of a feature at once.
    pub(crate) chunk: usize,
    /// Floats of every scratch buffer.
    pub(crate) buffers: Vec<usize>,
    /// Row numbers of scratch memory.
    pub(crate) numbers: usize,
    /// Floats that interactions work in.
    pub(crate) transposed: usize,
    /// Bytes of quantised inputs.
    pub(crate) codes: usize,
    bytes: usize,
}

impl Plan {
    /// # Errors
    ///
    /// [`BackendError::Unsupported`] for operations and row formats without a kernel,
    /// [`BackendError::Memory`] if packed weights do not fit.
    pub(crate) fn new(program: &Program, level: Level) -> Result<Self, BackendError> {
        let schedule = Schedule::new(program);
        let layout = Layout::new(program, &schedule, LIMITS);
        let score = layout.slots[program.score().index()];
        let mut plan = Self {
            program: program.clone(),
            kernels: Kernels::at(level),
            steps: Vec::new(),
            score,
            dense: DenseSteps::new(&[], score),
            block: layout.block,
            chunk: layout.chunk,
            buffers: layout.buffers.clone(),
            numbers: 0,
            transposed: 0,
            codes: 0,
            bytes: 0,
        };
        for stage in &schedule.stages {
            match stage {
                Stage::Gather(ops) => {
                    let lookups = ops.iter().map(|&at| plan.lookup(at, &layout));
                    let gather = Gather { lookups: lookups.collect::<Result<_, _>>()? };
                    plan.numbers = gather.scratch(layout.block);
                    plan.steps.push(Step::Gather(gather));
                }
                Stage::Chain { feature, ops } => {
                    let mut steps = Vec::new();
                    for &at in ops {
                        plan.lower(at, &layout, &mut steps)?;
                    }
                    let (feature, chunk) = (*feature, layout.chunk);
                    let first_key = first_key(&program.bounds()[..feature]);
                    plan.steps.push(Step::Chain(Chain { feature, steps, chunk, first_key }));
                }
                Stage::One(at) => {
                    let mut steps = std::mem::take(&mut plan.steps);
                    plan.lower(*at, &layout, &mut steps)?;
                    plan.steps = steps;
                }
            }
        }
        plan.dense = DenseSteps::new(&plan.steps, score);
        Ok(plan)
    }

    /// Most floats of what a group shares that are kept from block to block.
    pub(crate) fn kept(&self) -> usize {
        self.dense.width() + self.chains().map(Chain::width).sum::<usize>()
    }

    /// Bytes of parameters: tables where they are, and what was packed.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What runs per id.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.steps.iter().filter_map(|step| match step {
            Step::Chain(chain) => Some(chain),
            _ => None,
        })
    }

    fn lookup(&mut self, at: usize, layout: &Layout) -> Result<Lookup, BackendError> {
        let Op::BagSum { feature, rows, index, output } = &self.program.ops()[at] else {
            unreachable!("the schedule gathers lookups only")
        };
        let Some(table) = Table::new(rows) else {
            return Err(unsupported("bag_sum over this row format"));
        };
        self.bytes += rows.bytes();
        Ok(Lookup {
            feature: *feature,
            table,
            picker: RowPicker::new(*index, self.program.bounds()[*feature]),
            to: layout.slots[output.index()],
        })
    }

    /// Appends the steps of one operation.
    fn lower(
        &mut self,
        at: usize,
        layout: &Layout,
        steps: &mut Vec<Step>,
    ) -> Result<(), BackendError> {
        let place = |slot: &mprec_representations::Slot| layout.slots[slot.index()];
        steps.extend(layout.copies[at].iter().map(|&(from, to)| Step::Copy { from, to }));
        let step = match &self.program.ops()[at] {
            Op::HashEncode { family, transform, output, .. } => {
                let encoder = Encoder::new(family.clone(), *transform);
                self.bytes += encoder.bytes();
                Step::Encode { encoder, to: place(output) }
            }
            Op::Linear { input, weight, bias, activation, output } => {
                let (from, to) = (place(input), place(output));
                match weight {
                    LayerWeights::F32(weight) => {
                        let layer = Packed::new(weight, bias, *activation, &self.kernels.gemm)?;
                        self.bytes += layer.bytes();
                        Step::Linear { layer, from, to }
                    }
                    LayerWeights::BF16(weight) => {
                        let kernel = &self.kernels.gemm_bf16;
                        let layer = PackedBf16::new(weight, bias, *activation, kernel)?;
                        self.bytes += layer.bytes();
                        let rows = layout.block.max(layout.chunk);
                        self.codes = self.codes.max(layer.scratch(rows));
                        Step::LinearBf16 { layer, from, to }
                    }
                    LayerWeights::Int8(weight) => {
                        let kernel = &self.kernels.gemm_int8;
                        let layer = PackedInt8::new(weight, bias, *activation, kernel)?;
                        self.bytes += layer.bytes();
                        let rows = layout.block.max(layout.chunk);
                        self.codes = self.codes.max(layer.scratch(rows));
                        Step::LinearInt8 { layer, from, to }
                    }
                    _ => return Err(unsupported("linear with weights in this format")),
                }
            }
            Op::Affine { input, scale, shift, output } => {
                self.bytes += scale.bytes() + shift.bytes();
                let (scale, shift) = (scale.clone(), shift.clone());
                Step::Affine { scale, shift, from: place(input), to: place(output) }
            }
            Op::PickLargest { input, choices, output } => {
                self.bytes += choices.bytes();
                let choices = choices.clone();
                Step::PickLargest { choices, from: place(input), to: place(output) }
            }
            Op::BagReduce { feature, input, output } => {
                Step::Reduce { feature: *feature, from: place(input), to: place(output) }
            }
            // Both inputs are where the output is.
            Op::Combine { combination: Combination::Concat, .. }
            | Op::Interact { interaction: Interaction::Cat, .. } => return Ok(()),
            Op::Combine { combination, left, right, output } => Step::Combine {
                product: *combination == Combination::Mult,
                left: place(left),
                right: place(right),
                to: place(output),
            },
            Op::Interact { interaction: Interaction::Dot { itself }, inputs, output } => {
                let dim = place(&inputs[0]).width;
                let pairs = Pairs { count: inputs.len(), dim, itself: *itself };
                self.transposed = self.transposed.max(pairs.scratch());
                let from = layout.groups[at].expect("layout makes a group of every interaction");
                Step::Dot { pairs, from, to: place(output) }
            }
            Op::Mean { inputs, output } => {
                Step::Mean { from: inputs.iter().map(place).collect(), to: place(output) }
            }
            Op::Sigmoid { input, output } => {
                Step::Sigmoid { from: place(input), to: place(output) }
            }
            other => return Err(unsupported(other.name())),
        };
        steps.push(step);
        Ok(())
    }
}

/// Sum of the bounds of the features before one, unless its keys would not fit 64 bits.
fn first_key(before: &[u64]) -> Option<u64> {
    before.iter().try_fold(0_u64, |sum, bound| sum.checked_add(*bound))
}

fn unsupported(what: &'static str) -> BackendError {
    BackendError::Unsupported { backend: BackendKind::Cpu, what }
}
