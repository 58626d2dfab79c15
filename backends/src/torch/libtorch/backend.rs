//! The backend itself: a device, opened.

use std::sync::Arc;

use mprec_representations::Program;
use tch::Device;

use super::{executable::TorchExecutable, library, plan::Plan};
use crate::{
    backend::{Backend, Executable},
    error::BackendError,
    path::{BackendKind, TorchDevice},
};

/// Executes programs with libtorch.
#[derive(Debug, Clone, Copy)]
pub struct TorchBackend {
    device: TorchDevice,
    threads: i32,
}

impl TorchBackend {
    /// On this device, with one thread per executable where the device is the CPU: the engine has one worker per core, and
    /// threads of libtorch would fight them.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unavailable`] if libtorch cannot compute there.
    pub fn new(device: TorchDevice) -> Result<Self, BackendError> {
        library::check(device)?;
        Ok(Self { device, threads: 1 })
    }

    /// With so many threads for each operation on a CPU, at least one. The threads are shared by all executables that run on
    /// one thread of the caller.
    #[must_use]
    pub fn with_threads(mut self, threads: u16) -> Self {
        self.threads = i32::from(threads.max(1));
        self
    }

    /// What runs here, for listings.
    pub fn describe(&self) -> String {
        match self.device {
            TorchDevice::Cpu => "libtorch 2.11 on the CPU".to_owned(),
            TorchDevice::Cuda(index) => match library::gpus().get(usize::from(index)) {
                Some(gpu) => format!("{}, {} MiB, libtorch 2.11", gpu.name, gpu.bytes >> 20),
                None => "a GPU that the driver does not name, libtorch 2.11".to_owned(),
            },
        }
    }
}

impl Backend for TorchBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Torch(self.device)
    }

    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError> {
        let device = match self.device {
            TorchDevice::Cpu => Device::Cpu,
            TorchDevice::Cuda(index) => Device::Cuda(usize::from(index)),
        };
        let _guard = tch::no_grad_guard();
        let plan = Plan::new(program, self.kind(), device)?;
        let (groups, block) = (plan.groups.len(), plan.block);
        tracing::debug!(backend = %self.kind(), groups, block, bytes = plan.bytes, "prepared a program");
        Ok(Box::new(TorchExecutable::new(Arc::new(plan), self.kind(), self.threads)))
    }
}
