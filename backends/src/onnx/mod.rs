//! ONNX Runtime: programs as ONNX graphs.
//!
//! `prepare` lowers a program to two ONNX models, one for a single id per bag and one for bags of any size, and opens
//! a session of each. Parameters stay where they are, mapped or not, and all executables share them (on other devices than
//! the CPU each session has a copy there); what ONNX Runtime packs for its matrix products it packs again in every session.
//! While a session is being opened, ONNX Runtime holds a copy of all of them, for its optimisers to look at.
//!
//! [`write_model`] writes the same model as a file that any ONNX runtime can read. It needs neither the library nor the
//! cargo feature.
//!
//! The library is `libonnxruntime` 1.24 or newer, loaded when the backend is first opened: from [`set_library`], or else
//! from where the system looks for libraries.
//!
//! # Execution providers
//!
//! A path names the provider, as in `dhe@onnx:openvino`; `dhe@onnx` is ONNX Runtime's own CPU kernels. ONNX Runtime gives
//! the provider the operations that it supports and executes the others itself; how many those are is logged, and a
//! program of which the provider takes nothing is refused.
//!
//! # Exactness
//!
//! Row lookup, sums of bags, uniform hash codes and layers of 8 bits are those of the interpreter bit for bit, given the
//! same inputs. Products of floats sum in another order: scores agree to 1e-5. A NaN that infinite sums make may become 0 in
//! a ReLU.

mod export;
#[cfg(feature = "onnx")]
mod file;
mod graph;
#[cfg(feature = "onnx")]
mod library;
mod model;
#[cfg(feature = "onnx")]
mod provider;
#[cfg(feature = "onnx")]
mod session;
mod wire;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

pub use export::{ExportError, MAX_INLINE, ModelFile, write_model};
pub use graph::{DENSE, Form, SCORE};
pub use model::OPSET;
#[cfg(feature = "onnx")]
pub use session::OnnxBackend;

use mprec_representations::BatchShape;

use crate::{
    backend::{Backend, Executable},
    error::BackendError,
    path::OnnxProvider,
};

static LIBRARY: OnceLock<PathBuf> = OnceLock::new();

/// Says where ONNX Runtime's library is, for all that [`registry`](crate::registry) opens. Call it before anything is
/// opened; the first call counts.
pub fn set_library(path: PathBuf) {
    LIBRARY.get_or_init(|| path);
}

/// Whether this build can load ONNX Runtime.
pub(crate) const COMPILED: bool = cfg!(feature = "onnx");

/// The backend and what it runs on, if the library is found and has the provider.
#[cfg(feature = "onnx")]
pub(crate) fn open(
    provider: OnnxProvider,
    threads: u16,
) -> Result<(Box<dyn Backend>, String), BackendError> {
    let backend = open_library(provider, threads)?;
    let description = backend.describe();
    Ok((Box::new(backend), description))
}

/// The file on this provider.
#[cfg(feature = "onnx")]
pub(crate) fn open_file(
    provider: OnnxProvider,
    threads: u16,
    file: &Path,
    shape: &BatchShape,
) -> Result<Box<dyn Executable>, BackendError> {
    open_library(provider, threads)?.open_file(file, shape)
}

#[cfg(feature = "onnx")]
fn open_library(provider: OnnxProvider, threads: u16) -> Result<OnnxBackend, BackendError> {
    let library = LIBRARY.get().map(PathBuf::as_path);
    Ok(OnnxBackend::new(library, provider)?.with_threads(threads))
}

/// The error that this build lacks the backend.
#[cfg(not(feature = "onnx"))]
pub(crate) fn open_file(
    provider: OnnxProvider,
    _: u16,
    _: &Path,
    _: &BatchShape,
) -> Result<Box<dyn Executable>, BackendError> {
    Err(BackendError::NotCompiled { backend: crate::path::BackendKind::Onnx(provider) })
}

/// The error that this build lacks the backend.
#[cfg(not(feature = "onnx"))]
pub(crate) fn open(
    provider: OnnxProvider,
    _: u16,
) -> Result<(Box<dyn Backend>, String), BackendError> {
    Err(BackendError::NotCompiled { backend: crate::path::BackendKind::Onnx(provider) })
}
