//! Running a plan.

use std::{
    fmt,
    num::NonZeroU64,
    sync::{Arc, mpsc},
    time::Duration,
};

use mprec_representations::{Batch, Program};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding,
    BufferUsages, CommandEncoder, CommandEncoderDescriptor, ComputePassDescriptor, ErrorFilter,
    MapMode, PollType,
};

use super::{
    batch::{Packed, rows},
    gpu::{Gpu, STEP, failed},
    plan::Plan,
    types::{Dispatch, Groups, Ref},
};
use crate::{
    backend::{Backend, Executable, check},
    error::BackendError,
    path::BackendKind,
};

/// Longest wait for one batch; a device that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Executes programs on a GPU.
#[derive(Debug, Clone)]
pub struct WgpuBackend {
    gpu: Arc<Gpu>,
    binding_limit: u64,
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
        let binding_limit = gpu.binding_limit;
        Ok(Self { gpu, binding_limit })
    }

    /// Splits tables at this many bytes, if the adapter does not ask for fewer.
    #[must_use]
    pub fn with_binding_limit(self, bytes: u64) -> Self {
        Self { binding_limit: bytes.min(self.binding_limit), ..self }
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
        let limits = (self.binding_limit, self.gpu.binding_limit);
        let plan = Plan::new(program, limits, &mut |bytes| {
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

struct WgpuExecutable {
    prepared: Arc<Prepared>,
    packed: Packed,
    words: Vec<u32>,
    steps: Buffer,
    batch: Buffer,
    values: Vec<Buffer>,
    /// Bound where a shader looks at nothing.
    nothing: Buffer,
    scores: Buffer,
    /// Made anew when a buffer was.
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

    /// Sees that buffers hold this batch.
    fn reserve(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let prepared = Arc::clone(&self.prepared);
        let gpu = &prepared.gpu;
        let mut grown = self.groups.is_empty();
        let mut grow = |buffer: &mut Buffer, bytes: usize| {
            if buffer.size() >= bytes as u64 {
                return Ok(());
            }
            grown = true;
            // Some more, so that slowly growing batches do not each ask for a new one.
            let bytes = (bytes as u64).next_power_of_two();
            if bytes > gpu.binding_limit {
                let bytes = bytes as usize;
                return Err(BackendError::Memory { backend: BackendKind::Wgpu, bytes });
            }
            *buffer = gpu.buffer(bytes, buffer.usage())?;
            Ok(())
        };
        grow(&mut self.batch, 4 * self.packed.words.len())?;
        grow(&mut self.scores, 4 * batch.samples())?;
        for (buffer, values) in self.values.iter_mut().zip(&prepared.plan.values) {
            grow(buffer, 4 * rows(values.rows, batch) * values.stride)?;
        }
        if grown {
            let groups = prepared.plan.dispatches.iter().map(|dispatch| self.bind(dispatch));
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

    /// Writes down the words of every step.
    fn fill(&mut self, batch: &Batch) {
        self.words.clear();
        for dispatch in &self.prepared.plan.dispatches {
            let start = self.words.len();
            let words = dispatch.words.iter().map(|&word| self.packed.word(word, batch));
            self.words.extend(words);
            self.words.resize(start + STEP as usize / 4, 0);
        }
    }

    fn record(&self, encoder: &mut CommandEncoder, batch: &Batch) -> Result<(), BackendError> {
        let prepared = &*self.prepared;
        let most = prepared.gpu.most_groups;
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        for (at, dispatch) in prepared.plan.dispatches.iter().enumerate() {
            let Some([x, y]) = workgroups(dispatch.groups, batch, most) else { continue };
            if y > most {
                let bytes = 4 * batch.samples();
                return Err(BackendError::Memory { backend: BackendKind::Wgpu, bytes });
            }
            pass.set_pipeline(prepared.gpu.pipeline(dispatch.kernel));
            pass.set_bind_group(0, &self.groups[at], &[at as u32 * STEP as u32]);
            pass.dispatch_workgroups(x, y, 1);
        }
        Ok(())
    }

    fn score(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        let prepared = Arc::clone(&self.prepared);
        let (gpu, plan) = (&prepared.gpu, &prepared.plan);
        self.packed.pack(batch, &plan.needs, &plan.picks);
        self.reserve(batch)?;
        self.fill(batch);
        gpu.queue.write_buffer(&self.batch, 0, bytemuck::cast_slice(&self.packed.words));
        gpu.queue.write_buffer(&self.steps, 0, bytemuck::cast_slice(&self.words));
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        self.record(&mut encoder, batch)?;
        let score = plan.score.expect("a plan has a score");
        let bytes = 4 * batch.samples() as u64;
        encoder.copy_buffer_to_buffer(
            self.buffer(score.buffer),
            4 * score.offset as u64,
            &self.scores,
            0,
            bytes,
        );
        let submission = gpu.queue.submit([encoder.finish()]);
        let (tell, told) = mpsc::channel();
        self.scores.map_async(MapMode::Read, 0..bytes, move |result| {
            // Nobody listens any more when the wait below gave up.
            let _ = tell.send(result);
        });
        let wait = PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        gpu.device.poll(wait).map_err(failed)?;
        gpu.alive()?;
        // The callback ran during the poll, or will never.
        told.try_recv().map_err(failed)?.map_err(failed)?;
        let view = self.scores.get_mapped_range(0..bytes).map_err(failed)?;
        scores.copy_from_slice(bytemuck::cast_slice(&view));
        drop(view);
        self.scores.unmap();
        Ok(())
    }
}

/// Workgroups in two dimensions; none if there is nothing to do.
fn workgroups(groups: Groups, batch: &Batch, most: u32) -> Option<[u32; 2]> {
    let spread = |count: usize| {
        let x = count.min(most as usize).max(1);
        [x, count.div_ceil(x)]
    };
    let [x, y] = match groups {
        Groups::Elements { rows: of, width } => spread((rows(of, batch) * width).div_ceil(64)),
        Groups::Rows(of) => spread(rows(of, batch)),
        Groups::Tiles { rows: of, width } => [width.div_ceil(16), rows(of, batch).div_ceil(16)],
    };
    (x > 0 && y > 0).then_some([x as u32, u32::try_from(y).unwrap_or(u32::MAX)])
}

impl Executable for WgpuExecutable {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        check(&self.prepared.program, batch, scores)?;
        if batch.samples() == 0 {
            return Ok(());
        }
        self.prepared.gpu.alive()?;
        let prepared = Arc::clone(&self.prepared);
        let scope = prepared.gpu.device.push_error_scope(ErrorFilter::Validation);
        let result = self.score(batch, scores);
        match pollster::block_on(scope.pop()) {
            Some(error) if result.is_ok() => Err(failed(error)),
            _ => result,
        }
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
