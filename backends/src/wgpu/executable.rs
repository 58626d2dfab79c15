//! Running a plan.

use std::{fmt, num::NonZeroU64, sync::Arc};

use mprec_representations::{Batch, Program};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding,
    BufferUsages, CommandEncoder, CommandEncoderDescriptor, ComputePassDescriptor, ErrorFilter,
};

use super::{
    batch::Packed,
    block::{self, Limits, Span},
    clock::Clock,
    gpu::{Gpu, STEP, failed},
    plan::Plan,
    types::{Dispatch, Groups, Kernel, Ref, TILE},
};
use crate::{
    backend::{Backend, Executable, KernelTime, check},
    error::BackendError,
    path::BackendKind,
};

/// Executes programs on a GPU.
#[derive(Debug, Clone)]
pub struct WgpuBackend {
    gpu: Arc<Gpu>,
    limits: Limits,
}

impl WgpuBackend {
    /// On the adapter of this name (or part of it) or index, or else the first that is a GPU.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unavailable`] if there is none, or only such as compute on the CPU and none is named;
    /// [`BackendError::Device`] if its driver does not compile the shaders.
    pub fn new(adapter: Option<&str>) -> Result<Self, BackendError> {
        let gpu = Arc::new(Gpu::open(adapter)?);
        let binding = gpu.binding_limit;
        let limits = Limits { table: binding, values: binding, binding, groups: gpu.most_groups };
        Ok(Self { gpu, limits })
    }

    /// Splits tables at this many bytes, if the adapter does not ask for fewer.
    #[must_use]
    pub fn with_table_limit(mut self, bytes: u64) -> Self {
        self.limits.table = bytes.min(self.limits.binding);
        self
    }

    /// Runs batches in parts of which no intermediate value takes more than this many bytes, if the adapter does not ask for
    /// fewer.
    #[must_use]
    pub fn with_value_limit(mut self, bytes: u64) -> Self {
        self.limits.values = bytes.min(self.limits.binding);
        self
    }

    /// What runs here, for listings.
    pub fn describe(&self) -> String {
        self.gpu.description.clone()
    }
}

impl Backend for WgpuBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Wgpu
    }

    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError> {
        let mut parameters = Vec::new();
        let plan = Plan::new(program, self.limits, &mut |bytes| {
            parameters.push(self.gpu.upload(bytes)?);
            Ok(parameters.len() - 1)
        })?;
        self.gpu.alive()?;
        let prepared =
            Prepared { gpu: Arc::clone(&self.gpu), program: program.clone(), plan, parameters };
        Ok(Box::new(WgpuExecutable::new(Arc::new(prepared))?))
    }
}

/// A program on a device.
#[derive(Debug)]
struct Prepared {
    gpu: Arc<Gpu>,
    program: Program,
    plan: Plan,
    parameters: Vec<Buffer>,
}

/// One call of a shader, for some of a block's rows.
#[derive(Debug, Clone, Copy)]
struct Call {
    dispatch: usize,
    groups: [u32; 2],
}

struct WgpuExecutable {
    prepared: Arc<Prepared>,
    packed: Packed,
    calls: Vec<Call>,
    /// Of every call.
    words: Vec<u32>,
    steps: Buffer,
    batch: Buffer,
    values: Vec<Buffer>,
    /// Bound where a shader looks at nothing.
    nothing: Buffer,
    scores: Buffer,
    /// By dispatch; made anew when a buffer was.
    groups: Vec<BindGroup>,
}

impl WgpuExecutable {
    fn new(prepared: Arc<Prepared>) -> Result<Self, BackendError> {
        let gpu = &prepared.gpu;
        let storage = BufferUsages::STORAGE;
        let steps = STEP * prepared.plan.dispatches.len() as u64;
        let values =
            prepared.plan.values.iter().map(|_| gpu.buffer(4, storage | BufferUsages::COPY_SRC));
        let executable = Self {
            packed: Packed::default(),
            calls: Vec::new(),
            words: Vec::new(),
            steps: gpu.buffer(steps, BufferUsages::UNIFORM | BufferUsages::COPY_DST)?,
            batch: gpu.buffer(4, storage | BufferUsages::COPY_DST)?,
            values: values.collect::<Result<_, _>>()?,
            nothing: gpu.buffer(4, storage)?,
            scores: gpu.buffer(4, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
            groups: Vec::new(),
            prepared,
        };
        Ok(executable)
    }

    /// Sees that buffers hold this block, whose calls are written down.
    fn reserve(&mut self, block: &Batch) -> Result<(), BackendError> {
        let prepared = Arc::clone(&self.prepared);
        let (gpu, plan) = (&prepared.gpu, &prepared.plan);
        let mut grown = self.groups.is_empty();
        grown |= grow(gpu, &mut self.batch, 4 * self.packed.words.len())?;
        grown |= grow(gpu, &mut self.steps, 4 * self.words.len())?;
        for (buffer, values) in self.values.iter_mut().zip(&plan.values) {
            let rows = plan.most.rows(block, values.rows);
            grown |= grow(gpu, buffer, 4 * rows * values.stride)?;
        }
        if grown {
            let groups = plan.dispatches.iter().map(|dispatch| self.bind(dispatch));
            self.groups = groups.collect();
        }
        Ok(())
    }

    fn buffer(&self, which: Ref) -> &Buffer {
        match which {
            Ref::None => &self.nothing,
            Ref::Batch => &self.batch,
            Ref::Parameter(at) => &self.prepared.parameters[at],
            Ref::Values(at) => &self.values[at],
        }
    }

    fn bind(&self, dispatch: &Dispatch) -> BindGroup {
        let gpu = &self.prepared.gpu;
        let step = BufferBinding { buffer: &self.steps, offset: 0, size: NonZeroU64::new(64) };
        let refs = [dispatch.source, dispatch.second, dispatch.third, Ref::Batch, dispatch.result];
        let mut entries =
            vec![BindGroupEntry { binding: 0, resource: BindingResource::Buffer(step) }];
        for (binding, which) in (1..).zip(refs) {
            let resource = self.buffer(which).as_entire_binding();
            entries.push(BindGroupEntry { binding, resource });
        }
        let descriptor =
            BindGroupDescriptor { label: None, layout: &gpu.layout, entries: &entries };
        gpu.device.create_bind_group(&descriptor)
    }

    /// Writes down the calls for a block, and the words of each.
    fn fill(&mut self, block: &Batch) {
        let (plan, most) = (&self.prepared.plan, self.prepared.gpu.most_groups);
        self.calls.clear();
        self.words.clear();
        for stage in &plan.stages {
            for span in plan.most.spans(block, stage.over) {
                for at in stage.dispatches.clone() {
                    let dispatch = &plan.dispatches[at];
                    let Some(groups) = workgroups(dispatch.groups, &span, most) else { continue };
                    self.calls.push(Call { dispatch: at, groups });
                    let start = self.words.len();
                    let words = dispatch.words.iter().map(|&word| self.packed.word(word, &span));
                    self.words.extend(words);
                    self.words.resize(start + STEP as usize / 4, 0);
                }
            }
        }
    }

    /// Records the calls: all in one pass, or with a clock in a pass for each shader that follows another.
    fn record(&self, encoder: &mut CommandEncoder, clock: Option<&mut Clock>) {
        let gpu = &self.prepared.gpu;
        let Some(clock) = clock else {
            return self.pass(encoder, 0, &self.calls, ComputePassDescriptor::default());
        };
        let mut first = 0;
        for calls in self.calls.chunk_by(|one, next| self.kernel(one) == self.kernel(next)) {
            let timestamp_writes = Some(clock.pass(gpu, self.kernel(&calls[0]), calls.len()));
            self.pass(
                encoder,
                first,
                calls,
                ComputePassDescriptor { label: None, timestamp_writes },
            );
            first += calls.len();
        }
    }

    fn kernel(&self, call: &Call) -> Kernel {
        self.prepared.plan.dispatches[call.dispatch].kernel
    }

    /// Records one pass of calls, of which the first is the block's call of this number.
    fn pass(
        &self,
        encoder: &mut CommandEncoder,
        first: usize,
        calls: &[Call],
        descriptor: ComputePassDescriptor<'_>,
    ) {
        let mut pass = encoder.begin_compute_pass(&descriptor);
        for (at, call) in (first..).zip(calls) {
            pass.set_pipeline(self.prepared.gpu.pipeline(self.kernel(call)));
            pass.set_bind_group(0, &self.groups[call.dispatch], &[at as u32 * STEP as u32]);
            pass.dispatch_workgroups(call.groups[0], call.groups[1], 1);
        }
    }

    fn score(
        &mut self,
        batch: &Batch,
        scores: &mut [f32],
        mut clock: Option<&mut Clock>,
    ) -> Result<(), BackendError> {
        let prepared = Arc::clone(&self.prepared);
        let (gpu, plan) = (&prepared.gpu, &prepared.plan);
        let score = plan.score.expect("a plan has a score");
        let ends = block::blocks(batch, (&plan.needs, &plan.picks), &plan.most, gpu.binding_limit)?;
        grow(gpu, &mut self.scores, 4 * batch.samples())?;
        let mut start = 0;
        let mut last = None;
        for end in ends {
            let part = (end - start < batch.samples()).then(|| batch.slice(start..end));
            let block = part.as_ref().unwrap_or(batch);
            self.packed.pack(block, &plan.needs, &plan.picks);
            self.fill(block);
            self.reserve(block)?;
            gpu.queue.write_buffer(&self.batch, 0, bytemuck::cast_slice(&self.packed.words));
            gpu.queue.write_buffer(&self.steps, 0, bytemuck::cast_slice(&self.words));
            let mut encoder =
                gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
            self.record(&mut encoder, clock.as_deref_mut());
            encoder.copy_buffer_to_buffer(
                self.buffer(score.buffer),
                4 * score.offset as u64,
                &self.scores,
                4 * start as u64,
                4 * (end - start) as u64,
            );
            if let Some(clock) = &mut clock {
                clock.resolve(gpu, &mut encoder)?;
            }
            let submission = gpu.queue.submit([encoder.finish()]);
            if let Some(clock) = &mut clock {
                clock.collect(gpu, submission.clone())?;
            }
            // One block is packed while the one before it runs, and no more wait in memory.
            if let Some(before) = last.replace(submission) {
                gpu.wait(before)?;
            }
            start = end;
        }
        let last = last.expect("a batch of samples has a block");
        gpu.read(&self.scores, 4 * batch.samples() as u64, last, |bytes| {
            scores.copy_from_slice(bytemuck::cast_slice(bytes));
        })
    }

    /// Runs a checked batch; what the device says about it is an error.
    fn attempt(
        &mut self,
        batch: &Batch,
        scores: &mut [f32],
        clock: Option<&mut Clock>,
    ) -> Result<(), BackendError> {
        if batch.samples() == 0 {
            return Ok(());
        }
        self.prepared.gpu.alive()?;
        let prepared = Arc::clone(&self.prepared);
        let scope = prepared.gpu.device.push_error_scope(ErrorFilter::Validation);
        let result = self.score(batch, scores, clock);
        match pollster::block_on(scope.pop()) {
            Some(error) if result.is_ok() => Err(failed(error)),
            _ => result,
        }
    }
}

/// Sees that a buffer has so many bytes. Tells whether it is another one now.
fn grow(gpu: &Gpu, buffer: &mut Buffer, bytes: usize) -> Result<bool, BackendError> {
    let bytes = bytes as u64;
    if buffer.size() >= bytes {
        return Ok(false);
    }
    // Some more, so that slowly growing batches do not each ask for a new one.
    let room = bytes.next_power_of_two().min(gpu.binding_limit).max(bytes);
    *buffer = gpu.buffer(room, buffer.usage())?;
    Ok(true)
}

/// Workgroups in two dimensions; none if there is nothing to do.
fn workgroups(groups: Groups, span: &Span, most: u32) -> Option<[u32; 2]> {
    let spread = |count: usize| {
        let x = count.min(most as usize).max(1);
        [x, count.div_ceil(x)]
    };
    let [x, y] = match groups {
        Groups::Elements { rows, width } => spread((span.rows(rows) * width).div_ceil(64)),
        Groups::Rows(rows) => spread(span.rows(rows)),
        Groups::Tiles { rows, width } => [width.div_ceil(TILE), span.rows(rows).div_ceil(TILE)],
    };
    // Elements are counted in 32 bits, and blocks have no more tiles than a dimension allows.
    (x > 0 && y > 0).then_some([x as u32, y as u32])
}

impl Executable for WgpuExecutable {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        check(&self.prepared.program, batch, scores)?;
        self.attempt(batch, scores, None)
    }

    fn run_timed(
        &mut self,
        batch: &Batch,
        scores: &mut [f32],
    ) -> Result<Vec<KernelTime>, BackendError> {
        check(&self.prepared.program, batch, scores)?;
        let mut clock = Clock::new(&self.prepared.gpu)?;
        self.attempt(batch, scores, Some(&mut clock))?;
        Ok(clock.times())
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Self::new(Arc::clone(&self.prepared))?))
    }

    /// Parameters, and the buffers that have grown with batches so far.
    fn bytes(&self) -> usize {
        let scratch = self.values.iter().chain([&self.batch, &self.scores, &self.steps]);
        let scratch: u64 = scratch.map(Buffer::size).sum();
        let parameters: u64 = self.prepared.parameters.iter().map(Buffer::size).sum();
        (parameters as usize).max(self.prepared.program.bytes()) + scratch as usize
    }
}

impl fmt::Debug for WgpuExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WgpuExecutable")
            .field("adapter", &self.prepared.gpu.description)
            .field("dispatches", &self.prepared.plan.dispatches.len())
            .finish_non_exhaustive()
    }
}
