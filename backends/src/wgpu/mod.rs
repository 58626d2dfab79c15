//! Any GPU with a Vulkan driver: programs as compute shaders.
//!
//! `prepare` uploads the parameters once and settles which shader does what; a run uploads the batch, submits all shaders at
//! once and waits for the scores (a large batch: so for each of its blocks). Executables of one program share its parameters.
//!
//! The adapter is the first that is a GPU, or the one that [`set_adapter`] names. One that computes on the CPU, such as
//! Mesa's lavapipe, is refused unless it is named: it is far slower than `cpu`.
//!
//! # Limits of a device
//!
//! A shader reads a buffer up to the adapter's binding limit, usually 128 MiB or more. Larger tables are split when they are
//! uploaded; batches whose intermediate values exceed it are run in parts, down to some ids of one bag, with the same scores.
//!
//! # 16-bit rows
//!
//! Rows in f16 and bf16 lie in the buffer as they are, two to a word, and shaders widen them (`unpack2x16float`, a shift). They
//! take as many bytes of memory and of bandwidth as f16 storage would, which is an optional feature of adapters
//! (`SHADER_F16`). It would save two integer operations per element of a kernel that waits for memory, and cost a second
//! shader that no adapter without the feature can test; so there is none.
//!
//! # Time per kernel
//!
//! [`Executable::run_timed`](crate::Executable::run_timed) has the adapter write its clock before and after the calls of each
//! shader, where it has timestamp queries. A plain run has none of it.
//!
//! # Exactness
//!
//! Hashes and 8-bit sums are integers and exact. Products of floats are summed in the interpreter's order, but may be fused
//! with sums, and divisions, exponentials and the like may be off in the last bits: scores agree to 1e-5.

#[cfg(feature = "wgpu")]
mod batch;
#[cfg(feature = "wgpu")]
mod block;
#[cfg(feature = "wgpu")]
mod clock;
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
