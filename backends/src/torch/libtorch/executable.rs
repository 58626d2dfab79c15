//! A plan, and what one worker runs it with.

use std::{cell::Cell, fmt, ops::Range, sync::Arc};

use mprec_representations::{Batch, Combination};
use tch::{TchError, Tensor};

use super::{
    error::failed,
    inputs::{Ids, Inputs, Staging},
    meet::Piece,
    plan::{Group, Place, Plan, Source, Step},
};
use crate::{
    backend::{Executable, check},
    error::BackendError,
    path::BackendKind,
};

/// One worker's executable.
pub(super) struct TorchExecutable {
    plan: Arc<Plan>,
    backend: BackendKind,
    /// Threads that libtorch may use for one operation on a CPU.
    threads: i32,
    staging: Staging,
    /// Of every group, room for codes that are computed on the host.
    codes: Vec<Vec<f32>>,
}

impl TorchExecutable {
    pub(super) fn new(plan: Arc<Plan>, backend: BackendKind, threads: i32) -> Self {
        let codes = plan.groups.iter().map(|_| Vec::new()).collect();
        Self { staging: Staging::new(plan.device), plan, backend, threads, codes }
    }

    fn part(
        &mut self,
        batch: &Batch,
        samples: Range<usize>,
        scores: &mut [f32],
    ) -> Result<(), TchError> {
        // SAFETY: the inputs, and all values that view them, are dropped before this function returns.
        let inputs = unsafe { self.staging.inputs(batch, samples) }?;
        let plan = &*self.plan;
        let mut run = Run {
            plan,
            one_hot: matches!(inputs.ids, Ids::OneHot(_)),
            slots: plan.places.iter().map(|_| None).collect(),
            groups: plan.groups.iter().map(|_| None).collect(),
        };
        run.slots[plan.program.dense().index()] = Some(inputs.dense.shallow_clone());
        for (at, group) in plan.groups.iter().enumerate() {
            run.step(at, group, &inputs, &mut self.codes[at])?;
        }
        // Waits for the device, so that an error of any operation shows here at the latest.
        run.value(plan.program.score().index())?.f_copy_data(scores, scores.len())
    }
}

impl Executable for TorchExecutable {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        let plan = Arc::clone(&self.plan);
        check(&plan.program, batch, scores)?;
        use_threads(self.threads);
        let _guard = tch::no_grad_guard();
        let mut start = 0;
        while start < batch.samples() {
            let end = end(batch, start, &plan);
            self.part(batch, start..end, &mut scores[start..end])
                .map_err(|error| failed(self.backend, error))?;
            start = end;
        }
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Self::new(Arc::clone(&self.plan), self.backend, self.threads)))
    }

    /// Parameters, and an estimate of the values of one block of samples: libtorch does not tell what it holds.
    fn bytes(&self) -> usize {
        self.plan.bytes
    }
}

impl fmt::Debug for TorchExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorchExecutable")
            .field("backend", &self.backend)
            .field("groups", &self.plan.groups.len())
            .field("block", &self.plan.block)
            .finish_non_exhaustive()
    }
}

/// Where the part of a batch ends that begins at `start`: a block of samples, or fewer if they have many ids.
fn end(batch: &Batch, start: usize, plan: &Plan) -> usize {
    let mut end = batch.samples().min(start + plan.block);
    if batch.is_one_hot() {
        return end;
    }
    for feature in 0..batch.features() {
        let bags = batch.bags(feature);
        let first = bags.range(start).start;
        while end > start + 1 && bags.range(end - 1).end - first > plan.ids {
            end = start + (end - start) / 2;
        }
    }
    end
}

/// Tells libtorch, which keeps this for every thread by itself.
fn use_threads(threads: i32) {
    thread_local! {
        static TOLD: Cell<i32> = const { Cell::new(0) };
    }
    if TOLD.replace(threads) != threads {
        tch::set_num_threads(threads);
    }
}

/// The values of one run.
struct Run<'a> {
    plan: &'a Plan,
    one_hot: bool,
    slots: Vec<Option<Tensor>>,
    /// `[members, samples, width]` of groups of several, with one id per sample.
    groups: Vec<Option<Tensor>>,
}

impl Run<'_> {
    /// The value of a slot, `[rows, width]`.
    fn value(&self, slot: usize) -> Result<Tensor, TchError> {
        const WRITTEN: &str = "values are written before they are read";
        match self.plan.places[slot] {
            Place::Member { group, at } if self.one_hot => {
                self.groups[group].as_ref().expect(WRITTEN).f_select(0, at as i64)
            }
            Place::Slot(slot) if self.one_hot => {
                Ok(self.slots[slot].as_ref().expect(WRITTEN).shallow_clone())
            }
            _ => Ok(self.slots[slot].as_ref().expect(WRITTEN).shallow_clone()),
        }
    }

    fn step(
        &mut self,
        at: usize,
        group: &Group,
        inputs: &Inputs<'_>,
        codes: &mut Vec<f32>,
    ) -> Result<(), TchError> {
        if let Step::Encode(encode) = &group.step {
            // SAFETY: the codes are values of this run, which are gone before the next one computes codes.
            let made = unsafe { encode.run(inputs, &group.members, || ids(inputs, group), codes) }?;
            if self.one_hot && group.members.len() > 1 {
                self.groups[at] = made.into_iter().next();
            } else {
                for (member, value) in group.members.iter().zip(made) {
                    self.slots[member.output] = Some(value);
                }
            }
        } else if !self.one_hot {
            for (one, member) in group.members.iter().enumerate() {
                self.slots[member.output] = Some(self.one(group, one, inputs)?);
            }
        } else if matches!(group.step, Step::Reduce) {
            // A value stays where it is.
        } else if group.members.len() > 1 {
            self.groups[at] = Some(self.all(group, inputs)?);
        } else {
            self.slots[group.members[0].output] = Some(self.one(group, 0, inputs)?);
        }
        let done = &group.done[usize::from(!self.one_hot)];
        done.slots.iter().for_each(|&slot| self.slots[slot] = None);
        done.groups.iter().for_each(|&group| self.groups[group] = None);
        Ok(())
    }

    /// A group of several, with one id per sample.
    fn all(&self, group: &Group, inputs: &Inputs<'_>) -> Result<Tensor, TchError> {
        let input = || match group.source {
            Source::Group(of) => {
                Ok(self.groups[of].as_ref().expect("groups run in order").shallow_clone())
            }
            Source::Slots => {
                let values: Result<Vec<Tensor>, TchError> =
                    group.members.iter().map(|member| self.value(member.inputs[0])).collect();
                Tensor::f_stack(&values?, 0)
            }
        };
        match &group.step {
            Step::Lookup(lookup) => lookup.one_hot(&ids(inputs, group)?),
            Step::Layers(layers) => layers.run(&input()?, None),
            Step::Affine(affine) => affine.run(&input()?, None),
            _ => unreachable!("other operations form no groups"),
        }
    }

    /// One member.
    fn one(&self, group: &Group, one: usize, inputs: &Inputs<'_>) -> Result<Tensor, TchError> {
        let member = &group.members[one];
        let input = |at: usize| self.value(member.inputs[at]);
        match &group.step {
            Step::Lookup(lookup) => match &inputs.ids {
                Ids::OneHot(ids) => lookup.one_hot(&ids.f_select(0, member.feature as i64)?),
                Ids::Bags(bags) => lookup.bags(one, &bags[member.feature]),
            },
            Step::Layers(layers) => layers.run(&input(0)?, Some(one)),
            Step::Affine(affine) => affine.run(&input(0)?, Some(one)),
            Step::Reduce => match &inputs.ids {
                Ids::OneHot(_) => input(0),
                Ids::Bags(bags) => bags[member.feature].sum(&input(0)?),
            },
            Step::Combine(combination) => {
                let (left, right) = (input(0)?, input(1)?);
                match combination {
                    Combination::Mult => left.f_mul(&right),
                    Combination::Add => left.f_add(&right),
                    Combination::Concat => Tensor::f_cat(&[left, right], 1),
                }
            }
            Step::Meet(meet) => {
                let pieces = self.pieces(group, meet.is_dot())?;
                match (meet.is_dot(), &pieces[..]) {
                    (true, [whole]) => meet.dots(whole),
                    (true, all) => meet.dots(&Tensor::f_cat(all, 0)?),
                    (false, all) => Tensor::f_cat(all, 1),
                }
            }
            Step::Mean => {
                // In their order, as the definition adds them.
                let mut sum = input(0)?;
                for at in 1..member.inputs.len() {
                    sum = sum.f_add(&input(at)?)?;
                }
                sum.f_divide_scalar(member.inputs.len() as i64)
            }
            Step::Sigmoid => input(0)?.f_sigmoid(),
            Step::Encode(_) => unreachable!("codes are made for all members at once"),
        }
    }

    /// The inputs of an interaction: `[vectors, samples, dim]` for dots, `[samples, width]` for `cat`.
    fn pieces(&self, group: &Group, dot: bool) -> Result<Vec<Tensor>, TchError> {
        let single = |value: Tensor| if dot { value.f_unsqueeze(0) } else { Ok(value) };
        match &group.step {
            Step::Meet(meet) if self.one_hot => {
                let piece = |piece: &Piece| match *piece {
                    Piece::Slot(slot) => single(self.value(slot)?),
                    Piece::Members { group, start, length } => {
                        let values = self.groups[group].as_ref().expect("groups run in order");
                        let values = values.f_narrow(0, start as i64, length as i64)?;
                        if dot {
                            return Ok(values);
                        }
                        let (_, samples, width) = values.size3()?;
                        values.f_transpose(0, 1)?.f_reshape([samples, length as i64 * width])
                    }
                };
                meet.pieces.0.iter().map(piece).collect()
            }
            _ => group.members[0].inputs.iter().map(|&slot| single(self.value(slot)?)).collect(),
        }
    }
}

/// Ids of all members' features, `[members, samples]`, with one id per sample.
fn ids(inputs: &Inputs<'_>, group: &Group) -> Result<Tensor, TchError> {
    let Ids::OneHot(ids) = &inputs.ids else { unreachable!("bags are not asked together") };
    let features: Vec<i64> = group.members.iter().map(|member| member.feature as i64).collect();
    if let [feature] = features[..] {
        return ids.f_select(0, feature);
    }
    if features.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
        return ids.f_narrow(0, features[0], features.len() as i64);
    }
    let rows: Result<Vec<Tensor>, TchError> =
        features.iter().map(|&feature| ids.f_select(0, feature)).collect();
    Tensor::f_stack(&rows?, 0)
}
