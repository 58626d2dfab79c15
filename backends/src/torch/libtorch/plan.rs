//! What is decided once: operations that are alike and independent become one step.
//!
//! A model has one decoder per feature, mostly of one shape. With one id per sample their inputs are equally many, so each
//! layer of all of them is one batched product, each hash one operation, and the values `[features, samples, width]` of a
//! group stay together on their way to the interaction. With bags, features have ids in different numbers, and the members of a
//! group run one after another on the same parameters.

use mprec_representations::{
    Activation, Combination, Interaction, LayerWeights, Op, Program, RowIndex, Rows, RowsOf,
    SlotShape, Tensor as Parameter, Transform,
};
use tch::{Device, TchError};

use super::{
    affine::Affine,
    constant::Uploader,
    encode::Encode,
    layer::{self, Layers},
    lookup::{self, Lookup, extent},
    meet::{Meet, Pieces},
};
use crate::{error::BackendError, path::BackendKind};

/// Bytes of values that a part of a batch may need at a time, estimated: parts of a CPU should stay near its caches, a GPU
/// wants parts that fill it.
const SCRATCH: [usize; 2] = [64 << 20, 512 << 20];

/// Most samples of a part.
const MOST: [usize; 2] = [1024, 8192];

/// Most ids of a feature in a part of several samples.
const MOST_IDS: usize = 1 << 16;

/// A program as libtorch runs it.
#[derive(Debug)]
pub(super) struct Plan {
    // Declared, and dropped, before the program whose parameters they read.
    pub(super) groups: Vec<Group>,
    pub(super) places: Vec<Place>,
    pub(super) program: Program,
    pub(super) device: Device,
    /// Most samples that run at a time.
    pub(super) block: usize,
    /// Most ids of a feature that run at a time, but for a single sample that has more.
    pub(super) ids: usize,
    /// Parameters, and values of one block.
    pub(super) bytes: usize,
}

/// Operations that run as one.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) step: Step,
    pub(super) members: Vec<Member>,
    /// Where a group of several finds its inputs, with one id per sample.
    pub(super) source: Source,
    /// Values that nobody reads after it, with one id per sample and with bags.
    pub(super) done: [Done; 2],
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) inputs: Vec<usize>,
    pub(super) output: usize,
    /// The sparse feature whose ids it reads, if it does.
    pub(super) feature: usize,
}

#[derive(Debug)]
pub(super) enum Step {
    Lookup(Lookup),
    Encode(Encode),
    Layers(Layers),
    Affine(Affine),
    Reduce,
    Combine(Combination),
    Meet(Meet),
    Mean,
    Sigmoid,
}

#[derive(Debug)]
pub(super) enum Source {
    /// All outputs of this group, in their order.
    Group(usize),
    /// Any slots, to be put together.
    Slots,
}

/// Where a slot's value is, with one id per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// By itself, under the number of this slot.
    Slot(usize),
    /// One of the outputs of a group of several.
    Member { group: usize, at: usize },
}

/// Slots and groups whose values are given up.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) slots: Vec<usize>,
    pub(super) groups: Vec<usize>,
}

/// What operations must share to be one group.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Likeness {
    Lookup { format: lookup::Format, dim: usize, index: std::mem::Discriminant<RowIndex> },
    Encode { transform: Transform, hashes: usize },
    Layer { format: layer::Format, inputs: usize, outputs: usize, activation: Activation },
    Affine { width: usize },
    Reduce { width: usize },
    Alone(usize),
}

impl Plan {
    /// # Errors
    ///
    /// [`BackendError::Unsupported`] if the program holds what is not known here; [`BackendError::Memory`] if the device has
    /// no room for its parameters.
    pub(super) fn new(
        program: &Program,
        backend: BackendKind,
        device: Device,
    ) -> Result<Self, BackendError> {
        let gatherings = gather(program, backend, device)?;
        let mut uploader = Uploader { device, bytes: 0 };
        // SAFETY: the plan keeps a clone of the program, which shares its parameters, and drops it after the groups.
        // Parameters are never written to.
        let made = unsafe { Self::steps(program, &gatherings, &mut uploader) };
        let (groups, places) =
            made.map_err(|error| super::error::not_prepared(backend, uploader.bytes, error))?;
        let mut plan = Self {
            groups,
            places,
            program: program.clone(),
            device,
            block: 0,
            ids: MOST_IDS,
            bytes: 0,
        };
        plan.free();
        let gpu = usize::from(device != Device::Cpu);
        let per_sample = plan.peak();
        plan.block = (SCRATCH[gpu] / per_sample.max(1)).clamp(16, MOST[gpu]);
        plan.bytes = uploader.bytes.max(program.bytes()) + plan.block * per_sample;
        Ok(plan)
    }

    /// # Safety
    ///
    /// The program's parameters must stay where they are, unchanged, as long as the steps live.
    unsafe fn steps(
        program: &Program,
        gatherings: &[Vec<usize>],
        uploader: &mut Uploader,
    ) -> Result<(Vec<Group>, Vec<Place>), TchError> {
        let mut places: Vec<Place> = (0..program.slots().len()).map(Place::Slot).collect();
        let mut groups = Vec::with_capacity(gatherings.len());
        for (group, ops) in gatherings.iter().enumerate() {
            let ops: Vec<&Op> = ops.iter().map(|&op| &program.ops()[op]).collect();
            let members: Vec<Member> = ops.iter().map(|op| member(op)).collect();
            let sources: Vec<Place> =
                members.iter().filter_map(|of| Some(places[*of.inputs.first()?])).collect();
            // SAFETY: as this function asks.
            let step = unsafe { step(&ops, program, &places, &groups, uploader) }?;
            let reduces = matches!(step, Step::Reduce);
            for (at, member) in members.iter().enumerate() {
                places[member.output] = match members.len() {
                    // With one id per sample, the sum of a bag is its only row.
                    _ if reduces => places[member.inputs[0]],
                    1 => Place::Slot(member.output),
                    _ => Place::Member { group, at },
                };
            }
            let source = source(&sources, &groups);
            groups.push(Group { step, members, source, done: Default::default() });
        }
        Ok((groups, places))
    }

    /// Finds after which group each value is read no more.
    fn free(&mut self) {
        let score = self.program.score().index();
        let slots = self.places.len();
        // By slot, and by slot and group with one id per sample.
        let (mut bags, mut slot, mut group) =
            (vec![0; slots], vec![0; slots], vec![0; self.groups.len()]);
        for (now, step) in self.groups.iter().enumerate() {
            for member in &step.members {
                for &read in member.inputs.iter().chain([&member.output]) {
                    bags[read] = now;
                    match self.places[read] {
                        Place::Slot(at) => slot[at] = now,
                        Place::Member { group: at, .. } => group[at] = now,
                    }
                }
            }
        }
        for at in (0..slots).filter(|&at| at != score) {
            self.groups[bags[at]].done[1].slots.push(at);
            if self.places[at] == Place::Slot(at) {
                self.groups[slot[at]].done[0].slots.push(at);
            }
        }
        for (at, last) in group.into_iter().enumerate() {
            self.groups[last].done[0].groups.push(at);
        }
    }

    /// Bytes per sample of all values that live at once, with one id per sample, where they are most.
    fn peak(&self) -> usize {
        let bytes = |slot: usize| 4 * self.program.slots()[slot].width;
        let (mut now, mut most) = (bytes(0), 0);
        for group in &self.groups {
            let outputs: usize = match group.step {
                Step::Reduce => 0,
                _ => group.members.iter().map(|member| bytes(member.output)).sum(),
            };
            let temporary = match &group.step {
                Step::Lookup(lookup) => lookup.scratch(),
                Step::Encode(encode) => encode.scratch(),
                Step::Layers(layers) => layers.scratch(),
                Step::Meet(meet) => meet.scratch(),
                _ => outputs,
            };
            now += outputs;
            most = most.max(now + temporary);
            let done = &group.done[0];
            let slots: usize = done.slots.iter().map(|&slot| bytes(slot)).sum();
            let members =
                done.groups.iter().flat_map(|&group| match self.groups[group].members.len() {
                    // A single member's value is under its slot.
                    0 | 1 => &[][..],
                    _ => &self.groups[group].members[..],
                });
            let reduced = |group: &usize| matches!(self.groups[*group].step, Step::Reduce);
            let members: usize = if done.groups.iter().any(reduced) {
                0
            } else {
                members.map(|member| bytes(member.output)).sum()
            };
            now = now.saturating_sub(slots + members);
        }
        most
    }
}

/// Operations in groups, in an order in which they can run.
fn gather(
    program: &Program,
    backend: BackendKind,
    device: Device,
) -> Result<Vec<Vec<usize>>, BackendError> {
    // How many operations lie before one: those of one depth cannot need each other.
    let mut depth = vec![0; program.slots().len()];
    let mut found: Vec<(usize, Likeness, Vec<usize>)> = Vec::new();
    for (at, op) in program.ops().iter().enumerate() {
        let inputs = op.inputs();
        let own = inputs.iter().map(|input| depth[input.index()]).max().map_or(0, |most| most + 1);
        depth[op.output().index()] = own;
        let likeness = likeness(program, at, op)
            .map_err(|what| BackendError::Unsupported { backend, what })?;
        match found.iter_mut().find(|(of, like, _)| *of == own && *like == likeness) {
            Some((.., ops)) => ops.push(at),
            None => found.push((own, likeness, vec![at])),
        }
    }
    found.sort_by_key(|(depth, ..)| *depth);
    let mut gatherings = Vec::with_capacity(found.len());
    for (_, likeness, ops) in found {
        match likeness {
            Likeness::Lookup { .. } if device == Device::Cpu => {
                gatherings.extend(chains(program, ops));
            }
            _ => gatherings.push(ops),
        }
    }
    Ok(gatherings)
}

/// Lookups parted so that the tables of each part lie one after another.
fn chains(program: &Program, mut ops: Vec<usize>) -> Vec<Vec<usize>> {
    let place = |op: usize| match &program.ops()[op] {
        Op::BagSum { rows, .. } => extent(rows),
        other => unreachable!("`{}` looks nothing up", other.name()),
    };
    ops.sort_by_key(|&op| place(op));
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for op in ops {
        let next = place(op);
        match chains.last_mut() {
            Some(chain)
                if chain.last().is_some_and(|&last| {
                    let last = place(last);
                    last == next || last.1 == next.0
                }) =>
            {
                chain.push(op);
            }
            _ => chains.push(vec![op]),
        }
    }
    // Their order in the program is the order in which they meet.
    for chain in &mut chains {
        chain.sort_unstable();
    }
    chains
}

fn likeness(program: &Program, at: usize, op: &Op) -> Result<Likeness, &'static str> {
    Ok(match op {
        Op::BagSum { rows, index, .. } => Likeness::Lookup {
            format: lookup::Format::of(rows).ok_or("rows of this format")?,
            dim: rows.dim(),
            index: std::mem::discriminant(index),
        },
        Op::HashEncode { family, transform, .. } => {
            Likeness::Encode { transform: *transform, hashes: family.len() }
        }
        Op::Linear { weight, activation, .. } => Likeness::Layer {
            format: layer::Format::of(weight).ok_or("layers of this format")?,
            inputs: weight.inputs(),
            outputs: weight.outputs(),
            activation: *activation,
        },
        Op::Affine { scale, .. } => Likeness::Affine { width: scale.rows() },
        Op::BagReduce { input, .. } => {
            Likeness::Reduce { width: program.slots()[input.index()].width }
        }
        Op::Combine { .. } | Op::Interact { .. } | Op::Mean { .. } | Op::Sigmoid { .. } => {
            Likeness::Alone(at)
        }
        other => return Err(other.name()),
    })
}

fn member(op: &Op) -> Member {
    let feature = match op {
        Op::BagSum { feature, .. }
        | Op::HashEncode { feature, .. }
        | Op::BagReduce { feature, .. } => *feature,
        _ => 0,
    };
    let inputs = op.inputs().into_iter().map(|slot| slot.index()).collect();
    Member { inputs, output: op.output().index(), feature }
}

/// The step of operations that are alike.
///
/// # Safety
///
/// As [`Plan::steps`].
unsafe fn step(
    ops: &[&Op],
    program: &Program,
    places: &[Place],
    groups: &[Group],
    uploader: &mut Uploader,
) -> Result<Step, TchError> {
    Ok(match ops[0] {
        Op::BagSum { rows, .. } => {
            let parts: Vec<(&Rows, RowIndex)> = ops
                .iter()
                .filter_map(|op| match op {
                    Op::BagSum { rows, index, .. } => Some((rows, *index)),
                    _ => None,
                })
                .collect();
            let format = lookup::Format::of(rows).expect("formats were checked before");
            // SAFETY: as this function asks.
            Step::Lookup(unsafe { Lookup::new(&parts, format, uploader) }?)
        }
        Op::HashEncode { transform, .. } => {
            let families = ops.iter().filter_map(|op| match op {
                Op::HashEncode { family, .. } => Some(family),
                _ => None,
            });
            Step::Encode(Encode::new(families.collect(), *transform, uploader)?)
        }
        Op::Linear { activation, .. } => {
            let layers: Vec<(&LayerWeights, &Parameter<f32>)> = ops
                .iter()
                .filter_map(|op| match op {
                    Op::Linear { weight, bias, .. } => Some((weight, bias)),
                    _ => None,
                })
                .collect();
            // SAFETY: as this function asks.
            Step::Layers(unsafe { Layers::new(&layers, *activation, uploader) }?)
        }
        Op::Affine { .. } => {
            let parameters: Vec<(&Parameter<f32>, &Parameter<f32>)> = ops
                .iter()
                .filter_map(|op| match op {
                    Op::Affine { scale, shift, .. } => Some((scale, shift)),
                    _ => None,
                })
                .collect();
            Step::Affine(Affine::new(&parameters, uploader)?)
        }
        Op::BagReduce { .. } => Step::Reduce,
        Op::Combine { combination, .. } => Step::Combine(*combination),
        Op::Interact { interaction, inputs, .. } => {
            let pieces = Pieces::of(inputs, places, |group| groups[group].members.len());
            let width = |slot: usize| -> SlotShape { program.slots()[slot] };
            debug_assert!(inputs.iter().all(|slot| width(slot.index()).rows == RowsOf::Samples));
            let dim = width(inputs[0].index()).width;
            let itself = match interaction {
                Interaction::Cat => None,
                Interaction::Dot { itself } => Some(*itself),
            };
            Step::Meet(Meet::new(itself, inputs.len(), dim, pieces, uploader)?)
        }
        Op::Mean { .. } => Step::Mean,
        Op::Sigmoid { .. } => Step::Sigmoid,
        other => unreachable!("`{}` was refused before", other.name()),
    })
}

/// A group, if `places` are all of its outputs in their order.
fn source(places: &[Place], groups: &[Group]) -> Source {
    let Some(&Place::Member { group, at: 0 }) = places.first() else { return Source::Slots };
    let in_order = |(at, place): (usize, &Place)| *place == Place::Member { group, at };
    if places.iter().enumerate().all(in_order) && groups[group].members.len() == places.len() {
        Source::Group(group)
    } else {
        Source::Slots
    }
}
