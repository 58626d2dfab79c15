//! A plan, and the memory that one worker runs it in.

use std::sync::Arc;

use mprec_representations::Batch;

use super::{
    buffer::Buffer,
    plan::Plan,
    recall::Recall,
    step::{Ids, Now},
    unique::Unique,
};
use crate::{
    backend::{Executable, check},
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
            recall,
        };
        Ok(Self { plan, scratch })
    }
}

impl Executable for CpuExecutable {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        let plan = &*self.plan;
        check(&plan.program, batch, scores)?;
        for (block, scores) in scores.chunks_mut(plan.block).enumerate() {
            let start = block * plan.block;
            let samples = start..start + scores.len();
            let now = Now { rows: samples.len(), samples, ids: Ids::default() };
            for step in &plan.steps {
                step.run(batch, &now, &plan.kernels, &mut self.scratch);
            }
            let result = plan.score.read(&self.scratch.buffers, &[], scores.len());
            for (row, score) in scores.iter_mut().enumerate() {
                *score = result.row(row)[0];
            }
        }
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        let recall = self.scratch.recall.as_ref().map(Recall::copy).transpose()?;
        Ok(Box::new(Self::new(Arc::clone(&self.plan), recall)?))
    }

    fn bytes(&self) -> usize {
        let Scratch { buffers, numbers, transposed, unique, codes, recall } = &self.scratch;
        let scratch: usize = buffers.iter().map(Buffer::bytes).sum();
        self.plan.bytes()
            + scratch
            + size_of_val(&numbers[..])
            + transposed.bytes()
            + codes.bytes()
            + unique.bytes()
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
                let now = Now { samples: 0..0, rows, ids };
                let entries = recall.begin_fill(slots);
                let scratch = &mut self.scratch;
                chain.compute(&batch, &now, Some(entries), &plan.kernels, scratch, None);
                held += rows;
            }
        }
        self.scratch.recall = Some(recall);
        held
    }
}
