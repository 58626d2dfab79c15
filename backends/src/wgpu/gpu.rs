//! An adapter, opened: its device, its queue and the shaders compiled for it.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use wgpu::{
    Adapter, Backends, BindGroupLayout, BindGroupLayoutEntry, BindingType, Buffer,
    BufferBindingType, BufferDescriptor, BufferUsages, ComputePipeline, ComputePipelineDescriptor,
    Device, DeviceDescriptor, DeviceType, ErrorFilter, Features, Instance, InstanceDescriptor,
    MapMode, PipelineLayoutDescriptor, PollType, Queue, ShaderModuleDescriptor, ShaderSource,
    ShaderStages, SubmissionIndex,
};

use super::types::Kernel;
use crate::{error::BackendError, path::BackendKind};

/// Bytes of the words of one step, with which bindings may start anywhere.
pub(super) const STEP: u64 = 256;

/// Longest wait for one submission; a device that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const REMEDY: &str = "install a Vulkan driver for a GPU of this machine, or name one of its adapters in \
    `MPREC_WGPU_ADAPTER`, by a part of its name or its index";

/// What all executables share.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) device: Device,
    pub(super) queue: Queue,
    pub(super) layout: BindGroupLayout,
    pipelines: Vec<(Kernel, ComputePipeline)>,
    /// What the driver said when the device was lost.
    lost: Arc<Mutex<Option<String>>>,
    pub(super) description: String,
    /// Most bytes of a buffer that a shader reads.
    pub(super) binding_limit: u64,
    /// Most workgroups in one dimension.
    pub(super) most_groups: u32,
    /// Whether it writes its clock where it is told to.
    pub(super) has_clock: bool,
}

impl Gpu {
    /// Opens the adapter of this name or index, or the first that is a GPU.
    pub(super) fn open(name: Option<&str>) -> Result<Self, BackendError> {
        let backend = BackendKind::Wgpu;
        let unavailable =
            |reason: String| BackendError::Unavailable { backend, reason, remedy: REMEDY };
        let adapter = choose(name).map_err(unavailable)?;
        let info = adapter.get_info();
        let limits = adapter.limits();
        let binding_limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let most_groups = limits.max_compute_workgroups_per_dimension;
        let features = adapter.features() & Features::TIMESTAMP_QUERY;
        let descriptor = DeviceDescriptor {
            label: Some("mprec"),
            required_features: features,
            required_limits: limits,
            ..DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| unavailable(error.to_string()))?;
        let lost = Arc::new(Mutex::new(None));
        let told = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            *told.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(format!("{reason:?}: {message}"));
        });
        // Errors are asked for where they may occur; the rest must not end the process.
        device.on_uncaptured_error(Arc::new(|error| tracing::error!(%error, "wgpu")));
        let scope = device.push_error_scope(ErrorFilter::Validation);
        let (layout, pipelines) = compile(&device);
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(BackendError::Device { backend, source: Box::new(error) });
        }
        let description = format!(
            "{} ({:?}, {} {}), at most {} MiB in one binding",
            info.name,
            info.device_type,
            info.driver,
            info.driver_info,
            binding_limit >> 20
        );
        tracing::info!(adapter = %description, "opened an adapter");
        Ok(Self {
            device,
            queue,
            layout,
            pipelines,
            lost,
            description,
            binding_limit,
            most_groups,
            has_clock: !features.is_empty(),
        })
    }

    pub(super) fn pipeline(&self, kernel: Kernel) -> &ComputePipeline {
        let known = self.pipelines.iter().find(|(known, _)| *known == kernel);
        &known.expect("all shaders are compiled").1
    }

    /// A buffer of at least so many bytes, or how many could not be had.
    pub(super) fn buffer(&self, bytes: u64, usage: BufferUsages) -> Result<Buffer, BackendError> {
        let size = bytes.next_multiple_of(4).max(4);
        let memory = BackendError::Memory { backend: BackendKind::Wgpu, bytes: size as usize };
        if size > self.device.limits().max_buffer_size {
            return Err(memory);
        }
        let scope = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let descriptor = BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        match pollster::block_on(scope.pop()) {
            None => Ok(buffer),
            Some(_) => Err(memory),
        }
    }

    /// A buffer of these bytes that shaders read.
    pub(super) fn upload(&self, bytes: &[u8]) -> Result<Buffer, BackendError> {
        let buffer =
            self.buffer(bytes.len() as u64, BufferUsages::STORAGE | BufferUsages::COPY_DST)?;
        // Whole words: the last may need bytes of its own.
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(&buffer, 0, &bytes[..whole]);
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(&buffer, whole as u64, &last);
        }
        Ok(buffer)
    }

    /// Waits, without spinning, until a submission is done.
    pub(super) fn wait(&self, submission: SubmissionIndex) -> Result<(), BackendError> {
        let wait = PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        self.device.poll(wait).map_err(failed)?;
        self.alive()
    }

    /// Hands over the first bytes of a buffer once a submission is done.
    pub(super) fn read(
        &self,
        buffer: &Buffer,
        bytes: u64,
        submission: SubmissionIndex,
        take: impl FnOnce(&[u8]),
    ) -> Result<(), BackendError> {
        let (tell, told) = mpsc::channel();
        buffer.map_async(MapMode::Read, 0..bytes, move |result| {
            // Nobody listens any more when the wait below gave up.
            let _ = tell.send(result);
        });
        self.wait(submission)?;
        // The callback ran during the wait, or will never.
        told.try_recv().map_err(failed)?.map_err(failed)?;
        let view = buffer.get_mapped_range(0..bytes).map_err(failed)?;
        take(&view);
        drop(view);
        buffer.unmap();
        Ok(())
    }

    /// Says so if the device was lost.
    pub(super) fn alive(&self) -> Result<(), BackendError> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match &*lost {
            None => Ok(()),
            Some(reason) => Err(failed(format!("the device was lost: {reason}"))),
        }
    }
}

/// The device failed for this reason.
pub(super) fn failed(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BackendError {
    BackendError::Device { backend: BackendKind::Wgpu, source: reason.into() }
}

fn choose(name: Option<&str>) -> Result<Adapter, String> {
    let instance = Instance::new(InstanceDescriptor {
        backends: Backends::VULKAN,
        ..InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(Backends::VULKAN));
    let kinds: Vec<(String, DeviceType)> = adapters
        .iter()
        .map(|adapter| {
            let info = adapter.get_info();
            (info.name, info.device_type)
        })
        .collect();
    let at = pick(&kinds, name)?;
    Ok(adapters.into_iter().nth(at).expect("the choice is one of them"))
}

/// Which adapter: the one that is named, or else the best GPU.
fn pick(adapters: &[(String, DeviceType)], name: Option<&str>) -> Result<usize, String> {
    let names: Vec<String> =
        adapters.iter().enumerate().map(|(at, (name, _))| format!("{at}: `{name}`")).collect();
    let names = names.join(", ");
    if adapters.is_empty() {
        return Err("Vulkan has no adapter".to_owned());
    }
    if let Some(name) = name {
        let index = name.parse().ok().filter(|&at: &usize| at < adapters.len());
        let part = name.to_lowercase();
        let named = || adapters.iter().position(|(name, _)| name.to_lowercase().contains(&part));
        return index
            .or_else(named)
            .ok_or_else(|| format!("no adapter is called `{name}`; there are {names}"));
    }
    let rank = |kind| match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    let best = (0..adapters.len()).min_by_key(|&at| rank(adapters[at].1)).unwrap_or(0);
    if adapters[best].1 == DeviceType::Cpu {
        return Err(format!("only adapters that compute on the CPU are here ({names})"));
    }
    Ok(best)
}

fn compile(device: &Device) -> (BindGroupLayout, Vec<(Kernel, ComputePipeline)>) {
    let entry = |binding, ty, has_dynamic_offset| BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let read = BufferBindingType::Storage { read_only: true };
    let entries = [
        entry(0, BufferBindingType::Uniform, true),
        entry(1, read, false),
        entry(2, read, false),
        entry(3, read, false),
        entry(4, read, false),
        entry(5, BufferBindingType::Storage { read_only: false }, false),
    ];
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    let layout = device.create_bind_group_layout(&descriptor);
    let pipeline_layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipelines = Kernel::SOURCES.map(|(kernel, source)| {
        let module = device.create_shader_module(ShaderModuleDescriptor {
            label: None,
            source: ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: None,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        (kernel, pipeline)
    });
    (layout, pipelines.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_preferred_and_a_software_adapter_must_be_named() {
        let soft = ("llvmpipe (LLVM 15)".to_owned(), DeviceType::Cpu);
        let small = ("Small GPU".to_owned(), DeviceType::IntegratedGpu);
        let large = ("Large GPU".to_owned(), DeviceType::DiscreteGpu);
        let all = [soft.clone(), small, large];
        assert_eq!(pick(&all, None), Ok(2));
        assert_eq!(pick(&all, Some("small")), Ok(1));
        assert_eq!(pick(&all, Some("0")), Ok(0));
        assert_eq!(pick(&all, Some("LLVM")), Ok(0));
        assert!(pick(&all, Some("9")).unwrap_err().contains("`Large GPU`"));
        let refused = pick(&[soft], None).unwrap_err();
        assert!(refused.contains("llvmpipe") && refused.contains("CPU"), "{refused}");
        assert!(pick(&[], Some("0")).unwrap_err().contains("no adapter"));
    }
}
