//! Any GPU with a Vulkan driver: programs as compute shaders.
//!
//! `prepare` uploads the parameters once and settles which shader does what; a run uploads the batch, submits all shaders at
//! once and waits for the scores. Executables of one program share its parameters.
//!
//! The adapter is the first that is a GPU, or the one that [`set_adapter`] names. One that computes on the CPU, such as
//! Mesa's lavapipe, is refused unless it is named: it is far slower than `cpu`.
//!
//! # Exactness
//!
//! Hashes and 8-bit sums are integers and exact. Products of floats are summed in the interpreter's order, but may be fused
//! with sums, and divisions, exponentials and the like may be off in the last bits: scores agree to 1e-5.

#[cfg(feature = "wgpu")]
mod batch;
#[cfg(feature = "wgpu")]
mod executable;
#[cfg(feature = "wgpu")]
mod gpu;
#[cfg(feature = "wgpu")]
mod plan;
#[cfg(feature = "wgpu")]
mod tables;
#[cfg(feature = "wgpu")]
mod types;

use std::sync::OnceLock;

#[cfg(feature = "wgpu")]
pub use executable::WgpuBackend;

use crate::{backend::Backend, error::BackendError};

static ADAPTER: OnceLock<String> = OnceLock::new();

/// Names the adapter for all that [`registry`](crate::registry) opens: part of its name, or its index among those listed. Call
/// it before anything is opened; the first call counts.
pub fn set_adapter(name: String) {
    ADAPTER.get_or_init(|| name);
}

/// Whether this build can use it.
pub(crate) const COMPILED: bool = cfg!(feature = "wgpu");

/// The backend and what it runs on, if there is an adapter.
#[cfg(feature = "wgpu")]
pub(crate) fn open() -> Result<(Box<dyn Backend>, String), BackendError> {
    let backend = WgpuBackend::new(ADAPTER.get().map(String::as_str))?;
    let description = backend.describe();
    Ok((Box::new(backend), description))
}

/// The error that this build lacks the backend.
#[cfg(not(feature = "wgpu"))]
pub(crate) fn open() -> Result<(Box<dyn Backend>, String), BackendError> {
    Err(BackendError::NotCompiled { backend: crate::path::BackendKind::Wgpu })
}
