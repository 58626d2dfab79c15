//! A plan, and the memory that one worker runs it in.

use std::sync::Arc;

use mprec_representations::{Batch, GroupedBatch};

use super::{
    buffer::Buffer,
    input::Input,
    place::Place,
    plan::Plan,
    recall::Recall,
    spread::Kept,
    step::{Ids, Now},
    unique::Unique,
};
use crate::{
    backend::{Executable, check, check_grouped},
    cache::{CacheStatistics, HotId},
    error::BackendError,
};

/// One worker's executable.
#[derive(Debug)]
pub(crate) struct CpuExecutable {
    plan: Arc<Plan>,
    pub(crate) scratch: Scratch,
}

/// Memory that steps write to. All of it is there from the start, enough for one block of samples,
/// and larger batches run block by block: a run allocates nothing.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Values of slots.
    pub(crate) buffers: Vec<Buffer>,
    /// Row numbers, where ids are not row numbers themselves.
    pub(crate) numbers: Vec<u64>,
    /// What interactions work in.
    pub(crate) transposed: Buffer,
    /// Distinct ids of a chain.
    pub(crate) unique: Unique,
    /// Quantised inputs of a layer.
    pub(crate) codes: Buffer,
    /// What the samples of a group share.
    pub(crate) kept: Kept,
    /// Vectors of ids that chains need not compute.
    pub(crate) recall: Option<Recall>,
}

impl CpuExecutable {
    pub(crate) fn new(plan: Arc<Plan>, recall: Option<Recall>) -> Result<Self, BackendError> {
        let buffers = plan.buffers.iter().map(|&floats| Buffer::zeroed(floats));
        let scratch = Scratch {
            buffers: buffers.collect::<Result<_, _>>()?,
            numbers: vec![0; plan.numbers],
            transposed: Buffer::zeroed(plan.transposed)?,
            unique: Unique::new(plan.chunk),
            codes: Buffer::zeroed(plan.codes.div_ceil(size_of::<f32>()))?,
            kept: Kept::new(plan.kept()),
            recall,
        };
        Ok(Self { plan, scratch })
    }

    /// Runs a batch that has been checked.
    fn compute(&mut self, input: Input<'_>, scores: &mut [f32]) {
        let Self { plan, scratch } = self;
        scratch.kept.forget();
        for (block, scores) in scores.chunks_mut(plan.block).enumerate() {
            let start = block * plan.block;
            let samples = start..start + scores.len();
            let groups = input.groups(samples.clone());
            scratch.kept.begin(&groups);
            let now = Now { rows: samples.len(), samples, groups, ids: Ids::default() };
            for (at, step) in plan.steps.iter().enumerate() {
                scratch.spread_dense(plan.dense.read(at), input, &now);
                if plan.dense.alone(at) && input.sharing_dense().is_some() {
                    let (samples, groups) = (now.groups.clone(), 0..0);
                    let of_groups =
                        Now { rows: samples.len(), samples, groups, ids: Ids::default() };
                    if !scratch.kept.is_same() {
                        step.run(input, &of_groups, &plan.kernels, scratch);
                    }
                } else {
                    step.run(input, &now, &plan.kernels, scratch);
                }
            }
            scratch.spread_dense(plan.dense.read(plan.steps.len()), input, &now);
            let result = plan.score.read(&scratch.buffers, &[], scores.len());
            for (row, score) in scores.iter_mut().enumerate() {
                *score = result.row(row)[0];
            }
        }
    }
}

impl Scratch {
    /// Where groups share the dense values: spreads what was made of those alone to the block's samples.
    fn spread_dense(&mut self, read: &[Place], input: Input<'_>, block: &Now<'_>) {
        let Some(of) = input.sharing_dense() else { return };
        for &place in read {
            self.kept.spread(place, &mut self.buffers, block, of);
        }
    }
}

impl Executable for CpuExecutable {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        let plan = &*self.plan;
        check(&plan.program, batch, scores)?;
        self.compute(Input::Plain(batch), scores);
        Ok(())
    }

    fn run_grouped(
        &mut self,
        batch: &GroupedBatch,
        scores: &mut [f32],
    ) -> Result<(), BackendError> {
        check_grouped(&self.plan.program, batch, scores)?;
        let input = Input::of(batch);
        if input.sharing_dense().is_some() && self.plan.dense.mixed() {
            // A program that no model lowers to: dense values meet others themselves.
            self.compute(Input::Plain(&batch.expanded()), scores);
        } else {
            self.compute(input, scores);
        }
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        let recall = self.scratch.recall.as_ref().map(Recall::copy).transpose()?;
        Ok(Box::new(Self::new(Arc::clone(&self.plan), recall)?))
    }

    fn bytes(&self) -> usize {
        let Scratch { buffers, numbers, transposed, unique, codes, kept, recall } = &self.scratch;
        let scratch: usize = buffers.iter().map(Buffer::bytes).sum();
        self.plan.bytes()
            + scratch
            + size_of_val(&numbers[..])
            + transposed.bytes()
            + codes.bytes()
            + unique.bytes()
            + kept.bytes()
            + recall.as_ref().map_or(0, Recall::bytes)
    }

    fn cache(&self) -> Option<CacheStatistics> {
        Some(self.scratch.recall.as_ref()?.statistics())
    }

    fn remember(&mut self, hot: &[HotId]) -> usize {
        let Some(mut recall) = self.scratch.recall.take() else { return 0 };
        let plan = &*self.plan;
        let batch = Batch::empty(plan.program.dense_width(), plan.program.bounds().into());
        let mut held = 0;
        // Places go to the first ids of the list, whatever their feature; vectors are computed feature by feature.
        let placed = recall.reserve(hot, plan);
        for chain in plan.chains() {
            let own = || placed.iter().filter(|(of, ..)| of.feature == chain.feature);
            let ids: Vec<u64> = own().map(|(of, _)| of.id).collect();
            let slots: Vec<_> = own().map(|&(_, slot)| slot).collect();
            for (distinct, slots) in ids.chunks(chain.chunk).zip(slots.chunks(chain.chunk)) {
                let rows = distinct.len();
                let ids = Ids { distinct, ..Ids::default() };
                let now = Now { samples: 0..0, groups: 0..0, rows, ids };
                let entries = recall.begin_fill(slots);
                let scratch = &mut self.scratch;
                chain.compute(
                    Input::Plain(&batch),
                    &now,
                    Some(entries),
                    &plan.kernels,
                    scratch,
                    None,
                );
                held += rows;
            }
        }
        self.scratch.recall = Some(recall);
        held
    }
}
