//! libtorch: programs on PyTorch's kernels, on a CPU or an NVIDIA GPU.
//!
//! `prepare` decides once what runs together: operations that are alike and independent, such as the same layer of every
//! feature's decoder, become one batched operation. On a CPU, tables and single layers stay where they are, mapped or not;
//! on a GPU everything is uploaded once, tables of one width as one. A run goes block by block, so that memory does not
//! grow with a batch that a client sends; only a single bag that is longer than any block takes more.
//!
//! The binary is linked against libtorch's CPU half, version 2.11, from where `LIBTORCH` says. Its CUDA half is loaded when
//! it is found (`LD_LIBRARY_PATH`), so that one binary serves machines with and without a GPU.
//!
//! # Exactness
//!
//! Row lookup, hash codes and layers of 8 bits are those of the interpreter bit for bit, given the same inputs; the Gaussian
//! transform and products of floats agree to 1e-5. Layers of 8 bits, and on a CPU of 16, are computed in 32-bit floats that
//! hold their values: they take the memory of 32-bit layers.

#[cfg(feature = "torch")]
mod libtorch;

#[cfg(feature = "torch")]
pub use libtorch::{TorchBackend, TorchError};

use crate::{backend::Backend, error::BackendError, path::TorchDevice};

/// Whether this build is linked against libtorch.
pub(crate) const COMPILED: bool = cfg!(feature = "torch");

/// The backend and what it runs on, if the device can be used.
#[cfg(feature = "torch")]
pub(crate) fn open(
    device: TorchDevice,
    threads: u16,
) -> Result<(Box<dyn Backend>, String), BackendError> {
    let backend = TorchBackend::new(device)?.with_threads(threads);
    Ok((Box::new(backend), backend.describe()))
}

/// The error that this build lacks the backend.
#[cfg(not(feature = "torch"))]
pub(crate) fn open(
    device: TorchDevice,
    _: u16,
) -> Result<(Box<dyn Backend>, String), BackendError> {
    Err(BackendError::NotCompiled { backend: crate::path::BackendKind::Torch(device) })
}

/// GPUs that the driver lists, whether or not libtorch can use them; at least the first, so that a listing says why not.
pub(crate) fn devices() -> Vec<TorchDevice> {
    #[cfg(feature = "torch")]
    let gpus = libtorch::gpus().len().clamp(1, 1 << 8);
    #[cfg(not(feature = "torch"))]
    let gpus = 0;
    let gpus = (0..gpus).map(|index| TorchDevice::Cuda(index as u8));
    std::iter::once(TorchDevice::Cpu).chain(gpus).collect()
}
