//! A plan, and the memory that one worker runs it in.

use std::sync::Arc;

use mprec_representations::Batch;

use super::{
    buffer::Buffer,
    plan::Plan,
    step::{Ids, Now},
    unique::Unique,
};
use crate::{
    backend::{Executable, check},
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
}

impl CpuExecutable {
    pub(crate) fn new(plan: Arc<Plan>) -> Result<Self, BackendError> {
        let buffers = plan.buffers.iter().map(|&floats| Buffer::zeroed(floats));
        let scratch = Scratch {
            buffers: buffers.collect::<Result<_, _>>()?,
            numbers: vec![0; plan.numbers],
            transposed: Buffer::zeroed(plan.transposed)?,
            unique: Unique::new(plan.chunk),
            codes: Buffer::zeroed(plan.codes.div_ceil(size_of::<f32>()))?,
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
        Ok(Box::new(Self::new(Arc::clone(&self.plan))?))
    }

    fn bytes(&self) -> usize {
        let Scratch { buffers, numbers, transposed, unique, codes } = &self.scratch;
        let scratch: usize = buffers.iter().map(Buffer::bytes).sum();
        self.plan.bytes()
            + scratch
            + size_of_val(&numbers[..])
            + transposed.bytes()
            + codes.bytes()
            + unique.bytes()
    }
}
