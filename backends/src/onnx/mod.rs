//! ONNX Runtime: programs as ONNX graphs.
//!
//! `prepare` lowers a program to two ONNX models, one for a single id per bag and one for bags of any size, and opens
//! a session of each. Parameters stay where they are, mapped or not, and all executables share them; what ONNX Runtime
//! packs for its matrix products it packs again in every session.
//!
//! [`write_model`] writes the same model as a file that any ONNX runtime can read. It needs neither the library nor the
//! cargo feature.
//!
//! The library is `libonnxruntime` 1.24 or newer, loaded when the backend is first opened: from [`set_library`], or else
//! from where the system looks for libraries.
//!
//! # Exactness
//!
//! Row lookup, sums of bags, uniform hash codes and layers of 8 bits are those of the interpreter bit for bit, given the
//! same inputs. Products of floats sum in another order: scores agree to 1e-5. A NaN that infinite sums make may become 0 in
//! a ReLU.

mod export;
mod graph;
#[cfg(feature = "onnx")]
mod library;
mod model;
#[cfg(feature = "onnx")]
mod session;
mod wire;

use std::{path::PathBuf, sync::OnceLock};

pub use export::{ExportError, MAX_INLINE, ModelFile, write_model};
pub use graph::{DENSE, Form, SCORE};
pub use model::OPSET;
#[cfg(feature = "onnx")]
pub use session::OnnxBackend;

use crate::{backend::Backend, error::BackendError};

static LIBRARY: OnceLock<PathBuf> = OnceLock::new();

/// Says where ONNX Runtime's library is, for all that [`registry`](crate::registry) opens. Call it before anything is
/// opened; the first call counts.
pub fn set_library(path: PathBuf) {
    LIBRARY.get_or_init(|| path);
}

/// Whether this build can load ONNX Runtime.
pub(crate) const COMPILED: bool = cfg!(feature = "onnx");

/// The backend and what it runs on, if the library is found.
#[cfg(feature = "onnx")]
pub(crate) fn open() -> Result<(Box<dyn Backend>, String), BackendError> {
    let backend = OnnxBackend::new(LIBRARY.get().map(PathBuf::as_path))?;
    let description = backend.describe();
    Ok((Box::new(backend), description))
}

/// The error that this build lacks the backend.
#[cfg(not(feature = "onnx"))]
pub(crate) fn open() -> Result<(Box<dyn Backend>, String), BackendError> {
    Err(BackendError::NotCompiled { backend: crate::path::BackendKind::Onnx })
}
